package zoo

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"

	"registrar/internal/mlmodel"
	"registrar/internal/receipt"
	"registrar/internal/servertest"
	"registrar/workflows"
)

const (
	// sideBySide is how many registrations run at a time: MLflow's database takes one writer.
	sideBySide = 4
	// patience bounds a registration, which takes a second.
	patience = 5 * time.Minute
)

// registry is a Temporal server, an MLflow server and a worker.
type registry struct {
	temporal client.Client
	mlflow   *servertest.MLflowServer
	folder   string // the one that the worker serves
}

// register takes each model through the worker into a registry of its own name, each saved in another way than the one before it, and joblib
// files by turns in both layouts. It returns where the registry is, and what there is to load from it.
func register(t *testing.T, folder string, specimens []*specimen) (trackingURI string, versions []place) {
	t.Helper()
	r := openRegistry(t, folder)
	free := make(chan struct{}, sideBySide)
	var mu sync.Mutex
	var all sync.WaitGroup
	for i, s := range slices.DeleteFunc(slices.Clone(specimens), func(s *specimen) bool { return s.WhyNot != "" }) {
		way := s.Ways[i%len(s.Ways)]
		layout := []mlmodel.Layout{mlmodel.LayoutWrapper, mlmodel.LayoutHybrid}[i/len(s.Ways)%2]
		root := r.project(t, s.Name, filepath.Join(folder, "models", s.Name, way), layout)
		all.Go(func() {
			free <- struct{}{}
			defer func() { <-free }()
			made, err := r.register(t.Context(), s.Name, root)
			if err != nil {
				s.fail(way, "register: %v", err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			versions = append(versions, place{Model: s.Name, Way: label(s.expected, way, layout), URI: made.ModelURI, Version: true})
		})
	}
	all.Wait()
	return r.mlflow.URI, versions
}

func openRegistry(t *testing.T, folder string) registry {
	t.Helper()
	temporal := servertest.Temporal(t)
	connection, err := temporal.Dial(t.Context())
	require.NoError(t, err)
	t.Cleanup(connection.Close)
	r := registry{temporal: connection, mlflow: servertest.MLflow(t), folder: filepath.Join(folder, "projects")}

	require.NoError(t, os.MkdirAll(r.folder, 0o750))
	build, err := exec.CommandContext(t.Context(), "go", "build", "-o", filepath.Join(folder, "worker"), "registrar/worker").CombinedOutput()
	require.NoError(t, err, "%s", build)
	worker, err := servertest.StartProcess(servertest.Command{
		Name: "worker", Path: filepath.Join(folder, "worker"), Args: []string{"--allow-root", r.folder, "--log-format", "json"},
		Dir: r.folder, Log: filepath.Join(folder, "worker.log"),
		Env: servertest.Environment([]string{"TEMPORAL_", "MLFLOW_", "REGISTRAR_", "OTEL_", "ENV="},
			"TEMPORAL_ADDRESS="+temporal.HostPort, "MLFLOW_TRACKING_URI="+r.mlflow.URI),
	})
	require.NoError(t, err)
	t.Cleanup(func() {
		worker.Stop()
		if t.Failed() {
			t.Logf("log of the worker:\n%s", worker.Logs())
		}
	})
	return r
}

// project makes the folder of a project that has a model.
func (r registry) project(t *testing.T, name, model string, layout mlmodel.Layout) (root string) {
	t.Helper()
	root = filepath.Join(r.folder, name)
	content, err := os.ReadFile(model)
	require.NoError(t, err)
	for path, text := range map[string]string{
		"config/config.yaml": fmt.Sprintf("model_registration:\n  root_dir: out\n  model_path: model\n  metric_file_name: metrics.json\n"+
			"  model_name: %q\n  experiment_name: zoo\n  layout: %s\n", name, layout),
		"config/params.yaml": "registration_params:\n  min_roc_auc: 0.6\n",
		"metrics.json":       `{"roc_auc": 0.83}`,
		"model":              string(content),
	} {
		target := filepath.Join(root, filepath.FromSlash(path))
		require.NoError(t, os.MkdirAll(filepath.Dir(target), 0o750))
		require.NoError(t, os.WriteFile(target, []byte(text), 0o600))
	}
	return root
}

// register starts a registration as `temporal workflow start` does, and waits for its end.
func (r registry) register(ctx context.Context, name, root string) (receipt.Receipt, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	options := client.StartWorkflowOptions{ID: "zoo/" + name, TaskQueue: workflows.TaskQueue}
	run, err := r.temporal.ExecuteWorkflow(ctx, options, workflows.TypeRegisterModel, workflows.RegisterInput{Root: root})
	if err != nil {
		return receipt.Receipt{}, err
	}
	var made receipt.Receipt
	if err := run.Get(ctx, &made); err != nil {
		return receipt.Receipt{}, err
	}
	if made.Outcome != receipt.Registered || made.Stage != "Staging" {
		return receipt.Receipt{}, fmt.Errorf("it is %s, and in stage %q: %s", made.Outcome, made.Stage, made.Error)
	}
	return made, nil
}
