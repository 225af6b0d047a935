// Package gate judges a model by its metrics.
//
// It knows how Python's json module writes a flat object of metrics, what a rule is, and which values
// never pass one. It knows nothing of files, settings, MLflow or Temporal: bytes and rules come in, a
// decision goes out, and the same bytes and rules always give the same decision, byte for byte.
package gate

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// MaxMetricsBytes is the largest metrics file that ParseMetrics reads, in bytes. A pipeline writes a
// few hundred; the bound keeps a wrong path (a model, a disk image) from filling the memory.
const MaxMetricsBytes = 1 << 20

// Kind is the JSON type of a metric's value.
type Kind string

// The kinds of JSON values. Only a KindNumber that is finite can pass a rule.
const (
	KindNumber Kind = "number"
	KindString Kind = "string"
	KindBool   Kind = "boolean"
	KindNull   Kind = "null"
	KindObject Kind = "object"
	KindArray  Kind = "array"
)

// Value is what a metrics file says of one metric.
type Value struct {
	// Kind is the JSON type; bare NaN, Infinity and -Infinity are numbers.
	Kind Kind
	// Text is the value as it stands in the file.
	Text string
	// Number is the value of a KindNumber as Python's float holds it, so 1e400 is +Inf; else 0.
	Number float64
}

// Metric is one numeric metric. It survives encoding/json, where NaN and the infinities are strings.
type Metric struct {
	Name string
	// Value may be NaN or an infinity.
	Value float64
}

// jsonMetric is a Metric as JSON; its value is a number or a string.
type jsonMetric struct {
	Name  string          `json:"name"`
	Value json.RawMessage `json:"value"`
}

// MarshalJSON writes NaN and the infinities as strings, since JSON has no numbers for them.
func (m Metric) MarshalJSON() ([]byte, error) {
	return json.Marshal(jsonMetric{m.Name, observed(Value{
		Kind: KindNumber, Text: strconv.FormatFloat(m.Value, 'g', -1, 64), Number: m.Value,
	})})
}

// UnmarshalJSON reads what MarshalJSON writes.
func (m *Metric) UnmarshalJSON(data []byte) error {
	var read jsonMetric
	if err := json.Unmarshal(data, &read); err != nil {
		return fmt.Errorf("decode metric: %w", err)
	}
	value, err := strconv.ParseFloat(strings.Trim(string(read.Value), `"`), 64)
	if err != nil {
		return fmt.Errorf("decode metric %q: %w", read.Name, err)
	}
	*m = Metric{read.Name, value}
	return nil
}

// Metrics is a parsed metrics file. The zero value is an empty one.
type Metrics struct {
	names  []string
	values map[string]Value
}

// FormatError says that a metrics file is not what Python's json.dump writes for a flat object. It is
// final: the same bytes give the same error. It never quotes a value of the file.
type FormatError struct {
	// File is the name that ParseMetrics was given.
	File string
	// Line and Column say where, both from 1, the column in bytes; 0 where the whole file is meant.
	Line, Column int
	// Problem says what is wrong, and what would be right.
	Problem string
}

// Error names the file, the place and the problem in one line.
func (e *FormatError) Error() string {
	if e.Line == 0 {
		return fmt.Sprintf("parse metrics %s: %s", e.File, e.Problem)
	}
	return fmt.Sprintf("parse metrics %s:%d:%d: %s", e.File, e.Line, e.Column, e.Problem)
}

// ParseMetrics reads a flat JSON object of metrics as Python's json module writes it, with bare NaN,
// Infinity and -Infinity. name stands in errors only. It reads at most MaxMetricsBytes+1 bytes.
//
// What is not one JSON object in UTF-8 with distinct names is a *FormatError; an error of r comes back
// wrapped. A value of another type than number is kept for a rule to judge.
func ParseMetrics(name string, r io.Reader) (Metrics, error) {
	data, err := io.ReadAll(io.LimitReader(r, MaxMetricsBytes+1))
	if err != nil {
		return Metrics{}, fmt.Errorf("read metrics %s: %w", name, err)
	}
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")) // a byte order mark, which some editors write
	whole := func(problem string) error { return &FormatError{File: name, Problem: problem} }
	switch {
	case len(data) > MaxMetricsBytes:
		return Metrics{}, whole(fmt.Sprintf("larger than %d bytes: give the JSON file that the evaluation wrote", MaxMetricsBytes))
	case len(bytes.TrimSpace(data)) == 0:
		return Metrics{}, whole(`empty: give a JSON object such as {"roc_auc": 0.83}`)
	case !utf8.Valid(data):
		return Metrics{}, whole("not UTF-8 text: give the JSON file that the evaluation wrote")
	}

	at := func(offset int, problem string) error {
		line, column := position(data, offset)
		return &FormatError{File: name, Line: line, Column: column, Problem: problem}
	}
	masked := maskConstants(data)
	var syntax *json.SyntaxError
	if err := json.Unmarshal(masked, new(json.RawMessage)); errors.As(err, &syntax) {
		return Metrics{}, at(int(syntax.Offset)-1, `not JSON: give an object such as {"roc_auc": 0.83}`)
	} else if err != nil {
		return Metrics{}, whole("not JSON: " + err.Error())
	}
	if start := len(data) - len(bytes.TrimLeft(data, " \t\r\n")); data[start] != '{' {
		return Metrics{}, at(start, `not a JSON object: give one such as {"roc_auc": 0.83}`)
	}
	return members(data, masked, at)
}

// members collects the members of the object in masked, which is valid JSON, with their text from data.
func members(data, masked []byte, at func(int, string) error) (Metrics, error) {
	metrics := Metrics{values: map[string]Value{}}
	decoder := json.NewDecoder(bytes.NewReader(masked))
	if _, err := decoder.Token(); err != nil {
		return Metrics{}, at(0, err.Error())
	}
	for decoder.More() {
		token, err := decoder.Token()
		if err != nil {
			return Metrics{}, at(int(decoder.InputOffset()), err.Error())
		}
		name, _ := token.(string) // the name of a member is always a string
		nameEnd := int(decoder.InputOffset())
		if _, exists := metrics.values[name]; exists {
			return Metrics{}, at(nameEnd-1, fmt.Sprintf("metric %q is there twice: keep one", shorten(name)))
		}
		var raw json.RawMessage
		if err := decoder.Decode(&raw); err != nil {
			return Metrics{}, at(nameEnd, err.Error())
		}
		end := int(decoder.InputOffset())
		metrics.names = append(metrics.names, name)
		metrics.values[name] = parseValue(string(data[end-len(raw) : end]))
	}
	return metrics, nil
}

// maskConstants returns a copy of data in which each bare NaN, Infinity and -Infinity is a number of the
// same length, so that encoding/json accepts the whole and each offset still fits data. Python's json
// writes these three unless told not to (docs.python.org/3/library/json.html, "Infinite and NaN Number
// Values"). A constant that is not a token of its own stays, and with it the syntax error.
func maskConstants(data []byte) []byte {
	masked := slices.Clone(data)
	inString := false
	for i := 0; i < len(data); i++ {
		switch {
		case inString && data[i] == '\\':
			i++
		case data[i] == '"':
			inString = !inString
		case inString:
		case data[i] == 'N' || data[i] == 'I' || data[i] == '-':
			for _, constant := range []string{"NaN", "Infinity", "-Infinity"} {
				end := i + len(constant)
				if bytes.HasPrefix(data[i:], []byte(constant)) && (i == 0 || delimits(data[i-1])) && (end == len(data) || delimits(data[end])) {
					for j := i; j < end; j++ {
						masked[j] = '1'
					}
					i = end - 1
					break
				}
			}
		}
	}
	return masked
}

func delimits(c byte) bool { return bytes.IndexByte([]byte(" \t\r\n:,[]{}"), c) >= 0 }

// parseValue reads one valid JSON value, or one of Python's three constants.
func parseValue(text string) Value {
	value := Value{Text: text}
	switch text[0] {
	case '"':
		value.Kind = KindString
	case 't', 'f':
		value.Kind = KindBool
	case 'n':
		value.Kind = KindNull
	case '{':
		value.Kind = KindObject
	case '[':
		value.Kind = KindArray
	default:
		value.Kind = KindNumber
		// ParseFloat knows NaN and Infinity, and returns an infinity beside its range error for 1e400.
		value.Number, _ = strconv.ParseFloat(text, 64)
	}
	return value
}

// position turns a byte offset into a line and a column, both from 1.
func position(data []byte, offset int) (line, column int) {
	before := data[:min(max(offset, 0), len(data))]
	return 1 + bytes.Count(before, []byte{'\n'}), len(before) - bytes.LastIndexByte(before, '\n')
}

// Names returns the names of all metrics, in the order of the file.
func (m Metrics) Names() []string { return slices.Clone(m.names) }

// Lookup returns the value of a metric, and whether the file has it.
func (m Metrics) Lookup(name string) (Value, bool) {
	value, ok := m.values[name]
	return value, ok
}

// Numbers returns the metrics that are numbers, NaN and infinities included, in the order of the file.
func (m Metrics) Numbers() []Metric {
	var numbers []Metric
	for _, name := range m.names {
		if value := m.values[name]; value.Kind == KindNumber {
			numbers = append(numbers, Metric{Name: name, Value: value.Number})
		}
	}
	return numbers
}

// finite says whether a number can be compared with a threshold.
func finite(number float64) bool { return !math.IsNaN(number) && !math.IsInf(number, 0) }
