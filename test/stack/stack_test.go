package stack

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"registrar/activities"
	"registrar/internal/mlflow"
	"registrar/internal/receipt"
	"registrar/internal/servertest"
)

const (
	modelName = "ACRAS_RandomForest_v1"
)

var run = flag.Bool("stack", false, "run docker-compose.yml's services, see make stack")

// site is a project beside the stack.
type site struct {
	*stack
	root string
}

func newSite(t *testing.T) *site {
	t.Helper()
	if !*run {
		t.Skip("`make stack` runs it")
	}
	projects := t.TempDir()
	root := filepath.Join(projects, "credit-risk")
	require.NoError(t, os.CopyFS(root, os.DirFS(filepath.Join(servertest.Root(), ".build", "credit-risk"))), "run `make project`")
	params := filepath.Join(root, "config", "params.yaml")
	content, err := os.ReadFile(params)
	require.NoError(t, err)
	faster := bytes.Replace(content, []byte("min_roc_auc: 0.60"), []byte("min_roc_auc: 0.60\n  probe_interval: 1s"), 1)
	require.NoError(t, os.WriteFile(params, faster, 0o600))
	return &site{stack: newStack(t, projects), root: root}
}

// newStack reads docker-compose.yml as Compose does, with secrets made anew.
func newStack(t *testing.T, projects string) *stack {
	t.Helper()
	options, err := cli.NewProjectOptions([]string{filepath.Join(servertest.Root(), "docker-compose.yml")},
		cli.WithProfiles([]string{"monitoring"}),
		cli.WithEnv([]string{
			"REGISTRAR_PROJECTS=" + projects, "S3_SECRET_KEY=" + rand.Text(),
			"TEMPORAL_DB_PASSWORD=" + rand.Text(), "MLFLOW_DB_PASSWORD=" + rand.Text(),
		}))
	require.NoError(t, err)
	project, err := options.LoadProject(t.Context())
	require.NoError(t, err)
	s := &stack{
		t: t, project: project, home: t.TempDir(), servers: map[string]server{}, begun: map[string]bool{},
		translation: translation{services: project.ServiceNames(), ports: map[string]int{}, volumes: map[string]string{}},
	}
	for name := range project.Volumes {
		s.volumes[name] = t.TempDir()
	}
	names := []string{}
	for _, port := range listens {
		names = append(names, port)
	}
	for i := range servertest.TemporalPorts[1:] {
		names = append(names, "temporal "+strconv.Itoa(i))
	}
	for _, name := range names {
		for taken := true; taken; {
			s.ports[name], err = servertest.FreePort()
			require.NoError(t, err)
			taken = slices.ContainsFunc(names, func(other string) bool { return other != name && s.ports[other] == s.ports[name] })
		}
	}
	return s
}

func (s *site) starter(args ...string) (stdout []byte, code int) {
	s.t.Helper()
	command := exec.CommandContext(s.t.Context(), filepath.Join(servertest.Root(), "bin", "starter"), append(args, "--output", "json")...)
	command.Dir = s.root
	command.Env = servertest.Environment([]string{"TEMPORAL_", "MLFLOW_", "REGISTRAR_", "ENV="}, "TEMPORAL_ADDRESS="+s.address("temporal"))
	var stderr bytes.Buffer
	command.Stderr = &stderr
	stdout, err := command.Output()
	s.t.Logf("starter %s\n%s%s", strings.Join(args, " "), &stderr, stdout)
	if _, exited := err.(*exec.ExitError); err != nil && !exited { //nolint:errorlint // Output wraps nothing
		require.NoError(s.t, err)
	}
	return stdout, command.ProcessState.ExitCode()
}

// receipt is what a command says that succeeds.
func (s *site) receipt(args ...string) receipt.Receipt {
	s.t.Helper()
	stdout, code := s.starter(args...)
	require.Zero(s.t, code)
	var r receipt.Receipt
	require.NoError(s.t, json.Unmarshal(stdout, &r))
	return r
}

func (s *site) requireRegistered(r receipt.Receipt) {
	s.t.Helper()
	require.Equal(s.t, receipt.Done, r.State)
	require.Equal(s.t, receipt.Registered, r.Outcome)
}

func (s *stack) address(service string) string {
	return "127.0.0.1:" + strconv.Itoa(s.ports[listens[service]])
}

func TestStack_RegistersDespiteOutages(t *testing.T) {
	s := newSite(t)
	s.servePrometheusFile()
	s.start()

	first := s.receipt("register", "--wait", "final", "--timeout", patience.String())
	s.requireRegistered(first)
	require.Equal(t, "http://"+s.address("mlflow"), first.TrackingURI)
	s.requireInBucket(first)
	s.requireLoadedBack()
	s.requireWatched()

	registered := []receipt.Receipt{first}
	for _, outage := range []struct {
		server string
		state  receipt.State
		layer  string
	}{
		{"mlflow", receipt.Waiting, "tcp"},
		{"s3", receipt.Waiting, "artifact_store"},
		{"worker", receipt.Waiting, "worker"},
		{"temporal", receipt.Queued, "temporal"},
		{"postgresql", receipt.Queued, "temporal"},
	} {
		t.Run("without "+outage.server, func(t *testing.T) {
			s.servers[outage.server].Kill()
			waiting := s.receipt("register", "--force", "--settle-timeout", "10s", "--timeout", patience.String())
			require.Equal(t, outage.state, waiting.State)
			require.NotNil(t, waiting.Waiting)
			require.Equal(t, outage.layer, waiting.Waiting.Layer)

			require.NoError(t, s.servers[outage.server].Restart(t.Context()))
			s.restartWhatEnded()
			s.awaitHealthy()
			if waiting.State == receipt.Queued {
				require.Eventually(t, func() bool { _, code := s.starter("flush"); return code == 0 }, patience, time.Second)
			}
			r := s.receipt("result", waiting.WorkflowID, "--wait", "final", "--timeout", patience.String())
			s.requireRegistered(r)
			s.requireInBucket(r)
			registered = append(registered, r)
		})
	}
	s.requireOnce(registered)
	s.requireLoadedBack()
}

// restartWhatEnded does what `restart: unless-stopped` does: Temporal's server may end when it misses its database.
func (s *stack) restartWhatEnded() {
	s.t.Helper()
	for name, server := range s.servers {
		select {
		case <-server.Done():
			s.t.Logf("start %s again", name)
			require.NoError(s.t, server.Restart(s.t.Context()))
		default:
		}
	}
}

func (s *stack) awaitHealthy() {
	s.t.Helper()
	for name := range s.servers {
		require.EventuallyWithT(s.t, func(c *assert.CollectT) {
			require.NoError(c, s.check(s.t.Context(), s.project.Services[name]), name)
		}, patience, tick)
	}
}

// requireInBucket sees that a version's files are objects of the store, and that MLflow kept none for itself.
func (s *stack) requireInBucket(r receipt.Receipt) {
	s.t.Helper()
	objects := filepath.Join(s.volumes["s3"], "mlflow", r.ExperimentID, "models", r.MLflowModelID, "artifacts")
	for _, name := range []string{"MLmodel", "model.pkl"} {
		require.FileExists(s.t, filepath.Join(objects, name))
	}
}

// requireLoadedBack runs a consumer, which sees that the version answers as the trained model does.
func (s *site) requireLoadedBack() {
	s.t.Helper()
	consume := exec.CommandContext(s.t.Context(), filepath.Join(servertest.Root(), ".build", "venv", "bin", "python"),
		filepath.Join(servertest.Root(), "examples", "credit-risk", "consume.py"), "--root", s.root, "--tracking-uri", "http://"+s.address("mlflow"))
	consume.Env = servertest.Environment([]string{"MLFLOW_", "AWS_"})
	output, err := consume.CombinedOutput()
	require.NoError(s.t, err, "%s", output)
	require.Contains(s.t, string(output), "models:/"+modelName+"/Staging")
}

// requireOnce sees that MLflow holds one run, one logged model and one completed version for each registration, and nothing else.
func (s *site) requireOnce(registered []receipt.Receipt) {
	s.t.Helper()
	client, err := mlflow.New(mlflow.Config{TrackingURI: "http://" + s.address("mlflow")})
	require.NoError(s.t, err)
	defer client.Close()
	var want, versions, runs []string
	for _, r := range registered {
		want = append(want, r.RegistrationKey)
	}
	held, err := client.SearchModelVersions(s.t.Context(), fmt.Sprintf("name = '%s'", modelName))
	require.NoError(s.t, err)
	for _, version := range held {
		versions = append(versions, tags(version.Tags)[activities.TagKey])
		require.Equal(s.t, mlflow.VersionReady, version.Status)
		require.NotEmpty(s.t, tags(version.Tags)[activities.TagCompleted])
	}
	require.ElementsMatch(s.t, want, versions)
	made, err := client.SearchAllRuns(s.t.Context(), []string{registered[0].ExperimentID}, "")
	require.NoError(s.t, err)
	for _, run := range made {
		require.Equal(s.t, mlflow.RunFinished, run.Info.Status)
		runs = append(runs, tags(run.Data.Tags)[activities.TagKey])
	}
	require.ElementsMatch(s.t, want, runs)
	findings, code := s.starter("audit")
	require.Zero(s.t, code)
	require.JSONEq(s.t, `{"findings": []}`, string(findings))
}

func tags(of []mlflow.Tag) map[string]string {
	values := map[string]string{}
	for _, tag := range of {
		values[tag.Key] = tag.Value
	}
	return values
}

// servePrometheusFile gives Prometheus its file with the worker's address here: names of containers are known to Docker's own DNS.
func (s *stack) servePrometheusFile() {
	s.t.Helper()
	service := s.project.Services["prometheus"]
	folder := s.t.TempDir()
	for i, volume := range service.Volumes {
		if volume.Source == "prometheus" {
			continue
		}
		content, err := os.ReadFile(volume.Source)
		require.NoError(s.t, err)
		if filepath.Base(volume.Target) == "prometheus.yml" {
			content = s.discovered(content)
		}
		service.Volumes[i].Source = filepath.Join(folder, filepath.Base(volume.Target))
		require.NoError(s.t, os.WriteFile(service.Volumes[i].Source, content, 0o600))
	}
}

func (s *stack) discovered(file []byte) []byte {
	s.t.Helper()
	var content map[string]any
	require.NoError(s.t, yaml.Unmarshal(file, &content))
	for _, job := range content["scrape_configs"].([]any) {
		job := job.(map[string]any)
		found := job["dns_sd_configs"].([]any)[0].(map[string]any)
		require.Equal(s.t, []any{"worker"}, found["names"])
		require.Equal(s.t, listens["worker"], fmt.Sprint(found["port"]))
		delete(job, "dns_sd_configs")
		job["static_configs"] = []any{map[string]any{"targets": []string{s.address("worker")}}}
	}
	changed, err := yaml.Marshal(content)
	require.NoError(s.t, err)
	return changed
}

// requireWatched sees that Prometheus scrapes the worker, and that its rules can be judged.
func (s *stack) requireWatched() {
	s.t.Helper()
	require.EventuallyWithT(s.t, func(c *assert.CollectT) {
		up := s.prometheus(c, "query?query="+url.QueryEscape(`up{job="registrar"}`))
		require.Contains(c, up, `"1"]`)
	}, patience, time.Second)
	rules := s.prometheus(s.t, "rules")
	require.Contains(s.t, rules, `"type":"alerting"`)
	require.NotContains(s.t, rules, `"health":"err"`)
}

func (s *stack) prometheus(t require.TestingT, query string) string {
	ctx, cancel := context.WithTimeout(s.t.Context(), 10*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.address("prometheus")+"/api/v1/"+query, http.NoBody)
	require.NoError(t, err)
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, response.StatusCode, "%s", body)
	return string(body)
}
