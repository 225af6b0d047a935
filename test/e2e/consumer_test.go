package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"registrar/internal/receipt"
	"registrar/internal/servertest"
)

const (
	preprocessorFile = "artifacts/data_transformation/preprocessor.pkl"
	applicationsFile = "examples/credit-risk/applications.json"
)

func TestConsumer_PredictionAPIScoresRawRowsFromTheRegistryAlone(t *testing.T) {
	t.Parallel()
	s := sharedSite(t)
	s.startWorker()
	registered := s.register().receipt
	s.requireOutcome(receipt.Registered, registered)
	applications, err := os.ReadFile(filepath.Join(servertest.Root(), applicationsFile))
	require.NoError(t, err)
	expected := scoredByTheTrainedFiles(t, s.project.root, applications)
	require.NoError(t, os.RemoveAll(s.project.root))

	api := startPredictionAPI(t, s.mlflowURI, "models:/"+s.project.modelName+"/Staging")
	status, answer := post(t, api+"/predict", applications)

	require.Equal(t, http.StatusOK, status, "%s", answer)
	var scores struct {
		Model, Version string
		Predictions    []struct {
			DefaultProbability float64 `json:"default_probability"`
			Decision           string
		}
	}
	require.NoError(t, json.Unmarshal(answer, &scores))
	require.Equal(t, s.project.modelName, scores.Model)
	require.Equal(t, registered.ModelVersion, scores.Version)
	require.Len(t, scores.Predictions, len(expected))
	for i, p := range scores.Predictions {
		require.Equal(t, expected[i], p.DefaultProbability, "to the last bit")
		require.Equal(t, p.DefaultProbability >= 0.5, p.Decision == "refuse")
	}

	for rows, says := range map[string]string{
		`[{"person_aeg": 31}]`:    "person_aeg",
		`[{"person_age": "old"}]`: "old",
		`[]`:                      "at least 1",
		`[{"loan_grade": ["A"]}]`: "loan_grade",
	} {
		status, answer := post(t, api+"/predict", []byte(`{"rows": `+rows+`}`))
		require.Equal(t, http.StatusUnprocessableEntity, status, "%s", answer)
		require.Contains(t, string(answer), says)
	}
}

func TestConsumer_PyfuncGivesProbabilitiesWhereTheyWereAskedFor(t *testing.T) {
	t.Parallel()
	s := sharedSite(t)
	s.project.edit(t, configFile, "  root_dir:", "  predict_fn: predict_proba\n  root_dir:")
	s.startWorker()

	s.requireOutcome(receipt.Registered, s.register().receipt)

	require.Contains(t, s.consume(), "pyfunc predict_proba")
}

func TestConsumer_ExtraFilesAreFrozenAndLieBesideTheModel(t *testing.T) {
	t.Parallel()
	s, gateway := gatedSite(t)
	gateway.close()
	s.startWorker()
	frozen := s.project.read(t, preprocessorFile)
	waiting := s.register().receipt
	require.Equal(t, receipt.Waiting, waiting.State)

	// The pipeline goes on: another preprocessor makes another registration of the same model.
	other := strings.TrimSuffix(frozen, ".") + "N0." // the same object, and None on the way
	s.project.write(t, preprocessorFile, other)
	second := s.register().receipt
	require.NotEqual(t, waiting.RegistrationKey, second.RegistrationKey)
	require.Equal(t, waiting.ModelSHA256, second.ModelSHA256)
	gateway.open()

	for content, id := range map[string]string{frozen: waiting.WorkflowID, other: second.WorkflowID} {
		r := s.result(id)
		s.requireOutcome(receipt.Registered, r)
		registryAt(t, s.mlflowURI).requireOnce(r.RegistrationKey)
		require.Equal(t, digest(content), digest(s.uploaded(r, "extra_files/preprocessor.pkl")))
	}
	// The folder's copies are removed when the registration ended.
	require.NoDirExists(t, s.project.path(path.Join(outputs, "registrations", waiting.RegistrationKey[:16], "extra")))
}

func digest(content string) string {
	sum := sha256.Sum256([]byte(content))
	return hex.EncodeToString(sum[:])
}

// uploaded is a file that lies beside the model of a registration, as MLflow serves it.
func (s *site) uploaded(r receipt.Receipt, file string) string {
	s.t.Helper()
	url := fmt.Sprintf("%s/api/2.0/mlflow-artifacts/artifacts/%s/models/%s/artifacts/%s", s.mlflowURI, r.ExperimentID, r.MLflowModelID, file)
	request, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, url, http.NoBody)
	require.NoError(s.t, err)
	response, err := http.DefaultClient.Do(request)
	require.NoError(s.t, err)
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	require.NoError(s.t, err)
	require.Equal(s.t, http.StatusOK, response.StatusCode, "%s", content)
	return string(content)
}

// scoredByTheTrainedFiles are the default probabilities that model and preprocessor of a project give.
func scoredByTheTrainedFiles(t *testing.T, root string, applications []byte) (probabilities []float64) {
	t.Helper()
	score := exec.CommandContext(t.Context(), python(), filepath.Join("testdata", "score.py"), root)
	score.Stdin = bytes.NewReader(applications)
	answer, err := score.Output()
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(answer, &probabilities))
	return probabilities
}

func python() string { return filepath.Join(servertest.Root(), ".build", "venv", "bin", "python") }

// consumerEnvironment knows MLflow, and nothing else of ours.
func consumerEnvironment(trackingURI string) []string {
	return servertest.Environment([]string{"MLFLOW_", "TEMPORAL_", "REGISTRAR_"},
		"MLFLOW_TRACKING_URI="+trackingURI, "MLFLOW_DISABLE_TELEMETRY=true", "DO_NOT_TRACK=true")
}

// startPredictionAPI starts the example's Prediction API in an empty folder, and returns its address once it answers.
func startPredictionAPI(t *testing.T, trackingURI, model string) (url string) {
	t.Helper()
	port, err := servertest.FreePort()
	require.NoError(t, err)
	root := servertest.Root()
	api, err := servertest.StartProcess(servertest.Command{
		Name: "predict_api", Path: python(),
		Args: []string{filepath.Join(root, "examples", "credit-risk", "predict_api.py"), "--model", model, "--port", strconv.Itoa(port)},
		Dir:  t.TempDir(), Env: consumerEnvironment(trackingURI), Log: filepath.Join(t.TempDir(), "predict_api.log"),
	})
	require.NoError(t, err)
	t.Cleanup(api.Stop)
	url = fmt.Sprintf("http://127.0.0.1:%d", port)
	eventually(t, func() bool {
		select {
		case <-api.Done():
			require.Fail(t, "the Prediction API ended", api.Logs())
		default:
		}
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/health", http.NoBody)
		require.NoError(t, err)
		answer, err := http.DefaultClient.Do(request)
		return err == nil && answer.Body.Close() == nil && answer.StatusCode == http.StatusOK
	}, "the Prediction API answers")
	return url
}

func post(t *testing.T, url string, body []byte) (status int, answer []byte) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, bytes.NewReader(body))
	require.NoError(t, err)
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	answer, err = io.ReadAll(response.Body)
	require.NoError(t, err)
	return response.StatusCode, answer
}
