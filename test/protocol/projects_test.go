package protocol

import (
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"registrar/workflows"
)

// projects are the folders of all who take part, for all cases of a test. A's twin has the same files as A.
type projects struct {
	roots map[string]string

	mu     sync.Mutex
	frozen map[string]any
}

func newProjects(t *testing.T) *projects {
	t.Helper()
	model, err := os.ReadFile(filepath.Join("..", "..", "internal", "modelfile", "testdata", "forest.joblib"))
	require.NoError(t, err)
	p := &projects{roots: map[string]string{}, frozen: map[string]any{}}
	for who, accuracy := range map[string]string{"A": "0.91", "A's twin": "0.91", "B": "0.92", "C": "0.93"} {
		root := t.TempDir()
		for name, content := range map[string]string{
			"config/config.yaml": "model_registration:\n  root_dir: out\n  model_path: model.joblib\n" +
				"  metric_file_name: metrics.json\n  model_name: " + modelName + "\n",
			"config/params.yaml": "registration_params:\n  min_roc_auc: 0.5\n",
			"metrics.json":       `{"roc_auc": 0.8, "accuracy": ` + accuracy + `}`,
			"model.joblib":       string(model),
		} {
			path := filepath.Join(root, filepath.FromSlash(name))
			require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
			require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
		}
		p.roots[who] = root
	}
	return p
}

// once runs an activity that freezes files, or reads what is frozen, for the first case only: each takes as long as all requests of a
// case, and gives the same.
func (p *projects) once(a *attempt, run func() (any, error)) (any, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	name := a.activity + " " + a.actor.input.(workflows.RegisterInput).Root
	if result, ok := p.frozen[name]; ok {
		return result, nil
	}
	result, err := run()
	if err == nil {
		p.frozen[name] = result
	}
	return result, err
}
