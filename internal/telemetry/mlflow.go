package telemetry

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"registrar/internal/mlflow"
)

// MLflow sees the requests to MLflow: it counts them, and makes each a span whose context goes along in the W3C header traceparent.
// Baggage stays here: who sent it did not mean it for MLflow.
func MLflow(metrics *Metrics, tracing *Tracing) mlflow.Observer {
	tracer := tracing.Tracer("registrar/internal/mlflow")
	return func(ctx context.Context, e mlflow.Exchange, header http.Header) func(int, error) {
		began := time.Now()
		var span trace.Span
		if tracing != nil {
			ctx, span = tracer.Start(ctx, e.Method+" "+e.Endpoint, trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(attributesOf(e)...))
			propagation.TraceContext{}.Inject(ctx, propagation.HeaderCarrier(header))
		}
		return func(status int, err error) {
			if metrics != nil {
				metrics.request(e, status, err, time.Since(began))
			}
			if span != nil {
				end(span, status, err)
			}
		}
	}
}

// attributesOf are those of OpenTelemetry's semantic conventions for HTTP clients. The URL comes without user info and query.
func attributesOf(e mlflow.Exchange) []attribute.KeyValue {
	attributes := []attribute.KeyValue{
		attribute.String("http.request.method", e.Method),
		attribute.String("url.template", e.Endpoint),
		attribute.String("url.full", e.URL),
		attribute.Int64("http.request.body.size", e.SizeBytes),
	}
	u, err := url.Parse(e.URL)
	if err != nil {
		return attributes
	}
	attributes = append(attributes, attribute.String("server.address", u.Hostname()))
	if port, err := strconv.Atoi(u.Port()); err == nil {
		attributes = append(attributes, attribute.Int("server.port", port))
	}
	return attributes
}

func end(span trace.Span, status int, err error) {
	if status != 0 {
		span.SetAttributes(attribute.Int("http.response.status_code", status))
	}
	if err != nil {
		span.SetAttributes(attribute.String("error.type", code(status, err)))
		span.SetStatus(codes.Error, err.Error())
	}
	span.End()
}
