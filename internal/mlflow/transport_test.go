package mlflow_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"registrar/internal/mlflow"
)

func shortTimeouts(config *mlflow.Config) {
	const short = 200 * time.Millisecond
	config.Timeouts = mlflow.Timeouts{
		Dial: 5 * time.Second, TLSHandshake: short, ResponseHeader: short, UploadResponse: short, Stall: short,
	}
}

// stalling is for requests of which one phase alone is to take too long.
func stalling(after time.Duration) func(*mlflow.Config) {
	return func(config *mlflow.Config) { config.Timeouts.Stall = after }
}

func TestTransportError_TellsTheLayerAndWhetherItWasSent(t *testing.T) {
	var listen net.ListenConfig
	closed, err := listen.Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, closed.Close())
	silent, err := listen.Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer silent.Close()
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	resetting := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		connection, _, err := http.NewResponseController(w).Hijack()
		assert.NoError(t, err)
		assert.NoError(t, connection.(*net.TCPConn).SetLinger(0))
		assert.NoError(t, connection.Close())
	}))
	defer resetting.Close()

	for _, test := range []struct {
		name, uri string
		layer     mlflow.Layer
		sent      bool
	}{
		{"no such name", "http://mlflow.invalid", mlflow.LayerDNS, false},
		{"refused", "http://" + closed.Addr().String(), mlflow.LayerTCP, false},
		{"silent handshake", "https://" + silent.Addr().String(), mlflow.LayerTLS, false},
		{"plain server", "https" + plain.URL[len("http"):], mlflow.LayerTLS, false},
		{"silent server", "http://" + silent.Addr().String(), mlflow.LayerHTTP, true},
		{"reset after the request", resetting.URL, mlflow.LayerHTTP, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := createRun(t.Context(), clientOf(t, test.uri, shortTimeouts))
			requireTransport(t, err, test.layer, test.sent)
			require.ErrorContains(t, err, "POST "+test.uri+"/api/2.0/mlflow/runs/create: "+string(test.layer)+": ")
		})
	}
}

func TestClient_EndsAnAnswerThatStalls(t *testing.T) {
	over := make(chan struct{})
	defer close(over)
	client := newClient(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"run": `)
		assert.NoError(t, http.NewResponseController(w).Flush())
		<-over
	}, stalling(200*time.Millisecond))
	err := createRun(t.Context(), client)
	require.ErrorIs(t, err, mlflow.ErrStalled)
	require.ErrorIs(t, err, mlflow.ErrUnreadableAnswer)
	requireTransport(t, err, mlflow.LayerHTTP, true)
}

func TestClient_StopsWithItsContext(t *testing.T) {
	arrived := make(chan struct{})
	over := make(chan struct{})
	defer close(over)
	client := newClient(t, func(http.ResponseWriter, *http.Request) {
		close(arrived)
		<-over
	})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-arrived
		cancel()
	}()
	err := createRun(ctx, client)
	require.ErrorIs(t, err, context.Canceled)
	requireTransport(t, err, mlflow.LayerHTTP, true)
	requireTransport(t, createRun(ctx, client), mlflow.LayerTCP, false)
}

// thawed is a context as it looks to a process that was frozen: its timer has not fired, but its time is over. How often
// the deadline still looked good says where the process was frozen.
type thawed struct {
	context.Context
	goodLooks atomic.Int32
}

func (c *thawed) Deadline() (time.Time, bool) {
	if c.goodLooks.Add(-1) >= 0 {
		return time.Now().Add(time.Hour), true
	}
	return time.Now().Add(-time.Second), true
}

func TestClient_SendsNoChangeOnceItsTimeIsOver(t *testing.T) {
	var whole atomic.Int32
	client := newClient(t, func(_ http.ResponseWriter, r *http.Request) {
		if _, err := io.ReadAll(r.Body); err == nil && r.ContentLength > 0 {
			whole.Add(1)
		}
	})
	for looks := range int32(2) {
		ctx := &thawed{Context: t.Context()}
		ctx.goodLooks.Store(looks)
		for _, change := range []func() error{
			func() error { return createRun(ctx, client) },
			func() error { return client.DeleteLoggedModel(ctx, "m-1") },
			func() error { return client.UploadArtifact(ctx, "mlflow-artifacts:/1", "a", 5<<20, endless{}) },
		} {
			ctx.goodLooks.Store(looks)
			err := change()
			require.ErrorIs(t, err, context.DeadlineExceeded)
			requireTransport(t, err, mlflow.LayerHTTP, false)
		}
	}
	require.Zero(t, whole.Load(), "the server got a whole request")
}

func TestTLS_VerifiesTheServer(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "3.17.2")
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // it tells of the refused handshakes
	server.StartTLS()
	defer server.Close()

	requireTransport(t, createRun(t.Context(), clientOf(t, server.URL)), mlflow.LayerTLS, false)
	for _, settings := range []mlflow.TLS{{InsecureSkipVerify: true}, {ServerCertFile: writePEM(t, server.TLS.Certificates[0], false)}} {
		client := clientOf(t, server.URL, func(config *mlflow.Config) { config.TLS = settings })
		version, err := client.Version(t.Context())
		require.NoError(t, err)
		require.Equal(t, "3.17.2", version)
	}
}

func TestTLS_SendsTheClientCertificate(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		assert.Len(t, r.TLS.PeerCertificates, 1)
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert, MinVersion: tls.VersionTLS13}
	server.StartTLS()
	defer server.Close()

	insecure := func(config *mlflow.Config) { config.TLS.InsecureSkipVerify = true }
	without := clientOf(t, server.URL, insecure)
	require.Eventually(t, func() bool {
		var transport *mlflow.TransportError
		return errors.As(createRun(t.Context(), without), &transport) && transport.Layer == mlflow.LayerTLS
	}, 5*time.Second, time.Millisecond, "TLS 1.3 refuses late, and a reset may overtake what it says, but not always")
	_, err := clientOf(t, server.URL, insecure, func(config *mlflow.Config) {
		config.TLS.ClientCertFile = writePEM(t, server.TLS.Certificates[0], true)
	}).Version(t.Context())
	require.NoError(t, err)
}

func TestTLS_FilesAreCheckedAtTheStart(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty.pem")
	require.NoError(t, os.WriteFile(empty, nil, 0o600))
	for variable, settings := range map[string]mlflow.TLS{
		"MLFLOW_TRACKING_SERVER_CERT_PATH " + empty: {ServerCertFile: empty},
		"MLFLOW_TRACKING_SERVER_CERT_PATH":          {ServerCertFile: empty + ".absent"},
		"MLFLOW_TRACKING_CLIENT_CERT_PATH " + empty: {ClientCertFile: empty},
	} {
		_, err := mlflow.New(mlflow.Config{TrackingURI: "https://host", TLS: settings})
		require.ErrorContains(t, err, variable)
	}
}

// writePEM writes a certificate, and its key where that is asked for.
func writePEM(t *testing.T, pair tls.Certificate, withKey bool) string {
	t.Helper()
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]})
	if withKey {
		key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
		require.NoError(t, err)
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})...)
	}
	file := filepath.Join(t.TempDir(), "file.pem")
	require.NoError(t, os.WriteFile(file, text, 0o600))
	return file
}
