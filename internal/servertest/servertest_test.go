package servertest

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"
)

func listen(t *testing.T, port int) net.Listener {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", address(port))
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	return listener
}

func TestPortOr_NamesATakenPort(t *testing.T) {
	listener := listen(t, 0)
	port := listener.Addr().(*net.TCPAddr).Port

	other, taken, err := PortOr(port)
	require.NoError(t, err)
	require.True(t, taken)
	require.NotEqual(t, port, other)

	require.NoError(t, listener.Close())
	same, taken, err := PortOr(port)
	require.NoError(t, err)
	require.False(t, taken)
	require.Equal(t, port, same)
}

func TestStart_MissingBinaryNamesTheTarget(t *testing.T) {
	_, err := StartTemporal(t.Context(), TemporalOptions{Binary: "nowhere/temporal", Dir: t.TempDir()})
	require.ErrorContains(t, err, "run `make tools`")
	_, err = StartMLflow(t.Context(), MLflowOptions{Venv: "nowhere", Dir: t.TempDir()})
	require.ErrorContains(t, err, "run `make venv`")
}

// program writes a shell script that stands for a server's executable.
func program(t *testing.T, script string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "temporal")
	require.NoError(t, os.WriteFile(path, []byte("#!/bin/sh\n"+script), 0o700))
	return path
}

func TestStart_EndOfTheServerShowsItsLog(t *testing.T) {
	binary := program(t, "echo cannot open the database; exit 3")
	_, err := StartTemporal(t.Context(), TemporalOptions{Binary: binary, Dir: t.TempDir(), Headless: true})
	require.ErrorContains(t, err, "start temporal: it ended before it was ready: exit status 3")
	require.ErrorContains(t, err, "cannot open the database")
}

func TestStart_EndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := StartTemporal(ctx, TemporalOptions{Binary: program(t, "sleep 300"), Dir: t.TempDir(), Headless: true})
	require.ErrorIs(t, err, context.Canceled)
}

func TestStart_TakenPortIsAnError(t *testing.T) {
	port := listen(t, 0).Addr().(*net.TCPAddr).Port
	_, err := StartTemporal(t.Context(), TemporalOptions{Binary: program(t, "exit 1"), Dir: t.TempDir(), Port: port})
	require.ErrorIs(t, err, ErrPortTaken)
	require.ErrorContains(t, err, strconv.Itoa(port))
}

// The program listens on nothing, but the first port that it is told is taken while it starts: as when another process
// was faster.
func TestStart_PortTakenInBetweenIsChosenAnew(t *testing.T) {
	directory := t.TempDir()
	var listener net.Listener
	var tried []int
	server, err := onFreePorts(t.Context(), []int{0}, func(ports []int) *server {
		tried = append(tried, ports[0])
		first := len(tried) == 1
		return &server{
			command: Command{
				Name: "late", Path: "/bin/sh", Log: filepath.Join(directory, "log"),
				Args: []string{"-c", map[bool]string{true: "exit 1", false: "sleep 300"}[first]},
			},
			ports: ports,
			ready: func(context.Context) error {
				if !first {
					return nil
				}
				if listener == nil {
					listener = listen(t, ports[0])
				}
				return errors.New("not ready")
			},
		}
	})
	require.NoError(t, err)
	t.Cleanup(server.Kill)
	require.Len(t, tried, 2)
}

func TestTemporal_ComesBackOnTheSamePortAndFile(t *testing.T) {
	server := Temporal(t)
	connection, err := server.Dial(t.Context())
	require.NoError(t, err)
	t.Cleanup(connection.Close)
	run, err := connection.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: "kept", TaskQueue: "nobody"}, "W")
	require.NoError(t, err)

	server.Kill()
	require.ErrorContains(t, temporalReady(t.Context(), server.HostPort), "connection refused")
	require.NoError(t, server.Start(t.Context()))

	require.EventuallyWithT(t, func(c *assert.CollectT) { // a connection that was lost is made again after a while
		description, err := connection.DescribeWorkflowExecution(t.Context(), "kept", "")
		assert.NoError(c, err)
		assert.Equal(c, run.GetRunID(), description.GetWorkflowExecutionInfo().GetExecution().GetRunId())
	}, 2*time.Minute, 100*time.Millisecond)
	require.ErrorIs(t, server.Start(t.Context()), ErrPortTaken)
}

func TestMLflow_ComesBackOnTheSamePortAndFiles(t *testing.T) {
	server := MLflow(t)
	create := server.URI + "/api/2.0/mlflow/registered-models/create"
	_, err := request(t.Context(), http.MethodPost, create, `{"name":"kept"}`)
	require.NoError(t, err)

	server.Stop()
	require.Error(t, mlflowReady(t.Context(), server.URI))
	require.NoError(t, server.Start(t.Context()))

	_, err = request(t.Context(), http.MethodGet, server.URI+"/api/2.0/mlflow/registered-models/get?name=kept", "")
	require.NoError(t, err)
	require.FileExists(t, filepath.Join(server.Dir, "mlflow.db"))
}

func TestMLflow_KeepsArtifactsInABucket(t *testing.T) {
	s3 := S3(t)
	server := MLflow(t, func(o *MLflowOptions) { o.S3 = s3 })
	const artifact = "0/models/m-1/artifacts/MLmodel"
	_, err := request(t.Context(), http.MethodPut, server.URI+"/api/2.0/mlflow-artifacts/artifacts/"+artifact, "flavors")
	require.NoError(t, err)

	kept, err := os.ReadFile(filepath.Join(s3.Dir, "buckets", s3.Bucket, artifact))
	require.NoError(t, err)
	require.Equal(t, "flavors", string(kept))
	// Only an object store takes a file in parts; MLflow answers 501 for a folder.
	_, err = request(t.Context(), http.MethodPost, server.URI+"/api/2.0/mlflow-artifacts/mpu/create/0/models/m-1/artifacts",
		`{"path":"model.pkl","num_parts":2}`)
	require.NoError(t, err)
}

func TestS3_AcceptsItsOwnKeysAloneAndKeepsItsBucket(t *testing.T) {
	s3 := S3(t)
	stranger := *s3
	stranger.SecretKey += "x"
	require.ErrorContains(t, stranger.makeBucket(t.Context()), "SignatureDoesNotMatch")

	s3.Kill()
	require.NoError(t, s3.Start(t.Context()))
	require.NoError(t, s3.makeBucket(t.Context()), "it may be repeated")
}
