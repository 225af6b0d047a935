package e2e

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// gateway stands between a worker and MLflow: it can be closed and opened on the same port, cut single requests, and tell
// what it saw.
type gateway struct {
	URI string

	t       testing.TB
	address string
	proxy   *httputil.ReverseProxy

	mu      sync.Mutex
	server  *http.Server             // nil while it is closed
	admits  func(*http.Request) bool // nil: everybody
	refuses func(string) bool        // nil: nothing
	lacks   string                   // part of the paths that are not there; empty: none
	faults  []planned
	seen    []string // method and path of each request
}

// fault befalls one request. The functions run while it is held up, and may be nil.
type fault struct {
	before    func()                            // before it is passed on
	inside    func()                            // when half a megabyte of its body was passed on
	body      func(io.ReadCloser) io.ReadCloser // what is passed on in place of its body
	cutBefore bool                              // it is not passed on, and never answered
	status    int                               // it is not passed on, and answered by this status; 0: by MLflow's own
	location  string                            // where the status redirects to
	echo      bool                              // it is not passed on, and the answer, of status 500 where none is said, quotes the headers that came
	after     func()                            // when MLflow has answered
	cutAfter  bool                              // the answer is lost
}

// planned is a fault for the next request whose method and path contain the text.
type planned struct {
	text  string
	fault fault
}

func newGateway(t testing.TB, mlflowURI string) *gateway {
	t.Helper()
	target, err := url.Parse(mlflowURI)
	require.NoError(t, err)
	g := &gateway{t: t, address: unusedAddress(t), proxy: &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) },
		// MLflow is gone: so is the connection to the worker.
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}}
	g.open()
	g.URI = "http://" + g.address
	t.Cleanup(g.close)
	return g
}

// open listens, on the port that it had before.
func (g *gateway) open() {
	g.t.Helper()
	listener, err := new(net.ListenConfig).Listen(g.t.Context(), "tcp", g.address)
	require.NoError(g.t, err)
	server := &http.Server{Handler: http.HandlerFunc(g.serve)}
	go func() { _ = server.Serve(listener) }()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.server = server
}

// close ends all connections; new ones are refused. It may be repeated.
func (g *gateway) close() {
	g.mu.Lock()
	server := g.server
	g.server = nil
	g.mu.Unlock()
	if server != nil {
		_ = server.Close()
	}
}

// next plans a fault for the next request whose "METHOD path" contains the text.
func (g *gateway) next(text string, f fault) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.faults = append(g.faults, planned{text, f})
}

// admit asks for each request from now on whether it may pass; what may not is answered by 401.
func (g *gateway) admit(admits func(*http.Request) bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.admits = admits
}

// lack answers by 404, as an older MLflow does, where a path contains the text.
func (g *gateway) lack(text string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.lacks = text
}

// requests are method and path of all that came so far.
func (g *gateway) requests() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]string{}, g.seen...)
}

func (g *gateway) serve(w http.ResponseWriter, r *http.Request) {
	f := g.note(r)
	if f.before != nil {
		f.before()
	}
	if f.inside != nil {
		r.Body = &interrupted{ReadCloser: r.Body, left: 1 << 19, interrupt: f.inside}
	}
	if f.body != nil {
		r.Body = f.body(r.Body)
	}
	if f.cutBefore {
		panic(http.ErrAbortHandler)
	}
	if f.echo {
		http.Error(w, fmt.Sprint("unexpected error, headers: ", r.Header), cmp.Or(f.status, http.StatusInternalServerError))
		return
	}
	if f.status != 0 {
		if f.location != "" {
			w.Header().Set("Location", f.location)
		}
		http.Error(w, http.StatusText(f.status), f.status)
		return
	}
	if f.after == nil && !f.cutAfter {
		g.proxy.ServeHTTP(w, r)
		return
	}
	answered := httptest.NewRecorder()
	g.proxy.ServeHTTP(answered, r)
	if f.after != nil {
		f.after()
	}
	if f.cutAfter {
		panic(http.ErrAbortHandler)
	}
	w.WriteHeader(answered.Code)
	_, _ = w.Write(answered.Body.Bytes())
}

func (g *gateway) note(r *http.Request) fault {
	g.mu.Lock()
	defer g.mu.Unlock()
	request := r.Method + " " + r.URL.Path
	g.seen = append(g.seen, request)
	if g.admits != nil && !g.admits(r) {
		return fault{status: http.StatusUnauthorized}
	}
	if g.refuses != nil && g.refuses(request) {
		return fault{status: http.StatusServiceUnavailable}
	}
	if g.lacks != "" && strings.Contains(request, g.lacks) {
		return fault{status: http.StatusNotFound}
	}
	for i, p := range g.faults {
		if strings.Contains(request, p.text) {
			g.faults = append(g.faults[:i], g.faults[i+1:]...)
			return p.fault
		}
	}
	return fault{}
}

// gate holds requests up until it is opened.
type gate struct {
	reached, opened chan struct{}
	open            func()
}

// hold lets the next request that contains the text wait, before it is passed on, until the gate is opened or the test ends.
func (g *gateway) hold(text string) *gate {
	held := newGate(g.t)
	g.next(text, fault{before: held.wait})
	return held
}

// holdUpload lets the upload of the model wait in the middle of its body.
func (g *gateway) holdUpload() *gate {
	held := newGate(g.t)
	g.next("model.pkl", fault{inside: held.wait})
	return held
}

// slowDown lets the body of the next request that contains the text pass at this rate, until the gate is opened. The gate is reached when the body breaks off.
func (g *gateway) slowDown(text string, bytesPerSecond int) *gate {
	const ticks = 20 // a second
	brake := newGate(g.t)
	g.next(text, fault{body: func(body io.ReadCloser) io.ReadCloser {
		return &slow{ReadCloser: body, brake: brake, pace: time.Tick(time.Second / ticks), atOnce: bytesPerSecond / ticks}
	}})
	return brake
}

// slow is a body that gives out a little at each tick.
type slow struct {
	io.ReadCloser
	brake  *gate
	pace   <-chan time.Time
	atOnce int
}

func (s *slow) Read(p []byte) (int, error) {
	select {
	case <-s.pace:
		p = p[:min(len(p), s.atOnce)]
	case <-s.brake.opened:
	}
	n, err := s.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) && !s.brake.isReached() {
		close(s.brake.reached)
	}
	return n, err
}

// refuseUntilOpened answers each request that contains the text by 503, until the gate is opened: who asks waits for MLflow. The gate is reached when the
// request has come a few times.
func (g *gateway) refuseUntilOpened(text string) *gate {
	held := newGate(g.t)
	refused := 0
	g.refuse(func(request string) bool {
		select {
		case <-held.opened:
			return false
		default:
		}
		if !strings.Contains(request, text) {
			return false
		}
		if refused++; refused == 4 { // as often as a step is tried before it waits
			close(held.reached)
		}
		return true
	})
	return held
}

// refuse answers by 503 what it is told to, by method and path.
func (g *gateway) refuse(refuses func(request string) bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.refuses = refuses
}

func newGate(t testing.TB) *gate {
	held := &gate{reached: make(chan struct{}), opened: make(chan struct{})}
	held.open = sync.OnceFunc(func() { close(held.opened) })
	t.Cleanup(held.open)
	return held
}

func (g *gate) wait() {
	close(g.reached)
	<-g.opened
}

// isReached tells whether a request has come to the gate.
func (g *gate) isReached() bool {
	select {
	case <-g.reached:
		return true
	default:
		return false
	}
}

// await returns when a request has come to the gate.
func (g *gate) await(t testing.TB) {
	t.Helper()
	select {
	case <-g.reached:
	case <-t.Context().Done():
		require.FailNow(t, "no request came to the gate")
	}
}

// interrupted is a body that does something once some of it was read.
type interrupted struct {
	io.ReadCloser
	left      int
	interrupt func()
}

func (i *interrupted) Read(p []byte) (int, error) {
	n, err := i.ReadCloser.Read(p)
	if i.left -= n; i.left <= 0 && i.interrupt != nil {
		i.interrupt()
		i.interrupt = nil
	}
	return n, err
}
