package mlflow

import (
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path"
)

// MultipartUpload is one that was begun: each part of the file goes to an address of its own, at the store itself.
type MultipartUpload struct {
	UploadID string       `json:"upload_id"`
	Targets  []PartTarget `json:"credentials"`
}

// PartTarget is where a part goes. Who has the URL may send it, until the store lets it expire (S3: an hour), so it is a secret.
type PartTarget struct {
	URL     string            `json:"url"`
	Number  int               `json:"part_number"` // from 1
	Headers map[string]string `json:"headers,omitempty"`
}

// Part is one that the store has.
type Part struct {
	Number int    `json:"part_number"`
	ETag   string `json:"etag"`
}

// MultipartUploads tells whether the server's artifact store takes files in parts. One that does not say so does not, nor does one that is not asked: a
// gateway may know of no such request.
func (c *Client) MultipartUploads(ctx context.Context) (bool, error) {
	var reply struct {
		Enabled bool `json:"multipart_uploads_enabled"`
	}
	err := c.json(ctx, call{client: c.pooled, method: http.MethodGet, path: "/api/3.0/mlflow/server-info"}, nil, &reply)
	if _, isPage := errors.AsType[*json.SyntaxError](err); isPage {
		return false, nil
	}
	if refused, ok := errors.AsType[*APIError](err); ok {
		switch refused.Status {
		case http.StatusBadRequest, http.StatusForbidden, http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotImplemented:
			return false, nil
		}
	}
	return reply.Enabled, err
}

// CreateMultipartUpload begins the upload of a file below the artifact URI in a number of parts. Each call begins another one. The error is
// ErrPartTarget where the store does it in another way: of Azure, MLflow names no upload.
func (c *Client) CreateMultipartUpload(ctx context.Context, artifactURI, file string, parts int) (MultipartUpload, error) {
	var upload MultipartUpload
	err := c.multipart(ctx, "create", artifactURI, file, struct {
		Path     string `json:"path"`
		NumParts int    `json:"num_parts"`
	}{path.Base(file), parts}, &upload)
	if err == nil && (len(upload.Targets) != parts || upload.UploadID == "") {
		return upload, fmt.Errorf("begin upload of %s in %d parts: the server names the upload %q and %d addresses: %w",
			file, parts, upload.UploadID, len(upload.Targets), ErrPartTarget)
	}
	return upload, err
}

// CompleteMultipartUpload makes the parts the file. An upload that is complete, or aborted, is not there any more, and refused.
func (c *Client) CompleteMultipartUpload(ctx context.Context, artifactURI, file, uploadID string, parts []Part) error {
	return c.multipart(ctx, "complete", artifactURI, file, struct {
		Path     string `json:"path"`
		UploadID string `json:"upload_id"`
		Parts    []Part `json:"parts"`
	}{path.Base(file), uploadID, parts}, nil)
}

// AbortMultipartUpload gives up an upload, and what the store has of it.
func (c *Client) AbortMultipartUpload(ctx context.Context, artifactURI, file, uploadID string) error {
	return c.multipart(ctx, "abort", artifactURI, file, struct {
		Path     string `json:"path"`
		UploadID string `json:"upload_id"`
	}{path.Base(file), uploadID}, nil)
}

func (c *Client) multipart(ctx context.Context, verb, artifactURI, file string, request, reply any) error {
	target, err := c.artifactPath(artifactURI, file)
	if err != nil {
		return fmt.Errorf("upload artifact %s in parts: %w", file, err)
	}
	endpoint := "/api/2.0/mlflow-artifacts/mpu/" + verb + "/" + path.Dir(target)
	return c.json(ctx, call{client: c.uploads, method: http.MethodPost, path: endpoint}, request, reply)
}

// ErrPartTarget says that a store is none to send parts to: UploadArtifact does instead.
var ErrPartTarget = errors.New("the store takes no parts as S3 does: an upload with an id, an address for each part, with TLS where MLflow has it, and an ETag for each")

// UploadPart sends the size bytes of body, in constant memory, to the store, which gets nothing else: no credential for MLflow, no workspace, no client
// certificate. Repeatable. The error of a body that is shorter or longer than size, or whose reading fails, is that of UploadArtifact. A refusal
// is an APIError, with the store's code.
func (c *Client) UploadPart(ctx context.Context, target PartTarget, size int64, body io.Reader) (part Part, err error) {
	u, err := url.Parse(target.URL)
	if err != nil || u.Host == "" || u.Scheme != "https" && (u.Scheme != "http" || c.base.Scheme == "https") {
		return Part{}, ErrPartTarget
	}
	call := call{method: http.MethodPut, path: u.Path}
	failed := func(layer Layer, sent bool, err error) error {
		return &TransportError{Method: call.method, Path: call.path, URL: redactURL(u), Layer: layer, Sent: sent, Err: err}
	}
	request, err := http.NewRequestWithContext(ctx, call.method, target.URL, nil)
	if err != nil {
		return Part{}, ErrPartTarget // the error would show the URL
	}
	request.ContentLength = size
	request.Header.Set("User-Agent", c.config.UserAgent)
	if size >= expectContinueBytes {
		request.Header.Set("Expect", "100-continue")
	}
	for name, value := range target.Headers {
		request.Header.Set(name, value)
	}
	status := 0
	ended := c.observePart(request)
	defer func() { ended(status, err) }()
	watch := watchRequest(request, &exactReader{body: body, left: size}, c.config.Timeouts.Stall)
	defer watch.stop()
	response, err := c.parts.Do(watch.request)
	if err != nil {
		return Part{}, failed(watch.layer(err), watch.sent(), watch.cause(err))
	}
	defer response.Body.Close()
	status = response.StatusCode
	text, err := io.ReadAll(io.LimitReader(watch.answer(response.Body), maxErrorBytes))
	switch {
	case response.StatusCode < 200 || response.StatusCode > 299:
		return Part{}, &APIError{Method: call.method, Path: call.path, URL: redactURL(u), Status: response.StatusCode, Message: storeCode(text)}
	case err != nil:
		return Part{}, failed(LayerHTTP, true, fmt.Errorf("%w: %w", ErrUnreadableAnswer, watch.cause(err)))
	}
	part = Part{Number: target.Number, ETag: response.Header.Get("ETag")}
	if part.ETag == "" {
		return Part{}, ErrPartTarget
	}
	return part, nil
}

// storeCode is what a store calls its refusal. The rest of its answer may quote the request, with the signature of its URL.
func storeCode(text []byte) string {
	var refusal struct {
		Code string `xml:"Code"`
	}
	if xml.Unmarshal(text, &refusal) != nil {
		return ""
	}
	return oneLine(refusal.Code)
}
