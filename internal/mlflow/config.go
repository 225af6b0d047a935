package mlflow

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"
)

// Config says how to reach one MLflow server. Only TrackingURI is required.
type Config struct {
	// TrackingURI is http(s)://host[:port][/prefix], without user info, query or fragment.
	TrackingURI string
	// Credentials is asked before each request, since tokens expire during a long wait. Nil sends none.
	Credentials func() (Credentials, error)
	// Workspace goes into the header X-MLFLOW-WORKSPACE. Empty sends none: a server without workspaces
	// answers 500 FEATURE_DISABLED to the header.
	Workspace string
	TLS       TLS
	Timeouts  Timeouts
	// UserAgent names the caller in the server's log. Empty is "registrar".
	UserAgent string
	// Observer sees each request. Nil: nobody does.
	Observer Observer
}

// Credentials are what MLflow's own clients send: a bearer token, or a user name and a password. The
// token wins where both are given; the zero value sends nothing.
type Credentials struct {
	Username, Password, Token string
}

// String hides the secrets, so that a log line or an error cannot show them.
func (c Credentials) String() string {
	switch {
	case c.Token != "":
		return "bearer token"
	case c.Username != "":
		return fmt.Sprintf("user %q", c.Username)
	}
	return "no credentials"
}

// GoString hides the secrets from %#v too.
func (c Credentials) GoString() string { return "mlflow.Credentials{" + c.String() + "}" }

// TLS is what MLflow's own variables can say about TLS. The zero value verifies the server against the
// system's authorities.
type TLS struct {
	// InsecureSkipVerify accepts any certificate (MLFLOW_TRACKING_INSECURE_TLS).
	InsecureSkipVerify bool
	// ServerCertFile is a PEM bundle of the authorities to trust instead of the system's
	// (MLFLOW_TRACKING_SERVER_CERT_PATH).
	ServerCertFile string
	// ClientCertFile is one PEM file with certificate and key (MLFLOW_TRACKING_CLIENT_CERT_PATH). It is read
	// at each handshake, so that a renewed certificate is used.
	ClientCertFile string
}

// Timeouts bound each stage of a request. None bounds a whole request, since an upload takes as long as it
// takes: that is the context's part. Zero fields take the defaults.
type Timeouts struct {
	// Dial bounds resolving and connecting. Default 10 s.
	Dial time.Duration
	// TLSHandshake bounds the handshake. Default 10 s.
	TLSHandshake time.Duration
	// ResponseHeader bounds the wait for the answer once the request is written. Default 60 s: MLflow
	// answers 503 after 20 s where its database is locked, and that answer is worth having.
	ResponseHeader time.Duration
	// UploadResponse is ResponseHeader for uploads. Default 5 min: a server in front of a bucket passes the
	// whole file on before it answers.
	UploadResponse time.Duration
	// Stall ends a request whose body, either way, makes no progress this long. Default 60 s.
	Stall time.Duration
	// User is TCP_USER_TIMEOUT: how long sent data may stay unacknowledged before the kernel gives the
	// connection up, so that an abandoned request dies. Default 60 s. Linux only.
	User time.Duration
}

func (t Timeouts) withDefaults() Timeouts {
	return Timeouts{
		Dial:           cmp.Or(t.Dial, 10*time.Second),
		TLSHandshake:   cmp.Or(t.TLSHandshake, 10*time.Second),
		ResponseHeader: cmp.Or(t.ResponseHeader, time.Minute),
		UploadResponse: cmp.Or(t.UploadResponse, 5*time.Minute),
		Stall:          cmp.Or(t.Stall, time.Minute),
		User:           cmp.Or(t.User, time.Minute),
	}
}

const rightURI = "http(s)://host[:port][/prefix]"

// parseTrackingURI never puts the URI itself into an error before it is known to hold no password.
func parseTrackingURI(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return nil, errors.New("read tracking URI: not a URL; right would be " + rightURI)
	}
	switch {
	case strings.Contains(u.Opaque, "@"): // the scheme is a user name then
		return nil, fmt.Errorf("read tracking URI %s: it has no http:// before it; right would be %s", redactURL(u), rightURI)
	case u.User != nil:
		return nil, fmt.Errorf("read tracking URI %s: it holds a user name or password; "+
			"set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, instead", redactURL(u))
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, fmt.Errorf("read tracking URI %s: scheme %q leads to no server; start `mlflow server` and give its %s",
			redactURL(u), u.Scheme, rightURI)
	case u.Hostname() == "":
		return nil, fmt.Errorf("read tracking URI %s: it names no host; right would be %s", redactURL(u), rightURI)
	case u.RawQuery != "" || u.Fragment != "":
		return nil, fmt.Errorf("read tracking URI %s: it has a query or fragment; right would be %s", redactURL(u), rightURI)
	}
	u.Path, u.RawPath = strings.TrimRight(u.Path, "/"), ""
	return u, nil
}

// redactURL is u without user info, query and fragment: the parts that may hold a secret. User info is also what stands before an @ where "http://", or
// a slash of it, was forgotten, so that the user counts as the scheme, or all of it as a path.
func redactURL(u *url.URL) string {
	switch {
	case strings.Contains(u.Opaque, "@"):
		return "***" + u.Opaque[strings.LastIndexByte(u.Opaque, '@'):]
	case u.Opaque != "":
		return u.Scheme + ":..."
	case u.Host == "" && strings.Contains(u.Path, "@") && (u.Scheme == "" || u.Scheme == "http" || u.Scheme == "https"):
		return "***" + u.Path[strings.LastIndexByte(u.Path, '@'):]
	}
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
}
