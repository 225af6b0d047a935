package workflows

import (
	"go.temporal.io/sdk/workflow"

	"registrar/activities"
)

// CheckUp looks, on a worker, at what a registration of a project will need. It is a workflow since the worker has the credentials, and
// since its own course proves that Temporal brings work to that worker. It changes nothing, and waits for nothing.
func CheckUp(ctx workflow.Context, in activities.CheckUpInput) (activities.CheckUpResult, error) {
	var result activities.CheckUpResult
	err := workflow.ExecuteActivity(with(ctx, checkingUp, in.Root), a.CheckUp, in).Get(ctx, &result)
	return result, err
}
