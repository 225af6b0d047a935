package activities

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/temporal"

	"registrar/internal/failure"
	"registrar/internal/mlflow"
	"registrar/internal/mlflow/mlflowtest"
)

// answering is a store that answers every part so.
func answering(t *testing.T, status int, body string) string {
	store := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Location", "http://elsewhere.invalid/")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}))
	t.Cleanup(store.Close)
	return store.URL
}

// kindOfFailure is the failure that an activity ended with.
func kindOfFailure(t *testing.T, err error) string {
	t.Helper()
	var application *temporal.ApplicationError
	require.ErrorAs(t, err, &application)
	return application.Type()
}

func TestUploadModel_SendsTheFileWholeWhereNoPartsAreBegun(t *testing.T) {
	const create, info, list = "/mpu/create/", "/server-info", "/mlflow-artifacts/artifacts"
	for name, c := range map[string]struct {
		at    string
		fault mlflowtest.Fault
		kind  string // of the failure; empty: the file is sent whole
	}{
		"an upload without addresses":             {create, mlflowtest.Fault{Status: 200, Body: `{"upload_id": "u", "credentials": []}`}, ""},
		"a library that lacks it":                 {create, mlflowtest.Fault{Status: 501, Body: `{"error_code": "NOT_IMPLEMENTED", "message": "no"}`}, ""},
		"Azure names no upload":                   {create, mlflowtest.Fault{Status: 200, Body: `{"upload_id": null, "credentials": [{"url": "http://store/", "part_number": 1}]}`}, ""},
		"a permission":                            {create, mlflowtest.Fault{Status: 403}, ""},
		"a gateway that has none":                 {create, mlflowtest.Fault{Status: 404}, ""},
		"a bucket's rule, or a moment's weakness": {create, mlflowtest.Fault{Status: 500}, failure.Outage},
		"the store is down":                       {"", mlflowtest.Fault{Status: 500}, failure.Outage},
		"the login expired":                       {create, mlflowtest.Fault{Status: 401}, failure.Unauthorized},
		"a proxy is busy":                         {create, mlflowtest.Fault{Status: 429}, failure.Outage},
		"a gateway has no MLflow":                 {create, mlflowtest.Fault{Status: 503}, failure.Outage},
		"nobody may ask":                          {info, mlflowtest.Fault{Status: 403}, ""},
		"nobody is asked so":                      {info, mlflowtest.Fault{Status: 405}, ""},
		"a web page":                              {info, mlflowtest.Fault{Status: 200, Body: "<html>welcome</html>"}, ""},
		"MLflow is down":                          {info, mlflowtest.Fault{Status: 503}, failure.Outage},
	} {
		t.Run(name, func(t *testing.T) {
			p := newProject(t)
			in := p.upload()
			in.First = true
			p.offerPartsAt(newStore(t).URL, func(r *http.Request) mlflowtest.Fault {
				isCreate, isList := strings.Contains(r.URL.Path, create), r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, list)
				if c.at != "" && strings.Contains(r.URL.Path, c.at) || c.at == "" && (isCreate || isList) {
					return c.fault
				}
				return mlflowtest.Fault{}
			})
			p.modelInParts()

			_, err := execute[UploadModelResult](p, p.UploadModel, in)

			require.Nil(t, p.parts(in))
			require.Equal(t, strings.Contains(c.fault.Body, `"u"`), p.aborts() > 0, "what has an id was begun")
			if c.kind != "" {
				require.Equal(t, c.kind, kindOfFailure(t, err))
				return
			}
			require.NoError(t, err)
			require.Equal(t, mlflow.LoggedModelReady, p.server.LoggedModels()[0].Info.Status)
		})
	}
}

func TestUploadModel_BeginsAnewWhereTheStoreRefusesAPart(t *testing.T) {
	for name, c := range map[string]struct {
		status int
		code   string
		kept   bool // what was sent before
	}{
		"an address of S3 expired":           {403, "AccessDenied", false},
		"the key that signed it expired":     {400, "ExpiredToken", false},
		"a login that the address stands in": {401, "", false},
		"somebody aborted the upload":        {404, "NoSuchUpload", false},
		"a proxy that wants a length":        {411, "", false},
		"a proxy that takes less":            {413, "", false},
		"moved":                              {301, "PermanentRedirect", false},
		"moved for a while":                  {307, "TemporaryRedirect", false},
		"the part came too slowly":           {400, "RequestTimeout", true},
		"asked too often":                    {429, "", true},
		"slow down":                          {503, "SlowDown", true},
	} {
		t.Run(name, func(t *testing.T) {
			p := newProject(t)
			in := p.upload()
			store := answering(t, c.status, "<Error><Code>"+c.code+"</Code></Error>")
			p.offerPartsAt(store, nothingElse)
			p.modelInParts()
			p.halfSent(in, store)

			_, err := execute[UploadModelResult](p, p.UploadModel, in)

			require.Equal(t, failure.Outage, kindOfFailure(t, err))
			left := p.parts(in)
			require.Equal(t, c.kept, left.Upload.UploadID != "")
			require.Equal(t, !c.kept, left.Refusals == 1)
			require.Equal(t, !c.kept, p.aborts() == 1)
		})
	}
}

func TestUploadModel_SendsTheFileWholeWhereABucketsRuleTakesNoParts(t *testing.T) {
	p := newProject(t)
	in := p.upload()
	p.offerPartsAt(newStore(t).URL, func(r *http.Request) mlflowtest.Fault {
		if strings.Contains(r.URL.Path, "/mpu/create/") {
			return mlflowtest.Fault{Status: http.StatusInternalServerError}
		}
		return mlflowtest.Fault{}
	})
	p.modelInParts()

	_, err := tryOften[UploadModelResult](p, 2, p.UploadModel, in)

	require.NoError(t, err)
	require.Equal(t, 2, p.creates())
}

// A proxy that takes less than a file at once is why there are parts.
func TestUploadModel_TriesPartsAgainWhereTheWholeFileIsRefused(t *testing.T) {
	closed := httptest.NewServer(nil)
	closed.Close()
	for name, c := range map[string]struct {
		create mlflowtest.Fault
		kind   string
	}{
		"the store was away for a moment": {mlflowtest.Fault{}, failure.Outage},
		"it takes no parts":               {mlflowtest.Fault{Status: http.StatusNotImplemented}, failure.Refused},
	} {
		t.Run(name, func(t *testing.T) {
			p := newProject(t)
			in := p.upload()
			p.offerPartsAt(closed.URL, func(r *http.Request) mlflowtest.Fault {
				switch {
				case strings.Contains(r.URL.Path, "/mpu/create/"):
					return c.create
				case r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, "/model.pkl"):
					return mlflowtest.Fault{Status: http.StatusRequestEntityTooLarge}
				}
				return mlflowtest.Fault{}
			})
			p.modelInParts()

			_, err := execute[UploadModelResult](p, p.UploadModel, in)

			require.Equal(t, c.kind, kindOfFailure(t, err))
			require.ErrorContains(t, err, "413")
		})
	}
}

// A store may answer and close while the part is still being sent, which loses its answer.
func TestUploadModel_TakesWhateverComesForARefusalOnceTheAddressesAreOld(t *testing.T) {
	cutting := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	t.Cleanup(cutting.Close)
	busy := answering(t, http.StatusBadGateway, "")
	for name, c := range map[string]struct {
		store string
		begun time.Time
		kept  bool
	}{
		"a cut, young":             {cutting.URL, time.Now().Add(-addressesHold / 2), true},
		"a cut, old":               {cutting.URL, time.Now().Add(-2 * addressesHold), false},
		"a cut, nobody knows when": {cutting.URL, time.Time{}, true},
		"a busy proxy, young":      {busy, time.Now().Add(-addressesHold / 2), true},
		"a busy proxy, old":        {busy, time.Now().Add(-2 * addressesHold), false},
	} {
		t.Run(name, func(t *testing.T) {
			p := newProject(t)
			in := p.upload()
			p.offerPartsAt(c.store, nothingElse)
			p.modelInParts()
			left, _ := p.halfSent(in, c.store)
			left.BegunAt = c.begun
			p.remember(in, left)

			_, err := execute[UploadModelResult](p, p.UploadModel, in)

			require.Equal(t, failure.Outage, kindOfFailure(t, err))
			require.Equal(t, c.kept, p.parts(in).Upload.UploadID != "")
		})
	}
}

func TestUploadModel_SendsAPartAgainAsLongAsOthersGetThrough(t *testing.T) {
	for name, c := range map[string]struct {
		cuts int32 // of the second part
		sent bool
	}{"cut once": {1, true}, "cut again and again": {9, false}} {
		t.Run(name, func(t *testing.T) {
			p := newProject(t)
			in := p.upload()
			var parts atomic.Int32
			store := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				if n := parts.Add(1); n > 1 && n <= 1+c.cuts {
					w.WriteHeader(http.StatusServiceUnavailable)
				}
				w.Header().Set("ETag", "e")
			}))
			t.Cleanup(store.Close)
			under, model := p.halfSent(in, store.URL)
			under.Done, under.SHA256 = nil, ""
			folder, err := p.folder(in.Project)
			require.NoError(t, err)
			defer folder.Close()
			u := &upload{in: in, client: p.client(), folder: folder}

			err = u.sendParts(t.Context(), under, model)

			if c.sent {
				require.NoError(t, err)
				require.EqualValues(t, 3, parts.Load(), "the first part is not sent again")
				require.Equal(t, under.SizeBytes, u.done.Load())
				return
			}
			require.Error(t, err)
			require.EqualValues(t, 3, parts.Load(), "nothing gets through any more")
		})
	}
}

func TestUploadModel_CompletesWhereTheAnswerIsLost(t *testing.T) {
	p := newProject(t)
	in := p.upload()
	in.First = true
	p.offerPartsAt(newStore(t).URL, func(r *http.Request) mlflowtest.Fault {
		if !strings.Contains(r.URL.Path, "/mpu/complete/") {
			return mlflowtest.Fault{}
		}
		p.stores(in)
		return mlflowtest.Fault{Drop: true}
	})
	p.modelInParts()

	_, err := execute[UploadModelResult](p, p.UploadModel, in)

	require.NoError(t, err)
	require.Equal(t, 1, p.creates())
	require.Zero(t, p.aborts())
	require.Nil(t, p.parts(in))
}

// stores lets MLflow have the model's file, as after parts that were completed. What is in it nobody looks at.
func (p *project) stores(in UploadModelInput) {
	model := p.server.LoggedModels()[0]
	size := p.packed(in, model).SizeBytes
	if err := p.client().UploadArtifact(context.Background(), model.Info.ArtifactURI, "model.pkl", size, bytes.NewReader(make([]byte, size))); err != nil {
		p.t.Errorf("store the model: %v", err)
	}
}

func TestUploadModel_SendsNoFileAgainThatAnEarlierAttemptCompleted(t *testing.T) {
	p := newProject(t)
	in := p.upload()
	p.offerPartsAt(newStore(t).URL, nothingElse)
	p.modelInParts()
	left, _ := p.halfSent(in, "http://store.invalid")
	left.PartBytes = 0 // so that it does not fit, as with another version of the worker
	p.remember(in, left)
	p.stores(in)

	_, err := execute[UploadModelResult](p, p.UploadModel, in)

	require.NoError(t, err)
	require.Zero(t, p.creates())
	require.Equal(t, 1, p.aborts(), "what was under way is of no use any more")
	require.Nil(t, p.parts(in))
}

func TestUploadModel_BeginsAnewWhereMLflowFailsToCompleteAgain(t *testing.T) {
	p := newProject(t)
	in := p.upload()
	var broken atomic.Bool
	broken.Store(true)
	p.offerPartsAt(newStore(t).URL, func(r *http.Request) mlflowtest.Fault {
		switch {
		case strings.Contains(r.URL.Path, "/mpu/complete/") && broken.Load():
			return mlflowtest.Fault{Status: http.StatusInternalServerError}
		case strings.Contains(r.URL.Path, "/mpu/complete/"):
			p.stores(in)
			return mlflowtest.Fault{Status: http.StatusOK, Body: "{}"}
		}
		return mlflowtest.Fault{}
	})
	p.modelInParts()

	for attempt, want := range []partsUnderWay{{Incomplete: true}, {Refusals: 1}} {
		_, err := execute[UploadModelResult](p, p.UploadModel, in)
		require.Equal(t, failure.Outage, kindOfFailure(t, err))
		left := p.parts(in)
		require.Equal(t, want, partsUnderWay{Incomplete: left.Incomplete, Refusals: left.Refusals})
		require.Equal(t, attempt, p.aborts())
		require.Equal(t, 1, p.creates())
	}
	broken.Store(false)
	_, err := execute[UploadModelResult](p, p.UploadModel, in)
	require.NoError(t, err)
	require.Equal(t, 2, p.creates())
	require.Nil(t, p.parts(in))
}

func TestUploadModel_SendsTheFileWholeWhereNothingLetsItComplete(t *testing.T) {
	for _, status := range []int{http.StatusBadRequest, http.StatusForbidden, http.StatusRequestEntityTooLarge} {
		t.Run(strconv.Itoa(status), func(t *testing.T) {
			p := newProject(t)
			in := p.upload()
			p.offerPartsAt(newStore(t).URL, func(r *http.Request) mlflowtest.Fault {
				if strings.Contains(r.URL.Path, "/mpu/complete/") {
					return mlflowtest.Fault{Status: status}
				}
				return mlflowtest.Fault{}
			})
			p.modelInParts()

			_, err := execute[UploadModelResult](p, p.UploadModel, in)

			require.NoError(t, err)
			require.Equal(t, 1, p.aborts())
			require.Nil(t, p.parts(in))
		})
	}
}

func TestUploadModel_AbortsThePartsOfAnotherWorkerWhereItSendsTheFileWhole(t *testing.T) {
	p := newProject(t)
	in := p.upload()
	p.offerPartsAt(newStore(t).URL, nothingElse)
	p.halfSent(in, "http://store.invalid")
	p.PartBytes = 0

	_, err := execute[UploadModelResult](p, p.UploadModel, in)

	require.NoError(t, err)
	require.Equal(t, 1, p.aborts())
	require.Nil(t, p.parts(in))
}

func TestGiveUpParts_LeavesWhatAnotherAttemptBeganSince(t *testing.T) {
	p := newProject(t)
	in := p.upload()
	p.offerPartsAt("http://store.invalid", nothingElse)
	held, _ := p.halfSent(in, "http://store.invalid")
	later := *held
	later.Upload.UploadID = "later"
	p.remember(in, &later)
	folder, err := p.folder(in.Project)
	require.NoError(t, err)
	defer folder.Close()

	require.NoError(t, (&upload{in: in, client: p.client(), folder: folder}).giveUpParts(t.Context(), held))

	require.Equal(t, 1, p.aborts(), "its own")
	require.Equal(t, "later", p.parts(in).Upload.UploadID)
}
