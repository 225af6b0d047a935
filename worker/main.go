// Command worker serves registrations: it listens on a Temporal task queue, reads the projects below its allowed roots, and speaks to
// MLflow. It needs no configuration file, and starts before any project, MLflow server or Temporal server is there.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"registrar/internal/telemetry"
)

// version is set by the linker.
var version = "development"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Environ(), os.Stdout, os.Stderr))
}

// run is the command with its surroundings handed in. It returns the exit code: 0 after a shutdown that was asked for, 1 for a
// failure, 2 for wrong usage.
func run(ctx context.Context, args, environ []string, stdout, stderr io.Writer) int {
	var s settings
	command := s.command(environ, stderr)
	command.SetArgs(args)
	command.SetOut(stdout)
	command.SetErr(stderr)
	err := command.ExecuteContext(ctx)
	if failed, ok := errors.AsType[failedError](err); ok {
		fmt.Fprintln(stderr, failed)
		return 1
	}
	if err != nil {
		fmt.Fprintf(stderr, "worker: %v\nSee worker --help.\n", err)
		return 2
	}
	return s.code
}

// command is the worker's command. It ends with an error for wrong usage, or a failedError; that of the worker itself is logged, and in s.code.
func (s *settings) command(environ []string, stderr io.Writer) *cobra.Command {
	command := &cobra.Command{
		Use:           "worker",
		Short:         "Serve registrations of models in MLflow",
		Long:          "Serves the registrations of the projects below --allow-root: by default the working folder.\n\nTemporal is found by its own variables (TEMPORAL_ADDRESS, TEMPORAL_NAMESPACE, TEMPORAL_TLS_*, TEMPORAL_API_KEY, or a profile file), MLflow and its\ncredentials by MLflow's (MLFLOW_TRACKING_URI, MLFLOW_TRACKING_USERNAME, ...). Each flag has a variable: --allow-root is REGISTRAR_ALLOW_ROOT.",
		Args:          cobra.NoArgs,
		Version:       version,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE: func(command *cobra.Command, _ []string) error {
			if err := s.fromVariables(command.Flags(), environ); err != nil {
				return err
			}
			if s.pprofListen != "" {
				if _, err := telemetry.Loopback(command.Context(), s.pprofListen); err != nil {
					return fmt.Errorf("--pprof-listen: %w", err)
				}
			}
			log, err := s.logger(stderr)
			if err != nil {
				return err
			}
			if err := serve(command.Context(), *s, environ, stderr, log); err != nil {
				log.Error("worker stopped", zap.Error(err))
				s.code = 1
			}
			return nil
		},
	}
	s.addFlags(command.Flags())
	command.AddCommand(healthCommand(environ))
	command.CompletionOptions.HiddenDefaultCmd = true
	return command
}
