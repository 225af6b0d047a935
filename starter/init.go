package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"

	"github.com/spf13/cobra"

	"registrar/config"
)

func (s *starter) initCommand() *cobra.Command {
	var root string
	command := &cobra.Command{
		Use:   "init",
		Short: "Write commented settings for a project",
		Long: fmt.Sprintf(`Writes %s and %s with every key, what it is for and its default; what may be left out is commented out.
A file that is there is never touched.`, config.ConfigPath, config.ParamsPath),
		Example: "  starter init\n  starter init --root /srv/pipelines/acras",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			files, err := writeSettings(root)
			if err != nil {
				return err
			}
			if s.output == "json" {
				return s.printJSON(files)
			}
			return s.printWritten(files)
		},
	}
	addRoot(command, &root)
	return command
}

// initialFile is a settings file, and whether init wrote it.
type initialFile struct {
	File    string `json:"file"`
	Written bool   `json:"written"`
}

// writeSettings writes the settings files that a project lacks. It goes through the folder as it was opened: a link in it that leads out is
// refused.
func writeSettings(folder string) (files []initialFile, err error) {
	root, err := os.OpenRoot(folder)
	if err != nil {
		return nil, fmt.Errorf("open project root: %w: make the folder, or give another with --root", err)
	}
	defer root.Close()
	for _, schema := range config.Schemas() {
		written, err := writeNew(root, schema.Path, schema.Template())
		if err != nil {
			return nil, fmt.Errorf("write settings: %w", err)
		}
		files = append(files, initialFile{File: schema.Path, Written: written})
	}
	return files, nil
}

// writeNew writes a file, unless something has its name. What was begun and not ended is removed.
func writeNew(root *os.Root, name, content string) (written bool, err error) {
	if err := root.MkdirAll(path.Dir(name), 0o777); err != nil {
		return false, err
	}
	file, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if errors.Is(err, fs.ErrExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	_, err = file.WriteString(content)
	if err = errors.Join(err, file.Close()); err != nil {
		return false, errors.Join(err, root.Remove(name))
	}
	return true, nil
}

func (s *starter) printWritten(files []initialFile) error {
	written := 0
	for _, f := range files {
		if !f.Written {
			fmt.Fprintf(s.stdout, "left as it is: %s\n", f.File)
			continue
		}
		written++
		fmt.Fprintf(s.stdout, "written: %s\n", f.File)
	}
	if written == 0 {
		fmt.Fprintln(s.stdout, "nothing to do")
		return nil
	}
	fmt.Fprintln(s.stderr, "Edit what is written, then: starter doctor")
	return nil
}
