package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/mattn/go-runewidth"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"registrar/activities"
	"registrar/internal/modelfile"
	"registrar/internal/receipt"
	"registrar/workflows"
)

// terminal is a real one, of which the test sees what is written to it.
type terminal struct {
	t    *testing.T
	file *os.File // what a program writes to

	mu      sync.Mutex
	written bytes.Buffer
	ended   chan struct{}
}

func newTerminal(t *testing.T, columns uint16) *terminal {
	t.Helper()
	master, file, err := pty.Open()
	require.NoError(t, err)
	require.NoError(t, pty.Setsize(file, &pty.Winsize{Rows: 24, Cols: columns}))
	term := &terminal{t: t, file: file, ended: make(chan struct{})}
	go func() {
		defer close(term.ended)
		buffer := make([]byte, 4096)
		for {
			n, err := master.Read(buffer)
			term.mu.Lock()
			term.written.Write(buffer[:n])
			term.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		_ = file.Close() // closed already where the test has read all
		<-term.ended
		require.NoError(t, master.Close())
	})
	return term
}

// sofar is what was written until now.
func (term *terminal) sofar() string {
	term.mu.Lock()
	defer term.mu.Unlock()
	return term.written.String()
}

// all is what was written once nobody writes any more.
func (term *terminal) all() string {
	term.t.Helper()
	require.NoError(term.t, term.file.Close())
	<-term.ended
	term.mu.Lock()
	defer term.mu.Unlock()
	return strings.ReplaceAll(term.written.String(), "\r\n", "\n")
}

// escapes are what a terminal obeys, and colours those of them that colour (ECMA-48, CSI and SGR).
var (
	escapes = regexp.MustCompile(`\x1b\[[0-9;?]*[A-Za-z]`)
	colours = regexp.MustCompile(`\x1b\[[0-9;]*m`)
)

// requireNarrow sees that no line is longer than the terminal is wide, save a single word: addresses, and what is to be copied, stay whole.
func requireNarrow(t *testing.T, columns int, text string) {
	t.Helper()
	for line := range strings.Lines(colours.ReplaceAllString(text, "")) {
		line = strings.TrimRight(line, "\n")
		if strings.Contains(strings.TrimSpace(line), " ") {
			require.LessOrEqual(t, runewidth.StringWidth(line), columns, line)
		}
	}
}

var longRegistration = listedRegistration{
	WorkflowID: "register/ACRAS_RandomForest_with_a_long_name_v1/0282fec4b7693651", Status: statusRunning, State: "waiting", WaitingFor: "artifact_store",
	ModelVersion: "1234", StartedAt: time.Date(2026, 11, 25, 1, 2, 3, 0, time.UTC),
}

func TestList_FitsTheTerminal(t *testing.T) {
	for _, columns := range []uint16{40, 80, 100, 200} {
		term := newTerminal(t, columns)
		s := newStarter([]string{"TERM=xterm"}, term.file, io.Discard)
		require.NoError(t, s.printList([]listedRegistration{longRegistration, {WorkflowID: "register/m/k", Status: "completed", Outcome: "registered"}}))

		shown := term.all()

		requireNarrow(t, int(columns), shown)
		require.Contains(t, shown, yellow)
		if columns == 80 {
			require.Regexp(t, `register/ACRAS_…\w*82fec4b7693651\n`, colours.ReplaceAllString(shown, ""), "the end of an id tells it apart")
		}
		if columns == 200 {
			require.Contains(t, shown, longRegistration.WorkflowID)
			require.Contains(t, shown, "waiting (artifact store)")
		}
	}
}

func TestList_IsWholeAndPlainInAPipe(t *testing.T) {
	var stdout bytes.Buffer
	s := newStarter([]string{"TERM=xterm"}, &stdout, io.Discard)
	require.NoError(t, s.printList([]listedRegistration{longRegistration}))
	require.Contains(t, stdout.String(), longRegistration.WorkflowID)
	require.NotContains(t, stdout.String(), "\x1b")
}

var wholeReceipt = receipt.Receipt{
	WorkflowID: longRegistration.WorkflowID, State: receipt.Waiting, ModelName: "ACRAS_RandomForest_with_a_long_name_v1", ModelVersion: "5",
	ModelURI: "models:/ACRAS_RandomForest_with_a_long_name_v1/5", Stage: "Staging", Aliases: []string{"staging"}, ExperimentID: "1",
	MLflowRunID: strings.Repeat("a", 32), TrackingURI: "http://127.0.0.1:5000", ModelSHA256: strings.Repeat("b", 64), Decision: &passed,
	WorkflowURL: "http://127.0.0.1:8233/namespaces/default/workflows/register%2Fm%2Fk/0/history",
	Waiting:     &receipt.Wait{Layer: "tcp", LastError: "tcp: dial tcp 127.0.0.1:5000: connect: connection refused \x1b[2J for the third time in a row today"},
}

func TestStatus_FitsTheTerminal(t *testing.T) {
	for _, columns := range []uint16{40, 80, 200} {
		term := newTerminal(t, columns)
		s := newStarter([]string{"TERM=xterm"}, term.file, term.file)
		require.NoError(t, s.print(wholeReceipt))

		shown := colours.ReplaceAllString(term.all(), "")

		requireNarrow(t, int(columns), shown)
		require.NotContains(t, shown, "\x1b", "what moves the cursor in an error does not")
		for _, link := range []string{
			"http://127.0.0.1:5000/#/models/ACRAS_RandomForest_with_a_long_name_v1/versions/5",
			"http://127.0.0.1:5000/#/experiments/1/runs/" + wholeReceipt.MLflowRunID,
			wholeReceipt.WorkflowURL,
		} {
			require.Contains(t, shown, link, "a link is whole, at %d columns", columns)
		}
		if columns == 200 {
			require.Contains(t, shown, wholeReceipt.ModelSHA256)
		}
	}
}

func TestStatus_IsWholeAndPlainWhereNothingIsToBeColoured(t *testing.T) {
	for name, environ := range map[string][]string{
		"a terminal that can do nothing":         {"TERM=dumb"},
		"a terminal that says nothing of itself": nil,
	} {
		t.Run(name, func(t *testing.T) {
			term := newTerminal(t, 40)
			s := newStarter(environ, term.file, term.file)
			require.NoError(t, s.print(wholeReceipt))
			shown := term.all()
			require.NotContains(t, shown, "\x1b")
			require.Contains(t, shown, wholeReceipt.ModelSHA256)
			require.Contains(t, shown, wholeReceipt.WorkflowID)
		})
	}
	t.Run("NO_COLOR", func(t *testing.T) {
		term := newTerminal(t, 40)
		s := newStarter([]string{"TERM=xterm", "NO_COLOR=1"}, term.file, term.file)
		require.NoError(t, s.print(wholeReceipt))
		shown := term.all()
		require.NotContains(t, shown, "\x1b")
		requireNarrow(t, 40, shown)
	})
	t.Run("JSON", func(t *testing.T) {
		term := newTerminal(t, 40)
		s := newStarter([]string{"TERM=xterm"}, term.file, term.file)
		s.output = "json"
		require.NoError(t, s.print(wholeReceipt))
		var r receipt.Receipt
		require.NoError(t, json.Unmarshal([]byte(term.all()), &r))
		require.Equal(t, wholeReceipt, r)
	})
}

func TestFit_KeepsTheEnd(t *testing.T) {
	require.Equal(t, "register/m/k", fit("register/m/k", 12))
	require.Equal(t, "register/a_lo…82fec4b7693651", fit("register/a_long_name/0282fec4b7693651", 28))
	require.Equal(t, "模型模型模…模型模型模型", fit(strings.Repeat("模型", 20), 24), "a character may be two columns wide")
	require.Equal(t, "…/m/k", fit("register/m/k", 5))
}

func TestFold_BreaksBetweenWords(t *testing.T) {
	require.Equal(t, []string{"the registration", "goes on:", "register/ACRAS_RandomForest_v1/0282", "is its id"},
		fold("the registration goes on: register/ACRAS_RandomForest_v1/0282 is its id", 16))
	require.Equal(t, []string{"a  b"}, fold("a  b", 0))
}

// uploading is a registration with a step that moves bytes until somebody has seen them.
func uploading(s temporalSite) (seen chan<- struct{}) {
	s.t.Helper()
	w := worker.New(s.client, s.taskQueue(), worker.Options{
		MaxHeartbeatThrottleInterval: 100 * time.Millisecond, DefaultHeartbeatThrottleInterval: 100 * time.Millisecond,
	})
	enough := make(chan struct{})
	w.RegisterActivityWithOptions(func(ctx context.Context) error {
		const total = 20e6
		pace := time.NewTicker(200 * time.Millisecond)
		defer pace.Stop()
		for done := int64(0); ; done = min(done+2e6, 18e6) {
			activity.RecordHeartbeat(ctx, activities.Progress{Done: done, Total: total})
			select {
			case <-pace.C:
			case <-enough:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}, activity.RegisterOptions{Name: "UploadModel"})
	w.RegisterWorkflowWithOptions(func(ctx workflow.Context, in workflows.RegisterInput) (receipt.Receipt, error) {
		ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
			StartToCloseTimeout: time.Minute, HeartbeatTimeout: 10 * time.Second, Summary: "a model with a long path, " + strings.Repeat("models/", 30),
		})
		if err := workflow.ExecuteActivity(ctx, "UploadModel").Get(ctx, nil); err != nil {
			return receipt.Receipt{}, err
		}
		r, err := registered(ctx, in)
		r.WorkflowURL = "http://temporal.example/w"
		return r, err
	}, workflow.RegisterOptions{Name: workflows.TypeRegisterModel})
	require.NoError(s.t, w.Start())
	s.t.Cleanup(w.Stop)
	return enough
}

// letUploadEnd ends the upload once what it shows has been seen.
func (s temporalSite) letUploadEnd(seen chan<- struct{}, shown func() bool) {
	s.t.Helper()
	require.Eventually(s.t, shown, 2*time.Minute, 10*time.Millisecond)
	select {
	case seen <- struct{}{}:
	case <-time.After(2 * time.Minute):
		require.Fail(s.t, "no upload is under way")
	}
}

func anUploadHasABarOnATerminal(s temporalSite) {
	seen := uploading(s)
	for name, c := range map[string]struct {
		environ       []string
		bar, coloured bool
	}{
		"xterm":    {[]string{"TERM=xterm-256color"}, true, true},
		"NO_COLOR": {[]string{"TERM=xterm-256color", "NO_COLOR=1"}, true, false},
		"dumb":     {[]string{"TERM=dumb"}, false, false},
	} {
		s.t.Run(name, func(t *testing.T) {
			term := newTerminal(t, 80)
			began, code := time.Now(), make(chan int, 1)
			go func() {
				args := []string{"register", "--root", projectOf(t, name), "--settle-timeout", "5m"}
				code <- run(t.Context(), args, append(s.inside(t).environ(), c.environ...), term.file, term.file)
			}()
			s.inside(t).letUploadEnd(seen, func() bool {
				// As long as a bar would take to come, where there shall be none.
				return strings.Contains(term.sofar(), "20.0 MB") || !c.bar && time.Since(began) > 3*time.Second
			})

			require.Zero(t, <-code)
			shown := term.all()
			require.Equal(t, c.bar, strings.Contains(shown, "20.0 MB"), "%q", shown)
			require.Equal(t, c.coloured, colours.MatchString(shown), "%q", shown)
			require.Equal(t, c.bar, escapes.MatchString(shown), "%q", shown)
			require.Contains(t, escapes.ReplaceAllString(shown, ""), "registered: "+name+" version 1")
			require.Contains(t, shown, "http://temporal.example/w")
		})
	}
	s.t.Run("pipe", func(t *testing.T) {
		time.AfterFunc(3*time.Second, func() { seen <- struct{}{} })
		said := s.inside(t).starter("register", "--root", projectOf(t, "pipe"), "--settle-timeout", "1m")
		require.Zero(t, said.code, said.stderr)
		require.NotContains(t, said.stdout+said.stderr, "\x1b")
		require.NotContains(t, said.stderr, "MB")
		require.Regexp(t, `(?m)^  UploadModel +\d+\.\d\ds  a model with a long path, (models/){30}$`, said.stderr)
	})
}

// forged is a name that draws another verdict over the screen, on a terminal that obeys it.
const forged = "\x1b[2J\x1b[Hverdict  allowed\r\n\tx\u009b1A"

func TestPrint_NothingFromElsewhereReachesTheTerminalAsACommand(t *testing.T) {
	hostile := activities.Check{Name: forged, Status: activities.CheckFailed, Detail: forged, Remedy: forged}
	for name, print := range map[string]func(*starter) error{
		"inspect": func(s *starter) error {
			return s.printInfo(modelfile.Info{
				Verdict: modelfile.Refused, RootClass: forged, Steps: []modelfile.Step{{Name: forged, Class: forged}},
				FeatureNamesIn: []string{forged}, NFeaturesIn: 1, Params: map[string]string{forged: forged}, Globals: []string{forged},
			})
		},
		"audit": func(s *starter) error {
			return s.printFindings([]activities.Finding{{Kind: forged, Object: forged, ID: forged, Detail: forged, Remedy: forged}})
		},
		"doctor":  func(s *starter) error { (&examination{starter: s}).print(hostile); return nil },
		"warning": func(s *starter) error { s.warn(forged); return nil },
		"history": func(s *starter) error { return s.printHistory(history{Versions: []versionInHistory{{}}}, forged) },
		"watch": func(s *starter) error {
			return (&lookout{starter: s}).line(sighting{listedRegistration: listedRegistration{WorkflowID: forged, ModelVersion: forged}})
		},
		"progress": func(s *starter) error {
			p := s.progress()
			p.line(forged, "", forged, "")
			p.note(forged)
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			var printed bytes.Buffer

			require.NoError(t, print(newStarter(nil, &printed, &printed)))

			require.Contains(t, strings.ToLower(printed.String()), "verdict  allowed", "it is shown")
			require.NotRegexp(t, "[\\x00-\\x09\\x0b-\\x1f\u0080-\u009f]", printed.String())
			require.NotRegexp(t, "(?im)^verdict  allowed", printed.String(), "as no line of its own")
		})
	}
}
