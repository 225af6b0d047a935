package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/sdk/converter"

	"registrar/workflows"
)

// bar is a bar of bytes, on a screen only. The zero value shows nothing.
type bar struct {
	container *mpb.Progress
	bar       *mpb.Bar
}

// bar makes a bar that appears with its first bytes. Where the line is short, it says less beside it.
func (s *starter) bar(name string) *bar {
	on := s.screenOf(s.stderr)
	if !on.isLive() {
		return &bar{}
	}
	columns, _ := on.size()
	beside := []decor.Decorator{decor.CountersKiloByte("% .1f / % .1f")}
	if columns >= 70 {
		beside = append(beside, decor.AverageSpeed(decor.SizeB1000(0), "  % .1f"), decor.AverageETA(decor.ET_STYLE_GO, decor.WC{W: 8}))
	}
	container := mpb.New(mpb.WithOutput(on.file), mpb.WithWidth(min(40, max(10, columns-45))))
	return &bar{container: container, bar: container.New(0, mpb.BarStyle(), mpb.BarRemoveOnComplete(),
		mpb.PrependDecorators(decor.Name(fmt.Sprintf("  %-*s ", stepWidth, name))), mpb.AppendDecorators(beside...))}
}

func (b *bar) set(done, total int64) {
	if b.bar != nil {
		b.bar.SetTotal(total, false)
		b.bar.SetCurrent(done)
	}
}

func (b *bar) end() {
	if b.bar != nil {
		b.bar.Abort(true)
		b.container.Wait()
	}
}

// progress shows the steps of a registration on standard error, a line each as it ends, and a bar for the bytes of the one under way.
type progress struct {
	starter *starter
	out     io.Writer
	on      screen
	steps   map[int64]step // by the id of the event that scheduled it
	last    time.Time      // when the last step ended
	noted   string
	moving  *bar
}

type step struct {
	name, summary string
	since         time.Time
}

// stepWidth is that of the longest name of a step.
const stepWidth = 18

func (s *starter) progress() *progress {
	return &progress{starter: s, out: s.stderr, on: s.screenOf(s.stderr), steps: map[int64]step{}}
}

// event shows what happened.
func (p *progress) event(event *historypb.HistoryEvent) {
	switch event.GetEventType() {
	case enums.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
		p.steps[event.GetEventId()] = step{
			name:    event.GetActivityTaskScheduledEventAttributes().GetActivityType().GetName(),
			summary: summaryOf(event), since: event.GetEventTime().AsTime(),
		}
	case enums.EVENT_TYPE_ACTIVITY_TASK_COMPLETED:
		p.done(event, event.GetActivityTaskCompletedEventAttributes().GetScheduledEventId(), "")
	case enums.EVENT_TYPE_ACTIVITY_TASK_FAILED:
		attributes := event.GetActivityTaskFailedEventAttributes()
		p.done(event, attributes.GetScheduledEventId(), attributes.GetFailure().GetMessage())
	case enums.EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT:
		p.done(event, event.GetActivityTaskTimedOutEventAttributes().GetScheduledEventId(), "timed out")
	case enums.EVENT_TYPE_MARKER_RECORDED:
		p.local(event)
	case enums.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED:
		p.signaled(event)
	case enums.EVENT_TYPE_WORKFLOW_EXECUTION_CANCEL_REQUESTED:
		p.note("cancellation requested")
	}
}

// local shows a step that the worker took within its workflow task: the history has no more of it than its end, in a marker of the SDK's.
func (p *progress) local(event *historypb.HistoryEvent) {
	marker := event.GetMarkerRecordedEventAttributes()
	var taken struct{ ActivityType string }
	// What is no such marker, or one of another version, is not shown.
	if converter.GetDefaultDataConverter().FromPayloads(marker.GetDetails()["data"], &taken) == nil && taken.ActivityType != "" {
		p.end()
		p.last = event.GetEventTime().AsTime()
		p.line(taken.ActivityType, "", summaryOf(event), marker.GetFailure().GetMessage())
	}
}

// signaled shows the answers to what a registration asked of others.
func (p *progress) signaled(event *historypb.HistoryEvent) {
	switch event.GetWorkflowExecutionSignaledEventAttributes().GetSignalName() {
	case workflows.SignalPromoted:
		p.line("PromoteVersion", seconds(event.GetEventTime().AsTime().Sub(p.last)), "", "")
	case workflows.SignalAvailable:
		p.note("MLflow answers again")
	case workflows.SignalRecheck:
		p.note("rechecking")
	}
}

func (p *progress) done(event *historypb.HistoryEvent, scheduled int64, failure string) {
	p.end()
	s := p.steps[scheduled]
	delete(p.steps, scheduled)
	p.last = event.GetEventTime().AsTime()
	p.line(s.name, seconds(p.last.Sub(s.since)), s.summary, failure)
}

func seconds(took time.Duration) string { return fmt.Sprintf("%.2fs", took.Seconds()) }

// line is one step and what it took, where that is known: on a screen as much of it as a line holds.
func (p *progress) line(name, took, summary, failure string) {
	columns, _ := p.on.size()
	start := fmt.Sprintf("  %-*s ", stepWidth, printable(name))
	took = fmt.Sprintf("%7s", took)
	room := 0
	if columns > 0 {
		room = max(1, columns-len(start)-len(took)-len(gap))
	}
	text := fit(printable(summary), room)
	if room < leastID {
		text = cut(printable(summary), room)
	}
	if failure != "" {
		if room == 0 {
			failure = strings.TrimPrefix(summary+": "+failure, ": ")
		}
		text = p.on.in(red, cut(printable(failure), room))
	}
	fmt.Fprintln(p.out, strings.TrimRight(start+p.on.in(dim, took)+gap+text, " "))
}

// note shows a line, unless it is the one that was shown last.
func (p *progress) note(text string) {
	if text != p.noted {
		p.noted = text
		p.end()
		fmt.Fprintf(p.out, "  %s\n", p.on.in(yellow, printable(text)))
	}
}

// bytes shows how far a step is.
func (p *progress) bytes(name string, done, total int64) {
	if p.moving == nil {
		p.moving = p.starter.bar(name)
	}
	p.moving.set(done, total)
}

// end takes the bar away.
func (p *progress) end() {
	if p.moving != nil {
		p.moving.end()
		p.moving = nil
	}
}

func summaryOf(event *historypb.HistoryEvent) string {
	var text string
	if payload := event.GetUserMetadata().GetSummary(); payload != nil {
		// A summary that cannot be read is left out.
		_ = converter.GetDefaultDataConverter().FromPayload(payload, &text)
	}
	return text
}
