package e2e

import (
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"

	"registrar/internal/receipt"
	"registrar/workflows"
)

// startByHand starts a registration as `temporal workflow start` does, and waits for its end.
func (s *site) startByHand(workflowID string, input any) receipt.Receipt {
	s.t.Helper()
	options := client.StartWorkflowOptions{ID: workflowID, TaskQueue: s.taskQueue()}
	_, err := s.dial().ExecuteWorkflow(s.t.Context(), options, workflows.TypeRegisterModel, input)
	require.NoError(s.t, err)
	return s.result(workflowID)
}
