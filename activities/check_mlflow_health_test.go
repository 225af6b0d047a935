package activities

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

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
