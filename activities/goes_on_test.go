package activities

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"

	"registrar/internal/mlflow"
)

// chain is what a Temporal server knows of a workflow id: its executions, oldest first. Only the last one may be running.
type chain struct {
	client.Client
	executions []*workflowpb.WorkflowExecutionInfo
}

// executed is an execution of the chain that begins with the run id first.
func executed(runID, first string, status enums.WorkflowExecutionStatus) *workflowpb.WorkflowExecutionInfo {
	return &workflowpb.WorkflowExecutionInfo{Execution: &commonpb.WorkflowExecution{RunId: runID}, FirstRunId: first, Status: status}
}

func (c *chain) DescribeWorkflowExecution(_ context.Context, _, runID string) (*workflowservice.DescribeWorkflowExecutionResponse, error) {
	for i, e := range c.executions {
		if e.GetExecution().GetRunId() == runID || runID == "" && i == len(c.executions)-1 {
			return &workflowservice.DescribeWorkflowExecutionResponse{WorkflowExecutionInfo: e}, nil
		}
	}
	return nil, serviceerror.NewNotFound("workflow execution not found")
}

// knows lets the activities ask a Temporal server that knows these executions.
func (p *project) knows(executions ...*workflowpb.WorkflowExecutionInfo) {
	p.IsRunning = func(ctx context.Context, workflowID, runID string) (bool, error) {
		return GoesOn(ctx, &chain{executions: executions}, workflowID, runID)
	}
}

const (
	open       = enums.WORKFLOW_EXECUTION_STATUS_RUNNING
	terminated = enums.WORKFLOW_EXECUTION_STATUS_TERMINATED // what a reset does to an execution under way
)

func TestGoesOn_TakesAnExecutionAndWhatItWasResetToForOne(t *testing.T) {
	for name, c := range map[string]struct {
		executions []*workflowpb.WorkflowExecutionInfo
		runID      string
		want       bool
	}{
		"unknown":                    {nil, "1", false},
		"running":                    {[]*workflowpb.WorkflowExecutionInfo{executed("1", "1", open)}, "1", true},
		"ended":                      {[]*workflowpb.WorkflowExecutionInfo{executed("1", "1", terminated)}, "1", false},
		"reset":                      {[]*workflowpb.WorkflowExecutionInfo{executed("1", "1", terminated), executed("2", "1", open)}, "1", true},
		"reset, and ended":           {[]*workflowpb.WorkflowExecutionInfo{executed("1", "1", terminated), executed("2", "1", terminated)}, "1", false},
		"made by a reset":            {[]*workflowpb.WorkflowExecutionInfo{executed("1", "1", terminated), executed("2", "1", open)}, "2", true},
		"made by a reset and reset":  {[]*workflowpb.WorkflowExecutionInfo{executed("2", "1", terminated), executed("3", "1", open)}, "2", true},
		"reset, the first expired":   {[]*workflowpb.WorkflowExecutionInfo{executed("2", "1", open)}, "1", true},
		"started again":              {[]*workflowpb.WorkflowExecutionInfo{executed("1", "1", terminated), executed("2", "2", open)}, "1", false},
		"expired, and started again": {[]*workflowpb.WorkflowExecutionInfo{executed("2", "2", open)}, "1", false},
	} {
		t.Run(name, func(t *testing.T) {
			running, err := GoesOn(t.Context(), &chain{executions: c.executions}, "register/credit/1", c.runID)

			require.NoError(t, err)
			require.Equal(t, c.want, running)
		})
	}
}

func TestAudit_LeavesAloneWhatAnExecutionThatWasResetWorksOn(t *testing.T) {
	for name, c := range map[string]struct {
		successor enums.WorkflowExecutionStatus
		status    string
		models    int
	}{
		"under way": {open, mlflow.RunRunning, 1},
		"ended":     {terminated, mlflow.RunFailed, 0},
	} {
		t.Run(name, func(t *testing.T) {
			p := newAudited(t)
			p.uploads(ended)
			p.knows(executed(ended.Generation, ended.Generation, terminated), executed("successor", ended.Generation, c.successor))

			p.audit(AuditInput{Fix: true})

			require.Equal(t, c.status, p.server.Runs()[0].Info.Status)
			require.Len(t, p.server.LoggedModels(), c.models)
		})
	}
}

func TestSnapshotModel_LeavesAloneWhatAnExecutionThatWasResetRegisters(t *testing.T) {
	p, _ := frozenElsewhere(t, "first")
	p.knows(executed("first", "first", terminated), executed("successor", "first", open))

	require.ErrorContains(t, p.freeze(), "starter result register/credit/elsewhere")
}
