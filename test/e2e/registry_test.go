package e2e

import (
	"testing"

	"github.com/stretchr/testify/require"

	"registrar/activities"
	"registrar/internal/mlflow"
)

// registry looks at what an MLflow server holds.
type registry struct {
	t      testing.TB
	client *mlflow.Client
}

func registryAt(t testing.TB, uri string) registry {
	t.Helper()
	client, err := mlflow.New(mlflow.Config{TrackingURI: uri})
	require.NoError(t, err)
	t.Cleanup(client.Close)
	return registry{t: t, client: client}
}

// holdings is all that carries one registration key, whoever made it.
type holdings struct {
	runs     []mlflow.Run
	models   []mlflow.LoggedModel
	versions []mlflow.ModelVersion
}

func (r registry) ofKey(key string) holdings {
	r.t.Helper()
	require.NotEmpty(r.t, key)
	filter, err := mlflow.Filter(mlflow.TagIs(activities.TagKey, key))
	require.NoError(r.t, err)
	ctx := r.t.Context()
	experiments, err := r.client.SearchAllExperiments(ctx)
	require.NoError(r.t, err)
	var ids []string
	for _, experiment := range experiments {
		ids = append(ids, experiment.ExperimentID)
	}
	var h holdings
	h.runs, err = r.client.SearchAllRuns(ctx, ids, filter)
	require.NoError(r.t, err)
	h.models, err = r.client.SearchLoggedModels(ctx, ids, filter)
	require.NoError(r.t, err)
	h.versions, err = r.client.SearchModelVersions(ctx, filter)
	require.NoError(r.t, err)
	return h
}

// requireOnce sees that a key has one finished run, one ready logged model and one completed version, which belong together, and
// returns the version.
func (r registry) requireOnce(key string) mlflow.ModelVersion {
	r.t.Helper()
	h := r.ofKey(key)
	require.Len(r.t, h.runs, 1, "runs")
	require.Len(r.t, h.models, 1, "logged models")
	require.Len(r.t, h.versions, 1, "versions")
	require.Equal(r.t, mlflow.RunFinished, h.runs[0].Info.Status)
	require.Equal(r.t, activities.RunName, h.runs[0].Info.RunName)
	require.Equal(r.t, mlflow.LoggedModelReady, h.models[0].Info.Status)
	require.Equal(r.t, h.runs[0].Info.RunID, h.models[0].Info.SourceRunID)
	version := r.version(h.versions[0].Name, h.versions[0].Version)
	require.Equal(r.t, mlflow.VersionReady, version.Status)
	require.Equal(r.t, h.runs[0].Info.RunID, version.RunID)
	require.Equal(r.t, "models:/"+h.models[0].Info.ModelID, version.Source)
	require.NotEmpty(r.t, tagged(version, activities.TagCompleted), "the tag that is written last")
	require.Contains(r.t, h.runs[0].Data.Params, mlflow.Param{Key: activities.ParamVersion, Value: version.Version})
	return version
}

// requireServed is requireOnce of the version that holds stage and alias.
func (r registry) requireServed(key string) mlflow.ModelVersion {
	r.t.Helper()
	version := r.requireOnce(key)
	require.Equal(r.t, activities.Stage, version.CurrentStage)
	require.Equal(r.t, []string{activities.Alias}, version.Aliases)
	return version
}

// requireNoVersion sees that a key has no version and no logged model; runs that ended otherwise may be there.
func (r registry) requireNoVersion(key string, runStatus ...string) {
	r.t.Helper()
	h := r.ofKey(key)
	require.Empty(r.t, h.versions, "versions")
	require.Empty(r.t, h.models, "logged models")
	statuses := []string{}
	for _, run := range h.runs {
		statuses = append(statuses, run.Info.Status)
	}
	require.ElementsMatch(r.t, runStatus, statuses, "runs")
}

func (r registry) version(name, number string) mlflow.ModelVersion {
	r.t.Helper()
	version, err := r.client.GetModelVersion(r.t.Context(), name, number)
	require.NoError(r.t, err)
	return version
}

func tagged(v mlflow.ModelVersion, key string) string {
	for _, tag := range v.Tags {
		if tag.Key == key {
			return tag.Value
		}
	}
	return ""
}
