package main

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/operatorservice/v1"

	"registrar/activities"
	"registrar/internal/servertest"
	"registrar/workflows"
)

const patience = 4 * time.Minute

// running is a worker in this process.
type running struct {
	t      *testing.T
	log    *safeBuffer
	cancel context.CancelFunc
	code   chan int
}

// startWorker runs a worker with a project folder of its own, until the test ends.
func startWorker(t *testing.T, environ []string) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r := &running{t: t, log: &safeBuffer{}, cancel: cancel, code: make(chan int, 1)}
	args := []string{"--allow-root", t.TempDir(), "--log-format", "json"}
	go func() { r.code <- run(ctx, args, environ, r.log, r.log) }()
	t.Cleanup(cancel)
	return r
}

func (r *running) awaitLog(text string) {
	r.t.Helper()
	require.Eventually(r.t, func() bool { return strings.Contains(r.log.String(), text) }, patience, 20*time.Millisecond,
		"the worker's log says %q", text)
}

// stop ends the worker as SIGTERM does, and returns its exit code.
func (r *running) stop() int {
	r.t.Helper()
	r.cancel()
	return r.ended()
}

func (r *running) ended() int {
	r.t.Helper()
	select {
	case code := <-r.code:
		return code
	case <-time.After(patience):
		require.FailNow(r.t, "the worker does not end", r.log.String())
		return 0
	}
}

// safeBuffer takes what several goroutines log.
type safeBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}

func temporalAt(port int) []string {
	return []string{fmt.Sprintf("TEMPORAL_ADDRESS=127.0.0.1:%d", port)}
}

func freePort(t *testing.T) int {
	t.Helper()
	port, err := servertest.FreePort()
	require.NoError(t, err)
	return port
}

func TestWorker_WrongUsageIsExitCode2(t *testing.T) {
	for _, c := range []struct {
		environ, args []string
		says          string
	}{
		{nil, []string{"--frobnicate"}, "--frobnicate"},
		{nil, []string{"folder"}, "folder"},
		{nil, []string{"--settle-time", "soon"}, "--settle-time"},
		{nil, []string{"--task-queue", ""}, `--task-queue "": is empty`},
		{nil, []string{"--task-queue", "/_sys/registrar/1"}, "which Temporal keeps for itself"},
		{[]string{"REGISTRAR_TASK_QUEUE=__temporal_registrar"}, nil, "which Temporal keeps for itself"},
		{nil, []string{"--log-level", "loud"}, "want debug, info, warn or error"},
		{nil, []string{"--log-format", "xml"}, "want console or json"},
		{nil, []string{"--wakes-per-second", "0"}, "want more than 0"},
		{nil, []string{"--wakes-per-second", "NaN"}, "want more than 0"},
		{nil, []string{"--part-size-bytes", "1000000"}, "want 5242880 to"},
		{nil, []string{"--settle-time", "0s"}, "--settle-time 0s: want a duration above 0"},
		{nil, []string{"--shutdown-timeout", "-1s"}, "--shutdown-timeout -1s"},
		{nil, []string{"--look-for", "31s"}, "--look-for 31s: want at most 30s"},
		{nil, []string{"--mlflow-dial-timeout", "-1s"}, "--mlflow-dial-timeout -1s: want a duration above 0"},
		{[]string{"REGISTRAR_MLFLOW_USER_TIMEOUT=-1s"}, nil, "--mlflow-user-timeout -1s"},
		{nil, []string{"--pprof-listen", "junk"}, `--pprof-listen: listen on "junk": want host:port`},
		{nil, []string{"--pprof-listen", "127.0.0.1:pprof"}, "want a port up to 65535"},
		{nil, []string{"--pprof-listen", "0.0.0.0:1"}, "profiles are served on loopback only"},
		{nil, []string{"--trust-host", "http://mlflow:5000"}, "want a host"},
		{nil, []string{"--min-pickle-policy", "Strict"}, "want off, deny or strict"},
		{nil, []string{"--allow-global", "my.Clip"}, "--allow-global lets nothing pass without --min-pickle-policy"},
		{nil, []string{"--temporal-ui-url", "localhost:8233"}, "want an address such as"},
		{nil, []string{"--temporal-ui-url", "https://ada:secret@temporal.example"}, `"***@temporal.example": want an address such as`},
		{nil, []string{"--http-listen", "9464"}, "want host:port"},
		{nil, []string{"--deployment-name", "risk.registrar"}, "which Temporal keeps for itself"},
		{nil, []string{"--deployment-name", "risk", "--build-id", ""}, "--build-id is empty"},
		{nil, []string{"health", "--frobnicate"}, "--frobnicate"},
		{[]string{"REGISTRAR_SETTLE_TIME=soon"}, nil, `REGISTRAR_SETTLE_TIME="soon"`},
	} {
		var log bytes.Buffer
		require.Equal(t, 2, run(t.Context(), c.args, c.environ, &log, &log), "%v %v", c.environ, c.args)
		require.Contains(t, log.String(), c.says)
		require.Contains(t, log.String(), "See worker --help.")
	}
}

func TestWorker_MissingAllowRootFailsWithItsName(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing")
	var log bytes.Buffer
	require.Equal(t, 1, run(t.Context(), []string{"--allow-root", missing}, nil, &log, &log))
	require.Contains(t, log.String(), missing)
}

func TestWorker_AddressThatIsNoneEndsItAtOnce(t *testing.T) {
	for _, address := range []string{"http://ada:secret@localhost:7233", "localhost", ":7233"} {
		var log bytes.Buffer
		require.Equal(t, 1, run(t.Context(), nil, []string{"TEMPORAL_ADDRESS=" + address}, &log, &log), address)
		require.Contains(t, log.String(), "TEMPORAL_ADDRESS")
		require.Contains(t, log.String(), "give host:port")
		require.NotContains(t, log.String(), "secret")
	}
}

func TestWorker_EachFlagHasAVariable(t *testing.T) {
	r := startWorker(t, append(temporalAt(freePort(t)), "REGISTRAR_TASK_QUEUE=gpu", "MLFLOW_TRACKING_URI=http://mlflow.example", "MLFLOW_TRACKING_TOKEN=T0ken"))
	r.awaitLog(`"task_queue":"gpu"`)
	r.awaitLog(`"mlflow":"http://mlflow.example","credentials":true`)
	require.NotContains(t, r.log.String(), "T0ken")
	require.Zero(t, r.stop())
}

func TestWorker_KnowsWhatCountsAsCredentials(t *testing.T) {
	for _, c := range []struct {
		process map[string]string
		has     bool
	}{
		{nil, false},
		{map[string]string{"MLFLOW_TRACKING_URI": "https://mlflow.example", "MLFLOW_TRACKING_USERNAME": ""}, false},
		{map[string]string{"MLFLOW_TRACKING_USERNAME": "ada"}, true},
		{map[string]string{"MLFLOW_TRACKING_TOKEN_FILE": "/run/token"}, true},
		{map[string]string{"MLFLOW_TRACKING_CLIENT_CERT_PATH": "/run/client.pem"}, true},
		{map[string]string{"MLFLOW_TRACKING_URI": "https://ada:secret@mlflow.example"}, true},
	} {
		require.Equal(t, c.has, hasCredentials(c.process), "%v", c.process)
	}
}

func TestWorker_WarnsOfVariablesThatItDoesNotKnow(t *testing.T) {
	r := startWorker(t, append(temporalAt(freePort(t)), "REGISTRAR_ALOW_ROOT=/srv", "REGISTRAR_VERSION=1.2.3", "REGISTRAR_HELP=me"))
	r.awaitLog(`["REGISTRAR_ALOW_ROOT","REGISTRAR_HELP","REGISTRAR_VERSION"]`)
	require.Zero(t, r.stop())
}

func TestWorker_EndsAlsoWhileTemporalIsAbsent(t *testing.T) {
	r := startWorker(t, temporalAt(freePort(t)))
	r.awaitLog("worker starts")
	require.Zero(t, r.stop())
	require.Equal(t, 1, strings.Count(r.log.String(), "worker stopped"))

	tries := startWorker(t, temporalAt(freePort(t)))
	tries.awaitLog("Temporal does not answer; trying again in 3s")
	require.Zero(t, tries.stop())
}

func TestWorker_StartsBeforeTemporalAndTakesUpWorkWhenItComes(t *testing.T) {
	port := freePort(t)
	r := startWorker(t, temporalAt(port))
	r.awaitLog("Temporal does not answer; trying again in 3s")

	server := servertest.Temporal(t, func(o *servertest.TemporalOptions) { o.Port = port })

	r.awaitLog("worker is ready")
	connection, err := server.Dial(t.Context())
	require.NoError(t, err)
	defer connection.Close()
	require.Eventually(t, func() bool {
		queue, err := connection.DescribeTaskQueue(t.Context(), workflows.TaskQueue, enums.TASK_QUEUE_TYPE_WORKFLOW)
		return err == nil && len(queue.GetPollers()) > 0
	}, patience, 100*time.Millisecond)
	attributes, err := connection.OperatorService().ListSearchAttributes(t.Context(), &operatorservice.ListSearchAttributesRequest{Namespace: server.Namespace})
	require.NoError(t, err)
	for name, kind := range workflows.SearchAttributes() {
		require.Equal(t, kind, attributes.GetCustomAttributes()[name], name)
	}
	require.NotContains(t, r.log.String(), "lacks search attributes")
	require.Zero(t, r.stop())
}

func TestWorker_WithoutItsSearchAttributesWorksAndSaysHowToAddThem(t *testing.T) {
	server := servertest.Temporal(t, func(o *servertest.TemporalOptions) { o.Args = []string{"--search-attribute", "RegistrarState=Int"} })

	r := startWorker(t, []string{"TEMPORAL_ADDRESS=" + server.HostPort})

	r.awaitLog("worker is ready")
	require.Contains(t, r.log.String(), "the namespace lacks search attributes")
	require.Contains(t, r.log.String(), "temporal operator search-attribute create --namespace default")
	require.Contains(t, r.log.String(), "--name RegistrarState --type Keyword")
	require.Zero(t, r.stop())
}

func TestWorker_HoldsNoHeartbeatBack(t *testing.T) {
	options := optionsFrom(settings{})
	require.Equal(t, activities.HeartbeatInterval, options.MaxHeartbeatThrottleInterval, "else the SDK holds them back for 0.8 of their timeout")
	require.Equal(t, activities.HeartbeatInterval, options.DefaultHeartbeatThrottleInterval)
	require.LessOrEqual(t, 2*activities.HeartbeatInterval, time.Second, "a cancellation comes with the answer to a heartbeat, and takes effect within a second")
}
