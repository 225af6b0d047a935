package connection

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestOptions_TakesHostsWithPortsOnly(t *testing.T) {
	for _, address := range []string{"127.0.0.1:7233", "temporal.example.com:443", "[::1]:7233", "temporal:1"} {
		require.Empty(t, problem(address), address)
	}
	for _, address := range []string{"", "localhost", "http://localhost:7233", ":7233", "localhost:", "localhost:0", "localhost:70000", "a b:1", "user:pw@host:1", "host:http"} {
		require.NotEmpty(t, problem(address), address)
	}
}

func TestShown_HidesWhatMayBeASecret(t *testing.T) {
	require.Equal(t, "localhost:7233", Shown("localhost:7233"))
	require.Equal(t, "***@host:7233", Shown("http://ada:secret@host:7233"))
	require.Equal(t, "***@host:7233", Shown("ada:secret@host:7233"))
	require.Equal(t, "host:7233?***", Shown("host:7233?token=secret"))
}
