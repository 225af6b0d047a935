package activities

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestLogRun_DoubtsWhereItIsNotTheFirst(t *testing.T) {
	for name, first := range map[string]bool{"the first": true, "after a wait, which ended an activity whose first attempt got no answer": false} {
		t.Run(name, func(t *testing.T) {
			p := newProject(t)
			require.NoError(t, p.freeze())

			result, err := execute[LogRunResult](p, p.LogRun, LogRunInput{
				Server: p.tracked(), Project: p.frozen.Project, Owner: p.owner(), Settings: RunSettings{ModelName: "credit", ExperimentName: "Default"}, First: first,
			})

			require.NoError(t, err)
			require.Equal(t, !first, result.Doubtful)
			require.Len(t, p.server.Runs(), 1)
		})
	}
}
