package telemetry_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"registrar/internal/mlflow"
	"registrar/internal/telemetry"
)

func exposition(t *testing.T, m *telemetry.Metrics) string {
	t.Helper()
	answer := httptest.NewRecorder()
	m.Handler().ServeHTTP(answer, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
	require.Equal(t, http.StatusOK, answer.Code)
	return answer.Body.String()
}

func TestMetrics_RequestsAreCountedByStatusOrByTheLayerThatFailed(t *testing.T) {
	metrics, err := telemetry.NewMetrics("1.2.3")
	require.NoError(t, err)
	observe := telemetry.MLflow(metrics, nil)
	file := mlflow.Exchange{Method: http.MethodPut, Endpoint: "mlflow-artifacts/artifacts/{path}", SizeBytes: 1000, Upload: true}
	header := http.Header{}

	observe(t.Context(), file, header)(http.StatusOK, nil)
	observe(t.Context(), file, header)(http.StatusServiceUnavailable, errors.New("refused"))
	observe(t.Context(), file, header)(0, &mlflow.TransportError{Layer: mlflow.LayerDNS})

	text := exposition(t, metrics)
	for _, line := range []string{
		`registrar_mlflow_requests_total{code="200",endpoint="mlflow-artifacts/artifacts/{path}",method="PUT"} 1`,
		`registrar_mlflow_requests_total{code="503",endpoint="mlflow-artifacts/artifacts/{path}",method="PUT"} 1`,
		`registrar_mlflow_requests_total{code="dns",endpoint="mlflow-artifacts/artifacts/{path}",method="PUT"} 1`,
		`registrar_mlflow_request_duration_seconds_count{endpoint="mlflow-artifacts/artifacts/{path}",method="PUT"} 3`,
		`registrar_upload_bytes_total 1000`,
		`version="1.2.3"`,
	} {
		require.Contains(t, text, line)
	}
	require.Empty(t, header, "without tracing nothing is added to a request")
}

func TestMetrics_InstrumentsHaveTheirHelpAndBuckets(t *testing.T) {
	metrics, err := telemetry.NewMetrics("1.2.3", telemetry.Instrument{Name: "registrar_wait_*", Help: "How long.", Buckets: []float64{60, 3600}})
	require.NoError(t, err)
	wait, err := metrics.Meter("test").Float64Histogram("registrar_wait_duration")
	require.NoError(t, err)

	wait.Record(t.Context(), 100)

	text := exposition(t, metrics)
	require.Contains(t, text, "# HELP registrar_wait_duration How long.")
	require.Contains(t, text, `registrar_wait_duration_bucket{le="60"} 0`)
	require.Contains(t, text, `registrar_wait_duration_bucket{le="3600"} 1`)
}

func TestTracing_IsOffWhereNothingAsksForIt(t *testing.T) {
	for _, variables := range []map[string]string{
		{},
		{"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"},
		{"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"},
		{"OTEL_SERVICE_NAME": "acras"},
	} {
		tracing, err := telemetry.StartTracing(t.Context(), telemetry.TracingOptions{Variable: func(name string) string { return variables[name] }})
		require.NoError(t, err)
		require.Nil(t, tracing, variables)
		require.NoError(t, tracing.Stop())
		_, span := tracing.Tracer("test").Start(t.Context(), "nothing")
		require.False(t, span.IsRecording())
	}
}

func TestTracing_RefusesWhatItDoesNotKnow(t *testing.T) {
	for name, c := range map[string]struct {
		variables map[string]string
		says      string
	}{
		"exporter": {map[string]string{"OTEL_TRACES_EXPORTER": "zipkin"}, `OTEL_TRACES_EXPORTER="zipkin": want otlp, console or none`},
		"protocol": {
			map[string]string{"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"},
			`OTEL_EXPORTER_OTLP_PROTOCOL="http/json": want http/protobuf or grpc`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := telemetry.StartTracing(t.Context(), telemetry.TracingOptions{Variable: func(name string) string { return c.variables[name] }})
			require.ErrorContains(t, err, c.says)
		})
	}
}

func TestProfiles_AreForThisMachineAlone(t *testing.T) {
	for _, address := range []string{"0.0.0.0:0", "[::]:0", ":0", "192.0.2.1:0", "6060"} {
		_, _, err := telemetry.ServeProfiles(t.Context(), address)
		require.Error(t, err, address)
	}
	at, stop, err := telemetry.ServeProfiles(t.Context(), "localhost:0")
	require.NoError(t, err)
	t.Cleanup(stop)
	ask := func(host string) (int, string) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+at+"/debug/pprof/goroutine?debug=1", nil)
		require.NoError(t, err)
		request.Host = host
		response, err := http.DefaultClient.Do(request)
		require.NoError(t, err)
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		return response.StatusCode, string(body)
	}
	status, body := ask(at)
	require.Equal(t, http.StatusOK, status)
	require.True(t, strings.HasPrefix(body, "goroutine profile:"), body)
	status, _ = ask("rebound.example:6060")
	require.Equal(t, http.StatusForbidden, status, "a name that points here is not this machine's")
}

func TestMetrics_PartsOfAFileAreCountedAsUploaded(t *testing.T) {
	store := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("ETag", `"abc"`)
	}))
	defer store.Close()
	metrics, err := telemetry.NewMetrics("1.2.3")
	require.NoError(t, err)
	client, err := mlflow.New(mlflow.Config{TrackingURI: "http://mlflow.invalid", Observer: telemetry.MLflow(metrics, nil)})
	require.NoError(t, err)
	defer client.Close()

	for number := range 2 {
		target := mlflow.PartTarget{URL: store.URL + "/bucket/model.pkl?X-Amz-Signature=secret", Number: number + 1}
		_, err = client.UploadPart(t.Context(), target, 5, strings.NewReader("bytes"))
		require.NoError(t, err)
	}

	text := exposition(t, metrics)
	require.Contains(t, text, `registrar_upload_bytes_total 10`)
	require.Contains(t, text, `registrar_mlflow_requests_total{code="200",endpoint="artifact-store/{part}",method="PUT"} 2`)
	require.NotContains(t, text, "secret")
	require.NotContains(t, text, "model.pkl")
}
