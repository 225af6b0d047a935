package activities

import (
	"fmt"
	"slices"
	"sort"
	"strings"
	"unicode/utf8"

	"registrar/internal/gate"
	"registrar/internal/snapshot"
)

// maxDescription is what MLflow's column for a version's description holds, String(5000). PostgreSQL counts characters, and refuses more with the
// whole version, after its upload. The run's note has the same bound: MLflow cuts a tag at 8,000, wherever that is.
const maxDescription = 5000

// maxShownText bounds what a single path or reason takes of it, in characters, so that what is no list fits always.
const maxShownText = 200

// runNote is the run's description in the MLflow UI, in Markdown.
func runNote(in LogRunInput, request snapshot.Request) string {
	return bounded(evidence{in.Settings.ModelName, in.Decision, request, in.WorkflowURL, nil})
}

// versionDescription is the version's, which also says what a consumer should know of the environment.
func versionDescription(in RegisterVersionInput, request snapshot.Request) string {
	return bounded(evidence{in.ModelName, in.Decision, request, in.WorkflowURL, in.Model.Unpinned})
}

// bounded cuts the lists, and no more of them than it must: first the extra files that were judged, which decision.json has, and then those that
// were frozen. The verdict, the rules, the model's reasons and the digests of model and metrics stay.
func bounded(e evidence) string {
	e = e.clipped()
	all := cut{judged: len(e.judged()), frozen: len(e.request.ExtraFiles)}
	fits := func(c cut) bool { return utf8.RuneCountInString(e.text(c)) <= maxDescription }
	// Search finds the fewest lines less that fit; where even none of them does, the next list is cut as well.
	c := all
	c.judged -= sort.Search(all.judged, func(less int) bool { return fits(cut{all.judged - less, all.frozen}) })
	c.frozen -= sort.Search(all.frozen, func(less int) bool { return fits(cut{c.judged, all.frozen - less}) })
	return clip(e.text(c), maxDescription)
}

// cut is how many of each list are shown.
type cut struct{ judged, frozen int }

// evidence is what was decided on what evidence.
type evidence struct {
	modelName   string
	decision    gate.Decision
	request     snapshot.Request
	workflowURL string
	unpinned    []string
}

// judged are the extra files that something speaks against.
func (e evidence) judged() []gate.ExtraFile {
	if e.decision.Model == nil {
		return nil
	}
	return e.decision.Model.ExtraFiles
}

// clipped is the evidence without texts of a length that only a mistake, or malice, gives them.
func (e evidence) clipped() evidence {
	if e.decision.Model != nil {
		model := *e.decision.Model
		model.Reasons = clipAll(model.Reasons)
		model.ExtraFiles = nil
		for _, f := range e.judged() {
			if len(f.Reasons) > 0 {
				f.Path, f.Reasons = clipPath(f.Path), clipAll(f.Reasons)
				model.ExtraFiles = append(model.ExtraFiles, f)
			}
		}
		e.decision.Model = &model
	}
	e.request.Model.Path, e.request.Metrics.Path = clipPath(e.request.Model.Path), clipPath(e.request.Metrics.Path)
	e.request.ExtraFiles = slices.Clone(e.request.ExtraFiles)
	for i, entry := range e.request.ExtraFiles {
		e.request.ExtraFiles[i].Path = clipPath(entry.Path)
	}
	e.unpinned = clipAll(e.unpinned)
	return e
}

func (e evidence) text(shown cut) string {
	var b strings.Builder
	verdict := "was refused"
	decision := e.decision
	if decision.Passed {
		verdict = "met all rules"
	}
	if decision.Model != nil {
		model := *decision.Model
		model.ExtraFiles = model.ExtraFiles[:shown.judged]
		decision.Model = &model
	}
	fmt.Fprintf(&b, "**%s** %s.\n\n%s\n", e.modelName, verdict, decision.Markdown())
	if more := len(e.judged()) - shown.judged; more > 0 {
		fmt.Fprintf(&b, "Something speaks against %d more extra files: decision.json says what.\n\n", more)
	}
	b.WriteString("Evidence, with its SHA-256:\n\n")
	for _, entry := range append([]snapshot.Entry{e.request.Model, e.request.Metrics}, e.request.ExtraFiles[:shown.frozen]...) {
		fmt.Fprintf(&b, "- `%s`: `%s`\n", entry.Path, entry.SHA256)
	}
	if more := len(e.request.ExtraFiles) - shown.frozen; more > 0 {
		fmt.Fprintf(&b, "- and %d more extra files, which request.json lists\n", more)
	}
	if e.request.GitCommit != "" {
		fmt.Fprintf(&b, "- Git commit `%s`\n", e.request.GitCommit)
	}
	if len(e.unpinned) > 0 {
		fmt.Fprintf(&b, "\nNot pinned, since neither the model file nor `model_registration` tells the version: %s.\n", strings.Join(e.unpinned, ", "))
	}
	if e.workflowURL != "" {
		fmt.Fprintf(&b, "\n[The registration in Temporal](%s)\n", e.workflowURL)
	}
	return b.String()
}

func clipAll(texts []string) []string {
	clipped := slices.Clone(texts)
	for i, text := range clipped {
		clipped[i] = clip(text, maxShownText)
	}
	return clipped
}

// clip cuts a text to a number of characters.
func clip(text string, most int) string {
	if characters := []rune(text); len(characters) > most {
		return string(characters[:most-1]) + "…"
	}
	return text
}

// clipPath keeps the end of a path, where the name of the file is.
func clipPath(path string) string {
	if characters := []rune(path); len(characters) > maxShownText {
		return "…" + string(characters[len(characters)-maxShownText+1:])
	}
	return path
}
