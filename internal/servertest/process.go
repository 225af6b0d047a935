package servertest

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// stopTimeout is how long a process may take to leave after SIGTERM. The Temporal development server takes 3 seconds.
const stopTimeout = 15 * time.Second

// logTailBytes bounds what Logs returns: enough for a stack trace and what led to it.
const logTailBytes = 64 << 10

// Command says what to run.
type Command struct {
	Name string   // what messages and the log file call it, for example "mlflow"
	Path string   // the executable
	Args []string // without the executable's own name
	Dir  string   // working folder; empty: that of the caller
	Env  []string // the whole environment, see Environment; nil: that of the caller
	Log  string   // file that standard output and error are appended to; its folder is made

	As *syscall.Credential // the user that it runs as; nil: that of the caller
}

// Process is a running command together with all the processes that it starts. All of them are gone after Stop or Kill,
// and when the process that called StartProcess ends, a SIGKILL included.
type Process struct {
	command *exec.Cmd
	log     string
	guard   *guard
	done    chan struct{} // closed when the command has been waited for
	err     error         // what Wait returned; read only after done
}

// Environment returns the caller's environment for a Command, without the variables of the given prefixes, by which a
// developer's own settings would reach the process, and with extra, each as KEY=value.
func Environment(prefixes []string, extra ...string) []string {
	environment := slices.DeleteFunc(os.Environ(), func(variable string) bool {
		return slices.ContainsFunc(prefixes, func(prefix string) bool { return strings.HasPrefix(variable, prefix) })
	})
	return append(environment, extra...)
}

// StartProcess runs a command in a process group of its own. It returns as soon as the command runs; whether it is ready
// is for the caller to find out.
func StartProcess(c Command) (*Process, error) {
	if err := os.MkdirAll(filepath.Dir(c.Log), 0o750); err != nil {
		return nil, fmt.Errorf("start %s: %w", c.Name, err)
	}
	// A file, and not a pipe: Wait would hang on a pipe until the last grandchild has closed it.
	log, err := os.OpenFile(c.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", c.Name, err)
	}
	defer log.Close()

	guard, err := startGuard()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", c.Name, err)
	}
	command := exec.Command(c.Path, c.Args...) //nolint:noctx // outlives the context of its start; Stop ends it
	command.Dir, command.Env = c.Dir, c.Env
	command.Stdout, command.Stderr = log, log
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pgid: guard.group, Credential: c.As}
	if err := command.Start(); err != nil {
		guard.release()
		return nil, fmt.Errorf("start %s: %w", c.Name, err)
	}
	p := &Process{command: command, log: c.Log, guard: guard, done: make(chan struct{})}
	go func() {
		p.err = command.Wait()
		close(p.done)
	}()
	return p, nil
}

// PID is the process id of the command itself, also when it has ended.
func (p *Process) PID() int { return p.command.Process.Pid }

// Done is closed when the command has ended, by itself or stopped.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err returns how the command ended: nil for exit code 0, else an *exec.ExitError. It waits for the end.
func (p *Process) Err() error {
	<-p.done
	return p.err
}

// Signal sends a signal to the command alone. It is an error when the command has ended.
func (p *Process) Signal(signal syscall.Signal) error {
	if err := p.command.Process.Signal(signal); err != nil {
		return fmt.Errorf("signal %s: %w", p.command.Path, err)
	}
	return nil
}

// Stop sends SIGTERM to the group, waits up to 15 seconds for the command to end, and kills what is left of the group.
// It may be repeated.
func (p *Process) Stop() {
	p.guard.terminate()
	select {
	case <-p.done:
	case <-time.After(stopTimeout):
	}
	p.Kill()
}

// Kill sends SIGKILL to the group and waits for the command to be gone. It may be repeated.
func (p *Process) Kill() {
	p.guard.release()
	<-p.done
}

// Logs returns the last 64 KiB of what the command, and earlier ones with the same log file, wrote.
func (p *Process) Logs() string { return tail(p.log) }

func tail(path string) string {
	log, err := os.Open(path)
	if err != nil {
		return err.Error()
	}
	defer log.Close()
	if info, err := log.Stat(); err == nil && info.Size() > logTailBytes {
		if _, err := log.Seek(-logTailBytes, io.SeekEnd); err != nil {
			return err.Error()
		}
	}
	text, err := io.ReadAll(io.LimitReader(log, logTailBytes))
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// guard leads a process group and kills it when its standard input ends: when it is released, or when the process that
// holds the other end is gone, for whatever reason. It is a shell and not the kernel's parent-death signal, since that
// reaches only the child itself and MLflow is a tree of processes. As long as the guard has not been waited for, the
// group's number cannot become another's.
type guard struct {
	group   int
	command *exec.Cmd // holds our end of its standard input

	mu       sync.Mutex
	released bool
}

// guardScript outlives the SIGTERM that stops the group, so that the kill after it always has a sender.
const guardScript = `trap '' TERM INT HUP; read -r _; kill -KILL 0`

func startGuard() (*guard, error) {
	command := exec.Command("/bin/sh", "-c", guardScript) //nolint:noctx // outlives the context of its start
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	input, err := command.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start process guard: %w", err)
	}
	if err := command.Start(); err != nil {
		return nil, fmt.Errorf("start process guard: %w", errors.Join(err, input.Close()))
	}
	return &guard{group: command.Process.Pid, command: command}, nil
}

// terminate asks the group to leave. After release it does nothing: the group's number may be another's by then.
func (g *guard) terminate() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.released {
		_ = syscall.Kill(-g.group, syscall.SIGTERM) // fails only where the group has left already
	}
}

// release kills the group, the guard included. Only the first call does anything.
func (g *guard) release() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.released {
		return
	}
	g.released = true
	_ = syscall.Kill(-g.group, syscall.SIGKILL) // fails only where the group has left already
	_ = g.command.Wait()                        // "signal: killed", as it was told; closes the input
}
