package main

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
)

func TestCompletion_KnowsFlagsAndFiles(t *testing.T) {
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"commands":          {[]string{"doc"}, "doctor\tCheck all that a registration needs\n:4\n"},
		"output":            {[]string{"list", "--output", ""}, "text\njson\n:4\n"},
		"wait":              {[]string{"register", "--wait", ""}, "settled\tuntil it ended or waits\nfinal\tuntil it ended\nnone\tnot at all\n:4\n"},
		"wait for a result": {[]string{"result", "--wait", "f"}, "settled\tuntil it ended or waits\nfinal\tuntil it ended\nnone\tnot at all\n:4\n"},
		"root":              {[]string{"register", "--root", ""}, ":16\n"},
		"settings":          {[]string{"doctor", "--config", ""}, "yaml\nyml\n:8\n"},
		"model":             {[]string{"inspect", ""}, "joblib\npkl\npickle\n:8\n"},
		"no arguments":      {[]string{"flush", ""}, ":4\n"},
		"one id only":       {[]string{"status", "register/m/0", ""}, ":4\n"},
	} {
		t.Run(name, func(t *testing.T) {
			a := inProcess(t, append([]string{"__complete"}, c.args...)...)
			require.Zero(t, a.code, a.stderr)
			require.Equal(t, c.want, a.stdout)
		})
	}
}

func TestCompletion_DoesNotKeepAnybodyWaitingForTemporal(t *testing.T) {
	var stdout, stderr bytes.Buffer
	s := newStarter(nil, &stdout, &stderr)
	s.dial = func(ctx context.Context, _ client.Options) (client.Client, error) {
		deadline, ok := ctx.Deadline()
		require.True(t, ok)
		require.LessOrEqual(t, time.Until(deadline), completeWithin)
		return nil, serviceerror.NewUnavailable("nobody is there")
	}
	require.Zero(t, s.run(t.Context(), []string{"__complete", "status", ""}), stderr.String())
	require.Equal(t, ":4\n", stdout.String())
}

func TestCompletion_ScriptsAreMade(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		a := inProcess(t, "completion", shell)
		require.Zero(t, a.code)
		require.Contains(t, a.stdout, "__complete")
	}
}
