package snapshot

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// slowDisk takes until it is closed to sync a file.
type slowDisk chan struct{}

func (d slowDisk) Sync() error { <-d; return nil }

func TestSynced_WhoIsCanceledDoesNotWaitForTheDisk(t *testing.T) {
	disk := make(slowDisk)
	defer close(disk)
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	require.ErrorIs(t, synced(ctx, disk), context.DeadlineExceeded)
}
