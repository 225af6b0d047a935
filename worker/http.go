package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
)

// What the worker answers over HTTP.
const (
	pathHealth  = "/healthz"
	pathReady   = "/readyz"
	pathMetrics = "/metrics"
)

// defaultHTTPListen is on loopback: what is said there is no secret, but nobody else's business either. The port is the one that
// Prometheus has for exporters of OpenTelemetry.
const defaultHTTPListen = "127.0.0.1:9464"

// serveHTTP answers whether the worker lives and works, and what it measured, until stop is called. Where the default port is taken, by
// another worker on this machine most likely, it goes on without; an address that was asked for and cannot be had is an error.
func serveHTTP(ctx context.Context, s settings, r *readiness, metrics http.Handler, logger *zap.Logger) (stop func(), err error) {
	if s.httpListen == "" {
		return func() {}, nil
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", s.httpListen)
	if errors.Is(err, syscall.EADDRINUSE) && !s.httpListenGiven {
		logger.Warn("the default address for health and metrics is taken, so this worker has none: give it one by --http-listen", zap.String("http_listen", s.httpListen))
		return func() {}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("serve health and metrics: --http-listen %s: %w", s.httpListen, err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+pathHealth, func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprintln(w, "ok") })
	mux.Handle("GET "+pathReady, r)
	mux.Handle("GET "+pathMetrics, metrics)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, WriteTimeout: time.Minute}
	go func() { _ = server.Serve(listener) }() // always ends with an error: that of stop
	logger.Info("health and metrics are served", zap.String("http_listen", listener.Addr().String()))
	return func() { _ = server.Close() }, nil
}

// readiness tells whether the worker takes work. Its zero value does not: it starts.
type readiness struct {
	mu     sync.Mutex
	reason string                      // why not
	polls  func(context.Context) error // asks Temporal whether this worker polls; nil where there is a reason why not

	asked  time.Time // when Temporal was asked last,
	answer error     // and what it said
}

// unready says why the worker takes no work.
func (r *readiness) unready(reason string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reason, r.polls = reason, nil
}

// ready says that the worker takes work for as long as Temporal says so too.
func (r *readiness) ready(polls func(context.Context) error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reason, r.polls, r.asked = "", polls, time.Time{}
}

const (
	// askAgainAfter keeps those who ask often from asking Temporal often.
	askAgainAfter = time.Second
	// answerWithin is how long Temporal may take to answer before it counts as away.
	answerWithin = 2 * time.Second
)

// check returns nil where the worker takes work, and else why it does not.
func (r *readiness) check(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.polls == nil {
		if r.reason == "" {
			return errors.New("the worker starts")
		}
		return errors.New(r.reason)
	}
	if time.Since(r.asked) > askAgainAfter {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), answerWithin)
		defer cancel()
		r.answer = r.polls(ctx)
		r.asked = time.Now()
	}
	return r.answer
}

// gauge is the same as a metric.
func (r *readiness) gauge() prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "registrar_ready", Help: "1 where this worker takes work: it polls Temporal, and Temporal says so.",
	}, func() float64 {
		if r.check(context.Background()) != nil {
			return 0
		}
		return 1
	})
}

// ServeHTTP answers 200 where the worker takes work, and else 503 with the reason.
func (r *readiness) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	if err := r.check(request.Context()); err != nil {
		http.Error(w, "not ready: "+err.Error(), http.StatusServiceUnavailable)
		return
	}
	_, _ = fmt.Fprintln(w, "ready")
}
