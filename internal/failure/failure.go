// Package failure names the kinds of failure that cross a process boundary: they are the types of Temporal application
// errors, so a name here is never changed, and a history written yesterday is still understood. It knows nothing of Temporal
// itself; activities/classify.go is the one place that turns an error into one of these.
package failure

// The kinds, each with what the workflow does about it.
const (
	// Outage: MLflow cannot be reached or cannot serve. It ends by itself, so the registration waits.
	Outage = "Outage"
	// Unauthorized: MLflow answered 401 or 403. Before anything succeeded it is a mistake in the configuration and the
	// registration fails; later it is an expired credential, and the registration waits for a person.
	Unauthorized = "Unauthorized"
	// Misdirected: something other than MLflow answered, by a redirect, which is not followed, or by a page that knows nothing of the
	// address. Before anything succeeded the address is wrong and the registration fails; later something in between has changed, such as
	// a login page in front of MLflow, or an ingress whose MLflow is being deployed anew, and the registration waits.
	Misdirected = "Misdirected"
	// Configuration: a setting is wrong and no waiting mends it. Fails, with advice.
	Configuration = "Configuration"
	// BadInput: a file is missing, unreadable or not what it should be. Fails, naming the file.
	BadInput = "BadInput"
	// Refused: MLflow understood the request and said no. Fails, with MLflow's message.
	Refused = "Refused"
	// Gone: an object of MLflow that this registration made is no longer there. The step that made it runs again.
	Gone = "Gone"
	// UnknownOutcome: a creating request may or may not have been applied. Look before anything else is done.
	UnknownOutcome = "UnknownOutcome"
	// Unexpected: something that is none of the above, such as a full disk. Tried again a few times.
	Unexpected = "Unexpected"
	// Pending: an activity that waits to be answered by a signal ended an attempt. It is tried again for as long as it takes.
	Pending = "Pending"
	// Overdue: the registration waited for max_wait.
	Overdue = "Overdue"
	// Interrupted: the worker is stopping. Another attempt goes on, on another worker or after the restart.
	Interrupted = "Interrupted"
)

// Detail travels with each application error, so that the workflow can say why it waits without reading the message.
type Detail struct {
	// Layer is what failed, in the words of the receipt's waiting.layer; empty where none fits.
	Layer string `json:"layer,omitempty"`
	// Open tells that a changing request may have been applied, or may be applied later.
	Open bool `json:"open,omitempty"`
	// ModelID is the logged model that an interrupted upload had made or adopted.
	ModelID string `json:"model_id,omitempty"`
}
