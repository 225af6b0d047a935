package mlflow

import (
	"context"
	"net/http"
	"strings"
)

// Exchange is one request as an Observer may see it: without query, body and credentials.
type Exchange struct {
	Method string
	// Endpoint is the path below /api/2.0/ with what names an object taken out, such as mlflow/logged-models/{model_id}, so that there are few;
	// for a part of a file, which goes to the store and not to MLflow, it is EndpointPart.
	Endpoint string
	// URL is the address without user info and query.
	URL string
	// SizeBytes is the size of the request's body, and Upload tells that this body is a file, or a part of one.
	SizeBytes int64
	Upload    bool
}

// EndpointPart is the endpoint of all parts. Their addresses name bucket and file, and are signed.
const EndpointPart = "artifact-store/{part}"

// Observer sees each request. It is called before the request is sent, and may add headers of its own, which the store of a part does not get;
// what it returns is called once, when the request has ended: with the answer's status, 0 where none came, and what the caller of the client gets as the error.
type Observer func(ctx context.Context, e Exchange, header http.Header) (ended func(status int, err error))

// observe tells the observer, where there is one, that a request begins.
func (c *Client) observe(request *http.Request, call call) (ended func(status int, err error)) {
	endpoint := endpointOf(call.path)
	return c.observed(request.Context(), Exchange{
		Method: call.method, Endpoint: endpoint, URL: redactURL(request.URL), SizeBytes: call.size,
		Upload: call.method == http.MethodPut && strings.HasPrefix(endpoint, "mlflow-artifacts/"),
	}, request.Header)
}

// observePart tells the observer that a part begins. The store is not MLflow, and hears nothing of the trace.
func (c *Client) observePart(request *http.Request) (ended func(status int, err error)) {
	return c.observed(request.Context(), Exchange{
		Method: request.Method, Endpoint: EndpointPart, URL: redactURL(request.URL), SizeBytes: request.ContentLength, Upload: true,
	}, http.Header{})
}

func (c *Client) observed(ctx context.Context, e Exchange, header http.Header) (ended func(status int, err error)) {
	if c.config.Observer == nil {
		return func(int, error) {}
	}
	return c.config.Observer(ctx, e, header)
}

// endpointOf is a path of the API without the names of objects. The API has them behind logged-models and, for files, behind the
// name of the artifacts' endpoint; all others are in queries and bodies.
func endpointOf(path string) string {
	endpoint := strings.TrimPrefix(strings.TrimPrefix(path, "/api/2.0/"), "/")
	segments := strings.Split(endpoint, "/")
	switch {
	case len(segments) > 2 && segments[0] == "mlflow-artifacts" && segments[1] == "artifacts":
		return strings.Join(append(segments[:2], "{path}"), "/")
	case len(segments) > 3 && segments[0] == "mlflow-artifacts":
		return strings.Join(append(segments[:3], "{path}"), "/")
	case len(segments) > 2 && segments[1] == "logged-models" && segments[2] != "search":
		segments[2] = "{model_id}"
		if len(segments) > 4 {
			segments[4] = "{key}"
		}
	}
	return strings.Join(segments, "/")
}
