package workflows_test

import (
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/mock"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/testsuite"

	"registrar/activities"
	"registrar/workflows"
)

func TestAuditRegistry_TellsHowTheModelsRegistrationsAreNamed(t *testing.T) {
	const name = "Bonität (v1)"
	var a *activities.Activities
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestWorkflowEnvironment()
	env.OnActivity(a.LoadConfig, mock.Anything, mock.Anything).
		Return(func(context.Context, activities.LoadConfigInput) (loaded activities.LoadConfigResult, err error) {
			loaded.Settings.ModelName = name
			return loaded, nil
		})
	env.OnActivity(a.CheckMLflowHealth, mock.Anything, mock.Anything).Return(activities.CheckMLflowHealthResult{}, nil)
	var in activities.AuditInput
	env.OnActivity(a.Audit, mock.Anything, mock.Anything).
		Return(func(_ context.Context, given activities.AuditInput) (activities.AuditResult, error) {
			in = given
			return activities.AuditResult{}, nil
		})

	env.ExecuteWorkflow(workflows.AuditRegistry, workflows.AuditInput{})

	require.NoError(t, env.GetWorkflowError())
	key := strings.Repeat("0123456789abcdef", 4)
	require.Equal(t, workflows.RegistrationID(name, key), in.Registrations+"0123456789abcdef")
}
