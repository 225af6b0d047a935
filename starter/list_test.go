package main

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
)

// paging is a Temporal that lists two of five registrations at a time.
type paging struct {
	client.Client
	asked []int32
}

func (p *paging) ListWorkflow(_ context.Context, request *workflowservice.ListWorkflowExecutionsRequest) (*workflowservice.ListWorkflowExecutionsResponse, error) {
	p.asked = append(p.asked, request.GetPageSize())
	if len(p.asked) == 3 {
		return &workflowservice.ListWorkflowExecutionsResponse{Executions: make([]*workflowpb.WorkflowExecutionInfo, 1)}, nil
	}
	return &workflowservice.ListWorkflowExecutionsResponse{Executions: make([]*workflowpb.WorkflowExecutionInfo, 2), NextPageToken: []byte("next")}, nil
}

func TestList_TurnsPagesUpToTheLimit(t *testing.T) {
	for limit, want := range map[int32]struct{ listed, pages int }{1: {1, 1}, 2: {2, 1}, 3: {3, 2}, 5: {5, 3}, 5000: {5, 3}} {
		var server paging
		listed, err := list(t.Context(), &server, limit, "")
		require.NoError(t, err)
		require.Len(t, listed, want.listed)
		require.Len(t, server.asked, want.pages)
		require.Equal(t, min(limit, longestPage), server.asked[0])
	}
}
