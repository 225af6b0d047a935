package activities

import (
	"context"

	"go.temporal.io/sdk/client"
)

// GoesOn tells whether an execution of a workflow is still running, or the one that it was reset to. One that the Temporal server knows nothing of any more
// has ended.
func GoesOn(ctx context.Context, temporalClient client.Client, workflowID, runID string) (bool, error) {
	return goesOn(ctx, temporalClient, workflowID, runID)
}
