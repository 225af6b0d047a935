package main

import (
	"bytes"
	"encoding/json"
	"io"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"registrar/activities"
	"registrar/internal/gate"
)

// measuredAs is a version with a ROC-AUC; NaN for a version of another tool that has none.
func measuredAs(version string, value float64) activities.HistoricVersion {
	v := activities.HistoricVersion{Version: version, CreatedAt: time.Date(2026, 11, 25, 1, 2, 3, 0, time.UTC)}
	if math.IsNaN(value) {
		return v
	}
	v.Metrics = []gate.Metric{{Name: "roc_auc", Value: value}, {Name: "loss", Value: math.Inf(1)}}
	v.Decision, v.RegistrationKey, v.User, v.GitCommit = &passed, "key", "ada", "0123456789abcdef"
	return v
}

var toldVersions = activities.ModelHistoryResult{ModelName: "credit", Versions: []activities.HistoricVersion{
	measuredAs("5", 0.82), measuredAs("4", math.NaN()), measuredAs("3", 0.79), measuredAs("2", 0.8), measuredAs("1", 0.7),
}}

func TestHistory_ComparesWithTheNextOlderVersionThatHasTheMetric(t *testing.T) {
	h := newHistory(toldVersions, 4)

	require.True(t, h.More)
	require.Len(t, h.Versions, 4)
	for i, want := range []float64{0.03, 0, -0.01, 0.1} {
		if i == 1 {
			require.Empty(t, h.Versions[i].Metrics)
			continue
		}
		require.InDelta(t, want, *h.Versions[i].Metrics["roc_auc"].Change, 0, "to the last bit: what is left of binary fractions is no change")
		require.Nil(t, h.Versions[i].Metrics["loss"].Change, "there is none between infinities")
	}
	require.Nil(t, newHistory(toldVersions, 5).Versions[4].Metrics["roc_auc"].Change)
	require.False(t, newHistory(toldVersions, 5).More)
	text, err := json.Marshal(h.Versions[0])
	require.NoError(t, err)
	require.Contains(t, string(text), `"metrics":{"loss":{"value":"Infinity"},"roc_auc":{"value":0.82,"change":0.03}}`)
}

func TestHistory_FitsTheTerminal(t *testing.T) {
	for columns, heading := range map[uint16]string{
		40:  "VERSION  MADE          ROC_AUC   CHANGE\n",
		80:  "VERSION  MADE          ROC_AUC   CHANGE   MIN  GATE    BY   COMMIT\n",
		200: "VERSION  MADE                 ROC_AUC   CHANGE   MIN  GATE    BY   COMMIT\n",
	} {
		term := newTerminal(t, columns)
		s := newStarter([]string{"TERM=xterm", "NO_COLOR=1"}, term.file, io.Discard)
		require.NoError(t, s.printHistory(newHistory(toldVersions, 5), "roc_auc"))
		shown := term.all()
		requireNarrow(t, int(columns), shown)
		require.Contains(t, shown, heading, "what is empty, and what there is no room for, is left out")
	}
}

func TestHistory_HasEveryColumnInAPipe(t *testing.T) {
	var stdout, stderr bytes.Buffer
	s := newStarter(nil, &stdout, &stderr)
	require.NoError(t, s.printHistory(newHistory(toldVersions, 3), "roc_auc"))
	require.Regexp(t, `^VERSION  MADE +ROC_AUC   CHANGE   MIN  GATE    STAGE, ALIASES  BY   COMMIT
      5  2026-11-25 \d\d:02:03   0\.8200  \+0\.0300  0\.60  passed                  ada  01234567
      4  2026-11-25 \d\d:02:03        -                 none
      3  2026-11-25 \d\d:02:03   0\.7900  -0\.0100  0\.60  passed                  ada  01234567
$`, stdout.String())
	require.Contains(t, stderr.String(), "--limit shows more")
}

func TestHistory_AMetricThatNoVersionHasIsNamed(t *testing.T) {
	h := newHistory(toldVersions, 5)
	require.NoError(t, h.has("roc_auc"))
	require.EqualError(t, h.has("roc"), "--metric roc: no version that is told has it; there are loss, roc_auc")
	require.NoError(t, newHistory(activities.ModelHistoryResult{}, 5).has("roc_auc"), "nothing is measured at all")
}
