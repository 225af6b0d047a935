package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.temporal.io/sdk/client"
	"golang.org/x/sys/unix"

	"registrar/internal/receipt"
	"registrar/internal/servertest"
)

// bench is the servers, the worker, and what was measured on them.
type bench struct {
	extent extent
	folder string
	python string
	env    []string // of workers, starters and rivals

	temporal *servertest.TemporalServer
	client   client.Client
	mlflow   *servertest.MLflowServer
	worker   *servertest.Process
	// workerHTTP is where the worker serves its metrics.
	workerHTTP string
	ends       []func() // what to end, in the order of its start

	report report
	count  int // of projects and of force tokens
}

func openBench(ctx context.Context, e extent) (*bench, error) {
	b := &bench{extent: e, python: filepath.Join(servertest.Root(), ".build", "venv", "bin", "python")}
	err := b.open(ctx)
	if err != nil {
		b.close()
	}
	return b, err
}

func (b *bench) open(ctx context.Context) (err error) {
	// Below the repository, so that the disk is the one that it lies on: a temporary folder may be memory.
	parent := filepath.Join(servertest.Root(), ".build")
	if b.folder, err = os.MkdirTemp(parent, "bench-"); err != nil {
		return fmt.Errorf("make a folder: %w", err)
	}
	b.ends = append(b.ends, func() { _ = os.RemoveAll(b.folder) })
	b.say("train the models")
	models := exec.CommandContext(ctx, b.python, b.rival("models.py"), "--into", b.folder, "--large-bytes", fmt.Sprint(b.extent.largeBytes))
	if output, err := models.CombinedOutput(); err != nil {
		return fmt.Errorf("train the models: %w\n%s", err, output)
	}
	for _, program := range []string{"worker", "starter"} {
		if err := b.install(program); err != nil {
			return err
		}
	}
	b.say("start Temporal and MLflow")
	if b.temporal, err = servertest.StartTemporal(ctx, servertest.TemporalOptions{Dir: b.path("temporal"), Headless: true, Args: asInACluster}); err != nil {
		return err
	}
	b.ends = append(b.ends, b.temporal.Kill)
	if b.client, err = b.temporal.Dial(ctx); err != nil {
		return err
	}
	b.ends = append(b.ends, b.client.Close)
	if b.mlflow, err = servertest.StartMLflow(ctx, servertest.MLflowOptions{Dir: b.path("mlflow")}); err != nil {
		return err
	}
	b.ends = append(b.ends, b.mlflow.Kill)
	b.env = servertest.Environment([]string{"TEMPORAL_", "MLFLOW_", "REGISTRAR_", "ENV="},
		"TEMPORAL_ADDRESS="+b.temporal.HostPort, "MLFLOW_TRACKING_URI="+b.mlflow.URI, "MLFLOW_DISABLE_TELEMETRY=true", "DO_NOT_TRACK=true")
	return b.startWorker(ctx, "worker")
}

// asInACluster makes the development server what report.go says of it.
var asInACluster = []string{
	"--dynamic-config-value", "history.transferProcessorMaxPollRPS=1000",
	"--dynamic-config-value", "system.enableActivityEagerExecution=true",
}

// startWorker returns when the worker is ready.
func (b *bench) startWorker(ctx context.Context, name string) error {
	port, err := servertest.FreePort()
	if err != nil {
		return err
	}
	b.workerHTTP = fmt.Sprintf("127.0.0.1:%d", port)
	b.worker, err = servertest.StartProcess(servertest.Command{
		Name: name, Path: b.path("worker"), Args: []string{"--allow-root", b.folder, "--log-format", "json", "--http-listen", b.workerHTTP},
		Dir: b.folder, Env: b.env, Log: b.path(name + ".log"),
	})
	if err != nil {
		return err
	}
	b.ends = append(b.ends, b.worker.Kill)
	for within := time.Now().Add(time.Minute); !strings.Contains(b.worker.Logs(), "worker is ready"); {
		if err := pause(ctx, 100*time.Millisecond); err != nil || time.Now().After(within) {
			return errors.Join(err, fmt.Errorf("the worker does not get ready:\n%s", b.worker.Logs()))
		}
	}
	return nil
}

func (b *bench) close() {
	for _, end := range slices.Backward(b.ends) {
		end()
	}
}

func (b *bench) path(name string) string { return filepath.Join(b.folder, name) }

func (b *bench) rival(script string) string {
	return filepath.Join(servertest.Root(), "test", "bench", "rivals", script)
}

// install copies one of the programs, and lets the kernel forget it, so that it is read from the disk as after the machine's start. How it lies in the page
// cache otherwise depends on who has written it, and with that how much of it counts as a process's own: 33 to 38 MiB of VmRSS for one and the same worker.
func (b *bench) install(program string) (err error) {
	data, err := os.ReadFile(binary(program))
	if err != nil {
		return err
	}
	installed, err := os.OpenFile(b.path(program), os.O_WRONLY|os.O_CREATE, 0o700)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, installed.Close()) }()
	if _, err := installed.Write(data); err != nil {
		return err
	}
	if err := installed.Sync(); err != nil {
		return err
	}
	return unix.Fadvise(int(installed.Fd()), 0, 0, unix.FADV_DONTNEED)
}

func binary(name string) string { return filepath.Join(servertest.Root(), "bin", name) }

func (b *bench) say(format string, args ...any) { fmt.Printf("  "+format+"\n", args...) }

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// project is a folder to register from.
type project struct{ root, model, metrics, name string }

// newProject makes a project with one of the models, whose file is shared. No two are the same registration: their metrics differ.
func (b *bench) newProject(model string) (project, error) {
	b.count++
	name := fmt.Sprintf("%s-%d", model, b.count)
	p := project{root: b.path("projects/" + name), name: name}
	p.model, p.metrics = filepath.Join(p.root, "model.joblib"), filepath.Join(p.root, "metrics.json")
	for file, content := range map[string]string{
		"config/config.yaml": fmt.Sprintf("model_registration:\n  root_dir: out\n  model_path: model.joblib\n  metric_file_name: metrics.json\n"+
			"  model_name: %q\n  experiment_name: bench\n", name),
		"config/params.yaml": "registration_params:\n  min_roc_auc: 0.6\n",
		"metrics.json":       fmt.Sprintf(`{"accuracy": 0.76, "precision": 0.7, "recall": 0.6, "f1_score": 0.64, "roc_auc": 0.83, "number": %d}`, b.count),
	} {
		path := filepath.Join(p.root, filepath.FromSlash(file))
		if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
			return p, err
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			return p, err
		}
	}
	return p, os.Link(b.path(model+".joblib"), p.model)
}

// register runs the starter to the end of a registration that is not there yet.
func (b *bench) register(ctx context.Context, p project) (spent, receipt.Receipt, error) {
	b.count++
	var r receipt.Receipt
	token := fmt.Sprintf("--force=%d", b.count)
	s, err := timed(ctx, b.env, p.root, b.path("starter"), "register", "--wait", "final", "--output", "json", token)
	if err != nil {
		return s, r, err
	}
	data, err := os.ReadFile(filepath.Join(p.root, "out", "receipt.json"))
	if err == nil {
		err = json.Unmarshal(data, &r)
	}
	if err == nil && r.Outcome != receipt.Registered {
		err = fmt.Errorf("register %s: outcome %q, %s", p.name, r.Outcome, r.Error)
	}
	return s, r, err
}
