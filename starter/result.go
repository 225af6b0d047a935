package main

import (
	"context"

	"github.com/spf13/cobra"
	"go.temporal.io/sdk/client"
)

func (s *starter) resultCommand() *cobra.Command {
	var f waitFlags
	command := &cobra.Command{
		Use:               "result WORKFLOW_ID",
		Short:             "Wait for a registration and tell how it ended",
		Long:              "Waits for a registration, as register does, and prints how it stands.\n" + exitCodesHelp,
		Args:              workflowID,
		ValidArgsFunction: s.workflowIDs(false),
		PreRunE:           func(*cobra.Command, []string) error { return f.check() },
		RunE: s.connected(func(ctx context.Context, c client.Client, args []string) error {
			r, err := s.follow(ctx, c, handle{workflowID: args[0]}, f)
			if err != nil {
				return err
			}
			return s.report(r, f.detailed)
		}),
	}
	f.add(command)
	return command
}
