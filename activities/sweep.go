package activities

import (
	"context"
	"strconv"

	"registrar/internal/mlflow"
)

// SweepInput says whose leftovers are removed, and what the history recorded and keeps.
type SweepInput struct {
	Server       Server `json:"server"`
	Owner        Owner  `json:"owner"`
	LoggedModels bool   `json:"logged_models"`
	// Keep is what the registration returned, and the run that it left KILLED or FAILED.
	Keep Version `json:"keep"`
}

// SweepResult is what was removed, and what was spared because somebody uses it.
type SweepResult struct {
	DeletedVersions []string `json:"deleted_versions,omitempty"`
	DeletedModels   []string `json:"deleted_models,omitempty"`
	DeletedRuns     []string `json:"deleted_runs,omitempty"`
	SparedVersions  []string `json:"spared_versions,omitempty"`
}

// Sweep removes what requests of this owner left in MLflow beside what the history recorded: of this generation and of earlier
// ones, never of later ones or of other owners (protocol step sweep). Run it when nothing sent before can arrive any more. May be repeated.
func (a *Activities) Sweep(ctx context.Context, in SweepInput) (SweepResult, error) {
	client, err := a.mlflow(in.Server)
	if err != nil {
		return SweepResult{}, classify(ctx, err)
	}
	defer heartbeats(ctx, nothing)()
	s := sweep{in: in, client: client}
	err = s.run(ctx)
	return s.result, classify(ctx, err)
}

type sweep struct {
	in     SweepInput
	client *mlflow.Client
	result SweepResult
}

func (s *sweep) run(ctx context.Context) error {
	// Twice: a version may come between the first look and the deletion of its logged model.
	for range 2 {
		if err := s.versions(ctx); err != nil {
			return err
		}
		if err := s.loggedModels(ctx); err != nil {
			return err
		}
	}
	return s.runs(ctx)
}

func (s *sweep) versions(ctx context.Context) error {
	versions, err := versionsOf(ctx, s.client, s.in.Owner.Key)
	if err != nil {
		return err
	}
	for _, v := range versions {
		if !s.isMine(v.Tags) || v.Version == s.in.Keep.Version && v.Name == s.in.Keep.Name {
			continue
		}
		if err := s.version(ctx, v); err != nil {
			return err
		}
	}
	return nil
}

func (s *sweep) version(ctx context.Context, v mlflow.ModelVersion) error {
	decided, deleted, err := closeAndDelete(ctx, s.client, v)
	switch {
	case err != nil || decided:
		return err
	case deleted:
		s.result.DeletedVersions = append(s.result.DeletedVersions, v.Version)
	default:
		s.result.SparedVersions = append(s.result.SparedVersions, v.Version)
	}
	return nil
}

// closeAndDelete writes `none` on the version's run and deletes the version, unless the run had decided on it, or somebody gave it an alias
// or a stage.
func closeAndDelete(ctx context.Context, client *mlflow.Client, v mlflow.ModelVersion) (decided, deleted bool, err error) {
	if err := client.LogParam(ctx, v.RunID, ParamVersion, NoVersion); err != nil && !isRefusedParam(err) && !mlflow.IsNotFound(err) {
		return false, false, err
	}
	run, err := client.GetRun(ctx, v.RunID)
	if err != nil && !mlflow.IsNotFound(err) {
		return false, false, err
	}
	if param(run.Data.Params, ParamVersion) == v.Version {
		return true, false, nil
	}
	deleted, err = deleteUnlessInUse(ctx, client, v)
	return false, deleted, err
}

func (s *sweep) loggedModels(ctx context.Context) error {
	if !s.in.LoggedModels {
		return nil
	}
	everywhere, err := allExperiments(ctx, s.client)
	if err != nil {
		return err
	}
	models, err := loggedModelsOf(ctx, s.client, s.in.Owner, everywhere)
	if err != nil {
		return err
	}
	used, err := s.inUse(ctx, everywhere)
	if err != nil {
		return err
	}
	for _, m := range models {
		if !s.isMine(m.Info.Tags) || m.Info.ModelID == s.in.Keep.ModelID || used.models[m.Info.ModelID] || used.returned[m.Info.SourceRunID] {
			continue
		}
		if err := s.client.DeleteLoggedModel(ctx, m.Info.ModelID); err != nil && !mlflow.IsNotFound(err) {
			return err
		}
		s.result.DeletedModels = append(s.result.DeletedModels, m.Info.ModelID)
	}
	return nil
}

func (s *sweep) runs(ctx context.Context) error {
	everywhere, err := allExperiments(ctx, s.client)
	if err != nil {
		return err
	}
	runs, err := runsOf(ctx, s.client, s.in.Owner, everywhere)
	if err != nil {
		return err
	}
	used, err := s.inUse(ctx, everywhere)
	if err != nil {
		return err
	}
	for _, r := range runs {
		id := r.Info.RunID
		ended := r.Info.Status == mlflow.RunKilled || r.Info.Status == mlflow.RunFailed
		if !s.isMine(r.Data.Tags) || id == s.in.Keep.RunID || ended || used.runs[id] || used.returned[id] {
			continue
		}
		if err := s.client.DeleteRun(ctx, id); err != nil && !mlflow.IsNotFound(err) {
			return err
		}
		s.result.DeletedRuns = append(s.result.DeletedRuns, id)
	}
	return nil
}

// inUse is what versions that are there name, and the runs of earlier generations whose decided version a person deleted: those were
// returned to a caller, and stay.
type inUse struct{ models, runs, returned map[string]bool }

func (s *sweep) inUse(ctx context.Context, everywhere experiments) (inUse, error) {
	used := inUse{models: map[string]bool{}, runs: map[string]bool{}, returned: map[string]bool{}}
	versions, err := versionsOf(ctx, s.client, s.in.Owner.Key)
	if err != nil {
		return used, err
	}
	for _, v := range versions {
		used.models[loggedModelOf(v)] = true
		used.runs[v.RunID] = true
	}
	runs, err := runsOf(ctx, s.client, s.in.Owner, everywhere)
	if err != nil {
		return used, err
	}
	for _, r := range earlierRuns(runs, s.in.Owner) {
		decision := param(r.Data.Params, ParamVersion)
		used.returned[r.Info.RunID] = decision != "" && decision != NoVersion && !used.runs[r.Info.RunID]
	}
	return used, nil
}

// isMine tells whether an object is of this owner, and of this generation or an earlier one.
func (s *sweep) isMine(tags []mlflow.Tag) bool {
	started, err := strconv.ParseInt(tag(tags, TagStarted), 10, 64)
	return err == nil && isOwn(tags, s.in.Owner) && started <= s.in.Owner.StartedAt
}
