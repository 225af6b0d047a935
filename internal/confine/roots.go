// Package confine opens files and folders on behalf of others without leaving the folders it was given.
//
// It knows which folders a worker serves and which folders a link in them may lead to. Every file is opened through an
// [os.Root], so a link that is swapped between a look and the open that follows cannot lead anywhere else. It does not
// know what the files are for, and no error of it carries a file's content.
package confine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// maxLinks is the number of symbolic links followed in one name: the limit of Linux (path_resolution(7)).
const maxLinks = 40

// Roots are the folders that a worker serves. They are safe for concurrent use until Close.
type Roots struct {
	allowed []tree
	targets []tree
}

// tree is an open folder with the two absolute names it goes by: links and callers may use either.
type tree struct {
	root  *os.Root
	given string
	real  string
}

// Open opens the folders that may be served and those that a link in them may lead to. At least one folder must be
// allowed; relative names are relative to the working folder. All of them must exist.
func Open(allow, linkTargets []string) (*Roots, error) {
	if len(allow) == 0 {
		return nil, errors.New("open allowed folders: none given, want at least one --allow-root")
	}
	roots := &Roots{}
	for _, group := range []struct {
		flag    string
		folders []string
		trees   *[]tree
	}{
		{"--allow-root", allow, &roots.allowed},
		{"--allow-link-target", linkTargets, &roots.targets},
	} {
		for _, folder := range group.folders {
			opened, err := openTree(folder)
			if err != nil {
				return nil, errors.Join(fmt.Errorf("open %s %s: %w", group.flag, folder, err), roots.Close())
			}
			*group.trees = append(*group.trees, opened)
		}
	}
	return roots, nil
}

func openTree(folder string) (tree, error) {
	given, err := filepath.Abs(folder)
	if err != nil {
		return tree{}, err
	}
	resolved, err := filepath.EvalSymlinks(given)
	if err != nil {
		return tree{}, cause(err)
	}
	// The slash at the end makes a FIFO of that name an error instead of an open that waits for a writer.
	root, err := os.OpenRoot(resolved + "/")
	if err != nil {
		return tree{}, cause(err)
	}
	return tree{root: root, given: given, real: resolved}, nil
}

// Close closes the folders. A Dir opened from r is closed by itself, and follows no link out of its own folder any more.
// Close may be repeated.
func (r *Roots) Close() error {
	var errs []error
	for _, t := range r.everywhere() {
		errs = append(errs, t.root.Close())
	}
	return errors.Join(errs...)
}

// OpenRoot opens the folder of a project: an allowed folder, or one below it. A relative name is relative to the first
// allowed folder. The error is an [*OutsideError] where the name, or a link in it, leads elsewhere.
func (r *Roots) OpenRoot(dir string) (*Dir, error) {
	given := dir
	if !filepath.IsAbs(given) {
		given = filepath.Join(r.allowed[0].given, given)
	}
	given = filepath.Clean(given)
	start, rest, ok := find(r.allowed, given)
	if !ok {
		return nil, &OutsideError{Path: dir}
	}
	found, path, err := r.follow(start, rest, r.everywhere())
	if err != nil {
		return nil, describe("open folder", dir, err)
	}
	root, err := openFolder(found.root, path)
	if err != nil {
		return nil, describe("open folder", dir, err)
	}
	return &Dir{roots: r, tree: tree{root: root, given: given, real: filepath.Join(found.real, path)}}, nil
}

// everywhere returns all that may be read.
func (r *Roots) everywhere() []tree { return slices.Concat(r.allowed, r.targets) }

// find returns the innermost of the trees that path lies in, and path relative to it. The path has to be absolute.
func find(trees []tree, path string) (found tree, rest string, ok bool) {
	longest := -1
	for _, t := range trees {
		for _, folder := range []string{t.given, t.real} {
			if relative, below := within(folder, path); below && len(folder) > longest {
				found, rest, longest = t, relative, len(folder)
			}
		}
	}
	return found, rest, longest >= 0
}

func within(folder, path string) (relative string, ok bool) {
	if path == folder {
		return ".", true
	}
	return strings.CutPrefix(path, strings.TrimSuffix(folder, "/")+"/")
}

// follow resolves the links of name, from start on, and returns a name without links and the tree it lies in. A link
// that leaves its tree has to lead into one of the reachable ones. What it returns may be outdated at once: to open it
// through the tree's root is safe nevertheless, since that root follows no link that leaves it.
func (r *Roots) follow(start tree, name string, reachable []tree) (tree, string, error) {
	at, done, todo := start, []string{}, strings.Split(name, "/")
	for links := 0; len(todo) > 0; {
		part := todo[0]
		todo = todo[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			if len(done) > 0 {
				done = done[:len(done)-1]
				continue
			}
			// Only a link says "..", names are cleaned before. The parents of a real name are real names too.
			parent := filepath.Dir(at.real)
			for len(todo) > 0 && todo[0] == ".." {
				parent, todo = filepath.Dir(parent), todo[1:]
			}
			var err error
			if at, todo, err = enter(reachable, parent, todo); err != nil {
				return tree{}, "", err
			}
			continue
		}
		done = append(done, part)
		link, err := at.root.Readlink(strings.Join(done, "/"))
		if err != nil {
			continue // Not a link, or not there: the open that follows says which.
		}
		if links++; links > maxLinks {
			return tree{}, "", syscall.ELOOP
		}
		done = done[:len(done)-1]
		if !filepath.IsAbs(link) {
			todo = append(strings.Split(link, "/"), todo...)
			continue
		}
		if at, todo, err = enter(reachable, filepath.Clean(link), todo); err != nil {
			return tree{}, "", err
		}
		done = done[:0]
	}
	if len(done) == 0 {
		return at, ".", nil
	}
	return at, strings.Join(done, "/"), nil
}

// enter goes on in the tree that holds the rest below the absolute folder.
func enter(reachable []tree, folder string, rest []string) (tree, []string, error) {
	path := strings.TrimSuffix(folder, "/") + "/" + strings.Join(rest, "/")
	next, relative, ok := find(reachable, strings.TrimSuffix(path, "/"))
	if !ok {
		return tree{}, nil, &OutsideError{Target: filepath.Clean(path)}
	}
	return next, strings.Split(relative, "/"), nil
}

// openFolder opens a folder below root. The dot at the end has everything before it opened as a folder, so that a FIFO
// is an error and not an open that waits for a writer.
func openFolder(root *os.Root, name string) (*os.Root, error) {
	return root.OpenRoot(name + "/.")
}

// describe names the path as the caller gave it, instead of the one that the system call saw.
func describe(verb, path string, err error) error {
	if outside, ok := errors.AsType[*OutsideError](err); ok {
		return &OutsideError{Path: path, Target: outside.Target}
	}
	if irregular, ok := errors.AsType[*NotRegularError](err); ok {
		return &NotRegularError{Path: path, Mode: irregular.Mode}
	}
	return fmt.Errorf("%s %s: %w", verb, path, cause(err))
}

func cause(err error) error {
	if pathError, ok := errors.AsType[*fs.PathError](err); ok {
		return pathError.Err
	}
	return err
}
