package activities

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"

	"registrar/internal/failure"
	"registrar/internal/mlflow"
	"registrar/internal/mlflow/mlflowtest"
)

// holdModel holds the upload of the model file up until the channel is closed, after it has called reached.
func (p *project) holdModel(reached func()) (release func()) {
	held := make(chan struct{})
	once := sync.OnceFunc(reached)
	p.server.Intercept(func(r *http.Request) mlflowtest.Fault {
		if strings.HasSuffix(r.URL.Path, "/model.pkl") {
			once()
			return mlflowtest.Fault{Hang: held}
		}
		return mlflowtest.Fault{}
	})
	release = sync.OnceFunc(func() { close(held) })
	p.t.Cleanup(release)
	return release
}

func TestUploadModel_ReportsItsProgress(t *testing.T) {
	p := newProject(t)
	in := p.upload()
	release := p.holdModel(func() {})
	reported := make(chan Progress, 1)
	p.SetOnActivityHeartbeatListener(func(_ *activity.Info, details converter.EncodedValues) {
		var progress Progress
		if details.Get(&progress) == nil && progress.Total > 0 {
			select {
			case reported <- progress:
				release()
			default:
			}
		}
	})

	result, err := execute[UploadModelResult](p, p.UploadModel, in)

	require.NoError(t, err)
	progress := <-reported
	require.Equal(t, result.ModelID, progress.ModelID)
	require.Equal(t, result.SizeBytes, progress.Total)
	require.Positive(t, progress.Done)
}

func TestUploadModel_EndsWhenTheWorkerStops(t *testing.T) {
	p := newProject(t)
	in := p.upload()
	stopping := make(chan struct{})
	p.SetWorkerStopChannel(stopping)
	p.holdModel(func() { close(stopping) })

	_, err := execute[UploadModelResult](p, p.UploadModel, in)

	var application *temporal.ApplicationError
	require.ErrorAs(t, err, &application)
	require.Equal(t, failure.Interrupted, application.Type())
	require.False(t, application.NonRetryable())
}

func TestUploadModel_CanceledNamesTheLoggedModel(t *testing.T) {
	p := newProject(t)
	in := p.upload()
	ctx, cancel := context.WithCancel(t.Context())
	p.SetWorkerOptions(worker.Options{BackgroundActivityContext: ctx})
	p.holdModel(cancel)

	_, err := execute[UploadModelResult](p, p.UploadModel, in)

	var canceled *temporal.CanceledError
	require.ErrorAs(t, err, &canceled)
	var detail failure.Detail
	require.NoError(t, canceled.Details(&detail))
	require.Equal(t, p.server.LoggedModels()[0].Info.ModelID, detail.ModelID)
}

func TestUploadModel_NeverSendsACopyThatChanged(t *testing.T) {
	p := newProject(t)
	in := p.upload()
	copied := filepath.Join(p.root, in.Project.Folder(), p.frozen.Request.Model.Name)
	data, err := os.ReadFile(copied)
	require.NoError(t, err)
	data[len(data)-1] ^= 1
	require.NoError(t, os.Chmod(copied, 0o600))
	require.NoError(t, os.WriteFile(copied, data, 0o600))

	_, err = execute[UploadModelResult](p, p.UploadModel, in)

	var application *temporal.ApplicationError
	require.ErrorAs(t, err, &application)
	require.Equal(t, failure.BadInput, application.Type())
	require.True(t, application.NonRetryable())
	for name := range p.server.Artifacts() {
		require.NotContains(t, name, "model.pkl")
	}
	require.Equal(t, mlflow.LoggedModelPending, p.server.LoggedModels()[0].Info.Status)
}

func TestUploadModel_AdoptsWhatAnEarlierAttemptMade(t *testing.T) {
	p := newProject(t)
	in := p.upload()
	first, err := execute[UploadModelResult](p, p.UploadModel, in)
	require.NoError(t, err)

	second, err := execute[UploadModelResult](p, p.UploadModel, in)

	require.NoError(t, err)
	require.Equal(t, first, second)
	require.Len(t, p.server.LoggedModels(), 1)

	in.Condemned = []string{first.ModelID}
	third, err := execute[UploadModelResult](p, p.UploadModel, in)
	require.NoError(t, err)
	require.NotEqual(t, first.ModelID, third.ModelID)
}

func TestUploadModel_SeesThatAFileIsNotWhole(t *testing.T) {
	p := newProject(t)
	in := p.upload()
	p.server.Intercept(func(r *http.Request) mlflowtest.Fault {
		if strings.HasSuffix(r.URL.Path, "/model.pkl") {
			return mlflowtest.Fault{Status: http.StatusOK, Body: "{}"} // and nothing is stored
		}
		return mlflowtest.Fault{}
	})

	_, err := execute[UploadModelResult](p, p.UploadModel, in)

	var application *temporal.ApplicationError
	require.ErrorAs(t, err, &application)
	require.Equal(t, failure.Outage, application.Type())
	require.Contains(t, application.Message(), "model.pkl")
	require.Equal(t, mlflow.LoggedModelPending, p.server.LoggedModels()[0].Info.Status)
}

func TestUploadModel_TellsTheArtifactStoreFromTheWayToIt(t *testing.T) {
	for status, layer := range map[int]string{
		http.StatusInternalServerError: "artifact_store", // MLflow's own answer
		http.StatusBadGateway:          "http",           // a proxy's
	} {
		t.Run(http.StatusText(status), func(t *testing.T) {
			p := newProject(t)
			in := p.upload()
			p.server.Intercept(func(r *http.Request) mlflowtest.Fault {
				if r.Method == http.MethodPut {
					return mlflowtest.Fault{Status: status}
				}
				return mlflowtest.Fault{}
			})

			_, err := execute[UploadModelResult](p, p.UploadModel, in)

			var application *temporal.ApplicationError
			require.ErrorAs(t, err, &application)
			require.Equal(t, failure.Outage, application.Type())
			var detail failure.Detail
			require.NoError(t, application.Details(&detail))
			require.Equal(t, failure.Detail{Layer: layer, Open: true}, detail)
		})
	}
}
