package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"registrar/internal/receipt"
	"registrar/internal/servertest"
)

// githubWorkflow is what a runner needs of the example's workflow to run its scripts.
type githubWorkflow struct {
	Jobs map[string]struct {
		Outputs map[string]string
		Steps   []githubStep
	}
}

type githubStep struct {
	Name, ID, Run, Shell string
	Env                  map[string]string
}

// githubRunner runs steps of the example's workflow in the project's folder, as GitHub's runner does.
type githubRunner struct {
	*site
	workflow githubWorkflow
	values   map[string]string // of expressions, such as steps.register.outputs.result
	summary  string            // $GITHUB_STEP_SUMMARY
}

func newGitHubRunner(s *site) *githubRunner {
	s.t.Helper()
	text, err := os.ReadFile(filepath.Join(servertest.Root(), "examples", "github-actions", "register.yml"))
	require.NoError(s.t, err)
	g := &githubRunner{site: s, values: map[string]string{}, summary: filepath.Join(s.t.TempDir(), "summary.md")}
	require.NoError(s.t, yaml.Unmarshal(text, &g.workflow))
	return g
}

// run runs a step, takes in what it puts out, and returns its exit code and what it said.
func (g *githubRunner) run(job, name string, path ...string) (code int, said string) {
	g.t.Helper()
	step := g.step(job, name)
	require.NotContains(g.t, step.Run, "${{", "what is not the workflow's own text comes by variables, and not into the script")
	folder := g.t.TempDir()
	script, output := filepath.Join(folder, "script"), filepath.Join(folder, "output")
	require.NoError(g.t, os.WriteFile(script, []byte(step.Run), 0o600))
	interpreter := []string{"bash", "--noprofile", "--norc", "-eo", "pipefail", script}
	if step.Shell == "python" {
		interpreter = []string{python(), script}
	}
	command := exec.CommandContext(g.t.Context(), interpreter[0], interpreter[1:]...)
	command.Dir = g.project.root
	command.Env = append(g.environment(), inPath(append(path, filepath.Dir(binary(g.t, "starter")), filepath.Dir(python()))...), "DVC_NO_ANALYTICS=true",
		"GITHUB_OUTPUT="+output, "GITHUB_STEP_SUMMARY="+g.summary)
	for name, value := range step.Env {
		command.Env = append(command.Env, name+"="+g.evaluate(value))
	}
	printed, err := command.CombinedOutput()
	g.t.Logf("step %s: %v\n%s", name, command.ProcessState, printed)
	if command.ProcessState == nil {
		require.NoError(g.t, err)
	}
	if put, err := os.ReadFile(output); err == nil {
		for line := range strings.Lines(string(put)) {
			key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
			g.values["steps."+step.ID+".outputs."+key] = value
		}
	}
	return command.ProcessState.ExitCode(), string(printed)
}

func (g *githubRunner) step(job, name string) githubStep {
	g.t.Helper()
	for _, step := range g.workflow.Jobs[job].Steps {
		if step.Name == name {
			return step
		}
	}
	require.Fail(g.t, "no such step", "%s of job %s", name, job)
	return githubStep{}
}

// outputs are what the jobs that need this one get.
func (g *githubRunner) outputs(job string) map[string]string {
	outputs := map[string]string{}
	for name, expression := range g.workflow.Jobs[job].Outputs {
		outputs[name] = g.evaluate(expression)
		g.values["needs."+job+".outputs."+name] = outputs[name]
	}
	return outputs
}

var githubExpression = regexp.MustCompile(`\$\{\{ *([a-z_.]+) *\}\}`)

func (g *githubRunner) evaluate(text string) string {
	return githubExpression.ReplaceAllStringFunc(text, func(expression string) string {
		return g.values[githubExpression.FindStringSubmatch(expression)[1]]
	})
}

func TestGitHubActions_TellHowTheRegistrationStands(t *testing.T) {
	t.Parallel()
	for result, registration := range map[string]struct {
		code    int
		prepare func(*site, *gateway)
		says    string   // an annotation; empty: none
		summary []string // what the job's summary shows
	}{
		"registered": {0, func(s *site, _ *gateway) { s.startWorker() }, "", []string{"| Version | `1` |", "| Stage | `Staging` |", "**passed**"}},
		"rejected": {0, func(s *site, _ *gateway) {
			s.project.demand(s.t, "0.99")
			s.startWorker()
		}, "::warning title=Model rejected::", []string{"**rejected**", `"min": 0.99`}},
		"pending": {0, func(s *site, g *gateway) {
			g.close()
			s.startWorker()
		}, "::notice title=Registration waits::", []string{"| Waits for | `tcp` |", "connection refused"}},
		"queued": {0, func(s *site, _ *gateway) {
			s.hostPort = unusedAddress(s.t)
		}, "::warning title=Registration queued::", []string{"| Waits for | `temporal` |", "**passed**"}},
		"failed": {1, func(s *site, _ *gateway) { s.project.demand(s.t, "high") }, "::error title=Registration failed::", []string{"see the log"}},
	} {
		t.Run(result, func(t *testing.T) {
			t.Parallel()
			s, gateway := gatedSite(t)
			registration.prepare(s, gateway)
			g := newGitHubRunner(s)

			code, said := g.run("register", "Register")

			require.Equal(t, registration.code, code)
			require.Contains(t, said, registration.says)
			if registration.says == "" {
				require.NotContains(t, said, "::")
			}
			code, _ = g.run("register", "Summary")
			require.Zero(t, code)
			require.Equal(t, result, g.outputs("register")["result"])
			summary, err := os.ReadFile(g.summary)
			require.NoError(t, err)
			for _, text := range append(registration.summary, "## Registration: "+result) {
				require.Contains(t, string(summary), text)
			}
			if result == "registered" {
				_, said := g.run("deploy", "Announce")
				require.Contains(t, said, "deploy models:/"+s.project.modelName+"/1")
			}
		})
	}
}

func TestGitHubActions_TrainAndHandOverWhatWasQueued(t *testing.T) {
	t.Parallel()
	s := sharedSite(t)
	onDVC(t, s)
	hostPort := s.hostPort
	s.hostPort = unusedAddress(t)
	g := newGitHubRunner(s)
	dvc := filepath.Join(servertest.Root(), ".build", "dvc", "bin")

	code, _ := g.run("register", "Train", dvc)
	require.Zero(t, code)
	code, _ = g.run("register", "Register")
	require.Zero(t, code)
	require.Equal(t, "queued", g.outputs("register")["result"])

	s.hostPort = hostPort
	s.startWorker()
	code, said := g.run("flush", "Hand over what is queued")
	require.Zero(t, code)
	require.Contains(t, said, "handed over  register/"+s.project.modelName)
	r := s.result(parseReceipt(t, s.project.read(t, "registration.json")).WorkflowID)
	s.requireOutcome(receipt.Registered, r)
	registryAt(t, s.mlflowURI).requireServed(r.RegistrationKey)
}
