package e2e

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/common/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"google.golang.org/protobuf/types/known/durationpb"

	"registrar/activities"
	"registrar/internal/receipt"
)

// These registrations find in MLflow alone that their files are registered: the Temporal that they ask knows nothing of it.

func TestRegister_SameFilesAfterTheHistoryIsGoneAreAlreadyRegistered(t *testing.T) {
	t.Parallel()
	s := sharedSite(t)
	s.startWorker()
	first := s.register().receipt
	s.requireOutcome(receipt.Registered, first)
	s.deleteHistory(first.WorkflowID)

	again := s.register().receipt

	s.requireOutcome(receipt.AlreadyRegistered, again)
	requireSameVersion(t, first, again)
	registryAt(t, s.mlflowURI).requireServed(first.RegistrationKey)
}

func TestRegister_SameFilesFromAnotherNamespaceAreAlreadyRegistered(t *testing.T) {
	t.Parallel()
	s := sharedSite(t)
	s.startWorker()
	first := s.register().receipt
	s.requireOutcome(receipt.Registered, first)
	other := newSite(t, projectIn(t, t.TempDir(), s.project.modelName), s.hostPort, s.mlflowURI)
	other.environ = []string{"TEMPORAL_NAMESPACE=" + s.anotherNamespace()}
	other.startWorker()

	again := other.register().receipt

	s.requireOutcome(receipt.AlreadyRegistered, again)
	require.Equal(t, first.RegistrationKey, again.RegistrationKey)
	requireSameVersion(t, first, again)
	version := registryAt(t, s.mlflowURI).requireServed(first.RegistrationKey)
	require.Equal(t, "default/"+first.WorkflowID, tagged(version, activities.TagOwner), "the version stays whose it was")
}

func requireSameVersion(t *testing.T, first, again receipt.Receipt) {
	t.Helper()
	require.Equal(t, first.ModelURI, again.ModelURI)
	require.Equal(t, first.MLflowRunID, again.MLflowRunID)
	require.Equal(t, first.MLflowModelID, again.MLflowModelID)
	require.Equal(t, first.Stage, again.Stage)
	require.Equal(t, first.Aliases, again.Aliases)
}

// deleteHistory leaves the Temporal server as it is when the retention of an execution has passed.
func (s *site) deleteHistory(workflowID string) {
	s.t.Helper()
	temporal := s.dial()
	_, err := temporal.WorkflowService().DeleteWorkflowExecution(s.t.Context(), &workflowservice.DeleteWorkflowExecutionRequest{
		Namespace: "default", WorkflowExecution: &common.WorkflowExecution{WorkflowId: workflowID},
	})
	require.NoError(s.t, err)
	eventually(s.t, func() bool {
		_, err := temporal.DescribeWorkflowExecution(s.t.Context(), workflowID, "")
		var gone *serviceerror.NotFound
		return errors.As(err, &gone)
	}, "the history of %s is gone", workflowID)
}

// anotherNamespace makes a namespace of the test's own, and returns when clients can use it.
func (s *site) anotherNamespace() string {
	s.t.Helper()
	name := nameOf(s.t)
	_, err := s.dial().WorkflowService().RegisterNamespace(s.t.Context(), &workflowservice.RegisterNamespaceRequest{
		Namespace: name, WorkflowExecutionRetentionPeriod: durationpb.New(24 * time.Hour),
	})
	require.NoError(s.t, err)
	temporal, err := client.NewLazyClient(client.Options{HostPort: s.hostPort, Namespace: name})
	require.NoError(s.t, err)
	s.t.Cleanup(temporal.Close)
	eventually(s.t, func() bool {
		_, err := temporal.CountWorkflow(s.t.Context(), &workflowservice.CountWorkflowExecutionsRequest{Namespace: name})
		return err == nil
	}, "namespace %s is there", name)
	return name
}
