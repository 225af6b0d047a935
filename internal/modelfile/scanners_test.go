package modelfile

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var scannersPython = flag.String("scanners", "", "the Python with the public scanners, to compare with and to write docs/security-gate.md (make scanners)")

// scannersPage has the comparison behind its last heading's mark.
const (
	scannersPage = "../../docs/security-gate.md"
	scannersMark = "<!-- What follows is written by `make scanners`. -->\n"
)

var scanners = []string{"picklescan", "modelscan", "fickling"}

// scan lets the scanners look at each file of a folder.
func scan(t *testing.T, arguments ...string) [][]byte {
	t.Helper()
	command := exec.CommandContext(t.Context(), *scannersPython, append([]string{filepath.Join("testdata", "scan.py")}, arguments...)...)
	var complaints bytes.Buffer
	command.Stderr = &complaints
	output, err := command.Output()
	require.NoError(t, err, complaints.String())
	return slices.Collect(bytes.Lines(output))
}

// verdictOn is what this package says of a file, in the scanners' words.
func verdictOn(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	info, err := inspected(t, content)
	if _, ok := errors.AsType[*FormatError](err); ok || info.Verdict == Refused {
		return "flagged"
	}
	require.NoError(t, err)
	return "passed"
}

func TestScanners_MissWhatThisReaderRefuses(t *testing.T) {
	if *scannersPython == "" {
		t.Skip("a comparison with the public scanners: make scanners")
	}
	hostile, ran := evasions(t)
	honest := honestModels(t)
	lines := scan(t, hostile)
	var versions map[string]string
	require.NoError(t, json.Unmarshal(lines[0], &versions))

	var page strings.Builder
	fmt.Fprintf(&page, "\n%s, picklescan %s, modelscan %s, fickling %s, on %s/%s.\n\n", time.Now().UTC().Format("2006-01-02"), versions["picklescan"],
		versions["modelscan"], versions["fickling"], runtime.GOOS, runtime.GOARCH)
	page.WriteString("| file | Python executes it | registrar | picklescan | modelscan | fickling |\n|---|---|---|---|---|---|\n")
	missed := map[string]int{}
	for _, line := range lines[1:] {
		verdicts := verdictsOf(t, line)
		verdicts["registrar"] = verdictOn(t, filepath.Join(hostile, verdicts["file"]))
		fmt.Fprintf(&page, "| %s | %s |", strings.ReplaceAll(verdicts["file"], "_", " "), map[bool]string{true: "yes", false: ""}[ran[verdicts["file"]]])
		for _, scanner := range append([]string{"registrar"}, scanners...) {
			if verdicts[scanner] == "passed" {
				missed[scanner]++
			}
			fmt.Fprintf(&page, " %s |", map[string]string{"flagged": "refused", "passed": "**missed**", "failed": "error"}[verdicts[scanner]])
		}
		page.WriteString("\n")
	}
	require.Zero(t, missed["registrar"])
	fmt.Fprintf(&page, "\nMissed of %d: registrar 0, picklescan %d, modelscan %d, fickling %d. An error is a file that the scanner does not judge.\n",
		len(ran), missed["picklescan"], missed["modelscan"], missed["fickling"])

	alarms, models := map[string]int{}, scan(t, honest)[1:]
	for _, line := range models {
		verdicts := verdictsOf(t, line)
		verdicts["registrar"] = verdictOn(t, filepath.Join(honest, verdicts["file"]))
		for scanner, verdict := range verdicts {
			if verdict != "passed" {
				alarms[scanner]++
			}
		}
	}
	require.Zero(t, alarms["registrar"])
	fmt.Fprintf(&page, "\nOf %d honest model files (the sample of the [zoo](zoo.md)), not passed: registrar 0, picklescan %d, modelscan %d, fickling %d.\n",
		len(models), alarms["picklescan"], alarms["modelscan"], alarms["fickling"])
	page.WriteString(deniedNames(t))

	text, err := os.ReadFile(scannersPage)
	require.NoError(t, err)
	before, _, found := strings.Cut(string(text), scannersMark)
	require.True(t, found, "%s has lost its mark", scannersPage)
	require.NoError(t, os.WriteFile(scannersPage, []byte(before+scannersMark+page.String()), 0o600))
}

// honestModels are the files of the zoo's sample, in one folder, save those of skops, which are no pickles. Scanners go by the ends of names.
func honestModels(t *testing.T) string {
	t.Helper()
	made, folder := t.TempDir(), t.TempDir()
	command := exec.CommandContext(t.Context(), python, filepath.Join("..", "..", "test", "zoo", "testdata", "make.py"), made, "sample")
	output, err := command.CombinedOutput()
	require.NoError(t, err, "%s", output)
	files, err := filepath.Glob(filepath.Join(made, "models", "*", "*"))
	require.NoError(t, err)
	for _, file := range files {
		way, end := filepath.Base(file), ".pkl"
		if strings.HasPrefix(way, "joblib") {
			end = ".joblib"
		}
		if way != "answer" && way != FormatSkops {
			require.NoError(t, os.Rename(file, filepath.Join(folder, filepath.Base(filepath.Dir(file))+"."+way+end)))
		}
	}
	return folder
}

func verdictsOf(t *testing.T, line []byte) map[string]string {
	t.Helper()
	var verdicts map[string]string
	require.NoError(t, json.Unmarshal(line, &verdicts))
	return verdicts
}

// deniedNames calls each name that the scanners deny, and says how many are refused here.
func deniedNames(t *testing.T) string {
	t.Helper()
	var lists map[string][][2]string
	require.NoError(t, json.Unmarshal(scan(t, "--lists")[0], &lists))
	names := map[[2]string]bool{}
	for _, list := range lists {
		for _, name := range list {
			names[name] = true
		}
	}
	denied := 0
	for name := range maps.Keys(names) {
		info, err := inspected(t, []byte("\x80\x04c"+name[0]+"\n"+name[1]+"\n)R."))
		require.NoError(t, err, name)
		if name == [2]string{"functools", "partial"} {
			continue // what it is given is judged, and to call what it returns is refused
		}
		require.Equal(t, Refused, info.Verdict, name)
		if (Policy{Mode: PolicyDeny}).Judge(info).Verdict == Refused {
			denied++
		}
	}
	return fmt.Sprintf("\nOf %d names on the scanners' own lists of what is dangerous, the policy `strict` refuses all but `functools.partial`, whose arguments "+
		"are judged, and whose result may not be called; `deny` refuses %d.\n", len(names), denied)
}
