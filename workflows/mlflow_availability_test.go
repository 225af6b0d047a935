package workflows_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/mock"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/workflow"

	"registrar/activities"
	"registrar/internal/mlflow/mlflowtest"
	"registrar/workflows"
)

const probeInterval = 10 * time.Second

// waitingRoom is an execution of MLflowAvailability, whose wake-ups a stand-in takes.
type waitingRoom struct {
	*execution
	// reaches says how many of the waiters a call wakes before MLflow goes down again; all where it is nil.
	reaches func(waiters int) int
	woken   []activities.Waiter
	wakings int
}

func newWaitingRoom(t *testing.T) *waitingRoom {
	server := mlflowtest.NewServer(t)
	w := &waitingRoom{execution: newExecution(t, server, t.TempDir())}
	w.SetStartWorkflowOptions(startOptions(workflows.AvailabilityID(server.URL, workflows.TaskQueue)))
	w.OnActivity(w.activities.WakeWaiting, mock.Anything, mock.Anything).Return(
		func(_ context.Context, in activities.WakeInput) (activities.WakeResult, error) {
			if in.Signal != workflows.SignalAvailable || in.Server != w.input().Server {
				return activities.WakeResult{}, fmt.Errorf("woken by %s for %+v", in.Signal, in.Server)
			}
			w.wakings++
			reached := len(in.Waiters)
			if w.reaches != nil {
				reached = w.reaches(reached)
			}
			w.woken = append(w.woken, in.Waiters[:reached]...)
			return activities.WakeResult{Woken: reached}, nil
		})
	return w
}

func (w *waitingRoom) input() workflows.AvailabilityInput {
	return workflows.AvailabilityInput{Server: activities.Server{TrackingURI: w.server.URL, Root: w.root}, Interval: probeInterval}
}

// joins lets waiters come after a time, and returns them.
func (w *waitingRoom) joins(after time.Duration, from, to int) []activities.Waiter {
	var waiters []activities.Waiter
	for i := from; i < to; i++ {
		waiters = append(waiters, activities.Waiter{WorkflowID: fmt.Sprintf("register/credit/%04d", i), RunID: "run", Nonce: "1"})
	}
	w.RegisterDelayedCallback(func() {
		for _, waiter := range waiters {
			w.SignalWorkflow(workflows.SignalJoin, waiter)
		}
	}, after)
	return waiters
}

// probes are the looks at the server so far.
func (w *waitingRoom) probes() int {
	return len(slices.DeleteFunc(w.server.Requests(), func(r mlflowtest.Request) bool { return !strings.Contains(r.Path, "/logged-models/m-") }))
}

func (w *waitingRoom) run() {
	w.t.Helper()
	w.ExecuteWorkflow(workflows.MLflowAvailability, w.input())
	require.True(w.t, w.IsWorkflowCompleted())
}

func TestMLflowAvailability_ProbesOnceAnIntervalForAll(t *testing.T) {
	w := newWaitingRoom(t)
	w.fail(1, 2*time.Hour, unavailable)
	begin := w.Now()
	w.joins(0, 0, 100)
	var early int
	w.RegisterDelayedCallback(func() { early = w.probes() }, time.Hour)

	w.run()

	require.NoError(t, w.GetWorkflowError())
	require.InDelta(t, time.Hour/probeInterval, early, 1)
	require.InDelta(t, 2*time.Hour/probeInterval, w.probes(), 2)
	require.Less(t, w.Now().Sub(begin), 2*time.Hour+2*probeInterval)
	require.Equal(t, []string{"ProbeMLflow", "WakeWaiting"}, w.scheduled)
}

func TestMLflowAvailability_WakesInTheOrderOfComing(t *testing.T) {
	w := newWaitingRoom(t)
	w.fail(1, time.Hour, unavailable)
	first := w.joins(0, 300, 450)
	w.joins(10*time.Minute, 300, 301) // again: an attempt of JoinWaiting that was repeated
	second := w.joins(30*time.Minute, 0, 150)

	w.run()

	require.NoError(t, w.GetWorkflowError())
	require.Equal(t, append(first, second...), w.woken)
	require.Equal(t, 2, w.wakings, "200 at a time")
}

func TestMLflowAvailability_ProbesAgainWhenMLflowGoesDownWhileItWakes(t *testing.T) {
	w := newWaitingRoom(t)
	w.fail(1, time.Hour, unavailable)
	waiters := w.joins(0, 0, 120)
	w.reaches = func(all int) int {
		if w.wakings == 1 {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.backAt = w.Now().Add(time.Hour)
			return 50
		}
		return all
	}
	begin := w.Now()

	w.run()

	require.NoError(t, w.GetWorkflowError())
	require.Equal(t, waiters, w.woken)
	require.Equal(t, 2*time.Hour, w.Now().Sub(begin).Truncate(time.Minute))
	require.Equal(t, []string{"ProbeMLflow", "WakeWaiting", "ProbeMLflow", "WakeWaiting"}, w.scheduled)
}

func TestMLflowAvailability_WakesWhoComesWhileItWakes(t *testing.T) {
	w := newWaitingRoom(t)
	w.joins(0, 0, 1)
	late := activities.Waiter{WorkflowID: "register/credit/late", RunID: "run", Nonce: "1"}
	w.reaches = func(all int) int {
		if w.wakings == 1 {
			w.SignalWorkflow(workflows.SignalJoin, late)
		}
		return all
	}

	w.run()

	require.NoError(t, w.GetWorkflowError())
	require.Equal(t, late, w.woken[len(w.woken)-1])
	require.Len(t, w.woken, 2)
}

func TestMLflowAvailability_HandsAllOnWhenItsHistoryIsFull(t *testing.T) {
	w := newWaitingRoom(t)
	w.fail(1, 24*time.Hour, unavailable)
	var waiters []activities.Waiter
	for i := range 5 { // the test suite has room for a thousand signals at once
		waiters = append(waiters, w.joins(time.Duration(i)*time.Hour, 500*i, 500*(i+1))...)
	}

	w.run()

	var again *workflow.ContinueAsNewError
	require.True(t, errors.As(w.GetWorkflowError(), &again), w.GetWorkflowError())
	var next workflows.AvailabilityInput
	require.NoError(t, converter.GetDefaultDataConverter().FromPayloads(again.Input, &next))
	want := w.input()
	want.Waiters = waiters[:2000]
	require.Equal(t, want, next)
	require.Empty(t, w.woken)
}

// blobLimit is what Temporal's server takes as the input of a workflow (limit.blobSize.error). An execution that continues as new with more is terminated.
const blobLimit = 2 << 20

func TestMLflowAvailability_HandsTenThousandOn(t *testing.T) {
	w := newWaitingRoom(t)
	w.fail(1, 24*time.Hour, unavailable)
	waiter := func(i int) activities.Waiter { // as long as those of the example are
		return activities.Waiter{
			WorkflowID: fmt.Sprintf("register/ACRAS_RandomForest_v1/%016x", i), RunID: fmt.Sprintf("00000000-0000-0000-0000-%012d", i), Nonce: "1",
		}
	}
	const all, joins = 10_000, 2000
	in := w.input()
	for i := range all - joins {
		in.Waiters = append(in.Waiters, waiter(i))
	}
	for i := all - joins; i < all; i += 500 { // the test suite has room for a thousand signals at once
		w.RegisterDelayedCallback(func() {
			for next := range 500 {
				w.SignalWorkflow(workflows.SignalJoin, waiter(i+next))
			}
		}, time.Duration(i)*time.Second)
	}

	w.ExecuteWorkflow(workflows.MLflowAvailability, in)

	var again *workflow.ContinueAsNewError
	require.True(t, errors.As(w.GetWorkflowError(), &again), w.GetWorkflowError())
	var next workflows.AvailabilityInput
	require.NoError(t, converter.GetDefaultDataConverter().FromPayloads(again.Input, &next))
	require.Len(t, next.Waiters, all)
	require.Less(t, again.Input.Size(), blobLimit)
	t.Logf("%d that wait are %d bytes, so %d of them are as many as Temporal takes", all, again.Input.Size(), all*blobLimit/again.Input.Size())
}

func TestMLflowAvailability_WakesWhomAnEarlierExecutionHandedOn(t *testing.T) {
	w := newWaitingRoom(t)
	in := w.input()
	in.Waiters = []activities.Waiter{{WorkflowID: "register/credit/1", RunID: "run", Nonce: "7"}}

	w.ExecuteWorkflow(workflows.MLflowAvailability, in)

	require.NoError(t, w.GetWorkflowError())
	require.Equal(t, in.Waiters, w.woken)
}

// The first one's token expires behind a proxy that asks for one before it finds that MLflow is down.
func TestMLflowAvailability_AsksByThoseWhoCameWhereTheFirstIsRefused(t *testing.T) {
	w := newWaitingRoom(t)
	first := w.input().Server
	other := activities.Server{TrackingURI: first.TrackingURI, Root: first.Root, Workspace: "other", WorkspaceKnown: true}
	backAt := w.Now().Add(time.Hour)
	w.server.Intercept(func(r *http.Request) mlflowtest.Fault {
		w.mu.Lock()
		defer w.mu.Unlock()
		now := w.Now()
		switch {
		case r.Header.Get("X-Mlflow-Workspace") != "other" && now.After(backAt.Add(-30*time.Minute)):
			return unauthorized
		case now.Before(backAt):
			return unavailable
		}
		return mlflowtest.Fault{}
	})
	waiters := w.joins(0, 0, 1)
	late := activities.Waiter{WorkflowID: "register/credit/other", RunID: "run", Nonce: "1"}
	w.RegisterDelayedCallback(func() { w.SignalWorkflow(workflows.SignalJoin, activities.Join{Waiter: late, Server: other}) }, time.Minute)
	var wokenAt time.Time
	w.reaches = func(all int) int { wokenAt = w.Now(); return all }

	w.run()

	require.NoError(t, w.GetWorkflowError())
	require.Equal(t, append(waiters, late), w.woken)
	require.False(t, wokenAt.Before(backAt), "nobody is woken for nothing")
	require.Equal(t, []string{"ProbeMLflow", "ProbeMLflow", "WakeWaiting"}, w.scheduled)
}

func TestMLflowAvailability_GoesOnProbingWhileCredentialsAreRefused(t *testing.T) {
	w := newWaitingRoom(t)
	w.fail(1, time.Hour, unauthorized)
	waiters := w.joins(0, 0, 1)

	w.run()

	require.NoError(t, w.GetWorkflowError())
	require.Equal(t, waiters, w.woken)
	require.True(t, strings.HasPrefix(w.scheduled[0], "Probe"))
}
