// Package activities touches the world for the workflows: files below the folders that the worker was allowed, and MLflow.
// A method of *Activities is one activity, beside the structs that go in and come out; those only ever gain fields. Every one is
// written to run twice: it looks first, then creates, as the exactly-once protocol of docs/reliability.md has it.
//
// It does not decide what comes next, how often something is tried, or when to give up: package workflows does.
package activities

import (
	"context"
	"errors"
	"net/url"
	"time"

	"go.temporal.io/sdk/activity"

	"registrar/config"
	"registrar/internal/confine"
	"registrar/internal/modelfile"
)

// Activities holds what the activities need of the process that they run in. Make it once, in the worker's main.
type Activities struct {
	// Roots are the folders that this worker serves, and those that links inside may point into.
	Roots *confine.Roots
	// Process is the worker's own environment: where MLflow is, and the credentials for it.
	Process map[string]string
	// TrustedHosts may get the worker's credentials though its MLFLOW_TRACKING_URI does not name them: host or host:port.
	TrustedHosts []string
	// MinPolicy is the least that files have to pass which a consumer loads, whatever the project's policy; nil for nothing.
	MinPolicy *modelfile.Policy
	// Clients makes and keeps the connections to MLflow.
	Clients *Clients
	// Namespace is the Temporal namespace: part of every object's owner.
	Namespace string
	// UIAddress is where people open the Temporal Web UI; empty where it is not known.
	UIAddress string
	// SearchAttributes tells whether the namespace has the attributes of package workflows, and ServerAttribute whether it has the one for the
	// MLflow server, which is younger.
	SearchAttributes func() bool
	ServerAttribute  func() bool
	// SettleTime is how long after an attempt has ended a request of it may still arrive at MLflow.
	SettleTime time.Duration
	// PartBytes is the smallest size of the parts that large files are uploaded in, where MLflow's store takes parts; 0: never in parts.
	PartBytes int64
	// LookFor is how long a version is looked for after a request whose outcome is unknown.
	LookFor time.Duration
	// WakesPerSecond bounds how fast waiting registrations are let loose on an MLflow server that came back.
	WakesPerSecond float64
	// IsRunning tells whether an execution of a workflow is still running. Nil asks the Temporal server that the activity came from.
	IsRunning func(ctx context.Context, workflowID, runID string) (bool, error)
}

// Server is the MLflow server of a registration, resolved once. Credentials are looked up where a request is sent, and are
// no part of it.
type Server struct {
	TrackingURI string `json:"tracking_uri"`
	// Root is the project, whose .env file may hold credentials for its own server.
	Root string `json:"root"`
	// Workspace is the one that the registration began with, also where the project's .env file is gone; empty for the server's default one.
	Workspace string `json:"workspace,omitempty"`
	// WorkspaceKnown tells that Workspace was recorded, also where it is empty. An older worker recorded none: then the environment names it.
	WorkspaceKnown bool `json:"workspace_known,omitempty"`
}

// Owner says whose an object in MLflow is. The three travel as tags in every creating call.
type Owner struct {
	// Key is the registration key.
	Key string `json:"key"`
	// Owner is namespace and workflow id.
	Owner string `json:"owner"`
	// Generation is the workflow run id: what one execution adopts, the next one does not.
	Generation string `json:"generation"`
	// StartedAt is when the execution began, in milliseconds since the epoch: it puts the generations of an owner in order.
	StartedAt int64 `json:"started_at"`
}

// The tags and the param by which a registration finds what it made.
const (
	TagKey        = "registrar.key"
	TagOwner      = "registrar.owner"
	TagGeneration = "registrar.generation"
	TagStarted    = "registrar.started"
	// TagCompleted is written on the version, last of all: whoever sees it sees a finished registration.
	TagCompleted = "registrar.completed"
	// TagModelSHA256 and TagWorkflowURL lead from a version, and from its run, to what it was made of, and how.
	TagModelSHA256 = "registrar.model_sha256"
	TagWorkflowURL = "registrar.workflow_url"
	// ParamVersion is the run's write-once decision: the number of its version, or none.
	ParamVersion = "registrar.version"
	// NoVersion is the decision that no version of the run shall ever count.
	NoVersion = "none"
)

// environment is the worker's environment with the project's .env file beneath it. Of a folder that is gone it is the worker's alone, beside the error.
func (a *Activities) environment(root string) (config.Environment, error) {
	e := config.Environment{Process: a.Process}
	dir, err := a.Roots.OpenRoot(root)
	if err != nil {
		return e, err
	}
	defer dir.Close()
	file, err := readSettings(dir, ".env")
	if isAbsent(err) {
		return e, nil
	}
	if err != nil {
		return e, err
	}
	e.DotEnv, err = config.ParseDotEnv(file)
	return e, err
}

// WorkflowURL opens an execution in the Temporal Web UI at address; empty where address is.
func WorkflowURL(address, namespace, workflowID, runID string) string {
	if address == "" {
		return ""
	}
	return address + "/namespaces/" + url.PathEscape(namespace) + "/workflows/" + url.PathEscape(workflowID) + "/" + runID + "/history"
}

// errWorkerStops is the cause of a context that ended because the worker was told to stop.
var errWorkerStops = errors.New("the worker stops: another attempt goes on")

// isFirstAttempt tells whether an activity that creates is the first of its generation to do so, where the workflow says that it is the first of its kind.
// There is nothing to adopt then. An attempt's number is recorded before it begins, so that what follows a lost one knows that it is not the first.
func isFirstAttempt(ctx context.Context, first bool) bool {
	return first && activity.GetInfo(ctx).Attempt == 1
}

// untilWorkerStops ends the context of a long step when the worker is told to stop, so that another worker goes on at once instead of
// after the heartbeat timeout.
func untilWorkerStops(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		select {
		case <-activity.GetWorkerStopChannel(ctx):
			cancel(errWorkerStops)
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(context.Canceled) }
}

// HeartbeatInterval is how often a step under way reports its progress. A cancellation comes with the answer to a report, and takes effect within a second
// also where one report goes missing. A worker must not hold them back for longer.
const HeartbeatInterval = 500 * time.Millisecond

// heartbeats reports detail at HeartbeatInterval until stop is called, so that a step which takes long for a reason (a bulk of
// requests, a file to hash) is told from a worker that died.
func heartbeats(ctx context.Context, detail func() any) (stop func()) {
	done := make(chan struct{})
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		tick := time.NewTicker(HeartbeatInterval)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				activity.RecordHeartbeat(ctx, detail())
			case <-done:
				return
			case <-ctx.Done():
				return
			}
		}
	}()
	return func() { close(done); <-finished }
}

// nothing is the detail of a step that has none: its heartbeats say that the worker lives.
func nothing() any { return nil }

// Progress is the heartbeat detail of a step that moves bytes.
type Progress struct {
	Done  int64 `json:"done_bytes"`
	Total int64 `json:"total_bytes"`
	// ModelID is the logged model that the bytes go to, where there is one.
	ModelID string `json:"model_id,omitempty"`
}
