package activities

import (
	"context"
	"fmt"
	"slices"
	"time"

	"go.temporal.io/sdk/temporal"

	"registrar/internal/failure"
	"registrar/internal/gate"
	"registrar/internal/mlflow"
)

// RegisterVersionInput says what the version is made of.
type RegisterVersionInput struct {
	Server      Server            `json:"server"`
	Project     Project           `json:"project"`
	Owner       Owner             `json:"owner"`
	ModelName   string            `json:"model_name"`
	Run         LogRunResult      `json:"run"`
	Model       UploadModelResult `json:"model"`
	Decision    gate.Decision     `json:"decision"`
	WorkflowURL string            `json:"workflow_url,omitempty"`
	// Look takes the version that was made of the logged model already, though the history has no request for it: Temporal was set back. Where
	// everything went through in one go, the time for that is too short to ask.
	Look bool `json:"look,omitempty"`
}

// RegisterVersionResult is the version's number.
type RegisterVersionResult struct {
	Version string `json:"version"`
}

// RegisterVersion makes the registered model where it is not there, and then sends one model-versions/create (protocol step mkver).
// It must never be retried once that request may have been sent: an error of kind UnknownOutcome, or a timeout, says look first.
// Every other error says that no version was made, and the activity may run again.
func (a *Activities) RegisterVersion(ctx context.Context, in RegisterVersionInput) (RegisterVersionResult, error) {
	client, err := a.mlflow(in.Server)
	if err != nil {
		return RegisterVersionResult{}, classify(ctx, err)
	}
	folder, err := a.folder(in.Project)
	if err != nil {
		return RegisterVersionResult{}, classify(ctx, err)
	}
	defer folder.Close()
	defer heartbeats(ctx, nothing)()
	if in.Look {
		forgotten, err := versionsFrom(ctx, client, in.Owner, in.Model.Source)
		if err != nil {
			return RegisterVersionResult{}, classify(ctx, err)
		}
		if len(forgotten) > 0 {
			return RegisterVersionResult{Version: forgotten[0].Version}, nil
		}
	}
	_, err = client.CreateRegisteredModel(ctx, mlflow.CreateRegisteredModelRequest{Name: in.ModelName})
	if err != nil && !mlflow.IsAlreadyExists(err) {
		return RegisterVersionResult{}, classify(ctx, err)
	}
	request := folder.Request()
	metrics, err := readMetrics(folder)
	if err != nil {
		return RegisterVersionResult{}, classify(ctx, err)
	}
	version, err := client.CreateModelVersion(ctx, mlflow.CreateModelVersionRequest{
		Name:        in.ModelName,
		Source:      in.Model.Source,
		RunID:       in.Run.RunID,
		ModelID:     in.Model.ModelID,
		Description: versionDescription(in, request),
		Tags:        slices.Concat(ownerTags(in.Owner), commitTags(request), evidenceTags(request, in.WorkflowURL), historyTags(in.Decision, metrics, request)),
	})
	if mlflow.OutcomeOpen(err) {
		_, detail := kindOf(err)
		return RegisterVersionResult{}, applicationError(err, failure.UnknownOutcome, detail)
	}
	return RegisterVersionResult{Version: version.Version}, classify(ctx, err)
}

// LookForVersionInput names the source whose version may be there.
type LookForVersionInput struct {
	Server Server `json:"server"`
	Owner  Owner  `json:"owner"`
	// Source is what the version would be made from.
	Source string `json:"source"`
}

// LookForVersionResult is the version that was found; empty where there is none yet.
type LookForVersionResult struct {
	Version string `json:"version,omitempty"`
}

// LookForVersion reads, for some seconds, whether the version of a logged model is there (protocol step look). It changes nothing:
// that none is there must be in the history before anything is deleted.
func (a *Activities) LookForVersion(ctx context.Context, in LookForVersionInput) (LookForVersionResult, error) {
	client, err := a.mlflow(in.Server)
	if err != nil {
		return LookForVersionResult{}, classify(ctx, err)
	}
	defer heartbeats(ctx, nothing)()
	for deadline := time.Now().Add(a.LookFor); ; {
		found, err := versionsFrom(ctx, client, in.Owner, in.Source)
		if err != nil {
			return LookForVersionResult{}, classify(ctx, err)
		}
		if len(found) > 0 {
			return LookForVersionResult{Version: found[0].Version}, nil
		}
		if time.Now().After(deadline) {
			return LookForVersionResult{}, nil
		}
		select {
		case <-time.After(a.LookFor / 4):
		case <-ctx.Done():
			return LookForVersionResult{}, classify(ctx, ctx.Err())
		}
	}
}

// versionsFrom are this owner's versions of a source.
func versionsFrom(ctx context.Context, client *mlflow.Client, owner Owner, source string) ([]mlflow.ModelVersion, error) {
	all, err := versionsOf(ctx, client, owner.Key)
	if err != nil {
		return nil, err
	}
	var found []mlflow.ModelVersion
	for _, v := range all {
		if isOfGeneration(v.Tags, owner) && v.Source == source {
			found = append(found, v)
		}
	}
	return found, nil
}

// FenceLoggedModelsInput names logged models that the history condemned.
type FenceLoggedModelsInput struct {
	Server   Server   `json:"server"`
	Owner    Owner    `json:"owner"`
	ModelIDs []string `json:"model_ids"`
	// SpareVersioned leaves a logged model alone that has got a version since it was condemned: it is an earlier generation's, or
	// perhaps one that the history forgot, and the sweep decides.
	SpareVersioned bool `json:"spare_versioned,omitempty"`
}

// FenceLoggedModels deletes logged models, and what versions they got in the meantime (protocol steps fence and fence_old). Afterwards a late
// model-versions/create that names one of them is refused by MLflow. May be repeated.
func (a *Activities) FenceLoggedModels(ctx context.Context, in FenceLoggedModelsInput) error {
	client, err := a.mlflow(in.Server)
	if err != nil {
		return classify(ctx, err)
	}
	defer heartbeats(ctx, nothing)()
	for _, id := range in.ModelIDs {
		if err := fence(ctx, client, in, id); err != nil {
			return classify(ctx, err)
		}
	}
	return nil
}

func fence(ctx context.Context, client *mlflow.Client, in FenceLoggedModelsInput, modelID string) error {
	versions, err := versionsOf(ctx, client, in.Owner.Key)
	if err != nil {
		return err
	}
	if in.SpareVersioned && len(ofModel(versions, modelID)) > 0 {
		return nil
	}
	if err := client.DeleteLoggedModel(ctx, modelID); err != nil && !mlflow.IsNotFound(err) {
		return err
	}
	if versions, err = versionsOf(ctx, client, in.Owner.Key); err != nil {
		return err
	}
	for _, v := range ofModel(versions, modelID) {
		if !isOwn(v.Tags, in.Owner) {
			continue
		}
		if _, err := deleteUnlessInUse(ctx, client, v); err != nil {
			return err
		}
	}
	return nil
}

func ofModel(versions []mlflow.ModelVersion, modelID string) []mlflow.ModelVersion {
	var found []mlflow.ModelVersion
	for _, v := range versions {
		if loggedModelOf(v) == modelID {
			found = append(found, v)
		}
	}
	return found
}

// deleteUnlessInUse deletes a version, but not one that somebody gave an alias or a stage.
func deleteUnlessInUse(ctx context.Context, client *mlflow.Client, v mlflow.ModelVersion) (deleted bool, err error) {
	current, err := client.GetModelVersion(ctx, v.Name, v.Version)
	if mlflow.IsNotFound(err) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	if len(current.Aliases) > 0 || current.CurrentStage != mlflow.StageNone {
		return false, nil
	}
	if err := client.DeleteModelVersion(ctx, v.Name, v.Version); err != nil && !mlflow.IsNotFound(err) {
		return false, err
	}
	return true, nil
}

// RecordVersionInput is the decision for a version.
type RecordVersionInput struct {
	Server  Server `json:"server"`
	RunID   string `json:"run_id"`
	Version string `json:"version"`
}

// RecordVersion writes the decision on the run: from here on a later generation finishes this version (protocol step decide). May be
// repeated with the same version; another one is refused by MLflow.
func (a *Activities) RecordVersion(ctx context.Context, in RecordVersionInput) error {
	client, err := a.mlflow(in.Server)
	if err != nil {
		return classify(ctx, err)
	}
	defer heartbeats(ctx, nothing)()
	err = client.LogParam(ctx, in.RunID, ParamVersion, in.Version)
	if isRefusedParam(err) {
		return temporal.NewNonRetryableApplicationError(
			fmt.Sprintf("record version %s on run %s: the run was deleted, or closed by a later execution of this workflow id", in.Version, in.RunID),
			failure.Refused, err)
	}
	return classify(ctx, err)
}

// isRefusedParam tells that a param has another value already. MLflow's params are write-once.
func isRefusedParam(err error) bool { return mlflow.IsInvalid(err) }
