package e2e

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"registrar/internal/receipt"
	"registrar/internal/servertest"
)

// TestRegistration_LeavesWhatTheOfficialClientLeaves registers the same files twice on one server: with the official client, as the
// stage does that registrar replaces, and with registrar. What both left is compared field for field.
func TestRegistration_LeavesWhatTheOfficialClientLeaves(t *testing.T) {
	t.Parallel()
	server := mlflowServer(t)
	began := time.Now()

	theirs := committedProject(t, nameOf(t)+"-official")
	official := readLeft(t, server.URI, theirs, registerOfficially(t, server.URI, theirs), began)

	ours := newSite(t, committedProject(t, nameOf(t)), temporalServer(t).HostPort, server.URI)
	ours.startWorker("--temporal-ui-url", "http://temporal.test")
	registered := ours.register("--wait", "final", "--timeout", patience.String()).receipt
	ours.requireOutcome(receipt.Registered, registered)
	registrar := readLeft(t, server.URI, ours.project, registered, began)

	t.Run("save the intended differences", func(t *testing.T) { requireIntended(t, official, registrar) })
	t.Run("and docs/mlflow.md says so", func(t *testing.T) { requireDocumented(t, official, registrar) })
}

// difference is one that is meant: a field whose value is not the official client's, for a reason. A value may end in * for anything;
// absent says that the field is not there.
type difference struct {
	object, name        string
	official, registrar string
	reason              string
}

const absent = "(absent)"

const (
	keyIs         = "names the registration: what has it is found, and not made twice"
	ownerIs       = "whose it is: Temporal namespace and workflow"
	generationIs  = "which execution made it: a repeated attempt adopts its own alone"
	startedIs     = "puts the executions of a workflow in order"
	saysWhy       = "says what was decided on what evidence"
	tellsHistory  = "the history of the model is told from it, for all versions by one search"
	showsHistory  = "how the version stands among the earlier ones"
	noScript      = "no script made it"
	commitIsExact = "the commit says it exactly; a branch moves, and a URL may carry credentials"
	wrapped       = "a joblib file is no pickle: it lies whole in a pickle of 45 bytes that hands it to `joblib.load`, and is never unpickled on the way"
	needsJoblib   = "loading takes joblib; lz4 is what the official client found installed"
	signed        = "what a prediction gives, where the model file tells it; inputs are left open (see below)"
	pipNotGiven   = "neither the model file nor `model_registration.environment` tells pip's version"
)

// intended is every difference from what the official client leaves. Any other one fails the test, and so does one that is gone.
var intended = slices.Concat(
	ownerTags("run", "data.tags."),
	ownerTags("logged model", "info.tags."),
	ownerTags("version", "tags."),
	sourceTags("run", "data.tags."),
	sourceTags("logged model", "info.tags."),
	evidenceTags("run", "data.tags."),
	evidenceTags("version", "tags."),
	[]difference{
		{"run", "data.tags.mlflow.note.content", absent, "**<model name>** met all rules.*", saysWhy},
		{"run", "data.params.registrar.version", absent, "1", "the decision, write-once: the version that counts"},
		{
			"logged model", "info.tags.mlflow.modelVersions",
			`[{"name": "<model name>", "version": 1}, {"name": "<model name>", "version": "1"}]`, `[{"name": "<model name>", "version": 1}]`,
			"the server writes it, and the official client once more",
		},
		{"version", "description", "", "**<model name>** met all rules.*", saysWhy},
		{"run", "artifacts.files.0.path", absent, "history.svg", showsHistory},
		{"run", "artifacts.files.0.file_size", absent, "*", showsHistory},
		{"run", "artifacts.files.0.is_dir", absent, "false", showsHistory},
		{"version", "tags.mlflow.source.git.commit", absent, "<git commit>", saysWhy},
		{"version", "tags.mlflow.user", absent, "*", tellsHistory},
		{"version", "tags.registrar.decision", absent, `{"passed":true,"rules":[{"metric":"roc_auc","min":0.6,"observed":*`, tellsHistory},
		{"version", "tags.registrar.metrics", absent, `{"roc_auc":0.*`, tellsHistory},
		{"version", "tags.registrar.completed", absent, "<time>", "written last of all: the registration is done"},

		{"file model.pkl", "SHA-256", "*", "<SHA-256 of the wrapped model file>", wrapped},
		{"file MLmodel", "model_size_bytes", "*", "*", wrapped},
		{"file MLmodel", "signature.inputs", absent, "null", signed},
		{"file MLmodel", "signature.outputs", absent, `[{"type": "tensor", "tensor-spec": {"dtype": "int64", "shape": [-1]}}]`, signed},
		{"file MLmodel", "signature.params", absent, "null", signed},
		{"file MLmodel", "is_signature_from_type_hint", absent, "false", signed},
		{"file MLmodel", "type_hint_from_example", absent, "false", signed},
		{"file conda.yaml", "line 5", "- pip<=*", "- pip", pipNotGiven},
		{"file conda.yaml", "line 8", "  - lz4==*", "  - joblib==*", needsJoblib},
		{"file python_env.yaml", "line 3", "- pip==*", "- pip", pipNotGiven},
		{"file requirements.txt", "line 2", "lz4==*", "joblib==*", needsJoblib},
	},
)

func ownerTags(object, tags string) []difference {
	return []difference{
		{object, tags + "registrar.key", absent, "<registration key>", keyIs},
		{object, tags + "registrar.owner", absent, "default/<workflow id>", ownerIs},
		{object, tags + "registrar.generation", absent, "<workflow run id>", generationIs},
		{object, tags + "registrar.started", absent, "<time>", startedIs},
	}
}

func sourceTags(object, tags string) []difference {
	return []difference{
		{object, tags + "mlflow.source.name", "<script>", "registrar", noScript},
		{object, tags + "mlflow.source.git.branch", "main", absent, commitIsExact},
		{object, tags + "mlflow.source.git.repoURL", "https://git.test/acras.git", absent, commitIsExact},
	}
}

func evidenceTags(object, tags string) []difference {
	return []difference{
		{object, tags + "registrar.model_sha256", absent, "<SHA-256 of the model file>", saysWhy},
		{object, tags + "registrar.metrics_sha256", absent, "<SHA-256 of metrics.json>", saysWhy},
		{object, tags + "registrar.workflow_url", absent, "<address of the workflow>", saysWhy},
	}
}

func (d difference) is(f field, official, registrar string) bool {
	return d.object == f.object && d.name == f.name && matches(d.official, official) && matches(d.registrar, registrar)
}

func matches(pattern, value string) bool {
	if start, ok := strings.CutSuffix(pattern, "*"); ok {
		return value != absent && strings.HasPrefix(value, start)
	}
	return pattern == value
}

func requireIntended(t *testing.T, official, registrar left) {
	unseen := slices.Clone(intended)
	var unintended []string
	for _, f := range fieldsOf(official, registrar) {
		their, our := official.value(f), registrar.value(f)
		if their == our {
			continue
		}
		found := slices.IndexFunc(unseen, func(d difference) bool { return d.is(f, their, our) })
		if found < 0 {
			unintended = append(unintended, fmt.Sprintf("%s, %s: official %q, registrar %q", f.object, f.name, their, our))
			continue
		}
		unseen = slices.Delete(unseen, found, found+1)
	}
	require.Empty(t, unintended, "differences that are not intended")
	require.Empty(t, unseen, "intended differences that are not there")
}

// requireDocumented sees that the table in docs/mlflow.md has a row for each field that either client leaves, and no other; that it says
// `same` or the reason; and, where a row's value begins with code, that this is registrar's.
func requireDocumented(t *testing.T, official, registrar left) {
	reasons := map[field][]string{}
	values := map[field]string{}
	for _, f := range fieldsOf(official, registrar) {
		row := f.row(official)
		values[row] = registrar.value(f)
		reasons[row] = append(reasons[row], reasonsFor(f, official, registrar)...)
	}
	documented := documentedRows(t)
	var lacking []string
	for row, value := range values {
		verdict := cmp.Or(strings.Join(slices.Compact(reasons[row]), "; "), "same")
		written, ok := documented[row]
		if code, isCode := asCode(written.value); !ok || written.verdict != verdict || isCode && code != value {
			firstLine, _, _ := strings.Cut(value, "\n")
			lacking = append(lacking, fmt.Sprintf("| %s | `%s` | `%s` | %s |", row.object, row.name, firstLine, verdict))
		}
		delete(documented, row)
	}
	slices.Sort(lacking)
	require.Empty(t, lacking, "docs/mlflow.md lacks these rows, or has them otherwise:\n%s", strings.Join(lacking, "\n"))
	require.Empty(t, documented, "rows of docs/mlflow.md of which nothing is left")
}

func reasonsFor(f field, official, registrar left) []string {
	their, our := official.value(f), registrar.value(f)
	for _, d := range intended {
		if their != our && d.is(f, their, our) {
			return []string{d.reason}
		}
	}
	return nil
}

type documentedRow struct{ value, verdict string }

// documentedRows are the rows of the document's table with four columns.
func documentedRows(t *testing.T) map[field]documentedRow {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(servertest.Root(), "docs", "mlflow.md"))
	require.NoError(t, err)
	rows := map[field]documentedRow{}
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(strings.TrimSpace(line), " | ")
		if len(cells) != 4 || !strings.HasPrefix(cells[1], "`") {
			continue
		}
		name, _ := asCode(cells[1])
		f := field{strings.TrimPrefix(cells[0], "| "), name}
		require.NotContains(t, rows, f, "documented twice")
		rows[f] = documentedRow{value: cells[2], verdict: strings.TrimSuffix(cells[3], " |")}
	}
	return rows
}

// asCode is the code that a cell begins with; words may follow.
func asCode(cell string) (string, bool) {
	rest, isCode := strings.CutPrefix(cell, "`")
	code, _, _ := strings.Cut(rest, "`")
	return code, isCode
}

// field is a place in what a registration leaves: an object, and the path to a value in it.
type field struct{ object, name string }

// row is the field as the document has it: once for all metrics, once for all hyperparameters, once for all lines of a file.
func (f field) row(official left) field {
	if strings.HasPrefix(f.name, "line ") {
		return field{f.object, "text"}
	}
	for _, metric := range official.metrics {
		f.name = strings.Replace(f.name, "metrics."+metric+".", "metrics.<metric>.", 1)
	}
	for _, hyperparameter := range official.hyperparameters {
		if f.name == "data.params."+hyperparameter {
			f.name = "data.params.<hyperparameter>"
		}
	}
	return f
}

func fieldsOf(a, b left) []field {
	all := maps.Clone(a.fields)
	maps.Copy(all, b.fields)
	return slices.SortedFunc(maps.Keys(all), func(x, y field) int {
		return cmp.Or(cmp.Compare(x.object, y.object), cmp.Compare(x.name, y.name))
	})
}

// stageFile is the script in the project that registers with the official client.
const stageFile = "stage_06_model_registration.py"

// committedProject is a project in a git repository of its own, with an experiment of its own, and with the stage that registrar replaces.
func committedProject(t *testing.T, modelName string) project {
	t.Helper()
	p := projectIn(t, t.TempDir(), modelName)
	p.edit(t, configFile, `"ACRAS_Risk_Assessment"`, `"`+experimentOf(modelName)+`"`)
	stage, err := os.ReadFile(filepath.Join("testdata", "official_client.py"))
	require.NoError(t, err)
	p.write(t, stageFile, string(stage))
	p.git(t, "init", "--quiet", "--initial-branch", "main")
	p.git(t, "remote", "add", "origin", "https://git.test/acras.git")
	p.git(t, "add", stageFile, "config")
	p.git(t, "-c", "user.name=pipeline", "-c", "user.email=pipeline@git.test", "commit", "--quiet", "--message", "train")
	return p
}

func experimentOf(modelName string) string { return modelName + " assessment" }

func (p project) git(t *testing.T, args ...string) string {
	t.Helper()
	output, err := exec.CommandContext(t.Context(), "git", append([]string{"-C", p.root}, args...)...).CombinedOutput()
	require.NoError(t, err, "git %v: %s", args, output)
	return strings.TrimSpace(string(output))
}

func (p project) commit(t *testing.T) string { return p.git(t, "rev-parse", "HEAD") }

// registerOfficially runs the project's stage, and tells what it made.
func registerOfficially(t *testing.T, uri string, p project) receipt.Receipt {
	t.Helper()
	python := filepath.Join(servertest.Root(), ".build", "venv", "bin", "python")
	stage := exec.CommandContext(t.Context(), python, "-W", "ignore", p.path(stageFile), p.root)
	stage.Env = servertest.Environment([]string{"MLFLOW_"}, "MLFLOW_TRACKING_URI="+uri, "MLFLOW_DISABLE_TELEMETRY=true", "DO_NOT_TRACK=true")
	var log strings.Builder
	stage.Stderr = &log
	output, err := stage.Output()
	require.NoError(t, err, "%s", log.String())
	lines := strings.Split(strings.TrimSpace(string(output)), "\n") // MLflow prints where to look before
	var made struct {
		Version string `json:"version"`
		RunID   string `json:"run_id"`
		ModelID string `json:"model_id"`
	}
	require.NoError(t, json.Unmarshal([]byte(lines[len(lines)-1]), &made), "%s", output)
	return receipt.Receipt{ModelVersion: made.Version, MLflowRunID: made.RunID, MLflowModelID: made.ModelID}
}
