package mlmodel

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"registrar/internal/modelfile"
)

const (
	condaPath        = "conda.yaml"
	pythonEnvPath    = "python_env.yaml"
	requirementsPath = "requirements.txt"

	sklearnPackage = "scikit-learn"
)

// basePackages are what the official client finds that loading a scikit-learn model imports.
var basePackages = []string{"numpy", "pandas", sklearnPackage, "scipy"}

// buildPackages make an environment, and are no requirements of the model. The order is the official client's.
var buildPackages = []string{"pip", "setuptools", "wheel"}

// providers are the packages that provide a module which models are seen to import. Other modules stay out: a module's
// name is not a package's name, and a stranger's package may have it.
var providers = map[string]string{
	"catboost":          "catboost",
	"category_encoders": "category-encoders",
	"cloudpickle":       "cloudpickle",
	"imblearn":          "imbalanced-learn",
	"joblib":            "joblib",
	"lightgbm":          "lightgbm",
	"statsmodels":       "statsmodels",
	"xgboost":           "xgboost",
}

// versions is the environment that a model asks for. An empty version is not known.
type versions struct {
	python   string
	build    map[string]string
	packages map[string]string
	// ranges bound versions that are not pinned, such as >=2.
	ranges map[string]string
	mlflow string
}

var (
	packageName   = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)
	versionShape  = regexp.MustCompile(`^[0-9][0-9A-Za-z.!+_-]*$`)
	pythonVersion = regexp.MustCompile(`^[0-9]+\.[0-9]+(\.[0-9]+)?$`)
	separators    = regexp.MustCompile(`[-_.]+`)
)

// resolve gathers the versions: scikit-learn's from the model file where it tells, the others from the environment that
// was given, then from the lock. A contradiction is an error: the setting is stale, or the model is not the one that was meant.
func resolve(spec Spec) (versions, error) {
	result := versions{build: map[string]string{}, packages: map[string]string{}, ranges: map[string]string{}, mlflow: spec.MLflowVersion}
	for _, needed := range append(slices.Clone(basePackages), needs(spec.Info)...) {
		result.packages[needed] = ""
	}
	for _, given := range slices.Sorted(maps.Keys(spec.Environment)) {
		if err := result.take(given, spec.Environment[given]); err != nil {
			return versions{}, err
		}
	}
	result.fill(spec)
	told := spec.Info.SklearnVersion
	for _, text := range []string{told, spec.MLflowVersion} {
		if text != "" && !versionShape.MatchString(text) {
			return versions{}, fmt.Errorf("%w: %q is no version", ErrSpec, text)
		}
	}
	given := result.packages[sklearnPackage]
	if told != "" && given != "" && told != given {
		return versions{}, fmt.Errorf("%w: environment or environment_file gives %s %s, but %s was saved with %s; leave it out or correct it",
			ErrSpec, sklearnPackage, given, spec.ModelFile.Name, told)
	}
	if told != "" {
		result.packages[sklearnPackage] = told
	}
	return result, result.narrow(spec.Info)
}

// fill takes from the lock what the environment leaves open, of the packages that the model needs.
func (v *versions) fill(spec Spec) {
	for name, known := range v.packages {
		if known == "" {
			v.packages[name] = spec.Locked[name]
		}
	}
	if given := spec.Environment["mlflow"]; given == "" && spec.Locked["mlflow"] != "" {
		v.mlflow = spec.Locked["mlflow"]
	}
}

// narrow bounds what stays open as far as something is known of it, and sees that nothing given contradicts that.
func (v *versions) narrow(info modelfile.Info) error {
	if numpy := v.packages["numpy"]; numpy != "" && info.NumpyVersion != "" && (major(numpy) >= 2) != (info.NumpyVersion == ">=2") {
		return fmt.Errorf("%w: environment or environment_file gives numpy %s, but the model file was saved with numpy %s; leave it out or correct it",
			ErrSpec, numpy, info.NumpyVersion)
	} else if numpy == "" && info.NumpyVersion != "" {
		v.ranges["numpy"] = info.NumpyVersion
	}
	if v.mlflow != "" && major(v.packages["pandas"]) >= 3 && isBefore(v.mlflow, pandas3Since) {
		v.ranges["mlflow"] = ">=" + v.mlflow
	}
	if v.mlflow != "" && info.Format == modelfile.FormatSkops && isBefore(v.mlflow, skopsSince) {
		v.ranges["mlflow"] = ">=" + skopsSince
	}
	return nil
}

// pandas3Since is the first version of MLflow that installs beside pandas 3. An older server's own version would be a requirement that
// no installer can meet: a later client, which reads what the server serves, is left to the installer.
const pandas3Since = "3.16"

func major(version string) int {
	number, _, _ := strings.Cut(version, ".")
	n, err := strconv.Atoi(number)
	if err != nil {
		return 0
	}
	return n
}

// isBefore compares the first two numbers of versions.
func isBefore(version, other string) bool {
	minor := func(version string) int {
		_, rest, _ := strings.Cut(version, ".")
		return major(rest)
	}
	return cmp.Or(cmp.Compare(major(version), major(other)), cmp.Compare(minor(version), minor(other))) < 0
}

// take enters one line of the environment.
func (v *versions) take(given, value string) error {
	name := normalized(given)
	shape, example := versionShape, "1.26.4"
	if name == "python" {
		shape, example = pythonVersion, "3.11.7"
	}
	if !packageName.MatchString(name) {
		return fmt.Errorf("%w: environment has %q, which is no package name", ErrSpec, given)
	}
	if !shape.MatchString(value) {
		return fmt.Errorf("%w: environment gives %s as %q, which is no version such as %s", ErrSpec, given, value, example)
	}
	switch {
	case name == "python":
		v.python = value
	case name == "mlflow":
		v.mlflow = value
	case slices.Contains(buildPackages, name):
		v.build[name] = value
	default:
		v.packages[name] = value
	}
	return nil
}

// needs names the packages beyond the usual that loading the file takes.
func needs(info modelfile.Info) []string {
	var needed []string
	for _, module := range info.Modules {
		if name, ok := providers[module]; ok {
			needed = append(needed, name)
		}
	}
	if info.Format == modelfile.FormatJoblib {
		needed = append(needed, "joblib")
	}
	if info.Format == modelfile.FormatSkops {
		needed = append(needed, skopsPackage)
	}
	if info.Compression == modelfile.CompressionLZ4 {
		needed = append(needed, "lz4") // joblib asks for it only where it is used
	}
	return needed
}

func imports(info modelfile.Info, module string) bool { return slices.Contains(info.Modules, module) }

func (v versions) unknown() []string {
	var names []string
	for name, known := range v.packages {
		if known == "" {
			names = append(names, name)
		}
	}
	if v.python == "" {
		names = append(names, "python")
	}
	if v.mlflow == "" || v.ranges["mlflow"] != "" {
		names = append(names, "mlflow")
	}
	slices.Sort(names)
	return names
}

// requirements are the lines of requirements.txt: mlflow first, the others sorted, as the official client has them.
func (v versions) requirements() []string {
	lines := []string{v.requirement("mlflow", v.mlflow)}
	for _, name := range slices.Sorted(maps.Keys(v.packages)) {
		lines = append(lines, v.requirement(name, v.packages[name]))
	}
	return lines
}

func (v versions) requirement(name, version string) string {
	if bounds := v.ranges[name]; bounds != "" {
		return name + bounds
	}
	return pin(name, version)
}

func pin(name, version string) string {
	if version == "" {
		return name
	}
	return name + "==" + version
}

// pythonEnv is python_env.yaml. Without python MLflow takes the consumer's own.
type pythonEnv struct {
	Python            scalar   `yaml:"python,omitempty"`
	BuildDependencies []scalar `yaml:"build_dependencies"`
	Dependencies      []scalar `yaml:"dependencies"`
}

// condaEnv is conda.yaml.
type condaEnv struct {
	Channels     []scalar `yaml:"channels"`
	Dependencies []any    `yaml:"dependencies"`
	Name         scalar   `yaml:"name"`
}

// pipDependencies is the one entry of conda's dependencies that is no package.
type pipDependencies struct {
	Pip []scalar `yaml:"pip"`
}

// environmentFiles are the three descriptions of one environment, for conda, virtualenv and pip.
func environmentFiles(spec Spec) ([]File, error) {
	versions, err := resolve(spec)
	if err != nil {
		return nil, err
	}
	requirements := versions.requirements()
	conda, err := encode(versions.conda(requirements))
	if err != nil {
		return nil, err
	}
	python, err := encode(versions.pythonEnv())
	if err != nil {
		return nil, err
	}
	return []File{
		inMemory(condaPath, conda),
		inMemory(pythonEnvPath, python),
		inMemory(requirementsPath, []byte(strings.Join(requirements, "\n"))),
	}, nil
}

func (v versions) conda(requirements []string) condaEnv {
	var dependencies []any
	if v.python != "" {
		dependencies = append(dependencies, scalar("python="+v.python))
	}
	pip := scalar("pip")
	if v.build["pip"] != "" {
		pip = scalar("pip<=" + v.build["pip"])
	}
	return condaEnv{
		Channels:     []scalar{"conda-forge"},
		Dependencies: append(dependencies, pip, pipDependencies{scalars(requirements)}),
		Name:         "mlflow-env",
	}
}

func (v versions) pythonEnv() pythonEnv {
	environment := pythonEnv{Python: scalar(v.python), Dependencies: []scalar{"-r " + requirementsPath}}
	for _, name := range buildPackages {
		environment.BuildDependencies = append(environment.BuildDependencies, scalar(pin(name, v.build[name])))
	}
	return environment
}

func scalars(lines []string) []scalar {
	result := make([]scalar, len(lines))
	for i, line := range lines {
		result[i] = scalar(line)
	}
	return result
}
