package main

import (
	"fmt"
	"net/http"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"

	"registrar/internal/servertest"
	"registrar/workflows"
)

// Prometheus sees no increase in a series that begins with 1.
func TestMetrics_TheFirstRegistrationThatEndsIsCountedInASeriesThatWasThere(t *testing.T) {
	address, port := fmt.Sprintf("127.0.0.1:%d", freePort(t)), freePort(t)
	r := startWorker(t, append(temporalAt(port), "REGISTRAR_HTTP_LISTEN="+address))
	series := regexp.MustCompile(`(?m)^(registrar_(?:registrations_ended|audit_findings)_total\{.*\}) (\d+)$`)
	counts := func() map[string]string {
		_, body := get(t, address, pathMetrics)
		counts := map[string]string{}
		for _, match := range series.FindAllStringSubmatch(body, -1) {
			counts[match[1]] = match[2]
		}
		return counts
	}
	awaitAnswer(t, address, pathHealth, http.StatusOK, "ok")
	want := counts()
	for _, count := range want {
		require.Equal(t, "0", count)
	}

	server := servertest.Temporal(t, func(o *servertest.TemporalOptions) { o.Port = port })
	c, err := server.Dial(t.Context())
	require.NoError(t, err)
	t.Cleanup(c.Close)
	run, err := c.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{TaskQueue: workflows.TaskQueue}, workflows.TypeRegisterModel,
		workflows.RegisterInput{Root: t.TempDir()})
	require.NoError(t, err)
	require.ErrorContains(t, run.Get(t.Context(), nil), "--allow-root")

	failed := fmt.Sprintf(`registrar_registrations_ended_total{activity_type="none",client_name="temporal_go",namespace=%q,outcome="failed",`+
		`task_queue=%q,worker_type="none",workflow_type="RegisterModel"}`, server.Namespace, workflows.TaskQueue)
	require.Contains(t, want, failed)
	want[failed] = "1"
	require.Equal(t, want, counts())
	require.Zero(t, r.stop())
}
