package activities

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"time"

	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/temporal"

	"registrar/config"
	"registrar/internal/confine"
	"registrar/internal/failure"
	"registrar/internal/gate"
	"registrar/internal/mlflow"
	"registrar/internal/mlmodel"
	"registrar/internal/modelfile"
	"registrar/internal/snapshot"
)

// classify turns an error of a leaf into the Temporal error that says what to do about it: retried or not, waited for or not.
// It is the only place that does. What it does not know is retried.
//
// It takes the context of the attempt, which tells a canceled step from a worker that stops.
func classify(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if isA[*temporal.ApplicationError](err) || temporal.IsCanceledError(err) {
		return err
	}
	cause := context.Cause(ctx)
	switch {
	case errors.Is(cause, errWorkerStops):
		return applicationError(errWorkerStops, failure.Interrupted, failure.Detail{Open: true})
	case errors.Is(err, context.Canceled) && (cause == nil || errors.Is(cause, context.Canceled) || temporal.IsCanceledError(cause)):
		return temporal.NewCanceledError()
	case cause != nil && (errors.Is(err, context.Canceled) || errors.Is(err, cause)) && !errors.Is(cause, context.DeadlineExceeded):
		return applicationError(&lostHeartbeatError{cause}, failure.Interrupted, failure.Detail{Open: true})
	}
	kind, detail := kindOf(err)
	if kind == failure.Outage && detail.Layer == "http" && isA[*artifactStoreError](err) {
		detail.Layer = "artifact_store"
	}
	return applicationError(err, kind, detail)
}

func applicationError(err error, kind string, detail failure.Detail) error {
	options := temporal.ApplicationErrorOptions{Cause: err, Details: []any{detail}}
	switch kind {
	case failure.Interrupted:
		options.Category = temporal.ApplicationErrorCategoryBenign
		options.NextRetryDelay = time.Millisecond
	case failure.Outage:
		// An outage is expected here: without this category the SDK logs each attempt as an error, with a stack trace.
		options.Category = temporal.ApplicationErrorCategoryBenign
		if refused, ok := errors.AsType[*mlflow.APIError](err); ok {
			options.NextRetryDelay = min(refused.RetryAfter, longestRetryAfter)
		}
	case failure.UnknownOutcome, failure.Unexpected:
	default:
		options.NonRetryable = true
	}
	return temporal.NewApplicationErrorWithOptions(err.Error()+advice(err), kind, options)
}

// isFinal tells whether a classified error ends a step that MLflow has served before: an expired credential, and a login page in between, are waited for.
func isFinal(err error) bool {
	failed, ok := errors.AsType[*temporal.ApplicationError](err)
	return ok && failed.NonRetryable() && failed.Type() != failure.Unauthorized && failed.Type() != failure.Misdirected
}

// openIf is a classified error that leaves things open also where an earlier attempt did: of a step that fails, Temporal keeps the last attempt's error alone.
func openIf(earlier bool, err error) error {
	if !earlier {
		return err
	}
	return detailed(err, func(detail *failure.Detail) { detail.Open = true })
}

// detailed is a classified error with another detail. A cancellation stays as it is.
func detailed(err error, change func(*failure.Detail)) error {
	failed, ok := errors.AsType[*temporal.ApplicationError](err)
	if !ok {
		return err
	}
	var detail failure.Detail
	// An error without detail gives the zero detail, which says nothing.
	_ = failed.Details(&detail)
	change(&detail)
	return temporal.NewApplicationErrorWithOptions(failed.Message(), failed.Type(), temporal.ApplicationErrorOptions{
		NonRetryable: failed.NonRetryable(), Cause: failed.Unwrap(), Details: []any{detail}, NextRetryDelay: failed.NextRetryDelay(), Category: failed.Category(),
	})
}

// lostHeartbeatError: Temporal did not take a heartbeat within a second, and the SDK ends the attempt, as it does when the registration is canceled. Nobody
// has canceled it: the next attempt goes on.
type lostHeartbeatError struct{ err error }

func (e *lostHeartbeatError) Error() string { return "a heartbeat was not taken: " + e.err.Error() }
func (e *lostHeartbeatError) Unwrap() error { return e.err }

// longestRetryAfter bounds what a server may ask for: who waits for longer shall be seen to wait, and hear of a recheck.
const longestRetryAfter = time.Minute

// advice is what to do about a refusal, which MLflow itself does not say.
func advice(err error) string {
	answer, ok := errors.AsType[*mlflow.APIError](err)
	switch {
	case ok && answer.Status == http.StatusUnauthorized:
		return ": set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, for the worker, beside the MLFLOW_TRACKING_URI that they are for"
	case ok && answer.Status == http.StatusForbidden:
		return ": give the worker's user the permission, or add the host to the server's MLFLOW_SERVER_ALLOWED_HOSTS"
	case mlflow.IsEndpointMissing(err):
		return ": that is no answer of MLflow's: is the tracking URI right, with its path prefix?"
	}
	return ""
}

// artifactStoreError marks an error as the artifact store's, which may be gone while the API answers.
type artifactStoreError struct{ err error }

func (e *artifactStoreError) Error() string { return "reach artifact store: " + e.err.Error() }
func (e *artifactStoreError) Unwrap() error { return e.err }

// kindOf says which failure an error is, by type, status and error code, never by its words. What is wrong with a file or a setting comes
// first: it may be the cause that a request ended, and no waiting mends it.
func kindOf(err error) (string, failure.Detail) {
	open := failure.Detail{Open: mlflow.OutcomeOpen(err)}
	transport, isTransport := errors.AsType[*mlflow.TransportError](err)
	answer, isAnswer := errors.AsType[*mlflow.APIError](err)
	switch {
	case isA[*unknownWorkspaceError](err):
		return failure.Unauthorized, failure.Detail{Layer: string(mlflow.LayerAuth)}
	case isBadInput(err):
		return failure.BadInput, failure.Detail{}
	case isA[*config.Error](err), errors.Is(err, mlflow.ErrArtifactsNotProxied):
		return failure.Configuration, failure.Detail{}
	case isA[*deletedRunError](err):
		open.Layer = "http"
		return failure.Gone, open
	case isAnswer:
		return kindOfAnswer(answer, open)
	case isTransport && transport.Layer == mlflow.LayerAuth:
		open.Layer = string(transport.Layer)
		return failure.Unauthorized, open
	case isTransport && errors.Is(err, http.ErrSchemeMismatch):
		open.Layer = string(transport.Layer)
		return failure.Misdirected, open
	case isTransport:
		open.Layer = string(transport.Layer)
		return failure.Outage, open
	case isAbsent(err), errors.Is(err, fs.ErrPermission):
		return failure.BadInput, failure.Detail{}
	case errors.Is(err, context.DeadlineExceeded), isA[*incompleteUploadError](err), isA[*incompletePartsError](err), isA[*displacedError](err), isA[*notReadyError](err):
		return failure.Outage, failure.Detail{Layer: "http", Open: true}
	}
	return failure.Unexpected, failure.Detail{}
}

// isBadInput tells that a file of the project is not what it should be.
func isBadInput(err error) bool {
	return isA[*confine.OutsideError](err) ||
		isA[*confine.NotRegularError](err) ||
		errors.Is(err, confine.ErrTooLarge) ||
		errors.Is(err, confine.ErrNotFolder) ||
		isA[*snapshot.InputError](err) ||
		isA[*snapshot.MismatchError](err) || // ends the request that the copy is the body of
		isA[*gate.FormatError](err) ||
		isA[*modelfile.FormatError](err) ||
		errors.Is(err, mlmodel.ErrSpec)
}

func kindOfAnswer(answer *mlflow.APIError, detail failure.Detail) (string, failure.Detail) {
	detail.Layer = "http"
	switch {
	case answer.Status == http.StatusUnauthorized, answer.Status == http.StatusForbidden:
		detail.Layer = "auth"
		return failure.Unauthorized, detail
	case answer.Code == "TEMPORARILY_UNAVAILABLE":
		// What MLflow answers when it cannot get at its database (measured: after 20 s behind a locked one).
		detail.Layer = "database"
		return failure.Outage, detail
	case answer.Code == "FEATURE_DISABLED":
		// A workspace asked of a server that has none: a 500 that no waiting mends.
		return failure.Configuration, detail
	case answer.Status == http.StatusNotImplemented:
		// MLflow never says so: another kind of server.
		return failure.Misdirected, detail
	case answer.Status >= 500, answer.Status == http.StatusRequestTimeout, answer.Status == http.StatusTooEarly,
		answer.Status == http.StatusTooManyRequests:
		return failure.Outage, detail
	case answer.Status >= 300 && answer.Status < 400, mlflow.IsEndpointMissing(answer):
		return failure.Misdirected, detail
	case mlflow.IsNotFound(answer):
		return failure.Gone, detail
	}
	return failure.Refused, detail
}

// retried is err, to be tried again whatever it is: a probe has nothing else to do.
func retried(err error) error {
	application, ok := errors.AsType[*temporal.ApplicationError](err)
	if !ok || !application.NonRetryable() {
		return err
	}
	var detail failure.Detail
	// An error without detail gives the zero detail, which says nothing.
	_ = application.Details(&detail)
	return temporal.NewApplicationErrorWithOptions(application.Message(), application.Type(),
		temporal.ApplicationErrorOptions{Details: []any{detail}, Category: temporal.ApplicationErrorCategoryBenign})
}

func isNotFound(err error) bool { return isA[*serviceerror.NotFound](err) }

func isA[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}
