// Package waiting lets many registrations wait for one MLflow server that is down, on a real Temporal server with the real worker, and looks
// at what that costs, in which order and how fast they are let loose when MLflow is back, and that none is lost whatever is killed meanwhile.
// It also kills MLflow and Temporal in each state of a registration.
//
// The crowd waits for the fake MLflow: what is measured is this side of the wire, and a real MLflow on the same machine would be all that
// there is to see. A single registration at a time meets the real one.
package waiting

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"

	"registrar/internal/receipt"
	"registrar/internal/servertest"
	"registrar/workflows"
)

var (
	full          = flag.Bool("full", false, "kill in each state, and measure for a minute")
	registrations = flag.Int("registrations", 24, "how many wait for one server")
	wakes         = flag.Float64("wakes-per-second", 20, "rate at which they are let loose")
	postgres      = flag.Bool("postgres", false, "start Temporal on PostgreSQL too, see make postgres")
)

// patience bounds what should take seconds, on machines that are busy with everything else.
const patience = 6 * time.Minute

func TestMain(m *testing.M) {
	flag.Parse()
	code := m.Run()
	if folder, err := built(); err == nil {
		_ = os.RemoveAll(folder) // a temporary folder that stays is no failure
	}
	os.Exit(code)
}

// built is the folder with the worker as it is now.
var built = sync.OnceValues(func() (string, error) {
	folder, err := os.MkdirTemp("", "registrar-waiting-")
	if err != nil {
		return "", err
	}
	build := exec.CommandContext(context.Background(), "go", "build", "-o", folder+string(filepath.Separator), "registrar/worker")
	if output, err := build.CombinedOutput(); err != nil {
		return folder, fmt.Errorf("build worker: %w\n%s", err, output)
	}
	return folder, nil
})

// site is a Temporal server that may be killed, and the projects of one worker. The worker's task queue is the default one.
type site struct {
	t        testing.TB
	temporal *servertest.TemporalServer
	client   client.Client
	folder   string // the one that the worker serves
}

func newSite(t testing.TB) *site {
	t.Helper()
	return newSiteOn(t, servertest.Temporal(t))
}

func newSiteOn(t testing.TB, temporal *servertest.TemporalServer) *site {
	t.Helper()
	connection, err := temporal.Dial(t.Context())
	require.NoError(t, err)
	t.Cleanup(connection.Close)
	return &site{t: t, temporal: temporal, client: connection, folder: t.TempDir()}
}

// startWorker starts a worker whose times make what takes minutes take seconds. It ends with the test.
func (s *site) startWorker(flags ...string) *servertest.Process {
	s.t.Helper()
	folder, err := built()
	require.NoError(s.t, err)
	worker, err := servertest.StartProcess(servertest.Command{
		Name: "worker", Path: filepath.Join(folder, "worker"), Dir: s.folder, Log: filepath.Join(s.t.TempDir(), "worker.log"),
		Args: append([]string{
			"--allow-root", s.folder, "--wakes-per-second", fmt.Sprint(*wakes), "--settle-time", "3s", "--look-for", "1s",
			"--mlflow-dial-timeout", "2s", "--log-format", "json",
		}, flags...),
		Env: servertest.Environment([]string{"TEMPORAL_", "MLFLOW_", "REGISTRAR_", "ENV="}, "TEMPORAL_ADDRESS="+s.temporal.HostPort),
	})
	require.NoError(s.t, err)
	s.t.Cleanup(func() {
		worker.Kill()
		if s.t.Failed() {
			s.t.Logf("log of the worker:\n%s", worker.Logs())
		}
	})
	return worker
}

// killTemporal ends the Temporal server as a power cut would, and starts it again on its database.
func (s *site) killTemporal() {
	s.t.Helper()
	s.temporal.Kill()
	require.NoError(s.t, s.temporal.Start(s.t.Context()))
}

// start starts a registration without the starter, as `temporal workflow start` does.
func (s *site) start(workflowID, root string) {
	s.t.Helper()
	_, err := s.client.ExecuteWorkflow(s.t.Context(), client.StartWorkflowOptions{ID: workflowID, TaskQueue: workflows.TaskQueue},
		workflows.TypeRegisterModel, workflows.RegisterInput{Root: root})
	require.NoError(s.t, err)
}

// requireRegistered waits for the end of a registration, which a Temporal server that was killed meanwhile does not change.
func (s *site) requireRegistered(workflowID string, within time.Duration) receipt.Receipt {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), within)
	defer cancel()
	var r receipt.Receipt
	require.NoError(s.t, s.client.GetWorkflow(ctx, workflowID, "").Get(ctx, &r), workflowID)
	require.Equal(s.t, receipt.Registered, r.Outcome, "%s: %s", workflowID, r.Error)
	return r
}

// newProject makes the folder of a project that is registered under a name of its own. Its model is tiny.
func (s *site) newProject(modelName, mlflowURI string, probeInterval time.Duration) (root string) {
	s.t.Helper()
	root = filepath.Join(s.folder, modelName)
	model, err := os.ReadFile(filepath.Join(servertest.Root(), "internal", "modelfile", "testdata", "forest.joblib"))
	require.NoError(s.t, err)
	for name, content := range map[string]string{
		"config/config.yaml": fmt.Sprintf("model_registration:\n  root_dir: out\n  model_path: model.joblib\n  metric_file_name: metrics.json\n"+
			"  model_name: %q\n  experiment_name: waiting\n", modelName),
		"config/params.yaml": fmt.Sprintf("mlflow:\n  uri: %q\nregistration_params:\n  min_roc_auc: 0.6\n  probe_interval: %s\n", mlflowURI, probeInterval),
		"metrics.json":       `{"roc_auc": 0.83}`,
		"model.joblib":       string(model),
	} {
		path := filepath.Join(root, filepath.FromSlash(name))
		require.NoError(s.t, os.MkdirAll(filepath.Dir(path), 0o750))
		require.NoError(s.t, os.WriteFile(path, []byte(content), 0o600))
	}
	return root
}
