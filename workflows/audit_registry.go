package workflows

import (
	"go.temporal.io/sdk/workflow"

	"registrar/activities"
)

// AuditInput says what is looked at: the model of a project.
type AuditInput struct {
	Root   string `json:"root"`
	Config string `json:"config"`
	Params string `json:"params"`
	// Fix repairs what can be nobody's any more.
	Fix bool `json:"fix"`
}

// AuditRegistry looks for what should not be in MLflow under a model's name. It runs as a workflow since the worker has the credentials,
// and so that who repaired what can be read later. It does not wait for an MLflow server that is down.
func AuditRegistry(ctx workflow.Context, in AuditInput) (activities.AuditResult, error) {
	var result activities.AuditResult
	var loaded activities.LoadConfigResult
	load := activities.LoadConfigInput{Project: activities.Project{Root: in.Root}, Config: in.Config, Params: in.Params}
	if err := workflow.ExecuteLocalActivity(locally(ctx, quickFiles, in.Config+", "+in.Params), a.LoadConfig, load).Get(ctx, &loaded); err != nil {
		return result, err
	}
	server := loaded.ServerOf(in.Root)
	var health activities.CheckMLflowHealthResult
	check := activities.CheckMLflowHealthInput{Server: server}
	if err := workflow.ExecuteActivity(with(ctx, onMLflow, server.TrackingURI), a.CheckMLflowHealth, check).Get(ctx, &health); err != nil {
		return result, err
	}
	summary := loaded.Settings.ModelName
	if in.Fix {
		summary += ", repairing"
	}
	err := workflow.ExecuteActivity(with(ctx, auditing, summary), a.Audit, activities.AuditInput{
		Server: server, ModelName: loaded.Settings.ModelName, LoggedModels: health.LoggedModels, Fix: in.Fix,
		Registrations: registrationsOf(loaded.Settings.ModelName),
		Before:        workflow.Now(ctx).Add(-loaded.SettleTime).UnixMilli(),
	}).Get(ctx, &result)
	countFindings(ctx, result)
	return result, err
}
