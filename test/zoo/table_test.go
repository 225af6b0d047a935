package zoo

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"registrar/internal/servertest"
)

// writeTable writes docs/zoo.md.
func writeTable(t *testing.T, folder string, specimens []*specimen, took time.Duration) {
	t.Helper()
	var versions map[string]string
	readJSON(t, filepath.Join(folder, "versions.json"), &versions)
	var rows strings.Builder
	var models, files, allowed, loaded, registered int
	for _, s := range specimens {
		models++
		files, allowed, loaded = files+len(s.Ways), allowed+s.allowed, loaded+s.loaded
		if s.registered != "" {
			registered++
		}
		verdict := "as Python says"
		if len(s.problems) > 0 {
			verdict = cell(s.problems[0])
		}
		fmt.Fprintf(&rows, "| %s | %d of %d | %d | %s | %s |\n", s.Name, s.allowed, len(s.Ways), s.loaded, cmp.Or(s.registered, "no"), verdict)
	}
	text := fmt.Sprintf(`# The zoo

Written by `+"`make zoo`"+` on %s, in %s on %s/%s with %d CPUs: Python %s, scikit-learn %s, numpy %s, pandas %s,
joblib %s, cloudpickle %s, skops %s, MLflow %s.

Every estimator that `+"`sklearn.utils.all_estimators()`"+` gives, as scikit-learn's own tests make it, fitted to small data, and typical pipelines. Each
is saved by joblib (plain, in protocol 2, and by zlib, lz4 and xz), by pickle in protocols 0 and 2 to 5, by cloudpickle, and by skops where skops
can load again what it saves.

- **Inspected**: what each file tells is what Python says of the model, with nothing left out: class, steps, scikit-learn's version, number and names
  of the columns, labels and their type, parameters that are plain values, and each global that Python's unpickler imports. Of a skops file the class
  is compared alone.
- **Allowed**: by the [security gate](security-gate.md) in its strict policy.
- **Loaded**: packed as it would be registered, joblib files in both layouts, the model loads by `+"`mlflow.sklearn`"+` and answers equal, to the last bit, to
  the model that Python's pickle loads. So it does by `+"`mlflow.pyfunc`"+`, tried with one file of each format and layout of models that predict, and the
  outputs are what the signature claims.
- **Registered**: one file of each model went through the worker, on a real Temporal server and a real MLflow server, into Staging, and was loaded back from
  `+"`models:/<name>/1`"+`, as above and by both. The ways of saving take turns: the column says which one it was.

**%d models, %d files: %d allowed, %d packed folders loaded back equal, %d versions registered and loaded back equal.**

| model | files allowed | folders loaded equal | registered as | what the files tell |
|---|---|---|---|---|
%s`, time.Now().UTC().Format(time.DateOnly), took.Round(time.Second), runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), versions["python"],
		versions["scikit-learn"], versions["numpy"], versions["pandas"], versions["joblib"], versions["cloudpickle"], versions["skops"], versions["mlflow"],
		models, files, allowed, loaded, registered, rows.String())
	require.NoError(t, os.WriteFile(filepath.Join(servertest.Root(), "docs", "zoo.md"), []byte(text), 0o600))
}

// cell is a text that a table of Markdown may hold.
func cell(text string) string {
	text = strings.NewReplacer("\n", " ", "|", "\\|", "<", "&lt;").Replace(text)
	if len(text) > 160 {
		text = strings.ToValidUTF8(text[:160], "") + "..."
	}
	return text
}
