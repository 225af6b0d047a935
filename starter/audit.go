package main

import (
	"context"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"registrar/activities"
	"registrar/workflows"
)

func (s *starter) auditCommand() *cobra.Command {
	var f registerFlags
	var fix bool
	var timeout time.Duration
	command := &cobra.Command{
		Use:   "audit",
		Short: "Look for what should not be in MLflow under the model's name",
		Long: `Lists twins of one registration, runs left RUNNING, logged models left PENDING, versions without files, and a misplaced stage or alias: what
other tools, other Temporal namespaces, or requests that were under way for longer than the worker's --settle-time left.

With --fix it repairs what can be nobody's any more. What a registration may be working on, what has an alias or a stage, and what was returned
to somebody is reported and left alone.`,
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			if timeout <= 0 {
				return usageError{fmt.Errorf("--timeout %s: want a positive duration", timeout)}
			}
			return s.audit(command.Context(), f, fix, timeout)
		},
	}
	f.addProject(command)
	command.Flags().BoolVar(&fix, "fix", false, "repair what can be nobody's any more")
	command.Flags().DurationVar(&timeout, "timeout", time.Hour, "give up after this long")
	return command
}

func (s *starter) audit(ctx context.Context, f registerFlags, fix bool, timeout time.Duration) error {
	p, err := openProject(f)
	if err != nil {
		return err
	}
	defer p.close()
	c, err := s.connect(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	var result activities.AuditResult
	err = s.inquire(ctx, c, inquiry{
		name: "audit", id: workflows.AuditID(p.settings.ModelName, time.Now()), workflow: workflows.TypeAuditRegistry, timeout: timeout,
		summary: "what should not be in MLflow as " + p.settings.ModelName,
		input:   workflows.AuditInput{Root: p.root, Config: f.config, Params: f.params, Fix: fix},
	}, &result)
	if err != nil {
		return err
	}
	if s.output == "json" {
		return s.printJSON(result)
	}
	return s.printFindings(result.Findings)
}

func (s *starter) printFindings(findings []activities.Finding) error {
	if len(findings) == 0 {
		fmt.Fprintln(s.stdout, "nothing is amiss")
		return nil
	}
	w := tabwriter.NewWriter(s.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "FINDING\tOBJECT\tWHAT\tDONE OR TO DO")
	for _, f := range findings {
		todo := f.Remedy
		if f.Fixed != "" {
			todo = f.Fixed
		}
		fmt.Fprintf(w, "%s\t%s %s\t%s\t%s\n", printable(f.Kind), printable(f.Object), printable(f.ID), printable(f.Detail), printable(todo))
	}
	return w.Flush()
}
