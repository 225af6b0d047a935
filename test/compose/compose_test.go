// Package compose_test checks docker-compose.yml and the files that it mounts and builds from, by Compose's own loader and against
// the code that they configure. It starts no container: what an image does with its settings was read in its upstream's sources.
package compose_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/stretchr/testify/require"

	"registrar/workflows"
)

const (
	root     = "../.."
	projects = "/srv/projects"
)

// settings are what docker-compose.yml asks its user for.
func settings() map[string]string {
	return map[string]string{
		"TEMPORAL_DB_PASSWORD": "secret of temporal",
		"MLFLOW_DB_PASSWORD":   "secret of mlflow",
		"S3_SECRET_KEY":        "secret of s3",
		"REGISTRAR_PROJECTS":   projects,
	}
}

// load reads docker-compose.yml as Compose does, schema and references checked; the environment of the test and a .env file play no part.
func load(t *testing.T, settings map[string]string) (*types.Project, error) {
	t.Helper()
	var environment []string
	for name, value := range settings {
		environment = append(environment, name+"="+value)
	}
	options, err := cli.NewProjectOptions([]string{filepath.Join(root, "docker-compose.yml")},
		cli.WithEnv(environment), cli.WithProfiles([]string{"monitoring"}))
	require.NoError(t, err)
	return options.LoadProject(t.Context())
}

func loaded(t *testing.T) *types.Project {
	t.Helper()
	project, err := load(t, settings())
	require.NoError(t, err)
	return project
}

func service(t *testing.T, name string) types.ServiceConfig {
	t.Helper()
	found, err := loaded(t).GetService(name)
	require.NoError(t, err)
	return found
}

// environment gives the variables of a service; each must have a value.
func environment(t *testing.T, of types.ServiceConfig) map[string]string {
	t.Helper()
	values := map[string]string{}
	for name, value := range of.Environment {
		require.NotNil(t, value, "%s: %s has no value", of.Name, name)
		values[name] = *value
	}
	return values
}

func read(t *testing.T, name string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(root, name))
	require.NoError(t, err)
	return string(content)
}

func TestCompose_ServicesStartInOrder(t *testing.T) {
	const healthy, completed = types.ServiceConditionHealthy, types.ServiceConditionCompletedSuccessfully
	after := map[string]map[string]string{}
	for name, service := range loaded(t).Services {
		after[name] = map[string]string{}
		for on, dependency := range service.DependsOn {
			after[name][on] = dependency.Condition
		}
	}
	require.Equal(t, map[string]map[string]string{
		"postgresql":         {},
		"temporal-schema":    {"postgresql": healthy},
		"temporal":           {"temporal-schema": completed},
		"temporal-namespace": {"temporal": healthy},
		"temporal-ui":        {"temporal": healthy},
		"s3":                 {},
		"s3-bucket":          {"s3": healthy},
		"mlflow":             {"postgresql": healthy, "s3-bucket": completed},
		"worker":             {"temporal-namespace": completed},
		"prometheus":         {},
		"grafana":            {"prometheus": healthy},
	}, after)
}

func TestCompose_WhatIsWaitedForSaysThatItIsHealthy(t *testing.T) {
	project := loaded(t)
	for _, name := range []string{"postgresql", "temporal", "temporal-ui", "s3", "mlflow", "worker", "prometheus", "grafana"} {
		check := project.Services[name].HealthCheck
		require.NotNil(t, check, name)
		require.False(t, check.Disable, name)
		require.Equal(t, "CMD", check.Test[0], "%s: a check without a shell", name)
		require.NotNil(t, check.StartPeriod, "%s: a slow start is not ill health", name)
		require.LessOrEqual(t, time.Duration(*check.Timeout), time.Duration(*check.Interval), name)
	}
}

func TestCompose_OneShotsEndAndServersComeBack(t *testing.T) {
	for name, service := range loaded(t).Services {
		switch name {
		case "temporal-schema", "temporal-namespace", "s3-bucket":
			require.Equal(t, "on-failure:5", service.Restart, name)
		default:
			require.Equal(t, "unless-stopped", service.Restart, name)
		}
	}
}

func TestCompose_ImagesArePinned(t *testing.T) {
	version := regexp.MustCompile(`^[a-z/-]+:v?[0-9]+\.[0-9]+(\.[0-9]+)?(-[a-z0-9-]+)?$`)
	project := loaded(t)
	for name, service := range project.Services {
		if name != "worker" { // its version is that of the checkout
			require.Regexp(t, version, service.Image, name)
		}
	}
	for _, dockerfile := range []string{"Dockerfile", "deploy/mlflow/Dockerfile"} {
		for _, from := range regexp.MustCompile(`(?m)^FROM (\S+)`).FindAllStringSubmatch(read(t, dockerfile), -1) {
			if from[1] != "scratch" {
				require.Regexp(t, version, from[1], dockerfile)
			}
		}
	}
	require.Equal(t, project.Services["temporal-schema"].Image, project.Services["temporal-namespace"].Image)
	require.Equal(t, tag(project.Services["temporal"]), tag(project.Services["temporal-schema"]), "a server runs on the schema of its own version")
}

// The servers that the tests run are those that the tools' modules pin.
func TestCompose_ServersAreThoseThatAreTested(t *testing.T) {
	pinned := func(folder, module string) string {
		pin := regexp.MustCompile(`(?m)^\t` + regexp.QuoteMeta(module) + ` v(\S+)`).FindStringSubmatch(read(t, "tools/"+folder+"/go.mod"))
		require.Len(t, pin, 2, module)
		return pin[1]
	}
	require.Equal(t, tag(service(t, "temporal")), pinned("temporal-server", "go.temporal.io/server"))
	require.Equal(t, tag(service(t, "s3")), "v"+pinned("versitygw", "github.com/versity/versitygw"))
	var major, minor, patch int
	_, err := fmt.Sscanf(tag(service(t, "prometheus")), "v%d.%d.%d", &major, &minor, &patch)
	require.NoError(t, err)
	require.Equal(t, fmt.Sprintf("0.%d%02d.%d", major, minor, patch), pinned("prometheus", "github.com/prometheus/prometheus"), "as a Go module")
}

func tag(of types.ServiceConfig) string {
	_, tag, _ := strings.Cut(of.Image, ":")
	return tag
}

func TestCompose_DataOutlivesTheContainers(t *testing.T) {
	project := loaded(t)
	require.ElementsMatch(t, []string{"postgresql", "s3", "prometheus", "grafana"}, project.VolumeNames())
	for name, folder := range map[string]string{
		"postgresql": "/var/lib/postgresql/data", "s3": "/buckets", "prometheus": "/prometheus", "grafana": "/var/lib/grafana",
	} {
		require.Equal(t, map[string]string{name: folder}, namedVolumes(project.Services[name]))
	}
}

func namedVolumes(of types.ServiceConfig) map[string]string {
	named := map[string]string{}
	for _, volume := range of.Volumes {
		if volume.Type == types.VolumeTypeVolume {
			named[volume.Source] = volume.Target
		}
	}
	return named
}

func TestCompose_MountedFilesAreThereAndReadOnly(t *testing.T) {
	for name, service := range loaded(t).Services {
		for _, volume := range service.Volumes {
			if volume.Type != types.VolumeTypeBind || name == "worker" {
				continue
			}
			require.FileExists(t, volume.Source, name)
			require.True(t, volume.ReadOnly, "%s: %s", name, volume.Source)
		}
	}
}

func TestCompose_SecretsHaveNoDefault(t *testing.T) {
	file := read(t, "docker-compose.yml")
	for name := range settings() {
		without := settings()
		delete(without, name)
		_, err := load(t, without)
		require.ErrorContains(t, err, name+" is missing a value: is not set, see the top of docker-compose.yml")
		require.Equal(t, strings.Count(file, "$"), strings.Count(file, "${"), "each use is in braces")
		require.Equal(t, strings.Count(file, "${"+name), strings.Count(file, "${"+name+":?"), "no use of %s has a default", name)
		require.Contains(t, file, "#   "+name+"=", "the top of docker-compose.yml explains it")
	}
	require.Contains(t, file, "# WARNING: nothing here asks for a login")
}

func TestCompose_SecretsGoOnlyWhereTheyAreNeeded(t *testing.T) {
	holders := map[string][]string{}
	for name, service := range loaded(t).Services {
		for _, value := range environment(t, service) {
			if strings.HasPrefix(value, "secret of ") {
				holders[value] = append(holders[value], name)
			}
		}
		require.NotContains(t, strings.Join(service.Command, " "), "secret", "%s: arguments show in the list of processes", name)
	}
	require.ElementsMatch(t, []string{"postgresql", "temporal-schema", "temporal"}, holders["secret of temporal"])
	require.ElementsMatch(t, []string{"postgresql", "mlflow"}, holders["secret of mlflow"])
	require.ElementsMatch(t, []string{"s3", "s3-bucket", "mlflow"}, holders["secret of s3"], "the worker sends files to MLflow")
}

func TestCompose_PortsAreOpenToThisMachineAlone(t *testing.T) {
	published := map[string]string{}
	for name, service := range loaded(t).Services {
		for _, port := range service.Ports {
			require.Equal(t, "127.0.0.1", port.HostIP, name)
			published[name] = port.Published
		}
	}
	require.Equal(t, map[string]string{
		"temporal": "7233", "temporal-ui": "8080", "mlflow": "5000", "prometheus": "9090", "grafana": "3000",
	}, published)
}

func TestCompose_MLflowAnswersTheWorkerAndKeepsFilesInTheBucket(t *testing.T) {
	mlflow := service(t, "mlflow")
	require.Equal(t, types.ShellCommand{
		"server", "--host=0.0.0.0", "--port=5000", "--workers=2",
		"--backend-store-uri=postgresql+psycopg2://mlflow@postgresql:5432/mlflow",
		"--serve-artifacts", "--artifacts-destination=s3://mlflow",
		"--allowed-hosts=mlflow:5000,localhost:5000,127.0.0.1:5000",
	}, mlflow.Command)
	require.Contains(t, read(t, mlflow.Build.Dockerfile), `ENTRYPOINT ["mlflow"]`)
	require.Contains(t, read(t, mlflow.Build.Dockerfile), "\nUSER 10001:10001\n")
	require.Contains(t, read(t, "tools/requirements.txt"), "\nmlflow=="+tag(mlflow)+" ", "the image is named after the version that it holds")
	require.Equal(t, "http://mlflow:5000", environment(t, service(t, "worker"))["MLFLOW_TRACKING_URI"])

	bucket := service(t, "s3-bucket")
	require.Equal(t, mlflow.Image, bucket.Image)
	require.Equal(t, mlflow.Build, bucket.Build, "whichever is built first")
	of := environment(t, bucket)
	require.Equal(t, "mlflow", of["MLFLOW_BUCKET"])
	delete(of, "MLFLOW_BUCKET")
	require.Equal(t, map[string]string{
		"MLFLOW_S3_ENDPOINT_URL": "http://s3:7070", "AWS_DEFAULT_REGION": "us-east-1",
		"AWS_ACCESS_KEY_ID": "mlflow", "AWS_SECRET_ACCESS_KEY": "secret of s3",
	}, of)
	require.Subset(t, environment(t, mlflow), of)
	s3 := environment(t, service(t, "s3"))
	require.Equal(t, of["AWS_ACCESS_KEY_ID"], s3["ROOT_ACCESS_KEY"])
	require.Equal(t, of["AWS_DEFAULT_REGION"], s3["VGW_REGION"])
}

func TestCompose_WorkerIsConfined(t *testing.T) {
	worker := service(t, "worker")
	require.True(t, worker.ReadOnly)
	require.Equal(t, []string{"ALL"}, worker.CapDrop)
	require.Equal(t, []string{"no-new-privileges:true"}, worker.SecurityOpt)
	require.Equal(t, "1000:1000", worker.User)
	require.Len(t, worker.Volumes, 1)
	require.Equal(t, projects, worker.Volumes[0].Source)
	require.Equal(t, projects, worker.Volumes[0].Target, "the starter names a project by its path outside")
	require.False(t, bool(worker.Volumes[0].Bind.CreateHostPath), "a mistyped folder is an error")
	require.Equal(t, 30*time.Second, time.Duration(*worker.StopGracePeriod))
}

func TestCompose_WorkerKnowsItsSettings(t *testing.T) {
	worker := environment(t, service(t, "worker"))
	require.Equal(t, map[string]string{
		"TEMPORAL_ADDRESS":          "temporal:7233",
		"TEMPORAL_NAMESPACE":        "default",
		"MLFLOW_TRACKING_URI":       "http://mlflow:5000",
		"REGISTRAR_ALLOW_ROOT":      projects,
		"REGISTRAR_TEMPORAL_UI_URL": "http://localhost:8080",
		"REGISTRAR_LOG_FORMAT":      "json",
		"REGISTRAR_HTTP_LISTEN":     "0.0.0.0:9464",
	}, worker)

	help, err := exec.CommandContext(t.Context(), "go", "run", "registrar/worker", "--help").Output()
	require.NoError(t, err)
	for name := range worker {
		if flag, ours := strings.CutPrefix(name, "REGISTRAR_"); ours {
			require.Contains(t, string(help), "--"+strings.ToLower(strings.ReplaceAll(flag, "_", "-"))+" ", name)
		}
	}
	require.Regexp(t, `--shutdown-timeout duration .*\(default 20s\)`, string(help), "stop_grace_period is longer")
}

func TestCompose_NamespaceKeepsRegistrationsForNinetyDaysAndFindsThem(t *testing.T) {
	script := read(t, "deploy/temporal/namespace.sh")
	retentions := regexp.MustCompile(`--retention (\S+)`).FindAllStringSubmatch(script, -1)
	require.Equal(t, [][]string{{"--retention 90d", "90d"}}, retentions, "one namespace is made")

	made := map[string]string{}
	for _, attribute := range regexp.MustCompile(`--name (\S+) --type (\S+)`).FindAllStringSubmatch(script, -1) {
		made[attribute[1]] = attribute[2]
	}
	wanted := map[string]string{}
	for name, kind := range workflows.SearchAttributes() {
		wanted[name] = kind.String()
	}
	require.Equal(t, wanted, made)

	namespace, ui, worker := service(t, "temporal-namespace"), service(t, "temporal-ui"), service(t, "worker")
	require.Equal(t, environment(t, worker)["TEMPORAL_NAMESPACE"], environment(t, namespace)["TEMPORAL_NAMESPACE"])
	require.Equal(t, environment(t, worker)["TEMPORAL_NAMESPACE"], environment(t, ui)["TEMPORAL_DEFAULT_NAMESPACE"])
}

func TestDockerfile_WorkerIsStaticAndNobody(t *testing.T) {
	dockerfile := read(t, "Dockerfile")
	require.Contains(t, dockerfile, "CGO_ENABLED=0 go build ")
	_, image, _ := strings.Cut(dockerfile, "\nFROM scratch\n")
	require.Contains(t, image, "\nUSER 65532:65532\n")
	require.Contains(t, image, "\nENTRYPOINT [\"/worker\"]\n")
}

// A package that .dockerignore keeps out breaks the image's build; one that it lets in needlessly makes the image anew when it changes.
func TestDockerignore_LetsInWhatTheImagesAreBuiltFrom(t *testing.T) {
	letIn := map[string]bool{}
	for lines := bufio.NewScanner(strings.NewReader(read(t, ".dockerignore"))); lines.Scan(); {
		if path, ok := strings.CutPrefix(lines.Text(), "!"); ok {
			letIn[path] = true
			_, err := os.Stat(filepath.Join(root, path))
			require.NoError(t, err)
		}
	}
	list := exec.CommandContext(t.Context(), "go", "list", "-deps", "-f", `{{with .Module}}{{if .Main}}{{$.ImportPath}}{{end}}{{end}}`, "registrar/worker")
	list.Env = append(os.Environ(), "CGO_ENABLED=0")
	packages, err := list.Output()
	require.NoError(t, err)
	needed := map[string]bool{"go.mod": true, "go.sum": true, "deploy/mlflow": true, "tools/requirements.txt": true}
	for name := range strings.FieldsSeq(string(packages)) {
		folder, _, _ := strings.Cut(strings.TrimPrefix(name, "registrar/"), "/")
		needed[folder] = true
	}
	require.Equal(t, needed, letIn)
}
