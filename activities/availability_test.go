package activities

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/serviceerror"
)

// refusing is a Temporal client that signals nobody.
type refusing struct{ err error }

func (r refusing) SignalWorkflow(context.Context, string, string, string, any) error { return r.err }

func TestWake_LetsNobodyWaitForWhoTakesNoSignal(t *testing.T) {
	busy := errors.New("Temporal is busy")
	for name, c := range map[string]struct{ refusal, err error }{
		"woken":            {nil, nil},
		"ended":            {serviceerror.NewNotFound("workflow execution already completed"), nil},
		"too many signals": {serviceerror.NewInvalidArgument("exceeded workflow execution limit for signal events"), nil},
		"not now":          {busy, busy},
	} {
		t.Run(name, func(t *testing.T) {
			p := newProject(t)
			var logged bytes.Buffer
			p.logTo(&logged)
			wakes := func(ctx context.Context) error {
				return wake(ctx, refusing{c.refusal}, "available", Waiter{WorkflowID: "waiting"})
			}
			p.RegisterActivity(wakes)

			_, err := p.ExecuteActivity(wakes)

			if c.err != nil {
				require.ErrorContains(t, err, c.err.Error())
			} else {
				require.NoError(t, err)
			}
			require.Equal(t, name == "too many signals", bytes.Contains(logged.Bytes(), []byte("workflow_id=waiting")))
		})
	}
}
