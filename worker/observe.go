package main

import (
	"context"
	"fmt"
	"io"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/contrib/opentelemetry"
	"go.uber.org/zap"

	"registrar/internal/mlflow"
	"registrar/internal/telemetry"
	"registrar/workflows"
)

// observation is how this worker can be seen from outside.
type observation struct {
	metrics *telemetry.Metrics
	tracing *telemetry.Tracing
	log     *zap.Logger
}

const (
	hour = 3600 // seconds
	day  = 24 * hour
)

// instruments are what comes from the workflows and from Temporal's SDK.
var instruments = []telemetry.Instrument{
	{Name: workflows.MetricEnded, Help: "Registrations that ended, by outcome, counted by the worker that ended them."},
	{
		Name: workflows.MetricWait, Help: "How long registrations waited for MLflow, recorded when a wait ends.",
		Buckets: []float64{1, 10, 60, 300, 900, hour, 6 * hour, day, 3 * day, 7 * day, 28 * day},
	},
	{Name: workflows.MetricFindings, Help: "What audits found in MLflow that should not be there and did not repair, by kind."},
	{Name: "temporal_*_latency", Buckets: []float64{.01, .05, .1, .5, 1, 5, 10, 30, 60, 300, hour}},
}

func newObservation(ctx context.Context, process map[string]string, console io.Writer, logger *zap.Logger) (*observation, error) {
	metrics, err := telemetry.NewMetrics(version, instruments...)
	if err != nil {
		return nil, err
	}
	tracing, err := telemetry.StartTracing(ctx, telemetry.TracingOptions{
		Service: "registrar-worker", Version: version, Console: console,
		Variable: func(name string) string { return process[name] },
		Failed:   func(err error) { logger.Warn("spans are lost", zap.Error(err)) },
	})
	if err != nil {
		return nil, err
	}
	return &observation{metrics: metrics, tracing: tracing, log: logger}, nil
}

// stop exports what is left.
func (o *observation) stop() {
	if err := o.tracing.Stop(); err != nil {
		o.log.Warn("spans are lost", zap.Error(err))
	}
}

// mlflow sees the requests to MLflow.
func (o *observation) mlflow() mlflow.Observer { return telemetry.MLflow(o.metrics, o.tracing) }

// addTo lets Temporal's SDK measure, and trace where tracing is on.
func (o *observation) addTo(options *client.Options) error {
	options.MetricsHandler = opentelemetry.NewMetricsHandler(opentelemetry.MetricsHandlerOptions{
		Meter:                o.metrics.Meter("temporal-sdk-go"),
		UseMonotonicCounters: true,
		// The default is to panic.
		OnError: func(err error) { o.log.Warn("a measurement of Temporal's SDK is lost", zap.Error(err)) },
	})
	if o.tracing == nil {
		return nil
	}
	tracing, err := opentelemetry.NewTracingInterceptor(opentelemetry.TracerOptions{
		Tracer:            o.tracing.Tracer("temporal-sdk-go"),
		TextMapPropagator: propagation.TraceContext{},
		// What others send along is not for histories, which are kept.
		DisableBaggage: true,
		// Who looks at a registration does nothing to it.
		DisableQueryTracing: true,
		// A header that cannot be read must not keep a registration from running.
		AllowInvalidParentSpans: true,
		SpanStarter:             startSpan,
	})
	if err != nil {
		return fmt.Errorf("trace Temporal's SDK: %w", err)
	}
	options.Interceptors = append(options.Interceptors, tracing)
	return nil
}

// untraced are the activities that an outage repeats for as long as it lasts, for weeks perhaps: nothing of what they do is traced.
var untraced = map[string]bool{"RunActivity:JoinWaiting": true, "RunActivity:ProbeMLflow": true}

func startSpan(ctx context.Context, tracer trace.Tracer, name string, options ...trace.SpanStartOption) trace.Span {
	if untraced[name] {
		// In the same trace, and not sampled, so that what begins below it is not sampled either.
		parent := trace.SpanContextFromContext(ctx)
		return trace.SpanFromContext(trace.ContextWithSpanContext(ctx, parent.WithTraceFlags(parent.TraceFlags().WithSampled(false))))
	}
	_, span := tracer.Start(ctx, name, options...)
	return span
}
