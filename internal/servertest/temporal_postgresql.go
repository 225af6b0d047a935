package servertest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// PostgreSQLTemporalServer is a running Temporal server, of the version and with the settings of docker-compose.yml, on a
// PostgreSQL server of its own.
type PostgreSQLTemporalServer struct {
	*TemporalServer
	database *PostgreSQLServer
}

// TemporalOnPostgreSQL starts a PostgreSQL server and a Temporal server on it, both of the test's own, and stops them
// when the test ends. Databases, namespace and search attributes are made by the scripts that docker-compose.yml runs. It
// takes the programs that `make postgres` builds, and PostgreSQL's.
func TemporalOnPostgreSQL(t testing.TB) *PostgreSQLTemporalServer {
	t.Helper()
	SkipWhereOff(t)
	programs := filepath.Join(Root(), "bin")
	for name, target := range map[string]string{"temporal-server": "postgres", "temporal-sql-tool": "postgres", "temporal": "tools"} {
		if err := installed(filepath.Join(programs, name), target); err != nil {
			t.Fatal(err)
		}
	}
	database := PostgreSQL(t, "")
	port := strconv.Itoa(database.Port)
	schemas, err := TemporalSchemas(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := deploy(t.Context(), "schema.sh", "TEMPORAL_SCHEMAS="+schemas, "SQL_PLUGIN=postgres12", "SQL_HOST=127.0.0.1",
		"SQL_PORT="+port, "SQL_USER="+databaseUser); err != nil {
		t.Fatal(err)
	}
	log := filepath.Join(t.TempDir(), "temporal.log")
	temporal, err := onFreePorts(t.Context(), make([]int, len(TemporalPorts)), func(ports []int) *server {
		environment := Environment(
			[]string{"TEMPORAL_"},
			"DB=postgres12", "POSTGRES_SEEDS=127.0.0.1", "DB_PORT="+port, "POSTGRES_USER="+databaseUser,
			"DYNAMIC_CONFIG_FILE_PATH="+filepath.Join(Root(), "deploy", "temporal", "dynamic-config.yaml"),
			"BIND_ON_IP=127.0.0.1", "LOG_LEVEL=warn",
		)
		for i, variable := range TemporalPorts {
			environment = append(environment, variable+"="+strconv.Itoa(ports[i]))
		}
		return &server{
			command: Command{
				Name: "temporal", Path: filepath.Join(programs, "temporal-server"), Args: []string{"--allow-no-auth", "start"},
				Env: environment, Log: log,
			},
			ports: ports,
			// There is no namespace yet.
			ready: func(ctx context.Context) error {
				connection, err := dialTemporal(ctx, address(ports[0]))
				if err == nil {
					connection.Close()
				}
				return err
			},
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { finish(t, temporal) })
	hostPort := address(temporal.ports[0])
	if err := deploy(t.Context(), "namespace.sh", "TEMPORAL_ADDRESS="+hostPort, "TEMPORAL_NAMESPACE="+temporalNamespace); err != nil {
		t.Fatalf("%v\nlog of temporal:\n%s", err, temporal.Logs())
	}
	temporal.ready = func(ctx context.Context) error { return temporalReady(ctx, hostPort) }
	return &PostgreSQLTemporalServer{
		TemporalServer: &TemporalServer{server: temporal, HostPort: hostPort, Namespace: temporalNamespace},
		database:       database,
	}
}

// KillDatabase ends the PostgreSQL server as a power cut would, with SIGKILL. The Temporal server stays.
func (s *PostgreSQLTemporalServer) KillDatabase() { s.database.Kill() }

// RestartDatabase stops the PostgreSQL server where it runs, starts it again on the same port and data, and returns when
// the Temporal server answers again. A Temporal server that misses its database soon after its own start may give up; it
// is started again, as docker-compose.yml has it.
func (s *PostgreSQLTemporalServer) RestartDatabase(ctx context.Context) error {
	if err := s.database.Restart(ctx); err != nil {
		return err
	}
	unready := s.await(ctx, s.process)
	select {
	case <-s.Done():
		return s.Start(ctx)
	default:
		return unready
	}
}

// TemporalPorts are the variables from which the configuration that is built into the server takes its ports
// (common/config/config_template_embedded.yaml); the first is the one that a client dials.
var TemporalPorts = []string{
	"FRONTEND_GRPC_PORT", "FRONTEND_MEMBERSHIP_PORT", "FRONTEND_HTTP_PORT", "MATCHING_GRPC_PORT", "MATCHING_MEMBERSHIP_PORT",
	"HISTORY_GRPC_PORT", "HISTORY_MEMBERSHIP_PORT", "WORKER_GRPC_PORT", "WORKER_MEMBERSHIP_PORT",
}

// TemporalSchemas returns the folder of the schemas in the source that the server was built from.
func TemporalSchemas(ctx context.Context) (string, error) {
	list := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "go.temporal.io/server")
	list.Dir = filepath.Join(Root(), "tools", "temporal-server")
	folder, err := list.Output()
	if err != nil {
		return "", fmt.Errorf("find the source of the temporal server: %w", err)
	}
	return filepath.Join(strings.TrimSpace(string(folder)), "schema"), nil
}

// deploy runs one of the scripts of deploy/temporal with the programs of bin/.
func deploy(ctx context.Context, script string, variables ...string) error {
	run := exec.CommandContext(ctx, "sh", filepath.Join(Root(), "deploy", "temporal", script))
	path := filepath.Join(Root(), "bin") + string(filepath.ListSeparator) + os.Getenv("PATH")
	run.Env = Environment([]string{"TEMPORAL_", "SQL_", "PATH="}, append(variables, "PATH="+path)...)
	if output, err := run.CombinedOutput(); err != nil {
		return fmt.Errorf("run deploy/temporal/%s: %w\n%s", script, err, output)
	}
	return nil
}
