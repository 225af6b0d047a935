package modelfile

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// python is the one with scikit-learn, which makes the models.
const python = "../../.build/venv/bin/python"

// evasions are hostile files, and whether Python ran what they carry (testdata/evasions.py).
func evasions(t *testing.T) (folder string, ran map[string]bool) {
	t.Helper()
	if os.Getenv("REGISTRAR_TEST_SERVERS") == "off" {
		t.Skip("REGISTRAR_TEST_SERVERS=off: no Python to make models")
	}
	folder = t.TempDir()
	command := exec.CommandContext(t.Context(), python, filepath.Join("testdata", "evasions.py"), folder)
	var complaints bytes.Buffer
	command.Stderr = &complaints
	output, err := command.Output()
	require.NoError(t, err, complaints.String())
	ran = map[string]bool{}
	for line := range bytes.Lines(output) {
		var file struct {
			File string `json:"file"`
			Ran  bool   `json:"ran"`
		}
		require.NoError(t, json.Unmarshal(line, &file))
		ran[file.File] = file.Ran
	}
	return folder, ran
}

func TestInspect_RefusesEveryEvasion(t *testing.T) {
	folder, ran := evasions(t)
	require.Greater(t, len(ran), 80)
	executed := 0
	for name, worked := range ran {
		if worked {
			executed++
		}
		t.Run(name, func(t *testing.T) {
			content, err := os.ReadFile(filepath.Join(folder, name))
			require.NoError(t, err)
			info, err := inspected(t, content)
			if refused, ok := errors.AsType[*FormatError](err); ok {
				t.Log(refused)
				return
			}
			require.NoError(t, err)
			require.Equal(t, Refused, info.Verdict)
			for _, reason := range info.Reasons {
				t.Log(reason)
			}
			mild := Policy{Mode: PolicyDeny}.Judge(info)
			require.Equal(t, Refused, mild.Verdict, "by the policy deny too")
			require.Equal(t, Allowed, Policy{Mode: PolicyOff}.Judge(info).Verdict)
		})
	}
	require.Greater(t, executed, 50, "Python executes them, or they prove nothing")
}
