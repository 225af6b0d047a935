package mlmodel

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"unicode/utf16"
)

// Signature is how much MLmodel says of what a prediction takes and gives.
type Signature string

const (
	// SignatureOutputs describes the predictions alone. mlflow.pyfunc holds inputs against a signature, and every one that could be written here
	// refuses something that the model takes: types that the file does not tell, or arrays where the columns have names, or sparse ones. The empty
	// Signature means it too.
	SignatureOutputs Signature = "outputs"
	// SignatureColumns names the columns too, each of any type, where the model was fitted on named ones. mlflow.pyfunc then takes data frames
	// that have them, whatever their order and what else they have, and refuses all others.
	SignatureColumns Signature = "columns"
)

// signature is the signature as MLmodel has it: JSON within YAML, as mlflow/models/signature.py writes it.
type signature struct {
	Inputs  *scalar `yaml:"inputs" json:"inputs"`
	Outputs *scalar `yaml:"outputs" json:"outputs"`
	Params  *scalar `yaml:"params" json:"params"`
}

type columnSpec struct {
	Type     string `json:"type"`
	Name     string `json:"name"`
	Required bool   `json:"required"`
}

type tensorSpec struct {
	Type   string `json:"type"`
	Tensor tensor `json:"tensor-spec"`
}

type tensor struct {
	DType string `json:"dtype"`
	Shape []int  `json:"shape"`
}

// signatureOf says what is sure, and is nil where nothing is.
func signatureOf(spec Spec, predictFn string) (*signature, error) {
	inputs, err := inputSchema(spec)
	if err != nil {
		return nil, err
	}
	outputs, err := outputSchema(spec, predictFn)
	if err != nil || inputs == nil && outputs == nil {
		return nil, err
	}
	return &signature{Inputs: inputs, Outputs: outputs}, nil
}

func inputSchema(spec Spec) (*scalar, error) {
	names := spec.Info.FeatureNamesIn
	distinct := slices.Compact(slices.Sorted(slices.Values(names)))
	if spec.Signature != SignatureColumns || len(names) == 0 || len(distinct) != len(names) {
		return nil, nil
	}
	columns := make([]columnSpec, len(names))
	for i, name := range names {
		columns[i] = columnSpec{Type: "any", Name: name, Required: true}
	}
	return schema(columns)
}

// outputSchema describes the predictions of classifiers, whose labels the file tells, and of regressors that know one target alone.
func outputSchema(spec Spec, predictFn string) (*scalar, error) {
	classes := len(spec.Info.Classes)
	switch {
	case classes > 0 && predictFn == "predict" && labelTypes[spec.Info.ClassesType]:
		return schema([]tensorSpec{{"tensor", tensor{spec.Info.ClassesType, []int{-1}}}})
	case classes > 0 && (predictFn == "predict_proba" || predictFn == "predict_log_proba"):
		return schema([]tensorSpec{{"tensor", tensor{"float64", []int{-1, classes}}}})
	case predictFn == "predict" && slices.Contains(regressorsOfOneTarget, predictor(spec)):
		return schema([]tensorSpec{{"tensor", tensor{"float64", []int{-1}}}})
	}
	return nil, nil
}

// labelTypes are numpy's names of the types that labels have.
var labelTypes = map[string]bool{
	"bool": true, "int8": true, "int16": true, "int32": true, "int64": true, "uint8": true, "uint16": true, "uint32": true, "uint64": true,
	"float16": true, "float32": true, "float64": true, "str": true, "object": true,
}

// predictor is the class whose predictions a model gives: of a Pipeline the last step's.
func predictor(spec Spec) string {
	if steps := spec.Info.Steps; len(steps) > 0 {
		return steps[len(steps)-1].Class
	}
	return spec.Info.RootClass
}

// regressorsOfOneTarget are scikit-learn's regressors that refuse a target of two dimensions, or flatten it, and predict in 64 bits. The
// zoo holds each claim against what the class predicts.
var regressorsOfOneTarget = []string{
	"sklearn.ensemble._gb.GradientBoostingRegressor",
	"sklearn.ensemble._hist_gradient_boosting.gradient_boosting.HistGradientBoostingRegressor",
	"sklearn.ensemble._weight_boosting.AdaBoostRegressor",
	"sklearn.linear_model._bayes.ARDRegression",
	"sklearn.linear_model._bayes.BayesianRidge",
	"sklearn.linear_model._glm.glm.GammaRegressor",
	"sklearn.linear_model._glm.glm.PoissonRegressor",
	"sklearn.linear_model._glm.glm.TweedieRegressor",
	"sklearn.linear_model._huber.HuberRegressor",
	"sklearn.linear_model._quantile.QuantileRegressor",
	"sklearn.linear_model._stochastic_gradient.SGDRegressor",
	"sklearn.linear_model._theil_sen.TheilSenRegressor",
	"sklearn.svm._classes.LinearSVR",
	"sklearn.svm._classes.NuSVR",
	"sklearn.svm._classes.SVR",
}

func schema(specs any) (*scalar, error) {
	var compact bytes.Buffer
	encoder := json.NewEncoder(&compact)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(specs); err != nil {
		return nil, err
	}
	written := scalar(asPython(strings.TrimSpace(compact.String())))
	return &written, nil
}

// asPython writes JSON as Python's json.dumps does: a blank behind each colon and comma outside of strings, and in ASCII.
func asPython(compact string) string {
	var text strings.Builder
	inString, escaped := false, false
	for _, r := range compact {
		switch {
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(&text, `\u%04x\u%04x`, high, low)
		case r > '~':
			fmt.Fprintf(&text, `\u%04x`, r)
		default:
			text.WriteRune(r)
		}
		if !inString && (r == ':' || r == ',') {
			text.WriteByte(' ')
		}
		if r == '"' && !escaped {
			inString = !inString
		}
		escaped = r == '\\' && !escaped
	}
	return text.String()
}

// foldColumn is where PyYAML begins a new line in a quoted string: at the first blank behind it.
const foldColumn = 80

// fold breaks the lines of schemas as PyYAML does, so that the file is the official client's byte for byte.
func fold(document []byte) []byte {
	var folded bytes.Buffer
	for line := range bytes.Lines(document) {
		if !bytes.HasPrefix(line, []byte("  inputs: '")) && !bytes.HasPrefix(line, []byte("  outputs: '")) {
			folded.Write(line)
			continue
		}
		column := 0
		for i, word := range bytes.SplitAfter(line, []byte(" ")) {
			if i > 2 && column-1 > foldColumn && !bytes.HasPrefix(word, []byte(" ")) && !bytes.HasSuffix(folded.Bytes(), []byte("  ")) {
				folded.Truncate(folded.Len() - 1)
				folded.WriteString("\n    ")
				column = 4
			}
			folded.Write(word)
			column += len(word)
		}
	}
	return folded.Bytes()
}
