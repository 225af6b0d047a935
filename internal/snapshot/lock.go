package snapshot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"syscall"
	"time"
)

const (
	lockPrefix = ".lock-"
	lockPause  = 50 * time.Millisecond
)

// Lock waits until no other process, and nobody else in this one, holds the registration with these first 16 hex digits
// of the registration key. The lock ends with unlock, or with the process. It keeps apart those who commit, hand over and
// clear away; readers need none. The error is that of the context, or the system's.
func Lock(ctx context.Context, rootDir *os.Root, shortKey string) (unlock func() error, err error) {
	if !isShortKey(shortKey) {
		return nil, inputErrorf("lock registration %q: want the first %d hex digits of a registration key",
			shortKey, shortKeyLength)
	}
	if err := rootDir.MkdirAll(registrationsName, folderMode); err != nil {
		return nil, err
	}
	name := path.Join(registrationsName, lockPrefix+shortKey)
	for {
		file, err := tryLock(rootDir, name)
		if err != nil {
			return nil, fmt.Errorf("lock registration %s: %w", shortKey, err)
		}
		if file != nil {
			// Removed while it is held, so that no lock files pile up: who waits for it looks again, see tryLock.
			return func() error { return errors.Join(rootDir.Remove(name), file.Close()) }, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("lock registration %s, which another process holds: %w", shortKey, ctx.Err())
		case <-time.After(lockPause):
		}
	}
}

// tryLock returns the locked file, or nil where somebody else has it. flock(2) belongs to the open file, so it keeps
// goroutines apart as well as processes, and the system releases it when the process dies.
func tryLock(rootDir *os.Root, name string) (*os.File, error) {
	file, err := rootDir.OpenFile(name, os.O_RDWR|os.O_CREATE|syscall.O_NONBLOCK, fileMode)
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) || errors.Is(err, syscall.EINTR) {
		return nil, file.Close()
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	locked, err := file.Stat()
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	// A lock on a file that was removed in the meantime keeps nobody away.
	if named, err := rootDir.Lstat(name); err != nil || !os.SameFile(locked, named) {
		return nil, file.Close()
	}
	return file, nil
}
