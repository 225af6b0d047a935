package waiting

import (
	"cmp"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/converter"

	"registrar/activities"
	"registrar/internal/mlflow"
	"registrar/internal/servertest"
	"registrar/workflows"
)

// crowd is many registrations of as many models, and the MLflow server that they wait for.
type crowd struct {
	*site
	mlflow *outage
	ids    []string
	// started is how many of them are.
	started int
	// patience bounds all that happens to the crowd, on machines that are busy with everything else.
	patience time.Duration
}

func newCrowd(t testing.TB, size int, probeInterval time.Duration) *crowd {
	t.Helper()
	c := &crowd{site: newSite(t), mlflow: newOutage(t), patience: 3*time.Minute + time.Duration(size)*2*time.Second}
	for i := range size {
		name := fmt.Sprintf("model-%04d", i)
		c.newProject(name, c.mlflow.URL, probeInterval)
		c.ids = append(c.ids, "register/"+name+"/by-hand")
	}
	return c
}

// smaller is the size of the crowds in which something is killed: it is the moments that count there.
func smaller() int { return max(min(*registrations, 20), *registrations/8) }

// startAll starts all registrations, and returns when all of them wait.
func (c *crowd) startAll() {
	c.t.Helper()
	c.startUpTo(len(c.ids))
}

// startUpTo starts registrations until there are that many, and returns when all of them wait.
func (c *crowd) startUpTo(number int) {
	c.t.Helper()
	for ; c.started < number; c.started++ {
		c.start(c.ids[c.started], fmt.Sprintf("%s/model-%04d", c.folder, c.started))
	}
	c.eventually(func() bool {
		counted, err := c.client.CountWorkflow(c.t.Context(), &workflowservice.CountWorkflowExecutionsRequest{
			Namespace: c.temporal.Namespace, Query: "RegistrarState = 'waiting'",
		})
		return err == nil && counted.GetCount() == int64(number)
	}, "all are shown as waiting")
	c.eventually(func() bool { return len(c.came()) == number }, "all have joined")
}

// came are the registrations that wait, in the order of their coming, as the one that probes for all was told.
func (c *crowd) came() []string {
	c.t.Helper()
	id := workflows.AvailabilityID(c.mlflow.URL, workflows.TaskQueue)
	described, err := c.client.DescribeWorkflowExecution(c.t.Context(), id, "")
	if err != nil {
		return nil // not started yet
	}
	var came []string
	known := map[string]bool{}
	for runID := described.GetWorkflowExecutionInfo().GetFirstRunId(); runID != ""; {
		events := c.history(id, runID)
		for _, event := range events {
			if signaled := event.GetWorkflowExecutionSignaledEventAttributes(); signaled.GetSignalName() == workflows.SignalJoin {
				var waiter activities.Waiter
				require.NoError(c.t, converter.GetDefaultDataConverter().FromPayloads(signaled.GetInput(), &waiter))
				if !known[waiter.WorkflowID] {
					came = append(came, waiter.WorkflowID)
				}
				known[waiter.WorkflowID] = true
			}
		}
		runID = events[len(events)-1].GetWorkflowExecutionContinuedAsNewEventAttributes().GetNewExecutionRunId()
	}
	return came
}

// wakeUp is the first one that a registration got.
type wakeUp struct {
	id string
	at time.Time
}

// wakeUps are those that came so far, in the order of their coming.
func (c *crowd) wakeUps() []wakeUp {
	c.t.Helper()
	var all []wakeUp
	for _, id := range c.ids {
		events := c.history(id, "")
		first := slices.IndexFunc(events, func(e *historypb.HistoryEvent) bool {
			return e.GetWorkflowExecutionSignaledEventAttributes().GetSignalName() == workflows.SignalAvailable
		})
		if first >= 0 {
			all = append(all, wakeUp{id, events[first].GetEventTime().AsTime()})
		}
	}
	slices.SortFunc(all, func(a, b wakeUp) int { return a.at.Compare(b.at) })
	return all
}

func (c *crowd) history(workflowID, runID string) []*historypb.HistoryEvent {
	c.t.Helper()
	var history []*historypb.HistoryEvent
	events := c.client.GetWorkflowHistory(c.t.Context(), workflowID, runID, false, enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for events.HasNext() {
		event, err := events.Next()
		require.NoError(c.t, err)
		history = append(history, event)
	}
	return history
}

// requireAllRegistered waits for the end of all, and sees that each has one run, one logged model and one version, and that nothing is beside.
func (c *crowd) requireAllRegistered() {
	c.t.Helper()
	for _, id := range c.ids {
		c.requireRegistered(id, c.patience)
	}
	// A sweep removes what an attempt that was killed left.
	c.eventually(func() bool { return len(c.mlflow.LoggedModels()) == len(c.ids) && len(c.activeRuns()) == len(c.ids) }, "one of each")
	keys := map[string]bool{}
	for _, v := range c.mlflow.ModelVersions() {
		require.Equal(c.t, activities.Stage, v.CurrentStage)
		require.NotEmpty(c.t, tagged(v.Tags, activities.TagCompleted), "version of %s is completed", v.Name)
		keys[tagged(v.Tags, activities.TagKey)] = true
	}
	require.Len(c.t, c.mlflow.ModelVersions(), len(c.ids), "versions")
	require.Len(c.t, keys, len(c.ids), "versions of different files")
	for _, run := range c.activeRuns() {
		require.Equal(c.t, mlflow.RunFinished, run.Info.Status)
	}
	for _, model := range c.mlflow.LoggedModels() {
		require.Equal(c.t, mlflow.LoggedModelReady, model.Info.Status)
	}
}

func (c *crowd) activeRuns() []mlflow.Run {
	return slices.DeleteFunc(c.mlflow.Runs(), func(r mlflow.Run) bool { return r.Info.LifecycleStage != mlflow.LifecycleActive })
}

func tagged(tags []mlflow.Tag, key string) string {
	for _, tag := range tags {
		if tag.Key == key {
			return tag.Value
		}
	}
	return ""
}

// awaitWakeUps waits until this many have been woken: so far has the drain come.
func (c *crowd) awaitWakeUps(number int) {
	c.t.Helper()
	c.eventually(func() bool { return len(c.wakeUps()) >= number }, fmt.Sprintf("%d woken", number))
}

func (c *crowd) eventually(condition func() bool, message string) {
	c.t.Helper()
	// A look at a crowd may read thousands of events.
	interval := cmp.Or(time.Duration(len(c.ids))*time.Millisecond, time.Millisecond)
	require.Eventually(c.t, condition, c.patience, max(interval, 100*time.Millisecond), message)
}

func TestCrowd_WaitsAsCheaplyAsOneAndIsLetLooseInOrder(t *testing.T) {
	t.Parallel()
	probeInterval, window := time.Second, 5*time.Second
	if *full {
		probeInterval, window = 5*time.Second, time.Minute
	}
	c := newCrowd(t, *registrations, probeInterval)
	worker := c.startWorker()
	figures{{"probe interval", probeInterval}}.print()

	// While they wait: the more of them, the more of what costs nothing.
	var resident []float64 // of the worker, in MB
	for _, number := range stages(len(c.ids)) {
		began := time.Now()
		c.startUpTo(number)
		joined := time.Since(began)
		one := c.ids[0]
		length := c.historyLength(one)
		cost, probes := c.costOf(worker, window)
		resident = append(resident, cost.megabytes[0])
		figures{
			{"registrations that wait", number},
			{"  seconds until these, too, wait", joined.Seconds()},
			{"  probes a minute", float64(probes) / cost.over.Minutes()},
			{"  worker: RSS MB", cost.megabytes[0]},
			{"  worker: CPU % of a core", 100 * cost.cpu[0]},
			{"  Temporal: RSS MB", cost.megabytes[1]},
			{"  Temporal: CPU % of a core", 100 * cost.cpu[1]},
			{"  events of one that waits", length},
		}.print()

		require.LessOrEqual(t, probes, int(cost.over/probeInterval)+1, "one probe an interval, for all")
		require.Positive(t, probes)
		require.Equal(t, length, c.historyLength(one), "waiting adds no event")
		require.Less(t, length, int64(60))
		require.Less(t, cost.cpu[0], idle, "the worker is idle: parts of a core")
	}
	if len(c.ids) >= 4*cached {
		require.Less(t, resident[len(resident)-1], 1.25*resident[0]+16, "the worker's memory does not grow with those that wait: MB")
	}
	came := c.came()

	// When MLflow is back.
	began := time.Now()
	c.mlflow.end()
	c.requireAllRegistered()
	drained := time.Since(began)

	woken := c.wakeUps()
	order := make([]string, 0, len(woken))
	for _, w := range woken {
		order = append(order, w.id)
	}
	spread := woken[len(woken)-1].at.Sub(woken[0].at)
	figures{
		{"wake-ups a second, allowed", *wakes},
		{"seconds from first to last wake-up", spread.Seconds()},
		{"milliseconds from first good probe to first wake-up", woken[0].at.Sub(c.mlflow.firstServed()).Seconds() * 1000},
		{"seconds to drain, fake MLflow", drained.Seconds()},
	}.print()
	require.Equal(t, came, order, "in the order of their coming")
	fastest := time.Duration(float64(len(woken)-1) / *wakes * float64(time.Second))
	require.GreaterOrEqual(t, woken[len(woken)-1].at.Sub(c.mlflow.firstServed()), fastest, "no faster than --wakes-per-second")
	const slack = 10 * time.Second // on a machine that is busy; it takes milliseconds
	require.Less(t, c.mlflow.firstServed().Sub(began), probeInterval+slack, "the next probe sees MLflow back")
	require.Less(t, woken[0].at.Sub(c.mlflow.firstServed()), slack, "and wakes")
}

// costOf is what waiting costs the worker and Temporal, and how often MLflow was asked meanwhile. On a machine that is busy with everything else the
// last ones that joined may still keep the worker from its rest.
func (c *crowd) costOf(worker *servertest.Process, window time.Duration) (spent cost, probes int) {
	c.t.Helper()
	for deadline := time.Now().Add(c.patience); ; {
		before, began := usageOf(c.t, worker.PID(), c.temporal.PID()), time.Now()
		<-time.After(window)
		spent, probes = usageOf(c.t, worker.PID(), c.temporal.PID()).since(before), c.mlflow.askedSince(began)
		if spent.cpu[0] < idle || time.Now().After(deadline) {
			return spent, probes
		}
	}
}

// idle is how much of a core a worker may take whose registrations all wait.
const idle = 0.2

// cached is how many executions a worker keeps in memory: what waits beyond them should cost it nothing.
const cached = 200

// stages are the numbers of registrations that the cost of waiting is looked at with: in full, to see whether it grows.
func stages(all int) []int {
	if !*full {
		return []int{all}
	}
	return []int{(all + 3) / 4, (all + 1) / 2, all}
}

func (c *crowd) historyLength(workflowID string) int64 {
	c.t.Helper()
	described, err := c.client.DescribeWorkflowExecution(c.t.Context(), workflowID, "")
	require.NoError(c.t, err)
	return described.GetWorkflowExecutionInfo().GetHistoryLength()
}

func TestCrowd_LosesNobodyWhenWorkerAndTemporalAreKilledWhileItIsLetLoose(t *testing.T) {
	t.Parallel()
	c := newCrowd(t, smaller(), time.Second)
	rate := fmt.Sprint(float64(len(c.ids)) / 40) // it takes 40 s to wake them all
	worker := c.startWorker("--wakes-per-second", rate)
	c.startAll()
	c.mlflow.end()

	c.awaitWakeUps(len(c.ids) / 4)
	worker.Kill()
	require.Less(t, len(c.wakeUps()), len(c.ids), "woken when the worker is killed")
	c.startWorker("--wakes-per-second", rate)
	c.awaitWakeUps(len(c.ids) / 2)
	require.Less(t, len(c.wakeUps()), len(c.ids), "woken when Temporal is killed")
	c.killTemporal()

	c.requireAllRegistered()
}

func TestCrowd_WhoJoinsWhileTheProberEndsIsWoken(t *testing.T) {
	t.Parallel()
	c := newCrowd(t, smaller(), time.Second)
	c.mlflow.end()
	c.mlflow.refuseRuns(2 * 3)                   // two waits each: a step is tried three times
	c.startWorker("--wakes-per-second", "10000") // so that the prober has soon woken everybody

	// They come one after the other, so that it ends again and again, and surely once: half-way they wait for that.
	pace := time.NewTicker(200 * time.Millisecond)
	defer pace.Stop()
	for i, id := range c.ids {
		<-pace.C
		if i == len(c.ids)/2 {
			c.eventually(c.proberEnded, "the prober ends when nobody waits")
		}
		c.start(id, fmt.Sprintf("%s/model-%04d", c.folder, i))
	}
	c.requireAllRegistered()

	probers := c.probers()
	require.Greater(t, len(probers), 1, "the prober ended while others were still to come")
	t.Logf("the prober ended %d times, %d times of them when another join had just come", len(probers), c.refusedEnds(probers))
}

// probers are the executions of the one that probes for all.
func (c *crowd) probers() (runIDs []string) {
	c.t.Helper()
	listed, err := c.client.ListWorkflow(c.t.Context(), &workflowservice.ListWorkflowExecutionsRequest{
		Namespace: c.temporal.Namespace,
		Query:     fmt.Sprintf("WorkflowId = '%s'", workflows.AvailabilityID(c.mlflow.URL, workflows.TaskQueue)),
	})
	require.NoError(c.t, err)
	for _, info := range listed.GetExecutions() {
		runIDs = append(runIDs, info.GetExecution().GetRunId())
	}
	return runIDs
}

// proberEnded tells whether the one that probes for all was there, and is no more.
func (c *crowd) proberEnded() bool {
	c.t.Helper()
	described, err := c.client.DescribeWorkflowExecution(c.t.Context(), workflows.AvailabilityID(c.mlflow.URL, workflows.TaskQueue), "")
	return err == nil && described.GetWorkflowExecutionInfo().GetStatus() == enums.WORKFLOW_EXECUTION_STATUS_COMPLETED
}

// refusedEnds counts the completions that the server refused since a signal had come that the workflow had not seen.
func (c *crowd) refusedEnds(runIDs []string) (n int) {
	c.t.Helper()
	for _, runID := range runIDs {
		for _, event := range c.history(workflows.AvailabilityID(c.mlflow.URL, workflows.TaskQueue), runID) {
			if event.GetWorkflowTaskFailedEventAttributes().GetCause() == enums.WORKFLOW_TASK_FAILED_CAUSE_UNHANDLED_COMMAND {
				n++
			}
		}
	}
	return n
}
