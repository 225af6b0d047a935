package activities

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/temporal"

	"registrar/internal/failure"
	"registrar/internal/mlflow"
	"registrar/internal/mlflow/mlflowtest"
)

func (p *project) promote(version string) PromoteVersionResult {
	p.t.Helper()
	result, err := execute[PromoteVersionResult](p, p.PromoteVersion, PromoteVersionInput{Server: p.tracked(), ModelName: "credit", Version: version})
	require.NoError(p.t, err)
	return result
}

func TestPromoteVersion_NeverTakesFromANewerOne(t *testing.T) {
	for name, holds := range map[string]func(*project) error{
		"stage": func(p *project) error {
			return p.client().TransitionModelVersionStage(p.t.Context(), "credit", "2", Stage, false)
		},
		"alias": func(p *project) error { return p.client().SetRegisteredModelAlias(p.t.Context(), "credit", Alias, "2") },
	} {
		t.Run(name, func(t *testing.T) {
			p := newProject(t)
			p.makes(keyed(owner))
			p.makes(keyed(owner))
			require.NoError(t, holds(p))
			before := p.server.ModelVersions()

			require.Equal(t, PromoteVersionResult{Newer: "2"}, p.promote("1"))

			require.Equal(t, before, p.server.ModelVersions())
		})
	}
}

func TestPromoteVersion_ArchivesEarlierHoldersAndNoOthers(t *testing.T) {
	p := newProject(t)
	for range 4 {
		p.makes(keyed(owner))
	}
	client := p.client()
	for version, stage := range map[string]string{"1": Stage, "2": "Production", "3": Stage} {
		require.NoError(t, client.TransitionModelVersionStage(t.Context(), "credit", version, stage, false))
	}

	require.Equal(t, PromoteVersionResult{Promoted: true}, p.promote("4"))

	var stages []string
	for _, v := range p.server.ModelVersions() {
		stages = append(stages, v.CurrentStage)
	}
	require.Equal(t, []string{mlflow.StageArchived, "Production", mlflow.StageArchived, Stage}, stages)
	require.Equal(t, map[string]string{Alias: "4"}, p.server.Aliases("credit"))
	require.Equal(t, PromoteVersionResult{Promoted: true}, p.promote("4"), "may be repeated")
}

func TestPromoteVersion_SaysThatTheVersionWasDeleted(t *testing.T) {
	p := newProject(t)
	p.makes(keyed(owner))
	require.NoError(t, p.client().DeleteModelVersion(t.Context(), "credit", "1"))

	require.Equal(t, PromoteVersionResult{Deleted: true}, p.promote("1"))
}

func TestPromoteVersion_KeepsTheDoubtOfEarlierAttemptsWhereItFails(t *testing.T) {
	for name, c := range map[string]struct {
		attempts int32
		open     bool
	}{
		"refused at once":           {1, false},
		"refused after a lost word": {2, true},
	} {
		t.Run(name, func(t *testing.T) {
			p := newProject(t)
			p.makes(keyed(owner))
			var stages atomic.Int32
			p.server.Intercept(func(r *http.Request) mlflowtest.Fault {
				switch {
				case !strings.HasSuffix(r.URL.Path, "/transition-stage"):
					return mlflowtest.Fault{}
				case stages.Add(1) < c.attempts:
					return mlflowtest.Fault{Drop: true} // and may be applied late
				}
				return mlflowtest.Fault{Status: http.StatusUnauthorized}
			})

			_, err := tryOften[PromoteVersionResult](p, 3, p.PromoteVersion, PromoteVersionInput{Server: p.tracked(), ModelName: "credit", Version: "1"})

			var application *temporal.ApplicationError
			require.ErrorAs(t, err, &application)
			require.Equal(t, failure.Unauthorized, application.Type())
			require.True(t, application.NonRetryable())
			var detail failure.Detail
			require.NoError(t, application.Details(&detail))
			require.Equal(t, failure.Detail{Layer: "auth", Open: c.open}, detail)
			require.Equal(t, c.attempts, stages.Load())
		})
	}
}
