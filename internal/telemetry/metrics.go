// Package telemetry is how one sees what worker and starter do: metrics for Prometheus, traces for OpenTelemetry, profiles for pprof. It
// knows those three and the requests to MLflow; it knows nothing of Temporal, whose measurements come here through an OpenTelemetry meter.
package telemetry

import (
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	otelprometheus "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/metric"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"

	"registrar/internal/mlflow"
)

// Instrument describes measurements that come through a meter without a description, or with buckets that are not meant for them.
type Instrument struct {
	Name string // may end in *, then it is a prefix
	Help string
	// Buckets are the bounds of a histogram, in its own unit; nil for what is none. OpenTelemetry's own are meant for milliseconds.
	Buckets []float64
}

// Metrics are what one process exposes. Make them once.
type Metrics struct {
	registry *prometheus.Registry
	provider *sdkmetric.MeterProvider

	requests    *prometheus.CounterVec
	durations   *prometheus.HistogramVec
	uploadBytes prometheus.Counter
}

// NewMetrics makes the metrics of a program of this version. The instruments are those that others bring through Meter.
func NewMetrics(version string, instruments ...Instrument) (*Metrics, error) {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "registrar_mlflow_requests_total",
			Help: "Requests to MLflow, and of parts to its store, of this worker that ended, by endpoint and by the status of the answer; where none came, by the layer that failed: dns, tcp, tls, http, auth.",
		}, []string{"method", "endpoint", "code"}),
		durations: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "registrar_mlflow_request_duration_seconds",
			Help:    "How long requests to MLflow took, uploads included.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300},
		}, []string{"method", "endpoint"}),
		uploadBytes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "registrar_upload_bytes_total",
			Help: "Bytes of files that MLflow, or for parts its store, took from this worker, counted when it has answered.",
		}),
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "registrar_build_info", Help: "1, with what this worker was built from.",
		ConstLabels: prometheus.Labels{"version": version, "go_version": runtime.Version()},
	})
	build.Set(1)
	m.registry.MustRegister(build, m.requests, m.durations, m.uploadBytes,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	exporter, err := otelprometheus.New(otelprometheus.WithRegisterer(m.registry), otelprometheus.WithoutScopeInfo(), otelprometheus.WithoutTargetInfo())
	if err != nil {
		return nil, fmt.Errorf("make Prometheus exporter: %w", err)
	}
	m.provider = sdkmetric.NewMeterProvider(sdkmetric.WithReader(exporter), sdkmetric.WithView(views(instruments)...))
	return m, nil
}

func views(instruments []Instrument) []sdkmetric.View {
	var all []sdkmetric.View
	for _, i := range instruments {
		stream := sdkmetric.Stream{Description: i.Help}
		if i.Buckets != nil {
			stream.Aggregation = sdkmetric.AggregationExplicitBucketHistogram{Boundaries: i.Buckets}
		}
		all = append(all, sdkmetric.NewView(sdkmetric.Instrument{Name: i.Name}, stream))
	}
	return all
}

// Meter is what a library records into that speaks OpenTelemetry.
func (m *Metrics) Meter(name string) metric.Meter { return m.provider.Meter(name) }

// Register adds metrics that are collected when somebody asks.
func (m *Metrics) Register(collector prometheus.Collector) error {
	if err := m.registry.Register(collector); err != nil {
		return fmt.Errorf("register metrics: %w", err)
	}
	return nil
}

// Handler answers Prometheus. One collector that fails does not hide the others.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError, MaxRequestsInFlight: 4})
}

// request records one request to MLflow.
func (m *Metrics) request(e mlflow.Exchange, status int, err error, took time.Duration) {
	m.requests.WithLabelValues(e.Method, e.Endpoint, code(status, err)).Inc()
	m.durations.WithLabelValues(e.Method, e.Endpoint).Observe(took.Seconds())
	if e.Upload && err == nil {
		m.uploadBytes.Add(float64(e.SizeBytes))
	}
}

// code is the status of an answer, or the layer that failed where none came.
func code(status int, err error) string {
	if status != 0 {
		return strconv.Itoa(status)
	}
	if failed, ok := errors.AsType[*mlflow.TransportError](err); ok {
		return string(failed.Layer)
	}
	return string(mlflow.LayerHTTP)
}
