package workflows

import (
	"cmp"
	"fmt"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"registrar/activities"
	"registrar/internal/failure"
	"registrar/internal/receipt"
)

// RegisterModel registers one model: one run and one version, or none. It may be started again under the same id when it has ended: the
// rules are judged anew, and MLflow tells what is there already.
//
// A registration that was registered, was registered already or was rejected completes with its receipt; one that failed, or was canceled in
// time, ends with an error whose details are the receipt.
func RegisterModel(ctx workflow.Context, in RegisterInput) (Result, error) {
	r, err := newRegistration(ctx, in)
	if err != nil {
		return Result{}, err
	}
	outcome, err := r.register(ctx)
	return r.finish(ctx, outcome, err)
}

// register is the story of a registration.
func (r *registration) register(ctx workflow.Context) (receipt.Outcome, error) {
	if err := r.loadConfig(ctx); err != nil {
		return receipt.Failed, err
	}
	if err := r.snapshotModel(ctx); err != nil {
		return receipt.Failed, err
	}
	if err := r.validateMetrics(ctx); err != nil {
		return receipt.Failed, err
	}
	if !r.receipt.Decision.Passed {
		return receipt.Rejected, nil
	}
	if err := r.waitForMLflow(ctx); err != nil {
		return receipt.Failed, err
	}
	if err := r.lookUp(ctx); err != nil {
		return receipt.Failed, err
	}
	if outcome, ok, err := r.finishFound(ctx); ok {
		return outcome, err
	}
	if err := r.fenceEarlier(ctx, r.found.Unversioned); err != nil {
		return receipt.Failed, err
	}
	if err := r.createVersion(ctx); err != nil {
		return r.unlessForgotten(ctx, err)
	}
	if err := r.recordVersion(ctx); err != nil {
		return receipt.Failed, err
	}
	return receipt.Registered, r.complete(ctx)
}

// finishFound takes up the version that was found: it is completed, or decided on and to be completed.
func (r *registration) finishFound(ctx workflow.Context) (outcome receipt.Outcome, ok bool, err error) {
	switch {
	case r.found.Completed != nil:
		r.setVersion(*r.found.Completed)
		return receipt.AlreadyRegistered, true, nil
	case r.found.Decided != nil:
		r.setVersion(*r.found.Decided)
		return receipt.Registered, true, r.complete(ctx)
	}
	return "", false, nil
}

// unlessForgotten is the end of a registration that cannot make its version, or shall not, unless it made one long ago: where Temporal was restored
// from an older backup, the files that a step needs are gone, and the version is served. Then it must not be cleaned up.
func (r *registration) unlessForgotten(ctx workflow.Context, failed error) (receipt.Outcome, error) {
	if r.mlflowRun.RunID == "" {
		return receipt.Failed, failed
	}
	d, cancel := workflow.NewDisconnectedContext(ctx)
	defer cancel()
	d = with(d, onMLflow, "before cleaning up")
	if err := workflow.ExecuteActivity(d, a.LookUp, r.lookUpInput()).Get(d, &r.found); err != nil {
		r.unsure = true
		return receipt.Failed, failed
	}
	// What another owner registered meanwhile is no reason to leave what is ours behind.
	if v := cmp.Or(r.found.Completed, r.found.Decided); v == nil || v.RunID != r.mlflowRun.RunID {
		return receipt.Failed, failed
	}
	outcome, _, err := r.finishFound(ctx)
	return outcome, err
}

// createVersion makes the run, the logged model and the version. What somebody deletes meanwhile is made again, a few times.
func (r *registration) createVersion(ctx workflow.Context) error {
	for round := 1; ; round++ {
		if err := r.logRun(ctx); err != nil {
			return err
		}
		err := r.uploadAndRegister(ctx)
		if kind(err) != failure.Gone || round == maxDeletions {
			return err
		}
	}
}

// uploadAndRegister makes the version. A logged model serves one request to make a version, ever: where that request's outcome stays open
// and no version is seen, the logged model is condemned, here in the history, before it is deleted, and another one is uploaded.
func (r *registration) uploadAndRegister(ctx workflow.Context) error {
	for len(r.condemned) < maxCondemned {
		if err := r.uploadModel(ctx); err != nil {
			return err
		}
		version, err := r.registerVersion(ctx)
		if err != nil {
			return err
		}
		if version != "" {
			r.setVersion(activities.Version{
				Name: r.receipt.ModelName, Version: version, RunID: r.mlflowRun.RunID, ModelID: r.model.ModelID, ExperimentID: r.mlflowRun.ExperimentID,
			})
			return nil
		}
		if err := r.condemn(ctx); err != nil {
			return err
		}
	}
	return temporal.NewNonRetryableApplicationError(
		fmt.Sprintf("register version: MLflow left the outcome of model-versions/create open %d times, and never had the version", maxCondemned),
		failure.UnknownOutcome, nil)
}

// complete promotes the version, ends its run, and marks it as completed, last of all. The version is there and decided on, so a
// cancellation comes too late.
func (r *registration) complete(ctx workflow.Context) error {
	d, cancel := workflow.NewDisconnectedContext(ctx)
	defer cancel()
	err := r.promote(d)
	if err == nil {
		err = r.finishRun(d, activities.RunFinished)
	}
	if kind(err) == failure.Gone {
		r.endRunOfDeleted(d)
	}
	if err != nil {
		return err
	}
	if ctx.Err() != nil {
		r.warn(fmt.Sprintf("the cancellation came too late: version %s existed already", r.receipt.ModelVersion))
	}
	return nil
}
