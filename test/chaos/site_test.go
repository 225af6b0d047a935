package chaos

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"

	"registrar/internal/mlflow"
	"registrar/internal/servertest"
)

var (
	full       = flag.Bool("full", false, "run everything: the whole matrix, and as many at once as issue 5 asks for")
	pairs      = flag.Int("pairs", 0, "how many random pairs and triples of faults to run")
	seed       = flag.Uint64("seed", 1, "seed of the random pairs and triples")
	sideBySide = flag.Int("side-by-side", 12, "how many registrations to run at a time")
)

func TestMain(m *testing.M) {
	flag.Parse()
	code := m.Run()
	results.print(os.Stdout)
	if atEnd != nil {
		atEnd()
	}
	os.Exit(code)
}

// opened is what all tests share, made by the first that asks. atEnd closes it.
var (
	opened = sync.OnceValues(openSite)
	atEnd  func()
)

// site is one Temporal server, one MLflow server, the binaries as they are now, and a worker that all registrations share whose faults
// are not the worker's.
type site struct {
	temporal *servertest.TemporalServer
	client   client.Client
	mlflow   *servertest.MLflowServer
	api      *mlflow.Client
	folder   string // of binaries, projects and logs; the one that workers serve

	names    atomic.Int64 // that scenarios were given
	mu       sync.Mutex
	projects int
	ends     []func() // what to end, in the order of its start
}

// sharedQueue is the task queue of the shared worker, sharedExperiment the experiment of registrations that do not make one.
const (
	sharedQueue      = "chaos"
	sharedExperiment = "chaos"
)

func theSite(t testing.TB) *site {
	t.Helper()
	if os.Getenv(servertest.SkipVariable) == "off" {
		t.Skipf("needs real servers, and %s is off", servertest.SkipVariable)
	}
	s, err := opened()
	require.NoError(t, err)
	return s
}

func openSite() (*site, error) {
	folder, err := os.MkdirTemp("", "registrar-chaos-")
	if err != nil {
		return nil, err
	}
	s := &site{folder: folder}
	atEnd = s.close
	ctx := context.Background()
	build := exec.CommandContext(ctx, "go", "build", "-o", folder+string(filepath.Separator), "registrar/worker", "registrar/starter")
	if output, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build worker and starter: %w\n%s", err, output)
	}
	if s.temporal, err = servertest.StartTemporal(ctx, servertest.TemporalOptions{Dir: filepath.Join(folder, "temporal"), Headless: true}); err != nil {
		return nil, err
	}
	s.ends = append(s.ends, s.temporal.Kill)
	if s.client, err = s.temporal.Dial(ctx); err != nil {
		return nil, err
	}
	s.ends = append(s.ends, s.client.Close)
	if s.mlflow, err = servertest.StartMLflow(ctx, servertest.MLflowOptions{Dir: filepath.Join(folder, "mlflow")}); err != nil {
		return nil, err
	}
	s.ends = append(s.ends, s.mlflow.Kill)
	if s.api, err = mlflow.New(mlflow.Config{TrackingURI: s.mlflow.URI}); err != nil {
		return nil, err
	}
	if _, err = s.api.CreateExperiment(ctx, mlflow.CreateExperimentRequest{Name: sharedExperiment}); err != nil {
		return nil, err
	}
	worker, err := s.startWorker(sharedQueue)
	if err == nil {
		s.ends = append(s.ends, worker.Kill)
	}
	return s, err
}

func (s *site) close() {
	for _, end := range slices.Backward(s.ends) {
		end()
	}
	_ = os.RemoveAll(s.folder) // a temporary folder that stays is no failure
}

// startWorker starts a worker whose times make what takes minutes take seconds.
func (s *site) startWorker(taskQueue string, flags ...string) (*servertest.Process, error) {
	args := []string{
		"--allow-root", s.folder, "--task-queue", taskQueue, "--settle-time", settleTime.String(), "--look-for", "1s",
		"--mlflow-response-timeout", responseTimeout.String(), "--mlflow-upload-timeout", responseTimeout.String(), "--log-format", "json",
	}
	return servertest.StartProcess(servertest.Command{
		Name: "worker", Path: filepath.Join(s.folder, "worker"), Args: append(args, flags...), Dir: s.folder,
		Env: servertest.Environment([]string{"TEMPORAL_", "MLFLOW_", "REGISTRAR_", "ENV="}, "TEMPORAL_ADDRESS="+s.temporal.HostPort),
		Log: filepath.Join(s.folder, "logs", taskQueue+".log"),
	})
}
