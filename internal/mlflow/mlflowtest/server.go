// Package mlflowtest holds a fake MLflow server, and the contract suite that proves that it behaves as a real one.
//
// The fake knows the endpoints of package mlflow, in memory, with the status codes, error codes and oddities of MLflow
// 3.17.2 that the contract fixes. It knows no permissions, workspaces, pages or database, and its clock and its ids only
// count. What a test builds on and the contract does not fix belongs into the contract first.
package mlflowtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
)

// Server is a fake MLflow server. It is safe for concurrent use.
type Server struct {
	URL string // the tracking URI

	http   *httptest.Server
	mux    *http.ServeMux
	closed chan struct{}

	mu        sync.Mutex
	intercept func(*http.Request) Fault
	requests  []Request
	store     store
}

// Request is a request that reached the server.
type Request struct {
	Method string
	Path   string
	Header http.Header
	Body   []byte
}

// Fault is what befalls a request. The zero value is nothing: the request is applied and answered.
type Fault struct {
	// AfterApply lets the request be applied first, so that only its answer suffers.
	AfterApply bool
	// Hang holds the request up until the channel is closed. It then goes on as if nothing had been, though the client
	// may be long gone: with AfterApply false it is applied late.
	Hang <-chan struct{}
	// Drop cuts the connection without an answer.
	Drop bool
	// Status is answered instead of the server's own, with Body.
	Status int
	Body   string
}

// NewServer starts a fake server that ends with the test. It has the experiment Default with the id 0.
func NewServer(t testing.TB) *Server {
	server := &Server{closed: make(chan struct{}), store: newStore()}
	server.mux = server.routes()
	server.http = httptest.NewServer(http.HandlerFunc(server.serve))
	server.URL = server.http.URL
	t.Cleanup(func() {
		close(server.closed)
		server.http.Close()
	})
	return server
}

// Intercept asks decide for the fault of each request from now on. It may be called at any time; nil ends it. The
// request's body is there to be read. What decide keeps needs a lock: the goroutine of a request that got no answer may
// still be at it when the next one comes.
func (s *Server) Intercept(decide func(*http.Request) Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.intercept = decide
}

// Requests are all requests in the order of their arrival, also those that were never applied.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

// serve lets the fault strike before or after the request is applied.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler) // the client broke off: nothing arrived
	}
	s.mu.Lock()
	s.requests = append(s.requests, Request{Method: r.Method, Path: r.URL.Path, Header: r.Header.Clone(), Body: body})
	decide := s.intercept
	s.mu.Unlock()

	var fault Fault
	if decide != nil {
		r.Body = io.NopCloser(bytes.NewReader(body))
		fault = decide(r)
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	if !fault.AfterApply && s.strike(w, fault) {
		return
	}
	answer := httptest.NewRecorder()
	s.mux.ServeHTTP(answer, r)
	if fault.AfterApply && s.strike(w, fault) {
		return
	}
	for key, values := range answer.Header() {
		w.Header()[key] = values
	}
	w.WriteHeader(answer.Code)
	_, _ = w.Write(answer.Body.Bytes()) // the client may be gone: that is the fault's point
}

// strike reports whether the fault has answered the request, or made an answer impossible.
func (s *Server) strike(w http.ResponseWriter, fault Fault) bool {
	if fault.Hang != nil {
		select {
		case <-fault.Hang:
		case <-s.closed:
			panic(http.ErrAbortHandler)
		}
	}
	if fault.Drop {
		panic(http.ErrAbortHandler)
	}
	if fault.Status == 0 {
		return false
	}
	w.WriteHeader(fault.Status)
	_, _ = w.Write([]byte(fault.Body))
	return true
}

// refusal is an error as MLflow's API answers it.
type refusal struct {
	Status  int    `json:"-"`
	Code    string `json:"error_code"`
	Message string `json:"message"`
}

func (r *refusal) Error() string { return r.Message }

func notFound(message string) error {
	return &refusal{http.StatusNotFound, "RESOURCE_DOES_NOT_EXIST", message}
}

func exists(message string) error {
	return &refusal{http.StatusBadRequest, "RESOURCE_ALREADY_EXISTS", message}
}

func invalid(message string) error {
	return &refusal{http.StatusBadRequest, "INVALID_PARAMETER_VALUE", message}
}

func internal(message string) error {
	return &refusal{http.StatusInternalServerError, "INTERNAL_ERROR", message}
}

// handle routes a pattern to what applies it, one at a time.
func (s *Server) handle(mux *http.ServeMux, pattern string, apply func(*http.Request) (any, error)) {
	mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		answer, err := apply(r)
		if err != nil {
			refused := &refusal{Status: http.StatusInternalServerError, Code: "INTERNAL_ERROR", Message: err.Error()}
			errors.As(err, &refused)
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(refused.Status)
			answer = refused
		}
		if answer == nil {
			answer = struct{}{}
		}
		_ = json.NewEncoder(w).Encode(answer) // into a recorder, from our own types
	})
}

// withBody gives apply the request's JSON body.
func withBody[T any](apply func(T) (any, error)) func(*http.Request) (any, error) {
	return func(r *http.Request) (any, error) {
		var body T
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			return nil, &refusal{http.StatusBadRequest, "BAD_REQUEST", "read body: " + err.Error()}
		}
		return apply(body)
	}
}

// object is the JSON object of an answer.
type object map[string]any
