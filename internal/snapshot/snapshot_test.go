package snapshot_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"registrar/internal/confine"
	"registrar/internal/snapshot"
)

// project is a pipeline's folder with a model, and a root_dir.
type project struct {
	t       *testing.T
	path    string
	sources *confine.Dir
	rootDir *os.Root
}

func newProject(t *testing.T) *project {
	t.Helper()
	p := &project{t: t, path: t.TempDir()}
	p.write("artifacts/rf.joblib", "the model")
	p.write("artifacts/metrics.json", `{"roc_auc": 0.83}`)
	p.write("artifacts/preprocessor.pkl", "the preprocessor")
	var err error
	p.sources, p.rootDir, err = openProject(p.path)
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, p.sources.Close())
		require.NoError(t, p.rootDir.Close())
	})
	return p
}

func openProject(folder string) (*confine.Dir, *os.Root, error) {
	sources, err := confine.Unconfined(folder)
	if err != nil {
		return nil, nil, err
	}
	rootDir, err := sources.Sub("registration", true)
	return sources, rootDir, err
}

func (p *project) write(name, content string) {
	p.t.Helper()
	name = filepath.Join(p.path, name)
	require.NoError(p.t, os.MkdirAll(filepath.Dir(name), 0o755))
	require.NoError(p.t, os.WriteFile(name, []byte(content), 0o644))
}

func (p *project) inputs() snapshot.Inputs { return modelInputs() }

func modelInputs() snapshot.Inputs {
	return snapshot.Inputs{
		ModelName:  "ACRAS_RandomForest_v1",
		Model:      "artifacts/rf.joblib",
		Metrics:    "artifacts/metrics.json",
		ExtraFiles: []string{"artifacts/preprocessor.pkl"},
		Config:     snapshot.File{Name: "config/config.yaml", Data: []byte("model_name: ACRAS_RandomForest_v1\n")},
		Params:     snapshot.File{Name: "config/params.yaml", Data: []byte("min_roc_auc: 0.60\n")},
		GitCommit:  "0c0ffee",
		User:       "ada",
	}
}

func (p *project) stage(inputs snapshot.Inputs) *snapshot.Staged {
	p.t.Helper()
	staged, err := snapshot.Stage(p.t.Context(), p.sources, p.rootDir, inputs, nil)
	require.NoError(p.t, err)
	return staged
}

func (p *project) commit(inputs snapshot.Inputs) *snapshot.Folder {
	p.t.Helper()
	folder, err := p.stage(inputs).Commit(p.t.Context())
	require.NoError(p.t, err)
	require.NoError(p.t, folder.Verify(p.t.Context(), nil, nil))
	return folder
}

// names lists what lies in registrations.
func (p *project) names() []string {
	p.t.Helper()
	entries, err := fs.ReadDir(p.rootDir.FS(), "registrations")
	require.NoError(p.t, err)
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names
}

func closing(t *testing.T, closer io.Closer) {
	t.Helper()
	require.NoError(t, closer.Close())
}

func sum(content string) string {
	digest := sha256.Sum256([]byte(content))
	return hex.EncodeToString(digest[:])
}

func TestKey_TellsRequestsApart(t *testing.T) {
	one := snapshot.Entry{Name: "extra/a", SHA256: sum("1")}
	two := snapshot.Entry{Name: "extra/b", SHA256: sum("2")}
	key := snapshot.Key("name", "m", "e", []snapshot.Entry{one, two}, "")
	require.Len(t, key, 64)
	require.Equal(t, key, snapshot.Key("name", "m", "e", []snapshot.Entry{two, one}, ""))
	// The golden value: a key that changes between versions would register models twice.
	require.Equal(t, "b3bd36539404b46ee209fe9310023695fc9691c7001317375eb878fcc6193a18", snapshot.Key("ACRAS_RandomForest_v1", sum("model"), sum("metrics"), nil, ""))

	swapped := []snapshot.Entry{{Name: one.Name, SHA256: two.SHA256}, {Name: two.Name, SHA256: one.SHA256}}
	for name, other := range map[string]string{
		"model name":     snapshot.Key("nam", "em", "e", []snapshot.Entry{one, two}, ""),
		"model":          snapshot.Key("name", "n", "e", []snapshot.Entry{one, two}, ""),
		"metrics":        snapshot.Key("name", "m", "f", []snapshot.Entry{one, two}, ""),
		"model, metrics": snapshot.Key("name", "me", "", []snapshot.Entry{one, two}, ""),
		"extra files":    snapshot.Key("name", "m", "e", []snapshot.Entry{one}, ""),
		"swapped names":  snapshot.Key("name", "m", "e", swapped, ""),
		"force token":    snapshot.Key("name", "m", "e", []snapshot.Entry{one, two}, "again"),
	} {
		require.NotEqual(t, key, other, name)
	}
}

func TestCommit_FreezesTheInputs(t *testing.T) {
	p := newProject(t)
	var done, total int64
	staged, err := snapshot.Stage(t.Context(), p.sources, p.rootDir, p.inputs(), func(d, n int64) { done, total = d, n })
	require.NoError(t, err)
	require.EqualValues(t, len("the model")+len(`{"roc_auc": 0.83}`)+len("the preprocessor"), total)
	require.Equal(t, total, done)
	p.write("artifacts/rf.joblib", "the next model")

	folder, err := staged.Commit(t.Context())
	require.NoError(t, err)
	request := folder.Request()
	require.Equal(t, staged.Request(), request)
	require.Equal(t, snapshot.Entry{
		Name: "model/rf.joblib", Path: "artifacts/rf.joblib", SHA256: sum("the model"), SizeBytes: 9,
	}, request.Model)
	require.Equal(t, request.Key(), request.RegistrationKey)
	require.Equal(t, "registrations/"+request.RegistrationKey[:16], folder.Path())
	require.Equal(t, []string{request.RegistrationKey[:16]}, p.names())

	reopened, err := snapshot.Open(p.rootDir, request.RegistrationKey[:16])
	require.NoError(t, err)
	require.Equal(t, request, reopened.Request())
	require.NoError(t, reopened.Verify(t.Context(), nil, nil))
	config, err := reopened.ReadConfig()
	require.NoError(t, err)
	require.Equal(t, p.inputs().Config, config)
	params, err := reopened.ReadParams()
	require.NoError(t, err)
	require.Equal(t, p.inputs().Params, params)
	reader, err := reopened.OpenVerified(request.Model)
	require.NoError(t, err)
	content, err := io.ReadAll(reader)
	require.NoError(t, err)
	require.NoError(t, reader.Close())
	require.Equal(t, "the model", string(content))
}

func TestCommit_OverAFolderKeepsWhatIsRight(t *testing.T) {
	p := newProject(t)
	first := p.commit(p.inputs())
	require.NoError(t, first.WriteDecision([]byte("decision")))
	require.NoError(t, first.WriteReceipt([]byte("receipt")))
	require.NoError(t, first.MarkHandedOver("register/x", "run-1"))
	model := filepath.Join(first.Path(), "model", "rf.joblib")
	before, err := p.rootDir.Stat(model)
	require.NoError(t, err)

	inputs := p.inputs()
	inputs.Params.Data = []byte("min_roc_auc: 0.50\n")
	second := p.commit(inputs)
	require.Equal(t, first.Path(), second.Path())
	require.NotEqual(t, first.Request().SettingsSHA256, second.Request().SettingsSHA256)
	params, err := second.ReadParams()
	require.NoError(t, err)
	require.Equal(t, inputs.Params, params)

	after, err := p.rootDir.Stat(model)
	require.NoError(t, err)
	require.True(t, os.SameFile(before, after), "the model was copied over")
	_, handedOver, err := second.HandedOver()
	require.NoError(t, err)
	require.False(t, handedOver, "a new request is queued")
	for _, name := range []string{"decision.json", "receipt.json"} {
		require.FileExists(t, filepath.Join(p.path, "registration", second.Path(), name))
	}
	settings, err := fs.ReadDir(p.rootDir.FS(), second.Path()+"/settings")
	require.NoError(t, err)
	require.Len(t, settings, 1, "the old settings stay")
	require.Len(t, p.names(), 1)
}

func TestCommit_MendsCopies(t *testing.T) {
	p := newProject(t)
	folder := p.commit(p.inputs())
	for name, harm := range map[string]func(name string) error{
		"removed":   func(name string) error { return p.rootDir.Remove(name) },
		"changed":   func(name string) error { return p.rootDir.WriteFile(name, []byte("THE MODEL"), 0o644) },
		"truncated": func(name string) error { return p.rootDir.WriteFile(name, nil, 0o644) },
		"all":       func(string) error { return p.rootDir.RemoveAll(filepath.Join(folder.Path(), "model")) },
		"request":   func(string) error { return p.rootDir.Remove(filepath.Join(folder.Path(), "request.json")) },
	} {
		require.NoError(t, harm(filepath.Join(folder.Path(), "model", "rf.joblib")), name)
		p.commit(p.inputs())
	}
}

func TestCommit_OfAModelUnderAnotherFileName(t *testing.T) {
	p := newProject(t)
	p.commit(p.inputs())
	p.write("artifacts/renamed.joblib", "the model")
	inputs := p.inputs()
	inputs.Model = "artifacts/renamed.joblib"
	folder := p.commit(inputs)
	models, err := fs.ReadDir(p.rootDir.FS(), folder.Path()+"/model")
	require.NoError(t, err)
	require.Len(t, models, 1)
	require.Equal(t, "renamed.joblib", models[0].Name())
}

// interrupted is a context that ends when it was asked a number of times, as if the process had been killed there.
type interrupted struct {
	context.Context
	left int
}

func (c *interrupted) Err() error {
	if c.left--; c.left < 0 {
		return context.Canceled
	}
	return nil
}

func TestCommit_InterruptedAnywhereLeavesOneRequestOrTheOther(t *testing.T) {
	changed := func(p *project) snapshot.Inputs {
		inputs := p.inputs()
		inputs.Config.Data, inputs.Params.Data = []byte("model_name: x\n"), []byte("min_roc_auc: 0.5\n")
		return inputs
	}
	for steps := 0; ; steps++ {
		p := newProject(t)
		old := p.commit(p.inputs())
		staged := p.stage(changed(p))
		_, interruption := staged.Commit(&interrupted{t.Context(), steps})

		found, err := snapshot.Open(p.rootDir, snapshot.ShortKey(staged.Request().RegistrationKey))
		require.NoError(t, err)
		require.NoError(t, found.Verify(t.Context(), nil, nil), "after %d steps", steps)
		if interruption == nil {
			require.Equal(t, staged.Request(), found.Request())
			require.Greater(t, steps, 5, "it was never interrupted")
			return
		}
		require.ErrorIs(t, interruption, context.Canceled)
		require.Equal(t, old.Request(), found.Request())

		// The same process may go on, or another may come along.
		_, err = staged.Commit(t.Context())
		require.NoError(t, err)
		require.NoError(t, staged.Discard())
		p.commit(changed(p))
	}
}

func TestCommit_MayBeRepeated(t *testing.T) {
	p := newProject(t)
	staged := p.stage(p.inputs())
	for range 3 {
		folder, err := staged.Commit(t.Context())
		require.NoError(t, err)
		require.NoError(t, folder.Verify(t.Context(), nil, nil))
	}
}

func TestDiscard_LeavesNothing(t *testing.T) {
	p := newProject(t)
	staged := p.stage(p.inputs())
	require.Len(t, p.names(), 1)
	require.NoError(t, staged.Discard())
	require.NoError(t, staged.Discard())
	require.Empty(t, p.names())
	_, err := staged.Commit(t.Context())
	require.ErrorIs(t, err, fs.ErrNotExist)
}
