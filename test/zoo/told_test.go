package zoo

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"registrar/internal/modelfile"
)

// expected is what Python says of a model, and of the files that it was saved in (testdata/told.py).
type expected struct {
	Name string `json:"name"`
	// WhyNot says why an estimator could not be fitted; empty where it was.
	WhyNot string   `json:"why_not"`
	Ways   []string `json:"ways"`
	// Globals are what Python's unpickler imports, by way.
	Globals map[string][]string `json:"globals"`
	Told    struct {
		RootClass      string            `json:"root_class"`
		Steps          []modelfile.Step  `json:"steps"`
		SklearnVersion string            `json:"sklearn_version"`
		NFeaturesIn    int               `json:"n_features_in"`
		FeatureNamesIn []string          `json:"feature_names_in"`
		Classes        []string          `json:"classes"`
		ClassesType    string            `json:"classes_type"`
		Params         map[string]string `json:"params"`
	} `json:"told"`
	// Versions are those of the packages that wrote the files: of testdata/versions alone.
	Versions map[string]string `json:"versions"`
}

func readJSON(t *testing.T, path string, into any) {
	t.Helper()
	raw, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(raw, into))
}

func inspect(t *testing.T, path string) (modelfile.Info, error) {
	t.Helper()
	file, err := os.Open(path)
	require.NoError(t, err)
	defer file.Close()
	return modelfile.Inspect(t.Context(), file)
}

// differences holds what a file tells of itself against what Python says. Of a skops file less is read: the class.
func (e expected) differences(way string, info modelfile.Info) (found []string) {
	differ := func(what string, said, told any) {
		if said, told := fmt.Sprintf("%q", said), fmt.Sprintf("%q", told); said != told {
			found = append(found, fmt.Sprintf("%s: Python says %s, the file %s", what, said, told))
		}
	}
	differ("format", e.format(way), info.Format)
	differ("compression", compressions[way], info.Compression)
	differ("root class", e.Told.RootClass, info.RootClass)
	if info.Format == modelfile.FormatSkops {
		return found
	}
	differ("steps", slices.Clip(e.Told.Steps), slices.Clip(info.Steps))
	differ("scikit-learn", e.Told.SklearnVersion, info.SklearnVersion)
	differ("columns", fmt.Sprint(e.Told.NFeaturesIn), fmt.Sprint(info.NFeaturesIn))
	differ("names of columns", e.Told.FeatureNamesIn, info.FeatureNamesIn)
	differ("labels", e.Told.Classes, info.Classes)
	differ("type of labels", e.Told.ClassesType, info.ClassesType)
	differ("globals", e.Globals[way], info.Globals)
	for _, name := range slices.Sorted(maps.Keys(e.Told.Params)) {
		told, ok := info.Params[name]
		if !ok {
			told = "nothing"
		}
		differ("parameter "+name, e.Told.Params[name], told)
	}
	return found
}

// compressions are those of the ways that compress.
var compressions = map[string]string{
	"joblib-zlib": modelfile.CompressionZlib, "joblib-lz4": modelfile.CompressionLZ4, "joblib-xz": modelfile.CompressionXZ,
	"zlib.joblib": modelfile.CompressionZlib,
}

// format is that of a file: what joblib writes is a pickle too where it is not compressed and has no arrays, which joblib reads by a class of
// its own.
func (e expected) format(way string) string {
	switch {
	case way == modelfile.FormatSkops:
		return modelfile.FormatSkops
	case compressions[way] != "", slices.Contains(e.Globals[way], "joblib.numpy_pickle.NumpyArrayWrapper"):
		return modelfile.FormatJoblib
	}
	return modelfile.FormatPickle
}
