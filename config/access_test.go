package config_test

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"registrar/config"
)

// secrets are all variables with credentials, as a worker may have them.
func secrets(uri string) variables {
	return variables{
		"MLFLOW_TRACKING_URI": uri, "MLFLOW_TRACKING_USERNAME": "me", "MLFLOW_TRACKING_PASSWORD": "s3cret",
		"MLFLOW_TRACKING_TOKEN": "t0ken", "MLFLOW_TRACKING_TOKEN_FILE": "/run/token", "MLFLOW_WORKSPACE": "risk",
		"MLFLOW_TRACKING_SERVER_CERT_PATH": "/etc/ca.pem", "MLFLOW_TRACKING_CLIENT_CERT_PATH": "/etc/client.pem",
	}
}

var (
	allOfThem = config.Access{
		Username: "me", Password: "s3cret", Token: "t0ken", TokenFile: "/run/token", Workspace: "risk",
		ServerCertFile: "/etc/ca.pem", ClientCertFile: "/etc/client.pem",
	}
	noneOfThem = config.Access{ServerCertFile: "/etc/ca.pem", Workspace: "risk"}
)

func withheld(host string) string {
	return "credentials are set, but not sent to " + host + ": it is neither the host of MLFLOW_TRACKING_URI beside them nor trusted by the worker"
}

func TestAccessFor_GivesCredentialsToTheOwnServerOnly(t *testing.T) {
	e := config.Environment{Process: secrets("https://mlflow.example.com/prefix")}
	for _, uri := range []string{"https://mlflow.example.com/prefix", "https://mlflow.example.com", "https://MLflow.example.com:443/other/"} {
		access, err := e.AccessFor(uri, nil)
		require.NoError(t, err)
		require.True(t, access == allOfThem, uri)
	}
	for uri, host := range map[string]string{
		"http://mlflow.example.com":          "mlflow.example.com", // another scheme
		"https://mlflow.example.com:8443":    "mlflow.example.com:8443",
		"https://evil.example.com":           "evil.example.com",
		"https://mlflow.example.com.evil.io": "mlflow.example.com.evil.io",
		"http://127.0.0.1:5000":              "127.0.0.1:5000",
	} {
		access, err := e.AccessFor(uri, nil)
		require.NoError(t, err)
		want := noneOfThem
		want.Withheld = withheld(host)
		require.True(t, access == want, uri)
	}
}

func TestAccessFor_GivesCredentialsToTrustedHosts(t *testing.T) {
	e := config.Environment{Process: secrets("")}
	for _, c := range []struct {
		entry, uri string
		trusted    bool
	}{
		{"host", "https://host/x", true},
		{"HOST", "http://host:5000", true},
		{"host:5000", "http://host:5000", true},
		{"host:443", "https://host", true},
		{"[::1]", "http://[::1]:5000", true},
		{"[::1]:5000", "http://[::1]:5000", true},
		{"host:5000", "http://host:5001", false},
		{"host", "http://host.evil.io", false},
		{"*", "http://host", false},
		{".host", "http://a.host", false},
		{"", "http://host", false},
	} {
		access, err := e.AccessFor(c.uri, []string{"other", c.entry})
		require.NoError(t, err)
		require.Equal(t, c.trusted, access == allOfThem, "%s for %s", c.entry, c.uri)
	}
}

func TestAccessFor_KeepsProcessAndDotEnvApart(t *testing.T) {
	e := config.Environment{
		Process: secrets("https://mlflow.example.com"),
		DotEnv:  variables{"MLFLOW_TRACKING_URI": "https://project.example.com", "MLFLOW_TRACKING_TOKEN": "of-project", "MLFLOW_WORKSPACE": "ignored"},
	}
	access, err := e.AccessFor("https://mlflow.example.com", nil)
	require.NoError(t, err)
	require.True(t, access == allOfThem)

	access, err = e.AccessFor("https://project.example.com", nil)
	require.NoError(t, err)
	require.True(t, access == config.Access{Token: "of-project", Workspace: "risk", ServerCertFile: "/etc/ca.pem"}, "%v", access)

	// The file may not point the credentials of the process at a host of its own.
	e = config.Environment{Process: secrets(""), DotEnv: variables{"MLFLOW_TRACKING_URI": "https://evil.example.com"}}
	access, err = e.AccessFor("https://evil.example.com", nil)
	require.NoError(t, err)
	require.Empty(t, access.Token+access.Password+access.TokenFile+access.ClientCertFile)
	require.Equal(t, withheld("evil.example.com"), access.Withheld)

	// Nor may it weaken the connection that carries them.
	e = config.Environment{
		Process: variables{"MLFLOW_TRACKING_URI": "https://mlflow.example.com", "MLFLOW_TRACKING_TOKEN": "t0ken"},
		DotEnv:  variables{"MLFLOW_TRACKING_URI": "https://mlflow.example.com", "MLFLOW_TRACKING_INSECURE_TLS": "true"},
	}
	access, err = e.AccessFor("https://mlflow.example.com", nil)
	require.NoError(t, err)
	require.True(t, access == config.Access{Token: "t0ken"}, "%v", access)
}

func TestAccessFor_ReadsDotEnvWhereTheProcessHasNothing(t *testing.T) {
	dotEnv := variables{"MLFLOW_TRACKING_URI": "https://host", "MLFLOW_TRACKING_USERNAME": "me", "MLFLOW_TRACKING_PASSWORD": "s3cret", "MLFLOW_TRACKING_INSECURE_TLS": "True"}
	for _, process := range []variables{nil, {"MLFLOW_TRACKING_URI": "https://host/"}, {"MLFLOW_TRACKING_TOKEN": "of-another-server"}} {
		access, err := config.Environment{Process: process, DotEnv: dotEnv}.AccessFor("https://host", nil)
		require.NoError(t, err)
		require.True(t, access == config.Access{Username: "me", Password: "s3cret", InsecureTLS: true})
	}
	delete(dotEnv, "MLFLOW_TRACKING_INSECURE_TLS")
	for _, uri := range []string{"", "https://host"} {
		process := variables{"MLFLOW_TRACKING_URI": uri, "MLFLOW_TRACKING_SERVER_CERT_PATH": "/etc/ca.pem"}
		access, err := config.Environment{Process: process, DotEnv: dotEnv}.AccessFor("https://host", nil)
		require.NoError(t, err)
		require.True(t, access == config.Access{Username: "me", Password: "s3cret", ServerCertFile: "/etc/ca.pem"}, "%v", access)
	}
	dotEnv["MLFLOW_TRACKING_TOKEN_FILE"] = "/etc/shadow"
	_, err := config.Environment{DotEnv: dotEnv}.AccessFor("https://host", nil)
	require.EqualError(t, err, `.env: MLFLOW_TRACKING_TOKEN_FILE: "/etc/shadow" names a file that the worker would read: set the variable for the worker instead`)
}

func TestAccessFor_TakesUserInfoOffTheURI(t *testing.T) {
	e := config.Environment{Process: variables{"MLFLOW_TRACKING_URI": "https://me:p%2Fw@host/mlflow"}}
	server, err := config.ResolveServer(config.Settings{}, "params.yaml", e)
	require.NoError(t, err)
	require.Equal(t, "https://host/mlflow", server.URI)
	access, err := e.AccessFor(server.URI, nil)
	require.NoError(t, err)
	require.True(t, access == config.Access{Username: "me", Password: "p/w"})

	access, err = e.AccessFor("https://other", []string{"other"})
	require.NoError(t, err)
	require.True(t, access == config.Access{}, "user info is for its own host, trusted ones too")

	e.Process["MLFLOW_TRACKING_USERNAME"], e.Process["MLFLOW_TRACKING_PASSWORD"] = "you", "other"
	access, err = e.AccessFor(server.URI, nil)
	require.NoError(t, err)
	require.True(t, access == config.Access{Username: "you", Password: "other"}, "MLflow prefers the variables")
}

func TestAccessFor_ReadsBooleansAsMLflow(t *testing.T) {
	for value, want := range map[string]bool{"": false, "true": true, "TRUE": true, "1": true, "false": false, "False": false, "0": false} {
		e := config.Environment{Process: variables{"MLFLOW_TRACKING_URI": "https://host", "MLFLOW_TRACKING_INSECURE_TLS": value}}
		access, err := e.AccessFor("https://host", nil)
		require.NoError(t, err)
		require.Equal(t, want, access.InsecureTLS, value)
	}
	e := config.Environment{Process: variables{"MLFLOW_TRACKING_URI": "https://host", "MLFLOW_TRACKING_INSECURE_TLS": "yes"}}
	_, err := e.AccessFor("https://host", nil)
	require.EqualError(t, err, `MLFLOW_TRACKING_INSECURE_TLS: "yes" is not a boolean: give true, false, 1 or 0`)

	e.Process["MLFLOW_TRACKING_INSECURE_TLS"], e.Process["MLFLOW_TRACKING_SERVER_CERT_PATH"] = "1", "/etc/ca.pem"
	_, err = e.AccessFor("https://host", nil)
	require.EqualError(t, err, "MLFLOW_TRACKING_INSECURE_TLS: is set, and so is MLFLOW_TRACKING_SERVER_CERT_PATH: unset one of them")
}

func TestAccess_ShowsNoSecret(t *testing.T) {
	data, err := json.Marshal(allOfThem)
	require.NoError(t, err)
	for _, shown := range []string{allOfThem.String(), fmt.Sprintf("%v %+v %#v %s", allOfThem, &allOfThem, allOfThem, []config.Access{allOfThem}), string(data)} {
		require.NotContains(t, shown, "s3cret")
		require.NotContains(t, shown, "t0ken")
	}
	require.Equal(t, "username=*** password=*** token=*** token_file=/run/token workspace=risk server_cert=/etc/ca.pem client_cert=/etc/client.pem", allOfThem.String())
	require.Equal(t, "no credentials", config.Access{}.String())
}

func TestEnvironmentLookup_PrefersTheProcess(t *testing.T) {
	e := config.Environment{
		Process: config.ProcessEnvironment([]string{"A=1", "B=", "C=x=y", "odd", "A=2"}),
		DotEnv:  variables{"A": "file", "B": "file", "D": "file"},
	}
	for name, want := range (variables{"A": "2", "B": "", "C": "x=y", "D": "file"}) {
		value, ok := e.Lookup(name)
		require.True(t, ok, name)
		require.Equal(t, want, value, name)
	}
	_, ok := e.Lookup("odd")
	require.False(t, ok)
}
