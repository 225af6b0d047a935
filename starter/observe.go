package main

import (
	"errors"
	"fmt"
	"sync"

	"github.com/spf13/cobra"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/contrib/opentelemetry"

	"registrar/internal/telemetry"
)

// observation is how this command can be seen from outside: nothing, unless it was asked for.
type observation struct {
	tracing *telemetry.Tracing
	span    trace.Span // of the command
	stops   []func()

	mu   sync.Mutex
	lost error // the last failure to export spans
}

// observe begins what OpenTelemetry's variables and --pprof-listen ask for. The command's context then carries its span.
func (s *starter) observe(command *cobra.Command) error {
	ctx := command.Context()
	if s.pprofListen != "" {
		if _, err := telemetry.Loopback(ctx, s.pprofListen); err != nil {
			return usageError{fmt.Errorf("--pprof-listen: %w", err)}
		}
		at, stop, err := telemetry.ServeProfiles(ctx, s.pprofListen)
		if err != nil {
			return fmt.Errorf("--pprof-listen: %w", err)
		}
		s.seen.stops = append(s.seen.stops, stop)
		fmt.Fprintf(s.stderr, "profiles are served: http://%s/debug/pprof/\n", at)
	}
	tracing, err := telemetry.StartTracing(ctx, telemetry.TracingOptions{
		Service: "registrar-starter", Version: version, Console: s.stderr,
		Variable: func(name string) string { return s.variable(name, "") },
		Failed:   s.seen.lose,
	})
	if err != nil {
		return usageError{err}
	}
	if tracing == nil {
		return nil
	}
	s.seen.tracing = tracing
	ctx, s.seen.span = tracing.Tracer("registrar/starter").Start(ctx, "starter "+command.Name())
	command.SetContext(ctx)
	return nil
}

// end ends the command's span and exports what is left.
func (o *observation) end(code int) error {
	for _, stop := range o.stops {
		stop()
	}
	if o.tracing == nil {
		return nil
	}
	o.span.SetAttributes(attribute.Int("process.exit.code", code))
	o.span.End()
	err := o.tracing.Stop()
	o.mu.Lock()
	defer o.mu.Unlock()
	return errors.Join(o.lost, err)
}

// lose notes that spans are lost. It is called while the command does its work.
func (o *observation) lose(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.lost = fmt.Errorf("export spans: %w", err)
}

// addTo lets Temporal's SDK trace, where tracing is on. The worker has the same settings, and their reasons.
func (o *observation) addTo(options *client.Options) error {
	if o.tracing == nil {
		return nil
	}
	interceptor, err := opentelemetry.NewTracingInterceptor(opentelemetry.TracerOptions{
		Tracer:            o.tracing.Tracer("temporal-sdk-go"),
		TextMapPropagator: propagation.TraceContext{},
		DisableBaggage:    true, DisableQueryTracing: true, AllowInvalidParentSpans: true,
	})
	if err != nil {
		return fmt.Errorf("trace Temporal's SDK: %w", err)
	}
	options.Interceptors = append(options.Interceptors, interceptor)
	return nil
}
