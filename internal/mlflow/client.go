// Package mlflow is a typed client of MLflow's REST API, as far as registering a model needs it.
//
// It knows the API's endpoints and its JSON, HTTP and TLS, and where an artifact URI leads. It knows nothing of
// Temporal, of the gate or of what is registered, and it repeats no request: whoever calls decides that, with
// OutcomeOpen. Names, fields and error codes are MLflow's own; what is said of the server's behaviour was measured on
// MLflow 3.17.2 and is checked by the contract suite in mlflowtest.
package mlflow

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
)

const (
	apiRoot = "/api/2.0/mlflow/"

	maxAnswerBytes = 16 << 20
	pageSize       = 200
)

// Client speaks to one MLflow server. It is safe for concurrent use.
type Client struct {
	base   *url.URL
	config Config

	pooled  *http.Client // everything that may be repeated
	single  *http.Client // the POSTs that create: each on a connection of its own
	uploads *http.Client // as pooled, with more patience for the answer
	parts   *http.Client // as uploads, for the artifact store itself: without MLflow's certificates and waivers
}

// New checks the configuration and the TLS files. It does not contact the server.
func New(config Config) (*Client, error) {
	base, err := parseTrackingURI(config.TrackingURI)
	if err != nil {
		return nil, err
	}
	config.Timeouts = config.Timeouts.withDefaults()
	config.UserAgent = cmp.Or(config.UserAgent, "registrar")
	pooled, err := newTransport(config)
	if err != nil {
		return nil, err
	}
	single := pooled.Clone()
	single.DisableKeepAlives = true
	uploads := pooled.Clone()
	uploads.ResponseHeaderTimeout = config.Timeouts.UploadResponse
	parts := uploads.Clone()
	parts.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	return &Client{
		base: base, config: config,
		pooled: newHTTPClient(pooled), single: newHTTPClient(single), uploads: newHTTPClient(uploads), parts: newHTTPClient(parts),
	}, nil
}

// Close gives idle connections back. The client can still be used.
func (c *Client) Close() {
	c.pooled.CloseIdleConnections()
	c.uploads.CloseIdleConnections()
	c.parts.CloseIdleConnections()
}

// TrackingURI is the server's address, as it may be shown.
func (c *Client) TrackingURI() string { return redactURL(c.base) }

// Version is the version that the server says it has, such as "3.17.2". It asks no database. Empty: the answer is something else,
// such as a page of a server that keeps its version to itself.
func (c *Client) Version(ctx context.Context) (string, error) {
	body, err := c.do(ctx, call{client: c.pooled, method: http.MethodGet, path: "/version"})
	if text := string(bytes.TrimSpace(body)); versionNumber.MatchString(text) {
		return text, err
	}
	return "", err
}

// versionNumber is a release of MLflow, or one before a release: 3.17.2, 3.18.0rc0, 3.18.1.dev0.
var versionNumber = regexp.MustCompile(`^\d+\.\d+[0-9A-Za-z.+-]*$`)

// get reads from an endpoint below apiRoot.
func (c *Client) get(ctx context.Context, endpoint string, query url.Values, reply any) error {
	return c.json(ctx, call{client: c.pooled, method: http.MethodGet, path: apiRoot + endpoint, query: query}, nil, reply)
}

// send is a request with a JSON body that may be repeated.
func (c *Client) send(ctx context.Context, method, endpoint string, request, reply any) error {
	return c.json(ctx, call{client: c.pooled, method: method, path: apiRoot + endpoint}, request, reply)
}

// create is a POST that makes another object each time it arrives. net/http sends a request again where a kept
// connection turns out to be dead; on a connection of its own, with a body that cannot be had again, it has no way to.
func (c *Client) create(ctx context.Context, endpoint string, request, reply any) error {
	return c.json(ctx, call{client: c.single, method: http.MethodPost, path: apiRoot + endpoint}, request, reply)
}

// json does a call whose request and reply are JSON; either may be nil.
func (c *Client) json(ctx context.Context, call call, request, reply any) error {
	if request != nil {
		body, err := json.Marshal(request)
		if err != nil {
			return c.transportError(call, LayerHTTP, false, fmt.Errorf("write JSON: %w", err))
		}
		call.contentType = "application/json"
		call.body, call.size = bytes.NewReader(body), int64(len(body))
	}
	answer, err := c.do(ctx, call)
	if err != nil {
		return err
	}
	if reply == nil {
		// MLflow answers with an object also where there is nothing to say; what does not is something in between, and MLflow
		// may not have heard of the request.
		reply = &struct{}{}
	}
	if err := json.Unmarshal(answer, reply); err != nil {
		err = fmt.Errorf("%w: not the JSON of MLflow's API; is %s an MLflow server? %w", ErrUnreadableAnswer, c.TrackingURI(), err)
		return c.transportError(call, LayerHTTP, true, err)
	}
	return nil
}

// call is one request. The body has exactly size bytes.
type call struct {
	client      *http.Client
	method      string
	path        string // below the tracking URI, not escaped
	query       url.Values
	contentType string
	body        io.Reader
	size        int64
}

// do sends the call once and reads the whole answer.
func (c *Client) do(ctx context.Context, call call) (answer []byte, err error) {
	request, err := c.request(ctx, call)
	if err != nil {
		return nil, err
	}
	if call.method != http.MethodGet && deadlinePassed(ctx) {
		return nil, c.transportError(call, LayerHTTP, false, errDeadlinePassed)
	}
	status := 0
	ended := c.observe(request, call)
	defer func() { ended(status, err) }()
	watch := watchRequest(request, call.body, c.config.Timeouts.Stall)
	defer watch.stop()
	response, err := call.client.Do(watch.request)
	if err != nil {
		return nil, c.transportError(call, watch.layer(err), watch.sent(), watch.cause(err))
	}
	defer response.Body.Close()
	status = response.StatusCode
	if response.StatusCode < 200 || response.StatusCode > 299 {
		refusal, err := newAPIError(call, response, watch.answer(response.Body))
		if err != nil {
			return nil, c.transportError(call, LayerHTTP, true, fmt.Errorf("%w: %w", ErrUnreadableAnswer, watch.cause(err)))
		}
		return nil, refusal
	}
	answer, err = readBounded(watch.answer(response.Body), maxAnswerBytes)
	if err != nil {
		return nil, c.transportError(call, LayerHTTP, true, fmt.Errorf("%w: %w", ErrUnreadableAnswer, watch.cause(err)))
	}
	return answer, nil
}

func (c *Client) request(ctx context.Context, call call) (*http.Request, error) {
	request, err := http.NewRequestWithContext(ctx, call.method, c.url(call).String(), nil)
	if err != nil {
		return nil, c.transportError(call, LayerHTTP, false, err)
	}
	request.ContentLength = call.size
	request.Header.Set("User-Agent", c.config.UserAgent)
	request.Header.Set("Accept", "application/json")
	if call.contentType != "" {
		request.Header.Set("Content-Type", call.contentType)
	}
	if c.config.Workspace != "" {
		request.Header.Set("X-MLFLOW-WORKSPACE", c.config.Workspace)
	}
	if call.size >= expectContinueBytes {
		request.Header.Set("Expect", "100-continue")
	}
	if c.config.Credentials == nil {
		return request, nil
	}
	credentials, err := c.config.Credentials()
	switch {
	case err != nil:
		return nil, c.transportError(call, LayerAuth, false, fmt.Errorf("read credentials: %w", err))
	case credentials.Token != "":
		request.Header.Set("Authorization", "Bearer "+credentials.Token)
	case credentials.Username != "" || credentials.Password != "":
		request.SetBasicAuth(credentials.Username, credentials.Password)
	}
	return request, nil
}

func (c *Client) url(call call) *url.URL {
	u := *c.base
	u.Path += call.path
	u.RawQuery = call.query.Encode()
	return &u
}

func (c *Client) transportError(call call, layer Layer, sent bool, err error) error {
	return &TransportError{
		Method: call.method, Path: call.path, URL: redactURL(c.url(call)), Layer: layer, Sent: sent, Err: err,
	}
}

// readBounded reads all of r, and refuses what is longer than limit.
func readBounded(r io.Reader, limit int64) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(body)) > limit {
		return nil, fmt.Errorf("more than %d bytes", limit)
	}
	return body, err
}

// search is the body of the searching POSTs.
type search struct {
	ExperimentIDs []string `json:"experiment_ids,omitempty"`
	Filter        string   `json:"filter,omitempty"`
	RunViewType   string   `json:"run_view_type,omitempty"`
	MaxResults    int      `json:"max_results,omitempty"`
	PageToken     string   `json:"page_token,omitempty"`
}

// searchQuery is the query of the searching GETs.
func searchQuery(filter, pageToken string) url.Values {
	query := url.Values{"max_results": {fmt.Sprint(pageSize)}}
	if filter != "" {
		query.Set("filter", filter)
	}
	if pageToken != "" {
		query.Set("page_token", pageToken)
	}
	return query
}

// everyPage collects the pages of a search. A server that repeats a token would keep it busy for ever.
func everyPage[T any](page func(token string) ([]T, string, error)) ([]T, error) {
	var all []T
	for token := ""; ; {
		items, next, err := page(token)
		if err != nil {
			return nil, err
		}
		all = append(all, items...)
		if next == "" || next == token {
			return all, nil
		}
		token = next
	}
}
