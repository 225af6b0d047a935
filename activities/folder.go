package activities

import (
	"errors"
	"io/fs"
	"os"
	"path"

	"registrar/config"
	"registrar/internal/confine"
	"registrar/internal/snapshot"
)

// Project is the folder whose files a registration reads, as the one who started it named it: absolute on the worker's machine.
type Project struct {
	Root string `json:"root"`
	// RootDir is model_registration.root_dir, and Key the registration key; both empty until the inputs are frozen.
	RootDir string `json:"root_dir,omitempty"`
	Key     string `json:"registration_key,omitempty"`
}

// Folder is the path of the registration folder, below Root; empty until the inputs are frozen.
func (p Project) Folder() string {
	if p.Key == "" {
		return ""
	}
	return path.Join(p.RootDir, snapshot.FolderPath(p.Key))
}

// frozen is an open registration folder.
type frozen struct {
	*snapshot.Folder
	rootDir *os.Root
}

// Close closes what the folder is read through.
func (f frozen) Close() error { return f.rootDir.Close() }

// folder opens the registration folder of a project whose inputs are frozen.
func (a *Activities) folder(p Project) (frozen, error) {
	dir, err := a.Roots.OpenRoot(p.Root)
	if err != nil {
		return frozen{}, err
	}
	defer dir.Close()
	rootDir, err := dir.Sub(p.RootDir, false)
	if err != nil {
		return frozen{}, err
	}
	folder, err := snapshot.Open(rootDir, snapshot.ShortKey(p.Key))
	if err != nil {
		return frozen{}, errors.Join(err, rootDir.Close())
	}
	return frozen{Folder: folder, rootDir: rootDir}, nil
}

// readSettings reads a settings file of a project.
func readSettings(dir *confine.Dir, name string) (config.File, error) {
	data, err := dir.ReadFile(name, config.MaxFileBytes)
	return config.File{Name: name, Data: data}, err
}

func isAbsent(err error) bool { return errors.Is(err, fs.ErrNotExist) }
