package mlflow_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"registrar/internal/mlflow"
)

func TestUploadArtifact_StreamsWithItsLength(t *testing.T) {
	const size = 64 << 20
	var received atomic.Int64
	client := newClient(t, func(_ http.ResponseWriter, r *http.Request) {
		assert.Equal(t, "/api/2.0/mlflow-artifacts/artifacts/1/models/m-1/artifacts/model file.pkl", r.URL.Path)
		assert.EqualValues(t, size, r.ContentLength)
		assert.Empty(t, r.TransferEncoding)
		n, err := io.Copy(io.Discard, r.Body)
		assert.NoError(t, err)
		received.Store(n)
	})
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	err := client.UploadArtifact(t.Context(), "mlflow-artifacts:/1/models/m-1/artifacts", "model file.pkl", size, io.LimitReader(endless{}, size))
	runtime.ReadMemStats(&after)
	require.NoError(t, err)
	require.EqualValues(t, size, received.Load())
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(4<<20), "memory must not grow with the file")
}

// lastly gives an error in place of the end of a body, as a reader does that checks a digest.
type lastly struct {
	io.Reader
	err error
}

func (r *lastly) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if errors.Is(err, io.EOF) {
		err = r.err
	}
	return n, err
}

func TestUploadArtifact_IsNeverWholeWhereTheBodyFails(t *testing.T) {
	wrongDigest := errors.New("wrong digest")
	var mu sync.Mutex
	whole := map[string]bool{} // by the path of what has arrived, if only in part
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		mu.Lock()
		defer mu.Unlock()
		whole[r.URL.Path] = err == nil && n == r.ContentLength
	}))
	defer server.Close()
	client := clientOf(t, server.URL)
	large := 0
	for _, size := range []int64{5, 4096, 1 << 20, 5<<20 + 1} {
		body := func(bytes int64) io.Reader { return io.LimitReader(endless{}, bytes) }
		for cause, body := range map[string]io.Reader{
			"shorter than it was": body(size - 1),
			"longer than it was":  body(size + 1),
			"wrong digest":        &lastly{body(size), wrongDigest},
		} {
			err := client.UploadArtifact(t.Context(), "mlflow-artifacts:/1", fmt.Sprintf("%d bytes, %s", size, cause), size, body)
			require.ErrorContains(t, err, cause)
			if size >= 1<<20 { // of a smaller one nothing may be written at all
				large++
			}
		}
	}
	server.Close() // when all that has arrived is over
	require.GreaterOrEqual(t, len(whole), large)
	for path, got := range whole {
		require.False(t, got, "%s: the server got a whole file", path)
	}
	require.ErrorContains(t, client.UploadArtifact(t.Context(), "mlflow-artifacts:/1", "file", 0, strings.NewReader("x")), "longer")
	require.ErrorContains(t, client.UploadArtifact(t.Context(), "mlflow-artifacts:/1", "file", -1, nil), "its size is -1")
}

func TestUploadArtifact_AsksBeforeItSendsMuch(t *testing.T) {
	client := newClient(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) })
	body := &counting{Reader: io.LimitReader(endless{}, 256<<20)}
	err := client.UploadArtifact(t.Context(), "mlflow-artifacts:/1", "file", 256<<20, body)
	var answer *mlflow.APIError
	require.ErrorAs(t, err, &answer, "the refusal is not lost in a broken connection")
	require.Equal(t, http.StatusUnauthorized, answer.Status)
	require.Zero(t, body.reads.Load())
}

type counting struct {
	io.Reader
	reads atomic.Int32
}

func (r *counting) Read(p []byte) (int, error) {
	r.reads.Add(1)
	return r.Reader.Read(p)
}

func TestUploadArtifact_EndsWhereTheServerTakesNothing(t *testing.T) {
	over := make(chan struct{})
	defer close(over)
	client := newClient(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.ReadFull(r.Body, make([]byte, 10))
		<-over
	}, stalling(200*time.Millisecond))
	err := client.UploadArtifact(t.Context(), "mlflow-artifacts:/1", "file", 1<<30, io.LimitReader(endless{}, 1<<30))
	require.ErrorIs(t, err, mlflow.ErrStalled)
	requireTransport(t, err, mlflow.LayerHTTP, true)
}

// slow gives a byte out at each tick.
type slow struct{ ticks <-chan time.Time }

func (r *slow) Read(p []byte) (int, error) {
	<-r.ticks
	p[0] = 'x'
	return 1, nil
}

func TestUploadArtifact_MayTakeLongerThanTheStall(t *testing.T) {
	const stall, size = 2 * time.Second, 8
	client := newClient(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
	}, stalling(stall))
	ticker := time.NewTicker(stall / 5)
	defer ticker.Stop()
	body := io.LimitReader(&slow{ticker.C}, size)
	require.NoError(t, client.UploadArtifact(t.Context(), "mlflow-artifacts:/1", "file", size, body))
}

func TestUploadArtifact_DerivesThePathFromTheURI(t *testing.T) {
	var asked string
	client := newClient(t, func(_ http.ResponseWriter, r *http.Request) { asked = r.URL.Path },
		func(config *mlflow.Config) { config.TrackingURI += "/prefix" })
	root := client.TrackingURI()
	host := strings.TrimPrefix(root, "http:")
	for uri, want := range map[string]string{
		"mlflow-artifacts:/1/r/artifacts":                                  "1/r/artifacts/a/b",
		"mlflow-artifacts:/workspaces/team/1/r/artifacts/":                 "workspaces/team/1/r/artifacts/a/b",
		"mlflow-artifacts:/":                                               "a/b",
		"mlflow-artifacts:" + strings.TrimSuffix(host, "/prefix") + "/1/r": "1/r/a/b",
		root + "/api/2.0/mlflow-artifacts/artifacts/1/r":                   "1/r/a/b",
		"mlflow-artifacts:/api/2.0/mlflow-artifacts/artifacts/1/r":         "1/r/a/b",
	} {
		require.NoError(t, client.UploadArtifact(t.Context(), uri, "a/b", 1, strings.NewReader("x")), uri)
		require.Equal(t, "/prefix/api/2.0/mlflow-artifacts/artifacts/"+want, asked, uri)
	}
	for _, uri := range []string{
		"s3://bucket/1", "file:///srv/1", "/srv/1", "./mlruns/1", "mlflow-artifacts://elsewhere:5000/1",
		"http://elsewhere/prefix/api/2.0/mlflow-artifacts/artifacts/1", root + "/elsewhere/1",
		"s3://ada:secret@bucket/1?token=secret",
	} {
		err := client.UploadArtifact(t.Context(), uri, "a", 1, strings.NewReader("x"))
		require.ErrorIs(t, err, mlflow.ErrArtifactsNotProxied, uri)
		require.ErrorContains(t, err, "--artifacts-destination", uri)
		require.NotContains(t, err.Error(), "secret", uri)
	}
	for _, file := range []string{"../a", "/a", "a//b", "a/../b"} {
		require.Error(t, client.UploadArtifact(t.Context(), "mlflow-artifacts:/1", file, 1, strings.NewReader("x")), file)
	}
	require.Error(t, client.UploadArtifact(t.Context(), "mlflow-artifacts:/1/../..", "a", 1, strings.NewReader("x")))
}
