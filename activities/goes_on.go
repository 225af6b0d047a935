package activities

import (
	"context"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
)

// isRunning asks the Temporal server, unless something else was told to tell.
func (a *Activities) isRunning(ctx context.Context, workflowID, runID string) (bool, error) {
	if a.IsRunning != nil {
		return a.IsRunning(ctx, workflowID, runID)
	}
	return GoesOn(ctx, activity.GetClient(ctx), workflowID, runID)
}

// GoesOn tells whether an execution is still running, or the one that it was reset to: that one has another run id, and goes on with all that the first
// made, as of one generation. An execution that the server knows nothing of any more has ended.
func GoesOn(ctx context.Context, temporalClient client.Client, workflowID, runID string) (bool, error) {
	described, err := temporalClient.DescribeWorkflowExecution(ctx, workflowID, "")
	if isNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	newest := described.GetWorkflowExecutionInfo()
	if newest.GetStatus() != enums.WORKFLOW_EXECUTION_STATUS_RUNNING {
		return false, nil
	}
	if newest.GetFirstRunId() == runID {
		return true, nil
	}
	// It may itself be one that another was reset to.
	first, err := firstRunID(ctx, temporalClient, workflowID, runID)
	if isNotFound(err) {
		return false, nil
	}
	return err == nil && first == newest.GetFirstRunId(), err
}
