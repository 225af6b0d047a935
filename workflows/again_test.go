package workflows_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"registrar/activities"
	"registrar/internal/mlflow"
	"registrar/internal/mlflow/mlflowtest"
	"registrar/internal/receipt"
	"registrar/workflows"
)

// again is a later execution of the same workflow id, as the starter starts it.
func (e *execution) again(root string) *execution {
	later := newExecution(e.t, e.server, root)
	later.generation = e.generation + " again"
	later.SetStartTime(e.Now().Add(time.Hour))
	return later
}

// terminate ends the execution at the first request that the endpoint's name ends, in the middle of it: nothing is cleaned up.
func (e *execution) terminate(in workflows.RegisterInput, endpoint string) {
	e.t.Helper()
	const before = time.Hour
	e.SetWorkflowRunTimeout(before)
	e.server.Intercept(func(r *http.Request) mlflowtest.Fault {
		e.mu.Lock()
		defer e.mu.Unlock()
		if strings.HasSuffix(r.URL.Path, endpoint) {
			e.backAt = e.Now().Add(2 * before)
		}
		if e.Now().Before(e.backAt) {
			return dropped
		}
		return mlflowtest.Fault{}
	})
	e.register(in)
	require.ErrorContains(e.t, e.GetWorkflowError(), "deadline exceeded")
	e.server.Intercept(nil)
}

func TestRegisterModel_FindsWhatIsRegisteredAlready(t *testing.T) {
	server := mlflowtest.NewServer(t)
	p := newProject(t, server.URL)
	e := newExecution(t, server, p.root)
	e.register(p.byHand())
	first := e.completed()
	sent := len(server.Requests())

	later := e.again(p.root)
	later.register(p.byHand())

	r := later.completed()
	require.Equal(t, receipt.AlreadyRegistered, r.Outcome)
	require.Equal(t, first.ModelVersion, r.ModelVersion)
	require.Equal(t, first.MLflowRunID, r.MLflowRunID)
	require.Equal(t, first.MLflowModelID, r.MLflowModelID)
	require.Equal(t, first.ExperimentID, r.ExperimentID)
	require.Equal(t, first.ModelURI, r.ModelURI)
	requireRegisteredOnce(t, server, first)
	for _, request := range server.Requests()[sent:] {
		require.True(t, request.Method == http.MethodGet || strings.HasSuffix(request.Path, "/search"), "%s %s", request.Method, request.Path)
	}
	p.requireReceipt(r)
	p.requireModelRemoved(r.RegistrationKey)
}

func TestRegisterModel_FindsWhatAnotherOwnerRegistered(t *testing.T) {
	server := mlflowtest.NewServer(t)
	p := newProject(t, server.URL)
	e := newExecution(t, server, p.root)
	e.register(p.byHand())
	first := e.completed()
	other := e.again(p.root)
	other.SetStartWorkflowOptions(startOptions("register/credit/by-hand"))

	other.register(p.byHand())

	r := other.completed()
	require.Equal(t, receipt.AlreadyRegistered, r.Outcome)
	require.Equal(t, first.ModelVersion, r.ModelVersion)
	requireRegisteredOnce(t, server, first)
}

func TestRegisterModel_RegistersAgainWhatWasDeleted(t *testing.T) {
	server := mlflowtest.NewServer(t)
	p := newProject(t, server.URL)
	e := newExecution(t, server, p.root)
	e.register(p.byHand())
	first := e.completed()
	require.NoError(t, clientOf(t, server).DeleteModelVersion(t.Context(), modelName, first.ModelVersion))

	later := e.again(p.root)
	later.register(workflows.RegisterInput{Root: p.root, Again: true})

	r := later.completed()
	require.Equal(t, receipt.Registered, r.Outcome)
	require.Equal(t, "2", r.ModelVersion)
	require.Len(t, server.ModelVersions(), 1)
	requireServed(t, server.ModelVersions()[0], r)
	// The earlier run and logged model were returned to a caller once, and stay.
	require.Len(t, liveRuns(server), 2)
	require.Len(t, server.LoggedModels(), 2)
}

func TestRegisterModel_ForceTokenMakesANewVersion(t *testing.T) {
	server := mlflowtest.NewServer(t)
	p := newProject(t, server.URL)
	e := newExecution(t, server, p.root)
	e.register(p.byHand())
	first := e.completed()
	forced := workflows.RegisterInput{Root: p.root, ForceToken: "retrained"}

	for range 2 { // its own repetition makes none
		e = e.again(p.root)
		e.register(forced)
	}

	r := e.completed()
	require.Equal(t, receipt.AlreadyRegistered, r.Outcome)
	require.Equal(t, "2", r.ModelVersion)
	require.NotEqual(t, first.RegistrationKey, r.RegistrationKey)
	versions := server.ModelVersions()
	require.Len(t, versions, 2)
	require.Equal(t, mlflow.StageArchived, versions[0].CurrentStage)
	require.Equal(t, activities.Stage, versions[1].CurrentStage)
}

func TestRegisterModel_RegistersWhenTheThresholdWasLowered(t *testing.T) {
	server := mlflowtest.NewServer(t)
	p := newProject(t, server.URL)
	p.writeParams(server.URL, 0.9)
	e := newExecution(t, server, p.root)
	e.register(p.byHand())
	refused := e.completed()
	require.Equal(t, receipt.Rejected, refused.Outcome)
	p.writeParams(server.URL, 0.7)

	later := e.again(p.root)
	later.register(p.byHand())

	r := later.completed()
	requireRegisteredOnce(t, server, r)
	require.Equal(t, refused.RegistrationKey, r.RegistrationKey)
}

func TestRegisterModel_AnotherModelOfTheNameTakesStageAndAlias(t *testing.T) {
	server := mlflowtest.NewServer(t)
	p := newProject(t, server.URL)
	e := newExecution(t, server, p.root)
	e.register(p.byHand())
	p.copyModel("pipeline.joblib")

	later := e.again(p.root)
	later.SetStartWorkflowOptions(startOptions("register/credit/another"))
	later.register(p.byHand())

	r := later.completed()
	require.Equal(t, receipt.Registered, r.Outcome)
	require.Equal(t, "2", r.ModelVersion)
	versions := server.ModelVersions()
	require.Len(t, versions, 2)
	require.Equal(t, mlflow.StageArchived, versions[0].CurrentStage)
	require.Empty(t, versions[0].Aliases)
	requireServed(t, versions[1], r)
}

func TestRegisterModel_OlderVersionNeverTakesOver(t *testing.T) {
	server := mlflowtest.NewServer(t)
	p := newProject(t, server.URL)
	e := newExecution(t, server, p.root)
	// Version 2 is made and promoted while version 1 waits to be.
	e.hears = func() bool {
		client := clientOf(t, server)
		if len(server.ModelVersions()) == 1 {
			_, err := client.CreateModelVersion(t.Context(), mlflow.CreateModelVersionRequest{Name: modelName, Source: "mlflow-artifacts:/elsewhere"})
			require.NoError(t, err)
			require.NoError(t, client.TransitionModelVersionStage(t.Context(), modelName, "2", activities.Stage, false))
			require.NoError(t, client.SetRegisteredModelAlias(t.Context(), modelName, activities.Alias, "2"))
		}
		return true
	}

	e.register(p.byHand())

	r := e.completed()
	require.Equal(t, receipt.Registered, r.Outcome)
	require.Equal(t, "1", r.ModelVersion)
	require.Empty(t, r.Stage)
	require.Empty(t, r.Aliases)
	require.Len(t, r.Warnings, 1)
	require.Contains(t, r.Warnings[0], "stay on version 2")
	require.Equal(t, map[string]string{activities.Alias: "2"}, server.Aliases(modelName))
	require.Equal(t, mlflow.StageNone, server.ModelVersions()[0].CurrentStage)
	require.NotEmpty(t, tagOf(server.ModelVersions()[0].Tags, activities.TagCompleted))
}

func TestRegisterModel_FinishesWhatATerminatedExecutionDecided(t *testing.T) {
	for _, endpoint := range []string{"/model-versions/transition-stage", "/registered-models/alias", "/runs/update", "/model-versions/set-tag"} {
		t.Run(endpoint, func(t *testing.T) {
			server := mlflowtest.NewServer(t)
			p := newProject(t, server.URL)
			e := newExecution(t, server, p.root)
			e.terminate(p.byHand(), endpoint)
			run, version := server.Runs()[0], server.ModelVersions()[0]

			later := e.again(p.root)
			later.register(p.byHand())

			r := later.completed()
			requireRegisteredOnce(t, server, r)
			require.Equal(t, run.Info.RunID, r.MLflowRunID)
			require.Equal(t, version.Version, r.ModelVersion)
			require.NotContains(t, later.scheduled, "LogRun")
			p.requireReceipt(r)
		})
	}
}

func TestRegisterModel_ClosesWhatATerminatedExecutionLeftUndecided(t *testing.T) {
	for _, endpoint := range []string{
		"/runs/log-batch", "/logged-models", "/MLmodel", "/registered-models/create", "/model-versions/create", "/runs/log-parameter",
	} {
		t.Run(endpoint, func(t *testing.T) {
			server := mlflowtest.NewServer(t)
			p := newProject(t, server.URL)
			e := newExecution(t, server, p.root)
			e.terminate(p.byHand(), endpoint)
			abandoned := server.Runs()[0].Info.RunID

			later := e.again(p.root)
			later.register(workflows.RegisterInput{Root: p.root, Again: true})

			r := later.completed()
			requireRegisteredOnce(t, server, r) // the sweep deletes what was abandoned
			require.NotEqual(t, abandoned, r.MLflowRunID)
			require.Equal(t, activities.NoVersion, paramOf(server.Runs()[0], activities.ParamVersion))
			require.Equal(t, mlflow.LifecycleDeleted, server.Runs()[0].Info.LifecycleStage)
		})
	}
}

func TestRegisterModel_FencesLateVersionsOfATerminatedExecution(t *testing.T) {
	server := mlflowtest.NewServer(t)
	p := newProject(t, server.URL)
	e := newExecution(t, server, p.root)
	e.terminate(p.byHand(), "/model-versions/create")
	late := server.LoggedModels()[0]

	later := e.again(p.root)
	var refused error
	server.Intercept(func(r *http.Request) mlflowtest.Fault {
		if refused == nil && strings.HasSuffix(r.URL.Path, "/runs/create") {
			// What the terminated execution had sent arrives only now.
			server.Intercept(nil)
			_, refused = clientOf(t, server).CreateModelVersion(t.Context(), mlflow.CreateModelVersionRequest{
				Name: modelName, Source: "models:/" + late.Info.ModelID, ModelID: late.Info.ModelID, Tags: late.Info.Tags,
			})
		}
		return mlflowtest.Fault{}
	})
	later.register(p.byHand())

	requireRegisteredOnce(t, server, later.completed())
	require.Error(t, refused)
}

func TestRegisterModel_FailsCleanlyThoughAnotherOwnerRegisteredMeanwhile(t *testing.T) {
	server := mlflowtest.NewServer(t)
	p := newProject(t, server.URL)
	e := newExecution(t, server, p.root)
	server.Intercept(func(r *http.Request) mlflowtest.Fault {
		if r.Method != http.MethodPut || !strings.HasSuffix(r.URL.Path, "/model.pkl") {
			return mlflowtest.Fault{}
		}
		run := server.Runs()[0]
		at := slices.IndexFunc(run.Data.Tags, func(tag mlflow.Tag) bool { return tag.Key == activities.TagKey })
		client := clientOf(t, server)
		_, err := client.CreateRegisteredModel(t.Context(), mlflow.CreateRegisteredModelRequest{Name: modelName})
		assert.NoError(t, err)
		_, err = client.CreateModelVersion(t.Context(), mlflow.CreateModelVersionRequest{
			Name: modelName, Source: "mlflow-artifacts:/elsewhere",
			Tags: []mlflow.Tag{run.Data.Tags[at], {Key: activities.TagOwner, Value: "elsewhere"}, {Key: activities.TagCompleted, Value: "then"}},
		})
		assert.NoError(t, err)
		return mlflowtest.Fault{Status: http.StatusRequestEntityTooLarge}
	})

	e.register(p.byHand())

	require.Error(t, e.GetWorkflowError())
	require.Len(t, server.Runs(), 1)
	require.Equal(t, mlflow.RunFailed, server.Runs()[0].Info.Status, "what is ours is cleaned up")
}
