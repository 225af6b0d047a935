package mlflow_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"registrar/internal/mlflow"
)

// newClient is a client of a server that answers as handler does.
func newClient(t testing.TB, handler http.HandlerFunc, set ...func(*mlflow.Config)) *mlflow.Client {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return clientOf(t, server.URL, set...)
}

func clientOf(t testing.TB, trackingURI string, set ...func(*mlflow.Config)) *mlflow.Client {
	t.Helper()
	config := mlflow.Config{TrackingURI: trackingURI}
	for _, apply := range set {
		apply(&config)
	}
	client, err := mlflow.New(config)
	require.NoError(t, err)
	t.Cleanup(client.Close)
	return client
}

func createRun(ctx context.Context, client *mlflow.Client) error {
	_, err := client.CreateRun(ctx, mlflow.CreateRunRequest{ExperimentID: "1"})
	return err
}

func TestNew_RefusesWhatLeadsToNoServer(t *testing.T) {
	for uri, advice := range map[string]string{
		"":                             "start `mlflow server`",
		"file:///srv/mlruns":           "start `mlflow server`",
		"sqlite:///secret.db":          "start `mlflow server`",
		"databricks":                   "start `mlflow server`",
		"http://":                      "names no host",
		"http://host?token=secret":     "query or fragment",
		"http://ada:secret@host:5000":  "MLFLOW_TRACKING_USERNAME",
		"http://ada:secret@host:port/": "not a URL",
		"ada:secret@host:5000":         "***@host:5000: it has no http:// before it",
		"secret@host":                  "***@host: ",
		"http:/ada:secret@host":        "***@host: it names no host",
	} {
		_, err := mlflow.New(mlflow.Config{TrackingURI: uri})
		require.ErrorContains(t, err, advice, uri)
		require.NotContains(t, err.Error(), "secret:", uri)
		require.NotContains(t, err.Error(), "secret@", uri)
		require.NotContains(t, err.Error(), "token", uri)
	}
}

func TestCredentials_AreNeverShown(t *testing.T) {
	for _, credentials := range []mlflow.Credentials{{Token: "secret"}, {Username: "ada", Password: "secret"}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
			require.NotContains(t, fmt.Sprintf(verb, credentials), "secret")
			require.NotContains(t, fmt.Sprintf(verb, struct{ C mlflow.Credentials }{credentials}), "secret")
		}
	}
}

func TestAPIError_HidesTheCredentialsThatTheAnswerQuotes(t *testing.T) {
	const secret = `s3c&ret "9d2e/+`
	for name, credentials := range map[string]mlflow.Credentials{
		"token": {Token: secret}, "password": {Username: "ada", Password: secret},
	} {
		for kind, write := range map[string]func(http.ResponseWriter, string){
			"JSON": func(w http.ResponseWriter, said string) {
				_ = json.NewEncoder(w).Encode(map[string]string{"error_code": "INTERNAL_ERROR", "message": said})
			},
			"text": func(w http.ResponseWriter, said string) { _, _ = io.WriteString(w, said) },
			"title of HTML": func(w http.ResponseWriter, said string) {
				_, _ = fmt.Fprintf(w, "<html><title>%s</title></html>", html.EscapeString(said))
			},
			"URL": func(w http.ResponseWriter, said string) {
				_, _ = fmt.Fprintf(w, "bad request /?auth=%s", url.QueryEscape(said))
			},
		} {
			client := newClient(t, func(w http.ResponseWriter, r *http.Request) {
				_, password, _ := r.BasicAuth()
				w.WriteHeader(http.StatusInternalServerError)
				write(w, "request had Authorization: "+r.Header.Get("Authorization")+" and "+password)
			}, func(config *mlflow.Config) {
				config.Credentials = func() (mlflow.Credentials, error) { return credentials, nil }
			})
			err := createRun(t.Context(), client)
			require.ErrorContains(t, err, "***", "%s in %s", name, kind)
			for _, form := range []string{secret, html.EscapeString(secret), url.QueryEscape(secret), base64.StdEncoding.EncodeToString([]byte("ada:" + secret))} {
				require.NotContains(t, err.Error(), form, "%s in %s", name, kind)
			}
		}
	}
}

func TestClient_ReadsCredentialsForEachRequest(t *testing.T) {
	var sent []string
	given := []mlflow.Credentials{
		{Token: "first"}, {Token: "second", Username: "ada"}, {Username: "ada", Password: "pw"}, {},
	}
	client := newClient(t, func(_ http.ResponseWriter, r *http.Request) {
		sent = append(sent, r.Header.Get("Authorization"))
	}, func(config *mlflow.Config) {
		config.Credentials = func() (mlflow.Credentials, error) {
			next := given[0]
			given = given[1:]
			return next, nil
		}
	})
	for range 4 {
		_, err := client.Version(t.Context())
		require.NoError(t, err)
	}
	require.Equal(t, []string{"Bearer first", "Bearer second", "Basic YWRhOnB3", ""}, sent)
}

func TestClient_SendsNothingWithoutReadableCredentials(t *testing.T) {
	missing := errors.New("no such file")
	client := newClient(t, func(http.ResponseWriter, *http.Request) { t.Error("a request was sent") },
		func(config *mlflow.Config) {
			config.Credentials = func() (mlflow.Credentials, error) { return mlflow.Credentials{}, missing }
		})
	err := createRun(t.Context(), client)
	require.ErrorIs(t, err, missing)
	requireTransport(t, err, mlflow.LayerAuth, false)
}

func TestClient_SendsMLflowsHeaders(t *testing.T) {
	var header http.Header
	var path string
	client := newClient(t, func(w http.ResponseWriter, r *http.Request) {
		header, path = r.Header, r.URL.Path
		_, _ = io.WriteString(w, "{}")
	}, func(config *mlflow.Config) {
		config.TrackingURI += "/prefix/"
		config.Workspace, config.UserAgent = "team", "registrar/1"
	})
	require.NoError(t, createRun(t.Context(), client))
	require.Equal(t, "/prefix/api/2.0/mlflow/runs/create", path)
	require.Equal(t, "team", header.Get("X-MLFLOW-WORKSPACE"))
	require.Equal(t, "registrar/1", header.Get("User-Agent"))
	require.Equal(t, "application/json", header.Get("Content-Type"))
	require.NotContains(t, header, "Origin")
}

func TestClient_FollowsNoRedirect(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the redirect was followed") }))
	defer elsewhere.Close()
	for status, open := range map[int]bool{301: true, 302: true, 303: true, 307: false, 308: false} {
		client := newClient(t, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, elsewhere.URL+"/login?token=secret", status)
		})
		_, getErr := client.Version(t.Context())
		postErr := createRun(t.Context(), client)
		for _, err := range []error{getErr, postErr} {
			var answer *mlflow.APIError
			require.ErrorAs(t, err, &answer)
			require.Equal(t, status, answer.Status)
			require.ErrorContains(t, err, "redirected to "+elsewhere.URL)
			require.NotContains(t, err.Error(), "secret")
		}
		require.Equal(t, open, mlflow.OutcomeOpen(postErr), status)
	}
}

func TestClient_CreatesOnAConnectionOfItsOwn(t *testing.T) {
	var creates atomic.Int32
	var pooled string
	client := newClient(t, func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/version" {
			pooled = r.RemoteAddr
			return
		}
		creates.Add(1)
		assert.NotEqual(t, pooled, r.RemoteAddr)
		assert.True(t, r.Close, "the connection is not to be used again")
		panic(http.ErrAbortHandler)
	})
	for range 2 {
		_, err := client.Version(t.Context())
		require.NoError(t, err)
	}
	err := createRun(t.Context(), client)
	requireTransport(t, err, mlflow.LayerHTTP, true)
	require.True(t, mlflow.OutcomeOpen(err))
	require.EqualValues(t, 1, creates.Load(), "sent once, though the connection died")
}

func TestClient_ReusesConnections(t *testing.T) {
	addresses := map[string]bool{}
	client := newClient(t, func(w http.ResponseWriter, r *http.Request) {
		addresses[r.RemoteAddr] = true
		_, _ = io.WriteString(w, "{}")
	})
	for range 3 {
		require.NoError(t, client.LogParam(t.Context(), "run", "key", "value"))
		_, err := client.GetRun(t.Context(), "run")
		require.NoError(t, err)
	}
	require.Len(t, addresses, 1)
}

func TestClient_BoundsWhatItReads(t *testing.T) {
	client := newClient(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.Copy(w, endless{}) // until the client has had enough
	})
	_, err := client.GetRun(t.Context(), "run")
	require.ErrorIs(t, err, mlflow.ErrUnreadableAnswer)
	require.ErrorContains(t, err, "more than 16777216 bytes")
	require.True(t, mlflow.OutcomeOpen(createRun(t.Context(), client)), "a success that cannot be read is open")
}

// endless is spaces without end.
type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

func TestClient_SaysWhereTheAnswerIsNotMLflows(t *testing.T) {
	client := newClient(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>Welcome</html>") })
	err := createRun(t.Context(), client)
	require.ErrorIs(t, err, mlflow.ErrUnreadableAnswer)
	require.ErrorContains(t, err, "an MLflow server?")
	requireTransport(t, err, mlflow.LayerHTTP, true)
}

func TestAPIError_IsOneShortLine(t *testing.T) {
	for body, message := range map[string]string{
		`{"error_code": "BAD_REQUEST", "message": "two\nlines\u0007"}`:                  "400 BAD_REQUEST: two lines",
		"<!DOCTYPE html><html><head><title>Bad\n Gateway</title></head><p>nginx</html>": "400 Bad Request: Bad Gateway",
		"<html><body>" + strings.Repeat("x", 9000):                                      "400 Bad Request",
		"Permission denied": "400 Bad Request: Permission denied",
		"":                  "400 Bad Request",
		`{"error_code": "BAD_REQUEST", "message": "` + strings.Repeat("é", 100_000) + `"`: "400 Bad Request: {\"error_code\"",
	} {
		client := newClient(t, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, body)
		})
		err := createRun(t.Context(), client)
		require.ErrorContains(t, err, "/api/2.0/mlflow/runs/create: "+message)
		require.NotContains(t, err.Error(), "\n")
		require.Less(t, len(err.Error()), 1200)
	}
}

func TestAPIError_KnowsRetryAfter(t *testing.T) {
	for header, want := range map[string]time.Duration{
		"": 0, "20": 20 * time.Second, "-1": 0, "soon": 0, "Mon, 02 Jan 2006 15:04:05 GMT": 0,
		time.Now().Add(time.Hour).UTC().Format(http.TimeFormat): time.Hour,
	} {
		client := newClient(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", header)
			w.WriteHeader(http.StatusServiceUnavailable)
		})
		var answer *mlflow.APIError
		require.ErrorAs(t, createRun(t.Context(), client), &answer)
		require.InDelta(t, want, answer.RetryAfter, float64(2*time.Second), header)
	}
}

func TestOutcomeOpen_IsFalseOnlyWithProof(t *testing.T) {
	require.False(t, mlflow.OutcomeOpen(nil))
	require.True(t, mlflow.OutcomeOpen(errors.New("from elsewhere")))
	require.True(t, mlflow.OutcomeOpen(fmt.Errorf("wrapped: %w", &mlflow.TransportError{Sent: true})))
	require.False(t, mlflow.OutcomeOpen(fmt.Errorf("wrapped: %w", &mlflow.TransportError{})))
	for status, open := range map[int]bool{
		400: false, 401: false, 403: false, 404: false, 408: true, 409: false, 413: false, 429: false,
		500: true, 501: true, 502: true, 503: true, 504: true,
	} {
		require.Equal(t, open, mlflow.OutcomeOpen(fmt.Errorf("wrapped: %w", &mlflow.APIError{Status: status})), status)
	}
}

func TestSearch_FollowsPages(t *testing.T) {
	var tokens []string
	client := newClient(t, func(w http.ResponseWriter, r *http.Request) {
		var request struct {
			PageToken string `json:"page_token"`
		}
		assert.NoError(t, json.NewDecoder(r.Body).Decode(&request))
		tokens = append(tokens, request.PageToken)
		next := map[string]string{"": "a", "a": "b"}[request.PageToken]
		fmt.Fprintf(w, `{"runs": [{"info": {"run_id": "after %s"}}], "next_page_token": %q}`, request.PageToken, next)
	})
	runs, err := client.SearchAllRuns(t.Context(), []string{"1"}, "")
	require.NoError(t, err)
	require.Len(t, runs, 3)
	require.Equal(t, []string{"", "a", "b"}, tokens)
}

func TestMetric_IsWrittenAsMLflowReadsIt(t *testing.T) {
	for value, want := range map[float64]string{
		0.83: "0.83", math.Inf(1): `"Infinity"`, math.Inf(-1): `"-Infinity"`, math.MaxFloat64: "1.7976931348623157e+308",
	} {
		text, err := json.Marshal(mlflow.Metric{Key: "m", Value: value, Timestamp: 17})
		require.NoError(t, err)
		require.JSONEq(t, `{"key": "m", "value": `+want+`, "timestamp": 17, "step": 0}`, string(text))
	}
	text, err := json.Marshal(mlflow.Metric{Key: "m", Value: math.NaN(), ModelID: "m-1"})
	require.NoError(t, err)
	require.JSONEq(t, `{"key": "m", "value": "NaN", "timestamp": 0, "step": 0, "model_id": "m-1"}`, string(text))
}

func TestReplies_MayWriteNumbersAsStrings(t *testing.T) {
	client := newClient(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"run": {"info": {"run_id": "r", "start_time": "17", "end_time": null},
			"data": {"metrics": [{"key": "m", "value": "0.5", "timestamp": "18", "step": 2}]}}}`)
	})
	run, err := client.GetRun(t.Context(), "r")
	require.NoError(t, err)
	require.Equal(t, mlflow.RunInfo{RunID: "r", StartTime: 17}, run.Info)
	require.Equal(t, []mlflow.Metric{{Key: "m", Value: 0.5, Timestamp: 18, Step: 2}}, run.Data.Metrics)
}

func TestFilter_IsAlwaysWellFormed(t *testing.T) {
	filter, err := mlflow.Filter(mlflow.AttributeIs("name", "my model"), mlflow.TagIs("registrar.key", "ab/c:1"))
	require.NoError(t, err)
	require.Equal(t, "name = 'my model' AND tags.`registrar.key` = 'ab/c:1'", filter)
	filter, err = mlflow.Filter()
	require.NoError(t, err)
	require.Empty(t, filter)
	for _, condition := range []mlflow.Condition{
		mlflow.TagIs("key", "it's"), mlflow.TagIs("key", `a"b`), mlflow.TagIs("key", "a\nb"), mlflow.TagIs("key", `a\`),
		mlflow.TagIs("k`y", "a"), mlflow.TagIs("", "a"), mlflow.AttributeIs("name = 'x' OR name", "a"),
	} {
		_, err := mlflow.Filter(mlflow.AttributeIs("name", "a"), condition)
		require.ErrorContains(t, err, "filter on")
	}
}

// requireTransport wants a TransportError of this layer, with or without the proof that nothing was sent.
func requireTransport(t *testing.T, err error, layer mlflow.Layer, sent bool) {
	t.Helper()
	var transport *mlflow.TransportError
	require.ErrorAs(t, err, &transport)
	require.Equal(t, layer, transport.Layer, err)
	require.Equal(t, sent, transport.Sent, err)
	require.Equal(t, sent, mlflow.OutcomeOpen(err))
}
