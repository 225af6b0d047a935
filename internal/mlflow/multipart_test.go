package mlflow

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestUploadPart_GivesTheStoreTheBytesAndNothingElse(t *testing.T) {
	var seen *http.Request
	var body []byte
	store := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen = r
		body, _ = io.ReadAll(r.Body)
		w.Header().Set("ETag", `"abc"`)
	}))
	defer store.Close()
	client, err := New(Config{
		TrackingURI: "http://mlflow.invalid", Workspace: "team",
		Credentials: func() (Credentials, error) { return Credentials{Token: "secret"}, nil },
	})
	require.NoError(t, err)

	part, err := client.UploadPart(t.Context(), PartTarget{URL: store.URL + "/bucket/model.pkl?partNumber=2&X-Amz-Signature=s", Number: 2}, 5, strings.NewReader("bytes"))

	require.NoError(t, err)
	require.Equal(t, Part{Number: 2, ETag: `"abc"`}, part)
	require.Equal(t, "bytes", string(body))
	require.Equal(t, "2", seen.URL.Query().Get("partNumber"))
	require.Empty(t, seen.Header.Get("Authorization"))
	require.Empty(t, seen.Header.Get("X-Mlflow-Workspace"))
	require.Empty(t, seen.TransferEncoding)
}

func TestUploadPart_ShowsNoAddressAndNoAnswerThatQuotesIt(t *testing.T) {
	for name, serve := range map[string]http.HandlerFunc{
		"refused": func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusForbidden)
			_, _ = io.WriteString(w, "<Error><Code>AccessDenied</Code><StringToSign>"+r.URL.RawQuery+"</StringToSign></Error>")
		},
		"cut": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"redirected": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://elsewhere.invalid/?"+r.URL.RawQuery, http.StatusTemporaryRedirect)
		},
	} {
		t.Run(name, func(t *testing.T) {
			store := httptest.NewServer(serve)
			defer store.Close()
			client, err := New(Config{TrackingURI: "http://mlflow.invalid"})
			require.NoError(t, err)

			_, err = client.UploadPart(t.Context(), PartTarget{URL: store.URL + "/m?X-Amz-Signature=secret", Number: 1}, 5, strings.NewReader("bytes"))

			require.Error(t, err)
			require.NotContains(t, err.Error(), "secret")
			require.Contains(t, err.Error(), "/m")
		})
	}
}

func TestUploadPart_IsObservedWithoutItsAddressAndNotTracedIntoTheStore(t *testing.T) {
	const etag, refused = "/tagged", "/refused"
	store := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if r.Header.Get("Traceparent") != "" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		switch r.URL.Path {
		case etag:
			w.Header().Set("ETag", `"abc"`)
		case refused:
			w.WriteHeader(http.StatusForbidden)
		}
	}))
	defer store.Close()
	for path, want := range map[string]struct {
		status int
		fails  bool
	}{
		etag: {http.StatusOK, false}, refused: {http.StatusForbidden, true}, "/untagged": {http.StatusOK, true},
	} {
		t.Run(path, func(t *testing.T) {
			var began []Exchange
			ended := 0
			client, err := New(Config{
				TrackingURI: "http://mlflow.invalid",
				Observer: func(_ context.Context, e Exchange, header http.Header) func(int, error) {
					began = append(began, e)
					header.Set("Traceparent", "00-1-1-01")
					return func(status int, err error) {
						ended++
						require.Equal(t, want.status, status)
						require.Equal(t, want.fails, err != nil)
						if err != nil {
							require.NotContains(t, err.Error(), "secret")
						}
					}
				},
			})
			require.NoError(t, err)

			address := strings.Replace(store.URL, "//", "//user:secret@", 1) + path + "?X-Amz-Signature=secret"
			_, err = client.UploadPart(t.Context(), PartTarget{URL: address, Number: 1}, 5, strings.NewReader("bytes"))

			require.Equal(t, want.fails, err != nil)
			require.Equal(t, []Exchange{{Method: http.MethodPut, Endpoint: EndpointPart, URL: store.URL + path, SizeBytes: 5, Upload: true}}, began)
			require.Equal(t, 1, ended)
		})
	}
}

func TestUploadPart_RefusesAnAddressThatIsNone(t *testing.T) {
	for tracking, target := range map[string]string{
		"https://mlflow.invalid":      "http://store.invalid/m?sig=secret", // the model would travel in the clear
		"http://mlflow.invalid":       "file:///etc/passwd",
		"http://mlflow.invalid/":      "",
		"http://mlflow.invalid/three": "http://store.invalid/%zz?sig=secret",
	} {
		client, err := New(Config{TrackingURI: tracking})
		require.NoError(t, err)
		_, err = client.UploadPart(context.Background(), PartTarget{URL: target, Number: 1}, 5, strings.NewReader("bytes"))
		require.ErrorIs(t, err, ErrPartTarget, target)
		require.NotContains(t, err.Error(), "secret")
	}
}
