package servertest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"
)

const (
	// readyTimeout bounds a start. MLflow takes 5 to 30 seconds on two busy cores, three times that where its files are
	// not yet in the page cache, and over two minutes where ten others want those cores.
	readyTimeout = 5 * time.Minute
	// portTimeout bounds the wait for the kernel to take a port back from processes that were killed.
	portTimeout = 10 * time.Second
	// probeInterval is the pause between two looks at whether a server is ready, or gone.
	probeInterval = 100 * time.Millisecond
	// probeTimeout bounds one question: a server that accepts and does not answer is asked again.
	probeTimeout = 5 * time.Second
)

// Server is a running server of any kind.
type Server struct{ *server }

// Serve starts a server of the test's own, by a command that listens on these ports and no others, returns when ready says
// so, within the given time, and stops it when the test ends.
func Serve(t testing.TB, command Command, ports []int, ready func(context.Context) error, within time.Duration) *Server {
	t.Helper()
	SkipWhereOff(t)
	server := &server{command: command, ports: ports, ready: ready, within: within}
	if err := server.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { finish(t, server) })
	return &Server{server}
}

// server is a command that can be run again on the same port and files, and a question that it answers only once it is
// ready for work.
type server struct {
	command Command
	ports   []int
	ready   func(context.Context) error
	within  time.Duration // how long a start may take; 0: readyTimeout
	process *Process
}

// Start starts the server, on the port and the files that it had before, and returns when it is ready. It is an error to
// start a running server: its port is taken.
func (s *server) Start(ctx context.Context) error {
	if err := s.launch(ctx); err != nil {
		return fmt.Errorf("start %s: %w", s.command.Name, err)
	}
	return nil
}

// Restart stops the server and starts it again on the same port and files.
func (s *server) Restart(ctx context.Context) error {
	s.Stop()
	return s.Start(ctx)
}

// Stop ends the server as an operator would, with SIGTERM. Its port and files stay for the next Start.
func (s *server) Stop() {
	s.process.Stop()
	s.awaitFreePorts()
}

// Kill ends the server as a power cut would, with SIGKILL. Its port and files stay for the next Start.
func (s *server) Kill() {
	s.process.Kill()
	s.awaitFreePorts()
}

// PID is the process id of the server's command. A later Start gives another one.
func (s *server) PID() int { return s.process.PID() }

// Done is closed when the server has ended, by itself or stopped. A later Start gives another channel.
func (s *server) Done() <-chan struct{} { return s.process.Done() }

// Logs returns the last 64 KiB of the server's log, over all its starts.
func (s *server) Logs() string { return tail(s.command.Log) }

// LogPath returns the file that the server logs to.
func (s *server) LogPath() string { return s.command.Log }

func (s *server) launch(ctx context.Context) error {
	for _, port := range s.ports {
		if portTaken(port) {
			return fmt.Errorf("listen on %s: %w: stop what listens there, or choose another port", address(port), ErrPortTaken)
		}
	}
	process, err := StartProcess(s.command)
	if err != nil {
		return err
	}
	if err := s.await(ctx, process); err != nil {
		process.Kill()
		return fmt.Errorf("%w; the end of its log:\n%s", err, process.Logs())
	}
	s.process = process
	return nil
}

// awaitFreePorts waits until nothing listens on the server's ports: the processes that its command started die with it,
// but a moment later. Where one does not become free, the next Start says so.
func (s *server) awaitFreePorts() {
	deadline := time.After(portTimeout)
	tick := time.NewTicker(probeInterval)
	defer tick.Stop()
	for slices.ContainsFunc(s.ports, portTaken) {
		select {
		case <-deadline:
			return
		case <-tick.C:
		}
	}
}

func (s *server) await(ctx context.Context, process *Process) error {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(s.within, readyTimeout))
	defer cancel()
	tick := time.NewTicker(probeInterval)
	defer tick.Stop()
	for {
		probe, cancelProbe := context.WithTimeout(ctx, probeTimeout)
		unready := s.ready(probe)
		cancelProbe()
		select {
		case <-process.Done(): // looked at also after a good answer, which may be that of a stranger on the same port
			return s.ended(process)
		default:
		}
		if unready == nil {
			return nil
		}
		select {
		case <-process.Done():
			return s.ended(process)
		case <-ctx.Done():
			return fmt.Errorf("not ready in time: %w: %w", ctx.Err(), unready)
		case <-tick.C:
		}
	}
}

// ended tells a port that was taken between the look and the start, which another port mends, from other ends.
func (s *server) ended(process *Process) error {
	for _, port := range s.ports {
		if portTaken(port) {
			return fmt.Errorf("listen on %s: %w", address(port), ErrPortTaken)
		}
	}
	return fmt.Errorf("it ended before it was ready: %w", process.Err())
}

// onFreePorts starts a server on ports that are free, and on others where one of them was taken in between. The ports
// that wanted names are kept; zero stands for any.
func onFreePorts(ctx context.Context, wanted []int, build func(ports []int) *server) (*server, error) {
	const tries = 5
	var err error
	for range tries {
		ports := make([]int, len(wanted))
		chosen := false
		for i, port := range wanted {
			ports[i] = port
			for port == 0 && (ports[i] == 0 || slices.Contains(ports[:i], ports[i])) {
				chosen = true
				if ports[i], err = FreePort(); err != nil {
					return nil, err
				}
			}
		}
		server := build(ports)
		if err = server.Start(ctx); err == nil {
			return server, nil
		}
		if !chosen || !errors.Is(err, ErrPortTaken) {
			break
		}
	}
	return nil, err
}

// installed returns an error that names the make target where the executable is not there.
func installed(path, target string) error {
	if _, err := os.Stat(path); err != nil {
		return fmt.Errorf("%w: run `make %s`", err, target)
	}
	return nil
}
