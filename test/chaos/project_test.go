package chaos

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"registrar/internal/servertest"
)

// project is a folder to register from. Its model is tiny: the faults are in the requests, not in the bytes.
type project struct {
	root, modelName string
}

// newProject makes a project. Each metric beyond the usual ones makes it other files.
func (s *site) newProject(t testing.TB, modelName, experiment, mlflowURI string, moreMetrics string) project {
	t.Helper()
	s.mu.Lock()
	s.projects++
	p := project{root: filepath.Join(s.folder, "projects", fmt.Sprint(s.projects)), modelName: modelName}
	s.mu.Unlock()
	model, err := os.ReadFile(filepath.Join(servertest.Root(), "internal", "modelfile", "testdata", "forest.joblib"))
	require.NoError(t, err)
	for name, content := range map[string]string{
		"config/config.yaml": fmt.Sprintf("model_registration:\n  root_dir: out\n  model_path: model.joblib\n  metric_file_name: metrics.json\n"+
			"  model_name: %q\n  experiment_name: %q\n", modelName, experiment),
		"config/params.yaml": fmt.Sprintf("mlflow:\n  uri: %q\nregistration_params:\n  min_roc_auc: 0.6\n  probe_interval: 1s\n", mlflowURI),
		"metrics.json":       `{"accuracy": 0.76, "f1_score": 0.62, "roc_auc": 0.83` + moreMetrics + `}`,
		"model.joblib":       string(model),
	} {
		path := filepath.Join(p.root, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o750))
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	}
	return p
}
