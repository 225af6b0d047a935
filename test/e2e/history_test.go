package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"registrar/activities"
	"registrar/internal/mlflow"
	"registrar/internal/receipt"
)

// told is what `starter history --output json` says.
type told struct {
	ModelName string `json:"model_name"`
	Versions  []struct {
		Version, Stage, User string
		Aliases              []string
		GitCommit            string `json:"git_commit"`
		Decision             *struct{ Passed bool }
		Metrics              map[string]struct {
			Value  float64
			Change *float64
		}
	}
	More bool
}

func (s *site) history(flags ...string) (h told) {
	s.t.Helper()
	a := s.starter(append([]string{"history"}, flags...)...)
	require.Zero(s.t, a.code)
	require.NoError(s.t, json.Unmarshal([]byte(a.stdout), &h))
	return h
}

func TestHistory_TellsAndDrawsTheVersions(t *testing.T) {
	t.Parallel()
	s := sharedSite(t)
	s.startWorker("--temporal-ui-url", "http://temporal.test")
	before := s.starter("history")
	require.Equal(t, 1, before.code)
	require.Contains(t, before.stderr, "not found", "a name that was never registered")

	s.project.write(t, metricsFile, `{"roc_auc": 0.75, "accuracy": 0.7}`)
	s.requireOutcome(receipt.Registered, s.register().receipt)
	s.project.write(t, metricsFile, `{"roc_auc": 0.81, "accuracy": 0.7}`)
	second := s.register().receipt
	s.requireOutcome(receipt.Registered, second)
	require.True(t, strings.HasPrefix(second.WorkflowURL, "http://temporal.test/namespaces/default/workflows/register%2F"), second.WorkflowURL)
	mlflowNow := registryAt(t, s.mlflowURI)
	_, err := mlflowNow.client.CreateModelVersion(t.Context(), mlflow.CreateModelVersionRequest{Name: s.project.modelName, Source: "s3://bucket/model"})
	require.NoError(t, err)

	h := s.history("--chart", "history.svg")

	require.Equal(t, s.project.modelName, h.ModelName)
	require.False(t, h.More)
	require.Len(t, h.Versions, 3)
	foreign, newer, older := h.Versions[0], h.Versions[1], h.Versions[2]
	require.Nil(t, foreign.Decision)
	require.Empty(t, foreign.Metrics)
	require.Equal(t, "2", newer.Version)
	require.True(t, newer.Decision.Passed)
	require.Equal(t, activities.Stage, newer.Stage)
	require.Equal(t, []string{activities.Alias}, newer.Aliases)
	require.InDelta(t, 0.06, *newer.Metrics["roc_auc"].Change, 0)
	require.Zero(t, *newer.Metrics["accuracy"].Change)
	require.NotEmpty(t, newer.User)
	require.Equal(t, mlflow.StageArchived, older.Stage)
	require.Nil(t, older.Metrics["roc_auc"].Change)

	// What is told of one version is not otherwise than what is told of all.
	newest := s.history("--limit", "2")
	require.True(t, newest.More)
	require.Equal(t, h.Versions[:2], newest.Versions)

	drawn, err := os.ReadFile(filepath.Join(s.project.root, "history.svg"))
	require.NoError(t, err)
	require.Contains(t, string(drawn), ">Staging, @staging</text>")
	require.Contains(t, string(drawn), "version 3")
	require.NotContains(t, s.pictureOf(second), "version 3", "the picture of a run ends with its version")
	require.Contains(t, s.pictureOf(second), "roc_auc 0.81 &gt;= 0.60: passed")
}

// pictureOf is the picture that a registration left beside its run.
func (s *site) pictureOf(r receipt.Receipt) string {
	s.t.Helper()
	run, err := registryAt(s.t, s.mlflowURI).client.GetRun(s.t.Context(), r.MLflowRunID)
	require.NoError(s.t, err)
	path := strings.TrimPrefix(run.Info.ArtifactURI, "mlflow-artifacts:") + "/" + activities.HistoryFile
	content := left{t: s.t.(*testing.T), uri: s.mlflowURI}.fetch("/api/2.0/mlflow-artifacts/artifacts" + path)
	return string(content)
}
