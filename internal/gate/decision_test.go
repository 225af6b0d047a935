package gate_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"registrar/internal/gate"
)

// atLeast is the rule of the pipeline.
var atLeast = []gate.Rule{{Metric: "roc_auc", Min: 0.60}}

func requireSurvivesJSON(t *testing.T, decision gate.Decision) {
	t.Helper()
	payload, err := json.Marshal(decision)
	require.NoError(t, err)
	var travelled gate.Decision
	require.NoError(t, json.Unmarshal(payload, &travelled))
	want, err := decision.JSON()
	require.NoError(t, err)
	got, err := travelled.JSON()
	require.NoError(t, err)
	require.Equal(t, string(want), string(got))
	require.NoError(t, json.Unmarshal(want, new(any)), "every reader of JSON must be able to read it")
}

func TestDecide_JudgesEveryKindOfValue(t *testing.T) {
	digits := "0.8" + strings.Repeat("3", 100)
	for _, c := range []struct {
		name, metrics, observed string
		passed                  bool
		summary                 string
	}{
		{"above", `{"roc_auc": 0.83}`, "0.83", true, "roc_auc 0.83 >= 0.60: passed"},
		{"equal", `{"roc_auc": 0.60}`, "0.60", true, "roc_auc 0.60 >= 0.60: passed"},
		{"equal, written otherwise", `{"roc_auc": 6e-1}`, "6e-1", true, "roc_auc 6e-1 >= 0.60: passed"},
		{"integer", `{"roc_auc": 1}`, "1", true, "roc_auc 1 >= 0.60: passed"},
		{"more digits than a float has", `{"roc_auc": ` + digits + `}`, "0.8333333333333334", true, "roc_auc 0.8333333333333334 >= 0.60: passed"},
		{"just below", `{"roc_auc": 0.5999999999999999}`, "0.5999999999999999", false, "roc_auc 0.5999999999999999 >= 0.60: rejected (below the minimum)"},
		{"negative", `{"roc_auc": -0.9}`, "-0.9", false, "roc_auc -0.9 >= 0.60: rejected (below the minimum)"},
		{"NaN", `{"roc_auc": NaN}`, `"NaN"`, false, "roc_auc NaN >= 0.60: rejected (not a finite number)"},
		{"Infinity", `{"roc_auc": Infinity}`, `"Infinity"`, false, "roc_auc Infinity >= 0.60: rejected (not a finite number)"},
		{"-Infinity", `{"roc_auc": -Infinity}`, `"-Infinity"`, false, "roc_auc -Infinity >= 0.60: rejected (not a finite number)"},
		{"beyond a float", `{"roc_auc": 1e400}`, `"Infinity"`, false, "roc_auc Infinity >= 0.60: rejected (not a finite number)"},
		{"string", `{"roc_auc": "0.9"}`, `"0.9"`, false, `roc_auc "0.9" >= 0.60: rejected (the string is not a number)`},
		{"true", `{"roc_auc": true}`, "true", false, "roc_auc true >= 0.60: rejected (the boolean is not a number)"},
		{"null", `{"roc_auc": null}`, "null", false, "roc_auc null >= 0.60: rejected (null is not a number)"},
		{"nested object", `{"roc_auc": {"mean": 0.9}}`, "", false, "roc_auc - >= 0.60: rejected (the object is not a number)"},
		{"list", `{"roc_auc": [0.9]}`, "", false, "roc_auc - >= 0.60: rejected (the array is not a number)"},
		{"missing", `{"accuracy": 0.9, "f1_score": 0.8}`, "", false, "roc_auc - >= 0.60: rejected (missing, the metrics are: accuracy, f1_score)"},
		{"other case", `{"ROC_AUC": 0.9}`, "", false, "roc_auc - >= 0.60: rejected (missing, the metrics are: ROC_AUC)"},
		{"no metrics", `{}`, "", false, "roc_auc - >= 0.60: rejected (missing, the metrics are: none)"},
		{"others do not count", `{"accuracy": NaN, "roc_auc": 0.7}`, "0.7", true, "roc_auc 0.7 >= 0.60: passed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			decision := gate.Decide(atLeast, parse(t, c.metrics))
			require.Len(t, decision.Rules, 1)
			require.Equal(t, c.passed, decision.Passed)
			require.Equal(t, c.passed, decision.Rules[0].Passed)
			require.Equal(t, c.observed, string(decision.Rules[0].Observed))
			require.Equal(t, c.summary, decision.Summary())
			requireSurvivesJSON(t, decision)
		})
	}
}

func TestDecide_PassesOnlyWhereEveryRuleDoes(t *testing.T) {
	metrics := parse(t, `{"roc_auc": 0.83, "recall": 0.4}`)
	rules := []gate.Rule{{Metric: "roc_auc", Min: 0.6}, {Metric: "recall", Min: 0.5}}
	decision := gate.Decide(rules, metrics)
	require.False(t, decision.Passed)
	require.Equal(t, "roc_auc 0.83 >= 0.60: passed; recall 0.4 >= 0.50: rejected (below the minimum)", decision.Summary())

	rules[1].Min = 0.4
	require.True(t, gate.Decide(rules, metrics).Passed)
}

func TestDecide_PassesNothingWithoutRules(t *testing.T) {
	decision := gate.Decide(nil, parse(t, `{"roc_auc": 0.83}`))
	require.False(t, decision.Passed)
	require.Equal(t, "no rules: rejected", decision.Summary())
	data, err := decision.JSON()
	require.NoError(t, err)
	require.Equal(t, "{\n  \"passed\": false,\n  \"rules\": []\n}\n", string(data))
}

func TestDecisionJSON_IsTheFileOfTheDesign(t *testing.T) {
	passed, err := gate.Decide(atLeast, parse(t, `{"accuracy": 0.9, "roc_auc": 0.83}`)).JSON()
	require.NoError(t, err)
	require.JSONEq(t, `{"passed": true, "rules": [{"metric": "roc_auc", "min": 0.6, "observed": 0.83, "passed": true}]}`, string(passed))
	golden, err := os.ReadFile(filepath.Join("testdata", "decision.json"))
	require.NoError(t, err)
	require.Equal(t, string(golden), string(passed))
}

func TestDecision_StaysSmallWhateverTheMetricsHold(t *testing.T) {
	long := strings.Repeat("é", 100_000)
	var many strings.Builder
	for i := range 1000 {
		many.WriteString(`"` + strings.Repeat("n", 500+i) + `": 1, `)
	}
	for _, metrics := range []string{`{"roc_auc": "` + long + `"}`, "{" + many.String() + `"x": 1}`} {
		decision := gate.Decide(atLeast, parse(t, metrics))
		require.False(t, decision.Passed)
		data, err := decision.JSON()
		require.NoError(t, err)
		require.Less(t, len(data), 2000)
		requireSurvivesJSON(t, decision)
	}
}

func TestDecision_RefusedModelOutweighsItsMetrics(t *testing.T) {
	good := gate.Decision{Passed: true, Rules: []gate.Verdict{{Metric: "roc_auc", Min: 0.6, Observed: json.RawMessage("0.83"), Passed: true}}}
	require.True(t, good.WithModel(nil).Passed)
	require.True(t, good.WithModel(&gate.Model{Policy: "strict", Verdict: "allowed"}).Passed)
	require.NotContains(t, good.WithModel(&gate.Model{Policy: "strict", Verdict: "allowed"}).Markdown(), "model file")

	refused := good.WithModel(&gate.Model{Policy: "strict", Verdict: "refused", Reasons: []string{"os.system: it executes", "a|b"}})
	require.False(t, refused.Passed)
	require.Equal(t, "roc_auc 0.83 >= 0.60: passed; model file refused (os.system: it executes; 1 more)", refused.Summary())
	require.Contains(t, refused.Markdown(), "The model file is **refused** by the policy `strict`:\n\n- os.system: it executes\n- a\\|b\n")
	requireSurvivesJSON(t, refused)
}

func TestDecision_RefusedExtraFileOutweighsAnAllowedModel(t *testing.T) {
	good := gate.Decision{Passed: true, Rules: []gate.Verdict{{Metric: "roc_auc", Min: 0.6, Observed: json.RawMessage("0.83"), Passed: true}}}
	allowed := gate.Model{Policy: "strict", Verdict: "allowed", ExtraFiles: []gate.ExtraFile{{Path: "pre.pkl", Verdict: "allowed"}}}
	require.True(t, good.WithModel(&allowed).Passed)
	require.Equal(t, "roc_auc 0.83 >= 0.60: passed", good.WithModel(&allowed).Summary())

	refused := allowed
	refused.ExtraFiles = append(refused.ExtraFiles, gate.ExtraFile{Path: "out|put/enc.pkl", Verdict: "refused", Reasons: []string{"os.system: it executes", "more"}})
	decision := good.WithModel(&refused)
	require.False(t, decision.Passed)
	require.Equal(t, "roc_auc 0.83 >= 0.60: passed; extra file out|put/enc.pkl refused (os.system: it executes; 1 more)", decision.Summary())
	require.Contains(t, decision.Markdown(), "The extra file `out\\|put/enc.pkl` is **refused** by the policy `strict`:\n\n- os.system: it executes\n- more\n")
	require.NotContains(t, decision.Markdown(), "pre.pkl")
	requireSurvivesJSON(t, decision)
}
