package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"registrar/activities"
	"registrar/internal/mlflow"
	"registrar/internal/receipt"
	"registrar/internal/servertest"
	"registrar/workflows"
)

const (
	// responseTimeout is how long a worker waits for MLflow's answer: long enough for a server that serves many at once.
	responseTimeout = 4 * time.Second
	// settleTime is when the sweep comes; what is late comes before. A zombie that wakes needs a moment.
	settleTime = 15 * time.Second
	// patience bounds a registration with its faults. A frozen worker keeps tasks that it was given for as long as their heartbeat timeouts.
	patience = 5 * time.Minute
)

// setting is what a registration finds in MLflow.
type setting string

const (
	plain      setting = "plain"      // its experiment is there, its name is not
	founding   setting = "founding"   // its experiment is not there either
	succeeding setting = "succeeding" // its name has a version, which holds stage and alias
)

// scenario is one registration with its faults.
type scenario struct {
	setting setting
	faults  []Planned
}

// name is by what the scenario is run again.
func (sc scenario) name() string {
	var parts []string
	if sc.setting != plain {
		parts = append(parts, string(sc.setting))
	}
	for _, f := range sc.faults {
		parts = append(parts, f.String())
	}
	return strings.Join(parts, ",")
}

// ownWorker tells whether a fault befalls the worker.
func (sc scenario) ownWorker() bool {
	for _, f := range sc.faults {
		if f.Fault.Worker {
			return true
		}
	}
	return false
}

// mayFail tells whether one of the faults is final by design. A body that is too large stays so: the upload is refused, and the registration
// fails, but for the picture of the history, on which nothing depends. Redirects where MLflow was never reached yet are a wrong address, where the second
// try of the step meets another one; later it is something in between that has changed, and the registration waits for it to change back.
func (sc scenario) mayFail(log []*Exchange) (may, must bool) {
	for _, f := range sc.faults {
		switch f.Fault.Name {
		case "413":
			may = may || !strings.HasPrefix(f.Request, "PUT.artifacts."+activities.HistoryFile)
			must = may && len(sc.faults) == 1
		case "redirect":
			for _, e := range log {
				if e.fault == "redirect" && isFirstContact(log, e) && len(sc.faults) > 1 {
					may = true
				}
			}
		}
	}
	return may, must
}

// isFirstContact tells whether a request is one of the first step's, which sees whether there is an MLflow server at all. The version is asked for
// its own sake: a server that does not tell it is served.
func isFirstContact(log []*Exchange, e *Exchange) bool {
	if strings.HasPrefix(e.Name, "GET.version.") {
		return false
	}
	for _, earlier := range log[:e.Number] {
		if strings.HasPrefix(earlier.Name, "GET.model-versions.search.") {
			return false
		}
	}
	return true
}

// hidesVersion tells whether a page or a redirect answered for the server's version. So does a server that keeps it to itself, and it is served.
func hidesVersion(log []*Exchange) bool {
	for _, e := range log {
		if strings.HasPrefix(e.Name, "GET.version.") && (e.fault == "html-before" || e.fault == "redirect") {
			return true
		}
	}
	return false
}

var serverVersion = regexp.MustCompile(`\n\tmlflow_version: .*|(mlflow)==[0-9.]+|mlflow, `)

func withoutServerVersion(portrait string) string {
	return serverVersion.ReplaceAllString(portrait, "$1")
}

// crew is the worker of one registration, and the one that takes over from it.
type crew struct {
	t         testing.TB
	site      *site
	taskQueue string

	mu      sync.Mutex
	workers []*servertest.Process
	frozen  *servertest.Process
}

func (c *crew) start() {
	c.mu.Lock()
	defer c.mu.Unlock()
	// The default time for an answer: a worker that was frozen then goes on where it was, and does not find that it waited too long.
	worker, err := c.site.startWorker(c.taskQueue, "--mlflow-response-timeout", "0s")
	if err != nil {
		c.t.Errorf("start worker: %v", err)
		return
	}
	c.workers = append(c.workers, worker)
}

func (c *crew) last() *servertest.Process {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.workers[len(c.workers)-1]
}

func (c *crew) kill() {
	c.last().Kill()
	c.start()
}

func (c *crew) freeze() {
	c.frozen = c.last()
	if err := c.frozen.Signal(syscall.SIGSTOP); err != nil {
		c.t.Errorf("freeze worker: %v", err)
	}
	c.start()
}

func (c *crew) thaw() {
	if c.frozen != nil {
		if err := c.frozen.Signal(syscall.SIGCONT); err != nil {
			c.t.Errorf("thaw worker: %v", err)
		}
	}
}

func (c *crew) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, w := range c.workers {
		w.Kill()
	}
}

// registration is a scenario under way.
type registration struct {
	scenario
	t     testing.TB
	site  *site
	proxy *Proxy

	project project
	crew    *crew // nil where the shared worker does
	run     client.WorkflowRun
	receipt receipt.Receipt
}

// play runs a scenario to its very end, and returns it with all that it left.
func (s *site) play(ctx context.Context, t testing.TB, sc scenario) (*registration, error) {
	r := &registration{scenario: sc, t: t, site: s}
	proxy, err := NewProxy(ctx, s.mlflow.URI, sc.faults...)
	if err != nil {
		return r, err
	}
	r.proxy = proxy
	t.Cleanup(proxy.Close)
	if err := r.prepare(ctx); err != nil {
		return r, err
	}
	if err := r.start(ctx); err != nil {
		return r, err
	}
	if err := r.untilEnded(ctx); err != nil {
		return r, err
	}
	return r, r.untilNothingArrives(ctx)
}

func (r *registration) prepare(ctx context.Context) error {
	name := fmt.Sprintf("model-%d", r.site.names.Add(1))
	experiment := sharedExperiment
	if r.setting == founding {
		experiment = "of " + name
	}
	r.project = r.site.newProject(r.t, name, experiment, r.proxy.URI, "")
	if r.setting == succeeding {
		return r.site.makeHolder(ctx, r.project.modelName)
	}
	return nil
}

// makeHolder makes a version of somebody else's, which holds stage and alias.
func (s *site) makeHolder(ctx context.Context, name string) error {
	if _, err := s.api.CreateRegisteredModel(ctx, mlflow.CreateRegisteredModelRequest{Name: name}); err != nil {
		return err
	}
	model, err := s.api.CreateLoggedModel(ctx, mlflow.CreateLoggedModelRequest{ExperimentID: "0", Name: "elsewhere"})
	if err != nil {
		return err
	}
	id := model.Info.ModelID
	v, err := s.api.CreateModelVersion(ctx, mlflow.CreateModelVersionRequest{Name: name, Source: "models:/" + id, ModelID: id})
	if err != nil {
		return err
	}
	if err := s.api.TransitionModelVersionStage(ctx, name, v.Version, activities.Stage, false); err != nil {
		return err
	}
	return s.api.SetRegisteredModelAlias(ctx, name, activities.Alias, v.Version)
}

func (r *registration) start(ctx context.Context) error {
	if r.ownWorker() {
		r.crew = &crew{t: r.t, site: r.site, taskQueue: r.project.modelName}
		r.proxy.Kill, r.proxy.Freeze = r.crew.kill, r.crew.freeze
		r.crew.start()
		r.t.Cleanup(r.crew.end)
	}
	var err error
	r.run, err = r.site.start(ctx, "register/"+r.project.modelName, r.taskQueue(), r.project)
	return err
}

func (r *registration) taskQueue() string {
	if r.crew != nil {
		return r.crew.taskQueue
	}
	return sharedQueue
}

func (s *site) start(ctx context.Context, workflowID, taskQueue string, p project) (client.WorkflowRun, error) {
	return s.client.ExecuteWorkflow(ctx, client.StartWorkflowOptions{ID: workflowID, TaskQueue: taskQueue},
		workflows.TypeRegisterModel, workflows.RegisterInput{Root: p.root})
}

// untilEnded takes the receipt.
func (r *registration) untilEnded(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err := r.run.Get(ctx, &r.receipt)
	if failed, ok := errors.AsType[*temporal.ApplicationError](err); ok && failed.HasDetails() {
		return failed.Details(&r.receipt)
	}
	return err
}

// untilNothingArrives lets everything come that may still come, and waits for those who clean up.
func (r *registration) untilNothingArrives(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	r.proxy.ReleaseLate()
	if r.crew != nil {
		r.crew.thaw()
	}
	for _, id := range []string{
		workflows.SweepID(r.run.GetID(), r.run.GetRunID()),
		workflows.PromotionID(r.project.modelName, r.proxy.URI, ""),
		workflows.AvailabilityID(r.proxy.URI, r.taskQueue()),
	} {
		if err := r.site.untilClosed(ctx, id); err != nil {
			return fmt.Errorf("wait for %s: %w", id, err)
		}
	}
	return eventually(ctx, func() bool { return r.proxy.Quiet(time.Second) })
}

// untilClosed waits for a workflow, if there is one.
func (s *site) untilClosed(ctx context.Context, workflowID string) error {
	described, err := s.client.DescribeWorkflowExecution(ctx, workflowID, "")
	if _, none := errors.AsType[*serviceerror.NotFound](err); none {
		return nil
	}
	if err != nil {
		return err
	}
	if described.GetWorkflowExecutionInfo().GetStatus() == enums.WORKFLOW_EXECUTION_STATUS_COMPLETED {
		return nil
	}
	return s.client.GetWorkflow(ctx, workflowID, "").Get(ctx, nil)
}

func eventually(ctx context.Context, condition func() bool) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// verdict is what a scenario came to.
type verdict struct {
	scenario
	problems   []string
	duplicates int
	lost       bool
	took       time.Duration
}

// judge holds what the registration left against what it should have, which is what one without faults leaves.
func (r *registration) judge(ctx context.Context, ended error, faultless string) verdict {
	r.t.Helper()
	require.NotNil(r.t, r.run, "it did not start: %v", ended)
	v := verdict{scenario: r.scenario}
	problem := func(format string, args ...any) { v.problems = append(v.problems, fmt.Sprintf(format, args...)) }
	if ended != nil {
		problem("it did not end: %v", ended)
	}
	if !r.proxy.Struck() && len(r.faults) == 1 {
		problem("the fault never came")
	}
	held, err := r.held(ctx)
	if err != nil {
		problem("%v", err)
	}
	v.duplicates = held.duplicates()
	may, must := r.mayFail(r.proxy.Exchanges())
	switch {
	case r.receipt.Outcome == receipt.Failed && may:
		r.judgeFailed(held, problem)
	case r.receipt.Outcome != receipt.Registered:
		problem("outcome %q: want registered; error: %s", r.receipt.Outcome, r.receipt.Error)
		v.lost = true
	case must:
		problem("outcome registered: want failed")
	default:
		v.lost = len(held.versions) == 0
		r.judgeRegistered(ctx, held, faultless, problem)
	}
	if len(v.problems) > 0 {
		r.t.Errorf("%s\n\nrequests, with faults marked:\n%s\nMLflow holds:\n%s\nreceipt: %s\nmodel %s, workflow %s %s, last error: %v",
			strings.Join(v.problems, "\n"), r.proxy.Log(), held, r.json(), r.project.modelName, r.run.GetID(), r.run.GetRunID(), ended)
	}
	return v
}

func (r *registration) judgeFailed(held holdings, problem func(string, ...any)) {
	if len(held.models)+len(held.versions) > 0 || len(held.runs) > 1 || len(held.runs) == 1 && held.runs[0].Info.Status != mlflow.RunFailed {
		problem("it failed, and left more than a run that FAILED")
	}
}

func (r *registration) judgeRegistered(ctx context.Context, held holdings, faultless string, problem func(string, ...any)) {
	portrait, err := r.site.portrait(ctx, held)
	if err != nil {
		problem("%v", err)
		return
	}
	if hidesVersion(r.proxy.Exchanges()) {
		faultless, portrait = withoutServerVersion(faultless), withoutServerVersion(portrait)
	}
	if faultless != "" && portrait != faultless {
		problem("it left something else than a registration without faults:\n%s", difference(faultless, portrait))
	}
	version, model := held.versions[0], held.models[0]
	if version.Version != r.receipt.ModelVersion || version.RunID != r.receipt.MLflowRunID || model.Info.ModelID != r.receipt.MLflowModelID {
		problem("the receipt names other objects")
	}
	if r.receipt.Stage != activities.Stage || len(r.receipt.Aliases) != 1 {
		problem("the receipt says stage %q, aliases %v", r.receipt.Stage, r.receipt.Aliases)
	}
	if r.setting != succeeding {
		return
	}
	earlier, err := r.site.api.GetModelVersion(ctx, r.project.modelName, "1")
	if err != nil || earlier.CurrentStage != mlflow.StageArchived || len(earlier.Aliases) > 0 {
		problem("the version before is %s %v: want Archived, no alias; %v", earlier.CurrentStage, earlier.Aliases, err)
	}
}

// held is what carries the registration's key.
func (r *registration) held(ctx context.Context) (holdings, error) {
	if r.receipt.RegistrationKey == "" {
		return holdings{}, errors.New("the receipt has no registration key")
	}
	return r.site.holdingsOf(ctx, r.receipt.RegistrationKey)
}

func (r *registration) json() string {
	text, err := json.Marshal(r.receipt)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// difference are the lines that are in one text only.
func difference(want, got string) string {
	var b strings.Builder
	lines := func(mark, text, other string) {
		there := map[string]bool{}
		for _, line := range strings.Split(other, "\n") {
			there[line] = true
		}
		for _, line := range strings.Split(text, "\n") {
			if !there[line] {
				fmt.Fprintf(&b, "%s %s\n", mark, line)
			}
		}
	}
	lines("-", want, got)
	lines("+", got, want)
	if b.Len() == 0 {
		return "the same lines, another number of times:\n" + got
	}
	return b.String()
}

// record plays a registration without faults, and returns its requests and its portrait.
func (s *site) record(t *testing.T, in setting) ([]*Exchange, string) {
	t.Helper()
	r, err := s.play(t.Context(), t, scenario{setting: in})
	v := r.judge(t.Context(), err, "")
	require.Empty(t, v.problems)
	held, err := r.held(t.Context())
	require.NoError(t, err)
	portrait, err := s.portrait(t.Context(), held)
	require.NoError(t, err)
	return r.proxy.Exchanges(), portrait
}
