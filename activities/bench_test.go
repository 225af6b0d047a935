package activities

import (
	"encoding/binary"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// BenchmarkSnapshotModel freezes a model, and reads the copy once to hash and to inspect it, as a worker does that is given no frozen one.
func BenchmarkSnapshotModel(b *testing.B) {
	const size = 64 << 20
	p := newProject(b)
	// PROTO 4, the object of a class without state, BINBYTES8 beneath it on the stack, POP, STOP.
	head := "\x80\x04csklearn.tree._classes\nDecisionTreeClassifier\n)\x81\x8e" + string(binary.LittleEndian.AppendUint64(nil, size))
	p.write("model.joblib", head+strings.Repeat("\x00", size)+"0.")
	loaded, err := p.load()
	require.NoError(b, err)
	in := SnapshotModelInput{Project: Project{Root: p.root}, Config: "config/config.yaml", Params: "config/params.yaml", Settings: loaded.Settings}
	b.SetBytes(size)
	b.ReportAllocs()
	for b.Loop() {
		_, err := execute[SnapshotModelResult](p, p.SnapshotModel, in)
		require.NoError(b, err)
	}
}
