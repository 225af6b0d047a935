package modelfile

import "fmt"

// Info is what a model file tells of itself. A field is empty where the file does not tell; nothing is guessed. It travels in Temporal
// payloads, so every list in it is bounded, and its JSON is the same for the same file.
type Info struct {
	// Format is FormatJoblib where only joblib.load reads the file, FormatPickle where pickle.load does too.
	Format string `json:"format"`
	// Compression is one of the Compression constants, empty for none.
	Compression string `json:"compression,omitempty"`
	// PickleProtocol is 0 to 5. Protocols 0 and 1 do not announce themselves and are both given as 0.
	PickleProtocol int `json:"pickle_protocol"`
	// SizeBytes and SHA256 (64 hex digits) are of the file as it is, compressed or not.
	SizeBytes int64  `json:"size_bytes"`
	SHA256    string `json:"sha256"`

	// Framework is the Python module that provides RootClass: sklearn, xgboost, lightgbm.
	Framework string `json:"framework,omitempty"`
	// RootClass is the qualified class of the pickled object, such as sklearn.pipeline.Pipeline.
	RootClass string `json:"root_class,omitempty"`
	// Steps are those of a Pipeline, in their order, at most 100; of no other class.
	Steps []Step `json:"steps,omitempty"`
	// SklearnVersion is what the outermost scikit-learn estimator wrote as _sklearn_version into its state.
	SklearnVersion string `json:"sklearn_version,omitempty"`
	// NumpyVersion is ">=2" or "<2": pickles tell no more, by the names of numpy's modules, which changed with 2.0.
	NumpyVersion string `json:"numpy_version,omitempty"`

	// NFeaturesIn is the number of columns that the model was fitted on, 0 where unknown. As in Python, a Pipeline tells that of its first step,
	// a search (GridSearchCV and its like) that of its best estimator; of FeatureNamesIn and Classes the same holds, a Pipeline's labels being
	// those of its last step.
	NFeaturesIn int `json:"n_features_in,omitempty"`
	// FeatureNamesIn are the columns' names, where the model was fitted on named ones: NFeaturesIn of them, or none.
	FeatureNamesIn []string `json:"feature_names_in,omitempty"`
	// Classes are a classifier's labels as Python's repr of their plain values, such as 0, True or 'good', all of them or none. A classifier of
	// several outputs has none here.
	Classes []string `json:"classes,omitempty"`
	// ClassesType is numpy's name for the type of the labels: bool, int64, float64, str or object; empty without Classes.
	ClassesType string `json:"classes_type,omitempty"`
	// Params are the root's constructor parameters by the names of get_params(deep=True), such as clf__max_depth, and their values as Python's
	// repr: 'gini', None, 0.5, (1, 2). Those of which the file does not tell the value are left out, at most 500 are here.
	Params map[string]string `json:"params,omitempty"`

	// Modules are the top-level Python modules that loading the file imports, sorted.
	Modules []string `json:"modules,omitempty"`
	// Globals are what the file names of those modules, as module.name, or module:outer.inner for a name with a dot; sorted.
	Globals []string `json:"globals,omitempty"`
	// Verdict is what the Policy says of the file.
	Verdict Verdict `json:"verdict"`
	// Reasons say why the Verdict is refused, or would be under a stricter policy; in the order of the file, at most 50.
	Reasons []Reason `json:"reasons,omitempty"`
}

// Step is a step of a Pipeline.
type Step struct {
	Name string `json:"name"`
	// Class is the qualified class of the step; empty for passthrough and for what is no object.
	Class string `json:"class,omitempty"`
}

// Verdict says whether a file may be loaded.
type Verdict string

// The verdicts. The empty one stands for a file that nobody judged.
const (
	Allowed Verdict = "allowed"
	Refused Verdict = "refused"
)

// Severity says how a Reason weighs.
type Severity string

// The severities.
const (
	// Unknown is a name on no list: allowed by PolicyDeny, and by whoever adds it to the allowed names.
	Unknown Severity = "unknown"
	// Denied is a name that executes what it is given: allowed only by whoever adds it to the allowed names.
	Denied Severity = "denied"
	// Deceptive is a structure that no honest pickler writes. Only PolicyOff lets it pass.
	Deceptive Severity = "deceptive"
)

// Reason is something in a file that speaks against loading it.
type Reason struct {
	Severity Severity `json:"severity"`
	// Global is the name that it is about, as in Info.Globals; empty where it is about none.
	Global string `json:"global,omitempty"`
	// Opcode is the name of the opcode in Python's pickletools; empty where the place is outside of the pickle.
	Opcode string `json:"opcode,omitempty"`
	// Offset is that of the opcode, in bytes from the start of the file, or of its decompressed content.
	Offset int64 `json:"offset"`
	// Problem says what is wrong.
	Problem string `json:"problem"`
}

// String says the reason in one line, such as "posix.system: it executes what it is given (STACK_GLOBAL at byte 35)".
func (r Reason) String() string {
	text := r.Problem
	if r.Global != "" {
		text = r.Global + ": " + text
	}
	if r.Opcode == "" {
		return fmt.Sprintf("%s (byte %d)", text, r.Offset)
	}
	return fmt.Sprintf("%s (%s at byte %d)", text, r.Opcode, r.Offset)
}
