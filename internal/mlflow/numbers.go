package mlflow

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
)

// float is a double in JSON as protobuf's mapping has it: the numbers that JSON lacks are strings. Bare NaN would be
// taken by MLflow with 200, and the fields after it silently lost.
type float float64

func (f float) MarshalJSON() ([]byte, error) {
	switch value := float64(f); {
	case math.IsNaN(value):
		return []byte(`"NaN"`), nil
	case math.IsInf(value, 1):
		return []byte(`"Infinity"`), nil
	case math.IsInf(value, -1):
		return []byte(`"-Infinity"`), nil
	default:
		return json.Marshal(value)
	}
}

// UnmarshalJSON takes numbers, quoted or not, and the bare NaN and Infinity that Python writes cannot come here: they
// are no JSON.
func (f *float) UnmarshalJSON(text []byte) error {
	text = unquoted(text)
	if len(text) == 0 {
		return nil
	}
	value, err := strconv.ParseFloat(string(text), 64)
	if err != nil {
		return fmt.Errorf("read number %q: %w", text, err)
	}
	*f = float(value)
	return nil
}

// integer is an int64 in JSON: MLflow writes numbers, protobuf's mapping strings.
type integer int64

func (i *integer) UnmarshalJSON(text []byte) error {
	text = unquoted(text)
	if len(text) == 0 {
		return nil
	}
	value, err := strconv.ParseInt(string(text), 10, 64)
	if err != nil {
		return fmt.Errorf("read integer %q: %w", text, err)
	}
	*i = integer(value)
	return nil
}

// unquoted is a JSON number or string of one; empty for null.
func unquoted(text []byte) []byte {
	if bytes.Equal(text, []byte("null")) {
		return nil
	}
	return bytes.Trim(text, `"`)
}

// MarshalJSON writes a value that is no number as the string that MLflow reads.
func (m Metric) MarshalJSON() ([]byte, error) {
	type plain Metric
	return json.Marshal(struct {
		plain
		Value float `json:"value"`
	}{plain(m), float(m.Value)})
}

// UnmarshalJSON reads numbers that are written as strings too.
func (m *Metric) UnmarshalJSON(text []byte) error {
	type plain Metric
	wire := struct {
		*plain
		Value     *float   `json:"value"`
		Timestamp *integer `json:"timestamp"`
		Step      *integer `json:"step"`
	}{(*plain)(m), (*float)(&m.Value), (*integer)(&m.Timestamp), (*integer)(&m.Step)}
	return json.Unmarshal(text, &wire)
}

// UnmarshalJSON reads numbers that are written as strings too.
func (o *ModelOutput) UnmarshalJSON(text []byte) error {
	type plain ModelOutput
	wire := struct {
		*plain
		Step *integer `json:"step"`
	}{(*plain)(o), (*integer)(&o.Step)}
	return json.Unmarshal(text, &wire)
}

// UnmarshalJSON reads numbers that are written as strings too.
func (i *RunInfo) UnmarshalJSON(text []byte) error {
	type plain RunInfo
	wire := struct {
		*plain
		StartTime *integer `json:"start_time"`
		EndTime   *integer `json:"end_time"`
	}{(*plain)(i), (*integer)(&i.StartTime), (*integer)(&i.EndTime)}
	return json.Unmarshal(text, &wire)
}

// UnmarshalJSON reads numbers that are written as strings too.
func (i *LoggedModelInfo) UnmarshalJSON(text []byte) error {
	type plain LoggedModelInfo
	wire := struct {
		*plain
		CreationTimestamp *integer `json:"creation_timestamp_ms"`
	}{(*plain)(i), (*integer)(&i.CreationTimestamp)}
	return json.Unmarshal(text, &wire)
}

// UnmarshalJSON reads numbers that are written as strings too.
func (v *ModelVersion) UnmarshalJSON(text []byte) error {
	type plain ModelVersion
	wire := struct {
		*plain
		CreationTimestamp *integer `json:"creation_timestamp"`
	}{(*plain)(v), (*integer)(&v.CreationTimestamp)}
	return json.Unmarshal(text, &wire)
}

// UnmarshalJSON reads numbers that are written as strings too.
func (f *FileInfo) UnmarshalJSON(text []byte) error {
	type plain FileInfo
	wire := struct {
		*plain
		FileSize *integer `json:"file_size"`
	}{(*plain)(f), (*integer)(&f.FileSize)}
	return json.Unmarshal(text, &wire)
}
