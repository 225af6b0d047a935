package e2e

import (
	"bufio"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"registrar/internal/receipt"
	"registrar/internal/servertest"
)

func TestLayer_SaysWhereTheWayToMLflowEnds(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		uri              func(testing.TB) string
		layer, lastError string
	}{
		"nobody_listens":         {func(t testing.TB) string { return "http://" + unusedAddress(t) }, "tcp", "connection refused"},
		"no_answer_to_SYN":       {func(t testing.TB) string { return "http://" + silentAddress(t) }, "tcp", "i/o timeout"},
		"no_answer_to_a_request": {silentServer, "http", "timeout awaiting response headers"},
		"unknown_authority":      {selfSignedServer, "tls", "certificate signed by unknown authority"},
		// The domain is reserved to be nobody's (RFC 2606).
		"no_such_name": {func(testing.TB) string { return "http://mlflow.invalid:5000" }, "dns", "lookup mlflow.invalid"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, newProject(t), temporalServer(t).HostPort, c.uri(t))
			s.environ = []string{"NO_PROXY=*"}
			s.startWorker("--mlflow-dial-timeout", "1s", "--mlflow-response-timeout", "1s")

			a := s.register()

			require.Equal(t, receipt.Waiting, a.receipt.State)
			require.Equal(t, c.layer, a.receipt.Waiting.Layer)
			require.Contains(t, a.receipt.Waiting.LastError, c.lastError)
		})
	}
}

// TestLayer_SaysWhatOfMLflowIsGone takes from a real server what it needs, and gives it back.
func TestLayer_SaysWhatOfMLflowIsGone(t *testing.T) {
	t.Parallel()
	temporal := temporalServer(t)
	mlflow := servertest.MLflow(t)
	for _, c := range []struct {
		name             string
		take             func(testing.TB, *servertest.MLflowServer) (giveBack func())
		layer, lastError string
	}{
		{"artifact_store", takeArtifacts, "artifact_store", "reach artifact store"},
		{"database", lockDatabase, "database", "503 TEMPORARILY_UNAVAILABLE"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSite(t, newProject(t), temporal.HostPort, mlflow.URI)
			s.startWorker()
			giveBack := c.take(t, mlflow)

			a := s.register()

			require.Equal(t, receipt.Waiting, a.receipt.State)
			require.Equal(t, c.layer, a.receipt.Waiting.Layer)
			require.Contains(t, a.receipt.Waiting.LastError, c.lastError)
			giveBack()
			r := s.result(a.receipt.WorkflowID)
			s.requireOutcome(receipt.Registered, r)
			registryAt(t, mlflow.URI).requireServed(r.RegistrationKey)
		})
	}
}

// silentAddress is one that answers nothing to who wants to connect: the kernel drops what comes to a listener whose queue is full.
func silentAddress(t testing.TB) string {
	t.Helper()
	listener, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	require.NoError(t, err)
	t.Cleanup(func() { _ = syscall.Close(listener) })
	syscall.CloseOnExec(listener)
	require.NoError(t, syscall.Bind(listener, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	require.NoError(t, syscall.Listen(listener, 0))
	bound, err := syscall.Getsockname(listener)
	require.NoError(t, err)
	address := fmt.Sprintf("127.0.0.1:%d", bound.(*syscall.SockaddrInet4).Port)
	dialer := net.Dialer{Timeout: time.Second}
	for range 16 {
		connection, err := dialer.DialContext(t.Context(), "tcp", address)
		if err != nil {
			return address
		}
		t.Cleanup(func() { _ = connection.Close() })
	}
	require.FailNow(t, "the queue of a listener does not fill")
	return ""
}

// silentServer takes requests, and answers none.
func silentServer(t testing.TB) string {
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // else the end of the connection is not noticed
		<-r.Context().Done()
	}))
	t.Cleanup(server.Close)
	return server.URL
}

func selfSignedServer(t testing.TB) string {
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	return server.URL
}

// takeArtifacts puts a file where the folder of the artifact store is.
func takeArtifacts(t testing.TB, server *servertest.MLflowServer) (giveBack func()) {
	t.Helper()
	folder := filepath.Join(server.Dir, "artifacts")
	require.NoError(t, os.RemoveAll(folder))
	require.NoError(t, os.WriteFile(folder, nil, 0o600))
	return func() { require.NoError(t, os.Remove(folder)) }
}

// holdLock locks the database that its argument names until its standard input ends.
const holdLock = `
import sqlite3, sys
database = sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None)
database.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
sys.stdin.read()
`

// lockDatabase locks MLflow's database as another process that writes does.
func lockDatabase(t testing.TB, server *servertest.MLflowServer) (giveBack func()) {
	t.Helper()
	python := filepath.Join(servertest.Root(), ".build", "venv", "bin", "python")
	lock := exec.CommandContext(t.Context(), python, "-c", holdLock, filepath.Join(server.Dir, "mlflow.db"))
	input, err := lock.StdinPipe()
	require.NoError(t, err)
	output, err := lock.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, lock.Start())
	said, err := bufio.NewReader(output).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "locked\n", said)
	return func() {
		require.NoError(t, input.Close())
		require.NoError(t, lock.Wait())
	}
}
