package config

import (
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// kind is what a key's value must be.
type kind int

const (
	text kind = iota
	number
	duration
	textList
	versionMap
)

// Key is a setting of a YAML file. What is said of it anywhere is said here: the files that `starter init` writes, the reference in
// docs/configuration.md, the defaults and the remedies in errors are all made from it.
type Key struct {
	// Name is the key within its section.
	Name string
	// Required keys have to be in the file; Default and Otherwise are empty then.
	Required bool
	// Default is the value where the file has none, in YAML; empty: none.
	Default string
	// Otherwise says in Markdown what holds without the key where that is no value.
	Otherwise string
	// Meaning says in Markdown what the key is for, and Wanted what its value has to be.
	Meaning, Wanted string
	// Item is what each member of a list has to be.
	Item string
	// Example is a value that is right, in YAML: for lists and mappings the lines below the key.
	Example string
	// Usual keys may be left out, and stand in new files all the same: the pipeline has them.
	Usual bool

	kind kind
}

// Section is a mapping of a YAML file.
type Section struct {
	Name string
	Keys []Key

	// strict sections are this stage's own, so that an unknown key in them is a mistake.
	strict bool
}

// Schema is what can be set in one of the two files.
type Schema struct {
	// Path is where the file is unless a flag says otherwise, below the project root.
	Path string
	// About says what belongs into the file.
	About    string
	Sections []Section
}

// Schemas are those of config.yaml and params.yaml.
func Schemas() []Schema { return []Schema{configSchema, paramsSchema} }

// Where the files are unless flags say otherwise, below the project root.
const (
	ConfigPath = "config/config.yaml"
	ParamsPath = "config/params.yaml"
)

const (
	defaultExperiment = "Default" // MLflow's own
	defaultURI        = "http://127.0.0.1:5000"
	aPath             = "a path, absolute or relative to the project root"
)

var configSchema = Schema{
	Path: ConfigPath,
	About: "Where and how: the files that the stages of the pipeline read and write. Relative paths are relative to the project root. " +
		"Sections of other stages may stand beside these; they are ignored here.",
	Sections: []Section{
		{
			Name: "model_registration", strict: true,
			Keys: []Key{
				{
					Name: "root_dir", Required: true, Example: "artifacts/model_registration", Wanted: aPath,
					Meaning: "gets `decision.json` and `receipt.json`, and a folder with the frozen inputs for each registration",
				},
				{
					Name: "model_path", Required: true, Example: "artifacts/model_trainer/acras_rf_model.joblib", Wanted: aPath,
					Meaning: "the model: joblib, pickle, cloudpickle or skops",
				},
				{
					Name: "metric_file_name", Required: true, Example: "artifacts/model_evaluation/metrics.json", Wanted: aPath,
					Meaning: "the metrics: a flat JSON object; bare `NaN` and `Infinity` are read, and judged",
				},
				{
					Name: "model_name", Required: true, Example: `"ACRAS_RandomForest_v1"`, Wanted: "a name",
					Meaning: "the name in the MLflow Model Registry: consumers load `models:/<name>/Staging`",
				},
				{
					Name: "experiment_name", Example: `"ACRAS_Risk_Assessment"`, Wanted: "a name",
					Otherwise: "`model_evaluation.experiment_name`, else `" + defaultExperiment + "`",
					Meaning:   "the MLflow experiment of the run",
				},
				{
					Name: "extra_files", kind: textList, Example: "- artifacts/data_transformation/preprocessor.pkl", Wanted: "a list of paths, each with a file name of its own", Item: "the path of a file",
					Meaning: "what a consumer needs beside the model: frozen, part of the key, uploaded; pickles are judged like the model",
				},
				{
					Name: "predict_fn", Default: "predict", Example: "predict_proba", Wanted: "`predict` or `predict_proba`",
					Meaning: "what `mlflow.pyfunc` calls",
				},
				{
					Name: "layout", Default: "wrapper", Example: "hybrid", Wanted: "`wrapper` or `hybrid`",
					Meaning: "how a joblib file is packed (docs/mlflow.md)",
				},
				{
					Name: "signature", Default: "outputs", Example: "columns", Wanted: "`outputs` or `columns`",
					Meaning: "whether the signature names the inputs too (docs/mlflow.md)",
				},
				{
					Name: "environment_file", Example: "uv.lock", Wanted: "the path of a requirements.txt or uv.lock or poetry.lock",
					Meaning: "versions to pin that neither the model file nor `environment` tells; frozen, part of the key and uploaded, as one of `extra_files`",
				},
				{
					Name: "environment", kind: versionMap, Example: "python: \"3.11.7\"\nnumpy: \"2.3.5\"", Wanted: "packages and versions, always in quotes",
					Meaning: "versions, in quotes, to pin that the model file does not tell",
				},
				{
					Name: "pickle_policy", Default: "strict", Example: "deny", Wanted: "`strict` or `deny` or `off`",
					Meaning: "which names a model file, or an extra file that is a pickle, may import (docs/security-gate.md)",
				},
				{
					Name: "allowed_globals", kind: textList, Example: "- my_package.transform.Clip", Wanted: "a list of names as `starter inspect` prints them", Item: "the name of a class or a function",
					Meaning: "names that they may import whatever the policy; a worker may ask for more (`--min-pickle-policy`)",
				},
			},
		},
		{
			Name: "model_evaluation",
			Keys: []Key{
				{
					Name: "experiment_name", Usual: true, Example: `"ACRAS_Risk_Assessment"`, Wanted: "a name",
					Meaning: "the MLflow experiment of the evaluation stage; the registration logs its run there too",
				},
				{
					Name: "registered_model_name", Wanted: "a name",
					Meaning: "where it is `model_registration.model_name` too, a warning: the evaluation stage registers versions that passed no gate under that name",
				},
			},
		},
	},
}

var paramsSchema = Schema{
	Path:  ParamsPath,
	About: "What and how good: addresses and thresholds. Sections of other stages may stand beside these; they are ignored here.",
	Sections: []Section{
		{
			Name: "registration_params", strict: true,
			Keys: []Key{
				{
					Name: "min_roc_auc", kind: number, Usual: true, Default: "0.60", Wanted: "a number between 0 and 1",
					Meaning: "a model passes the gate with this ROC-AUC or more",
				},
				{
					Name: "probe_interval", kind: duration, Default: "10s", Wanted: "a duration from 1s to 1h",
					Meaning: "how often an MLflow server that is down is looked at",
				},
				{
					Name: "max_wait", kind: duration, Example: "72h", Wanted: "a duration of at least 1s", Otherwise: "as long as it takes",
					Meaning: "how long one outage may last before the registration fails; a version that exists already is completed however long that takes",
				},
			},
		},
		{
			Name: "mlflow",
			Keys: []Key{
				{
					Name: "uri", Usual: true, Default: defaultURI, Wanted: "an http or https address without user info",
					Meaning: "where MLflow is, unless a variable says otherwise. Secrets do not belong here: set MLflow's own variables for the worker",
				},
			},
		},
	},
}

// key finds a key of the section by its name.
func (s Section) key(name string) (Key, bool) {
	at := slices.IndexFunc(s.Keys, func(k Key) bool { return k.Name == name })
	if at < 0 {
		return Key{}, false
	}
	return s.Keys[at], true
}

// remedy says what would be right.
func (k Key) remedy() string {
	wanted := strings.ReplaceAll(k.Wanted, "`", `"`)
	if example := k.example(); !strings.Contains(wanted, strings.Trim(example, `"`)) && k.kind != textList && k.kind != versionMap {
		wanted += ", such as " + example
	}
	remedy := "give " + wanted
	if !k.Required && k.Default == "" {
		remedy += ", or remove the line"
	}
	return remedy
}

// example is a value that is right: the default where there is one and no better example.
func (k Key) example() string {
	if k.Example == "" {
		return k.Default
	}
	return k.Example
}

// defaultValue is the default as the YAML file would give it; nil where there is none.
func (k Key) defaultValue() (value any) {
	_ = yaml.Unmarshal([]byte(k.Default), &value) // the test sees that each is YAML, and right
	return value
}

// Template is a new file with every key and what it is for: what may be left out is commented out, unless the pipeline has it.
func (s Schema) Template() string {
	var b strings.Builder
	comment(&b, "", s.About)
	for _, section := range s.Sections {
		fmt.Fprintf(&b, "\n%s:\n", section.Name)
		first := true
		for _, k := range section.Keys {
			if !section.strict && !k.Usual {
				continue // of another stage, which has it in its own documentation
			}
			if !first {
				b.WriteString("\n")
			}
			first = false
			k.write(&b)
		}
	}
	return b.String()
}

func (k Key) write(b *strings.Builder) {
	short, _, _ := strings.Cut(k.Wanted, ",")
	meaning := k.Meaning + " (" + short
	if k.Otherwise != "" {
		meaning += "; without it: " + k.Otherwise
	}
	if k.Default != "" {
		meaning += "; default: " + k.Default
	}
	meaning = strings.ReplaceAll(meaning, "`", "") + ")"
	comment(b, "  ", strings.ToUpper(meaning[:1])+meaning[1:]+".")
	mark := "  "
	if !k.Required && !k.Usual {
		mark = "  # "
	}
	value := k.Default
	if k.Required || value == "" {
		value = k.Example
	}
	if k.kind != textList && k.kind != versionMap {
		fmt.Fprintf(b, "%s%s: %s\n", mark, k.Name, value)
		return
	}
	fmt.Fprintf(b, "%s%s:\n", mark, k.Name)
	for line := range strings.SplitSeq(value, "\n") {
		fmt.Fprintf(b, "%s  %s\n", mark, line)
	}
}

// commentWidth is how long the lines of comments are.
const commentWidth = 110

// comment writes a text as lines of a comment.
func comment(b *strings.Builder, indent, text string) {
	line := indent + "#"
	for word := range strings.FieldsSeq(text) {
		if len(line)+1+len(word) > commentWidth {
			b.WriteString(line + "\n")
			line = indent + "#"
		}
		line += " " + word
	}
	b.WriteString(line + "\n")
}
