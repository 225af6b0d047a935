package snapshot_test

import (
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"registrar/internal/snapshot"
)

const benchBytes = 64 << 20

// benchProject is a project with a model of benchBytes.
func benchProject(b *testing.B) (stage func() *snapshot.Staged) {
	b.Helper()
	folder := b.TempDir()
	for name, size := range map[string]int{"artifacts/rf.joblib": benchBytes, "artifacts/metrics.json": 20, "artifacts/preprocessor.pkl": 20} {
		path := filepath.Join(folder, name)
		require.NoError(b, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(b, os.WriteFile(path, make([]byte, size), 0o644))
	}
	sources, rootDir, err := openProject(folder)
	require.NoError(b, err)
	b.Cleanup(func() { _ = sources.Close(); _ = rootDir.Close() }) // only the disk is measured
	b.SetBytes(benchBytes)
	b.ReportAllocs()
	return func() *snapshot.Staged {
		staged, err := snapshot.Stage(b.Context(), sources, rootDir, modelInputs(), nil)
		require.NoError(b, err)
		return staged
	}
}

// BenchmarkStage copies, hashes, and brings down to the disk.
func BenchmarkStage(b *testing.B) {
	stage := benchProject(b)
	for b.Loop() {
		require.NoError(b, stage().Discard())
	}
}

// BenchmarkVerify reads and hashes what is frozen.
func BenchmarkVerify(b *testing.B) {
	folder, err := benchProject(b)().Commit(b.Context())
	require.NoError(b, err)
	for b.Loop() {
		require.NoError(b, folder.Verify(b.Context(), nil, func(snapshot.Entry, io.Reader) error { return nil }))
	}
}
