package workflows

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"registrar/activities"
	"registrar/internal/failure"
	"registrar/internal/receipt"
)

// longestBackoff bounds the pause of a registration whose step fails again though MLflow answers the probe.
const longestBackoff = time.Hour

// patiently takes a step that talks to MLflow, and takes it again after each outage, however long that lasts. Any other error is returned.
// A canceled ctx ends the waiting, and so does max_wait as long as there is no version.
func (r *registration) patiently(ctx workflow.Context, step func(workflow.Context) error) error {
	o := outage{registration: r}
	err := o.repeat(ctx, step)
	o.measure(ctx)
	return err
}

// repeat takes the step until it succeeds, or fails with what is no outage.
func (o *outage) repeat(ctx workflow.Context, step func(workflow.Context) error) error {
	r := o.registration
	for {
		err := step(ctx)
		if err == nil {
			r.reached = true
			return nil
		}
		state, waits := r.waitsOn(err)
		if !waits {
			return err
		}
		if o.attempts++; o.attempts == 1 {
			o.since = workflow.Now(ctx)
		}
		o.layer = detailOf(err).Layer
		r.receipt.State = state
		r.receipt.Waiting = &receipt.Wait{Since: o.since, Layer: o.layer, LastError: message(err), Attempts: o.attempts}
		if err := r.publish(ctx); err != nil {
			return err
		}
		if err := o.wait(ctx); err != nil {
			return err
		}
		r.receipt.State, r.receipt.Waiting = receipt.Running, nil
		if err := r.publish(ctx); err != nil {
			return err
		}
	}
}

// waitsOn tells whether an error ends by itself, or by a person who mends a credential.
func (r *registration) waitsOn(err error) (receipt.State, bool) {
	switch {
	case kind(err) == failure.Outage, kind(err) == failure.Interrupted, temporal.IsTimeoutError(err):
		return receipt.Waiting, true
	case kind(err) == failure.Misdirected && r.reached:
		return receipt.Waiting, true
	case kind(err) == failure.Unauthorized && r.reached:
		return receipt.Blocked, true
	}
	return "", false
}

// outage is one step's waiting.
type outage struct {
	*registration
	since    time.Time // of its first failure
	attempts int
	layer    string // that did not answer last
	// falseWakes counts the wake-ups in a row that came at once, and after which the step failed all the same: the probe does not see
	// what the step sees.
	falseWakes int
}

// wait returns when MLflow answers again, or somebody says recheck. It costs one pending activity, however long it takes.
func (o *outage) wait(ctx workflow.Context) error {
	ctx, stop := workflow.WithCancel(ctx)
	defer stop()
	recheck := workflow.GetSignalChannel(ctx, SignalRecheck)
	for recheck.ReceiveAsync(nil) {
		// Asked for before this wait began: answered by the step that has just failed.
	}
	ended := o.deadline(ctx)
	if o.falseWakes > 0 {
		if rechecked, err := o.backOff(ctx, recheck, ended); rechecked || err != nil {
			return err
		}
	}
	began := workflow.Now(ctx)
	rechecked, err := o.untilAvailable(ctx, recheck, ended)
	switch interval := o.loaded.Settings.ProbeInterval; {
	case rechecked:
	case workflow.Now(ctx).Sub(began) < 2*interval:
		o.falseWakes++
	default:
		o.falseWakes = 0
	}
	return err
}

// deadline is a timer for max_wait; nil where there is none. A version that exists is completed however long that takes.
func (o *outage) deadline(ctx workflow.Context) workflow.Future {
	limit := o.loaded.Settings.MaxWait
	if limit == 0 || o.receipt.ModelVersion != "" {
		return nil
	}
	left := max(0, o.since.Add(limit).Sub(workflow.Now(ctx)))
	return workflow.NewTimerWithOptions(ctx, left, workflow.TimerOptions{Summary: "max_wait"})
}

// overdue is the error of a registration that waited for max_wait.
func (o *outage) overdue() error {
	text := fmt.Sprintf("MLflow did not serve within max_wait, %s: %s", o.loaded.Settings.MaxWait, o.receipt.Waiting.LastError)
	return temporal.NewNonRetryableApplicationError(text, failure.Overdue, nil)
}

// untilAvailable asks the one who probes for all for a wake-up. One activity is pending until it comes.
func (o *outage) untilAvailable(ctx workflow.Context, recheck workflow.ReceiveChannel, ended workflow.Future) (rechecked bool, err error) {
	o.asked++
	nonce := strconv.Itoa(o.asked)
	info := workflow.GetInfo(ctx)
	id, start := AvailabilityID(o.server.TrackingURI, info.TaskQueueName), AvailabilityInput{Server: o.server, Interval: o.loaded.Settings.ProbeInterval}
	if o.receipt.State == receipt.Blocked {
		id, start.Credentials = CredentialsID(o.server.TrackingURI, info.TaskQueueName, o.server.Root), true
	}
	join := activities.JoinWaitingInput{LookAgainAfter: lookAgainForMLflow, Call: activities.Call{
		Workflow:   TypeMLflowAvailability,
		WorkflowID: id,
		TaskQueue:  info.TaskQueueName,
		Signal:     SignalJoin,
		Start:      start,
		Signaled: activities.Join{
			Waiter: activities.Waiter{WorkflowID: info.WorkflowExecution.ID, RunID: info.WorkflowExecution.RunID, Nonce: nonce},
			Server: o.server,
		},
	}}
	woken := false
	s := o.selector(ctx, recheck, ended, &rechecked, &err)
	s.AddFuture(workflow.ExecuteActivity(with(ctx, joining, o.server.TrackingURI), a.JoinWaiting, join), func(f workflow.Future) {
		woken, err = true, f.Get(ctx, nil)
	})
	s.AddReceive(workflow.GetSignalChannel(ctx, SignalAvailable), func(c workflow.ReceiveChannel, _ bool) {
		var answers string
		c.Receive(ctx, &answers)
		woken = woken || answers == nonce
	})
	for !woken && !rechecked && err == nil {
		s.Select(ctx)
	}
	return rechecked, err
}

// backOff pauses for twice as long after each false wake-up, from the probe interval up to longestBackoff.
func (o *outage) backOff(ctx workflow.Context, recheck workflow.ReceiveChannel, ended workflow.Future) (rechecked bool, err error) {
	pause := min(o.loaded.Settings.ProbeInterval<<min(o.falseWakes-1, 20), longestBackoff)
	timer := workflow.NewTimerWithOptions(ctx, pause, workflow.TimerOptions{Summary: "before the step is tried again"})
	o.selector(ctx, recheck, ended, &rechecked, &err).
		AddFuture(timer, func(f workflow.Future) { err = f.Get(ctx, nil) }).
		Select(ctx)
	return rechecked, err
}

// selector listens for what ends each kind of waiting: recheck, and max_wait.
func (o *outage) selector(ctx workflow.Context, recheck workflow.ReceiveChannel, ended workflow.Future, rechecked *bool, err *error) workflow.Selector {
	s := workflow.NewSelector(ctx)
	s.AddReceive(recheck, func(c workflow.ReceiveChannel, _ bool) {
		c.Receive(ctx, nil)
		*rechecked = true
	})
	if ended != nil {
		s.AddFuture(ended, func(f workflow.Future) {
			if *err = f.Get(ctx, nil); *err == nil {
				*err = o.overdue()
			}
		})
	}
	return s
}

func asCanceled(err error) (*temporal.CanceledError, bool) {
	return errors.AsType[*temporal.CanceledError](err)
}
