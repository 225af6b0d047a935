package e2e

import (
	"encoding/base64"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"google.golang.org/protobuf/proto"

	"registrar/internal/receipt"
)

const (
	username = "acras"
	password = "S3cret-9d2e"
	token    = "T0ken-71ab"
)

func withPassword(r *http.Request) bool {
	gotUser, gotPassword, _ := r.BasicAuth()
	return gotUser == username && gotPassword == password
}

func withToken(r *http.Request) bool { return r.Header.Get("Authorization") == "Bearer "+token }

func TestCredentials_AreUsedAndNeverShown(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		environ []string
		admits  func(*http.Request) bool
	}{
		"password": {[]string{"MLFLOW_TRACKING_USERNAME=" + username, "MLFLOW_TRACKING_PASSWORD=" + password}, withPassword},
		"token":    {[]string{"MLFLOW_TRACKING_TOKEN=" + token}, withToken},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, gateway := gatedSite(t)
			gateway.admit(c.admits)
			gateway.next("runs/create", fault{cutAfter: true}) // errors are where secrets slip out
			s.environ = c.environ
			worker := s.startWorker("--log-level", "debug")

			a := s.register()

			s.requireOutcome(receipt.Registered, a.receipt)
			status := s.starter("status", a.receipt.WorkflowID)
			seen := a.stdout + a.stderr + status.stdout + status.stderr + worker.Logs() + s.historyOf(a.receipt.WorkflowID) + s.files()
			require.Contains(t, seen, a.receipt.RegistrationKey, "the places where a secret would be")
			for _, secret := range []string{password, token, base64.StdEncoding.EncodeToString([]byte(username + ":" + password))} {
				require.NotContains(t, seen, secret)
			}
		})
	}
}

func TestCredentials_WrongOnesFailWithAdvice(t *testing.T) {
	t.Parallel()
	s, gateway := gatedSite(t)
	gateway.admit(withPassword)
	s.environ = []string{"MLFLOW_TRACKING_USERNAME=" + username, "MLFLOW_TRACKING_PASSWORD=wrong"}
	worker := s.startWorker()

	a := s.register()

	require.Equal(t, 1, a.code)
	s.requireOutcome(receipt.Failed, a.receipt)
	require.Contains(t, a.receipt.Error, "401")
	require.Contains(t, a.receipt.Error, "MLFLOW_TRACKING_", "the remedy")
	require.NotContains(t, a.stdout+a.stderr+worker.Logs(), "wrong")
}

func TestCredentials_StayWithTheWorkersOwnServer(t *testing.T) {
	t.Parallel()
	s, gateway := gatedSite(t)
	var sent atomic.Bool
	gateway.admit(func(r *http.Request) bool {
		if r.Header.Get("Authorization") != "" {
			sent.Store(true)
		}
		return true
	})
	s.project.edit(t, paramsFile, "http://127.0.0.1:5000", gateway.URI)
	s.mlflowURI = "" // only params.yaml names a server
	s.environ = []string{"MLFLOW_TRACKING_TOKEN=" + token}
	s.startWorker()

	s.requireOutcome(receipt.Registered, s.register().receipt)

	require.False(t, sent.Load(), "a params.yaml does not get the worker's token")
}

func TestCredentials_ExpiredTokenBlocksUntilItIsRenewed(t *testing.T) {
	t.Parallel()
	s, gateway := gatedSite(t)
	file := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(file, []byte("old\n"), 0o600))
	s.environ = []string{"MLFLOW_TRACKING_TOKEN_FILE=" + file}
	gateway.admit(func(r *http.Request) bool { return r.Header.Get("Authorization") == "Bearer old" })
	gateway.next("runs/create", fault{before: func() { gateway.admit(withToken) }})
	s.startWorker()

	a := s.register("--detailed-exitcode")

	require.Equal(t, 11, a.code)
	require.Equal(t, receipt.Blocked, a.receipt.State)
	require.Equal(t, "auth", a.receipt.Waiting.Layer)
	require.NoError(t, os.WriteFile(file, []byte(token+"\n"), 0o600))
	r := s.result(a.receipt.WorkflowID)
	s.requireOutcome(receipt.Registered, r)
	gateway.admit(nil)
	registryAt(t, s.mlflowURI).requireServed(r.RegistrationKey)
}

// historyOf is all that Temporal keeps of a workflow, with payloads as they are.
func (s *site) historyOf(workflowID string) string {
	s.t.Helper()
	var history historypb.History
	events := s.dial().GetWorkflowHistory(s.t.Context(), workflowID, "", false, enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for events.HasNext() {
		event, err := events.Next()
		require.NoError(s.t, err)
		history.Events = append(history.Events, event)
	}
	data, err := proto.Marshal(&history)
	require.NoError(s.t, err)
	return string(data)
}

// files are the contents of all that a registration wrote into the project.
func (s *site) files() string {
	s.t.Helper()
	var contents strings.Builder
	require.NoError(s.t, filepath.WalkDir(s.project.path(outputs), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		contents.Write(data)
		return err
	}))
	return contents.String()
}
