package e2e

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"registrar/activities"
	"registrar/internal/mlflow"
	"registrar/internal/receipt"
)

func TestAudit_FindsWhatWasLeftAndRepairsWhatIsNobodys(t *testing.T) {
	t.Parallel()
	s := sharedSite(t)
	s.startWorker()
	require.Empty(t, s.audit(), "a name that was never registered")
	r := s.register().receipt
	s.requireOutcome(receipt.Registered, r)
	require.Empty(t, s.audit(), "after a registration")
	l := s.leave(r)
	left := []findingOf{
		{activities.FindingTwin, l.twin},
		{activities.FindingUnfinished, l.twin},
		{activities.FindingUngatedVersion, l.emptyVersion},
		{activities.FindingNoFiles, l.emptyVersion},
		{activities.FindingUngatedVersion, l.foreignVersion},
		{activities.FindingRunning, l.run},
		{activities.FindingPending, l.model},
	}

	// What was made within the settle time is left alone: it may be under way.
	eventually(t, func() bool { return len(s.audit()) == len(left) }, "the settle time is over")
	require.ElementsMatch(t, left, of(s.audit()))

	repaired := slices.DeleteFunc(s.audit("--fix"), func(f activities.Finding) bool { return f.Fixed == "" })

	require.ElementsMatch(t, []findingOf{
		{activities.FindingTwin, l.twin},
		{activities.FindingRunning, l.twinRun},
		{activities.FindingRunning, l.run},
		{activities.FindingPending, l.model},
	}, of(repaired))
	require.ElementsMatch(t, []findingOf{
		{activities.FindingUngatedVersion, l.emptyVersion},
		{activities.FindingNoFiles, l.emptyVersion},
		{activities.FindingUngatedVersion, l.foreignVersion},
	}, of(s.audit("--fix")), "what is left is for a person to judge")
	mlflowNow := registryAt(t, s.mlflowURI)
	mlflowNow.requireServed(r.RegistrationKey)
	for _, id := range []string{l.run, l.twinRun} {
		run, err := mlflowNow.client.GetRun(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, mlflow.RunFailed, run.Info.Status)
	}
}

func TestAudit_LeavesAloneWhatARegistrationIsWorkingOn(t *testing.T) {
	t.Parallel()
	s, gateway := gatedSite(t)
	held := gateway.holdUpload()
	s.startWorker()
	id := s.register("--wait", "none").receipt.WorkflowID
	held.await(t)
	began := time.Now()
	eventually(t, func() bool { return time.Since(began) > settleTime }, "what was made so long ago may be nobody's")

	require.Empty(t, s.audit("--fix"))

	held.open()
	r := s.result(id)
	s.requireOutcome(receipt.Registered, r)
	registryAt(t, s.mlflowURI).requireServed(r.RegistrationKey)
}

// audit is what `starter audit` finds.
func (s *site) audit(flags ...string) []activities.Finding {
	s.t.Helper()
	a := s.starter(append([]string{"audit"}, flags...)...)
	require.Zero(s.t, a.code)
	var result activities.AuditResult
	require.NoError(s.t, json.Unmarshal([]byte(a.stdout), &result))
	return result.Findings
}

// findingOf is what was found, and of which object.
type findingOf struct{ kind, id string }

func of(findings []activities.Finding) (all []findingOf) {
	for _, f := range findings {
		all = append(all, findingOf{f.Kind, f.ID})
	}
	return all
}

// leftByHand names what was left under the name of a registered model.
type leftByHand struct {
	run, model     string // RUNNING, and PENDING
	twin, twinRun  string // of an execution that Temporal knows nothing of any more
	emptyVersion   string // without files
	foreignVersion string // in a store that the worker cannot look into
}

// leave leaves beside a registration what other tools and lost executions leave.
func (s *site) leave(r receipt.Receipt) (l leftByHand) {
	s.t.Helper()
	ctx, client := s.t.Context(), registryAt(s.t, s.mlflowURI).client
	newRun := func() mlflow.RunInfo {
		run, err := client.CreateRun(ctx, mlflow.CreateRunRequest{
			ExperimentID: r.ExperimentID, RunName: activities.RunName, StartTime: time.Now().UnixMilli(),
		})
		require.NoError(s.t, err)
		require.NoError(s.t, client.LogParam(ctx, run.Info.RunID, "model_name", r.ModelName))
		return run.Info
	}
	newVersion := func(request mlflow.CreateModelVersionRequest) string {
		request.Name = r.ModelName
		version, err := client.CreateModelVersion(ctx, request)
		require.NoError(s.t, err)
		return version.Version
	}
	l.run, l.twinRun = newRun().RunID, newRun().RunID
	model, err := client.CreateLoggedModel(ctx, mlflow.CreateLoggedModelRequest{ExperimentID: r.ExperimentID, Name: "model", SourceRunID: l.run})
	require.NoError(s.t, err)
	l.model = model.Info.ModelID
	l.twin = newVersion(mlflow.CreateModelVersionRequest{
		Source: "models:/" + r.MLflowModelID, ModelID: r.MLflowModelID, RunID: l.twinRun, Tags: []mlflow.Tag{
			{Key: activities.TagKey, Value: r.RegistrationKey},
			{Key: activities.TagOwner, Value: "default/" + r.WorkflowID},
			{Key: activities.TagGeneration, Value: "00000000-0000-4000-8000-000000000000"},
		},
	})
	empty := newRun()
	l.emptyVersion = newVersion(mlflow.CreateModelVersionRequest{Source: empty.ArtifactURI + "/model", RunID: empty.RunID})
	l.foreignVersion = newVersion(mlflow.CreateModelVersionRequest{Source: "s3://bucket/model"})
	return l
}
