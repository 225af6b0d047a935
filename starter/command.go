package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"go.temporal.io/sdk/client"

	"registrar/internal/connection"
	"registrar/workflows"
)

// starter is what all commands share: where they write, and how they reach Temporal.
type starter struct {
	environ        []string
	stdout, stderr io.Writer
	dial           func(context.Context, client.Options) (client.Client, error)

	output    string
	taskQueue string
	address   string          // of Temporal, once it was connected to
	namespace string          // in it
	warned    map[string]bool // what was warned of: the settings' warnings are in the receipt, too
	code      int             // what a command that ended without an error exits with

	pprofListen string // empty: nowhere
	seen        observation
}

// run is the command with its surroundings handed in. It returns the exit code.
func run(ctx context.Context, args, environ []string, stdout, stderr io.Writer) int {
	return newStarter(environ, stdout, stderr).run(ctx, args)
}

func newStarter(environ []string, stdout, stderr io.Writer) *starter {
	return &starter{environ: environ, stdout: stdout, stderr: stderr, dial: client.DialContext, warned: map[string]bool{}}
}

func (s *starter) run(ctx context.Context, args []string) (code int) {
	defer func() {
		if err := s.seen.end(code); err != nil {
			s.warn(err.Error())
		}
	}()
	root := s.command()
	root.SetArgs(args)
	root.SetOut(s.stdout)
	root.SetErr(s.stderr)
	addCompletion(root)
	if err := root.ExecuteContext(ctx); err != nil {
		code := exitCodeOf(ctx, err)
		if code == exitInterrupted {
			fmt.Fprintln(s.stderr, "interrupted")
			return code
		}
		text := err.Error()
		if remedy := s.remedy(err); remedy != "" {
			text += ": " + remedy
		}
		begin := "error: "
		for line := range strings.SplitSeq(text, "\n") { // several errors have a line each
			fmt.Fprintln(s.stderr, begin+printable(line))
			begin = ""
		}
		if code == exitUsage {
			fmt.Fprintln(s.stderr, "See starter --help.")
		}
		return code
	}
	return s.code
}

func (s *starter) command() *cobra.Command {
	root := &cobra.Command{
		Use:   "starter",
		Short: "Register models in MLflow durably",
		Long: "Hands registrations of models to Temporal, and tells how they stand.\n\nTemporal is found by its own variables (TEMPORAL_ADDRESS, TEMPORAL_NAMESPACE, " +
			"TEMPORAL_TLS_*, TEMPORAL_API_KEY, or a profile file).",
		Version:       version,
		Args:          usageArgs(cobra.NoArgs), // an unknown command is an argument to cobra
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE:          func(root *cobra.Command, _ []string) error { return root.Help() },
		PersistentPreRunE: func(command *cobra.Command, _ []string) error {
			if s.output != "text" && s.output != "json" {
				return usageError{fmt.Errorf("--output %q: want text or json", s.output)}
			}
			if err := connection.CheckTaskQueue(s.taskQueue); err != nil {
				return usageError{fmt.Errorf("--task-queue %q: %w", s.taskQueue, err)}
			}
			return s.observe(command)
		},
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	flags := root.PersistentFlags()
	flags.StringVarP(&s.output, "output", "o", "text", "text or json")
	flags.StringVar(&s.taskQueue, "task-queue", s.variable("REGISTRAR_TASK_QUEUE", workflows.TaskQueue), "Temporal task queue of the workers (REGISTRAR_TASK_QUEUE)")
	flags.StringVar(&s.pprofListen, "pprof-listen", "", "loopback address where Go's profiles are served while the command runs, such as 127.0.0.1:6060")
	root.AddCommand(s.initCommand(), s.doctorCommand(), s.registerCommand(), s.resultCommand(), s.statusCommand(), s.cancelCommand(), s.recheckCommand(), s.listCommand(), s.flushCommand(), s.auditCommand(), s.historyCommand(), s.watchCommand(), s.inspectCommand())
	oneOf(root, "output", "text", "json")
	for _, command := range root.Commands() {
		command.Args = usageArgs(command.Args)
		if command.ValidArgsFunction == nil {
			command.ValidArgsFunction = cobra.NoFileCompletions
		}
	}
	return root
}

// usageArgs makes a wrong number of arguments a wrong usage.
func usageArgs(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(command *cobra.Command, args []string) error {
		if err := check(command, args); err != nil {
			return usageError{fmt.Errorf("%s: %w", command.CommandPath(), err)}
		}
		return nil
	}
}

// workflowID sees that the one argument is an id.
func workflowID(command *cobra.Command, args []string) error {
	if err := cobra.ExactArgs(1)(command, args); err != nil {
		return err
	}
	if strings.TrimSpace(args[0]) == "" {
		return errors.New("the workflow id is empty: see `starter list`")
	}
	return nil
}

// variable is an environment variable, or otherwise where it is not set.
func (s *starter) variable(name, otherwise string) string {
	for _, pair := range s.environ {
		if key, value, _ := strings.Cut(pair, "="); key == name && value != "" {
			return value
		}
	}
	return otherwise
}

// LookupEnv and Environ make the starter's environment the one that Temporal's settings are read from.
func (s *starter) LookupEnv(name string) (string, bool) {
	value := s.variable(name, "")
	return value, value != ""
}

// Environ is all of it.
func (s *starter) Environ() []string { return s.environ }

// printJSON writes one value to standard output.
func (s *starter) printJSON(value any) error {
	enc := json.NewEncoder(s.stdout)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(value)
}
