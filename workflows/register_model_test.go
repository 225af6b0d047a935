package workflows_test

import (
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/workflow"

	"registrar/activities"
	"registrar/internal/failure"
	"registrar/internal/mlflow"
	"registrar/internal/mlflow/mlflowtest"
	"registrar/internal/receipt"
	"registrar/workflows"
)

func TestRegisterModel_RegistersAGoodModelOnce(t *testing.T) {
	server := mlflowtest.NewServer(t)
	p := newProject(t, server.URL)
	e := newExecution(t, server, p.root)

	e.register(p.byHand())

	r := e.completed()
	requireRegisteredOnce(t, server, r)
	require.Empty(t, r.Warnings)
	require.Equal(t, registrationID, r.WorkflowID)
	require.Equal(t, server.URL, r.TrackingURI)
	require.True(t, r.Decision.Passed)
	p.requireReceipt(r)
	p.requireDecision(*r.Decision)
	p.requireModelRemoved(r.RegistrationKey)
	require.Equal(t, []string{"running", "done"}, e.states())
	require.Equal(t, shown{state: "done", outcome: "registered", version: "1"}, e.shown[1])
}

func TestRegisterModel_SaysInMLflowWhatItWasMadeOf(t *testing.T) {
	server := mlflowtest.NewServer(t)
	p := newProject(t, server.URL)
	e := newExecution(t, server, p.root)

	e.register(p.byHand())

	r := e.completed()
	run, model, version := server.Runs()[0], server.LoggedModels()[0], server.ModelVersions()[0]
	for _, tags := range [][]mlflow.Tag{run.Data.Tags, model.Info.Tags, version.Tags} {
		require.Equal(t, r.RegistrationKey, tagOf(tags, activities.TagKey))
		require.Equal(t, namespace+"/"+registrationID, tagOf(tags, activities.TagOwner))
		require.Equal(t, e.generation, tagOf(tags, activities.TagGeneration))
		require.NotEmpty(t, tagOf(tags, activities.TagStarted))
	}
	for _, tags := range [][]mlflow.Tag{run.Data.Tags, version.Tags} {
		require.Equal(t, r.ModelSHA256, tagOf(tags, "registrar.model_sha256"))
		require.True(t, strings.HasPrefix(tagOf(tags, "registrar.workflow_url"), "http://temporal.example/namespaces/"+namespace+"/workflows/"))
	}
	require.Equal(t, activities.RunName, run.Info.RunName)
	require.Equal(t, modelName, paramOf(run, "model_name"))
	require.Equal(t, "model.joblib", paramOf(run, "model_file"))
	require.Equal(t, "0.6", paramOf(run, "min_roc_auc"))
	require.Contains(t, version.Description, "met all rules")
	require.Contains(t, version.Description, r.ModelSHA256)
}

func TestRegisterModel_RegistersWhatTheStarterFroze(t *testing.T) {
	server := mlflowtest.NewServer(t)
	p := newProject(t, server.URL)
	in := p.freeze()
	// The pipeline goes on: nothing of this may be read any more.
	p.write("model.joblib", "rewritten")
	p.write("metrics.json", `{"roc_auc": 0.1}`)
	p.remove("config/config.yaml")
	p.remove("config/params.yaml")
	e := newExecution(t, server, p.root)

	e.register(in)

	r := e.completed()
	requireRegisteredOnce(t, server, r)
	require.Equal(t, in.Key, r.RegistrationKey)
}

func TestRegisterModel_RejectsABadModelWithoutAskingMLflow(t *testing.T) {
	server := mlflowtest.NewServer(t)
	p := newProject(t, server.URL)
	p.write("metrics.json", `{"roc_auc": NaN}`)
	e := newExecution(t, server, p.root)

	e.register(p.byHand())

	r := e.completed()
	require.Equal(t, receipt.Rejected, r.Outcome)
	require.Equal(t, receipt.Done, r.State)
	require.False(t, r.Decision.Passed)
	require.Len(t, r.Warnings, 1)
	require.Contains(t, r.Warnings[0], "roc_auc")
	require.Empty(t, server.Requests())
	p.requireReceipt(r)
	p.requireDecision(*r.Decision)
	p.requireModelRemoved(r.RegistrationKey)
}

func TestRegisterModel_FailsOnBadInputWithoutAskingMLflow(t *testing.T) {
	for name, test := range map[string]struct {
		spoil func(project)
		kind  string
		says  []string
	}{
		"no metrics":       {func(p project) { p.remove("metrics.json") }, failure.BadInput, []string{"metrics.json"}},
		"metrics not JSON": {func(p project) { p.write("metrics.json", "accuracy: 1") }, failure.BadInput, []string{"metrics.json"}},
		"no model":         {func(p project) { p.remove("model.joblib") }, failure.BadInput, []string{"model.joblib"}},
		"model is garbage": {func(p project) { p.write("model.joblib", "not a model") }, failure.BadInput, []string{"model.joblib"}},
		"no config":        {func(p project) { p.remove("config/config.yaml") }, failure.BadInput, []string{"config/config.yaml"}},
		"threshold no number": {func(p project) {
			p.write("config/params.yaml", "registration_params:\n  min_roc_auc: high\n")
		}, failure.Configuration, []string{"config/params.yaml:2", "min_roc_auc", "high", "give a number"}},
		"unknown key": {func(p project) {
			p.write("config/params.yaml", "registration_params:\n  min_roc_acu: 0.6\n")
		}, failure.Configuration, []string{"min_roc_acu", "min_roc_auc"}},
		"tracking URI is a file": {func(p project) { p.writeParams("file:///tmp/mlruns", 0.6) }, failure.Configuration, []string{"mlflow.uri", "mlflow server"}},
	} {
		t.Run(name, func(t *testing.T) {
			server := mlflowtest.NewServer(t)
			p := newProject(t, server.URL)
			test.spoil(p)
			e := newExecution(t, server, p.root)

			e.register(p.byHand())

			failed, r := e.failed()
			require.Equal(t, test.kind, failed.Type())
			for _, text := range test.says {
				require.Contains(t, failed.Message(), text)
			}
			require.Equal(t, failed.Message(), r.Error)
			require.NotContains(t, failed.Message(), "not a model")
			require.Empty(t, server.Requests())
			require.Equal(t, "done", e.states()[len(e.states())-1])
		})
	}
}

func TestRegisterModel_LeavesNothingWhenMLflowRefuses(t *testing.T) {
	for name, path := range map[string]string{
		"the run's params": "/api/2.0/mlflow/runs/log-batch",
		"a file":           "/api/2.0/mlflow-artifacts/artifacts/",
		"READY":            "/api/2.0/mlflow/logged-models/m-",
		"the version":      "/api/2.0/mlflow/model-versions/create",
	} {
		t.Run(name, func(t *testing.T) {
			server := mlflowtest.NewServer(t)
			p := newProject(t, server.URL)
			e := newExecution(t, server, p.root)
			server.Intercept(func(r *http.Request) mlflowtest.Fault {
				if r.Method != http.MethodGet && r.Method != http.MethodDelete && strings.HasPrefix(r.URL.Path, path) {
					return mlflowtest.Fault{Status: http.StatusRequestEntityTooLarge, Body: "too large"}
				}
				return mlflowtest.Fault{}
			})

			e.register(p.byHand())

			failed, r := e.failed()
			require.Equal(t, failure.Refused, failed.Type())
			require.Contains(t, failed.Message(), "413")
			requireNothingLeft(t, server, mlflow.RunFailed)
			p.requireReceipt(r)
			p.requireModelRemoved(r.RegistrationKey)
		})
	}
}

func TestRegisterModel_SaysHowToRestoreADeletedExperiment(t *testing.T) {
	// What MLflow answers of a deleted experiment, with the endpoint that tells first.
	for name, told := range map[string]mlflowtest.Fault{
		"/experiments/search": {Status: http.StatusOK, Body: `{"experiments": []}`},
		"/runs/create": {Status: http.StatusBadRequest, Body: `{"error_code": "INVALID_PARAMETER_VALUE",
			"message": "The experiment 7 must be in the 'active' state. Current state is deleted."}`},
	} {
		t.Run(name, func(t *testing.T) {
			server := mlflowtest.NewServer(t)
			p := newProject(t, server.URL)
			e := newExecution(t, server, p.root)
			server.Intercept(func(r *http.Request) mlflowtest.Fault {
				switch {
				case strings.HasSuffix(r.URL.Path, name):
					return told
				case strings.HasSuffix(r.URL.Path, "/experiments/get-by-name"):
					return mlflowtest.Fault{Status: http.StatusOK, Body: `{"experiment": {"experiment_id": "7", "name": "Default", "lifecycle_stage": "deleted"}}`}
				}
				return mlflowtest.Fault{}
			})

			e.register(p.byHand())

			failed, _ := e.failed()
			require.Equal(t, failure.Configuration, failed.Type())
			require.Contains(t, failed.Message(), "mlflow experiments restore --experiment-id 7")
			require.Empty(t, server.Runs())
		})
	}
}

func TestRegisterModel_GetsTheOlderLayoutFromAServerWithoutLoggedModels(t *testing.T) {
	server := mlflowtest.NewServer(t)
	p := newProject(t, server.URL)
	e := newExecution(t, server, p.root)
	withoutLoggedModels(server, func(*http.Request) mlflowtest.Fault { return mlflowtest.Fault{} })

	e.register(p.byHand())

	r := e.completed()
	require.Equal(t, receipt.Registered, r.Outcome)
	require.Empty(t, r.MLflowModelID)
	require.Empty(t, server.LoggedModels())
	runs, versions := liveRuns(server), server.ModelVersions()
	require.Len(t, runs, 1)
	require.Len(t, versions, 1)
	requireServed(t, versions[0], r)
	require.Equal(t, runs[0].Info.ArtifactURI+"/model", versions[0].Source)
	require.Contains(t, tagOf(runs[0].Data.Tags, "mlflow.log-model.history"), `"artifact_path"`)
	requireMetricsOnce(t, server, r.MLflowRunID)
	requireFiles(t, server, strings.TrimPrefix(versions[0].Source, "mlflow-artifacts:/"))
}

// withoutLoggedModels makes the server answer as MLflow 2 does, which has none; other requests get the fault that decide says.
func withoutLoggedModels(server *mlflowtest.Server, decide func(*http.Request) mlflowtest.Fault) {
	server.Intercept(func(r *http.Request) mlflowtest.Fault {
		if strings.Contains(r.URL.Path, "/logged-models") {
			return mlflowtest.Fault{Status: http.StatusNotFound, Body: "<!doctype html><title>404 Not Found</title>"}
		}
		return decide(r)
	})
}

func TestRegisterModel_AsksForPromotionByName(t *testing.T) {
	server := mlflowtest.NewServer(t)
	p := newProject(t, server.URL)
	e := newExecution(t, server, p.root)

	e.register(p.byHand())

	require.Len(t, e.calls, 1)
	call := e.calls[0]
	require.Equal(t, workflows.TypePromoteVersions, call.Workflow)
	require.Equal(t, workflows.PromotionID(modelName, e.server.URL, ""), call.WorkflowID)
	require.Equal(t, workflows.SignalPromote, call.Signal)
	require.Equal(t, workflows.TaskQueue, call.TaskQueue)
	require.Equal(t, workflows.PromoteVersionsInput{ModelName: modelName, Settle: settleTime}, decoded[workflows.PromoteVersionsInput](t, call.Start))
	request := decoded[workflows.PromotionRequest](t, call.Signaled)
	require.Equal(t, "1", request.Promote.Version)
	require.Equal(t, modelName, request.Promote.ModelName)
	require.Equal(t, server.URL, request.Promote.Server.TrackingURI)
	require.Equal(t, registrationID, request.WorkflowID)
	require.NotEmpty(t, request.RunID)
}

// promotionAsked is the id of the workflow that a registration in the workspace asks for promotion.
func promotionAsked(t *testing.T, workspace string, prepare func(*execution)) string {
	server := mlflowtest.NewServer(t)
	p := newProject(t, server.URL)
	p.write(".env", "MLFLOW_WORKSPACE="+workspace+"\n")
	e := newExecution(t, server, p.root)
	prepare(e)

	e.register(p.byHand())

	requireRegisteredOnce(t, server, e.completed())
	require.Len(t, e.calls, 1)
	id := e.calls[0].WorkflowID
	require.Contains(t, []string{workflows.PromotionID(modelName, server.URL, workspace), workflows.PromotionID(modelName, server.URL, "")}, id)
	if id == workflows.PromotionID(modelName, server.URL, "") {
		return "shared"
	}
	return "of the workspace"
}

func TestRegisterModel_AsksForPromotionInItsWorkspace(t *testing.T) {
	changes := 0
	counts := func(e *execution) {
		e.OnGetVersion("promotion-by-workspace", workflow.DefaultVersion, 1).Return(func(string, workflow.Version, workflow.Version) workflow.Version {
			changes++
			return 1
		})
	}

	require.Equal(t, "of the workspace", promotionAsked(t, "risk", counts))
	require.Equal(t, 1, changes)

	require.Equal(t, "shared", promotionAsked(t, "", counts))
	require.Equal(t, "shared", promotionAsked(t, "default", counts))
	require.Equal(t, 1, changes, "others have no event of it")
}

// Who asked a worker of the last release waits for the answer of the one whom that worker asked.
func TestRegisterModel_GoesOnAskingWhomAnOlderWorkerAskedForPromotion(t *testing.T) {
	require.Equal(t, "shared", promotionAsked(t, "risk", func(e *execution) {
		e.OnGetVersion("promotion-by-workspace", workflow.DefaultVersion, 1).Return(workflow.DefaultVersion)
	}))
}

// deletesBeforePromotion has somebody delete something when the first promotion is asked for.
func (e *execution) deletesBeforePromotion(remove func(*mlflow.Client) error) {
	var once sync.Once
	e.hears = func() bool {
		once.Do(func() { assert.NoError(e.t, remove(clientOf(e.t, e.server))) })
		return true
	}
}

func (e *execution) deletesItsVersionBeforePromotion() {
	e.deletesBeforePromotion(func(c *mlflow.Client) error { return c.DeleteModelVersion(e.t.Context(), modelName, "1") })
}

func TestRegisterModel_FailsWhereItsVersionIsDeletedBeforeItIsPromoted(t *testing.T) {
	server := mlflowtest.NewServer(t)
	p := newProject(t, server.URL)
	e := newExecution(t, server, p.root)
	e.deletesItsVersionBeforePromotion()

	e.register(p.byHand())

	failed, r := e.failed()
	require.Equal(t, failure.Gone, failed.Type())
	require.Equal(t, "version 1 of "+modelName+" was deleted before it was promoted; register the same files again for another one", failed.Message())
	require.Empty(t, r.Warnings)
	require.Len(t, server.Runs(), 1)
	require.Equal(t, mlflow.RunFailed, server.Runs()[0].Info.Status)

	later := e.again(p.root)
	later.register(workflows.RegisterInput{Root: p.root, Again: true})

	second := later.completed()
	require.Equal(t, receipt.Registered, second.Outcome)
	require.Equal(t, "2", second.ModelVersion)
	require.Len(t, server.ModelVersions(), 1)
	requireServed(t, server.ModelVersions()[0], second)
	require.Equal(t, []string{mlflow.RunFailed, mlflow.RunFinished}, []string{server.Runs()[0].Info.Status, server.Runs()[1].Info.Status})
}

func TestRegisterModel_LeavesNoRunRunningWhereItsVersionIsDeletedBeforeTheEnd(t *testing.T) {
	for name, test := range map[string]struct {
		happen func(*execution)
		runs   []string
	}{
		"with all others of its name": {func(e *execution) {
			e.deletesBeforePromotion(func(c *mlflow.Client) error { return c.DeleteRegisteredModel(e.t.Context(), modelName) })
		}, []string{mlflow.RunFailed}},
		"after it was promoted": {func(e *execution) {
			var once sync.Once
			e.server.Intercept(func(r *http.Request) mlflowtest.Fault {
				if strings.HasSuffix(r.URL.Path, "/model-versions/set-tag") {
					once.Do(func() { assert.NoError(e.t, clientOf(e.t, e.server).DeleteModelVersion(e.t.Context(), modelName, "1")) })
				}
				return mlflowtest.Fault{}
			})
		}, []string{mlflow.RunFailed}},
		"and MLflow goes down": {func(e *execution) {
			e.deletesItsVersionBeforePromotion()
			var once sync.Once
			e.server.Intercept(func(r *http.Request) mlflowtest.Fault {
				if r.Method == http.MethodDelete { // by the one who holds the lock
					return mlflowtest.Fault{}
				}
				e.mu.Lock()
				defer e.mu.Unlock()
				if strings.HasSuffix(r.URL.Path, "/runs/update") {
					once.Do(func() { e.backAt = e.Now().Add(3 * time.Hour) })
				}
				if e.Now().Before(e.backAt) {
					return dropped
				}
				return mlflowtest.Fault{}
			})
		}, []string{mlflow.RunFailed}},
		"and its run with it": {func(e *execution) {
			e.deletesBeforePromotion(func(c *mlflow.Client) error {
				return errors.Join(c.DeleteModelVersion(e.t.Context(), modelName, "1"), c.DeleteRun(e.t.Context(), e.server.Runs()[0].Info.RunID))
			})
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			server := mlflowtest.NewServer(t)
			p := newProject(t, server.URL)
			e := newExecution(t, server, p.root)
			test.happen(e)

			e.register(p.byHand())

			failed, _ := e.failed()
			require.Equal(t, failure.Gone, failed.Type())
			var left []string
			for _, run := range liveRuns(server) {
				left = append(left, run.Info.Status)
			}
			require.Equal(t, test.runs, left)
		})
	}
}

// A worker of the last release ended no run there, and its executions go on.
func TestRegisterModel_KeepsTheRunThatAnOlderWorkerLeftWhereItsVersionIsDeleted(t *testing.T) {
	server := mlflowtest.NewServer(t)
	p := newProject(t, server.URL)
	e := newExecution(t, server, p.root)
	e.OnGetVersion("deleted-ends-run", workflow.DefaultVersion, 1).Return(workflow.DefaultVersion)
	e.deletesItsVersionBeforePromotion()

	e.register(p.byHand())

	failed, _ := e.failed()
	require.Equal(t, failure.Gone, failed.Type())
	require.NotContains(t, e.scheduled, "FinishRun")
}

func TestRegisterModel_SaysThatTheVersionStaysWhereItCannotBePromoted(t *testing.T) {
	server := mlflowtest.NewServer(t)
	p := newProject(t, server.URL)
	e := newExecution(t, server, p.root)
	server.Intercept(func(r *http.Request) mlflowtest.Fault {
		if strings.HasSuffix(r.URL.Path, "/transition-stage") {
			return mlflowtest.Fault{Status: http.StatusBadRequest, Body: `{"error_code": "INVALID_PARAMETER_VALUE", "message": "no such stage"}`}
		}
		return mlflowtest.Fault{}
	})

	e.register(p.byHand())

	_, r := e.failed()
	require.Equal(t, "1", r.ModelVersion)
	require.Equal(t, []string{"version 1 was made and stays as it is: register the same files again when MLflow takes them"}, r.Warnings)
	server.Intercept(nil)
	later := e.again(p.root)
	later.register(p.byHand())
	requireRegisteredOnce(t, server, later.completed())
}

func TestRegisterModel_AsksAgainWhenNobodyAnswersThePromotion(t *testing.T) {
	server := mlflowtest.NewServer(t)
	p := newProject(t, server.URL)
	e := newExecution(t, server, p.root)
	asked := 0
	e.hears = func() bool {
		asked++
		return asked == 3 // the first two were asked of an execution that was terminated
	}
	begin := e.Now()

	e.register(p.byHand())

	requireRegisteredOnce(t, server, e.completed())
	require.Equal(t, 3, asked)
	require.Equal(t, 2*time.Minute, e.Now().Sub(begin).Truncate(time.Second))
}
