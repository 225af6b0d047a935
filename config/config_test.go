package config_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"registrar/config"
)

const goodParams = "mlflow:\n  uri: http://127.0.0.1:5000\n"

// goodConfig has all that is required; more goes below model_registration.
func goodConfig(more ...string) string {
	text := "model_registration:\n  root_dir: out\n  model_path: model.joblib\n  metric_file_name: metrics.json\n  model_name: credit\n"
	for _, line := range more {
		text += "  " + line + "\n"
	}
	return text
}

func parse(configText, paramsText string) (config.Settings, error) {
	return config.Parse(
		config.File{Name: "config/config.yaml", Data: []byte(configText)},
		config.File{Name: "config/params.yaml", Data: []byte(paramsText)},
	)
}

func readFile(t *testing.T, path string) config.File {
	t.Helper()
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	return config.File{Name: path, Data: data}
}

// ofPipeline is what the files of the pipeline ask for.
var ofPipeline = config.Settings{
	RootDir:        "artifacts/model_registration",
	ModelPath:      "artifacts/model_trainer/acras_rf_model.joblib",
	MetricFileName: "artifacts/model_evaluation/metrics.json",
	ModelName:      "ACRAS_RandomForest_v1",
	ExperimentName: "ACRAS_Risk_Assessment",
	PredictFn:      "predict",
	Layout:         "wrapper",
	Signature:      "outputs",
	PicklePolicy:   "strict",
	MinROCAUC:      0.60,
	ProbeInterval:  10 * time.Second,
	MLflowURI:      "http://127.0.0.1:5000",
}

func TestParse_ReadsFilesOfPipelineUnchanged(t *testing.T) {
	settings, err := config.Parse(
		readFile(t, filepath.Join("testdata", "pipeline_config.yaml")),
		readFile(t, filepath.Join("testdata", "pipeline_params.yaml")),
	)
	require.NoError(t, err)
	require.Equal(t, ofPipeline, settings)
}

func TestParse_ReadsFilesOfThisProject(t *testing.T) {
	settings, err := config.Parse(readFile(t, "config.yaml"), readFile(t, "params.yaml"))
	require.NoError(t, err)
	require.Equal(t, ofPipeline, settings)
}

func TestParse_FillsInDefaults(t *testing.T) {
	settings, err := parse(goodConfig(), "registration_params:\n")
	require.NoError(t, err)
	require.Equal(t, config.Settings{
		RootDir: "out", ModelPath: "model.joblib", MetricFileName: "metrics.json", ModelName: "credit",
		ExperimentName: "Default", PredictFn: "predict", Layout: "wrapper", Signature: "outputs", PicklePolicy: "strict", MinROCAUC: 0.60, ProbeInterval: 10 * time.Second,
	}, settings)
}

func TestParse_TakesEverySetting(t *testing.T) {
	settings, err := parse(`
defaults: &defaults {predict_fn: predict, root_dir: other}
name: &name credit
model_evaluation: {experiment_name: Evaluation}
model_registration:
  <<: *defaults
  root_dir: /data/out
  model_path: ../model.joblib
  metric_file_name: metrics.json
  model_name: *name
  experiment_name: Own
  extra_files: [a/preprocessor.pkl, b/columns.json]
  predict_fn: predict_proba
  layout: hybrid
  signature: columns
  environment_file: locks/uv.lock
  pickle_policy: off
  allowed_globals: [own.transform.Clip, "own:Outer.Inner"]
  environment: {python: "3.11.7", Scikit-Learn: "1.9.1", ruamel.yaml_clib: "0.2.12", torch: 2.3.0+cu121}
`, `
mlflow: {uri: sqlite:///mlflow.db}
registration_params: {min_roc_auc: 1, probe_interval: 1m30s}
`)
	require.NoError(t, err)
	require.Equal(t, config.Settings{
		RootDir: "/data/out", ModelPath: "../model.joblib", MetricFileName: "metrics.json", ModelName: "credit",
		ExperimentName: "Own", ExtraFiles: []string{"a/preprocessor.pkl", "b/columns.json", "locks/uv.lock"}, PredictFn: "predict_proba",
		Layout: "hybrid", Signature: "columns", EnvironmentFile: "locks/uv.lock",
		PicklePolicy: "off", AllowedGlobals: []string{"own.transform.Clip", "own:Outer.Inner"},
		Environment: map[string]string{"python": "3.11.7", "scikit-learn": "1.9.1", "ruamel-yaml-clib": "0.2.12", "torch": "2.3.0+cu121"},
		MinROCAUC:   1, ProbeInterval: 90 * time.Second, MLflowURI: "sqlite:///mlflow.db",
	}, settings)

	data, err := json.Marshal(settings)
	require.NoError(t, err)
	var travelled config.Settings
	require.NoError(t, json.Unmarshal(data, &travelled))
	require.Equal(t, settings, travelled)
}

func TestParse_WarnsOfUngatedVersionsUnderTheSameName(t *testing.T) {
	settings, err := parse("model_evaluation:\n  registered_model_name: credit\n"+goodConfig(), goodParams)
	require.NoError(t, err)
	require.Len(t, settings.Warnings, 1)
	require.Contains(t, settings.Warnings[0], `config/config.yaml:2: model_evaluation.registered_model_name is "credit" too`)

	settings, err = parse("model_evaluation:\n  registered_model_name: other\n"+goodConfig(), goodParams)
	require.NoError(t, err)
	require.Empty(t, settings.Warnings)
}

func TestParse_ExplainsMistakesInConfig(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"empty", "", "config/config.yaml: is empty: give the YAML file of the pipeline"},
		{"only comments", "# nothing\n---\n", "config/config.yaml: is empty: give the YAML file of the pipeline"},
		{"list", "- a\n", "config/config.yaml:1: is not a YAML mapping: give sections with keys and values"},
		{"text", "model_registration\n", "config/config.yaml:1: is not a YAML mapping: give sections with keys and values"},
		{"two documents", goodConfig() + "---\na: 1\n", "config/config.yaml:6: begins a second YAML document: keep one document in the file"},
		{"tab", "model_registration:\n\troot_dir: out\n", "config/config.yaml:2: is not YAML (found character that cannot start any token): indent with spaces, not with tabs"},
		{"not YAML", "model_registration:\n  root_dir: [a\n", "config/config.yaml:1: is not YAML (did not find expected ',' or ']'): check the indentation, colons and quotes from there on"},
		{"unknown anchor", "a: *b\n", "config/config.yaml: is not YAML (unknown anchor 'b' referenced): check the indentation, colons and quotes from there on"},
		{"section missing", "model_trainer: {}\n", "config/config.yaml: model_registration.root_dir: is missing: add root_dir below model_registration"},
		{"section empty", "model_registration:\n", "config/config.yaml:1: model_registration.root_dir: is missing: add root_dir below model_registration"},
		{"section misspelled", "model_registraton:\n  root_dir: out\n", "config/config.yaml:1: model_registraton: is no known section: write model_registration"},
		{"section in capitals", "Model_Registration:\n  root_dir: out\n", "config/config.yaml:1: Model_Registration: is no known section: write model_registration"},
		{"section a list", "model_registration: [a]\n", "config/config.yaml:1: model_registration: a list is not a mapping: give keys and values below it"},
		{"section twice", goodConfig() + goodConfig(), "config/config.yaml:6: model_registration: is there twice, first in line 1: keep one"},
		{"section of the other file", goodConfig() + "registration_params: {min_roc_auc: 0.9}\n", "config/config.yaml:6: registration_params: is in the wrong file: move it to config/params.yaml"},
		{"key missing", "model_registration: {root_dir: out, model_path: m, metric_file_name: n}\n", "config/config.yaml:1: model_registration.model_name: is missing: add model_name below model_registration"},
		{"key unknown", goodConfig("model_nam: x"), "config/config.yaml:6: model_registration.model_nam: is no known key: the nearest known one is model_name"},
		{"key of two lines", goodConfig(`"model\nname": x`), `config/config.yaml:6: model_registration.model\nname: is no known key: the nearest known one is model_name`},
		{"key in capitals", goodConfig("Extra_Files: []"), "config/config.yaml:6: model_registration.Extra_Files: is no known key: the nearest known one is extra_files"},
		{"key by merge", "base: &base\n  modelpath: x\nmodel_registration:\n  <<: *base\n", "config/config.yaml:2: model_registration.modelpath: is no known key: the nearest known one is model_path"},
		{"key a list", goodConfig("? [model_name]\n  : x"), "config/config.yaml:6: model_registration.: is no known key: the nearest known one is layout"},
		{"key twice", goodConfig("root_dir: other"), "config/config.yaml:6: model_registration.root_dir: is there twice, first in line 2: keep one"},
		{"merge of a string", goodConfig("<<: base"), `config/config.yaml:6: model_registration.<<: "base" is not a mapping: merge a mapping, such as *defaults`},
		{"number for a string", goodConfig("experiment_name: 7"), `config/config.yaml:6: model_registration.experiment_name: 7 is not a string: put it in quotes: "7"`},
		{"boolean for a string", goodConfig("experiment_name: true"), `config/config.yaml:6: model_registration.experiment_name: true is not a string: put it in quotes: "true"`},
		{"date for a string", goodConfig("experiment_name: 2026-11-24"), `config/config.yaml:6: model_registration.experiment_name: 2026-11-24 is not a string: put it in quotes: "2026-11-24"`},
		{"nothing for a string", goodConfig("experiment_name:"), "config/config.yaml:6: model_registration.experiment_name: nothing is not a string: give a string"},
		{"mapping for a string", goodConfig("experiment_name: {a: b}"), "config/config.yaml:6: model_registration.experiment_name: a mapping is not a string: give a string"},
		{"blank experiment", goodConfig(`experiment_name: " "`), `config/config.yaml:6: model_registration.experiment_name: " " is no name of an experiment: give a name, such as "ACRAS_Risk_Assessment", or remove the line`},
		{"number in evaluation", "model_evaluation: {experiment_name: 7}\n" + goodConfig(), `config/config.yaml:1: model_evaluation.experiment_name: 7 is not a string: put it in quotes: "7"`},
		{"predict_fn", goodConfig("predict_fn: transform"), `config/config.yaml:6: model_registration.predict_fn: "transform" is no method that can be served: give "predict" or "predict_proba"`},
		{"layout", goodConfig("layout: zip"), `config/config.yaml:6: model_registration.layout: "zip" is no layout: give "wrapper" or "hybrid"`},
		{"signature", goodConfig("signature: full"), `config/config.yaml:6: model_registration.signature: "full" is no kind of signature: give "outputs" or "columns"`},
		{"environment_file", goodConfig("environment_file: pyproject.toml"), `config/config.yaml:6: model_registration.environment_file: "pyproject.toml" is no file that versions are read from: give the path of a requirements.txt or uv.lock or poetry.lock, or remove the line`},
		{"environment_file empty", goodConfig(`environment_file: ""`), `config/config.yaml:6: model_registration.environment_file: "" is no file that versions are read from: give the path of a requirements.txt or uv.lock or poetry.lock, or remove the line`},
		{"extra_files a string", goodConfig("extra_files: a.pkl"), `config/config.yaml:6: model_registration.extra_files: "a.pkl" is not a list: give a list such as [artifacts/data_transformation/preprocessor.pkl], or [] for none`},
		{"extra_files of numbers", goodConfig("extra_files: [a.pkl, 7]"), `config/config.yaml:6: model_registration.extra_files[1]: 7 is not a string: put it in quotes: "7"`},
		{"extra_files of one name", goodConfig("extra_files: [a/p.pkl, b/p.pkl]"), `config/config.yaml:6: model_registration.extra_files[1]: "b/p.pkl" has the same name as another extra file: give paths of files, each with a name of its own`},
		{"extra_files of a folder", goodConfig("extra_files: [a/]"), `config/config.yaml:6: model_registration.extra_files[0]: "a/" is a folder: give paths of files, each with a name of its own`},
		{"extra_files of nothing", goodConfig(`extra_files: [""]`), `config/config.yaml:6: model_registration.extra_files[0]: "" is no path: give paths of files, each with a name of its own`},
		{"environment a list", goodConfig("environment: [numpy]"), `config/config.yaml:6: model_registration.environment: a list is not a mapping: give packages and versions, such as scikit-learn: "1.9.1"`},
		{"version a float", goodConfig("environment: {python: 3.10}"), `config/config.yaml:6: model_registration.environment.python: 3.10 is not a string, and YAML would read 3.10 as 3.1: put it in quotes: "3.10"`},
		{"version with operator", goodConfig(`environment: {numpy: ">=2"}`), `config/config.yaml:6: model_registration.environment.numpy: ">=2" is not a version: give one such as "1.9.1", without an operator`},
		{"version of two lines", goodConfig(`environment: {numpy: "2.0\nevil"}`), `config/config.yaml:6: model_registration.environment.numpy: "2.0\nevil" is not a version: give one such as "1.9.1", without an operator`},
		{"package with blank", goodConfig(`environment: {"a b": "1"}`), "config/config.yaml:6: model_registration.environment.a b: is no name of a package: give a name such as scikit-learn, or python"},
		{"package twice", goodConfig(`environment: {scikit_learn: "1", Scikit-Learn: "2"}`), "config/config.yaml:6: model_registration.environment.Scikit-Learn: is the package scikit-learn, which is there already: keep one"},
		{"package twice, same spelling", goodConfig(`environment: {numpy: "1", numpy: "2"}`), "config/config.yaml:6: model_registration.environment.numpy: is there twice, first in line 6: keep one"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := parse(c.text, goodParams)
			var failure *config.Error
			require.ErrorAs(t, err, &failure)
			require.EqualError(t, err, c.want)
		})
	}
}

func TestParse_ExplainsMistakesInParams(t *testing.T) {
	const number, duration = "give a number between 0 and 1, such as 0.60", "give a duration from 1s to 1h, such as 10s"
	const secret = "keep secrets out of files: set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, for the worker"
	for _, c := range []struct{ name, text, want string }{
		{"empty", "", "config/params.yaml: is empty: give the YAML file of the pipeline"},
		{"section misspelled", "registration_param: {min_roc_auc: 0.9}", "config/params.yaml:1: registration_param: is no known section: write registration_params"},
		{"section of the other file", "model_registration: {}", "config/params.yaml:1: model_registration: is in the wrong file: move it to config/config.yaml"},
		{"mlflow in capitals", "MLflow: {uri: x}", "config/params.yaml:1: MLflow: is no known section: write mlflow"},
		{"key unknown", "registration_params: {min_rocauc: 0.9}", "config/params.yaml:1: registration_params.min_rocauc: is no known key: the nearest known one is min_roc_auc"},
		{"word", "registration_params: {min_roc_auc: abc}", `config/params.yaml:1: registration_params.min_roc_auc: "abc" is not a number: ` + number},
		{"number in quotes", `registration_params: {min_roc_auc: "0.6"}`, `config/params.yaml:1: registration_params.min_roc_auc: "0.6" is not a number: ` + number},
		{"boolean", "registration_params: {min_roc_auc: true}", "config/params.yaml:1: registration_params.min_roc_auc: true is not a number: " + number},
		{"nothing", "registration_params: {min_roc_auc: }", "config/params.yaml:1: registration_params.min_roc_auc: nothing is not a number: " + number},
		{"forced float", "registration_params: {min_roc_auc: !!float abc}", "config/params.yaml:1: registration_params.min_roc_auc: abc is not a number: " + number},
		{"NaN", "registration_params: {min_roc_auc: .nan}", "config/params.yaml:1: registration_params.min_roc_auc: .nan is out of range: " + number},
		{"infinity", "registration_params: {min_roc_auc: -.inf}", "config/params.yaml:1: registration_params.min_roc_auc: -.inf is out of range: " + number},
		{"percent", "registration_params: {min_roc_auc: 60}", "config/params.yaml:1: registration_params.min_roc_auc: 60 is out of range: " + number},
		{"negative", "registration_params: {min_roc_auc: -0.1}", "config/params.yaml:1: registration_params.min_roc_auc: -0.1 is out of range: " + number},
		{"no unit", "registration_params: {probe_interval: 10}", "config/params.yaml:1: registration_params.probe_interval: 10 has no unit: write 10s for seconds"},
		{"no duration", "registration_params: {probe_interval: often}", `config/params.yaml:1: registration_params.probe_interval: "often" is not a duration: give a number with its unit, such as 10s or 1m`},
		{"too often", "registration_params: {probe_interval: 999ms}", `config/params.yaml:1: registration_params.probe_interval: "999ms" is out of range: ` + duration},
		{"no wait at all", "registration_params: {max_wait: 0s}", `config/params.yaml:1: registration_params.max_wait: "0s" is out of range: give a duration of at least 1s, such as 72h, or remove the line`},
		{"too seldom", "registration_params: {probe_interval: 61m}", `config/params.yaml:1: registration_params.probe_interval: "61m" is out of range: ` + duration},
		{"uri a number", "mlflow: {uri: 5000}", `config/params.yaml:1: mlflow.uri: 5000 is not a string: put it in quotes: "5000"`},
		{"uri with password", "mlflow: {uri: 'https://me:s3cret@host/x'}", `config/params.yaml:1: mlflow.uri: "https://***@host/x" has user info: ` + secret},
		{"uri with odd password", "mlflow: {uri: 'https://me:s3/c?ret@host/x'}", `config/params.yaml:1: mlflow.uri: "https://***@host/x" has user info: ` + secret},
		{"database with password", "mlflow: {uri: 'postgresql://me:s3cret@db/x'}", `config/params.yaml:1: mlflow.uri: "postgresql://***@db/x" has user info: ` + secret},
		{"uri with password and no scheme", "mlflow: {uri: 'me:s3cret@mlflow:5000'}", `config/params.yaml:1: mlflow.uri: "***@mlflow:5000" has user info: ` + secret},
		{"uri with user and no scheme", "mlflow: {uri: 's3cret@mlflow'}", `config/params.yaml:1: mlflow.uri: "***@mlflow" has user info: ` + secret},
		{"uri with password before its scheme", "mlflow: {uri: 'me:s3cret@http://mlflow'}", `config/params.yaml:1: mlflow.uri: "***@http://mlflow" has user info: ` + secret},
		{"uri with password and one slash", "mlflow: {uri: 'http:/me:s3cret@mlflow'}", `config/params.yaml:1: mlflow.uri: "***@mlflow" has user info: ` + secret},
		{"uri with token and no valid host", "mlflow: {uri: 'http://a b/?token=s3cret'}", `config/params.yaml:1: mlflow.uri: "http://a b/?***" has a query: ` + secret},
		{"uri with token", "mlflow: {uri: 'https://host/?token=s3cret'}", `config/params.yaml:1: mlflow.uri: "https://host/?***" has a query: ` + secret},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := parse(goodConfig(), c.text)
			var failure *config.Error
			require.ErrorAs(t, err, &failure)
			require.EqualError(t, err, c.want)
		})
	}
}

func TestParse_RefusesNamesThatMLflowRefusesOrCannotFind(t *testing.T) {
	for _, name := range []string{"", " ", " credit", "a/b", "a:b", "it's", `a\\b`, `say \"a\"`, "a`b", "a\\nb", "a\\u0000", ".", "..", "..a", strings.Repeat("x", 256), strings.Repeat("x", 257)} {
		_, err := parse("model_registration: {root_dir: o, model_path: m, metric_file_name: n, model_name: \""+name+"\"}", goodParams)
		require.ErrorContains(t, err, "config/config.yaml:1: model_registration.model_name: ", name)
		require.ErrorContains(t, err, `: give a name, such as "ACRAS_RandomForest_v1"`, name)
	}
	for _, name := range []string{"credit", "Crédit Risk (v1)", ".hidden", strings.Repeat("é", 255)} {
		_, err := parse("model_registration: {root_dir: o, model_path: m, metric_file_name: n, model_name: \""+name+"\"}", goodParams)
		require.NoError(t, err, name)
	}
}

func TestParse_RefusesPathsThatAreNone(t *testing.T) {
	for _, key := range []string{"root_dir", "model_path", "metric_file_name"} {
		for _, path := range []string{"", " "} {
			values := map[string]string{"root_dir": "o", "model_path": "m", "metric_file_name": "n", key: path}
			_, err := parse(fmt.Sprintf("model_registration: {root_dir: %q, model_path: %q, metric_file_name: %q, model_name: credit}",
				values["root_dir"], values["model_path"], values["metric_file_name"]), goodParams)
			require.ErrorContains(t, err, fmt.Sprintf("config/config.yaml:1: model_registration.%s: %q is no path: give a path, absolute or relative to the project root, such as artifacts/model_", key, path))
		}
	}
	_, err := parse(`model_registration: {root_dir: "a\0b", model_path: m, metric_file_name: n, model_name: credit}`, goodParams)
	require.EqualError(t, err, `config/config.yaml:1: model_registration.root_dir: "a\x00b" has a NUL character: give a path, absolute or relative to the project root, such as artifacts/model_registration`)
}

func TestParse_SurvivesAliasBombs(t *testing.T) {
	var bomb strings.Builder
	bomb.WriteString("a0: &a0 {root_dir: x}\n")
	for i := 1; i <= 40; i++ {
		fmt.Fprintf(&bomb, "a%d: &a%d {<<: [*a%d, *a%d]}\n", i, i, i-1, i-1)
	}
	_, err := parse(bomb.String()+"model_registration: {<<: *a40}\n", goodParams)
	require.ErrorContains(t, err, "has too many keys or merges: write the values out")

	_, err = parse("model_registration: &a\n  <<: *a\n", goodParams)
	require.ErrorContains(t, err, "has too many keys or merges: write the values out")

	_, err = parse(goodConfig()+"big: \""+strings.Repeat("x", 1<<20)+"\"\n", goodParams)
	require.EqualError(t, err, "config/config.yaml: is larger than 1048576 bytes: give the YAML file of the pipeline")
}

// FuzzParse holds that no file crashes, and that what is wrong with it is an *Error of one line.
func FuzzParse(f *testing.F) {
	f.Add(goodConfig("extra_files: [a]", `environment: {numpy: "2"}`), goodParams)
	f.Add("a: &a {<<: *a}\n", "registration_params: {probe_interval: !!binary x}")
	f.Add("? {a: b}\n: &x [*x]\n", "%YAML 1.1\n---\nmlflow: {uri: 'http://a:b@c'}")
	f.Fuzz(func(t *testing.T, configText, paramsText string) {
		if _, err := parse(configText, paramsText); err != nil {
			var failure *config.Error
			require.ErrorAs(t, err, &failure)
			require.NotContains(t, err.Error(), "\n")
		}
	})
}

func TestParse_LeavesAFileWithAnAtToTheVariable(t *testing.T) {
	for _, uri := range []string{"sqlite:////home/me@work/mlflow.db", "./runs@work", "/srv/runs@work"} {
		_, err := parse(goodConfig(), "mlflow: {uri: '"+uri+"'}")
		require.NoError(t, err, uri)
	}
}
