package snapshot_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"registrar/internal/snapshot"
)

// victimFolder names the project in which the test program registers over and over, for another one to kill it.
const victimFolder = "REGISTRAR_SNAPSHOT_TEST_VICTIM"

func TestMain(m *testing.M) {
	if folder := os.Getenv(victimFolder); folder != "" {
		fmt.Fprintln(os.Stderr, registerForever(folder))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// registerForever commits the same model with other settings each time, and clears it away now and then. A byte on its standard output says that
// it begins.
func registerForever(folder string) error {
	sources, rootDir, err := openProject(folder)
	if err != nil {
		return err
	}
	if _, err := os.Stdout.WriteString("."); err != nil {
		return err
	}
	ctx := context.Background()
	for round := 0; ; round++ {
		inputs := modelInputs()
		inputs.Params.Data = fmt.Appendf(nil, "min_roc_auc: 0.%d\n", round)
		staged, err := snapshot.Stage(ctx, sources, rootDir, inputs, nil)
		if err != nil {
			return err
		}
		unlock, err := snapshot.Lock(ctx, rootDir, snapshot.ShortKey(staged.Request().RegistrationKey))
		if err != nil {
			return err
		}
		committed, err := staged.Commit(ctx)
		if err != nil {
			return err
		}
		if err := unlock(); err != nil {
			return err
		}
		if err := committed.WriteReceipt([]byte("receipt")); err != nil {
			return err
		}
	}
}

func TestCommit_KilledAtAnyMomentLeavesAWholeRequest(t *testing.T) {
	program, err := os.Executable()
	require.NoError(t, err)
	p := newProject(t)
	key := filepath.Base(p.commit(p.inputs()).Path())
	changed := 0
	for kill := 0; kill < 25 || changed == 0 && kill < 1000; kill++ {
		before, err := snapshot.Open(p.rootDir, key)
		require.NoError(t, err)
		victim := exec.CommandContext(t.Context(), program)
		victim.Env = append(os.Environ(), victimFolder+"="+p.path)
		var output bytes.Buffer
		victim.Stderr = &output
		begins, err := victim.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, victim.Start())
		_, err = io.ReadFull(begins, make([]byte, 1))
		require.NoError(t, err, "%s", &output)
		<-time.After(time.Duration(3*kill) * time.Millisecond) // each dies at another moment
		require.NoError(t, victim.Process.Kill())
		require.Error(t, victim.Wait())
		require.Equal(t, syscall.SIGKILL, victim.ProcessState.Sys().(syscall.WaitStatus).Signal(), "%s", &output)

		after, err := snapshot.Open(p.rootDir, key)
		require.NoError(t, err)
		require.NoError(t, after.Verify(t.Context(), nil, nil))
		if after.Request().ID != before.Request().ID {
			changed++
		}
		unlock, err := snapshot.Lock(t.Context(), p.rootDir, key)
		require.NoError(t, err)
		require.NoError(t, unlock())
	}
	require.Positive(t, changed, "no victim lived long enough to commit")
	require.NoError(t, snapshot.CollectGarbage(p.rootDir, 0))
	p.commit(p.inputs())
	require.Equal(t, []string{key}, p.names())
}
