// Package receipt is how a registration stands, as JSON: what `starter register`, `status` and `result` print, what the
// workflow returns, and what receipt.json holds. Fields are added, never renamed. It knows no MLflow and no Temporal.
package receipt

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	"registrar/internal/gate"
)

// State is where a registration is on its way.
type State string

// The states.
const (
	Queued          State = "queued"           // frozen on disk, Temporal has not heard of it
	Running         State = "running"          // a step is under way
	Waiting         State = "waiting"          // for something that comes back by itself
	Blocked         State = "blocked"          // for a person who mends a credential
	PendingApproval State = "pending_approval" // for a person who says yes or no
	Done            State = "done"             // has an outcome
)

// Outcome is how a registration ended.
type Outcome string

// The outcomes.
const (
	Registered        Outcome = "registered"
	AlreadyRegistered Outcome = "already_registered"
	Rejected          Outcome = "rejected"
	Canceled          Outcome = "canceled"
	Failed            Outcome = "failed"
)

// Receipt tells how a registration stands. What is not known yet is absent.
type Receipt struct {
	WorkflowID      string         `json:"workflow_id"`
	State           State          `json:"state"`
	Outcome         Outcome        `json:"outcome,omitempty"`
	ModelName       string         `json:"model_name,omitempty"`
	ModelVersion    string         `json:"model_version,omitempty"` // the number, as MLflow gives it: a string
	ModelURI        string         `json:"model_uri,omitempty"`     // models:/<name>/<version>
	Stage           string         `json:"stage,omitempty"`
	Aliases         []string       `json:"aliases,omitempty"`
	MLflowRunID     string         `json:"mlflow_run_id,omitempty"`
	MLflowModelID   string         `json:"mlflow_model_id,omitempty"`
	ExperimentID    string         `json:"experiment_id,omitempty"`
	TrackingURI     string         `json:"tracking_uri,omitempty"` // without user info
	WorkflowURL     string         `json:"workflow_url,omitempty"` // in the Temporal Web UI, where the worker is told of one
	ModelSHA256     string         `json:"model_sha256,omitempty"`
	RegistrationKey string         `json:"registration_key,omitempty"`
	Decision        *gate.Decision `json:"decision,omitempty"`
	Waiting         *Wait          `json:"waiting,omitempty"`
	Warnings        []string       `json:"warnings,omitempty"`
	Error           string         `json:"error,omitempty"`
}

// Wait tells since when and for what a registration waits.
type Wait struct {
	Since     time.Time  `json:"since,omitzero"`
	Layer     string     `json:"layer"` // temporal, worker, dns, tcp, tls, http, auth, database, artifact_store
	LastError string     `json:"last_error,omitempty"`
	Attempts  int        `json:"attempts,omitempty"`
	NextProbe *time.Time `json:"next_probe,omitempty"`
}

// JSON is the receipt as a file or a terminal shows it: indented, with a newline at its end.
func (r Receipt) JSON() ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(r); err != nil {
		return nil, fmt.Errorf("encode receipt: %w", err)
	}
	return b.Bytes(), nil
}
