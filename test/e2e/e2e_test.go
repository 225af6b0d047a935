// Package e2e registers the trained example project with both binaries, a real Temporal server and a real MLflow server, kills
// what can be killed, and looks at what MLflow then holds. It knows no more of the inside than a user does: commands, flags,
// files, and what both servers answer.
package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"registrar/internal/servertest"
)

func TestMain(m *testing.M) {
	code := m.Run()
	for _, end := range atEnd {
		end()
	}
	os.Exit(code)
}

// atEnd ends what the tests of a process share; it is filled by the functions below, each of which runs once.
var (
	atEnd   []func()
	atEndMu sync.Mutex
)

func whenAllHaveEnded(end func()) {
	atEndMu.Lock()
	defer atEndMu.Unlock()
	atEnd = append(atEnd, end)
}

// built is the folder with both binaries as they are now.
var built = sync.OnceValues(func() (string, error) {
	folder, err := os.MkdirTemp("", "registrar-e2e-")
	if err != nil {
		return "", err
	}
	whenAllHaveEnded(func() { _ = os.RemoveAll(folder) })
	build := exec.Command("go", "build", "-o", folder+string(filepath.Separator), "registrar/worker", "registrar/starter")
	if output, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build worker and starter: %w\n%s", err, output)
	}
	return folder, nil
})

func binary(t testing.TB, name string) string {
	t.Helper()
	folder, err := built()
	require.NoError(t, err)
	return filepath.Join(folder, name)
}

// sharedTemporal and sharedMLflow are for the tests that do not stop them.
var (
	sharedTemporal = sync.OnceValues(func() (*servertest.TemporalServer, error) {
		folder, err := os.MkdirTemp("", "registrar-e2e-temporal-")
		if err != nil {
			return nil, err
		}
		server, err := servertest.StartTemporal(context.Background(), servertest.TemporalOptions{Dir: folder, Headless: true})
		if err == nil {
			whenAllHaveEnded(func() { server.Stop(); _ = os.RemoveAll(folder) })
		}
		return server, err
	})
	sharedMLflow = sync.OnceValues(func() (*servertest.MLflowServer, error) {
		folder, err := os.MkdirTemp("", "registrar-e2e-mlflow-")
		if err != nil {
			return nil, err
		}
		server, err := servertest.StartMLflow(context.Background(), servertest.MLflowOptions{Dir: folder})
		if err == nil {
			whenAllHaveEnded(func() { server.Stop(); _ = os.RemoveAll(folder) })
		}
		return server, err
	})
)

func temporalServer(t testing.TB) *servertest.TemporalServer {
	t.Helper()
	needServers(t)
	server, err := sharedTemporal()
	require.NoError(t, err)
	return server
}

func mlflowServer(t testing.TB) *servertest.MLflowServer {
	t.Helper()
	needServers(t)
	server, err := sharedMLflow()
	require.NoError(t, err)
	return server
}

func needServers(t testing.TB) {
	t.Helper()
	if os.Getenv(servertest.SkipVariable) == "off" {
		t.Skipf("needs real servers, and %s is off", servertest.SkipVariable)
	}
}

// nameOf makes the test's name one that a registered model or a task queue may have.
func nameOf(t testing.TB) string {
	return strings.NewReplacer("/", "-", ":", "-", " ", "_").Replace(t.Name())
}
