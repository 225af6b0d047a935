package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.temporal.io/api/workflowservice/v1"

	"registrar/activities"
	"registrar/internal/servertest"
	"registrar/workflows"
)

// checksOf are the checks that a doctor made, by name, each once and in order.
func checksOf(t *testing.T, a said) map[string]activities.Check {
	t.Helper()
	var list []activities.Check
	require.NoError(t, json.Unmarshal([]byte(a.stdout), &list), "%s%s", a.stdout, a.stderr)
	var names []string
	checks := map[string]activities.Check{}
	for _, c := range list {
		names = append(names, c.Name)
		checks[c.Name] = c
	}
	require.Equal(t, append([]string{"configuration", "files", "temporal", "namespace", "search_attributes", "worker"}, activities.WorkerChecks()...), names)
	return checks
}

func requireStatuses(t *testing.T, checks map[string]activities.Check, want map[string]activities.CheckStatus) {
	t.Helper()
	for name, status := range want {
		require.Equal(t, status, checks[name].Status, "%s: %+v", name, checks[name])
	}
}

func TestDoctor_SkipsWhatNeedsTemporal(t *testing.T) {
	a := inProcess(t, "doctor", "--root", newProject(t), "--output", "json")

	require.Equal(t, exitFailure, a.code)
	checks := checksOf(t, a)
	requireStatuses(t, checks, map[string]activities.CheckStatus{
		"configuration": "ok", "files": "ok", "temporal": "failed",
		"namespace": "skipped", "search_attributes": "skipped", "worker": "skipped", "project": "skipped", "artifact_store": "skipped",
	})
	require.Equal(t, "start it, or set TEMPORAL_ADDRESS to where it is", checks["temporal"].Remedy)
	require.Equal(t, "needs temporal", checks["namespace"].Detail)
	require.Contains(t, checks["files"].Detail, "roc_auc 0.75 >= 0.60: passed")
}

func TestDoctor_LeavesTheProjectAsItIs(t *testing.T) {
	root := newProject(t)
	inProcess(t, "doctor", "--root", root)
	require.NoDirExists(t, root+"/out")
}

func TestDoctor_ReadsSettingsAndFiles(t *testing.T) {
	for name, c := range map[string]struct {
		file, content         string
		check                 string
		status                activities.CheckStatus
		detail, remedyContain string
	}{
		"wrong threshold":  {"config/params.yaml", "registration_params: {min_roc_auc: 60}", "configuration", "failed", "config/params.yaml:1: registration_params.min_roc_auc: 60 is out of range: give a number between 0 and 1", ""},
		"model gone":       {"model.joblib", "", "files", "failed", "model.joblib: no such file", "correct the paths in config/config.yaml"},
		"no model":         {"model.joblib", "text", "files", "failed", "model.joblib: ", "correct the paths in config/config.yaml"},
		"metrics no JSON":  {"metrics.json", "roc_auc: 0.9", "files", "failed", "metrics.json", "correct the paths in config/config.yaml"},
		"refused by gate":  {"metrics.json", `{"roc_auc": NaN}`, "files", "warning", "the gate would reject the model: roc_auc NaN >= 0.60: rejected", "exit code 0"},
		"settings gone":    {"config/config.yaml", "", "configuration", "failed", "config/config.yaml: no such file", "starter init"},
		"extra file gone":  {"config/config.yaml", "model_registration: {root_dir: out, model_path: model.joblib, metric_file_name: metrics.json, model_name: m, extra_files: [columns.json]}", "files", "failed", "columns.json: no such file", "correct the paths"},
		"hostile extra":    {"config/config.yaml", "model_registration: {root_dir: out, model_path: model.joblib, metric_file_name: metrics.json, model_name: m, extra_files: [hostile.pkl]}", "files", "warning", "extra file hostile.pkl refused (posix.system: ", "exit code 0"},
		"hostile model":    {"model.joblib", runsCode, "files", "warning", "model file refused (posix.system: ", "exit code 0"},
		"name is shared":   {"config/config.yaml", "model_evaluation: {registered_model_name: m}\nmodel_registration: {root_dir: out, model_path: model.joblib, metric_file_name: metrics.json, model_name: m}", "configuration", "warning", "versions that passed no gate", ""},
		"unservable model": {"config/config.yaml", "model_registration: {root_dir: metrics.json, model_path: model.joblib, metric_file_name: metrics.json, model_name: m}", "files", "failed", "metrics.json", "correct the paths"},
	} {
		t.Run(name, func(t *testing.T) {
			root := newProject(t)
			write(t, root, "hostile.pkl", runsCode)
			if c.content == "" {
				require.NoError(t, os.Remove(filepath.Join(root, c.file)))
			} else {
				write(t, root, c.file, c.content)
			}
			checks := checksOf(t, inProcess(t, "doctor", "--root", root, "-o", "json"))
			require.Equal(t, c.status, checks[c.check].Status, "%+v", checks[c.check])
			require.Contains(t, checks[c.check].Detail, c.detail)
			require.Contains(t, checks[c.check].Remedy, c.remedyContain)
			if c.check == "configuration" && c.status == "failed" {
				requireStatuses(t, checks, map[string]activities.CheckStatus{"files": "skipped"})
			}
		})
	}
}

func TestDoctor_ReadsTheLockAsTheWorkerDoes(t *testing.T) {
	for name, c := range map[string]struct {
		file, content string
		status        activities.CheckStatus
		detail        string
	}{
		"good":        {"requirements.txt", "scipy==1.17.1\n", "ok", "the gate would pass the model: "},
		"broken":      {"uv.lock", "[[package]\n", "failed", "environment_file uv.lock is no uv.lock: "},
		"contradicts": {"requirements.txt", "scikit-learn==0.1.2\n", "failed", "environment or environment_file gives scikit-learn 0.1.2, but model.joblib was saved with "},
		"too large":   {"uv.lock", strings.Repeat("#", 16<<20+1), "failed", "environment_file uv.lock has 16777217 bytes, over the 16777216 of a lock file; name another"},
		"gone":        {"uv.lock", "", "failed", "uv.lock: no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			root := newProject(t)
			write(t, root, "config/config.yaml",
				"model_registration: {root_dir: out, model_path: model.joblib, metric_file_name: metrics.json, model_name: m, environment_file: "+c.file+"}")
			if c.content != "" {
				write(t, root, c.file, c.content)
			}

			checks := checksOf(t, inProcess(t, "doctor", "--root", root, "-o", "json"))

			require.Equal(t, c.status, checks["files"].Status, "%+v", checks["files"])
			require.Equal(t, 1, strings.Count(checks["files"].Detail, c.detail), checks["files"].Detail)
		})
	}
}

func TestDoctor_PassesEachLayout(t *testing.T) {
	for _, layout := range []string{"wrapper", "hybrid"} {
		root := newProject(t)
		write(t, root, "config/config.yaml", read(t, root, "config/config.yaml")+"  layout: "+layout+"\n")

		checks := checksOf(t, inProcess(t, "doctor", "--root", root, "-o", "json"))

		require.Equal(t, activities.CheckOK, checks["files"].Status, "%s: %+v", layout, checks["files"])
	}
}

func TestDoctor_PrintsALineForEachCheck(t *testing.T) {
	a := inProcess(t, "doctor", "--root", newProject(t))
	require.Equal(t, exitFailure, a.code)
	lines := strings.Split(strings.TrimSpace(a.stdout), "\n")
	require.Len(t, lines, 12+1, "and a remedy")
	require.Equal(t, "ok       configuration      config/config.yaml and config/params.yaml: model forest", lines[0])
	require.True(t, strings.HasPrefix(lines[2], "failed   temporal           temporal does not answer at 127.0.0.1:"), lines[2])
	require.Equal(t, "                          → start it, or set TEMPORAL_ADDRESS to where it is", lines[3])
	require.Equal(t, "skipped  namespace          needs temporal", lines[4])
	require.NotContains(t, a.stdout, "\x1b", "no colours off a terminal")
}

func aDoctorFindsWhatTemporalLacks(s temporalSite) {
	root := projectOf(s.t, "doctor")
	var stdout bytes.Buffer
	run(s.t.Context(), []string{"doctor", "--root", root, "-o", "json"}, append(s.environ(), "TEMPORAL_NAMESPACE=risk"), &stdout, &stdout)
	checks := checksOf(s.t, said{stdout: stdout.String()})
	requireStatuses(s.t, checks, map[string]activities.CheckStatus{
		"temporal": "ok", "namespace": "failed", "search_attributes": "skipped", "worker": "skipped", "project": "skipped",
	})
	require.Contains(s.t, checks["namespace"].Remedy, "temporal operator namespace create --namespace risk")

	a := s.starter("doctor", "--root", root, "-o", "json")
	require.Equal(s.t, exitFailure, a.code)
	checks = checksOf(s.t, a)
	requireStatuses(s.t, checks, map[string]activities.CheckStatus{
		"temporal": "ok", "namespace": "warning", "search_attributes": "warning", "worker": "failed", "project": "skipped",
	})
	require.Contains(s.t, checks["namespace"].Detail, "for 24 hours")
	require.Equal(s.t, "temporal operator namespace update --namespace default --retention 2160h", checks["namespace"].Remedy)
	require.Contains(s.t, checks["search_attributes"].Detail, fmt.Sprintf("%d of %d are missing", len(workflows.SearchAttributes()), len(workflows.SearchAttributes())))
	require.True(s.t, strings.HasPrefix(checks["search_attributes"].Remedy,
		"temporal operator search-attribute create --namespace default --name RegistrarModel --type Keyword --name "), checks["search_attributes"].Remedy)
	require.Equal(s.t, `no worker listens on task queue "`+s.taskQueue()+`" of namespace "default"`, checks["worker"].Detail)
	require.Contains(s.t, checks["worker"].Remedy, "worker --allow-root")

	for _, name := range []string{"namespace", "search_attributes"} {
		words := strings.Fields(checks[name].Remedy)
		remedy := exec.CommandContext(s.t.Context(), filepath.Join(servertest.Root(), "bin", words[0]), words[1:]...)
		remedy.Env = servertest.Environment([]string{"TEMPORAL_"}, s.environ()...)
		output, err := remedy.CombinedOutput()
		require.NoError(s.t, err, "%s\n%s", checks[name].Remedy, output)
	}
	require.EventuallyWithT(s.t, func(c *assert.CollectT) {
		checks := checksOf(s.t, s.starter("doctor", "--root", root, "-o", "json"))
		assert.Equal(c, activities.CheckOK, checks["namespace"].Status, "%+v", checks["namespace"])
		assert.Equal(c, activities.CheckOK, checks["search_attributes"].Status, "%+v", checks["search_attributes"])
	}, time.Minute, lookEvery, "the remedies help")
}

// aDoctorFindsAnOlderWorker: one that was built before there were check-ups.
func aDoctorFindsAnOlderWorker(s temporalSite) {
	s.work(registered)

	a := s.starter("doctor", "--root", projectOf(s.t, "older"), "-o", "json")

	require.Equal(s.t, exitFailure, a.code)
	checks := checksOf(s.t, a)
	requireStatuses(s.t, checks, map[string]activities.CheckStatus{"worker": "failed", "project": "skipped"})
	require.Contains(s.t, checks["worker"].Detail, "unable to find workflow type: CheckUp")
	require.EventuallyWithT(s.t, func(c *assert.CollectT) {
		open, err := s.client.CountWorkflow(s.t.Context(), &workflowservice.CountWorkflowExecutionsRequest{
			Query: "WorkflowType = 'CheckUp' AND ExecutionStatus = 'Running'",
		})
		assert.NoError(c, err)
		assert.Zero(c, open.GetCount())
	}, time.Minute, lookEvery, "nothing is left to a worker that may come; Temporal's list lags behind")
}

// workflowIDsAreCompleted for who asks how one stands, and those that run for who cancels one.
func workflowIDsAreCompleted(s temporalSite) {
	s.work(registered)
	for _, name := range []string{"completed-one", "completed-two"} {
		a := s.starter("register", "--root", projectOf(s.t, name), "-o", "json")
		require.Zero(s.t, a.code, a.stderr)
	}
	require.EventuallyWithT(s.t, func(c *assert.CollectT) {
		both := s.starter("__complete", "status", "register/completed-").stdout
		assert.Contains(c, both, "register/completed-one/")
		assert.Contains(c, both, "register/completed-two/")
	}, time.Minute, lookEvery, "Temporal's list lags behind")
	require.EventuallyWithT(s.t, func(c *assert.CollectT) { // where Temporal is slow, a shell gets nothing
		assert.Contains(c, s.starter("__complete", "status", "register/completed-t").stdout, "completed-two")
	}, time.Minute, lookEvery)
	require.NotContains(s.t, s.starter("__complete", "status", "register/completed-t").stdout, "completed-one")
	require.NotContains(s.t, s.starter("__complete", "cancel", "register/completed-").stdout, "register/", "none of them runs")
}
