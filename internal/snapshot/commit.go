package snapshot

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"strings"
)

// Commit makes what was staged the registration folder of its key. Where that exists, it is mended: right copies are
// kept, missing and wrong ones brought back, the request and its settings replaced; decision and receipt stay. The folder
// counts as queued afterwards, whoever had it before. Commit may be repeated after an error, and by another process after
// a crash at any moment: up to its last step the folder holds the request of before, from then on the new one. Hold the
// Lock of the key.
func (s *Staged) Commit(ctx context.Context) (*Folder, error) {
	folder := &Folder{
		root:    s.root,
		path:    FolderPath(s.request.RegistrationKey),
		request: s.request,
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	err := replace(s.root, s.path, folder.path)
	// The folder exists, or an earlier Commit of s had come this far.
	if errors.Is(err, fs.ErrExist) || errors.Is(err, fs.ErrNotExist) {
		err = folder.take(ctx, s)
	}
	if err != nil {
		return nil, err
	}
	if err := errors.Join(folder.prune(), s.Discard()); err != nil {
		return nil, err
	}
	return folder, nil
}

// take moves what f lacks out of the staging folder, request.json last.
func (f *Folder) take(ctx context.Context, s *Staged) error {
	for _, entry := range s.request.Entries() {
		wrong := f.verify(ctx, entry, &meter{}, nil)
		if err := ctx.Err(); err != nil {
			return err
		}
		if wrong == nil {
			continue
		}
		if err := f.move(s, entry.Name); err != nil {
			return errors.Join(wrong, err)
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if current, err := Open(f.root, path.Base(f.path)); err == nil && current.request.ID == s.request.ID {
		return nil
	}
	return f.move(s, requestName)
}

func (f *Folder) move(s *Staged, name string) error {
	target := path.Join(f.path, name)
	if err := f.root.MkdirAll(path.Dir(target), folderMode); err != nil {
		return err
	}
	if err := replace(f.root, path.Join(s.path, name), target); err != nil {
		return err
	}
	for folder := path.Dir(target); folder != f.path; folder = path.Dir(folder) {
		if err := syncFolder(f.root, path.Dir(folder)); err != nil {
			return err
		}
	}
	return nil
}

// prune removes the copies that belong to an earlier request only.
func (f *Folder) prune() error {
	var errs []error
	for _, role := range []string{modelFolder, extraFolder, settingsFolder} {
		copies, err := readFolder(f.root, path.Join(f.path, role))
		errs = append(errs, err)
		for _, old := range copies {
			if name := path.Join(role, old.Name()); !f.request.needs(name) {
				errs = append(errs, f.root.RemoveAll(path.Join(f.path, name)))
			}
		}
	}
	return errors.Join(errs...)
}

// needs reports whether a file, or one in a folder of that name, belongs to the request.
func (r Request) needs(name string) bool {
	for _, entry := range r.Entries() {
		if entry.Name == name || strings.HasPrefix(entry.Name, name+"/") {
			return true
		}
	}
	return false
}
