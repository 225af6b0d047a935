package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"registrar/internal/servertest"
)

const (
	configFile  = "config/config.yaml"
	paramsFile  = "config/params.yaml"
	modelFile   = "artifacts/model_trainer/acras_rf_model.joblib"
	metricsFile = "artifacts/model_evaluation/metrics.json"
	outputs     = "artifacts/model_registration"
)

// project is a copy of the trained example project. Its model has a name of the test's own, so that tests share servers
// without meeting.
type project struct {
	root      string
	modelName string
}

func newProject(t testing.TB) project {
	t.Helper()
	return projectIn(t, t.TempDir(), nameOf(t))
}

func projectIn(t testing.TB, root, modelName string) project {
	t.Helper()
	needServers(t) // where there are none, nothing was trained either
	trained := filepath.Join(servertest.Root(), ".build", "credit-risk")
	require.DirExists(t, trained, "run `make project`")
	require.NoError(t, os.CopyFS(root, os.DirFS(trained)))
	p := project{root: root, modelName: modelName}
	p.edit(t, configFile, `"ACRAS_RandomForest_v1"`, `"`+p.modelName+`"`)
	p.edit(t, paramsFile, "min_roc_auc: 0.60", "min_roc_auc: 0.60\n  probe_interval: 1s")
	return p
}

func (p project) path(name string) string { return filepath.Join(p.root, filepath.FromSlash(name)) }

func (p project) read(t testing.TB, name string) string {
	t.Helper()
	data, err := os.ReadFile(p.path(name))
	require.NoError(t, err)
	return string(data)
}

func (p project) write(t testing.TB, name, content string) {
	t.Helper()
	require.NoError(t, os.WriteFile(p.path(name), []byte(content), 0o600))
}

// edit replaces a text that has to be in the file.
func (p project) edit(t testing.TB, name, before, after string) {
	t.Helper()
	content := p.read(t, name)
	require.Contains(t, content, before, name)
	p.write(t, name, strings.ReplaceAll(content, before, after))
}

// demand sets the ROC-AUC that a model needs; the example's has 0.83.
func (p project) demand(t testing.TB, minROCAUC string) {
	t.Helper()
	lines := strings.Split(p.read(t, paramsFile), "\n")
	for i, line := range lines {
		if strings.Contains(line, "min_roc_auc:") {
			lines[i] = "  min_roc_auc: " + minROCAUC
		}
	}
	p.write(t, paramsFile, strings.Join(lines, "\n"))
}

// retrain trains another model, with its metrics, from other data, in place of the one that is there.
func (p project) retrain(t testing.TB) {
	t.Helper()
	root := servertest.Root()
	train := exec.CommandContext(t.Context(), filepath.Join(root, ".build", "venv", "bin", "python"),
		filepath.Join(root, "examples", "credit-risk", "train.py"), "--root", p.root, "--seed", "7")
	output, err := train.CombinedOutput()
	require.NoError(t, err, "%s", output)
}
