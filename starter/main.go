// Command starter hands registrations to Temporal and tells how they stand. It freezes the inputs before Temporal hears of them, and
// needs no connection to MLflow.
//
// Standard output carries the result alone; progress, warnings and errors go to standard error.
package main

import (
	"context"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
)

// version is set by the linker.
var version = "development"

func main() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(400) // it lives for moments and holds a few megabytes
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Environ(), os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}
