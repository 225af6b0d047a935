// Command demo shows a registration from end to end on one machine: it trains a model, starts Temporal, MLflow and the
// worker, registers the model, loads it back in Python, scores raw applications by a Prediction API, and serves both Web
// UIs until it is interrupted. It knows the order of things and where to look; what a registration is, the worker and the
// starter know.
//
// Its state is kept in .demo, so that a second run takes seconds. With DEMO_EXIT=1 it ends by itself; with DEMO_THEN it runs
// that command first, which finds the addresses in DEMO_REGISTRATION_URL, DEMO_VERSION_URL and DEMO_RUN_URL. The exit code is 0
// where the registered model answers as the trained one does.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"

	"registrar/internal/receipt"
	"registrar/internal/servertest"
)

// The ports that users of Temporal and MLflow expect. Where one is taken, another is chosen.
const (
	temporalPort   = 7233
	temporalUIPort = 8233
	mlflowPort     = 5000
)

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	d := newDemo(servertest.Root())
	defer d.stop()
	switch err := d.run(ctx); {
	case err == nil:
		return 0
	case ctx.Err() != nil:
		fmt.Println("\ninterrupted")
		return 130
	default:
		fmt.Fprintf(os.Stderr, "\ndemo: %v\n", err)
		return 1
	}
}

// demo is what runs: each server from the step that starts it, until stop.
type demo struct {
	root    string // of the repository
	state   string // .demo, kept from run to run
	project string // the pipeline project in it
	python  string

	steps    steps
	temporal *servertest.TemporalServer
	mlflow   *servertest.MLflowServer
	worker   *servertest.Process
	receipt  receipt.Receipt // of the registration, once it has been read
	// Where to look.
	registrationURL, versionURL, runURL string
}

func newDemo(root string) *demo {
	state := filepath.Join(root, ".demo")
	return &demo{
		root: root, state: state, project: filepath.Join(state, "project"),
		python: filepath.Join(root, ".build", "venv", "bin", "python"),
		steps:  steps{out: os.Stdout, total: 7},
	}
}

func (d *demo) run(ctx context.Context) error {
	unlock, err := lock(d.state)
	if err != nil {
		return err
	}
	defer unlock()
	if err := d.trainModel(ctx); err != nil {
		return err
	}
	if err := d.startTemporal(ctx); err != nil {
		return err
	}
	if err := d.startMLflow(ctx); err != nil {
		return err
	}
	if err := d.startWorker(); err != nil {
		return err
	}
	if err := d.registerModel(ctx); err != nil {
		return err
	}
	if err := d.consumeModel(ctx); err != nil {
		return err
	}
	if err := d.scoreApplications(ctx); err != nil {
		return err
	}
	if err := d.printWhereToLook(ctx); err != nil {
		return err
	}
	if then := os.Getenv("DEMO_THEN"); then != "" {
		return d.command(ctx, "sh", "-c", then).Run()
	}
	if os.Getenv("DEMO_EXIT") == "1" {
		return nil
	}
	return d.serve(ctx)
}

// lock keeps a second demo from opening the same databases.
func lock(state string) (unlock func(), err error) {
	if err := os.MkdirAll(state, 0o750); err != nil {
		return nil, fmt.Errorf("make the demo's folder: %w", err)
	}
	file, err := os.OpenFile(filepath.Join(state, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the demo's folder: %w", err)
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w: is another demo running? stop it first", state, err), file.Close())
	}
	return func() { _ = file.Close() }, nil
}

func (d *demo) trainModel(ctx context.Context) error {
	metrics := filepath.Join(d.project, "artifacts", "model_evaluation", "metrics.json") // written last
	if _, err := os.Stat(metrics); err == nil {
		d.steps.done("train the model", "kept from an earlier run; `rm -r .demo` starts anew")
		return nil
	}
	script := filepath.Join(d.root, "examples", "credit-risk", "train.py")
	return d.steps.talking("train the model", func() error {
		return d.command(ctx, d.python, script, "--root", d.project).Run()
	})
}

func (d *demo) startTemporal(ctx context.Context) error {
	return d.steps.quiet("start Temporal", func() (string, error) {
		port, err := d.portOr(temporalPort)
		if err != nil {
			return "", err
		}
		uiPort, err := d.portOr(temporalUIPort)
		if err != nil {
			return "", err
		}
		d.temporal, err = servertest.StartTemporal(ctx, servertest.TemporalOptions{
			Binary: filepath.Join(d.root, "bin", "temporal"),
			Dir:    filepath.Join(d.state, "temporal"), Port: port, UIPort: uiPort,
		})
		if err != nil {
			return "", err
		}
		return d.temporal.HostPort, nil
	})
}

func (d *demo) startMLflow(ctx context.Context) error {
	return d.steps.quiet("start MLflow", func() (string, error) {
		port, err := d.portOr(mlflowPort)
		if err != nil {
			return "", err
		}
		d.mlflow, err = servertest.StartMLflow(ctx, servertest.MLflowOptions{
			Venv: filepath.Join(d.root, ".build", "venv"),
			Dir:  filepath.Join(d.state, "mlflow"), Port: port,
		})
		if err != nil {
			return "", err
		}
		return d.mlflow.URI, nil
	})
}

func (d *demo) portOr(preferred int) (int, error) {
	port, taken, err := servertest.PortOr(preferred)
	if err == nil && taken {
		d.steps.note(fmt.Sprintf("port %d is taken, using %d", preferred, port))
	}
	return port, err
}

func (d *demo) startWorker() error {
	return d.steps.quiet("start the worker", func() (string, error) {
		log := filepath.Join(d.state, "worker", "worker.log")
		var err error
		d.worker, err = servertest.StartProcess(servertest.Command{
			Name: "worker", Path: filepath.Join(d.root, "bin", "worker"), Args: []string{"--allow-root", d.project},
			Dir: d.project, Env: d.environment(), Log: log,
		})
		if err != nil {
			return "", fmt.Errorf("%w: run `make build`", err)
		}
		return "logs to " + d.relative(log), nil
	})
}

func (d *demo) registerModel(ctx context.Context) error {
	return d.steps.talking("register the model", func() error {
		err := d.command(ctx, filepath.Join(d.root, "bin", "starter"), "register", "--root", d.project).Run()
		select {
		case <-d.worker.Done():
			return d.workerEnded()
		default:
		}
		if err != nil {
			return err
		}
		return d.readReceipt()
	})
}

// readReceipt reads how the registration stands: one that waits is no failure of the starter, but the end of the demo.
func (d *demo) readReceipt() error {
	path := d.receiptPath()
	text, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read receipt: %w", err)
	}
	if err := json.Unmarshal(text, &d.receipt); err != nil {
		return fmt.Errorf("read receipt %s: %w", path, err)
	}
	if d.receipt.ModelVersion == "" {
		return fmt.Errorf("no version yet, the registration is %s; the end of the worker's log:\n%s", d.receipt.State, d.worker.Logs())
	}
	return nil
}

func (d *demo) receiptPath() string {
	return filepath.Join(d.project, "artifacts", "model_registration", "receipt.json")
}

// relative shortens a path for the eye: make runs in the repository's root.
func (d *demo) relative(path string) string {
	if short, err := filepath.Rel(d.root, path); err == nil {
		return short
	}
	return path
}

func (d *demo) consumeModel(ctx context.Context) error {
	script := filepath.Join(d.root, "examples", "credit-risk", "consume.py")
	return d.steps.talking("load it back in Python", func() error {
		return d.command(ctx, d.python, "-W", "ignore", script, "--root", d.project).Run()
	})
}

// command runs in the foreground and talks to the user's terminal.
func (d *demo) command(ctx context.Context, path string, arguments ...string) *exec.Cmd {
	command := exec.CommandContext(ctx, path, arguments...)
	command.Cancel = func() error { return command.Process.Signal(os.Interrupt) }
	command.Env = d.environment()
	command.Stdin, command.Stdout, command.Stderr = os.Stdin, os.Stdout, os.Stderr
	return command
}

// environment says where the servers are that run by now. The user's own servers and credentials are left out.
func (d *demo) environment() []string {
	var servers []string
	if d.temporal != nil {
		servers = append(servers,
			"TEMPORAL_ADDRESS="+d.temporal.HostPort, "TEMPORAL_NAMESPACE="+d.temporal.Namespace,
			"REGISTRAR_TEMPORAL_UI_URL="+d.temporalUI())
	}
	if d.mlflow != nil {
		servers = append(servers, "MLFLOW_TRACKING_URI="+d.mlflow.URI, "MLFLOW_DISABLE_TELEMETRY=true", "DO_NOT_TRACK=true")
	}
	if d.registrationURL != "" {
		servers = append(servers, "DEMO_REGISTRATION_URL="+d.registrationURL, "DEMO_VERSION_URL="+d.versionURL, "DEMO_RUN_URL="+d.runURL)
	}
	return servertest.Environment([]string{"TEMPORAL_", "MLFLOW_", "REGISTRAR_", "ENV="}, servers...)
}

func (d *demo) temporalUI() string { return fmt.Sprintf("http://127.0.0.1:%d", d.temporal.UIPort) }

func (d *demo) printWhereToLook(ctx context.Context) error {
	var err error
	if d.registrationURL, err = d.workflowURL(ctx, d.receipt.WorkflowID); err != nil {
		return err
	}
	d.versionURL = fmt.Sprintf("%s/#/models/%s/versions/%s", d.mlflow.URI, url.PathEscape(d.receipt.ModelName), d.receipt.ModelVersion)
	d.runURL = fmt.Sprintf("%s/#/experiments/%s/runs/%s", d.mlflow.URI, d.receipt.ExperimentID, d.receipt.MLflowRunID)
	fmt.Printf(`
Where to look
  the registration   %s
  the version        %s
  its run            %s
  the receipt        %s
`, d.registrationURL, d.versionURL, d.runURL, d.relative(d.receiptPath()))
	return nil
}

// workflowURL asks Temporal for the newest run of the workflow, without which the Web UI has no page for it.
func (d *demo) workflowURL(ctx context.Context, workflowID string) (string, error) {
	connection, err := d.temporal.Dial(ctx)
	if err != nil {
		return "", err
	}
	defer connection.Close()
	description, err := connection.DescribeWorkflowExecution(ctx, workflowID, "")
	if err != nil {
		return "", fmt.Errorf("describe workflow %s: %w", workflowID, err)
	}
	runID := description.GetWorkflowExecutionInfo().GetExecution().GetRunId()
	return fmt.Sprintf("%s/namespaces/%s/workflows/%s/%s/history",
		d.temporalUI(), d.temporal.Namespace, url.PathEscape(workflowID), runID), nil
}

// serve waits for the user's Ctrl-C, which is the good end, or for a process that ends by itself, which is not.
func (d *demo) serve(ctx context.Context) error {
	fmt.Println("\nServing until Ctrl-C.")
	select {
	case <-ctx.Done():
		return nil
	case <-d.temporal.Done():
		return fmt.Errorf("temporal ended by itself; its log is %s", d.relative(d.temporal.LogPath()))
	case <-d.mlflow.Done():
		return fmt.Errorf("mlflow ended by itself; its log is %s", d.relative(d.mlflow.LogPath()))
	case <-d.worker.Done():
		return d.workerEnded()
	}
}

func (d *demo) workerEnded() error {
	cause := "exit code 0"
	if err := d.worker.Err(); err != nil {
		cause = err.Error()
	}
	return fmt.Errorf("the worker ended by itself: %s; the end of its log:\n%s", cause, d.worker.Logs())
}

// stop ends what was started, the worker first: it finishes what it is at.
func (d *demo) stop() {
	if d.worker != nil {
		d.worker.Stop()
	}
	if d.mlflow != nil {
		d.mlflow.Stop()
	}
	if d.temporal != nil {
		d.temporal.Stop()
	}
}
