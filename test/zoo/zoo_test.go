// Package zoo holds what is read of a model file, and what is packed from it and registered, against what Python says: for every estimator of
// scikit-learn and for typical pipelines, saved in every way that a pipeline might. `make test` runs a sample, `make zoo` all of it. Of what is
// registered, the tests of test/e2e are the sample.
package zoo

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"registrar/internal/mlmodel"
	"registrar/internal/modelfile"
	"registrar/internal/servertest"
)

var (
	full = flag.Bool("full", false, "every estimator and every pipeline, registered on real servers too, and write docs/zoo.md")
	only = flag.String("only", "", "these models, with commas between them, and no docs/zoo.md")
)

// specimen is a model, and what was found wrong with it in any way of saving it.
type specimen struct {
	expected
	allowed, loaded int
	// registered is how the version in the registry was saved and laid out; empty where none was loaded back.
	registered string
	problems   []string
}

func (s *specimen) fail(way, format string, values ...any) {
	s.problems = append(s.problems, way+": "+fmt.Sprintf(format, values...))
}

// place is where a model is loaded from: the URI of a folder or of a version.
type place struct {
	Model string `json:"model"`
	Way   string `json:"way"`
	URI   string `json:"uri"`
	// Version says that it is a version in the registry.
	Version bool `json:"version"`
}

func TestZoo(t *testing.T) {
	servertest.SkipWhereOff(t)
	folder, began := t.TempDir(), time.Now()
	specimens := born(t, folder)
	places := []place{}
	for _, s := range specimens {
		for _, way := range s.Ways {
			places = append(places, inspectAndPack(t, folder, s, way)...)
		}
	}
	trackingURI := "sqlite:///" + filepath.Join(folder, "unused.db")
	if *full {
		var versions []place
		trackingURI, versions = register(t, folder, specimens)
		places = append(places, versions...)
	}
	load(t, folder, trackingURI, specimens, places)
	if *full && *only == "" {
		writeTable(t, folder, specimens, time.Since(began))
	}
	var problems []string
	for _, s := range specimens {
		for _, problem := range s.problems {
			problems = append(problems, s.Name+", "+problem)
		}
	}
	require.Zero(t, len(problems), strings.Join(problems[:min(len(problems), 60)], "\n"))
}

// born lets Python make the models.
func born(t *testing.T, folder string) []*specimen {
	t.Helper()
	names := []string{"sample"}
	switch {
	case *only != "":
		names = strings.Split(*only, ",")
	case *full:
		names = []string{"all"}
	}
	python(t, "", "make.py", append([]string{folder}, names...)...)
	var specimens []*specimen
	readJSON(t, filepath.Join(folder, "expected.json"), &specimens)
	require.Greater(t, len(specimens), map[string]int{"sample": 20, "all": 250}[names[0]])
	for _, s := range specimens {
		if s.WhyNot != "" {
			s.fail("make.py", "none of its data fits: %s", s.WhyNot)
			continue
		}
		require.Subset(t, s.Ways, []string{
			"joblib", "joblib-protocol-2", "joblib-zlib", "joblib-lz4", "joblib-xz", "pickle-0", "pickle-2", "pickle-3", "pickle-4", "pickle-5", "cloudpickle",
		}, s.Name)
	}
	return specimens
}

// inspectAndPack reads a model's file, compares what it tells, and writes the folders that would be registered, one in each layout.
func inspectAndPack(t *testing.T, folder string, s *specimen, way string) []place {
	t.Helper()
	path := filepath.Join(folder, "models", s.Name, way)
	info, err := inspect(t, path)
	if err != nil {
		s.fail(way, "inspect: %v", err)
		return nil
	}
	if info.Verdict != modelfile.Allowed {
		s.fail(way, "%s: %v", info.Verdict, info.Reasons)
	} else {
		s.allowed++
	}
	for _, difference := range s.differences(way, info) {
		s.fail(way, "%s", difference)
	}
	layouts := []mlmodel.Layout{mlmodel.LayoutWrapper}
	if info.Format == modelfile.FormatJoblib {
		layouts = append(layouts, mlmodel.LayoutHybrid)
	}
	var places []place
	for _, layout := range layouts {
		target := filepath.Join(folder, "packed", s.Name, way+"."+string(layout))
		pack(t, target, path, info, layout)
		places = append(places, place{Model: s.Name, Way: label(s.expected, way, layout), URI: target})
	}
	return places
}

// label says how a model is saved, and laid out where that makes a difference: a pickle is registered as it is.
func label(e expected, way string, layout mlmodel.Layout) string {
	if e.format(way) != modelfile.FormatJoblib {
		return way
	}
	return way + ", " + string(layout)
}

// load loads the models as MLflow's users do, and compares what they answer.
func load(t *testing.T, folder, trackingURI string, specimens []*specimen, places []place) {
	t.Helper()
	raw, err := json.Marshal(places)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(folder, "places.json"), raw, 0o600))
	var found map[string]string
	require.NoError(t, json.Unmarshal(python(t, trackingURI, "load.py", folder), &found))
	byName := map[string]*specimen{}
	for _, s := range specimens {
		byName[s.Name] = s
	}
	for _, p := range places {
		problem, ok := found[p.URI]
		if p.Version && problem != "" {
			problem = p.URI + ": " + problem
		}
		switch {
		case !ok:
			byName[p.Model].fail(p.Way, "nobody loaded it")
		case problem != "":
			byName[p.Model].fail(p.Way, "load: %s", problem)
		case p.Version:
			byName[p.Model].registered = p.Way
		default:
			byName[p.Model].loaded++
		}
	}
}

// python runs a script of testdata, and gives its output.
func python(t *testing.T, trackingURI, script string, args ...string) []byte {
	t.Helper()
	interpreter := filepath.Join(servertest.Root(), ".build", "venv", "bin", "python")
	require.FileExists(t, interpreter, "run `make venv`, or set %s=off to skip", servertest.SkipVariable)
	command := exec.CommandContext(t.Context(), interpreter, append([]string{filepath.Join("testdata", script)}, args...)...)
	command.Env = servertest.Environment([]string{"MLFLOW_"}, "MLFLOW_DISABLE_TELEMETRY=true", "DO_NOT_TRACK=true", "MLFLOW_TRACKING_URI="+trackingURI,
		"PYTHONDONTWRITEBYTECODE=1", "TMPDIR="+t.TempDir()) // where MLflow leaves a folder for each version that it loads
	var complaints bytes.Buffer
	command.Stderr = &complaints
	output, err := command.Output()
	require.NoError(t, err, complaints.String())
	return output
}
