package e2e

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"registrar/internal/mlflow"
	"registrar/internal/receipt"
	"registrar/internal/servertest"
)

func TestRegister_IsLoadedBackEqualToTheLastBit(t *testing.T) {
	t.Parallel()
	s := sharedSite(t)
	s.startWorker()

	a := s.register()

	require.Zero(t, a.code)
	s.requireOutcome(receipt.Registered, a.receipt)
	require.Equal(t, "1", a.receipt.ModelVersion)
	require.Equal(t, "models:/"+s.project.modelName+"/1", a.receipt.ModelURI)
	require.Equal(t, "Staging", a.receipt.Stage)
	require.Equal(t, []string{"staging"}, a.receipt.Aliases)
	require.Equal(t, s.mlflowURI, a.receipt.TrackingURI)
	require.True(t, a.receipt.Decision.Passed)

	version := registryAt(t, s.mlflowURI).requireServed(a.receipt.RegistrationKey)
	require.Equal(t, version.RunID, a.receipt.MLflowRunID)
	require.Equal(t, version.Source, "models:/"+a.receipt.MLflowModelID)

	require.JSONEq(t, a.stdout, s.written("receipt.json"))
	require.Contains(t, s.written("decision.json"), `"passed": true`)
	folder := filepath.Join(outputs, "registrations", a.receipt.RegistrationKey[:16])
	require.NoDirExists(t, s.project.path(filepath.Join(folder, "model")), "the model's copy is removed when the registration ended")
	require.Equal(t, s.written("decision.json"), s.project.read(t, filepath.Join(folder, "decision.json")))

	// By number, stage and alias, through sklearn and pyfunc.
	require.Contains(t, s.consume(), "equal to the last bit")
}

func TestRegister_SameFilesAgainAreAlreadyRegistered(t *testing.T) {
	t.Parallel()
	s := sharedSite(t)
	s.startWorker()
	first := s.register().receipt
	s.requireOutcome(receipt.Registered, first)

	again := s.register("--detailed-exitcode")

	require.Zero(t, again.code)
	s.requireOutcome(receipt.AlreadyRegistered, again.receipt)
	require.Equal(t, first.WorkflowID, again.receipt.WorkflowID)
	require.Equal(t, first.ModelVersion, again.receipt.ModelVersion)
	require.Equal(t, first.MLflowRunID, again.receipt.MLflowRunID)
	require.Equal(t, first.MLflowModelID, again.receipt.MLflowModelID)
	registryAt(t, s.mlflowURI).requireServed(first.RegistrationKey)
}

func TestRegister_RejectedModelNeverReachesMLflow(t *testing.T) {
	t.Parallel()
	s, gateway := gatedSite(t)
	s.project.demand(t, "0.99")
	s.startWorker()

	a := s.register()

	require.Zero(t, a.code, "a rejection is an outcome, not a failure")
	s.requireOutcome(receipt.Rejected, a.receipt)
	require.False(t, a.receipt.Decision.Passed)
	require.NotEmpty(t, a.receipt.Warnings)
	require.Empty(t, a.receipt.ModelVersion)
	require.Empty(t, gateway.requests())
	require.JSONEq(t, a.stdout, s.written("receipt.json"))
	require.Contains(t, s.written("decision.json"), `"passed": false`)

	require.Equal(t, 10, s.register("--detailed-exitcode").code)
	require.Empty(t, gateway.requests())
}

func TestRegister_ModelThatWouldRunCodeNeverReachesMLflow(t *testing.T) {
	t.Parallel()
	s, gateway := gatedSite(t)
	s.project.write(t, modelFile, "\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x04true\x85R.")
	s.startWorker()

	a := s.register()

	require.Zero(t, a.code, "a rejection is an outcome, not a failure")
	s.requireOutcome(receipt.Rejected, a.receipt)
	require.True(t, a.receipt.Decision.Rules[0].Passed, "its metrics are good enough")
	require.False(t, a.receipt.Decision.Passed)
	require.Equal(t, "strict", a.receipt.Decision.Model.Policy)
	require.Equal(t, []string{"posix.system: it executes what it is given, or reaches beyond the model (STACK_GLOBAL at byte 17)"}, a.receipt.Decision.Model.Reasons)
	require.Contains(t, a.receipt.Warnings[0], "posix.system")
	require.Contains(t, s.written("decision.json"), "posix.system")
	require.Empty(t, gateway.requests())
}

func TestRegister_ExtraFileThatWouldRunCodeNeverReachesMLflow(t *testing.T) {
	t.Parallel()
	s, gateway := gatedSite(t)
	s.project.write(t, preprocessorFile, "\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x04true\x85R.")
	s.project.edit(t, configFile, "model_registration:\n", "model_registration:\n  pickle_policy: off\n")
	s.startWorker("--min-pickle-policy", "deny")

	a := s.register()

	require.Zero(t, a.code, "a rejection is an outcome, not a failure")
	s.requireOutcome(receipt.Rejected, a.receipt)
	judged := a.receipt.Decision.Model
	require.Equal(t, "deny", judged.Policy, "the worker's, which the project cannot lower")
	require.Equal(t, "deny", judged.MinPolicy)
	require.Equal(t, "allowed", judged.Verdict)
	require.Equal(t, preprocessorFile, judged.ExtraFiles[0].Path)
	require.Equal(t, "refused", judged.ExtraFiles[0].Verdict)
	require.Contains(t, judged.ExtraFiles[0].Reasons[0], "posix.system: it executes what it is given")
	require.Contains(t, judged.ExtraFiles[0].Reasons[0], "(STACK_GLOBAL at byte 17)")
	require.Contains(t, a.receipt.Warnings[0], preprocessorFile)
	require.Contains(t, s.written("decision.json"), preprocessorFile)
	require.JSONEq(t, a.stdout, s.written("receipt.json"))
	require.Empty(t, gateway.requests())

	require.Equal(t, a.receipt.WorkflowID, s.register().receipt.WorkflowID, "the starter, which does not know the worker's policy, asks for the same")
}

func TestRegister_LoweredThresholdAfterARejectionRegisters(t *testing.T) {
	t.Parallel()
	s := sharedSite(t)
	s.project.demand(t, "0.99")
	s.startWorker()
	rejected := s.register().receipt
	s.requireOutcome(receipt.Rejected, rejected)

	s.project.demand(t, "0.60")
	registered := s.register().receipt

	s.requireOutcome(receipt.Registered, registered)
	require.Equal(t, rejected.WorkflowID, registered.WorkflowID, "thresholds are not part of the key")
	registryAt(t, s.mlflowURI).requireServed(registered.RegistrationKey)
	require.Contains(t, s.written("decision.json"), `"passed": true`)
}

func TestRegister_AnotherModelTakesStageAndAlias(t *testing.T) {
	t.Parallel()
	s := sharedSite(t)
	s.startWorker()
	first := s.register().receipt
	s.requireOutcome(receipt.Registered, first)

	s.project.retrain(t)
	second := s.register().receipt

	s.requireOutcome(receipt.Registered, second)
	require.Equal(t, "2", second.ModelVersion)
	require.NotEqual(t, first.RegistrationKey, second.RegistrationKey)
	mlflowNow := registryAt(t, s.mlflowURI)
	mlflowNow.requireServed(second.RegistrationKey)
	old := mlflowNow.requireOnce(first.RegistrationKey)
	require.Equal(t, mlflow.StageArchived, old.CurrentStage)
	require.Empty(t, old.Aliases)
	require.Contains(t, s.consume(), "version 2")
}

func TestRegister_ForceMakesANewVersionOnceForEachToken(t *testing.T) {
	t.Parallel()
	s := sharedSite(t)
	s.startWorker()
	s.requireOutcome(receipt.Registered, s.register().receipt)

	forced := s.register("--force=rollout-7").receipt
	s.requireOutcome(receipt.Registered, forced)
	require.Equal(t, "2", forced.ModelVersion)
	repeated := s.register("--force=rollout-7").receipt
	s.requireOutcome(receipt.AlreadyRegistered, repeated)
	require.Equal(t, "2", repeated.ModelVersion)

	random := s.register("--force")
	s.requireOutcome(receipt.Registered, random.receipt)
	require.Equal(t, "3", random.receipt.ModelVersion)
	require.Contains(t, random.stderr, "force token: ")
	registryAt(t, s.mlflowURI).requireServed(random.receipt.RegistrationKey)
}

func TestRegister_DeletedVersionIsRegisteredAgain(t *testing.T) {
	t.Parallel()
	s := sharedSite(t)
	s.startWorker()
	first := s.register().receipt
	s.requireOutcome(receipt.Registered, first)
	mlflowNow := registryAt(t, s.mlflowURI)
	require.NoError(t, mlflowNow.client.DeleteModelVersion(t.Context(), s.project.modelName, "1"))

	second := s.register().receipt

	s.requireOutcome(receipt.Registered, second)
	require.Equal(t, "2", second.ModelVersion)
	require.Len(t, mlflowNow.ofKey(first.RegistrationKey).versions, 1)
	require.Equal(t, "Staging", mlflowNow.version(s.project.modelName, "2").CurrentStage)
}

func TestRegister_StartedByHandFreezesTheProjectItself(t *testing.T) {
	t.Parallel()
	s := sharedSite(t)
	s.startWorker()

	r := s.startByHand("by-hand/"+nameOf(t), map[string]any{"root": s.project.root})

	s.requireOutcome(receipt.Registered, r)
	registryAt(t, s.mlflowURI).requireServed(r.RegistrationKey)
	var written receipt.Receipt
	require.NoError(t, json.Unmarshal([]byte(s.written("receipt.json")), &written))
	require.Equal(t, r.WorkflowID, written.WorkflowID)

	// The starter finds by the key what was registered under another workflow id.
	s.requireOutcome(receipt.AlreadyRegistered, s.register().receipt)
}

func TestRegister_WithoutSearchAttributesTheMemoTells(t *testing.T) {
	t.Parallel()
	// A name that is there with another type cannot be added.
	temporal := servertest.Temporal(t, func(o *servertest.TemporalOptions) { o.Args = []string{"--search-attribute", "RegistrarState=Int"} })
	gateway := newGateway(t, mlflowServer(t).URI)
	s := newSite(t, newProject(t), temporal.HostPort, gateway.URI)
	gateway.close()
	s.startWorker()

	waiting := s.register().receipt
	require.Equal(t, receipt.Waiting, waiting.State)
	eventually(t, func() bool { return strings.Contains(s.starter("list").stdout, `"waiting_for": "tcp"`) }, "the list shows what it waits for")
	gateway.open()

	s.requireOutcome(receipt.Registered, s.result(waiting.WorkflowID))
	eventually(t, func() bool {
		listed := s.starter("list").stdout
		return strings.Contains(listed, `"outcome": "registered"`) && strings.Contains(listed, `"model_version": "1"`)
	}, "the list shows the outcome")
}
