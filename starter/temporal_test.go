package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/command/v1"
	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/api/enums/v1"
	taskqueuepb "go.temporal.io/api/taskqueue/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
	"google.golang.org/protobuf/types/known/durationpb"

	"registrar/internal/gate"
	"registrar/internal/receipt"
	"registrar/internal/servertest"
	"registrar/internal/snapshot"
	"registrar/workflows"
)

// temporalSite is a Temporal server, and commands run in process against it.
type temporalSite struct {
	t      *testing.T
	server *servertest.TemporalServer
	client client.Client
	shares string // the task queue of another test; empty: one of its own
}

func newTemporalSite(t *testing.T) temporalSite {
	t.Helper()
	server := servertest.Temporal(t)
	c, err := server.Dial(t.Context())
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return temporalSite{t: t, server: server, client: c}
}

// on is the site on a task queue of its own, for a test in the test.
func (s temporalSite) on(t *testing.T) temporalSite { s.t = t; return s }

// inside is the site for a test in the test that has its worker.
func (s temporalSite) inside(t *testing.T) temporalSite {
	s.shares, s.t = s.taskQueue(), t
	return s
}

func (s temporalSite) taskQueue() string {
	if s.shares != "" {
		return s.shares
	}
	return strings.ReplaceAll(s.t.Name(), "/", "-")
}

func (s temporalSite) starter(args ...string) said {
	s.t.Helper()
	var stdout, stderr bytes.Buffer
	code := run(s.t.Context(), args, s.environ(), &stdout, &stderr)
	return said{code: code, stdout: stdout.String(), stderr: stderr.String()}
}

func (s temporalSite) environ() []string {
	return []string{"TEMPORAL_ADDRESS=" + s.server.HostPort, "REGISTRAR_TASK_QUEUE=" + s.taskQueue()}
}

func (s temporalSite) receipt(a said) (r receipt.Receipt) {
	s.t.Helper()
	require.NoError(s.t, json.Unmarshal([]byte(a.stdout), &r), "%s%s", a.stdout, a.stderr)
	return r
}

// work runs registrations as a worker does that serves another copy of the project: it writes nothing here.
func (s temporalSite) work(register func(workflow.Context, workflows.RegisterInput) (receipt.Receipt, error)) {
	s.t.Helper()
	w := worker.New(s.client, s.taskQueue(), worker.Options{})
	w.RegisterWorkflowWithOptions(register, workflow.RegisterOptions{Name: workflows.TypeRegisterModel})
	require.NoError(s.t, w.Start())
	s.t.Cleanup(w.Stop)
}

// projectOf is a project of a model of that name.
func projectOf(t *testing.T, modelName string) string {
	t.Helper()
	root := newProject(t)
	write(t, root, "config/config.yaml", strings.ReplaceAll(read(t, root, "config/config.yaml"), "forest", modelName))
	return root
}

func read(t *testing.T, root, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(root, name))
	require.NoError(t, err)
	return string(data)
}

func written(t *testing.T, root, name string) (r receipt.Receipt) {
	t.Helper()
	require.NoError(t, json.Unmarshal([]byte(read(t, root, name)), &r))
	return r
}

const noWait = "--wait=none"

func TestTemporal(t *testing.T) {
	t.Parallel()
	s := newTemporalSite(t)
	for name, test := range map[string]func(temporalSite){
		"another copy of the project is joined":         anotherCopyIsJoined,
		"another root_dir is joined":                    anotherRootDirIsJoined,
		"another copy with other rules is refused":      anotherCopyWithOtherRulesIsRefused,
		"a name that is not ASCII":                      aNameThatIsNotASCII,
		"a damaged folder keeps no other from Temporal": aDamagedFolderKeepsNoOtherFromTemporal,
		"no worker from the start settles":              noWorkerFromTheStartSettles,
		"a worker killed before the first task settles": aWorkerKilledBeforeTheFirstTaskSettles,
		"a worker killed within a step settles":         aWorkerKilledWithinAStepSettles,
		"a waiting one tells since when without a wait": aWaitingOneTellsSinceWhen,
		"a blocked one tells of its own probe":          aBlockedOneTellsOfItsOwnProbe,
		"files of another workflow are left alone":      filesOfAnotherWorkflowAreLeftAlone,
		"an expired timeout is no outage":               anExpiredTimeoutIsNoOutage,
		"an audit without a worker ends":                anAuditWithoutAWorkerEnds,
		"an interrupted audit is canceled":              anInterruptedAuditIsCanceled,
		"an upload has a bar on a terminal":             anUploadHasABarOnATerminal,
		"a watch tells each change":                     aWatchTellsEachChange,
		"a watch draws its table anew":                  aWatchDrawsItsTableAnew,
		"an unknown namespace has a remedy":             anUnknownNamespaceHasARemedy,
		"a refused start stays queued, and says so":     aRefusedStartStaysQueuedAndSaysSo,
		"an unknown workflow has a remedy":              anUnknownWorkflowHasARemedy,
		"a doctor finds what Temporal lacks":            aDoctorFindsWhatTemporalLacks,
		"a doctor finds an older worker":                aDoctorFindsAnOlderWorker,
		"workflow ids are completed":                    workflowIDsAreCompleted,
		"a recheck of one that ended tells how":         aRecheckOfOneThatEndedTellsHow,
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			test(s.on(t))
		})
	}
}

var passed = gate.Decision{Passed: true, Rules: []gate.Verdict{{Metric: "roc_auc", Min: 0.6, Observed: json.RawMessage("0.75"), Passed: true}}}

// registered is a registration that succeeds.
func registered(ctx workflow.Context, in workflows.RegisterInput) (receipt.Receipt, error) {
	return receipt.Receipt{
		WorkflowID: workflow.GetInfo(ctx).WorkflowExecution.ID, State: receipt.Done, Outcome: receipt.Registered, ModelVersion: "1",
		RegistrationKey: in.Key, Decision: &passed,
	}, nil
}

func anotherCopyIsJoined(s temporalSite) {
	one, two := projectOf(s.t, "joined"), projectOf(s.t, "joined")
	first := s.starter("register", "--root", one, noWait, "-o", "json")
	require.Zero(s.t, first.code, first.stderr)

	second := s.starter("register", "--root", two, noWait, "-o", "json")

	require.Zero(s.t, second.code, second.stderr)
	require.Equal(s.t, s.receipt(first).WorkflowID, s.receipt(second).WorkflowID)
	require.Contains(s.t, read(s.t, two, "out/decision.json"), `"passed": true`)
	require.Equal(s.t, receipt.Running, written(s.t, two, "out/receipt.json").State)

	ended := make(chan said, 1)
	go func() { ended <- s.starter("register", "--root", two, "--wait", "final", "-o", "json") }()
	s.work(registered)

	last := <-ended
	require.Zero(s.t, last.code, last.stderr)
	require.Equal(s.t, s.receipt(last), written(s.t, two, "out/receipt.json"))
	require.Equal(s.t, receipt.Registered, s.receipt(last).Outcome)
	models, err := filepath.Glob(filepath.Join(two, "out", "registrations", "*", "model"))
	require.NoError(s.t, err)
	require.Empty(s.t, models, "the copy of the model is removed")
}

func anotherRootDirIsJoined(s temporalSite) {
	root := projectOf(s.t, "root_dir")
	require.Zero(s.t, s.starter("register", "--root", root, noWait).code)
	write(s.t, root, "config/config.yaml", strings.ReplaceAll(read(s.t, root, "config/config.yaml"), "root_dir: out", "root_dir: elsewhere"))

	a := s.starter("register", "--root", root, noWait, "-o", "json")

	require.Zero(s.t, a.code, a.stderr)
	require.Equal(s.t, receipt.Running, written(s.t, root, "elsewhere/receipt.json").State)
	require.Contains(s.t, read(s.t, root, "elsewhere/decision.json"), `"passed": true`)
}

func anotherCopyWithOtherRulesIsRefused(s temporalSite) {
	one, two := projectOf(s.t, "rules"), projectOf(s.t, "rules")
	require.Zero(s.t, s.starter("register", "--root", one, noWait).code)
	write(s.t, two, "config/params.yaml", "registration_params:\n  min_roc_auc: 0.99\n")
	ended := make(chan said, 1)
	go func() { ended <- s.starter("register", "--root", two, "--wait", "final") }()
	require.Eventually(s.t, func() bool {
		noted, err := filepath.Glob(filepath.Join(two, "out", "registrations", "*", "workflow.json"))
		return err == nil && len(noted) == 1
	}, time.Minute, 20*time.Millisecond)
	s.work(registered)

	a := <-ended

	require.Equal(s.t, exitFailure, a.code, a.stdout)
	require.Contains(s.t, a.stderr, "these files are being registered with other settings")
}

func aNameThatIsNotASCII(s temporalSite) {
	a := s.starter("register", "--root", projectOf(s.t, "Bonität"), noWait, "-o", "json")

	require.Zero(s.t, a.code, a.stderr)
	r := s.receipt(a)
	require.Contains(s.t, r.WorkflowID, "register/Bonit%C3%A4t/")
	require.Equal(s.t, "Bonität", r.ModelName)
	require.Contains(s.t, s.starter("status", r.WorkflowID).stdout, "Bonität")
}

func aDamagedFolderKeepsNoOtherFromTemporal(s temporalSite) {
	root := projectOf(s.t, "flushed")
	damaged := filepath.Join(root, "out", "registrations", "0000000000000000")
	write(s.t, root, "out/registrations/0000000000000000/request.json", "{")
	require.Zero(s.t, inProcess(s.t, "register", "--root", root).code)

	a := s.starter("flush", "--root", root)

	require.Equal(s.t, exitFailure, a.code)
	require.Contains(s.t, a.stdout, "handed over  register/flushed/")
	require.Contains(s.t, a.stderr, "registration folder "+damaged)
	require.Contains(s.t, a.stderr, "register its model again, or remove the folder")
	r := written(s.t, root, "out/receipt.json")
	require.Equal(s.t, receipt.Running, r.State)
	require.True(s.t, r.Decision.Passed)
	require.NoError(s.t, os.RemoveAll(damaged))
	require.Contains(s.t, s.starter("flush", "--root", root).stdout, "nothing is queued")
}

// settled registers with a short patience, and sees that it waits for a worker.
func (s temporalSite) settled(ctx context.Context, args ...string) {
	s.t.Helper()
	var stdout, stderr bytes.Buffer
	code := run(ctx, append(args, "--settle-timeout", "1s", "--detailed-exitcode", "-o", "json"), s.environ(), &stdout, &stderr)
	require.Equal(s.t, exitPending, code, stderr.String())
	r := s.receipt(said{stdout: stdout.String(), stderr: stderr.String()})
	require.Equal(s.t, receipt.Waiting, r.State)
	require.Equal(s.t, "worker", r.Waiting.Layer)
	require.False(s.t, r.Waiting.Since.IsZero())
	require.Len(s.t, r.ModelSHA256, 64)
}

func noWorkerFromTheStartSettles(s temporalSite) {
	s.settled(s.t.Context(), "register", "--root", projectOf(s.t, "alone"))
}

// within is shorter than Temporal lists a worker that is gone.
func (s temporalSite) within() context.Context {
	ctx, cancel := context.WithTimeout(s.t.Context(), 50*time.Second)
	s.t.Cleanup(cancel)
	return ctx
}

// queue is the task queue as a worker names it.
func (s temporalSite) queue() *taskqueuepb.TaskQueue {
	return &taskqueuepb.TaskQueue{Name: s.taskQueue(), Kind: enums.TASK_QUEUE_KIND_NORMAL}
}

func aWorkerKilledBeforeTheFirstTaskSettles(s temporalSite) {
	ctx, kill := context.WithTimeout(s.t.Context(), 3*time.Second) // the server refuses polls of under two
	// Whether the poll ends empty or with an error is the server's to say.
	_, _ = s.client.WorkflowService().PollWorkflowTaskQueue(ctx, &workflowservice.PollWorkflowTaskQueueRequest{
		Namespace: s.server.Namespace, TaskQueue: s.queue(), Identity: "killed",
	})
	kill()
	described, err := s.client.DescribeTaskQueue(s.t.Context(), s.taskQueue(), enums.TASK_QUEUE_TYPE_WORKFLOW)
	require.NoError(s.t, err)
	require.NotEmpty(s.t, described.GetPollers(), "the server lists who is gone")

	s.settled(s.within(), "register", "--root", projectOf(s.t, "orphan"))
}

func aWorkerKilledWithinAStepSettles(s temporalSite) {
	ctx, service := s.within(), s.client.WorkflowService()
	registered := s.starter("register", "--root", projectOf(s.t, "orphan-step"), noWait, "-o", "json")
	require.Zero(s.t, registered.code, registered.stderr)
	first, err := service.PollWorkflowTaskQueue(ctx, &workflowservice.PollWorkflowTaskQueueRequest{
		Namespace: s.server.Namespace, TaskQueue: s.queue(), Identity: "killed",
	})
	require.NoError(s.t, err)
	_, err = service.RespondWorkflowTaskCompleted(ctx, &workflowservice.RespondWorkflowTaskCompletedRequest{
		Namespace: s.server.Namespace, TaskToken: first.GetTaskToken(), Commands: []*command.Command{{
			CommandType: enums.COMMAND_TYPE_SCHEDULE_ACTIVITY_TASK,
			Attributes: &command.Command_ScheduleActivityTaskCommandAttributes{
				ScheduleActivityTaskCommandAttributes: &command.ScheduleActivityTaskCommandAttributes{
					ActivityId: "1", ActivityType: &commonpb.ActivityType{Name: "UploadModel"}, TaskQueue: s.queue(),
					StartToCloseTimeout: durationpb.New(time.Hour), HeartbeatTimeout: durationpb.New(2 * time.Second),
				},
			},
		}},
	})
	require.NoError(s.t, err)
	step, err := service.PollActivityTaskQueue(ctx, &workflowservice.PollActivityTaskQueueRequest{
		Namespace: s.server.Namespace, TaskQueue: s.queue(), Identity: "killed",
	})
	require.NoError(s.t, err)
	require.NotEmpty(s.t, step.GetTaskToken())

	s.settled(s.within(), "result", s.receipt(registered).WorkflowID)
}

func aWaitingOneTellsSinceWhen(s temporalSite) {
	since := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	s.work(func(ctx workflow.Context, in workflows.RegisterInput) (receipt.Receipt, error) {
		r := receipt.Receipt{
			WorkflowID: workflow.GetInfo(ctx).WorkflowExecution.ID, State: receipt.Waiting, RegistrationKey: in.Key,
			Waiting: &receipt.Wait{Since: since, Layer: "tcp"},
		}
		if err := workflow.SetQueryHandler(ctx, workflows.QueryReceipt, func() (receipt.Receipt, error) { return r, nil }); err != nil {
			return r, err
		}
		if err := workflow.UpsertMemo(ctx, map[string]any{workflows.MemoState: r.State, workflows.MemoLayer: "tcp"}); err != nil {
			return r, err
		}
		return r, workflow.Await(ctx, func() bool { return false })
	})
	root := projectOf(s.t, "waiting")
	require.Equal(s.t, since, s.receipt(s.starter("register", "--root", root, "-o", "json")).Waiting.Since)

	a := s.starter("register", "--root", root, noWait, "-o", "json")

	require.Equal(s.t, since, s.receipt(a).Waiting.Since)
}

// probes is a workflow whose probe fails, each time with the reason.
func (s temporalSite) probes(workflowID, reason string) {
	s.t.Helper()
	_, err := s.client.ExecuteWorkflow(s.t.Context(), client.StartWorkflowOptions{ID: workflowID, TaskQueue: s.taskQueue()}, "Probes", reason)
	require.NoError(s.t, err)
	require.Eventually(s.t, func() bool {
		described, err := s.client.DescribeWorkflowExecution(s.t.Context(), workflowID, "")
		return err == nil && len(described.GetPendingActivities()) == 1 && described.GetPendingActivities()[0].GetAttempt() == 2
	}, time.Minute, 20*time.Millisecond)
}

// Others may wait for the same server, for a reason of their own.
func aBlockedOneTellsOfItsOwnProbe(s temporalSite) {
	const uri = "http://mlflow:5000"
	w := worker.New(s.client, s.taskQueue(), worker.Options{})
	w.RegisterActivityWithOptions(func(_ context.Context, reason string) error {
		return temporal.NewApplicationErrorWithOptions(reason, "", temporal.ApplicationErrorOptions{NextRetryDelay: time.Hour})
	}, activity.RegisterOptions{Name: "Probe"})
	w.RegisterWorkflowWithOptions(func(ctx workflow.Context, reason string) error {
		ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: time.Minute})
		return workflow.ExecuteActivity(ctx, "Probe", reason).Get(ctx, nil)
	}, workflow.RegisterOptions{Name: "Probes"})
	w.RegisterWorkflowWithOptions(func(ctx workflow.Context, in workflows.RegisterInput) (receipt.Receipt, error) {
		r := receipt.Receipt{
			WorkflowID: workflow.GetInfo(ctx).WorkflowExecution.ID, State: receipt.Blocked, RegistrationKey: in.Key, TrackingURI: uri,
			Waiting: &receipt.Wait{Layer: "auth", LastError: "401", Attempts: 1},
		}
		if err := workflow.SetQueryHandler(ctx, workflows.QueryReceipt, func() (receipt.Receipt, error) { return r, nil }); err != nil {
			return r, err
		}
		if err := workflow.UpsertMemo(ctx, map[string]any{workflows.MemoState: r.State, workflows.MemoLayer: "auth"}); err != nil {
			return r, err
		}
		return r, workflow.Await(ctx, func() bool { return false })
	}, workflow.RegisterOptions{Name: workflows.TypeRegisterModel})
	require.NoError(s.t, w.Start())
	s.t.Cleanup(w.Stop)
	root := projectOf(s.t, "blocked")
	registering := s.receipt(s.starter("register", "--root", root, "-o", "json"))
	require.Equal(s.t, receipt.Blocked, registering.State)

	s.probes(workflows.AvailabilityID(uri, s.taskQueue()), "connection refused")
	waiting := s.receipt(s.starter("status", registering.WorkflowID, "-o", "json")).Waiting

	require.Equal(s.t, &receipt.Wait{Layer: "auth", LastError: "401", Attempts: 1}, waiting)

	s.probes(workflows.CredentialsID(uri, s.taskQueue(), root), "401 still")
	waiting = s.receipt(s.starter("status", registering.WorkflowID, "-o", "json")).Waiting

	require.Equal(s.t, "401 still", waiting.LastError)
	require.Equal(s.t, 2, waiting.Attempts)
	require.NotNil(s.t, waiting.NextProbe)
}

// frozenFor makes the files of a project those of a run of another workflow than the starter's own.
func frozenFor(t *testing.T, root, workflowID, runID string) *snapshot.Folder {
	t.Helper()
	p, err := openProject(registerFlags{root: root, config: "config/config.yaml", params: "config/params.yaml"})
	require.NoError(t, err)
	t.Cleanup(p.close)
	asked, err := new(starter).freeze(t.Context(), p, "")
	require.NoError(t, err)
	folder, err := asked.Commit(t.Context())
	require.NoError(t, err)
	require.NoError(t, folder.MarkHandedOver(workflowID, runID))
	return folder
}

// haver is the workflow that has the files of a folder.
func haver(t *testing.T, folder *snapshot.Folder, root string) string {
	t.Helper()
	p, err := openProject(registerFlags{root: root, config: "config/config.yaml", params: "config/params.yaml"})
	require.NoError(t, err)
	defer p.close()
	folder, err = snapshot.Open(p.rootDir, filepath.Base(folder.Path()))
	require.NoError(t, err)
	handover, _, err := folder.HandedOver()
	require.NoError(t, err)
	return handover.WorkflowID
}

func filesOfAnotherWorkflowAreLeftAlone(s temporalSite) {
	root := projectOf(s.t, "byhand")
	options := client.StartWorkflowOptions{ID: "register/by-hand", TaskQueue: s.taskQueue()}
	run, err := s.client.ExecuteWorkflow(s.t.Context(), options, workflows.TypeRegisterModel, workflows.RegisterInput{Root: root})
	require.NoError(s.t, err)
	folder := frozenFor(s.t, root, run.GetID(), run.GetRunID())

	a := s.starter("register", "--root", root, noWait)

	require.Equal(s.t, exitFailure, a.code, a.stdout)
	require.Contains(s.t, a.stderr, "error: workflow register/by-hand registers these files already: wait for it (starter result register/by-hand), or cancel it")
	require.Equal(s.t, "register/by-hand", haver(s.t, folder, root))
	entries, err := os.ReadDir(filepath.Join(root, "out", "registrations"))
	require.NoError(s.t, err)
	for _, entry := range entries {
		require.NotContains(s.t, entry.Name(), "staging", "what was frozen for nothing is removed")
	}
	id := workflows.RegistrationID("byhand", folder.Request().RegistrationKey)
	_, err = s.client.DescribeWorkflowExecution(s.t.Context(), id, "")
	require.True(s.t, isNotFound(err), "%v", err)

	require.NoError(s.t, s.client.TerminateWorkflow(s.t.Context(), run.GetID(), run.GetRunID(), "ended"))
	a = s.starter("register", "--root", root, noWait)

	require.Zero(s.t, a.code, a.stderr)
	require.Equal(s.t, id, haver(s.t, folder, root))
}

func anExpiredTimeoutIsNoOutage(s temporalSite) {
	a := s.starter("register", "--root", projectOf(s.t, "late"), "--wait", "final", "--timeout", "1200ms")

	require.Zero(s.t, a.code, a.stderr)
	require.Contains(s.t, a.stderr, "warning: not ended after 1.2s; it goes on: starter result register/late/")
	require.NotContains(s.t, a.stderr, "Temporal does not answer")
}

// audit runs an audit that nobody takes.
func (s temporalSite) audit(ctx context.Context, stderr *locked, modelName string, args ...string) int {
	return run(ctx, append([]string{"audit", "--root", projectOf(s.t, modelName)}, args...), s.environ(), new(bytes.Buffer), stderr)
}

func anAuditWithoutAWorkerEnds(s temporalSite) {
	var stderr locked
	code := s.audit(s.t.Context(), &stderr, "audited", "--timeout", "20s")

	require.Equal(s.t, exitFailure, code)
	require.Contains(s.t, stderr.String(), fmt.Sprintf("warning: no worker listens on task queue %q", s.taskQueue()))
	require.Contains(s.t, stderr.String(), "error: audit: no result in time: it was given 20s; give it longer with --timeout")
}

func anInterruptedAuditIsCanceled(s temporalSite) {
	ctx, interrupt := context.WithCancel(s.t.Context())
	var stderr locked
	code := make(chan int, 1)
	go func() { code <- s.audit(ctx, &stderr, "interrupted") }()
	var id, runID string
	require.Eventually(s.t, func() bool {
		listed, err := s.client.ListWorkflow(s.t.Context(), &workflowservice.ListWorkflowExecutionsRequest{
			Query: "WorkflowId STARTS_WITH 'audit/interrupted/'",
		})
		if err != nil || len(listed.GetExecutions()) == 0 {
			return false
		}
		execution := listed.GetExecutions()[0].GetExecution()
		id, runID = execution.GetWorkflowId(), execution.GetRunId()
		return true
	}, time.Minute, 50*time.Millisecond)

	interrupt()

	require.Equal(s.t, exitInterrupted, <-code)
	require.Contains(s.t, stderr.String(), "interrupted")
	events := s.client.GetWorkflowHistory(s.t.Context(), id, runID, false, enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	canceled := false
	for events.HasNext() {
		event, err := events.Next()
		require.NoError(s.t, err)
		canceled = canceled || event.GetEventType() == enums.EVENT_TYPE_WORKFLOW_EXECUTION_CANCEL_REQUESTED
	}
	require.True(s.t, canceled)
}

// locked is a buffer that is read while it is written.
type locked struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buffer.Write(p)
}

func (l *locked) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buffer.String()
}

func anUnknownNamespaceHasARemedy(s temporalSite) {
	var stdout, stderr bytes.Buffer
	environ := append(s.environ(), "TEMPORAL_NAMESPACE=risk")

	code := run(s.t.Context(), []string{"register", "--root", projectOf(s.t, "namespace")}, environ, &stdout, &stderr)

	require.Equal(s.t, exitFailure, code)
	require.Contains(s.t, stderr.String(), "set TEMPORAL_NAMESPACE to one that is there, or make it: temporal operator namespace create --namespace risk")
}

func aRefusedStartStaysQueuedAndSaysSo(s temporalSite) {
	root := projectOf(s.t, "refused")

	a := s.starter("register", "--root", root, "--task-queue", strings.Repeat("q", 1001))

	require.Equal(s.t, exitFailure, a.code, a.stdout)
	require.Contains(s.t, a.stderr, "error: start workflow register/refused/")
	require.Contains(s.t, a.stderr, "the files stay queued in ")
	require.Len(s.t, queuedIn(s.t, root), 1)
}

func anUnknownWorkflowHasARemedy(s temporalSite) {
	for _, name := range []string{"status", "result", "recheck", "cancel"} {
		a := s.starter(name, "register/nobody/0")
		require.Equal(s.t, exitFailure, a.code, name)
		require.Contains(s.t, a.stderr, "see `starter list`", name)
	}
}

func aRecheckOfOneThatEndedTellsHow(s temporalSite) {
	s.work(registered)
	a := s.starter("register", "--root", projectOf(s.t, "ended"), "-o", "json")
	require.Zero(s.t, a.code, a.stderr)

	again := s.starter("recheck", s.receipt(a).WorkflowID, "-o", "json")

	require.Zero(s.t, again.code, again.stderr)
	require.Equal(s.t, receipt.Registered, s.receipt(again).Outcome)
}
