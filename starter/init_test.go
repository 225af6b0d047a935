package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"registrar/config"
)

func TestInit_WritesSettingsThatAreRead(t *testing.T) {
	root := t.TempDir()

	a := inProcess(t, "init", "--root", root)

	require.Zero(t, a.code)
	require.Equal(t, "written: config/config.yaml\nwritten: config/params.yaml\n", a.stdout)
	settings, err := config.Parse(
		config.File{Name: "config/config.yaml", Data: []byte(read(t, root, "config/config.yaml"))},
		config.File{Name: "config/params.yaml", Data: []byte(read(t, root, "config/params.yaml"))},
	)
	require.NoError(t, err)
	require.Empty(t, settings.Warnings)
}

func TestInit_NeverOverwrites(t *testing.T) {
	root := t.TempDir()
	write(t, root, "config/params.yaml", "mine")

	a := inProcess(t, "init", "--root", root, "--output", "json")
	require.Zero(t, a.code)
	var files []initialFile
	require.NoError(t, json.Unmarshal([]byte(a.stdout), &files))
	require.Equal(t, []initialFile{{"config/config.yaml", true}, {"config/params.yaml", false}}, files)
	require.Equal(t, "mine", read(t, root, "config/params.yaml"))

	a = inProcess(t, "init", "--root", root)
	require.Zero(t, a.code)
	require.Equal(t, "left as it is: config/config.yaml\nleft as it is: config/params.yaml\nnothing to do\n", a.stdout)
	require.Equal(t, "mine", read(t, root, "config/params.yaml"))
}

func TestInit_WritesNothingOutside(t *testing.T) {
	for name, link := range map[string]string{"of the folder": "config", "of the file": "config/config.yaml"} {
		t.Run(name, func(t *testing.T) {
			root, outside := t.TempDir(), t.TempDir()
			require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(root, link)), 0o700))
			require.NoError(t, os.Symlink(filepath.Join(outside, "nothing"), filepath.Join(root, link)))

			inProcess(t, "init", "--root", root)

			left, err := os.ReadDir(outside)
			require.NoError(t, err)
			require.Empty(t, left)
		})
	}
}

func TestInit_NeedsAFolder(t *testing.T) {
	a := inProcess(t, "init", "--root", filepath.Join(t.TempDir(), "nowhere"))
	require.Equal(t, exitFailure, a.code)
	require.Contains(t, a.stderr, "nowhere: no such file or directory: make the folder, or give another with --root")
}
