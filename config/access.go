package config

import (
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
)

// Environment is the variables that a worker was started with, and those of a project's .env file.
type Environment struct {
	Process map[string]string
	// DotEnv never overrides Process. Whoever may write to the project wrote it, so it is trusted less.
	DotEnv map[string]string
}

// dotEnvName is the name of the .env file in errors and origins.
const dotEnvName = ".env"

// ProcessEnvironment makes a map of os.Environ's lines, of which the last wins as it does in os/exec.
func ProcessEnvironment(environ []string) map[string]string {
	variables := make(map[string]string, len(environ))
	for _, line := range environ {
		if name, value, ok := strings.Cut(line, "="); ok {
			variables[name] = value
		}
	}
	return variables
}

// Lookup returns a variable, and whether it is set. One that the process has, even empty, hides the one
// of the .env file, as python-dotenv has it.
func (e Environment) Lookup(name string) (string, bool) {
	if value, ok := e.Process[name]; ok {
		return value, true
	}
	value, ok := e.DotEnv[name]
	return value, ok
}

// lookup returns a variable and the file that it is from, "" for the process.
func (e Environment) lookup(name string) (value, file string) {
	value, _ = e.Lookup(name)
	if _, ok := e.Process[name]; !ok && value != "" {
		file = dotEnvName
	}
	return value, file
}

// Access is what may be sent to one MLflow server. It holds secrets: it never travels, and String and
// JSON leave them out. The zero value is access without credentials.
type Access struct {
	Username  string `json:"-"`
	Password  string `json:"-"`
	Token     string `json:"-"`
	TokenFile string `json:"token_file,omitempty"`
	Workspace string `json:"workspace,omitempty"`
	// ServerCertFile and ClientCertFile are paths of PEM files, as MLflow's variables name them.
	ServerCertFile string `json:"server_cert_file,omitempty"`
	ClientCertFile string `json:"client_cert_file,omitempty"`
	// InsecureTLS turns off the check of the server's certificate.
	InsecureTLS bool `json:"insecure_tls,omitempty"`
	// Withheld says, for people, that there are credentials which this server does not get, and why.
	Withheld string `json:"withheld,omitempty"`
}

// String says what there is, without secrets.
func (a Access) String() string {
	var parts []string
	for _, secret := range []struct{ name, value string }{{"username", a.Username}, {"password", a.Password}, {"token", a.Token}} {
		if secret.value != "" {
			parts = append(parts, secret.name+"=***")
		}
	}
	for _, public := range []struct{ name, value string }{
		{"token_file", a.TokenFile}, {"workspace", a.Workspace}, {"server_cert", a.ServerCertFile}, {"client_cert", a.ClientCertFile},
	} {
		if public.value != "" {
			parts = append(parts, public.name+"="+public.value)
		}
	}
	if a.InsecureTLS {
		parts = append(parts, "insecure_tls")
	}
	if len(parts) == 0 {
		return "no credentials"
	}
	return strings.Join(parts, " ")
}

// GoString is String, so that %#v shows no secret either.
func (a Access) GoString() string { return a.String() }

// The variables that AccessFor reads; all but the token file are MLflow's own.
const (
	usernameVariable    = "MLFLOW_TRACKING_USERNAME"
	passwordVariable    = "MLFLOW_TRACKING_PASSWORD"   //nolint:gosec // the name of a variable, not its value
	tokenVariable       = "MLFLOW_TRACKING_TOKEN"      //nolint:gosec // the name of a variable, not its value
	tokenFileVariable   = "MLFLOW_TRACKING_TOKEN_FILE" //nolint:gosec // the name of a variable, not its value
	serverCertVariable  = "MLFLOW_TRACKING_SERVER_CERT_PATH"
	clientCertVariable  = "MLFLOW_TRACKING_CLIENT_CERT_PATH"
	insecureTLSVariable = "MLFLOW_TRACKING_INSECURE_TLS"
	workspaceVariable   = "MLFLOW_WORKSPACE"
)

// AccessFor returns what may be sent to uri. The variables of the process are for the server of its own
// MLFLOW_TRACKING_URI (same scheme, host and port), those of the .env file for the server of that
// file's; both are for the trusted hosts, each "host" or "host:port". So a file that names a host never
// gets the worker's credentials sent there. Where both may be used, the .env file's are only where the
// process has none. A client certificate and the waiver of the TLS check count as credentials;
// the CA bundle of the process and the workspace are for every server. An error is an *Error.
func (e Environment) AccessFor(uri string, trusted []string) (Access, error) {
	target, problem, remedy := parseURI(uri)
	if problem != "" {
		return Access{}, &Error{Key: trackingURI, Value: quoted(redactURI(uri)), Problem: problem, Remedy: remedy}
	}
	isTrusted := slices.ContainsFunc(trusted, func(entry string) bool { return names(entry, target) })
	var access Access
	for _, source := range []struct {
		file      string
		variables map[string]string
	}{{"", e.Process}, {dotEnvName, e.DotEnv}} {
		found, err := accessOf(source.file, source.variables, target)
		if found == (Access{}) && err == nil {
			continue
		}
		if own, problem, _ := parseURI(source.variables[trackingURI]); isTrusted || problem == "" && origin(own) == origin(target) {
			if err != nil {
				return Access{}, err
			}
			access = found // and nothing is withheld
			break
		}
		access.Withheld = fmt.Sprintf("credentials are set, but not sent to %s: it is neither the host of MLFLOW_TRACKING_URI beside them nor trusted by the worker", target.Host)
	}
	access.ServerCertFile = e.Process[serverCertVariable]
	if access.InsecureTLS && access.ServerCertFile != "" { // an error in MLflow's MlflowHostCreds too
		return Access{}, &Error{Key: insecureTLSVariable, Problem: "is set, and so is " + serverCertVariable, Remedy: "unset one of them"}
	}
	access.Workspace, _ = e.Lookup(workspaceVariable)
	return access, nil
}

// Trusts tells whether the worker itself names the server of uri: by its MLFLOW_TRACKING_URI (same scheme, host and port), or among the trusted
// hosts. Such a server may get the worker's credentials, and may say where else a model goes.
func (e Environment) Trusts(uri string, trusted []string) bool {
	target, problem, _ := parseURI(uri)
	if problem != "" {
		return false
	}
	own, problem, _ := parseURI(e.Process[trackingURI])
	return problem == "" && origin(own) == origin(target) || slices.ContainsFunc(trusted, func(entry string) bool { return names(entry, target) })
}

// accessOf reads the credentials of one source of variables. A file that a .env file names would be read
// with the worker's rights, so it is refused.
func accessOf(file string, variables map[string]string, target *url.URL) (Access, error) {
	access := Access{
		Username:       variables[usernameVariable],
		Password:       variables[passwordVariable],
		Token:          variables[tokenVariable],
		TokenFile:      variables[tokenFileVariable],
		ClientCertFile: variables[clientCertVariable],
	}
	for _, name := range []string{tokenFileVariable, serverCertVariable, clientCertVariable} {
		if value := variables[name]; file != "" && value != "" {
			return Access{}, &Error{File: file, Key: name, Value: quoted(value), Problem: "names a file that the worker would read", Remedy: "set the variable for the worker instead"}
		}
	}
	own, problem, _ := parseURI(variables[trackingURI])
	if problem == "" && own.User != nil && origin(own) == origin(target) && access.Username == "" {
		access.Username = own.User.Username()
		access.Password, _ = own.User.Password()
	}
	insecure := variables[insecureTLSVariable]
	switch strings.ToLower(insecure) { // as MLflow's _BooleanEnvironmentVariable
	case "", "false", "0":
	case "true", "1":
		access.InsecureTLS = true
	default:
		return Access{}, &Error{File: file, Key: insecureTLSVariable, Value: quoted(insecure), Problem: "is not a boolean", Remedy: "give true, false, 1 or 0"}
	}
	return access, nil
}

// origin is what RFC 6454 calls so: scheme, host and port.
func origin(address *url.URL) string {
	return address.Scheme + "://" + net.JoinHostPort(address.Hostname(), portOf(address))
}

func portOf(address *url.URL) string {
	switch {
	case address.Port() != "":
		return address.Port()
	case address.Scheme == "https":
		return "443"
	}
	return "80"
}

// names says whether an entry "host" or "host:port" means the address.
func names(entry string, address *url.URL) bool {
	entry = strings.ToLower(entry)
	return entry == net.JoinHostPort(address.Hostname(), portOf(address)) || strings.Trim(entry, "[]") == address.Hostname()
}
