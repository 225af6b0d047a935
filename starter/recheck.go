package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"go.temporal.io/sdk/client"

	"registrar/workflows"
)

func (s *starter) recheckCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "recheck WORKFLOW_ID",
		Short:             "Try again at once what a registration waits for",
		Args:              workflowID,
		ValidArgsFunction: s.workflowIDs(true),
		RunE: s.connected(func(ctx context.Context, c client.Client, args []string) error {
			// One that has ended is not found either; how it ended is told below.
			if err := c.SignalWorkflow(ctx, args[0], "", workflows.SignalRecheck, nil); err != nil && !isNotFound(err) {
				return fmt.Errorf("recheck workflow %s: %w", args[0], err)
			}
			r, err := s.follow(ctx, c, handle{workflowID: args[0]}, waitFlags{wait: "final", timeout: 5 * time.Second})
			if err != nil {
				return err
			}
			return s.print(r)
		}),
	}
}
