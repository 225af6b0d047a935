package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
)

// inquiry is a workflow that is started for its answer: what it asks of MLflow takes the credentials, and those are the worker's.
type inquiry struct {
	name         string // for people
	id, workflow string
	summary      string
	input        any
	timeout      time.Duration
}

// inquire starts an inquiry and waits for its answer. One that nobody waits for any more is canceled.
func (s *starter) inquire(ctx context.Context, c client.Client, q inquiry, answer any) error {
	run, err := c.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID:                       q.id,
		TaskQueue:                s.taskQueue,
		WorkflowExecutionTimeout: q.timeout + connectWithin, // nobody asks for its result later
		StaticSummary:            q.summary,
	}, q.workflow, q.input)
	if err != nil {
		return fmt.Errorf("start %s: %w", q.name, err)
	}
	ended := make(chan error, 1)
	following, stop := context.WithCancel(ctx)
	defer stop()
	go func() { ended <- run.Get(following, answer) }()
	err = s.untilAnswered(following, q.timeout, c, run, ended)
	if errors.Is(err, errLate) || ctx.Err() != nil {
		return errors.Join(fmt.Errorf("%s: %w", q.name, err), cancelInquiry(ctx, c, q, run))
	}
	if failed, ok := errors.AsType[*temporal.ApplicationError](err); ok {
		return fmt.Errorf("%s: %s", q.name, failed.Message())
	}
	if err != nil {
		return fmt.Errorf("%s: %w", q.name, err)
	}
	return nil
}

// workerWithin is how long a worker may take to begin with an inquiry before a person is told.
const workerWithin = 5 * time.Second

// errLate says that an inquiry took longer than it was given.
var errLate = errors.New("no result in time")

// untilAnswered waits for the end of an inquiry, and warns where no worker takes it. The timeout is no deadline of a request: its server would be the
// one to tell, in words of its own, that it has passed.
func (s *starter) untilAnswered(ctx context.Context, timeout time.Duration, c client.Client, run client.WorkflowRun, ended <-chan error) error {
	workers := s.attendance(c, workerWithin)
	late := time.NewTimer(timeout)
	defer late.Stop()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case err := <-ended:
			return err
		case <-late.C:
			return fmt.Errorf("%w: it was given %s; give it longer with --timeout", errLate, timeout)
		case <-tick.C:
		}
		described, err := c.DescribeWorkflowExecution(ctx, run.GetID(), run.GetRunID())
		if err != nil {
			continue // the end tells
		}
		if missing, err := workers.isMissing(ctx, described); err == nil && missing {
			s.warn(fmt.Sprintf("no worker listens on task queue %q: start one, or interrupt", s.taskQueue))
		}
	}
}

// cancelInquiry ends one also where ctx was interrupted.
func cancelInquiry(ctx context.Context, c client.Client, q inquiry, run client.WorkflowRun) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), connectWithin)
	defer cancel()
	if err := c.CancelWorkflow(ctx, run.GetID(), run.GetRunID()); err != nil && !isNotFound(err) {
		return fmt.Errorf("cancel %s %s: %w", q.name, run.GetID(), err)
	}
	return nil
}
