package e2e

import (
	"context"
	"flag"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"

	"registrar/internal/receipt"
	"registrar/internal/servertest"
)

var (
	oldWorker  = flag.String("old-worker", "", "worker of an earlier version that upgrades begin with; empty: this version under another name")
	everyState = flag.Bool("every-state", false, "upgrade registrations in each state, not only in some; see make upgrades")
)

// workerCalled builds the worker under a version's name, by which it says to MLflow who it is.
func workerCalled(t testing.TB, version string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "worker")
	build := exec.CommandContext(t.Context(), "go", "build", "-ldflags", "-X main.version="+version, "-o", path, "registrar/worker")
	output, err := build.CombinedOutput()
	require.NoError(t, err, "%s", output)
	return path
}

// held is a registration that stays in a state until it is let go.
type held struct {
	*site
	state string
	id    string

	enter func() // before it is asked for
	in    func() bool
	leave func()

	mu     sync.Mutex
	agents map[string]bool // who spoke to MLflow for it
}

// fleet is registrations in several states, each with a way of its own to MLflow, and one task queue.
type fleet struct {
	t             testing.TB
	folder        string
	hostPort      string
	registrations []*held
}

func newFleet(t testing.TB) *fleet {
	t.Helper()
	f := &fleet{t: t, folder: t.TempDir(), hostPort: temporalServer(t).HostPort}
	for _, at := range []struct {
		state, request string
		always         bool
	}{
		{"CheckMLflowHealth", "logged-models/m-0000", false},
		{"LookUp", "model-versions/search", false},
		{"LogRun", "runs/create", false},
		{"UploadModel", "model.pkl", true},
		{"RegisterVersion", "model-versions/create", true},
		{"RecordVersion", "runs/log-parameter", false},
		{"PromoteVersion", "model-versions/transition-stage", true},
		{"FinishRun", "runs/update", false},
	} {
		if !at.always && !*everyState {
			continue
		}
		h, gateway := f.add(at.state)
		// The old worker gives a request up in time, and sends it again.
		var steps []*gate
		for range 20 {
			steps = append(steps, gateway.hold(at.request))
		}
		h.in = steps[0].isReached
		h.leave = func() {
			for _, step := range steps {
				step.open()
			}
		}
	}
	h, gateway := f.add("waiting")
	h.enter, h.leave = gateway.close, gateway.open
	h.in = h.stands(receipt.Waiting)

	h, gateway = f.add("blocked")
	mended := make(chan struct{})
	h.leave = func() { close(mended) }
	h.in = h.stands(receipt.Blocked)
	note := gateway.admits
	gateway.admit(func(r *http.Request) bool {
		note(r)
		select {
		case <-mended:
			return true
		default:
			return !strings.Contains(r.URL.Path, "runs/create")
		}
	})
	return f
}

func (f *fleet) add(state string) (*held, *gateway) {
	g := newGateway(f.t, mlflowServer(f.t).URI)
	p := projectIn(f.t, filepath.Join(f.folder, state), nameOf(f.t)+"-"+state)
	p.edit(f.t, paramsFile, "http://127.0.0.1:5000", g.URI)
	h := &held{site: newSite(f.t, p, f.hostPort, ""), state: state, enter: func() {}, agents: map[string]bool{}}
	h.environ = []string{"REGISTRAR_TASK_QUEUE=" + f.queue()}
	g.admit(func(r *http.Request) bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.agents[r.UserAgent()] = true
		return true
	})
	f.registrations = append(f.registrations, h)
	return h, g
}

// stands tells whether Temporal shows the registration in the state.
func (h *held) stands(state receipt.State) func() bool {
	return func() bool { return h.status(h.id).State == state }
}

func (h *held) spokenFor() map[string]bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	agents := map[string]bool{}
	for agent := range h.agents {
		agents[agent] = true
	}
	return agents
}

func (f *fleet) queue() string { return nameOf(f.t) }

// start starts a worker that serves all of them.
func (f *fleet) start(binary string, environ ...string) *servertest.Process {
	f.t.Helper()
	s := *f.registrations[0].site
	s.project.root, s.workerBinary = f.folder, binary
	s.environ = append([]string{"REGISTRAR_TASK_QUEUE=" + f.queue()}, environ...)
	return s.startWorker("--shutdown-timeout", "1s")
}

// fill asks for all registrations, and returns when each is in its state.
func (f *fleet) fill() {
	f.t.Helper()
	for _, h := range f.registrations {
		h.enter()
		h.id = h.register("--wait", "none").receipt.WorkflowID
		require.NotEmpty(f.t, h.id, h.state)
	}
	for _, h := range f.registrations {
		eventually(f.t, h.in, "it is in the state %s", h.state)
	}
}

// requireCompletedBy lets all go on, and sees that each is registered once, and that the worker of this version saw to it.
func (f *fleet) requireCompletedBy(version string) {
	f.t.Helper()
	for _, h := range f.registrations {
		h.leave()
	}
	for _, h := range f.registrations {
		r := h.result(h.id)
		h.requireOutcome(receipt.Registered, r)
		eventually(f.t, func() bool { return len(registryAt(f.t, mlflowServer(f.t).URI).ofKey(r.RegistrationKey).models) == 1 }, "one logged model is left")
		registryAt(f.t, mlflowServer(f.t).URI).requireServed(r.RegistrationKey)
		require.Contains(f.t, h.spokenFor(), "registrar/"+version, h.state)
	}
}

// builds are the workers before and after.
func builds(t testing.TB) (before, after string) {
	t.Helper()
	before = *oldWorker
	if before == "" {
		before = workerCalled(t, "before")
	}
	return before, workerCalled(t, "after")
}

func TestUpgrade_ANewWorkerCompletesWhatAnOldOneLeftInEachState(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	before, after := builds(t)
	old := f.start(before)
	f.fill()

	old.Stop()
	f.start(after)

	f.requireCompletedBy("after")
}

func TestUpgrade_WorkerVersioningHandsWaitingRegistrationsToTheCurrentVersion(t *testing.T) {
	t.Parallel()
	before, after := builds(t)
	help, err := exec.CommandContext(t.Context(), before, "--help").Output()
	require.NoError(t, err)
	if !strings.Contains(string(help), "--deployment-name") {
		t.Skipf("%s is from before Worker Versioning", before)
	}
	f := newFleet(t)
	deployment := "REGISTRAR_DEPLOYMENT_NAME=" + f.queue()
	old := f.start(before, deployment, "REGISTRAR_BUILD_ID=before")
	f.setCurrent("before")
	f.fill()

	listens := unusedAddress(t)
	f.start(after, deployment, "REGISTRAR_BUILD_ID=after", "REGISTRAR_HTTP_LISTEN="+listens)
	eventually(t, func() bool { return f.registrations[0].health(listens) == 0 }, "it is ready before it is current")
	f.setCurrent("after")
	old.Stop()

	f.requireCompletedBy("after")
	for _, h := range f.registrations {
		described, err := h.dial().DescribeWorkflowExecution(t.Context(), h.id, "")
		require.NoError(t, err)
		versioning := described.GetWorkflowExecutionInfo().GetVersioningInfo()
		require.Equal(t, enums.VERSIONING_BEHAVIOR_AUTO_UPGRADE, versioning.GetBehavior(), h.state)
		require.Equal(t, "after", versioning.GetDeploymentVersion().GetBuildId(), h.state)
	}
}

// setCurrent does what `temporal worker deployment set-current-version` does, as soon as Temporal has seen a worker of the build.
func (f *fleet) setCurrent(buildID string) {
	f.t.Helper()
	deployment := f.registrations[0].dial().WorkerDeploymentClient().GetHandle(f.queue())
	require.EventuallyWithT(f.t, func(c *assert.CollectT) {
		ctx, cancel := context.WithTimeout(f.t.Context(), 10*time.Second)
		defer cancel()
		_, err := deployment.SetCurrentVersion(ctx, client.WorkerDeploymentSetCurrentVersionOptions{BuildID: buildID})
		assert.NoError(c, err)
	}, patience, 200*time.Millisecond)
}
