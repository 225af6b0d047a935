package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"

	"registrar/config"
	"registrar/internal/receipt"
	"registrar/internal/servertest"
	"registrar/internal/snapshot"
)

// said is what a command, run in process, left behind.
type said struct {
	code           int
	stdout, stderr string
}

// inProcess runs a command where Temporal is not there.
func inProcess(t *testing.T, args ...string) said {
	t.Helper()
	return inProcessWith(t, nil, args...)
}

func inProcessWith(t *testing.T, environ []string, args ...string) said {
	t.Helper()
	port, err := servertest.FreePort()
	require.NoError(t, err)
	var stdout, stderr bytes.Buffer
	environ = append([]string{fmt.Sprintf("TEMPORAL_ADDRESS=127.0.0.1:%d", port)}, environ...)
	code := run(t.Context(), args, environ, &stdout, &stderr)
	return said{code: code, stdout: stdout.String(), stderr: stderr.String()}
}

// newProject is a project as the pipeline leaves it, with a model that scikit-learn wrote.
func newProject(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	model, err := os.ReadFile("../internal/modelfile/testdata/forest.joblib")
	require.NoError(t, err)
	for name, content := range map[string]string{
		"config/config.yaml": "model_registration:\n  root_dir: out\n  model_path: model.joblib\n  metric_file_name: metrics.json\n  model_name: forest\n",
		"config/params.yaml": "registration_params:\n  min_roc_auc: 0.60\n",
		"metrics.json":       `{"roc_auc": 0.75}`,
		"model.joblib":       string(model),
	} {
		write(t, root, name, content)
	}
	return root
}

func write(t *testing.T, root, name, content string) {
	t.Helper()
	file := filepath.Join(root, name)
	require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o700))
	require.NoError(t, os.WriteFile(file, []byte(content), 0o600))
}

func TestCommand_WrongUsageIsExitCode2(t *testing.T) {
	for name, args := range map[string][]string{
		"unknown command":          {"frobnicate"},
		"unknown flag":             {"register", "--frobnicate"},
		"unknown output":           {"list", "--output", "xml"},
		"unknown wait":             {"register", "--wait", "forever"},
		"unknown wait of a result": {"result", "register/m/k", "--wait", "forever"},
		"no task queue":            {"register", "--task-queue", ""},
		"task queue of Temporal's": {"register", "--task-queue", "__temporal_queue"},
		"no duration":              {"register", "--timeout", "soon"},
		"argument missing":         {"status"},
		"argument too many":        {"register", "model.joblib"},
		"cancel nothing":           {"cancel"},
		"flag without a value":     {"register", "--root"},
		"inspect nothing":          {"inspect"},
		"empty id of a status":     {"status", ""},
		"empty id of a result":     {"result", " "},
		"empty id of a recheck":    {"recheck", ""},
		"empty id of a cancel":     {"cancel", ""},
		"negative timeout":         {"register", "--timeout", "-1s"},
		"negative settle timeout":  {"result", "register/m/k", "--settle-timeout", "-1s"},
		"audit within no time":     {"audit", "--timeout", "0s"},
		"history within no time":   {"history", "--timeout", "0s"},
		"history of nothing":       {"history", ""},
		"history without versions": {"history", "--limit", "0"},
		"history of too many":      {"history", "--limit", "1001"},
		"chart of another kind":    {"history", "--chart", "history.png"},
		"watch two":                {"watch", "a", "b"},
		"watch an empty id":        {"watch", ""},
		"watch without a pause":    {"watch", "--interval", "1ms"},
		"list nothing":             {"list", "--limit", "0"},
		"force without its token":  {"register", "--force="},
		"force and a token":        {"register", "--force", "token"},
		"no shell":                 {"completion", "nonsense"},
		"two shells":               {"completion", "bash", "zsh"},
		"profiles nowhere":         {"list", "--pprof-listen", "junk"},
	} {
		t.Run(name, func(t *testing.T) {
			a := inProcess(t, args...)
			require.Equal(t, exitUsage, a.code)
			require.Contains(t, a.stderr, "error: ")
			require.Contains(t, a.stderr, "See starter --help.")
			require.Empty(t, a.stdout)
		})
	}
}

func TestCommand_WithoutArgumentsHelps(t *testing.T) {
	a := inProcess(t)
	require.Zero(t, a.code)
	require.Contains(t, a.stdout, "register    Register the model of a project")
}

func TestRegister_JSONOnStandardOutputAndTheRestBeside(t *testing.T) {
	root := newProject(t)

	a := inProcess(t, "register", "--root", root, "--output", "json", "--force")

	require.Zero(t, a.code)
	var r receipt.Receipt
	require.NoError(t, json.Unmarshal([]byte(a.stdout), &r), "standard output is JSON alone: %s", a.stdout)
	require.Equal(t, receipt.Queued, r.State)
	require.Equal(t, "temporal", r.Waiting.Layer)
	require.Contains(t, a.stderr, "force token: ")
	require.Contains(t, a.stderr, "warning: temporal does not answer")
	require.Contains(t, a.stderr, "starter flush")
	written, err := os.ReadFile(filepath.Join(root, "out", "receipt.json"))
	require.NoError(t, err)
	require.JSONEq(t, a.stdout, string(written))
}

func TestRegister_TextSaysTheSameToPeople(t *testing.T) {
	a := inProcess(t, "register", "--root", newProject(t))

	require.Zero(t, a.code)
	require.Contains(t, a.stdout, "queued: forest\n")
	require.Contains(t, a.stdout, "roc_auc")
	require.NotContains(t, a.stdout, "{")
}

func TestRegister_QueuedTellsByTheExitCodeWhenAsked(t *testing.T) {
	require.Equal(t, exitQueued, inProcess(t, "register", "--root", newProject(t), "--detailed-exitcode").code)
}

func TestRegister_QueuedModelThatIsRefusedHasItsDecision(t *testing.T) {
	root := newProject(t)
	write(t, root, "metrics.json", `{"roc_auc": NaN}`)

	a := inProcess(t, "register", "--root", root, "--output", "json")

	require.Zero(t, a.code)
	var r receipt.Receipt
	require.NoError(t, json.Unmarshal([]byte(a.stdout), &r))
	require.False(t, r.Decision.Passed)
	decision, err := os.ReadFile(filepath.Join(root, "out", "decision.json"))
	require.NoError(t, err)
	require.Contains(t, string(decision), `"passed": false`)
}

// runsCode is a pickle that calls posix.system.
const runsCode = "\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x04true\x85R."

func TestRegister_QueuedExtraFileThatWouldRunCodeIsRefused(t *testing.T) {
	root := newProject(t)
	write(t, root, "encoder.pkl", runsCode)
	settings := read(t, root, "config/config.yaml")
	write(t, root, "config/config.yaml", strings.Replace(settings, "model_registration:\n", "model_registration:\n  extra_files: [encoder.pkl]\n", 1))

	a := inProcess(t, "register", "--root", root, "--output", "json")

	require.Zero(t, a.code, a.stderr)
	var r receipt.Receipt
	require.NoError(t, json.Unmarshal([]byte(a.stdout), &r))
	require.False(t, r.Decision.Passed)
	require.Equal(t, "allowed", r.Decision.Model.Verdict)
	require.Equal(t, "encoder.pkl", r.Decision.Model.ExtraFiles[0].Path)
	require.Contains(t, read(t, root, "out/decision.json"), "posix.system")
	require.Regexp(t, `extra file +encoder\.pkl refused\n +reason +posix\.system`, inProcess(t, "register", "--root", root).stdout)
}

func TestRegister_QueuedModelThatWouldRunCodeIsRefusedByThePolicy(t *testing.T) {
	for policy, passed := range map[string]bool{"strict": false, "deny": false, "off": true} {
		root := newProject(t)
		write(t, root, "model.joblib", runsCode)
		settings := read(t, root, "config/config.yaml")
		write(t, root, "config/config.yaml", strings.Replace(settings, "model_registration:\n", "model_registration:\n  pickle_policy: "+policy+"\n", 1))

		a := inProcess(t, "register", "--root", root, "--output", "json")

		require.Zero(t, a.code, a.stderr)
		var r receipt.Receipt
		require.NoError(t, json.Unmarshal([]byte(a.stdout), &r))
		require.Equal(t, passed, r.Decision.Passed, policy)
		require.Equal(t, policy, r.Decision.Model.Policy)
		require.Contains(t, r.Decision.Model.Reasons[0], "posix.system", "reported whatever the policy")
		require.Contains(t, read(t, root, "out/decision.json"), "posix.system")
	}
}

func TestRegister_BadInputIsOneLineAndExitCode1(t *testing.T) {
	root := newProject(t)
	require.NoError(t, os.Remove(filepath.Join(root, "model.joblib")))

	a := inProcess(t, "register", "--root", root, "--output", "json")

	require.Equal(t, exitFailure, a.code)
	require.Regexp(t, `^error: [^\n]*model\.joblib[^\n]*: run the stage that writes it[^\n]*\n$`, a.stderr)
	require.Empty(t, a.stdout)
	require.NoDirExists(t, filepath.Join(root, "out", "registrations"))
}

func TestRegister_ForceWithATokenThatStandsAlone(t *testing.T) {
	require.Contains(t, inProcess(t, "register", "--force", "rollout-7").stderr, "want --force=rollout-7")
	require.Contains(t, inProcess(t, "register", "--force=").stderr, "--force alone for a random one")

	a := inProcess(t, "register", "--root", newProject(t), "--force=random")
	require.Zero(t, a.code)
	require.NotContains(t, a.stderr, "force token", "a token like any other")
}

func TestRegister_BadMetricsAreNotQueued(t *testing.T) {
	root := newProject(t)
	write(t, root, "metrics.json", "roc_auc: 0.75")

	a := inProcess(t, "register", "--root", root)

	require.Equal(t, exitFailure, a.code)
	require.Contains(t, a.stderr, "error: parse metrics metrics.json")
	require.Empty(t, a.stdout)
	left, err := os.ReadDir(filepath.Join(root, "out", "registrations"))
	require.NoError(t, err)
	require.Empty(t, left)
}

func TestRegister_SettingsThatAreNotThereNameTheFlag(t *testing.T) {
	for name, c := range map[string]struct{ missing, says string }{
		"config": {"config/config.yaml", "config/config.yaml: no such file or directory (in %s): give --root or --config"},
		"params": {"config/params.yaml", "config/params.yaml: no such file or directory (in %s): give --root or --params"},
		"root":   {".", "%s: no such file or directory: give the project with --root"},
	} {
		t.Run(name, func(t *testing.T) {
			root := newProject(t)
			require.NoError(t, os.RemoveAll(filepath.Join(root, c.missing)))

			a := inProcess(t, "register", "--root", root)

			require.Equal(t, exitFailure, a.code)
			require.Contains(t, a.stderr, fmt.Sprintf(c.says, root))
		})
	}
}

func TestRegister_RootDirThatIsNoFolderIsNamedByItsSetting(t *testing.T) {
	root := newProject(t)
	write(t, root, "out", "")

	a := inProcess(t, "register", "--root", root)

	require.Equal(t, exitFailure, a.code)
	require.Contains(t, a.stderr, "error: config/config.yaml: model_registration.root_dir: open folder out: ")
}

func TestRegister_WarnsOnce(t *testing.T) {
	root := newProject(t)
	write(t, root, "config/config.yaml", "model_evaluation:\n  registered_model_name: forest\n"+
		"model_registration:\n  root_dir: out\n  model_path: model.joblib\n  metric_file_name: metrics.json\n  model_name: forest\n")

	a := inProcess(t, "register", "--root", root)

	require.Zero(t, a.code)
	require.Equal(t, 1, strings.Count(a.stderr, "model_evaluation.registered_model_name"), a.stderr)
}

func TestRegister_AWrongSettingOfTemporalIsNoOutage(t *testing.T) {
	t.Parallel()
	tls := httptest.NewUnstartedServer(http.NotFoundHandler())
	tls.Config.ErrorLog = log.New(io.Discard, "", 0)
	tls.EnableHTTP2 = true
	tls.StartTLS()
	t.Cleanup(tls.Close)
	plain := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(plain.Close)
	for name, c := range map[string]struct {
		environ []string
		says    []string
	}{
		"scheme":         {[]string{"TEMPORAL_ADDRESS=http://temporal:7233"}, []string{"TEMPORAL_ADDRESS", `"http://temporal:7233"`, "has a scheme", "such as localhost:7233"}},
		"no port":        {[]string{"TEMPORAL_ADDRESS=temporal"}, []string{"TEMPORAL_ADDRESS", `"temporal"`, "such as localhost:7233"}},
		"port by a name": {[]string{"TEMPORAL_ADDRESS=temporal:grpc"}, []string{"has no port"}},
		"no host":        {[]string{"TEMPORAL_ADDRESS=:7233"}, []string{"has no host"}},
		"path":           {[]string{"TEMPORAL_ADDRESS=temporal:7233/prod"}, []string{"has no port"}},
		"unknown authority": {
			[]string{"TEMPORAL_ADDRESS=" + tls.Listener.Addr().String(), "TEMPORAL_TLS=true"},
			[]string{tls.Listener.Addr().String(), "certificate signed by unknown authority", "set TEMPORAL_TLS"},
		},
		"no TLS there": {
			[]string{"TEMPORAL_ADDRESS=" + plain.Listener.Addr().String(), "TEMPORAL_TLS=true"},
			[]string{"does not look like a TLS handshake", "set TEMPORAL_TLS"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := newProject(t)
			var stdout, stderr bytes.Buffer

			code := run(t.Context(), []string{"register", "--root", root}, c.environ, &stdout, &stderr)

			require.Equal(t, exitFailure, code)
			for _, text := range c.says {
				require.Contains(t, stderr.String(), text)
			}
			require.Empty(t, stdout.String())
			require.NoFileExists(t, filepath.Join(root, "out", "receipt.json"))
		})
	}
}

func TestRegister_ANameThatDoesNotResolveIsAnOutage(t *testing.T) {
	t.Parallel()
	// The domain is reserved to be nobody's (RFC 2606).
	var stdout, stderr bytes.Buffer
	code := run(t.Context(), []string{"register", "--root", newProject(t)}, []string{"TEMPORAL_ADDRESS=temporal.invalid:7233"}, &stdout, &stderr)
	require.Zero(t, code, stderr.String())
	require.Contains(t, stdout.String(), "queued: forest")
}

// dying is a Temporal that dies after the starter connected.
type dying struct {
	client.Client
	described error
}

func (d dying) Close() {}

func (d dying) DescribeWorkflowExecution(context.Context, string, string) (*workflowservice.DescribeWorkflowExecutionResponse, error) {
	return nil, d.described
}

func (d dying) ExecuteWorkflow(context.Context, client.StartWorkflowOptions, any, ...any) (client.WorkflowRun, error) {
	return nil, serviceerror.NewUnavailable("connection refused")
}

func TestRegister_TemporalThatDiesAfterItAnsweredIsAnOutage(t *testing.T) {
	for name, described := range map[string]error{
		"before the start": serviceerror.NewUnavailable("connection refused"),
		"at the start":     serviceerror.NewNotFound("no such workflow"),
	} {
		t.Run(name, func(t *testing.T) {
			root := newProject(t)
			var stdout, stderr bytes.Buffer
			s := newStarter([]string{"TEMPORAL_ADDRESS=temporal:7233"}, &stdout, &stderr)
			s.dial = func(context.Context, client.Options) (client.Client, error) { return dying{described: described}, nil }

			code := s.run(t.Context(), []string{"register", "--root", root, "--detailed-exitcode"})

			require.Equal(t, exitQueued, code, stderr.String())
			require.Contains(t, stderr.String(), "temporal does not answer at temporal:7233")
			decision, err := os.ReadFile(filepath.Join(root, "out", "decision.json"))
			require.NoError(t, err)
			require.Contains(t, string(decision), `"passed": true`)
			written, err := os.ReadFile(filepath.Join(root, "out", "receipt.json"))
			require.NoError(t, err)
			require.Contains(t, string(written), `"state": "queued"`)
		})
	}
}

// refusing is a Temporal that answers, and starts nothing.
type refusing struct {
	dying
	why error
}

func (r refusing) ExecuteWorkflow(context.Context, client.StartWorkflowOptions, any, ...any) (client.WorkflowRun, error) {
	return nil, r.why
}

// registerAt registers where Temporal is what c is.
func registerAt(t *testing.T, c client.Client, root string, args ...string) said {
	t.Helper()
	return startAt(t, c, append([]string{"register", "--root", root, "--output", "json"}, args...)...)
}

func startAt(t *testing.T, c client.Client, args ...string) said {
	t.Helper()
	var stdout, stderr bytes.Buffer
	s := newStarter([]string{"TEMPORAL_ADDRESS=temporal:7233"}, &stdout, &stderr)
	s.dial = func(context.Context, client.Options) (client.Client, error) { return c, nil }
	code := s.run(t.Context(), args)
	return said{code: code, stdout: stdout.String(), stderr: stderr.String()}
}

func queuedIn(t *testing.T, root string) []snapshot.Request {
	t.Helper()
	p, err := openProject(registerFlags{root: root, config: config.ConfigPath, params: config.ParamsPath})
	require.NoError(t, err)
	defer p.close()
	backlog, err := p.backlog()
	require.NoError(t, err)
	return backlog
}

// lost is a Temporal that starts a registration and is not there afterwards, and running one that has it and knows no more.
type lost struct {
	dying
	started *bool
	running bool
	looked  func() // is called when it is asked how the registration stands; nil for nothing
}

func (l lost) ExecuteWorkflow(context.Context, client.StartWorkflowOptions, any, ...any) (client.WorkflowRun, error) {
	*l.started = true
	return startedRun{}, nil
}

type startedRun struct{ client.WorkflowRun }

func (startedRun) GetRunID() string { return "run" }

func (l lost) DescribeWorkflowExecution(_ context.Context, id, _ string) (*workflowservice.DescribeWorkflowExecutionResponse, error) {
	switch {
	case !*l.started:
		return nil, serviceerror.NewNotFound("no such workflow")
	case l.looked != nil:
		l.looked()
	}
	if !l.running {
		return nil, serviceerror.NewUnavailable("connection refused")
	}
	return &workflowservice.DescribeWorkflowExecutionResponse{WorkflowExecutionInfo: &workflowpb.WorkflowExecutionInfo{
		Execution: &commonpb.WorkflowExecution{WorkflowId: id, RunId: "run"}, Status: enums.WORKFLOW_EXECUTION_STATUS_RUNNING,
	}}, nil
}

func (lost) GetWorkflowHistory(context.Context, string, string, bool, enums.HistoryEventFilterType) client.HistoryEventIterator {
	return noHistory{}
}

func (lost) QueryWorkflow(context.Context, string, string, string, ...any) (converter.EncodedValue, error) {
	return nil, serviceerror.NewUnavailable("no worker")
}

type noHistory struct{ client.HistoryEventIterator }

func (noHistory) HasNext() bool { return false }

func TestRegister_TellsWhatItKnowsWhereNobodyElseDoes(t *testing.T) {
	for name, c := range map[string]struct {
		running bool
		args    []string
		state   receipt.State
	}{
		"lost at once":     {false, []string{noWait}, receipt.Waiting},
		"lost on the way":  {false, []string{"--settle-timeout=1ms"}, receipt.Waiting},
		"not worked on":    {true, []string{noWait}, receipt.Running},
		"not within limit": {true, []string{"--wait=final", "--timeout=1ms"}, receipt.Running},
	} {
		t.Run(name, func(t *testing.T) {
			root := newProject(t)
			settings := read(t, root, "config/config.yaml")
			write(t, root, "config/config.yaml", "model_evaluation:\n  registered_model_name: forest\n"+settings)

			a := registerAt(t, lost{dying: absent, started: new(bool), running: c.running}, root, c.args...)

			require.Zero(t, a.code, a.stderr)
			var r receipt.Receipt
			require.NoError(t, json.Unmarshal([]byte(a.stdout), &r))
			require.Equal(t, c.state, r.State)
			require.Equal(t, "forest", r.ModelName)
			require.Len(t, r.ModelSHA256, 64)
			require.Len(t, r.RegistrationKey, 64)
			require.True(t, r.Decision.Passed)
			require.Len(t, r.Warnings, 1)
			require.JSONEq(t, a.stdout, read(t, root, "out/receipt.json"))
		})
	}
}

func TestFlush_TellsWhatWasKnownOfWhatItHandsOver(t *testing.T) {
	root := newProject(t)
	require.Zero(t, registerAt(t, absent, root).code)
	write(t, root, "metrics.json", `{"roc_auc": 0.80}`)
	require.Zero(t, registerAt(t, absent, root).code)

	a := startAt(t, lost{dying: absent, started: new(bool)}, "flush", "--root", root, "--output", "json", "--settle-timeout", "1ms")

	var handed []receipt.Receipt
	require.NoError(t, json.Unmarshal([]byte(a.stdout), &handed))
	require.Len(t, handed, 1, "the other one stays queued, since Temporal is gone")
	require.Equal(t, "temporal", handed[0].Waiting.Layer)
	require.Len(t, handed[0].ModelSHA256, 64)
	require.True(t, handed[0].Decision.Passed)
	kept := written(t, root, filepath.Join("out", snapshot.FolderPath(handed[0].RegistrationKey), "receipt.json"))
	require.True(t, kept.Decision.Passed)
}

func TestRegister_ReportsAlsoWhereTheReceiptCannotBeKept(t *testing.T) {
	root := newProject(t)
	remove := func() { assert.NoError(t, os.RemoveAll(filepath.Join(root, "out"))) }

	a := registerAt(t, lost{dying: absent, started: new(bool), running: true, looked: remove}, root, noWait)

	require.Zero(t, a.code, a.stderr)
	var r receipt.Receipt
	require.NoError(t, json.Unmarshal([]byte(a.stdout), &r))
	require.Equal(t, receipt.Running, r.State)
	require.Contains(t, a.stderr, "warning: the receipt could not be kept in "+filepath.Join(root, "out", "registrations"))
}

var absent = dying{described: serviceerror.NewNotFound("no such workflow")}

func TestRegister_WhatTemporalDoesNotStartStaysQueuedAndIsAFailure(t *testing.T) {
	for name, why := range map[string]error{
		"invalid": serviceerror.NewInvalidArgument("TaskQueue is too long"), "denied": serviceerror.NewPermissionDenied("no", "no"), "perhaps started": serviceerror.NewInternal("lost"),
	} {
		t.Run(name, func(t *testing.T) {
			root := newProject(t)

			a := registerAt(t, refusing{dying: absent, why: why}, root)

			require.Equal(t, exitFailure, a.code)
			require.Contains(t, a.stderr, "error: start workflow register/forest/")
			require.Contains(t, a.stderr, "the files stay queued in ")
			require.Empty(t, a.stdout)
			require.Len(t, queuedIn(t, root), 1)
		})
	}
}

func TestCommands_ThatNeedTemporalFailWithItsAddress(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"list"}, {"watch"}, {"status", "x"}, {"result", "x"}, {"cancel", "x"}, {"recheck", "x"}} {
		t.Run(args[0], func(t *testing.T) {
			t.Parallel()
			a := inProcess(t, args...)
			require.Equal(t, exitFailure, a.code)
			require.Contains(t, a.stderr, "error: temporal does not answer at 127.0.0.1:")
			require.Empty(t, a.stdout)
		})
	}
}

func TestCommand_ServesItsProfilesOnLoopbackWhileItRuns(t *testing.T) {
	var stderr bytes.Buffer
	s := newStarter(nil, io.Discard, &stderr)
	var status int
	s.dial = func(ctx context.Context, _ client.Options) (client.Client, error) {
		at := regexp.MustCompile(`http://127\.0\.0\.1:\d+/debug/pprof/`).FindString(stderr.String())
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
		require.NoError(t, err)
		response, err := http.DefaultClient.Do(request)
		require.NoError(t, err)
		status = response.StatusCode
		return nil, errors.Join(serviceerror.NewUnavailable("connection refused"), response.Body.Close())
	}
	require.Equal(t, exitFailure, s.run(t.Context(), []string{"list", "--pprof-listen", "127.0.0.1:0"}))
	require.Equal(t, http.StatusOK, status)

	for _, elsewhere := range []string{"0.0.0.0:0", ":0", "192.0.2.1:0"} {
		refused := inProcess(t, "list", "--pprof-listen", elsewhere)
		require.Equal(t, exitUsage, refused.code)
		require.Contains(t, refused.stderr, "--pprof-listen: listen on "+elsewhere)
		require.Contains(t, refused.stderr, "profiles are served on loopback only")
	}
}

func TestCommand_TaskQueueComesFromItsVariable(t *testing.T) {
	s := &starter{environ: []string{"REGISTRAR_TASK_QUEUE=gpu"}}
	s.command()
	require.Equal(t, "gpu", s.taskQueue)

	s = &starter{}
	s.command()
	require.Equal(t, "registrar", s.taskQueue)
}

func TestInspect_TellsWhatAFileSaysOfItself(t *testing.T) {
	const file = "../internal/modelfile/testdata/forest.joblib"
	a := inProcess(t, "inspect", file, "--output", "json")
	require.Zero(t, a.code)
	require.True(t, json.Valid([]byte(a.stdout)))
	require.Contains(t, a.stdout, "RandomForestClassifier")
	require.Contains(t, inProcess(t, "inspect", file).stdout, "RandomForestClassifier")

	none := inProcess(t, "inspect", "command_test.go")
	require.Equal(t, exitFailure, none.code)
	require.Contains(t, none.stderr, "command_test.go")
	require.Contains(t, none.stderr, "want a model written by joblib.dump, with or without compression, or by pickle.dump")
}
