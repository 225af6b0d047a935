package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"registrar/activities"
	"registrar/internal/mlflow"
	"registrar/internal/receipt"
	"registrar/internal/servertest"
)

// doctor lets the starter check the site, and returns the checks by name, and the exit code.
func (s *site) doctor() (map[string]activities.Check, int) {
	s.t.Helper()
	command, stdout, stderr := s.command("doctor")
	_ = command.Run() // the exit code tells
	s.t.Logf("starter doctor: exit code %d\n%s%s", command.ProcessState.ExitCode(), stderr, stdout)
	var list []activities.Check
	require.NoError(s.t, json.Unmarshal(stdout.Bytes(), &list))
	checks := map[string]activities.Check{}
	for _, c := range list {
		checks[c.Name] = c
	}
	return checks, command.ProcessState.ExitCode()
}

// startListening starts a worker, and returns when it listens.
func (s *site) startListening() *servertest.Process {
	s.t.Helper()
	worker := s.startWorker()
	eventually(s.t, func() bool { return strings.Contains(worker.Logs(), "worker is ready") }, "the worker starts")
	return worker
}

// requireChecks sees how checks went, given as "name: status" lines.
func requireChecks(t testing.TB, checks map[string]activities.Check, want string) {
	t.Helper()
	for line := range strings.FieldsSeq(want) {
		name, status, _ := strings.Cut(line, ":")
		require.Equal(t, status, string(checks[name].Status), "%+v", checks[name])
	}
}

const (
	wellSoFar  = "configuration:ok files:ok temporal:ok search_attributes:ok worker:ok"
	allSkipped = "credentials:skipped experiment:skipped registry:skipped artifact_store:skipped"
)

func TestDoctor_FindsNothingBeforeAndAfterARegistration(t *testing.T) {
	t.Parallel()
	s := sharedSite(t)
	s.startListening()

	checks, code := s.doctor()
	require.Zero(t, code)
	requireChecks(t, checks, wellSoFar+" project:ok mlflow:ok credentials:ok experiment:ok registry:ok artifact_store:ok")
	require.Contains(t, checks["mlflow"].Detail, s.mlflowURI+", from MLFLOW_TRACKING_URI, version 3.")
	require.Contains(t, checks["registry"].Detail, "is not there: the first registration makes it")

	s.requireOutcome(receipt.Registered, s.register().receipt)
	checks, code = s.doctor()
	require.Zero(t, code)
	requireChecks(t, checks, wellSoFar+" project:ok mlflow:ok credentials:ok experiment:ok registry:ok artifact_store:ok")
	require.Contains(t, checks["registry"].Detail, "the worker may write to it")
	require.Contains(t, checks["artifact_store"].Detail, "the worker may write to mlflow-artifacts:/")
}

func TestDoctor_FindsWhatTheWorkerCannotReach(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		uri, check, status, detail, remedy string
	}{
		"nobody listens": {"http://127.0.0.1:1", "mlflow", "failed", "tcp: ", "start MLflow, or correct its address in MLFLOW_TRACKING_URI"},
		"unknown host":   {"http://mlflow.invalid:5000", "mlflow", "failed", "dns: ", "start MLflow, or correct its address in MLFLOW_TRACKING_URI"},
		"not TLS":        {"https" + strings.TrimPrefix(mlflowServer(t).URI, "http"), "mlflow", "failed", "", ""},
		"another prefix": {mlflowServer(t).URI + "/mlflow", "mlflow", "failed", "404", "is the tracking URI right, with its path prefix?"},
		"no server":      {"sqlite:///mlflow.db", "project", "failed", "is not the http address of a server: start one with `mlflow server`", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, newProject(t), temporalServer(t).HostPort, c.uri)
			s.startListening()
			checks, code := s.doctor()
			require.Equal(t, 1, code)
			requireChecks(t, checks, wellSoFar+" "+c.check+":"+c.status+" "+allSkipped)
			require.Contains(t, checks[c.check].Detail, c.detail)
			require.Contains(t, checks[c.check].Remedy, c.remedy)
			require.Equal(t, "needs "+c.check, checks["registry"].Detail)
		})
	}
}

func TestDoctor_FindsAWorkerThatDoesNotServeTheProject(t *testing.T) {
	t.Parallel()
	s := sharedSite(t)
	elsewhere := *s
	elsewhere.project.root = t.TempDir()
	elsewhere.startListening()

	checks, code := s.doctor()

	require.Equal(t, 1, code)
	requireChecks(t, checks, wellSoFar+" project:failed mlflow:skipped "+allSkipped)
	require.Contains(t, checks["project"].Detail, "start the worker with --allow-root")
}

func TestDoctor_FindsAWorkerThatWasKilled(t *testing.T) {
	t.Parallel()
	s := sharedSite(t)
	worker := s.startListening()
	_, code := s.doctor()
	require.Zero(t, code)
	worker.Kill()

	checks, code := s.doctor()

	require.Equal(t, 1, code)
	requireChecks(t, checks, "worker:failed project:skipped mlflow:skipped "+allSkipped)
	require.Contains(t, checks["worker"].Detail, "no worker listens on task queue")
}

func TestDoctor_FindsCredentialsThatAreWithheldOrRefused(t *testing.T) {
	t.Parallel()
	s, gateway := gatedSite(t)
	s.project.edit(t, paramsFile, "http://127.0.0.1:5000", gateway.URI)
	s.mlflowURI = "" // only params.yaml names a server
	s.environ = []string{"MLFLOW_TRACKING_TOKEN=" + token}
	worker := s.startListening()

	checks, code := s.doctor()
	require.Zero(t, code, "nobody asks for them yet")
	requireChecks(t, checks, "mlflow:ok credentials:warning registry:ok")
	require.Contains(t, checks["credentials"].Detail, "credentials are set, but not sent to 127.0.0.1:")

	gateway.admit(withToken)
	checks, code = s.doctor()
	require.Equal(t, 1, code)
	requireChecks(t, checks, "mlflow:ok credentials:failed experiment:skipped registry:skipped artifact_store:skipped")
	require.Contains(t, checks["credentials"].Detail, "401")
	require.Contains(t, checks["credentials"].Remedy, "--trust-host")
	require.NotContains(t, fmt.Sprint(checks)+worker.Logs(), token)
}

func TestDoctor_FindsAnExperimentThatNobodyCanWriteTo(t *testing.T) {
	t.Parallel()
	s := sharedSite(t)
	s.startListening()
	client, err := mlflow.New(mlflow.Config{TrackingURI: s.mlflowURI})
	require.NoError(t, err)
	t.Cleanup(client.Close)
	_, err = client.CreateExperiment(t.Context(), mlflow.CreateExperimentRequest{Name: nameOf(t), ArtifactLocation: "file://" + t.TempDir()})
	require.NoError(t, err)
	s.project.edit(t, configFile, `experiment_name: "ACRAS_Risk_Assessment"`, `experiment_name: "`+nameOf(t)+`"`)

	checks, code := s.doctor()
	require.Equal(t, 1, code)
	requireChecks(t, checks, "experiment:ok registry:ok artifact_store:failed")
	require.Contains(t, checks["artifact_store"].Detail, "start `mlflow server` with --artifacts-destination")
}

// TestDoctor_TellsPermissionsAndLeavesNothing has MLflow's own user management: the faults of a user without rights are no gateway's.
func TestDoctor_TellsPermissionsAndLeavesNothing(t *testing.T) {
	t.Parallel()
	const admin, reader = "Adm1n-pass-word", "Reader-pass-word"
	auth := filepath.Join(t.TempDir(), "auth.ini")
	require.NoError(t, os.WriteFile(auth, fmt.Appendf(nil, "[mlflow]\ndefault_permission = READ\ndatabase_uri = sqlite:///%s/users.db\n"+
		"admin_username = admin\nadmin_password = %s\nauthorization_function = mlflow.server.auth:authenticate_request_basic_auth\n", t.TempDir(), admin), 0o600))
	server := servertest.MLflow(t, func(o *servertest.MLflowOptions) {
		o.Args = []string{"--app-name", "basic-auth"}
		o.Env = []string{"MLFLOW_AUTH_CONFIG_PATH=" + auth, "MLFLOW_FLASK_SERVER_SECRET_KEY=of-a-test"}
	})
	s := newSite(t, newProject(t), temporalServer(t).HostPort, server.URI)
	as := func(user, password string) (map[string]activities.Check, int) {
		s.environ = []string{"MLFLOW_TRACKING_USERNAME=" + user, "MLFLOW_TRACKING_PASSWORD=" + password}
		worker := s.startListening()
		defer worker.Stop()
		return s.doctor()
	}

	before := dump(t, server)
	checks, code := as("admin", admin)
	require.Zero(t, code)
	requireChecks(t, checks, "credentials:ok experiment:ok registry:ok artifact_store:ok")
	require.Equal(t, before, dump(t, server), "nothing is left of what was tried")

	client, err := mlflow.New(mlflow.Config{TrackingURI: server.URI, Credentials: func() (mlflow.Credentials, error) {
		return mlflow.Credentials{Username: "admin", Password: admin}, nil
	}})
	require.NoError(t, err)
	t.Cleanup(client.Close)
	_, err = client.CreateRegisteredModel(t.Context(), mlflow.CreateRegisteredModelRequest{Name: s.project.modelName})
	require.NoError(t, err)
	_, err = client.CreateExperiment(t.Context(), mlflow.CreateExperimentRequest{Name: "ACRAS_Risk_Assessment"})
	require.NoError(t, err)
	createUser(t, server.URI, admin, "reader", reader)

	before = dump(t, server)
	checks, code = as("admin", admin)
	require.Zero(t, code)
	requireChecks(t, checks, "credentials:ok experiment:ok registry:ok artifact_store:ok")
	checks, code = as("reader", reader)
	require.Equal(t, 1, code)
	requireChecks(t, checks, "mlflow:ok credentials:ok experiment:failed registry:failed artifact_store:warning")
	for _, name := range []string{"experiment", "registry"} {
		require.Contains(t, checks[name].Detail, "403")
		require.Contains(t, checks[name].Remedy, "give the worker's user the permission")
	}
	require.Contains(t, checks["artifact_store"].Detail, "writing was not tried")
	require.Equal(t, before, dump(t, server), "nothing is left of what was tried")

	checks, code = as("reader", "wrong")
	require.Equal(t, 1, code)
	requireChecks(t, checks, "mlflow:ok credentials:failed experiment:skipped registry:skipped artifact_store:skipped")
	require.Contains(t, checks["credentials"].Remedy, "set MLFLOW_TRACKING_USERNAME")

	artifacts := filepath.Join(server.Dir, "artifacts")
	require.NoError(t, os.RemoveAll(artifacts))
	require.NoError(t, os.WriteFile(artifacts, nil, 0o600), "a store that takes no files")
	checks, code = as("admin", admin)
	require.Equal(t, 1, code)
	requireChecks(t, checks, "registry:ok artifact_store:failed")
	require.Contains(t, checks["artifact_store"].Detail, "reach artifact store: ")
}

// dump is all that an MLflow server holds: the rows of its database, and its files.
func dump(t testing.TB, server *servertest.MLflowServer) string {
	t.Helper()
	const program = "import sqlite3, sys\nfor line in sqlite3.connect(sys.argv[1]).iterdump(): print(line)"
	rows, err := exec.CommandContext(t.Context(), filepath.Join(servertest.Root(), ".build", "venv", "bin", "python"), "-c", program,
		filepath.Join(server.Dir, "mlflow.db")).CombinedOutput()
	require.NoError(t, err, "%s", rows)
	text := string(rows)
	require.NoError(t, filepath.WalkDir(filepath.Join(server.Dir, "artifacts"), func(path string, entry os.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			text += path + "\n"
		}
		return nil // no artifacts yet: no folder
	}))
	return text
}

func createUser(t testing.TB, uri, adminPassword, name, password string) {
	t.Helper()
	body := strings.NewReader(fmt.Sprintf(`{"username": %q, "password": %q}`, name, password))
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, uri+"/api/2.0/mlflow/users/create", body)
	require.NoError(t, err)
	request.SetBasicAuth("admin", adminPassword)
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	require.Equal(t, http.StatusOK, response.StatusCode)
}
