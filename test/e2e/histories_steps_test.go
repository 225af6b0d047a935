package e2e

import (
	"context"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/worker"

	"registrar/activities"
	"registrar/config"
	"registrar/internal/confine"
	"registrar/internal/mlflow"
	"registrar/internal/receipt"
	"registrar/workflows"
)

// outagesAtStep are the steps at which MLflow goes down, each with the request whose loss leads there; "" where every registration
// takes the step. What happens to CheckMLflowHealth is outage_at_start.
var outagesAtStep = map[string]struct {
	request string
	fault   fault
}{
	"LookUp":            {},
	"LogRun":            {},
	"UploadModel":       {},
	"RegisterVersion":   {},
	"LookForVersion":    {"model-versions/create", fault{cutAfter: true}},
	"FenceLoggedModels": {"model-versions/create", fault{cutBefore: true}},
	"RecordVersion":     {},
	"PromoteVersion":    {},
	"FinishRun":         {},
}

// recordOutageAt is for an outage that begins when a step does.
func recordOutageAt(step string) func(*recording) {
	return func(r *recording) {
		if prepared := outagesAtStep[step]; prepared.request != "" {
			r.gateway.next(prepared.request, prepared.fault)
		}
		r.startWorkerWith(meanwhile{activity: step, happen: func(context.Context) { r.gateway.close() }})
		a := r.register()
		require.Equal(r.t, receipt.Waiting, a.receipt.State)
		if step == "PromoteVersion" {
			r.save("promotion_in_outage", workflows.PromotionID(a.receipt.ModelName, a.receipt.TrackingURI, ""))
		}
		r.gateway.open()
		r.requireOutcome(receipt.Registered, r.result(a.receipt.WorkflowID))
		r.save("outage_at_"+snake(step), a.receipt.WorkflowID)
	}
}

// cancellationsAtStep are all steps of a registration, with what becomes of one that is canceled when the step begins.
var cancellationsAtStep = map[string]receipt.Outcome{
	"LoadConfig":        receipt.Canceled,
	"SnapshotModel":     receipt.Canceled,
	"ValidateMetrics":   receipt.Canceled,
	"CheckMLflowHealth": receipt.Canceled,
	"LookUp":            receipt.Canceled,
	"LogRun":            receipt.Canceled,
	"UploadModel":       receipt.Canceled,
	"RegisterVersion":   receipt.Registered,
	"RecordVersion":     receipt.Registered,
	"RequestPromotion":  receipt.Registered,
	"FinishRun":         receipt.Registered,
	"WriteReceipt":      receipt.Registered,
}

// recordCanceledAt is for a cancellation that the workflow hears of after the step has begun, and before it ends.
func recordCanceledAt(step string) func(*recording) {
	return func(r *recording) {
		r.startWorkerWith(meanwhile{activity: step, happen: r.cancelFromWithin})
		id := r.register("--wait", "none").receipt.WorkflowID
		r.requireOutcome(cancellationsAtStep[step], r.result(id))
		r.save("canceled_at_"+snake(step), id)
	}
}

func recordCanceledWhileBlocked(r *recording) {
	r.startWorkerWith(meanwhile{activity: "LogRun", happen: func(context.Context) {
		r.gateway.admit(func(*http.Request) bool { return false })
	}})
	a := r.register()
	require.Equal(r.t, receipt.Blocked, a.receipt.State)
	r.requireOutcome(receipt.Canceled, r.starter("cancel", a.receipt.WorkflowID).receipt)
	r.save("canceled_while_blocked", a.receipt.WorkflowID)
}

func recordCanceledTooLateInOutage(r *recording) {
	r.startWorkerWith(meanwhile{activity: "RecordVersion", happen: func(context.Context) { r.gateway.close() }})
	a := r.register()
	require.Equal(r.t, receipt.Waiting, a.receipt.State)
	require.NoError(r.t, r.client.CancelWorkflow(r.t.Context(), a.receipt.WorkflowID, ""))
	r.gateway.open()
	r.requireOutcome(receipt.Registered, r.result(a.receipt.WorkflowID))
	r.save("canceled_too_late_in_outage", a.receipt.WorkflowID)
}

func recordVersionDeleted(r *recording) {
	deleted := make(chan error, 1)
	mlflowNow := registryAt(r.t, r.mlflowURI)
	r.startWorkerWith(meanwhile{activity: "PromoteVersion", happen: func(ctx context.Context) {
		deleted <- mlflowNow.client.DeleteModelVersion(ctx, r.project.modelName, "1")
	}})
	registering := r.register("--wait", "none").receipt
	r.requireOutcome(receipt.Failed, r.result(registering.WorkflowID))
	require.NoError(r.t, <-deleted)
	runs := mlflowNow.ofKey(registering.RegistrationKey).runs
	require.Len(r.t, runs, 1)
	require.Equal(r.t, mlflow.RunFailed, runs[0].Info.Status)
	r.save("version_deleted", registering.WorkflowID)
}

// cancelFromWithin cancels the registration that a step belongs to, and holds the step up until the workflow has heard of it, and the step
// too where the workflow lets it know.
func (r *recording) cancelFromWithin(ctx context.Context) { r.cancelUntil(ctx, r.hasHeard) }

// cancelUntil cancels the registration that a step belongs to, and holds the step up until the registration is as far as is wanted.
func (r *recording) cancelUntil(ctx context.Context, isFarEnough func(workflowID, runID string) bool) {
	registering := activity.GetInfo(ctx).WorkflowExecution
	if err := r.client.CancelWorkflow(ctx, registering.ID, ""); err != nil {
		r.t.Errorf("cancel %s: %v", registering.ID, err)
		return
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for !isFarEnough(registering.ID, registering.RunID) {
		select {
		case <-tick.C:
			activity.RecordHeartbeat(ctx)
		case <-ctx.Done():
			return
		}
	}
}

// hasHeard tells whether a workflow took its cancellation in, and has no step that it wants canceled.
func (r *recording) hasHeard(workflowID, runID string) bool {
	canceled, heard := false, false
	for _, event := range r.history(workflowID, runID).GetEvents() {
		switch event.GetEventType() { //nolint:exhaustive // what else happens does not matter
		case enums.EVENT_TYPE_WORKFLOW_EXECUTION_CANCEL_REQUESTED:
			canceled = true
		case enums.EVENT_TYPE_WORKFLOW_TASK_COMPLETED:
			heard = canceled
		case enums.EVENT_TYPE_ACTIVITY_TASK_CANCEL_REQUESTED:
			return false
		}
	}
	return heard
}

// recordCanceledAsUploadEnds is for a cancellation that the upload does not hear of any more.
func recordCanceledAsUploadEnds(r *recording) {
	r.startWorkerWith(meanwhile{activity: "UploadModel", atEnd: true, happen: func(ctx context.Context) { r.cancelUntil(ctx, r.wantsStepCanceled) }})
	id := r.register("--wait", "none").receipt.WorkflowID
	r.requireOutcome(receipt.Canceled, r.result(id))
	r.save("canceled_as_upload_ends", id)
}

func (r *recording) wantsStepCanceled(workflowID, runID string) bool {
	return slices.ContainsFunc(r.history(workflowID, runID).GetEvents(), func(event *historypb.HistoryEvent) bool {
		return event.GetEventType() == enums.EVENT_TYPE_ACTIVITY_TASK_CANCEL_REQUESTED
	})
}

// history is all of an execution so far.
func (r *recording) history(workflowID, runID string) *historypb.History {
	var history historypb.History
	events := r.client.GetWorkflowHistory(r.t.Context(), workflowID, runID, false, enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for events.HasNext() {
		event, err := events.Next()
		if err != nil {
			r.t.Errorf("read the history of %s: %v", workflowID, err)
			break
		}
		history.Events = append(history.Events, event)
	}
	return &history
}

// startWorkerWith serves the site from this process, so that something can happen when a step begins. It ends with the test.
func (r *recording) startWorkerWith(m meanwhile) {
	r.t.Helper()
	roots, err := confine.Open([]string{r.project.root}, nil)
	require.NoError(r.t, err)
	r.t.Cleanup(func() { _ = roots.Close() })
	w := worker.New(r.client, r.taskQueue(), worker.Options{
		MaxHeartbeatThrottleInterval:     time.Second,
		DefaultHeartbeatThrottleInterval: time.Second,
		Interceptors:                     []interceptor.WorkerInterceptor{&onceMeanwhile{meanwhile: m}},
	})
	workflows.Register(w, &activities.Activities{
		Roots:            roots,
		Process:          config.ProcessEnvironment(r.environment()),
		Clients:          &activities.Clients{Timeouts: mlflow.Timeouts{Dial: 2 * time.Second}},
		Namespace:        "default",
		SearchAttributes: func() bool { return true },
		SettleTime:       settleTime,
		LookFor:          time.Second,
		WakesPerSecond:   5,
	})
	require.NoError(r.t, w.Start())
	r.t.Cleanup(w.Stop)
}

// meanwhile is what happens when an activity begins, before it does anything, or when it has ended, before Temporal hears of that.
type meanwhile struct {
	activity string
	atEnd    bool
	happen   func(context.Context)
}

// onceMeanwhile lets it happen at the first attempt of the first such activity.
type onceMeanwhile struct {
	interceptor.WorkerInterceptorBase
	meanwhile

	once sync.Once
}

func (o *onceMeanwhile) InterceptActivity(_ context.Context, next interceptor.ActivityInboundInterceptor) interceptor.ActivityInboundInterceptor {
	return &attended{ActivityInboundInterceptorBase: interceptor.ActivityInboundInterceptorBase{Next: next}, meanwhile: o}
}

// attended is an activity with what happens meanwhile.
type attended struct {
	interceptor.ActivityInboundInterceptorBase
	meanwhile *onceMeanwhile
}

func (i *attended) ExecuteActivity(ctx context.Context, in *interceptor.ExecuteActivityInput) (any, error) {
	if activity.GetInfo(ctx).ActivityType.Name != i.meanwhile.activity {
		return i.Next.ExecuteActivity(ctx, in)
	}
	happen := func() { i.meanwhile.once.Do(func() { i.meanwhile.happen(ctx) }) }
	if i.meanwhile.atEnd {
		defer happen()
	} else {
		happen()
	}
	return i.Next.ExecuteActivity(ctx, in)
}

var wordStart = regexp.MustCompile(`([a-z])([A-Z])`)

// snake is a step's name as it stands in a file's: LogRun is log_run. MLflow is one word.
func snake(step string) string {
	step = strings.ReplaceAll(step, "MLflow", "Mlflow")
	return strings.ToLower(wordStart.ReplaceAllString(step, "${1}_${2}"))
}
