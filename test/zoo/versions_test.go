package zoo

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"registrar/internal/modelfile"
)

// TestVersions_AreReadAsPythonReadsThem reads the files that `make fixtures` wrote with scikit-learn from 1.4, joblib from 1.3, and numpy 1 and 2,
// each beside what the Python that wrote it says of it.
func TestVersions_AreReadAsPythonReadsThem(t *testing.T) {
	folders, err := filepath.Glob(filepath.Join("testdata", "versions", "*"))
	require.NoError(t, err)
	require.Len(t, folders, 7)
	for _, folder := range folders {
		var e expected
		readJSON(t, filepath.Join(folder, "expected.json"), &e)
		require.Len(t, e.Ways, 3)
		require.Equal(t, []string{"'bad'", "'good'"}, e.Told.Classes, "Python tells it")
		for _, way := range e.Ways {
			t.Run(filepath.Base(folder)+"/"+way, func(t *testing.T) { requireRead(t, e, folder, way) })
		}
	}
}

func requireRead(t *testing.T, e expected, folder, way string) {
	t.Helper()
	info, err := inspect(t, filepath.Join(folder, way))
	require.NoError(t, err)
	require.Equal(t, modelfile.Allowed, info.Verdict, "%v", info.Reasons)
	require.Empty(t, e.differences(way, info))
	require.Equal(t, e.Versions["scikit-learn"], info.SklearnVersion)
	numpy := ">=2"
	if strings.HasPrefix(e.Versions["numpy"], "1.") {
		numpy = "<2"
	}
	require.Equal(t, numpy, info.NumpyVersion)
}
