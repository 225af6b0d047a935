package servertest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// databaseUser is the role that owns Temporal's databases, as in docker-compose.yml.
const databaseUser = "temporal"

// PostgreSQLServer is a running PostgreSQL server with one role, databaseUser, that may do everything.
type PostgreSQLServer struct {
	*server
	Port int
}

// PostgreSQL starts a PostgreSQL server of the test's own and stops it when the test ends. Where password is empty nobody
// is asked for one: the server listens on the loopback address for the length of a test. It takes PostgreSQL's programs.
func PostgreSQL(t testing.TB, password string) *PostgreSQLServer {
	t.Helper()
	SkipWhereOff(t)
	database, err := startPostgreSQL(t.Context(), t, password)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { finish(t, database.server) })
	return database
}

// startPostgreSQL makes a PostgreSQL server in a new folder and returns when it answers. PostgreSQL refuses to run as
// root, which then runs it as the user postgres.
func startPostgreSQL(ctx context.Context, t testing.TB, password string) (*PostgreSQLServer, error) {
	programs, err := postgreSQLPrograms(ctx)
	if err != nil {
		return nil, err
	}
	as, err := unprivileged()
	if err != nil {
		return nil, err
	}
	// Not t.TempDir, whose parents are closed to another user.
	folder, err := os.MkdirTemp("", "registrar-postgresql-")
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(folder); err != nil {
			t.Errorf("remove the data of postgresql: %v", err)
		}
	})
	data, secret := filepath.Join(folder, "data"), filepath.Join(folder, "password")
	if err := os.WriteFile(secret, []byte(password+"\n"), 0o600); err != nil {
		return nil, err
	}
	if as != nil {
		for _, path := range []string{folder, secret} {
			if err := os.Chown(path, int(as.Uid), int(as.Gid)); err != nil {
				return nil, err
			}
		}
	}
	arguments := []string{"--pgdata", data, "--username", databaseUser, "--encoding", "UTF8", "--locale", "C", "--no-sync"}
	if password == "" {
		arguments = append(arguments, "--auth", "trust")
	} else {
		arguments = append(arguments, "--auth", "scram-sha-256", "--pwfile", secret)
	}
	initialize := exec.CommandContext(ctx, filepath.Join(programs, "initdb"), arguments...)
	initialize.Dir, initialize.SysProcAttr = folder, &syscall.SysProcAttr{Credential: as}
	if output, err := initialize.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("initialize the data of postgresql: %w\n%s", err, output)
	}
	log := filepath.Join(t.TempDir(), "postgresql.log")
	database, err := onFreePorts(ctx, []int{0}, func(ports []int) *server {
		port := strconv.Itoa(ports[0])
		return &server{
			command: Command{
				Name: "postgresql",
				Path: filepath.Join(programs, "postgres"),
				Args: []string{"-D", data, "-h", "127.0.0.1", "-p", port, "-c", "unix_socket_directories="},
				Dir:  folder,
				Env:  Environment([]string{"PG"}),
				Log:  log,
				As:   as,
			},
			ports: ports,
			ready: func(ctx context.Context) error {
				ask := exec.CommandContext(ctx, filepath.Join(programs, "pg_isready"), "-h", "127.0.0.1", "-p", port, "-U", databaseUser, "-d", "postgres")
				if output, err := ask.CombinedOutput(); err != nil {
					return fmt.Errorf("%w: %s", err, output)
				}
				return nil
			},
		}
	})
	if err != nil {
		return nil, err
	}
	return &PostgreSQLServer{server: database, Port: database.ports[0]}, nil
}

// postgreSQLPrograms returns the folder of PostgreSQL's own programs, which Debian keeps out of the PATH.
func postgreSQLPrograms(ctx context.Context) (string, error) {
	folders, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	if err != nil {
		return "", err
	}
	if folder, err := exec.CommandContext(ctx, "pg_config", "--bindir").Output(); err == nil {
		folders = append(folders, strings.TrimSpace(string(folder)))
	}
	for _, folder := range folders {
		if _, err := os.Stat(filepath.Join(folder, "initdb")); err == nil {
			return folder, nil
		}
	}
	return "", errors.New("find initdb: neither `pg_config --bindir` nor /usr/lib/postgresql has it: install the PostgreSQL server")
}

// unprivileged returns the user postgres where the caller is root, else nil.
func unprivileged() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil //nolint:nilnil // nil is what exec takes for the caller's own user
	}
	account, err := user.Lookup("postgres")
	if err != nil {
		return nil, err
	}
	uid, err := strconv.ParseUint(account.Uid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("read the id of user postgres: %w", err)
	}
	gid, err := strconv.ParseUint(account.Gid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("read the group of user postgres: %w", err)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}

// Restart stops the server where it runs, and starts it again on the same port and data. When the first of its processes
// is killed, the others notice and leave by themselves, a moment later; until then PostgreSQL refuses to start on their data.
func (s *PostgreSQLServer) Restart(ctx context.Context) error {
	deadline := time.Now().Add(portTimeout)
	tick := time.NewTicker(probeInterval)
	defer tick.Stop()
	for {
		err := s.server.Restart(ctx)
		if err == nil || time.Now().After(deadline) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-tick.C:
		}
	}
}
