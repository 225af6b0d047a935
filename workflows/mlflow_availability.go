package workflows

import (
	"time"

	"go.temporal.io/sdk/workflow"

	"registrar/activities"
)

const (
	// wakeAtOnce is how many waiting registrations one activity wakes.
	wakeAtOnce = 200
	// maxJoins is how many joins one execution takes before it continues as new; the server's limit is 10,000 signals.
	maxJoins = 2000
)

// AvailabilityInput says which server is waited for. Waiters are those that an earlier execution of the chain handed on.
type AvailabilityInput struct {
	Server   activities.Server `json:"server"`
	Interval time.Duration     `json:"interval"`
	// Credentials tells that it is the credentials of the server's project that are waited for. Otherwise what is wrong with that one project keeps nobody
	// waiting: those of other projects are woken, and see for themselves.
	Credentials bool                `json:"credentials,omitempty"`
	Waiters     []activities.Waiter `json:"waiters,omitempty"`
}

// MLflowAvailability probes one MLflow server for all registrations that wait for it, wakes them in the order of their coming when it answers,
// and completes when nobody is left. One activity, retried at the probe interval, is all that is pending.
func MLflowAvailability(ctx workflow.Context, in AvailabilityInput) error {
	w := &waitingRoom{in: in, joins: workflow.GetSignalChannel(ctx, SignalJoin)}
	w.takeIn()
	for len(w.in.Waiters) > 0 {
		if err := w.untilAvailable(ctx); err != nil {
			return err
		}
		if w.isFull(ctx) {
			w.takeIn()
			return workflow.NewContinueAsNewError(ctx, MLflowAvailability, w.in)
		}
		if err := w.wake(ctx); err != nil {
			return err
		}
		// The server refuses a completion that has not seen a signal, so this look is the last one that is needed.
		w.takeIn()
	}
	return nil
}

// waitingRoom holds who waits.
type waitingRoom struct {
	in    AvailabilityInput
	joins workflow.ReceiveChannel
	taken int
}

func (w *waitingRoom) isFull(ctx workflow.Context) bool {
	return w.taken >= maxJoins || workflow.GetInfo(ctx).GetContinueAsNewSuggested()
}

// takeIn takes all joins that have come.
func (w *waitingRoom) takeIn() {
	var waiter activities.Waiter
	for w.joins.ReceiveAsync(&waiter) {
		w.add(waiter)
	}
}

func (w *waitingRoom) add(waiter activities.Waiter) {
	w.taken++
	for _, present := range w.in.Waiters {
		if present == waiter {
			return
		}
	}
	w.in.Waiters = append(w.in.Waiters, waiter)
}

// untilAvailable probes until the server answers, or the history is full.
func (w *waitingRoom) untilAvailable(ctx workflow.Context) error {
	probeCtx, stop := workflow.WithCancel(ctx)
	defer stop()
	probe := workflow.ExecuteActivity(with(probeCtx, probing(w.in.Interval), w.in.Server.TrackingURI), a.ProbeMLflow,
		activities.ProbeMLflowInput{Server: w.in.Server, Credentials: w.in.Credentials})
	answered := false
	var failed error
	s := workflow.NewSelector(ctx)
	s.AddFuture(probe, func(f workflow.Future) { answered, failed = true, f.Get(ctx, nil) })
	s.AddReceive(w.joins, func(c workflow.ReceiveChannel, _ bool) {
		var waiter activities.Waiter
		c.Receive(ctx, &waiter)
		w.add(waiter)
	})
	for !answered && !w.isFull(ctx) {
		s.Select(ctx)
	}
	return failed
}

// wake wakes the first ones; those whom MLflow's going down again kept from it stay.
func (w *waitingRoom) wake(ctx workflow.Context) error {
	first := w.in.Waiters[:min(wakeAtOnce, len(w.in.Waiters))]
	ctx = with(ctx, waking, w.in.Server.TrackingURI)
	var result activities.WakeResult
	in := activities.WakeInput{Server: w.in.Server, Credentials: w.in.Credentials, Signal: SignalAvailable, Waiters: first}
	if err := workflow.ExecuteActivity(ctx, a.WakeWaiting, in).Get(ctx, &result); err != nil {
		return err
	}
	w.in.Waiters = w.in.Waiters[result.Woken:]
	return nil
}
