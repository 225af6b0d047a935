package activities

import (
	"context"
	"fmt"
	"path"
	"time"

	"registrar/config"
	"registrar/internal/gate"
	"registrar/internal/mlflow"
	"registrar/internal/snapshot"
)

// RunName is the name of the MLflow run of a registration, as the pipeline has it.
const RunName = "Model_Registration_Stage"

// LogRunInput says which run to make. StartTime is fixed by the workflow once, so that a repeated attempt writes the same.
type LogRunInput struct {
	Server    Server        `json:"server"`
	Project   Project       `json:"project"`
	Owner     Owner         `json:"owner"`
	Settings  RunSettings   `json:"settings"`
	Decision  gate.Decision `json:"decision"`
	StartTime time.Time     `json:"start_time"`
	// WorkflowURL opens the registration in the Temporal Web UI; empty where the UI's address is not known.
	WorkflowURL string `json:"workflow_url,omitempty"`
	// ExperimentID is the experiment as LookUp found it; empty where none had the name.
	ExperimentID string `json:"experiment_id,omitempty"`
	// First says that this generation has not asked for a run before, so that a first attempt has nothing to look for.
	First bool `json:"first,omitempty"`
}

// RunSettings are the settings that a run is made by.
type RunSettings struct {
	ModelName      string  `json:"model_name"`
	ExperimentName string  `json:"experiment_name"`
	MinROCAUC      float64 `json:"min_roc_auc"`
}

// LogRunResult is the run that was made or adopted.
type LogRunResult struct {
	RunID        string `json:"run_id"`
	ExperimentID string `json:"experiment_id"`
	// ArtifactURI is where the run's files go; used on servers without logged models.
	ArtifactURI string `json:"artifact_uri"`
	// Params say what the run registers. They are logged on it together with the metrics, and stand on the logged model.
	Params []mlflow.Param `json:"params"`
	// Doubtful tells that an earlier attempt, also one before a wait, may have made another run.
	Doubtful bool `json:"doubtful,omitempty"`
}

// LogRun makes the run of this generation, or adopts the one that an earlier attempt made (protocol step mkrun). Params and metrics follow
// with the logged model, on which the metrics land, too. May be repeated.
func (a *Activities) LogRun(ctx context.Context, in LogRunInput) (LogRunResult, error) {
	client, err := a.mlflow(in.Server)
	if err != nil {
		return LogRunResult{}, classify(ctx, err)
	}
	folder, err := a.folder(in.Project)
	if err != nil {
		return LogRunResult{}, classify(ctx, err)
	}
	defer folder.Close()
	defer heartbeats(ctx, nothing)()
	request := folder.Request()
	run, err := adoptOrCreateRun(ctx, client, in, request)
	if err != nil {
		return LogRunResult{}, classify(ctx, err)
	}
	return LogRunResult{
		RunID:        run.Info.RunID,
		ExperimentID: run.Info.ExperimentID,
		ArtifactURI:  run.Info.ArtifactURI,
		Params:       runParams(in, request),
		Doubtful:     !isFirstAttempt(ctx, in.First),
	}, nil
}

func adoptOrCreateRun(ctx context.Context, client *mlflow.Client, in LogRunInput, request snapshot.Request) (*mlflow.Run, error) {
	if !isFirstAttempt(ctx, in.First) {
		if run, err := adoptedRun(ctx, client, in.Owner); run != nil || err != nil {
			return run, err
		}
	}
	create := mlflow.CreateRunRequest{
		ExperimentID: in.ExperimentID,
		UserID:       request.User,
		RunName:      RunName,
		StartTime:    in.StartTime.UnixMilli(),
		Tags:         runTags(in, request),
	}
	if create.ExperimentID != "" {
		run, err := client.CreateRun(ctx, create)
		if !mlflow.IsNotFound(err) && !mlflow.IsInvalid(err) {
			return &run, err
		}
		// Perhaps because somebody deleted the experiment after LookUp saw it.
	}
	var err error
	if create.ExperimentID, err = experiment(ctx, client, in.Settings.ExperimentName); err != nil {
		return nil, err
	}
	run, err := client.CreateRun(ctx, create)
	return &run, err
}

// adoptedRun is the one that an earlier attempt made; nil where there is none.
func adoptedRun(ctx context.Context, client *mlflow.Client, owner Owner) (*mlflow.Run, error) {
	everywhere, err := allExperiments(ctx, client)
	if err != nil {
		return nil, err
	}
	runs, err := runsOf(ctx, client, owner, everywhere)
	if err != nil {
		return nil, err
	}
	for i, r := range runs {
		if isOfGeneration(r.Data.Tags, owner) {
			return &runs[i], nil
		}
	}
	return nil, nil
}

// experiment is the id of the named experiment, made where it is not there. The name is unique in MLflow, so a create whose answer
// was lost is found by the next attempt.
func experiment(ctx context.Context, client *mlflow.Client, name string) (string, error) {
	id, err := client.CreateExperiment(ctx, mlflow.CreateExperimentRequest{Name: name})
	if !mlflow.IsAlreadyExists(err) {
		return id, err
	}
	found, err := client.GetExperimentByName(ctx, name)
	if err != nil {
		return "", err
	}
	return found.ExperimentID, activeExperiment(found)
}

// activeExperiment refuses a deleted experiment: MLflow keeps its name, so that no other can be made.
func activeExperiment(found mlflow.Experiment) error {
	if found.LifecycleStage != mlflow.LifecycleDeleted {
		return nil
	}
	return &config.Error{
		Key: "experiment_name", Value: found.Name,
		Problem: "this MLflow experiment was deleted",
		Remedy:  fmt.Sprintf("restore it by `mlflow experiments restore --experiment-id %s`, or name another one", found.ExperimentID),
	}
}

func runTags(in LogRunInput, request snapshot.Request) []mlflow.Tag {
	tags := append(ownerTags(in.Owner),
		mlflow.Tag{Key: "mlflow.runName", Value: RunName},
		mlflow.Tag{Key: "mlflow.note.content", Value: runNote(in, request)},
	)
	tags = append(tags, sourceTags(request)...)
	return append(tags, evidenceTags(request, in.WorkflowURL)...)
}

// sourceTags are what MLflow's own clients say of who made an object. They stand on the run and on the logged model.
func sourceTags(request snapshot.Request) []mlflow.Tag {
	tags := append(commitTags(request),
		mlflow.Tag{Key: "mlflow.source.name", Value: "registrar"},
		mlflow.Tag{Key: "mlflow.source.type", Value: "LOCAL"},
	)
	if request.User != "" { // empty where a worker froze the inputs: nobody of a name asked it to
		tags = append(tags, mlflow.Tag{Key: tagUser, Value: request.User})
	}
	return tags
}

// commitTags name the git commit that the project was at; empty where there was none.
func commitTags(request snapshot.Request) []mlflow.Tag {
	if request.GitCommit == "" {
		return nil
	}
	return []mlflow.Tag{{Key: tagCommit, Value: request.GitCommit}}
}

// evidenceTags lead from an object in MLflow to what it was made of. They stand on the run and on the version.
func evidenceTags(request snapshot.Request, workflowURL string) []mlflow.Tag {
	tags := []mlflow.Tag{
		{Key: TagModelSHA256, Value: request.Model.SHA256},
		{Key: "registrar.metrics_sha256", Value: request.Metrics.SHA256},
	}
	if workflowURL != "" {
		tags = append(tags, mlflow.Tag{Key: TagWorkflowURL, Value: workflowURL})
	}
	return tags
}

func runParams(in LogRunInput, request snapshot.Request) []mlflow.Param {
	return []mlflow.Param{
		{Key: "model_name", Value: in.Settings.ModelName},
		{Key: "model_file", Value: path.Base(request.Model.Path)},
		{Key: "min_roc_auc", Value: fmt.Sprint(in.Settings.MinROCAUC)},
	}
}
