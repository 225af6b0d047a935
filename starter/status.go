package main

import (
	"context"

	"github.com/spf13/cobra"
	"go.temporal.io/sdk/client"

	"registrar/internal/receipt"
)

func (s *starter) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "status WORKFLOW_ID",
		Short:             "Tell how a registration stands",
		Args:              workflowID,
		ValidArgsFunction: s.workflowIDs(false),
		RunE: s.connected(func(ctx context.Context, c client.Client, args []string) error {
			h := handle{workflowID: args[0]}
			r, _, err := look(ctx, c, h)
			if err != nil {
				return err
			}
			if r.State != receipt.Done {
				r = s.ask(ctx, c, r, h)
			}
			s.code = exitSuccess
			return s.print(r)
		}),
	}
}
