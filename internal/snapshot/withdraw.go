package snapshot

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io/fs"
	"path"
	"strings"
)

// Before is how a registration stood before a Commit, for Withdraw.
type Before struct {
	absent     bool // there was no registration of this key
	handedOver bool // and ended, or Commit would not have been called
	handover   Handover
	hadModel   bool
	// files are those that Commit's caller writes anew, by their names below root_dir.
	files map[string][]byte
}

// Before looks at the registration that Commit will make or mend. Hold the Lock of the key.
func (s *Staged) Before() (Before, error) {
	before := Before{files: map[string][]byte{}}
	folder, err := Open(s.root, ShortKey(s.request.RegistrationKey))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		before.absent = true
	case err != nil:
		return Before{}, nil //nolint:nilerr // a damaged one, which Commit mends, and which may be queued
	default:
		if before.handover, before.handedOver, err = folder.HandedOver(); err != nil {
			return Before{}, err
		}
		_, err := s.root.Stat(path.Join(folder.path, folder.request.Model.Name))
		before.hadModel = err == nil
	}
	for _, name := range writtenAnew(FolderPath(s.request.RegistrationKey)) {
		data, err := readSmall(s.root, name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return Before{}, err
		}
		if err == nil {
			before.files[name] = data
		}
	}
	return before, nil
}

func writtenAnew(folder string) []string {
	return append([]string{path.Join(folder, decisionName), path.Join(folder, receiptName)}, shownNames...)
}

// shownNames are what root_dir shows of the newest registration, and which one that is.
var shownNames = []string{newestName, decisionName, receiptName}

// Withdraw takes back what Commit queued, since it was refused: a registration that was not there before is removed, one that another workflow run had
// has that run again, and root_dir shows what it showed. One that was queued before stays queued. Hold the Lock of the key from Before on.
func (f *Folder) Withdraw(before Before) error {
	switch {
	case before.absent:
		removed := stagingName(rand.Text()) // at once: what is removed file by file would be a damaged registration
		if err := replace(f.root, f.path, removed); err != nil {
			return err
		}
		if err := f.root.RemoveAll(removed); err != nil {
			return err
		}
	case before.handedOver:
		for _, name := range []string{decisionName, receiptName} {
			if err := f.restore(before, path.Join(f.path, name)); err != nil {
				return err
			}
		}
		if err := f.MarkHandedOver(before.handover.WorkflowID, before.handover.RunID); err != nil {
			return err
		}
		if !before.hadModel {
			if err := errors.Join(f.root.RemoveAll(path.Join(f.path, modelFolder)), f.root.RemoveAll(path.Join(f.path, extraFolder))); err != nil {
				return err
			}
		}
	default:
		return nil
	}
	return f.showFormer(before)
}

// showFormer lets root_dir show what it showed, unless another registration became the newest meanwhile.
func (f *Folder) showFormer(before Before) error {
	mark, err := readSmall(f.root, newestName)
	if err != nil || string(bytes.TrimSpace(mark)) != path.Base(f.path) {
		return nil //nolint:nilerr // nothing is marked: nothing was shown
	}
	for _, name := range shownNames {
		if err := f.restore(before, name); err != nil {
			return err
		}
	}
	former := strings.TrimSpace(string(before.files[newestName]))
	if !isShortKey(former) {
		return nil
	}
	shown := &Folder{root: f.root, path: FolderPath(former)} // it may have gone on while it was not shown
	return errors.Join(shown.showNewest(decisionName), shown.showNewest(receiptName))
}

func (f *Folder) restore(before Before, name string) error {
	data, there := before.files[name]
	if !there {
		return f.root.RemoveAll(name)
	}
	return writeFile(f.root, name, data)
}
