package activities

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
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

func TestNaming_AddsTheLoggedModelToWhatIsKnown(t *testing.T) {
	for name, failed := range map[string]error{
		"with a cause": applicationError(errors.New("no"), failure.Gone, failure.Detail{Layer: "http"}),
		"without one":  temporal.NewNonRetryableApplicationError("no", failure.Gone, nil, failure.Detail{Layer: "http"}),
	} {
		t.Run(name, func(t *testing.T) {
			var application *temporal.ApplicationError
			require.ErrorAs(t, naming("m-1", failed), &application)
			require.Equal(t, failure.Gone, application.Type())
			require.Equal(t, "no", application.Message())
			require.True(t, application.NonRetryable())
			var detail failure.Detail
			require.NoError(t, application.Details(&detail))
			require.Equal(t, failure.Detail{Layer: "http", ModelID: "m-1"}, detail)
		})
	}
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
	require.True(t, second.Doubtful, "an attempt before the last wait may still make another one")
	require.Len(t, p.server.LoggedModels(), 1)

	in.Condemned = []string{first.ModelID}
	third, err := execute[UploadModelResult](p, p.UploadModel, in)
	require.NoError(t, err)
	require.NotEqual(t, first.ModelID, third.ModelID)
}

func TestUploadModel_AdoptsNothingOfARunThatWasDeleted(t *testing.T) {
	for name, versioned := range map[string]bool{"without a version": false, "with one that the history forgot": true} {
		t.Run(name, func(t *testing.T) {
			p := newProject(t)
			in := p.upload()
			first, err := execute[UploadModelResult](p, p.UploadModel, in)
			require.NoError(t, err)
			if versioned {
				_, err = execute[RegisterVersionResult](p, p.RegisterVersion, RegisterVersionInput{
					Server: in.Server, Project: in.Project, Owner: in.Owner, ModelName: "credit", Run: in.Run, Model: first,
				})
				require.NoError(t, err)
			}
			require.NoError(t, p.client().DeleteRun(t.Context(), in.Run.RunID))
			in.Run = p.run()

			second, err := execute[UploadModelResult](p, p.UploadModel, in)

			require.NoError(t, err)
			require.Equal(t, versioned, second.ModelID == first.ModelID, "there is one version")
			if !versioned {
				made, err := p.client().GetLoggedModel(t.Context(), second.ModelID)
				require.NoError(t, err)
				require.Equal(t, in.Run.RunID, made.Info.SourceRunID)
			}
		})
	}
}

func TestUploadModel_DoubtsNothingWhereItIsTheFirst(t *testing.T) {
	p := newProject(t)
	in := p.upload()
	in.First = true

	result, err := execute[UploadModelResult](p, p.UploadModel, in)

	require.NoError(t, err)
	require.False(t, result.Doubtful)
}

func TestUploadModel_TellsADeletedRunFromARefusal(t *testing.T) {
	for name, c := range map[string]struct {
		deleted bool
		kind    string
	}{"deleted": {true, failure.Gone}, "refused": {false, failure.Refused}} {
		t.Run(name, func(t *testing.T) {
			p := newProject(t)
			in := p.upload()
			if c.deleted {
				require.NoError(t, p.client().DeleteRun(t.Context(), in.Run.RunID))
			} else {
				p.server.Intercept(func(r *http.Request) mlflowtest.Fault {
					if strings.HasSuffix(r.URL.Path, "/runs/log-batch") {
						return mlflowtest.Fault{Status: http.StatusBadRequest, Body: `{"error_code": "INVALID_PARAMETER_VALUE", "message": "no"}`}
					}
					return mlflowtest.Fault{}
				})
			}

			_, err := execute[UploadModelResult](p, p.UploadModel, in)

			var application *temporal.ApplicationError
			require.ErrorAs(t, err, &application)
			require.Equal(t, c.kind, application.Type())
		})
	}
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

// numbers is a metrics.json of so many.
func numbers(n int) string {
	text := []string{`"roc_auc": 0.75`}
	for i := 1; i < n; i++ {
		text = append(text, fmt.Sprintf(`"m%d": %d`, i, i))
	}
	return "{" + strings.Join(text, ",") + "}"
}

func TestUploadModel_LogsMoreMetricsThanOneRequestTakes(t *testing.T) {
	const n = 2500
	p := newProject(t)
	p.write("metrics.json", numbers(n))
	in := p.upload()
	in.Run.Params = []mlflow.Param{{Key: "model_name", Value: "credit"}}
	broken := true // the answer to the second batch of the first attempt
	var mu sync.Mutex
	batches := 0
	p.server.Intercept(func(r *http.Request) mlflowtest.Fault {
		mu.Lock()
		defer mu.Unlock()
		if strings.HasSuffix(r.URL.Path, "/runs/log-batch") {
			if batches++; batches == 2 && broken {
				return mlflowtest.Fault{AfterApply: true, Drop: true}
			}
		}
		return mlflowtest.Fault{}
	})
	_, err := execute[UploadModelResult](p, p.UploadModel, in)
	require.Error(t, err)
	mu.Lock()
	broken = false
	mu.Unlock()

	_, err = execute[UploadModelResult](p, p.UploadModel, in)

	require.NoError(t, err)
	require.Len(t, p.server.LoggedModels(), 1)
	require.Len(t, p.server.LoggedModels()[0].Data.Metrics, n)
	require.Len(t, p.server.MetricHistory(in.Run.RunID), n, "each once, though some were sent twice")
}

func TestUploadModel_LogsANaNOnce(t *testing.T) {
	p := newProject(t)
	p.write("metrics.json", `{"roc_auc": 0.75, "skew": NaN, "later": NaN}`)
	in := p.upload()
	require.NoError(t, p.client().LogBatch(t.Context(), mlflow.LogBatchRequest{RunID: in.Run.RunID, Metrics: []mlflow.Metric{
		{Key: "roc_auc", Value: 0.75, Timestamp: in.LoggedAt.UnixMilli()},
		{Key: "skew", Value: math.NaN(), Timestamp: in.LoggedAt.UnixMilli()},
	}}))
	var sent atomic.Pointer[string]
	p.server.Intercept(func(r *http.Request) mlflowtest.Fault {
		if strings.HasSuffix(r.URL.Path, "/runs/log-batch") {
			body, _ := io.ReadAll(r.Body)
			text := string(body)
			sent.Store(&text)
		}
		return mlflowtest.Fault{}
	})

	_, err := execute[UploadModelResult](p, p.UploadModel, in)

	require.NoError(t, err)
	require.Contains(t, *sent.Load(), "roc_auc")
	require.Contains(t, *sent.Load(), "later")
	require.NotContains(t, *sent.Load(), "skew", "MLflow 2.22 to 3.9 refuse it a second time")
}

func TestUploadModel_LogsFewMetricsTogetherWithTheParams(t *testing.T) {
	p := newProject(t)
	p.write("metrics.json", numbers(100))

	_, err := execute[UploadModelResult](p, p.UploadModel, p.upload())

	require.NoError(t, err)
	batches := 0
	for _, r := range p.server.Requests() {
		if strings.HasSuffix(r.Path, "/runs/log-batch") {
			batches++
		}
	}
	require.Equal(t, 1, batches)
	require.Len(t, p.server.LoggedModels()[0].Data.Metrics, 100)
}
