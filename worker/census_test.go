package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.uber.org/zap"

	"registrar/internal/servertest"
	"registrar/workflows"
)

// shown starts a registration that nobody runs, and that stands so.
func shown(t *testing.T, c client.Client, state, server, layer string) (id string) {
	t.Helper()
	attribute := temporal.NewSearchAttributeKeyKeyword
	var updates []temporal.SearchAttributeUpdate
	for name, value := range map[string]string{workflows.AttributeState: state, workflows.AttributeServer: server, workflows.AttributeLayer: layer} {
		if value != "" {
			updates = append(updates, attribute(name).ValueSet(value))
		}
	}
	run, err := c.ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{
		TaskQueue: "nobody", TypedSearchAttributes: temporal.NewSearchAttributes(updates...),
	}, workflows.TypeRegisterModel, workflows.RegisterInput{})
	require.NoError(t, err)
	return run.GetID()
}

func TestCensus_TellsApartWhatRegistrationsWaitFor(t *testing.T) {
	server := servertest.Temporal(t)
	c, err := server.Dial(t.Context())
	require.NoError(t, err)
	t.Cleanup(c.Close)
	log := zap.NewNop()
	attributes := &searchAttributes{namespace: server.Namespace, log: log}
	require.Eventually(t, func() bool { // a start waits for them no longer than attributesWithin
		attributes.ensure(t.Context(), c)
		return attributes.present() && attributes.serverPresent()
	}, patience, time.Millisecond)
	counter := &census{log: log}
	require.Equal(t, 1, testutil.CollectAndCount(counter), "nobody is asked")
	counter.connect(c)
	require.NoError(t, testutil.CollectAndCompare(counter, strings.NewReader(`
# HELP registrar_registrations Registrations that have not ended, by state. Counted in the whole namespace by every worker that is asked: take max(), not sum().
# TYPE registrar_registrations gauge
registrar_registrations{state="blocked"} 0
registrar_registrations{state="pending_approval"} 0
registrar_registrations{state="running"} 0
registrar_registrations{state="waiting"} 0
`), "registrar_registrations"))

	began := time.Now()
	gone := shown(t, c, "waiting", "http://gone:5000", "tcp")
	for range 2 {
		shown(t, c, "waiting", "http://a:5000", "tcp")
	}
	shown(t, c, "waiting", "http://a:5000", "database")
	shown(t, c, "waiting", "https://b/mlflow", "dns")
	shown(t, c, "blocked", "https://b/mlflow", "auth")
	shown(t, c, "waiting", "https://c", "a layer that is new")
	shown(t, c, "waiting", "", "tls") // begun before the namespace had the attribute
	shown(t, c, "running", "https://b/mlflow", "")
	shown(t, c, "", "", "") // not taken up yet
	// One that was terminated shows what it waited for until it is forgotten.
	require.NoError(t, c.TerminateWorkflow(t.Context(), gone, "", "test"))

	want := `
# HELP registrar_registrations Registrations that have not ended, by state. Counted in the whole namespace by every worker that is asked: take max(), not sum().
# TYPE registrar_registrations gauge
registrar_registrations{state="blocked"} 1
registrar_registrations{state="pending_approval"} 0
registrar_registrations{state="running"} 2
registrar_registrations{state="waiting"} 6
# HELP registrar_registrations_waiting Registrations that wait for MLflow or are blocked (layer auth), by server and by the layer that does not answer. Counted in the whole namespace by every worker that is asked: take max(), not sum().
# TYPE registrar_registrations_waiting gauge
registrar_registrations_waiting{layer="",server=""} 1
registrar_registrations_waiting{layer="",server="https://c"} 1
registrar_registrations_waiting{layer="auth",server="https://b/mlflow"} 1
registrar_registrations_waiting{layer="database",server="http://a:5000"} 1
registrar_registrations_waiting{layer="dns",server="https://b/mlflow"} 1
registrar_registrations_waiting{layer="tcp",server="http://a:5000"} 2
`
	require.EventuallyWithT(t, func(now *assert.CollectT) {
		counter.connect(c) // forgets the last count
		assert.NoError(now, testutil.CollectAndCompare(counter, strings.NewReader(want), "registrar_registrations", "registrar_registrations_waiting"))
	}, patience, 200*time.Millisecond)
	oldest := counter.last.oldest
	require.LessOrEqual(t, oldest, time.Since(began))
	require.Greater(t, oldest, time.Since(began)/2-5*time.Second, fmt.Sprint(oldest))
	require.True(t, counter.last.complete)

	server.Kill()
	counter.connect(c)
	require.Equal(t, 1, testutil.CollectAndCount(counter), "a count that failed shows no old numbers")
	counter.mu.Lock()
	defer counter.mu.Unlock()
	require.False(t, counter.last.complete)
}
