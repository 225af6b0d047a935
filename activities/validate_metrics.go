package activities

import (
	"context"
	"fmt"
	"path"
	"strings"
	"unicode"
	"unicode/utf8"

	"registrar/internal/gate"
)

// ValidateMetricsInput names the frozen metrics and the rules that they must meet.
type ValidateMetricsInput struct {
	Project Project     `json:"project"`
	Rules   []gate.Rule `json:"rules"`
	// Model is the verdict on the model file; nil where an older worker gave none.
	Model *gate.Model `json:"model,omitempty"`
}

// ValidateMetricsResult carries the decision.
type ValidateMetricsResult struct {
	Decision gate.Decision `json:"decision"`
	Warnings []string      `json:"warnings,omitempty"`
}

// ValidateMetrics judges the frozen metrics, adds the verdict on the model file, and writes decision.json. A rejection is a result, not an error; a file that cannot be
// read as metrics is an error. May be repeated: the same inputs give the same bytes.
func (a *Activities) ValidateMetrics(ctx context.Context, in ValidateMetricsInput) (ValidateMetricsResult, error) {
	folder, err := a.folder(in.Project)
	if err != nil {
		return ValidateMetricsResult{}, classify(ctx, err)
	}
	defer folder.Close()
	metrics, err := readMetrics(folder)
	if err != nil {
		return ValidateMetricsResult{}, classify(ctx, err)
	}
	if err := checkNames(folder.Request().Metrics.Path, metrics); err != nil {
		return ValidateMetricsResult{}, classify(ctx, err)
	}
	decision := gate.Decide(in.Rules, metrics).WithModel(in.Model)
	data, err := decision.JSON()
	if err != nil {
		return ValidateMetricsResult{}, classify(ctx, err)
	}
	if err := folder.WriteDecision(data); err != nil {
		return ValidateMetricsResult{}, classify(ctx, err)
	}
	return ValidateMetricsResult{Decision: decision, Warnings: implausible(folder.Request().Metrics.Path, metrics)}, nil
}

// isMetricName tells whether MLflow takes the name for a metric (mlflow/utils/validation.py).
func isMetricName(name string) bool {
	return isName(name, func(c rune) bool {
		return unicode.IsLetter(c) || unicode.IsNumber(c) || strings.ContainsRune("_-./: ", c)
	})
}

// isName tells whether the text has the length of a name in MLflow, only such characters, and is a path in its plainest form. A regular expression that
// counts to 250 letters of all alphabets takes five megabytes.
func isName(text string, allowed func(rune) bool) bool {
	const maxCharacters = 250
	return text != "" && utf8.RuneCountInString(text) <= maxCharacters && isPlainPath(text) &&
		!strings.ContainsFunc(text, func(c rune) bool { return !allowed(c) })
}

// isPlainPath is what MLflow asks of names since some of its stores make files of them (mlflow/utils/validation.py, path_not_unique).
func isPlainPath(name string) bool {
	return path.Clean(name) == name && name != "." && !strings.HasPrefix(name, "..") && !strings.HasPrefix(name, "/")
}

// checkNames sees that MLflow will take the metrics, before it hears of any.
func checkNames(file string, metrics gate.Metrics) error {
	for _, m := range metrics.Numbers() {
		if !isMetricName(m.Name) {
			return &gate.FormatError{File: file, Problem: fmt.Sprintf(
				"metric name %q: MLflow takes up to 250 letters, digits, spaces and _ - . : /, and between slashes neither nothing nor dots alone: rename it", m.Name)}
		}
	}
	return nil
}

// implausible warns of a ROC-AUC that is none, such as one in percent, which would pass any threshold.
func implausible(file string, metrics gate.Metrics) []string {
	for _, m := range metrics.Numbers() {
		if m.Name == "roc_auc" && (m.Value < 0 || m.Value > 1) {
			return []string{fmt.Sprintf("%s: roc_auc is %v, not between 0 and 1: is it in percent?", file, m.Value)}
		}
	}
	return nil
}

func readMetrics(folder frozen) (gate.Metrics, error) {
	entry := folder.Request().Metrics
	f, err := folder.OpenVerified(entry)
	if err != nil {
		return gate.Metrics{}, err
	}
	defer f.Close()
	return gate.ParseMetrics(entry.Path, f)
}
