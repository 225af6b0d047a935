package mlflowtest_test

import (
	"context"
	"net/http"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"registrar/internal/mlflow"
	"registrar/internal/mlflow/mlflowtest"
)

func TestObserver_SeesEachRequestUnderAnEndpointThatNamesNoObject(t *testing.T) {
	server := mlflowtest.NewServer(t)
	var mu sync.Mutex
	began, ended := map[string]int{}, 0
	mlflowtest.Contract(t, func(t *testing.T) *mlflow.Client {
		client, err := mlflow.New(mlflow.Config{
			TrackingURI: server.URL, Credentials: func() (mlflow.Credentials, error) { return mlflow.Credentials{Token: "T0ken"}, nil },
			Observer: func(_ context.Context, e mlflow.Exchange, header http.Header) func(int, error) {
				header.Set("Traceparent", "of "+e.Endpoint)
				mu.Lock()
				defer mu.Unlock()
				began[e.Endpoint]++
				require.NotContains(t, e.URL, "?")
				return func(status int, err error) {
					mu.Lock()
					defer mu.Unlock()
					ended++
					require.True(t, status != 0 || err != nil)
				}
			},
		})
		require.NoError(t, err)
		t.Cleanup(client.Close)
		return client
	})
	t.Cleanup(func() {
		all := 0
		for endpoint, count := range began {
			require.Regexp(t, `^version$|^mlflow(-artifacts)?(/([a-z-]+|\{model_id\}|\{path\}|\{key\}))+$`, endpoint)
			all += count
		}
		require.GreaterOrEqual(t, all, len(server.Requests()), "a broken upload may not have arrived")
		require.Equal(t, all, ended)
		require.Less(t, len(began), 50)
		require.Contains(t, began, "mlflow/logged-models/{model_id}")
		require.Contains(t, began, "mlflow-artifacts/artifacts/{path}")
	})
}
