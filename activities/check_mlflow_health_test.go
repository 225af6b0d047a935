package activities

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/temporal"

	"registrar/internal/failure"
	"registrar/internal/mlflow/mlflowtest"
)

var notFoundPage = mlflowtest.Fault{Status: http.StatusNotFound, Body: "<html><title>404 Not Found</title></html>"}

func TestCheckMLflowHealth_TellsAServerWithoutLoggedModelsByTheirAbsence(t *testing.T) {
	p := newProject(t)
	with, err := execute[CheckMLflowHealthResult](p, p.CheckMLflowHealth, CheckMLflowHealthInput{Server: p.tracked()})
	require.NoError(t, err)
	require.True(t, with.LoggedModels)

	p.server.Intercept(func(r *http.Request) mlflowtest.Fault {
		if strings.Contains(r.URL.Path, "/logged-models") {
			return notFoundPage
		}
		return mlflowtest.Fault{}
	})
	without, err := execute[CheckMLflowHealthResult](p, p.CheckMLflowHealth, CheckMLflowHealthInput{Server: p.tracked()})
	require.NoError(t, err)
	require.False(t, without.LoggedModels)
}

func TestProbeMLflow_KeepsNobodyWaitingForWhatIsOneProjectsOwn(t *testing.T) {
	for name, c := range map[string]struct {
		project func(*project)
		fault   mlflowtest.Fault
		answers bool
		own     bool // also to who waits for the project's credentials
	}{
		"its folder is gone":          {func(p *project) { p.root += "/gone" }, mlflowtest.Fault{}, true, true}, // nor has it credentials
		"its folder is a file":        {func(p *project) { p.root += "/metrics.json" }, mlflowtest.Fault{}, true, false},
		"its folder is a loop":        {func(p *project) { p.link("loop", "loop"); p.root += "/loop" }, mlflowtest.Fault{}, true, false},
		"its .env is no text":         {func(p *project) { p.write(".env", "\xff") }, mlflowtest.Fault{}, true, false},
		"its token expired":           {nil, mlflowtest.Fault{Status: http.StatusUnauthorized}, true, false},
		"MLflow is down":              {nil, mlflowtest.Fault{Status: http.StatusServiceUnavailable}, false, false},
		"a login page is in between":  {nil, mlflowtest.Fault{Status: http.StatusFound}, false, false},
		"the registry is not allowed": {nil, mlflowtest.Fault{Status: http.StatusForbidden}, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			p := newProject(t)
			if c.project != nil {
				c.project(p)
			}
			server := p.tracked()
			p.server.Intercept(func(*http.Request) mlflowtest.Fault { return c.fault })

			_, err := p.ExecuteActivity(p.ProbeMLflow, ProbeMLflowInput{Server: server})
			require.Equal(t, c.answers, err == nil, "%v", err)

			_, err = p.ExecuteActivity(p.ProbeMLflow, ProbeMLflowInput{Server: server, Credentials: true})
			require.Equal(t, c.own, err == nil, "%v", err)
		})
	}
}

func TestProbeMLflow_AsksByAnotherProjectWhereOneIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		statuses      []int // of the projects' answers, in the order in which they are asked; 0: well
		down, refused bool
		asked         int
	}{
		"the first one is served":                {[]int{0, 401}, false, false, 1},
		"the other one is served":                {[]int{401, 0}, false, false, 2},
		"MLflow is down behind a proxy's login":  {[]int{401, 403, 503, 0}, true, false, 3},
		"nobody's credentials are taken":         {[]int{401, 403}, false, true, 2},
		"down, whoever might be refused by then": {[]int{503, 401}, true, false, 1},
	} {
		t.Run(name, func(t *testing.T) {
			p := newProject(t)
			var in ProbeMLflowInput
			var servers []Server
			for i := range c.statuses {
				server := p.tracked()
				server.Workspace, server.WorkspaceKnown = strconv.Itoa(i), true
				servers = append(servers, server)
			}
			in.Server, in.Others = servers[0], servers[1:]
			asked := map[string]bool{}
			var mu sync.Mutex
			p.server.Intercept(func(r *http.Request) mlflowtest.Fault {
				mu.Lock()
				defer mu.Unlock()
				project := r.Header.Get("X-Mlflow-Workspace")
				asked[project] = true
				i, err := strconv.Atoi(project)
				assert.NoError(t, err)
				return mlflowtest.Fault{Status: c.statuses[i]}
			})

			result, err := execute[ProbeMLflowResult](p, p.ProbeMLflow, in)

			require.Equal(t, c.down, err != nil, "%v", err)
			require.Equal(t, c.refused, result.Refused)
			require.Len(t, asked, c.asked)
		})
	}
}

func TestProbeMLflow_AsksByAnotherProjectWhereOneDoesNotTrustTheServer(t *testing.T) {
	p := newProject(t)
	target, err := url.Parse(p.server.URL)
	require.NoError(t, err)
	front := httptest.NewTLSServer(httputil.NewSingleHostReverseProxy(target))
	front.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	t.Cleanup(front.Close)
	p.TrustedHosts = []string{strings.TrimPrefix(front.URL, "https://")}
	p.write("trusting/.env", "MLFLOW_TRACKING_INSECURE_TLS=true\n")
	distrusting := Server{TrackingURI: front.URL, Root: p.root, WorkspaceKnown: true}
	trusting := Server{TrackingURI: front.URL, Root: p.root + "/trusting", WorkspaceKnown: true}

	_, err = p.ExecuteActivity(p.ProbeMLflow, ProbeMLflowInput{Server: distrusting})
	require.Equal(t, failure.Outage, kindOfFailure(t, err))

	_, err = p.ExecuteActivity(p.ProbeMLflow, ProbeMLflowInput{Server: distrusting, Others: []Server{trusting}})
	require.NoError(t, err)
}

func TestCheckMLflowHealth_DoesNotTakeAnIngressWithoutMLflowForAnOlderServer(t *testing.T) {
	p := newProject(t)
	var gone atomic.Bool
	p.server.Intercept(func(r *http.Request) mlflowtest.Fault {
		if gone.Load() || strings.Contains(r.URL.Path, "/logged-models") {
			gone.Store(true) // from here on
			return notFoundPage
		}
		return mlflowtest.Fault{}
	})
	_, err := execute[CheckMLflowHealthResult](p, p.CheckMLflowHealth, CheckMLflowHealthInput{Server: p.tracked()})
	var failed *temporal.ApplicationError
	require.ErrorAs(t, err, &failed)
	require.Equal(t, failure.Misdirected, failed.Type())
	require.ErrorContains(t, err, "is the tracking URI right")
}
