package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.temporal.io/sdk/client"

	"registrar/activities"
)

// The checks that the starter makes itself, before those of the worker.
const (
	checkConfiguration    = "configuration"
	checkFiles            = "files"
	checkTemporal         = "temporal"
	checkNamespace        = "namespace"
	checkSearchAttributes = "search_attributes"
	checkWorker           = "worker"
)

func (s *starter) doctorCommand() *cobra.Command {
	var f registerFlags
	var timeout time.Duration
	command := &cobra.Command{
		Use:   "doctor",
		Short: "Check all that a registration needs",
		Long: `Checks the project's settings and files, Temporal, its namespace and its workers, and, on a worker, what that sees of the project, MLflow, the
credentials, and whether the experiment, the registry and the artifact store can be written to. It leaves nothing behind.

A line for each check: ok, warning (a registration will end all the same), failed, or skipped, for what needs a check that failed.
Exit codes: 0 nothing failed; 1 something did; 2 wrong usage; 130 interrupted.`,
		Example: "  starter doctor\n  starter doctor --root /srv/pipelines/acras --output json",
		Args:    cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			if timeout <= 0 {
				return usageError{fmt.Errorf("--timeout %s: want a positive duration", timeout)}
			}
			return s.doctor(command.Context(), f, timeout)
		},
	}
	f.addProject(command)
	command.Flags().DurationVar(&timeout, "timeout", 2*time.Minute, "how long a worker may take for its checks")
	return command
}

func (s *starter) doctor(ctx context.Context, f registerFlags, timeout time.Duration) error {
	e := &examination{starter: s, flags: f, timeout: timeout, checks: []activities.Check{}}
	defer e.close()
	e.check(ctx, checkConfiguration, e.configuration)
	e.check(ctx, checkFiles, e.files, checkConfiguration)
	e.check(ctx, checkTemporal, e.temporal)
	e.check(ctx, checkNamespace, e.inNamespace, checkTemporal)
	e.check(ctx, checkSearchAttributes, e.searchAttributes, checkNamespace)
	e.check(ctx, checkWorker, e.worker, checkNamespace)
	for _, name := range activities.WorkerChecks() {
		e.check(ctx, name, e.ofWorker(name), checkConfiguration, checkWorker)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if slices.ContainsFunc(e.checks, func(c activities.Check) bool { return c.Status == activities.CheckFailed }) {
		s.code = exitFailure
	}
	if s.output == "json" {
		return s.printJSON(e.checks)
	}
	return nil
}

// examination is one look at all that a registration needs.
type examination struct {
	*starter
	flags   registerFlags
	timeout time.Duration
	checks  []activities.Check

	project *project
	client  client.Client
	// found is what the worker said.
	found []activities.Check
}

func (e *examination) close() {
	if e.project != nil {
		_ = e.project.dir.Close() // was read through only
	}
	if e.client != nil {
		e.client.Close()
	}
}

// check makes a check, unless one of those that it needs was not good.
func (e *examination) check(ctx context.Context, name string, check func(context.Context) activities.Check, needs ...string) {
	if ctx.Err() != nil {
		return
	}
	var result activities.Check
	if missing := slices.IndexFunc(needs, func(need string) bool { return !e.isGood(need) }); missing >= 0 {
		result = activities.Check{Status: activities.CheckSkipped, Detail: "needs " + needs[missing]}
	} else if result = check(ctx); ctx.Err() != nil {
		return
	}
	result.Name = name
	e.checks = append(e.checks, result)
	if e.output != "json" {
		e.print(result)
	}
}

func (e *examination) isGood(name string) bool {
	at := slices.IndexFunc(e.checks, func(c activities.Check) bool { return c.Name == name })
	return at >= 0 && (e.checks[at].Status == activities.CheckOK || e.checks[at].Status == activities.CheckWarning)
}

// ofWorker is what the worker said of a check.
func (e *examination) ofWorker(name string) func(context.Context) activities.Check {
	return func(context.Context) activities.Check {
		at := slices.IndexFunc(e.found, func(c activities.Check) bool { return c.Name == name })
		if at < 0 {
			return activities.Check{Status: activities.CheckSkipped, Detail: "the worker, of another release, does not know this check"}
		}
		return e.found[at]
	}
}

// print writes a check as a line, and its remedy as another.
func (e *examination) print(c activities.Check) {
	status := e.screenOf(e.stdout).in(colourOfCheck(c.Status), fmt.Sprintf("%-7s", c.Status))
	fmt.Fprintf(e.stdout, "%s  %-17s  %s\n", status, printable(strings.ReplaceAll(c.Name, "_", " ")), oneLine(c.Detail))
	if c.Remedy != "" {
		fmt.Fprintf(e.stdout, "%28s%s\n", "→ ", oneLine(c.Remedy))
	}
}

func colourOfCheck(status activities.CheckStatus) string {
	switch status {
	case activities.CheckOK:
		return green
	case activities.CheckWarning:
		return yellow
	case activities.CheckFailed:
		return red
	}
	return dim
}
