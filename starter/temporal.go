package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"

	"registrar/internal/receipt"
	"registrar/internal/snapshot"
	"registrar/workflows"
)

// latest is what Temporal knows of a workflow id. The zero value: nothing.
type latest struct {
	runID   string
	running bool
}

func latestRun(ctx context.Context, c client.Client, workflowID string) (latest, error) {
	described, err := c.DescribeWorkflowExecution(ctx, workflowID, "")
	if isNotFound(err) {
		return latest{}, nil
	}
	if err != nil {
		return latest{}, fmt.Errorf("look for workflow %s: %w", workflowID, err)
	}
	info := described.GetWorkflowExecutionInfo()
	return latest{runID: info.GetExecution().GetRunId(), running: info.GetStatus() == enums.WORKFLOW_EXECUTION_STATUS_RUNNING}, nil
}

// startRequest is what a registration is started from.
type startRequest struct {
	id            string
	root, rootDir string
	request       snapshot.Request
	again         bool
}

// start starts the registration, or joins it: another starter may have been first.
func (s *starter) start(ctx context.Context, c client.Client, r startRequest) (runID string, joined bool, err error) {
	options := client.StartWorkflowOptions{
		ID:        r.id,
		TaskQueue: s.taskQueue,
		// A finished registration is run again, and MLflow tells what is there; a running one is joined.
		WorkflowIDReusePolicy:                    enums.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE,
		WorkflowIDConflictPolicy:                 enums.WORKFLOW_ID_CONFLICT_POLICY_FAIL,
		WorkflowExecutionErrorWhenAlreadyStarted: true,
		StaticSummary:                            fmt.Sprintf("%s from %s", r.request.ModelName, r.request.Model.Path),
		StaticDetails:                            staticDetails(r),
		Memo: map[string]any{
			workflows.MemoModel:     r.request.ModelName,
			workflows.MemoSHA256:    r.request.Model.SHA256,
			workflows.MemoKey:       r.request.RegistrationKey,
			workflows.MemoGitCommit: r.request.GitCommit,
		},
	}
	run, err := c.ExecuteWorkflow(ctx, options, workflows.TypeRegisterModel, workflows.RegisterInput{
		Root: r.root, RootDir: r.rootDir, Key: r.request.RegistrationKey, ForceToken: r.request.ForceToken, Again: r.again,
	})
	var running *serviceerror.WorkflowExecutionAlreadyStarted
	if errors.As(err, &running) {
		return running.RunId, true, nil
	}
	if err != nil {
		return "", false, fmt.Errorf("start workflow %s: %w", r.id, err)
	}
	return run.GetRunID(), false, nil
}

// staticDetails is what a registration is about, in Markdown, for the Web UI.
func staticDetails(r startRequest) string {
	text := fmt.Sprintf("Registers `%s` as **%s**.\n\n| | |\n|---|---|\n| Project | `%s` |\n| Model SHA-256 | `%s` |\n| Registration key | `%s` |\n",
		r.request.Model.Path, r.request.ModelName, r.root, r.request.Model.SHA256, r.request.RegistrationKey)
	if r.request.GitCommit != "" {
		text += fmt.Sprintf("| Git commit | `%s` |\n", r.request.GitCommit)
	}
	return text
}

// look tells how a registration stands: by its result, by its worker, or, where no worker answers, by what the server itself knows.
func look(ctx context.Context, c client.Client, h handle) (receipt.Receipt, *workflowservice.DescribeWorkflowExecutionResponse, error) {
	described, err := c.DescribeWorkflowExecution(ctx, h.workflowID, h.runID)
	if isNotFound(err) {
		return receipt.Receipt{}, nil, fmt.Errorf("look for workflow %s: Temporal has none of this id: see `starter list`", h.workflowID)
	}
	if err != nil {
		return receipt.Receipt{}, nil, fmt.Errorf("look for workflow %s: %w", h.workflowID, err)
	}
	info := described.GetWorkflowExecutionInfo()
	if info.GetStatus() != enums.WORKFLOW_EXECUTION_STATUS_RUNNING {
		r, err := result(ctx, c, handle{workflowID: h.workflowID, runID: info.GetExecution().GetRunId()})
		return r, described, err
	}
	return asServerSees(info), described, nil
}

// ask asks the worker for the whole receipt; where none answers in time, r stays as it is.
func (s *starter) ask(ctx context.Context, c client.Client, r receipt.Receipt, h handle) receipt.Receipt {
	within, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	answer, err := c.QueryWorkflow(within, h.workflowID, h.runID, workflows.QueryReceipt)
	if err != nil {
		return r
	}
	var full receipt.Receipt
	if answer.Get(&full) != nil {
		return r
	}
	s.addProbe(within, c, &full, h)
	return full
}

// addProbe adds when MLflow is probed next, which the one that waits for it, or for the project's credentials, knows.
func (s *starter) addProbe(ctx context.Context, c client.Client, r *receipt.Receipt, h handle) {
	if r.Waiting == nil || r.TrackingURI == "" {
		return
	}
	id := workflows.AvailabilityID(r.TrackingURI, s.taskQueue)
	if r.State == receipt.Blocked {
		in, err := startedWith(ctx, c, h)
		if err != nil {
			return
		}
		id = workflows.CredentialsID(r.TrackingURI, s.taskQueue, in.Root)
	}
	described, err := c.DescribeWorkflowExecution(ctx, id, "")
	if err != nil {
		return
	}
	for _, probe := range described.GetPendingActivities() {
		r.Waiting.Attempts = int(probe.GetAttempt())
		if message := probe.GetLastFailure().GetMessage(); message != "" {
			r.Waiting.LastError = message
		}
		if next := probe.GetScheduledTime(); next != nil && probe.GetAttempt() > 1 {
			at := next.AsTime()
			r.Waiting.NextProbe = &at
		}
	}
}

// startedWith is the input of a registration, which the first event of its history has. It may have been started from another copy of the project.
func startedWith(ctx context.Context, c client.Client, h handle) (workflows.RegisterInput, error) {
	var in workflows.RegisterInput
	history := c.GetWorkflowHistory(ctx, h.workflowID, h.runID, false, enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	if !history.HasNext() {
		return in, fmt.Errorf("read input of workflow %s: its history is empty", h.workflowID)
	}
	event, err := history.Next()
	if err != nil {
		return in, fmt.Errorf("read input of workflow %s: %w", h.workflowID, err)
	}
	err = converter.GetDefaultDataConverter().FromPayloads(event.GetWorkflowExecutionStartedEventAttributes().GetInput(), &in)
	return in, err
}

// asServerSees reads the state from search attributes and memo.
func asServerSees(info *workflowpb.WorkflowExecutionInfo) receipt.Receipt {
	r := receipt.Receipt{WorkflowID: info.GetExecution().GetWorkflowId(), State: receipt.Running}
	shown := workflows.ShownBy(info)
	r.ModelName, r.ModelSHA256, r.RegistrationKey = shown.Model, shown.ModelSHA256, shown.Key
	r.ModelVersion, r.Outcome = shown.Version, shown.Outcome
	if shown.State != "" {
		r.State = shown.State
	}
	if r.State == receipt.Waiting || r.State == receipt.Blocked {
		r.Waiting = &receipt.Wait{Layer: shown.Layer}
	}
	return r
}

// result reads how a registration ended.
func result(ctx context.Context, c client.Client, h handle) (receipt.Receipt, error) {
	var r receipt.Receipt
	err := c.GetWorkflow(ctx, h.workflowID, h.runID).Get(ctx, &r)
	if err == nil {
		return r, nil
	}
	var canceled *temporal.CanceledError
	var failed *temporal.ApplicationError
	var terminated *temporal.TerminatedError
	var timedOut *temporal.TimeoutError
	r = receipt.Receipt{WorkflowID: h.workflowID, State: receipt.Done, Outcome: receipt.Failed}
	switch {
	case errors.As(err, &canceled):
		r.Outcome = receipt.Canceled
		if canceled.HasDetails() {
			return r, canceled.Details(&r)
		}
		return r, nil
	case errors.As(err, &failed):
		r.Error = failed.Message()
		if failed.HasDetails() {
			return r, failed.Details(&r)
		}
		return r, nil
	case errors.As(err, &terminated), errors.As(err, &timedOut):
		r.Error = err.Error()
		return r, nil
	}
	return receipt.Receipt{}, fmt.Errorf("read result of workflow %s: %w", h.workflowID, err)
}
