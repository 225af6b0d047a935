package workflows

import (
	"errors"
	"fmt"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"registrar/activities"
	"registrar/config"
	"registrar/internal/failure"
	"registrar/internal/receipt"
)

const (
	// maxDeletions is how often what somebody deletes under the hands of a registration is made again.
	maxDeletions = 3
	// maxCondemned is how many logged models are condemned before a registration gives up, and firstPause the pause after the second;
	// each further one is twice as long, up to longestPause. Together they are about two days.
	maxCondemned = 50
	firstPause   = 10 * time.Second
	longestPause = time.Hour
)

// a names activities by reference; it has no state.
var a *activities.Activities

// registration is what a workflow knows of the registration that it makes.
type registration struct {
	in      RegisterInput
	project activities.Project
	loaded  activities.LoadConfigResult
	frozen  activities.SnapshotModelResult
	server  activities.Server
	owner   activities.Owner
	health  activities.CheckMLflowHealthResult
	found   activities.LookUpResult

	mlflowRun activities.LogRunResult
	model     activities.UploadModelResult
	condemned []string // logged models of ours that shall have no version
	// askedForRun and askedForModel: a run, or a logged model, may be there that nobody recorded.
	askedForRun, askedForModel bool
	// repeats: this generation has been here before, and the history does not tell how far it came. Temporal was restored from an older backup, or
	// the execution was reset. No command that comes before others may hang on it, since a reset is replayed with the history from before: it is for the
	// inputs of activities, and for the sweep at the very end.
	repeats bool
	// unsure: whether this generation has a version that the history does not know of could not be asked.
	unsure    bool
	startedAt time.Time

	// doubtful: something that was sent may still arrive, so a sweep follows.
	doubtful bool
	// reached: MLflow has answered once, so that a refused credential is one that expired.
	reached bool
	// asked counts the calls to the workflows of which there is one for all; answers to older ones are dropped.
	asked int

	receipt receipt.Receipt
}

func newRegistration(ctx workflow.Context, in RegisterInput) (*registration, error) {
	if in.Config == "" {
		in.Config = config.ConfigPath
	}
	if in.Params == "" {
		in.Params = config.ParamsPath
	}
	info := workflow.GetInfo(ctx)
	r := &registration{
		in:        in,
		project:   activities.Project{Root: in.Root, RootDir: in.RootDir, Key: in.Key},
		startedAt: workflow.Now(ctx),
		repeats:   info.WorkflowExecution.RunID != info.FirstRunID,
		receipt:   receipt.Receipt{WorkflowID: info.WorkflowExecution.ID, State: receipt.Running, RegistrationKey: in.Key},
	}
	r.owner = activities.Owner{
		Owner:      info.Namespace + "/" + info.WorkflowExecution.ID,
		Generation: info.FirstRunID,
		StartedAt:  info.WorkflowStartTime.UnixMilli(),
	}
	err := workflow.SetQueryHandler(ctx, QueryReceipt, func() (receipt.Receipt, error) { return r.receipt, nil })
	if err != nil {
		return nil, fmt.Errorf("answer queries: %w", err)
	}
	return r, nil
}

// setVersion notes the version that the registration led to.
func (r *registration) setVersion(v activities.Version) {
	r.receipt.ModelVersion = v.Version
	r.receipt.ModelURI = fmt.Sprintf("models:/%s/%s", v.Name, v.Version)
	r.receipt.MLflowRunID, r.receipt.MLflowModelID, r.receipt.ExperimentID = v.RunID, v.ModelID, v.ExperimentID
	r.receipt.Stage, r.receipt.Aliases = v.Stage, v.Aliases
}

func (r *registration) warn(text string) { r.receipt.Warnings = append(r.receipt.Warnings, text) }

// version is what the registration led to; its fields are empty where it made nothing.
func (r *registration) version() activities.Version {
	return activities.Version{
		Name:         r.receipt.ModelName,
		Version:      r.receipt.ModelVersion,
		RunID:        r.receipt.MLflowRunID,
		ModelID:      r.receipt.MLflowModelID,
		ExperimentID: r.receipt.ExperimentID,
	}
}

// finish cleans up after a registration that led to nothing, writes the receipt, and turns the outcome into what the workflow
// returns. All of it happens also when the registration was canceled.
func (r *registration) finish(ctx workflow.Context, outcome receipt.Outcome, err error) (Result, error) {
	ctx, cancel := workflow.NewDisconnectedContext(ctx)
	defer cancel()
	if err != nil {
		outcome = receipt.Failed
		r.receipt.Error = message(err)
		if temporal.IsCanceledError(err) {
			outcome = receipt.Canceled
			r.receipt.Error = ""
		}
	}
	leftovers := SweepInput{Settle: r.loaded.SettleTime, Sweep: activities.SweepInput{
		Server: r.server, Owner: r.owner, LoggedModels: r.health.LoggedModels, Keep: r.version(),
	}}
	switch {
	case err != nil && r.receipt.ModelVersion == "":
		r.abandon(ctx, outcome, &leftovers)
	case err != nil && kind(err) != failure.Gone:
		r.warn(fmt.Sprintf("version %s was made and stays as it is: register the same files again when MLflow takes them", r.receipt.ModelVersion))
	}
	if leftovers.isNeeded() || r.doubtful {
		leftovers.Wait = r.doubtful
		if err := startSweep(ctx, leftovers); err != nil {
			return Result{}, err
		}
	}
	r.receipt.State, r.receipt.Outcome, r.receipt.Waiting = receipt.Done, outcome, nil
	r.writeReceipt(ctx)
	if err := r.publish(ctx); err != nil {
		return Result{}, err
	}
	countEnded(ctx, outcome)
	return r.result(err)
}

func (r *registration) result(err error) (Result, error) {
	switch r.receipt.Outcome {
	case receipt.Canceled:
		return Result{}, temporal.NewCanceledError(r.receipt)
	case receipt.Failed:
		return Result{}, temporal.NewApplicationErrorWithOptions(r.receipt.Error, kind(err),
			temporal.ApplicationErrorOptions{NonRetryable: true, Details: []any{r.receipt}})
	}
	return r.receipt, nil
}

// abandon ends the run and fences the logged model of a registration that made no version. What MLflow cannot do now is left to the sweep.
func (r *registration) abandon(ctx workflow.Context, outcome receipt.Outcome, leftovers *SweepInput) {
	status := activities.RunFailed
	if outcome == receipt.Canceled {
		status = activities.RunKilled
	}
	if r.mlflowRun.RunID != "" {
		leftovers.Sweep.Keep.RunID = r.mlflowRun.RunID
		r.receipt.MLflowRunID, r.receipt.ExperimentID = r.mlflowRun.RunID, r.mlflowRun.ExperimentID
		end := activities.FinishRunInput{
			Server: r.server, RunID: r.mlflowRun.RunID, Status: status, EndTime: workflow.Now(ctx), Project: r.project, SpareDecided: r.unsure,
		}
		if workflow.ExecuteActivity(with(ctx, onMLflow, status), a.FinishRun, end).Get(ctx, nil) != nil {
			leftovers.EndRun = &end
		}
	}
	if r.model.ModelID != "" {
		fence := activities.FenceLoggedModelsInput{
			Server: r.server, Owner: r.owner, ModelIDs: []string{r.model.ModelID}, SpareVersioned: r.unsure,
		}
		if workflow.ExecuteActivity(with(ctx, onMLflow, r.model.ModelID), a.FenceLoggedModels, fence).Get(ctx, nil) != nil {
			leftovers.Fence = &fence
		}
	}
}

// writeReceipt leaves the receipt where the pipeline looks for it. A disk that does not take it does not undo a registration.
func (r *registration) writeReceipt(ctx workflow.Context) {
	if r.project.Key == "" || r.project.RootDir == "" {
		return
	}
	ctx = locally(ctx, quickFiles, string(r.receipt.Outcome))
	err := workflow.ExecuteLocalActivity(ctx, a.WriteReceipt, activities.WriteReceiptInput{Project: r.project, Receipt: r.receipt}).Get(ctx, nil)
	if err != nil {
		r.warn("the receipt could not be written: " + message(err))
	}
}

// message is what went wrong, without Temporal's words around it.
func message(err error) string {
	if application, ok := asApplication(err); ok {
		return application.Message()
	}
	return err.Error()
}

func asApplication(err error) (*temporal.ApplicationError, bool) {
	return errors.AsType[*temporal.ApplicationError](err)
}

// isOpen tells whether the failed step may have left something in MLflow that nobody recorded.
func isOpen(err error) bool { return err != nil && detailOf(err).Open }
