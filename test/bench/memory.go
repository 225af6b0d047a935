package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// touchMemory takes memory that is free, writes to each page of it, and gives it back: as many bytes, and at most half of what is available. Below a virtual
// machine the memory that it has not used for a minute is its host's, and who writes to it next pays for having it back: here 2 GB of a file into the page
// cache take the kernel 3.1 s instead of 0.6 s. Who is measured shall not pay for that because of when they come.
func touchMemory(bytes int64) error {
	available, err := availableMemory()
	if err != nil {
		return err
	}
	memory, err := syscall.Mmap(-1, 0, int(min(bytes, available/2)), syscall.PROT_READ|syscall.PROT_WRITE,
		syscall.MAP_ANON|syscall.MAP_PRIVATE|syscall.MAP_POPULATE)
	if err != nil {
		return fmt.Errorf("touch memory: %w", err)
	}
	return syscall.Munmap(memory)
}

// availableMemory is MemAvailable of /proc/meminfo (proc(5)), in bytes.
func availableMemory() (int64, error) {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) == 3 && fields[0] == "MemAvailable:" {
			kilobytes, err := strconv.ParseInt(fields[1], 10, 64)
			return kilobytes << 10, err
		}
	}
	return 0, fmt.Errorf("read /proc/meminfo: no MemAvailable in it")
}
