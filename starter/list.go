package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"

	"registrar/workflows"
)

func (s *starter) listCommand() *cobra.Command {
	var limit int32
	command := &cobra.Command{
		Use:   "list",
		Short: "List registrations, the newest first",
		Args:  cobra.NoArgs,
		PreRunE: func(*cobra.Command, []string) error {
			if limit < 1 {
				return usageError{fmt.Errorf("--limit %d: want 1 or more", limit)}
			}
			return nil
		},
		RunE: s.connected(func(ctx context.Context, c client.Client, _ []string) error {
			registrations, err := list(ctx, c, limit, "")
			if err != nil {
				return err
			}
			if s.output == "json" {
				return s.printJSON(registrations)
			}
			return s.printList(registrations)
		}),
	}
	command.Flags().Int32Var(&limit, "limit", 50, "at most this many")
	return command
}

// longestPage is the most that a Temporal server lists at once, unless it is told otherwise.
const longestPage = 1000

// list is what Temporal lists, the newest first. where is a further condition of its query; empty for none.
func list(ctx context.Context, c client.Client, limit int32, where string) ([]listedRegistration, error) {
	registrations := []listedRegistration{}
	query := "WorkflowType = '" + workflows.TypeRegisterModel + "'"
	if where != "" {
		query += " AND " + where
	}
	var page []byte
	for len(registrations) < int(limit) {
		listed, err := c.ListWorkflow(ctx, &workflowservice.ListWorkflowExecutionsRequest{
			Query: query, PageSize: min(limit, longestPage), NextPageToken: page,
		})
		if err != nil {
			return nil, fmt.Errorf("list registrations: %w", err)
		}
		for _, info := range listed.GetExecutions() {
			registrations = append(registrations, listedBy(info))
		}
		if page = listed.GetNextPageToken(); len(page) == 0 {
			break
		}
	}
	return registrations[:min(int(limit), len(registrations))], nil
}

// listedRegistration is a line of the list.
type listedRegistration struct {
	WorkflowID   string    `json:"workflow_id"`
	RunID        string    `json:"run_id"`
	Status       string    `json:"status"` // Temporal's: running, completed, failed, canceled, terminated
	State        string    `json:"state,omitempty"`
	Outcome      string    `json:"outcome,omitempty"`
	ModelName    string    `json:"model_name,omitempty"`
	ModelVersion string    `json:"model_version,omitempty"`
	WaitingFor   string    `json:"waiting_for,omitempty"`
	StartedAt    time.Time `json:"started_at"`
}

// listedBy is what Temporal says of a registration, in Describe and List.
func listedBy(info *workflowpb.WorkflowExecutionInfo) listedRegistration {
	shown := workflows.ShownBy(info)
	return listedRegistration{
		WorkflowID: info.GetExecution().GetWorkflowId(), RunID: info.GetExecution().GetRunId(),
		Status: strings.ToLower(info.GetStatus().String()), State: string(shown.State), Outcome: string(shown.Outcome),
		ModelName: shown.Model, ModelVersion: shown.Version, WaitingFor: shown.Layer, StartedAt: info.GetStartTime().AsTime(),
	}
}

func (s *starter) printList(registrations []listedRegistration) error {
	if len(registrations) == 0 {
		fmt.Fprintln(s.stderr, "no registrations")
		return nil
	}
	on := s.screenOf(s.stdout)
	t := table{columns: []column{{"STARTED", aWord}, {"STATE", aPhrase}, {"VERSION", aWord}, {"WORKFLOW ID", anID}}}
	for _, r := range registrations {
		state, colour := r.words()
		t.add(cell{text: on.time(r.StartedAt)}, cell{state, colour}, cell{text: r.ModelVersion}, cell{text: r.WorkflowID})
	}
	return t.write(s.stdout, on)
}

// words say how a registration stands, and in which colour.
func (r listedRegistration) words() (text, colour string) {
	word, reason := r.Status, ""
	switch {
	case r.Outcome != "":
		word = r.Outcome
	case r.Status == "running" && r.State != "":
		word = r.State
		if r.WaitingFor != "" {
			reason = " (" + r.WaitingFor + ")"
		}
	}
	return strings.ReplaceAll(word+reason, "_", " "), colourOf(word)
}
