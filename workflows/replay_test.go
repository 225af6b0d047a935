package workflows_test

import (
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/contrib/opentelemetry"
	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"registrar/activities"
	"registrar/workflows"
)

const histories = "testdata/histories"

// recordedPaths are the ways that the workflows go, each with a history that TestRecordHistories (test/e2e) made on real
// servers. A file is named <path>.json, and <path>.before-<change>.json where executions may still be under way that began
// before a change.
var recordedPaths = map[string]string{
	"passed":                          "registered",
	"already_registered":              "the same files again",
	"forced":                          "the same files again, with a force token",
	"rejected":                        "the gate refuses the model",
	"failed":                          "the model file is none",
	"by_hand":                         "started without a registration folder",
	"outage_at_start":                 "MLflow is down before anything was asked of it",
	"outage_during_upload":            "MLflow goes down while the model is uploaded",
	"rechecked":                       "somebody asks for a look before the next probe",
	"blocked":                         "MLflow refuses a credential that it had taken",
	"canceled_while_waiting":          "canceled before MLflow was reached",
	"canceled_while_uploading":        "canceled with a run and a logged model made",
	"canceled_too_late":               "canceled while the version is made",
	"version_found":                   "the answer of model-versions/create is lost, and the version there",
	"version_condemned":               "the answer of model-versions/create is lost, and no version there",
	"decided_then_terminated":         "an earlier execution had decided on a version",
	"uploaded_then_terminated":        "an earlier execution had a logged model and no version",
	"gave_up_waiting":                 "the outage lasts longer than max_wait",
	"canceled_in_outage":              "canceled with a run and a logged model made, and MLflow down",
	"deleted_meanwhile":               "somebody deletes the logged model before it has a version",
	"version_deleted":                 "somebody deletes the version before it is promoted",
	"in_workspace":                    "the version is promoted in a workspace of MLflow's",
	"without_logged_models":           "an older MLflow, where the answer of model-versions/create is lost",
	"outage_at_look_up":               "MLflow goes down before it was asked for what is there already",
	"outage_at_log_run":               "MLflow goes down before the run is made",
	"outage_at_upload_model":          "MLflow goes down before the logged model is made",
	"outage_at_register_version":      "MLflow goes down before the version is asked for",
	"outage_at_look_for_version":      "the answer of model-versions/create is lost, and MLflow goes down",
	"outage_at_fence_logged_models":   "a logged model is condemned, and MLflow goes down before it is deleted",
	"outage_at_record_version":        "MLflow goes down before the version is decided on",
	"outage_at_promote_version":       "MLflow goes down before the version is promoted",
	"outage_at_finish_run":            "MLflow goes down before the run is ended",
	"canceled_at_load_config":         "canceled while the settings are read",
	"canceled_at_snapshot_model":      "canceled while the model is frozen",
	"canceled_at_validate_metrics":    "canceled while the metrics are judged",
	"canceled_at_check_mlflow_health": "canceled while MLflow is looked at",
	"canceled_at_look_up":             "canceled while MLflow is asked for what is there already",
	"canceled_at_log_run":             "canceled while the run is made, which is let end",
	"canceled_at_upload_model":        "canceled before the logged model is made",
	"canceled_at_register_version":    "canceled before the version is asked for, too late",
	"canceled_at_record_version":      "canceled before the version is decided on, too late",
	"canceled_at_request_promotion":   "canceled before the version is promoted, too late",
	"canceled_at_finish_run":          "canceled before the run is ended, too late",
	"canceled_as_upload_ends":         "canceled when the model is uploaded, before the workflow hears of that",
	"canceled_at_write_receipt":       "canceled when all but the receipt is done, too late",
	"canceled_while_blocked":          "canceled while MLflow refuses a credential that it had taken",
	"canceled_too_late_in_outage":     "canceled with a version made, and MLflow down",
	"adopted_run":                     "the worker is killed with a run made, and another one adopts it",
	"adopted_logged_model":            "the worker is killed with a logged model made, and another one adopts it",
	"availability":                    "the workflow that waits for MLflow",
	"availability_full":               "the workflow that waits for MLflow, where more joins come than one execution takes",
	"availability_continued":          "the execution after that",
	"promotion":                       "the workflow that promotes",
	"promotion_lost":                  "the workflow that promotes, where an answer is lost",
	"promotion_in_outage":             "the workflow that promotes, where MLflow goes down",
	"promotion_full":                  "the workflow that promotes, where more requests come than one execution takes",
	"promotion_continued":             "the execution after that, with MLflow down, until it is terminated",
	"sweep":                           "the workflow that removes leftovers",
	"sweep_in_outage":                 "the workflow that removes leftovers, where MLflow was down when the registration ended",
}

const howToVersion = `the workflows do other things than this recorded execution did, so executions under way would break.
Was the change meant? Then keep what the old executions do: put the new order behind workflow.GetVersion, rename this
history to <path>.before-<change>.json, and record the new one by ` + "`make histories`" + `. Old histories stay as long as
such executions may be under way.`

func TestReplay_RecordedHistoriesTakeTheSamePath(t *testing.T) {
	for _, file := range recordedFiles(t) {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".json"), func(t *testing.T) {
			replayer, err := worker.NewWorkflowReplayerWithOptions(worker.WorkflowReplayerOptions{DisableDeadlockDetection: true})
			require.NoError(t, err)
			workflows.RegisterWorkflows(replayer)
			require.NoError(t, replay(t, replayer, file), howToVersion)
		})
	}
}

// Tracing is switched on and off, and between two workers of a fleet, while registrations wait.
func TestReplay_TracingChangesNoPath(t *testing.T) {
	provider := sdktrace.NewTracerProvider()
	tracing, err := opentelemetry.NewTracingInterceptor(opentelemetry.TracerOptions{Tracer: provider.Tracer("replay"), AllowInvalidParentSpans: true})
	require.NoError(t, err)
	for _, file := range recordedFiles(t) {
		replayer, err := worker.NewWorkflowReplayerWithOptions(worker.WorkflowReplayerOptions{
			DisableDeadlockDetection: true, Interceptors: []interceptor.WorkerInterceptor{tracing},
		})
		require.NoError(t, err)
		workflows.RegisterWorkflows(replayer)
		require.NoError(t, replay(t, replayer, file), file)
	}
}

func TestReplay_ReorderedWorkflowIsNoticed(t *testing.T) {
	for _, path := range []string{"passed", "rejected", "outage_at_start"} {
		replayer := worker.NewWorkflowReplayer()
		replayer.RegisterWorkflowWithOptions(freezesFirst, workflow.RegisterOptions{Name: workflows.TypeRegisterModel})
		require.ErrorContains(t, replay(t, replayer, filepath.Join(histories, path+".json")), "TMPRL1100", path)
	}
}

// replay gives the execution the id that it had: a sweep is named after its registration.
func replay(t *testing.T, replayer worker.WorkflowReplayer, file string) error {
	t.Helper()
	f, err := os.Open(file)
	require.NoError(t, err)
	defer f.Close()
	history, err := client.HistoryFromJSON(f, client.HistoryJSONOptions{})
	require.NoError(t, err)
	started := history.GetEvents()[0].GetWorkflowExecutionStartedEventAttributes()
	silent := log.NewStructuredLogger(slog.New(slog.DiscardHandler)) // the error that is returned says it all
	return replayer.ReplayWorkflowHistoryWithOptions(silent, history, worker.ReplayWorkflowHistoryOptions{
		OriginalExecution: workflow.Execution{ID: started.GetWorkflowId(), RunID: started.GetOriginalExecutionRunId()},
	})
}

// freezesFirst is RegisterModel with its first two steps the other way round.
func freezesFirst(ctx workflow.Context, in workflows.RegisterInput) (workflows.Result, error) {
	var a *activities.Activities
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: 1})
	project := activities.Project{Root: in.Root, RootDir: in.RootDir, Key: in.Key}
	if err := workflow.ExecuteActivity(ctx, a.SnapshotModel, activities.SnapshotModelInput{Project: project}).Get(ctx, nil); err != nil {
		return workflows.Result{}, err
	}
	err := workflow.ExecuteActivity(ctx, a.LoadConfig, activities.LoadConfigInput{Project: project}).Get(ctx, nil)
	return workflows.Result{}, err
}

func TestReplay_EachPathHasAHistoryAndEachHistoryAPath(t *testing.T) {
	recorded := map[string]bool{}
	for _, file := range recordedFiles(t) {
		path, _, _ := strings.Cut(filepath.Base(file), ".")
		require.Contains(t, recordedPaths, path, "%s is of no path that is listed", file)
		recorded[path] = true
	}
	require.ElementsMatch(t, slices.Collect(maps.Keys(recordedPaths)), slices.Collect(maps.Keys(recorded)),
		"paths without a history: record them by `make histories`")
}

func recordedFiles(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(histories, "*.json"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	return files
}
