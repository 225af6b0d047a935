package activities

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"

	"registrar/internal/failure"
	"registrar/internal/mlflow"
	"registrar/internal/mlflow/mlflowtest"
	"registrar/internal/mlmodel"
)

// inParts lets the server offer that files are uploaded in parts. The part that comes is held up until the test ends, and reached is called.
func (p *project) inParts(reached func()) {
	held := make(chan struct{})
	p.t.Cleanup(func() { close(held) })
	once := sync.OnceFunc(reached)
	p.offerParts(func(r *http.Request) mlflowtest.Fault {
		if r.URL.Path != partPath {
			return mlflowtest.Fault{}
		}
		once()
		return mlflowtest.Fault{Hang: held}
	})
}

const partPath = "/store/1"

// offerParts lets the server offer that files are uploaded in parts, of one part each, which goes to partPath; decide is asked about each request first.
func (p *project) offerParts(decide func(*http.Request) mlflowtest.Fault) {
	p.offerPartsAt(p.server.URL, decide)
}

// offerPartsAt offers the same of a store elsewhere.
func (p *project) offerPartsAt(store string, decide func(*http.Request) mlflowtest.Fault) {
	host, err := url.Parse(p.server.URL)
	require.NoError(p.t, err)
	p.TrustedHosts, p.PartBytes = []string{host.Host}, 1
	upload, err := json.Marshal(mlflow.MultipartUpload{UploadID: "u", Targets: []mlflow.PartTarget{{URL: store + partPath, Number: 1}}})
	require.NoError(p.t, err)
	p.server.Intercept(func(r *http.Request) mlflowtest.Fault {
		if fault := decide(r); fault != (mlflowtest.Fault{}) {
			return fault
		}
		switch {
		case strings.HasSuffix(r.URL.Path, "/server-info"):
			return mlflowtest.Fault{Status: http.StatusOK, Body: `{"multipart_uploads_enabled": true}`}
		case strings.Contains(r.URL.Path, "/mpu/create/"):
			return mlflowtest.Fault{Status: http.StatusOK, Body: string(upload)}
		case strings.Contains(r.URL.Path, "/mpu/abort/"):
			return mlflowtest.Fault{Status: http.StatusOK, Body: "{}"}
		}
		return mlflowtest.Fault{}
	})
}

// nothingElse is for a server and a store that do as they should.
func nothingElse(*http.Request) mlflowtest.Fault { return mlflowtest.Fault{} }

// modelInParts lets the model alone be large enough for parts.
func (p *project) modelInParts() { p.PartBytes = p.frozen.Request.Model.SizeBytes / 2 }

// halfSent is what an attempt leaves of the model's upload to a new logged model that has one part of two, and where the second one goes.
func (p *project) halfSent(in UploadModelInput, second string) (*partsUnderWay, mlmodel.File) {
	p.t.Helper()
	model, err := p.client().CreateLoggedModel(p.t.Context(), mlflow.CreateLoggedModelRequest{
		ExperimentID: "0", Name: "model", SourceRunID: in.Run.RunID, Tags: ownerTags(in.Owner),
	})
	require.NoError(p.t, err)
	packed := p.packed(in, model)
	body, err := packed.Open()
	require.NoError(p.t, err)
	defer body.Close()
	half := (packed.SizeBytes + 1) / 2
	digest := sha256.New()
	_, err = io.CopyN(digest, body, half)
	require.NoError(p.t, err)
	left := &partsUnderWay{
		ArtifactURI: model.Info.ArtifactURI, File: packed.Path, SizeBytes: packed.SizeBytes, PartBytes: half, RunID: in.Run.RunID, BegunAt: time.Now(),
		Upload: mlflow.MultipartUpload{UploadID: "u", Targets: []mlflow.PartTarget{{Number: 1, URL: second}, {Number: 2, URL: second}}},
		Done:   []mlflow.Part{{Number: 1, ETag: "e"}}, SHA256: sumOf(digest),
	}
	p.remember(in, left)
	return left, packed
}

// packed is the model's file as it goes to a logged model.
func (p *project) packed(in UploadModelInput, model mlflow.LoggedModel) mlmodel.File {
	p.t.Helper()
	folder, err := p.folder(in.Project)
	require.NoError(p.t, err)
	p.t.Cleanup(func() { _ = folder.Close() })
	u := &upload{in: in, folder: folder}
	spec, err := u.spec(target{modelID: model.Info.ModelID, artifactURI: model.Info.ArtifactURI})
	require.NoError(p.t, err)
	files, err := mlmodel.Files(spec)
	require.NoError(p.t, err)
	return files[slices.IndexFunc(files, func(f mlmodel.File) bool { return f.Path == "model.pkl" })]
}

// remember leaves an upload to the next attempt.
func (p *project) remember(in UploadModelInput, left *partsUnderWay) {
	p.t.Helper()
	folder, err := p.folder(in.Project)
	require.NoError(p.t, err)
	defer folder.Close()
	require.NoError(p.t, (&upload{folder: folder}).remember(left))
}

// parts is what an upload left to go on with; nil for nothing.
func (p *project) parts(in UploadModelInput) *partsUnderWay {
	p.t.Helper()
	folder, err := p.folder(in.Project)
	require.NoError(p.t, err)
	defer folder.Close()
	left, err := readParts(folder)
	require.NoError(p.t, err)
	return left
}

// newStore is a store that takes every part.
func newStore(t *testing.T) *httptest.Server {
	store := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // what breaks off is seen by who sends
		w.Header().Set("ETag", "e")
	}))
	t.Cleanup(store.Close)
	return store
}

// aborts counts the requests to abort an upload.
func (p *project) aborts() int { return p.asked("/mpu/abort/") }

// creates counts the requests to begin one.
func (p *project) creates() int { return p.asked("/mpu/create/") }

func (p *project) asked(endpoint string) (n int) {
	for _, r := range p.server.Requests() {
		if strings.Contains(r.Path, endpoint) {
			n++
		}
	}
	return n
}

// logTo lets the activities log into a buffer.
func (p *project) logTo(buffer *bytes.Buffer) {
	var suite testsuite.WorkflowTestSuite
	suite.SetLogger(log.NewStructuredLogger(slog.New(slog.NewTextHandler(buffer, nil))))
	p.TestActivityEnvironment = suite.NewTestActivityEnvironment()
	p.RegisterActivity(p.Activities)
}

func TestUploadModel_AbortsItsPartsWhereNobodyGoesOn(t *testing.T) {
	gone := serviceerror.NewNotFound("activity task not found")
	for name, c := range map[string]struct {
		cause   error
		running bool // the execution, when the attempt has ended
		aborts  int
	}{
		"canceled":                          {temporal.NewCanceledError(), true, 1},
		"terminated":                        {gone, false, 1},
		"frozen, and another one goes on":   {gone, true, 0},
		"the worker stops, another goes on": {errWorkerStops, true, 0},
	} {
		t.Run(name, func(t *testing.T) {
			p := newProject(t)
			in := p.upload()
			ctx, cancel := context.WithCancelCause(t.Context())
			p.SetWorkerOptions(worker.Options{BackgroundActivityContext: ctx})
			p.IsRunning = func(context.Context, string, string) (bool, error) { return c.running, nil }
			p.inParts(func() { cancel(c.cause) })

			_, err := execute[UploadModelResult](p, p.UploadModel, in)

			require.Error(t, err)
			require.Equal(t, c.aborts, p.aborts())
			folder, err := p.folder(in.Project)
			require.NoError(t, err)
			defer folder.Close()
			left, err := readParts(folder)
			require.NoError(t, err)
			require.Equal(t, c.aborts == 0, left != nil, "what goes on finds what was sent")
		})
	}
}

func TestUploadModel_BeginsAnewWhereWhatIsRememberedDoesNotFit(t *testing.T) {
	for name, c := range map[string]struct {
		edit    func(*partsUnderWay)
		resumed bool
	}{
		"as it was written":         {func(*partsUnderWay) {}, true},
		"all parts are done":        {func(p *partsUnderWay) { p.Done = append(p.Done, mlflow.Part{Number: 2}, mlflow.Part{Number: 3}) }, true},
		"no addresses":              {func(p *partsUnderWay) { p.Upload.Targets = nil }, false},
		"an address less":           {func(p *partsUnderWay) { p.Upload.Targets = p.Upload.Targets[:2] }, false},
		"more parts than there are": {func(p *partsUnderWay) { p.Done = make([]mlflow.Part, 4) }, false},
		"a part left out":           {func(p *partsUnderWay) { p.Done[0].Number = 2 }, false},
		"smaller parts":             {func(p *partsUnderWay) { p.PartBytes = 1 }, false},
		"parts of nothing":          {func(p *partsUnderWay) { p.PartBytes = 0 }, false},
		"parts of less than that":   {func(p *partsUnderWay) { p.PartBytes = -4 }, false},
		"parts without end":         {func(p *partsUnderWay) { p.PartBytes = math.MaxInt64 }, false},
		"no upload":                 {func(p *partsUnderWay) { p.Upload.UploadID = "" }, false},
		"another file's size":       {func(p *partsUnderWay) { p.SizeBytes = 8 }, false},
		"another file":              {func(p *partsUnderWay) { p.File = "extra/model.pkl" }, false},
		"another logged model":      {func(p *partsUnderWay) { p.ArtifactURI += "-condemned" }, false},
	} {
		t.Run(name, func(t *testing.T) {
			p := newProject(t)
			in := p.upload()
			folder, err := p.folder(in.Project)
			require.NoError(t, err)
			defer folder.Close()
			u := &upload{in: in, client: p.client(), folder: folder}
			left := &partsUnderWay{
				ArtifactURI: in.Run.ArtifactURI, File: "model.pkl", SizeBytes: 10, PartBytes: 4, RunID: in.Run.RunID,
				Upload: mlflow.MultipartUpload{UploadID: "u", Targets: []mlflow.PartTarget{{Number: 1}, {Number: 2}, {Number: 3}}},
				Done:   []mlflow.Part{{Number: 1}},
			}
			c.edit(left)
			require.NoError(t, u.remember(left))

			found, _, err := u.resumedParts(target{artifactURI: in.Run.ArtifactURI}, mlmodel.File{Path: "model.pkl", SizeBytes: 10})

			require.NoError(t, err)
			require.Equal(t, c.resumed, found != nil)
		})
	}
}

func TestUploadModel_SendsTheFileWholeWhereTheStoreRefusesItsPartsAgainAndAgain(t *testing.T) {
	p := newProject(t)
	in := p.upload()
	var logged bytes.Buffer
	p.logTo(&logged)
	var down atomic.Bool
	down.Store(true)
	p.offerParts(func(r *http.Request) mlflowtest.Fault {
		switch {
		case r.URL.Path == partPath:
			return mlflowtest.Fault{Status: http.StatusForbidden, Body: "<Error><Code>AccessDenied</Code></Error>"}
		case r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, "/model.pkl") && down.Load():
			return mlflowtest.Fault{Status: http.StatusBadGateway}
		}
		return mlflowtest.Fault{}
	})
	p.modelInParts()
	attempt := func() (*partsUnderWay, error) {
		_, err := execute[UploadModelResult](p, p.UploadModel, in)
		folder, opened := p.folder(in.Project)
		require.NoError(t, opened)
		defer folder.Close()
		left, unread := readParts(folder)
		require.NoError(t, unread)
		return left, err
	}

	for refusals := 1; refusals <= 3; refusals++ { // the third attempt sends it whole, to a server that is down
		left, err := attempt()
		var application *temporal.ApplicationError
		require.ErrorAs(t, err, &application)
		require.Equal(t, failure.Outage, application.Type())
		require.NotNil(t, left, "another worker shall know")
		require.Equal(t, min(refusals, 2), left.Refusals)
		require.Equal(t, mlflow.MultipartUpload{}, left.Upload, "the addresses are of no use")
		require.Equal(t, min(refusals, 2), p.creates())
		require.Equal(t, min(refusals, 2), p.aborts())
	}
	require.Contains(t, logged.String(), "sent whole")
	require.Contains(t, logged.String(), "model.pkl")
	down.Store(false)
	left, err := attempt()
	require.NoError(t, err)
	require.Nil(t, left, "forgotten when the upload has ended")
	require.Equal(t, 2, p.creates())
	require.Equal(t, mlflow.LoggedModelReady, p.server.LoggedModels()[0].Info.Status)
}

func TestUploadModel_SendsTheFileWholeWhereOnlyMLflowGetsAtTheStore(t *testing.T) {
	closed := httptest.NewServer(nil)
	closed.Close()
	untrusted := httptest.NewTLSServer(nil)
	untrusted.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	t.Cleanup(untrusted.Close)
	for name, store := range map[string]string{
		"no such host":          "http://store.invalid:7070",
		"nobody listens":        closed.URL,
		"its authority unknown": untrusted.URL,
	} {
		t.Run(name, func(t *testing.T) {
			p := newProject(t)
			in := p.upload()
			var logged bytes.Buffer
			p.logTo(&logged)
			p.offerPartsAt(store, nothingElse)
			p.modelInParts()

			_, err := execute[UploadModelResult](p, p.UploadModel, in)

			require.NoError(t, err)
			require.Equal(t, mlflow.LoggedModelReady, p.server.LoggedModels()[0].Info.Status)
			require.Equal(t, 1, p.aborts())
			require.Contains(t, logged.String(), "sent whole")
			require.Nil(t, p.parts(in))
		})
	}
}

func TestUploadModel_WaitsForAStoreThatMLflowDoesNotGetAtEither(t *testing.T) {
	closed := httptest.NewServer(nil)
	closed.Close()
	p := newProject(t)
	in := p.upload()
	in.First = true
	p.offerPartsAt(closed.URL, func(r *http.Request) mlflowtest.Fault {
		if r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/mlflow-artifacts/artifacts") {
			return mlflowtest.Fault{Status: http.StatusInternalServerError}
		}
		return mlflowtest.Fault{}
	})
	p.modelInParts()

	_, err := execute[UploadModelResult](p, p.UploadModel, in)

	var application *temporal.ApplicationError
	require.ErrorAs(t, err, &application)
	require.Equal(t, failure.Outage, application.Type())
	var detail failure.Detail
	require.NoError(t, application.Details(&detail))
	require.Equal(t, string(mlflow.LayerTCP), detail.Layer)
	require.NotNil(t, p.parts(in), "what was begun goes on when the store is back")
	require.Zero(t, p.aborts())
}

func TestUploadModel_KeepsThePartsOfAStoreThatIsAwayForAMoment(t *testing.T) {
	closed := httptest.NewServer(nil)
	closed.Close()
	p := newProject(t)
	in := p.upload()
	p.offerPartsAt(closed.URL, nothingElse)
	p.modelInParts()
	p.halfSent(in, closed.URL)

	for attempt := 1; attempt < maxUnconnected; attempt++ {
		_, err := execute[UploadModelResult](p, p.UploadModel, in)
		require.Error(t, err)
		left := p.parts(in)
		require.NotNil(t, left)
		require.Len(t, left.Done, 1)
		require.Equal(t, attempt, left.Unconnected)
	}
	_, err := execute[UploadModelResult](p, p.UploadModel, in)

	require.NoError(t, err, "a worker that never gets at it does not try for ever")
	require.Nil(t, p.parts(in))
	require.Equal(t, 1, p.aborts())
}

func TestUploadModel_KeepsThePartsWhereNobodyKnowsWhetherTheyAreTheFile(t *testing.T) {
	const notFound = `{"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no such upload"}`
	for name, c := range map[string]struct {
		complete, list mlflowtest.Fault // answers; none: as the server does, which has no such file
		kind           string
		kept           bool
	}{
		"no such upload, or a moment's weakness": {mlflowtest.Fault{Status: http.StatusInternalServerError}, mlflowtest.Fault{}, failure.Outage, true},
		"no such upload, of other stores":        {mlflowtest.Fault{Status: http.StatusNotFound, Body: notFound}, mlflowtest.Fault{}, failure.Outage, false},
		"the store is down": {
			mlflowtest.Fault{Status: http.StatusInternalServerError}, mlflowtest.Fault{Status: http.StatusInternalServerError}, failure.Outage, true,
		},
		"the login expired": {
			mlflowtest.Fault{Status: http.StatusUnauthorized}, mlflowtest.Fault{Status: http.StatusUnauthorized}, failure.Unauthorized, true,
		},
		"the login expired for a moment": {mlflowtest.Fault{Status: http.StatusUnauthorized}, mlflowtest.Fault{}, failure.Unauthorized, true},
		"a proxy is busy":                {mlflowtest.Fault{Status: http.StatusTooManyRequests}, mlflowtest.Fault{}, failure.Outage, true},
		"a proxy has no MLflow":          {mlflowtest.Fault{Status: http.StatusServiceUnavailable}, mlflowtest.Fault{}, failure.Outage, true},
		"a proxy lost the way":           {mlflowtest.Fault{Status: http.StatusNotFound}, mlflowtest.Fault{}, failure.Misdirected, true},
	} {
		t.Run(name, func(t *testing.T) {
			p := newProject(t)
			in := p.upload()
			in.First = true
			p.offerPartsAt(newStore(t).URL, func(r *http.Request) mlflowtest.Fault {
				switch {
				case strings.Contains(r.URL.Path, "/mpu/complete/"):
					return c.complete
				case r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/mlflow-artifacts/artifacts"):
					return c.list
				}
				return mlflowtest.Fault{}
			})
			p.modelInParts()

			_, err := execute[UploadModelResult](p, p.UploadModel, in)

			var application *temporal.ApplicationError
			require.ErrorAs(t, err, &application)
			require.Equal(t, c.kind, application.Type())
			require.Equal(t, c.kept, p.parts(in).Upload.UploadID != "", "the next attempt completes")
			require.Equal(t, !c.kept, p.aborts() > 0)
		})
	}
}

func TestFinishRun_AbortsTheUploadThatItsRunLeaves(t *testing.T) {
	const down = http.StatusInternalServerError
	now := time.Now()
	for name, c := range map[string]struct {
		runID   string // of the upload; empty: the run that ends
		status  int    // of the answer
		ended   time.Time
		aborts  int
		outage  bool
		remains bool
	}{
		"aborted":                {"", http.StatusOK, now, 1, false, false},
		"another generation's":   {"another", http.StatusOK, now, 0, false, true},
		"not there any more":     {"", http.StatusNotFound, now, 1, false, false},
		"the store is down":      {"", down, now, 1, true, true},
		"the store stays down":   {"", down, now.Add(-2 * abortFor), 1, false, false},
		"it is refused for good": {"", http.StatusBadRequest, now, 1, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			p := newProject(t)
			in := p.upload()
			folder, err := p.folder(in.Project)
			require.NoError(t, err)
			defer folder.Close()
			u := &upload{in: in, client: p.client(), folder: folder}
			if c.runID != "" {
				u.in.Run.RunID = c.runID
			}
			require.NoError(t, u.remember(&partsUnderWay{
				ArtifactURI: in.Run.ArtifactURI, File: "model.pkl", RunID: u.in.Run.RunID, Upload: mlflow.MultipartUpload{UploadID: "u"},
			}))
			p.server.Intercept(func(r *http.Request) mlflowtest.Fault {
				if strings.Contains(r.URL.Path, "/mpu/abort/") {
					return mlflowtest.Fault{Status: c.status, Body: "{}"}
				}
				return mlflowtest.Fault{}
			})

			_, err = p.ExecuteActivity(p.FinishRun, FinishRunInput{
				Server: in.Server, RunID: in.Run.RunID, Status: RunKilled, EndTime: c.ended, Project: in.Project,
			})

			if c.outage {
				var application *temporal.ApplicationError
				require.ErrorAs(t, err, &application)
				require.Equal(t, failure.Outage, application.Type(), "asked again")
			} else {
				require.NoError(t, err)
			}
			require.Equal(t, c.aborts, p.aborts())
			left, err := readParts(folder)
			require.NoError(t, err)
			require.Equal(t, c.remains, left != nil)
			require.Equal(t, mlflow.RunKilled, p.server.Runs()[0].Info.Status)
		})
	}
}

func TestFinishRun_ForgetsAnUploadThatItsStoreDoesNotKnow(t *testing.T) {
	for name, list := range map[string]int{"the store lists": 0, "the store is down": http.StatusInternalServerError} {
		t.Run(name, func(t *testing.T) {
			p := newProject(t)
			in := p.upload()
			p.halfSent(in, "http://store.invalid")
			p.server.Intercept(func(r *http.Request) mlflowtest.Fault {
				switch {
				case strings.Contains(r.URL.Path, "/mpu/abort/"):
					return mlflowtest.Fault{Status: http.StatusInternalServerError}
				case r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/mlflow-artifacts/artifacts"):
					return mlflowtest.Fault{Status: list}
				}
				return mlflowtest.Fault{}
			})

			_, _ = tryOften[any](p, 3, p.FinishRun, FinishRunInput{
				Server: in.Server, RunID: in.Run.RunID, Status: RunKilled, EndTime: time.Now(), Project: in.Project,
			})

			if list == 0 {
				require.Equal(t, 2, p.aborts(), "once may be the store's moment of weakness")
				require.Nil(t, p.parts(in))
				return
			}
			require.Equal(t, 3, p.aborts())
			require.NotNil(t, p.parts(in), "asked again by the sweep")
		})
	}
}
