package mlmodel

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"registrar/internal/modelfile"
)

// python runs a script of testdata in the virtual environment that holds MLflow and scikit-learn, and gives its output. The folder is its last
// argument.
func python(t *testing.T, script, folder string, before ...string) string {
	t.Helper()
	interpreter, err := filepath.Abs("../../.build/venv/bin/python")
	require.NoError(t, err)
	if _, err := os.Stat(interpreter); err != nil {
		require.FailNow(t, "no virtual environment with MLflow", "run make venv, or set REGISTRAR_TEST_SERVERS=off to skip: %v", err)
	}
	arguments := append([]string{filepath.Join("testdata", script)}, append(before, folder)...)
	command := exec.CommandContext(t.Context(), interpreter, arguments...)
	command.Env = append(os.Environ(), "MLFLOW_DISABLE_TELEMETRY=true", "MLFLOW_TRACKING_URI=sqlite:///"+folder+"/unused.db")
	var complaints bytes.Buffer
	command.Stderr = &complaints
	output, err := command.Output()
	require.NoError(t, err, complaints.String())
	return string(output)
}

// fileSpec reads a model as the worker does.
func fileSpec(t *testing.T, path string) Spec {
	t.Helper()
	open := func() (io.ReadCloser, error) { return os.Open(path) }
	r, err := open()
	require.NoError(t, err)
	defer r.Close()
	info, err := modelfile.Inspect(t.Context(), r)
	require.NoError(t, err, path)
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	return Spec{
		Info: info,
		ModelFile: ModelFile{
			Name: filepath.Base(path), SizeBytes: int64(len(content)), SHA256: fmt.Sprintf("%x", sha256.Sum256(content)), Open: open,
		},
		RunID:       strings.Repeat("1", 32),
		ModelID:     "m-" + strings.Repeat("2", 32),
		ArtifactURI: "mlflow-artifacts:/1/models/m-" + strings.Repeat("2", 32) + "/artifacts",
		CreatedAt:   time.Date(2026, 11, 24, 22, 15, 25, 101389000, time.UTC),
		LoggedModel: true,
	}
}

func writeFolder(t *testing.T, folder string, spec Spec) {
	t.Helper()
	names, content := contents(t, spec)
	for _, name := range names {
		target := filepath.Join(folder, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(target), 0o755))
		require.NoError(t, os.WriteFile(target, content[name], 0o600))
	}
}

func TestFiles_AgreeWithPython(t *testing.T) {
	if os.Getenv("REGISTRAR_TEST_SERVERS") == "off" {
		t.Skip("REGISTRAR_TEST_SERVERS=off: needs Python with MLflow")
	}
	folder := t.TempDir()
	trainedWith := strings.TrimSpace(python(t, "train.py", folder))
	t.Run("load to the last bit", func(t *testing.T) { loadInPython(t, folder, trainedWith) })
	t.Run("equal the official client's", func(t *testing.T) { compareWithOfficial(t, folder) })
}

// loadInPython loads each model, packed for both generations of servers and in both layouts, through both flavours.
func loadInPython(t *testing.T, folder, trainedWith string) {
	models, err := filepath.Glob(filepath.Join(folder, "*.*"))
	require.NoError(t, err)
	require.Len(t, models, 12)
	var packed []string
	pack := func(name string, spec Spec) {
		writeFolder(t, filepath.Join(folder, "packed", name), spec)
		packed = append(packed, name)
	}
	for _, model := range models {
		spec := fileSpec(t, model)
		require.Equal(t, trainedWith, spec.Info.SklearnVersion)
		pack(filepath.Base(model), spec)

		spec.PredictFn = "predict_proba"
		spec.Environment = map[string]string{"python": "3.11.7", "numpy": "2.4.6", "pip": "23.2.1"}
		spec.MLflowVersion = "2.22.4"
		spec.LoggedModel = false
		pack(filepath.Base(model)+".mlflow2", spec)

		spec.Layout = LayoutHybrid
		pack(filepath.Base(model)+".hybrid", spec)
	}
	require.ElementsMatch(t, packed, strings.Fields(python(t, "load.py", folder)), "each was loaded")
}

// compareWithOfficial packs the pickle that the official client wrote. Every file must be equal, byte for byte.
func compareWithOfficial(t *testing.T, folder string) {
	var environment map[string]string
	require.NoError(t, json.Unmarshal([]byte(python(t, "official.py", folder)), &environment))
	spec := fileSpec(t, filepath.Join(folder, "official", "model.pkl"))
	spec.Environment = environment
	spec.MLflowVersion = spec.Environment["mlflow"]
	rows := fileSpec(t, filepath.Join(folder, "rows")).ModelFile
	spec.ExtraFiles = []ModelFile{rows}

	official := filepath.Join(folder, "official")
	var descriptor struct {
		CreatedAt string `yaml:"utc_time_created"`
	}
	raw, err := os.ReadFile(filepath.Join(official, "MLmodel"))
	require.NoError(t, err)
	require.NoError(t, yaml.Unmarshal(raw, &descriptor))
	spec.CreatedAt, err = time.Parse("2006-01-02 15:04:05.999999", descriptor.CreatedAt)
	require.NoError(t, err)

	names, content := contents(t, spec)
	for _, name := range names {
		want, err := os.ReadFile(filepath.Join(official, name))
		require.NoError(t, err)
		require.Equal(t, string(want), string(content[name]), name)
	}
	require.NoError(t, filepath.WalkDir(official, func(path string, entry os.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			name, _ := filepath.Rel(official, path)
			require.Contains(t, names, name, "the official client writes it too")
		}
		return err
	}))
}

// TestFiles_SignNothingThatRefusesAnInput asks mlflow.pyfunc what it makes of inputs that scikit-learn takes.
func TestFiles_SignNothingThatRefusesAnInput(t *testing.T) {
	if os.Getenv("REGISTRAR_TEST_SERVERS") == "off" {
		t.Skip("REGISTRAR_TEST_SERVERS=off: needs Python with MLflow")
	}
	folder := t.TempDir()
	python(t, "sign.py", folder, "make")
	for _, name := range []string{"mixed", "named", "categories", "unnamed"} {
		for _, signature := range []Signature{SignatureOutputs, SignatureColumns} {
			spec := fileSpec(t, filepath.Join(folder, name))
			require.NotEmpty(t, spec.Info.Classes)
			spec.Signature = signature
			writeFolder(t, filepath.Join(folder, "packed", name, string(signature)), spec)
		}
	}
	// What the columns cost, of all that scikit-learn takes: a model that was fitted on named columns takes arrays, with a warning.
	refused := map[string]bool{"named/an array": true, "named/a sparse matrix": true}
	var found map[string]map[string]map[Signature]string
	require.NoError(t, json.Unmarshal([]byte(python(t, "sign.py", folder, "ask")), &found))
	require.Len(t, found, 4)
	for name, inputs := range found {
		for kind, said := range inputs {
			require.Equal(t, "equal", said[SignatureOutputs], "%s/%s", name, kind)
			want := "equal"
			if refused[name+"/"+kind] {
				want = "refused"
			}
			require.Equal(t, want, said[SignatureColumns], "%s/%s", name, kind)
		}
	}
}
