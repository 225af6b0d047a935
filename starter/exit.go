package main

import (
	"context"
	"errors"

	"registrar/internal/receipt"
)

// The exit codes, the one place where they are.
const (
	exitSuccess     = 0 // registered, already registered, rejected, waiting or queued
	exitFailure     = 1
	exitUsage       = 2
	exitInterrupted = 130

	// With --detailed-exitcode:
	exitRejected = 10
	exitPending  = 11 // running, waiting, blocked or pending approval
	exitCanceled = 12
	exitQueued   = 13
)

// exitCodesHelp is what each command that returns them says of them.
const exitCodesHelp = `
Exit codes: 0 registered, already registered, rejected, waiting or queued; 1 failed or canceled; 2 wrong usage; 130 interrupted.
With --detailed-exitcode: 0 registered or already registered, 10 rejected, 11 waiting or blocked or pending, 12 canceled, 13 queued.`

// exitCode is the code for how a registration stands.
func exitCode(r receipt.Receipt, detailed bool) int {
	switch {
	case r.Outcome == receipt.Failed:
		return exitFailure
	case !detailed && r.Outcome == receipt.Canceled:
		return exitFailure
	case !detailed, r.Outcome == receipt.Registered, r.Outcome == receipt.AlreadyRegistered:
		return exitSuccess
	case r.Outcome == receipt.Rejected:
		return exitRejected
	case r.Outcome == receipt.Canceled:
		return exitCanceled
	case r.State == receipt.Queued:
		return exitQueued
	}
	return exitPending
}

// usageError is an error in how the command was called.
type usageError struct{ error }

// exitCodeOf is the code for a command that ended with err.
func exitCodeOf(ctx context.Context, err error) int {
	switch {
	case err == nil:
		return exitSuccess
	case ctx.Err() != nil:
		return exitInterrupted
	}
	if _, ok := errors.AsType[usageError](err); ok {
		return exitUsage
	}
	return exitFailure
}
