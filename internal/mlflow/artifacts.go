package mlflow

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"path"
	"strings"
)

const artifactsRoot = "/api/2.0/mlflow-artifacts/artifacts"

// ErrArtifactsNotProxied says that the artifacts of an experiment or a run lie where only the store's own client
// reaches: the server does not pass them on.
var ErrArtifactsNotProxied = errors.New("artifacts are not served by the tracking server; " +
	"start `mlflow server` with --artifacts-destination (and not with --no-serve-artifacts), and use an experiment made since")

// FileInfo is one entry of an artifact folder.
type FileInfo struct {
	Path     string `json:"path"` // relative to the artifact URI that was listed
	IsDir    bool   `json:"is_dir"`
	FileSize int64  `json:"file_size"` // in bytes; zero for folders
}

// UploadArtifact sends the size bytes of body to a file below the artifact URI, in constant memory. Repeatable: it
// overwrites. The path has forward slashes. A body that is shorter or longer than size, or whose reading fails, be it at
// its very end (where a digest is checked), leaves no file, and leaves one that was there as it is.
func (c *Client) UploadArtifact(ctx context.Context, artifactURI, file string, size int64, body io.Reader) error {
	target, err := c.artifactPath(artifactURI, file)
	if err != nil {
		return fmt.Errorf("upload artifact %s: %w", file, err)
	}
	if size < 0 {
		return fmt.Errorf("upload artifact %s: its size is %d; right would be the number of its bytes", file, size)
	}
	exact := &exactReader{body: body, left: size}
	if size == 0 {
		// net/http reads nothing then, and nobody would notice that the file has grown.
		if _, err := exact.Read(nil); !errors.Is(err, io.EOF) {
			return fmt.Errorf("upload artifact %s: %w", file, err)
		}
	}
	_, err = c.do(ctx, call{
		client: c.uploads, method: http.MethodPut, path: artifactsRoot + "/" + target,
		contentType: "application/octet-stream", body: exact, size: size,
	})
	return err
}

// DeleteArtifact deletes a file below the artifact URI. Repeatable: what is not there is no error.
func (c *Client) DeleteArtifact(ctx context.Context, artifactURI, file string) error {
	target, err := c.artifactPath(artifactURI, file)
	if err != nil {
		return fmt.Errorf("delete artifact %s: %w", file, err)
	}
	if file == "" {
		return fmt.Errorf("delete artifact: no file of %s is named; all below it would go", artifactURI)
	}
	_, err = c.do(ctx, call{client: c.pooled, method: http.MethodDelete, path: artifactsRoot + "/" + target})
	return err
}

// ListArtifacts lists a folder below the artifact URI; an empty folder means the URI itself. What is not there is an
// empty list.
func (c *Client) ListArtifacts(ctx context.Context, artifactURI, folder string) ([]FileInfo, error) {
	target, err := c.artifactPath(artifactURI, folder)
	if err != nil {
		return nil, fmt.Errorf("list artifacts %s: %w", folder, err)
	}
	files, err := c.listArtifacts(ctx, target)
	for i := range files {
		// MLflow gives the path from the listed folder on; its clients too keep the last element alone.
		files[i].Path = path.Join(folder, path.Base(files[i].Path))
	}
	return files, err
}

// ArtifactStoreReachable asks the server to list its artifact store, which it does by asking the store. A server that was
// started with --no-serve-artifacts answers 503, and says so in its message.
func (c *Client) ArtifactStoreReachable(ctx context.Context) error {
	_, err := c.listArtifacts(ctx, "")
	return err
}

func (c *Client) listArtifacts(ctx context.Context, folder string) ([]FileInfo, error) {
	query := url.Values{}
	if folder != "" {
		query.Set("path", folder)
	}
	var reply struct{ Files []FileInfo }
	err := c.json(ctx, call{client: c.pooled, method: http.MethodGet, path: artifactsRoot, query: query}, nil, &reply)
	return reply.Files, err
}

// artifactPath is the path, below artifactsRoot, of a file or folder below an artifact URI.
func (c *Client) artifactPath(artifactURI, file string) (string, error) {
	if file != "" && !fs.ValidPath(file) {
		return "", fmt.Errorf("path %q leaves its folder or is not in its plainest form", file)
	}
	u, err := url.Parse(artifactURI)
	if err != nil {
		return "", errors.New("read artifact URI: not a URL")
	}
	root := u.Path
	switch u.Scheme {
	case "mlflow-artifacts":
		// A path may also be the whole of the endpoint's, as MLflow's own clients allow.
		root = strings.TrimPrefix(root, artifactsRoot)
	case "http", "https":
		below, ok := strings.CutPrefix(root, c.base.Path+artifactsRoot)
		if !ok || u.Scheme != c.base.Scheme {
			return "", fmt.Errorf("artifact URI %s is not below %s%s: %w",
				redactURL(u), c.TrackingURI(), artifactsRoot, ErrArtifactsNotProxied)
		}
		root = below
	default:
		return "", fmt.Errorf("artifact URI %s: %w", redactURL(u), ErrArtifactsNotProxied)
	}
	if u.Host != "" && hostPort(u, c.base.Scheme) != hostPort(c.base, c.base.Scheme) {
		return "", fmt.Errorf("artifact URI %s is on another host than %s, where the credentials do not belong: %w",
			redactURL(u), c.TrackingURI(), ErrArtifactsNotProxied)
	}
	full := path.Join(strings.Trim(root, "/"), file)
	if full != "" && !fs.ValidPath(full) {
		return "", fmt.Errorf("artifact URI %s leaves the artifact root", redactURL(u))
	}
	return full, nil
}

// hostPort makes a port that is the scheme's own visible.
func hostPort(u *url.URL, scheme string) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[scheme]
	}
	return strings.ToLower(u.Hostname()) + ":" + port
}

// exactReader gives the last bytes out only when the body has ended well, and with the promised size: what fails before
// is a request that the server never gets to the end of.
type exactReader struct {
	body io.Reader
	left int64
}

func (r *exactReader) Read(p []byte) (int, error) {
	n, err := r.body.Read(p)
	r.left -= int64(n)
	if r.left == 0 && err == nil {
		var beyond [1]byte
		extra, end := io.ReadFull(r.body, beyond[:])
		r.left -= int64(extra)
		err = end
	}
	switch {
	case r.left < 0:
		return 0, errors.New("read upload: the file is longer than it was; it has changed")
	case errors.Is(err, io.EOF) && r.left > 0:
		return 0, fmt.Errorf("read upload: the file is %d bytes shorter than it was; it has changed: %w", r.left, io.ErrUnexpectedEOF)
	case err != nil && !errors.Is(err, io.EOF):
		return 0, err
	}
	return n, err
}
