package workflows_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"registrar/internal/confine"
	"registrar/internal/gate"
	"registrar/internal/receipt"
	"registrar/internal/snapshot"
	"registrar/workflows"
)

const (
	modelName = "credit"
	metrics   = `{"accuracy": 0.8, "roc_auc": 0.75, "confusion": [[1, 2], [3, 4]]}`
)

// project is a folder as the pipeline leaves it: two settings files, a model and its metrics.
type project struct {
	t    *testing.T
	root string
}

// newProject makes a project with a good model, to be registered at the tracking URI.
func newProject(t *testing.T, trackingURI string) project {
	p := project{t: t, root: t.TempDir()}
	p.write("config/config.yaml", `
model_registration:
  root_dir: out
  model_path: model.joblib
  metric_file_name: metrics.json
  model_name: `+modelName+"\n")
	p.writeParams(trackingURI, 0.6)
	p.write("metrics.json", metrics)
	p.copyModel("forest.joblib")
	return p
}

func (p project) write(name, content string) {
	p.t.Helper()
	file := filepath.Join(p.root, name)
	require.NoError(p.t, os.MkdirAll(filepath.Dir(file), 0o755))
	require.NoError(p.t, os.WriteFile(file, []byte(content), 0o600))
}

func (p project) writeParams(trackingURI string, minROCAUC float64) {
	p.t.Helper()
	p.write("config/params.yaml", fmt.Sprintf("mlflow:\n  uri: %s\nregistration_params:\n  min_roc_auc: %v\n", trackingURI, minROCAUC))
}

// copyModel makes one of the models that scikit-learn wrote for package modelfile the project's.
func (p project) copyModel(name string) {
	p.t.Helper()
	data, err := os.ReadFile(filepath.Join("../internal/modelfile/testdata", name))
	require.NoError(p.t, err)
	p.write("model.joblib", string(data))
}

func (p project) remove(name string) {
	p.t.Helper()
	require.NoError(p.t, os.Remove(filepath.Join(p.root, name)))
}

// byHand is the input of a registration that freezes the files itself.
func (p project) byHand() workflows.RegisterInput { return workflows.RegisterInput{Root: p.root} }

// freeze copies the inputs as the starter does, and returns the input that it gives.
func (p project) freeze() workflows.RegisterInput {
	p.t.Helper()
	dir, err := confine.Unconfined(p.root)
	require.NoError(p.t, err)
	defer dir.Close()
	rootDir, err := dir.Sub("out", true)
	require.NoError(p.t, err)
	defer rootDir.Close()
	staged, err := snapshot.Stage(p.t.Context(), dir, rootDir, snapshot.Inputs{
		ModelName: modelName, Model: "model.joblib", Metrics: "metrics.json",
		Config: p.settings("config/config.yaml"), Params: p.settings("config/params.yaml"),
	}, nil)
	require.NoError(p.t, err)
	folder, err := staged.Commit(p.t.Context())
	require.NoError(p.t, err)
	return workflows.RegisterInput{Root: p.root, RootDir: "out", Key: folder.Request().RegistrationKey}
}

func (p project) settings(name string) snapshot.File {
	p.t.Helper()
	return snapshot.File{Name: name, Data: []byte(p.read(name))}
}

func (p project) read(name string) string {
	p.t.Helper()
	data, err := os.ReadFile(filepath.Join(p.root, name))
	require.NoError(p.t, err)
	return string(data)
}

// requireReceipt sees that receipt.json says what the registration returned, in its folder and beside it.
func (p project) requireReceipt(want receipt.Receipt) {
	p.t.Helper()
	text, err := want.JSON()
	require.NoError(p.t, err)
	require.Equal(p.t, string(text), p.read("out/receipt.json"))
	require.Equal(p.t, string(text), p.read(filepath.Join("out", snapshot.FolderPath(want.RegistrationKey), "receipt.json")))
}

func (p project) requireDecision(want gate.Decision) {
	p.t.Helper()
	text, err := want.JSON()
	require.NoError(p.t, err)
	require.Equal(p.t, string(text), p.read("out/decision.json"))
}

// requireModelRemoved sees that the folder's copy of the model is gone, and the rest of the folder is not.
func (p project) requireModelRemoved(key string) {
	p.t.Helper()
	folder := filepath.Join(p.root, "out", snapshot.FolderPath(key))
	require.NoDirExists(p.t, filepath.Join(folder, "model"))
	require.FileExists(p.t, filepath.Join(folder, "metrics.json"))
}
