package workflows

import (
	"go.temporal.io/sdk/workflow"

	"registrar/activities"
)

// ModelHistoryInput says which model's versions are told: those on the MLflow server of a project.
type ModelHistoryInput struct {
	Root   string `json:"root"`
	Config string `json:"config"`
	Params string `json:"params"`
	// ModelName is the project's own where it is empty.
	ModelName string `json:"model_name,omitempty"`
	// Limit is how many versions are told, the newest first.
	Limit int `json:"limit"`
}

// ModelHistory tells the versions of a model, from MLflow as it is now. It runs as a workflow since the worker has the credentials. It does not
// wait for an MLflow server that is down.
func ModelHistory(ctx workflow.Context, in ModelHistoryInput) (activities.ModelHistoryResult, error) {
	var result activities.ModelHistoryResult
	var loaded activities.LoadConfigResult
	load := activities.LoadConfigInput{Project: activities.Project{Root: in.Root}, Config: in.Config, Params: in.Params}
	if err := workflow.ExecuteLocalActivity(locally(ctx, quickFiles, in.Config+", "+in.Params), a.LoadConfig, load).Get(ctx, &loaded); err != nil {
		return result, err
	}
	read := activities.ModelHistoryInput{
		Server:    loaded.ServerOf(in.Root),
		ModelName: in.ModelName, Limit: in.Limit,
	}
	if read.ModelName == "" {
		read.ModelName = loaded.Settings.ModelName
	}
	err := workflow.ExecuteActivity(with(ctx, auditing, read.ModelName), a.ReadModelHistory, read).Get(ctx, &result)
	return result, err
}
