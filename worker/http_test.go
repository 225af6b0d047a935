package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"registrar/internal/servertest"
)

// get asks the worker by HTTP. It returns status 0 while nothing listens.
func get(t *testing.T, address, path string) (status int, body string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+path, nil)
	require.NoError(t, err)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, err.Error()
	}
	defer response.Body.Close()
	read, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return response.StatusCode, string(read)
}

// awaitAnswer polls until the worker answers so.
func awaitAnswer(t *testing.T, address, path string, status int, says string) {
	t.Helper()
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		got, body := get(t, address, path)
		assert.Equal(c, status, got)
		assert.Contains(c, body, says)
	}, patience, 50*time.Millisecond)
}

// health runs `worker health`.
func health(t *testing.T, args []string, environ ...string) (code int, output string) {
	t.Helper()
	var both bytes.Buffer
	code = run(t.Context(), append([]string{"health"}, args...), environ, &both, &both)
	return code, both.String()
}

func TestHTTP_ReadyOnlyWhileItPollsTemporal(t *testing.T) {
	address, port := fmt.Sprintf("127.0.0.1:%d", freePort(t)), freePort(t)
	r := startWorker(t, append(temporalAt(port), "REGISTRAR_HTTP_LISTEN="+address))

	awaitAnswer(t, address, pathHealth, http.StatusOK, "ok")
	awaitAnswer(t, address, pathReady, http.StatusServiceUnavailable, fmt.Sprintf("127.0.0.1:%d", port))
	code, output := health(t, []string{"--http-listen", address})
	require.Zero(t, code)
	require.Equal(t, "ok\n", output)
	code, output = health(t, []string{"--ready"}, "REGISTRAR_HTTP_LISTEN="+address)
	require.Equal(t, 1, code)
	require.Contains(t, output, "503 Service Unavailable: not ready: ")
	_, metrics := get(t, address, pathMetrics)
	require.Contains(t, metrics, "registrar_census_up 0")

	server := servertest.Temporal(t, func(o *servertest.TemporalOptions) { o.Port = port })
	awaitAnswer(t, address, pathReady, http.StatusOK, "ready")
	code, output = health(t, []string{"--ready"}, "REGISTRAR_HTTP_LISTEN="+address)
	require.Zero(t, code, output)
	awaitAnswer(t, address, pathMetrics, http.StatusOK, "registrar_census_up 1")

	server.Kill()
	awaitAnswer(t, address, pathReady, http.StatusServiceUnavailable, "ask Temporal")
	awaitAnswer(t, address, pathHealth, http.StatusOK, "ok")
	require.NoError(t, server.Start(t.Context()))
	awaitAnswer(t, address, pathReady, http.StatusOK, "ready")

	require.Zero(t, r.stop())
	code, output = health(t, []string{"--http-listen", address})
	require.Equal(t, 1, code)
	require.Contains(t, output, address)
}

func TestHTTP_TheDefaultPortMayBeTakenAndAnotherOneNot(t *testing.T) {
	for attempt := 1; ; attempt++ {
		listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", defaultHTTPListen)
		r := startWorker(t, temporalAt(freePort(t)))
		r.awaitLog("worker starts")
		require.Zero(t, r.stop())
		if err == nil {
			require.NoError(t, listener.Close())
		}
		if strings.Contains(r.log.String(), "the default address for health and metrics is taken") {
			break
		}
		// Another process had the port, which is as good, and ended just then.
		require.Error(t, err)
		require.Less(t, attempt, 10)
	}

	taken, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	asked := startWorker(t, append(temporalAt(freePort(t)), "REGISTRAR_HTTP_LISTEN="+taken.Addr().String()))
	require.Equal(t, 1, asked.ended())
	require.Contains(t, asked.log.String(), "--http-listen "+taken.Addr().String())
	require.Contains(t, asked.log.String(), "address already in use")
}

func TestHTTP_ListensEverywhereIsAskedOnLoopback(t *testing.T) {
	port := freePort(t)
	r := startWorker(t, append(temporalAt(freePort(t)), fmt.Sprintf("REGISTRAR_HTTP_LISTEN=:%d", port)))
	awaitAnswer(t, fmt.Sprintf("127.0.0.1:%d", port), pathHealth, http.StatusOK, "ok")
	for _, listens := range []string{"", "0.0.0.0", "[::]"} {
		code, output := health(t, nil, fmt.Sprintf("REGISTRAR_HTTP_LISTEN=%s:%d", listens, port))
		require.Zero(t, code, output)
	}
	require.Zero(t, r.stop())
}

func TestHTTP_Off(t *testing.T) {
	r := startWorker(t, append(temporalAt(freePort(t)), "REGISTRAR_HTTP_LISTEN=off"))
	r.awaitLog("Temporal does not answer")
	require.NotContains(t, r.log.String(), "health and metrics")
	require.Zero(t, r.stop())
	code, output := health(t, []string{"--http-listen", ""})
	require.Equal(t, 1, code)
	require.Contains(t, output, "serve no health")
}

func TestProfiles_OnLoopbackOnly(t *testing.T) {
	address := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	r := startWorker(t, append(temporalAt(freePort(t)), "REGISTRAR_PPROF_LISTEN="+address))
	awaitAnswer(t, address, "/debug/pprof/", http.StatusOK, "goroutine")
	require.Zero(t, r.stop())

	var log bytes.Buffer
	require.Equal(t, 2, run(t.Context(), []string{"--pprof-listen", "0.0.0.0:0", "--http-listen", "off"}, temporalAt(freePort(t)), &log, &log))
	require.Contains(t, log.String(), "profiles are served on loopback only")
}
