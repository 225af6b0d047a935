package waiting

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"

	"registrar/activities"
	"registrar/internal/mlflow"
	"registrar/internal/receipt"
	"registrar/internal/servertest"
	"registrar/workflows"
)

// states are the steps of a registration, each of which a server may be killed in.
var states = []string{
	"LoadConfig", "SnapshotModel", "ValidateMetrics", "CheckMLflowHealth", "LookUp", "LogRun", "UploadModel", "RegisterVersion",
	"RecordVersion", promoting, "FinishRun", "WriteReceipt",
}

// localSteps are taken within a workflow task, of which the history tells nothing before it ends: each begins when the step before it, or the
// workflow, does. RecordVersion and RequestPromotion are one task.
var localSteps = map[string]string{
	"LoadConfig": "", "ValidateMetrics": "SnapshotModel", "RecordVersion": "RegisterVersion", "WriteReceipt": "FinishRun",
}

// promoting is the step that another workflow takes for the registration.
const promoting = "PromoteVersion"

// killing is a server that is killed and started again, and when.
type killing struct {
	server string
	now    func()
	in     []string // states
}

func TestRestart_InEachStateLeavesOneOfEach(t *testing.T) {
	t.Parallel()
	s, server := newSite(t), servertest.MLflow(t)
	killings := []killing{
		{"temporal", s.killTemporal, []string{"UploadModel"}},
		{"mlflow", func() { server.Kill(); require.NoError(t, server.Start(t.Context())) }, []string{"RegisterVersion"}},
	}
	if *full {
		killings[0].in, killings[1].in = states, states
	}
	s.requireOnceDespite(t, killings, server.URI)
}

func TestRestart_OnPostgreSQLInEachStateLeavesOneOfEach(t *testing.T) {
	if !*postgres {
		t.Skip("`make postgres` runs it")
	}
	temporal := servertest.TemporalOnPostgreSQL(t)
	s := newSiteOn(t, temporal.TemporalServer)
	s.requireOnceDespite(t, []killing{
		{"temporal", s.killTemporal, states},
		{"postgresql", func() { temporal.KillDatabase(); require.NoError(t, temporal.RestartDatabase(t.Context())) }, states},
	}, servertest.MLflow(t).URI)
}

// requireOnceDespite lets a registration of its own meet each killing in each of its states, one after the other.
func (s *site) requireOnceDespite(t *testing.T, killings []killing, mlflowURI string) {
	s.startWorker()
	for _, kill := range killings {
		for _, state := range kill.in {
			t.Run(kill.server+"_"+state, func(t *testing.T) {
				in := &site{t: t, temporal: s.temporal, client: s.client, folder: s.folder}
				modelName := kill.server + "-" + strings.ToLower(state)
				id := "register/" + modelName + "/by-hand"
				in.start(id, in.newProject(modelName, mlflowURI, time.Second))
				before, isLocal := localSteps[state]
				switch {
				case isLocal:
					in.awaitCompleted(id, before)
				case state == promoting:
					in.awaitScheduled(workflows.PromotionID(modelName, mlflowURI, ""), state)
				default:
					in.awaitScheduled(id, state)
				}

				kill.now()

				requireOnce(t, mlflowURI, in.requireRegistered(id, patience))
			})
		}
	}
}

// awaitScheduled returns as soon as the workflow's history has the activity as scheduled: it is about to run, or runs.
func (s *site) awaitScheduled(workflowID, activity string) {
	s.t.Helper()
	s.awaitEvent(workflowID, func(event *historypb.HistoryEvent) bool {
		return event.GetActivityTaskScheduledEventAttributes().GetActivityType().GetName() == activity
	})
}

// awaitCompleted returns as soon as the workflow's history has the activity as completed, or, without one, the workflow as started.
func (s *site) awaitCompleted(workflowID, activity string) {
	s.t.Helper()
	var scheduled int64
	s.awaitEvent(workflowID, func(event *historypb.HistoryEvent) bool {
		if event.GetActivityTaskScheduledEventAttributes().GetActivityType().GetName() == activity && activity != "" {
			scheduled = event.GetEventId()
		}
		completed := event.GetActivityTaskCompletedEventAttributes()
		return activity == "" || completed != nil && completed.GetScheduledEventId() == scheduled
	})
}

func (s *site) awaitEvent(workflowID string, isIt func(*historypb.HistoryEvent) bool) {
	s.t.Helper()
	require.Eventually(s.t, func() bool {
		_, err := s.client.DescribeWorkflowExecution(s.t.Context(), workflowID, "")
		return err == nil
	}, patience, 10*time.Millisecond, "%s is there", workflowID)
	events := s.client.GetWorkflowHistory(s.t.Context(), workflowID, "", true, enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for events.HasNext() {
		event, err := events.Next()
		require.NoError(s.t, err)
		if isIt(event) {
			return
		}
	}
	require.FailNow(s.t, "the workflow ended without what was waited for")
}

// requireOnce sees that a registration left one finished run, one ready logged model, and one completed version that is served.
func requireOnce(t testing.TB, uri string, r receipt.Receipt) {
	t.Helper()
	client, err := mlflow.New(mlflow.Config{TrackingURI: uri})
	require.NoError(t, err)
	defer client.Close()
	filter, err := mlflow.Filter(mlflow.TagIs(activities.TagKey, r.RegistrationKey))
	require.NoError(t, err)
	ctx, experiments := t.Context(), []string{r.ExperimentID}
	var runs []mlflow.Run
	var models []mlflow.LoggedModel
	// A sweep removes what a lost answer left.
	require.Eventually(t, func() bool {
		if runs, err = client.SearchAllRuns(ctx, experiments, filter); err == nil {
			models, err = client.SearchLoggedModels(ctx, experiments, filter)
		}
		return err == nil && len(runs) == 1 && len(models) == 1
	}, patience, 500*time.Millisecond, "one run and one logged model")
	require.Equal(t, mlflow.RunFinished, runs[0].Info.Status)
	require.Equal(t, mlflow.LoggedModelReady, models[0].Info.Status)
	versions, err := client.SearchModelVersions(ctx, filter)
	require.NoError(t, err)
	require.Len(t, versions, 1)
	require.NotEmpty(t, tagged(versions[0].Tags, activities.TagCompleted))
	served, err := client.GetModelVersionByAlias(ctx, r.ModelName, activities.Alias)
	require.NoError(t, err)
	require.Equal(t, r.ModelVersion, served.Version)
	require.Equal(t, activities.Stage, served.CurrentStage)
}
