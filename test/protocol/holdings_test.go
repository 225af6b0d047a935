package protocol

import (
	"fmt"
	"net/http"
	"strings"

	"registrar/activities"
	"registrar/internal/mlflow"
	"registrar/internal/mlflow/mlflowtest"
)

// modelName is the one name under which everybody registers.
const modelName = "Model"

// holdings is what the server has.
type holdings struct {
	runs     []mlflow.Run // the deleted ones too
	models   []mlflow.LoggedModel
	versions []mlflow.ModelVersion
	alias    string // the version that alias staging points to
}

func look(server *mlflowtest.Server) holdings {
	return holdings{
		runs:     server.Runs(),
		models:   server.LoggedModels(),
		versions: server.ModelVersions(),
		alias:    server.Aliases(modelName)[activities.Alias],
	}
}

func (h holdings) run(id string) (mlflow.Run, bool) {
	for _, r := range h.runs {
		if r.Info.RunID == id {
			return r, true
		}
	}
	return mlflow.Run{}, false
}

func (h holdings) hasRun(id string) bool {
	r, ok := h.run(id)
	return ok && r.Info.LifecycleStage == mlflow.LifecycleActive
}

func (h holdings) hasModel(id string) bool {
	for _, m := range h.models {
		if m.Info.ModelID == id {
			return true
		}
	}
	return false
}

func (h holdings) version(number string) (mlflow.ModelVersion, bool) {
	for _, v := range h.versions {
		if v.Version == number {
			return v, true
		}
	}
	return mlflow.ModelVersion{}, false
}

// isDecided tells that the version's run has decided on it.
func (h holdings) isDecided(v mlflow.ModelVersion) bool {
	r, _ := h.run(v.RunID)
	return decision(r) == v.Version
}

// staged is the version that models:/<name>/Staging resolves to; 0 where there is none.
func (h holdings) staged() int {
	highest := 0
	for _, v := range h.versions {
		if v.CurrentStage == activities.Stage {
			highest = max(highest, number(v.Version))
		}
	}
	return highest
}

func (h holdings) highestCompleted() int {
	highest := 0
	for _, v := range h.versions {
		if tag(v.Tags, activities.TagCompleted) != "" {
			highest = max(highest, number(v.Version))
		}
	}
	return highest
}

// names are short names of ids, in the order in which they were first seen.
type names struct{ runs, models map[string]string }

func newNames() *names { return &names{runs: map[string]string{}, models: map[string]string{}} }

func (n *names) run(id string) string   { return short(n.runs, "run ", id) }
func (n *names) model(id string) string { return short(n.models, "model ", id) }

func short(known map[string]string, prefix, id string) string {
	if known[id] == "" {
		known[id] = fmt.Sprintf("%s%d", prefix, len(known)+1)
	}
	return known[id]
}

// replace puts short names for the ids in a text.
func (n *names) replace(text string) string {
	for _, known := range []map[string]string{n.models, n.runs} {
		for id, name := range known {
			text = strings.ReplaceAll(text, id, name)
		}
	}
	return text
}

// describe is the holdings in one line.
func (n *names) describe(h holdings) string {
	var parts []string
	for _, r := range h.runs {
		text := n.run(r.Info.RunID) + " " + r.Info.Status
		if !h.hasRun(r.Info.RunID) {
			text = n.run(r.Info.RunID) + " deleted"
		}
		if d := decision(r); d != "" {
			text += " decided " + d
		}
		parts = append(parts, text)
	}
	for _, m := range h.models {
		parts = append(parts, n.model(m.Info.ModelID))
	}
	for _, v := range h.versions {
		text := fmt.Sprintf("version %s of %s %s", v.Version, n.run(v.RunID), v.CurrentStage)
		if tag(v.Tags, activities.TagCompleted) != "" {
			text += " completed"
		}
		parts = append(parts, text)
	}
	if h.alias != "" {
		parts = append(parts, "alias on "+h.alias)
	}
	return strings.Join(parts, "; ")
}

// nameOf is the name of a request in a schedule: MLflow's, with a verb where one path has several.
func nameOf(r *http.Request) string {
	path := strings.TrimPrefix(r.URL.Path, "/api/2.0/mlflow/")
	if path == "registered-models/alias" && r.Method == http.MethodGet {
		return "registered-models/get-alias"
	}
	if !strings.HasPrefix(path, "logged-models") || path == "logged-models/search" {
		return path
	}
	return map[string]string{
		http.MethodPost: "logged-models/create", http.MethodGet: "logged-models/get",
		http.MethodPatch: "logged-models/finalize", http.MethodDelete: "logged-models/delete",
	}[r.Method]
}

// isAside tells of a request that nothing depends on: files, experiments, and the look at the server's health.
func isAside(name string) bool {
	return strings.HasPrefix(name, "/") || strings.HasPrefix(name, "experiments/") || name == "registered-models/get" ||
		name == "registered-models/create" || name == "logged-models/get"
}

func decision(r mlflow.Run) string {
	for _, p := range r.Data.Params {
		if p.Key == activities.ParamVersion {
			return p.Value
		}
	}
	return ""
}

func tag(tags []mlflow.Tag, key string) string {
	for _, t := range tags {
		if t.Key == key {
			return t.Value
		}
	}
	return ""
}

func number(version string) int {
	n := 0
	_, _ = fmt.Sscan(version, &n) // empty is 0
	return n
}
