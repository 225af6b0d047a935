package mlflowtest

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"registrar/internal/mlflow"
)

// Contract checks the facts about MLflow that this project builds on. It runs on the fake and on a real server, which it
// leaves with some more experiments and models; it needs proxied artifacts, and may run on a server again.
func Contract(t *testing.T, newClient func(t *testing.T) *mlflow.Client) {
	for name, check := range map[string]func(*contract){
		"Server_SaysItsVersion":                        (*contract).version,
		"Experiment_IsFoundByName":                     (*contract).experiment,
		"Experiment_NameIsTakenOnce":                   (*contract).experimentTaken,
		"UnknownObjects_AreNotFound":                   (*contract).notFound,
		"UnknownEndpoint_IsMissing":                    (*contract).endpointMissing,
		"Run_IsCreatedAgainAndFoundByTag":              (*contract).runByTag,
		"Run_SearchWithoutExperimentsFindsNothing":     (*contract).runSearchWithoutExperiments,
		"Run_IsFinished":                               (*contract).runFinished,
		"Run_DeletedIsHiddenButRead":                   (*contract).runDeleted,
		"Param_IsWrittenOnce":                          (*contract).paramOnce,
		"Batch_WithAnotherParamWritesNoMetric":         (*contract).batchRefused,
		"Batch_HasLimits":                              (*contract).batchLimits,
		"Batch_MetricWithModelIDLandsOnBoth":           (*contract).metricOnBoth,
		"Batch_OfAModelsMetricsIsRepeatedUpTo100":      (*contract).batchRepeated,
		"Metric_NaNAndInfinitiesArrive":                (*contract).metricNotFinite,
		"Metric_RepeatedIsOne":                         (*contract).metricRepeated,
		"Metric_LastOfAKeyIsTheRuns":                   (*contract).metricLast,
		"Outputs_AreNamedOnce":                         (*contract).outputsOnce,
		"LogModel_IsInTheRunsHistory":                  (*contract).logModel,
		"LoggedModel_IsFoundByTagAndRun":               (*contract).loggedModelSearch,
		"LoggedModel_BecomesReady":                     (*contract).loggedModelReady,
		"LoggedModel_DeletedIsGone":                    (*contract).loggedModelDeleted,
		"RegisteredModel_NameIsTakenOnce":              (*contract).registeredModelTaken,
		"RegisteredModel_DeletedLeavesNothing":         (*contract).registeredModelDeleted,
		"RegisteredModel_TagComesAndGoes":              (*contract).registeredModelTag,
		"Experiment_TagWithoutKeyIsRefused":            (*contract).experimentTagRefused,
		"Artifacts_DeletedAreGone":                     (*contract).artifactDeleted,
		"Version_OfPendingModelIsReady":                (*contract).versionOfPending,
		"Version_IsCreatedAgainWithTheNextNumber":      (*contract).versionTwice,
		"Version_OfDeletedLoggedModelIsRefused":        (*contract).versionFenced,
		"Version_NeedsModelIDAndRegisteredModel":       (*contract).versionIncomplete,
		"Version_OfRunArtifactsNeedsNoModelID":         (*contract).versionOfRunArtifacts,
		"Version_DeletedIsGoneWithAliasesAndNumber":    (*contract).versionDeleted,
		"Version_TakesDescriptionAndTags":              (*contract).versionDescribed,
		"Version_TheNewestComeFirst":                   (*contract).versionsNewest,
		"Alias_MovesAndIsSeen":                         (*contract).alias,
		"Alias_ReservedOrUnsetIsRefused":               (*contract).aliasRefused,
		"Stage_WithoutArchiveLeavesOthers":             (*contract).stage,
		"Stage_WithArchiveArchivesAll":                 (*contract).stageArchive,
		"Artifacts_AreListedWithSizes":                 (*contract).artifacts,
		"Artifacts_AreOverwritten":                     (*contract).artifactsOverwritten,
		"Artifacts_BrokenUploadLeavesTheOld":           (*contract).artifactsBroken,
		"Filter_TakesAllThatFilterLetsThrough":         (*contract).filterValues,
		"Filter_UnknownAttributeOfVersionsIsRefused":   (*contract).filterUnknown,
		"LoggedModel_DeletedTakesReadyButStaysDeleted": (*contract).loggedModelZombie,
	} {
		t.Run(name, func(t *testing.T) {
			check(&contract{T: t, client: newClient(t), unique: strings.ToLower(rand.Text())})
		})
	}
}

// contract is one check: its names are its own, so that a server can be shared.
type contract struct {
	*testing.T
	client *mlflow.Client
	unique string
}

func (c *contract) newExperiment() string {
	c.Helper()
	id, err := c.client.CreateExperiment(c.Context(), mlflow.CreateExperimentRequest{Name: "contract-" + c.unique})
	require.NoError(c, err)
	return id
}

func (c *contract) newRun(experiment string) mlflow.Run {
	c.Helper()
	run, err := c.client.CreateRun(c.Context(), mlflow.CreateRunRequest{
		ExperimentID: experiment, UserID: "ada", RunName: "contract", StartTime: 1_700_000_000_123,
		Tags: []mlflow.Tag{{Key: "contract.key", Value: c.unique}},
	})
	require.NoError(c, err)
	return run
}

func (c *contract) newLoggedModel(experiment, runID string) mlflow.LoggedModel {
	c.Helper()
	model, err := c.client.CreateLoggedModel(c.Context(), mlflow.CreateLoggedModelRequest{
		ExperimentID: experiment, Name: "model", SourceRunID: runID,
		Params: []mlflow.Param{{Key: "depth", Value: "3"}},
		Tags:   []mlflow.Tag{{Key: "contract.key", Value: c.unique}},
	})
	require.NoError(c, err)
	return model
}

func (c *contract) newRegisteredModel() string {
	c.Helper()
	name := "contract " + c.unique
	_, err := c.client.CreateRegisteredModel(c.Context(), mlflow.CreateRegisteredModelRequest{Name: name})
	require.NoError(c, err)
	return name
}

func (c *contract) newVersion(name, modelID string) mlflow.ModelVersion {
	c.Helper()
	version, err := c.client.CreateModelVersion(c.Context(), mlflow.CreateModelVersionRequest{
		Name: name, Source: "models:/" + modelID, ModelID: modelID,
		Tags: []mlflow.Tag{{Key: "contract.key", Value: c.unique}},
	})
	require.NoError(c, err)
	return version
}

func (c *contract) filter(conditions ...mlflow.Condition) string {
	c.Helper()
	filter, err := mlflow.Filter(conditions...)
	require.NoError(c, err)
	return filter
}

func (c *contract) byKey() string { return c.filter(mlflow.TagIs("contract.key", c.unique)) }

// requireRefused wants the API's own refusal with this status and code, and that nothing was applied.
func (c *contract) requireRefused(err error, status int, code string) {
	c.Helper()
	var refused *mlflow.APIError
	require.ErrorAs(c, err, &refused)
	require.Equal(c, status, refused.Status)
	require.Equal(c, code, refused.Code)
	require.Equal(c, status >= 500, mlflow.OutcomeOpen(err))
}

func (c *contract) version() {
	version, err := c.client.Version(c.Context())
	require.NoError(c, err)
	require.Regexp(c, `^\d+\.\d+\.\d+`, version)
}

func (c *contract) experiment() {
	id := c.newExperiment()
	byName, err := c.client.GetExperimentByName(c.Context(), "contract-"+c.unique)
	require.NoError(c, err)
	require.Equal(c, id, byName.ExperimentID)
	require.Equal(c, mlflow.LifecycleActive, byName.LifecycleStage)
	require.True(c, strings.HasPrefix(byName.ArtifactLocation, "mlflow-artifacts:/"))
	byID, err := c.client.GetExperiment(c.Context(), id)
	require.NoError(c, err)
	require.Equal(c, byName, byID)
	some, err := c.client.SearchExperiments(c.Context(), 1)
	require.NoError(c, err)
	require.Len(c, some, 1)
}

func (c *contract) experimentTaken() {
	c.newExperiment()
	_, err := c.client.CreateExperiment(c.Context(), mlflow.CreateExperimentRequest{Name: "contract-" + c.unique})
	require.True(c, mlflow.IsAlreadyExists(err), err)
	c.requireRefused(err, http.StatusBadRequest, "RESOURCE_ALREADY_EXISTS")
}

func (c *contract) notFound() {
	ctx, nobody := c.Context(), strings.Repeat("0", 32)
	experiment := c.newExperiment()
	name := c.newRegisteredModel()
	checks := map[string]func() error{
		"experiment by name": func() error { _, err := c.client.GetExperimentByName(ctx, c.unique); return err },
		"experiment":         func() error { _, err := c.client.GetExperiment(ctx, "999999"); return err },
		"run":                func() error { _, err := c.client.GetRun(ctx, nobody); return err },
		"run to make": func() error {
			_, err := c.client.CreateRun(ctx, mlflow.CreateRunRequest{ExperimentID: "999999"})
			return err
		},
		"run to end":    func() error { return c.client.UpdateRun(ctx, mlflow.UpdateRunRequest{RunID: nobody, Status: "FAILED"}) },
		"run to delete": func() error { return c.client.DeleteRun(ctx, nobody) },
		"run to log to": func() error { return c.client.LogBatch(ctx, mlflow.LogBatchRequest{RunID: nobody}) },
		"run of param":  func() error { return c.client.LogParam(ctx, nobody, "a", "b") },
		"run of tag":    func() error { return c.client.SetRunTag(ctx, nobody, "a", "b") },
		"run of output": func() error {
			model := c.newLoggedModel(experiment, "")
			return c.client.LogOutputs(ctx, nobody, []mlflow.ModelOutput{{ModelID: model.Info.ModelID}})
		},
		"logged model":           func() error { _, err := c.client.GetLoggedModel(ctx, "m-"+nobody); return err },
		"logged model to finish": func() error { return c.client.FinalizeLoggedModel(ctx, "m-"+nobody, mlflow.LoggedModelReady) },
		"logged model to delete": func() error { return c.client.DeleteLoggedModel(ctx, "m-"+nobody) },
		"registered model":       func() error { _, err := c.client.GetRegisteredModel(ctx, c.unique); return err },
		"version":                func() error { _, err := c.client.GetModelVersion(ctx, name, "9"); return err },
		"version to describe":    func() error { return c.client.UpdateModelVersion(ctx, name, "9", "text") },
		"version to delete":      func() error { return c.client.DeleteModelVersion(ctx, name, "9") },
		"version of tag":         func() error { return c.client.SetModelVersionTag(ctx, name, "9", "a", "b") },
		"version of stage":       func() error { return c.client.TransitionModelVersionStage(ctx, name, "9", "Staging", false) },
		"version of alias":       func() error { return c.client.SetRegisteredModelAlias(ctx, name, "staging", "9") },
		"name of alias":          func() error { _, err := c.client.GetModelVersionByAlias(ctx, c.unique, "staging"); return err },
	}
	for what, ask := range checks {
		err := ask()
		require.True(c, mlflow.IsNotFound(err), "%s: %v", what, err)
		require.False(c, mlflow.IsEndpointMissing(err), what)
		c.requireRefused(err, http.StatusNotFound, "RESOURCE_DOES_NOT_EXIST")
	}
}

func (c *contract) endpointMissing() {
	// The client itself knows no wrong endpoints; a slash in an id makes one.
	_, err := c.client.GetLoggedModel(c.Context(), "m-0/nothing/here")
	require.True(c, mlflow.IsEndpointMissing(err), err)
	require.False(c, mlflow.IsNotFound(err))
}

func (c *contract) runByTag() {
	experiment := c.newExperiment()
	first, second := c.newRun(experiment), c.newRun(experiment)
	require.NotEqual(c, first.Info.RunID, second.Info.RunID, "nothing is idempotent")
	require.Equal(c, mlflow.RunRunning, first.Info.Status)
	require.Equal(c, "ada", first.Info.UserID)
	require.EqualValues(c, 1_700_000_000_123, first.Info.StartTime)
	require.Contains(c, first.Info.ArtifactURI, first.Info.RunID)

	found, err := c.client.SearchAllRuns(c.Context(), []string{experiment}, c.byKey())
	require.NoError(c, err)
	require.Len(c, found, 2)
	require.ElementsMatch(c, []string{first.Info.RunID, second.Info.RunID}, []string{found[0].Info.RunID, found[1].Info.RunID})
	page, err := c.client.SearchRuns(c.Context(), []string{experiment}, c.filter(mlflow.TagIs("contract.key", "other")), "")
	require.NoError(c, err)
	require.Empty(c, page.Runs)
}

func (c *contract) runSearchWithoutExperiments() {
	c.newRun(c.newExperiment())
	found, err := c.client.SearchAllRuns(c.Context(), nil, c.byKey())
	require.NoError(c, err)
	require.Empty(c, found)
}

func (c *contract) runFinished() {
	run := c.newRun(c.newExperiment())
	request := mlflow.UpdateRunRequest{RunID: run.Info.RunID, Status: mlflow.RunFinished, EndTime: 1_700_000_000_999}
	require.NoError(c, c.client.UpdateRun(c.Context(), request))
	require.NoError(c, c.client.UpdateRun(c.Context(), request), "repeatable")
	run, err := c.client.GetRun(c.Context(), run.Info.RunID)
	require.NoError(c, err)
	require.Equal(c, mlflow.RunFinished, run.Info.Status)
	require.EqualValues(c, 1_700_000_000_999, run.Info.EndTime)
}

func (c *contract) runDeleted() {
	experiment := c.newExperiment()
	id := c.newRun(experiment).Info.RunID
	require.NoError(c, c.client.DeleteRun(c.Context(), id))
	require.NoError(c, c.client.DeleteRun(c.Context(), id), "repeatable")
	found, err := c.client.SearchAllRuns(c.Context(), []string{experiment}, c.byKey())
	require.NoError(c, err)
	require.Empty(c, found)
	run, err := c.client.GetRun(c.Context(), id)
	require.NoError(c, err)
	require.Equal(c, mlflow.LifecycleDeleted, run.Info.LifecycleStage)
	c.requireRefused(c.client.LogParam(c.Context(), id, "a", "b"), http.StatusBadRequest, "INVALID_PARAMETER_VALUE")
	c.requireRefused(c.client.SetRunTag(c.Context(), id, "a", "b"), http.StatusBadRequest, "INVALID_PARAMETER_VALUE")
	c.requireRefused(c.client.UpdateRun(c.Context(), mlflow.UpdateRunRequest{RunID: id, Status: mlflow.RunFinished}),
		http.StatusBadRequest, "INVALID_PARAMETER_VALUE")
}

func (c *contract) paramOnce() {
	id := c.newRun(c.newExperiment()).Info.RunID
	require.NoError(c, c.client.LogParam(c.Context(), id, "contract.version", "1"))
	require.NoError(c, c.client.LogParam(c.Context(), id, "contract.version", "1"), "repeatable with the same value")
	c.requireRefused(c.client.LogParam(c.Context(), id, "contract.version", "none"), http.StatusBadRequest, "INVALID_PARAMETER_VALUE")
	run, err := c.client.GetRun(c.Context(), id)
	require.NoError(c, err)
	require.Equal(c, []mlflow.Param{{Key: "contract.version", Value: "1"}}, run.Data.Params)
}

func (c *contract) batchRefused() {
	id := c.newRun(c.newExperiment()).Info.RunID
	require.NoError(c, c.client.LogParam(c.Context(), id, "taken", "1"))
	err := c.client.LogBatch(c.Context(), mlflow.LogBatchRequest{
		RunID: id, Metrics: []mlflow.Metric{{Key: "roc_auc", Value: 1}},
		Params: []mlflow.Param{{Key: "free", Value: "1"}, {Key: "taken", Value: "2"}},
	})
	c.requireRefused(err, http.StatusBadRequest, "INVALID_PARAMETER_VALUE")
	run, err := c.client.GetRun(c.Context(), id)
	require.NoError(c, err)
	require.Empty(c, run.Data.Metrics)
	require.Len(c, run.Data.Params, 1)
}

func (c *contract) batchLimits() {
	id := c.newRun(c.newExperiment()).Info.RunID
	for _, tooMany := range []mlflow.LogBatchRequest{
		{Metrics: metrics(1001, "")},
		{Params: params(101)},
		{Metrics: metrics(950, ""), Params: params(51)},
	} {
		tooMany.RunID = id
		c.requireRefused(c.client.LogBatch(c.Context(), tooMany), http.StatusBadRequest, "INVALID_PARAMETER_VALUE")
	}
	run, err := c.client.GetRun(c.Context(), id)
	require.NoError(c, err)
	require.Empty(c, run.Data.Metrics)
	require.Empty(c, run.Data.Params)
	require.NoError(c, c.client.LogBatch(c.Context(), mlflow.LogBatchRequest{RunID: id, Metrics: metrics(900, ""), Params: params(100)}))
}

// batchRepeated: of more than 100 metrics of a logged model that are there already MLflow tries to insert some again, and refuses the batch.
func (c *contract) batchRepeated() {
	experiment := c.newExperiment()
	run := c.newRun(experiment).Info.RunID
	model := c.newLoggedModel(experiment, run).Info.ModelID
	log := func(n int) error {
		return c.client.LogBatch(c.Context(), mlflow.LogBatchRequest{RunID: run, Metrics: metrics(n, model)})
	}
	for _, n := range []int{50, 100, 100} {
		require.NoError(c, log(n))
	}
	c.requireRefused(log(101), http.StatusBadRequest, "BAD_REQUEST")
	logged, err := c.client.GetLoggedModel(c.Context(), model)
	require.NoError(c, err)
	require.Len(c, logged.Data.Metrics, 100)
}

func metrics(n int, modelID string) (all []mlflow.Metric) {
	for i := range n {
		all = append(all, mlflow.Metric{Key: fmt.Sprint("m", i), Value: float64(i), Timestamp: 17, ModelID: modelID})
	}
	return all
}

func params(n int) (all []mlflow.Param) {
	for i := range n {
		all = append(all, mlflow.Param{Key: fmt.Sprint("p", i), Value: "1"})
	}
	return all
}

func (c *contract) metricOnBoth() {
	experiment := c.newExperiment()
	run := c.newRun(experiment)
	model := c.newLoggedModel(experiment, run.Info.RunID)
	require.NoError(c, c.client.LogBatch(c.Context(), mlflow.LogBatchRequest{
		RunID:   run.Info.RunID,
		Metrics: []mlflow.Metric{{Key: "roc_auc", Value: 0.83, Timestamp: 17, ModelID: model.Info.ModelID}},
		Params:  []mlflow.Param{{Key: "depth", Value: "3"}},
		Tags:    []mlflow.Tag{{Key: "git", Value: "abc"}},
	}))
	run, err := c.client.GetRun(c.Context(), run.Info.RunID)
	require.NoError(c, err)
	require.Len(c, run.Data.Metrics, 1)
	require.Equal(c, 0.83, run.Data.Metrics[0].Value)
	require.EqualValues(c, 17, run.Data.Metrics[0].Timestamp)
	require.Equal(c, []mlflow.Param{{Key: "depth", Value: "3"}}, run.Data.Params)
	require.Contains(c, run.Data.Tags, mlflow.Tag{Key: "git", Value: "abc"})
	require.Contains(c, run.Data.Tags, mlflow.Tag{Key: "mlflow.runName", Value: "contract"})
	model, err = c.client.GetLoggedModel(c.Context(), model.Info.ModelID)
	require.NoError(c, err)
	require.Len(c, model.Data.Metrics, 1)
	require.Equal(c, 0.83, model.Data.Metrics[0].Value)
}

func (c *contract) metricNotFinite() {
	id := c.newRun(c.newExperiment()).Info.RunID
	require.NoError(c, c.client.LogBatch(c.Context(), mlflow.LogBatchRequest{RunID: id, Metrics: []mlflow.Metric{
		{Key: "nan", Value: math.NaN(), Timestamp: 17, Step: 2},
		{Key: "up", Value: math.Inf(1), Timestamp: 17},
		{Key: "down", Value: math.Inf(-1), Timestamp: 17},
		{Key: "last", Value: 0.5, Timestamp: 17},
	}}))
	run, err := c.client.GetRun(c.Context(), id)
	require.NoError(c, err)
	metrics := map[string]mlflow.Metric{}
	for _, metric := range run.Data.Metrics {
		metrics[metric.Key] = metric
	}
	require.True(c, math.IsNaN(metrics["nan"].Value))
	require.EqualValues(c, 2, metrics["nan"].Step, "the fields after a bare NaN would be lost")
	require.InEpsilon(c, math.MaxFloat64, metrics["up"].Value, 1e-9)
	require.InEpsilon(c, -math.MaxFloat64, metrics["down"].Value, 1e-9)
	require.Equal(c, 0.5, metrics["last"].Value)
}

func (c *contract) metricRepeated() {
	id := c.newRun(c.newExperiment()).Info.RunID
	for _, timestamp := range []int64{17, 17, 18} {
		require.NoError(c, c.client.LogBatch(c.Context(), mlflow.LogBatchRequest{
			RunID: id, Metrics: []mlflow.Metric{{Key: "roc_auc", Value: 0.5, Timestamp: timestamp}},
		}))
	}
	require.Len(c, c.metricHistory(id, "roc_auc"), 2, "one for each timestamp")
}

func (c *contract) metricLast() {
	id := c.newRun(c.newExperiment()).Info.RunID
	require.NoError(c, c.client.LogBatch(c.Context(), mlflow.LogBatchRequest{RunID: id, Metrics: []mlflow.Metric{
		{Key: "loss", Value: 0.3, Timestamp: 18, Step: 1}, {Key: "loss", Value: 0.9, Timestamp: 19},
	}}))
	run, err := c.client.GetRun(c.Context(), id)
	require.NoError(c, err)
	require.Len(c, run.Data.Metrics, 1)
	require.Equal(c, 0.3, run.Data.Metrics[0].Value)
}

// metricHistory asks what the client has no method for.
func (c *contract) metricHistory(runID, key string) []mlflow.Metric {
	c.Helper()
	query := url.Values{"run_id": {runID}, "metric_key": {key}}
	request, err := http.NewRequestWithContext(c.Context(), http.MethodGet,
		c.client.TrackingURI()+api+"metrics/get-history?"+query.Encode(), nil)
	require.NoError(c, err)
	response, err := http.DefaultClient.Do(request)
	require.NoError(c, err)
	defer response.Body.Close()
	var reply struct{ Metrics []mlflow.Metric }
	require.NoError(c, json.NewDecoder(response.Body).Decode(&reply))
	return reply.Metrics
}

func (c *contract) outputsOnce() {
	experiment := c.newExperiment()
	run := c.newRun(experiment)
	outputs := []mlflow.ModelOutput{{ModelID: c.newLoggedModel(experiment, run.Info.RunID).Info.ModelID}}
	require.NoError(c, c.client.LogOutputs(c.Context(), run.Info.RunID, outputs))
	c.requireRefused(c.client.LogOutputs(c.Context(), run.Info.RunID, outputs), http.StatusBadRequest, "BAD_REQUEST")
	run, err := c.client.GetRun(c.Context(), run.Info.RunID)
	require.NoError(c, err)
	require.Equal(c, outputs, run.Outputs.ModelOutputs)
}

func (c *contract) logModel() {
	run := c.newRun(c.newExperiment())
	description := `{"artifact_path": "model", "flavors": {}, "model_uuid": "u",
		"utc_time_created": "2026-01-01 00:00:00", "run_id": "` + run.Info.RunID + `"}`
	require.NoError(c, c.client.LogModel(c.Context(), run.Info.RunID, description))
	run, err := c.client.GetRun(c.Context(), run.Info.RunID)
	require.NoError(c, err)
	for _, tag := range run.Data.Tags {
		if tag.Key == "mlflow.log-model.history" {
			require.JSONEq(c, "["+description+"]", tag.Value)
			return
		}
	}
	require.Fail(c, "no tag mlflow.log-model.history")
}
