package e2e

import (
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"registrar/internal/receipt"
	"registrar/internal/servertest"
)

// kinds runs the script that trains and loads models of other kinds than the example's.
func (s *site) kinds(args ...string) string {
	s.t.Helper()
	script := filepath.Join(servertest.Root(), "test", "e2e", "testdata", "kinds.py")
	run := exec.CommandContext(s.t.Context(), filepath.Join(servertest.Root(), ".build", "venv", "bin", "python"), append([]string{script}, args...)...)
	run.Env = servertest.Environment([]string{"MLFLOW_"}, "MLFLOW_TRACKING_URI="+s.mlflowURI, "MLFLOW_DISABLE_TELEMETRY=true", "DO_NOT_TRACK=true")
	output, err := run.CombinedOutput()
	require.NoError(s.t, err, "%s", output)
	return string(output)
}

// packed reads a file of a registered model, as text.
func (s *site) packed(modelID, name string) string {
	s.t.Helper()
	model, err := registryAt(s.t, s.mlflowURI).client.GetLoggedModel(s.t.Context(), modelID)
	require.NoError(s.t, err)
	address := s.mlflowURI + "/api/2.0/mlflow-artifacts/artifacts/" + strings.TrimPrefix(model.Info.ArtifactURI, "mlflow-artifacts:/") + "/" + name
	request, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, address, nil)
	require.NoError(s.t, err)
	answer, err := http.DefaultClient.Do(request)
	require.NoError(s.t, err)
	defer answer.Body.Close()
	require.Equal(s.t, http.StatusOK, answer.StatusCode, name)
	content, err := io.ReadAll(answer.Body)
	require.NoError(s.t, err)
	return string(content)
}

// descriptor is what the test reads of MLmodel.
type descriptor struct {
	Flavors struct {
		PythonFunction struct{ Code string } `yaml:"python_function"`
		Sklearn        struct {
			Code                string
			SerializationFormat string   `yaml:"serialization_format"`
			SkopsTrustedTypes   []string `yaml:"skops_trusted_types"`
		}
	}
	Signature struct{ Inputs, Outputs string }
}

func TestRegister_TakesModelsOfEveryKind(t *testing.T) {
	t.Parallel()
	const columns = `[{"type": "any", "name": "income", "required": true}, {"type": "any", "name": "home", "required": true}]`
	for kind, settings := range map[string]string{
		"joblib":      "\n  layout: hybrid\n  signature: columns\n  environment_file: requirements.txt",
		"cloudpickle": "\n  signature: columns",
		"skops":       "",
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := sharedSite(t)
			s.project.edit(t, configFile, "model_registration:", "model_registration:"+settings)
			s.project.edit(t, configFile, "    scipy: \"1.17.1\"\n", "")
			s.project.write(t, "requirements.txt", "scipy==1.17.1\ntorch==2.3.0\n")
			s.kinds("train", s.project.root, kind)
			s.startWorker()

			registered := s.register("--wait", "final", "--timeout", patience.String()).receipt

			s.requireOutcome(receipt.Registered, registered)
			require.Contains(t, s.kinds("load", registered.ModelURI, s.project.root), "equal to the last bit")
			var described descriptor
			require.NoError(t, yaml.Unmarshal([]byte(s.packed(registered.MLflowModelID, "MLmodel")), &described))
			require.Equal(t, map[string]string{"joblib": "pickle", "cloudpickle": "pickle", "skops": "skops"}[kind], described.Flavors.Sklearn.SerializationFormat)
			requirements := strings.Split(s.packed(registered.MLflowModelID, "requirements.txt"), "\n")
			switch kind {
			case "joblib":
				require.Equal(t, "code", described.Flavors.PythonFunction.Code)
				require.Equal(t, "code", described.Flavors.Sklearn.Code)
				require.Equal(t, columns, described.Signature.Inputs)
				require.Contains(t, requirements, "scipy==1.17.1", "as the lock file says")
				require.NotContains(t, requirements, "torch==2.3.0", "what the model does not need is not asked for")
			case "cloudpickle":
				require.Equal(t, columns, described.Signature.Inputs)
				require.Contains(t, requirements, "scipy", "nobody tells")
			case "skops":
				require.Contains(t, described.Flavors.Sklearn.SkopsTrustedTypes, "sklearn.tree._tree.Tree")
				require.Contains(t, requirements, "skops")
			}
		})
	}
}
