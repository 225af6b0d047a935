package main

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"registrar/internal/receipt"
	"registrar/workflows"
)

const signalGo = "go"

// stepwise is a registration that waits for a signal, and then for another one, before it ends.
func stepwise(s temporalSite) {
	s.t.Helper()
	w := worker.New(s.client, s.taskQueue(), worker.Options{})
	w.RegisterWorkflowWithOptions(func(ctx workflow.Context) (receipt.Receipt, error) {
		for _, memo := range []map[string]any{
			{workflows.MemoState: receipt.Waiting, workflows.MemoLayer: "tcp"},
			{workflows.MemoState: receipt.Done, workflows.MemoLayer: "", workflows.MemoOutcome: receipt.Registered, workflows.MemoVersion: "7"},
		} {
			workflow.GetSignalChannel(ctx, signalGo).Receive(ctx, nil)
			if err := workflow.UpsertMemo(ctx, memo); err != nil {
				return receipt.Receipt{}, err
			}
		}
		return receipt.Receipt{State: receipt.Done, Outcome: receipt.Registered}, nil
	}, workflow.RegisterOptions{Name: workflows.TypeRegisterModel})
	require.NoError(s.t, w.Start())
	s.t.Cleanup(w.Stop)
}

func (s temporalSite) start(id string) {
	s.t.Helper()
	_, err := s.client.ExecuteWorkflow(s.t.Context(), client.StartWorkflowOptions{ID: id, TaskQueue: s.taskQueue()}, workflows.TypeRegisterModel)
	require.NoError(s.t, err)
}

func (s temporalSite) signal(id string) {
	s.t.Helper()
	require.NoError(s.t, s.client.SignalWorkflow(s.t.Context(), id, "", signalGo, nil))
}

// output is what a command that is running wrote so far.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// await polls until a running command has written a text.
func (s temporalSite) await(text string, written func() string) {
	s.t.Helper()
	require.Eventually(s.t, func() bool { return strings.Contains(written(), text) }, time.Minute, 50*time.Millisecond, "%q in %q", text, written())
}

func aWatchTellsEachChange(s temporalSite) {
	stepwise(s)
	s.start("watched")
	var stdout, stderr output
	code := make(chan int, 1)
	go func() {
		code <- run(s.t.Context(), []string{"watch", "watched", "--until-done", "--interval", "100ms"}, s.environ(), &stdout, &stderr)
	}()
	s.await("  watched  running\n", stdout.String)
	s.signal("watched")
	s.await("  watched  waiting (tcp)\n", stdout.String)
	s.signal("watched")

	require.Zero(s.t, <-code, stderr.String())
	require.Regexp(s.t, `^\d\d:\d\d:\d\d  watched  running\n.*  watched  waiting \(tcp\)\n.*  watched  registered version 7\n$`, stdout.String())
	require.NotContains(s.t, stdout.String(), "\x1b")

	// One that has ended is told, too, and as JSON for programs.
	said := s.starter("watch", "watched", "--until-done", "--output", "json")
	require.Zero(s.t, said.code)
	var told sighting
	require.NoError(s.t, json.Unmarshal([]byte(said.stdout), &told))
	require.Equal(s.t, "registered", told.Outcome)
	require.Equal(s.t, 1, strings.Count(said.stdout, "\n"), "an object is a line")

	none := s.starter("watch", "nothing/of/this/name")
	require.Equal(s.t, exitFailure, none.code)
	require.Contains(s.t, none.stderr, "Temporal has none of this id")
}

func aWatchDrawsItsTableAnew(s temporalSite) {
	stepwise(s)
	s.start("drawn-one")
	s.start("drawn-two")
	term := newTerminal(s.t, 80)
	ctx, interrupt := context.WithCancel(s.t.Context())
	code := make(chan int, 1)
	go func() {
		code <- run(ctx, []string{"watch", "--interval", "100ms"}, append(s.environ(), "TERM=xterm"), term.file, term.file)
	}()
	s.await("drawn-one", term.sofar)
	s.await("drawn-two", term.sofar)
	s.signal("drawn-two")
	s.await(yellow+"waiting (tcp)", term.sofar)
	s.signal("drawn-two")
	s.await(green+"registered", term.sofar)
	interrupt()

	require.Equal(s.t, exitInterrupted, <-code)
	shown := term.all()
	last := shown[strings.LastIndex(shown, "\x1b[J"):]
	frames := strings.Split(strings.TrimSuffix(shown, last), "\x1b[J")
	final := frames[len(frames)-1]
	require.Regexp(s.t, `^\x1b\[\d+A\r`, final, "it is drawn over the one before")
	require.Contains(s.t, final, "drawn-one")
	require.Contains(s.t, final, "drawn-two", "one that has ended stays in sight")
	require.Contains(s.t, last, "interrupted")
}

func TestWatch_ShowsAsMuchAsTheTerminalHolds(t *testing.T) {
	for _, columns := range []uint16{40, 80, 200} {
		term := newTerminal(t, columns)
		s := newStarter([]string{"TERM=xterm"}, term.file, term.file)
		w := &lookout{starter: s, on: s.screenOf(term.file), seen: map[string]sighting{}}
		for i := range 60 {
			key := strings.Repeat("x", i+1)
			w.order = append(w.order, key)
			w.seen[key] = sighting{listedRegistration: longRegistration, Step: "UploadModel", Attempt: 2, DoneBytes: 1, TotalBytes: 3}
		}
		require.NoError(t, w.draw(60))
		require.Equal(t, 23, w.drawn, "a line of the 24 stays free")

		shown := term.all()

		requireNarrow(t, int(columns), escapes.ReplaceAllString(shown, ""))
		require.Contains(t, shown, "and 40 more")
	}
}

func TestWatch_KeepsTheNewestOfThoseThatEnded(t *testing.T) {
	w := &lookout{seen: map[string]sighting{}}
	for i := range 15 {
		key := string(rune('a' + i))
		w.order = append(w.order, key)
		w.seen[key] = sighting{listedRegistration: listedRegistration{Status: "completed"}}
	}
	w.seen["a"] = sighting{listedRegistration: listedRegistration{Status: statusRunning}}
	w.forget()
	require.Equal(t, []string{"a", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o"}, w.order)
	require.Len(t, w.seen, 11)
}

func TestWatch_BytesAreAChangeForProgramsAlone(t *testing.T) {
	before := sighting{listedRegistration: longRegistration, Step: "UploadModel", DoneBytes: 1, TotalBytes: 3}
	now := before
	now.Time, now.DoneBytes = time.Now(), 2
	w := &lookout{starter: &starter{output: "text"}}
	require.False(t, w.hasChanged(before, now))
	w.output = "json"
	require.True(t, w.hasChanged(before, now))
	require.False(t, w.hasChanged(before, before), "that time goes by is no change")
	now.Step = "RegisterVersion"
	w.output = "text"
	require.True(t, w.hasChanged(before, now))
}
