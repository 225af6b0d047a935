package workflows_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"registrar/activities"
	"registrar/internal/mlflow"
	"registrar/internal/mlflow/mlflowtest"
	"registrar/internal/receipt"
)

// requireRegisteredOnce sees that MLflow has one run, one logged model and one version of the registration, complete, promoted, and the
// ones that the receipt names; nothing else is alive.
func requireRegisteredOnce(t *testing.T, server *mlflowtest.Server, r receipt.Receipt) {
	t.Helper()
	require.Equal(t, receipt.Registered, r.Outcome)
	require.Equal(t, receipt.Done, r.State)
	require.Equal(t, activities.Stage, r.Stage)
	require.Equal(t, []string{activities.Alias}, r.Aliases)

	runs := liveRuns(server)
	require.Len(t, runs, 1)
	run := runs[0]
	require.Equal(t, r.MLflowRunID, run.Info.RunID)
	require.Equal(t, mlflow.RunFinished, run.Info.Status)
	require.Equal(t, r.ModelVersion, paramOf(run, activities.ParamVersion))
	requireMetricsOnce(t, server, run.Info.RunID)

	models := server.LoggedModels()
	require.Len(t, models, 1)
	require.Equal(t, r.MLflowModelID, models[0].Info.ModelID)
	require.Equal(t, mlflow.LoggedModelReady, models[0].Info.Status)
	require.Len(t, models[0].Data.Metrics, 2)
	require.Equal(t, []mlflow.ModelOutput{{ModelID: r.MLflowModelID}}, withoutSteps(liveOutputs(server, run)))

	versions := server.ModelVersions()
	require.Len(t, versions, 1)
	requireServed(t, versions[0], r)
	require.Equal(t, "models:/"+r.MLflowModelID, versions[0].Source)
	require.Equal(t, map[string]string{activities.Alias: r.ModelVersion}, server.Aliases(modelName))
	requireFiles(t, server, strings.TrimPrefix(models[0].Info.ArtifactURI, "mlflow-artifacts:/"))
}

// requireServed sees that a version is complete, and the one that consumers get.
func requireServed(t *testing.T, version mlflow.ModelVersion, r receipt.Receipt) {
	t.Helper()
	require.Equal(t, r.ModelVersion, version.Version)
	require.Equal(t, "models:/"+modelName+"/"+version.Version, r.ModelURI)
	require.Equal(t, activities.Stage, version.CurrentStage)
	require.Equal(t, []string{activities.Alias}, version.Aliases)
	require.Equal(t, r.MLflowRunID, version.RunID)
	require.NotEmpty(t, tagOf(version.Tags, activities.TagCompleted))
}

// requireNothingLeft sees that a registration without a version left no logged model, no version, and of runs only one of this status.
func requireNothingLeft(t *testing.T, server *mlflowtest.Server, status string) {
	t.Helper()
	require.Empty(t, server.ModelVersions())
	require.Empty(t, server.LoggedModels())
	runs := liveRuns(server)
	require.LessOrEqual(t, len(runs), 1)
	for _, run := range runs {
		require.Equal(t, status, run.Info.Status)
	}
}

// requireMetricsOnce sees that each number of the metrics was logged, and no repeated attempt logged it again.
func requireMetricsOnce(t *testing.T, server *mlflowtest.Server, runID string) {
	t.Helper()
	for name, want := range map[string]float64{"accuracy": 0.8, "roc_auc": 0.75} {
		query := url.Values{"run_id": {runID}, "metric_key": {name}}
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+"/api/2.0/mlflow/metrics/get-history?"+query.Encode(), nil)
		require.NoError(t, err)
		response, err := http.DefaultClient.Do(request)
		require.NoError(t, err)
		defer response.Body.Close()
		var history struct{ Metrics []mlflow.Metric }
		require.NoError(t, json.NewDecoder(response.Body).Decode(&history))
		require.Len(t, history.Metrics, 1, name)
		require.Equal(t, want, history.Metrics[0].Value, name)
	}
}

func requireFiles(t *testing.T, server *mlflowtest.Server, folder string) {
	t.Helper()
	var names []string
	for name := range server.Artifacts() {
		if file, ok := strings.CutPrefix(name, strings.Trim(folder, "/")+"/"); ok {
			names = append(names, file)
		}
	}
	require.ElementsMatch(t, []string{"MLmodel", "conda.yaml", "model.pkl", "python_env.yaml", "requirements.txt"}, names)
}

func clientOf(t *testing.T, server *mlflowtest.Server) *mlflow.Client {
	t.Helper()
	client, err := mlflow.New(mlflow.Config{TrackingURI: server.URL})
	require.NoError(t, err)
	t.Cleanup(client.Close)
	return client
}

func liveRuns(server *mlflowtest.Server) []mlflow.Run {
	return slices.DeleteFunc(server.Runs(), func(run mlflow.Run) bool { return run.Info.LifecycleStage != mlflow.LifecycleActive })
}

// liveOutputs are the outputs of a run without the logged models that were deleted since: MLflow goes on listing those.
func liveOutputs(server *mlflowtest.Server, run mlflow.Run) []mlflow.ModelOutput {
	return slices.DeleteFunc(run.Outputs.ModelOutputs, func(output mlflow.ModelOutput) bool {
		return !slices.ContainsFunc(server.LoggedModels(), func(m mlflow.LoggedModel) bool { return m.Info.ModelID == output.ModelID })
	})
}

func withoutSteps(outputs []mlflow.ModelOutput) []mlflow.ModelOutput {
	for i := range outputs {
		outputs[i].Step = 0
	}
	return outputs
}

func paramOf(run mlflow.Run, key string) string {
	for _, p := range run.Data.Params {
		if p.Key == key {
			return p.Value
		}
	}
	return ""
}

func tagOf(tags []mlflow.Tag, key string) string {
	for _, tag := range tags {
		if tag.Key == key {
			return tag.Value
		}
	}
	return ""
}
