package e2e

import (
	"fmt"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"

	"registrar/activities"
	"registrar/internal/receipt"
	"registrar/workflows"
)

// How many signals make the two workflows of which there is one for all continue as new.
const (
	tooManyJoins      = 2000
	tooManyPromotions = 500
)

func recordAdoptedRun(r *recording) {
	held := newGate(r.t)
	r.gateway.next("runs/log-batch", fault{before: held.wait, cutBefore: true})
	r.killedAt(held, "adopted_run")
}

func recordAdoptedLoggedModel(r *recording) {
	r.killedAt(r.gateway.holdUpload(), "adopted_logged_model")
}

// killedAt kills the worker when its request has come to the gate: another one adopts what the first one made.
func (r *recording) killedAt(held *gate, path string) {
	r.t.Helper()
	first := r.startWorker()
	registering := r.register("--wait", "none").receipt
	held.await(r.t)
	first.Kill()
	held.open()
	r.startWorker()
	r.requireOutcome(receipt.Registered, r.result(registering.WorkflowID))
	registryAt(r.t, r.mlflowURI).requireServed(registering.RegistrationKey)
	r.save(path, registering.WorkflowID)
}

// recordAvailabilityContinued has one waiter ask so often that the one who waits for MLflow continues as new in the outage.
func recordAvailabilityContinued(r *recording) {
	r.gateway.close()
	waiter := activities.Waiter{WorkflowID: "register/gone", Nonce: "1"}
	id := workflows.AvailabilityID(r.gateway.URI, r.taskQueue())
	full := r.start(id, workflows.TypeMLflowAvailability, workflows.AvailabilityInput{
		Server: r.server(), Interval: time.Second, Waiters: []activities.Waiter{waiter},
	})
	first := r.startWorker()
	r.awaitEvent(id, full, enums.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED)
	first.Stop()
	for range tooManyJoins {
		require.NoError(r.t, r.client.SignalWorkflow(r.t.Context(), id, "", workflows.SignalJoin, waiter))
	}
	r.startWorker()
	r.awaitEvent(id, full, enums.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW)
	r.saveRun("availability_full", id, full)
	r.gateway.open()
	r.save("availability_continued", id)
}

// recordPromotionContinued asks for more promotions than one execution takes. The one after it is stopped early: it would answer
// each of those who ask, who are gone.
func recordPromotionContinued(r *recording) {
	r.gateway.close()
	id := workflows.PromotionID(r.project.modelName, r.gateway.URI, "")
	full := r.start(id, workflows.TypePromoteVersions, workflows.PromoteVersionsInput{ModelName: r.project.modelName, Settle: settleTime})
	for n := range tooManyPromotions {
		request := workflows.PromotionRequest{
			Promote:    activities.PromoteVersionInput{Server: r.server(), ModelName: r.project.modelName, Version: fmt.Sprint(n + 1)},
			WorkflowID: "register/gone", Nonce: "1",
		}
		require.NoError(r.t, r.client.SignalWorkflow(r.t.Context(), id, "", workflows.SignalPromote, request))
	}
	r.startWorker()
	r.awaitEvent(id, full, enums.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW)
	r.saveRun("promotion_full", id, full)
	continued := r.runID(id)
	r.awaitEvent(id, continued, enums.EVENT_TYPE_SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_FAILED)
	require.NoError(r.t, r.client.TerminateWorkflow(r.t.Context(), id, continued, "recording"))
	r.save("promotion_continued", id)
}

func (r *recording) server() activities.Server {
	return activities.Server{TrackingURI: r.gateway.URI, Root: r.project.root}
}

func (r *recording) start(id, workflowType string, input any) (runID string) {
	r.t.Helper()
	options := client.StartWorkflowOptions{ID: id, TaskQueue: r.taskQueue()}
	run, err := r.client.ExecuteWorkflow(r.t.Context(), options, workflowType, input)
	require.NoError(r.t, err)
	return run.GetRunID()
}

func (r *recording) awaitEvent(workflowID, runID string, want enums.EventType) {
	r.t.Helper()
	eventually(r.t, func() bool {
		for _, event := range r.history(workflowID, runID).GetEvents() {
			if event.GetEventType() == want {
				return true
			}
		}
		return false
	}, "%s in %s", want, workflowID)
}
