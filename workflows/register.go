package workflows

import (
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"registrar/activities"
)

// Register tells a worker of all workflows and activities. The replay test uses it too, so that what is replayed is what runs.
func Register(registry worker.Registry, a *activities.Activities) {
	RegisterWorkflows(registry)
	registry.RegisterActivity(a)
}

// RegisterWorkflows tells a worker, or a replayer, of all workflows.
func RegisterWorkflows(registry worker.WorkflowRegistry) {
	for name, function := range map[string]any{
		TypeRegisterModel:      RegisterModel,
		TypeMLflowAvailability: MLflowAvailability,
		TypePromoteVersions:    PromoteVersions,
		TypeSweep:              SweepLeftovers,
		TypeAuditRegistry:      AuditRegistry,
		TypeModelHistory:       ModelHistory,
		TypeCheckUp:            CheckUp,
	} {
		registry.RegisterWorkflowWithOptions(function, workflow.RegisterOptions{Name: name})
	}
}
