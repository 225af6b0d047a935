package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/workflowservice/v1"

	"registrar/internal/mlflow"
	"registrar/internal/receipt"
)

// offlineSite is a site on which nothing is up yet: no Temporal, no MLflow, no worker.
func offlineSite(t testing.TB) (s *site, online func()) {
	t.Helper()
	s = sharedSite(t)
	hostPort := s.hostPort
	s.hostPort = unusedAddress(t)
	return s, func() { s.hostPort = hostPort }
}

// nextModel makes the project's metrics those of another training, which makes another registration of it.
func (p project) nextModel(t testing.TB, number int) {
	t.Helper()
	p.write(t, metricsFile, fmt.Sprintf(`{"roc_auc": 0.80, "training": %d}`, number))
}

func TestOffline_RunsInARowLoseNothingAndTheNewestIsServed(t *testing.T) {
	t.Parallel()
	s, online := offlineSite(t)
	const runs = 10
	var queued []receipt.Receipt
	for number := range runs {
		s.project.nextModel(t, number)
		a := s.register("--detailed-exitcode")
		require.Equal(t, 13, a.code)
		require.Equal(t, receipt.Queued, a.receipt.State)
		require.JSONEq(t, a.stdout, s.written("receipt.json"))
		queued = append(queued, a.receipt)
	}
	decision := s.written("decision.json")

	online()
	s.startWorker()
	var flushed []receipt.Receipt
	require.NoError(t, json.Unmarshal([]byte(s.starter("flush").stdout), &flushed))

	require.Len(t, flushed, runs)
	mlflowNow := registryAt(t, s.mlflowURI)
	for i, asked := range queued {
		require.Equal(t, asked.WorkflowID, flushed[i].WorkflowID, "in the order in which they were asked for")
		r := s.result(asked.WorkflowID)
		s.requireOutcome(receipt.Registered, r)
		require.Equal(t, fmt.Sprint(i+1), r.ModelVersion)
		version := mlflowNow.requireOnce(asked.RegistrationKey)
		if i < runs-1 {
			require.Equal(t, mlflow.StageArchived, version.CurrentStage)
		}
	}
	newest := queued[runs-1]
	mlflowNow.requireServed(newest.RegistrationKey)
	require.Equal(t, decision, s.written("decision.json"))
	eventually(t, func() bool {
		written := parseReceipt(t, s.written("receipt.json"))
		return written.WorkflowID == newest.WorkflowID && written.State == receipt.Done
	}, "the receipt beside the folders is that of the newest registration")
	require.JSONEq(t, "[]", s.starter("flush").stdout)
}

func TestOffline_WhatWasQueuedComesBeforeWhatIsAskedForNow(t *testing.T) {
	t.Parallel()
	s, online := offlineSite(t)
	s.project.nextModel(t, 1)
	queued := s.register().receipt
	require.Equal(t, receipt.Queued, queued.State)

	online()
	s.startWorker()
	s.project.nextModel(t, 2)
	now := s.register().receipt

	s.requireOutcome(receipt.Registered, now)
	require.Equal(t, "2", now.ModelVersion)
	require.Equal(t, "1", s.result(queued.WorkflowID).ModelVersion)
	registryAt(t, s.mlflowURI).requireServed(now.RegistrationKey)
}

// Where others are before it, what is asked for now waits its turn, and is not given up by an interruption.
func TestOffline_InterruptedBehindTheQueueIsQueued(t *testing.T) {
	t.Parallel()
	s, online := offlineSite(t)
	s.project.nextModel(t, 1)
	before := s.register().receipt
	online()
	s.project.nextModel(t, 2)
	command, stdout, stderr := s.command("register") // no worker is there: it waits for the one before it
	require.NoError(t, command.Start())
	folder := path.Join(outputs, "registrations", before.RegistrationKey[:16])
	eventually(t, func() bool {
		_, err := os.Stat(s.project.path(path.Join(folder, "workflow.json")))
		return err == nil
	}, "the one before it is handed over")

	require.NoError(t, command.Process.Signal(os.Interrupt))
	a := s.answer(command, command.Wait(), stdout, stderr)

	require.Equal(t, 130, a.code)
	require.Equal(t, receipt.Queued, a.receipt.State)
	require.Equal(t, []string{a.receipt.WorkflowID}, s.queued())
	s.startWorker()
	require.Contains(t, s.starter("flush").stdout, a.receipt.WorkflowID)
	r := s.result(a.receipt.WorkflowID)
	s.requireOutcome(receipt.Registered, r)
	registryAt(t, s.mlflowURI).requireOnce(r.RegistrationKey)
	s.requireOutcome(receipt.Registered, s.result(before.WorkflowID))
}

// An older registration that ends later leaves the newest one's decision and receipt alone.
func TestOffline_OlderRegistrationThatEndsLaterHidesNotTheNewest(t *testing.T) {
	t.Parallel()
	s, gateway := gatedSite(t)
	gateway.close()
	s.startWorker()
	s.project.nextModel(t, 1)
	older := s.register().receipt
	require.Equal(t, receipt.Waiting, older.State)
	s.project.nextModel(t, 2)
	s.project.demand(t, "0.99")
	newest := s.register().receipt
	s.requireOutcome(receipt.Rejected, newest)

	gateway.open()
	s.requireOutcome(receipt.Registered, s.result(older.WorkflowID))

	folder := path.Join(outputs, "registrations", older.RegistrationKey[:16])
	eventually(t, func() bool {
		return parseReceipt(t, s.project.read(t, path.Join(folder, "receipt.json"))).State == receipt.Done
	}, "its own receipt")
	require.Equal(t, newest.WorkflowID, parseReceipt(t, s.written("receipt.json")).WorkflowID)
	require.Contains(t, s.written("decision.json"), `"passed": false`)
	require.Contains(t, s.project.read(t, path.Join(folder, "decision.json")), `"passed": true`)
}

// killedAfter runs a command, and kills it after a while, unless it came to its end before.
func (s *site) killedAfter(life time.Duration, args ...string) (ended bool) {
	s.t.Helper()
	command, stdout, stderr := s.command(args...)
	require.NoError(s.t, command.Start())
	kill := time.AfterFunc(life, func() { _ = command.Process.Signal(syscall.SIGKILL) })
	defer kill.Stop()
	err := command.Wait()
	if status, ok := command.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		require.Equal(s.t, syscall.SIGKILL, status.Signal())
		return false
	}
	s.answer(command, err, stdout, stderr)
	return true
}

// moments spreads kills over the life of a command, of which the longest undisturbed one is known.
func moments(life time.Duration, count int) []time.Duration {
	spread := make([]time.Duration, count)
	for i := range spread {
		spread[i] = life * time.Duration(i+1) / time.Duration(count)
	}
	return spread
}

func (s *site) lifeOf(args ...string) time.Duration {
	s.t.Helper()
	started := time.Now()
	require.Zero(s.t, s.starter(args...).code)
	return time.Since(started)
}

func TestOffline_KilledAtAnyMomentTheQueueIsWhole(t *testing.T) {
	t.Parallel()
	s, online := offlineSite(t)
	s.project.nextModel(t, 0)
	binary(t, "starter") // which may have to be built
	life := s.lifeOf("register")
	killed := 0
	for i, moment := range moments(life, 20) {
		s.project.nextModel(t, i+1)
		if !s.killedAfter(moment, "register") {
			killed++
		}
		if i%4 == 3 { // the pipeline is run again: this one is promised
			require.Equal(t, 13, s.register("--detailed-exitcode").code)
		}
	}
	require.Positive(t, killed)
	promised := s.queued()
	require.GreaterOrEqual(t, len(promised), 6)

	online()
	handedOver := 0
	for i := 0; len(s.queued()) > 0; i++ {
		// Longer lives each time: in the end it comes through.
		if !s.killedAfter(time.Duration(i+1)*20*time.Millisecond, "flush", "--settle-timeout", "0s") {
			handedOver = len(promised) - len(s.queued())
		}
		require.Less(t, i, 500, "flush never comes to its end")
	}
	require.Positive(t, handedOver, "no flush was killed when it had handed over some of them")
	require.JSONEq(t, "[]", s.starter("flush").stdout)

	c := s.dial()
	for _, id := range promised {
		eventually(t, func() bool {
			runs, err := c.ListWorkflow(t.Context(), &workflowservice.ListWorkflowExecutionsRequest{Query: fmt.Sprintf("WorkflowId = '%s'", id)})
			return err == nil && len(runs.GetExecutions()) == 1
		}, "one execution of %s", id)
	}
	s.startWorker()
	mlflowNow := registryAt(t, s.mlflowURI)
	for _, id := range promised {
		r := s.result(id)
		s.requireOutcome(receipt.Registered, r)
		mlflowNow.requireOnce(r.RegistrationKey)
	}
}

// queued are the workflow ids of the registrations that Temporal has not heard of, as their folders tell. None of them is in pieces.
func (s *site) queued() (ids []string) {
	s.t.Helper()
	entries, err := os.ReadDir(s.project.path(path.Join(outputs, "registrations")))
	require.NoError(s.t, err)
	for _, entry := range entries {
		if !entry.IsDir() || strings.HasPrefix(entry.Name(), ".") {
			continue // what is under way, or was
		}
		folder := path.Join(outputs, "registrations", entry.Name())
		require.FileExists(s.t, s.project.path(path.Join(folder, "request.json")))
		if _, err := os.Stat(s.project.path(path.Join(folder, "workflow.json"))); os.IsNotExist(err) {
			ids = append(ids, "register/"+s.project.modelName+"/"+entry.Name())
		}
	}
	return ids
}
