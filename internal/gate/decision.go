package gate

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Rule is a condition on one metric: it must be there, be a finite number, and be at least Min.
type Rule struct {
	Metric string `json:"metric"`
	// Min is the least value that passes, itself included. It must be finite.
	Min float64 `json:"min"`
}

// Verdict is what became of one rule.
type Verdict struct {
	Metric string  `json:"metric"`
	Min    float64 `json:"min"`
	// Observed is the metric as the file has it: a number as it was written there, "NaN", "Infinity" or
	// "-Infinity", a string, a boolean or null. It is absent where the metric is, and for objects and arrays.
	Observed json.RawMessage `json:"observed,omitempty"`
	Passed   bool            `json:"passed"`
	// Reason says why the rule was not met; empty where it was.
	Reason string `json:"reason,omitempty"`
}

// Decision is the result of the gate: passed where every rule is, and where the model file may be loaded. The zero value is a rejection.
// It survives encoding/json unchanged, so it can travel and be written at the other end.
type Decision struct {
	Passed bool      `json:"passed"`
	Rules  []Verdict `json:"rules"`
	// Model is what became of the model file itself; nil where nobody looked into it.
	Model *Model `json:"model,omitempty"`
}

// Model is the verdict on a model file, and on the extra files that a consumer loads as it loads the model.
type Model struct {
	// Policy says which files may be loaded: strict, deny or off. It is the project's, or MinPolicy where that is stricter.
	Policy string `json:"policy"`
	// MinPolicy is the worker's, which files have to pass as well; empty where it has none.
	MinPolicy string `json:"min_policy,omitempty"`
	// Verdict is allowed or refused.
	Verdict string `json:"verdict"`
	// Reasons are what speaks against loading the file, a line each, also where the policy lets it pass.
	Reasons []string `json:"reasons,omitempty"`
	// ExtraFiles are those that can be loaded; the others are data.
	ExtraFiles []ExtraFile `json:"extra_files,omitempty"`
}

// ExtraFile is the verdict on a file beside the model, as Model has it.
type ExtraFile struct {
	// Path is as configured.
	Path    string   `json:"path"`
	Verdict string   `json:"verdict"`
	Reasons []string `json:"reasons,omitempty"`
}

// refused is the verdict that no metrics outweigh.
const refused = "refused"

// WithModel adds the verdict on the model file; nil where there is none.
func (d Decision) WithModel(m *Model) Decision {
	d.Model = m
	d.Passed = d.Passed && (m == nil || !m.refused())
	return d
}

func (m Model) refused() bool {
	return m.Verdict == refused || slices.ContainsFunc(m.ExtraFiles, func(f ExtraFile) bool { return f.Verdict == refused })
}

// lines say what speaks against each file, one line for each file, such as "model file refused (posix.system: ...)".
func (m Model) lines() []string {
	var lines []string
	add := func(file, verdict string, reasons []string) {
		if len(reasons) == 0 {
			return
		}
		line := fmt.Sprintf("%s %s (%s", file, verdict, reasons[0])
		if more := len(reasons) - 1; more > 0 {
			line += fmt.Sprintf("; %d more", more)
		}
		lines = append(lines, line+")")
	}
	add("model file", m.Verdict, m.Reasons)
	for _, extra := range m.ExtraFiles {
		add("extra file "+extra.Path, extra.Verdict, extra.Reasons)
	}
	return lines
}

// Decide judges metrics by rules, in the order of the rules. Without rules nothing passes.
func Decide(rules []Rule, m Metrics) Decision {
	decision := Decision{Passed: len(rules) > 0, Rules: []Verdict{}}
	for _, rule := range rules {
		verdict := judge(rule, m)
		decision.Passed = decision.Passed && verdict.Passed
		decision.Rules = append(decision.Rules, verdict)
	}
	return decision
}

func judge(rule Rule, m Metrics) Verdict {
	verdict := Verdict{Metric: rule.Metric, Min: rule.Min}
	value, ok := m.Lookup(rule.Metric)
	if !ok {
		verdict.Reason = "missing, the metrics are: " + listNames(m.names)
		return verdict
	}
	verdict.Observed = observed(value)
	switch {
	case value.Kind == KindNull:
		verdict.Reason = "null is not a number"
	case value.Kind != KindNumber:
		verdict.Reason = fmt.Sprintf("the %s is not a number", value.Kind)
	case !finite(value.Number):
		verdict.Reason = "not a finite number"
	case value.Number >= rule.Min:
		verdict.Passed = true
	default:
		verdict.Reason = "below the minimum"
	}
	return verdict
}

// observed is the value as JSON that every reader of JSON can read, and short enough for a payload.
func observed(value Value) json.RawMessage {
	const maxNumberBytes = 32 // longer ones carry digits beyond what a float64 holds
	switch {
	case value.Kind == KindObject || value.Kind == KindArray:
		return nil
	case value.Kind == KindString:
		var text string
		if err := json.Unmarshal([]byte(value.Text), &text); err != nil {
			return nil
		}
		return quote(shorten(text))
	case value.Kind == KindNumber && math.IsNaN(value.Number):
		return quote("NaN")
	case value.Kind == KindNumber && math.IsInf(value.Number, 1):
		return quote("Infinity")
	case value.Kind == KindNumber && math.IsInf(value.Number, -1):
		return quote("-Infinity")
	case value.Kind == KindNumber && len(value.Text) > maxNumberBytes:
		return json.RawMessage(strconv.FormatFloat(value.Number, 'g', -1, 64))
	}
	return json.RawMessage(value.Text)
}

// quote makes a JSON string just as Marshal does, so that it stays the same when it is marshaled again.
func quote(text string) json.RawMessage {
	quoted, err := json.Marshal(text)
	if err != nil {
		return nil // no string makes Marshal fail
	}
	return quoted
}

// JSON returns the decision as decision.json holds it: indented, with a newline at the end, the same
// bytes for the same decision whether or not it has travelled as JSON before. It fails on a rule whose
// minimum is not finite.
func (d Decision) JSON() ([]byte, error) {
	data, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode decision: %w", err)
	}
	return append(data, '\n'), nil
}

// Summary says the decision in one line, such as "roc_auc 0.83 >= 0.60: passed".
func (d Decision) Summary() string {
	if len(d.Rules) == 0 {
		return "no rules: rejected"
	}
	lines := make([]string, len(d.Rules))
	for i, verdict := range d.Rules {
		lines[i] = verdict.String()
	}
	if d.Model != nil {
		lines = append(lines, d.Model.lines()...)
	}
	return strings.Join(lines, "; ")
}

// String says the verdict in one line, such as "roc_auc 0.55 >= 0.60: rejected (below the minimum)".
func (v Verdict) String() string {
	outcome := "passed"
	if !v.Passed {
		outcome = fmt.Sprintf("rejected (%s)", v.Reason)
	}
	return fmt.Sprintf("%s %s >= %s: %s", v.Metric, v.ObservedText(), v.MinText(), outcome)
}

// ObservedText returns the observed value for people: as the file has it, "NaN" without quotes, or "-"
// where there is nothing to show.
func (v Verdict) ObservedText() string {
	var text string
	switch {
	case len(v.Observed) == 0:
		return "-"
	case json.Unmarshal(v.Observed, &text) == nil && (text == "NaN" || strings.HasSuffix(text, "Infinity")):
		return text
	}
	return string(v.Observed)
}

// MinText returns the minimum for people, with two decimals or as many as it has.
func (v Verdict) MinText() string {
	exact, short := strconv.FormatFloat(v.Min, 'f', -1, 64), strconv.FormatFloat(v.Min, 'f', 2, 64)
	if len(short) > len(exact) {
		return short
	}
	return exact
}

// listNames shows the first few names, enough to see a misspelt one.
func listNames(names []string) string {
	const shown = 8
	if len(names) == 0 {
		return "none"
	}
	var list strings.Builder
	for i, name := range names {
		switch {
		case i == shown:
			return list.String() + ", …"
		case i > 0:
			list.WriteString(", ")
		}
		list.WriteString(shorten(name))
	}
	return list.String()
}

// shorten cuts a text from a file to a length that a message or a payload can bear.
func shorten(text string) string {
	const maxBytes = 64
	if len(text) <= maxBytes {
		return text
	}
	cut := maxBytes
	for !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut] + "…"
}
