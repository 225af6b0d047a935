package config

import (
	"net/url"
	"strconv"
	"strings"
)

// OriginDefault is the Origin of a server that no setting names.
const OriginDefault = "default"

// Server is an MLflow tracking server.
type Server struct {
	// URI is its http or https address, with a path prefix where there is one, without user info, query,
	// fragment and trailing slash.
	URI string `json:"uri"`
	// Origin says which setting named it: "MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_URI in .env",
	// "ENV=staging", "mlflow.uri in <params file>" or "default".
	Origin string `json:"origin"`
	// Workspace is that of MLFLOW_WORKSPACE; empty for the server's default one.
	Workspace string `json:"workspace,omitempty"`
}

const trackingURI = "MLFLOW_TRACKING_URI"

// ResolveServer says where MLflow is: MLFLOW_TRACKING_URI; else by ENV, where production is an error and
// staging has an address of its own; else mlflow.uri of the params file; else this machine. paramsName
// is the path of the params file, for errors and the origin. An error is an *Error.
func ResolveServer(s Settings, paramsName string, e Environment) (Server, error) {
	server, err := serverOf(s, paramsName, e)
	if err != nil {
		return Server{}, err
	}
	server.Workspace, _ = e.Lookup(workspaceVariable)
	return server, nil
}

func serverOf(s Settings, paramsName string, e Environment) (Server, error) {
	if value, file := e.lookup(trackingURI); value != "" {
		address, problem, remedy := parseURI(value)
		if problem != "" {
			return Server{}, &Error{File: file, Key: trackingURI, Value: quoted(redactURI(value)), Problem: problem, Remedy: remedy}
		}
		origin := trackingURI
		if file != "" {
			origin += " in " + file
		}
		return Server{URI: withoutUser(address), Origin: origin}, nil
	}
	stage, file := e.lookup("ENV")
	switch strings.ToLower(strings.TrimSpace(stage)) {
	case "production":
		return Server{}, &Error{File: file, Key: trackingURI, Problem: "is not set, and ENV is " + quoted(stage), Remedy: "set it for the worker to the production server, such as https://mlflow.example.com"}
	case "staging":
		return Server{URI: "http://staging-mlflow-server:5000", Origin: "ENV=staging"}, nil
	}
	if s.MLflowURI == "" {
		return Server{URI: defaultURI, Origin: OriginDefault}, nil
	}
	address, problem, remedy := parseURI(s.MLflowURI)
	if problem == "" && address.User != nil {
		problem, remedy = "has user info", "remove it: set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD for the worker"
	}
	if problem != "" {
		return Server{}, &Error{File: paramsName, Key: "mlflow.uri", Value: quoted(redactURI(s.MLflowURI)), Problem: problem, Remedy: remedy}
	}
	return Server{URI: withoutUser(address), Origin: "mlflow.uri in " + paramsName}, nil
}

// parseURI reads the address of an MLflow server and normalizes it. The problem is empty where there is none.
func parseURI(raw string) (address *url.URL, problem, remedy string) {
	const give = "give an address such as " + defaultURI
	address, err := url.Parse(raw)
	if strings.Contains(raw, "@") && !strings.Contains(raw, "://") && holdsUserInfo(raw, address, err) { // the user would be read as a scheme
		return nil, "has no scheme", "write http:// before it"
	}
	if err != nil {
		return nil, "is not a URL", give // the cause would quote the URL, and a password with it
	}
	if address.Scheme != "http" && address.Scheme != "https" {
		if _, err := strconv.ParseUint(strings.TrimRight(address.Opaque, "/"), 10, 16); err == nil {
			return nil, "has no scheme", "write http:// before it"
		}
		return nil, "is not the http address of a server", "start one with `mlflow server`, which can serve such a store, and " + give
	}
	port := address.Port()
	if _, err := strconv.ParseUint(port, 10, 16); err != nil && port != "" {
		return nil, "has no valid port", "give a port up to 65535"
	}
	switch {
	case address.Hostname() == "":
		return nil, "has no host", give
	case address.RawQuery != "" || address.ForceQuery || address.Fragment != "":
		return nil, "has a query or a fragment", "give the address without what follows ? or #"
	}
	address.Host = strings.TrimSuffix(strings.ToLower(address.Host), ":")
	address.Path, address.RawPath = strings.TrimRight(address.Path, "/"), strings.TrimRight(address.RawPath, "/")
	return address, "", ""
}

func withoutUser(address *url.URL) string {
	public := *address
	public.User = nil
	return public.String()
}

// secretProblem says whether a URI, parsable or not, looks as if it held a secret.
func secretProblem(raw string) string {
	address, err := url.Parse(raw)
	switch {
	case holdsUserInfo(raw, address, err):
		return "has user info"
	case err == nil && address.RawQuery != "", err != nil && strings.Contains(raw, "?"):
		return "has a query"
	}
	return ""
}

// holdsUserInfo says whether what stands before an @ may be a password: also where the scheme, or one of its slashes, was forgotten, and the URL
// counts as opaque or as a path. Paths of files may have an @.
func holdsUserInfo(raw string, address *url.URL, err error) bool {
	if !strings.Contains(raw, "@") {
		return false
	}
	if err != nil || address.User != nil || address.Opaque != "" {
		return true
	}
	isFile := address.Scheme != "http" && address.Scheme != "https" && strings.HasPrefix(strings.TrimPrefix(address.Path, "."), "/")
	return address.Host == "" && !isFile
}

// redactURI takes out all that may be a secret, of malformed URIs too: what is before the last @, and the query.
func redactURI(raw string) string {
	if at := strings.LastIndexByte(raw, '@'); at >= 0 {
		public := "***" + raw[at:]
		if scheme, _, found := strings.Cut(raw[:at], "://"); found && !strings.ContainsAny(scheme, ":@?") {
			public = scheme + "://" + public
		}
		raw = public
	}
	if query := strings.IndexByte(raw, '?'); query >= 0 {
		raw = raw[:query] + "?***"
	}
	return raw
}
