package e2e

import (
	"compress/gzip"
	"encoding/hex"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/sdk/log"
	sdkworker "go.temporal.io/sdk/worker"
	"google.golang.org/protobuf/proto"

	"registrar/internal/receipt"
	"registrar/workflows"
)

// span is one span as the collector got it. Ids are hexadecimal.
type span struct {
	service, name, trace, id, parent string
	attributes                       map[string]string
}

// spanCollector takes spans by OTLP over HTTP.
type spanCollector struct {
	URL string

	mu    sync.Mutex
	spans []span
	trust []string // Authorization of each request
	raw   []byte   // all that was sent
}

func newSpanCollector(t testing.TB) *spanCollector {
	c := &spanCollector{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := c.take(r); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			t.Errorf("spans: %v", err)
		}
	}))
	t.Cleanup(server.Close)
	c.URL = server.URL
	return c
}

// authorizations are the headers of that name that came, one of each request.
func (c *spanCollector) authorizations() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.trust)
}

func (c *spanCollector) take(r *http.Request) error {
	body := io.Reader(r.Body)
	if r.Header.Get("Content-Encoding") == "gzip" {
		unpacked, err := gzip.NewReader(r.Body)
		if err != nil {
			return err
		}
		body = unpacked
	}
	data, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	var sent collector.ExportTraceServiceRequest
	if err := proto.Unmarshal(data, &sent); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.trust = append(c.trust, r.Header.Get("Authorization"))
	c.raw = append(c.raw, data...)
	for _, of := range sent.GetResourceSpans() {
		service := ""
		for _, a := range of.GetResource().GetAttributes() {
			if a.GetKey() == "service.name" {
				service = a.GetValue().GetStringValue()
			}
		}
		for _, scope := range of.GetScopeSpans() {
			for _, s := range scope.GetSpans() {
				got := span{
					service: service, name: s.GetName(), attributes: map[string]string{},
					trace: hex.EncodeToString(s.GetTraceId()), id: hex.EncodeToString(s.GetSpanId()), parent: hex.EncodeToString(s.GetParentSpanId()),
				}
				for _, a := range s.GetAttributes() {
					got.attributes[a.GetKey()] = a.GetValue().GetStringValue()
				}
				c.spans = append(c.spans, got)
			}
		}
	}
	return nil
}

// received is all that was sent, as it was.
func (c *spanCollector) received() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return string(c.raw)
}

// named are the spans of this name so far.
func (c *spanCollector) named(name string) []span {
	c.mu.Lock()
	defer c.mu.Unlock()
	var found []span
	for _, s := range c.spans {
		if s.name == name {
			found = append(found, s)
		}
	}
	return found
}

// chain is the names from the span up to its root, as far as they have come.
func (c *spanCollector) chain(of span) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	byID := map[string]span{}
	for _, s := range c.spans {
		byID[s.id] = s
	}
	names := []string{of.name}
	for parent, there := byID[of.parent]; there; parent, there = byID[parent.parent] {
		names = append(names, parent.name)
	}
	return names
}

func TestTracing_OneTraceFromTheStarterToMLflow(t *testing.T) {
	t.Parallel()
	spans := newSpanCollector(t)
	s, gateway := gatedSite(t)
	s.environ = []string{
		"OTEL_EXPORTER_OTLP_ENDPOINT=" + spans.URL, "OTEL_EXPORTER_OTLP_HEADERS=Authorization=Bearer%20sp4ns", "OTEL_BSP_SCHEDULE_DELAY=200",
		"OTEL_RESOURCE_ATTRIBUTES=service.namespace=acras", "MLFLOW_TRACKING_TOKEN=T0ken",
	}
	var mu sync.Mutex
	parents := map[string]bool{} // what MLflow was told
	gateway.admit(func(r *http.Request) bool {
		mu.Lock()
		defer mu.Unlock()
		parents[r.Header.Get("Traceparent")] = true
		return r.Header.Get("Authorization") == "Bearer T0ken" && r.Header.Get("Baggage") == ""
	})
	worker := s.startWorker()

	r := s.register().receipt
	s.requireOutcome(receipt.Registered, r)

	want := []string{
		"POST mlflow/runs/create", "RunActivity:LogRun", "StartActivity:LogRun", "RunWorkflow:RegisterModel", "StartWorkflow:RegisterModel", "starter register",
	}
	eventually(t, func() bool {
		made := spans.named(want[0])
		return len(made) == 1 && len(spans.chain(made[0])) == len(want)
	}, "all spans have come")
	made := spans.named("POST mlflow/runs/create")[0]
	require.Equal(t, want, spans.chain(made))
	require.Equal(t, "registrar-worker", made.service)
	root := spans.named("starter register")[0]
	require.Equal(t, "registrar-starter", root.service)
	require.Equal(t, root.trace, made.trace)
	require.Equal(t, s.mlflowURI+"/api/2.0/mlflow/runs/create", made.attributes["url.full"])
	mu.Lock()
	require.Contains(t, parents, "00-"+made.trace+"-"+made.id+"-01")
	mu.Unlock()
	uploaded := spans.named("PUT mlflow-artifacts/artifacts/{path}")
	require.NotEmpty(t, uploaded)
	require.Contains(t, spans.chain(uploaded[0]), "RunActivity:UploadModel")
	worker.Stop()
	require.NotContains(t, spans.authorizations(), "")
	require.NotContains(t, worker.Logs(), "spans are lost")
	require.NotContains(t, worker.Logs(), "sp4ns")

	// A worker without tracing goes on with what one with it began.
	events := s.dial().GetWorkflowHistory(t.Context(), r.WorkflowID, "", false, enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	var history historypb.History
	headers := 0
	for events.HasNext() {
		event, err := events.Next()
		require.NoError(t, err)
		history.Events = append(history.Events, event)
		headers += proto.Size(event.GetWorkflowExecutionStartedEventAttributes().GetHeader()) + proto.Size(event.GetActivityTaskScheduledEventAttributes().GetHeader())
	}
	require.Positive(t, headers)
	require.Less(t, headers, 2000, "bytes that tracing adds to a history")
	t.Logf("tracing adds %d bytes to the history of a registration", headers)
	replayer, err := sdkworker.NewWorkflowReplayerWithOptions(sdkworker.WorkflowReplayerOptions{DisableDeadlockDetection: true})
	require.NoError(t, err)
	workflows.RegisterWorkflows(replayer)
	require.NoError(t, replayer.ReplayWorkflowHistory(log.NewStructuredLogger(slog.New(slog.DiscardHandler)), &history))
}

func TestTracing_WhatAnOutageRepeatsIsNotTraced(t *testing.T) {
	t.Parallel()
	spans := newSpanCollector(t)
	s, gateway := gatedSite(t)
	s.environ = []string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=" + spans.URL + "/v1/traces", "OTEL_BSP_SCHEDULE_DELAY=200"}
	gateway.close()
	s.startWorker()
	id := s.register().receipt.WorkflowID
	eventually(t, func() bool { return s.status(id).Waiting.Attempts > 2 }, "MLflow is probed")

	gateway.open()
	s.requireOutcome(receipt.Registered, s.result(id))

	eventually(t, func() bool { return len(spans.named("RunWorkflow:RegisterModel")) > 0 }, "the registration is traced to its end")
	require.NotEmpty(t, spans.named("RunActivity:CheckMLflowHealth"))
	for _, name := range []string{"RunActivity:ProbeMLflow", "RunActivity:JoinWaiting", "RunWorkflow:MLflowAvailability"} {
		require.Empty(t, spans.named(name), name)
	}
}

func TestTracing_ACollectorThatIsGoneHoldsNothingUp(t *testing.T) {
	t.Parallel()
	s := sharedSite(t)
	s.environ = []string{"OTEL_TRACES_EXPORTER=otlp", "OTEL_EXPORTER_OTLP_ENDPOINT=http://" + unusedAddress(t)}
	s.startWorker()

	a := s.register()

	require.Zero(t, a.code)
	s.requireOutcome(receipt.Registered, a.receipt)
	require.Contains(t, a.stderr, "warning: export spans: ")

	s.environ = []string{"OTEL_TRACES_EXPORTER=zipkin"}
	wrong := s.register()
	require.Equal(t, 2, wrong.code)
	require.Contains(t, wrong.stderr, `OTEL_TRACES_EXPORTER="zipkin": want otlp, console or none`)
	s.environ = []string{"OTEL_TRACES_EXPORTER=console", "OTEL_SDK_DISABLED=true"}
	require.NotContains(t, s.register().stderr, "TraceID")
	s.environ = []string{"OTEL_TRACES_EXPORTER=console"}
	console := s.register()
	require.Contains(t, console.stderr, `"Name":"starter register"`)
}
