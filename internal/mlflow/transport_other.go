//go:build !linux

package mlflow

import (
	"syscall"
	"time"
)

// userTimeout is Linux's; elsewhere keep-alive probes end an abandoned connection, later.
func userTimeout(time.Duration) func(network, address string, conn syscall.RawConn) error { return nil }
