package e2e

import (
	"encoding/json"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/enums/v1"
	failurepb "go.temporal.io/api/failure/v1"

	"registrar/internal/failure"
	"registrar/internal/receipt"
	"registrar/internal/servertest"
)

func TestCrash_WorkerKilledWhileUploadingIsReplaced(t *testing.T) {
	t.Parallel()
	s, gateway := gatedSite(t)
	held := gateway.holdUpload()
	worker := s.startWorker()
	id := s.register("--wait", "none").receipt.WorkflowID
	held.await(t)

	worker.Kill()
	held.open()
	s.startWorker()

	r := s.result(id)
	s.requireOutcome(receipt.Registered, r)
	require.Equal(t, enums.TIMEOUT_TYPE_HEARTBEAT, s.lastFailure(id, "UploadModel").GetTimeoutFailureInfo().GetTimeoutType(), "by which the dead worker was noticed")
	registryAt(t, s.mlflowURI).requireServed(r.RegistrationKey)
}

func TestCrash_WorkerStoppedWhileUploadingHandsOverAtOnce(t *testing.T) {
	t.Parallel()
	s, gateway := gatedSite(t)
	held := gateway.holdUpload()
	worker := s.startWorker()
	other := s.startWorker()
	id := s.register("--wait", "none").receipt.WorkflowID
	held.await(t)
	if s.at(id, "UploadModel") != identityOf(worker) {
		worker, other = other, worker
	}

	worker.Stop()

	require.NoError(t, worker.Err(), "exit code 0 after SIGTERM")
	require.Contains(t, worker.Logs(), "worker stopped")
	r := s.result(id)
	s.requireOutcome(receipt.Registered, r)
	require.Equal(t, failure.Interrupted, s.lastFailure(id, "UploadModel").GetApplicationFailureInfo().GetType(), "and no heartbeat was waited for")
	registryAt(t, s.mlflowURI).requireServed(r.RegistrationKey)
	select {
	case <-other.Done():
		require.Fail(t, "the other worker ended")
	default:
	}
}

// A heartbeat that is not taken within a second ends an attempt as a cancellation does.
func TestCrash_TemporalThatStallsDuringAnUploadCancelsNothing(t *testing.T) {
	t.Parallel()
	temporal := servertest.Temporal(t)
	gateway := newGateway(t, mlflowServer(t).URI)
	s := newSite(t, newProject(t), temporal.HostPort, gateway.URI)
	held := gateway.holdUpload()
	s.startWorker()
	id := s.register("--wait", "none").receipt.WorkflowID
	held.await(t)
	resent := gateway.holdUpload()

	require.NoError(t, syscall.Kill(temporal.PID(), syscall.SIGSTOP))
	time.AfterFunc(4*time.Second, func() { _ = syscall.Kill(temporal.PID(), syscall.SIGCONT) })
	resent.await(t) // another attempt is under way
	held.open()
	resent.open()

	r := s.result(id)
	s.requireOutcome(receipt.Registered, r)
	require.Equal(t, failure.Interrupted, s.lastFailure(id, "UploadModel").GetApplicationFailureInfo().GetType())
	registryAt(t, s.mlflowURI).requireServed(r.RegistrationKey)
}

func TestCrash_InterruptedStarterLeavesTheRegistrationGoing(t *testing.T) {
	t.Parallel()
	s, gateway := gatedSite(t)
	held := gateway.holdUpload()
	s.startWorker()
	command, stdout, stderr := s.command("register")
	require.NoError(t, command.Start())
	held.await(t)

	require.NoError(t, command.Process.Signal(os.Interrupt))
	a := s.answer(command, command.Wait(), stdout, stderr)

	require.Equal(t, 130, a.code)
	require.Empty(t, a.stdout)
	require.Contains(t, a.stderr, "the registration goes on: starter result ")
	held.open()
	joined := s.register()
	s.requireOutcome(receipt.Registered, joined.receipt)
	registryAt(t, s.mlflowURI).requireServed(joined.receipt.RegistrationKey)
}

func TestCancel_WhileUploadingLeavesAKilledRunAndNothingElse(t *testing.T) {
	t.Parallel()
	s, gateway := gatedSite(t)
	held := gateway.holdUpload()
	s.startWorker()
	registering := s.register("--wait", "none").receipt
	held.await(t)

	canceled := s.starter("cancel", registering.WorkflowID).receipt
	held.open()

	s.requireOutcome(receipt.Canceled, canceled)
	registryAt(t, s.mlflowURI).requireNoVersion(canceled.RegistrationKey, "KILLED")
}

func TestCancel_AfterTheVersionWasAskedForIsTooLate(t *testing.T) {
	t.Parallel()
	s, gateway := gatedSite(t)
	held := gateway.hold("model-versions/create")
	s.startWorker()
	id := s.register("--wait", "none").receipt.WorkflowID
	held.await(t)

	require.NoError(t, s.dial().CancelWorkflow(t.Context(), id, ""))
	held.open()

	r := s.result(id)
	s.requireOutcome(receipt.Registered, r)
	require.Contains(t, r.Warnings, "the cancellation came too late: version 1 existed already")
	registryAt(t, s.mlflowURI).requireServed(r.RegistrationKey)
}

func TestTerminate_WhileTheVersionIsMadeIsMadeUpForByTheNextRegistration(t *testing.T) {
	t.Parallel()
	s, gateway := gatedSite(t)
	held := gateway.hold("model-versions/create")
	s.startWorker()
	id := s.register("--wait", "none").receipt.WorkflowID
	held.await(t)
	require.NoError(t, s.dial().TerminateWorkflow(t.Context(), id, "", "test"))
	held.open()

	r := s.register().receipt

	s.requireOutcome(receipt.Registered, r)
	mlflowNow := registryAt(t, s.mlflowURI)
	eventually(t, func() bool {
		h := mlflowNow.ofKey(r.RegistrationKey)
		return len(h.runs) == 1 && len(h.models) == 1 && len(h.versions) == 1
	}, "the sweep removes what the terminated execution left")
	mlflowNow.requireServed(r.RegistrationKey)
}

// at is the identity of the worker that an activity is at.
func (s *site) at(workflowID, activity string) string {
	s.t.Helper()
	described, err := s.dial().DescribeWorkflowExecution(s.t.Context(), workflowID, "")
	require.NoError(s.t, err)
	for _, pending := range described.GetPendingActivities() {
		if pending.GetActivityType().GetName() == activity {
			return pending.GetLastWorkerIdentity()
		}
	}
	require.FailNow(s.t, "no worker is at "+activity)
	return ""
}

// lastTimeout is the timeout that ended the attempt before a step's last one.
func (s *site) lastFailure(workflowID, step string) *failurepb.Failure {
	s.t.Helper()
	var scheduled int64
	for _, event := range s.events(workflowID) {
		if event.GetActivityTaskScheduledEventAttributes().GetActivityType().GetName() == step {
			scheduled = event.GetEventId()
		}
		if started := event.GetActivityTaskStartedEventAttributes(); scheduled != 0 && started.GetScheduledEventId() == scheduled {
			return started.GetLastFailure()
		}
	}
	require.FailNow(s.t, "no attempt of "+step+" has ended")
	return nil
}

// identityOf is how a worker names itself: its first line says it.
func identityOf(worker *servertest.Process) string {
	var line struct{ Identity string }
	first, _, _ := strings.Cut(worker.Logs(), "\n")
	_ = json.Unmarshal([]byte(first), &line)
	return line.Identity
}
