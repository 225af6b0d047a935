package e2e

import (
	"bytes"
	"encoding/json"
	"flag"
	"net/http"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/temporalproto"
	"go.temporal.io/sdk/client"
	"google.golang.org/protobuf/reflect/protoreflect"

	"registrar/internal/receipt"
	"registrar/internal/servertest"
	"registrar/workflows"
)

var record = flag.Bool("record", false, "record the histories that the replay tests of package workflows replay")

// TestRecordHistories makes each path of the workflows happen on real servers, and saves what the server then has of it.
func TestRecordHistories(t *testing.T) {
	if !*record {
		t.Skip("records only with -record: `make histories`")
	}
	addSearchAttributes(t)
	paths := map[string]func(*recording){
		"passed":                      recordPassed,
		"rejected":                    recordRejected,
		"failed":                      recordFailed,
		"by_hand":                     recordByHand,
		"outage_at_start":             recordOutageAtStart,
		"outage_during_upload":        recordOutageDuringUpload,
		"rechecked":                   recordRechecked,
		"blocked":                     recordBlocked,
		"canceled_while_waiting":      recordCanceledWhileWaiting,
		"canceled_while_uploading":    recordCanceledWhileUploading,
		"canceled_as_upload_ends":     recordCanceledAsUploadEnds,
		"canceled_too_late":           recordCanceledTooLate,
		"version_found":               recordVersionFound,
		"version_condemned":           recordVersionCondemned,
		"decided_then_terminated":     recordDecidedThenTerminated,
		"uploaded_then_terminated":    recordUploadedThenTerminated,
		"promotion_lost":              recordPromotionLost,
		"gave_up_waiting":             recordGaveUpWaiting,
		"canceled_in_outage":          recordCanceledInOutage,
		"deleted_meanwhile":           recordDeletedMeanwhile,
		"version_deleted":             recordVersionDeleted,
		"in_workspace":                recordInWorkspace,
		"without_logged_models":       recordWithoutLoggedModels,
		"canceled_while_blocked":      recordCanceledWhileBlocked,
		"canceled_too_late_in_outage": recordCanceledTooLateInOutage,
		"adopted_run":                 recordAdoptedRun,
		"adopted_logged_model":        recordAdoptedLoggedModel,
		"availability_continued":      recordAvailabilityContinued,
		"promotion_continued":         recordPromotionContinued,
	}
	for step := range outagesAtStep {
		paths["outage_at_"+snake(step)] = recordOutageAt(step)
	}
	for step := range cancellationsAtStep {
		paths["canceled_at_"+snake(step)] = recordCanceledAt(step)
	}
	for name, happen := range paths {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			gateway := newGateway(t, mlflowServer(t).URI)
			s := newSite(t, projectIn(t, t.TempDir(), name), temporalServer(t).HostPort, gateway.URI)
			happen(&recording{site: s, gateway: gateway, client: s.dial()})
		})
	}
}

// addSearchAttributes lets a worker add the search attributes before others reckon with them.
func addSearchAttributes(t *testing.T) {
	t.Helper()
	worker := sharedSite(t).startWorker()
	eventually(t, func() bool { return strings.Contains(worker.Logs(), "worker is ready") }, "the worker starts")
	worker.Stop()
}

func recordPassed(r *recording) {
	r.startWorker()
	first := r.register().receipt
	r.requireOutcome(receipt.Registered, first)
	r.save("passed", first.WorkflowID)
	r.save("promotion", workflows.PromotionID(first.ModelName, first.TrackingURI, ""))

	again := r.register().receipt
	r.requireOutcome(receipt.AlreadyRegistered, again)
	r.save("already_registered", again.WorkflowID)

	forced := r.register("--force=rollout-7").receipt
	r.requireOutcome(receipt.Registered, forced)
	r.save("forced", forced.WorkflowID)
}

func recordRejected(r *recording) {
	r.project.demand(r.t, "0.99")
	r.startWorker()
	a := r.register()
	r.requireOutcome(receipt.Rejected, a.receipt)
	r.save("rejected", a.receipt.WorkflowID)
}

// recordFailed starts without the starter, which refuses at once what is no model.
func recordFailed(r *recording) {
	r.project.write(r.t, modelFile, "this is no model")
	r.startWorker()
	ended := r.startByHand("failed", map[string]any{"root": r.project.root})
	r.requireOutcome(receipt.Failed, ended)
	r.save("failed", ended.WorkflowID)
}

func recordByHand(r *recording) {
	r.startWorker()
	ended := r.startByHand("by-hand", map[string]any{"root": r.project.root})
	r.requireOutcome(receipt.Registered, ended)
	r.save("by_hand", ended.WorkflowID)
}

func recordOutageAtStart(r *recording) {
	r.gateway.close()
	id := r.waiting()
	r.gateway.open()
	r.requireOutcome(receipt.Registered, r.result(id))
	r.save("outage_at_start", id)
	r.save("availability", workflows.AvailabilityID(r.gateway.URI, r.taskQueue()))
}

func recordOutageDuringUpload(r *recording) {
	gate := r.gateway.holdUpload()
	r.startWorker()
	id := r.register("--wait", "none").receipt.WorkflowID
	gate.await(r.t)
	r.gateway.close()
	gate.open()
	r.awaitState(id, receipt.Waiting)
	r.gateway.open()
	r.requireOutcome(receipt.Registered, r.result(id))
	r.save("outage_during_upload", id)
}

func recordRechecked(r *recording) {
	r.project.edit(r.t, paramsFile, "probe_interval: 1s", "probe_interval: 1h")
	r.gateway.close()
	id := r.waiting()
	r.gateway.open()
	require.Zero(r.t, r.starter("recheck", id).code)
	r.requireOutcome(receipt.Registered, r.result(id))
	r.save("rechecked", id)
}

func recordBlocked(r *recording) {
	r.gateway.next("runs/create", fault{status: 401})
	r.startWorker()
	a := r.register()
	require.Equal(r.t, receipt.Blocked, a.receipt.State)
	r.requireOutcome(receipt.Registered, r.result(a.receipt.WorkflowID))
	r.save("blocked", a.receipt.WorkflowID)
}

func recordCanceledWhileWaiting(r *recording) {
	r.gateway.close()
	id := r.waiting()
	r.requireOutcome(receipt.Canceled, r.starter("cancel", id).receipt)
	r.save("canceled_while_waiting", id)
}

func recordCanceledWhileUploading(r *recording) {
	gate := r.gateway.holdUpload()
	r.startWorker()
	id := r.register("--wait", "none").receipt.WorkflowID
	gate.await(r.t)
	r.requireOutcome(receipt.Canceled, r.starter("cancel", id).receipt)
	gate.open()
	r.save("canceled_while_uploading", id)
	r.save("sweep", workflows.SweepID(id, r.runID(id)))
}

func recordCanceledTooLate(r *recording) {
	gate := r.gateway.hold("model-versions/create")
	r.startWorker()
	id := r.register("--wait", "none").receipt.WorkflowID
	gate.await(r.t)
	require.NoError(r.t, r.client.CancelWorkflow(r.t.Context(), id, ""))
	gate.open()
	r.requireOutcome(receipt.Registered, r.result(id))
	r.save("canceled_too_late", id)
}

func recordVersionFound(r *recording) {
	r.gateway.next("model-versions/create", fault{cutAfter: true})
	r.startWorker()
	a := r.register()
	r.requireOutcome(receipt.Registered, a.receipt)
	r.save("version_found", a.receipt.WorkflowID)
}

func recordVersionCondemned(r *recording) {
	r.gateway.next("model-versions/create", fault{cutBefore: true})
	r.startWorker()
	a := r.register()
	r.requireOutcome(receipt.Registered, a.receipt)
	r.save("version_condemned", a.receipt.WorkflowID)
}

func recordDecidedThenTerminated(r *recording) {
	r.terminateAt("registered-models/alias")
	a := r.register()
	r.requireOutcome(receipt.Registered, a.receipt)
	r.save("decided_then_terminated", a.receipt.WorkflowID)
}

func recordUploadedThenTerminated(r *recording) {
	r.terminateAt("model-versions/create")
	a := r.register()
	r.requireOutcome(receipt.Registered, a.receipt)
	r.save("uploaded_then_terminated", a.receipt.WorkflowID)
}

func recordPromotionLost(r *recording) {
	r.gateway.next("registered-models/alias", fault{cutAfter: true})
	r.startWorker()
	a := r.register()
	r.requireOutcome(receipt.Registered, a.receipt)
	r.save("promotion_lost", workflows.PromotionID(a.receipt.ModelName, a.receipt.TrackingURI, ""))
}

func recordGaveUpWaiting(r *recording) {
	r.project.edit(r.t, paramsFile, "probe_interval: 1s", "probe_interval: 1s\n  max_wait: 3s")
	r.gateway.close()
	r.startWorker()
	a := r.register("--wait", "final")
	r.requireOutcome(receipt.Failed, a.receipt)
	r.save("gave_up_waiting", a.receipt.WorkflowID)
}

func recordCanceledInOutage(r *recording) {
	held := r.gateway.holdUpload()
	r.startWorker()
	registering := r.register("--wait", "none").receipt
	held.await(r.t)
	r.gateway.close()
	held.open()
	r.awaitState(registering.WorkflowID, receipt.Waiting)
	r.requireOutcome(receipt.Canceled, r.starter("cancel", registering.WorkflowID).receipt)
	r.save("canceled_in_outage", registering.WorkflowID)
	r.gateway.open()
	r.save("sweep_in_outage", workflows.SweepID(registering.WorkflowID, r.runID(registering.WorkflowID)))
	registryAt(r.t, r.mlflowURI).requireNoVersion(registering.RegistrationKey, "KILLED")
}

func recordDeletedMeanwhile(r *recording) {
	held := r.gateway.hold("PATCH /api/2.0/mlflow/logged-models/")
	r.startWorker()
	registering := r.register("--wait", "none").receipt
	held.await(r.t)
	mlflowNow := registryAt(r.t, r.mlflowURI)
	for _, model := range mlflowNow.ofKey(registering.RegistrationKey).models {
		require.NoError(r.t, mlflowNow.client.DeleteLoggedModel(r.t.Context(), model.Info.ModelID))
	}
	held.open()
	r.requireOutcome(receipt.Registered, r.result(registering.WorkflowID))
	mlflowNow.requireServed(registering.RegistrationKey)
	r.save("deleted_meanwhile", registering.WorkflowID)
}

func recordWithoutLoggedModels(r *recording) {
	r.gateway.lack("/logged-models")
	r.gateway.next("model-versions/create", fault{cutAfter: true})
	r.startWorker()
	a := r.register()
	r.requireOutcome(receipt.Registered, a.receipt)
	r.save("without_logged_models", a.receipt.WorkflowID)
}

// recordInWorkspace has MLflow not hear of the workspace: the tests' server has none.
func recordInWorkspace(r *recording) {
	r.project.write(r.t, ".env", "MLFLOW_WORKSPACE=risk\n")
	r.gateway.admit(func(request *http.Request) bool {
		request.Header.Del("X-Mlflow-Workspace")
		return true
	})
	r.startWorker()
	a := r.register()
	r.requireOutcome(receipt.Registered, a.receipt)
	r.save("in_workspace", a.receipt.WorkflowID)
	require.NotEmpty(r.t, r.runID(workflows.PromotionID(a.receipt.ModelName, a.receipt.TrackingURI, "risk")))
}

// recording is a site whose histories are saved.
type recording struct {
	*site
	gateway *gateway
	client  client.Client
}

// waiting registers while MLflow is down.
func (r *recording) waiting() (workflowID string) {
	r.t.Helper()
	r.startWorker()
	a := r.register()
	require.Equal(r.t, receipt.Waiting, a.receipt.State)
	return a.receipt.WorkflowID
}

// terminateAt terminates a registration when its request comes to MLflow, which never gets it.
func (r *recording) terminateAt(request string) {
	r.t.Helper()
	held := newGate(r.t)
	r.gateway.next(request, fault{before: held.wait, cutBefore: true})
	r.startWorker()
	id := r.register("--wait", "none").receipt.WorkflowID
	held.await(r.t)
	require.NoError(r.t, r.client.TerminateWorkflow(r.t.Context(), id, "", "recording"))
}

func (s *site) awaitState(workflowID string, want receipt.State) {
	s.t.Helper()
	eventually(s.t, func() bool { return s.status(workflowID).State == want }, "state %s of %s", want, workflowID)
}

func (r *recording) runID(workflowID string) string {
	r.t.Helper()
	described, err := r.client.DescribeWorkflowExecution(r.t.Context(), workflowID, "")
	require.NoError(r.t, err)
	return described.GetWorkflowExecutionInfo().GetExecution().GetRunId()
}

// save waits until the newest execution of the workflow has ended, and writes its history.
func (r *recording) save(path, workflowID string) {
	r.t.Helper()
	runID := r.runID(workflowID)
	_ = r.client.GetWorkflow(r.t.Context(), workflowID, runID).Get(r.t.Context(), nil) // how it ended is in the history
	r.saveRun(path, workflowID, runID)
}

// saveRun writes the history of one execution, an event a line.
func (r *recording) saveRun(path, workflowID, runID string) {
	r.t.Helper()
	history := r.history(workflowID, runID)
	r.scrub(history.ProtoReflect())
	var lines bytes.Buffer
	lines.WriteString(`{"events": [`)
	for i, event := range history.GetEvents() {
		if i > 0 {
			lines.WriteByte(',')
		}
		lines.WriteByte('\n')
		data, err := temporalproto.CustomJSONMarshalOptions{}.Marshal(event)
		require.NoError(r.t, err)
		require.NoError(r.t, json.Compact(&lines, data)) // the marshaler spaces as it likes
	}
	lines.WriteString("\n]}\n")
	folder := filepath.Join(servertest.Root(), "workflows", "testdata", "histories")
	require.NoError(r.t, os.MkdirAll(folder, 0o755))
	require.NoError(r.t, os.WriteFile(filepath.Join(folder, path+".json"), lines.Bytes(), 0o600))
}

// scrub replaces what tells of this machine: the project's folder, the host, and who ran the starter.
func (r *recording) scrub(m protoreflect.Message) {
	m.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		switch {
		case field.IsMap():
			if field.MapValue().Message() != nil {
				value.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool { r.scrub(v.Message()); return true })
			}
		case field.Message() != nil && field.IsList():
			for i := range value.List().Len() {
				r.scrub(value.List().Get(i).Message())
			}
		case field.Message() != nil:
			r.scrub(value.Message())
		case field.IsList():
		case field.Kind() == protoreflect.StringKind:
			m.Set(field, protoreflect.ValueOfString(string(r.neutral([]byte(value.String())))))
		case field.Kind() == protoreflect.BytesKind:
			m.Set(field, protoreflect.ValueOfBytes(r.neutral(value.Bytes())))
		}
		return true
	})
}

func (r *recording) neutral(text []byte) []byte {
	host, err := os.Hostname()
	require.NoError(r.t, err)
	text = bytes.ReplaceAll(text, []byte(r.project.root), []byte("/srv/acras"))
	text = bytes.ReplaceAll(text, []byte(host), []byte("worker-host"))
	if current, err := user.Current(); err == nil {
		text = bytes.ReplaceAll(text, []byte(`"user":"`+current.Username+`"`), []byte(`"user":"analyst"`))
	}
	return text
}
