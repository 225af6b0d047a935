package activities

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/temporal"

	"registrar/config"
	"registrar/internal/failure"
	"registrar/internal/gate"
	"registrar/internal/modelfile"
	"registrar/internal/snapshot"
)

const secret = "password: hunter2"

func TestActivities_RefuseFilesOutsideTheAllowedRoots(t *testing.T) {
	outside := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(outside, "secret"), []byte(secret), 0o600))
	const settings = "model_registration:\n  root_dir: out\n  metric_file_name: metrics.json\n  model_name: credit\n  model_path: "
	for name, lead := range map[string]func(*testing.T, *project){
		"absolute path": func(_ *testing.T, p *project) {
			p.write("config/config.yaml", settings+filepath.Join(outside, "secret")+"\n")
		},
		"dots": func(t *testing.T, p *project) {
			relative, err := filepath.Rel(p.root, filepath.Join(outside, "secret"))
			require.NoError(t, err)
			p.write("config/config.yaml", settings+relative+"\n")
		},
		"link": func(t *testing.T, p *project) {
			require.NoError(t, os.Symlink(filepath.Join(outside, "secret"), filepath.Join(p.root, "linked")))
			p.write("config/config.yaml", settings+"linked\n")
		},
		"linked metrics": func(t *testing.T, p *project) {
			require.NoError(t, os.Remove(filepath.Join(p.root, "metrics.json")))
			require.NoError(t, os.Symlink(filepath.Join(outside, "secret"), filepath.Join(p.root, "metrics.json")))
		},
		"linked settings": func(t *testing.T, p *project) {
			require.NoError(t, os.Remove(filepath.Join(p.root, "config/params.yaml")))
			require.NoError(t, os.Symlink(filepath.Join(outside, "secret"), filepath.Join(p.root, "config/params.yaml")))
		},
		"another root": func(_ *testing.T, p *project) { p.root = outside },
	} {
		t.Run(name, func(t *testing.T) {
			p := newProject(t)
			lead(t, p)

			err := p.freeze()

			var application *temporal.ApplicationError
			require.ErrorAs(t, err, &application)
			require.Equal(t, failure.BadInput, application.Type())
			require.True(t, application.NonRetryable())
			require.Contains(t, application.Message(), "--allow-")
			require.NotContains(t, err.Error(), "hunter2")
		})
	}
}

func TestActivities_ShowNoContentOfFilesThatAreWrong(t *testing.T) {
	for _, name := range []string{"model.joblib", "metrics.json"} {
		t.Run(name, func(t *testing.T) {
			p := newProject(t)
			p.write(name, secret)

			err := p.freeze()
			if err == nil {
				_, err = execute[ValidateMetricsResult](p, p.ValidateMetrics, ValidateMetricsInput{Project: p.frozen.Project})
			}

			require.ErrorContains(t, err, name)
			require.NotContains(t, err.Error(), "hunter2")
		})
	}
}

func TestSnapshotModel_RefusesACopyThatChanged(t *testing.T) {
	p := newProject(t)
	require.NoError(t, p.freeze())
	copied := filepath.Join(p.root, p.frozen.Project.Folder(), "metrics.json")
	require.NoError(t, os.Chmod(copied, 0o600))
	require.NoError(t, os.WriteFile(copied, []byte(`{"roc_auc": 0.99}`), 0o600))

	loaded, err := execute[LoadConfigResult](p, p.LoadConfig, LoadConfigInput{Project: p.frozen.Project})
	require.NoError(t, err)
	_, err = execute[SnapshotModelResult](p, p.SnapshotModel, SnapshotModelInput{Project: p.frozen.Project, Settings: loaded.Settings})

	var application *temporal.ApplicationError
	require.ErrorAs(t, err, &application)
	require.Equal(t, failure.BadInput, application.Type())
	require.Contains(t, application.Message(), "metrics.json")
}

// runsCode is a pickle that calls posix.system.
const runsCode = "\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x04true\x85R."

// withExtra gives a project an allowed extra file, one that may not be loaded, one that cannot be read, and data.
func (p *project) withExtra(settings string) {
	p.t.Helper()
	model, err := os.ReadFile("../internal/modelfile/testdata/pipeline.joblib")
	require.NoError(p.t, err)
	p.write("pre.pkl", string(model))
	p.write("encoder.bin", runsCode)
	p.write("cut.joblib", string(model[:len(model)-1]))
	p.write("columns.json", `{"columns": ["income"]}`)
	p.write("config/config.yaml", "model_registration:\n  root_dir: out\n  model_path: model.joblib\n  metric_file_name: metrics.json\n  model_name: credit\n"+
		"  extra_files: [pre.pkl, encoder.bin, cut.joblib, columns.json]\n"+settings)
}

const systemExecutes = "posix.system: it executes what it is given, or reaches beyond the model"

func TestSnapshotModel_JudgesTheExtraFilesThatAConsumerLoads(t *testing.T) {
	p := newProject(t)
	p.withExtra("")
	require.NoError(t, p.freeze())

	require.Equal(t, "allowed", p.frozen.Verdict.Verdict)
	extra := p.frozen.Verdict.ExtraFiles
	require.Len(t, extra, 3, "and columns.json is data")
	require.Equal(t, gate.ExtraFile{Path: "pre.pkl", Verdict: "allowed"}, extra[0])
	require.Equal(t, gate.ExtraFile{Path: "encoder.bin", Verdict: "refused", Reasons: []string{systemExecutes + " (STACK_GLOBAL at byte 17)"}}, extra[1])
	require.Equal(t, "refused", extra[2].Verdict)
	require.Contains(t, extra[2].Reasons[0], "it cannot be read to its last byte: the file ends in the middle")

	result, err := execute[ValidateMetricsResult](p, p.ValidateMetrics, ValidateMetricsInput{
		Project: p.frozen.Project, Rules: []gate.Rule{{Metric: "roc_auc", Min: 0.6}}, Model: p.frozen.Verdict,
	})
	require.NoError(t, err)
	require.False(t, result.Decision.Passed)
	require.Contains(t, result.Decision.Summary(), "extra file encoder.bin refused ("+systemExecutes)
	written, err := os.ReadFile(filepath.Join(p.root, "out", "decision.json"))
	require.NoError(t, err)
	require.Contains(t, string(written), "encoder.bin")
}

func TestSnapshotModel_TheProjectsPolicyHoldsForExtraFilesToo(t *testing.T) {
	for settings, verdict := range map[string]string{
		"  pickle_policy: off\n":               "allowed",
		"  pickle_policy: deny\n":              "refused",
		"  allowed_globals: [posix.system]\n":  "allowed",
		"  allowed_globals: [posix.openpty]\n": "refused",
	} {
		p := newProject(t)
		p.withExtra(settings)
		require.NoError(t, p.freeze())
		require.Equal(t, verdict, p.frozen.Verdict.ExtraFiles[1].Verdict, settings)
	}
}

func TestSnapshotModel_TheWorkersLeastPolicyHoldsWhateverTheProjectSays(t *testing.T) {
	for settings, row := range map[string]struct {
		least   modelfile.Policy
		verdict string
		reason  string
	}{
		"  pickle_policy: off\n":                                     {modelfile.Policy{Mode: "deny"}, "refused", "the least policy of this worker is deny"},
		"  pickle_policy: off\n  allowed_globals: [posix.system]\n":  {modelfile.Policy{Mode: "strict"}, "refused", "the least policy of this worker is strict"},
		"  pickle_policy: deny\n  allowed_globals: [posix.system]\n": {modelfile.Policy{Mode: "deny", Allowed: []string{"posix.system"}}, "allowed", ""},
	} {
		t.Run(settings, func(t *testing.T) {
			p := newProject(t)
			p.withExtra(settings)
			p.write("model.joblib", runsCode)
			p.MinPolicy = &row.least
			require.NoError(t, p.freeze())

			require.Equal(t, row.verdict, p.frozen.Verdict.Verdict)
			require.Equal(t, row.verdict, p.frozen.Verdict.ExtraFiles[1].Verdict)
			require.Equal(t, row.least.Mode, p.frozen.Verdict.MinPolicy)
			require.Equal(t, row.least.Mode, p.frozen.Verdict.Policy)
			require.Contains(t, strings.Join(p.frozen.Verdict.Reasons, "\n"), row.reason)
			require.Contains(t, strings.Join(p.frozen.Verdict.ExtraFiles[1].Reasons, "\n"), row.reason)
		})
	}
}

func TestSnapshotModelResult_JudgesByTheSettingsWhatAnOlderWorkerRead(t *testing.T) {
	p := newProject(t)
	p.write("model.joblib", runsCode)
	require.NoError(t, p.freeze())
	older := p.frozen
	older.Verdict = nil

	require.Equal(t, p.frozen.Verdict, older.JudgedBy(config.Settings{PicklePolicy: "strict"}))
	require.Equal(t, "allowed", older.JudgedBy(config.Settings{PicklePolicy: "off"}).Verdict)
	older.Model = modelfile.Info{}
	require.Nil(t, older.JudgedBy(config.Settings{}), "nobody judged it")
}

// frozenElsewhere is a project whose files another workflow has, in that run, and their folder.
func frozenElsewhere(t *testing.T, runID string) (*project, *snapshot.Folder) {
	t.Helper()
	p := newProject(t)
	require.NoError(t, p.freeze())
	rootDir, err := os.OpenRoot(filepath.Join(p.root, "out"))
	require.NoError(t, err)
	t.Cleanup(func() { _ = rootDir.Close() })
	folder, err := snapshot.Open(rootDir, snapshot.ShortKey(p.frozen.Request.RegistrationKey))
	require.NoError(t, err)
	require.NoError(t, folder.MarkHandedOver("register/credit/elsewhere", runID))
	return p, folder
}

func TestSnapshotModel_LeavesAloneWhatAnotherWorkflowRegisters(t *testing.T) {
	p, folder := frozenElsewhere(t, "run")
	running := true
	p.IsRunning = func(_ context.Context, workflowID, runID string) (bool, error) {
		require.Equal(t, []string{"register/credit/elsewhere", "run"}, []string{workflowID, runID})
		return running, nil
	}

	err := p.freeze()
	var application *temporal.ApplicationError
	require.ErrorAs(t, err, &application)
	require.Equal(t, failure.BadInput, application.Type())
	require.ErrorContains(t, err, "starter result register/credit/elsewhere")
	handover, _, err := folder.HandedOver()
	require.NoError(t, err)
	require.Equal(t, "register/credit/elsewhere", handover.WorkflowID)

	running = false
	require.NoError(t, p.freeze(), "it has ended")
}

func TestSnapshotModel_LeavesNoStagedCopyWhereItFails(t *testing.T) {
	for name, inTheWay := range map[string]func(t *testing.T, registrations, key string){
		"it cannot be locked": func(t *testing.T, registrations, key string) {
			require.NoError(t, os.Mkdir(filepath.Join(registrations, ".lock-"+key), 0o700))
		},
		"it cannot be committed": func(t *testing.T, registrations, key string) {
			require.NoError(t, os.RemoveAll(filepath.Join(registrations, key)))
			require.NoError(t, os.WriteFile(filepath.Join(registrations, key), nil, 0o600))
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newProject(t)
			require.NoError(t, p.freeze())
			registrations := filepath.Join(p.root, "out/registrations")
			inTheWay(t, registrations, snapshot.ShortKey(p.frozen.Request.RegistrationKey))

			require.Error(t, p.freeze())

			left, err := filepath.Glob(filepath.Join(registrations, ".staging-*"))
			require.NoError(t, err)
			require.Empty(t, left)
		})
	}
}
