package snapshot

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"

	"registrar/internal/confine"
)

const (
	registrationsName = "registrations"
	requestName       = "request.json"
	decisionName      = "decision.json"
	receiptName       = "receipt.json"
	workflowName      = "workflow.json"
	newestName        = registrationsName + "/newest"
	uploadName        = "upload.json"
	metricsName       = "metrics.json"
	modelFolder       = "model"
	extraFolder       = "extra"
	settingsFolder    = "settings"

	stagingPrefix = ".staging-"

	// The umask takes from these modes: whether a worker that runs as another user may write beside the starter is for
	// the umask and the group to say, as with any file that the pipeline writes.
	fileMode   = 0o666
	folderMode = 0o777
	// secretMode is for what lets others act in the registration's name.
	secretMode = 0o600

	// maxSmallBytes bounds what is read into memory at once: settings, metrics, request.json, workflow.json.
	maxSmallBytes = 1 << 20
	// maxUploadBytes bounds upload.json, which holds the address of each part: hundreds of some kilobytes, where a store signs by a session's token. They
	// come in one answer of MLflow's, of at most 16 MiB.
	maxUploadBytes = 32 << 20
)

// stagingName returns where something unfinished lies. CollectGarbage knows it by its prefix.
func stagingName(id string) string {
	return path.Join(registrationsName, stagingPrefix+id)
}

// writeFile replaces a file by one with this content, or leaves it alone: a reader, and whoever comes after a crash, sees
// the old content or the new.
func writeFile(root *os.Root, name string, data []byte) error {
	return writeFileMode(root, name, data, fileMode)
}

func writeFileMode(root *os.Root, name string, data []byte, mode os.FileMode) (err error) {
	if err := root.MkdirAll(registrationsName, folderMode); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	temporary := stagingName(rand.Text())
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("write %s: %w", name, err), root.RemoveAll(temporary))
		}
	}()
	if err := createFileMode(root, temporary, data, mode); err != nil {
		return err
	}
	return replace(root, temporary, name)
}

// createFile writes a new file down to the disk. It overwrites nothing.
func createFile(root *os.Root, name string, data []byte) error {
	return createFileMode(root, name, data, fileMode)
}

func createFileMode(root *os.Root, name string, data []byte, mode os.FileMode) error {
	file, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	return errors.Join(err, file.Sync(), file.Close())
}

// replace gives what is named old its new name, for good: the folder is synced, since a rename alone may be lost when
// the power fails.
func replace(root *os.Root, oldName, newName string) error {
	if err := root.Rename(oldName, newName); err != nil {
		return err
	}
	return syncFolder(root, path.Dir(newName))
}

func syncFolder(root *os.Root, name string) error {
	folder, err := root.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

// readSmall reads a regular file of at most 1 MiB.
func readSmall(root *os.Root, name string) ([]byte, error) {
	return readUpTo(root, name, maxSmallBytes)
}

// readUpTo reads a regular file that has no more bytes than that.
func readUpTo(root *os.Root, name string, maxBytes int64) ([]byte, error) {
	file, err := confine.OpenRegular(root, name)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(file, maxBytes+1))
	if err := errors.Join(err, file.Close()); err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if int64(len(data)) > maxBytes {
		return nil, fmt.Errorf("read %s: it has over %d bytes, want at most that", name, maxBytes)
	}
	return data, nil
}

// CollectGarbage removes what killed processes left unfinished below rootDir, where nothing has happened to it for the
// time given. Registration folders are not touched. It may be repeated and run beside everything else.
func CollectGarbage(rootDir *os.Root, olderThan time.Duration) error {
	entries, err := readFolder(rootDir, registrationsName)
	var errs []error
	for _, entry := range entries {
		if !strings.HasPrefix(entry.Name(), stagingPrefix) {
			continue
		}
		info, err := entry.Info()
		if err != nil || time.Since(info.ModTime()) < olderThan {
			continue // In use, or gone since the folder was read.
		}
		errs = append(errs, rootDir.RemoveAll(path.Join(registrationsName, entry.Name())))
	}
	return errors.Join(append(errs, err)...)
}

// readFolder lists a folder; one that is not there is empty.
func readFolder(root *os.Root, name string) ([]fs.DirEntry, error) {
	entries, err := fs.ReadDir(root.FS(), name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return entries, err
}
