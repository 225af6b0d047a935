package chaos

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"

	"registrar/activities"
	"registrar/internal/mlflow"
	"registrar/internal/receipt"
	"registrar/internal/servertest"
	"registrar/workflows"
)

// atOnce is how many come at once: 50, or as many as `make test` has time for.
func atOnce(sample int) int {
	if *full {
		return 50
	}
	return sample
}

func TestConcurrency_SameFilesAreRegisteredOnce(t *testing.T) {
	t.Parallel()
	s := theSite(t)
	proxy, err := NewProxy(t.Context(), s.mlflow.URI)
	require.NoError(t, err)
	t.Cleanup(proxy.Close)
	p := s.newProject(t, "same-files", sharedExperiment, proxy.URI, "")
	// Nobody is done before all have come.
	proxy.Down.Store(true)
	starters := make([]*starter, atOnce(12))
	for i := range starters {
		starters[i] = s.startStarter(t, p, i)
	}
	for _, st := range starters {
		require.Eventually(t, st.waits, patience, 100*time.Millisecond, "a starter does not wait for MLflow")
	}
	proxy.Down.Store(false)

	for _, st := range starters {
		require.NoError(t, st.command.Wait(), st.stderr)
		require.JSONEq(t, starters[0].stdout.String(), st.stdout.String(), "all get the same answer")
	}
	require.Contains(t, starters[0].stdout.String(), `"outcome": "registered"`)
	versions := s.versionsOf(t, p.modelName)
	require.Len(t, versions, 1)
	held, err := s.holdingsOf(t.Context(), tagged(versions[0].Tags, activities.TagKey))
	require.NoError(t, err)
	_, err = s.portrait(t.Context(), held)
	require.NoError(t, err, "%s\n%s", held, proxy.Log())
}

// starter is a `starter register` under way.
type starter struct {
	command *exec.Cmd
	stdout  bytes.Buffer
	stderr  string // a file
}

func (s *site) startStarter(t *testing.T, p project, number int) *starter {
	t.Helper()
	st := &starter{stderr: filepath.Join(t.TempDir(), fmt.Sprintf("starter-%d.log", number))}
	log, err := os.Create(st.stderr)
	require.NoError(t, err)
	defer log.Close()
	st.command = exec.CommandContext(t.Context(), filepath.Join(s.folder, "starter"), "register", "--wait", "final", "--output", "json")
	st.command.Dir, st.command.Stdout, st.command.Stderr = p.root, &st.stdout, log
	st.command.Env = servertest.Environment([]string{"TEMPORAL_", "MLFLOW_", "REGISTRAR_", "ENV="},
		"TEMPORAL_ADDRESS="+s.temporal.HostPort, "REGISTRAR_TASK_QUEUE="+sharedQueue)
	require.NoError(t, st.command.Start())
	return st
}

func (st *starter) waits() bool {
	shown, err := os.ReadFile(st.stderr)
	return err == nil && strings.Contains(string(shown), "waiting (")
}

func TestConcurrency_DifferentModelsUnderOneNameAllGetVersions(t *testing.T) {
	t.Parallel()
	theSite(t).differentModels(t, "one-name", nil)
}

func TestConcurrency_DifferentModelsAreNotLostWithTheirWorker(t *testing.T) {
	t.Parallel()
	n := atOnce(8)
	theSite(t).differentModels(t, "one-name-killed", func(c *crew, proxy *Proxy) {
		require.NoError(t, eventually(t.Context(), func() bool { return proxy.Count("POST.model-versions.create.") > n/2 }))
		c.kill()
	})
}

// differentModels registers many models under one name at once, and lets something happen meanwhile.
func (s *site) differentModels(t *testing.T, name string, meanwhile func(*crew, *Proxy)) {
	t.Helper()
	ctx := t.Context()
	proxy, err := NewProxy(ctx, s.mlflow.URI)
	require.NoError(t, err)
	t.Cleanup(proxy.Close)
	c := &crew{t: t, site: s, taskQueue: name}
	c.start()
	t.Cleanup(c.end)

	runs := make([]client.WorkflowRun, atOnce(8))
	for i := range runs {
		p := s.newProject(t, name, sharedExperiment, proxy.URI, fmt.Sprintf(`, "number": %d`, i))
		runs[i], err = s.start(ctx, fmt.Sprintf("register/%s/%d", name, i), name, p)
		require.NoError(t, err)
	}
	if meanwhile != nil {
		meanwhile(c, proxy)
	}
	receipts := make([]receipt.Receipt, len(runs))
	for i, run := range runs {
		require.NoError(t, run.Get(ctx, &receipts[i]), "%s", proxy.Log())
		require.Equal(t, receipt.Registered, receipts[i].Outcome)
	}
	require.NoError(t, s.untilClosed(ctx, workflows.PromotionID(name, proxy.URI, "")))
	for i, run := range runs {
		require.NoError(t, s.untilClosed(ctx, workflows.SweepID(run.GetID(), run.GetRunID())))
		held, err := s.holdingsOf(ctx, receipts[i].RegistrationKey)
		require.NoError(t, err)
		require.Zero(t, held.duplicates(), "%s", held)
		require.Len(t, held.versions, 1, "%s", held)
		require.Equal(t, receipts[i].ModelVersion, held.versions[0].Version)
	}
	versions := s.versionsOf(t, name)
	require.Len(t, versions, len(runs))
	highest := versions[0]
	for _, v := range versions {
		if len(v.Version) > len(highest.Version) || len(v.Version) == len(highest.Version) && v.Version > highest.Version {
			highest = v
		}
	}
	for _, v := range versions {
		if v.Version == highest.Version {
			require.Equal(t, activities.Stage, v.CurrentStage, "version %s, the highest\n%s", v.Version, proxy.Log())
			require.Equal(t, []string{activities.Alias}, v.Aliases, "version %s, the highest\n%s", v.Version, proxy.Log())
			continue
		}
		require.NotEqual(t, activities.Stage, v.CurrentStage, "version %s\n%s", v.Version, proxy.Log())
		require.Empty(t, v.Aliases, "version %s", v.Version)
	}
}

func (s *site) versionsOf(t *testing.T, name string) []mlflow.ModelVersion {
	t.Helper()
	filter, err := mlflow.Filter(mlflow.AttributeIs("name", name))
	require.NoError(t, err)
	found, err := s.api.SearchModelVersions(t.Context(), filter)
	require.NoError(t, err)
	for i, v := range found {
		found[i], err = s.api.GetModelVersion(t.Context(), v.Name, v.Version)
		require.NoError(t, err)
	}
	return found
}
