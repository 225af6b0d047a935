package activities

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"registrar/internal/gate"
	"registrar/internal/mlflow"
	"registrar/internal/mlflow/mlflowtest"
	"registrar/internal/snapshot"
)

// registerVersion makes a version of the project's model as a registration does, from its frozen metrics.
func (p *project) registerVersion() (Version, LogRunResult) {
	p.t.Helper()
	in := p.upload()
	model, err := execute[UploadModelResult](p, p.UploadModel, in)
	require.NoError(p.t, err)
	loaded, err := execute[ValidateMetricsResult](p, p.ValidateMetrics, ValidateMetricsInput{
		Project: p.frozen.Project, Rules: []gate.Rule{{Metric: "roc_auc", Min: 0.6}},
	})
	require.NoError(p.t, err)
	made, err := execute[RegisterVersionResult](p, p.RegisterVersion, RegisterVersionInput{
		Server: p.tracked(), Project: p.frozen.Project, Owner: p.owner(), ModelName: "credit", Run: in.Run, Model: model, Decision: loaded.Decision,
		WorkflowURL: "http://temporal.example/w",
	})
	require.NoError(p.t, err)
	return Version{Name: "credit", Version: made.Version, RunID: in.Run.RunID, ModelID: model.ModelID}, in.Run
}

// otherTool makes a version as MLflow's own client does.
func (p *project) otherTool(metrics map[string]float64) {
	p.t.Helper()
	ctx, client := p.t.Context(), p.client()
	run, err := client.CreateRun(ctx, mlflow.CreateRunRequest{
		ExperimentID: "0", UserID: "ada", Tags: []mlflow.Tag{{Key: tagCommit, Value: "abc"}},
	})
	require.NoError(p.t, err)
	for key, value := range metrics {
		batch := mlflow.LogBatchRequest{RunID: run.Info.RunID, Metrics: []mlflow.Metric{{Key: key, Value: value, Timestamp: 1}}}
		require.NoError(p.t, client.LogBatch(ctx, batch))
	}
	_, err = client.CreateModelVersion(ctx, mlflow.CreateModelVersionRequest{
		Name: "credit", Source: run.Info.ArtifactURI + "/model", RunID: run.Info.RunID,
	})
	require.NoError(p.t, err)
}

func (p *project) history(limit int) ModelHistoryResult {
	p.t.Helper()
	result, err := execute[ModelHistoryResult](p, p.ReadModelHistory, ModelHistoryInput{Server: p.tracked(), ModelName: "credit", Limit: limit})
	require.NoError(p.t, err)
	return result
}

func TestReadModelHistory_TellsEachVersionWhoeverMadeIt(t *testing.T) {
	p := newProject(t)
	p.write("metrics.json", `{"accuracy": 0.7, "roc_auc": 0.75, "loss": NaN}`)
	ours, run := p.registerVersion()
	p.otherTool(map[string]float64{"roc_auc": 0.5})
	p.otherTool(nil)
	require.NoError(t, p.client().TransitionModelVersionStage(t.Context(), "credit", ours.Version, Stage, false))
	require.NoError(t, p.client().SetRegisteredModelAlias(t.Context(), "credit", Alias, ours.Version))

	told := p.history(10)

	require.Equal(t, "credit", told.ModelName)
	require.Equal(t, p.server.URL, told.TrackingURI)
	require.False(t, told.More)
	require.Len(t, told.Versions, 3)
	bare, other, first := told.Versions[0], told.Versions[1], told.Versions[2]
	require.Equal(t, "3", bare.Version)
	require.True(t, math.IsNaN(bare.Metric("roc_auc")))
	require.Equal(t, "2", other.Version)
	require.InDelta(t, 0.5, other.Metric("roc_auc"), 0)
	require.Equal(t, "ada", other.User)
	require.Equal(t, "abc", other.GitCommit)
	require.Nil(t, other.Decision)
	require.Empty(t, other.RegistrationKey)

	require.False(t, first.CreatedAt.IsZero())
	first.CreatedAt = time.Time{}
	require.Equal(t, HistoricVersion{
		Version: "1", Stage: Stage, Aliases: []string{Alias},
		Metrics: []gate.Metric{{Name: "roc_auc", Value: 0.75}, {Name: "accuracy", Value: 0.7}}, // what was judged comes first
		Decision: &gate.Decision{Passed: true, Rules: []gate.Verdict{
			{Metric: "roc_auc", Min: 0.6, Observed: json.RawMessage("0.75"), Passed: true},
		}},
		User: p.frozen.Request.User, RunID: run.RunID, ModelSHA256: p.frozen.Request.Model.SHA256,
		RegistrationKey: p.frozen.Request.RegistrationKey, WorkflowURL: "http://temporal.example/w",
	}, first)
}

func TestReadModelHistory_IsBounded(t *testing.T) {
	p := newProject(t)
	_, err := p.client().CreateRegisteredModel(t.Context(), mlflow.CreateRegisteredModelRequest{Name: "credit"})
	require.NoError(t, err)
	require.Empty(t, p.history(10).Versions)
	for range 4 {
		p.otherTool(nil)
	}
	told := p.history(3)
	require.Len(t, told.Versions, 3)
	require.True(t, told.More)
	require.Equal(t, "4", told.Versions[0].Version)
	told = p.history(4)
	require.Len(t, told.Versions, 4)
	require.False(t, told.More)

	// What passes through Temporal stays small, however much somebody wrote on the versions.
	for _, number := range []string{"4", "3"} {
		require.NoError(t, p.client().SetModelVersionTag(t.Context(), "credit", number, tagUser, strings.Repeat("x", maxHistoryBytes/2)))
	}
	told = p.history(4)
	require.Len(t, told.Versions, 1)
	require.True(t, told.More)
}

func TestReadModelHistory_OfANameThatIsNotThereIsFinal(t *testing.T) {
	p := newProject(t)
	_, err := execute[ModelHistoryResult](p, p.ReadModelHistory, ModelHistoryInput{Server: p.tracked(), ModelName: "debit", Limit: 1})
	require.ErrorContains(t, err, `no version of "debit" was ever registered there: is that its name in MLflow?`)
	require.ErrorContains(t, err, "Registered Model with name=debit not found")
}

func TestHistoryTags_FitWhateverIsMeasured(t *testing.T) {
	var text strings.Builder
	text.WriteString(`{"nan": NaN, "huge": 1e400`)
	for i := range 900 {
		fmt.Fprintf(&text, `, "a metric with a long name, number %d": 0.123456789012345`, i)
	}
	text.WriteString(`, "roc_auc": 0.75}`)
	metrics, err := gate.ParseMetrics("metrics.json", strings.NewReader(text.String()))
	require.NoError(t, err)
	decision := gate.Decide([]gate.Rule{{Metric: "roc_auc", Min: 0.6}}, metrics)

	tags := historyTags(decision, metrics, snapshot.Request{})

	require.Len(t, tags, 2)
	for _, tag := range tags {
		require.LessOrEqual(t, len(tag.Value), maxHistoryTagBytes)
		require.True(t, json.Valid([]byte(tag.Value)))
	}
	require.Equal(t, tags, historyTags(decision, metrics, snapshot.Request{}), "the same bytes each time")
	told := asTagged(mlflow.ModelVersion{Tags: tags})
	require.InDelta(t, 0.75, told.Metric("roc_auc"), 0, "what was judged is not left out")
	require.Greater(t, len(told.Metrics), 50)
	require.Equal(t, decision.Summary(), told.Decision.Summary())
}

func TestAsTagged_WhatSomebodyWroteOverSaysNothing(t *testing.T) {
	told := asTagged(mlflow.ModelVersion{Tags: []mlflow.Tag{{Key: TagDecision, Value: "yes"}, {Key: TagMetrics, Value: "{"}}})
	require.Nil(t, told.Decision)
	require.Empty(t, told.Metrics)
}

// pictures are those that were put beside a run.
func (p *project) pictures(run LogRunResult) (drawn []string) {
	path := strings.TrimPrefix(run.ArtifactURI, "mlflow-artifacts:") + "/" + HistoryFile
	for _, asked := range p.server.Requests() {
		if asked.Method == http.MethodPut && strings.HasSuffix(asked.Path, path) {
			drawn = append(drawn, string(asked.Body))
		}
	}
	return drawn
}

func (p *project) promoteAndDraw(v Version, run LogRunResult) error {
	result, err := execute[PromoteVersionResult](p, p.PromoteVersion, PromoteVersionInput{
		Server: p.tracked(), ModelName: v.Name, Version: v.Version, ArtifactURI: run.ArtifactURI,
	})
	if err == nil {
		require.True(p.t, result.Promoted)
	}
	return err
}

func TestPromoteVersion_LeavesAPictureOfTheHistory(t *testing.T) {
	p := newProject(t)
	v, run := p.registerVersion()
	p.otherTool(nil) // made meanwhile: no part of the picture
	before := len(p.server.Requests())

	require.NoError(t, p.promoteAndDraw(v, run))

	require.Len(t, p.server.Requests()[before:], 6, "one request more than the promotion itself takes")
	drawn := p.pictures(run)
	require.Len(t, drawn, 1)
	require.Contains(t, drawn[0], "<title>roc_auc of credit</title>")
	require.Contains(t, drawn[0], "roc_auc 0.75 &gt;= 0.60: passed")
	require.Contains(t, drawn[0], ">Staging, @staging</text>", "as it is since the promotion")
	require.NotContains(t, drawn[0], "version 2")

	require.NoError(t, p.promoteAndDraw(v, run))
	require.Equal(t, []string{drawn[0], drawn[0]}, p.pictures(run), "drawn again, it is the same")
}

func TestPromoteVersion_DrawsAlsoWhereANewerVersionHoldsTheStage(t *testing.T) {
	p := newProject(t)
	v, run := p.registerVersion()
	p.otherTool(nil)
	require.NoError(t, p.client().TransitionModelVersionStage(t.Context(), "credit", "2", Stage, false))

	result, err := execute[PromoteVersionResult](p, p.PromoteVersion, PromoteVersionInput{
		Server: p.tracked(), ModelName: "credit", Version: v.Version, ArtifactURI: run.ArtifactURI,
	})

	require.NoError(t, err)
	require.Equal(t, "2", result.Newer)
	require.Len(t, p.pictures(run), 1)
	require.NotContains(t, p.pictures(run)[0], Stage)
}

func TestPromoteVersion_PromotesThoughNoPictureCanBeHad(t *testing.T) {
	for name, fault := range map[string]mlflowtest.Fault{
		"refused": {Status: http.StatusForbidden}, "down": {Status: http.StatusServiceUnavailable}, "cut": {Drop: true},
	} {
		t.Run(name, func(t *testing.T) {
			p := newProject(t)
			v, run := p.registerVersion()
			var struck atomic.Bool
			p.server.Intercept(func(r *http.Request) mlflowtest.Fault {
				if strings.HasSuffix(r.URL.Path, "/"+HistoryFile) {
					struck.Store(true)
					return fault
				}
				return mlflowtest.Fault{}
			})

			require.NoError(t, p.promoteAndDraw(v, run))

			require.True(t, struck.Load())
			version, err := p.client().GetModelVersionByAlias(t.Context(), "credit", Alias)
			require.NoError(t, err)
			require.Equal(t, v.Version, version.Version)
		})
	}
}

func TestPromoted_IsWhatIsThereAfterwards(t *testing.T) {
	versions, aliases := promoted("3",
		[]mlflow.ModelVersion{{Version: "3", CurrentStage: mlflow.StageNone}, {Version: "2", CurrentStage: Stage}, {Version: "1", CurrentStage: "Production"}},
		[]mlflow.Alias{{Alias: Alias, Version: "2"}, {Alias: "champion", Version: "1"}})
	require.Equal(t, []mlflow.ModelVersion{
		{Version: "3", CurrentStage: Stage}, {Version: "2", CurrentStage: mlflow.StageArchived}, {Version: "1", CurrentStage: "Production"},
	}, versions)
	require.Equal(t, []mlflow.Alias{{Alias: "champion", Version: "1"}, {Alias: Alias, Version: "3"}}, aliases)
}
