package confine

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
)

// folderMode is the mode of new folders before the umask: whether a worker that runs as another user may write there is
// for the umask to say.
const folderMode = 0o777

// Dir is the folder of one project. It stays the folder that it was when it was opened, though another takes its name.
type Dir struct {
	roots *Roots // nil where nothing is confined
	tree  tree
}

// Unconfined opens a folder without limits: names below it may be absolute, and lead anywhere. It is for programs that
// run as the user whose files they read. Only regular files are opened all the same.
func Unconfined(dir string) (*Dir, error) {
	opened, err := openTree(dir)
	if err != nil {
		return nil, describe("open folder", dir, err)
	}
	return &Dir{tree: opened}, nil
}

// Name returns the absolute name of the folder, as it was asked for.
func (d *Dir) Name() string { return d.tree.given }

// Close closes the folder; files opened from it stay open. It may be repeated.
func (d *Dir) Close() error { return d.tree.root.Close() }

// Open opens a regular file for reading. The name is relative to the folder, or absolute and below an allowed folder;
// links in it may lead into any allowed folder and into link targets. It never blocks on a FIFO. The error is an
// [*OutsideError], a [*NotRegularError], or wraps the system's, [fs.ErrNotExist] for one.
func (d *Dir) Open(name string) (*os.File, error) {
	file, err := d.open(name)
	if err != nil {
		return nil, d.describe("open", name, err)
	}
	return file, nil
}

func (d *Dir) open(name string) (*os.File, error) {
	if d.roots == nil {
		return regular(os.OpenFile(d.absolute(name), readFlags, 0))
	}
	found, path, err := d.follow(name, d.roots.everywhere())
	if err != nil {
		return nil, err
	}
	return regular(found.root.OpenFile(path, readFlags, 0))
}

// ReadFile reads a small file, as Open opens it. The error names the file where it has more than maxBytes.
func (d *Dir) ReadFile(name string, maxBytes int64) ([]byte, error) {
	file, err := d.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if int64(len(data)) > maxBytes {
		return nil, fmt.Errorf("read %s: %w: it has over %d bytes; name the right file", name, ErrTooLarge, maxBytes)
	}
	return data, nil
}

// ErrNotFolder says that a name which should be a folder's is something else's.
var ErrNotFolder = errors.New("it is there and is no folder")

// Sub opens a folder for writing, and makes it and the folders above it first where create says so. The name is as for
// Open, but links lead into allowed folders only: what is a link target is for reading. The error is an [*OutsideError], an
// [ErrNotFolder], or wraps the system's.
func (d *Dir) Sub(name string, create bool) (*os.Root, error) {
	root, err := d.sub(name, create)
	if errors.Is(err, fs.ErrExist) || errors.Is(err, syscall.ENOTDIR) {
		err = ErrNotFolder
	}
	if err != nil {
		return nil, d.describe("open folder", name, err)
	}
	return root, nil
}

func (d *Dir) sub(name string, create bool) (*os.Root, error) {
	if d.roots == nil {
		path := d.absolute(name)
		if create {
			if err := os.MkdirAll(path, folderMode); err != nil {
				return nil, err
			}
		}
		return os.OpenRoot(path + "/")
	}
	found, path, err := d.follow(name, d.roots.allowed)
	if err != nil {
		return nil, err
	}
	if create && path != "." {
		if err := found.root.MkdirAll(path, folderMode); err != nil {
			return nil, err
		}
	}
	return openFolder(found.root, path)
}

func (d *Dir) follow(name string, reachable []tree) (tree, string, error) {
	start, rest, ok := find(slices.Concat([]tree{d.tree}, d.roots.allowed), d.absolute(name))
	if !ok {
		return tree{}, "", &OutsideError{}
	}
	return d.roots.follow(start, rest, reachable)
}

func (d *Dir) absolute(name string) string {
	if filepath.IsAbs(name) {
		return filepath.Clean(name)
	}
	return filepath.Join(d.tree.given, name)
}

func (d *Dir) describe(verb, name string, err error) error {
	err = describe(verb, name, err)
	if !filepath.IsAbs(name) && !errors.Is(err, ErrOutside) {
		err = fmt.Errorf("%w (in %s)", err, d.tree.given)
	}
	return err
}

// readFlags has O_NONBLOCK since an open of a FIFO waits for its writer otherwise; regular files ignore it.
const readFlags = os.O_RDONLY | syscall.O_NONBLOCK

// OpenRegular opens a regular file below root for reading. It never blocks. The error is a [*NotRegularError] or wraps
// the system's.
func OpenRegular(root *os.Root, name string) (*os.File, error) {
	file, err := regular(root.OpenFile(name, readFlags, 0))
	if err != nil {
		return nil, describe("open", name, err)
	}
	return file, nil
}

func regular(file *os.File, err error) (*os.File, error) {
	if errors.Is(err, syscall.ENXIO) || errors.Is(err, syscall.EOPNOTSUPP) {
		return nil, &NotRegularError{Mode: fs.ModeSocket} // What Linux and macOS say when a socket is opened.
	}
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = &NotRegularError{Mode: info.Mode()}
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// ErrTooLarge says that a file that should be small is not.
var ErrTooLarge = errors.New("the file is too large")

// ErrOutside says that a name, or a link in it, leads out of the folders that may be touched.
var ErrOutside = errors.New("outside the folders that this worker serves")

// OutsideError is the [ErrOutside] of one name.
type OutsideError struct {
	Path   string // as the caller gave it
	Target string // where a link led; empty when the name itself lies outside
}

// Error names the path and the flag that would allow it.
func (e *OutsideError) Error() string {
	if e.Target == "" {
		return fmt.Sprintf("open %s: %v; start the worker with --allow-root for a folder above it", e.Path, ErrOutside)
	}
	return fmt.Sprintf("open %s: a link leads to %s, %v; start the worker with --allow-link-target for a folder above it"+
		" (--allow-root to write there)", e.Path, e.Target, ErrOutside)
}

// Is reports whether target is [ErrOutside].
func (e *OutsideError) Is(target error) bool { return target == ErrOutside }

// NotRegularError says that something is not a regular file and cannot be read as one.
type NotRegularError struct {
	Path string // as the caller gave it
	Mode fs.FileMode
}

// Error says what the path is instead.
func (e *NotRegularError) Error() string {
	kind := "something else"
	switch {
	case e.Mode.IsDir():
		kind = "a folder"
	case e.Mode&fs.ModeNamedPipe != 0:
		kind = "a named pipe"
	case e.Mode&fs.ModeDevice != 0:
		kind = "a device"
	case e.Mode&fs.ModeSocket != 0:
		kind = "a socket"
	}
	return fmt.Sprintf("open %s: it is %s, want a regular file", e.Path, kind)
}
