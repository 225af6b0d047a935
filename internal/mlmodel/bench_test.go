package mlmodel_test

import (
	"bytes"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"registrar/internal/mlmodel"
	"registrar/internal/modelfile"
)

// BenchmarkWrapper streams a joblib file in its wrapper, as an upload does.
func BenchmarkWrapper(b *testing.B) {
	model := make([]byte, 64<<20)
	files, err := mlmodel.Files(mlmodel.Spec{
		Info: modelfile.Info{Format: modelfile.FormatJoblib},
		ModelFile: mlmodel.ModelFile{
			Name: "model.joblib", SizeBytes: int64(len(model)),
			Open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(model)), nil },
		},
		RunID: "run", ModelID: "m-1", ArtifactURI: "mlflow-artifacts:/1/models/m-1/artifacts", CreatedAt: time.UnixMilli(0), LoggedModel: true,
	})
	require.NoError(b, err)
	buffer := make([]byte, 32<<10) // what net/http copies by
	b.SetBytes(files[0].SizeBytes)
	b.ReportAllocs()
	for b.Loop() {
		r, err := files[0].Open()
		require.NoError(b, err)
		n, err := io.CopyBuffer(io.Discard, struct{ io.Reader }{r}, buffer)
		require.NoError(b, err)
		require.Equal(b, files[0].SizeBytes, n)
	}
}
