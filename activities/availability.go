package activities

import (
	"context"
	"errors"
	"slices"
	"time"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"registrar/internal/failure"
	"registrar/internal/mlflow"
)

// Call is a signal to a workflow of which there is one for all: it is started where it is not running.
type Call struct {
	Workflow   string `json:"workflow"` // type
	WorkflowID string `json:"workflow_id"`
	TaskQueue  string `json:"task_queue"`
	Signal     string `json:"signal"`
	// Start is the input of the workflow where it has to be started.
	Start any `json:"start"`
	// Signaled is the signal's payload; it names who asks and carries a nonce, so that a repeated one is dropped.
	Signaled any `json:"signaled"`
}

func (c Call) send(ctx context.Context, temporalClient client.Client) (client.WorkflowRun, error) {
	return temporalClient.SignalWithStartWorkflow(ctx, c.WorkflowID, c.Signal, c.Signaled, client.StartWorkflowOptions{
		TaskQueue:             c.TaskQueue,
		WorkflowIDReusePolicy: enums.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE,
	}, c.Workflow, c.Start)
}

// JoinWaitingInput asks for a wake-up.
type JoinWaitingInput struct {
	Call
	// LookAgainAfter is how long after a call the execution that got it is looked for.
	LookAgainAfter time.Duration `json:"look_again_after"`
}

// JoinWaiting asks the availability workflow of an MLflow server for a wake-up, and stays pending until the workflow cancels it because the
// wake-up has come: it never succeeds. It remembers in its heartbeat which execution got the call, and ends with an error whose next
// attempt looks whether that one is still running. A pending retry costs no event, so this fallback for an execution that was terminated
// is free however long the outage takes.
func (a *Activities) JoinWaiting(ctx context.Context, in JoinWaitingInput) error {
	temporalClient := activity.GetClient(ctx)
	if running, err := isStillRunning(ctx, temporalClient, in.WorkflowID); err != nil || running {
		return pending(in, err)
	}
	run, err := in.send(ctx, temporalClient)
	if err != nil {
		return err
	}
	chain, err := firstRunID(ctx, temporalClient, in.WorkflowID, run.GetRunID())
	if err != nil {
		return err
	}
	activity.RecordHeartbeat(ctx, chain)
	return pending(in, nil)
}

// isStillRunning tells whether the execution that an earlier attempt asked is still there.
func isStillRunning(ctx context.Context, temporalClient client.Client, workflowID string) (bool, error) {
	var asked string
	if !activity.HasHeartbeatDetails(ctx) || activity.GetHeartbeatDetails(ctx, &asked) != nil {
		return false, nil
	}
	activity.RecordHeartbeat(ctx, asked)
	described, err := temporalClient.DescribeWorkflowExecution(ctx, workflowID, "")
	if isNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	info := described.GetWorkflowExecutionInfo()
	return info.GetStatus() == enums.WORKFLOW_EXECUTION_STATUS_RUNNING && info.GetFirstRunId() == asked, nil
}

func firstRunID(ctx context.Context, temporalClient client.Client, workflowID, runID string) (string, error) {
	described, err := temporalClient.DescribeWorkflowExecution(ctx, workflowID, runID)
	if err != nil {
		return "", err
	}
	return described.GetWorkflowExecutionInfo().GetFirstRunId(), nil
}

// pending ends an attempt of an activity that waits to be canceled.
func pending(in JoinWaitingInput, err error) error {
	if err != nil {
		return err
	}
	return temporal.NewApplicationErrorWithOptions("waiting for an answer of "+in.WorkflowID, failure.Pending,
		temporal.ApplicationErrorOptions{NextRetryDelay: in.LookAgainAfter, Category: temporal.ApplicationErrorCategoryBenign})
}

// RequestPromotion asks the promotion workflow of a model name to promote a version. The answer comes as a signal. May be repeated.
func (a *Activities) RequestPromotion(ctx context.Context, in Call) error {
	_, err := in.send(ctx, activity.GetClient(ctx))
	return err
}

// ProbeMLflowInput names the server to probe, by the access of one of the projects that wait for it.
type ProbeMLflowInput struct {
	Server Server `json:"server"`
	// Others is the same server by the access of other projects, asked in turn where the first one's says nothing of MLflow.
	Others []Server `json:"others,omitempty"`
	// Credentials tells that those of this project are what is waited for.
	Credentials bool `json:"credentials,omitempty"`
}

// ProbeMLflowResult tells what a look without an outage saw.
type ProbeMLflowResult struct {
	// Refused tells that each project that was asked by was refused for what may be its own, so that it is not known whether MLflow can serve others.
	Refused bool `json:"refused,omitempty"`
}

// ProbeMLflow succeeds when the server can serve a registration. Its retry policy is the probe interval.
func (a *Activities) ProbeMLflow(ctx context.Context, in ProbeMLflowInput) (ProbeMLflowResult, error) {
	refused, err := a.probe(ctx, in)
	return ProbeMLflowResult{Refused: refused}, retried(err)
}

// probe tells, by a classified error, why nobody can be served. What is wrong with a project that lends its access, a folder that cannot be read or a token
// that expired, is no such reason for the others; nor does it tell that MLflow is back, as long as there is another one to ask.
func (a *Activities) probe(ctx context.Context, in ProbeMLflowInput) (refused bool, err error) {
	if in.Credentials {
		return false, classify(ctx, a.serves(ctx, in.Server))
	}
	var untrusted error
	for _, server := range append([]Server{in.Server}, in.Others...) {
		err := a.serves(ctx, server)
		classified := classify(ctx, err)
		_, detail := kindOf(err)
		switch {
		case err == nil:
			return false, nil
		case isA[*projectError](err), isProjectsOwn(classified):
		case detail.Layer == string(mlflow.LayerTLS): // which authority is trusted, too, is a project's own
			untrusted = classified
		default:
			return false, classified
		}
	}
	return untrusted == nil, untrusted
}

// isProjectsOwn tells whether a classified error may be that of one project alone.
func isProjectsOwn(err error) bool {
	application, ok := errors.AsType[*temporal.ApplicationError](err)
	return ok && slices.Contains([]string{failure.Unauthorized, failure.Configuration, failure.BadInput, failure.Refused, failure.Gone}, application.Type())
}

// Waiter is a registration that waits for an MLflow server.
type Waiter struct {
	WorkflowID string `json:"workflow_id"`
	RunID      string `json:"run_id"`
	// Nonce is the wait that is answered: a later wait of the same registration drops it.
	Nonce string `json:"nonce"`
}

// Join is a waiter as it comes, with its own access to the server.
type Join struct {
	Waiter
	Server Server `json:"server,omitzero"`
}

// WakeInput names who is woken, in the order of their coming, and how MLflow is looked at meanwhile.
type WakeInput struct {
	ProbeMLflowInput
	Signal  string   `json:"signal"`
	Waiters []Waiter `json:"waiters"`
}

// WakeResult tells how many of them were woken: all, or those before MLflow went down again.
type WakeResult struct {
	Woken int `json:"woken"`
}

// probeEvery is how many registrations are woken between two looks at the server.
const probeEvery = 50

// WakeWaiting signals the waiting registrations, at the worker's rate, and stops early when MLflow is down again. May be repeated: a
// registration drops a wake-up that it has had.
func (a *Activities) WakeWaiting(ctx context.Context, in WakeInput) (WakeResult, error) {
	temporalClient := activity.GetClient(ctx)
	var next int
	if activity.HasHeartbeatDetails(ctx) {
		// A detail that cannot be read starts from the first, which is repeatable.
		_ = activity.GetHeartbeatDetails(ctx, &next)
	}
	pace := time.NewTicker(time.Duration(float64(time.Second) / a.WakesPerSecond))
	defer pace.Stop()
	for ; next < len(in.Waiters); next++ {
		if next > 0 && next%probeEvery == 0 {
			if _, err := a.probe(ctx, in.ProbeMLflowInput); err != nil {
				return WakeResult{Woken: next}, nil
			}
		}
		if err := wake(ctx, temporalClient, in.Signal, in.Waiters[next]); err != nil {
			return WakeResult{}, err
		}
		activity.RecordHeartbeat(ctx, next+1)
		select {
		case <-pace.C:
		case <-ctx.Done():
			return WakeResult{}, classify(ctx, ctx.Err())
		}
	}
	return WakeResult{Woken: len(in.Waiters)}, nil
}

// signaler is what wakes a workflow, a Temporal client.
type signaler interface {
	SignalWorkflow(ctx context.Context, workflowID, runID, signalName string, arg any) error
}

// wake wakes one registration. One that has ended needs it no more, and one that has had as many signals as an execution takes (10,000) cannot be woken:
// nobody behind it shall wait for it.
func wake(ctx context.Context, temporalClient signaler, signal string, w Waiter) error {
	err := temporalClient.SignalWorkflow(ctx, w.WorkflowID, w.RunID, signal, w.Nonce)
	switch {
	case isNotFound(err):
		return nil
	case isA[*serviceerror.InvalidArgument](err):
		activity.GetLogger(ctx).Warn("a waiting registration takes no signal, and is not woken", "workflow_id", w.WorkflowID, "error", err)
		return nil
	}
	return err
}
