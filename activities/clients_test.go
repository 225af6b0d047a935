package activities

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/temporal"

	"registrar/internal/failure"
	"registrar/internal/mlflow"
	"registrar/internal/mlflow/mlflowtest"
)

// authorizations are what the server was sent as credentials, once each request.
func (p *project) authorizations() []string {
	var sent []string
	for _, r := range p.server.Requests() {
		sent = append(sent, r.Header.Get("Authorization"))
	}
	return sent
}

func (p *project) checkHealth() error {
	_, err := execute[CheckMLflowHealthResult](p, p.CheckMLflowHealth, CheckMLflowHealthInput{Server: p.tracked()})
	return err
}

func TestCredentials_GoToTheWorkersOwnServerOnly(t *testing.T) {
	for name, test := range map[string]struct {
		own     func(uri string) string
		trusted func(uri string) []string
		want    string
	}{
		"own server":      {func(uri string) string { return uri }, nil, "Bearer secret"},
		"other server":    {func(string) string { return "http://mlflow.example" }, nil, ""},
		"none of its own": {func(string) string { return "" }, nil, ""},
		"trusted server":  {func(string) string { return "http://mlflow.example" }, func(uri string) []string { return []string{strings.TrimPrefix(uri, "http://")} }, "Bearer secret"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newProject(t)
			p.Process = map[string]string{"MLFLOW_TRACKING_TOKEN": "secret", "MLFLOW_TRACKING_URI": test.own(p.server.URL)}
			if test.trusted != nil {
				p.TrustedHosts = test.trusted(p.server.URL)
			}

			require.NoError(t, p.checkHealth())

			require.NotEmpty(t, p.authorizations())
			for _, sent := range p.authorizations() {
				require.Equal(t, test.want, sent)
			}
		})
	}
}

func TestClients_AreKeptForSomeProjectsAndServeAll(t *testing.T) {
	p := newProject(t)
	first, err := p.mlflow(p.tracked())
	require.NoError(t, err)
	again, err := p.mlflow(p.tracked())
	require.NoError(t, err)
	require.Same(t, first, again, "connections are used again")
	for i := range 3 * keptClients {
		server := p.tracked()
		server.TrackingURI += fmt.Sprintf("/%d", i)
		_, err := p.mlflow(server)
		require.NoError(t, err)
	}

	require.Len(t, p.Clients.made, keptClients)
	_, err = first.Version(t.Context())
	require.NoError(t, err, "who has one goes on")
}

func TestClients_AreThereWhileAnotherIsMade(t *testing.T) {
	p := newProject(t)
	kept, err := p.mlflow(p.tracked())
	require.NoError(t, err)
	// A named pipe that nobody writes to holds up who reads it, as a mount does whose server is gone.
	held := filepath.Join(t.TempDir(), "authorities")
	require.NoError(t, syscall.Mkfifo(held, 0o600))
	p.Process["MLFLOW_TRACKING_SERVER_CERT_PATH"] = held
	made := make(chan error)
	go func() {
		server := p.tracked()
		server.TrackingURI += "/another"
		_, err := p.mlflow(server)
		made <- err
	}()
	var writer *os.File
	require.Eventually(t, func() bool { // opening succeeds when the other one reads
		writer, err = os.OpenFile(held, os.O_WRONLY|syscall.O_NONBLOCK, 0)
		return err == nil
	}, 10*time.Second, time.Millisecond)
	release := sync.OnceFunc(func() { assert.NoError(t, writer.Close()) })
	defer release()

	found := make(chan *mlflow.Client, 1)
	go func() {
		client, err := p.mlflow(p.tracked())
		assert.NoError(t, err)
		found <- client
	}()
	select {
	case client := <-found:
		require.Same(t, kept, client)
	case <-time.After(10 * time.Second):
		require.Fail(t, "who has a client waits for another's")
	}
	release()
	require.Error(t, <-made, "nothing is written there")
}

func TestClients_MadeAtOnceAreOne(t *testing.T) {
	p := newProject(t)
	made := make(chan *mlflow.Client)
	for range 20 {
		go func() {
			client, err := p.mlflow(p.tracked())
			assert.NoError(t, err)
			made <- client
		}()
	}
	first := <-made
	for range 19 {
		require.Same(t, first, <-made)
	}
	require.Len(t, p.Clients.made, 1)
}

func TestClients_ServeAProjectWhoseFolderIsGone(t *testing.T) {
	for name, server := range map[string]Server{
		"with a workspace":             {Workspace: "team", WorkspaceKnown: true}, // which its .env had named
		"in the default one":           {WorkspaceKnown: true},
		"with one of an older payload": {Workspace: "team"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newProject(t)
			p.makes(keyed(owner))
			server.TrackingURI, server.Root = p.server.URL, filepath.Join(p.root, "checkout")
			before := len(p.server.Requests())

			promoted, err := execute[PromoteVersionResult](p, p.PromoteVersion, PromoteVersionInput{Server: server, ModelName: "credit", Version: "1"})

			require.NoError(t, err)
			require.True(t, promoted.Promoted)
			_, err = execute[SweepResult](p, p.Sweep, SweepInput{Server: server, Owner: keyed(owner), LoggedModels: true})
			require.NoError(t, err)
			require.Equal(t, []string{server.Workspace}, p.workspaces(before))
		})
	}
}

// workspaces are those that the requests from this number on went to, each once.
func (p *project) workspaces(from int) []string {
	var named []string
	for _, sent := range p.server.Requests()[from:] {
		named = append(named, sent.Header.Get("X-MLFLOW-WORKSPACE"))
	}
	slices.Sort(named)
	return slices.Compact(named)
}

func TestClients_OfAProjectWhoseFolderIsGoneAreNotKept(t *testing.T) {
	p := newProject(t)
	server := Server{TrackingURI: p.server.URL, Root: filepath.Join(p.root, "checkout"), WorkspaceKnown: true}
	gone, err := p.mlflow(server)
	require.NoError(t, err)

	p.write("checkout/.env", "MLFLOW_TRACKING_INSECURE_TLS=true\n") // which a client has from its beginning
	back, err := p.mlflow(server)
	require.NoError(t, err)
	again, err := p.mlflow(server)
	require.NoError(t, err)

	require.NotSame(t, gone, back)
	require.Same(t, back, again)
}

func TestClients_KeepTheWorkspaceThatARegistrationBeganWith(t *testing.T) {
	for name, c := range map[string]struct{ before, after, sent string }{
		"the default one":   {"", "later", ""},
		"another":           {"team", "later", "team"},
		"no longer the one": {"team", "", "team"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newProject(t)
			name := "MLFLOW_WORKSPACE="
			p.write(".env", name+c.before)
			loaded, err := p.load()
			require.NoError(t, err)
			p.write(".env", name+c.after)
			p.Clients = &Clients{} // of another worker

			_, err = execute[CheckMLflowHealthResult](p, p.CheckMLflowHealth, CheckMLflowHealthInput{Server: loaded.ServerOf(p.root)})

			require.NoError(t, err)
			require.Equal(t, []string{c.sent}, p.workspaces(0))
		})
	}
}

func TestClients_TakeTheEnvironmentsWorkspaceWhereNoneWasRecorded(t *testing.T) {
	p := newProject(t)
	server := Server{TrackingURI: p.server.URL, Root: filepath.Join(p.root, "checkout")} // of an older worker
	check := func() error {
		_, err := execute[CheckMLflowHealthResult](p, p.CheckMLflowHealth, CheckMLflowHealthInput{Server: server})
		return err
	}

	err := check()
	var failed *temporal.ApplicationError
	require.ErrorAs(t, err, &failed)
	require.Equal(t, failure.Unauthorized, failed.Type(), "blocked until somebody puts it back")
	require.ErrorContains(t, err, server.Root)
	_, err = p.ExecuteActivity(p.ProbeMLflow, ProbeMLflowInput{Server: server})
	require.NoError(t, err, "nobody else waits for the folder")
	require.Empty(t, p.server.Requests(), "the default workspace may be another one")

	p.write("checkout/.env", "MLFLOW_WORKSPACE=team\n")
	require.NoError(t, check())
	require.Equal(t, []string{"team"}, p.workspaces(0))
}

func TestCredentials_AreNotSentAlongARedirect(t *testing.T) {
	p := newProject(t)
	elsewhere := mlflowtest.NewServer(t)
	front := httptest.NewServer(http.RedirectHandler(elsewhere.URL, http.StatusTemporaryRedirect))
	t.Cleanup(front.Close)
	p.Process = map[string]string{"MLFLOW_TRACKING_TOKEN": "secret", "MLFLOW_TRACKING_URI": front.URL}

	_, err := execute[CheckMLflowHealthResult](p, p.CheckMLflowHealth, CheckMLflowHealthInput{Server: Server{TrackingURI: front.URL, Root: p.root}})

	require.ErrorContains(t, err, "307")
	require.Empty(t, elsewhere.Requests())
}

func TestCredentials_AreReadAgainForEachRequest(t *testing.T) {
	p := newProject(t)
	tokens := filepath.Join(t.TempDir(), "token")
	p.Process = map[string]string{"MLFLOW_TRACKING_TOKEN_FILE": tokens, "MLFLOW_TRACKING_URI": p.server.URL}
	for _, token := range []string{"first", "second"} {
		require.NoError(t, os.WriteFile(tokens, []byte(token+"\n"), 0o600))
		require.NoError(t, p.checkHealth())
		sent := p.authorizations()
		require.Equal(t, "Bearer "+token, sent[len(sent)-1])
	}
}
