// Package workflows tells in which order a registration happens, how long each step may take, and what is waited for. It is
// deterministic: everything that touches the world is an activity. It does not know HTTP, files or YAML.
//
// This file is what others use: names, ids, signals, inputs. They are written in histories, so they are added to, never renamed.
package workflows

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/url"
	"strings"
	"time"

	"registrar/internal/receipt"
	"registrar/internal/snapshot"
)

// TaskQueue is where workers listen unless they are told otherwise.
const TaskQueue = "registrar"

// The workflow types, as they show in the Web UI.
const (
	TypeRegisterModel      = "RegisterModel"
	TypeMLflowAvailability = "MLflowAvailability"
	TypePromoteVersions    = "PromoteVersions"
	TypeSweep              = "SweepLeftovers"
	TypeAuditRegistry      = "AuditRegistry"
	TypeModelHistory       = "ModelHistory"
	TypeCheckUp            = "CheckUp"
)

// Signals and the query of a registration.
const (
	// SignalRecheck repeats at once the step that an outage stopped. No payload. May be repeated.
	SignalRecheck = "recheck"
	// SignalAvailable says that MLflow answers again. Payload: the nonce of the wait that it answers.
	SignalAvailable = "mlflow-available"
	// SignalPromoted answers a request for promotion. Payload: PromotionReply.
	SignalPromoted = "promoted"
	// QueryReceipt returns a receipt.Receipt.
	QueryReceipt = "receipt"
)

// Signals of the workflows of which there is one for all.
const (
	// SignalJoin asks MLflowAvailability for a wake-up. Payload: activities.Join. May be repeated.
	SignalJoin = "join"
	// SignalPromote asks PromoteVersions to promote a version. Payload: PromotionRequest. May be repeated.
	SignalPromote = "promote"
)

// RegisterInput starts a registration. Without a key it freezes the project's files itself, so that it may also be started by
// hand: `temporal workflow start --workflow-id register/acras --type RegisterModel --task-queue registrar --input '{"root": "/srv/acras"}'`.
// The id is the owner of what is made, and exactly once holds for each: without one the CLI makes up another each time.
type RegisterInput struct {
	// Root is the project, an absolute path on the worker's machine, below one of the worker's allowed roots.
	Root string `json:"root"`
	// Config and Params are paths below Root; by default config/config.yaml and config/params.yaml. Not read where Key is set.
	Config string `json:"config,omitempty"`
	Params string `json:"params,omitempty"`
	// RootDir and Key name the registration folder that the starter froze.
	RootDir string `json:"root_dir,omitempty"`
	Key     string `json:"registration_key,omitempty"`
	// ForceToken makes a new version of files that are registered already. Part of the key.
	ForceToken string `json:"force_token,omitempty"`
	// Again says that this workflow id has run before, so that something of that run may still arrive at MLflow.
	Again bool `json:"again,omitempty"`
}

// RegistrationID is the workflow id of a registration: the same files under the same name have the same one.
func RegistrationID(modelName, key string) string {
	return registrationsOf(modelName) + snapshot.ShortKey(key)
}

// registrationsOf begins the workflow ids of all registrations of a model, and of no other.
func registrationsOf(modelName string) string {
	return "register/" + nameInID(modelName) + "/"
}

// AvailabilityID is the workflow id of the one that waits for an MLflow server for all registrations of a task queue. Each queue has its
// own: it must not wait for the workers of another.
func AvailabilityID(trackingURI, taskQueue string) string {
	return "mlflow-availability/" + shortDigest(trackingURI+"\n"+taskQueue)
}

// CredentialsID is the workflow id of the one that waits, for all registrations of a project on a task queue, until an MLflow server takes the project's
// credentials again.
func CredentialsID(trackingURI, taskQueue, root string) string {
	return "mlflow-credentials/" + shortDigest(trackingURI+"\n"+taskQueue+"\n"+root)
}

// defaultWorkspace is what MLflow calls the workspace of a client that names none. The name is reserved there.
const defaultWorkspace = "default"

// PromotionID is the workflow id of the one that promotes versions of a model in a workspace of an MLflow server, which is the server's default one where
// workspace is empty. The same name in another workspace is another model, with version numbers of its own.
func PromotionID(modelName, trackingURI, workspace string) string {
	place := trackingURI
	if workspace = strings.TrimSpace(workspace); workspace != "" && workspace != defaultWorkspace { // as MLflow reads the header
		place += "\n" + workspace
	}
	return "promote/" + nameInID(modelName) + "/" + shortDigest(place)
}

// AuditID is the workflow id of an audit of a model that was asked for at a time, to the millisecond.
func AuditID(modelName string, at time.Time) string {
	return fmt.Sprintf("audit/%s/%d", nameInID(modelName), at.UnixMilli())
}

// ModelHistoryID is the workflow id of a look at a model's versions at a time, to the millisecond.
func ModelHistoryID(modelName string, at time.Time) string {
	return fmt.Sprintf("history/%s/%d", nameInID(modelName), at.UnixMilli())
}

// CheckUpID is the workflow id of a check of a model's project that was asked for at a time, to the millisecond.
func CheckUpID(modelName string, at time.Time) string {
	return fmt.Sprintf("check-up/%s/%d", nameInID(modelName), at.UnixMilli())
}

// maxNameInID leaves room for what else stands in an id: a Temporal server on SQL has 255 characters for it.
const maxNameInID = 160

// nameInID is a model's name as it stands in an id: escaped as in a URL, since an id travels in a header of gRPC, which takes nothing but
// ASCII; and cut where it is long, then with its digest, so that two names never share an id.
func nameInID(modelName string) string {
	escaped := url.PathEscape(modelName)
	if len(escaped) <= maxNameInID {
		return escaped
	}
	digest := "~" + shortDigest(modelName)
	return escaped[:maxNameInID-len(digest)] + digest
}

// shortDigest stands for a text that an id has no room for.
func shortDigest(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])[:16]
}

// SweepID is the workflow id of the sweep after one execution of a registration.
func SweepID(registrationID, runID string) string {
	return fmt.Sprintf("sweep/%s/%s", registrationID, runID)
}

// Result is what a registration returns.
type Result = receipt.Receipt
