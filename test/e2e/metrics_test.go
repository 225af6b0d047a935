package e2e

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/require"

	"registrar/internal/mlflow"
	"registrar/internal/receipt"
	"registrar/internal/servertest"
)

// exposed is what a worker's /metrics has shown: of each series' name the labels.
type exposed struct {
	t      testing.TB
	uri    string
	labels map[string]map[string]bool
}

func (s *site) startMeasuredWorker() *exposed {
	s.t.Helper()
	address := unusedAddress(s.t)
	s.startWorker("--http-listen", address)
	e := &exposed{t: s.t, uri: "http://" + address + "/metrics", labels: map[string]map[string]bool{}}
	eventually(s.t, func() bool { return s.health(address) == 0 }, "the worker is ready")
	return e
}

// health is the exit code of `worker health --ready`.
func (s *site) health(address string) int {
	s.t.Helper()
	ask := exec.CommandContext(s.t.Context(), binary(s.t, "worker"), "health", "--ready", "--http-listen", address)
	_ = ask.Run() // the exit code is what counts
	return ask.ProcessState.ExitCode()
}

// text is the metrics as they are.
func (e *exposed) text() string {
	e.t.Helper()
	request, err := http.NewRequestWithContext(e.t.Context(), http.MethodGet, e.uri, nil)
	require.NoError(e.t, err)
	response, err := http.DefaultClient.Do(request)
	require.NoError(e.t, err)
	defer response.Body.Close()
	require.Equal(e.t, http.StatusOK, response.StatusCode)
	text, err := io.ReadAll(response.Body)
	require.NoError(e.t, err)
	return string(text)
}

// scrape returns the metrics as they are, and notes what there is.
func (e *exposed) scrape() map[string]*dto.MetricFamily {
	e.t.Helper()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(e.text()))
	require.NoError(e.t, err)
	for name, family := range families {
		for _, metric := range family.GetMetric() {
			suffixes, extra := []string{""}, ""
			if metric.GetHistogram() != nil {
				suffixes, extra = []string{"_bucket", "_sum", "_count"}, "le"
			}
			for _, suffix := range suffixes {
				if e.labels[name+suffix] == nil {
					e.labels[name+suffix] = map[string]bool{}
				}
				for _, pair := range metric.GetLabel() {
					e.labels[name+suffix][pair.GetName()] = true
				}
				if suffix == "_bucket" {
					e.labels[name+suffix][extra] = true
				}
			}
		}
	}
	return families
}

// value is the sum over the series of the metric that have these labels, given as name and value in turn; of a histogram its count.
func value(families map[string]*dto.MetricFamily, name string, labels ...string) float64 {
	sum := 0.0
	for _, metric := range families[name].GetMetric() {
		has := map[string]string{}
		for _, pair := range metric.GetLabel() {
			has[pair.GetName()] = pair.GetValue()
		}
		matches := true
		for i := 0; i < len(labels); i += 2 {
			matches = matches && has[labels[i]] == labels[i+1]
		}
		if matches {
			sum += metric.GetCounter().GetValue() + metric.GetGauge().GetValue() + float64(metric.GetHistogram().GetSampleCount())
		}
	}
	return sum
}

// Dashboard and alerts ask for what a worker shows in the course of a refusal, an outage, a registration and an audit, which is judged on the
// way.
func TestMetrics_TellWhatHappensAndAreThoseOfDashboardAndAlerts(t *testing.T) {
	t.Parallel()
	s, gateway := gatedSite(t)
	e := s.startMeasuredWorker()
	start := e.scrape()

	s.project.demand(t, "0.99")
	s.requireOutcome(receipt.Rejected, s.register().receipt)
	require.InDelta(t, 1, value(e.scrape(), "registrar_registrations_ended_total", "outcome", "rejected"), 0)
	require.Zero(t, value(e.scrape(), "registrar_mlflow_requests_total"), "MLflow was not contacted")

	s.project.demand(t, "0.60")
	gateway.close()
	id := s.register().receipt.WorkflowID
	eventually(t, func() bool {
		return value(e.scrape(), "registrar_registrations_waiting", "server", gateway.URI, "layer", "tcp") == 1
	}, "it is counted where it waits")
	waiting := e.scrape()
	require.Positive(t, value(waiting, "registrar_registrations", "state", "waiting"))
	require.Positive(t, value(waiting, "registrar_oldest_waiting_age_seconds"))
	require.Positive(t, value(waiting, "registrar_mlflow_requests_total", "code", "tcp"))

	gateway.open()
	r := s.result(id)
	s.requireOutcome(receipt.Registered, r)
	done := e.scrape()
	require.InDelta(t, 1, value(done, "registrar_registrations_ended_total", "outcome", "registered"), 0)
	require.InDelta(t, 1, value(done, "registrar_wait_duration_seconds", "server", gateway.URI, "layer", "tcp"), 0)
	require.InDelta(t, 1, value(done, "registrar_mlflow_requests_total", "method", "POST", "endpoint", "mlflow/runs/create", "code", "200"), 0)
	require.Positive(t, value(done, "registrar_mlflow_request_duration_seconds", "endpoint", "mlflow-artifacts/artifacts/{path}"))
	require.Greater(t, value(done, "registrar_upload_bytes_total"), 100e3, "the example's model has more than that")
	eventually(t, func() bool {
		return value(e.scrape(), "registrar_registrations_waiting", "server", gateway.URI) == 0
	}, "it is not counted any more")

	_, err := registryAt(t, s.mlflowURI).client.CreateModelVersion(t.Context(), mlflow.CreateModelVersionRequest{
		Name: r.ModelName, Source: "models:/" + r.MLflowModelID, ModelID: r.MLflowModelID,
	})
	require.NoError(t, err)
	eventually(t, func() bool { return len(s.audit()) > 0 }, "the audit finds a version that passed no gate")
	end := e.scrape()
	require.Positive(t, value(end, "registrar_audit_findings_total", "kind", "ungated_version"))
	for _, name := range []string{"registrar_registrations_ended_total", "registrar_audit_findings_total"} {
		require.Len(t, end[name].GetMetric(), len(start[name].GetMetric()), "%s: each series was there at the worker's start", name)
	}

	e.requireAll(t, "deploy/grafana/dashboards/registrar.json", "deploy/prometheus/alerts.yml")
	e.requireDocumented(t)
}

// requireAll sees that all that the files ask for is there, with its labels.
func (e *exposed) requireAll(t *testing.T, files ...string) {
	t.Helper()
	ask := exec.CommandContext(t.Context(), filepath.Join("bin", "promql"), files...)
	ask.Dir = servertest.Root()
	out, err := ask.Output()
	require.NoError(t, err, "run `make tools`")
	var selectors []struct {
		File, Where, Expr, Metric string
		Labels                    []string
	}
	require.NoError(t, json.Unmarshal(out, &selectors))
	of := map[string]int{}
	for _, s := range selectors {
		of[s.File]++
		has := e.labels[s.Metric]
		require.NotNil(t, has, "%s: %s: no worker exposes %s", s.File, s.Where, s.Metric)
		for _, label := range s.Labels {
			// Prometheus itself adds these two.
			require.True(t, has[label] || label == "job" || label == "instance", "%s: %s: %s has no label %s", s.File, s.Where, s.Metric, label)
		}
	}
	for _, file := range files {
		require.Positive(t, of[file], "%s asks for nothing", file)
	}
}

// sdkLabels are those that Prometheus' histograms, and Temporal's SDK, put on what they measure.
var sdkLabels = []string{"le", "namespace", "task_queue", "workflow_type", "activity_type", "client_name", "worker_type"}

// requireDocumented sees that docs/observability.md has each metric of ours with its labels, and none that is not there.
func (e *exposed) requireDocumented(t *testing.T) {
	t.Helper()
	documented := map[string][]string{}
	for line := range strings.Lines(docsOf(t)) {
		cells := strings.Split(line, "|")
		if len(cells) < 4 || !strings.HasPrefix(strings.TrimSpace(cells[1]), "`registrar_") {
			continue
		}
		name := strings.Trim(cells[1], " `")
		documented[name] = []string{}
		for label := range strings.FieldsSeq(strings.ReplaceAll(cells[2], ",", " ")) {
			documented[name] = append(documented[name], strings.Trim(label, "`"))
		}
	}
	found := map[string][]string{}
	for name, labels := range e.labels {
		if name, isBucket := strings.CutSuffix(name, "_bucket"); isBucket || !strings.HasSuffix(name, "_sum") && !strings.HasSuffix(name, "_count") {
			if !strings.HasPrefix(name, "registrar_") {
				continue
			}
			found[name] = []string{}
			for label := range labels {
				if !slices.Contains(sdkLabels, label) {
					found[name] = append(found[name], label)
				}
			}
			slices.Sort(found[name])
		}
	}
	for _, labels := range documented {
		slices.Sort(labels)
	}
	require.Equal(t, found, documented)
}

func docsOf(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(servertest.Root(), "docs", "observability.md"))
	require.NoError(t, err)
	return string(text)
}
