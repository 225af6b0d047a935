package mlflowtest_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"registrar/internal/mlflow"
	"registrar/internal/mlflow/mlflowtest"
	"registrar/internal/servertest"
)

func TestServer_KeepsTheContract(t *testing.T) {
	server := mlflowtest.NewServer(t)
	mlflowtest.Contract(t, clientOf(server.URL))
}

func TestRealServer_KeepsTheContract(t *testing.T) {
	server := servertest.MLflow(t)
	mlflowtest.Contract(t, clientOf(server.URI))
}

func clientOf(trackingURI string) func(*testing.T) *mlflow.Client {
	return func(t *testing.T) *mlflow.Client {
		client, err := mlflow.New(mlflow.Config{TrackingURI: trackingURI})
		require.NoError(t, err)
		t.Cleanup(client.Close)
		return client
	}
}
