package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"go.temporal.io/sdk/client"
)

func (s *starter) cancelCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "cancel WORKFLOW_ID",
		Short:             "Cancel a registration",
		Long:              "Asks a registration to end. Where its version exists already it is too late: the registration completes, and says so.",
		Args:              workflowID,
		ValidArgsFunction: s.workflowIDs(true),
		RunE: s.connected(func(ctx context.Context, c client.Client, args []string) error {
			// One that has ended is not found either; how it ended is told below.
			if err := c.CancelWorkflow(ctx, args[0], ""); err != nil && !isNotFound(err) {
				return fmt.Errorf("cancel workflow %s: %w", args[0], err)
			}
			r, err := s.follow(ctx, c, handle{workflowID: args[0]}, waitFlags{wait: "final", timeout: 30 * time.Second})
			if err != nil {
				return err
			}
			return s.print(r)
		}),
	}
}
