package workflows

import (
	"testing"

	"github.com/stretchr/testify/mock"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/testsuite"

	"registrar/activities"
)

func TestCheckUp_AsksAWorker(t *testing.T) {
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestWorkflowEnvironment()
	in := activities.CheckUpInput{Root: "/srv/acras", Config: "c.yaml", Params: "p.yaml"}
	want := activities.CheckUpResult{Checks: []activities.Check{{Name: "mlflow", Status: activities.CheckFailed, Detail: "tcp"}}}
	env.RegisterActivity(&activities.Activities{})
	env.OnActivity(a.CheckUp, mock.Anything, in).Return(want, nil).Once()

	env.ExecuteWorkflow(CheckUp, in)

	require.NoError(t, env.GetWorkflowError())
	var got activities.CheckUpResult
	require.NoError(t, env.GetWorkflowResult(&got))
	require.Equal(t, want, got)
	env.AssertExpectations(t)
}
