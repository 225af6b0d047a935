package stack

import (
	"testing"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/stretchr/testify/require"
)

func TestTranslation_IsOfAddressesAndMountedPaths(t *testing.T) {
	here := translation{
		services: []string{"postgresql", "temporal", "mlflow", "s3"},
		ports:    map[string]int{"5432": 20001, "5000": 20002, "7070": 20003},
		volumes:  map[string]string{"s3": "/tmp/s3"},
	}
	var service types.ServiceConfig
	service.Volumes = []types.ServiceVolumeConfig{
		{Type: types.VolumeTypeVolume, Source: "s3", Target: "/buckets"},
		{Type: types.VolumeTypeBind, Source: "/here/bucket.py", Target: "/bucket.py"},
	}
	for container, translated := range map[string]string{
		"--host=0.0.0.0": "--host=127.0.0.1",
		"--port=5000":    "--port=20002",
		"5432":           "20001",
		"--backend-store-uri=postgresql+psycopg2://mlflow@postgresql:5432/mlflow": "--backend-store-uri=postgresql+psycopg2://mlflow@127.0.0.1:20001/mlflow",
		"--allowed-hosts=mlflow:5000,localhost:5000":                              "--allowed-hosts=127.0.0.1:20002,127.0.0.1:20002",
		"get http://127.0.0.1:5000/get?id=0":                                      "get http://127.0.0.1:20002/get?id=0",
		"/bucket.py":                                                              "/here/bucket.py",
		"/buckets/mlflow":                                                         "/tmp/s3/mlflow",
		"--data=/buckets":                                                         "--data=/tmp/s3",
		"--artifacts-destination=s3://mlflow":                                     "--artifacts-destination=s3://mlflow",
		"postgres:16":                                                             "postgres:16",
	} {
		require.Equal(t, []string{translated}, here.arguments(service, []string{container}))
	}
	require.Equal(t, "POSTGRES_SEEDS=127.0.0.1", here.setting("POSTGRES_SEEDS=postgresql"))
	require.Equal(t, "POSTGRES_USER=temporal", here.setting("POSTGRES_USER=temporal"), "a user of a service's name")
	require.Equal(t, "AWS_ACCESS_KEY_ID=mlflow", here.setting("AWS_ACCESS_KEY_ID=mlflow"))
}

func TestStack_KnowsAProgramForEachService(t *testing.T) {
	s := newStack(t, t.TempDir())
	for name, service := range s.project.Services {
		switch name {
		case "temporal-ui", "grafana", "postgresql": // not run, and run by servertest
		case "temporal-schema": // its schemas are in a module that `make postgres` downloads
		default:
			require.NotEmpty(t, s.imageOf(service).program, name)
		}
		if service.HealthCheck != nil && name != "temporal-ui" && name != "grafana" {
			require.NotZero(t, s.portsOf(service)[0], name)
		}
	}
}
