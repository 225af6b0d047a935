package gate_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"registrar/internal/gate"
)

// BenchmarkParseMetrics reads a metrics.json with as many metrics as MLflow takes in one batch, and a NaN among them.
func BenchmarkParseMetrics(b *testing.B) {
	text := `{"roc_auc": NaN`
	for i := range 999 {
		text += fmt.Sprintf(",\n  \"metric_%03d\": 0.%03d", i, i)
	}
	text += "}"
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		_, err := gate.ParseMetrics("metrics.json", strings.NewReader(text))
		require.NoError(b, err)
	}
}
