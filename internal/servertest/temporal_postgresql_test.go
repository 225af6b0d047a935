package servertest

import (
	"flag"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"
)

var postgres = flag.Bool("postgres", false, "start Temporal on PostgreSQL too, see make postgres")

func TestTemporalOnPostgreSQL_ComesBackAfterEitherIsKilled(t *testing.T) {
	if !*postgres {
		t.Skip("`make postgres` runs it")
	}
	server := TemporalOnPostgreSQL(t)
	connection, err := server.Dial(t.Context())
	require.NoError(t, err)
	t.Cleanup(connection.Close)
	run, err := connection.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{ID: "kept", TaskQueue: "nobody"}, "W")
	require.NoError(t, err)
	requireKept := func() {
		t.Helper()
		// The server opens a lost pool of connections anew at most once a second.
		require.Eventually(t, func() bool {
			description, err := connection.DescribeWorkflowExecution(t.Context(), "kept", "")
			return err == nil && description.GetWorkflowExecutionInfo().GetExecution().GetRunId() == run.GetRunID()
		}, patience, 100*time.Millisecond)
	}

	server.Kill()
	require.NoError(t, server.Start(t.Context()))
	requireKept()

	server.KillDatabase()
	require.NoError(t, server.RestartDatabase(t.Context()))
	requireKept()
}
