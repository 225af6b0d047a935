package confine_test

import (
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"registrar/internal/confine"
)

const secret = "the secret outside"

// world is a folder that is served, one that links may lead to, and one that is out of bounds.
type world struct {
	project, cache, outside string
	roots                   *confine.Roots
	dir                     *confine.Dir
}

func newWorld(t *testing.T) world {
	t.Helper()
	base := t.TempDir()
	w := world{
		project: filepath.Join(base, "served", "project"),
		cache:   filepath.Join(base, "cache"),
		outside: filepath.Join(base, "outside"),
	}
	write(t, filepath.Join(w.project, "artifacts", "model"), "model")
	write(t, filepath.Join(base, "served", "shared", "metrics"), "metrics")
	write(t, filepath.Join(w.cache, "files", "ab"), "cached")
	write(t, filepath.Join(w.outside, "secret"), secret)

	var err error
	w.roots, err = confine.Open([]string{filepath.Join(base, "served")}, []string{w.cache})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, w.roots.Close()) })
	w.dir, err = w.roots.OpenRoot(w.project)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, w.dir.Close()) })
	return w
}

func write(t *testing.T, name, content string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(name), 0o755))
	require.NoError(t, os.WriteFile(name, []byte(content), 0o644))
}

func link(t *testing.T, target, name string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(name), 0o755))
	require.NoError(t, os.Symlink(target, name))
}

func read(t *testing.T, dir *confine.Dir, name string) string {
	t.Helper()
	file, err := dir.Open(name)
	require.NoError(t, err)
	content, err := io.ReadAll(file)
	require.NoError(t, err)
	require.NoError(t, file.Close())
	return string(content)
}

func closing(t *testing.T, closer io.Closer) {
	t.Helper()
	require.NoError(t, closer.Close())
}

// promptly fails the test where call hangs, as an open of a FIFO does.
func promptly(t *testing.T, call func() error) error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- call() }()
	select {
	case err := <-done:
		return err
	case <-time.After(10 * time.Second):
		require.FailNow(t, "it hangs")
		return nil
	}
}

func TestDir_OpensWhatIsServed(t *testing.T) {
	w := newWorld(t)
	link(t, "../shared", filepath.Join(w.project, "inside"))
	for _, name := range []string{
		"artifacts/model", "./artifacts/../artifacts/model", filepath.Join(w.project, "artifacts/model"),
	} {
		require.Equal(t, "model", read(t, w.dir, name), name)
	}
	for _, name := range []string{
		"../shared/metrics", "inside/metrics", filepath.Join(filepath.Dir(w.project), "shared", "metrics"),
	} {
		require.Equal(t, "metrics", read(t, w.dir, name), name)
	}
}

func TestDir_FollowsLinksIntoLinkTargets(t *testing.T) {
	w := newWorld(t)
	link(t, filepath.Join(w.cache, "files", "ab"), filepath.Join(w.project, "absolute"))
	link(t, "../../../cache/files/ab", filepath.Join(w.project, "artifacts", "relative"))
	link(t, "../../cache/files", filepath.Join(w.project, "folder"))
	link(t, w.outside+"/../cache/files/ab", filepath.Join(w.project, "dotted"))
	link(t, "artifacts/relative", filepath.Join(w.project, "chain"))
	link(t, filepath.Join(w.project, "chain"), filepath.Join(w.cache, "back"))
	link(t, filepath.Join(w.cache, "back"), filepath.Join(w.project, "there-and-back"))
	for _, name := range []string{"absolute", "artifacts/relative", "folder/ab", "dotted", "chain", "there-and-back"} {
		require.Equal(t, "cached", read(t, w.dir, name), name)
	}
}

func TestDir_FollowsLinksThroughEitherNameOfALinkTarget(t *testing.T) {
	base := t.TempDir()
	write(t, filepath.Join(base, "disk7", "cache", "ab"), "cached")
	link(t, "disk7", filepath.Join(base, "disk"))
	link(t, filepath.Join(base, "disk", "cache", "ab"), filepath.Join(base, "project", "given"))
	link(t, filepath.Join(base, "disk7", "cache", "ab"), filepath.Join(base, "project", "real"))
	roots, err := confine.Open([]string{filepath.Join(base, "project")}, []string{filepath.Join(base, "disk", "cache")})
	require.NoError(t, err)
	defer closing(t, roots)
	dir, err := roots.OpenRoot(".")
	require.NoError(t, err)
	defer closing(t, dir)
	require.Equal(t, "cached", read(t, dir, "given"))
	require.Equal(t, "cached", read(t, dir, "real"))
}

func TestDir_RefusesWhatLiesOutside(t *testing.T) {
	w := newWorld(t)
	link(t, filepath.Join(w.outside, "secret"), filepath.Join(w.project, "absolute"))
	link(t, "../../outside/secret", filepath.Join(w.project, "relative"))
	link(t, "../../outside", filepath.Join(w.project, "folder"))
	link(t, w.cache+"/../outside/secret", filepath.Join(w.project, "dots"))
	link(t, "../../outside/secret", filepath.Join(w.cache, "files", "onward"))
	link(t, filepath.Join(w.cache, "files", "onward"), filepath.Join(w.project, "twice"))
	link(t, w.cache+"-other", filepath.Join(w.project, "sibling"))
	for name, flag := range map[string]string{
		"../../outside/secret":                "--allow-root",
		filepath.Join(w.outside, "secret"):    "--allow-root",
		filepath.Join(w.cache, "files", "ab"): "--allow-root", // Only a link may lead there.
		"/etc/hostname":                       "--allow-root",
		"absolute":                            "--allow-link-target",
		"relative":                            "--allow-link-target",
		"folder/secret":                       "--allow-link-target",
		"dots":                                "--allow-link-target",
		"twice":                               "--allow-link-target",
		"sibling":                             "--allow-link-target",
	} {
		_, err := w.dir.Open(name)
		require.ErrorIs(t, err, confine.ErrOutside, name)
		require.ErrorContains(t, err, name)
		require.ErrorContains(t, err, flag)
		require.NotContains(t, err.Error(), secret)
	}
}

func TestDir_SaysWhatIsMissing(t *testing.T) {
	w := newWorld(t)
	link(t, "nowhere", filepath.Join(w.project, "dangling"))
	for _, name := range []string{"artifacts/absent", "dangling", "absent/absent"} {
		_, err := w.dir.Open(name)
		require.ErrorIs(t, err, fs.ErrNotExist)
		require.EqualError(t, err, "open "+name+": no such file or directory (in "+w.project+")")
	}
}

func TestDir_EndsLinkLoops(t *testing.T) {
	w := newWorld(t)
	link(t, "loop", filepath.Join(w.project, "loop"))
	link(t, filepath.Join(w.cache, "b"), filepath.Join(w.project, "a"))
	link(t, filepath.Join(w.project, "a"), filepath.Join(w.cache, "b"))
	for _, name := range []string{"loop", "a"} {
		_, err := w.dir.Open(name)
		require.ErrorIs(t, err, syscall.ELOOP)
	}
}

func TestDir_OpensOnlyRegularFiles(t *testing.T) {
	w := newWorld(t)
	require.NoError(t, syscall.Mkfifo(filepath.Join(w.project, "fifo"), 0o644))
	t.Chdir(w.project) // A socket's path may have about 100 bytes.
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", "socket")
	require.NoError(t, err)
	defer closing(t, listener)

	unconfined, err := confine.Unconfined(w.project)
	require.NoError(t, err)
	defer closing(t, unconfined)
	for _, dir := range []*confine.Dir{w.dir, unconfined} {
		for name, kind := range map[string]string{
			"fifo": "a named pipe", "artifacts": "a folder", ".": "a folder", "socket": "a socket",
		} {
			err := promptly(t, func() error { _, err := dir.Open(name); return err })
			var irregular *confine.NotRegularError
			require.ErrorAs(t, err, &irregular, name)
			require.ErrorContains(t, err, "open "+name+": it is "+kind+", want a regular file")
		}
	}
	err = promptly(t, func() error { _, err := unconfined.Open("/dev/null"); return err })
	require.ErrorContains(t, err, "a device")
}

func TestRoots_OpensOnlyFoldersThatAreServed(t *testing.T) {
	w := newWorld(t)
	require.NoError(t, syscall.Mkfifo(filepath.Join(w.project, "fifo"), 0o644))
	link(t, w.outside, filepath.Join(w.project, "out"))
	link(t, w.cache, filepath.Join(w.project, "cached"))

	for _, name := range []string{w.outside, "..", filepath.Join(w.project, "out"), w.cache, "/"} {
		_, err := w.roots.OpenRoot(name)
		require.ErrorIs(t, err, confine.ErrOutside, name)
	}
	for _, name := range []string{"project/fifo", "project/artifacts/model"} {
		err := promptly(t, func() error { _, err := w.roots.OpenRoot(name); return err })
		require.ErrorIs(t, err, syscall.ENOTDIR, name)
	}
	_, err := w.roots.OpenRoot("project/absent")
	require.ErrorIs(t, err, fs.ErrNotExist)

	dir, err := w.roots.OpenRoot("project/cached")
	require.NoError(t, err)
	defer closing(t, dir)
	require.Equal(t, "cached", read(t, dir, "files/ab"))
}

func TestOpen_NeedsFolders(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "fifo")
	require.NoError(t, syscall.Mkfifo(fifo, 0o644))
	_, err := confine.Open(nil, nil)
	require.ErrorContains(t, err, "--allow-root")
	_, err = confine.Open([]string{"absent"}, nil)
	require.ErrorContains(t, err, "open --allow-root absent: no such file or directory")
	err = promptly(t, func() error { _, err := confine.Open([]string{t.TempDir()}, []string{fifo}); return err })
	require.ErrorContains(t, err, "open --allow-link-target "+fifo)
}

func TestDir_SubMakesFoldersWhereTheyAreServed(t *testing.T) {
	w := newWorld(t)
	_, err := w.dir.Sub("artifacts/registration", false)
	require.ErrorIs(t, err, fs.ErrNotExist)
	link(t, filepath.Join(filepath.Dir(w.project), "shared", "made"), filepath.Join(w.project, "moved"))
	for _, name := range []string{"artifacts/registration/deep", "moved", "."} {
		root, err := w.dir.Sub(name, true)
		require.NoError(t, err)
		require.NoError(t, root.WriteFile("receipt", []byte(name), 0o644))
		require.NoError(t, root.Close())
		require.Equal(t, name, read(t, w.dir, filepath.Join(name, "receipt")))
	}
}

func TestDir_SubRefusesOtherFolders(t *testing.T) {
	w := newWorld(t)
	link(t, w.outside, filepath.Join(w.project, "out"))
	link(t, w.cache, filepath.Join(w.project, "cached"))
	require.NoError(t, syscall.Mkfifo(filepath.Join(w.project, "fifo"), 0o644))
	for _, name := range []string{"out", "out/new", "cached", "cached/new", "../../outside", w.outside} {
		_, err := w.dir.Sub(name, true)
		require.ErrorIs(t, err, confine.ErrOutside, name)
	}
	require.NoDirExists(t, filepath.Join(w.outside, "new"))
	require.NoDirExists(t, filepath.Join(w.cache, "new"))
	for _, create := range []bool{false, true} {
		err := promptly(t, func() error { _, err := w.dir.Sub("fifo", create); return err })
		require.ErrorIs(t, err, confine.ErrNotFolder)
		require.ErrorContains(t, err, "open folder fifo")
	}
}

// Whoever may write in the project swaps a file and a folder for links that lead out, as fast as possible, while both are
// opened again and again.
func TestDir_WinsTheRaceAgainstSwappedLinks(t *testing.T) {
	w := newWorld(t)
	folder, file := filepath.Join(w.project, "folder"), filepath.Join(w.project, "file")
	write(t, filepath.Join(folder, "secret"), "public")
	write(t, file, "public")
	link(t, w.outside, folder+".out")
	link(t, filepath.Join(w.outside, "secret"), file+".out")

	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			for _, name := range []string{folder, file} {
				for _, step := range [][2]string{{name, name + ".in"}, {name + ".out", name}, {name, name + ".out"}, {name + ".in", name}} {
					_ = os.Rename(step[0], step[1])
				}
			}
			select {
			case <-stop:
				return
			default:
			}
		}
	}()
	opened := 0
	for range 5000 {
		for _, name := range []string{"folder/secret", "file"} {
			file, err := w.dir.Open(name)
			if err != nil {
				continue
			}
			content, err := io.ReadAll(file)
			require.NoError(t, err)
			require.NoError(t, file.Close())
			require.Equal(t, "public", string(content))
			opened++
		}
		if root, err := w.dir.Sub("folder", true); err == nil {
			content, err := root.ReadFile("secret")
			require.NoError(t, root.Close())
			if err == nil {
				require.Equal(t, "public", string(content))
			}
		}
	}
	close(stop)
	<-stopped
	require.Positive(t, opened)
}

func TestDir_StaysTheFolderThatItWas(t *testing.T) {
	w := newWorld(t)
	require.NoError(t, os.Rename(w.project, w.project+".old"))
	link(t, w.outside, w.project)
	require.Equal(t, "model", read(t, w.dir, "artifacts/model"))
}

func TestUnconfined_ReadsEverything(t *testing.T) {
	w := newWorld(t)
	link(t, filepath.Join(w.outside, "secret"), filepath.Join(w.project, "out"))
	dir, err := confine.Unconfined(w.project)
	require.NoError(t, err)
	defer closing(t, dir)
	require.Equal(t, w.project, dir.Name())
	require.Equal(t, secret, read(t, dir, "out"))
	require.Equal(t, secret, read(t, dir, filepath.Join(w.outside, "secret")))
	require.Equal(t, "metrics", read(t, dir, "../shared/metrics"))
	root, err := dir.Sub(filepath.Join(w.outside, "new"), true)
	require.NoError(t, err)
	require.NoError(t, root.Close())
	_, err = confine.Unconfined("absent")
	require.EqualError(t, err, "open folder absent: no such file or directory")
}
