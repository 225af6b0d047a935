package e2e

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"registrar/internal/receipt"
	"registrar/internal/servertest"
)

var matrix = flag.Bool("matrix", false, "register on each version of MLflow that tools/matrix pins, and write docs/servers.md")

// servers are the versions of MLflow to register on. The last one is that of every other test.
var servers = []string{"2.22.4", "3.1.4", "3.9.0", "3.17.2"}

func venvOf(version string) string {
	if version == servers[len(servers)-1] {
		return filepath.Join(servertest.Root(), ".build", "venv")
	}
	return filepath.Join(servertest.Root(), ".build", "matrix", "mlflow-"+version)
}

// matrixRow is what was seen on one server with one layout.
type matrixRow struct {
	server, layout, objects, requirement string
}

// TestMatrix registers on each version of MLflow and in each layout, loads the version back with that version's own client and with the
// newest one, and resolves the requirements that the model asks for.
func TestMatrix(t *testing.T) {
	if !*matrix {
		t.Skip("runs with -matrix, by `make matrix`: it needs an environment for each version of MLflow")
	}
	var rows []matrixRow
	for _, version := range servers {
		t.Run(version, func(t *testing.T) {
			require.DirExists(t, venvOf(version), "run `make matrix`")
			server := servertest.MLflow(t, func(o *servertest.MLflowOptions) { o.Venv = venvOf(version) })
			for _, layout := range []string{"wrapper", "hybrid"} {
				t.Run(layout, func(t *testing.T) { rows = append(rows, registerOn(t, version, server.URI, layout)) })
			}
		})
	}
	if !t.Failed() {
		writeMatrix(t, rows)
	}
}

func registerOn(t *testing.T, version, uri, layout string) matrixRow {
	venv := venvOf(version)
	p := newProject(t)
	p.edit(t, configFile, "model_registration:", "model_registration:\n  layout: "+layout)
	s := newSite(t, p, temporalServer(t).HostPort, uri)
	s.startWorker()

	registered := s.register("--wait", "final", "--timeout", patience.String()).receipt
	s.requireOutcome(receipt.Registered, registered)
	require.Equal(t, "Staging", registered.Stage)
	s.requireOutcome(receipt.AlreadyRegistered, s.register("--wait", "final", "--timeout", patience.String()).receipt)

	s.consumeIn(venv)
	s.consumeIn(venvOf(servers[len(servers)-1]))

	objects := "run and version: there are no logged models"
	if registered.MLflowModelID != "" {
		objects = "run, logged model and version"
	}
	return matrixRow{server: version, layout: layout, objects: objects, requirement: requireInstallable(t, s, venv, registered)}
}

// requireInstallable sees that an installer finds versions for the model's requirements, and gives the line that asks for MLflow.
func requireInstallable(t *testing.T, s *site, venv string, r receipt.Receipt) string {
	t.Helper()
	folder := t.TempDir()
	download := exec.CommandContext(t.Context(), filepath.Join(venv, "bin", "mlflow"), "artifacts", "download",
		"--artifact-uri", r.ModelURI+"/requirements.txt", "--dst-path", folder)
	download.Env = servertest.Environment([]string{"MLFLOW_"}, "MLFLOW_TRACKING_URI="+s.mlflowURI, "MLFLOW_DISABLE_TELEMETRY=true", "DO_NOT_TRACK=true")
	output, err := download.CombinedOutput()
	require.NoError(t, err, "%s", output)
	requirements := filepath.Join(folder, "requirements.txt")
	resolve := exec.CommandContext(t.Context(), filepath.Join(servertest.Root(), ".build", "uv", "bin", "uv"), "pip", "compile", "--quiet",
		"--python-version", "3.11", requirements)
	output, err = resolve.CombinedOutput()
	require.NoError(t, err, "%s", output)
	content, err := os.ReadFile(requirements)
	require.NoError(t, err)
	line, _, _ := strings.Cut(string(content), "\n")
	require.True(t, strings.HasPrefix(line, "mlflow"), line)
	return line
}

func writeMatrix(t *testing.T, rows []matrixRow) {
	t.Helper()
	var text strings.Builder
	fmt.Fprintf(&text, `# Servers

Written by `+"`make matrix`"+` on %s. The example project was registered on each server with both binaries, and again, which found it
registered already. The version was loaded back by number, stage and alias, through sklearn and pyfunc, by the server's own version of the
client and by %s, each with predictions equal to the last bit. An installer found versions for what its `+"`requirements.txt`"+` asks for.

| MLflow | layout | what was made | asks for |
|---|---|---|---|
`, time.Now().UTC().Format(time.DateOnly), servers[len(servers)-1])
	for _, r := range rows {
		fmt.Fprintf(&text, "| %s | `%s` | %s | `%s` |\n", r.server, r.layout, r.objects, r.requirement)
	}
	text.WriteString(`
A server without logged models is told by the endpoint's absence, not by its version number. MLflow installs beside pandas 3 from 3.16 on; the
project was trained with it, and so an older server's own version would be a requirement that no installer can meet. There the model asks for
that version or a newer one, which reads what the server serves.
`)
	require.NoError(t, os.WriteFile(filepath.Join(servertest.Root(), "docs", "servers.md"), []byte(text.String()), 0o600))
}
