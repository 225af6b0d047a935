package e2e

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"registrar/internal/mlflow"
	"registrar/internal/receipt"
	"registrar/internal/servertest"
)

func TestOutage_MLflowDownAtStartIsWaitedFor(t *testing.T) {
	t.Parallel()
	s, gateway := gatedSite(t)
	gateway.close()
	s.startWorker()

	a := s.register()

	require.Zero(t, a.code, "the stage is complete, the registration goes on")
	require.Equal(t, receipt.Waiting, a.receipt.State)
	require.Empty(t, a.receipt.Outcome)
	require.Equal(t, "tcp", a.receipt.Waiting.Layer)
	require.NotZero(t, a.receipt.Waiting.Since)
	require.Contains(t, a.receipt.Waiting.LastError, "connection refused")
	require.True(t, a.receipt.Decision.Passed)
	require.JSONEq(t, a.stdout, s.written("receipt.json"))

	joined := s.register("--detailed-exitcode")
	require.Equal(t, 11, joined.code)
	require.Equal(t, a.receipt.WorkflowID, joined.receipt.WorkflowID)
	eventually(t, func() bool {
		waiting := s.status(a.receipt.WorkflowID).Waiting
		return waiting.Attempts > 2 && waiting.NextProbe != nil
	}, "status tells of the probes")

	gateway.open()
	r := s.result(a.receipt.WorkflowID)

	s.requireOutcome(receipt.Registered, r)
	registryAt(t, s.mlflowURI).requireServed(r.RegistrationKey)
	var written receipt.Receipt
	require.NoError(t, json.Unmarshal([]byte(s.written("receipt.json")), &written))
	require.Equal(t, r, written, "the worker replaces the receipt that said waiting")
}

func TestOutage_OtherSettingsOfWhatWaitsAreAnError(t *testing.T) {
	t.Parallel()
	s, gateway := gatedSite(t)
	gateway.close()
	s.startWorker()
	id := s.register().receipt.WorkflowID

	s.project.demand(t, "0.70")
	a := s.register()

	require.Equal(t, 1, a.code)
	require.Contains(t, a.stderr, "min_roc_auc is 0.6 there and 0.7 here")
	require.Contains(t, a.stderr, id)
	require.Empty(t, a.stdout)
}

func TestOutage_RecheckDoesNotWaitForTheNextProbe(t *testing.T) {
	t.Parallel()
	s, gateway := gatedSite(t)
	s.project.edit(t, paramsFile, "probe_interval: 1s", "probe_interval: 1h")
	gateway.close()
	s.startWorker()
	id := s.register().receipt.WorkflowID

	gateway.open()
	require.Zero(t, s.starter("recheck", id).code)

	r := s.result(id)
	s.requireOutcome(receipt.Registered, r)
	registryAt(t, s.mlflowURI).requireServed(r.RegistrationKey)
}

func TestOutage_CancelEndsTheWaiting(t *testing.T) {
	t.Parallel()
	s, gateway := gatedSite(t)
	gateway.close()
	s.startWorker()
	waiting := s.register().receipt

	s.requireOutcome(receipt.Canceled, s.starter("cancel", waiting.WorkflowID).receipt)

	require.Equal(t, 12, s.starter("result", waiting.WorkflowID, "--detailed-exitcode").code)
	require.Equal(t, 1, s.starter("result", waiting.WorkflowID).code)
	gateway.open()
	registryAt(t, s.mlflowURI).requireNoVersion(waiting.RegistrationKey)

	r := s.register().receipt
	s.requireOutcome(receipt.Registered, r)
	registryAt(t, s.mlflowURI).requireServed(r.RegistrationKey)
}

func TestOutage_MaxWaitEndsInFailedAndLeavesNothing(t *testing.T) {
	t.Parallel()
	s, gateway := gatedSite(t)
	s.project.edit(t, paramsFile, "probe_interval: 1s", "probe_interval: 1s\n  max_wait: 3s")
	held := gateway.holdUpload()
	s.startWorker()
	id := s.register("--wait", "none").receipt.WorkflowID
	held.await(t)
	gateway.close()
	held.open()

	r := s.result(id)

	s.requireOutcome(receipt.Failed, r)
	require.Contains(t, r.Error, "max_wait")
	require.Contains(t, s.written("receipt.json"), `"outcome": "failed"`)
	require.NoDirExists(t, s.project.path(outputs+"/registrations/"+r.RegistrationKey[:16]+"/model"))
	gateway.open()
	mlflowNow := registryAt(t, s.mlflowURI)
	eventually(t, func() bool {
		h := mlflowNow.ofKey(r.RegistrationKey)
		return len(h.models) == 0 && len(h.runs) == 1 && h.runs[0].Info.Status == mlflow.RunFailed
	}, "once MLflow is back, what it could not be asked for then is done")
	mlflowNow.requireNoVersion(r.RegistrationKey, mlflow.RunFailed)
}

func TestOutage_WorkerKilledWhileWaitingLosesNothing(t *testing.T) {
	t.Parallel()
	s, gateway := gatedSite(t)
	gateway.close()
	worker := s.startWorker()
	id := s.register().receipt.WorkflowID

	worker.Kill()
	gateway.open()
	s.startWorker()

	r := s.result(id)
	s.requireOutcome(receipt.Registered, r)
	registryAt(t, s.mlflowURI).requireServed(r.RegistrationKey)
}

func TestOutage_TemporalKilledWhileWaitingLosesNothing(t *testing.T) {
	t.Parallel()
	temporal := servertest.Temporal(t)
	s, gateway := gatedSite(t)
	s.hostPort = temporal.HostPort
	gateway.close()
	s.startWorker()
	id := s.register().receipt.WorkflowID

	temporal.Kill()
	require.NoError(t, temporal.Start(t.Context()))
	gateway.open()

	r := s.result(id)
	s.requireOutcome(receipt.Registered, r)
	registryAt(t, s.mlflowURI).requireServed(r.RegistrationKey)
}

func TestOutage_MLflowKilledInTheMiddleIsWaitedFor(t *testing.T) {
	t.Parallel()
	temporal := temporalServer(t)
	server := servertest.MLflow(t)
	for _, moment := range []struct {
		name, request string
		fault         fault
	}{
		{"before_the_run_is_made", "runs/create", fault{before: server.Kill}},
		{"in_the_upload", "model.pkl", fault{inside: server.Kill}},
		{"after_the_version_is_made", "model-versions/create", fault{after: server.Kill, cutAfter: true}},
		{"before_the_alias_is_set", "POST /api/2.0/mlflow/registered-models/alias", fault{before: server.Kill}},
	} {
		t.Run(moment.name, func(t *testing.T) {
			gateway := newGateway(t, server.URI)
			s := newSite(t, newProject(t), temporal.HostPort, gateway.URI)
			gateway.next(moment.request, moment.fault)
			s.startWorker()

			a := s.register()

			require.Zero(t, a.code)
			require.Equal(t, receipt.Waiting, a.receipt.State, "it waits for MLflow")
			require.NoError(t, server.Start(t.Context()))
			r := s.result(a.receipt.WorkflowID)
			s.requireOutcome(receipt.Registered, r)
			eventually(t, func() bool { return len(registryAt(t, server.URI).ofKey(r.RegistrationKey).models) == 1 }, "the fence or the sweep leaves one logged model")
			registryAt(t, server.URI).requireServed(r.RegistrationKey)
		})
	}
}

func TestOutage_WithoutAWorkerTheRegistrationWaitsForOne(t *testing.T) {
	t.Parallel()
	s := sharedSite(t)

	a := s.register("--settle-timeout", "2s")

	require.Zero(t, a.code)
	require.Equal(t, receipt.Waiting, a.receipt.State)
	require.Equal(t, "worker", a.receipt.Waiting.Layer)
	require.Contains(t, a.receipt.Waiting.LastError, s.taskQueue())
	require.JSONEq(t, a.stdout, s.written("receipt.json"))

	s.startWorker()
	r := s.result(a.receipt.WorkflowID)
	s.requireOutcome(receipt.Registered, r)
	registryAt(t, s.mlflowURI).requireServed(r.RegistrationKey)
}

func TestOutage_WithoutTemporalTheRegistrationIsQueuedAndFlushed(t *testing.T) {
	t.Parallel()
	s := sharedSite(t)
	hostPort := s.hostPort
	s.hostPort = unusedAddress(t)

	a := s.register()

	require.Zero(t, a.code)
	require.Equal(t, receipt.Queued, a.receipt.State)
	require.Equal(t, "temporal", a.receipt.Waiting.Layer)
	require.True(t, a.receipt.Decision.Passed, "the pipeline finds its decision all the same")
	require.JSONEq(t, a.stdout, s.written("receipt.json"))
	require.Contains(t, s.written("decision.json"), `"passed": true`)
	require.Equal(t, 13, s.register("--detailed-exitcode").code)
	require.Equal(t, 1, s.starter("flush").code)

	// What was frozen is registered, though the pipeline goes on.
	s.project.write(t, modelFile, "rewritten")
	s.hostPort = hostPort
	flushed := s.starter("flush")
	require.Zero(t, flushed.code)
	require.Contains(t, flushed.stdout, a.receipt.WorkflowID)
	require.JSONEq(t, "[]", s.starter("flush").stdout, "it is handed over once")
	s.startWorker()

	r := s.result(a.receipt.WorkflowID)
	s.requireOutcome(receipt.Registered, r)
	registryAt(t, s.mlflowURI).requireServed(r.RegistrationKey)
}

func TestOutage_NextRegisterHandsOverWhatIsQueued(t *testing.T) {
	t.Parallel()
	s := sharedSite(t)
	hostPort := s.hostPort
	s.hostPort = unusedAddress(t)
	queued := s.register().receipt
	require.Equal(t, receipt.Queued, queued.State)

	s.hostPort = hostPort
	s.startWorker()
	other := s.register("--force=another")

	s.requireOutcome(receipt.Registered, other.receipt)
	require.Contains(t, other.stderr, queued.WorkflowID)
	r := s.result(queued.WorkflowID)
	s.requireOutcome(receipt.Registered, r)
	registryAt(t, s.mlflowURI).requireOnce(r.RegistrationKey)
	registryAt(t, s.mlflowURI).requireOnce(other.receipt.RegistrationKey)
}

// unusedAddress is one on which nothing listens.
func unusedAddress(t testing.TB) string {
	t.Helper()
	port, err := servertest.FreePort()
	require.NoError(t, err)
	return fmt.Sprintf("127.0.0.1:%d", port)
}
