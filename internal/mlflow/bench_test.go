package mlflow_test

import (
	"io"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"registrar/internal/mlflow"
)

const benchBytes = 64 << 20

// swallowing is a client of a server, or of a store, that takes all bodies and keeps nothing.
func swallowing(b *testing.B) *mlflow.Client {
	b.Helper()
	client := newClient(b, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("ETag", `"e"`)
	})
	b.SetBytes(benchBytes)
	b.ReportAllocs()
	return client
}

// BenchmarkUploadArtifact streams a file as one PUT; what the server at the other end takes is in it.
func BenchmarkUploadArtifact(b *testing.B) {
	client := swallowing(b)
	for b.Loop() {
		require.NoError(b, client.UploadArtifact(b.Context(), "mlflow-artifacts:/1", "model.pkl", benchBytes, io.LimitReader(endless{}, benchBytes)))
	}
}

// BenchmarkUploadPart streams a part to a store.
func BenchmarkUploadPart(b *testing.B) {
	client := swallowing(b)
	target := mlflow.PartTarget{URL: client.TrackingURI() + "/bucket/model.pkl?partNumber=1", Number: 1}
	for b.Loop() {
		_, err := client.UploadPart(b.Context(), target, benchBytes, io.LimitReader(endless{}, benchBytes))
		require.NoError(b, err)
	}
}
