package servertest

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strconv"

	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"
)

// temporalNamespace is the one that every development server has.
const temporalNamespace = "default"

// TemporalOptions say how a Temporal development server runs. The zero value is a server with a Web UI on free ports.
type TemporalOptions struct {
	Binary   string   // the temporal executable; empty: bin/temporal of the repository
	Dir      string   // folder of its database and log; empty: the working folder; made where missing
	Port     int      // of the frontend service; 0: a free one
	UIPort   int      // of the Web UI; 0: a free one
	Headless bool     // no Web UI
	Args     []string // further arguments of `temporal server start-dev`
}

// TemporalServer is a running Temporal server: a development server with its database in a file, unless it is part of a
// PostgreSQLTemporalServer.
type TemporalServer struct {
	*server
	HostPort  string // what a client dials
	Namespace string // "default"
	UIPort    int    // 0: there is no Web UI
}

// StartTemporal starts a Temporal development server and returns when it answers calls in its namespace, after two
// minutes at the latest. The server runs until it is stopped or the caller's process ends: ctx bounds only the start. A
// port that was asked for and is taken is an ErrPortTaken.
func StartTemporal(ctx context.Context, options TemporalOptions) (*TemporalServer, error) {
	if options.Binary == "" {
		options.Binary = filepath.Join(Root(), "bin", "temporal")
	}
	if err := installed(options.Binary, "tools"); err != nil {
		return nil, fmt.Errorf("start temporal: %w", err)
	}
	var err error
	if options.Dir, err = filepath.Abs(options.Dir); err != nil {
		return nil, fmt.Errorf("start temporal: %w", err)
	}
	wanted := []int{options.Port, options.UIPort}
	if options.Headless {
		wanted = wanted[:1]
	}
	server, err := onFreePorts(ctx, wanted, options.server)
	if err != nil {
		return nil, err
	}
	temporal := &TemporalServer{server: server, HostPort: address(server.ports[0]), Namespace: temporalNamespace}
	if !options.Headless {
		temporal.UIPort = server.ports[1]
	}
	return temporal, nil
}

// server takes the frontend's port and, with a Web UI, the port of that.
func (o TemporalOptions) server(ports []int) *server {
	arguments := []string{
		"server", "start-dev", "--ip", "127.0.0.1", "--port", strconv.Itoa(ports[0]),
		"--db-filename", filepath.Join(o.Dir, "temporal.db"), "--log-level", "warn",
	}
	if o.Headless {
		arguments = append(arguments, "--headless")
	} else {
		arguments = append(arguments, "--ui-port", strconv.Itoa(ports[1]))
	}
	return &server{
		command: Command{
			Name: "temporal",
			Path: o.Binary,
			Args: slices.Concat(arguments, o.Args),
			Env:  Environment([]string{"TEMPORAL_"}),
			Log:  filepath.Join(o.Dir, "temporal.log"),
		},
		ports: ports,
		ready: func(ctx context.Context) error { return temporalReady(ctx, address(ports[0])) },
	}
}

// Dial returns a client of the server that logs nothing. The caller closes it.
func (s *TemporalServer) Dial(ctx context.Context) (client.Client, error) {
	return dialTemporal(ctx, s.HostPort)
}

func dialTemporal(ctx context.Context, hostPort string) (client.Client, error) {
	silent := log.NewStructuredLogger(slog.New(slog.DiscardHandler))
	connection, err := client.DialContext(ctx, client.Options{HostPort: hostPort, Logger: silent})
	if err != nil {
		return nil, fmt.Errorf("dial temporal at %s: %w", hostPort, err)
	}
	return connection, nil
}

// temporalReady asks for a count of workflows: the answer takes the frontend, its view of the namespace and the
// visibility store, which are what starting and listing workflows need, and which come up one after the other.
func temporalReady(ctx context.Context, hostPort string) error {
	connection, err := dialTemporal(ctx, hostPort)
	if err != nil {
		return err
	}
	defer connection.Close()
	_, err = connection.CountWorkflow(ctx, &workflowservice.CountWorkflowExecutionsRequest{Namespace: temporalNamespace})
	if err != nil {
		return fmt.Errorf("count workflows in namespace %q: %w", temporalNamespace, err)
	}
	return nil
}
