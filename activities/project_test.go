package activities

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/workflow"

	"registrar/internal/confine"
	"registrar/internal/mlflow"
	"registrar/internal/mlflow/mlflowtest"
)

// project is a folder with a good model, whose inputs are frozen, and the activities of a worker that serves it.
type project struct {
	t      testing.TB
	root   string
	server *mlflowtest.Server
	*Activities
	*testsuite.TestActivityEnvironment
	frozen SnapshotModelResult
}

var owner = Owner{Owner: "default/register/credit/0123456789abcdef", Generation: "first", StartedAt: 1000}

func newProject(t testing.TB) *project {
	p := &project{t: t, root: t.TempDir(), server: mlflowtest.NewServer(t)}
	roots, err := confine.Open([]string{p.root}, nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, roots.Close()) })
	p.Activities = &Activities{Roots: roots, Process: map[string]string{}, Clients: &Clients{}, WakesPerSecond: 1e6}
	var suite testsuite.WorkflowTestSuite
	suite.SetLogger(log.NewStructuredLogger(slog.New(slog.DiscardHandler)))
	p.TestActivityEnvironment = suite.NewTestActivityEnvironment()
	p.RegisterActivity(p.Activities)

	p.write("config/config.yaml", "model_registration:\n  root_dir: out\n  model_path: model.joblib\n  metric_file_name: metrics.json\n  model_name: credit\n")
	p.write("config/params.yaml", "mlflow:\n  uri: "+p.server.URL+"\n")
	p.write("metrics.json", `{"roc_auc": 0.75}`)
	model, err := os.ReadFile("../internal/modelfile/testdata/forest.joblib")
	require.NoError(t, err)
	p.write("model.joblib", string(model))
	return p
}

func (p *project) write(name, content string) {
	p.t.Helper()
	file := filepath.Join(p.root, name)
	require.NoError(p.t, os.MkdirAll(filepath.Dir(file), 0o755))
	require.NoError(p.t, os.WriteFile(file, []byte(content), 0o600))
}

func (p *project) link(target, name string) {
	p.t.Helper()
	require.NoError(p.t, os.Symlink(target, filepath.Join(p.root, name)))
}

// execute runs an activity and returns its result.
func execute[Result any](p *project, activity, input any) (result Result, err error) {
	value, err := p.ExecuteActivity(activity, input)
	if err != nil {
		return result, err
	}
	return result, value.Get(&result)
}

// tryOften runs an activity as a workflow does, with as many attempts at most, and returns its result.
func tryOften[Result any](p *project, attempts int32, activity, input any) (result Result, err error) {
	p.t.Helper()
	var suite testsuite.WorkflowTestSuite
	suite.SetLogger(log.NewStructuredLogger(slog.New(slog.DiscardHandler)))
	env := suite.NewTestWorkflowEnvironment()
	env.RegisterActivity(p.Activities)
	env.ExecuteWorkflow(func(ctx workflow.Context) (result Result, err error) {
		ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
			StartToCloseTimeout: time.Minute, RetryPolicy: &temporal.RetryPolicy{MaximumAttempts: attempts},
		})
		err = workflow.ExecuteActivity(ctx, activity, input).Get(ctx, &result)
		return result, err
	})
	if err := env.GetWorkflowError(); err != nil {
		return result, err
	}
	return result, env.GetWorkflowResult(&result)
}

// load reads the project's settings.
func (p *project) load() (LoadConfigResult, error) {
	return execute[LoadConfigResult](p, p.LoadConfig, LoadConfigInput{
		Project: Project{Root: p.root}, Config: "config/config.yaml", Params: "config/params.yaml",
	})
}

// freeze freezes the project's inputs.
func (p *project) freeze() error {
	loaded, err := p.load()
	if err != nil {
		return err
	}
	p.frozen, err = execute[SnapshotModelResult](p, p.SnapshotModel, SnapshotModelInput{
		Project: Project{Root: p.root}, Config: "config/config.yaml", Params: "config/params.yaml", Settings: loaded.Settings,
	})
	return err
}

func (p *project) tracked() Server {
	return Server{TrackingURI: p.server.URL, Root: p.root, WorkspaceKnown: true}
}

func (p *project) owner() Owner {
	o := owner
	o.Key = p.frozen.Request.RegistrationKey
	return o
}

func (p *project) client() *mlflow.Client {
	p.t.Helper()
	client, err := mlflow.New(mlflow.Config{TrackingURI: p.server.URL})
	require.NoError(p.t, err)
	p.t.Cleanup(client.Close)
	return client
}

// upload is the input of UploadModel for the frozen model, with a run that was made for it.
func (p *project) upload() UploadModelInput {
	p.t.Helper()
	require.NoError(p.t, p.freeze())
	return UploadModelInput{
		Server: p.tracked(), Project: p.frozen.Project, Owner: p.owner(), Model: p.frozen.Model, LoggedModels: true, PredictFn: "predict",
		Run:      p.run(),
		LoggedAt: time.UnixMilli(1_700_000_000_000),
	}
}

// run makes a run.
func (p *project) run() LogRunResult {
	p.t.Helper()
	run, err := p.client().CreateRun(p.t.Context(), mlflow.CreateRunRequest{ExperimentID: "0"})
	require.NoError(p.t, err)
	return LogRunResult{RunID: run.Info.RunID, ExperimentID: "0", ArtifactURI: run.Info.ArtifactURI}
}
