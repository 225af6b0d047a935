package gate_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	"registrar/internal/gate"
)

func parse(t *testing.T, text string) gate.Metrics {
	t.Helper()
	metrics, err := gate.ParseMetrics("metrics.json", strings.NewReader(text))
	require.NoError(t, err)
	return metrics
}

func TestParseMetrics_KeepsOrderTextAndKind(t *testing.T) {
	metrics := parse(t, `{
  "roc_auc": 0.830, "accuracy": 1, "tiny": 1e-05, "huge": 1e400, "nan": NaN, "up": Infinity, "down": -Infinity,
  "text": "NaN \", Infinity, {", "flag": true, "none": null, "nested": {"a": NaN, "a": [1]}, "list": [NaN, -Infinity]
}`)
	require.Equal(t, []string{"roc_auc", "accuracy", "tiny", "huge", "nan", "up", "down", "text", "flag", "none", "nested", "list"}, metrics.Names())

	value, ok := metrics.Lookup("roc_auc")
	require.True(t, ok)
	require.Equal(t, gate.Value{Kind: gate.KindNumber, Text: "0.830", Number: 0.83}, value)
	for name, want := range map[string]gate.Value{
		"text":   {Kind: gate.KindString, Text: `"NaN \", Infinity, {"`},
		"flag":   {Kind: gate.KindBool, Text: "true"},
		"none":   {Kind: gate.KindNull, Text: "null"},
		"nested": {Kind: gate.KindObject, Text: `{"a": NaN, "a": [1]}`},
		"list":   {Kind: gate.KindArray, Text: "[NaN, -Infinity]"},
		"huge":   {Kind: gate.KindNumber, Text: "1e400", Number: math.Inf(1)},
		"down":   {Kind: gate.KindNumber, Text: "-Infinity", Number: math.Inf(-1)},
	} {
		value, ok := metrics.Lookup(name)
		require.True(t, ok, name)
		require.Equal(t, want, value, name)
	}
	_, ok = metrics.Lookup("ROC_AUC")
	require.False(t, ok)
}

func TestParseMetrics_ReadsPastAByteOrderMark(t *testing.T) {
	metrics, err := gate.ParseMetrics("metrics.json", strings.NewReader("\ufeff{\"roc_auc\": 0.9}"))
	require.NoError(t, err)
	require.Equal(t, []string{"roc_auc"}, metrics.Names())
}

func TestMetricsNumbers_ListsNumericOnesInOrder(t *testing.T) {
	numbers := parse(t, `{"b": 2, "text": "1", "a": NaN, "flag": false, "c": -Infinity}`).Numbers()
	require.Len(t, numbers, 3)
	require.Equal(t, gate.Metric{Name: "b", Value: 2}, numbers[0])
	require.Equal(t, "a", numbers[1].Name)
	require.True(t, math.IsNaN(numbers[1].Value))
	require.Equal(t, gate.Metric{Name: "c", Value: math.Inf(-1)}, numbers[2])
}

func TestMetric_SurvivesJSON(t *testing.T) {
	for _, value := range []float64{0.83, -1e-300, 0, math.Inf(1), math.Inf(-1), math.NaN()} {
		data, err := json.Marshal(gate.Metric{Name: "m", Value: value})
		require.NoError(t, err)
		var back gate.Metric
		require.NoError(t, json.Unmarshal(data, &back))
		require.Equal(t, "m", back.Name)
		require.Equal(t, math.Float64bits(value), math.Float64bits(back.Value), "%s", data)
	}
	require.ErrorContains(t, json.Unmarshal([]byte(`{"name": "m", "value": "high"}`), new(gate.Metric)), `decode metric "m"`)
}

func TestParseMetrics_NamesFilePlaceAndRemedy(t *testing.T) {
	const example = `give an object such as {"roc_auc": 0.83}`
	for _, c := range []struct{ name, text, want string }{
		{"empty", "", `parse metrics metrics.json: empty: give a JSON object such as {"roc_auc": 0.83}`},
		{"blank", " \n\t", `parse metrics metrics.json: empty: give a JSON object such as {"roc_auc": 0.83}`},
		{"not JSON", "roc_auc: 0.9\n", "parse metrics metrics.json:1:1: not JSON: " + example},
		{"cut off", "{\n  \"roc_auc\": 0.9", "parse metrics metrics.json:2:16: not JSON: " + example},
		{"comma at the end", "{\"roc_auc\": 0.9,\n}", "parse metrics metrics.json:2:1: not JSON: " + example},
		{"text after the object", "{}\n{}", "parse metrics metrics.json:2:1: not JSON: " + example},
		{"list", " [0.9]", `parse metrics metrics.json:1:2: not a JSON object: give one such as {"roc_auc": 0.83}`},
		{"number", "0.9", `parse metrics metrics.json:1:1: not a JSON object: give one such as {"roc_auc": 0.83}`},
		{"bare NaN", "NaN", `parse metrics metrics.json:1:1: not a JSON object: give one such as {"roc_auc": 0.83}`},
		{"constant in a word", `{"a": NaNa}`, "parse metrics metrics.json:1:7: not JSON: " + example},
		{"constant in a number", `{"a": 1NaN}`, "parse metrics metrics.json:1:8: not JSON: " + example},
		{"constant as a name", `{NaN: 1}`, "parse metrics metrics.json:1:2: not JSON: " + example},
		{"two signs", `{"a": --Infinity}`, "parse metrics metrics.json:1:8: not JSON: " + example},
		{"duplicate", "{\"roc_auc\": 0.9,\n \"roc_auc\": 0.5}", `parse metrics metrics.json:2:10: metric "roc_auc" is there twice: keep one`},
		{"escaped duplicate", `{"a": 1, "\u0061": 2}`, `parse metrics metrics.json:1:17: metric "a" is there twice: keep one`},
		{"Latin-1", "{\"r\xe9sultat\": 1}", "parse metrics metrics.json: not UTF-8 text: give the JSON file that the evaluation wrote"},
		{"too deep", `{"a": ` + strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000) + "}", "parse metrics metrics.json:1:10006: not JSON: " + example},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := gate.ParseMetrics("metrics.json", strings.NewReader(c.text))
			var format *gate.FormatError
			require.ErrorAs(t, err, &format)
			require.EqualError(t, err, c.want)
		})
	}
}

func TestParseMetrics_ReadsBoundedPartOfGarbage(t *testing.T) {
	garbage := &countingReader{r: io.LimitReader(endless('x'), 1<<30)}
	_, err := gate.ParseMetrics("metrics.json", garbage)
	var format *gate.FormatError
	require.ErrorAs(t, err, &format)
	require.EqualError(t, err, "parse metrics metrics.json: larger than 1048576 bytes: give the JSON file that the evaluation wrote")
	require.LessOrEqual(t, garbage.n, int64(gate.MaxMetricsBytes+1))
}

func TestParseMetrics_ReturnsErrorOfReader(t *testing.T) {
	broken := errors.New("input/output error")
	_, err := gate.ParseMetrics("metrics.json", iotest.ErrReader(broken))
	require.ErrorIs(t, err, broken)
	require.EqualError(t, err, "read metrics metrics.json: input/output error")
	var format *gate.FormatError
	require.NotErrorAs(t, err, &format)
}

// FuzzParseMetrics holds that no bytes crash, that all valid JSON objects with distinct names are
// read, and that each decision survives JSON.
func FuzzParseMetrics(f *testing.F) {
	for _, seed := range []string{
		`{"roc_auc": 0.83}`, `{"roc_auc": NaN, "b": -Infinity}`, `{"roc_auc": "<NaN>\u2028"}`, `{"roc_auc": null}`,
		`{"roc_auc": 1e400}`, `{"roc_auc": {"a": [Infinity]}}`, `[NaN]`, `{"roc_auc": -}`, `{"a":1,"a":2}`, "{\"roc_auc\": \"\\ud800\"}",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		metrics, err := gate.ParseMetrics("metrics.json", bytes.NewReader(data))
		if err != nil {
			var format *gate.FormatError
			require.ErrorAs(t, err, &format)
			return
		}
		for _, name := range metrics.Names() {
			_, ok := metrics.Lookup(name)
			require.True(t, ok)
		}
		requireSurvivesJSON(t, gate.Decide([]gate.Rule{{Metric: "roc_auc", Min: 0.6}}, metrics))
	})
}

type endless byte

func (e endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(e)
	}
	return len(p), nil
}

type countingReader struct {
	r io.Reader
	n int64
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}
