package mlmodel

import (
	"encoding/json"
	"io"
	"path"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"registrar/internal/modelfile"
)

// requirementLine is all that may stand in a requirements.txt: another line could install a stranger's package.
var requirementLine = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*((==|>=)[0-9][0-9A-Za-z.!+_-]*|<2)?$`)

// FuzzFiles packs whatever a model file and a person may say. It is refused with ErrSpec, or every file is what it says it is.
func FuzzFiles(f *testing.F) {
	f.Add("joblib", "content", "preprocessor.pkl", "predict", "1.9.1", "numpy", "2.4.6", "3.17.2", "income", "'good'", "str", "hybrid", "columns", ">=2")
	f.Add("pickle", "", "it's: a #1.pkl", "predict_proba", "", "Scikit_Learn", "1.9.1", "2.22.4", "naïve \x7f", "0", "int64", "", "", "<2")
	f.Add("skops", "PK", "..", "score", "1.9.1\n-r x", "pandas", "3.1.1", "3.1", strings.Repeat("long name ", 20), "None", "object", "wrapper", "outputs", "")
	f.Fuzz(func(t *testing.T, format, content, extra, predictFn, sklearn, pinned, version, server, column, label, labelType, layout, signature, numpy string) {
		spec := Spec{
			Info: modelfile.Info{
				Format: format, SklearnVersion: sklearn, NumpyVersion: numpy, Modules: []string{"cloudpickle", column},
				FeatureNamesIn: []string{column, "age"}, Classes: []string{label}, ClassesType: labelType, Globals: []string{column + "." + label},
			},
			ModelFile:     modelFile("model", content),
			ExtraFiles:    []ModelFile{modelFile(extra, "extra")},
			PredictFn:     predictFn,
			Layout:        Layout(layout),
			Signature:     Signature(signature),
			Environment:   map[string]string{pinned: version},
			RunID:         strings.Repeat("1", 32),
			ModelID:       "m-" + strings.Repeat("2", 32),
			ArtifactURI:   "mlflow-artifacts:/1/models/m-2/artifacts",
			MLflowVersion: server,
			CreatedAt:     time.Date(2026, 11, 25, 0, 0, 0, 0, time.UTC),
			LoggedModel:   true,
		}
		spec.ModelFile.SHA256 = strings.Repeat("a", 64)
		if numpy != "" && numpy != "<2" {
			spec.Info.NumpyVersion = ">=2" // all that package modelfile says
		}
		files, err := Files(spec)
		if err != nil {
			require.ErrorIs(t, err, ErrSpec)
			return
		}
		seen := map[string]bool{}
		for _, file := range files {
			require.True(t, path.IsAbs("/"+file.Path) && path.Clean(file.Path) == file.Path && !strings.HasPrefix(file.Path, "."), "%q", file.Path)
			require.False(t, seen[file.Path], "%q twice", file.Path)
			seen[file.Path] = true
			r, err := file.Open()
			require.NoError(t, err)
			written, err := io.ReadAll(r)
			require.NoError(t, err)
			require.Len(t, written, int(file.SizeBytes), file.Path)
			requireWellFormed(t, file.Path, written, spec)
		}
	})
}

func requireWellFormed(t *testing.T, name string, written []byte, spec Spec) {
	t.Helper()
	switch name {
	case requirementsPath:
		for line := range strings.SplitSeq(string(written), "\n") {
			require.Regexp(t, requirementLine, line)
		}
	case "MLmodel":
		var described struct {
			Signature struct{ Inputs, Outputs *string }
		}
		require.NoError(t, yaml.Unmarshal(written, &described), "%s", written)
		if inputs := described.Signature.Inputs; inputs != nil {
			var columns []columnSpec
			require.NoError(t, json.Unmarshal([]byte(*inputs), &columns), "%s", *inputs)
			require.Equal(t, strings.ToValidUTF8(spec.Info.FeatureNamesIn[0], "\ufffd"), columns[0].Name)
		}
	case condaPath, pythonEnvPath:
		require.NoError(t, yaml.Unmarshal(written, &map[string]any{}), "%s", written)
	}
}

// FuzzReadLock reads what calls itself a lock file: it is refused, or gives versions that may stand in a requirements.txt.
func FuzzReadLock(f *testing.F) {
	f.Add("uv.lock", []byte("[[package]]\nname = \"numpy\"\nversion = \"2.4.6\"\n"))
	f.Add("requirements.txt", []byte("numpy==2.4.6 ; python_version >= '3.11'\n"))
	f.Fuzz(func(t *testing.T, name string, content []byte) {
		versions, err := ReadLock(name, content)
		if err != nil {
			require.ErrorIs(t, err, ErrSpec)
			return
		}
		for _, version := range versions {
			require.Regexp(t, versionShape, version)
		}
	})
}
