package servertest

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const patience = 2 * time.Minute

// family is a command with a child: both hold the FIFO open, so that its reader sees the end when both are gone. They
// ignore SIGTERM as far as stubborn says.
func family(t *testing.T, fifo, stubborn string) Command {
	t.Helper()
	script := `trap '` + stubborn + `' TERM; exec 3>"$0"; echo hello; sh -c 'sleep 300' & echo started >&3; wait`
	return Command{
		Name: "family", Path: "/bin/sh", Args: []string{"-c", script, fifo},
		Log: filepath.Join(filepath.Dir(fifo), "log", "family.log"),
	}
}

func makeFIFO(t *testing.T) string {
	t.Helper()
	fifo := filepath.Join(t.TempDir(), "fifo")
	require.NoError(t, syscall.Mkfifo(fifo, 0o600))
	return fifo
}

// watch returns a channel that gets what the family wrote once it has started, and is closed when all of it is gone.
func watch(t *testing.T, fifo string) <-chan string {
	t.Helper()
	seen := make(chan string, 1)
	go func() {
		defer close(seen)
		reader, err := os.Open(fifo)
		if err != nil {
			seen <- err.Error()
			return
		}
		defer reader.Close()
		line := make([]byte, len("started\n"))
		_, _ = io.ReadFull(reader, line)
		seen <- string(line)
		_, _ = io.Copy(io.Discard, reader)
	}()
	return seen
}

func next(t *testing.T, seen <-chan string) (text string, open bool) {
	t.Helper()
	select {
	case text, open = <-seen:
	case <-time.After(patience):
		require.Fail(t, "nothing seen in time")
	}
	return text, open
}

func TestProcess_KillTakesTheWholeTree(t *testing.T) {
	fifo := makeFIFO(t)
	seen := watch(t, fifo)
	process, err := StartProcess(family(t, fifo, ""))
	require.NoError(t, err)
	t.Cleanup(process.Kill)
	text, _ := next(t, seen)
	require.Equal(t, "started\n", text)

	process.Kill()

	_, open := next(t, seen)
	require.False(t, open, "the child outlived its parent")
	require.ErrorContains(t, process.Err(), "killed")
	require.Equal(t, "hello\n", process.Logs())
	process.Stop() // repeatable, and no signal to a group that may be another's by now
}

func TestProcess_StopLetsTheCommandLeave(t *testing.T) {
	fifo := makeFIFO(t)
	seen := watch(t, fifo)
	process, err := StartProcess(family(t, fifo, "echo leaving; exit 0"))
	require.NoError(t, err)
	t.Cleanup(process.Kill)
	_, _ = next(t, seen)

	process.Stop()

	_, open := next(t, seen)
	require.False(t, open, "the child outlived its parent")
	require.NoError(t, process.Err())
	require.Equal(t, "hello\nleaving\n", process.Logs())
}

// The process under test is this test binary, run again: it starts a family and is then killed.
func TestProcess_DiesWithItsStarter(t *testing.T) {
	const variable = "SERVERTEST_FIFO"
	if fifo := os.Getenv(variable); fifo != "" {
		process, err := StartProcess(family(t, fifo, ""))
		require.NoError(t, err)
		<-process.Done()
		return
	}
	fifo := makeFIFO(t)
	seen := watch(t, fifo)
	starter := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestProcess_DiesWithItsStarter$")
	starter.Env = append(os.Environ(), variable+"="+fifo)
	require.NoError(t, starter.Start())
	text, _ := next(t, seen)
	require.Equal(t, "started\n", text)

	require.NoError(t, starter.Process.Kill())

	require.ErrorContains(t, starter.Wait(), "killed")
	_, open := next(t, seen)
	require.False(t, open, "the family outlived the process that started it")
}

func TestProcess_LogsAreBounded(t *testing.T) {
	log := filepath.Join(t.TempDir(), "many.log")
	process, err := StartProcess(Command{
		Name: "many", Path: "/bin/sh", Log: log,
		Args: []string{"-c", `i=0; while [ $i -lt 3000 ]; do echo "a line of thirty-two characters"; i=$((i+1)); done; echo end`},
	})
	require.NoError(t, err)
	require.NoError(t, process.Err())
	process.Stop()
	require.Len(t, process.Logs(), logTailBytes)
	require.Equal(t, "\nend\n", process.Logs()[logTailBytes-5:])
}

func TestProcess_MissingExecutableIsNamed(t *testing.T) {
	_, err := StartProcess(Command{Name: "ghost", Path: "/does/not/exist", Log: filepath.Join(t.TempDir(), "log")})
	require.ErrorContains(t, err, "start ghost: ")
	require.ErrorContains(t, err, "/does/not/exist")
	require.ErrorIs(t, err, os.ErrNotExist)
}
