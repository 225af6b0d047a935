package config_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"registrar/config"
)

type variables = map[string]string

func TestResolveServer_FollowsTheOrder(t *testing.T) {
	ofParams := config.Settings{MLflowURI: "http://params:5000"}
	for _, c := range []struct {
		name            string
		settings        config.Settings
		process, dotEnv variables
		uri, origin     string
	}{
		{"variable first", ofParams, variables{"MLFLOW_TRACKING_URI": "http://variable", "ENV": "production"}, nil, "http://variable", "MLFLOW_TRACKING_URI"},
		{".env file next", ofParams, variables{"ENV": "staging"}, variables{"MLFLOW_TRACKING_URI": "http://dotenv"}, "http://dotenv", "MLFLOW_TRACKING_URI in .env"},
		{"variable hides .env", ofParams, variables{"MLFLOW_TRACKING_URI": "http://variable"}, variables{"MLFLOW_TRACKING_URI": "http://dotenv"}, "http://variable", "MLFLOW_TRACKING_URI"},
		{"empty variable is none, and hides .env", ofParams, variables{"MLFLOW_TRACKING_URI": ""}, variables{"MLFLOW_TRACKING_URI": "http://dotenv"}, "http://params:5000", "mlflow.uri in params.yaml"},
		{"staging", ofParams, variables{"ENV": "Staging"}, nil, "http://staging-mlflow-server:5000", "ENV=staging"},
		{"staging in .env", ofParams, nil, variables{"ENV": "staging"}, "http://staging-mlflow-server:5000", "ENV=staging"},
		{"another ENV", ofParams, variables{"ENV": "development"}, nil, "http://params:5000", "mlflow.uri in params.yaml"},
		{"params file", ofParams, nil, nil, "http://params:5000", "mlflow.uri in params.yaml"},
		{"default", config.Settings{}, nil, nil, "http://127.0.0.1:5000", "default"},
	} {
		t.Run(c.name, func(t *testing.T) {
			server, err := config.ResolveServer(c.settings, "params.yaml", config.Environment{Process: c.process, DotEnv: c.dotEnv})
			require.NoError(t, err)
			require.Equal(t, config.Server{URI: c.uri, Origin: c.origin}, server)
		})
	}
}

func TestResolveServer_TellsTheWorkspace(t *testing.T) {
	server, err := config.ResolveServer(config.Settings{}, "params.yaml", config.Environment{DotEnv: variables{"MLFLOW_WORKSPACE": "team"}})
	require.NoError(t, err)
	require.Equal(t, "team", server.Workspace)
}

func TestResolveServer_RefusesProductionWithoutURI(t *testing.T) {
	const remedy = ": set it for the worker to the production server, such as https://mlflow.example.com"
	for _, stage := range []string{"production", "Production", "PRODUCTION"} {
		_, err := config.ResolveServer(config.Settings{MLflowURI: "http://params:5000"}, "params.yaml", config.Environment{Process: variables{"ENV": stage}})
		require.EqualError(t, err, `MLFLOW_TRACKING_URI: is not set, and ENV is "`+stage+`"`+remedy)
	}
	_, err := config.ResolveServer(config.Settings{}, "params.yaml", config.Environment{DotEnv: variables{"ENV": "production"}})
	require.EqualError(t, err, `.env: MLFLOW_TRACKING_URI: is not set, and ENV is "production"`+remedy)
}

func TestResolveServer_NormalizesAddresses(t *testing.T) {
	for raw, want := range map[string]string{
		"https://host/mlflow":             "https://host/mlflow",
		"https://host/mlflow//":           "https://host/mlflow",
		"HTTP://Host:5000/":               "http://host:5000",
		"http://host:":                    "http://host",
		"http://host/a%2Fb/":              "http://host/a%2Fb",
		"http://[::1]:5000/x":             "http://[::1]:5000/x",
		"https://me:s3cret@host/mlflow":   "https://host/mlflow",
		"https://me%40x:p%2Fw@host:8443/": "https://host:8443",
	} {
		server, err := config.ResolveServer(config.Settings{}, "params.yaml", config.Environment{Process: variables{"MLFLOW_TRACKING_URI": raw}})
		require.NoError(t, err, raw)
		require.Equal(t, want, server.URI)
	}
}

func TestResolveServer_ExplainsAddressesThatAreNone(t *testing.T) {
	const (
		give  = "give an address such as http://127.0.0.1:5000"
		start = " is not the http address of a server: start one with `mlflow server`, which can serve such a store, and " + give
	)
	for _, c := range []struct{ raw, want string }{
		{"file:///tmp/mlruns", `"file:///tmp/mlruns"` + start},
		{"sqlite:///mlflow.db", `"sqlite:///mlflow.db"` + start},
		{"postgresql://me:s3cret@db/mlflow", `"postgresql://***@db/mlflow"` + start},
		{"databricks", `"databricks"` + start},
		{"databricks://profile", `"databricks://profile"` + start},
		{"./mlruns", `"./mlruns"` + start},
		{"/srv/mlruns", `"/srv/mlruns"` + start},
		{"localhost:5000", `"localhost:5000" has no scheme: write http:// before it`},
		{"http:localhost:5000", `"http:localhost:5000" has no host: ` + give},
		{"http://", `"http://" has no host: ` + give},
		{"http://host:99999", `"http://host:99999" has no valid port: give a port up to 65535`},
		{"http://${HOST}:5000", `"http://${HOST}:5000" is not a URL: ` + give},
		{"me:s3cret@mlflow:5000", `"***@mlflow:5000" has no scheme: write http:// before it`},
		{"s3cret@mlflow:5000", `"***@mlflow:5000" has no scheme: write http:// before it`},
		{"s3cret@mlflow", `"***@mlflow" has no scheme: write http:// before it`},
		{"me:s3cret@http://mlflow:5000", `"***@http://mlflow:5000"` + start},
		{"sqlite:////home/me@work/mlflow.db", `"sqlite://***@work/mlflow.db"` + start},
		{"http://me:s3/cret@host", `"http://***@host" is not a URL: ` + give},
		{"http://host/?token=s3cret", `"http://host/?***" has a query or a fragment: give the address without what follows ? or #`},
		{"http://host/#/experiments", `"http://host/#/experiments" has a query or a fragment: give the address without what follows ? or #`},
	} {
		_, err := config.ResolveServer(config.Settings{}, "params.yaml", config.Environment{Process: variables{"MLFLOW_TRACKING_URI": c.raw}})
		require.EqualError(t, err, "MLFLOW_TRACKING_URI: "+c.want)
	}
	_, err := config.ResolveServer(config.Settings{MLflowURI: "sqlite:///mlflow.db"}, "config/params.yaml", config.Environment{})
	require.EqualError(t, err, `config/params.yaml: mlflow.uri: "sqlite:///mlflow.db"`+start)
	_, err = config.ResolveServer(config.Settings{MLflowURI: "http://me:s3cret@host"}, "config/params.yaml", config.Environment{})
	require.EqualError(t, err, `config/params.yaml: mlflow.uri: "http://***@host" has user info: remove it: set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD for the worker`)
}
