package activities

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"time"

	"registrar/internal/chart"
	"registrar/internal/gate"
	"registrar/internal/mlflow"
	"registrar/internal/snapshot"
)

// The tags of a version that its history is told from, so that one search tells it for all.
const (
	// TagDecision is the gate's decision, and TagMetrics the metrics that it was made by, both as JSON.
	TagDecision = "registrar.decision"
	TagMetrics  = "registrar.metrics"

	tagUser   = "mlflow.user"
	tagCommit = "mlflow.source.git.commit"
)

// maxHistoryTagBytes is what a tag of a version holds on every MLflow server: 2.22 takes 100,000 bytes, older ones 5,000, and refuse the version
// with what is longer.
const maxHistoryTagBytes = 5000

// historyTags are what the history of a model will say of a version.
func historyTags(decision gate.Decision, metrics gate.Metrics, request snapshot.Request) []mlflow.Tag {
	var tags []mlflow.Tag
	if text, err := json.Marshal(decision); err == nil && len(text) <= maxHistoryTagBytes {
		tags = append(tags, mlflow.Tag{Key: TagDecision, Value: string(text)})
	}
	if text := metricsText(decision, metrics); text != "" {
		tags = append(tags, mlflow.Tag{Key: TagMetrics, Value: text})
	}
	if request.User != "" {
		tags = append(tags, mlflow.Tag{Key: tagUser, Value: request.User})
	}
	return tags
}

// metricsText is the finite metrics as a JSON object, those that were judged first, and as many as a tag holds. Empty: there is none.
func metricsText(decision gate.Decision, metrics gate.Metrics) string {
	judged := map[string]bool{}
	for _, verdict := range decision.Rules {
		judged[verdict.Metric] = true
	}
	var members []string
	size := len("{}")
	for _, first := range []bool{true, false} {
		for _, m := range metrics.Numbers() {
			if judged[m.Name] != first || math.IsNaN(m.Value) || math.IsInf(m.Value, 0) {
				continue
			}
			member, err := json.Marshal(map[string]float64{m.Name: m.Value})
			if err != nil {
				continue // no name and no finite number makes Marshal fail
			}
			if size += len(member) - 1; size > maxHistoryTagBytes {
				break
			}
			members = append(members, string(member[1:len(member)-1]))
		}
	}
	if len(members) == 0 {
		return ""
	}
	return "{" + strings.Join(members, ",") + "}"
}

// ModelHistoryInput says of which registered model how many versions are told, the newest first.
type ModelHistoryInput struct {
	Server    Server `json:"server"`
	ModelName string `json:"model_name"`
	Limit     int    `json:"limit"`
}

// ModelHistoryResult is the versions of a model, the newest first.
type ModelHistoryResult struct {
	ModelName   string            `json:"model_name"`
	TrackingURI string            `json:"tracking_uri"`
	Versions    []HistoricVersion `json:"versions"`
	// More tells that there are older ones.
	More bool `json:"more,omitempty"`
}

// HistoricVersion is one version. What nobody wrote down is absent.
type HistoricVersion struct {
	Version   string    `json:"version"`
	CreatedAt time.Time `json:"created_at"`
	Stage     string    `json:"stage,omitempty"`
	Aliases   []string  `json:"aliases,omitempty"`
	// Metrics are those of the version or, where another tool made it, of its run.
	Metrics []gate.Metric `json:"metrics,omitempty"`
	// Decision is absent for a version that passed no gate.
	Decision        *gate.Decision `json:"decision,omitempty"`
	GitCommit       string         `json:"git_commit,omitempty"`
	User            string         `json:"user,omitempty"`
	RunID           string         `json:"mlflow_run_id,omitempty"`
	ModelSHA256     string         `json:"model_sha256,omitempty"`
	RegistrationKey string         `json:"registration_key,omitempty"`
	WorkflowURL     string         `json:"workflow_url,omitempty"`
}

// maxHistoryBytes is how much of a history passes through Temporal, whose payloads end at 2 MB.
const maxHistoryBytes = 1 << 20

// ReadModelHistory reads what MLflow knows of the versions of a model. It changes nothing.
func (a *Activities) ReadModelHistory(ctx context.Context, in ModelHistoryInput) (ModelHistoryResult, error) {
	client, err := a.mlflow(in.Server)
	if err != nil {
		return ModelHistoryResult{}, classify(ctx, err)
	}
	defer heartbeats(ctx, nothing)()
	result, err := readModelHistory(ctx, client, in)
	return result, classify(ctx, err)
}

func readModelHistory(ctx context.Context, client *mlflow.Client, in ModelHistoryInput) (ModelHistoryResult, error) {
	result := ModelHistoryResult{ModelName: in.ModelName, TrackingURI: client.TrackingURI(), Versions: []HistoricVersion{}}
	model, err := client.GetRegisteredModel(ctx, in.ModelName)
	if mlflow.IsNotFound(err) {
		return result, fmt.Errorf("no version of %q was ever registered there: is that its name in MLflow? %w", in.ModelName, err)
	}
	if err != nil {
		return result, err
	}
	versions, err := newestVersions(ctx, client, in.ModelName, in.Limit+1)
	if err != nil {
		return result, err
	}
	bytes := 0
	for i, v := range versions {
		told, err := historicVersion(ctx, client, v)
		if err != nil {
			return result, err
		}
		told = withAliases(told, model.Aliases)
		text, err := json.Marshal(told)
		if err != nil {
			return result, err
		}
		if bytes += len(text); i == in.Limit || bytes > maxHistoryBytes {
			result.More = true
			break
		}
		result.Versions = append(result.Versions, told)
	}
	return result, nil
}

func withAliases(v HistoricVersion, aliases []mlflow.Alias) HistoricVersion {
	for _, alias := range aliases {
		if alias.Version == v.Version {
			v.Aliases = append(v.Aliases, alias.Alias)
		}
	}
	return v
}

func newestVersions(ctx context.Context, client *mlflow.Client, name string, limit int) ([]mlflow.ModelVersion, error) {
	filter, err := mlflow.Filter(mlflow.AttributeIs("name", name))
	if err != nil {
		return nil, err
	}
	return client.NewestModelVersions(ctx, filter, limit)
}

// historicVersion reads the run of a version that does not say itself what was measured: one that another tool made.
func historicVersion(ctx context.Context, client *mlflow.Client, v mlflow.ModelVersion) (HistoricVersion, error) {
	told := asTagged(v)
	if len(told.Metrics) > 0 || v.RunID == "" {
		return told, nil
	}
	run, err := client.GetRun(ctx, v.RunID)
	if mlflow.IsNotFound(err) { // deleted for good
		return told, nil
	}
	if err != nil {
		return told, err
	}
	for _, m := range run.Data.Metrics {
		told.Metrics = append(told.Metrics, gate.Metric{Name: m.Key, Value: m.Value})
	}
	if told.User == "" {
		told.User = run.Info.UserID
	}
	if told.GitCommit == "" {
		told.GitCommit = tag(run.Data.Tags, tagCommit)
	}
	return told, nil
}

// asTagged is what a version says of itself. A tag that somebody wrote over says nothing.
func asTagged(v mlflow.ModelVersion) HistoricVersion {
	told := HistoricVersion{
		Version:         v.Version,
		CreatedAt:       time.UnixMilli(v.CreationTimestamp).UTC(),
		GitCommit:       tag(v.Tags, tagCommit),
		User:            tag(v.Tags, tagUser),
		RunID:           v.RunID,
		ModelSHA256:     tag(v.Tags, TagModelSHA256),
		RegistrationKey: tag(v.Tags, TagKey),
		WorkflowURL:     tag(v.Tags, TagWorkflowURL),
	}
	if v.CurrentStage != mlflow.StageNone {
		told.Stage = v.CurrentStage
	}
	var decision gate.Decision
	if text := tag(v.Tags, TagDecision); text != "" && json.Unmarshal([]byte(text), &decision) == nil {
		told.Decision = &decision
	}
	if text := tag(v.Tags, TagMetrics); text != "" {
		if metrics, err := gate.ParseMetrics(TagMetrics, strings.NewReader(text)); err == nil {
			told.Metrics = metrics.Numbers()
		}
	}
	return told
}

// Metric is the value of a metric of the version; NaN where it has none.
func (v HistoricVersion) Metric(name string) float64 {
	for _, m := range v.Metrics {
		if m.Name == name {
			return m.Value
		}
	}
	return math.NaN()
}

// minimum is the threshold that a metric of the version had to meet; NaN where there was none.
func (v HistoricVersion) minimum(metric string) float64 {
	if v.Decision != nil {
		for _, verdict := range v.Decision.Rules {
			if verdict.Metric == metric {
				return verdict.Min
			}
		}
	}
	return math.NaN()
}

// GateMetric is the metric that the newest judged version was judged by first; roc_auc where none was.
func GateMetric(newestFirst []HistoricVersion) string {
	for _, v := range newestFirst {
		if v.Decision != nil && len(v.Decision.Rules) > 0 {
			return v.Decision.Rules[0].Metric
		}
	}
	return "roc_auc"
}

// HistoryChart is the metric over the versions, which come the newest first.
func HistoryChart(modelName, metric string, newestFirst []HistoricVersion) chart.Chart {
	c := chart.Chart{Title: modelName, Metric: metric}
	for i := len(newestFirst) - 1; i >= 0; i-- {
		v := newestFirst[i]
		p := chart.Point{
			Label: v.Version, Value: v.Metric(metric), Minimum: v.minimum(metric), Faded: v.Stage == mlflow.StageArchived,
		}
		if v.Stage != "" && v.Stage != mlflow.StageArchived {
			p.Marks = append(p.Marks, v.Stage)
		}
		for _, alias := range v.Aliases {
			p.Marks = append(p.Marks, "@"+alias)
		}
		p.Note = v.note(metric)
		c.Points = append(c.Points, p)
	}
	return c
}

// note is what a picture says of a version where the mouse rests on it.
func (v HistoricVersion) note(metric string) string {
	parts := []string{"version " + v.Version, v.CreatedAt.Format("2006-01-02")}
	switch value := v.Metric(metric); {
	case v.Decision != nil:
		parts = append(parts, v.Decision.Summary())
	case math.IsNaN(value):
		parts = append(parts, "no "+metric)
	default:
		parts = append(parts, fmt.Sprintf("%s %v", metric, value))
	}
	if v.Decision == nil {
		parts = append(parts, "passed no gate")
	}
	if v.Stage != "" {
		parts = append(parts, v.Stage)
	}
	return strings.Join(parts, ", ")
}
