package mlflowtest_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"registrar/internal/mlflow"
	"registrar/internal/mlflow/mlflowtest"
)

var run = mlflow.CreateRunRequest{ExperimentID: "0", RunName: "run"}

// onCreate strikes the requests that make a run.
func onCreate(fault mlflowtest.Fault) func(*http.Request) mlflowtest.Fault {
	return func(r *http.Request) mlflowtest.Fault {
		if strings.HasSuffix(r.URL.Path, "/runs/create") {
			return fault
		}
		return mlflowtest.Fault{}
	}
}

func TestFault_StrikesBeforeOrAfterTheRequestIsApplied(t *testing.T) {
	for _, test := range []struct {
		name    string
		fault   mlflowtest.Fault
		status  int // of the answer; 0: none came
		applied int
	}{
		{"status before", mlflowtest.Fault{Status: 503}, 503, 0},
		{"status after", mlflowtest.Fault{Status: 503, AfterApply: true}, 503, 1},
		{"drop before", mlflowtest.Fault{Drop: true}, 0, 0},
		{"drop after", mlflowtest.Fault{Drop: true, AfterApply: true}, 0, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			server := mlflowtest.NewServer(t)
			server.Intercept(onCreate(test.fault))
			client := clientOf(server.URL)(t)
			_, err := client.CreateRun(t.Context(), run)
			if test.status == 0 {
				var transport *mlflow.TransportError
				require.ErrorAs(t, err, &transport)
				require.True(t, transport.Sent)
			} else {
				var answer *mlflow.APIError
				require.ErrorAs(t, err, &answer)
				require.Equal(t, test.status, answer.Status)
			}
			require.Len(t, server.Runs(), test.applied)
			require.Len(t, server.Requests(), 1)

			server.Intercept(nil)
			_, err = client.CreateRun(t.Context(), run)
			require.NoError(t, err)
		})
	}
}

func TestFault_HangAppliesLateThoughTheClientIsGone(t *testing.T) {
	server := mlflowtest.NewServer(t)
	release := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	server.Intercept(func(*http.Request) mlflowtest.Fault {
		cancel() // it has arrived
		return mlflowtest.Fault{Hang: release}
	})
	_, err := clientOf(server.URL)(t).CreateRun(ctx, run)
	require.ErrorIs(t, err, context.Canceled)
	require.True(t, mlflow.OutcomeOpen(err))
	require.Empty(t, server.Runs())
	close(release)
	require.Eventually(t, func() bool { return len(server.Runs()) == 1 }, time.Minute, time.Millisecond)
}

func TestServer_ShowsWhatItHolds(t *testing.T) {
	server := mlflowtest.NewServer(t)
	client := clientOf(server.URL)(t)
	ctx := t.Context()
	made, err := client.CreateRun(ctx, run)
	require.NoError(t, err)
	model, err := client.CreateLoggedModel(ctx, mlflow.CreateLoggedModelRequest{ExperimentID: "0", Name: "model"})
	require.NoError(t, err)
	require.NoError(t, client.UploadArtifact(ctx, model.Info.ArtifactURI, "MLmodel", 2, strings.NewReader("ab")))
	_, err = client.CreateRegisteredModel(ctx, mlflow.CreateRegisteredModelRequest{Name: "name"})
	require.NoError(t, err)
	_, err = client.CreateModelVersion(ctx, mlflow.CreateModelVersionRequest{
		Name: "name", Source: "models:/" + model.Info.ModelID, ModelID: model.Info.ModelID,
	})
	require.NoError(t, err)
	require.NoError(t, client.SetRegisteredModelAlias(ctx, "name", "staging", "1"))
	require.NoError(t, client.DeleteRun(ctx, made.Info.RunID))

	require.Equal(t, mlflow.LifecycleDeleted, server.Runs()[0].Info.LifecycleStage)
	require.Equal(t, model.Info.ModelID, server.LoggedModels()[0].Info.ModelID)
	require.Equal(t, []string{"staging"}, server.ModelVersions()[0].Aliases)
	require.Equal(t, map[string]string{"staging": "1"}, server.Aliases("name"))
	require.Equal(t, map[string][]byte{"0/models/" + model.Info.ModelID + "/artifacts/MLmodel": []byte("ab")}, server.Artifacts())

	require.NoError(t, client.DeleteLoggedModel(ctx, model.Info.ModelID))
	require.NoError(t, client.DeleteModelVersion(ctx, "name", "1"))
	require.Empty(t, server.LoggedModels())
	require.Empty(t, server.ModelVersions())
	require.Empty(t, server.Aliases("name"))
}
