package chaos

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// faultNamed is one of the faults.
func faultNamed(t *testing.T, name string) Fault {
	t.Helper()
	for _, f := range append(append([]Fault{}, Faults...), FenceFaults...) {
		if f.Name == name {
			return f
		}
	}
	require.FailNow(t, "no such fault", name)
	return Fault{}
}

// upstream is a server that counts what is applied.
type upstream struct {
	*httptest.Server
	applied atomic.Int32
}

func newUpstream(t *testing.T) *upstream {
	t.Helper()
	u := &upstream{}
	u.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.ReadAll(r.Body); err != nil {
			return // it broke off: nothing is applied
		}
		u.applied.Add(1)
		_, _ = io.WriteString(w, `{"run": {}}`)
	}))
	t.Cleanup(u.Close)
	return u
}

// put sends a file, which is what all faults apply to, and gives up after a second.
func put(t *testing.T, url string) (status int, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPut, url, strings.NewReader("0123456789"))
	require.NoError(t, err)
	response, err := (&http.Transport{}).RoundTrip(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	_, err = io.ReadAll(response.Body)
	return response.StatusCode, err
}

func TestProxy_FaultBefallsOneRequestAsItsNameSays(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]struct {
		applied  int32 // when the worker hears of it
		inTheEnd int32
		status   int // 0: no answer
	}{
		"reset-before":    {0, 0, 0},
		"reset-after":     {1, 1, 0},
		"reset-in-body":   {0, 0, 0},
		"502-before":      {0, 0, http.StatusBadGateway},
		"500-after":       {1, 1, http.StatusInternalServerError},
		"429":             {0, 0, http.StatusTooManyRequests},
		"silent-applied":  {1, 1, 0},
		"silent-dropped":  {0, 0, 0},
		"late-after-look": {0, 1, 0},
		"late-at-end":     {0, 1, 0},
		"html-before":     {0, 0, http.StatusOK},
		"html-after":      {1, 1, http.StatusOK},
		"redirect":        {0, 0, http.StatusFound},
		"413":             {0, 0, http.StatusRequestEntityTooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := newUpstream(t)
			p, err := NewProxy(t.Context(), u.URL, Planned{Fault: faultNamed(t, name), Request: "PUT.runs.create.2"})
			require.NoError(t, err)
			t.Cleanup(p.Close)
			for _, status := range []int{http.StatusOK, want.status, http.StatusOK} {
				struck := p.Struck()
				got, err := put(t, p.URI+"/api/2.0/mlflow/runs/create")
				require.Equal(t, status == 0, err != nil, "%v", err)
				require.Equal(t, status, got)
				if p.Struck() && !struck {
					require.Equal(t, 1+want.applied, u.applied.Load(), p.Log())
				}
			}
			p.ReleaseLate()
			require.Equal(t, 2+want.inTheEnd, u.applied.Load(), p.Log())
		})
	}
}

func TestProxy_NamesHaveNoIDs(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]string{
		"/api/2.0/mlflow/runs/create":                                                                   "runs/create",
		"/api/2.0/mlflow/logged-models/m-0123456789abcdef0123456789abcdef":                              "logged-models/ID",
		"/api/2.0/mlflow-artifacts/artifacts/1/models/m-0123456789abcdef0123456789abcdef/artifacts/a/b": "artifacts/a/b",
		"/version": "version",
	} {
		require.Equal(t, want, withoutIDs(path))
	}
}
