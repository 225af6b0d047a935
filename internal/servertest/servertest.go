// Package servertest starts the real servers that tests and the demo run against: the Temporal development server, the
// Temporal server on PostgreSQL, MLflow, and an S3 server for its artifacts. It knows processes, ports and readiness; it knows nothing of registrations,
// models or workflows.
//
// Each server is a process group of its own that ends with the process that started it, however that one ends. The
// package needs a Unix.
package servertest

import (
	"os"
	"path/filepath"
	"testing"
)

// SkipVariable names the environment variable that, set to "off", skips the tests that need a server. Nothing else
// skips them: a server that cannot be started fails its test.
const SkipVariable = "REGISTRAR_TEST_SERVERS"

// Temporal starts a Temporal development server of the test's own and stops it when the test ends. It is headless and
// keeps its database in a folder of the test, unless set says otherwise.
func Temporal(t testing.TB, set ...func(*TemporalOptions)) *TemporalServer {
	t.Helper()
	SkipWhereOff(t)
	options := TemporalOptions{Dir: t.TempDir(), Headless: true}
	for _, apply := range set {
		apply(&options)
	}
	server, err := StartTemporal(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { finish(t, server.server) })
	return server
}

// MLflow starts an MLflow server of the test's own and stops it when the test ends. It keeps its database and its
// artifacts in a folder of the test, unless set says otherwise. A start takes 5 to 30 seconds: share one server
// between the tests that do not stop it.
func MLflow(t testing.TB, set ...func(*MLflowOptions)) *MLflowServer {
	t.Helper()
	SkipWhereOff(t)
	options := MLflowOptions{Dir: t.TempDir()}
	for _, apply := range set {
		apply(&options)
	}
	server, err := StartMLflow(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { finish(t, server.server) })
	return server
}

// S3 starts an S3 server of the test's own, with an empty bucket, and stops it when the test ends. A start takes a second.
func S3(t testing.TB, set ...func(*S3Options)) *S3Server {
	t.Helper()
	SkipWhereOff(t)
	options := S3Options{Dir: t.TempDir()}
	for _, apply := range set {
		apply(&options)
	}
	server, err := StartS3(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { finish(t, server.server) })
	return server
}

// Root returns the repository's root: the nearest folder with a go.mod, from the working folder upwards. Where there
// is none it returns the working folder.
func Root() string {
	working, err := os.Getwd()
	if err != nil {
		return "."
	}
	for folder := working; ; folder = filepath.Dir(folder) {
		if _, err := os.Stat(filepath.Join(folder, "go.mod")); err == nil {
			return folder
		}
		if folder == filepath.Dir(folder) {
			return working
		}
	}
}

// SkipWhereOff skips a test that needs a server, or another program that is not Go's, where SkipVariable says so.
func SkipWhereOff(t testing.TB) {
	t.Helper()
	if os.Getenv(SkipVariable) == "off" {
		t.Skipf("needs real servers or tools, and %s is off", SkipVariable)
	}
}

func finish(t testing.TB, server *server) {
	server.Stop()
	if t.Failed() {
		t.Logf("log of %s:\n%s", server.command.Name, server.Logs())
	}
}
