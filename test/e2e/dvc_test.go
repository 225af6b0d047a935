package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"registrar/internal/receipt"
	"registrar/internal/servertest"
)

// dvcSite is a site whose project is under DVC, with the pipeline that the example ships.
type dvcSite struct {
	*site
	home string // of DVC: its settings and its index, apart from those of whoever runs the tests
}

// onDVC puts the site's trained project under DVC, without Git; what was trained counts as the train stage's.
func onDVC(t *testing.T, s *site) *dvcSite {
	t.Helper()
	template, err := underDVC()
	require.NoError(t, err, "run `make dvc project`")
	require.NoError(t, bringPipeline(s.project.root))
	lock, err := os.ReadFile(filepath.Join(template, "dvc.lock"))
	require.NoError(t, err)
	s.project.write(t, "dvc.lock", string(lock))
	require.NoError(t, os.CopyFS(s.project.path(".dvc"), os.DirFS(filepath.Join(template, ".dvc"))))
	return &dvcSite{site: s, home: t.TempDir()}
}

// underDVC is the folder of a trained project that was put under DVC, for others to be made from.
var underDVC = sync.OnceValues(func() (string, error) {
	parent, err := os.MkdirTemp("", "registrar-e2e-dvc-")
	if err != nil {
		return "", err
	}
	whenAllHaveEnded(func() { _ = os.RemoveAll(parent) })
	folder, home := filepath.Join(parent, "project"), filepath.Join(parent, "home")
	if err := os.CopyFS(folder, os.DirFS(filepath.Join(servertest.Root(), ".build", "credit-risk"))); err != nil {
		return "", err
	}
	if err := bringPipeline(folder); err != nil {
		return "", err
	}
	for _, args := range [][]string{{"init", "--quiet", "--no-scm"}, {"commit", "--quiet", "--force", "train"}} {
		command := dvcCommand(context.Background(), append(os.Environ(), inPath(filepath.Dir(python()))), folder, home, args...)
		if output, err := command.CombinedOutput(); err != nil {
			return "", fmt.Errorf("dvc %v: %w\n%s", args, err, output)
		}
	}
	return folder, nil
})

// bringPipeline copies what the example ships beside its settings.
func bringPipeline(folder string) error {
	for _, name := range []string{"dvc.yaml", "train.py", ".dvcignore", ".gitignore"} {
		content, err := os.ReadFile(filepath.Join(servertest.Root(), "examples", "credit-risk", name))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(folder, name), content, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// dvcCommand is a command of DVC, with settings and an index of its own in home.
func dvcCommand(ctx context.Context, environ []string, folder, home string, args ...string) *exec.Cmd {
	command := exec.CommandContext(ctx, filepath.Join(servertest.Root(), ".build", "dvc", "bin", "dvc"), args...)
	command.Dir = folder
	command.Env = append(environ, "DVC_NO_ANALYTICS=true", "DVC_GLOBAL_CONFIG_DIR="+home, "DVC_SYSTEM_CONFIG_DIR="+home, "DVC_SITE_CACHE_DIR="+home,
		"GIT_CONFIG_GLOBAL="+os.DevNull)
	return command
}

// inPath is a PATH with folders before those of the caller.
func inPath(folders ...string) string {
	return "PATH=" + strings.Join(append(folders, os.Getenv("PATH")), string(filepath.ListSeparator))
}

// dvc runs a command of DVC that has to succeed, and returns what it said.
func (d *dvcSite) dvc(args ...string) string {
	d.t.Helper()
	code, said := d.tryDVC(args...)
	require.Zero(d.t, code, "dvc %v", args)
	return said
}

func (d *dvcSite) tryDVC(args ...string) (code int, said string) {
	d.t.Helper()
	// The stages' commands are found as a user's shell finds them.
	environ := append(d.environment(), inPath(filepath.Dir(binary(d.t, "starter")), filepath.Dir(python())))
	command := dvcCommand(d.t.Context(), environ, d.project.root, d.home, args...)
	output, err := command.CombinedOutput()
	d.t.Logf("dvc %v: %v\n%s", args, command.ProcessState, output)
	if command.ProcessState == nil {
		require.NoError(d.t, err, "run `make dvc`")
	}
	return command.ProcessState.ExitCode(), string(output)
}

// linkInto keeps what the train stage makes in a cache outside of the project, and links of this type in the project.
func (d *dvcSite) linkInto(cache, cacheType string) {
	d.t.Helper()
	config := ".dvc/config"
	d.project.write(d.t, config, d.project.read(d.t, config)+fmt.Sprintf("[cache]\n    dir = %s\n    type = %s\n", cache, cacheType))
	d.dvc("commit", "--quiet", "--force", "train")
	d.dvc("checkout", "--quiet", "--relink", "train")
}

// repro runs the pipeline, and sees whether it came to the registration. It returns what DVC said.
func (d *dvcSite) repro(registers bool) string {
	d.t.Helper()
	said := d.dvc("repro")
	require.Equal(d.t, registers, strings.Contains(said, "Running stage 'register'"))
	return said
}

// receipt is receipt.json, by which the pipeline's later steps know how the registration stands.
func (d *dvcSite) receipt() receipt.Receipt {
	d.t.Helper()
	return parseReceipt(d.t, d.written("receipt.json"))
}

func parseReceipt(t testing.TB, text string) (r receipt.Receipt) {
	t.Helper()
	require.NoError(t, json.Unmarshal([]byte(text), &r))
	return r
}

func TestDVC_RunsTheStageWhereSomethingItReadsChanged(t *testing.T) {
	t.Parallel()
	s := sharedSite(t)
	require.NoError(t, os.RemoveAll(s.project.path("artifacts"))) // the pipeline is to make them
	d := &dvcSite{site: s, home: t.TempDir()}
	require.NoError(t, bringPipeline(s.project.root))
	s.project.git(t, "init", "--quiet")
	d.dvc("init", "--quiet")
	s.startWorker()

	d.repro(true)

	first := d.receipt()
	d.requireOutcome(receipt.Registered, first)
	registryAt(t, s.mlflowURI).requireServed(first.RegistrationKey)
	decision := s.written("decision.json")
	untracked := s.project.git(t, "status", "--porcelain", "--untracked-files=all")
	require.Contains(t, untracked, "decision.json", "what Git is to keep")
	require.NotContains(t, untracked, "receipt.json")
	require.NotContains(t, untracked, "registrations")
	require.NotContains(t, untracked, ".joblib")
	d.repro(false)
	require.Contains(t, d.dvc("status"), "up to date")

	d.project.demand(t, "0.99")
	d.repro(true)
	d.requireOutcome(receipt.Rejected, d.receipt())
	require.Contains(t, s.written("decision.json"), `"passed": false`)

	// The same inputs as at first: DVC's run cache must not answer for the registry.
	d.project.demand(t, "0.60")
	d.repro(true)
	d.requireOutcome(receipt.AlreadyRegistered, d.receipt())
	require.Equal(t, first.ModelVersion, d.receipt().ModelVersion)
	require.Equal(t, decision, s.written("decision.json"), "the same inputs give the same bytes")

	d.project.edit(t, paramsFile, "n_estimators: 100", "n_estimators: 20")
	d.repro(true)
	d.requireOutcome(receipt.Registered, d.receipt())
	require.Equal(t, "2", d.receipt().ModelVersion)
	d.repro(false)
}

func TestDVC_StageIsCompleteWhileWhatItNeedsIsAway(t *testing.T) {
	t.Parallel()
	for name, away := range map[string]struct {
		layer string
		// take takes something away before the stage, and returns how it comes back.
		take func(*dvcSite, *gateway) (giveBack func())
	}{
		"mlflow": {"tcp", func(d *dvcSite, g *gateway) func() {
			d.startWorker()
			g.close()
			return g.open
		}},
		"worker": {"worker", func(d *dvcSite, _ *gateway) func() {
			d.project.edit(d.t, "dvc.yaml", "starter register", "starter register --settle-timeout 2s")
			return func() { d.startWorker() }
		}},
		"temporal": {"temporal", func(d *dvcSite, _ *gateway) func() {
			hostPort := d.hostPort
			d.hostPort = unusedAddress(d.t)
			return func() {
				d.hostPort = hostPort
				d.startWorker()
				require.Contains(d.t, d.starter("flush").stdout, d.receipt().WorkflowID)
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, gateway := gatedSite(t)
			d := onDVC(t, s)
			giveBack := away.take(d, gateway)

			require.Contains(t, d.repro(true), "Stage 'train' didn't change")

			waiting := d.receipt()
			require.NotEqual(t, receipt.Done, waiting.State)
			require.Equal(t, away.layer, waiting.Waiting.Layer)
			require.Contains(t, s.written("decision.json"), `"passed": true`)

			giveBack()
			r := d.result(waiting.WorkflowID)
			d.requireOutcome(receipt.Registered, r)
			registryAt(t, s.mlflowURI).requireServed(r.RegistrationKey)
			d.repro(false)
			require.Equal(t, r, d.receipt(), "the receipt goes on, and is no output of the stage")
		})
	}
}

func TestDVC_FailedRegistrationFailsTheStage(t *testing.T) {
	t.Parallel()
	s := sharedSite(t)
	d := onDVC(t, s)
	d.project.demand(t, "high")

	code, said := d.tryDVC("repro", "register")

	require.NotZero(t, code)
	require.Contains(t, said, "registration_params.min_roc_auc")
}

// DVC keeps files in its cache, here one that several projects share, and links to them from the project.
func TestDVC_RegistersWhatLinksIntoTheCache(t *testing.T) {
	t.Parallel()
	for cacheType, isLinked := range map[string]func(model fs.FileInfo) bool{
		"symlink":  func(model fs.FileInfo) bool { return model.Mode()&fs.ModeSymlink != 0 },
		"hardlink": func(model fs.FileInfo) bool { return model.Sys().(*syscall.Stat_t).Nlink > 1 },
		"copy": func(model fs.FileInfo) bool {
			return model.Mode().IsRegular() && model.Sys().(*syscall.Stat_t).Nlink == 1
		},
	} {
		t.Run(cacheType, func(t *testing.T) {
			t.Parallel()
			s := sharedSite(t)
			d := onDVC(t, s)
			d.linkInto(t.TempDir(), cacheType)
			model, err := os.Lstat(s.project.path(modelFile))
			require.NoError(t, err)
			require.True(t, isLinked(model), "%v", model)
			s.startWorker() // which needs to see the frozen copies only

			d.repro(true)

			r := d.receipt()
			d.requireOutcome(receipt.Registered, r)
			registryAt(t, s.mlflowURI).requireServed(r.RegistrationKey)
			d.repro(false)
		})
	}
}

// A worker that freezes the inputs itself follows a link into the cache where it was told to, and nowhere else.
func TestDVC_WorkerFollowsLinksIntoTheCacheItWasToldOf(t *testing.T) {
	t.Parallel()
	s := sharedSite(t)
	cache := t.TempDir()
	d := onDVC(t, s)
	d.linkInto(cache, "symlink")
	input := map[string]any{"root": s.project.root}

	untold := s.startWorker()
	refused := s.startByHand("untold/"+nameOf(t), input)
	s.requireOutcome(receipt.Failed, refused)
	require.Contains(t, refused.Error, "--allow-link-target")

	untold.Stop()
	s.startWorker("--allow-link-target", cache)
	r := s.startByHand("told/"+nameOf(t), input)
	s.requireOutcome(receipt.Registered, r)
	registryAt(t, s.mlflowURI).requireServed(r.RegistrationKey)
}
