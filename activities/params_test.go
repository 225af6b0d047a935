package activities

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"registrar/internal/mlflow"
	"registrar/internal/modelfile"
)

func TestUpload_LogsTheOutermostHyperparametersFirst(t *testing.T) {
	own := []mlflow.Param{{Key: "model_name", Value: "credit"}, {Key: "min_roc_auc", Value: "0.6"}}
	u := upload{in: UploadModelInput{
		Run: LogRunResult{Params: own},
		Model: modelfile.Info{Params: map[string]string{
			"clf__max_depth": "None", "verbose": "False", "clf__criterion": "'gini'", "memory": "None", "clf__estimator__C": "1.0",
			"min_roc_auc": "0.1", "registrar.version": "7", "a\nb": "1", "a//b__C": "1", "/a": "1", "./a": "1",
		}},
	}}
	first, more := u.params()
	require.Equal(t, append(own,
		mlflow.Param{Key: "memory", Value: "None"},
		mlflow.Param{Key: "verbose", Value: "False"},
		mlflow.Param{Key: "clf__criterion", Value: "gini"},
		mlflow.Param{Key: "clf__max_depth", Value: "None"},
		mlflow.Param{Key: "clf__estimator__C", Value: "1.0"},
	), first, "a name of the registration's own is not taken over")
	require.Empty(t, more)

	for i := range 300 {
		u.in.Model.Params[fmt.Sprintf("clf__p%03d", i)] = "1"
	}
	first, more = u.params()
	require.Len(t, first, paramsPerBatch)
	require.Equal(t, own, first[:2])
	require.Len(t, more, 2+5+300-paramsPerBatch)
}

func TestShown_IsWhatPythonPrints(t *testing.T) {
	for repr, want := range map[string]string{
		"'gini'": "gini", "''": "''", `'a\'b'`: `'a\'b'`, `"it's"`: `"it's"`, "(1, 2)": "(1, 2)", "None": "None",
	} {
		require.Equal(t, want, shown(repr))
	}
	for _, long := range []string{strings.Repeat("x", 501), "y" + strings.Repeat("ä", 300)} {
		got := shown(long)
		require.LessOrEqual(t, len(got), maxParamBytes)
		require.True(t, utf8.ValidString(got))
		require.True(t, strings.HasSuffix(got, "..."))
	}
	require.Equal(t, fmt.Sprintf("%500d", 7), shown(fmt.Sprintf("%500d", 7)))
}
