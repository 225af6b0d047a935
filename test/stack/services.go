package stack

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/stretchr/testify/require"

	"registrar/internal/servertest"
)

// stack is the project of docker-compose.yml, run by programs of this machine.
type stack struct {
	t       *testing.T
	project *types.Project
	translation
	home    string
	servers map[string]server // those that run, by their service
	begun   map[string]bool   // servers that were started, one-shots that ended well
}

// server is a service that runs until it is stopped.
type server interface {
	Kill()
	Restart(ctx context.Context) error
	Done() <-chan struct{}
	Logs() string
}

// patience bounds what should take seconds, on machines that are busy with everything else: a first start of MLflow, which makes its
// tables, takes the most.
const (
	patience = 5 * time.Minute
	tick     = 500 * time.Millisecond
)

// notRun are the services that no registry has as a program.
var notRun = []string{"temporal-ui", "grafana"}

// image is what a service's image brings along: what the file does not say of it.
type image struct {
	program   string
	arguments []string // before those of the file
	variables []string
}

// start starts all services in the order that the file asks for.
func (s *stack) start() {
	s.t.Helper()
	for waiting := s.startable(); len(waiting) > 0; waiting = s.startable() {
		for _, name := range waiting {
			s.t.Logf("start %s", name)
			s.startService(s.project.Services[name])
			s.begun[name] = true
		}
	}
	require.Len(s.t, s.begun, len(s.project.Services)-len(notRun), "a service waits for what never starts")
}

// startable are the services that wait for nothing any more.
func (s *stack) startable() []string {
	var names []string
	for _, name := range slices.Sorted(maps.Keys(s.project.Services)) {
		unmet := slices.ContainsFunc(slices.Collect(maps.Keys(s.project.Services[name].DependsOn)), func(on string) bool { return !s.begun[on] })
		if !unmet && !s.begun[name] && !slices.Contains(notRun, name) {
			names = append(names, name)
		}
	}
	return names
}

func (s *stack) startService(service types.ServiceConfig) {
	s.t.Helper()
	switch name := service.Name; name {
	case "postgresql":
		s.startPostgreSQL(service)
	case "temporal-schema", "temporal-namespace", "s3-bucket":
		s.runOnce(service, s.imageOf(service))
	default:
		image, ports := s.imageOf(service), s.portsOf(service)
		s.servers[name] = servertest.Serve(s.t, servertest.Command{
			Name: name,
			Path: image.program,
			Args: append(image.arguments, s.arguments(service, service.Command)...),
			Dir:  s.t.TempDir(),
			Env:  s.environment(service, image.variables...),
			Log:  filepath.Join(s.t.TempDir(), name+".log"),
		}, ports, func(ctx context.Context) error { return s.check(ctx, service) }, patience)
	}
}

// imageOf says what runs instead of a service's image. Sources: docker/targets of go.temporal.io/server, docker-entrypoint.sh of
// versitygw, the Dockerfiles of Prometheus and of this repository.
func (s *stack) imageOf(service types.ServiceConfig) image {
	s.t.Helper()
	built := func(name string) string { return filepath.Join(servertest.Root(), "bin", name) }
	installed := func(name string) string { return filepath.Join(servertest.Root(), ".build", "venv", "bin", name) }
	switch service.Name {
	case "temporal-schema":
		schemas, err := servertest.TemporalSchemas(s.t.Context())
		require.NoError(s.t, err)
		return image{program: "/bin/sh", variables: []string{"TEMPORAL_SCHEMAS=" + schemas}}
	case "temporal-namespace":
		return image{program: "/bin/sh"}
	case "temporal":
		variables := []string{"DYNAMIC_CONFIG_FILE_PATH=" + s.path(service, "/etc/temporal/config/dynamicconfig/docker.yaml")}
		for i, port := range s.portsOf(service) {
			variables = append(variables, servertest.TemporalPorts[i]+"="+strconv.Itoa(port))
		}
		return image{program: built("temporal-server"), arguments: []string{"start"}, variables: variables}
	case "s3":
		return image{program: built("versitygw"), variables: []string{"VGW_PORT=127.0.0.1:" + strconv.Itoa(s.ports["7070"])}}
	case "s3-bucket":
		return image{program: installed("python")}
	case "mlflow":
		return image{program: installed("mlflow")}
	case "worker":
		return image{program: built("worker")}
	case "prometheus":
		return image{program: built("prometheus"), arguments: []string{"--web.listen-address=127.0.0.1:" + strconv.Itoa(s.ports["9090"])}}
	}
	require.FailNow(s.t, "no program is known for the service "+service.Name)
	return image{}
}

// portsOf are the ports that a service listens on here: those of its container, and for Temporal those between its parts.
func (s *stack) portsOf(service types.ServiceConfig) []int {
	s.t.Helper()
	ports := []int{s.ports[listens[service.Name]]}
	if service.Name == "temporal" {
		for i := range servertest.TemporalPorts[1:] {
			ports = append(ports, s.ports["temporal "+strconv.Itoa(i)])
		}
	}
	return ports
}

// listens is where each server listens in its container.
var listens = map[string]string{
	"postgresql": "5432", "temporal": "7233", "s3": "7070", "mlflow": "5000", "worker": "9464", "prometheus": "9090",
}

// startPostgreSQL does what the image's entry point does with an empty volume.
func (s *stack) startPostgreSQL(service types.ServiceConfig) {
	s.t.Helper()
	require.Equal(s.t, "temporal", *service.Environment["POSTGRES_USER"])
	database := servertest.PostgreSQL(s.t, *service.Environment["POSTGRES_PASSWORD"])
	s.servers[service.Name], s.ports[listens[service.Name]] = database, database.Port
	for _, volume := range service.Volumes {
		if filepath.Dir(volume.Target) != "/docker-entrypoint-initdb.d" {
			continue
		}
		script := exec.CommandContext(s.t.Context(), "/bin/sh", volume.Source)
		script.Env = s.environment(service, "PGHOST=127.0.0.1", "PGPORT="+strconv.Itoa(database.Port), "PGPASSWORD="+*service.Environment["POSTGRES_PASSWORD"])
		output, err := script.CombinedOutput()
		require.NoError(s.t, err, "%s", output)
	}
	require.Eventually(s.t, func() bool { return s.check(s.t.Context(), service) == nil }, patience, tick)
}

// runOnce runs a service that ends, again where it fails, as its restart policy says.
func (s *stack) runOnce(service types.ServiceConfig, image image) {
	s.t.Helper()
	count, found := strings.CutPrefix(service.Restart, "on-failure:")
	require.True(s.t, found)
	restarts, err := strconv.Atoi(count)
	require.NoError(s.t, err)
	command := append(slices.Clone(service.Entrypoint), service.Command...)
	for again := 0; ; again++ {
		run := exec.CommandContext(s.t.Context(), image.program, s.arguments(service, command[1:])...)
		run.Env = s.environment(service, image.variables...)
		output, err := run.CombinedOutput()
		if err == nil {
			return
		}
		require.Less(s.t, again, restarts, "%s: %v\n%s", service.Name, err, output)
	}
}

// environment has nothing of the caller's but where programs and temporary files are, as a container has not.
func (s *stack) environment(service types.ServiceConfig, extra ...string) []string {
	path := []string{filepath.Join(servertest.Root(), "bin"), os.Getenv("PATH")}
	return slices.Concat([]string{"PATH=" + strings.Join(path, string(filepath.ListSeparator)), "HOME=" + s.home}, s.variables(service), extra)
}

// check is the health check of a service, which says what is wrong where it fails.
func (s *stack) check(ctx context.Context, service types.ServiceConfig) error {
	test := s.arguments(service, service.HealthCheck.Test[1:])
	last := test[len(test)-1]
	switch program := test[0]; program {
	case "nc": // with -z it connects, and no more
		connection, err := new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(test[2], test[3]))
		if err != nil {
			return err
		}
		return connection.Close()
	case "wget":
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, last, http.NoBody)
		if err != nil {
			return err
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return errors.New(response.Status)
		}
		return nil
	case "python":
		test[0] = filepath.Join(servertest.Root(), ".build", "venv", "bin", "python")
	case "/worker":
		test[0] = filepath.Join(servertest.Root(), "bin", "worker")
	case "promtool":
		test[0] = filepath.Join(servertest.Root(), "bin", "promtool")
		test = append(test, "--url=http://127.0.0.1:"+strconv.Itoa(s.ports["9090"]))
	case "pg_isready": // by itself on the default port
		test = append(test, "--port", strconv.Itoa(s.ports["5432"]))
	}
	command := exec.CommandContext(ctx, test[0], test[1:]...)
	command.Env = s.environment(service)
	if output, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, output)
	}
	return nil
}
