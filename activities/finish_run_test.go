package activities

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"registrar/internal/mlflow"
)

func TestFinishRun_SparesARunThatHadDecidedOnlyWhereItIsTold(t *testing.T) {
	for name, c := range map[string]struct {
		decided, spare   bool
		status, decision string
	}{
		"decided":             {decided: true, spare: true, status: mlflow.RunFinished, decision: "1"},
		"undecided":           {spare: true, status: mlflow.RunKilled, decision: NoVersion},
		"decided, not told":   {decided: true, status: mlflow.RunKilled, decision: "1"},
		"undecided, not told": {status: mlflow.RunKilled},
	} {
		t.Run(name, func(t *testing.T) {
			p := newProject(t)
			m := p.registers(owner)
			if c.decided {
				p.decides(m)
			}
			p.ends(m, mlflow.RunFinished)
			in := FinishRunInput{Server: p.tracked(), RunID: m.run, Status: RunKilled, EndTime: time.Now(), SpareDecided: c.spare}

			for range 2 { // it may be repeated
				_, err := p.ExecuteActivity(p.FinishRun, in)
				require.NoError(t, err)
			}

			run := p.server.Runs()[0]
			require.Equal(t, c.status, run.Info.Status)
			require.Equal(t, c.decision, param(run.Data.Params, ParamVersion))
		})
	}
}
