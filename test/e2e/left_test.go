package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"registrar/internal/mlmodel"
	"registrar/internal/receipt"
)

// left is what a registration left in MLflow. What must differ between two registrations, such as an id, is replaced by its name in
// angle brackets.
type left struct {
	t       *testing.T
	uri     string
	began   time.Time
	named   *strings.Replacer
	fields  map[field]string
	metrics []string
	// hyperparameters are the run's params that say how the model was made.
	hyperparameters []string
}

// ownParams are the params of a registration that are no hyperparameters.
var ownParams = []string{"model_name", "model_file", "min_roc_auc", "registrar.version"}

func (l left) value(f field) string {
	if value, ok := l.fields[f]; ok {
		return value
	}
	return absent
}

// readLeft reads all objects that belong to a version.
func readLeft(t *testing.T, uri string, p project, r receipt.Receipt, began time.Time) left {
	t.Helper()
	l := left{t: t, uri: uri, began: began, fields: map[field]string{}}
	run := l.get("runs/get", "run_id", r.MLflowRunID)["run"].(map[string]any)
	experimentID := run["info"].(map[string]any)["experiment_id"].(string)
	l.named = namesIn(t, p, r, experimentID)

	// The whole history of each metric, so that one that was logged twice shows.
	var history []any
	for _, metric := range run["data"].(map[string]any)["metrics"].([]any) {
		key := metric.(map[string]any)["key"].(string)
		l.metrics = append(l.metrics, key)
		history = append(history, l.get("metrics/get-history", "run_id", r.MLflowRunID, "metric_key", key)["metrics"].([]any)...)
	}
	run["data"].(map[string]any)["metrics"] = history
	for _, param := range run["data"].(map[string]any)["params"].([]any) {
		if key := param.(map[string]any)["key"].(string); !slices.Contains(ownParams, key) {
			l.hyperparameters = append(l.hyperparameters, key)
		}
	}
	model := l.get("logged-models/" + r.MLflowModelID)["model"].(map[string]any)
	registered := l.get("registered-models/get", "name", p.modelName)["registered_model"].(map[string]any)
	delete(registered, "latest_versions") // the version once more

	l.add("experiment", "", l.get("experiments/get", "experiment_id", experimentID)["experiment"])
	l.add("run", "", run)
	l.add("run", "artifacts", l.get("artifacts/list", "run_id", r.MLflowRunID))
	l.add("logged model", "", model)
	l.add("registered model", "", registered)
	l.add("version", "", l.get("model-versions/get", "name", p.modelName, "version", r.ModelVersion)["model_version"])
	l.addFiles(strings.TrimPrefix(model["info"].(map[string]any)["artifact_uri"].(string), "mlflow-artifacts:/"), "")
	return l
}

// namesIn replaces what is of one registration alone.
func namesIn(t *testing.T, p project, r receipt.Receipt, experimentID string) *strings.Replacer {
	t.Helper()
	pairs := []string{
		r.MLflowRunID, "<run id>", r.MLflowModelID, "<model id>",
		experimentOf(p.modelName), "<experiment name>", p.modelName, "<model name>", // the first one that fits is taken
		"mlflow-artifacts:/" + experimentID, "mlflow-artifacts:/<experiment id>",
		p.path(stageFile), "<script>", p.commit(t), "<git commit>",
		sha256Of(p.read(t, modelFile)), "<SHA-256 of the model file>", sha256Of(p.read(t, metricsFile)), "<SHA-256 of metrics.json>",
	}
	if r.WorkflowID != "" {
		head, tail := mlmodel.Wrap(int64(len(p.read(t, modelFile))))
		pairs = append(pairs, r.WorkflowID, "<workflow id>", r.RegistrationKey, "<registration key>",
			sha256Of(string(head)+p.read(t, modelFile)+string(tail)), "<SHA-256 of the wrapped model file>")
	}
	return strings.NewReplacer(pairs...)
}

func sha256Of(content string) string {
	sum := sha256.Sum256([]byte(content))
	return hex.EncodeToString(sum[:])
}

// add adds all values below a value, each under its path. A list of things with a key is a map.
func (l left) add(object, name string, value any) {
	switch value := value.(type) {
	case map[string]any:
		for key, inner := range value {
			l.add(object, strings.TrimPrefix(name+"."+key, "."), inner)
		}
	case []any:
		for i, inner := range value {
			l.addElement(object, name, i, inner)
		}
	case nil:
		l.addValue(object, name, "null")
	default:
		l.addValue(object, name, fmt.Sprint(value))
	}
}

func (l left) addValue(object, name, value string) {
	f := field{object, name}
	_, twice := l.fields[f]
	require.False(l.t, twice, "%s, %s is there twice", object, name)
	l.fields[f] = l.normal(name, value)
}

func (l left) addElement(object, name string, i int, value any) {
	element, ok := value.(map[string]any)
	key, keyed := element["key"].(string)
	if !ok || !keyed {
		l.add(object, name+"."+strconv.Itoa(i), value)
		return
	}
	name += "." + key
	delete(element, "key")
	if len(element) == 1 && element["value"] != nil {
		l.add(object, name, element["value"])
		return
	}
	l.add(object, name, element)
}

var timeNames = regexp.MustCompile(`(timestamp|timestamp_ms|_time|\.started|\.completed|utc_time_created)$`)

// normal is a value without what is of one registration alone. A time has to lie in the time of the test.
func (l left) normal(name, value string) string {
	switch {
	case strings.HasSuffix(name, "experiment_id"):
		return "<experiment id>"
	case timeNames.MatchString(name):
		at := timeOf(l.t, value)
		require.WithinRange(l.t, at, l.began.Add(-time.Second), time.Now(), name)
		return "<time>"
	case strings.HasSuffix(name, "registrar.workflow_url"):
		require.True(l.t, strings.HasPrefix(value, "http://temporal.test/namespaces/default/workflows/register%2F"), value)
		return "<address of the workflow>"
	case strings.HasSuffix(name, "registrar.generation"):
		return "<workflow run id>"
	}
	return l.named.Replace(value)
}

// timeOf reads a time in each way that MLflow's objects have one.
func timeOf(t *testing.T, value string) time.Time {
	t.Helper()
	if milliseconds, err := strconv.ParseInt(value, 10, 64); err == nil {
		return time.UnixMilli(milliseconds)
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02 15:04:05.999999"} {
		if at, err := time.Parse(layout, value); err == nil {
			return at
		}
	}
	require.Fail(t, "no time", value)
	return time.Time{}
}

// addFiles adds what lies in a folder of the artifact store: MLmodel as YAML, text by its lines, all else by its digest.
func (l left) addFiles(root, folder string) {
	listed := l.json("/api/2.0/mlflow-artifacts/artifacts?" + url.Values{"path": {path.Join(root, folder)}}.Encode())
	for _, entry := range listed["files"].([]any) {
		name := path.Join(folder, entry.(map[string]any)["path"].(string))
		if entry.(map[string]any)["is_dir"] == true {
			l.addFiles(root, name)
			continue
		}
		content := l.fetch("/api/2.0/mlflow-artifacts/artifacts/" + path.Join(root, name))
		switch object := "file " + name; path.Ext(name) {
		case "":
			var descriptor map[string]any
			require.NoError(l.t, yaml.Unmarshal(content, &descriptor))
			l.add(object, "", descriptor)
		case ".yaml", ".txt":
			for i, line := range strings.Split(string(content), "\n") {
				l.add(object, fmt.Sprintf("line %d", i+1), line)
			}
		default:
			l.add(object, "SHA-256", sha256Of(string(content)))
		}
	}
}

// get asks MLflow's API, and gives every field of the answer.
func (l left) get(endpoint string, query ...string) map[string]any {
	values := url.Values{}
	for pair := range slices.Chunk(query, 2) {
		values.Set(pair[0], pair[1])
	}
	return l.json("/api/2.0/mlflow/" + endpoint + "?" + values.Encode())
}

func (l left) json(address string) map[string]any {
	l.t.Helper()
	decoder := json.NewDecoder(strings.NewReader(string(l.fetch(address))))
	decoder.UseNumber() // digits as MLflow wrote them
	var answer map[string]any
	require.NoError(l.t, decoder.Decode(&answer))
	return answer
}

func (l left) fetch(address string) []byte {
	l.t.Helper()
	request, err := http.NewRequestWithContext(l.t.Context(), http.MethodGet, l.uri+address, nil)
	require.NoError(l.t, err)
	response, err := http.DefaultClient.Do(request)
	require.NoError(l.t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	require.NoError(l.t, err)
	require.Equal(l.t, http.StatusOK, response.StatusCode, "%s: %s", address, body)
	return body
}
