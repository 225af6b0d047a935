package workflows

import (
	"time"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/workflow"

	"registrar/activities"
	"registrar/internal/failure"
)

// SweepInput says what is left to do after a registration.
type SweepInput struct {
	// EndRun and Fence are what MLflow could not do when the registration ended; nil where nothing is left.
	EndRun *activities.FinishRunInput         `json:"end_run,omitempty"`
	Fence  *activities.FenceLoggedModelsInput `json:"fence,omitempty"`
	// Wait says that requests may still arrive: Settle after the end of the registration the leftovers are swept.
	Wait   bool                  `json:"wait"`
	Settle time.Duration         `json:"settle"`
	Sweep  activities.SweepInput `json:"sweep"`
}

func (in SweepInput) isNeeded() bool { return in.EndRun != nil || in.Fence != nil }

// SweepLeftovers does what a registration could not do at its end, and removes what its late requests left in MLflow. Nobody waits for it.
func SweepLeftovers(ctx workflow.Context, in SweepInput) (activities.SweepResult, error) {
	var result activities.SweepResult
	var failed error // what cannot be done for good, since somebody deleted the run, keeps nothing else from being done
	if in.EndRun != nil {
		if failed = insistently(ctx, func() error {
			ctx := with(ctx, cleaning, in.EndRun.Status)
			return workflow.ExecuteActivity(ctx, a.FinishRun, *in.EndRun).Get(ctx, nil)
		}); ctx.Err() != nil {
			return result, failed
		}
	}
	if in.Fence != nil {
		err := insistently(ctx, func() error {
			ctx := with(ctx, cleaning, "")
			return workflow.ExecuteActivity(ctx, a.FenceLoggedModels, *in.Fence).Get(ctx, nil)
		})
		if failed = firstOf(failed, err); ctx.Err() != nil {
			return result, failed
		}
	}
	if !in.Wait {
		return result, failed
	}
	timer := workflow.NewTimerWithOptions(ctx, in.Settle, workflow.TimerOptions{Summary: "until late requests are dead"})
	if err := timer.Get(ctx, nil); err != nil {
		return result, err
	}
	err := insistently(ctx, func() error {
		ctx := with(ctx, longCleaning, in.Sweep.Owner.Key)
		return workflow.ExecuteActivity(ctx, a.Sweep, in.Sweep).Get(ctx, &result)
	})
	return result, firstOf(failed, err)
}

// insistently takes a step that waits for nobody again where a person has something to mend first: a credential that expired, a login page in
// front of MLflow. Outages are the retry policy's.
func insistently(ctx workflow.Context, step func() error) error {
	for pause := time.Minute; ; pause = min(2*pause, longestBackoff) {
		err := step()
		if !takesPerson(err) {
			return err
		}
		timer := workflow.NewTimerWithOptions(ctx, pause, workflow.TimerOptions{Summary: "before the step is tried again"})
		if err := timer.Get(ctx, nil); err != nil {
			return err
		}
	}
}

// takesPerson tells whether a step failed by what only a person mends, and not for good.
func takesPerson(err error) bool {
	failed := kind(err)
	return failed == failure.Unauthorized || failed == failure.Misdirected
}

// startSweep starts the sweep and does not wait for it. The context is its own, and never canceled, since the sweep would be too: the one
// that a registration finishes in ends with it.
func startSweep(ctx workflow.Context, in SweepInput) error {
	ctx, _ = workflow.NewDisconnectedContext(ctx)
	info := workflow.GetInfo(ctx)
	ctx = workflow.WithChildOptions(ctx, workflow.ChildWorkflowOptions{
		WorkflowID:        SweepID(info.WorkflowExecution.ID, info.WorkflowExecution.RunID),
		ParentClosePolicy: enums.PARENT_CLOSE_POLICY_ABANDON,
		StaticSummary:     "what late requests of a registration left in MLflow",
	})
	return workflow.ExecuteChildWorkflow(ctx, SweepLeftovers, in).GetChildWorkflowExecution().Get(ctx, nil)
}
