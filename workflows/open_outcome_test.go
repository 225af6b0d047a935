package workflows_test

import (
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"registrar/activities"
	"registrar/internal/failure"
	"registrar/internal/mlflow"
	"registrar/internal/mlflow/mlflowtest"
	"registrar/internal/receipt"
	"registrar/workflows"
)

// onCreateVersion lets the faults befall the requests that make a version, one each; later ones succeed.
func onCreateVersion(faults ...mlflowtest.Fault) func(*http.Request) mlflowtest.Fault {
	var seen atomic.Int32
	return func(r *http.Request) mlflowtest.Fault {
		if !strings.HasSuffix(r.URL.Path, "/model-versions/create") {
			return mlflowtest.Fault{}
		}
		if at := int(seen.Add(1)) - 1; at < len(faults) {
			return faults[at]
		}
		return mlflowtest.Fault{}
	}
}

// requestsTo are the POST requests to an endpoint, in order.
func requestsTo(server *mlflowtest.Server, endpoint string) []mlflowtest.Request {
	return slices.DeleteFunc(server.Requests(), func(r mlflowtest.Request) bool {
		return r.Method != http.MethodPost || !strings.HasSuffix(r.Path, endpoint)
	})
}

func TestRegisterVersion_TakesTheVersionWhoseAnswerWasLost(t *testing.T) {
	server := mlflowtest.NewServer(t)
	p := newProject(t, server.URL)
	e := newExecution(t, server, p.root)
	server.Intercept(onCreateVersion(answerLost))

	e.register(p.byHand())

	r := e.completed()
	requireRegisteredOnce(t, server, r)
	require.Equal(t, "1", r.ModelVersion)
	require.Len(t, requestsTo(server, "/model-versions/create"), 1)
	require.Contains(t, e.scheduled, "LookForVersion")
	require.NotContains(t, e.scheduled, "FenceLoggedModels")
	require.Contains(t, e.scheduled, "Sweep")
}

func TestRegisterVersion_CondemnsTheLoggedModelWhoseVersionNeverCame(t *testing.T) {
	server := mlflowtest.NewServer(t)
	p := newProject(t, server.URL)
	e := newExecution(t, server, p.root)
	server.Intercept(onCreateVersion(dropped))

	e.register(p.byHand())

	r := e.completed()
	requireRegisteredOnce(t, server, r)
	creates := requestsTo(server, "/model-versions/create")
	require.Len(t, creates, 2)
	require.NotContains(t, string(creates[0].Body), r.MLflowModelID)
	require.Contains(t, string(creates[1].Body), r.MLflowModelID)
	requireInOrder(t, e.scheduled, "RegisterVersion", "LookForVersion", "FenceLoggedModels", "UploadModel", "RegisterVersion", "RecordVersion")
	var steps []string
	for _, request := range server.Requests() {
		if request.Method == http.MethodDelete || strings.HasSuffix(request.Path, "/model-versions/create") {
			steps = append(steps, request.Method)
		}
	}
	require.Equal(t, []string{http.MethodPost, http.MethodDelete, http.MethodPost}, steps, "the fence is there before the next request")
}

// requireInOrder sees that the steps come one right after the other.
func requireInOrder(t *testing.T, scheduled []string, steps ...string) {
	t.Helper()
	require.Contains(t, strings.Join(scheduled, ", "), strings.Join(steps, ", "))
}

func TestRegisterVersion_NeverCountsAVersionThatComesAfterTheFence(t *testing.T) {
	server := mlflowtest.NewServer(t)
	p := newProject(t, server.URL)
	e := newExecution(t, server, p.root)
	e.activities.Clients.Timeouts.ResponseHeader = 100 * time.Millisecond
	late, arrived := make(chan struct{}), make(chan struct{})
	var creates atomic.Int32
	server.Intercept(func(r *http.Request) mlflowtest.Fault {
		if !strings.HasSuffix(r.URL.Path, "/model-versions/create") {
			return mlflowtest.Fault{}
		}
		switch creates.Add(1) {
		case 1:
			return mlflowtest.Fault{Hang: late}
		case 2:
			close(late) // the first one arrives when its logged model is gone
			close(arrived)
		}
		return mlflowtest.Fault{}
	})

	e.register(p.byHand())

	<-arrived
	requireRegisteredOnce(t, server, e.completed())
}

func TestRegisterVersion_PausesLongerWithEachOpenOutcome(t *testing.T) {
	server := mlflowtest.NewServer(t)
	p := newProject(t, server.URL)
	e := newExecution(t, server, p.root)
	begin := e.Now()
	server.Intercept(onCreateVersion(dropped, dropped, dropped, dropped, dropped))

	e.register(p.byHand())

	requireRegisteredOnce(t, server, e.completed())
	require.Len(t, requestsTo(server, "/model-versions/create"), 6)
	pauses := slices.DeleteFunc(slices.Clone(e.scheduled), func(s string) bool { return s != "timer before another logged model" })
	require.Len(t, pauses, 4)
	// 10 s, 20 s, 40 s, 80 s, and then the sweep.
	require.Equal(t, 150*time.Second+settleTime, e.Now().Sub(begin).Truncate(10*time.Second))
}

func TestRegisterVersion_GivesUpWhenTheOutcomeStaysOpen(t *testing.T) {
	server := mlflowtest.NewServer(t)
	p := newProject(t, server.URL)
	e := newExecution(t, server, p.root)
	begin := e.Now()
	server.Intercept(func(r *http.Request) mlflowtest.Fault {
		if strings.HasSuffix(r.URL.Path, "/model-versions/create") {
			return mlflowtest.Fault{Status: http.StatusInternalServerError}
		}
		return mlflowtest.Fault{}
	})

	e.register(p.byHand())

	failed, _ := e.failed()
	require.Equal(t, failure.UnknownOutcome, failed.Type())
	require.Contains(t, failed.Message(), "model-versions/create open 50 times")
	requireNothingLeft(t, server, mlflow.RunFailed)
	require.Greater(t, e.Now().Sub(begin), 36*time.Hour)
}

func TestRegisterVersion_WithoutLoggedModelsWaitsUntilALateRequestIsDead(t *testing.T) {
	for name, test := range map[string]struct {
		fault   mlflowtest.Fault
		creates int
	}{
		"applied":     {answerLost, 1},
		"not applied": {dropped, 2},
	} {
		t.Run(name, func(t *testing.T) {
			server := mlflowtest.NewServer(t)
			p := newProject(t, server.URL)
			e := newExecution(t, server, p.root)
			withoutLoggedModels(server, onCreateVersion(test.fault))

			e.register(p.byHand())

			r := e.completed()
			require.Equal(t, receipt.Registered, r.Outcome)
			require.Len(t, server.ModelVersions(), 1)
			requireServed(t, server.ModelVersions()[0], r)
			require.Len(t, liveRuns(server), 1)
			require.Len(t, requestsTo(server, "/model-versions/create"), test.creates)
			requireInOrder(t, e.scheduled, "RegisterVersion", "timer until a late request is dead", "LookForVersion")
		})
	}
}

func TestSweepLeftovers_GoesOnWhereTheRunThatItShallEndIsGone(t *testing.T) {
	server := mlflowtest.NewServer(t)
	e := newExecution(t, server, t.TempDir())
	owner := activities.Owner{Key: "key", Owner: namespace + "/" + registrationID, Generation: "first", StartedAt: 1}
	_, err := clientOf(t, server).CreateLoggedModel(t.Context(), mlflow.CreateLoggedModelRequest{
		ExperimentID: "0", Name: "model", Tags: []mlflow.Tag{
			{Key: activities.TagKey, Value: owner.Key},
			{Key: activities.TagOwner, Value: owner.Owner},
			{Key: activities.TagGeneration, Value: owner.Generation},
			{Key: activities.TagStarted, Value: "1"},
		},
	})
	require.NoError(t, err)
	to := activities.Server{TrackingURI: server.URL, Root: e.root}

	e.ExecuteWorkflow(workflows.SweepLeftovers, workflows.SweepInput{
		EndRun: &activities.FinishRunInput{Server: to, RunID: "gone", Status: activities.RunKilled},
		Wait:   true, Settle: settleTime,
		Sweep: activities.SweepInput{Server: to, Owner: owner, LoggedModels: true},
	})

	require.ErrorContains(t, e.GetWorkflowError(), "gone")
	require.Empty(t, server.LoggedModels())
}

func TestRegisterVersion_CanceledWhileTheOutcomeIsOpen(t *testing.T) {
	for name, test := range map[string]struct {
		fault   mlflowtest.Fault
		tooLate bool
	}{
		"applied":     {answerLost, true},
		"not applied": {dropped, false},
	} {
		t.Run(name, func(t *testing.T) {
			server := mlflowtest.NewServer(t)
			p := newProject(t, server.URL)
			e := newExecution(t, server, p.root)
			decide := onCreateVersion(test.fault)
			server.Intercept(func(r *http.Request) mlflowtest.Fault {
				fault := decide(r)
				if fault.Drop {
					e.CancelWorkflow()
				}
				return fault
			})

			e.register(p.byHand())

			require.Equal(t, test.tooLate, requireCanceledOrTooLate(t, e, p))
		})
	}
}
