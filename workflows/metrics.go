package workflows

import (
	"go.temporal.io/sdk/client"
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

	tagOutcome = "outcome"
	tagKind    = "kind"
)

func countEnded(ctx workflow.Context, outcome receipt.Outcome) {
	workflow.GetMetricsHandler(ctx).WithTags(map[string]string{tagOutcome: string(outcome)}).Counter(MetricEnded).Inc(1)
}

func countFindings(ctx workflow.Context, audited activities.AuditResult) {
	for _, finding := range audited.Findings {
		if finding.Fixed == "" {
			workflow.GetMetricsHandler(ctx).WithTags(map[string]string{tagKind: finding.Kind}).Counter(MetricFindings).Inc(1)
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

// What MetricEnded and MetricFindings are counted by.
var (
	countedOutcomes = []receipt.Outcome{receipt.Registered, receipt.AlreadyRegistered, receipt.Rejected, receipt.Canceled, receipt.Failed}
	countedFindings = []string{
		activities.FindingTwin, activities.FindingUnfinished, activities.FindingNoFiles, activities.FindingRunning,
		activities.FindingPending, activities.FindingUnversioned, activities.FindingStageOff, activities.FindingUngatedVersion,
	}
)

// CountFromZero makes the series of MetricEnded and MetricFindings, at 0: in one that begins with 1 Prometheus sees no increase. It is called by a worker
// before it works, not by workflows. It takes the handler, the namespace and the task queue that the worker's client and the worker are made with.
func CountFromZero(handler client.MetricsHandler, namespace, taskQueue string) {
	// As the SDK has them on workflow.GetMetricsHandler, or these were other series: RootTags, TaskQueueTags and WorkflowTags, which are not exported, in
	// its internal/common/metrics/tags.go.
	handler = handler.WithTags(map[string]string{
		"namespace": namespace, "client_name": "temporal_go", "worker_type": "none", "activity_type": "none", "task_queue": taskQueue,
	})
	ended := handler.WithTags(map[string]string{"workflow_type": TypeRegisterModel})
	for _, outcome := range countedOutcomes {
		ended.WithTags(map[string]string{tagOutcome: string(outcome)}).Counter(MetricEnded).Inc(0)
	}
	found := handler.WithTags(map[string]string{"workflow_type": TypeAuditRegistry})
	for _, kind := range countedFindings {
		found.WithTags(map[string]string{tagKind: kind}).Counter(MetricFindings).Inc(0)
	}
}
