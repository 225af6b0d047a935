// Package chaos proves the first promise: whatever befalls the requests of a registration, and the worker that sends them, MLflow ends up
// with one run, one logged model and one version, or none. It records the requests that a fault-free registration makes, and repeats the
// registration once for each request and each fault, on real servers, with a proxy between worker and MLflow that makes the fault.
//
// The proxy knows HTTP and the paths of MLflow's API. What must hold afterwards is the tests' knowledge.
package chaos

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Proxy stands between a worker and MLflow, for one registration: it has an address of its own, which is that registration's tracking URI, so
// that a request needs nothing else to be told apart. It names and counts the requests, and lets faults befall those that were chosen.
type Proxy struct {
	// URI is what the registration takes for MLflow's address.
	URI string
	// Kill and Freeze are what the faults of the worker do; nil where it is shared.
	Kill, Freeze func()
	// Down lets every request meet a reset, as long as it is set.
	Down atomic.Bool

	target   *url.URL
	upstream *http.Transport
	server   *http.Server

	mu      sync.Mutex
	planned []Planned
	counts  map[string]int
	log     []*Exchange
	late    []*lateRequest
	struck  *Exchange // the last one that a fault befell
	busy    int
	last    time.Time
}

// Planned is a fault and the request that it befalls.
type Planned struct {
	Fault Fault
	// Request is the name of the request, as Exchange.Name gives it.
	Request string
	// After, where Request is empty, counts from the request that the fault before befell: 1 is the very next one. The fault befalls the first
	// request from there on for which it makes sense.
	After int
}

// befalls tells whether a request is the one, where struck is the request that the fault before befell.
func (p Planned) befalls(e, struck *Exchange) bool {
	if p.Request != "" {
		return p.Request == e.Name
	}
	return struck != nil && e.Number >= struck.Number+p.After && p.Fault.Applies(e)
}

func (p Planned) String() string {
	if p.Request == "" {
		return fmt.Sprintf("+%d=%s", p.After, p.Fault.Name)
	}
	return p.Request + "=" + p.Fault.Name
}

// Exchange is one request on its way, and what became of it.
type Exchange struct {
	Number int    // from 1 on, over all requests
	Name   string // method, path without ids, and how many of these there have been: POST.runs.create.1
	Body   int    // bytes

	proxy   *Proxy
	pattern string
	request *http.Request
	body    []byte
	writer  http.ResponseWriter

	// what MLflow answered, where it was asked
	applied bool
	status  int
	header  http.Header
	answer  []byte

	// for the log
	fault, outcome string
	started        time.Time
}

// lateRequest is a request that is kept back until another one comes by.
type lateRequest struct {
	exchange *Exchange
	due      func(e *Exchange, answered bool) bool
}

// NewProxy listens on a free port of this machine until it is closed.
func NewProxy(ctx context.Context, mlflowURI string, planned ...Planned) (*Proxy, error) {
	target, err := url.Parse(mlflowURI)
	if err != nil {
		return nil, fmt.Errorf("read MLflow's address: %w", err)
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("start proxy: %w", err)
	}
	p := &Proxy{
		URI: "http://" + listener.Addr().String(), target: target, planned: planned, counts: map[string]int{},
		// A connection for each request: net/http would send one again where a kept one turns out to be dead.
		upstream: &http.Transport{DisableKeepAlives: true, DisableCompression: true},
	}
	p.server = &http.Server{Handler: p, ReadHeaderTimeout: time.Minute}
	go func() { _ = p.server.Serve(listener) }() // ends with an error that says it was closed
	return p, nil
}

// Close ends all connections.
func (p *Proxy) Close() { _ = p.server.Close() }

// ServeHTTP passes a request on, unless a fault was planned for it.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e, fault := p.arrive(w, r)
	defer p.leave()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		e.note("broke off before it was complete")
		return
	}
	e.body, e.Body = body, len(body)
	if p.Down.Load() {
		e.note("down")
		e.Reset()
		return
	}
	p.release(e, false)
	if fault == nil {
		e.Apply()
		e.PassBack()
		return
	}
	fault(e)
}

// arrive names and numbers a request, and finds the fault that is planned for it.
func (p *Proxy) arrive(w http.ResponseWriter, r *http.Request) (*Exchange, func(*Exchange)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.busy++
	pattern := r.Method + " " + withoutIDs(r.URL.Path)
	p.counts[pattern]++
	e := &Exchange{
		Number: len(p.log) + 1, Name: strings.NewReplacer("/", ".", " ", ".").Replace(pattern) + "." + strconv.Itoa(p.counts[pattern]),
		proxy: p, pattern: pattern, request: r, writer: w, started: time.Now(),
	}
	p.log = append(p.log, e)
	if len(p.planned) == 0 {
		return e, nil
	}
	next := p.planned[0]
	if !next.befalls(e, p.struck) {
		return e, nil
	}
	p.planned = p.planned[1:]
	p.struck = e
	e.fault = next.Fault.Name
	return e, next.Fault.befall
}

func (p *Proxy) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.busy--
	p.last = time.Now()
}

// Quiet tells whether no request has been under way for a while.
func (p *Proxy) Quiet(a time.Duration) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.busy == 0 && time.Since(p.last) > a
}

// Struck tells whether all planned faults have befallen a request.
func (p *Proxy) Struck() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.planned) == 0
}

// Count is how many requests came whose name begins so.
func (p *Proxy) Count(name string) int {
	n := 0
	for _, e := range p.Exchanges() {
		if strings.HasPrefix(e.Name, name) {
			n++
		}
	}
	return n
}

// Exchanges are all requests so far, in the order of their coming.
func (p *Proxy) Exchanges() []*Exchange {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]*Exchange{}, p.log...)
}

// Log is all that came by, a line each.
func (p *Proxy) Log() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var b strings.Builder
	for _, e := range p.log {
		mark := "  "
		if e.fault != "" {
			mark = "* "
		}
		fmt.Fprintf(&b, "%s%s %3d %-52s %s\n", mark, e.started.Format("15:04:05.000"), e.Number, e.Name, strings.TrimSpace(e.fault+" "+e.outcome))
	}
	for _, planned := range p.planned {
		fmt.Fprintf(&b, "  never came: %s\n", planned)
	}
	return b.String()
}

// ReleaseLate applies what is still kept back: everything else is over.
func (p *Proxy) ReleaseLate() {
	p.mu.Lock()
	late := p.late
	p.late = nil
	p.mu.Unlock()
	for _, l := range late {
		l.exchange.applyLate("at the end")
	}
}

// release applies late requests that another one is to find applied, or just not.
func (p *Proxy) release(e *Exchange, answered bool) {
	p.mu.Lock()
	var due, kept []*lateRequest
	for _, l := range p.late {
		if l.exchange != e && l.due(e, answered) {
			due = append(due, l)
		} else {
			kept = append(kept, l)
		}
	}
	p.late = kept
	p.mu.Unlock()
	for _, l := range due {
		when := "before"
		if answered {
			when = "after"
		}
		l.exchange.applyLate(fmt.Sprintf("%s request %d", when, e.Number))
	}
}

// note writes into the log what became of a request.
func (e *Exchange) note(format string, args ...any) {
	e.proxy.mu.Lock()
	defer e.proxy.mu.Unlock()
	e.outcome = strings.TrimSpace(e.outcome + " " + fmt.Sprintf(format, args...))
}

// Changes tells whether the request changes anything in MLflow.
func (e *Exchange) Changes() bool {
	return e.request.Method != http.MethodGet && !strings.HasSuffix(e.pattern, "/search")
}

// IsUpload tells whether the request carries a file.
func (e *Exchange) IsUpload() bool { return e.request.Method == http.MethodPut }

// Apply sends the request to MLflow, whether or not who sent it still waits.
func (e *Exchange) Apply() {
	e.send(bytes.NewReader(e.body))
	e.proxy.release(e, true)
}

func (e *Exchange) send(body io.Reader) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	u := *e.proxy.target
	u.Path, u.RawQuery = e.request.URL.Path, e.request.URL.RawQuery
	request, err := http.NewRequestWithContext(ctx, e.request.Method, u.String(), body)
	if err != nil {
		e.note("not sent: %v", err)
		return
	}
	request.ContentLength = int64(len(e.body))
	for name, values := range e.request.Header {
		if name != "Connection" && name != "Expect" {
			request.Header[name] = values
		}
	}
	response, err := e.proxy.upstream.RoundTrip(request)
	if err != nil {
		e.note("MLflow: %v", err)
		return
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		e.note("MLflow: %v", err)
		return
	}
	e.applied, e.status, e.header, e.answer = true, response.StatusCode, response.Header, answer
	e.note("%d", e.status)
}

// ApplyHalf sends the first half of the request's body to MLflow, and breaks the connection off.
func (e *Exchange) ApplyHalf() {
	half := bytes.NewReader(e.body[:len(e.body)/2])
	e.send(io.MultiReader(half, brokenOff{}))
}

type brokenOff struct{}

func (brokenOff) Read([]byte) (int, error) { return 0, fmt.Errorf("broken off in the middle") }

// ApplyLater sends the request to MLflow when another one has come by: before it is passed on, or after it was answered, as due says. At the end
// it is sent at the latest.
func (e *Exchange) ApplyLater(due func(other *Exchange, answered bool) bool) {
	e.proxy.mu.Lock()
	defer e.proxy.mu.Unlock()
	e.proxy.late = append(e.proxy.late, &lateRequest{exchange: e, due: due})
}

func (e *Exchange) applyLate(when string) {
	e.note("late, %s:", when)
	e.send(bytes.NewReader(e.body))
}

// PassBack gives MLflow's answer to the worker; where there is none, the connection breaks.
func (e *Exchange) PassBack() {
	if !e.applied {
		e.Reset()
		return
	}
	e.Answer(e.status, e.header, e.answer)
}

// Answer is an answer that need not be MLflow's.
func (e *Exchange) Answer(status int, header http.Header, body []byte) {
	for name, values := range header {
		if name != "Content-Length" && name != "Connection" && name != "Date" {
			e.writer.Header()[name] = values
		}
	}
	e.writer.WriteHeader(status)
	_, _ = e.writer.Write(body) // who asked may be gone
}

// Truncate gives the first half of MLflow's answer, and breaks off.
func (e *Exchange) Truncate() {
	e.writer.Header().Set("Content-Type", e.header.Get("Content-Type"))
	e.writer.Header().Set("Content-Length", strconv.Itoa(len(e.answer)))
	e.writer.WriteHeader(e.status)
	_, _ = e.writer.Write(e.answer[:len(e.answer)/2])
	_ = http.NewResponseController(e.writer).Flush()
	panic(http.ErrAbortHandler)
}

// Reset breaks the connection, as a crash or a firewall does: the worker reads "connection reset by peer".
func (e *Exchange) Reset() {
	connection, _, err := http.NewResponseController(e.writer).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if tcp, ok := connection.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = connection.Close()
}

// Silence answers nothing until the worker gives up.
func (e *Exchange) Silence() {
	select {
	case <-e.request.Context().Done():
		e.note("given up after %.1f s", time.Since(e.started).Seconds())
	case <-time.After(5 * time.Minute):
		e.note("never given up")
	}
}

var (
	modelID      = regexp.MustCompile(`\bm-[0-9a-f]{32}\b`)
	artifactPath = regexp.MustCompile(`^artifacts/.*/artifacts/`)
)

// withoutIDs is a path as it is the same in each registration: below the API's root, without the ids of objects.
func withoutIDs(path string) string {
	for _, root := range []string{"/api/2.0/mlflow/", "/api/2.0/mlflow-artifacts/"} {
		path = strings.TrimPrefix(path, root)
	}
	path = artifactPath.ReplaceAllString(path, "artifacts/")
	return modelID.ReplaceAllString(strings.TrimPrefix(path, "/"), "ID")
}
