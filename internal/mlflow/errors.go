package mlflow

import (
	"errors"
	"fmt"
	"net/http"
	"time"
)

// APIError is an answer of the server that is no success. It may be another server's answer: of a proxy, or
// of whatever listens where MLflow should.
type APIError struct {
	Method, Path string
	URL          string // without user info and query
	Status       int
	Code         string        // MLflow's error_code; empty where the answer is not MLflow's JSON
	Message      string        // one line of at most 1 KiB
	RetryAfter   time.Duration // from the header Retry-After; zero where there is none
}

func (e *APIError) Error() string {
	text := fmt.Sprintf("%s %s: %d", e.Method, e.URL, e.Status)
	if e.Code != "" {
		text += " " + e.Code
	} else if name := http.StatusText(e.Status); name != "" {
		text += " " + name
	}
	if e.Message != "" {
		text += ": " + e.Message
	}
	return text
}

// Layer is the layer at which a request ended without an answer.
type Layer string

// The layers, from the machine outwards.
const (
	LayerAuth Layer = "auth" // the credentials could not be read; nothing was sent
	LayerDNS  Layer = "dns"
	LayerTCP  Layer = "tcp"
	LayerTLS  Layer = "tls"
	LayerHTTP Layer = "http" // connected, but no usable answer came back
)

// TransportError is a request without a usable answer.
type TransportError struct {
	Method, Path string
	URL          string // without user info and query
	Layer        Layer
	// Sent false is proof that the server has not got the request. True says that it may have.
	Sent bool
	Err  error
}

func (e *TransportError) Error() string {
	return fmt.Sprintf("%s %s: %s: %v", e.Method, e.URL, e.Layer, e.Err)
}

// Unwrap gives the cause.
func (e *TransportError) Unwrap() error { return e.Err }

// The causes of a TransportError that are of this package's making.
var (
	// ErrStalled says that a body made no progress for Timeouts.Stall.
	ErrStalled = errors.New("no progress")
	// ErrUnreadableAnswer says that a success came with a body that is not the JSON that was expected.
	ErrUnreadableAnswer = errors.New("unreadable answer")
)

// OutcomeOpen reports whether a changing request that ended with err may have been applied, or may yet be.
// It is false for success and where there is proof that nothing was applied: nothing was sent, or the server refused
// with a 4xx. 408 is no proof, since a proxy says it of a request that it has passed on. Of the redirects 307 and 308
// are proof, for they ask to send the same request elsewhere; 301, 302 and 303 are not, for they also follow a request
// that was carried out. An error that is not of this package proves nothing.
func OutcomeOpen(err error) bool {
	if err == nil {
		return false
	}
	if answer, ok := errors.AsType[*APIError](err); ok {
		switch answer.Status {
		case http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
			return false
		case http.StatusRequestTimeout:
			return true
		}
		return answer.Status < 400 || answer.Status > 499
	}
	if transport, ok := errors.AsType[*TransportError](err); ok {
		return transport.Sent
	}
	return true
}

// IsNotFound reports whether MLflow itself says that the object does not exist.
func IsNotFound(err error) bool {
	answer, ok := errors.AsType[*APIError](err)
	return ok && (answer.Code == "RESOURCE_DOES_NOT_EXIST" || answer.Status == http.StatusNotFound && answer.Code != "")
}

// IsAlreadyExists reports whether MLflow says that the name is taken.
func IsAlreadyExists(err error) bool {
	answer, ok := errors.AsType[*APIError](err)
	return ok && answer.Code == "RESOURCE_ALREADY_EXISTS"
}

// IsEndpointMissing reports whether the server does not know the endpoint: a 404 that is not MLflow's JSON. So
// answers an MLflow 2 to logged-models (measured with 2.22.4), and so does a server under another path prefix.
func IsEndpointMissing(err error) bool {
	answer, ok := errors.AsType[*APIError](err)
	return ok && answer.Status == http.StatusNotFound && answer.Code == ""
}

// IsInvalid reports whether MLflow refused a request for what is in it.
func IsInvalid(err error) bool {
	answer, ok := errors.AsType[*APIError](err)
	return ok && answer.Code == "INVALID_PARAMETER_VALUE"
}
