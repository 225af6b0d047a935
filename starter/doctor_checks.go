package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"strings"
	"time"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"

	"registrar/activities"
	"registrar/internal/gate"
	"registrar/internal/mlmodel"
	"registrar/internal/modelfile"
	"registrar/internal/snapshot"
	"registrar/workflows"
)

func good(detail string) activities.Check {
	return activities.Check{Status: activities.CheckOK, Detail: detail}
}

func warned(detail, remedy string) activities.Check {
	return activities.Check{Status: activities.CheckWarning, Detail: detail, Remedy: remedy}
}

// bad is the failure of a check. Errors that know what to do have it in their text.
func bad(err error, remedy string) activities.Check {
	return activities.Check{Status: activities.CheckFailed, Detail: err.Error(), Remedy: remedy}
}

func (e *examination) configuration(context.Context) activities.Check {
	var err error
	if e.project, err = readProject(e.flags); isAbsent(err) {
		return bad(err, "write new ones: starter init")
	} else if err != nil {
		return bad(err, "")
	}
	if warnings := e.project.settings.Warnings; len(warnings) > 0 {
		return warned(strings.Join(warnings, "; "), "")
	}
	return good(fmt.Sprintf("%s and %s: model %s", e.flags.config, e.flags.params, e.project.settings.ModelName))
}

// files reads what register will freeze, and asks the gate.
func (e *examination) files(ctx context.Context) activities.Check {
	decision, err := e.gate()
	verdict, failed := e.model(ctx)
	if err = errors.Join(err, failed, e.writable()); err != nil {
		return bad(errors.New(strings.ReplaceAll(err.Error(), "\n", "; ")), "run the pipeline's stages that write them, or correct the paths in "+e.flags.config)
	}
	decision = decision.WithModel(verdict)
	if !decision.Passed {
		return warned("the gate would reject the model: "+decision.Summary(), "register ends as rejected, with exit code 0")
	}
	return good("the gate would pass the model: " + decision.Summary())
}

func (e *examination) gate() (gate.Decision, error) {
	name := e.project.settings.MetricFileName
	file, err := e.project.dir.Open(name)
	if err != nil {
		return gate.Decision{}, err
	}
	defer file.Close()
	metrics, err := gate.ParseMetrics(name, file)
	if err != nil {
		return gate.Decision{}, err
	}
	return gate.Decide(workflows.Rules(e.project.settings), metrics), nil
}

// model reads the model and the extra files as a registration does, and sees that the model can be packed with the settings.
func (e *examination) model(ctx context.Context) (*gate.Model, error) {
	settings := e.project.settings
	policy := activities.PicklePolicy(settings, nil)
	verdict := &gate.Model{}
	locked, failed := e.lock()
	err := e.read(settings.ModelPath, func(file *os.File) error {
		info, err := modelfile.Inspect(ctx, file)
		if err != nil {
			return err
		}
		spec := mlmodel.Spec{
			Info: info, ModelFile: mlmodel.ModelFile{Name: path.Base(settings.ModelPath), SizeBytes: info.SizeBytes, SHA256: info.SHA256},
			Layout: mlmodel.Layout(settings.Layout), Signature: mlmodel.Signature(settings.Signature),
			PredictFn: settings.PredictFn, Environment: settings.Environment, Locked: locked,
		}
		verdict = activities.ModelVerdict(info, policy)
		return spec.Check()
	})
	err = errors.Join(err, failed)
	for _, name := range settings.ExtraFiles {
		err = errors.Join(err, e.read(name, func(file *os.File) error {
			return activities.AddExtraFile(ctx, verdict, file, snapshot.Entry{Path: name}, policy)
		}))
	}
	return verdict, err
}

// lock reads the environment_file; nil where the settings name none. One that cannot be opened is told of as the extra file that it is, too.
func (e *examination) lock() (locked map[string]string, err error) {
	name := e.project.settings.EnvironmentFile
	if name == "" {
		return nil, nil
	}
	file, err := e.project.dir.Open(name)
	if err != nil {
		return nil, nil //nolint:nilerr // as said above
	}
	defer file.Close()
	status, err := file.Stat()
	if err != nil {
		return nil, err
	}
	return activities.ReadLock(name, status.Size(), file)
}

// read opens a file of the project for a look, whose errors it gives the name of the file.
func (e *examination) read(name string, look func(*os.File) error) error {
	file, err := e.project.dir.Open(name)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := look(file); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// writable sees that registrations can be frozen, where their folder is there already.
func (e *examination) writable() error {
	rootDir, err := e.project.dir.Sub(e.project.settings.RootDir, false)
	if isAbsent(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer rootDir.Close()
	if err := snapshot.CheckWritable(rootDir); err != nil {
		return fmt.Errorf("write into %s: %w", e.project.settings.RootDir, err)
	}
	return nil
}

func (e *examination) temporal(ctx context.Context) activities.Check {
	var err error
	if e.client, err = e.connect(ctx); err != nil {
		return bad(err, e.remedy(err))
	}
	return good(e.address)
}

// retentionWanted is how long one should be able to look back at what ended: above the longest outage (docs/operations.md).
const retentionWanted = 90 * 24 * time.Hour

func (e *examination) inNamespace(ctx context.Context) activities.Check {
	ctx, cancel := context.WithTimeout(ctx, connectWithin)
	defer cancel()
	described, err := e.client.WorkflowService().DescribeNamespace(ctx, &workflowservice.DescribeNamespaceRequest{Namespace: e.namespace})
	var denied *serviceerror.PermissionDenied
	if errors.As(err, &denied) {
		return warned(fmt.Sprintf("namespace %q: its retention may not be read: %v", e.namespace, err), "")
	}
	if err != nil {
		return bad(fmt.Errorf("describe namespace %q: %w", e.namespace, err), e.remedy(err))
	}
	retention := described.GetConfig().GetWorkflowExecutionRetentionTtl().AsDuration()
	detail := fmt.Sprintf("namespace %q keeps what has ended for %s", e.namespace, days(retention))
	if retention < retentionWanted {
		return warned(detail+", and what was registered cannot be looked up in Temporal after that",
			fmt.Sprintf("temporal operator namespace update --namespace %s --retention %dh", e.namespace, int(retentionWanted.Hours())))
	}
	return good(detail)
}

func days(d time.Duration) string {
	if d < 48*time.Hour {
		return fmt.Sprintf("%.0f hours", d.Hours())
	}
	return fmt.Sprintf("%.0f days", d.Hours()/24)
}

func (e *examination) searchAttributes(ctx context.Context) activities.Check {
	ctx, cancel := context.WithTimeout(ctx, connectWithin)
	defer cancel()
	listed, err := e.client.OperatorService().ListSearchAttributes(ctx, &operatorservice.ListSearchAttributesRequest{Namespace: e.namespace})
	if err != nil {
		return warned(fmt.Sprintf("they may not be listed: %v", err), "")
	}
	missing := workflows.MissingSearchAttributes(listed.GetCustomAttributes())
	if len(missing) > 0 {
		return warned(fmt.Sprintf("%d of %d are missing: registrations show their state in the memo, and cannot be filtered by it",
			len(missing), len(workflows.SearchAttributes())), workflows.SearchAttributesCommand(e.namespace, missing))
	}
	return good("all are there")
}

// worker sees that workers listen, and lets one make its checks: Temporal lists a worker for minutes after it was killed.
func (e *examination) worker(ctx context.Context) activities.Check {
	listeners, err := e.listeners(ctx)
	if err != nil {
		return bad(fmt.Errorf("describe task queue %q: %w", e.taskQueue, err), e.remedy(err))
	}
	remedy := "start one: worker --allow-root, and a folder above the project; --task-queue has to be the same"
	if len(listeners) == 0 {
		return bad(e.noWorker(), remedy)
	}
	if e.project == nil {
		return good(strings.Join(listeners, ", "))
	}
	result, err := e.checkUp(ctx)
	if errors.Is(err, errNoWorker) {
		return bad(err, remedy)
	}
	if err != nil {
		return bad(err, "look at the worker's log")
	}
	e.found = result.Checks
	return good(strings.Join(listeners, ", "))
}

// listeners are the identities of the workers that Temporal lists. One that was just started is waited for.
func (e *examination) listeners(ctx context.Context) (names []string, err error) {
	late := time.Now().Add(workerWithin)
	for len(names) == 0 && err == nil && time.Now().Before(late) {
		if names, err = e.listenersNow(ctx); len(names) == 0 && err == nil {
			select {
			case <-time.After(lookEvery):
			case <-ctx.Done():
				err = ctx.Err()
			}
		}
	}
	return names, err
}

func (e *examination) listenersNow(ctx context.Context) (names []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, connectWithin)
	defer cancel()
	described, err := e.client.DescribeTaskQueue(ctx, e.taskQueue, enums.TASK_QUEUE_TYPE_WORKFLOW)
	for _, poller := range described.GetPollers() {
		names = append(names, poller.GetIdentity())
	}
	return names, err
}

// checkUp lets a worker make its checks.
func (e *examination) checkUp(ctx context.Context) (result activities.CheckUpResult, err error) {
	run, err := e.client.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID:                       workflows.CheckUpID(e.project.settings.ModelName, time.Now()),
		TaskQueue:                e.taskQueue,
		WorkflowExecutionTimeout: e.timeout + connectWithin, // nobody asks for its result later
		StaticSummary:            "what a registration of " + e.project.settings.ModelName + " needs",
	}, workflows.TypeCheckUp, activities.CheckUpInput{
		Root: e.project.root, Config: e.flags.config, Params: e.flags.params, Settings: e.project.settings,
	})
	if err != nil {
		return result, fmt.Errorf("start check-up: %w", err)
	}
	following, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- run.Get(following, &result) }()
	if err := e.untilChecked(following, run, ended); err != nil {
		return activities.CheckUpResult{}, errors.Join(err, endCheckUp(ctx, e.client, run))
	}
	return result, nil
}

// errNoWorker says that nobody takes what waits for a worker.
var errNoWorker = errors.New("no worker listens")

func (e *examination) noWorker() error {
	return fmt.Errorf("%w on task queue %q of namespace %q", errNoWorker, e.taskQueue, e.namespace)
}

// untilChecked waits for a worker's checks, for as long as there is a worker that makes them.
func (e *examination) untilChecked(ctx context.Context, run client.WorkflowRun, ended <-chan error) error {
	workers := e.attendance(e.client, workerWithin)
	late := time.NewTimer(e.timeout)
	defer late.Stop()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case err := <-ended:
			if err != nil {
				return fmt.Errorf("check-up %s: %w", run.GetID(), err)
			}
			return nil
		case <-late.C:
			return fmt.Errorf("check-up %s: no result within %s; give it longer with --timeout", run.GetID(), e.timeout)
		case <-tick.C:
		}
		described, err := e.client.DescribeWorkflowExecution(ctx, run.GetID(), run.GetRunID())
		if err != nil {
			continue // the end tells
		}
		if described.GetPendingWorkflowTask().GetAttempt() > 1 {
			if failure := e.taskFailure(ctx, run); failure != "" {
				return fmt.Errorf("a worker cannot make the checks, as one of an older release cannot: %s", failure)
			}
		}
		if missing, err := workers.isMissing(ctx, described); err == nil && missing {
			return fmt.Errorf("%w: those that Temporal lists take nothing", e.noWorker())
		}
	}
}

// taskFailure is why a worker could not go on with a workflow; empty where none has failed at it.
func (e *examination) taskFailure(ctx context.Context, run client.WorkflowRun) (message string) {
	history := e.client.GetWorkflowHistory(ctx, run.GetID(), run.GetRunID(), false, enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for history.HasNext() {
		event, err := history.Next()
		if err != nil {
			return message
		}
		if failed := event.GetWorkflowTaskFailedEventAttributes(); failed != nil {
			message = failed.GetFailure().GetMessage()
		}
	}
	return message
}

// endCheckUp ends a check that nobody waits for any more, also where ctx was interrupted. Its worker may be the very thing that is missing,
// so it is not asked.
func endCheckUp(ctx context.Context, c client.Client, run client.WorkflowRun) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), connectWithin)
	defer cancel()
	if err := c.TerminateWorkflow(ctx, run.GetID(), run.GetRunID(), "nobody waits for it any more"); err != nil && !isNotFound(err) {
		return fmt.Errorf("terminate %s: %w", run.GetID(), err)
	}
	return nil
}
