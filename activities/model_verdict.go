package activities

import (
	"context"
	"fmt"
	"io"

	"registrar/config"
	"registrar/internal/gate"
	"registrar/internal/modelfile"
	"registrar/internal/snapshot"
)

// shownReasons bounds what a decision carries of a file; `starter inspect` prints all. maxExtraReasons bounds all extra files together.
const (
	shownReasons    = 10
	maxExtraReasons = 50
)

// PicklePolicy is what the project asks of the files that a consumer loads; least is what the worker asks as well, nil for nothing.
func PicklePolicy(s config.Settings, least *modelfile.Policy) modelfile.Policy {
	return modelfile.Policy{Mode: s.PicklePolicy, Allowed: s.AllowedGlobals, Minimum: least}
}

// ModelVerdict is how a decision says what became of the model file under a policy; nil where nobody judged it.
func ModelVerdict(info modelfile.Info, policy modelfile.Policy) *gate.Model {
	if info.Verdict == "" {
		return nil
	}
	info = policy.Judge(info)
	verdict := &gate.Model{Policy: policy.Strictest(), Verdict: string(info.Verdict), Reasons: reasonLines(info.Reasons, shownReasons)}
	if policy.Minimum != nil {
		verdict.MinPolicy = policy.Minimum.Mode
	}
	return verdict
}

// AddExtraFile reads an extra file, and adds the verdict on it where a consumer would load it as it loads the model.
func AddExtraFile(ctx context.Context, verdict *gate.Model, file io.Reader, entry snapshot.Entry, policy modelfile.Policy) error {
	info, loads, err := modelfile.InspectExtra(ctx, file, entry.Path)
	if err != nil {
		return err
	}
	if !loads {
		return nil
	}
	info = policy.Judge(info)
	room := maxExtraReasons
	for _, extra := range verdict.ExtraFiles {
		room -= len(extra.Reasons)
	}
	verdict.ExtraFiles = append(verdict.ExtraFiles, gate.ExtraFile{
		Path: entry.Path, Verdict: string(info.Verdict), Reasons: reasonLines(info.Reasons, max(1, min(room, shownReasons))),
	})
	return nil
}

// reasonLines gives the first few reasons, a line each.
func reasonLines(reasons []modelfile.Reason, most int) []string {
	var lines []string
	for i, reason := range reasons {
		if i == most {
			return append(lines, fmt.Sprintf("and %d more, which starter inspect prints", len(reasons)-i))
		}
		lines = append(lines, reason.String())
	}
	return lines
}
