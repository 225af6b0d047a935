package main

import (
	"context"
	"time"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
)

// longPoll is how long a worker may listen without a word: a poll ends after a minute at the latest, and the next one begins.
const longPoll = 70 * time.Second

// attendance tells whether there is a worker for a workflow. Temporal lists a worker for minutes after it was killed, so what counts is whether
// it takes what waits for it. Times of the server are compared with each other only: its clock is not that of this machine.
type attendance struct {
	client    client.Client
	taskQueue string
	patience  time.Duration

	untaken  task      // what waited for a worker when last looked
	since    time.Time // when that began to wait, or when a worker was last seen at work
	polled   time.Time // when a worker began to listen last, by the server
	polledAt time.Time // when that was seen first
}

func (s *starter) attendance(c client.Client, patience time.Duration) *attendance {
	return &attendance{client: c, taskQueue: s.taskQueue, patience: patience, since: time.Now()}
}

// task is what waits for a worker. The zero value: nothing.
type task struct {
	queue     enums.TaskQueueType
	scheduled time.Time
}

// isMissing tells, for what Temporal says of a workflow now, whether no worker was there for as long as the patience lasts.
func (a *attendance) isMissing(ctx context.Context, described *workflowservice.DescribeWorkflowExecutionResponse) (bool, error) {
	now := time.Now()
	untaken, taken := waitingTask(described)
	if taken || untaken != a.untaken {
		a.untaken, a.since = untaken, now
	}
	if taken || now.Sub(a.since) < a.patience {
		return false, nil
	}
	polled, err := a.lastPoll(ctx)
	if err != nil || polled.IsZero() {
		return err == nil, err
	}
	// A worker that listened all the time would have been given the task.
	if polled.Before(untaken.scheduled) {
		return true, nil
	}
	if polled != a.polled {
		a.polled, a.polledAt = polled, now
	}
	return now.Sub(a.polledAt) >= max(a.patience, longPoll), nil
}

// waitingTask is what of a workflow waits for a worker; taken where one is at work on it. What waits for its next attempt is neither.
func waitingTask(described *workflowservice.DescribeWorkflowExecutionResponse) (untaken task, taken bool) {
	if pending := described.GetPendingWorkflowTask(); pending != nil {
		if pending.GetState() == enums.PENDING_WORKFLOW_TASK_STATE_STARTED {
			return task{}, true
		}
		untaken = task{enums.TASK_QUEUE_TYPE_WORKFLOW, pending.GetScheduledTime().AsTime()}
	}
	for _, pending := range described.GetPendingActivities() {
		switch {
		case pending.GetState() != enums.PENDING_ACTIVITY_STATE_SCHEDULED:
			return task{}, true
		case pending.GetNextAttemptScheduleTime() == nil && untaken == task{}:
			untaken = task{enums.TASK_QUEUE_TYPE_ACTIVITY, pending.GetScheduledTime().AsTime()}
		}
	}
	return untaken, false
}

// lastPoll is when a worker began last to listen for what waits; zero where there is none.
func (a *attendance) lastPoll(ctx context.Context) (last time.Time, err error) {
	queue := enums.TASK_QUEUE_TYPE_WORKFLOW
	if a.untaken.queue == enums.TASK_QUEUE_TYPE_ACTIVITY {
		queue = a.untaken.queue
	}
	described, err := a.client.DescribeTaskQueue(ctx, a.taskQueue, queue)
	if err != nil {
		return last, err
	}
	for _, poller := range described.GetPollers() {
		if at := poller.GetLastAccessTime().AsTime(); at.After(last) {
			last = at
		}
	}
	return last, nil
}
