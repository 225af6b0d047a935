package mlmodel

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"

	"registrar/internal/modelfile"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func modelFile(name, content string) ModelFile {
	return ModelFile{
		Name:      name,
		SizeBytes: int64(len(content)),
		Open:      func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader([]byte(content))), nil },
	}
}

// joblibSpec is a model from the pipeline, with everything known.
func joblibSpec() Spec {
	return Spec{
		Info: modelfile.Info{
			Format:         modelfile.FormatJoblib,
			Compression:    modelfile.CompressionLZ4,
			SklearnVersion: "1.9.1",
			Modules:        []string{"joblib", "numpy", "sklearn"},
		},
		ModelFile:  modelFile("acras_rf_model.joblib", "joblib bytes"),
		ExtraFiles: []ModelFile{modelFile("preprocessor.pkl", "extra")},
		PredictFn:  "predict_proba",
		Environment: map[string]string{
			"python": "3.11.7", "pip": "23.2.1", "setuptools": "65.5.0",
			"joblib": "1.6.0", "LZ4": "4.4.5", "numpy": "2.4.6", "pandas": "3.1.1", "scipy": "1.17.1",
		},
		RunID:         "105b95151c364b8daba50c6f7bf180d3",
		ModelID:       "m-a3ace8369b094f07b0b77930b3a5f1bf",
		ArtifactURI:   "mlflow-artifacts:/1/models/m-a3ace8369b094f07b0b77930b3a5f1bf/artifacts",
		MLflowVersion: "3.17.2",
		CreatedAt:     time.Date(2026, 11, 24, 22, 15, 25, 101389000, time.UTC),
		LoggedModel:   true,
	}
}

// bareSpec is a pickle of which only the file is known, for a server without logged models.
func bareSpec() Spec {
	return Spec{
		Info:      modelfile.Info{Format: modelfile.FormatPickle},
		ModelFile: modelFile("model.pkl", "pickle bytes"),
		RunID:     "105b95151c364b8daba50c6f7bf180d3",
		CreatedAt: time.Date(2026, 11, 24, 22, 15, 25, 0, time.UTC),
	}
}

func contents(t *testing.T, spec Spec) (names []string, content map[string][]byte) {
	t.Helper()
	files, err := Files(spec)
	require.NoError(t, err)
	content = map[string][]byte{}
	for _, file := range files {
		r, err := file.Open()
		require.NoError(t, err)
		content[file.Path], err = io.ReadAll(r)
		require.NoError(t, err)
		require.NoError(t, r.Close())
		require.Len(t, content[file.Path], int(file.SizeBytes), file.Path)
		names = append(names, file.Path)
	}
	return names, content
}

func requireGolden(t *testing.T, folder string, spec Spec) {
	t.Helper()
	names, content := contents(t, spec)
	for _, name := range names {
		golden := filepath.Join("testdata", folder, name)
		if *update {
			require.NoError(t, os.MkdirAll(filepath.Dir(golden), 0o755))
			require.NoError(t, os.WriteFile(golden, content[name], 0o600))
		}
		want, err := os.ReadFile(golden)
		require.NoError(t, err)
		require.Equal(t, string(want), string(content[name]), name)
	}
}

func TestFiles_WritesTheLayoutOfMLflow3(t *testing.T) {
	requireGolden(t, "joblib", joblibSpec())
}

func TestFiles_WritesTheLayoutOfMLflow2WithLittleKnown(t *testing.T) {
	requireGolden(t, "bare", bareSpec())
}

func TestFiles_WritesTheHybridLayout(t *testing.T) {
	spec := joblibSpec()
	spec.Layout = LayoutHybrid
	spec.ModelFile.SHA256 = strings.Repeat("0123456789abcdef", 4)
	requireGolden(t, "hybrid", spec)

	_, wrapper := contents(t, bareSpec())
	bare := bareSpec()
	bare.Layout = LayoutHybrid
	_, hybrid := contents(t, bare)
	require.Equal(t, wrapper, hybrid, "a pickle needs no layout")
}

func TestFiles_PutsMLmodelLast(t *testing.T) {
	names, _ := contents(t, joblibSpec())
	require.Equal(t, []string{
		"model.pkl", "extra_files/preprocessor.pkl", "conda.yaml", "python_env.yaml", "requirements.txt", "MLmodel",
	}, names)
}

func TestFiles_WrapsJoblibAndLeavesPicklesAlone(t *testing.T) {
	_, content := contents(t, joblibSpec())
	require.Equal(t, "\x80\x04\x8c\x06joblib\x8c\x04load\x93\x8c\x02io\x8c\x07BytesIO\x93"+
		"\x8e\x0c\x00\x00\x00\x00\x00\x00\x00"+"joblib bytes"+"\x85R\x85R.", string(content["model.pkl"]))
	_, content = contents(t, bareSpec())
	require.Equal(t, "pickle bytes", string(content["model.pkl"]))
}

func TestFiles_QuotesWhatYAMLWouldTakeForAnotherType(t *testing.T) {
	spec := joblibSpec()
	spec.Environment = map[string]string{"python": "3.10"}
	spec.ExtraFiles = []ModelFile{modelFile("it's: a #1.pkl", "extra")}
	_, content := contents(t, spec)
	require.Contains(t, string(content["MLmodel"]), "python_version: '3.10'\n")
	require.Contains(t, string(content["MLmodel"]), "- path: 'extra_files/it''s: a #1.pkl'\n")
	require.Contains(t, string(content["python_env.yaml"]), "python: '3.10'\n")
}

func TestFiles_NamesCloudpickleWhereTheFileNeedsIt(t *testing.T) {
	spec := bareSpec()
	spec.Info.Modules = []string{"__main__", "cloudpickle", "imblearn", "sklearn"}
	_, content := contents(t, spec)
	require.Contains(t, string(content["MLmodel"]), "serialization_format: cloudpickle\n")
	require.Equal(t, "mlflow\ncloudpickle\nimbalanced-learn\nnumpy\npandas\nscikit-learn\nscipy",
		string(content["requirements.txt"]))
}

func TestFiles_PassesOnThatAFileCannotBeRead(t *testing.T) {
	for _, spec := range []Spec{joblibSpec(), bareSpec()} {
		changed := errors.New("the file changed")
		spec.ModelFile.Open = func() (io.ReadCloser, error) {
			return io.NopCloser(io.MultiReader(strings.NewReader("some"), iotest.ErrReader(changed))), nil
		}
		files, err := Files(spec)
		require.NoError(t, err)
		r, err := files[0].Open()
		require.NoError(t, err)
		sent, err := io.ReadAll(r)
		require.ErrorIs(t, err, changed)
		require.Less(t, len(sent), int(files[0].SizeBytes), "the tail must not follow a file that ended early")
	}
}

func TestCheck_RefusesWhatAPersonGotWrong(t *testing.T) {
	for problem, spoil := range map[string]func(*Spec){
		`predict_fn is "transform"`: func(s *Spec) { s.PredictFn = "transform" },
		`"../x" is not a plain`:     func(s *Spec) { s.ExtraFiles[0].Name = "../x" },
		"two extra files are named preprocessor.pkl": func(s *Spec) {
			s.ExtraFiles = append(s.ExtraFiles, s.ExtraFiles[0])
		},
		`gives python as "snake"`: func(s *Spec) { s.Environment["python"] = "snake" },
		`gives numpy as "1.0\n--index-url x"`: func(s *Spec) {
			s.Environment["numpy"] = "1.0\n--index-url x"
		},
		`environment has "-r other"`:                                              func(s *Spec) { s.Environment["-r other"] = "1" },
		`environment or environment_file gives scikit-learn 1.5.0, but`:           func(s *Spec) { s.Environment["scikit_learn"] = "1.5.0" },
		`format of acras_rf_model.joblib is "", not one of joblib, pickle, skops`: func(s *Spec) { s.Info.Format = "" },
		`"nightly" is no version`:                                                 func(s *Spec) { s.MLflowVersion = "nightly" },
		`layout is "zip", not wrapper or hybrid`:                                  func(s *Spec) { s.Layout = "zip" },
		`layout hybrid needs the digest`:                                          func(s *Spec) { s.Layout = LayoutHybrid },
	} {
		spec := joblibSpec()
		spoil(&spec)
		require.ErrorContains(t, spec.Check(), problem)
		_, err := Files(spec)
		require.ErrorIs(t, err, ErrSpec)
	}
}

func TestFiles_NeedsTheIDsOfItsLayout(t *testing.T) {
	for _, spoil := range []func(*Spec){
		func(s *Spec) { s.RunID = "" },
		func(s *Spec) { s.ModelID = "" },
		func(s *Spec) { s.ArtifactURI = "" },
		func(s *Spec) { s.CreatedAt = time.Time{} },
	} {
		spec := joblibSpec()
		spoil(&spec)
		require.NoError(t, spec.Check(), "known only once the run is there")
		_, err := Files(spec)
		require.ErrorIs(t, err, ErrSpec)
	}
}

func TestUnknown_NamesWhatNobodyTold(t *testing.T) {
	require.Empty(t, Unknown(joblibSpec()))
	require.Equal(t, []string{"mlflow", "numpy", "pandas", "python", "scikit-learn", "scipy"}, Unknown(bareSpec()))
}

func TestDescriptorJSON_SaysTheSameAsMLmodel(t *testing.T) {
	raw, err := DescriptorJSON(bareSpec())
	require.NoError(t, err)
	var described map[string]any
	require.NoError(t, json.Unmarshal(raw, &described))
	require.Equal(t, "model", described["artifact_path"])
	require.Contains(t, described["flavors"], "sklearn")
	require.NotContains(t, described, "model_id")
}
