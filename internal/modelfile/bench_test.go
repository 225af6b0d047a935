package modelfile_test

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"registrar/internal/modelfile"
)

// BenchmarkInspect reads the test's forest: opcodes, and small arrays between them.
func BenchmarkInspect(b *testing.B) {
	data, err := os.ReadFile(filepath.Join("testdata", "forest.joblib"))
	require.NoError(b, err)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		_, err := modelfile.Inspect(b.Context(), bytes.NewReader(data))
		require.NoError(b, err)
	}
}

// BenchmarkInspectLarge steps over bytes: what a large model mostly is.
func BenchmarkInspectLarge(b *testing.B) {
	const size = 64 << 20
	// PROTO 4, the object of a class without state, BINBYTES8 beneath it on the stack, POP, STOP.
	data := append([]byte("\x80\x04csklearn.tree._classes\nDecisionTreeClassifier\n)\x81\x8e"), binary.LittleEndian.AppendUint64(nil, size)...)
	data = append(data, make([]byte, size)...)
	data = append(data, '0', '.')
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		_, err := modelfile.Inspect(b.Context(), bytes.NewReader(data))
		require.NoError(b, err)
	}
}
