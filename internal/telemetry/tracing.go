package telemetry

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/exporters/stdout/stdouttrace"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

// Tracing records and exports spans. A nil *Tracing is one that was not switched on, and costs nothing.
type Tracing struct {
	provider *sdktrace.TracerProvider
}

// TracingOptions say whose spans they are, and where console and errors go.
type TracingOptions struct {
	// Service is the name of the service unless OTEL_SERVICE_NAME or OTEL_RESOURCE_ATTRIBUTES has another.
	Service, Version string
	// Variable is one environment variable, empty where it is not set. OpenTelemetry's exporters read those that are only theirs (endpoint,
	// headers, certificates, time limits) from the process.
	Variable func(name string) string
	// Console is where OTEL_TRACES_EXPORTER=console prints.
	Console io.Writer
	// Failed is told of spans that could not be exported, at most once a minute. They are lost; nothing else is.
	Failed func(error)
}

// StartTracing switches tracing on where OpenTelemetry's variables ask for it: OTEL_TRACES_EXPORTER (otlp, console or none), or an
// OTEL_EXPORTER_OTLP_ENDPOINT or OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, unless OTEL_SDK_DISABLED is true. Otherwise it returns nil.
func StartTracing(ctx context.Context, o TracingOptions) (*Tracing, error) {
	name := exporterOf(o.Variable)
	if name == "none" {
		return nil, nil
	}
	exporter, err := newExporter(ctx, name, o)
	if err != nil {
		return nil, err
	}
	// The later one wins: what the environment says of the service.
	described, err := resource.New(ctx, resource.WithTelemetrySDK(), resource.WithHost(),
		resource.WithAttributes(attribute.String("service.name", o.Service), attribute.String("service.version", o.Version)), resource.WithFromEnv())
	if err != nil {
		return nil, fmt.Errorf("read OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	otel.SetErrorHandler(&rarely{tell: o.Failed})
	return &Tracing{provider: sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(described))}, nil
}

// exporterOf is where spans go: none where nothing is set.
func exporterOf(variable func(string) string) string {
	switch exporter := variable("OTEL_TRACES_EXPORTER"); {
	case strings.EqualFold(variable("OTEL_SDK_DISABLED"), "true"):
		return "none"
	case exporter != "":
		return exporter
	case variable("OTEL_EXPORTER_OTLP_ENDPOINT") != "", variable("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") != "":
		return "otlp"
	}
	return "none"
}

func newExporter(ctx context.Context, name string, o TracingOptions) (sdktrace.SpanExporter, error) {
	switch name {
	case "console":
		return stdouttrace.New(stdouttrace.WithWriter(o.Console))
	case "otlp":
	default:
		return nil, fmt.Errorf("OTEL_TRACES_EXPORTER=%q: want otlp, console or none", name)
	}
	protocolVariable := "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"
	protocol := o.Variable(protocolVariable)
	if protocol == "" {
		protocolVariable = "OTEL_EXPORTER_OTLP_PROTOCOL"
		protocol = o.Variable(protocolVariable)
	}
	switch protocol {
	case "", "http/protobuf":
		return otlptracehttp.New(ctx)
	case "grpc":
		return otlptracegrpc.New(ctx)
	}
	return nil, fmt.Errorf("%s=%q: want http/protobuf or grpc", protocolVariable, protocol)
}

// rarely keeps a collector that is gone from filling the log.
type rarely struct {
	tell func(error)

	mu   sync.Mutex
	told time.Time
}

// Handle tells of an error of OpenTelemetry's.
func (r *rarely) Handle(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if time.Since(r.told) > time.Minute {
		r.told = time.Now()
		r.tell(err)
	}
}

// Tracer makes spans. Where tracing is off they are none.
func (t *Tracing) Tracer(name string) trace.Tracer {
	if t == nil {
		return noop.NewTracerProvider().Tracer(name)
	}
	return t.provider.Tracer(name)
}

// flushWithin is how long the end of a program may be held up by a collector that does not answer.
const flushWithin = 2 * time.Second

// Stop exports what is left.
func (t *Tracing) Stop() error {
	if t == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), flushWithin)
	defer cancel()
	if err := t.provider.Shutdown(ctx); err != nil {
		return fmt.Errorf("export spans: %w", err)
	}
	return nil
}
