package activities

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"registrar/internal/gate"
	"registrar/internal/snapshot"
)

// described is a registration with a number of extra files, of which each has been judged with a number of reasons.
func described(files, reasons int, text string) (RegisterVersionInput, snapshot.Request) {
	model := &gate.Model{Policy: "off", Verdict: "allowed"}
	for i := range 11 {
		model.Reasons = append(model.Reasons, fmt.Sprintf("reason %d of the model %s", i, text))
	}
	request := snapshot.Request{
		Model:     snapshot.Entry{Path: "model.joblib", SHA256: strings.Repeat("a", 64)},
		Metrics:   snapshot.Entry{Path: "metrics.json", SHA256: strings.Repeat("b", 64)},
		GitCommit: strings.Repeat("c", 40),
	}
	for i := range files {
		entry := snapshot.Entry{Path: fmt.Sprintf("extra_%d.pkl", i), SHA256: strings.Repeat("d", 64)}
		request.ExtraFiles = append(request.ExtraFiles, entry)
		extra := gate.ExtraFile{Path: entry.Path, Verdict: "allowed"}
		for j := range reasons {
			extra.Reasons = append(extra.Reasons, fmt.Sprintf("reason %d of an extra file %s", j, text))
		}
		model.ExtraFiles = append(model.ExtraFiles, extra)
	}
	in := RegisterVersionInput{ModelName: "credit", WorkflowURL: "https://temporal.example.com/" + strings.Repeat("x", 200)}
	in.Decision = gate.Decision{
		Passed: true, Model: model, Rules: []gate.Verdict{{Metric: "roc_auc", Observed: json.RawMessage("0.83"), Passed: true}},
	}
	in.Model.Unpinned = []string{"numpy", "scipy"}
	return in, request
}

func TestVersionDescription_FitsIntoMLflowsColumn(t *testing.T) {
	for name, c := range map[string]struct {
		files, reasons int
		text           string
	}{
		"many extra files":                   {1000, 0, ""},
		"many reasons":                       {5, 11, strings.Repeat("x", 200)},
		"many extra files with many reasons": {1000, 11, strings.Repeat("x", 200)},
		"in characters of four bytes":        {100, 1, strings.Repeat("𝔵", 100)},
		"reasons without end":                {10, 11, strings.Repeat("x", 100_000)},
	} {
		t.Run(name, func(t *testing.T) {
			in, request := described(c.files, c.reasons, c.text)

			description := versionDescription(in, request)

			length := utf8.RuneCountInString(description)
			require.LessOrEqual(t, length, 5000)
			for _, kept := range []string{
				"**credit** met all rules", "| roc_auc |", "reason 0 of the model", "reason 10 of the model", "`model.joblib`: `aaaa", "`metrics.json`: `bbbb",
				"Git commit `cccc", "numpy, scipy", in.WorkflowURL + ")\n",
			} {
				require.Contains(t, description, kept)
			}
			shown := strings.Count(description, ".pkl`: `dddd")
			if more := c.files - shown; more > 0 {
				require.Contains(t, description, fmt.Sprintf("- and %d more extra files, which request.json lists\n", more))
				require.Greater(t, length, 4800, "no more is cut than must be")
			}
			judged := strings.Count(description, "The extra file `")
			if c.reasons > 0 {
				require.Less(t, judged, c.files)
				require.Contains(t, description, fmt.Sprintf("Something speaks against %d more extra files: decision.json says what.\n", c.files-judged))
			}
			require.Equal(t, c.files, len(in.Decision.Model.ExtraFiles), "what was decided stays as it is")
			note := runNote(LogRunInput{Settings: RunSettings{ModelName: "credit"}, Decision: in.Decision, WorkflowURL: in.WorkflowURL}, request)
			require.LessOrEqual(t, utf8.RuneCountInString(note), 5000)
		})
	}
}

func TestVersionDescription_SaysAllWhereThereIsRoom(t *testing.T) {
	in, request := described(10, 1, "")

	description := versionDescription(in, request)

	require.NotContains(t, description, " more ")
	require.Equal(t, 10, strings.Count(description, ".pkl`: `dddd"))
	require.Equal(t, 10, strings.Count(description, "The extra file `"))
}
