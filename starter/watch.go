package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"

	"registrar/activities"
)

// watchFlags are the flags of watch.
type watchFlags struct {
	untilDone bool
	interval  time.Duration
}

func (s *starter) watchCommand() *cobra.Command {
	var f watchFlags
	command := &cobra.Command{
		Use:   "watch [WORKFLOW_ID]",
		Short: "Show what runs and waits, live",
		Long: `Shows the registrations that run and wait, or the one that is named, until Ctrl-C: on a terminal as a table that is kept up to date, elsewhere
as a line for each change. With --output json each line is an object.

What is there is what Temporal lists, which is up to a second late.`,
		Example: "  starter watch\n  starter watch --until-done --output json",
		Args: func(command *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			return workflowID(command, args)
		},
		PreRunE: func(*cobra.Command, []string) error {
			if f.interval < 100*time.Millisecond {
				return usageError{fmt.Errorf("--interval %s: want 100ms or more", f.interval)}
			}
			return nil
		},
		RunE: s.connected(func(ctx context.Context, c client.Client, args []string) error {
			w := &lookout{starter: s, client: c, flags: f, on: s.screenOf(s.stdout), seen: map[string]sighting{}}
			if len(args) == 1 {
				w.workflowID = args[0]
			}
			return w.run(ctx)
		}),
	}
	command.Flags().BoolVar(&f.untilDone, "until-done", false, "end when all of them have ended")
	command.Flags().DurationVar(&f.interval, "interval", time.Second, "how often to look")
	return command
}

// lookout watches registrations.
type lookout struct {
	*starter
	client     client.Client
	workflowID string // empty: all that run
	flags      watchFlags
	on         screen

	seen  map[string]sighting // by workflow id and run id
	order []string            // of their coming
	drawn int                 // lines of the table that stand on the screen
	away  bool                // Temporal does not answer
}

// sighting is how a registration stood when it was looked at.
type sighting struct {
	Time time.Time `json:"time"`
	listedRegistration
	// Step is the activity under way, and Attempt its number where it is not the first.
	Step    string `json:"step,omitempty"`
	Attempt int32  `json:"attempt,omitempty"`
	// DoneBytes of TotalBytes are moved, where the step moves any.
	DoneBytes  int64 `json:"done_bytes,omitempty"`
	TotalBytes int64 `json:"total_bytes,omitempty"`
}

const (
	// watchedAtOnce is how many registrations are watched at most: more than that no screen holds.
	watchedAtOnce = 200
	// lookedInto is how many of them are asked for their step each time, which is a request each.
	lookedInto = 20
	// endedShown is how many of those that have ended stay in the table.
	endedShown = 10
)

func (w *lookout) run(ctx context.Context) error {
	tick := time.NewTicker(w.flags.interval)
	defer tick.Stop()
	for {
		left, err := w.look(ctx)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err == nil:
			w.away = false
		case !isUnreachable(err):
			return err
		case !w.away:
			w.away = true
			w.drawn = 0 // the table stays above
			fmt.Fprintln(w.stderr, w.screenOf(w.stderr).in(yellow, "Temporal does not answer; trying again"))
		}
		if err == nil && left == 0 && w.flags.untilDone {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// look shows what changed, and tells how many of what is watched have not ended.
func (w *lookout) look(ctx context.Context) (left int, err error) {
	now, err := w.sightings(ctx)
	if err != nil {
		return 0, err
	}
	for _, s := range now {
		key := s.WorkflowID + " " + s.RunID
		before, known := w.seen[key]
		if !known {
			w.order = append(w.order, key)
		}
		w.seen[key] = s
		if s.Status == statusRunning {
			left++
		}
		if !w.on.isLive() && (!known || w.hasChanged(before, s)) {
			if err := w.line(s); err != nil {
				return left, err
			}
		}
	}
	w.forget()
	if w.on.isLive() {
		return left, w.draw(left)
	}
	return left, nil
}

const statusRunning = "running"

// hasChanged tells whether a change is worth a line; to a program, bytes are.
func (w *lookout) hasChanged(before, now sighting) bool {
	before.Time = now.Time
	if w.output != "json" {
		before.DoneBytes, before.TotalBytes = now.DoneBytes, now.TotalBytes
	}
	return before != now
}

// sightings are how what is watched stands now: what Temporal lists as running, and what was seen running before.
func (w *lookout) sightings(ctx context.Context) ([]sighting, error) {
	if w.workflowID != "" {
		s, err := w.sight(ctx, w.workflowID, "")
		return []sighting{s}, err
	}
	listed, err := list(ctx, w.client, watchedAtOnce, "ExecutionStatus = 'Running'")
	if err != nil {
		return nil, err
	}
	slices.Reverse(listed) // the oldest first: what comes later is added below
	var now []sighting
	running := map[string]bool{}
	for i, r := range listed {
		s := sighting{Time: time.Now().UTC(), listedRegistration: r}
		if i < lookedInto {
			if s, err = w.sight(ctx, r.WorkflowID, r.RunID); err != nil {
				return nil, err
			}
		}
		running[r.WorkflowID+" "+r.RunID] = true
		now = append(now, s)
	}
	for _, key := range w.order {
		if before := w.seen[key]; before.Status == statusRunning && !running[key] {
			s, err := w.sight(ctx, before.WorkflowID, before.RunID)
			if err != nil {
				return nil, err
			}
			now = append(now, s)
		}
	}
	return now, nil
}

// sight asks Temporal for one registration, with the step under way.
func (w *lookout) sight(ctx context.Context, workflowID, runID string) (sighting, error) {
	described, err := w.client.DescribeWorkflowExecution(ctx, workflowID, runID)
	if isNotFound(err) {
		return sighting{}, fmt.Errorf("look for workflow %s: Temporal has none of this id: see `starter list`", workflowID)
	}
	if err != nil {
		return sighting{}, fmt.Errorf("look for workflow %s: %w", workflowID, err)
	}
	s := sighting{Time: time.Now().UTC(), listedRegistration: listedBy(described.GetWorkflowExecutionInfo())}
	for _, pending := range described.GetPendingActivities() {
		s.Step = pending.GetActivityType().GetName()
		if pending.GetAttempt() > 1 {
			s.Attempt = pending.GetAttempt()
		}
		var moved activities.Progress
		if details := pending.GetHeartbeatDetails(); details != nil &&
			converter.GetDefaultDataConverter().FromPayloads(details, &moved) == nil {
			s.DoneBytes, s.TotalBytes = moved.Done, moved.Total
		}
	}
	return s, nil
}

// forget leaves out the oldest of those that have ended.
func (w *lookout) forget() {
	ended := 0
	for _, key := range w.order {
		if w.seen[key].Status != statusRunning {
			ended++
		}
	}
	w.order = slices.DeleteFunc(w.order, func(key string) bool {
		if w.seen[key].Status == statusRunning || ended <= endedShown {
			return false
		}
		ended--
		delete(w.seen, key)
		return true
	})
}

// line is a change where nothing can be written over.
func (w *lookout) line(s sighting) error {
	if w.output == "json" {
		encoder := json.NewEncoder(w.stdout)
		encoder.SetEscapeHTML(false)
		return encoder.Encode(s)
	}
	text, _ := s.words()
	_, err := fmt.Fprintln(w.stdout, strings.TrimRight(strings.Join([]string{
		s.Time.Local().Format("15:04:05"), printable(s.WorkflowID), printable(strings.TrimSpace(text + " " + versionText(s.ModelVersion))), printable(s.step()),
	}, gap), " "))
	return err
}

func versionText(version string) string {
	if version == "" {
		return ""
	}
	return "version " + version
}

// step is what is under way, and how far.
func (s sighting) step() string {
	if s.Status != statusRunning || s.WaitingFor != "" {
		return ""
	}
	text := s.Step
	if s.Attempt > 1 {
		text += fmt.Sprintf(", attempt %d", s.Attempt)
	}
	if s.TotalBytes > 0 {
		text += fmt.Sprintf(" %3d %%", 100*s.DoneBytes/s.TotalBytes)
	}
	return text
}

// draw writes the table over the one that stands there.
func (w *lookout) draw(left int) error {
	columns, rows := w.on.size()
	t := table{columns: []column{{"SINCE", aWord}, {"STATE", aPhrase}, {"STEP", aPhrase}, {"VERSION", aWord}, {"WORKFLOW ID", anID}}}
	for _, key := range w.order {
		s := w.seen[key]
		state, colour := s.words()
		since := age(time.Since(s.StartedAt))
		t.add(cell{text: since}, cell{state, colour}, cell{text: s.step()}, cell{text: s.ModelVersion}, cell{text: s.WorkflowID})
	}
	lines := []string{w.on.in(dim, cut(fmt.Sprintf("%s  %d not ended; Ctrl-C ends the watch, not them", time.Now().Format("15:04:05"), left), columns))}
	if len(t.rows) > 0 {
		lines = append(lines, t.lines(w.on)...)
	}
	if hidden := len(lines) - (rows - 1); rows > 1 && hidden > 0 { // the last line of a screen stays free, or it would scroll
		lines = append(lines[:rows-2], w.on.in(dim, fmt.Sprintf("and %d more", hidden+1)))
	}
	// Each line is written over and its rest erased, then what is below: nothing flickers (ECMA-48: CUU, EL, ED).
	_, err := fmt.Fprint(w.stdout, w.up()+strings.Join(lines, "\x1b[K\n")+"\x1b[K\n\x1b[J")
	w.drawn = len(lines)
	return err
}

// up goes to the first line of the table that stands on the screen.
func (w *lookout) up() string {
	if w.drawn == 0 {
		return ""
	}
	return fmt.Sprintf("\x1b[%dA\r", w.drawn)
}

// age is how long ago something was, in its largest unit.
func age(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(max(0, d).Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", int(d.Hours()))
	}
	return fmt.Sprintf("%d d", int(d.Hours()/24))
}
