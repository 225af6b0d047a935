package workflows_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
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
	"registrar/internal/receipt"
	"registrar/workflows"
)

// What befalls requests. Where it is dropped or unavailable, the request was not applied; where its answer is lost, it was.
var (
	unavailable    = mlflowtest.Fault{Status: http.StatusServiceUnavailable, Body: "<html>upstream is gone</html>"}
	dropped        = mlflowtest.Fault{Drop: true}
	answerLost     = mlflowtest.Fault{Drop: true, AfterApply: true}
	databaseLocked = mlflowtest.Fault{Status: http.StatusServiceUnavailable, Body: `{"error_code": "TEMPORARILY_UNAVAILABLE", "message": "database is locked"}`}
	unauthorized   = mlflowtest.Fault{Status: http.StatusUnauthorized, Body: "token expired"}
	redirected     = mlflowtest.Fault{Status: http.StatusFound, Body: "<html>log in first</html>"}
)

// requestsOfAPass are the requests of a registration that nothing disturbs, each named by its number and what it asks.
func requestsOfAPass(t *testing.T) []string {
	server := mlflowtest.NewServer(t)
	p := newProject(t, server.URL)
	newExecution(t, server, p.root).register(p.byHand())
	var names []string
	for i, request := range server.Requests() {
		asked := request.Path[strings.Index(request.Path[1:], "/")+1:]
		names = append(names, fmt.Sprintf("%02d %s %s", i+1, request.Method, asked))
	}
	require.Greater(t, len(names), 20)
	return names
}

// atEachRequest runs a test for each request of a registration, on a server and a project of its own.
func atEachRequest(t *testing.T, test func(t *testing.T, number int, e *execution, p project)) {
	for i, name := range requestsOfAPass(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // most of the time goes into waiting for the disk
			server := mlflowtest.NewServer(t)
			p := newProject(t, server.URL)
			test(t, i+1, newExecution(t, server, p.root), p)
		})
	}
}

func TestRegisterModel_RegistersOnceAfterAnOutageAtAnyRequest(t *testing.T) {
	const lasts = 3 * time.Hour
	for name, fault := range map[string]mlflowtest.Fault{"unavailable": unavailable, "dropped": dropped} {
		t.Run(name, func(t *testing.T) {
			atEachRequest(t, func(t *testing.T, number int, e *execution, p project) {
				begin := e.Now()
				e.fail(number, lasts, fault)
				var during receipt.Receipt
				e.RegisterDelayedCallback(func() { during = e.queried() }, lasts/2)

				e.register(p.byHand())

				requireRegisteredOnce(t, e.server, e.completed())
				require.GreaterOrEqual(t, e.Now().Sub(begin), lasts)
				require.Equal(t, receipt.Waiting, during.State)
				require.Contains(t, []string{"http", "artifact_store"}, during.Waiting.Layer)
				require.NotEmpty(t, during.Waiting.LastError)
				require.WithinDuration(t, begin, during.Waiting.Since, time.Minute)
				require.Equal(t, []string{"running", "waiting for " + during.Waiting.Layer, "running", "done"}, e.states())
				requireOneWait(t, e)
			})
		})
	}
}

// requireOneWait sees that MLflowAvailability was asked once, for the right server, in the name of this execution.
func requireOneWait(t *testing.T, e *execution) {
	t.Helper()
	require.Len(t, e.waits, 1)
	require.Equal(t, registrationID, e.waits[0].WorkflowID)
	require.NotEmpty(t, e.waits[0].RunID)
	call := e.calls[slices.IndexFunc(e.calls, func(c activities.Call) bool { return c.Signal == workflows.SignalJoin })]
	require.Equal(t, workflows.TypeMLflowAvailability, call.Workflow)
	require.Equal(t, workflows.AvailabilityID(e.server.URL, workflows.TaskQueue), call.WorkflowID)
	require.Equal(t, workflows.TaskQueue, call.TaskQueue)
	start := decoded[workflows.AvailabilityInput](t, call.Start)
	require.Equal(t, e.server.URL, start.Server.TrackingURI)
	require.Equal(t, 10*time.Second, start.Interval)
	require.Empty(t, start.Waiters)
}

func TestRegisterModel_RegistersOnceWhenAnyAnswerIsLost(t *testing.T) {
	atEachRequest(t, func(t *testing.T, number int, e *execution, p project) {
		e.onRequest(number,
			func() mlflowtest.Fault { return answerLost },
			func() mlflowtest.Fault { return mlflowtest.Fault{} })

		e.register(p.byHand())

		r := e.completed()
		requireRegisteredOnce(t, e.server, r)
		require.Equal(t, "1", r.ModelVersion)
		for _, endpoint := range []string{"/runs/create", "/logged-models", "/model-versions/create"} {
			require.Len(t, requestsTo(e.server, endpoint), 1, "what was made is found, not made again")
		}
	})
}

func TestRegisterModel_RegistersOnceWhenAnswersAreLostInAnOutage(t *testing.T) {
	atEachRequest(t, func(t *testing.T, number int, e *execution, p project) {
		e.failThen(number, answerLost, time.Hour, dropped)

		e.register(p.byHand())

		r := e.completed()
		requireRegisteredOnce(t, e.server, r)
		require.Equal(t, "1", r.ModelVersion)
	})
}

func TestRegisterModel_WaitsForAServerThatIsNotThereYet(t *testing.T) {
	server := mlflowtest.NewServer(t)
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := listener.Addr().String()
	require.NoError(t, listener.Close())
	p := newProject(t, "http://"+address)
	e := newExecution(t, server, p.root)
	e.backAt = e.Now().Add(time.Hour)
	e.RegisterDelayedCallback(func() {
		require.Equal(t, "tcp", e.queried().Waiting.Layer)
		require.Empty(t, server.Requests())
		startProxy(t, address, server.URL)
	}, time.Hour-time.Second)

	e.register(p.byHand())

	requireRegisteredOnce(t, server, e.completed())
	require.Equal(t, []string{"running", "waiting for tcp", "running", "done"}, e.states())
	require.NotContains(t, e.scheduled, workflows.TypeSweep)
}

// startProxy serves at the address what the target answers.
func startProxy(t *testing.T, address, target string) {
	to, err := url.Parse(target)
	require.NoError(t, err)
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", address)
	require.NoError(t, err)
	proxy := &http.Server{Handler: httputil.NewSingleHostReverseProxy(to), ReadHeaderTimeout: time.Minute}
	go func() { _ = proxy.Serve(listener) }() // until it is closed
	t.Cleanup(func() { require.NoError(t, proxy.Close()) })
}

func TestRegisterModel_SaysWhatItWaitsFor(t *testing.T) {
	for layer, test := range map[string]struct {
		path  string
		fault mlflowtest.Fault
	}{
		"artifact_store": {"/mlflow-artifacts/", unavailable},
		"database":       {"/experiments/", databaseLocked},
	} {
		t.Run(layer, func(t *testing.T) {
			server := mlflowtest.NewServer(t)
			p := newProject(t, server.URL)
			e := newExecution(t, server, p.root)
			e.backAt = e.Now().Add(time.Hour)
			server.Intercept(func(r *http.Request) mlflowtest.Fault {
				if e.Now().Before(e.backAt) && strings.Contains(r.URL.Path, test.path) {
					return test.fault
				}
				return mlflowtest.Fault{}
			})

			e.register(p.byHand())

			requireRegisteredOnce(t, server, e.completed())
			require.Equal(t, []string{"running", "waiting for " + layer, "running", "done"}, e.states())
		})
	}
}

func TestRegisterModel_ShowsItsStateBySearchAttributesWhereTheNamespaceHasThem(t *testing.T) {
	server := mlflowtest.NewServer(t)
	p := newProject(t, server.URL)
	e := newExecution(t, server, p.root)
	e.activities.SearchAttributes = func() bool { return true }
	e.fail(1, time.Hour, unavailable)

	e.register(p.byHand())

	requireRegisteredOnce(t, server, e.completed())
	require.Equal(t, []shown{
		{state: "running"}, {state: "waiting", layer: "http"}, {state: "running"}, {state: "done", outcome: "registered", version: "1"},
	}, e.shown)
}

func TestRegisterModel_ShowsItsServerWhereTheNamespaceHasTheAttribute(t *testing.T) {
	server := mlflowtest.NewServer(t)
	path := "/it's/" + strings.Repeat("long/", 60) // more than a keyword may have, and a quote
	p := newProject(t, server.URL+path)
	p.write("config/params.yaml", "mlflow:\n  uri: \""+server.URL+path+"\"\nregistration_params:\n  max_wait: 1h\n")
	e := newExecution(t, server, p.root)
	e.activities.SearchAttributes, e.activities.ServerAttribute = func() bool { return true }, func() bool { return true }
	e.fail(1, 2*time.Hour, unavailable)

	e.register(p.byHand())

	_, _ = e.failed()
	waiting := e.shown[1]
	require.Equal(t, "waiting", waiting.state)
	require.Len(t, waiting.server, 255)
	require.True(t, strings.HasPrefix(waiting.server, server.URL+"/it%27s/long/"), waiting.server)
}

func TestRegisterModel_GivesUpAfterMaxWait(t *testing.T) {
	server := mlflowtest.NewServer(t)
	p := newProject(t, server.URL)
	p.write("config/params.yaml", "mlflow:\n  uri: "+server.URL+"\nregistration_params:\n  max_wait: 2h\n")
	e := newExecution(t, server, p.root)
	begin := e.Now()
	var ended time.Time
	e.SetOnChildWorkflowStartedListener(func(*workflow.Info, workflow.Context, converter.EncodedValues) { ended = e.Now() })
	e.fail(len(requestsOfAPass(t))/2, 10*time.Hour, unavailable) // in the middle of the upload

	e.register(p.byHand())

	failed, r := e.failed()
	require.Equal(t, failure.Overdue, failed.Type())
	require.Contains(t, failed.Message(), "max_wait")
	require.Equal(t, failed.Message(), r.Error)
	require.Equal(t, 2*time.Hour, ended.Sub(begin).Truncate(10*time.Minute))
	requireNothingLeft(t, server, mlflow.RunFailed)
}

func TestRegisterModel_WaitingCostsTheSameHoweverLong(t *testing.T) {
	cost := func(lasts time.Duration) []string {
		server := mlflowtest.NewServer(t)
		p := newProject(t, server.URL)
		e := newExecution(t, server, p.root)
		e.fail(1, lasts, unavailable)
		e.register(p.byHand())
		requireRegisteredOnce(t, server, e.completed())
		return e.scheduled
	}
	short, long := cost(time.Minute), cost(30*24*time.Hour)
	require.Equal(t, short, long)
	// An activity is three events and as many of its workflow task.
	require.Less(t, 6*len(long), 100)
}

func TestRegisterModel_TriesAgainAtOnceWhenAskedTo(t *testing.T) {
	server := mlflowtest.NewServer(t)
	p := newProject(t, server.URL)
	e := newExecution(t, server, p.root)
	begin := e.Now()
	back := begin.Add(90 * time.Minute)
	e.backAt = begin.Add(24 * time.Hour) // when the probe notices
	server.Intercept(func(*http.Request) mlflowtest.Fault {
		if e.Now().Before(back) {
			return unavailable
		}
		return mlflowtest.Fault{}
	})
	attempts := map[time.Duration]int{}
	for _, after := range []time.Duration{30 * time.Minute, time.Hour, 2 * time.Hour} {
		e.RegisterDelayedCallback(func() {
			attempts[after] = e.queried().Waiting.Attempts
			e.SignalWorkflow(workflows.SignalRecheck, nil)
		}, after)
	}

	e.register(p.byHand())

	requireRegisteredOnce(t, server, e.completed())
	require.Equal(t, map[time.Duration]int{30 * time.Minute: 1, time.Hour: 2, 2 * time.Hour: 3}, attempts)
	require.Equal(t, 2*time.Hour, e.Now().Sub(begin).Truncate(time.Minute))
}

func TestRegisterModel_BacksOffWhereMLflowAnswersTheProbeAlone(t *testing.T) {
	server := mlflowtest.NewServer(t)
	p := newProject(t, server.URL)
	e := newExecution(t, server, p.root)
	begin := e.Now()
	server.Intercept(func(r *http.Request) mlflowtest.Fault {
		if strings.HasSuffix(r.URL.Path, "/runs/create") && e.Now().Before(begin.Add(24*time.Hour)) {
			return mlflowtest.Fault{Status: http.StatusInternalServerError}
		}
		return mlflowtest.Fault{}
	})

	e.register(p.byHand())

	requireRegisteredOnce(t, server, e.completed())
	// Pauses of 10 s, 20 s, ... up to an hour.
	require.Less(t, len(e.waits), 40)
	require.Less(t, e.Now().Sub(begin), 26*time.Hour)
}

func TestRegisterModel_DropsAWakeUpOfAnEarlierWait(t *testing.T) {
	server := mlflowtest.NewServer(t)
	p := newProject(t, server.URL)
	e := newExecution(t, server, p.root)
	begin := e.Now()
	e.fail(1, 2*time.Hour, unavailable)
	e.RegisterDelayedCallback(func() { e.SignalWorkflow(workflows.SignalAvailable, "0") }, time.Hour)

	e.register(p.byHand())

	requireRegisteredOnce(t, server, e.completed())
	require.Len(t, e.waits, 1)
	require.GreaterOrEqual(t, e.Now().Sub(begin), 2*time.Hour)
}

func TestRegisterModel_FailsWithAdviceWhereMLflowNeverTookTheCredentials(t *testing.T) {
	server := mlflowtest.NewServer(t)
	p := newProject(t, server.URL)
	e := newExecution(t, server, p.root)
	server.Intercept(func(*http.Request) mlflowtest.Fault { return unauthorized })

	e.register(p.byHand())

	failed, r := e.failed()
	require.Equal(t, failure.Unauthorized, failed.Type())
	require.Contains(t, failed.Message(), "401")
	require.Empty(t, e.waits)
	requireNothingLeft(t, server, mlflow.RunFailed)
	p.requireReceipt(r)
}

func TestRegisterModel_IsBlockedWhereCredentialsExpireAndFailsWhereTheyWereNeverRight(t *testing.T) {
	health := 0
	for _, name := range requestsOfAPass(t) {
		if health++; strings.HasSuffix(name, "/version") {
			break // a server may keep it to itself: what comes after has seen a step succeed
		}
	}
	atEachRequest(t, func(t *testing.T, number int, e *execution, p project) {
		e.fail(number, 5*time.Hour, unauthorized)

		e.register(p.byHand())

		if number < health { // nothing has succeeded yet, so the credentials were never right
			failed, _ := e.failed()
			require.Equal(t, failure.Unauthorized, failed.Type())
			requireNothingLeft(t, e.server, mlflow.RunFailed)
			return
		}
		requireRegisteredOnce(t, e.server, e.completed())
		require.Equal(t, []string{"running", "blocked for auth", "running", "done"}, e.states())
		require.Len(t, e.waits, 1)
		waited := e.calls[slices.IndexFunc(e.calls, func(c activities.Call) bool { return c.Workflow == workflows.TypeMLflowAvailability })]
		require.Equal(t, workflows.CredentialsID(e.server.URL, workflows.TaskQueue, p.root), waited.WorkflowID, "apart from those who wait for the server")
		require.True(t, decoded[workflows.AvailabilityInput](t, waited.Start).Credentials)
	})
}

func TestRegisterModel_WaitsSinceItsStepFailedHoweverLongThatTook(t *testing.T) {
	server := mlflowtest.NewServer(t)
	p := newProject(t, server.URL)
	p.write("config/params.yaml", "mlflow:\n  uri: "+server.URL+"\nregistration_params:\n  max_wait: 1h\n")
	e := newExecution(t, server, p.root)
	attempts := 0
	e.OnActivity(e.activities.UploadModel, mock.Anything, mock.Anything).After(2 * time.Hour).Return(
		func(ctx context.Context, in activities.UploadModelInput) (activities.UploadModelResult, error) {
			if attempts++; attempts <= 3 { // as often as a step is tried before it waits
				return activities.UploadModelResult{}, temporal.NewApplicationError("connection reset", failure.Outage, failure.Detail{Layer: "tcp"})
			}
			return e.activities.UploadModel(ctx, in)
		})

	e.register(p.byHand())

	requireRegisteredOnce(t, server, e.completed())
}
