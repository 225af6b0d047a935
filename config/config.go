// Package config reads what one registration is asked to do, and says where MLflow is.
//
// It knows the two YAML files of the pipeline and the environment variables of MLflow, their defaults and
// their rules, and explains each mistake by file, line, key, value and remedy. It knows nothing of the
// file system and of the process: files come in as bytes, variables as maps. It never opens a connection,
// and what it returns in Settings is free of secrets.
package config

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/go-viper/mapstructure/v2"
	"github.com/spf13/viper"
)

// File is a file that someone else has read.
type File struct {
	// Name is the path as the user wrote it; it stands in errors only.
	Name string
	Data []byte
}

// MaxFileBytes is how large a settings file may be; the pipeline's are of some kilobytes.
const MaxFileBytes = 1 << 20

// Settings is what one registration is asked to do. It travels in Temporal payloads, so it holds no
// secret. Paths are as the file has them: absolute, or relative to the project root.
type Settings struct {
	// RootDir is the folder for registrations, decisions and receipts.
	RootDir        string `json:"root_dir"`
	ModelPath      string `json:"model_path"`
	MetricFileName string `json:"metric_file_name"`
	// ModelName is the name of the registered model; MLflow accepts it as it is.
	ModelName      string `json:"model_name"`
	ExperimentName string `json:"experiment_name"`
	// ExtraFiles are what the consumer needs beside the model; their base names are distinct.
	ExtraFiles []string `json:"extra_files,omitempty"`
	// PredictFn is "predict" or "predict_proba".
	PredictFn string `json:"predict_fn"`
	// Layout is "wrapper" or "hybrid": how a joblib file is packed.
	Layout string `json:"layout,omitempty"`
	// Signature is "outputs" or "columns": whether MLmodel says only what a prediction is, or also which columns it takes.
	Signature string `json:"signature,omitempty"`
	// EnvironmentFile is a requirements.txt, uv.lock or poetry.lock that tells versions which the model file does not; "" for none. It is the
	// last of ExtraFiles, and so frozen with them.
	EnvironmentFile string `json:"environment_file,omitempty"`
	// Environment pins versions, by package name as PEP 503 normalizes it, and "python". It may be nil.
	Environment map[string]string `json:"environment,omitempty"`
	// PicklePolicy is "strict", "deny" or "off": which names a model file may import.
	PicklePolicy string `json:"pickle_policy,omitempty"`
	// AllowedGlobals are names that it may import whatever the policy.
	AllowedGlobals []string `json:"allowed_globals,omitempty"`
	// MinROCAUC is from 0 to 1; a model with exactly this ROC-AUC passes.
	MinROCAUC float64 `json:"min_roc_auc"`
	// ProbeInterval is from 1s to 1h.
	ProbeInterval time.Duration `json:"probe_interval"`
	// MaxWait is how long one outage may last before the registration fails; zero: as long as it takes.
	MaxWait time.Duration `json:"max_wait,omitempty"`
	// MLflowURI is mlflow.uri of the params file as written, without checks but for secrets; "" where absent.
	MLflowURI string `json:"mlflow_uri,omitempty"`
	// Warnings are sentences for the user; none of them stops a registration.
	Warnings []string `json:"warnings,omitempty"`
}

// Error is a mistake in a file or a variable that only its author can mend. It is final: the same input
// gives the same error. Fields that do not apply are zero.
type Error struct {
	File string
	// Line counts from 1.
	Line int
	// Key is the dotted path of the key, or the name of the variable.
	Key string
	// Value is the value as the user wrote it, cut to a bearable length, without user info of a URL.
	Value   string
	Problem string
	// Remedy says what would be right.
	Remedy string
}

// Error says it all in one line, such as `config/params.yaml:12: registration_params.min_roc_auc: "abc"
// is not a number: give a number between 0 and 1, such as 0.60`.
func (e *Error) Error() string {
	var parts []string
	switch {
	case e.File != "" && e.Line > 0:
		parts = append(parts, fmt.Sprintf("%s:%d", e.File, e.Line))
	case e.File != "":
		parts = append(parts, e.File)
	}
	if e.Key != "" {
		parts = append(parts, strings.Trim(quoted(e.Key), `"`)) // a key of YAML may hold a line break
	}
	parts = append(parts, strings.TrimSpace(e.Value+" "+e.Problem))
	if e.Remedy != "" {
		parts = append(parts, e.Remedy)
	}
	return strings.Join(parts, ": ")
}

// configuration is the shape of both files together, of which viper fills in what was not set.
type configuration struct {
	ModelEvaluation struct {
		ExperimentName      string `mapstructure:"experiment_name"`
		RegisteredModelName string `mapstructure:"registered_model_name"`
	} `mapstructure:"model_evaluation"`
	ModelRegistration struct {
		RootDir         string            `mapstructure:"root_dir"`
		ModelPath       string            `mapstructure:"model_path"`
		MetricFileName  string            `mapstructure:"metric_file_name"`
		ModelName       string            `mapstructure:"model_name"`
		ExperimentName  string            `mapstructure:"experiment_name"`
		ExtraFiles      []string          `mapstructure:"extra_files"`
		PredictFn       string            `mapstructure:"predict_fn"`
		Layout          string            `mapstructure:"layout"`
		Signature       string            `mapstructure:"signature"`
		Environment     map[string]string `mapstructure:"environment"`
		EnvironmentFile string            `mapstructure:"environment_file"`
		PicklePolicy    string            `mapstructure:"pickle_policy"`
		AllowedGlobals  []string          `mapstructure:"allowed_globals"`
	} `mapstructure:"model_registration"`
	MLflow struct {
		URI string `mapstructure:"uri"`
	} `mapstructure:"mlflow"`
	RegistrationParams struct {
		MinROCAUC     float64       `mapstructure:"min_roc_auc"`
		ProbeInterval time.Duration `mapstructure:"probe_interval"`
		MaxWait       time.Duration `mapstructure:"max_wait"`
	} `mapstructure:"registration_params"`
}

// Parse reads config.yaml and params.yaml. Sections of other stages are ignored, whatever is in them. An
// error is an *Error.
func Parse(config, params File) (Settings, error) {
	configDocument, err := readDocument(config, configSchema, paramsSchema, params.Name)
	if err != nil {
		return Settings{}, err
	}
	paramsDocument, err := readDocument(params, paramsSchema, configSchema, config.Name)
	if err != nil {
		return Settings{}, err
	}
	decoded, err := decode(configDocument, paramsDocument)
	if err != nil {
		return Settings{}, err
	}
	registration := decoded.ModelRegistration
	settings := Settings{
		RootDir:         registration.RootDir,
		ModelPath:       registration.ModelPath,
		MetricFileName:  registration.MetricFileName,
		ModelName:       registration.ModelName,
		ExperimentName:  firstOf(registration.ExperimentName, decoded.ModelEvaluation.ExperimentName, defaultExperiment),
		ExtraFiles:      registration.ExtraFiles,
		PredictFn:       registration.PredictFn,
		Layout:          registration.Layout,
		Signature:       registration.Signature,
		Environment:     registration.Environment,
		EnvironmentFile: registration.EnvironmentFile,
		PicklePolicy:    registration.PicklePolicy,
		AllowedGlobals:  registration.AllowedGlobals,
		MinROCAUC:       decoded.RegistrationParams.MinROCAUC,
		ProbeInterval:   decoded.RegistrationParams.ProbeInterval,
		MaxWait:         decoded.RegistrationParams.MaxWait,
		MLflowURI:       decoded.MLflow.URI,
	}
	if settings.EnvironmentFile != "" && !slices.Contains(settings.ExtraFiles, settings.EnvironmentFile) {
		settings.ExtraFiles = append(slices.Clone(settings.ExtraFiles), settings.EnvironmentFile)
	}
	if err := checkConfig(configDocument, settings); err != nil {
		return Settings{}, err
	}
	if err := checkParams(paramsDocument, settings); err != nil {
		return Settings{}, err
	}
	if decoded.ModelEvaluation.RegisteredModelName == settings.ModelName {
		settings.Warnings = append(settings.Warnings, fmt.Sprintf(
			"%s: model_evaluation.registered_model_name is %q too: the evaluation stage registers versions that passed no gate under the same name; give it another name or remove it",
			configDocument.place("model_evaluation.registered_model_name"), settings.ModelName))
	}
	return settings, nil
}

// decode lays the values of both documents over the defaults.
func decode(documents ...document) (configuration, error) {
	// A dot is no delimiter for viper here, since names of packages may hold one.
	const delimiter = "\x00"
	v := viper.NewWithOptions(viper.KeyDelimiter(delimiter))
	for _, schema := range Schemas() {
		for _, section := range schema.Sections {
			for _, key := range section.Keys {
				if value := key.defaultValue(); value != nil && section.strict {
					v.SetDefault(section.Name+delimiter+key.Name, value)
				}
			}
		}
	}
	for _, d := range documents {
		if err := v.MergeConfigMap(d.values); err != nil {
			return configuration{}, &Error{File: d.file, Problem: err.Error()}
		}
	}
	var decoded configuration
	err := v.UnmarshalExact(&decoded, func(c *mapstructure.DecoderConfig) {
		c.WeaklyTypedInput = false // viper's default turns 7 into "7" and true into "1"
		c.DecodeHook = mapstructure.StringToTimeDurationHookFunc()
	})
	if err != nil {
		return configuration{}, &Error{File: documents[0].file, Problem: err.Error()}
	}
	return decoded, nil
}

// checkConfig judges the values that config.yaml set.
func checkConfig(d document, s Settings) error {
	const section = "model_registration."
	paths := []struct{ key, path string }{
		{"root_dir", s.RootDir}, {"model_path", s.ModelPath}, {"metric_file_name", s.MetricFileName},
	}
	for _, p := range paths {
		if problem := pathProblem(p.path); problem != "" {
			return d.refuse(section+p.key, problem)
		}
	}
	if problem := modelNameProblem(s.ModelName); problem != "" {
		return d.refuse(section+"model_name", problem)
	}
	for _, key := range []string{section + "experiment_name", "model_evaluation.experiment_name"} {
		if name, set := d.text(key); set && (strings.TrimSpace(name) == "" || hasControl(name)) {
			return d.refuse(key, "is no name of an experiment")
		}
	}
	if s.Layout != "wrapper" && s.Layout != "hybrid" {
		return d.refuse(section+"layout", "is no layout")
	}
	if s.Signature != "outputs" && s.Signature != "columns" {
		return d.refuse(section+"signature", "is no kind of signature")
	}
	if _, set := d.text(section + "environment_file"); set && !isEnvironmentFile(s.EnvironmentFile) {
		return d.refuse(section+"environment_file", "is no file that versions are read from")
	}
	if i, problem := extraFilesProblem(s.ExtraFiles); problem != "" {
		return d.fail(fmt.Sprintf("%sextra_files[%d]", section, i), problem, "give paths of files, each with a name of its own")
	}
	if s.PredictFn != "predict" && s.PredictFn != "predict_proba" {
		return d.refuse(section+"predict_fn", "is no method that can be served")
	}
	if !slices.Contains(picklePolicies, s.PicklePolicy) {
		return d.refuse(section+"pickle_policy", "is no policy")
	}
	for i, name := range s.AllowedGlobals {
		if !globalPattern.MatchString(name) {
			return d.fail(fmt.Sprintf("%sallowed_globals[%d]", section, i), "is no name of Python's", "give names as starter inspect prints them, such as my_package.transform.Clip")
		}
	}
	return nil
}

// checkParams judges the values that params.yaml set.
func checkParams(d document, s Settings) error {
	const section = "registration_params."
	if math.IsNaN(s.MinROCAUC) || s.MinROCAUC < 0 || s.MinROCAUC > 1 {
		return d.refuse(section+"min_roc_auc", "is out of range")
	}
	if s.ProbeInterval < time.Second || s.ProbeInterval > time.Hour {
		return d.refuse(section+"probe_interval", "is out of range")
	}
	if _, set := d.text(section + "max_wait"); set && s.MaxWait < time.Second {
		return d.refuse(section+"max_wait", "is out of range")
	}
	if problem := secretProblem(s.MLflowURI); problem != "" {
		failure := d.fail("mlflow.uri", problem, "keep secrets out of files: set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, for the worker")
		failure.Value = quoted(redactURI(s.MLflowURI))
		return failure
	}
	return nil
}

func firstOf(values ...string) string {
	for _, value := range values {
		if value != "" {
			return value
		}
	}
	return ""
}

// Difference names the first setting in which two registrations differ, with both values; empty where there is none. Warnings do not count.
func (s Settings) Difference(other Settings) string {
	mine, theirs := reflect.ValueOf(s), reflect.ValueOf(other)
	for i := range mine.NumField() {
		field := mine.Type().Field(i)
		if field.Name == "Warnings" || reflect.DeepEqual(mine.Field(i).Interface(), theirs.Field(i).Interface()) {
			continue
		}
		return fmt.Sprintf("%s is %v there and %v here", strings.Split(field.Tag.Get("json"), ",")[0], mine.Field(i), theirs.Field(i))
	}
	return ""
}
