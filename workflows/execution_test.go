package workflows_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/mock"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"registrar/activities"
	"registrar/internal/confine"
	"registrar/internal/failure"
	"registrar/internal/mlflow/mlflowtest"
	"registrar/internal/receipt"
	"registrar/workflows"
)

const (
	registrationID = "register/credit/0123456789abcdef"
	namespace      = "default-test-namespace" // the test suite's own
	settleTime     = 15 * time.Minute
)

// execution is one execution of a workflow on the SDK's test suite: real activities, virtual time, a fake MLflow, and stand-ins for the
// activities that need a Temporal server.
type execution struct {
	*testsuite.TestWorkflowEnvironment
	t          *testing.T
	server     *mlflowtest.Server
	root       string
	activities *activities.Activities
	// generation is the workflow run id that the registration's objects carry.
	generation string

	mu        sync.Mutex
	backAt    time.Time // of MLflow; zero where it is not down
	waits     []activities.Waiter
	calls     []activities.Call
	shown     []shown
	scheduled []string
	// letsEnd is an activity that a cancellation comes too late for; the test suite ends each other one itself, as canceled.
	letsEnd string
	// hears tells whether a request for promotion reaches somebody.
	hears func() bool
}

// shown is what a registration told the Temporal server of itself.
type shown struct{ state, outcome, layer, version, server string }

// newExecution is an execution that may read the files below root.
func newExecution(t *testing.T, server *mlflowtest.Server, root string) *execution {
	roots, err := confine.Open([]string{root}, nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, roots.Close()) })
	e := &execution{t: t, server: server, root: root, generation: "first", activities: &activities.Activities{
		Roots:          roots,
		Process:        map[string]string{},
		Clients:        &activities.Clients{},
		Namespace:      namespace,
		UIAddress:      "http://temporal.example",
		SettleTime:     settleTime,
		LookFor:        time.Millisecond,
		WakesPerSecond: 1e6,
		IsRunning:      func(context.Context, string, string) (bool, error) { return false, nil }, // all others have ended
	}}
	var suite testsuite.WorkflowTestSuite
	suite.SetLogger(log.NewStructuredLogger(slog.New(slog.DiscardHandler)))
	e.TestWorkflowEnvironment = suite.NewTestWorkflowEnvironment()
	e.SetTestTimeout(time.Minute)
	e.SetStartWorkflowOptions(startOptions(registrationID))
	e.SetWorkerOptions(worker.Options{
		DeadlockDetectionTimeout: time.Minute,
		Interceptors:             []interceptor.WorkerInterceptor{&observer{execution: e}},
	})
	workflows.RegisterWorkflows(e)
	e.RegisterActivity(e.activities)
	e.OnActivity(e.activities.JoinWaiting, mock.Anything, mock.Anything).Return(e.joinWaiting)
	e.OnActivity(e.activities.RequestPromotion, mock.Anything, mock.Anything).Return(e.requestPromotion)
	return e
}

func startOptions(workflowID string) client.StartWorkflowOptions {
	return client.StartWorkflowOptions{ID: workflowID, TaskQueue: workflows.TaskQueue}
}

// joinWaiting stands for MLflowAvailability: it sends the wake-up when MLflow is back, and is pending until then.
func (e *execution) joinWaiting(_ context.Context, in activities.JoinWaitingInput) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	waiter := decoded[activities.Waiter](e.t, in.Signaled)
	if len(e.waits) == 0 || e.waits[len(e.waits)-1] != waiter {
		e.waits = append(e.waits, waiter)
		e.calls = append(e.calls, in.Call)
		e.RegisterDelayedCallback(func() { e.SignalWorkflow(workflows.SignalAvailable, waiter.Nonce) }, max(0, e.backAt.Sub(e.Now())))
	}
	return temporal.NewApplicationErrorWithOptions("pending", failure.Pending, temporal.ApplicationErrorOptions{NextRetryDelay: in.LookAgainAfter})
}

// requestPromotion stands for PromoteVersions: it promotes at once, and answers by the signal.
func (e *execution) requestPromotion(ctx context.Context, in activities.Call) error {
	e.mu.Lock()
	e.calls = append(e.calls, in)
	heard := e.hears == nil || e.hears()
	e.mu.Unlock()
	if !heard {
		return nil
	}
	request := decoded[workflows.PromotionRequest](e.t, in.Signaled)
	reply := workflows.PromotionReply{Nonce: request.Nonce}
	var err error
	if reply.Result, err = e.activities.PromoteVersion(ctx, request.Promote); err != nil {
		failed, ok := errors.AsType[*temporal.ApplicationError](err)
		if !ok {
			return err
		}
		reply.Kind, reply.Message = failed.Type(), failed.Message()
		if err := failed.Details(&reply.Detail); err != nil {
			return err
		}
	}
	e.SignalWorkflow(workflows.SignalPromoted, reply)
	return nil
}

// decoded is a payload as its receiver reads it.
func decoded[T any](t *testing.T, payload any) T {
	var value T
	data, err := json.Marshal(payload)
	if err == nil {
		err = json.Unmarshal(data, &value)
	}
	if err != nil {
		t.Errorf("decode %v: %v", payload, err)
	}
	return value
}

// fail lets the fault befall the request with this number, from 1, and all that come within the time after it.
func (e *execution) fail(number int, lasts time.Duration, fault mlflowtest.Fault) {
	e.failThen(number, fault, lasts, fault)
}

// failThen lets one fault befall the request with this number, and another one all that come within the time after it.
func (e *execution) failThen(number int, first mlflowtest.Fault, lasts time.Duration, then mlflowtest.Fault) {
	e.onRequest(number, func() mlflowtest.Fault {
		e.backAt = e.Now().Add(lasts)
		return first
	}, func() mlflowtest.Fault {
		if e.Now().Before(e.backAt) {
			return then
		}
		return mlflowtest.Fault{}
	})
}

// onRequest decides on the request with this number by one function, and on those after it by the other.
func (e *execution) onRequest(number int, at, after func() mlflowtest.Fault) {
	seen := 0
	e.server.Intercept(func(*http.Request) mlflowtest.Fault {
		e.mu.Lock()
		defer e.mu.Unlock()
		seen++
		switch {
		case seen == number:
			return at()
		case seen > number:
			return after()
		}
		return mlflowtest.Fault{}
	})
}

// register runs a registration to its end, and to the end of the sweep after it.
func (e *execution) register(in workflows.RegisterInput) {
	e.t.Helper()
	e.ExecuteWorkflow(workflows.RegisterModel, in)
	require.True(e.t, e.IsWorkflowCompleted())
}

// completed is the receipt of a registration that completed.
func (e *execution) completed() receipt.Receipt {
	e.t.Helper()
	require.NoError(e.t, e.GetWorkflowError())
	var r receipt.Receipt
	require.NoError(e.t, e.GetWorkflowResult(&r))
	return r
}

// failed is the error of a registration that failed, and the receipt in its details.
func (e *execution) failed() (*temporal.ApplicationError, receipt.Receipt) {
	e.t.Helper()
	var failed *temporal.ApplicationError
	require.ErrorAs(e.t, e.GetWorkflowError(), &failed)
	var r receipt.Receipt
	require.NoError(e.t, failed.Details(&r))
	require.Equal(e.t, receipt.Failed, r.Outcome)
	return failed, r
}

// canceled is the receipt of a registration that was canceled.
func (e *execution) canceled() receipt.Receipt {
	e.t.Helper()
	var canceled *temporal.CanceledError
	require.ErrorAs(e.t, e.GetWorkflowError(), &canceled)
	var r receipt.Receipt
	require.NoError(e.t, canceled.Details(&r))
	require.Equal(e.t, receipt.Canceled, r.Outcome)
	return r
}

// states are the states that the registration published, in order, with what it waited for.
func (e *execution) states() []string {
	var states []string
	for _, s := range e.shown {
		text := s.state
		if s.layer != "" {
			text += " for " + s.layer
		}
		states = append(states, text)
	}
	return states
}

// observer gives the execution its generation, and notes what the workflow tells and asks of the Temporal server.
type observer struct {
	interceptor.WorkerInterceptorBase
	execution *execution
}

func (o *observer) InterceptWorkflow(_ workflow.Context, next interceptor.WorkflowInboundInterceptor) interceptor.WorkflowInboundInterceptor {
	i := &observedWorkflow{execution: o.execution}
	i.Next = next
	return i
}

type observedWorkflow struct {
	interceptor.WorkflowInboundInterceptorBase
	execution *execution
}

func (w *observedWorkflow) Init(outbound interceptor.WorkflowOutboundInterceptor) error {
	c := &observedCalls{execution: w.execution}
	c.Next = outbound
	return w.Next.Init(c)
}

type observedCalls struct {
	interceptor.WorkflowOutboundInterceptorBase
	execution *execution
}

func (c *observedCalls) GetInfo(ctx workflow.Context) *workflow.Info {
	info := *c.Next.GetInfo(ctx)
	info.WorkflowExecution.RunID, info.FirstRunID = c.execution.generation, c.execution.generation
	return &info
}

func (c *observedCalls) ExecuteActivity(ctx workflow.Context, activityType string, args ...any) workflow.Future {
	c.execution.scheduled = append(c.execution.scheduled, activityType)
	if activityType == c.execution.letsEnd {
		ctx, _ = workflow.NewDisconnectedContext(ctx)
	}
	return c.Next.ExecuteActivity(ctx, activityType, args...)
}

func (c *observedCalls) ExecuteLocalActivity(ctx workflow.Context, activityType string, args ...any) workflow.Future {
	c.execution.scheduled = append(c.execution.scheduled, activityType)
	return c.Next.ExecuteLocalActivity(ctx, activityType, args...)
}

func (c *observedCalls) NewTimerWithOptions(ctx workflow.Context, d time.Duration, options workflow.TimerOptions) workflow.Future {
	c.execution.scheduled = append(c.execution.scheduled, "timer "+options.Summary)
	return c.Next.NewTimerWithOptions(ctx, d, options)
}

func (c *observedCalls) UpsertMemo(ctx workflow.Context, memo map[string]any) error {
	text := func(key string) string { return decoded[string](c.execution.t, memo[key]) }
	c.execution.shown = append(c.execution.shown, shown{
		state: text(workflows.MemoState), outcome: text(workflows.MemoOutcome), layer: text(workflows.MemoLayer), version: text(workflows.MemoVersion),
	})
	return c.Next.UpsertMemo(ctx, memo)
}

func (c *observedCalls) UpsertTypedSearchAttributes(ctx workflow.Context, updates ...temporal.SearchAttributeUpdate) error {
	attributes := temporal.NewSearchAttributes(updates...)
	text := func(name string) string {
		value, _ := attributes.GetKeyword(temporal.NewSearchAttributeKeyKeyword(name))
		return value
	}
	c.execution.shown = append(c.execution.shown, shown{
		state: text("RegistrarState"), outcome: text("RegistrarOutcome"), layer: text("RegistrarWaitingFor"), version: text("RegistrarVersion"),
		server: text("RegistrarServer"),
	})
	return c.Next.UpsertTypedSearchAttributes(ctx, updates...)
}

// queried is the receipt as the running workflow tells it.
func (e *execution) queried() receipt.Receipt {
	e.t.Helper()
	value, err := e.QueryWorkflow(workflows.QueryReceipt)
	require.NoError(e.t, err)
	var r receipt.Receipt
	require.NoError(e.t, value.Get(&r))
	return r
}
