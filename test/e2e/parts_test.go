package e2e

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"registrar/internal/mlmodel"
	"registrar/internal/receipt"
	"registrar/internal/servertest"
)

// partBytes is the smallest part that S3 takes. The model of these tests has some more than three.
const partBytes = 5 << 20

func TestParts(t *testing.T) {
	t.Parallel()
	store := newS3Store(t)
	t.Run("UploadGoesOnWhereAKilledWorkerStopped", store.uploadGoesOnWhereAKilledWorkerStopped)
	t.Run("FailedPartIsSentAgainAlone", store.failedPartIsSentAgainAlone)
	t.Run("ExpiredAddressesBeginAnew", store.expiredAddressesBeginAnew)
	t.Run("OtherBytesThanWereSentBeginAnew", store.otherBytesThanWereSentBeginAnew)
	t.Run("CanceledUploadIsAborted", store.canceledUploadIsAborted)
	t.Run("TerminatedUploadIsAborted", store.terminatedUploadIsAborted)
	t.Run("UploadCanceledWhileItWaitsIsAborted", store.uploadCanceledWhileItWaitsIsAborted)
	t.Run("UploadCanceledWithItsWorkerKilledIsAborted", store.uploadCanceledWithItsWorkerKilledIsAborted)
	t.Run("AreNotSentWhereAProjectAloneNamesTheServer", store.areNotSentWhereAProjectAloneNamesTheServer)
}

func (s3 *s3Store) uploadGoesOnWhereAKilledWorkerStopped(t *testing.T) {
	s := s3.site(t)
	held := newGate(t)
	s3.before(3, held.wait)
	worker := s.startWorker("--part-size-bytes", fmt.Sprint(partBytes))
	id := s.register("--wait", "none").receipt.WorkflowID
	held.await(t)
	require.Equal(t, os.FileMode(0o600), modeOf(t, s.uploadFile()), "the addresses of the parts are for nobody else")

	worker.Kill()
	held.open()
	s.startWorker("--part-size-bytes", fmt.Sprint(partBytes))

	s.requireOutcome(receipt.Registered, s.result(id))
	require.Equal(t, []int{1, 2}, s3.parts()[:2])
	for _, part := range s3.parts()[2:] {
		require.GreaterOrEqual(t, part, 3, "what the store has is not sent again: %v", s3.parts())
	}
	s3.requireStored(s.project)
	require.NoFileExists(t, s.uploadFile())
}

func (s3 *s3Store) failedPartIsSentAgainAlone(t *testing.T) {
	s := s3.site(t)
	s3.refuse(2, http.StatusServiceUnavailable)
	s.startWorker("--part-size-bytes", fmt.Sprint(partBytes))

	s.requireOutcome(receipt.Registered, s.register().receipt)

	require.Equal(t, append([]int{1, 2}, partsOf(t, s.project)[1:]...), s3.parts())
	s3.requireStored(s.project)
}

func (s3 *s3Store) expiredAddressesBeginAnew(t *testing.T) {
	s := s3.site(t)
	s3.refuse(3, http.StatusForbidden) // as S3 answers after an hour
	s.startWorker("--part-size-bytes", fmt.Sprint(partBytes))

	s.requireOutcome(receipt.Registered, s.register().receipt)

	require.Equal(t, append([]int{1, 2, 3}, partsOf(t, s.project)...), s3.parts())
	s3.requireStored(s.project)
	s3.requireNothingUnderWay()
}

func (s3 *s3Store) otherBytesThanWereSentBeginAnew(t *testing.T) {
	s := s3.site(t)
	held := newGate(t)
	s3.before(3, held.wait)
	worker := s.startWorker("--part-size-bytes", fmt.Sprint(partBytes))
	id := s.register("--wait", "none").receipt.WorkflowID
	held.await(t)
	worker.Kill()
	held.open()
	remembered, err := os.ReadFile(s.uploadFile())
	require.NoError(t, err)
	edited := regexp.MustCompile(`"sha256":"..`).ReplaceAll(remembered, []byte(`"sha256":"zz`))
	require.NoError(t, os.WriteFile(s.uploadFile(), edited, 0o600))

	s.startWorker("--part-size-bytes", fmt.Sprint(partBytes))

	s.requireOutcome(receipt.Registered, s.result(id))
	require.Equal(t, append([]int{1, 2, 3}, partsOf(t, s.project)...), s3.parts())
	s3.requireStored(s.project)
	s3.requireNothingUnderWay()
}

func (s3 *s3Store) canceledUploadIsAborted(t *testing.T) {
	s := s3.site(t)
	held := newGate(t)
	s3.before(2, held.wait)
	s.startWorker("--part-size-bytes", fmt.Sprint(partBytes))
	id := s.register("--wait", "none").receipt.WorkflowID
	held.await(t)

	s.requireOutcome(receipt.Canceled, s.starter("cancel", id).receipt)

	held.open()
	s3.requireNothingUnderWay()
	require.NoFileExists(t, s.uploadFile())
}

func (s3 *s3Store) terminatedUploadIsAborted(t *testing.T) {
	s := s3.site(t)
	held := newGate(t)
	s3.before(2, held.wait)
	s.startWorker("--part-size-bytes", fmt.Sprint(partBytes))
	id := s.register("--wait", "none").receipt.WorkflowID
	held.await(t)

	require.NoError(t, s.dial().TerminateWorkflow(t.Context(), id, "", "test"))

	eventually(t, func() bool { _, err := os.Stat(s.uploadFile()); return errors.Is(err, fs.ErrNotExist) }, "the worker hears of it, and forgets the upload")
	held.open()
	s3.requireNothingUnderWay()
}

func (s3 *s3Store) uploadCanceledWhileItWaitsIsAborted(t *testing.T) {
	s := s3.site(t)
	s3.refuseAlways(2, http.StatusServiceUnavailable)
	s.startWorker("--part-size-bytes", fmt.Sprint(partBytes))
	waiting := s.register().receipt
	require.Equal(t, receipt.Waiting, waiting.State)
	require.Equal(t, "artifact_store", waiting.Waiting.Layer)
	require.FileExists(t, s.uploadFile())

	s.requireOutcome(receipt.Canceled, s.starter("cancel", waiting.WorkflowID).receipt)

	s3.requireNothingUnderWay()
	require.NoFileExists(t, s.uploadFile())
}

func (s3 *s3Store) uploadCanceledWithItsWorkerKilledIsAborted(t *testing.T) {
	s := s3.site(t)
	held := newGate(t)
	s3.before(2, held.wait)
	worker := s.startWorker("--part-size-bytes", fmt.Sprint(partBytes))
	id := s.register("--wait", "none").receipt.WorkflowID
	held.await(t)
	worker.Kill()
	held.open()
	require.NoError(t, s.dial().CancelWorkflow(t.Context(), id, ""))

	s.startWorker("--part-size-bytes", fmt.Sprint(partBytes))

	s.requireOutcome(receipt.Canceled, s.result(id))
	s3.requireNothingUnderWay()
	require.NoFileExists(t, s.uploadFile())
}

func (s3 *s3Store) areNotSentWhereAProjectAloneNamesTheServer(t *testing.T) {
	s := s3.site(t)
	s.project.edit(t, paramsFile, "http://127.0.0.1:5000", s.mlflowURI)
	s.mlflowURI = ""
	s.startWorker("--part-size-bytes", fmt.Sprint(partBytes))

	s.requireOutcome(receipt.Registered, s.register().receipt)

	require.Empty(t, s3.parts(), "it would say which host a model is sent to")
	s3.requireStored(s.project)
}

// s3Store is an S3 server behind a proxy that sees, holds up and refuses the parts that workers send.
type s3Store struct {
	*servertest.S3Server
	t      testing.TB // the test that it serves now
	mlflow *servertest.MLflowServer
	URI    string // of the proxy

	mu      sync.Mutex
	sent    []int
	hold    map[int]func()
	refused map[int]refusal
}

// refusal is the status that a part is answered by, once or always.
type refusal struct {
	status int
	always bool
}

// newS3Store is an S3 server with an MLflow server whose artifacts go there.
func newS3Store(t *testing.T) *s3Store {
	t.Helper()
	needServers(t)
	server, err := servertest.StartS3(t.Context(), servertest.S3Options{Dir: t.TempDir()})
	require.NoError(t, err)
	t.Cleanup(server.Kill)
	store := &s3Store{S3Server: server, t: t}
	store.serve()
	store.mlflow, err = servertest.StartMLflow(t.Context(), servertest.MLflowOptions{
		Dir: t.TempDir(), S3: server, Env: []string{"MLFLOW_S3_ENDPOINT_URL=" + store.URI},
	})
	require.NoError(t, err)
	t.Cleanup(store.mlflow.Kill)
	return store
}

// site is a project with a model of several parts. What an earlier test saw and planned is forgotten.
func (s3 *s3Store) site(t *testing.T) *site {
	t.Helper()
	s3.mu.Lock()
	s3.t, s3.sent, s3.hold, s3.refused = t, nil, map[int]func(){}, map[int]refusal{}
	s3.mu.Unlock()
	p := newProject(t)
	enlarge := exec.CommandContext(t.Context(), filepath.Join(servertest.Root(), ".build", "venv", "bin", "python"), "-c",
		"import joblib, numpy, sys; m = joblib.load(sys.argv[1]); m.table_ = numpy.random.default_rng().integers(0, 256, int(sys.argv[2]), numpy.uint8); joblib.dump(m, sys.argv[1])",
		p.path(modelFile), fmt.Sprint(3*partBytes))
	output, err := enlarge.CombinedOutput()
	require.NoError(t, err, "%s", output)
	return newSite(t, p, temporalServer(t).HostPort, s3.mlflow.URI)
}

// serve keeps the Host that the addresses of the parts are signed for.
func (s3 *s3Store) serve() {
	target, err := url.Parse(s3.Endpoint)
	require.NoError(s3.t, err)
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		r.Out.Host = r.In.Host
	}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if status := s3.arrive(r); status != 0 {
			w.WriteHeader(status) // before the part has come, as S3 does
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	s3.t.Cleanup(server.Close)
	s3.URI = server.URL
}

// arrive notes a part that is sent by its address, and what becomes of it.
func (s3 *s3Store) arrive(r *http.Request) (refusedBy int) {
	var part int
	if _, err := fmt.Sscan(r.URL.Query().Get("partNumber"), &part); err != nil || r.Method != http.MethodPut || !r.URL.Query().Has("X-Amz-Signature") {
		return 0
	}
	s3.mu.Lock()
	for _, name := range []string{"Authorization", "X-Mlflow-Workspace", "Cookie"} {
		if r.Header.Get(name) != "" {
			s3.t.Errorf("the store gets the header %s", name)
		}
	}
	s3.sent = append(s3.sent, part)
	hold, refused := s3.hold[part], s3.refused[part]
	delete(s3.hold, part)
	if !refused.always {
		delete(s3.refused, part)
	}
	s3.mu.Unlock()
	if hold != nil {
		hold()
	}
	return refused.status
}

// before holds a part up, the first time that it is sent.
func (s3 *s3Store) before(part int, hold func()) {
	s3.mu.Lock()
	defer s3.mu.Unlock()
	s3.hold[part] = hold
}

// refuse answers a part so, the first time that it is sent.
func (s3 *s3Store) refuse(part, status int) {
	s3.mu.Lock()
	defer s3.mu.Unlock()
	s3.refused[part] = refusal{status: status}
}

// refuseAlways answers a part so, each time that it is sent.
func (s3 *s3Store) refuseAlways(part, status int) {
	s3.mu.Lock()
	defer s3.mu.Unlock()
	s3.refused[part] = refusal{status: status, always: true}
}

// parts are the numbers of those that were sent, in order.
func (s3 *s3Store) parts() []int {
	s3.mu.Lock()
	defer s3.mu.Unlock()
	return append([]int{}, s3.sent...)
}

// partsOf are the numbers of the parts that a project's model has in its wrapper.
func partsOf(t testing.TB, p project) (numbers []int) {
	t.Helper()
	size := len(p.read(t, modelFile))
	head, tail := mlmodel.Wrap(int64(size))
	for left := size + len(head) + len(tail); left > 0; left -= partBytes {
		numbers = append(numbers, len(numbers)+1)
	}
	return numbers
}

// requireStored sees that the bucket's model.pkl is the project's model in its wrapper, to the last bit.
func (s3 *s3Store) requireStored(p project) {
	s3.t.Helper()
	model := p.read(s3.t, modelFile)
	head, tail := mlmodel.Wrap(int64(len(model)))
	want := sha256.Sum256(append(append(head, model...), tail...))
	found := false
	require.NoError(s3.t, filepath.WalkDir(s3.objects(), func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.Name() != "model.pkl" || entry.IsDir() {
			return err
		}
		stored, err := os.ReadFile(path)
		found = found || sha256.Sum256(stored) == want
		return err
	}))
	require.True(s3.t, found, "a model.pkl that is this model")
}

// objects is the folder of the bucket, parts of what is not complete among them.
func (s3 *s3Store) objects() string { return filepath.Join(s3.Dir, "buckets", s3.Bucket) }

// requireNothingUnderWay sees that the store has no parts of an upload that is not complete.
func (s3 *s3Store) requireNothingUnderWay() {
	s3.t.Helper()
	var left []string
	eventually(s3.t, func() bool {
		left = nil
		_ = filepath.WalkDir(s3.objects(), func(path string, entry os.DirEntry, err error) error {
			if err == nil && !entry.IsDir() && strings.Contains(path, "multipart") {
				left = append(left, path)
			}
			return nil // a file may go meanwhile
		})
		return len(left) == 0
	}, "no parts are left: %v", &left)
}

func (s *site) uploadFile() string {
	s.t.Helper()
	folders, err := filepath.Glob(s.project.path(outputs + "/registrations/????????????????"))
	require.NoError(s.t, err)
	require.Len(s.t, folders, 1)
	return filepath.Join(folders[0], "upload.json")
}

func modeOf(t testing.TB, name string) os.FileMode {
	t.Helper()
	info, err := os.Stat(name)
	require.NoError(t, err)
	return info.Mode().Perm()
}
