package workflows

import (
	"fmt"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"registrar/activities"
	"registrar/config"
	"registrar/internal/failure"
	"registrar/internal/gate"
)

func (r *registration) loadConfig(ctx workflow.Context) error {
	in := activities.LoadConfigInput{Project: r.project, Config: r.in.Config, Params: r.in.Params}
	ctx = locally(ctx, quickFiles, r.in.Config+", "+r.in.Params)
	if err := workflow.ExecuteLocalActivity(ctx, a.LoadConfig, in).Get(ctx, &r.loaded); err != nil {
		return err
	}
	r.server = r.loaded.ServerOf(r.in.Root)
	r.receipt.ModelName, r.receipt.TrackingURI = r.loaded.Settings.ModelName, r.loaded.Server.URI
	r.receipt.WorkflowURL = r.url(ctx)
	r.receipt.Warnings = r.loaded.Settings.Warnings
	return r.publish(ctx)
}

func (r *registration) snapshotModel(ctx workflow.Context) error {
	in := activities.SnapshotModelInput{
		Project: r.project, Config: r.in.Config, Params: r.in.Params, Settings: r.loaded.Settings, ForceToken: r.in.ForceToken,
	}
	ctx = with(ctx, onFiles, r.loaded.Settings.ModelPath)
	if err := workflow.ExecuteActivity(ctx, a.SnapshotModel, in).Get(ctx, &r.frozen); err != nil {
		return err
	}
	r.project = r.frozen.Project
	r.owner.Key = r.frozen.Request.RegistrationKey
	r.receipt.RegistrationKey, r.receipt.ModelSHA256 = r.owner.Key, r.frozen.Request.Model.SHA256
	return nil
}

func (r *registration) validateMetrics(ctx workflow.Context) error {
	ctx = locally(ctx, quickFiles, fmt.Sprintf("roc_auc >= %v", r.loaded.Settings.MinROCAUC))
	var result activities.ValidateMetricsResult
	in := activities.ValidateMetricsInput{
		Project: r.project, Rules: Rules(r.loaded.Settings), Model: r.frozen.JudgedBy(r.loaded.Settings),
	}
	if err := workflow.ExecuteLocalActivity(ctx, a.ValidateMetrics, in).Get(ctx, &result); err != nil {
		return err
	}
	r.receipt.Decision = &result.Decision
	r.receipt.Warnings = append(r.receipt.Warnings, result.Warnings...)
	if !result.Decision.Passed {
		r.warn("the model is refused: " + result.Decision.Summary())
		workflow.GetLogger(ctx).Warn("model refused", "model", r.receipt.ModelName, "decision", result.Decision.Summary())
	}
	return nil
}

// Rules are what the settings ask of the metrics.
func Rules(s config.Settings) []gate.Rule {
	return []gate.Rule{{Metric: "roc_auc", Min: s.MinROCAUC}}
}

func (r *registration) waitForMLflow(ctx workflow.Context) error {
	return r.atOnce(ctx, r.server.TrackingURI, a.CheckMLflowHealth, activities.CheckMLflowHealthInput{Server: r.server}, &r.health)
}

// atOnce takes a step that talks to MLflow, and that may be repeated, within the workflow task. Where it fails there, whatever the reason, it is
// taken patiently.
func (r *registration) atOnce(ctx workflow.Context, summary string, step, in, result any) error {
	if workflow.ExecuteLocalActivity(locally(ctx, atOnceOnMLflow, summary), step, in).Get(ctx, result) == nil {
		r.reached = true
		return nil
	}
	return r.patiently(ctx, func(ctx workflow.Context) error {
		return workflow.ExecuteActivity(with(ctx, onMLflow, summary), step, in).Get(ctx, result)
	})
}

func (r *registration) lookUp(ctx workflow.Context) error {
	err := r.atOnce(ctx, "by registration key", a.LookUp, r.lookUpInput(), &r.found)
	r.repeats = r.repeats || r.found.Own
	// What an earlier execution sent, or this one before it was set back, may still arrive.
	r.doubtful = r.doubtful || r.found.Earlier || r.in.Again || r.repeats
	return err
}

func (r *registration) lookUpInput() activities.LookUpInput {
	return activities.LookUpInput{
		Server: r.server, Owner: r.owner, LoggedModels: r.health.LoggedModels, ExperimentName: r.loaded.Settings.ExperimentName,
	}
}

// fenceEarlier sees that nothing which an earlier execution sent becomes a version any more. It is done also when the registration was
// canceled meanwhile.
func (r *registration) fenceEarlier(ctx workflow.Context, modelIDs []string) error {
	if len(modelIDs) == 0 {
		return nil
	}
	return r.patiently(ctx, func(ctx workflow.Context) error {
		ctx, cancel := workflow.NewDisconnectedContext(ctx)
		defer cancel()
		ctx = with(ctx, onMLflow, "leftovers of an earlier execution")
		in := activities.FenceLoggedModelsInput{Server: r.server, Owner: r.owner, ModelIDs: modelIDs, SpareVersioned: true}
		return workflow.ExecuteActivity(ctx, a.FenceLoggedModels, in).Get(ctx, nil)
	})
}

// logRun is let end when the registration is canceled: it takes seconds, and a run that is known is ended at once.
func (r *registration) logRun(ctx workflow.Context) error {
	err := r.patiently(ctx, func(ctx workflow.Context) error {
		ctx, cancel := workflow.NewDisconnectedContext(ctx)
		defer cancel()
		ctx = with(ctx, onMLflow, activities.RunName)
		first := !r.askedForRun && !r.repeats
		r.askedForRun = true
		return r.noting(workflow.ExecuteActivity(ctx, a.LogRun, activities.LogRunInput{
			Server: r.server, Project: r.project, Owner: r.owner, Settings: r.runSettings(), Decision: *r.receipt.Decision,
			StartTime: r.startedAt, WorkflowURL: r.url(ctx), ExperimentID: r.found.ExperimentID, First: first,
		}).Get(ctx, &r.mlflowRun))
	})
	// A step that failed for good may have made its run before, which then nobody knows.
	r.doubtful = r.doubtful || r.mlflowRun.Doubtful || err != nil
	return firstOf(err, ctx.Err())
}

// changeCanceledInUpload: a cancellation that came too late for the upload is not too late for the version. Executions of an older worker may have
// asked for the version all the same. Looked at by the canceled alone, so that others have no event of it.
const changeCanceledInUpload = "canceled-in-upload"

func (r *registration) uploadModel(ctx workflow.Context) error {
	settings := r.loaded.Settings
	r.model = activities.UploadModelResult{}
	err := r.patiently(ctx, func(ctx workflow.Context) error {
		size := r.frozen.Request.Model.SizeBytes
		for _, file := range r.frozen.Request.ExtraFiles {
			size += file.SizeBytes
		}
		first := !r.askedForModel && !r.repeats && !r.doubtful
		r.askedForModel = true
		ctx = with(ctx, uploading(size), fmt.Sprintf("%s, %s", r.frozen.Request.Model.Path, sizeText(size)))
		return r.noting(workflow.ExecuteActivity(ctx, a.UploadModel, activities.UploadModelInput{
			Server: r.server, Project: r.project, Owner: r.owner, Run: r.mlflowRun,
			Model: r.frozen.Model, LoggedModels: r.health.LoggedModels, MLflowVersion: r.health.Version, PredictFn: settings.PredictFn,
			Layout: settings.Layout, Signature: settings.Signature, Environment: settings.Environment,
			EnvironmentFile: settings.EnvironmentFile, LoggedAt: r.startedAt, Condemned: r.condemned, First: first,
		}).Get(ctx, &r.model))
	})
	r.doubtful = r.doubtful || r.model.Doubtful || err != nil
	if err != nil {
		r.model.ModelID = leftByUpload(err)
		return err
	}
	if ctx.Err() != nil && workflow.GetVersion(ctx, changeCanceledInUpload, workflow.DefaultVersion, 1) >= 1 {
		return ctx.Err()
	}
	return nil
}

// leftByUpload is the logged model that an upload left which was canceled or failed for good; empty where it had none yet.
func leftByUpload(err error) string {
	var detail failure.Detail
	if canceled, ok := asCanceled(err); ok && canceled.HasDetails() {
		// Without a readable detail the sweep finds the logged model.
		_ = canceled.Details(&detail)
		return detail.ModelID
	}
	return detailOf(err).ModelID
}

// registerVersion asks for the version once, and is let end when the registration is canceled. It returns nothing where the outcome
// stayed open and no version is seen: the logged model must not be used again.
func (r *registration) registerVersion(ctx workflow.Context) (string, error) {
	var made activities.RegisterVersionResult
	open := false
	err := r.patiently(ctx, func(ctx workflow.Context) error {
		ctx, cancel := workflow.NewDisconnectedContext(ctx)
		defer cancel()
		ctx = with(ctx, onceOnMLflow, r.receipt.ModelName+" from "+r.model.Source)
		err := workflow.ExecuteActivity(ctx, a.RegisterVersion, activities.RegisterVersionInput{
			Server: r.server, Project: r.project, Owner: r.owner, ModelName: r.receipt.ModelName, Run: r.mlflowRun, Model: r.model,
			Decision: *r.receipt.Decision, WorkflowURL: r.url(ctx), Look: r.repeats || r.doubtful || r.asked > 0,
		}).Get(ctx, &made)
		if kind(err) == failure.UnknownOutcome || temporal.IsTimeoutError(err) {
			open = true
			return nil
		}
		return err
	})
	if err != nil || !open {
		return made.Version, err
	}
	r.doubtful = true
	return r.lookForVersion(ctx)
}

func (r *registration) lookForVersion(ctx workflow.Context) (string, error) {
	ctx, cancel := workflow.NewDisconnectedContext(ctx)
	defer cancel()
	if !r.health.LoggedModels {
		// Without logged models there is no fence: what was sent must be dead before another request is.
		if err := workflow.NewTimerWithOptions(ctx, r.loaded.SettleTime, workflow.TimerOptions{Summary: "until a late request is dead"}).Get(ctx, nil); err != nil {
			return "", err
		}
	}
	var found activities.LookForVersionResult
	err := r.patiently(ctx, func(ctx workflow.Context) error {
		ctx = with(ctx, onMLflow, "of "+r.model.Source)
		in := activities.LookForVersionInput{Server: r.server, Owner: r.owner, Source: r.model.Source}
		return workflow.ExecuteActivity(ctx, a.LookForVersion, in).Get(ctx, &found)
	})
	return found.Version, err
}

// condemn records that the logged model shall have no version, fences it, and pauses before the next one.
func (r *registration) condemn(ctx workflow.Context) error {
	r.condemned = append(r.condemned, r.model.ModelID)
	if r.model.ModelID != "" {
		if err := r.patiently(ctx, func(ctx workflow.Context) error {
			ctx, cancel := workflow.NewDisconnectedContext(ctx)
			defer cancel()
			ctx = with(ctx, onMLflow, r.model.ModelID)
			in := activities.FenceLoggedModelsInput{Server: r.server, Owner: r.owner, ModelIDs: []string{r.model.ModelID}}
			return workflow.ExecuteActivity(ctx, a.FenceLoggedModels, in).Get(ctx, nil)
		}); err != nil {
			return err
		}
		r.model = activities.UploadModelResult{}
	}
	if len(r.condemned) < 2 {
		return ctx.Err()
	}
	pause := min(firstPause<<min(len(r.condemned)-2, 16), longestPause)
	return workflow.NewTimerWithOptions(ctx, pause, workflow.TimerOptions{Summary: "before another logged model"}).Get(ctx, nil)
}

// recordVersion decides on the version. From here on it is too late to cancel.
func (r *registration) recordVersion(ctx workflow.Context) error {
	ctx, cancel := workflow.NewDisconnectedContext(ctx)
	defer cancel()
	in := activities.RecordVersionInput{Server: r.server, RunID: r.receipt.MLflowRunID, Version: r.receipt.ModelVersion}
	return r.atOnce(ctx, "version "+r.receipt.ModelVersion, a.RecordVersion, in, nil)
}

func (r *registration) promote(ctx workflow.Context) error {
	var promoted activities.PromoteVersionResult
	err := r.patiently(ctx, func(ctx workflow.Context) error {
		reply, err := r.requestPromotion(ctx)
		promoted = reply.Result
		return firstOf(err, reply.err())
	})
	if err != nil {
		return err
	}
	switch {
	case promoted.Promoted:
		r.receipt.Stage, r.receipt.Aliases = activities.Stage, []string{activities.Alias}
	case promoted.Newer != "":
		r.warn(fmt.Sprintf("stage %s and alias %s stay on version %s, which is newer", activities.Stage, activities.Alias, promoted.Newer))
	case promoted.Deleted:
		return temporal.NewNonRetryableApplicationError(fmt.Sprintf("version %s of %s was deleted before it was promoted; register the same files again for another one",
			r.receipt.ModelVersion, r.receipt.ModelName), failure.Gone, nil)
	}
	return nil
}

func (r *registration) finishRun(ctx workflow.Context, status string) error {
	version := r.version()
	in := activities.FinishRunInput{Server: r.server, RunID: version.RunID, Status: status, EndTime: workflow.Now(ctx), Completed: &version}
	return r.atOnce(ctx, status, a.FinishRun, in, nil)
}

// changeDeletedEndsRun: a registration whose version somebody deleted ends its run. Executions of an older worker may have failed without. Looked at
// by those alone, so that others have no event of it.
const changeDeletedEndsRun = "deleted-ends-run"

// endRunOfDeleted ends the run of a version that somebody deleted before it was completed: nobody would take that up. The same files again make another
// run and another version.
func (r *registration) endRunOfDeleted(ctx workflow.Context) {
	if workflow.GetVersion(ctx, changeDeletedEndsRun, workflow.DefaultVersion, 1) < 1 {
		return
	}
	in := activities.FinishRunInput{Server: r.server, RunID: r.receipt.MLflowRunID, Status: activities.RunFailed, EndTime: workflow.Now(ctx)}
	if err := r.atOnce(ctx, in.Status, a.FinishRun, in, nil); err != nil && kind(err) != failure.Gone {
		r.warn(fmt.Sprintf("run %s could not be ended: %s", in.RunID, message(err)))
	}
}

// noting marks the registration doubtful where a failed step may have left something, and returns its error.
func (r *registration) noting(err error) error {
	r.doubtful = r.doubtful || isOpen(err)
	return err
}

func (r *registration) runSettings() activities.RunSettings {
	return activities.RunSettings{
		ModelName: r.receipt.ModelName, ExperimentName: r.loaded.Settings.ExperimentName, MinROCAUC: r.loaded.Settings.MinROCAUC,
	}
}

func (r *registration) url(ctx workflow.Context) string {
	info := workflow.GetInfo(ctx)
	return activities.WorkflowURL(r.loaded.UIAddress, info.Namespace, info.WorkflowExecution.ID, info.WorkflowExecution.RunID)
}

func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// sizeText is a size as people read it.
func sizeText(bytes int64) string {
	if bytes < 1e6 {
		return fmt.Sprintf("%.1f kB", float64(bytes)/1e3)
	}
	return fmt.Sprintf("%.1f MB", float64(bytes)/1e6)
}
