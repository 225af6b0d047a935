package activities

import (
	"fmt"
	"os"
	"strings"
	"sync"

	"registrar/config"
	"registrar/internal/mlflow"
)

// keptClients is how many clients are kept: more projects than that are not at work at a time, and thousands may wait.
const keptClients = 100

// Clients makes one MLflow client for each server and project, and keeps some, so that connections are used again.
type Clients struct {
	// Timeouts are used for all; the zero value takes the client's defaults.
	Timeouts mlflow.Timeouts
	// UserAgent names the program to the server.
	UserAgent string
	// Observer sees each request of all of them; nil where nobody wants to.
	Observer mlflow.Observer

	mu   sync.Mutex // never held while a file is read: that may take for ever
	made map[Server]*mlflow.Client
}

// mlflow is the client for server. Credentials are looked up again for each request, so that a token that was renewed, in
// its file or in .env, is taken up in the middle of a long wait.
func (a *Activities) mlflow(server Server) (*mlflow.Client, error) {
	if c := a.Clients.kept(server); c != nil {
		return c, nil
	}
	access, gone, err := a.access(server)
	if err != nil {
		return nil, err
	}
	workspace := server.Workspace
	if !server.knowsWorkspace() {
		if gone != nil {
			return nil, &projectError{&unknownWorkspaceError{gone}}
		}
		workspace = access.Workspace
	}
	c, err := mlflow.New(mlflow.Config{
		TrackingURI: server.TrackingURI,
		Credentials: func() (mlflow.Credentials, error) { return a.credentials(server) },
		Workspace:   workspace,
		TLS: mlflow.TLS{
			InsecureSkipVerify: access.InsecureTLS,
			ServerCertFile:     access.ServerCertFile,
			ClientCertFile:     access.ClientCertFile,
		},
		Timeouts:  a.Clients.Timeouts,
		UserAgent: a.Clients.UserAgent,
		Observer:  a.Clients.Observer,
	})
	if err != nil || gone != nil { // when the folder is back, its .env may have more to say
		return c, err
	}
	return a.Clients.keep(server, c), nil
}

// knowsWorkspace tells whether the workspace was recorded. A worker that recorded only its name is older than WorkspaceKnown.
func (s Server) knowsWorkspace() bool { return s.WorkspaceKnown || s.Workspace != "" }

// kept is the client of a server; nil where none is kept.
func (c *Clients) kept(server Server) *mlflow.Client {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.made[server]
}

// keep keeps the client of a server, in the place of any other where there are many. That one goes on serving who has it. It returns the one that is kept:
// of those that are made at once, the first.
func (c *Clients) keep(server Server, made *mlflow.Client) *mlflow.Client {
	c.mu.Lock()
	defer c.mu.Unlock()
	if first := c.made[server]; first != nil {
		return first
	}
	if c.made == nil {
		c.made = map[Server]*mlflow.Client{}
	}
	if len(c.made) >= keptClients {
		for another, client := range c.made {
			client.Close()
			delete(c.made, another)
			break
		}
	}
	c.made[server] = made
	return made
}

// projectError is what is wrong with one project's folder, or with its .env.
type projectError struct{ err error }

func (e *projectError) Error() string { return e.err.Error() }
func (e *projectError) Unwrap() error { return e.err }

// unknownWorkspaceError: a project's folder is gone, and with it the only one who knows its workspace. It is a person's to mend, as a credential is.
type unknownWorkspaceError struct{ gone error }

func (e *unknownWorkspaceError) Error() string {
	return e.gone.Error() + ", and nobody recorded which MLflow workspace its .env names: put it back"
}

// access is what may be sent to a server. A project's folder that is gone, as gone then tells, has no .env: a checkout may be removed while what only speaks
// to MLflow is still to come.
func (a *Activities) access(server Server) (access config.Access, gone, err error) {
	environment, err := a.environment(server.Root)
	if isAbsent(err) {
		gone, err = err, nil
	}
	if err == nil {
		access, err = environment.AccessFor(server.TrackingURI, a.TrustedHosts)
	}
	if err != nil {
		return config.Access{}, nil, &projectError{err}
	}
	return access, gone, nil
}

// partBytesFor is the size of parts for a server; 0 where the worker did not name it itself: it would be told by a project where to send a model.
func (a *Activities) partBytesFor(server Server) int64 {
	if (config.Environment{Process: a.Process}).Trusts(server.TrackingURI, a.TrustedHosts) {
		return a.PartBytes
	}
	return 0
}

func (a *Activities) credentials(server Server) (mlflow.Credentials, error) {
	access, _, err := a.access(server)
	if err != nil {
		return mlflow.Credentials{}, err
	}
	c := mlflow.Credentials{Username: access.Username, Password: access.Password, Token: access.Token}
	if access.TokenFile == "" {
		return c, nil
	}
	token, err := os.ReadFile(access.TokenFile)
	if err != nil {
		return c, fmt.Errorf("read MLFLOW_TRACKING_TOKEN_FILE: %w", err)
	}
	c.Token = strings.TrimSpace(string(token))
	return c, nil
}
