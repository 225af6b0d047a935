package activities

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"registrar/internal/mlflow/mlflowtest"
	"registrar/internal/modelfile"
)

// checkUp looks at the project as it is now, and returns the checks by name.
func (p *project) checkUp() map[string]Check {
	p.t.Helper()
	loaded, err := execute[LoadConfigResult](p, p.LoadConfig, LoadConfigInput{Project: Project{Root: p.root}, Config: "config/config.yaml", Params: "config/params.yaml"})
	require.NoError(p.t, err)
	result, err := execute[CheckUpResult](p, p.CheckUp, CheckUpInput{
		Root: p.root, Config: "config/config.yaml", Params: "config/params.yaml", Settings: loaded.Settings,
	})
	require.NoError(p.t, err)
	var names []string
	checks := map[string]Check{}
	for _, c := range result.Checks {
		names = append(names, c.Name)
		checks[c.Name] = c
	}
	require.Equal(p.t, WorkerChecks(), names)
	return checks
}

// on makes the fault befall requests whose method and path contain the text.
func on(text string, fault mlflowtest.Fault) func(*http.Request) mlflowtest.Fault {
	return func(r *http.Request) mlflowtest.Fault {
		if strings.Contains(r.Method+" "+r.URL.Path, text) {
			return fault
		}
		return mlflowtest.Fault{}
	}
}

func TestCheckUp_TakesBackWhatItTriedThoughTheAnswerWasLost(t *testing.T) {
	for name, lost := range map[string]string{"of the name": "registered-models/create", "of the file": "PUT "} {
		t.Run(name, func(t *testing.T) {
			p := newProject(t)
			p.server.Intercept(on(lost, mlflowtest.Fault{AfterApply: true, Drop: true}))

			checks := p.checkUp()

			failed := 0
			for _, c := range checks {
				if c.Status == CheckFailed {
					failed++
				}
			}
			require.Equal(t, 1, failed, "%+v", checks)
			require.Empty(t, p.server.Artifacts())
			require.Nil(t, p.server.Aliases(checkUpName), "no such registered model")
		})
	}
}

func TestCheckUp_SaysWhatItCouldNotTakeBack(t *testing.T) {
	for name, c := range map[string]struct{ refused, check, detail string }{
		"the name": {"DELETE /api/2.0/mlflow/registered-models/delete", CheckRegistry, "the registered model registrar-check-up stays: "},
		"the file": {"DELETE /api/2.0/mlflow-artifacts", CheckArtifactStore, "writing was not tried, since what is written could not be deleted: "},
	} {
		t.Run(name, func(t *testing.T) {
			p := newProject(t)
			p.server.Intercept(on(c.refused, mlflowtest.Fault{Status: http.StatusForbidden, Body: "Permission denied"}))
			checks := p.checkUp()
			require.Equal(t, CheckWarning, checks[c.check].Status)
			require.Contains(t, checks[c.check].Detail, c.detail)
			require.Empty(t, p.server.Artifacts())

			p.server.Intercept(nil)
			require.Equal(t, CheckOK, p.checkUp()[c.check].Status)
			require.Nil(t, p.server.Aliases(checkUpName), "the next one takes it along")
		})
	}
}

func TestCheckUp_NeverTouchesAnotherRegisteredModel(t *testing.T) {
	p := newProject(t)
	require.Equal(t, CheckOK, p.checkUp()[CheckRegistry].Status)
	for _, r := range p.server.Requests() {
		if r.Method == http.MethodDelete && strings.Contains(r.Path, "registered-models/delete") {
			require.JSONEq(t, `{"name": "`+checkUpName+`"}`, string(r.Body), "a registration may be making the model's own name at this moment")
		}
	}
}

func TestCheckUp_NoticesAnotherCopyOfTheProject(t *testing.T) {
	p := newProject(t)
	result, err := execute[CheckUpResult](p, p.CheckUp, CheckUpInput{Root: p.root, Config: "config/config.yaml", Params: "config/params.yaml"})
	require.NoError(t, err)
	require.Equal(t, CheckFailed, result.Checks[0].Status)
	require.Contains(t, result.Checks[0].Detail, "the worker reads other settings than the starter: root_dir is  there and out here")
	require.Equal(t, CheckSkipped, result.Checks[1].Status)
}

func TestCheckUp_TellsOfTheWorkersLeastPolicy(t *testing.T) {
	p := newProject(t)
	require.NotContains(t, p.checkUp()[CheckProject].Detail, "policy")
	p.MinPolicy = &modelfile.Policy{Mode: modelfile.PolicyDeny}
	require.Equal(t, Check{
		Name: CheckProject, Status: CheckOK,
		Detail: "the worker reads the same settings, and judges model files by the policy deny at least (--min-pickle-policy)",
	}, p.checkUp()[CheckProject])
}
