package zoo

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"registrar/internal/mlmodel"
	"registrar/internal/modelfile"
)

// pack writes the folder that would be registered.
func pack(t *testing.T, target, path string, info modelfile.Info, layout mlmodel.Layout) {
	t.Helper()
	files, err := mlmodel.Files(mlmodel.Spec{
		Info: info,
		ModelFile: mlmodel.ModelFile{
			Name: filepath.Base(path), SizeBytes: info.SizeBytes, SHA256: info.SHA256,
			Open: func() (io.ReadCloser, error) { return os.Open(path) },
		},
		Layout:      layout,
		RunID:       strings.Repeat("1", 32),
		ModelID:     "m-" + strings.Repeat("2", 32),
		ArtifactURI: "mlflow-artifacts:/1/models/m-" + strings.Repeat("2", 32) + "/artifacts",
		CreatedAt:   time.Date(2026, 11, 25, 0, 0, 0, 0, time.UTC),
		LoggedModel: true,
	})
	require.NoError(t, err, path)
	for _, f := range files {
		name := filepath.Join(target, f.Path)
		require.NoError(t, os.MkdirAll(filepath.Dir(name), 0o755))
		content, err := f.Open()
		require.NoError(t, err)
		written, err := os.Create(name)
		require.NoError(t, err)
		size, err := io.Copy(written, content)
		require.NoError(t, errors.Join(err, written.Close(), content.Close()))
		require.Equal(t, f.SizeBytes, size, name)
	}
}
