package protocol

import (
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"time"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/interceptor"
	sdklog "go.temporal.io/sdk/log"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"registrar/activities"
	"registrar/internal/mlflow/mlflowtest"
	"registrar/internal/receipt"
	"registrar/workflows"
)

// actor is one execution of a workflow, in a test environment of its own.
type actor struct {
	name      string // "A1", "sweep A1", "promoter"
	kind      string // the workflow's type
	input     any
	namespace string
	execution workflow.Execution
	started   time.Time

	env *testsuite.TestWorkflowEnvironment
	// terminated: its workflow has no say any more.
	terminated bool
	canceled   bool
	ended      bool
	result     receipt.Receipt // of a registration
	err        error
}

// owner is the tag of what the actor makes, and of what it may delete; a promoter makes nothing.
func (a *actor) owner() string { return a.namespace + "/" + a.execution.ID }

// attempt is one attempt of an activity. It goes on where Temporal has given it up: then it is a zombie.
type attempt struct {
	actor     *actor
	activity  string
	number    int
	zombie    bool
	givenUpAt int // the move at which it became a zombie
	crashes   bool
	parked    *parking

	interrupt context.CancelFunc // as a heartbeat does that learns of a cancellation
	givenUp   chan error         // what Temporal records instead of its result
}

func (a *attempt) name() string {
	if a.zombie {
		return "zombie " + a.actor.name
	}
	return a.actor.name
}

// parking is where an actor or an attempt waits for its turn: before a request, or at one of the places below.
type parking struct {
	actor   *actor
	attempt *attempt // nil at the start
	at      string
	request request
	since   int  // the move that led here
	arrived bool // what waits for this moment goes on
	events  []event
	decide  chan mlflowtest.Fault
}

func (p *parking) isRequest() bool { return p.at != atStart && p.at != atSettle && p.at != atAnswer }

func (p *parking) name() string {
	if p.attempt == nil {
		return p.actor.name
	}
	return p.attempt.name()
}

// The places to park at that are no requests.
const (
	atStart  = "start"
	atSettle = "settle time"   // until nothing sent before can arrive any more
	atAnswer = "the promotion" // asked for
)

// run lets the actor take its course until the workflow ends.
func (w *world) run(a *actor) {
	var suite testsuite.WorkflowTestSuite
	suite.SetLogger(sdklog.NewStructuredLogger(slog.New(slog.DiscardHandler)))
	a.env = suite.NewTestWorkflowEnvironment()
	a.env.SetTestTimeout(time.Hour)
	a.env.SetStartTime(a.started)
	a.env.SetStartWorkflowOptions(client.StartWorkflowOptions{ID: a.execution.ID, TaskQueue: workflows.TaskQueue})
	a.env.SetWorkerOptions(worker.Options{
		Interceptors: []interceptor.WorkerInterceptor{&stage{world: w, actor: a}}, DeadlockDetectionTimeout: time.Hour,
	})
	workflows.RegisterWorkflows(a.env)
	a.env.RegisterActivity(w.activitiesFor(a))
	a.env.RegisterActivityWithOptions(func(context.Context) error { return nil }, activity.RegisterOptions{Name: atSettle})
	w.inFlight.Go(func() {
		a.env.ExecuteWorkflow(a.kind, a.input)
		a.err = a.env.GetWorkflowError()
		if a.err == nil && a.kind == workflows.TypeRegisterModel {
			a.err = a.env.GetWorkflowResult(&a.result)
		}
		w.stops <- stop{actor: a}
	})
}

// stage stands between an execution and its world.
type stage struct {
	interceptor.WorkerInterceptorBase
	world *world
	actor *actor
}

func (s *stage) InterceptWorkflow(_ workflow.Context, next interceptor.WorkflowInboundInterceptor) interceptor.WorkflowInboundInterceptor {
	inbound := &workflowStage{stage: s}
	inbound.Next = next
	return inbound
}

func (s *stage) InterceptActivity(_ context.Context, next interceptor.ActivityInboundInterceptor) interceptor.ActivityInboundInterceptor {
	inbound := &activityStage{stage: s}
	inbound.Next = next
	return inbound
}

type workflowStage struct {
	interceptor.WorkflowInboundInterceptorBase
	stage *stage
}

func (i *workflowStage) Init(next interceptor.WorkflowOutboundInterceptor) error {
	outbound := &outsideOfWorkflow{stage: i.stage}
	outbound.Next = next
	return i.Next.Init(outbound)
}

// outsideOfWorkflow is what the test environment lacks of a Temporal server with several workflows.
type outsideOfWorkflow struct {
	interceptor.WorkflowOutboundInterceptorBase
	stage *stage
}

// GetInfo tells executions apart: in the test environment all have one run id.
func (o *outsideOfWorkflow) GetInfo(ctx workflow.Context) *workflow.Info {
	info := *o.Next.GetInfo(ctx)
	info.Namespace = o.stage.actor.namespace
	info.WorkflowExecution = o.stage.actor.execution
	info.WorkflowExecution.RunID, info.FirstRunID = o.stage.actor.execution.RunID, o.stage.actor.execution.RunID
	info.WorkflowStartTime = o.stage.actor.started
	return &info
}

// ExecuteActivity keeps WaitForCancellation, which the test environment does not: it would answer for the activity at once. When an attempt times out is
// for the world to say, and not for this machine's clock.
func (o *outsideOfWorkflow) ExecuteActivity(ctx workflow.Context, name string, args ...any) workflow.Future {
	options := workflow.GetActivityOptions(ctx)
	if ctx.Err() == nil && options.WaitForCancellation {
		ctx, _ = workflow.NewDisconnectedContext(ctx)
	}
	options.StartToCloseTimeout, options.HeartbeatTimeout = time.Hour, 0
	return o.Next.ExecuteActivity(workflow.WithActivityOptions(ctx, options), name, args...)
}

// ExecuteLocalActivity leaves it to the world, too, when an attempt times out.
func (o *outsideOfWorkflow) ExecuteLocalActivity(ctx workflow.Context, name string, args ...any) workflow.Future {
	options := workflow.GetLocalActivityOptions(ctx)
	options.StartToCloseTimeout = time.Hour
	return o.Next.ExecuteLocalActivity(workflow.WithLocalActivityOptions(ctx, options), name, args...)
}

// NewTimerWithOptions gives the settle time to the world, which knows what may still arrive. Other timers are over at once.
func (o *outsideOfWorkflow) NewTimerWithOptions(ctx workflow.Context, d time.Duration, options workflow.TimerOptions) workflow.Future {
	if !strings.Contains(options.Summary, "late request") {
		return o.Next.NewTimerWithOptions(ctx, d, options)
	}
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout: time.Hour, RetryPolicy: &temporal.RetryPolicy{MaximumAttempts: 1},
	})
	return workflow.ExecuteActivity(ctx, atSettle)
}

// ExecuteChildWorkflow starts the sweep as an execution of its own, and says that it is started.
func (o *outsideOfWorkflow) ExecuteChildWorkflow(ctx workflow.Context, _ string, args ...any) workflow.ChildWorkflowFuture {
	if !o.stage.world.isTerminated(o.stage.actor) {
		o.stage.world.startSweep(o.stage.actor, args[0].(workflows.SweepInput))
	}
	return startedChild{done(ctx)}
}

// SignalExternalWorkflow brings the promoter's answer to who asked.
func (o *outsideOfWorkflow) SignalExternalWorkflow(ctx workflow.Context, workflowID, runID, _ string, arg any) workflow.Future {
	o.stage.world.answer(workflow.Execution{ID: workflowID, RunID: runID}, arg.(workflows.PromotionReply))
	return done(ctx)
}

func done(ctx workflow.Context) workflow.Future {
	future, settable := workflow.NewFuture(ctx)
	settable.Set(nil, nil)
	return future
}

type startedChild struct{ workflow.Future }

func (c startedChild) GetChildWorkflowExecution() workflow.Future { return c.Future }
func (c startedChild) SignalChildWorkflow(workflow.Context, string, any) workflow.Future {
	return c.Future
}

type activityStage struct {
	interceptor.ActivityInboundInterceptorBase
	stage *stage
}

// ExecuteActivity runs an attempt, and returns before its end where the world gives it up.
func (i *activityStage) ExecuteActivity(ctx context.Context, in *interceptor.ExecuteActivityInput) (any, error) {
	w, a, info := i.stage.world, i.stage.actor, activity.GetInfo(ctx)
	if w.isTerminated(a) {
		return nil, errTerminated
	}
	at := &attempt{actor: a, activity: info.ActivityType.Name, number: int(info.Attempt), givenUp: make(chan error, 1)}
	// Not canceled with the test environment: a zombie outlives its workflow.
	ctx, at.interrupt = context.WithCancel(context.WithoutCancel(ctx))
	w.moves(at)

	type outcome struct {
		result any
		err    error
	}
	finished := make(chan outcome, 1)
	w.inFlight.Go(func() {
		defer at.interrupt()
		var o outcome
		switch at.activity {
		case "JoinWaiting": // MLflow answers again at once
		case atSettle:
			w.park(at, atSettle, request{})
		case "RequestPromotion":
			w.park(at, atAnswer, request{promotion: promotionIn(in.Args[0])})
		case "SnapshotModel", "ValidateMetrics":
			o.result, o.err = w.projects.once(at, func() (any, error) { return i.Next.ExecuteActivity(ctx, in) })
		case "WriteReceipt": // writes on disk, and nothing hangs on it
		default:
			o.result, o.err = i.Next.ExecuteActivity(ctx, in)
		}
		w.mu.Lock() // the world's words came by HTTP, of which Go's memory model knows nothing
		isZombie, crashes := at.zombie, at.crashes
		w.mu.Unlock()
		if isZombie {
			w.stops <- stop{attempt: at}
			return
		}
		if crashes {
			o = outcome{nil, errTimeout}
		}
		finished <- o
	})
	select {
	case o := <-finished:
		if w.isTerminated(a) {
			return nil, errTerminated
		}
		return o.result, o.err
	case err := <-at.givenUp:
		return nil, err
	}
}

// What Temporal says of an attempt whose end it never saw, and what nobody hears of a workflow that was terminated.
var (
	errTimeout    = temporal.NewTimeoutError(enums.TIMEOUT_TYPE_START_TO_CLOSE, nil)
	errTerminated = temporal.NewNonRetryableApplicationError("terminated", "Terminated", nil)
)

// promotionIn is the signal of a call, which came as JSON.
func promotionIn(arg any) workflows.PromotionRequest {
	var request workflows.PromotionRequest
	data, err := json.Marshal(arg.(activities.Call).Signaled)
	if err == nil {
		err = json.Unmarshal(data, &request)
	}
	if err != nil {
		panic(err) // into the test environment, which fails
	}
	return request
}
