package activities

import (
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"registrar/internal/mlflow"
)

// made is what one attempt of a registration left in MLflow.
type made struct{ run, model, version string }

// makes leaves a run, a logged model and a version of an owner in MLflow.
func (p *project) makes(o Owner) made {
	p.t.Helper()
	client, tags := p.client(), ownerTags(o)
	run, err := client.CreateRun(p.t.Context(), mlflow.CreateRunRequest{ExperimentID: "0", Tags: tags})
	require.NoError(p.t, err)
	model, err := client.CreateLoggedModel(p.t.Context(), mlflow.CreateLoggedModelRequest{ExperimentID: "0", SourceRunID: run.Info.RunID, Tags: tags})
	require.NoError(p.t, err)
	_, err = client.CreateRegisteredModel(p.t.Context(), mlflow.CreateRegisteredModelRequest{Name: "credit"})
	if !mlflow.IsAlreadyExists(err) {
		require.NoError(p.t, err)
	}
	version, err := client.CreateModelVersion(p.t.Context(), mlflow.CreateModelVersionRequest{
		Name: "credit", Source: "models:/" + model.Info.ModelID, ModelID: model.Info.ModelID, RunID: run.Info.RunID, Tags: tags,
	})
	require.NoError(p.t, err)
	return made{run.Info.RunID, model.Info.ModelID, version.Version}
}

func (m made) kept() Version {
	return Version{Name: "credit", Version: m.version, RunID: m.run, ModelID: m.model}
}

// left is what of it is still there.
func (p *project) left(m made) (left []string) {
	for _, r := range p.server.Runs() {
		if r.Info.RunID == m.run && r.Info.LifecycleStage == mlflow.LifecycleActive {
			left = append(left, "run")
		}
	}
	for _, l := range p.server.LoggedModels() {
		if l.Info.ModelID == m.model {
			left = append(left, "model")
		}
	}
	for _, v := range p.server.ModelVersions() {
		if v.Version == m.version {
			left = append(left, "version")
		}
	}
	return left
}

func (p *project) sweep(keep Version) SweepResult {
	p.t.Helper()
	result, err := execute[SweepResult](p, p.Sweep, SweepInput{Server: p.tracked(), Owner: keyed(owner), LoggedModels: true, Keep: keep})
	require.NoError(p.t, err)
	return result
}

func keyed(o Owner) Owner {
	o.Key = "key"
	return o
}

var everything = []string{"run", "model", "version"}

func TestSweep_RemovesWhatTheHistoryDidNotRecord(t *testing.T) {
	p := newProject(t)
	earlier := keyed(owner)
	earlier.Generation, earlier.StartedAt = "earlier", owner.StartedAt-1
	kept, late, old := p.makes(keyed(owner)), p.makes(keyed(owner)), p.makes(earlier)

	result := p.sweep(kept.kept())

	require.Equal(t, everything, p.left(kept))
	require.Empty(t, p.left(late))
	require.Empty(t, p.left(old))
	require.Empty(t, result.SparedVersions)
	require.ElementsMatch(t, []string{late.version, old.version}, result.DeletedVersions)
	require.ElementsMatch(t, []string{late.model, old.model}, result.DeletedModels)
	require.ElementsMatch(t, []string{late.run, old.run}, result.DeletedRuns)
}

func TestSweep_SparesOthersAndWhatIsUsed(t *testing.T) {
	for name, spare := range map[string]func(*project) made{
		"another owner": func(p *project) made {
			o := keyed(owner)
			o.Owner = "elsewhere/register/credit/0123456789abcdef"
			return p.makes(o)
		},
		"later generation": func(p *project) made {
			o := keyed(owner)
			o.Generation, o.StartedAt = "later", owner.StartedAt+1
			return p.makes(o)
		},
		"another key": func(p *project) made {
			o := keyed(owner)
			o.Key = "another"
			return p.makes(o)
		},
		"decided on": func(p *project) made {
			m := p.makes(keyed(owner))
			require.NoError(p.t, p.client().LogParam(p.t.Context(), m.run, ParamVersion, m.version))
			return m
		},
		"with an alias": func(p *project) made {
			m := p.makes(keyed(owner))
			require.NoError(p.t, p.client().SetRegisteredModelAlias(p.t.Context(), "credit", "champion", m.version))
			return m
		},
		"with a stage": func(p *project) made {
			m := p.makes(keyed(owner))
			require.NoError(p.t, p.client().TransitionModelVersionStage(p.t.Context(), "credit", m.version, "Production", false))
			return m
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newProject(t)
			kept, spared := p.makes(keyed(owner)), spare(p)

			result := p.sweep(kept.kept())

			require.Equal(t, everything, p.left(spared))
			require.Empty(t, result.DeletedVersions)
			require.Empty(t, result.DeletedModels)
			require.Empty(t, result.DeletedRuns)
		})
	}
}

func TestSweep_KeepsRunsThatEndedAndWhatWasReturnedOnce(t *testing.T) {
	p := newProject(t)
	client := p.client()
	killed := p.makes(keyed(owner))
	require.NoError(t, client.UpdateRun(t.Context(), mlflow.UpdateRunRequest{RunID: killed.run, Status: mlflow.RunKilled, EndTime: 1}))
	earlier := keyed(owner)
	earlier.Generation, earlier.StartedAt = "earlier", owner.StartedAt-1
	returned := p.makes(earlier)
	require.NoError(t, client.LogParam(t.Context(), returned.run, ParamVersion, returned.version))
	require.NoError(t, client.DeleteModelVersion(t.Context(), "credit", returned.version))

	p.sweep(Version{})

	require.Equal(t, []string{"run"}, p.left(killed))
	require.Equal(t, []string{"run", "model"}, p.left(returned))
}

func TestSweep_MayBeRepeated(t *testing.T) {
	p := newProject(t)
	for range 3 {
		p.makes(keyed(owner))
	}
	require.Len(t, p.sweep(Version{}).DeletedVersions, 3)
	require.Equal(t, SweepResult{}, p.sweep(Version{}))
	number, err := strconv.Atoi(p.makes(keyed(owner)).version)
	require.NoError(t, err)
	require.Equal(t, 4, number, "MLflow gives no number twice")
}
