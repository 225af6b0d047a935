package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"registrar/internal/docs"
	"registrar/internal/servertest"
)

// TestDocuments_RunAsTheyStand runs the commands in the documents: each block that tells a reader what to type, in the order of its document, in
// a copy of the example project.
func TestDocuments_RunAsTheyStand(t *testing.T) {
	t.Parallel()
	for _, name := range docs.Documents(t) {
		var blocks []docs.Block
		for _, block := range docs.Blocks(t, name) {
			if block.NotRun == "" {
				blocks = append(blocks, block)
				continue
			}
			t.Logf("%s:%d is not run: %s", name, block.Line, block.NotRun)
		}
		if len(blocks) > 0 {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				newSandbox(t).run(blocks)
			})
		}
	}
}

// sandbox is where a document's commands are run: a project with a registration, a worker that serves it, and programs under the names that
// the documents call them by.
type sandbox struct {
	t          *testing.T
	dir        string
	workflowID string
}

func newSandbox(t *testing.T) *sandbox {
	t.Helper()
	s := &sandbox{t: t, dir: t.TempDir()}
	projectIn(t, filepath.Join(s.dir, "project"), nameOf(t))
	projectIn(t, filepath.Join(s.dir, "pipelines", "acras"), nameOf(t)+"-acras")
	s.write("secret", "a-token", 0o600)
	s.write("home/.profile", "", 0o600)
	for name, script := range map[string]string{
		"starter":  starterInterrupted,
		"worker":   workerInBackground,
		"make":     `PATH=$REAL_PATH HOME=$REAL_HOME exec make --dry-run --no-print-directory -C "$REPOSITORY" "$@" > /dev/null`,
		"temporal": temporalAwaited,
	} {
		s.write("bin/"+name, "#!/usr/bin/env bash\n"+script+"\n", 0o700)
	}
	require.NoError(t, os.Symlink(filepath.Join(s.dir, "bin"), filepath.Join(s.dir, "project", "bin")))
	output := s.shell("set-up", "worker --allow-root \"$SANDBOX\"\nstarter register --wait final --output json")
	found := regexp.MustCompile(`"workflow_id": "(register/[^"]+)"`).FindStringSubmatch(output)
	require.NotNil(t, found, output)
	s.workflowID = found[1]
	return s
}

// starterInterrupted leaves what goes on until somebody has seen enough, as a reader would: by an interrupt. Of the registrations that other tests
// let wait some never end.
const starterInterrupted = `case " $* " in " watch "*)
    timeout --signal=INT 3 "$BINARIES/starter" "$@" || test $? = 124
    exit ;;
esac
exec "$BINARIES/starter" "$@"`

// workerInBackground is one that a script can go on after: a reader would take another terminal. What only tells something is run as it is.
const workerInBackground = `case "${1:---}" in --help|--version|-h|[a-z]*) exec "$BINARIES/worker" "$@" ;; esac
log=$(mktemp "$SANDBOX/worker-XXXXXX")
"$BINARIES/worker" "$@" > "$log" 2>&1 &
for _ in $(seq 600); do
    grep -q "worker is ready" "$log" && exit 0
    kill -0 $! 2> /dev/null || break
    sleep 0.1
done
cat "$log" >&2
exit 1`

// temporalAwaited tries again what needs that Temporal has heard of a worker, whose first words to it say so: a reader types no faster.
const temporalAwaited = `case " $* " in " worker deployment set-current-version "*)
    for _ in $(seq 300); do
        "$REPOSITORY/bin/temporal" "$@" && exit 0
        sleep 0.2
    done ;;
esac
exec "$REPOSITORY/bin/temporal" "$@"`

// placeholders are what the documents write for what is different in each place, and what it is here.
func (s *sandbox) placeholders() *strings.Replacer {
	return strings.NewReplacer(
		"https://mlflow.example.com", mlflowServer(s.t).URI,
		"temporal.example.com:7233", temporalServer(s.t).HostPort,
		"/srv/pipelines", filepath.Join(s.dir, "pipelines"),
		"/run/secrets/mlflow", filepath.Join(s.dir, "secret"),
		"WORKFLOW_ID", s.workflowID,
		"ACRAS_RandomForest_v1", nameOf(s.t),
		"chgrp -R registrar", fmt.Sprintf("chgrp -R %d", os.Getgid()),
	)
}

// run runs the blocks in one shell, as somebody would who types them one after the other.
func (s *sandbox) run(blocks []docs.Block) {
	s.t.Helper()
	var script strings.Builder
	for _, block := range blocks {
		fmt.Fprintf(&script, "at=%s:%d\n%s\n", block.Document, block.Line, s.placeholders().Replace(block.Text))
	}
	s.shell("commands", script.String())
}

// shell runs a script, and returns what it printed. Where a command fails, so does the test, and says where the command stands.
func (s *sandbox) shell(name, script string) string {
	s.t.Helper()
	log := filepath.Join(s.dir, name+".log")
	const strict = `set -euo pipefail
trap 'echo "the block at $at fails at: $BASH_COMMAND" >&2' ERR
at=the-set-up
`
	process, err := servertest.StartProcess(servertest.Command{
		Name: name, Path: "/bin/bash", Args: []string{"-c", strict + script}, Dir: filepath.Join(s.dir, "project"), Log: log,
		Env: servertest.Environment([]string{"TEMPORAL_", "MLFLOW_", "REGISTRAR_", "ENV=", "PATH=", "HOME="},
			"PATH="+filepath.Join(s.dir, "bin")+":"+os.Getenv("PATH"), "HOME="+filepath.Join(s.dir, "home"),
			"REAL_PATH="+os.Getenv("PATH"), "REAL_HOME="+os.Getenv("HOME"), "SANDBOX="+s.dir, "BINARIES="+filepath.Dir(binary(s.t, "worker")), "REPOSITORY="+servertest.Root(),
			"TEMPORAL_ADDRESS="+temporalServer(s.t).HostPort, "MLFLOW_TRACKING_URI="+mlflowServer(s.t).URI, "REGISTRAR_TASK_QUEUE="+nameOf(s.t)),
	})
	require.NoError(s.t, err)
	s.t.Cleanup(process.Stop) // with the workers that it left in the background
	select {
	case <-process.Done():
	case <-time.After(2 * patience):
		process.Kill()
		require.FailNow(s.t, "the commands do not end", process.Logs())
	}
	require.NoError(s.t, process.Err(), "%s", process.Logs())
	s.t.Logf("%s", process.Logs())
	return process.Logs()
}

func (s *sandbox) write(name, content string, mode os.FileMode) {
	s.t.Helper()
	path := filepath.Join(s.dir, name)
	require.NoError(s.t, os.MkdirAll(filepath.Dir(path), 0o700))
	require.NoError(s.t, os.WriteFile(path, []byte(content), mode))
}
