package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"

	"registrar/internal/receipt"
	"registrar/internal/servertest"
)

// patience bounds what should take seconds, on machines that are busy with everything else.
const patience = 6 * time.Minute

// settleTime is how long after an attempt ended the workers of these tests reckon with a request of it.
const settleTime = 3 * time.Second

// site is a project with the servers that it is registered on, and a task queue of its own.
type site struct {
	t         testing.TB
	project   project
	hostPort  string   // of Temporal
	mlflowURI string   // of the worker's environment; empty: as params.yaml says
	environ   []string // further variables of worker and starter

	workerBinary string // empty: the worker as it is now
}

func newSite(t testing.TB, p project, hostPort, mlflowURI string) *site {
	return &site{t: t, project: p, hostPort: hostPort, mlflowURI: mlflowURI}
}

// sharedSite is a site on the servers that all tests share.
func sharedSite(t testing.TB) *site {
	t.Helper()
	return newSite(t, newProject(t), temporalServer(t).HostPort, mlflowServer(t).URI)
}

// gatedSite is a site on the shared servers with a gateway before MLflow.
func gatedSite(t testing.TB) (*site, *gateway) {
	t.Helper()
	g := newGateway(t, mlflowServer(t).URI)
	return newSite(t, newProject(t), temporalServer(t).HostPort, g.URI), g
}

func (s *site) environment() []string {
	environ := servertest.Environment([]string{"TEMPORAL_", "MLFLOW_", "REGISTRAR_", "OTEL_", "ENV="},
		"TEMPORAL_ADDRESS="+s.hostPort, "REGISTRAR_TASK_QUEUE="+s.taskQueue())
	if s.mlflowURI != "" {
		environ = append(environ, "MLFLOW_TRACKING_URI="+s.mlflowURI)
	}
	return append(environ, s.environ...)
}

func (s *site) taskQueue() string { return s.project.modelName }

// startWorker starts a worker with settings that make waits short. It ends with the test.
func (s *site) startWorker(flags ...string) *servertest.Process {
	s.t.Helper()
	log := filepath.Join(s.t.TempDir(), "worker.log")
	args := []string{
		"--allow-root", s.project.root, "--settle-time", settleTime.String(), "--look-for", "1s", "--mlflow-dial-timeout", "2s",
		"--shutdown-timeout", "5s", "--log-format", "json",
	}
	path := s.workerBinary
	if path == "" {
		path = binary(s.t, "worker")
	}
	worker, err := servertest.StartProcess(servertest.Command{
		Name: "worker", Path: path, Args: append(args, flags...), Dir: s.project.root, Env: s.environment(), Log: log,
	})
	require.NoError(s.t, err)
	s.t.Cleanup(func() {
		worker.Stop()
		if s.t.Failed() {
			s.t.Logf("log of the worker:\n%s", worker.Logs())
		}
	})
	return worker
}

// answer is what a command said.
type answer struct {
	code           int
	stdout, stderr string
	receipt        receipt.Receipt
}

// starter runs a command to its end. What it prints to standard output has to be one JSON value, or nothing.
func (s *site) starter(args ...string) answer {
	s.t.Helper()
	command, stdout, stderr := s.command(args...)
	return s.answer(command, command.Run(), stdout, stderr)
}

func (s *site) command(args ...string) (command *exec.Cmd, stdout, stderr *bytes.Buffer) {
	command = exec.CommandContext(s.t.Context(), binary(s.t, "starter"), append(args, "--output", "json")...)
	stdout, stderr = new(bytes.Buffer), new(bytes.Buffer)
	command.Dir, command.Env = s.project.root, s.environment()
	command.Stdout, command.Stderr = stdout, stderr
	return command, stdout, stderr
}

func (s *site) answer(command *exec.Cmd, ended error, stdout, stderr *bytes.Buffer) answer {
	s.t.Helper()
	var exit *exec.ExitError
	if ended != nil && !errors.As(ended, &exit) {
		require.NoError(s.t, ended)
	}
	a := answer{code: command.ProcessState.ExitCode(), stdout: stdout.String(), stderr: stderr.String()}
	s.t.Logf("starter %v: exit code %d\n%s%s", command.Args[1:], a.code, a.stderr, a.stdout)
	if a.stdout != "" && !slices.Contains([]string{"flush", "list", "audit", "history"}, command.Args[1]) {
		decoder := json.NewDecoder(stdout)
		decoder.DisallowUnknownFields()
		require.NoError(s.t, decoder.Decode(&a.receipt))
		require.False(s.t, decoder.More(), "standard output carries one JSON value")
	}
	return a
}

func (s *site) register(flags ...string) answer {
	s.t.Helper()
	return s.starter(append([]string{"register"}, flags...)...)
}

// result waits for the end of a registration.
func (s *site) result(workflowID string) receipt.Receipt {
	s.t.Helper()
	a := s.starter("result", workflowID, "--wait", "final", "--timeout", patience.String())
	require.Equal(s.t, receipt.Done, a.receipt.State)
	return a.receipt
}

func (s *site) status(workflowID string) receipt.Receipt {
	s.t.Helper()
	a := s.starter("status", workflowID)
	require.Zero(s.t, a.code)
	return a.receipt
}

// requireOutcome sees that a registration ended, and how.
func (s *site) requireOutcome(want receipt.Outcome, r receipt.Receipt) {
	s.t.Helper()
	require.Equal(s.t, receipt.Done, r.State)
	require.Equal(s.t, want, r.Outcome, "error: %s", r.Error)
}

// written is a receipt.json or decision.json of the project.
func (s *site) written(name string) string { return s.project.read(s.t, outputs+"/"+name) }

func (s *site) dial() client.Client {
	s.t.Helper()
	server := servertest.TemporalServer{HostPort: s.hostPort}
	c, err := server.Dial(s.t.Context())
	require.NoError(s.t, err)
	s.t.Cleanup(c.Close)
	return c
}

// consume runs the example's consumer, which loads the version back in every way and compares predictions bit by bit.
func (s *site) consume() string {
	s.t.Helper()
	return s.consumeIn(filepath.Join(servertest.Root(), ".build", "venv"))
}

// consumeIn is consume in a virtual environment with the client of another version.
func (s *site) consumeIn(venv string) string {
	s.t.Helper()
	root := servertest.Root()
	consume := exec.CommandContext(s.t.Context(), filepath.Join(venv, "bin", "python"), "-W", "ignore",
		filepath.Join(root, "examples", "credit-risk", "consume.py"),
		"--root", s.project.root, "--tracking-uri", s.mlflowURI, "--model-name", s.project.modelName)
	consume.Env = servertest.Environment([]string{"MLFLOW_"}, "MLFLOW_DISABLE_TELEMETRY=true", "DO_NOT_TRACK=true")
	output, err := consume.CombinedOutput()
	require.NoError(s.t, err, "%s", output)
	return string(output)
}

// eventually polls until the condition holds.
func eventually(t testing.TB, condition func() bool, message string, args ...any) {
	t.Helper()
	require.Eventually(t, condition, patience, 100*time.Millisecond, append([]any{message}, args...)...)
}
