package activities

import (
	"testing"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/temporal"

	"registrar/internal/failure"
	"registrar/internal/gate"
)

func TestValidateMetrics_RefusesNamesThatMLflowWouldRefuse(t *testing.T) {
	for _, name := range []string{`bad\nname<`, `a//b`, `/x`, `./x`, `x/`, `x/.`, `a/../b`, `../x`, `..`, `..x`, `.`, `//x`} {
		t.Run(name, func(t *testing.T) {
			p := newProject(t)
			p.write("metrics.json", `{"roc_auc": 0.9, "`+name+`": 1}`)
			require.NoError(t, p.freeze())

			_, err := execute[ValidateMetricsResult](p, p.ValidateMetrics, ValidateMetricsInput{
				Project: p.frozen.Project, Rules: []gate.Rule{{Metric: "roc_auc", Min: 0.6}},
			})
			var failed *temporal.ApplicationError
			require.ErrorAs(t, err, &failed)
			require.Equal(t, failure.BadInput, failed.Type())
			require.ErrorContains(t, err, `metrics.json: metric name "`+name+`"`)
		})
	}
}

func TestIsMetricName_TakesPaths(t *testing.T) {
	for _, name := range []string{"roc_auc", "test/roc_auc", "a.b", "a..b", "a/..b", "a:b c", "ä"} {
		require.True(t, isMetricName(name), name)
	}
}

func TestValidateMetrics_WarnsOfAROCAUCInPercent(t *testing.T) {
	p := newProject(t)
	p.write("metrics.json", `{"roc_auc": 83}`)
	require.NoError(t, p.freeze())

	result, err := execute[ValidateMetricsResult](p, p.ValidateMetrics, ValidateMetricsInput{
		Project: p.frozen.Project, Rules: []gate.Rule{{Metric: "roc_auc", Min: 0.6}},
	})
	require.NoError(t, err)
	require.True(t, result.Decision.Passed)
	require.Len(t, result.Warnings, 1)
	require.Contains(t, result.Warnings[0], "is it in percent?")
}
