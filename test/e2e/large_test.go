package e2e

import (
	"bytes"
	encoding "encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/sdk/converter"

	"registrar/activities"
	"registrar/internal/receipt"
	"registrar/internal/snapshot"
)

func TestLarge_UploadShowsItsProgressAndEndsWhenCanceled(t *testing.T) {
	t.Parallel()
	s, gateway := gatedSite(t)
	const size, rate = 64 << 20, 1 << 20 // a minute
	writeModel(t, s.project.path(modelFile), size)
	brake := gateway.slowDown("model.pkl", rate)
	s.startWorker()
	id := s.register("--wait", "none").receipt.WorkflowID

	moved := s.canceledOnceItMoves(id, "UploadModel", size)

	brake.open()
	brake.await(t) // what the worker had sent has come, and then the request breaks off
	require.NotEmpty(t, moved.ModelID)
	registryAt(t, s.mlflowURI).requireNoVersion(s.status(id).RegistrationKey, "KILLED")
}

func TestLarge_ReadingShowsItsProgressAndEndsWhenCanceled(t *testing.T) {
	t.Parallel()
	s := sharedSite(t)
	writeModel(t, s.project.path(modelFile), 1<<20)
	id := s.register("--wait", "none").receipt.WorkflowID // and no worker is there
	const size = 64 << 30                                 // half a minute to read
	s.enlargeCopy(size)

	s.startWorker()

	s.canceledOnceItMoves(id, "SnapshotModel", size)
}

func TestLarge_FileGoesUpWholeWhereTheStoreTakesNoParts(t *testing.T) {
	t.Parallel()
	s, gateway := gatedSite(t)
	writeModel(t, s.project.path(modelFile), 3*partBytes)
	s.startWorker("--part-size-bytes", fmt.Sprint(partBytes))

	r := s.register().receipt

	s.requireOutcome(receipt.Registered, r)
	registryAt(t, s.mlflowURI).requireServed(r.RegistrationKey)
	asked, sent := false, 0
	for _, request := range gateway.requests() {
		require.NotContains(t, request, "/mpu/")
		asked = asked || strings.Contains(request, "server-info")
		if strings.HasPrefix(request, "PUT") && strings.HasSuffix(request, "model.pkl") {
			sent++
		}
	}
	require.True(t, asked, "whether the store takes parts")
	require.Equal(t, 1, sent)
}

// canceledOnceItMoves cancels a registration when its step has reported bytes, and `starter watch` shows them, and sees that the step ends at once, with
// most of its bytes undone. It returns what Temporal's Web UI has shown last.
func (s *site) canceledOnceItMoves(workflowID, step string, size int64) (last activities.Progress) {
	s.t.Helper()
	watch, _, stderr := s.command("watch", workflowID, "--until-done", "--interval", "100ms")
	watch.Stdout = nil
	stdout, err := watch.StdoutPipe()
	require.NoError(s.t, err)
	require.NoError(s.t, watch.Start())
	var first activities.Progress
	eventually(s.t, func() bool { first = s.progress(workflowID, step); return first.Done > 0 }, "%s reports bytes", step)
	eventually(s.t, func() bool { last = s.progress(workflowID, step); return last.Done > first.Done }, "%s reports more bytes", step)
	lines := json.NewDecoder(stdout)
	require.Equal(s.t, last.Total, s.nextTotal(lines, step))
	require.GreaterOrEqual(s.t, last.Total, size)
	require.Less(s.t, last.Done, size/2)

	require.NoError(s.t, s.dial().CancelWorkflow(s.t.Context(), workflowID, ""))

	s.requireOutcome(receipt.Canceled, s.result(workflowID))
	took := s.cancellation(workflowID, step)
	s.t.Logf("%s ended %s after the cancellation", step, took)
	require.Less(s.t, took, 8*time.Second, "it takes half a second; heartbeats that the SDK holds back (0.8 of their timeout, 15 s) would make it up to 12")
	_, err = io.Copy(io.Discard, stdout)
	require.NoError(s.t, err)
	require.NoError(s.t, watch.Wait(), stderr)
	return last
}

// nextTotal reads lines of `starter watch` up to the next one that has the bytes of the step, and returns how many there are.
func (s *site) nextTotal(lines *json.Decoder, step string) int64 {
	s.t.Helper()
	for {
		var line struct {
			Step       string `json:"step"`
			DoneBytes  int64  `json:"done_bytes"`
			TotalBytes int64  `json:"total_bytes"`
		}
		require.NoError(s.t, lines.Decode(&line))
		if line.Step == step && line.DoneBytes > 0 {
			return line.TotalBytes
		}
	}
}

// progress is what the step under way reported last, as Temporal shows it.
func (s *site) progress(workflowID, step string) (p activities.Progress) {
	s.t.Helper()
	described, err := s.dial().DescribeWorkflowExecution(s.t.Context(), workflowID, "")
	require.NoError(s.t, err)
	for _, pending := range described.GetPendingActivities() {
		if details := pending.GetHeartbeatDetails(); details != nil && pending.GetActivityType().GetName() == step {
			require.NoError(s.t, converter.GetDefaultDataConverter().FromPayloads(details, &p))
		}
	}
	return p
}

// cancellation is the time from the request to cancel to the end of the step that was under way, by Temporal's clock.
func (s *site) cancellation(workflowID, step string) time.Duration {
	s.t.Helper()
	var scheduled int64
	var asked, ended time.Time
	for _, event := range s.events(workflowID) {
		switch {
		case event.GetActivityTaskScheduledEventAttributes().GetActivityType().GetName() == step:
			scheduled = event.GetEventId()
		case event.GetEventType() == enums.EVENT_TYPE_WORKFLOW_EXECUTION_CANCEL_REQUESTED:
			asked = event.GetEventTime().AsTime()
		case scheduled != 0 && event.GetActivityTaskCanceledEventAttributes().GetScheduledEventId() == scheduled:
			ended = event.GetEventTime().AsTime()
		}
	}
	require.NotZero(s.t, asked, "the cancellation")
	require.NotZero(s.t, ended, "the end of %s by it", step)
	return ended.Sub(asked)
}

func (s *site) events(workflowID string) (all []*historypb.HistoryEvent) {
	s.t.Helper()
	events := s.dial().GetWorkflowHistory(s.t.Context(), workflowID, "", false, enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for events.HasNext() {
		event, err := events.Next()
		require.NoError(s.t, err)
		all = append(all, event)
	}
	return all
}

// writeModel writes a model file with a payload of this size. That is a hole in the file, which costs time to read and no disk.
func writeModel(t testing.TB, path string, payloadBytes int64) (sizeBytes int64) {
	t.Helper()
	// PROTO 4, the object of a class without state, BINBYTES8 beneath it on the stack; at the end POP, STOP.
	head := append([]byte("\x80\x04csklearn.tree._classes\nDecisionTreeClassifier\n)\x81\x8e"), encoding.LittleEndian.AppendUint64(nil, uint64(payloadBytes))...)
	require.NoError(t, os.RemoveAll(path))
	file, err := os.Create(path)
	require.NoError(t, err)
	defer file.Close()
	_, err = file.Write(head)
	require.NoError(t, err)
	end := int64(len(head)) + payloadBytes
	_, err = file.WriteAt([]byte("0."), end)
	require.NoError(t, err)
	return end + 2
}

// enlargeCopy makes the frozen model of the project's one registration a larger one than could be copied here. Its digest is a wrong one then, which only
// who has read it to its end knows.
func (s *site) enlargeCopy(payloadBytes int64) {
	s.t.Helper()
	folder := filepath.Dir(s.uploadFile())
	name := filepath.Join(folder, "request.json")
	data, err := os.ReadFile(name)
	require.NoError(s.t, err)
	var request snapshot.Request
	require.NoError(s.t, json.Unmarshal(data, &request))
	size := writeModel(s.t, filepath.Join(folder, request.Model.Name), payloadBytes)
	before := fmt.Appendf(nil, `"size_bytes": %d`, request.Model.SizeBytes)
	require.Equal(s.t, 1, bytes.Count(data, before))
	require.NoError(s.t, os.WriteFile(name, bytes.Replace(data, before, fmt.Appendf(nil, `"size_bytes": %d`, size), 1), 0o600))
}
