package activities

import (
	"context"
	"time"

	"go.temporal.io/sdk/activity"

	"registrar/internal/failure"
	"registrar/internal/mlflow"
)

// How a registration's run ends.
const (
	RunFinished = mlflow.RunFinished // its version is registered
	RunFailed   = mlflow.RunFailed
	RunKilled   = mlflow.RunKilled // the registration was canceled
)

// FinishRunInput says how the run ended. EndTime is fixed by the workflow once.
type FinishRunInput struct {
	Server  Server    `json:"server"`
	RunID   string    `json:"run_id"`
	Status  string    `json:"status"`
	EndTime time.Time `json:"end_time"`
	// Completed is the version that the run led to, for a run that FINISHED.
	Completed *Version `json:"completed,omitempty"`
	// Project is whose upload in parts for this run is given up, too, where one is under way; nobody's where it has no key.
	Project Project `json:"project,omitzero"`
	// SpareDecided leaves a run as it is that had decided on a version, of which the history may not know: its version may be served. A run that had
	// not is closed by the decision `none`.
	SpareDecided bool `json:"spare_decided,omitempty"`
}

// abortFor is how long after the end of a registration its upload is asked to be aborted, while the store is down. MLflow answers alike, by 500, where it is
// and where the store has no such upload any more; the difference is whether it lists.
const abortFor = time.Hour

// FinishRun ends the run, and after that marks the version as completed, last of all (protocol steps status and done). May be repeated.
func (a *Activities) FinishRun(ctx context.Context, in FinishRunInput) error {
	client, err := a.mlflow(in.Server)
	if err != nil {
		return classify(ctx, err)
	}
	defer heartbeats(ctx, nothing)()
	if err := endRun(ctx, client, in); err != nil {
		return classify(ctx, err)
	}
	if err := a.endUpload(ctx, client, in); err != nil {
		return classify(ctx, err)
	}
	if in.Completed == nil {
		return nil
	}
	err = client.SetModelVersionTag(ctx, in.Completed.Name, in.Completed.Version, TagCompleted, in.EndTime.UTC().Format(time.RFC3339))
	return classify(ctx, err)
}

func endRun(ctx context.Context, client *mlflow.Client, in FinishRunInput) error {
	if in.SpareDecided {
		if decided, err := closeRun(ctx, client, in.RunID); decided || err != nil {
			return err
		}
	}
	return client.UpdateRun(ctx, mlflow.UpdateRunRequest{RunID: in.RunID, Status: in.Status, EndTime: in.EndTime.UnixMilli()})
}

// closeRun writes the decision `none` on a run, and tells whether the run had decided on a version before. The param is written, and not only read, so
// that no attempt that Temporal forgot decides after the look.
func closeRun(ctx context.Context, client *mlflow.Client, runID string) (decided bool, err error) {
	if err := client.LogParam(ctx, runID, ParamVersion, NoVersion); !isRefusedParam(err) {
		return false, err
	}
	run, err := client.GetRun(ctx, runID)
	decision := param(run.Data.Params, ParamVersion)
	return decision != "" && decision != NoVersion, err
}

// endUpload aborts the upload that the end of the run leaves behind.
func (a *Activities) endUpload(ctx context.Context, client *mlflow.Client, in FinishRunInput) error {
	if in.Project.Key == "" {
		return nil
	}
	folder, err := a.folder(in.Project)
	if isAbsent(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer folder.Close()
	err = endParts(ctx, client, folder, in.RunID)
	kind, _ := kindOf(err)
	switch {
	case err == nil:
		return nil
	case kind != failure.Outage, time.Since(in.EndTime) >= abortFor:
		return folder.RemoveUpload()
	case isA[*artifactStoreError](err) && activity.GetInfo(ctx).Attempt > 1 && client.ArtifactStoreReachable(ctx) == nil:
		return folder.RemoveUpload()
	}
	return err
}
