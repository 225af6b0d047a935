package main

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"registrar/internal/receipt"
)

func TestExitCode_TellsTheOutcomeWhenAsked(t *testing.T) {
	for _, c := range []struct {
		state    receipt.State
		outcome  receipt.Outcome
		plain    int
		detailed int
	}{
		{receipt.Done, receipt.Registered, 0, 0},
		{receipt.Done, receipt.AlreadyRegistered, 0, 0},
		{receipt.Done, receipt.Rejected, 0, 10},
		{receipt.Done, receipt.Failed, 1, 1},
		{receipt.Done, receipt.Canceled, 1, 12},
		{receipt.Waiting, "", 0, 11},
		{receipt.Blocked, "", 0, 11},
		{receipt.PendingApproval, "", 0, 11},
		{receipt.Running, "", 0, 11},
		{receipt.Queued, "", 0, 13},
	} {
		r := receipt.Receipt{State: c.state, Outcome: c.outcome}
		require.Equal(t, c.plain, exitCode(r, false), "%s %s", c.state, c.outcome)
		require.Equal(t, c.detailed, exitCode(r, true), "%s %s", c.state, c.outcome)
	}
}

func TestExitCode_OfAnError(t *testing.T) {
	require.Equal(t, exitSuccess, exitCodeOf(t.Context(), nil))
	require.Equal(t, exitFailure, exitCodeOf(t.Context(), errors.New("no")))
	require.Equal(t, exitUsage, exitCodeOf(t.Context(), fmt.Errorf("wrapped: %w", usageError{errors.New("no")})))

	interrupted, cancel := context.WithCancel(t.Context())
	cancel()
	require.Equal(t, exitInterrupted, exitCodeOf(interrupted, errors.New("no")))
}
