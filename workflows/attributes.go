package workflows

import (
	"maps"
	"slices"
	"strings"

	"go.temporal.io/api/enums/v1"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"registrar/internal/receipt"
)

// The names of search attributes that others search by.
const (
	AttributeState = "RegistrarState"
	AttributeLayer = "RegistrarWaitingFor"
	// AttributeServer is younger than the others: a namespace may have them and not this one, and then it is not written.
	AttributeServer = "RegistrarServer"
)

// The search attributes of a registration. All are keywords: a namespace on SQL has room for ten of those, and for three of
// every other type.
var (
	attributeModel   = temporal.NewSearchAttributeKeyKeyword("RegistrarModel")
	attributeState   = temporal.NewSearchAttributeKeyKeyword(AttributeState)
	attributeOutcome = temporal.NewSearchAttributeKeyKeyword("RegistrarOutcome")
	attributeLayer   = temporal.NewSearchAttributeKeyKeyword(AttributeLayer)
	attributeVersion = temporal.NewSearchAttributeKeyKeyword("RegistrarVersion")
	attributeServer  = temporal.NewSearchAttributeKeyKeyword(AttributeServer)
)

// The memo of a registration. The first ones are written by who starts it; the others stand for the search attributes that a namespace
// lacks.
const (
	MemoModel     = "model_name"
	MemoSHA256    = "model_sha256"
	MemoKey       = "registration_key"
	MemoGitCommit = "git_commit"
	MemoState     = "state"
	MemoOutcome   = "outcome"
	MemoLayer     = "waiting_for"
	MemoVersion   = "model_version"
)

// SearchAttributes are what the namespace needs for registrations to be found by state; without them the same facts are in the memo.
func SearchAttributes() map[string]enums.IndexedValueType {
	types := map[string]enums.IndexedValueType{}
	for _, key := range []temporal.SearchAttributeKeyKeyword{attributeModel, attributeState, attributeOutcome, attributeLayer, attributeVersion, attributeServer} {
		types[key.GetName()] = key.GetValueType()
	}
	return types
}

// MissingSearchAttributes are those that a namespace lacks which has these custom ones; one of another type counts as missing.
func MissingSearchAttributes(custom map[string]enums.IndexedValueType) map[string]enums.IndexedValueType {
	missing := map[string]enums.IndexedValueType{}
	for name, kind := range SearchAttributes() {
		if custom[name] != kind {
			missing[name] = kind
		}
	}
	return missing
}

// SearchAttributesCommand is the command that adds attributes to a namespace by hand.
func SearchAttributesCommand(namespace string, attributes map[string]enums.IndexedValueType) string {
	command := "temporal operator search-attribute create --namespace " + namespace
	for _, name := range slices.Sorted(maps.Keys(attributes)) {
		command += " --name " + name + " --type " + attributes[name].String()
	}
	return command
}

// Shown is how a registration stands as the Temporal server itself knows it, without a worker: search attributes, or the memo.
type Shown struct {
	Model, ModelSHA256, Key string
	State                   receipt.State
	Outcome                 receipt.Outcome
	Layer, Version          string
	Server                  string // of MLflow; empty where the namespace does not have AttributeServer
}

// ShownBy reads it from what Describe and List answer.
func ShownBy(info *workflowpb.WorkflowExecutionInfo) Shown {
	read := func(memo string, attribute *temporal.SearchAttributeKeyKeyword) string {
		var text string
		payload := info.GetMemo().GetFields()[memo]
		if attribute != nil && info.GetSearchAttributes().GetIndexedFields()[attribute.GetName()] != nil {
			payload = info.GetSearchAttributes().GetIndexedFields()[attribute.GetName()]
		}
		if payload == nil || converter.GetDefaultDataConverter().FromPayload(payload, &text) != nil {
			return ""
		}
		return text
	}
	return Shown{
		Model:       read(MemoModel, &attributeModel),
		ModelSHA256: read(MemoSHA256, nil),
		Key:         read(MemoKey, nil),
		State:       receipt.State(read(MemoState, &attributeState)),
		Outcome:     receipt.Outcome(read(MemoOutcome, &attributeOutcome)),
		Layer:       read(MemoLayer, &attributeLayer),
		Version:     read(MemoVersion, &attributeVersion),
		Server:      read("", &attributeServer),
	}
}

// publish shows how the registration stands to those who look from outside: search attributes, or the memo where the namespace
// has none, and the current details.
func (r *registration) publish(ctx workflow.Context) error {
	workflow.SetCurrentDetails(ctx, r.details())
	layer := ""
	if r.receipt.Waiting != nil {
		layer = r.receipt.Waiting.Layer
	}
	if r.loaded.SearchAttributes {
		updates := []temporal.SearchAttributeUpdate{
			attributeModel.ValueSet(r.receipt.ModelName),
			attributeState.ValueSet(string(r.receipt.State)),
			setOrUnset(attributeOutcome, string(r.receipt.Outcome)),
			setOrUnset(attributeLayer, layer),
			setOrUnset(attributeVersion, r.receipt.ModelVersion),
		}
		if r.loaded.ServerAttribute {
			updates = append(updates, setOrUnset(attributeServer, serverName(r.server.TrackingURI)))
		}
		return workflow.UpsertTypedSearchAttributes(ctx, updates...)
	}
	return workflow.UpsertMemo(ctx, map[string]any{
		MemoState:   r.receipt.State,
		MemoOutcome: r.receipt.Outcome,
		MemoLayer:   layer,
		MemoVersion: r.receipt.ModelVersion,
	})
}

func setOrUnset(key temporal.SearchAttributeKeyKeyword, value string) temporal.SearchAttributeUpdate {
	if value == "" {
		return key.ValueUnset()
	}
	return key.ValueSet(value)
}

// maxKeyword is how many characters a keyword may have in a Temporal server on SQL. A longer one would keep the workflow from going on.
const maxKeyword = 255

// serverName is a tracking URI as a search attribute and a metric's label: not too long, and without what a query would have to escape.
func serverName(trackingURI string) string {
	name := strings.NewReplacer("'", "%27", `\`, "%5C").Replace(strings.ToValidUTF8(trackingURI, "?"))
	if characters := []rune(name); len(characters) > maxKeyword {
		return string(characters[:maxKeyword])
	}
	return name
}
