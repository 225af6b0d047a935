package workflows

import (
	"go.temporal.io/sdk/workflow"

	"registrar/activities"
	"registrar/internal/receipt"
)

// The metrics that workflows record, by the worker that happens to run them, and not in a replay. A metrics system adds its own suffixes.
const (
	// MetricEnded counts registrations that ended, by outcome.
	MetricEnded = "registrar_registrations_ended"
	// MetricWait is how long a registration waited for MLflow, by server and by the layer that did not answer last. It is recorded when the
	// wait ends, however it does.
	MetricWait = "registrar_wait_duration"
	// MetricFindings counts what audits found and did not repair, by kind.
	MetricFindings = "registrar_audit_findings"
)

func countEnded(ctx workflow.Context, outcome receipt.Outcome) {
	workflow.GetMetricsHandler(ctx).WithTags(map[string]string{"outcome": string(outcome)}).Counter(MetricEnded).Inc(1)
}

func countFindings(ctx workflow.Context, audited activities.AuditResult) {
	for _, finding := range audited.Findings {
		if finding.Fixed == "" {
			workflow.GetMetricsHandler(ctx).WithTags(map[string]string{"kind": finding.Kind}).Counter(MetricFindings).Inc(1)
		}
	}
}

// measure records how long a step waited, where it did. It is no deferred call: those are also made when a worker forgets an execution.
func (o *outage) measure(ctx workflow.Context) {
	if o.attempts == 0 {
		return
	}
	workflow.GetMetricsHandler(ctx).
		WithTags(map[string]string{"server": serverName(o.server.TrackingURI), "layer": o.layer}).
		Timer(MetricWait).Record(workflow.Now(ctx).Sub(o.since))
}
