package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"
)

// spent is what a command took: from its start to its end, on all processors, and at its largest.
type spent struct {
	wall, cpu time.Duration
	peakBytes int64
}

// timed runs a command, with all processes that it waits for.
func timed(ctx context.Context, env []string, dir, path string, args ...string) (spent, error) {
	command := exec.CommandContext(ctx, path, args...)
	command.Env, command.Dir = env, dir
	var output bytes.Buffer
	command.Stdout, command.Stderr = &output, &output
	if err := forgetPeak(os.Getpid()); err != nil { // which a child's peak begins with
		return spent{}, err
	}
	began := time.Now()
	err := command.Run()
	wall := time.Since(began)
	if err != nil {
		return spent{}, fmt.Errorf("run %s: %w\n%s", filepath.Base(path), err, output.Bytes())
	}
	s := spent{wall: wall, cpu: command.ProcessState.UserTime() + command.ProcessState.SystemTime()}
	if usage, ok := command.ProcessState.SysUsage().(*syscall.Rusage); ok {
		s.peakBytes = usage.Maxrss << 10 // getrusage(2): kilobytes
	}
	return s, nil
}

// cpuOf is what a running process has spent on processors, in all its threads; schedstat has it in nanoseconds, where stat counts hundredths.
func cpuOf(pid int) (time.Duration, error) {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil {
		return 0, err
	}
	var total time.Duration
	for _, thread := range threads {
		text, err := os.ReadFile(thread)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue // the thread has just ended
		}
		if err != nil {
			return 0, err
		}
		nanoseconds, err := strconv.ParseInt(string(bytes.Fields(text)[0]), 10, 64)
		if err != nil {
			return 0, err
		}
		total += time.Duration(nanoseconds)
	}
	return total, nil
}

// cpuOfTree is what a process and those that it started have spent.
func cpuOfTree(pid int) (time.Duration, error) {
	total, err := cpuOf(pid)
	if err != nil {
		return 0, err
	}
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		return 0, err
	}
	for _, list := range lists {
		text, err := os.ReadFile(list)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue // the thread has just ended
		}
		if err != nil {
			return 0, err
		}
		for _, field := range bytes.Fields(text) {
			child, err := strconv.Atoi(string(field))
			if err != nil {
				return 0, err
			}
			cpu, err := cpuOfTree(child)
			if err != nil {
				return 0, err
			}
			total += cpu
		}
	}
	return total, nil
}

// forgetPeak lets the peak of a process begin anew (proc(5), clear_refs).
func forgetPeak(pid int) error {
	return os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0)
}

// memoryOf reads a line of /proc/<pid>/status: VmRSS, or VmHWM for the peak.
func memoryOf(pid int, line string) (size int64, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for _, l := range bytes.Split(text, []byte("\n")) {
		if fields := bytes.Fields(l); len(fields) == 3 && string(fields[0]) == line+":" {
			kilobytes, err := strconv.ParseInt(string(fields[1]), 10, 64)
			return kilobytes << 10, err
		}
	}
	return 0, fmt.Errorf("read /proc/%d/status: no %s in it", pid, line)
}

// median is the middle one; of an even number, the lower of the two in the middle.
func median[T int64 | time.Duration | float64](values []T) T {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[(len(sorted)-1)/2]
}

// ratio is the median of the rounds' ratios: what drifts from round to round is on both sides of each.
func ratio[T int64 | time.Duration](over, under []T) float64 {
	var ratios []float64
	for i := range over {
		ratios = append(ratios, float64(over[i])/float64(under[i]))
	}
	return median(ratios)
}

func walls(all []spent) (each []time.Duration) {
	for _, s := range all {
		each = append(each, s.wall)
	}
	return each
}

func cpus(all []spent) (each []time.Duration) {
	for _, s := range all {
		each = append(each, s.cpu)
	}
	return each
}

func peaks(all []spent) (each []int64) {
	for _, s := range all {
		each = append(each, s.peakBytes)
	}
	return each
}
