package e2e

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"

	"registrar/internal/receipt"
	"registrar/internal/servertest"
)

// Temporal is set back to a moment within a registration that has ended since. It repeats steps that it does not know of, and MLflow does.
func TestRestored_TemporalFromAnOlderBackupDoublesNothing(t *testing.T) {
	t.Parallel()
	for name, moment := range map[string]func(*gateway) *gate{
		"while_it_looks_up":                  func(g *gateway) *gate { return g.hold("GET /api/2.0/mlflow/model-versions/search") },
		"while_the_run_is_made":              func(g *gateway) *gate { return g.hold("runs/create") },
		"while_it_uploads":                   func(g *gateway) *gate { return g.holdUpload() },
		"while_the_version_is_made":          func(g *gateway) *gate { return g.hold("registered-models/create") },
		"while_the_alias_is_set":             func(g *gateway) *gate { return g.hold("POST /api/2.0/mlflow/registered-models/alias") },
		"while_it_waits_to_make_the_version": func(g *gateway) *gate { return g.refuseUntilOpened("registered-models/create") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			temporal := servertest.Temporal(t)
			s, g := gatedSite(t)
			s.hostPort = temporal.HostPort
			held := moment(g)
			s.startWorker()
			id := s.register("--wait", "none").receipt.WorkflowID
			held.await(t)

			backup := t.TempDir()
			temporal.Kill()
			copyDatabase(t, backup, temporal.LogPath())
			require.NoError(t, temporal.Start(t.Context()))
			held.open()
			first := s.result(id)
			s.requireOutcome(receipt.Registered, first)

			temporal.Kill()
			restoreDatabase(t, backup, temporal.LogPath())
			require.NoError(t, temporal.Start(t.Context()))
			again := s.result(id)

			require.Contains(t, []receipt.Outcome{receipt.Registered, receipt.AlreadyRegistered}, again.Outcome, again.Error)
			require.Equal(t, first.ModelVersion, again.ModelVersion)
			require.Equal(t, first.MLflowRunID, again.MLflowRunID)
			registryAt(t, s.mlflowURI).requireServed(first.RegistrationKey)
		})
	}
}

// The files of a database are those beside its log.
const databaseFiles = "temporal.db*"

func copyDatabase(t *testing.T, to, log string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(filepath.Dir(log), databaseFiles))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		data, err := os.ReadFile(file)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(to, filepath.Base(file)), data, 0o600))
	}
}

func restoreDatabase(t *testing.T, backup, log string) {
	t.Helper()
	newer, err := filepath.Glob(filepath.Join(filepath.Dir(log), databaseFiles))
	require.NoError(t, err)
	for _, file := range newer {
		require.NoError(t, os.Remove(file))
	}
	require.NoError(t, os.CopyFS(filepath.Dir(log), os.DirFS(backup)))
}

// An operator resets an execution, with `temporal workflow reset`, to each step that it took.
func TestReset_ToAnyStepDoublesNothing(t *testing.T) {
	t.Parallel()
	s := sharedSite(t)
	s.startWorker()
	first := s.register().receipt
	s.requireOutcome(receipt.Registered, first)
	c := s.dial()
	tasks := completedTasks(t, c, first.WorkflowID)
	require.NotEmpty(t, tasks)

	for _, task := range tasks {
		described, err := c.DescribeWorkflowExecution(t.Context(), first.WorkflowID, "")
		require.NoError(t, err)
		original := &commonpb.WorkflowExecution{WorkflowId: first.WorkflowID, RunId: described.GetWorkflowExecutionInfo().GetFirstRunId()}
		_, err = c.WorkflowService().ResetWorkflowExecution(t.Context(), &workflowservice.ResetWorkflowExecutionRequest{
			Namespace: "default", WorkflowExecution: original, WorkflowTaskFinishEventId: task,
			Reason: t.Name(), RequestId: t.Name() + "-" + time.Now().String(),
		})
		require.NoError(t, err)

		again := s.result(first.WorkflowID)

		if again.Outcome == receipt.Failed {
			require.Contains(t, again.Error, "the copy was removed, register the model again", "reset to event %d", task)
			require.Empty(t, again.ModelVersion)
			continue
		}
		require.Contains(t, []receipt.Outcome{receipt.Registered, receipt.AlreadyRegistered}, again.Outcome, "reset to event %d", task)
		require.Equal(t, first.ModelVersion, again.ModelVersion, "reset to event %d", task)
	}
	registryAt(t, s.mlflowURI).requireServed(first.RegistrationKey)
}

// completedTasks are the events that a workflow may be reset to.
func completedTasks(t *testing.T, c client.Client, workflowID string) []int64 {
	t.Helper()
	var tasks []int64
	events := c.GetWorkflowHistory(t.Context(), workflowID, "", false, enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for events.HasNext() {
		var event *historypb.HistoryEvent
		event, err := events.Next()
		require.NoError(t, err)
		if event.GetEventType() == enums.EVENT_TYPE_WORKFLOW_TASK_COMPLETED {
			tasks = append(tasks, event.GetEventId())
		}
	}
	return tasks
}
