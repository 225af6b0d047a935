package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"

	"registrar/activities"
	"registrar/internal/receipt"
)

// waitFlags say how long a command follows a registration.
type waitFlags struct {
	wait          string
	timeout       time.Duration
	settleTimeout time.Duration
	detailed      bool
	// started is when the timeout began; zero: when the registration begins to be followed.
	started time.Time
}

// settleTimeout is the default of --settle-timeout.
const settleTimeout = 30 * time.Second

func (f *waitFlags) add(command *cobra.Command) {
	flags := command.Flags()
	flags.StringVar(&f.wait, "wait", "settled", "settled: until it ended or waits; final: until it ended; none: not at all")
	flags.DurationVar(&f.timeout, "timeout", 0, "return after this long, however it stands; 0: no limit")
	flags.DurationVar(&f.settleTimeout, "settle-timeout", settleTimeout, "with --wait settled: return when no worker, or no Temporal, has answered for this long")
	flags.BoolVar(&f.detailed, "detailed-exitcode", false, "tell the outcome by the exit code")
	oneOf(command, "wait", cobra.CompletionWithDesc("settled", "until it ended or waits"), cobra.CompletionWithDesc("final", "until it ended"),
		cobra.CompletionWithDesc("none", "not at all"))
}

func (f *waitFlags) check() error {
	if f.wait != "settled" && f.wait != "final" && f.wait != "none" {
		return usageError{fmt.Errorf("--wait %q: want settled, final or none", f.wait)}
	}
	return errors.Join(notNegative("timeout", f.timeout), notNegative("settle-timeout", f.settleTimeout))
}

func notNegative(flag string, d time.Duration) error {
	if d < 0 {
		return usageError{fmt.Errorf("--%s %s: want a duration that is not negative", flag, d)}
	}
	return nil
}

// lookEvery is how often the progress of a step is looked at.
const lookEvery = 500 * time.Millisecond

// follow shows the progress of a registration until it stands as f asks.
func (s *starter) follow(ctx context.Context, c client.Client, h handle, f waitFlags) (receipt.Receipt, error) {
	if f.wait == "none" {
		r, _, err := look(ctx, c, h)
		if r.State == receipt.Waiting || r.State == receipt.Blocked {
			r = s.ask(ctx, c, r, h)
		}
		return s.orUnanswered(ctx, r, h, err)
	}
	now := time.Now()
	if f.started.IsZero() {
		f.started = now
	}
	within := ctx
	if f.timeout > 0 {
		var cancel context.CancelFunc
		within, cancel = context.WithDeadline(ctx, f.started.Add(f.timeout))
		defer cancel()
	}
	w := &watch{
		starter: s, client: c, handle: h, flags: f, started: now, answered: now,
		workers: s.attendance(c, f.settleTimeout), show: s.progress(),
	}
	defer w.show.end()
	r, err := w.until(within)
	if err != nil && ctx.Err() == nil && within.Err() != nil {
		s.warn(fmt.Sprintf("not ended after %s; it goes on: starter result %s", f.timeout, h.workflowID))
		if r, _, err = look(ctx, c, h); err == nil && r.State != receipt.Done {
			r = s.ask(ctx, c, r, h)
		}
		r, err = s.orUnanswered(ctx, r, h, err)
		return withKnown(r, w.last), err
	}
	if ctx.Err() != nil {
		fmt.Fprintf(s.stderr, "the registration goes on: starter result %s\n", h.workflowID)
	}
	return r, err
}

// orUnanswered is how a registration stands, also where Temporal, which has it, does not answer now.
func (s *starter) orUnanswered(ctx context.Context, r receipt.Receipt, h handle, err error) (receipt.Receipt, error) {
	if err == nil || ctx.Err() != nil || !isUnreachable(err) {
		return r, err
	}
	return receipt.Receipt{
		WorkflowID: h.workflowID, State: receipt.Waiting, RegistrationKey: h.key, Waiting: waitForTemporal(s.unreachable(err)),
	}, nil
}

// watch follows one registration.
type watch struct {
	*starter
	client  client.Client
	handle  handle
	flags   waitFlags
	started time.Time
	// answered is when Temporal answered last.
	answered time.Time
	last     receipt.Receipt // and what it said
	workers  *attendance
	show     *progress
}

// until looks each time the history grows, and now and then for the progress of the step under way.
func (w *watch) until(ctx context.Context) (receipt.Receipt, error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	events := make(chan *historypb.HistoryEvent)
	go w.listen(ctx, events)
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case event := <-events:
			w.show.event(event)
			if !mayChangeState(event) || event.GetEventTime().AsTime().Before(w.started) {
				continue // what happened before is told by the next tick, after the steps that are shown now
			}
		case <-tick.C:
		case <-ctx.Done():
			return receipt.Receipt{}, ctx.Err()
		}
		r, settled, err := w.look(ctx)
		if err != nil || settled {
			return r, err
		}
	}
}

// listen sends the events of the history as they come. A server that goes away is tried again: what was sent is not sent twice.
func (w *watch) listen(ctx context.Context, events chan<- *historypb.HistoryEvent) {
	var last int64
	for ctx.Err() == nil {
		history := w.client.GetWorkflowHistory(ctx, w.handle.workflowID, w.handle.runID, true, enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
		for history.HasNext() {
			event, err := history.Next()
			if err != nil {
				break
			}
			if event.GetEventId() <= last {
				continue
			}
			last = event.GetEventId()
			select {
			case events <- event:
			case <-ctx.Done():
				return
			}
		}
		select {
		case <-time.After(lookEvery):
		case <-ctx.Done():
		}
	}
}

// mayChangeState tells the events after which a registration may stand otherwise.
func mayChangeState(event *historypb.HistoryEvent) bool {
	switch event.GetEventType() {
	case enums.EVENT_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES, enums.EVENT_TYPE_WORKFLOW_PROPERTIES_MODIFIED,
		enums.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED, enums.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED,
		enums.EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED, enums.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED,
		enums.EVENT_TYPE_WORKFLOW_EXECUTION_TIMED_OUT:
		return true
	}
	return false
}

// look tells how the registration stands, and whether that is what was waited for.
func (w *watch) look(ctx context.Context) (receipt.Receipt, bool, error) {
	r, described, err := look(ctx, w.client, w.handle)
	switch {
	case err == nil:
		w.answered, w.last = time.Now(), r
	case ctx.Err() != nil:
		return r, false, ctx.Err()
	case !isUnreachable(err):
		return r, false, err
	case w.flags.wait == "settled" && time.Since(w.answered) >= w.flags.settleTimeout:
		r, err = w.orUnanswered(ctx, r, w.handle, err)
		return withKnown(r, w.last), true, err
	default:
		w.show.note("Temporal does not answer; trying again")
		return r, false, nil
	}
	if r.State == receipt.Done {
		return r, true, nil
	}
	for _, pending := range described.GetPendingActivities() {
		var moved activities.Progress
		if details := pending.GetHeartbeatDetails(); details != nil &&
			converter.GetDefaultDataConverter().FromPayloads(details, &moved) == nil && moved.Total > 0 {
			w.show.bytes(pending.GetActivityType().GetName(), moved.Done, moved.Total)
		}
	}
	if r.State == receipt.Waiting || r.State == receipt.Blocked {
		if w.flags.wait == "settled" {
			return w.ask(ctx, w.client, r, w.handle), true, nil
		}
		w.show.note(fmt.Sprintf("%s (%s)", r.State, r.Waiting.Layer))
		return r, false, nil
	}
	return w.withoutWorker(ctx, r, described)
}

// withoutWorker settles a registration that nobody has worked on since settle-timeout.
func (w *watch) withoutWorker(ctx context.Context, r receipt.Receipt, described *workflowservice.DescribeWorkflowExecutionResponse) (receipt.Receipt, bool, error) {
	if w.flags.wait != "settled" {
		return r, false, nil
	}
	missing, err := w.workers.isMissing(ctx, described)
	if isUnreachable(err) {
		return r, false, nil
	}
	if err != nil || !missing {
		return r, false, err
	}
	r.State = receipt.Waiting
	r.Waiting = &receipt.Wait{
		Since: w.workers.since.UTC().Truncate(time.Second), Layer: "worker",
		LastError: fmt.Sprintf("no worker listens on task queue %q", w.taskQueue),
	}
	return r, true, nil
}
