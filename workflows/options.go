package workflows

import (
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"registrar/internal/failure"
)

// How long each step may take, and how often it is tried before the workflow looks at it. What is not written here is nowhere else.
//
// Two rules hold for all. An activity that talks to MLflow is tried three times within seconds: that rides out a connection that was cut
// or a server that restarts; what lasts longer is an outage, and the workflow waits for MLflow's return without an open end of retries.
// Kinds of failure that no retry mends are marked non-retryable where they are made (activities/classify.go), not listed here.

const (
	// callTimeout bounds an attempt of a few requests. MLflow needs 20 s to say that its database is locked, after which the attempt
	// ends; one that takes a minute without an error is an outage, too.
	callTimeout = time.Minute
	// heartbeatTimeout is when a worker that died, or was frozen, in the middle of a step is noticed. Steps report twice a second.
	heartbeatTimeout = 15 * time.Second
	// filesTimeout bounds reading and hashing files on the worker's disk: a 100 GB model at 50 MB/s is done in 34 minutes.
	filesTimeout = time.Hour
	// minUploadRate is the slowest upload, in bytes a second, that is still let go on to its end.
	minUploadRate = 256 << 10
	// forever is as many attempts as it takes. Not 0: the SDK's test environment reads that as ten.
	forever = 1<<31 - 1
)

// onFiles is for steps that read files. They fail for good on bad input; what is left is a disk that is full or a worker that died.
var onFiles = workflow.ActivityOptions{
	StartToCloseTimeout: filesTimeout,
	HeartbeatTimeout:    heartbeatTimeout,
	WaitForCancellation: true,
	RetryPolicy: &temporal.RetryPolicy{
		InitialInterval: time.Second, BackoffCoefficient: 2, MaximumInterval: time.Minute, MaximumAttempts: 10,
	},
}

// Three kinds of steps are local activities: the worker takes them within its workflow task, and the history gets one event for each instead of
// six. Nobody sees them under way, and none of them can be told from a workflow task that takes long; so only what takes milliseconds is.

// quickFiles is for steps that read or write some kilobytes.
var quickFiles = workflow.LocalActivityOptions{
	StartToCloseTimeout: 20 * time.Second,
	RetryPolicy:         onFiles.RetryPolicy,
}

// calling is for a signal to a workflow of which there is one for all. Errors are Temporal's own, so it is sent again for as long as it takes.
var calling = workflow.LocalActivityOptions{
	StartToCloseTimeout: joining.StartToCloseTimeout,
	RetryPolicy:         joining.RetryPolicy,
}

// atOnceOnMLflow is for a few requests that may be repeated: on a server that is well they take tens of milliseconds. On any other the step is
// then taken as an activity, which is seen while it is under way.
var atOnceOnMLflow = workflow.LocalActivityOptions{
	StartToCloseTimeout: 5 * time.Second,
	RetryPolicy:         &temporal.RetryPolicy{MaximumAttempts: 1},
}

// onMLflow is for steps that make a few requests to MLflow and may be repeated.
var onMLflow = workflow.ActivityOptions{
	StartToCloseTimeout: callTimeout,
	HeartbeatTimeout:    heartbeatTimeout,
	WaitForCancellation: true,
	RetryPolicy: &temporal.RetryPolicy{
		InitialInterval: time.Second, BackoffCoefficient: 2, MaximumInterval: 5 * time.Second, MaximumAttempts: 3,
	},
}

// onceOnMLflow is for the one request that must not be sent twice: model-versions/create.
var onceOnMLflow = workflow.ActivityOptions{
	StartToCloseTimeout: callTimeout,
	HeartbeatTimeout:    heartbeatTimeout,
	RetryPolicy:         &temporal.RetryPolicy{MaximumAttempts: 1},
}

// uploading is for the model's files: as long as they need at the slowest rate, with a heartbeat that tells a slow upload from a dead worker.
func uploading(sizeBytes int64) workflow.ActivityOptions {
	options := onMLflow
	options.StartToCloseTimeout = 10*time.Minute + time.Duration(sizeBytes/minUploadRate)*time.Second
	return options
}

// checkingUp is for a person who waits for the answer: each of the few checks bounds itself, and a worker that died is noticed soon. Once
// more, since another worker may be there.
var checkingUp = workflow.ActivityOptions{
	StartToCloseTimeout: 3 * time.Minute,
	HeartbeatTimeout:    heartbeatTimeout,
	RetryPolicy:         &temporal.RetryPolicy{MaximumAttempts: 2},
}

// joining is for the one activity of a registration that waits. Errors are Temporal's own, so it is tried again for as long as it takes.
var joining = workflow.ActivityOptions{
	StartToCloseTimeout: 30 * time.Second,
	RetryPolicy: &temporal.RetryPolicy{
		InitialInterval: time.Second, BackoffCoefficient: 2, MaximumInterval: time.Minute, MaximumAttempts: forever,
	},
}

// How long after an unanswered call the workflow that got it is called, or looked for, again. It is a fallback for an execution that was
// terminated: a promotion takes moments, an outage may take weeks.
const (
	askAgainForPromotion = time.Minute
	lookAgainForMLflow   = time.Hour
)

// probing is for the one look at an MLflow server that is down, at the probe interval, for as long as it takes. A pending retry
// adds no event to the history.
func probing(interval time.Duration) workflow.ActivityOptions {
	return workflow.ActivityOptions{
		StartToCloseTimeout: time.Minute,
		RetryPolicy: &temporal.RetryPolicy{
			InitialInterval: interval, BackoffCoefficient: 1, MaximumInterval: interval, MaximumAttempts: forever,
		},
	}
}

// waking is for signals to waiting registrations, at most wakeAtOnce of them, at the worker's rate.
var waking = workflow.ActivityOptions{
	StartToCloseTimeout: 10 * time.Minute,
	HeartbeatTimeout:    heartbeatTimeout,
	RetryPolicy: &temporal.RetryPolicy{
		InitialInterval: time.Second, BackoffCoefficient: 2, MaximumInterval: time.Minute, MaximumAttempts: forever,
	},
}

// cleaning is for what must be done in the end though nobody waits for it: as long as it takes, at most once a minute.
var cleaning = workflow.ActivityOptions{
	StartToCloseTimeout: callTimeout,
	HeartbeatTimeout:    heartbeatTimeout,
	RetryPolicy: &temporal.RetryPolicy{
		InitialInterval: time.Second, BackoffCoefficient: 2, MaximumInterval: time.Minute, MaximumAttempts: forever,
	},
}

// longCleaning is cleaning that walks through all that an owner left.
var longCleaning = workflow.ActivityOptions{
	StartToCloseTimeout: time.Hour,
	HeartbeatTimeout:    heartbeatTimeout,
	RetryPolicy:         cleaning.RetryPolicy,
}

// auditing is for a look at everything under a name, or at all of its versions, for somebody who waits for the answer.
var auditing = workflow.ActivityOptions{
	StartToCloseTimeout: time.Hour,
	HeartbeatTimeout:    heartbeatTimeout,
	RetryPolicy:         onMLflow.RetryPolicy,
}

// with is ctx for one activity, with the text that the Web UI shows beside its name.
func with(ctx workflow.Context, options workflow.ActivityOptions, summary string) workflow.Context {
	options.Summary = summary
	return workflow.WithActivityOptions(ctx, options)
}

// locally is ctx for one local activity, with the text that the Web UI shows beside its name.
func locally(ctx workflow.Context, options workflow.LocalActivityOptions, summary string) workflow.Context {
	options.Summary = summary
	return workflow.WithLocalActivityOptions(ctx, options)
}

// kind is the type of failure that ended an activity; empty for none and for what is not ours, such as a timeout.
func kind(err error) string {
	if application, ok := asApplication(err); ok {
		return application.Type()
	}
	return ""
}

// detailOf is what the activity said of its failure. A timeout, or an error without a readable detail, leaves everything open.
func detailOf(err error) failure.Detail {
	var said failure.Detail
	if application, ok := asApplication(err); ok && application.HasDetails() && application.Details(&said) == nil {
		return said
	}
	return failure.Detail{Layer: "worker", Open: true}
}
