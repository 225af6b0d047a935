package workflows_test

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/mock"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"registrar/activities"
	"registrar/internal/failure"
	"registrar/internal/mlflow"
	"registrar/internal/mlflow/mlflowtest"
)

func TestRegisterModel_CanceledAtAnyRequestLeavesNothingOrIsTooLate(t *testing.T) {
	atEachRequest(t, func(t *testing.T, number int, e *execution, p project) {
		e.onRequest(number, func() mlflowtest.Fault {
			e.CancelWorkflow()
			return mlflowtest.Fault{}
		}, func() mlflowtest.Fault { return mlflowtest.Fault{} })

		e.register(p.byHand())

		tooLate := requireCanceledOrTooLate(t, e, p)
		// The step that makes the version is let end.
		begun := slices.IndexFunc(e.server.Requests(), func(r mlflowtest.Request) bool { return strings.HasSuffix(r.Path, "/registered-models/create") })
		require.Equal(t, begun >= 0 && number > begun, tooLate)
	})
}

// requireCanceledOrTooLate sees that a canceled registration left no version, no logged model and no run but a KILLED one; or that it
// was registered, and says that the cancellation came too late.
func requireCanceledOrTooLate(t *testing.T, e *execution, p project) (tooLate bool) {
	t.Helper()
	if e.GetWorkflowError() == nil {
		r := e.completed()
		requireRegisteredOnce(t, e.server, r)
		require.Len(t, r.Warnings, 1)
		require.Contains(t, r.Warnings[0], "the cancellation came too late: version "+r.ModelVersion)
		p.requireReceipt(r)
		return true
	}
	r := e.canceled()
	requireNothingLeft(t, e.server, mlflow.RunKilled)
	require.Empty(t, r.ModelVersion)
	require.Empty(t, r.Error)
	p.requireReceipt(r)
	p.requireModelRemoved(r.RegistrationKey)
	return false
}

func TestRegisterModel_CanceledWhileItWaitsLeavesNothingOrIsTooLate(t *testing.T) {
	for name, fault := range map[string]mlflowtest.Fault{"dropped": dropped, "answer lost": answerLost} {
		t.Run(name, func(t *testing.T) {
			atEachRequest(t, func(t *testing.T, number int, e *execution, p project) {
				e.failThen(number, fault, 3*time.Hour, dropped)
				e.RegisterDelayedCallback(e.CancelWorkflow, time.Hour)

				e.register(p.byHand())

				requireCanceledOrTooLate(t, e, p)
			})
		})
	}
}

func TestRegisterModel_CanceledWaitEndsAtOnce(t *testing.T) {
	server := mlflowtest.NewServer(t)
	p := newProject(t, server.URL)
	e := newExecution(t, server, p.root)
	begin := e.Now()
	e.fail(1, 30*24*time.Hour, unavailable)
	e.RegisterDelayedCallback(e.CancelWorkflow, time.Hour)

	e.register(p.byHand())

	e.canceled()
	require.Equal(t, time.Hour, e.Now().Sub(begin).Truncate(time.Minute))
	require.Equal(t, []string{"running", "waiting for http", "done"}, e.states())
	require.Equal(t, "canceled", e.shown[2].outcome)
}

func TestRegisterModel_CanceledUploadIsFencedAtOnce(t *testing.T) {
	server := mlflowtest.NewServer(t)
	p := newProject(t, server.URL)
	e := newExecution(t, server, p.root)
	// The test suite ends a canceled activity itself; here the activity ends as it does on a worker.
	var uploaded activities.UploadModelResult
	e.OnActivity(e.activities.UploadModel, mock.Anything, mock.Anything).Return(
		func(ctx context.Context, in activities.UploadModelInput) (activities.UploadModelResult, error) {
			var err error
			if uploaded, err = e.activities.UploadModel(ctx, in); err != nil {
				return uploaded, err
			}
			return uploaded, temporal.NewCanceledError(failure.Detail{ModelID: uploaded.ModelID})
		})

	e.register(p.byHand())

	e.canceled()
	requireNothingLeft(t, server, mlflow.RunKilled)
	fenced := slices.IndexFunc(server.Requests(), func(r mlflowtest.Request) bool {
		return r.Method == http.MethodDelete && strings.HasSuffix(r.Path, uploaded.ModelID)
	})
	require.Positive(t, fenced)
	require.Less(t, slices.Index(e.scheduled, "FenceLoggedModels"), slices.Index(e.scheduled, "Sweep"))
}

// cancelAsUploadEnds cancels the registration when its upload is as good as done, so that it succeeds all the same.
func (e *execution) cancelAsUploadEnds() {
	e.letsEnd = "UploadModel"
	e.OnActivity(e.activities.UploadModel, mock.Anything, mock.Anything).Return(
		func(ctx context.Context, in activities.UploadModelInput) (activities.UploadModelResult, error) {
			e.CancelWorkflow()
			return e.activities.UploadModel(ctx, in)
		})
}

func TestRegisterModel_CanceledAsItsUploadEndsMakesNoVersion(t *testing.T) {
	server := mlflowtest.NewServer(t)
	p := newProject(t, server.URL)
	e := newExecution(t, server, p.root)
	e.cancelAsUploadEnds()

	e.register(p.byHand())

	e.canceled()
	requireNothingLeft(t, server, mlflow.RunKilled)
	require.NotContains(t, e.scheduled, "RegisterVersion")
	require.Contains(t, e.scheduled, "FenceLoggedModels")
	require.NotContains(t, e.scheduled, "Sweep", "nothing is doubtful")
}

// A worker of the last release asked for the version there, and its executions go on.
func TestRegisterModel_CanceledAsItsUploadEndsKeepsTheVersionThatAnOlderWorkerAskedFor(t *testing.T) {
	server := mlflowtest.NewServer(t)
	p := newProject(t, server.URL)
	e := newExecution(t, server, p.root)
	e.OnGetVersion("canceled-in-upload", workflow.DefaultVersion, 1).Return(workflow.DefaultVersion)
	e.cancelAsUploadEnds()

	e.register(p.byHand())

	require.True(t, requireCanceledOrTooLate(t, e, p))
}

func TestRegisterModel_CleansUpWhenMLflowIsBackAfterACancellation(t *testing.T) {
	for name, fault := range map[string]mlflowtest.Fault{"dropped": dropped, "unauthorized": unauthorized, "redirected": redirected} {
		t.Run(name, func(t *testing.T) {
			server := mlflowtest.NewServer(t)
			p := newProject(t, server.URL)
			e := newExecution(t, server, p.root)
			var down bool
			server.Intercept(func(r *http.Request) mlflowtest.Fault {
				e.mu.Lock()
				defer e.mu.Unlock()
				if strings.HasSuffix(r.URL.Path, "/registered-models/create") && !down {
					down, e.backAt = true, e.Now().Add(3*time.Hour)
				}
				if e.Now().Before(e.backAt) {
					return fault
				}
				return mlflowtest.Fault{}
			})
			begin := e.Now()
			e.RegisterDelayedCallback(e.CancelWorkflow, time.Hour)
			var ended time.Time
			e.SetOnChildWorkflowStartedListener(func(*workflow.Info, workflow.Context, converter.EncodedValues) { ended = e.Now() })

			e.register(p.byHand())

			e.canceled()
			require.Less(t, ended.Sub(begin), 2*time.Hour, "the registration does not wait for MLflow")
			require.Len(t, server.Runs(), 1)
			require.Equal(t, mlflow.RunKilled, server.Runs()[0].Info.Status)
			require.Empty(t, server.LoggedModels())
			require.Empty(t, server.ModelVersions())
		})
	}
}

// Temporal was restored from a backup: the history has the run, and not the version that it led to.
func TestRegisterModel_CleansUpNothingThatIsServedWhereItIsSetBackInAnOutage(t *testing.T) {
	server := mlflowtest.NewServer(t)
	p := newProject(t, server.URL)
	e := newExecution(t, server, p.root)
	e.register(p.byHand())
	first := e.completed()
	e = newExecution(t, server, p.root)
	e.OnActivity(e.activities.LookUp, mock.Anything, mock.Anything).Return(activities.LookUpResult{Own: true, ExperimentID: first.ExperimentID}, nil).Once()
	e.OnActivity(e.activities.LookUp, mock.Anything, mock.Anything).Return(e.activities.LookUp)
	e.OnActivity(e.activities.UploadModel, mock.Anything, mock.Anything).Return(
		func(context.Context, activities.UploadModelInput) (activities.UploadModelResult, error) {
			e.fail(1, 3*time.Hour, dropped)
			return activities.UploadModelResult{}, temporal.NewNonRetryableApplicationError("the copy was removed", failure.BadInput, nil)
		})

	e.register(p.byHand())

	_, r := e.failed()
	require.Equal(t, first.MLflowRunID, r.MLflowRunID)
	require.Equal(t, 2, strings.Count(strings.Join(e.scheduled, " "), "FinishRun"), "the sweep does what the registration could not")
	requireRegisteredOnce(t, server, first)
}
