package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"registrar/internal/receipt"
)

// private stands for what is in a file that an error must not repeat.
const private = "PRIVATE-f4c1"

func TestBadInput_IsAClearErrorAndNothingInMLflow(t *testing.T) {
	t.Parallel()
	for name, bad := range map[string]struct {
		spoil func(*testing.T, project)
		says  []string // path and remedy
	}{
		"missing_model": {
			func(t *testing.T, p project) { require.NoError(t, os.Remove(p.path(modelFile))) },
			[]string{modelFile, "no such file", "run the stage that writes it"},
		},
		"missing_metrics": {
			func(t *testing.T, p project) { require.NoError(t, os.Remove(p.path(metricsFile))) },
			[]string{metricsFile, "no such file", "run the stage that writes it"},
		},
		"empty_model": {
			func(t *testing.T, p project) { p.write(t, modelFile, "") },
			[]string{modelFile, "empty", "want a trained model"},
		},
		"garbage_model": {
			func(t *testing.T, p project) { p.write(t, modelFile, private) },
			[]string{modelFile, "pickle"},
		},
		"git_lfs_pointer": {
			func(t *testing.T, p project) {
				p.write(t, modelFile, "version https://git-lfs.github.com/spec/v1\noid sha256:"+strings.Repeat("0", 64)+"\nsize 4806169\n")
			},
			[]string{modelFile, "git lfs pull"},
		},
		"model_is_a_named_pipe": {
			func(t *testing.T, p project) {
				require.NoError(t, os.Remove(p.path(modelFile)))
				require.NoError(t, syscall.Mkfifo(p.path(modelFile), 0o600))
			},
			[]string{modelFile, "a named pipe, want a regular file"},
		},
		"model_is_a_folder": {
			func(t *testing.T, p project) {
				require.NoError(t, os.Remove(p.path(modelFile)))
				require.NoError(t, os.Mkdir(p.path(modelFile), 0o700))
			},
			[]string{modelFile, "a folder, want a regular file"},
		},
		"metrics_are_not_json": {
			func(t *testing.T, p project) { p.write(t, metricsFile, private) },
			[]string{metricsFile},
		},
		"missing_config": {
			func(t *testing.T, p project) { require.NoError(t, os.Remove(p.path(configFile))) },
			[]string{configFile, "no such file"},
		},
		"unknown_key": {
			func(t *testing.T, p project) { p.edit(t, configFile, "  root_dir:", "  root_dri:") },
			[]string{configFile + ":", "model_registration.root_dri", "the nearest known one is root_dir"},
		},
		"bad_yaml": {
			func(t *testing.T, p project) { p.write(t, paramsFile, "registration_params: [") },
			[]string{paramsFile},
		},
		"threshold_is_a_word": {
			func(t *testing.T, p project) { p.demand(t, "high") },
			[]string{paramsFile, "registration_params.min_roc_auc", `"high"`, "give a number between 0 and 1"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, gateway := gatedSite(t)
			bad.spoil(t, s.project)
			s.startWorker()

			a := s.register()

			require.Equal(t, 1, a.code)
			said := errorOf(t, a)
			for _, text := range bad.says {
				require.Contains(t, said, text)
			}
			require.NotContains(t, a.stdout+a.stderr, private)
			require.Empty(t, gateway.requests())
		})
	}
}

// errorOf is the one line that says what is wrong: on standard error where nothing was registered, in the receipt where the
// worker found it.
func errorOf(t *testing.T, a answer) string {
	t.Helper()
	if a.stdout != "" {
		require.Equal(t, receipt.Failed, a.receipt.Outcome)
		require.NotContains(t, a.receipt.Error, "\n")
		return a.receipt.Error
	}
	require.True(t, strings.HasPrefix(a.stderr, "error: "), a.stderr)
	require.Equal(t, 1, strings.Count(a.stderr, "\n"), "one line: %s", a.stderr)
	return a.stderr
}

// Who may start workflows may not read the worker's files.
func TestAllowRoot_WorkerReadsNothingOutside(t *testing.T) {
	t.Parallel()
	for name, leave := range map[string]func(t *testing.T, p project, outside string) (root string){
		"root": func(_ *testing.T, _ project, outside string) string { return outside },
		"root_by_dots": func(t *testing.T, p project, outside string) string {
			return p.root + "/../" + relative(t, filepath.Dir(p.root), outside)
		},
		"model_by_dots": func(t *testing.T, p project, outside string) string {
			p.edit(t, configFile, modelFile, relative(t, p.root, outside)+"/private.joblib")
			return p.root
		},
		"model_by_its_absolute_name": func(t *testing.T, p project, outside string) string {
			p.edit(t, configFile, modelFile, outside+"/private.joblib")
			return p.root
		},
		"model_by_a_link": func(t *testing.T, p project, outside string) string {
			require.NoError(t, os.Remove(p.path(modelFile)))
			require.NoError(t, os.Symlink(outside+"/private.joblib", p.path(modelFile)))
			return p.root
		},
		"metrics_by_a_linked_folder": func(t *testing.T, p project, outside string) string {
			require.NoError(t, os.RemoveAll(filepath.Dir(p.path(metricsFile))))
			require.NoError(t, os.Symlink(outside, filepath.Dir(p.path(metricsFile))))
			return p.root
		},
		"config_by_a_link": func(t *testing.T, p project, outside string) string {
			require.NoError(t, os.Remove(p.path(configFile)))
			require.NoError(t, os.Symlink(outside+"/private.joblib", p.path(configFile)))
			return p.root
		},
		"output_folder_by_dots": func(t *testing.T, p project, outside string) string {
			p.edit(t, configFile, "root_dir: "+outputs, "root_dir: "+relative(t, p.root, outside)+"/written")
			return p.root
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, gateway := gatedSite(t)
			outside := t.TempDir()
			for _, file := range []string{"private.joblib", "metrics.json"} {
				require.NoError(t, os.WriteFile(filepath.Join(outside, file), []byte(private), 0o600))
			}
			root := leave(t, s.project, outside)
			worker := s.startWorker()

			r := s.startByHand("outside/"+nameOf(t), map[string]any{"root": root})

			s.requireOutcome(receipt.Failed, r)
			require.Contains(t, r.Error, "outside the folders that this worker serves")
			require.Contains(t, r.Error, "--allow-", "the remedy")
			require.NotContains(t, r.Error, "\n")
			require.NotContains(t, r.Error+worker.Logs(), private)
			require.NotContains(t, s.historyOf(r.WorkflowID), private)
			require.NoDirExists(t, filepath.Join(outside, "written"))
			require.Empty(t, gateway.requests())
		})
	}
}

func relative(t *testing.T, base, target string) string {
	t.Helper()
	path, err := filepath.Rel(base, target)
	require.NoError(t, err)
	return path
}
