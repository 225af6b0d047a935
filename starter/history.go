package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"registrar/activities"
	"registrar/internal/gate"
	"registrar/workflows"
)

// maxHistory is how many versions are told at most: what passes through Temporal is bounded.
const maxHistory = 1000

// comparedWith is how many further versions are read, for what the last one that is shown is compared with: the one before it may lack the metric.
const comparedWith = 10

// historyFlags are the flags of history.
type historyFlags struct {
	registerFlags
	model   string
	limit   int
	metric  string
	chart   string
	timeout time.Duration
}

func (s *starter) historyCommand() *cobra.Command {
	var f historyFlags
	command := &cobra.Command{
		Use:   "history [MODEL]",
		Short: "Tell the versions of a model: when, why and by whom",
		Long: `Lists the versions of a registered model, the newest first: when each was made, what it measured and how that differs from the version before,
what the gate decided, from which commit and by whom, and which stage and aliases it has. Without MODEL it is the project's own.

The worker reads it from MLflow as MLflow is now, since the worker has the credentials. A change is against the next older version that has the
metric. --chart draws the metric over the versions.`,
		Example: "  starter history\n  starter history --chart roc_auc.svg\n  starter history ACRAS_RandomForest_v1 --metric accuracy --output json",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(command *cobra.Command, args []string) error {
			if len(args) == 1 {
				if f.model = args[0]; strings.TrimSpace(f.model) == "" {
					return usageError{fmt.Errorf("the model's name is empty: leave it out for the project's own")}
				}
			}
			if err := f.check(); err != nil {
				return err
			}
			return s.history(command.Context(), f)
		},
	}
	flags := command.Flags()
	f.addProject(command)
	flags.IntVar(&f.limit, "limit", 50, fmt.Sprintf("at most this many versions, the newest ones, up to %d", maxHistory))
	flags.StringVar(&f.metric, "metric", "", "the metric that is shown (by default the one that the gate judges)")
	flags.StringVar(&f.chart, "chart", "", "draw the metric over the versions into this file, an .svg")
	flags.DurationVar(&f.timeout, "timeout", time.Minute, "give up after this long")
	return command
}

func (f historyFlags) check() error {
	switch {
	case f.limit < 1 || f.limit > maxHistory:
		return usageError{fmt.Errorf("--limit %d: want 1 to %d", f.limit, maxHistory)}
	case f.timeout <= 0:
		return usageError{fmt.Errorf("--timeout %s: want a positive duration", f.timeout)}
	case f.chart != "" && !strings.EqualFold(filepath.Ext(f.chart), ".svg"):
		return usageError{fmt.Errorf("--chart %s: want a file that ends in .svg; browsers and MLflow show it, and other formats are made from it", f.chart)}
	}
	return nil
}

func (s *starter) history(ctx context.Context, f historyFlags) error {
	p, err := openProject(f.registerFlags)
	if err != nil {
		return err
	}
	defer p.close()
	c, err := s.connect(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	if f.model == "" {
		f.model = p.settings.ModelName
	}
	var told activities.ModelHistoryResult
	err = s.inquire(ctx, c, inquiry{
		name: "history", id: workflows.ModelHistoryID(f.model, time.Now()), workflow: workflows.TypeModelHistory, timeout: f.timeout,
		summary: "the versions of " + f.model,
		input:   workflows.ModelHistoryInput{Root: p.root, Config: f.config, Params: f.params, ModelName: f.model, Limit: f.limit + comparedWith},
	}, &told)
	if err != nil {
		return err
	}
	h := newHistory(told, f.limit)
	if f.metric == "" {
		f.metric = activities.GateMetric(told.Versions)
	} else if err := h.has(f.metric); err != nil {
		return err
	}
	if f.chart != "" {
		drawn := activities.HistoryChart(told.ModelName, f.metric, told.Versions[:len(h.Versions)])
		if err := os.WriteFile(f.chart, drawn.SVG(), 0o666); err != nil { //nolint:gosec // a picture for everyone; the umask says for whom not
			return fmt.Errorf("write chart: %w", err)
		}
		fmt.Fprintf(s.stderr, "chart of %s: %s\n", printable(f.metric), f.chart)
	}
	if s.output == "json" {
		return s.printJSON(h)
	}
	return s.printHistory(h, f.metric)
}

// history is the versions of a model, the newest first.
type history struct {
	ModelName   string             `json:"model_name"`
	TrackingURI string             `json:"tracking_uri"`
	Versions    []versionInHistory `json:"versions"`
	// More tells that there are older ones.
	More bool `json:"more"`
}

// versionInHistory is a version, with its metrics as they compare with those before.
type versionInHistory struct {
	activities.HistoricVersion
	Metrics map[string]measured `json:"metrics"` // in place of the list
}

// measured is the value of a metric: a number, or "NaN" and the like.
type measured struct {
	Value json.RawMessage `json:"value"`
	// Change is against the next older version that has the metric; absent where none has.
	Change *float64 `json:"change,omitempty"`
}

func newHistory(told activities.ModelHistoryResult, limit int) history {
	h := history{ModelName: told.ModelName, TrackingURI: told.TrackingURI, Versions: []versionInHistory{}, More: told.More || len(told.Versions) > limit}
	for i, v := range told.Versions[:min(limit, len(told.Versions))] {
		row := versionInHistory{HistoricVersion: v, Metrics: map[string]measured{}}
		for _, m := range v.Metrics {
			row.Metrics[m.Name] = measured{Value: number(m), Change: change(told.Versions[i+1:], m)}
		}
		h.Versions = append(h.Versions, row)
	}
	return h
}

// has tells that a metric is a wrong one: versions are measured, and none by it.
func (h history) has(metric string) error {
	names := map[string]bool{}
	for _, v := range h.Versions {
		for name := range v.Metrics {
			names[name] = true
		}
	}
	if names[metric] || len(names) == 0 {
		return nil
	}
	return fmt.Errorf("--metric %s: no version that is told has it; there are %s", metric, strings.Join(slices.Sorted(maps.Keys(names)), ", "))
}

// number is a metric's value in JSON, as receipts and decisions have it.
func number(m gate.Metric) json.RawMessage {
	var written struct{ Value json.RawMessage }
	text, err := json.Marshal(m)
	if err == nil {
		err = json.Unmarshal(text, &written)
	}
	if err != nil {
		return json.RawMessage("null") // no name and no number makes either fail
	}
	return written.Value
}

func change(older []activities.HistoricVersion, m gate.Metric) *float64 {
	for _, v := range older {
		difference := m.Value - v.Metric(m.Name)
		if math.IsNaN(difference) || math.IsInf(difference, 0) {
			continue
		}
		// What is left of a subtraction in binary is no change: 0.82 less 0.79 is 0.03.
		if rounded, err := strconv.ParseFloat(strconv.FormatFloat(difference, 'g', 12, 64), 64); err == nil {
			difference = rounded
		}
		return &difference
	}
	return nil
}

func (s *starter) printHistory(h history, metric string) error {
	if len(h.Versions) == 0 {
		fmt.Fprintf(s.stderr, "%s has no versions\n", printable(h.ModelName))
		return nil
	}
	on := s.screenOf(s.stdout)
	t := table{columns: []column{
		{"VERSION", aNumber},
		{"MADE", aWord},
		{strings.ToUpper(printable(metric)), aNumber},
		{"CHANGE", aNumber},
		{"MIN", aNumber},
		{"GATE", aWord},
		{"STAGE, ALIASES", aPhrase},
		{"BY", aPhrase},
		{"COMMIT", aWord},
	}}
	for _, v := range h.Versions {
		value, difference := v.text(metric)
		verdict, colour := v.gate()
		t.add(cell{text: v.Version}, cell{text: on.time(v.CreatedAt)}, cell{text: value}, cell{difference, colourOfChange(difference)},
			cell{text: v.minimum(metric)}, cell{verdict, colour}, cell{v.holds(), bold}, cell{text: v.User}, cell{text: v.GitCommit[:min(8, len(v.GitCommit))]})
	}
	if err := t.write(s.stdout, on); err != nil {
		return err
	}
	if h.More {
		fmt.Fprintf(s.stderr, "older versions are left out: --limit shows more\n")
	}
	return nil
}

// text is a metric and its change, to four digits.
func (v versionInHistory) text(metric string) (value, difference string) {
	m, ok := v.Metrics[metric]
	if !ok {
		return "-", ""
	}
	n := v.Metric(metric)
	digits := byte('f')
	if size := math.Abs(n); size >= 1e5 || size < 1e-2 && size > 0 {
		digits = 'g'
	}
	value = strconv.FormatFloat(n, digits, 4, 64)
	if m.Change != nil {
		if difference = strconv.FormatFloat(*m.Change, digits, 4, 64); *m.Change >= 0 {
			difference = "+" + difference
		}
	}
	return value, difference
}

// gate says what the gate decided.
func (v versionInHistory) gate() (text, colour string) {
	switch {
	case v.Decision == nil && v.RegistrationKey == "":
		return "none", yellow // another tool made it
	case v.Decision == nil:
		return "-", ""
	case v.Decision.Passed:
		return "passed", green
	}
	return "refused", red
}

// minimum is the threshold that a metric had to meet; empty where there was none.
func (v versionInHistory) minimum(metric string) string {
	if v.Decision != nil {
		for _, verdict := range v.Decision.Rules {
			if verdict.Metric == metric {
				return verdict.MinText()
			}
		}
	}
	return ""
}

// holds are the stage and the aliases of a version.
func (v versionInHistory) holds() string {
	var held []string
	if v.Stage != "" {
		held = append(held, v.Stage)
	}
	for _, alias := range v.Aliases {
		held = append(held, "@"+alias)
	}
	return strings.Join(held, " ")
}

// colourOfChange marks what went down. Whether more is better depends on the metric, but for those of a gate, which all have a minimum.
func colourOfChange(difference string) string {
	if strings.HasPrefix(difference, "-") {
		return red
	}
	return ""
}
