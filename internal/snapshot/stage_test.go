package snapshot_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"registrar/internal/confine"
	"registrar/internal/snapshot"
)

// opening is a Sources that lets a test meddle with each opening.
type opening func(name string) (*os.File, error)

func (o opening) Open(name string) (*os.File, error) { return o(name) }

func TestStage_RefusesBadInputs(t *testing.T) {
	p := newProject(t)
	p.write("empty", "")
	p.write("other/preprocessor.pkl", "another")
	p.write("line\nbreak", "x")
	p.write("back\\slash", "x")
	p.write("latin\xff", "x")
	require.NoError(t, syscall.Mkfifo(filepath.Join(p.path, "fifo"), 0o644))
	for want, change := range map[string]func(*snapshot.Inputs){
		"open absent: no such file or directory": func(i *snapshot.Inputs) { i.Model = "absent" },
		"run the stage that writes it":           func(i *snapshot.Inputs) { i.Metrics = "absent" },
		"copy model empty: the file is empty":    func(i *snapshot.Inputs) { i.Model = "empty" },
		"open artifacts: it is a folder":         func(i *snapshot.Inputs) { i.Model = "artifacts" },
		"open fifo: it is a named pipe":          func(i *snapshot.Inputs) { i.ExtraFiles = []string{"fifo"} },
		"open /dev/zero: it is a device":         func(i *snapshot.Inputs) { i.Metrics = "/dev/zero" },
		`copy "line\nbreak": want a file name`:   func(i *snapshot.Inputs) { i.Model = "line\nbreak" },
		`copy "back\\slash": want a file name`:   func(i *snapshot.Inputs) { i.ExtraFiles = []string{"back\\slash"} },
		`copy "latin\xff": want a file name`:     func(i *snapshot.Inputs) { i.Model = "latin\xff" },
		`copy "": want a file name`:              func(i *snapshot.Inputs) { i.Model = "" },
		`copy "artifacts/..": want a file name`:  func(i *snapshot.Inputs) { i.Model = "artifacts/.." },
		"file name too long":                     func(i *snapshot.Inputs) { i.Model = strings.Repeat("x", 300) },
		`have the same file name`: func(i *snapshot.Inputs) {
			i.ExtraFiles = append(i.ExtraFiles, "other/preprocessor.pkl")
		},
		"want at most 1048576": func(i *snapshot.Inputs) { i.Config.Data = make([]byte, 1<<20+1) },
	} {
		inputs := p.inputs()
		change(&inputs)
		_, err := snapshot.Stage(t.Context(), p.sources, p.rootDir, inputs, nil)
		require.ErrorContains(t, err, want)
		require.NoDirExists(t, filepath.Join(p.path, "registration", "registrations"))
	}
}

func TestStage_TakesAnyOtherFileName(t *testing.T) {
	p := newProject(t)
	for _, name := range []string{"request.json", ".staging-x", "модель ✓.joblib", "a b;$(c)'\"", strings.Repeat("x", 255)} {
		p.write(name, "the model "+name)
		inputs := p.inputs()
		inputs.Model, inputs.ExtraFiles = name, []string{name}
		folder := p.commit(inputs)
		require.Equal(t, "model/"+name, folder.Request().Model.Name)
	}
}

func TestStage_CopiesAgainWhatIsRewrittenMeanwhile(t *testing.T) {
	p := newProject(t)
	rewritten := 0
	progress := func(done, _ int64) {
		// The model comes after the 17 bytes of the metrics: it has been read and not yet been looked at again.
		if done == 17+9 && rewritten < 2 {
			rewritten++
			p.write("artifacts/rf.joblib", "new model")
		}
	}
	staged, err := snapshot.Stage(t.Context(), p.sources, p.rootDir, p.inputs(), progress)
	require.NoError(t, err)
	require.Equal(t, 2, rewritten)
	require.Equal(t, sum("new model"), staged.Request().Model.SHA256)
	_, err = staged.Commit(t.Context())
	require.NoError(t, err)
}

func TestStage_NeverFreezesAMixture(t *testing.T) {
	p := newProject(t)
	progress := func(int64, int64) { p.write("artifacts/rf.joblib", "new model") }
	_, err := snapshot.Stage(t.Context(), p.sources, p.rootDir, p.inputs(), progress)
	require.ErrorIs(t, err, snapshot.ErrChanging)
	require.EqualError(t, err, "copy artifacts/rf.joblib: the file is being rewritten, try again when it is complete")
	require.Empty(t, p.names())
}

func TestStage_LeavesNothingWhenItFails(t *testing.T) {
	p := newProject(t)
	ctx, cancel := context.WithCancel(t.Context())
	_, err := snapshot.Stage(ctx, p.sources, p.rootDir, p.inputs(), func(int64, int64) { cancel() })
	require.ErrorIs(t, err, context.Canceled)
	require.Empty(t, p.names())

	opened := 0
	vanishing := opening(func(name string) (*os.File, error) {
		if opened++; opened > 4 {
			require.NoError(t, os.RemoveAll(filepath.Join(p.path, "artifacts")))
		}
		return p.sources.Open(name)
	})
	_, err = snapshot.Stage(t.Context(), vanishing, p.rootDir, p.inputs(), nil)
	require.ErrorIs(t, err, os.ErrNotExist)
	require.Empty(t, p.names())
}

func TestStage_ReadsThroughConfinedFoldersOnly(t *testing.T) {
	p := newProject(t)
	outside := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(outside, []byte("secret"), 0o644))
	require.NoError(t, os.Symlink(outside, filepath.Join(p.path, "link")))
	roots, err := confine.Open([]string{p.path}, nil)
	require.NoError(t, err)
	defer closing(t, roots)
	dir, err := roots.OpenRoot(".")
	require.NoError(t, err)
	defer closing(t, dir)
	for _, name := range []string{outside, "link", "../" + filepath.Base(filepath.Dir(outside)) + "/secret"} {
		inputs := p.inputs()
		inputs.Metrics = name
		_, err := snapshot.Stage(t.Context(), dir, p.rootDir, inputs, nil)
		require.ErrorIs(t, err, confine.ErrOutside, name)
	}
}

func TestStage_SweepsWhatAKilledStarterLeft(t *testing.T) {
	p := newProject(t)
	killed, living := p.stage(p.inputs()), p.stage(p.inputs())
	yesterday := time.Now().Add(-25 * time.Hour)
	for _, name := range p.names() {
		if strings.HasSuffix(name, killed.Request().ID) {
			require.NoError(t, p.rootDir.Chtimes("registrations/"+name, yesterday, yesterday))
		}
	}
	folder := p.commit(p.inputs())
	require.NoError(t, p.rootDir.Chtimes(folder.Path(), yesterday, yesterday))
	require.NoError(t, snapshot.CollectGarbage(p.rootDir, 24*time.Hour))
	require.ElementsMatch(t, []string{".staging-" + living.Request().ID, filepath.Base(folder.Path())}, p.names())
	require.NoError(t, snapshot.CollectGarbage(p.rootDir, 0))
	require.Len(t, p.names(), 1)
}
