package chaos

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"registrar/activities"
	"registrar/internal/mlflow"
)

// holdings is all that carries one registration key in MLflow, whoever made it. What was deleted is not seen.
type holdings struct {
	runs     []mlflow.Run
	models   []mlflow.LoggedModel
	versions []mlflow.ModelVersion
}

func (s *site) holdingsOf(ctx context.Context, key string) (holdings, error) {
	var h holdings
	filter, err := mlflow.Filter(mlflow.TagIs(activities.TagKey, key))
	if err != nil {
		return h, err
	}
	experiments, err := s.api.SearchAllExperiments(ctx)
	if err != nil {
		return h, err
	}
	var ids []string
	for _, e := range experiments {
		ids = append(ids, e.ExperimentID)
	}
	if h.runs, err = s.api.SearchAllRuns(ctx, ids, filter); err != nil {
		return h, err
	}
	if h.models, err = s.api.SearchLoggedModels(ctx, ids, filter); err != nil {
		return h, err
	}
	found, err := s.api.SearchModelVersions(ctx, filter)
	if err != nil {
		return h, err
	}
	for _, v := range found {
		complete, err := s.api.GetModelVersion(ctx, v.Name, v.Version)
		if err != nil {
			return h, err
		}
		h.versions = append(h.versions, complete)
	}
	return h, nil
}

// duplicates is how many objects there are beside the first of each kind.
func (h holdings) duplicates() int {
	return max(0, len(h.runs)-1) + max(0, len(h.models)-1) + max(0, len(h.versions)-1)
}

// String is what there is, a line each.
func (h holdings) String() string {
	var b strings.Builder
	for _, r := range h.runs {
		fmt.Fprintf(&b, "  run %s %s generation %s\n", r.Info.RunID, r.Info.Status, tagged(r.Data.Tags, activities.TagGeneration))
	}
	for _, m := range h.models {
		fmt.Fprintf(&b, "  logged model %s %s of run %s\n", m.Info.ModelID, m.Info.Status, m.Info.SourceRunID)
	}
	for _, v := range h.versions {
		fmt.Fprintf(&b, "  version %s %s %s %v from %s, run %s, completed %q\n", v.Version, v.Status, v.CurrentStage, v.Aliases, v.Source, v.RunID,
			tagged(v.Tags, activities.TagCompleted))
	}
	if b.Len() == 0 {
		return "  nothing\n"
	}
	return b.String()
}

// portrait is everything that one registration left, in words that are the same for each: its ids and times are replaced by their
// names. Two registrations of the same files leave the same portrait, or one of them lost something.
func (s *site) portrait(ctx context.Context, h holdings) (string, error) {
	if len(h.runs) != 1 || len(h.models) != 1 || len(h.versions) != 1 {
		return "", fmt.Errorf("%d runs, %d logged models and %d versions: want one of each", len(h.runs), len(h.models), len(h.versions))
	}
	run, model, version := h.runs[0], h.models[0], h.versions[0]
	run, err := s.api.GetRun(ctx, run.Info.RunID) // a search leaves the outputs out
	if err != nil {
		return "", err
	}
	var lines []string
	line := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	line("run: %s %s ended %t", run.Info.RunName, run.Info.Status, run.Info.EndTime > 0)
	for _, output := range run.Outputs.ModelOutputs {
		// MLflow has no way to take an output back: that of a logged model that was condemned stays, and leads nowhere.
		if _, err := s.api.GetLoggedModel(ctx, output.ModelID); mlflow.IsNotFound(err) {
			continue
		}
		line("run output: %s step %d", output.ModelID, output.Step)
	}
	for _, p := range run.Data.Params {
		line("run param: %s = %s", p.Key, p.Value)
	}
	for _, t := range run.Data.Tags {
		line("run tag: %s = %s", t.Key, t.Value)
	}
	for _, m := range run.Data.Metrics {
		history, err := s.metricHistory(ctx, run.Info.RunID, m.Key)
		if err != nil {
			return "", err
		}
		line("run metric: %s = %v", m.Key, history)
	}
	line("logged model: %s %s of %s", model.Info.Name, model.Info.Status, model.Info.SourceRunID)
	for _, p := range model.Data.Params {
		line("logged model param: %s = %s", p.Key, p.Value)
	}
	for _, t := range model.Info.Tags {
		line("logged model tag: %s = %s", t.Key, t.Value)
	}
	for _, m := range model.Data.Metrics {
		line("logged model metric: %s = %v step %d", m.Key, m.Value, m.Step)
	}
	files, err := s.files(model.Info.ArtifactURI)
	if err != nil {
		return "", err
	}
	for path, content := range files {
		line("file: %s = %s", path, content)
	}
	line("version: %s %s %s %v from %s of %s: %s", version.Version, version.Status, version.CurrentStage, version.Aliases, version.Source, version.RunID,
		version.Description)
	for _, t := range version.Tags {
		line("version tag: %s = %s", t.Key, t.Value)
	}
	slices.Sort(lines)
	return anonymous(strings.Join(lines, "\n"), run, model, version), nil
}

var (
	aTime        = regexp.MustCompile(`\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+)?Z?`)
	milliseconds = regexp.MustCompile(`\b1\d{12}\b`)
)

// anonymous replaces what differs between two registrations of the same files by what it is.
func anonymous(text string, run mlflow.Run, model mlflow.LoggedModel, version mlflow.ModelVersion) string {
	tags := run.Data.Tags
	text = strings.NewReplacer(
		tagged(tags, activities.TagKey), "<key>",
		tagged(tags, activities.TagOwner), "<owner>",
		tagged(tags, activities.TagGeneration), "<generation>",
		run.Info.RunID, "<run>",
		model.Info.ModelID, "<logged model>",
		version.Name, "<name>",
		"mlflow-artifacts:/"+run.Info.ExperimentID+"/", "mlflow-artifacts:/<experiment>/",
		"registrar.version = "+version.Version+"\n", "registrar.version = <version>\n",
		"version: "+version.Version+" ", "version: <version> ",
		`"version": "`+version.Version+`"`, `"version": <version>`,
		`"version": `+version.Version+`,`, `"version": <version>,`,
		`"version": `+version.Version+`}`, `"version": <version>}`,
	).Replace(text)
	return milliseconds.ReplaceAllString(aTime.ReplaceAllString(text, "<time>"), "<time>")
}

// metricHistory are all values that were ever logged for a metric.
func (s *site) metricHistory(ctx context.Context, runID, key string) ([]float64, error) {
	query := url.Values{"run_id": {runID}, "metric_key": {key}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.mlflow.URI+"/api/2.0/mlflow/metrics/get-history?"+query.Encode(), nil)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	var reply struct{ Metrics []mlflow.Metric }
	if err := json.Unmarshal(body, &reply); err != nil {
		return nil, fmt.Errorf("read history of metric %s: %w: %s", key, err, body)
	}
	var values []float64
	for _, m := range reply.Metrics {
		values = append(values, m.Value)
	}
	return values, nil
}

// files are the artifacts below an artifact URI, read from the server's own disk: text as it is, and of other files the digest.
func (s *site) files(artifactURI string) (map[string]string, error) {
	root := filepath.Join(s.mlflow.Dir, "artifacts", filepath.FromSlash(strings.TrimPrefix(artifactURI, "mlflow-artifacts:/")))
	files := map[string]string{}
	err := filepath.WalkDir(root, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		files[name] = digestOrText(content)
		return nil
	})
	return files, err
}

func digestOrText(content []byte) string {
	if utf8.Valid(content) {
		return strings.ReplaceAll(string(content), "\n", "\n\t")
	}
	return fmt.Sprintf("SHA-256 %x", sha256.Sum256(content))
}

func tagged(tags []mlflow.Tag, key string) string {
	for _, t := range tags {
		if t.Key == key {
			return t.Value
		}
	}
	return ""
}
