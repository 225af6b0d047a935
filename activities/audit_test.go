package activities

import (
	"context"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"registrar/internal/mlflow"
)

const temporalNamespace = "default" // of owner

// running is an execution that the Temporal server says is still at work; every other one has ended.
const running = "running"

func newAudited(t *testing.T) *project {
	p := newProject(t)
	p.Namespace = temporalNamespace
	p.IsRunning = func(_ context.Context, _, runID string) (bool, error) { return runID == running, nil }
	return p
}

func (p *project) audit(in AuditInput) []Finding {
	p.t.Helper()
	in.Server, in.ModelName, in.Registrations, in.LoggedModels = p.tracked(), "credit", "register/credit/", true
	if in.Before == 0 {
		in.Before = math.MaxInt64
	}
	result, err := execute[AuditResult](p, p.Audit, in)
	require.NoError(p.t, err)
	return result.Findings
}

// registers leaves what a registration leaves that was cut off right after its version was made: the run RUNNING, the logged model READY,
// with its files.
func (p *project) registers(o Owner) made {
	p.t.Helper()
	ctx, client := p.t.Context(), p.client()
	m := p.uploads(o)
	require.NoError(p.t, client.FinalizeLoggedModel(ctx, m.model, mlflow.LoggedModelReady))
	_, err := client.CreateRegisteredModel(ctx, mlflow.CreateRegisteredModelRequest{Name: "credit"})
	if !mlflow.IsAlreadyExists(err) {
		require.NoError(p.t, err)
	}
	version, err := client.CreateModelVersion(ctx, mlflow.CreateModelVersionRequest{
		Name: "credit", Source: "models:/" + m.model, ModelID: m.model, RunID: m.run, Tags: ownerTags(o),
	})
	require.NoError(p.t, err)
	m.version = version.Version
	return m
}

// uploads leaves what a registration leaves that was cut off before its version was made: the run RUNNING, the logged model PENDING.
func (p *project) uploads(o Owner) made {
	p.t.Helper()
	m := p.begins(o)
	require.NoError(p.t, p.client().LogParam(p.t.Context(), m.run, "model_name", "credit"))
	return m
}

// begins is uploads, cut off before the params: what other tools leave that log none.
func (p *project) begins(o Owner) made {
	p.t.Helper()
	ctx, client := p.t.Context(), p.client()
	tags := ownerTags(o)
	if o == nobody {
		tags = nil
	}
	run, err := client.CreateRun(ctx, mlflow.CreateRunRequest{ExperimentID: "0", RunName: RunName, StartTime: 1, Tags: tags})
	require.NoError(p.t, err)
	model, err := client.CreateLoggedModel(ctx, mlflow.CreateLoggedModelRequest{ExperimentID: "0", SourceRunID: run.Info.RunID, Tags: tags})
	require.NoError(p.t, err)
	require.NoError(p.t, client.UploadArtifact(ctx, model.Info.ArtifactURI, "MLmodel", 3, strings.NewReader("{}\n")))
	return made{run: run.Info.RunID, model: model.Info.ModelID}
}

// completes is registers, and all that follows.
func (p *project) completes(o Owner) made {
	p.t.Helper()
	ctx, client := p.t.Context(), p.client()
	m := p.registers(o)
	p.decides(m)
	require.NoError(p.t, client.TransitionModelVersionStage(ctx, "credit", m.version, Stage, false))
	require.NoError(p.t, client.SetRegisteredModelAlias(ctx, "credit", Alias, m.version))
	p.ends(m, mlflow.RunFinished)
	require.NoError(p.t, client.SetModelVersionTag(ctx, "credit", m.version, TagCompleted, "2026-01-01T00:00:00Z"))
	return m
}

func (p *project) decides(m made) {
	p.t.Helper()
	require.NoError(p.t, p.client().LogParam(p.t.Context(), m.run, ParamVersion, m.version))
}

// finishes ends the run, and its upload, as if all went well.
func (p *project) finishes(m made) {
	p.t.Helper()
	require.NoError(p.t, p.client().FinalizeLoggedModel(p.t.Context(), m.model, mlflow.LoggedModelReady))
	p.ends(m, mlflow.RunFinished)
}

func (p *project) ends(m made, status string) {
	p.t.Helper()
	require.NoError(p.t, p.client().UpdateRun(p.t.Context(), mlflow.UpdateRunRequest{RunID: m.run, Status: status, EndTime: 2}))
}

// The owners of an audit: of one that has ended, of one that is under way, of one in another namespace, and of other files.
var (
	ended     = Owner{Key: "key", Owner: owner.Owner, Generation: "ended", StartedAt: 1}
	underWay  = Owner{Key: "key", Owner: owner.Owner, Generation: running, StartedAt: 1}
	elsewhere = Owner{Key: "key", Owner: "elsewhere/register/credit/0123456789abcdef", Generation: "ended", StartedAt: 1}
	others    = Owner{Key: "another key", Owner: "default/register/credit/fedcba9876543210", Generation: "ended", StartedAt: 1}
	// nobody is another tool, which knows no owners.
	nobody = Owner{}
)

// found is what a finding is of.
type found struct{ kind, id string }

func foundIn(findings []Finding) []found {
	all := []found{}
	for _, f := range findings {
		all = append(all, found{f.Kind, f.ID})
	}
	return all
}

// repairedIn are the findings that were repaired.
func repairedIn(findings []Finding) []found {
	return foundIn(slices.DeleteFunc(slices.Clone(findings), func(f Finding) bool { return f.Fixed == "" }))
}

func TestAudit_FindsNothingAfterARegistration(t *testing.T) {
	p := newAudited(t)
	require.Empty(t, p.audit(AuditInput{}), "a name that was never registered")
	m := p.completes(ended)

	require.Empty(t, p.audit(AuditInput{Fix: true}))
	require.Equal(t, everything, p.left(m))
	require.Equal(t, mlflow.RunFinished, p.statusOf(m))
}

func TestAudit_RepairsWhatIsNobodysAnyMore(t *testing.T) {
	for name, c := range map[string]struct {
		leave func(*project) made
		found func(made) []found
		left  []string
		run   string // its status in the end
	}{
		"run left RUNNING": {
			leave: func(p *project) made { m := p.uploads(ended); p.deletesModel(m); return m },
			found: func(m made) []found { return []found{{FindingRunning, m.run}} },
			left:  []string{"run"}, run: mlflow.RunFailed,
		},
		"logged model left PENDING": {
			leave: func(p *project) made { m := p.uploads(ended); p.ends(m, mlflow.RunKilled); return m },
			found: func(m made) []found { return []found{{FindingPending, m.model}} },
			left:  []string{"run"}, run: mlflow.RunKilled,
		},
		"upload of another tool that was cut off": {
			leave: func(p *project) made { return p.uploads(nobody) },
			found: func(m made) []found { return []found{{FindingRunning, m.run}, {FindingPending, m.model}} },
			left:  []string{"run"}, run: mlflow.RunFailed,
		},
		"run and logged model without a version": {
			leave: func(p *project) made {
				m := p.uploads(ended)
				require.NoError(p.t, p.client().FinalizeLoggedModel(p.t.Context(), m.model, mlflow.LoggedModelReady))
				p.ends(m, mlflow.RunFinished)
				return m
			},
			found: func(m made) []found { return []found{{FindingUnversioned, m.run}, {FindingUnversioned, m.model}} },
			run:   mlflow.RunFinished,
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newAudited(t)
			kept := p.completes(others)
			m := c.leave(p)
			before := p.left(m)

			reported := p.audit(AuditInput{})

			require.Equal(t, c.found(m), foundIn(reported))
			for _, f := range reported {
				require.Equal(t, "starter audit --fix", f.Remedy)
				require.Empty(t, f.Fixed)
			}
			require.Equal(t, before, p.left(m), "an audit without --fix changes nothing")

			repaired := p.audit(AuditInput{Fix: true})

			require.Equal(t, c.found(m), repairedIn(repaired))
			for _, f := range repaired {
				require.Empty(t, f.Remedy)
			}
			require.Equal(t, c.left, p.left(m))
			require.Equal(t, c.run, p.statusOf(m))
			require.Equal(t, everything, p.left(kept))
			require.Empty(t, p.audit(AuditInput{Fix: true}), "nothing is left to find")
		})
	}
}

func TestAudit_LeavesAloneWhatMayBeUnderWay(t *testing.T) {
	for name, c := range map[string]struct {
		owner  Owner
		before int64
	}{
		"of a running execution":       {owner: underWay},
		"of another namespace":         {owner: elsewhere},
		"made within the settle time":  {owner: ended, before: 1},
		"of another tool, as recently": {owner: nobody, before: 1},
	} {
		t.Run(name, func(t *testing.T) {
			p := newAudited(t)
			m := p.uploads(c.owner)

			require.Empty(t, p.audit(AuditInput{Fix: true, Before: c.before}))

			require.Equal(t, []string{"run", "model"}, p.left(m))
			require.Equal(t, mlflow.RunRunning, p.statusOf(m))
		})
	}
}

func TestAudit_ReportsWhatMayBeAnotherModels(t *testing.T) {
	left := func(m made) []found { return []found{{FindingRunning, m.run}, {FindingPending, m.model}} }
	finished := func(m made) []found { return []found{{FindingUnversioned, m.run}, {FindingUnversioned, m.model}} }
	// An id that somebody made up tells no model: workflows.RegisterInput shows the first of them.
	byHand := func(workflowID string) Owner {
		return Owner{Key: "key", Owner: temporalNamespace + "/" + workflowID, Generation: "ended", StartedAt: 1}
	}
	for name, c := range map[string]struct {
		owner    Owner
		finished bool
		found    func(made) []found
	}{
		"run left RUNNING":                 {nobody, false, left},
		"run that FINISHED":                {nobody, true, finished},
		"run left RUNNING, begun by hand":  {byHand("register/acras"), false, left},
		"run that FINISHED, begun by hand": {byHand("register/acras"), true, finished},
		"an id that looks like a name's":   {byHand("register/acras/monday"), false, left},
		"an id of nobody's form":           {byHand("0b5c2a1e-risk"), false, left},
	} {
		t.Run(name, func(t *testing.T) {
			p := newAudited(t)
			m := p.begins(c.owner)
			if c.finished {
				p.finishes(m)
			}
			status := p.statusOf(m)

			findings := p.audit(AuditInput{Fix: true})

			require.Equal(t, c.found(m), foundIn(findings))
			require.Empty(t, repairedIn(findings))
			for _, f := range findings {
				require.Contains(t, f.Detail, "it may be another model's")
				require.Equal(t, "if it is this model's, end or delete it by hand in MLflow", f.Remedy)
			}
			require.Equal(t, []string{"run", "model"}, p.left(m))
			require.Equal(t, status, p.statusOf(m))
		})
	}
}

func TestAudit_RepairsWhatItsOwnerShowsToBeThisModels(t *testing.T) {
	p := newAudited(t)
	m := p.begins(ended)

	require.Equal(t, []found{{FindingRunning, m.run}, {FindingPending, m.model}}, repairedIn(p.audit(AuditInput{Fix: true})))

	require.Equal(t, []string{"run"}, p.left(m))
	require.Equal(t, mlflow.RunFailed, p.statusOf(m))
}

func TestAudit_LeavesAloneWhatItsOwnerShowsToBeAnotherModels(t *testing.T) {
	p := newAudited(t)
	m := p.begins(Owner{Key: "key", Owner: "default/register/credit-risk/0123456789abcdef", Generation: "ended", StartedAt: 1})

	require.Empty(t, p.audit(AuditInput{Fix: true}))

	require.Equal(t, []string{"run", "model"}, p.left(m))
	require.Equal(t, mlflow.RunRunning, p.statusOf(m))
}

func TestAudit_LeavesAloneWhatAVersionOfAnotherNameRefersTo(t *testing.T) {
	for name, refer := range map[string]func(made) mlflow.CreateModelVersionRequest{
		"by the logged model": func(m made) mlflow.CreateModelVersionRequest {
			return mlflow.CreateModelVersionRequest{Source: "models:/" + m.model, ModelID: m.model, RunID: m.run}
		},
		"by the logged model's files": func(m made) mlflow.CreateModelVersionRequest {
			return mlflow.CreateModelVersionRequest{Source: "mlflow-artifacts:/0/models/" + m.model + "/artifacts", RunID: m.run}
		},
		"by the run alone": func(m made) mlflow.CreateModelVersionRequest {
			return mlflow.CreateModelVersionRequest{Source: "s3://bucket/model", RunID: m.run}
		},
		"by the run's files": func(m made) mlflow.CreateModelVersionRequest {
			return mlflow.CreateModelVersionRequest{Source: "runs:/" + m.run + "/model"}
		},
	} {
		for whose, leave := range map[string]func(*project) made{
			"this model's":      func(p *project) made { return p.uploads(ended) },
			"of no known model": func(p *project) made { return p.begins(nobody) },
		} {
			t.Run(name+", "+whose, func(t *testing.T) {
				p := newAudited(t)
				m := leave(p)
				p.finishes(m)
				_, err := p.client().CreateRegisteredModel(t.Context(), mlflow.CreateRegisteredModelRequest{Name: "fraud"})
				require.NoError(t, err)
				request := refer(m)
				request.Name = "fraud"
				version, err := p.client().CreateModelVersion(t.Context(), request)
				require.NoError(t, err)
				m.version = version.Version

				require.Empty(t, p.audit(AuditInput{Fix: true}))

				require.Equal(t, everything, p.left(m))
				require.Equal(t, mlflow.RunFinished, p.statusOf(m))
			})
		}
	}
}

func TestAudit_LeavesAloneWhatWasReturnedOnce(t *testing.T) {
	p := newAudited(t)
	m := p.completes(ended)
	require.NoError(t, p.client().DeleteModelVersion(t.Context(), "credit", m.version))

	require.Empty(t, p.audit(AuditInput{Fix: true}), "who deleted the version left run and logged model")

	require.Equal(t, []string{"run", "model"}, p.left(m))
}

func TestAudit_DeletesATwinThatWasCutOff(t *testing.T) {
	p := newAudited(t)
	kept, twin := p.completes(ended), p.registers(ended)

	require.Equal(t, []found{{FindingTwin, twin.version}, {FindingUnfinished, twin.version}}, foundIn(p.audit(AuditInput{})))
	require.Equal(t, everything, p.left(twin))

	repaired := p.audit(AuditInput{Fix: true})

	require.Equal(t, []found{{FindingTwin, twin.version}, {FindingRunning, twin.run}, {FindingUnversioned, twin.model}}, repairedIn(repaired))
	require.Len(t, repaired, 3)
	require.Equal(t, []string{"run"}, p.left(twin))
	require.Equal(t, mlflow.RunFailed, p.statusOf(twin))
	require.Equal(t, everything, p.left(kept))
	require.Empty(t, p.audit(AuditInput{Fix: true}))
}

func TestAudit_ReportsATwinThatIsSomebodysAndLeavesIt(t *testing.T) {
	for name, leave := range map[string]func(*project) made{
		"completed": func(p *project) made {
			m := p.registers(ended)
			require.NoError(p.t, p.client().SetModelVersionTag(p.t.Context(), "credit", m.version, TagCompleted, "2026-01-01T00:00:00Z"))
			return m
		},
		"of another namespace":   func(p *project) made { return p.registers(elsewhere) },
		"of a running execution": func(p *project) made { return p.registers(underWay) },
		"decided on":             func(p *project) made { m := p.registers(ended); p.decides(m); return m },
		"with an alias": func(p *project) made {
			m := p.registers(ended)
			require.NoError(p.t, p.client().SetRegisteredModelAlias(p.t.Context(), "credit", "champion", m.version))
			return m
		},
		"with a stage": func(p *project) made {
			m := p.registers(ended)
			require.NoError(p.t, p.client().TransitionModelVersionStage(p.t.Context(), "credit", m.version, "Production", false))
			return m
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newAudited(t)
			p.completes(ended)
			twin := leave(p)

			findings := p.audit(AuditInput{Fix: true})

			require.Contains(t, foundIn(findings), found{FindingTwin, twin.version})
			require.Equal(t, "delete one of them, once nobody uses it", findings[0].Remedy)
			require.Contains(t, findings[0].Detail, "of the same files as version 1 (key key)")
			require.Empty(t, repairedIn(findings))
			require.Equal(t, everything, p.left(twin))
			require.Equal(t, mlflow.RunRunning, p.statusOf(twin))
		})
	}
}

func TestAudit_ReportsWhatIsForAPersonToJudge(t *testing.T) {
	for name, c := range map[string]struct {
		leave  func(*project) made
		kind   string
		remedy string
	}{
		"version that was cut off": {
			leave: func(p *project) made { return p.registers(ended) },
			kind:  FindingUnfinished, remedy: "register the same files again: that finishes it, or sweeps it",
		},
		"version whose files are gone": {
			leave: func(p *project) made {
				p.completes(others)
				m := p.registers(nobody)
				require.NoError(p.t, p.client().UpdateRun(p.t.Context(), mlflow.UpdateRunRequest{RunID: m.run, Status: mlflow.RunFinished}))
				p.deletesModel(m)
				return m
			},
			kind: FindingNoFiles, remedy: "delete the version, or register the files again with --force",
		},
		"version of a folder without a model": {
			leave: func(p *project) made {
				require.NoError(p.t, p.client().UploadArtifact(p.t.Context(), "mlflow-artifacts:/0/plots", "roc.png", 1, strings.NewReader("x")))
				return p.byHand("mlflow-artifacts:/0/plots")
			},
			kind: FindingNoFiles, remedy: "delete the version, or register the files again with --force",
		},
		"version of another tool, in a store of its own": {
			leave: func(p *project) made { return p.byHand("s3://bucket/model") },
			kind:  FindingUngatedVersion,
		},
		"alias on an older version": {
			leave: func(p *project) made {
				m := p.completes(ended)
				p.completes(others)
				require.NoError(p.t, p.client().SetRegisteredModelAlias(p.t.Context(), "credit", Alias, m.version))
				return m
			},
			kind: FindingStageOff, remedy: "move it by hand in MLflow if it was not meant so",
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newAudited(t)
			m := c.leave(p)
			before := p.left(m)

			findings := p.audit(AuditInput{Fix: true})

			i := slices.Index(foundIn(findings), found{c.kind, m.version})
			require.GreaterOrEqual(t, i, 0, "%v", findings)
			require.Equal(t, "version", findings[i].Object)
			require.Equal(t, c.remedy, findings[i].Remedy)
			require.NotEmpty(t, findings[i].Detail)
			require.Empty(t, repairedIn(findings))
			require.Equal(t, before, p.left(m))
			require.Equal(t, foundIn(findings), foundIn(p.audit(AuditInput{})), "it looks the same without --fix")
		})
	}
}

// byHand makes a version by another tool, of what lies somewhere.
func (p *project) byHand(source string) made {
	p.t.Helper()
	_, err := p.client().CreateRegisteredModel(p.t.Context(), mlflow.CreateRegisteredModelRequest{Name: "credit"})
	require.NoError(p.t, err)
	version, err := p.client().CreateModelVersion(p.t.Context(), mlflow.CreateModelVersionRequest{Name: "credit", Source: source})
	require.NoError(p.t, err)
	return made{version: version.Version}
}

func (p *project) deletesModel(m made) {
	p.t.Helper()
	require.NoError(p.t, p.client().DeleteLoggedModel(p.t.Context(), m.model))
}

func (p *project) statusOf(m made) string {
	p.t.Helper()
	run, err := p.client().GetRun(p.t.Context(), m.run)
	require.NoError(p.t, err)
	return run.Info.Status
}
