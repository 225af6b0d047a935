package workflows_test

import (
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"registrar/internal/mlflow"
	"registrar/internal/mlflow/mlflowtest"
	"registrar/workflows"
)

func TestRegisterModel_MakesAnotherRunWhereSomebodyDeletesIt(t *testing.T) {
	for _, at := range []string{"/runs/outputs", "/runs/log-batch"} {
		t.Run(at, func(t *testing.T) {
			server := mlflowtest.NewServer(t)
			p := newProject(t, server.URL)
			e := newExecution(t, server, p.root)
			var once sync.Once
			server.Intercept(func(r *http.Request) mlflowtest.Fault {
				if strings.HasSuffix(r.URL.Path, at) {
					once.Do(func() { assert.NoError(t, clientOf(t, server).DeleteRun(t.Context(), server.Runs()[0].Info.RunID)) })
				}
				return mlflowtest.Fault{}
			})

			e.register(p.byHand())

			r := e.completed()
			require.Equal(t, mlflow.LifecycleDeleted, server.Runs()[0].Info.LifecycleStage)
			require.Equal(t, server.Runs()[1].Info.RunID, r.MLflowRunID)
			requireRegisteredOnce(t, server, r) // the sweep deletes what came from the deleted run
			require.Equal(t, r.MLflowRunID, server.LoggedModels()[0].Info.SourceRunID)

			// What was returned stays, also where somebody deletes the version.
			require.NoError(t, clientOf(t, server).DeleteModelVersion(t.Context(), modelName, r.ModelVersion))
			later := e.again(p.root)
			later.register(workflows.RegisterInput{Root: p.root, Again: true})
			second := later.completed()
			require.ElementsMatch(t, []string{r.MLflowModelID, second.MLflowModelID}, idsOf(server.LoggedModels()))
		})
	}
}

func idsOf(models []mlflow.LoggedModel) []string {
	var ids []string
	for _, m := range models {
		ids = append(ids, m.Info.ModelID)
	}
	return ids
}
