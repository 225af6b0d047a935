package workflows

import (
	"slices"
	"time"

	"go.temporal.io/sdk/workflow"

	"registrar/activities"
)

const (
	// wakeAtOnce is how many waiting registrations one activity wakes.
	wakeAtOnce = 200
	// maxJoins is how many joins one execution takes before it continues as new; the server's limit is 10,000 signals.
	maxJoins = 2000
	// maxOthers bounds whose access is asked where that of the first one says nothing of MLflow.
	maxOthers = 5
)

// AvailabilityInput says which server is waited for. Waiters are those that an earlier execution of the chain handed on.
type AvailabilityInput struct {
	Server   activities.Server `json:"server"`
	Interval time.Duration     `json:"interval"`
	// Credentials tells that it is the credentials of the server's project that are waited for. Otherwise what is wrong with that one project keeps nobody
	// waiting: others are asked by, and where none is left all are woken, and see for themselves.
	Credentials bool `json:"credentials,omitempty"`
	// Others is the same server by the access of other projects that wait, or have waited.
	Others  []activities.Server `json:"others,omitempty"`
	Waiters []activities.Waiter `json:"waiters,omitempty"`
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
	for {
		var join activities.Join
		if !w.joins.ReceiveAsync(&join) {
			return
		}
		w.add(join)
	}
}

func (w *waitingRoom) add(join activities.Join) {
	w.taken++
	if slices.Contains(w.in.Waiters, join.Waiter) {
		return
	}
	w.in.Waiters = append(w.in.Waiters, join.Waiter)
	isNew := join.Server != activities.Server{} && join.Server != w.in.Server && !slices.Contains(w.in.Others, join.Server)
	if isNew && !w.in.Credentials && len(w.in.Others) < maxOthers {
		w.in.Others = append(w.in.Others, join.Server)
	}
}

// probe is how the server is looked at.
func (w *waitingRoom) probe() activities.ProbeMLflowInput {
	return activities.ProbeMLflowInput{Server: w.in.Server, Others: w.in.Others, Credentials: w.in.Credentials}
}

// untilAvailable probes until the server answers, or the history is full. A look that was refused is taken again by the access of those who came meanwhile.
func (w *waitingRoom) untilAvailable(ctx workflow.Context) error {
	for {
		asked := len(w.in.Others)
		seen, err := w.look(ctx)
		if err != nil || !seen.Refused || len(w.in.Others) == asked || w.isFull(ctx) {
			return err
		}
	}
}

// look is one activity, which is tried again at the probe interval, while joins are taken in.
func (w *waitingRoom) look(ctx workflow.Context) (seen activities.ProbeMLflowResult, err error) {
	probeCtx, stop := workflow.WithCancel(ctx)
	defer stop()
	probe := workflow.ExecuteActivity(with(probeCtx, probing(w.in.Interval), w.in.Server.TrackingURI), a.ProbeMLflow, w.probe())
	answered := false
	s := workflow.NewSelector(ctx)
	s.AddFuture(probe, func(f workflow.Future) { answered, err = true, f.Get(ctx, &seen) })
	s.AddReceive(w.joins, func(c workflow.ReceiveChannel, _ bool) {
		var join activities.Join
		c.Receive(ctx, &join)
		w.add(join)
	})
	for !answered && !w.isFull(ctx) {
		s.Select(ctx)
	}
	return seen, err
}

// wake wakes the first ones; those whom MLflow's going down again kept from it stay.
func (w *waitingRoom) wake(ctx workflow.Context) error {
	first := w.in.Waiters[:min(wakeAtOnce, len(w.in.Waiters))]
	ctx = with(ctx, waking, w.in.Server.TrackingURI)
	var result activities.WakeResult
	in := activities.WakeInput{ProbeMLflowInput: w.probe(), Signal: SignalAvailable, Waiters: first}
	if err := workflow.ExecuteActivity(ctx, a.WakeWaiting, in).Get(ctx, &result); err != nil {
		return err
	}
	w.in.Waiters = w.in.Waiters[result.Woken:]
	return nil
}
