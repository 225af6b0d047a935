package activities

import (
	"context"

	"go.temporal.io/sdk/activity"

	"registrar/internal/mlflow"
)

// LookUpInput says whose registration is looked for.
type LookUpInput struct {
	Server       Server `json:"server"`
	Owner        Owner  `json:"owner"`
	LoggedModels bool   `json:"logged_models"`
	// ExperimentName is the experiment that the run will belong to.
	ExperimentName string `json:"experiment_name,omitempty"`
}

// Version is a model version as the registration needs it.
type Version struct {
	Name         string `json:"name"`
	Version      string `json:"version"`
	RunID        string `json:"run_id,omitempty"`
	ModelID      string `json:"model_id,omitempty"` // of the logged model; empty on MLflow 2
	ExperimentID string `json:"experiment_id,omitempty"`
	// Stage and Aliases are where a version that was found stands; empty for one that was just made.
	Stage   string   `json:"stage,omitempty"`
	Aliases []string `json:"aliases,omitempty"`
}

// LookUpResult is what MLflow knows of the key. At most one of Completed and Decided is set.
type LookUpResult struct {
	// Completed is a version that a finished registration of the key left.
	Completed *Version `json:"completed,omitempty"`
	// Decided is a version that an earlier generation of this owner decided on, and was cut off before it was done.
	Decided *Version `json:"decided,omitempty"`
	// Unversioned are the logged models of earlier generations that have no version, to be fenced.
	Unversioned []string `json:"unversioned,omitempty"`
	// Earlier tells that an earlier generation left something.
	Earlier bool `json:"earlier,omitempty"`
	// Own tells that this generation has a run already. Where its history does not know of one, it was set back.
	Own bool `json:"own,omitempty"`
	// ExperimentID is the experiment that was asked for; empty where no active one has the name.
	ExperimentID string `json:"experiment_id,omitempty"`
}

// LookUp finds what earlier registrations of the key left (protocol step lookup). It writes the decision `none` on each run of
// this owner's earlier generations that had not decided, so that nothing of them counts later. An attempt that outlives its execution, which was terminated,
// leaves the run of the one that was started since. May be repeated.
func (a *Activities) LookUp(ctx context.Context, in LookUpInput) (LookUpResult, error) {
	client, err := a.mlflow(in.Server)
	if err != nil {
		return LookUpResult{}, classify(ctx, err)
	}
	defer heartbeats(ctx, nothing)()
	goesOn := func(generation string) bool {
		running, err := a.isRunning(ctx, activity.GetInfo(ctx).WorkflowExecution.ID, generation)
		return err == nil && running
	}
	result, err := lookUp(ctx, client, in, goesOn)
	return result, classify(ctx, err)
}

func lookUp(ctx context.Context, client *mlflow.Client, in LookUpInput, goesOn func(generation string) bool) (LookUpResult, error) {
	versions, err := versionsOf(ctx, client, in.Owner.Key)
	if err != nil {
		return LookUpResult{}, err
	}
	if v := firstCompleted(versions, in.Owner, true); v != nil {
		return completed(ctx, client, *v)
	}
	everywhere, err := allExperiments(ctx, client)
	if err != nil {
		return LookUpResult{}, err
	}
	runs, err := runsOf(ctx, client, in.Owner, everywhere)
	if err != nil {
		return LookUpResult{}, err
	}
	earlier := earlierRuns(runs, in.Owner)
	if err := closeUndecided(ctx, client, earlier, goesOn); err != nil {
		return LookUpResult{}, err
	}
	if len(earlier) > 0 {
		// Again: what had been decided on is only sure now that nothing more can be.
		if versions, err = versionsOf(ctx, client, in.Owner.Key); err != nil {
			return LookUpResult{}, err
		}
	}
	decisions, err := decisionsOf(ctx, client, runs)
	if err != nil {
		return LookUpResult{}, err
	}
	for _, v := range versions {
		if isOwn(v.Tags, in.Owner) && decisions[v.RunID] == v.Version {
			found, err := describe(ctx, client, v)
			return LookUpResult{Decided: &found, Earlier: true}, err
		}
	}
	if v := firstCompleted(versions, in.Owner, false); v != nil {
		return completed(ctx, client, *v)
	}
	unversioned, err := unversionedModels(ctx, client, in, everywhere, versions, decisions)
	return LookUpResult{
		Unversioned: unversioned, Earlier: len(earlier) > 0 || len(unversioned) > 0,
		Own: len(earlier) < len(runs), ExperimentID: everywhere.named(in.ExperimentName),
	}, err
}

func firstCompleted(versions []mlflow.ModelVersion, owner Owner, own bool) *mlflow.ModelVersion {
	for i, v := range versions {
		if tag(v.Tags, TagCompleted) != "" && own == (tag(v.Tags, TagOwner) == owner.Owner) {
			return &versions[i]
		}
	}
	return nil
}

func completed(ctx context.Context, client *mlflow.Client, v mlflow.ModelVersion) (LookUpResult, error) {
	found, err := describe(ctx, client, v)
	return LookUpResult{Completed: &found}, err
}

// describe adds what a search leaves out: the aliases, and the experiment of the version's run, which a run that somebody deleted for good
// leaves empty.
func describe(ctx context.Context, client *mlflow.Client, v mlflow.ModelVersion) (Version, error) {
	v, err := client.GetModelVersion(ctx, v.Name, v.Version)
	if err != nil {
		return Version{}, err
	}
	found := Version{Name: v.Name, Version: v.Version, RunID: v.RunID, ModelID: loggedModelOf(v), Aliases: v.Aliases}
	if v.CurrentStage != mlflow.StageNone {
		found.Stage = v.CurrentStage
	}
	run, err := client.GetRun(ctx, v.RunID)
	if mlflow.IsNotFound(err) {
		return found, nil
	}
	found.ExperimentID = run.Info.ExperimentID
	return found, err
}

func earlierRuns(runs []mlflow.Run, owner Owner) []mlflow.Run {
	var earlier []mlflow.Run
	for _, r := range runs {
		if tag(r.Data.Tags, TagGeneration) != owner.Generation {
			earlier = append(earlier, r)
		}
	}
	return earlier
}

// closeUndecided writes the decision `none` on each run that has none: params are write-once, so what is refused had decided. One execution of a workflow id
// goes on at a time, so a run of another one that does is not an earlier one's, whatever the clocks say.
func closeUndecided(ctx context.Context, client *mlflow.Client, runs []mlflow.Run, goesOn func(generation string) bool) error {
	for _, r := range runs {
		if param(r.Data.Params, ParamVersion) != "" || goesOn(tag(r.Data.Tags, TagGeneration)) {
			continue
		}
		if err := client.LogParam(ctx, r.Info.RunID, ParamVersion, NoVersion); err != nil && !isRefusedParam(err) {
			return err
		}
	}
	return nil
}

// decisionsOf reads the decision of each run, by run id.
func decisionsOf(ctx context.Context, client *mlflow.Client, runs []mlflow.Run) (map[string]string, error) {
	decisions := map[string]string{}
	for _, r := range runs {
		run, err := client.GetRun(ctx, r.Info.RunID)
		if err != nil {
			return nil, err
		}
		decisions[r.Info.RunID] = param(run.Data.Params, ParamVersion)
	}
	return decisions, nil
}

// unversionedModels are this owner's logged models of earlier generations without a version. Those of a run whose decided
// version a person deleted were returned to a caller once, and are spared.
func unversionedModels(
	ctx context.Context, client *mlflow.Client, in LookUpInput, everywhere experiments, versions []mlflow.ModelVersion, decisions map[string]string,
) ([]string, error) {
	if !in.LoggedModels {
		return nil, nil
	}
	models, err := loggedModelsOf(ctx, client, in.Owner, everywhere)
	if err != nil {
		return nil, err
	}
	versioned := map[string]bool{}
	for _, v := range versions {
		versioned[loggedModelOf(v)] = true
	}
	var free []string
	for _, m := range models {
		decision := decisions[m.Info.SourceRunID]
		wasReturned := decision != "" && decision != NoVersion
		if tag(m.Info.Tags, TagGeneration) != in.Owner.Generation && !versioned[m.Info.ModelID] && !wasReturned {
			free = append(free, m.Info.ModelID)
		}
	}
	return free, nil
}
