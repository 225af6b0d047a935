package modelfile

import (
	"archive/zip"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"
)

const runsCode = "\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x04true\x85R."

func TestInspectExtra_JudgesWhatAConsumerLoads(t *testing.T) {
	scaler := string(fixture(t, "forest.joblib"))
	for name, row := range map[string]struct {
		file, content string
		verdict       Verdict // empty for data
		reason        string
	}{
		"allowed":                        {"pre.pkl", scaler, Allowed, ""},
		"allowed, by its content":        {"pre.bin", scaler, Allowed, ""},
		"compressed":                     {"pre", string(fixture(t, "forest.xz.joblib")), Allowed, ""},
		"skops":                          {"pre.bin", string(fixture(t, "forest.skops")), Allowed, ""},
		"runs code":                      {"pre.pkl", runsCode, Refused, "posix.system: it executes what it is given, or reaches beyond the model (STACK_GLOBAL at byte 17)"},
		"runs code, by its content":      {"columns.csv", runsCode, Refused, "posix.system"},
		"runs code, compressed":          {"columns.csv.gz", zipped1(t, runsCode), Refused, "posix.system"},
		"runs code, protocol 0":          {"columns.txt", "cposix\nsystem\n(S'true'\ntR.", Refused, "posix.system"},
		"runs code, then breaks":         {"columns.txt", "cposix\nsystem\n(S'true'\ntR\xff", Refused, "posix.system"},
		"runs code, then ends":           {"columns.bin", runsCode[:len(runsCode)-1], Refused, "posix.system"},
		"skops that runs code":           {"pre.bin", string(archived(t, node("posix", "system", "FunctionNode", ""))), Refused, "posix.system"},
		"skops behind a doubtful end":    {"pre.bin", string(archived(t, node("posix", "system", "FunctionNode", ""))) + "x", Refused, "something behind it"},
		"nothing behind a pickle's name": {"pre.PKL", "", Refused, "it cannot be read to its last byte: the file is empty"},
		"text behind a pickle's name":    {"pre.joblib", "income,age\n1,2\n", Refused, "it cannot be read to its last byte"},
		"cut":                            {"pre.bin", scaler[:len(scaler)-1], Refused, "it cannot be read to its last byte: the file ends in the middle"},
		"two pickles":                    {"pre.bin", "\x80\x04N.\x80\x04N.", Refused, "something follows the end"},

		"json":          {"columns.json", `{"columns": ["income"]}`, "", ""},
		"list in json":  {"columns.json", `["income"]`, "", ""},
		"csv":           {"columns.csv", "income,age\n1,2\n", "", ""},
		"csv with x":    {"columns.csv", "x,y\n1,2\n", "", ""},
		"names":         {"columns.txt", "cat\ndog\nfish\n", "", ""},
		"requirements":  {"requirements.txt", "cloudpickle==3.1.1\nnumpy==2.4.6\n", "", ""},
		"lock":          {"uv.lock", "version = 1\n", "", ""},
		"yaml":          {"settings.yaml", "income: 1\n", "", ""},
		"prose":         {"README.md", "(in short)\nthe model\n", "", ""},
		"one number":    {"threshold.txt", "0.5\n", "", ""},
		"empty":         {"empty.txt", "", "", ""},
		"gzip of csv":   {"columns.csv.gz", zipped1(t, "income,age\n1,2\n"), "", ""},
		"cut gzip":      {"columns.csv.gz", zipped1(t, "income,age\n1,2\n")[:15], "", ""},
		"png":           {"roc.png", "\x89PNG\r\n\x1a\n", "", ""},
		"parquet":       {"reference.parquet", "PAR1\x15\x04", "", ""},
		"numpy array":   {"weights.npy", "\x93NUMPY\x01\x00", "", ""},
		"numpy arrays":  {"weights.npz", string(zipped(t, [2]string{"arr_0.npy", "\x93NUMPY"})), "", ""},
		"spreadsheet":   {"dictionary.xlsx", string(zipped(t, [2]string{"xl/workbook.xml", "<x/>"})), "", ""},
		"zip of zips":   {"data.zip", commented(t), "", ""},
		"onnx":          {"model.onnx", "\x08\x07\x12\x07skl2onnx", "", ""},
		"xgboost":       {"model.ubj", "{L\x00\x00", "", ""},
		"short bz text": {"zones.txt", "BZ\n", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			info, loads, err := InspectExtra(t.Context(), bytes.NewReader([]byte(row.content)), "artifacts/"+row.file)
			require.NoError(t, err)
			require.Equal(t, row.verdict != "", loads)
			require.Equal(t, row.verdict, info.Verdict, "%v", info.Reasons)
			var reasons []string
			for _, reason := range info.Reasons {
				reasons = append(reasons, reason.String())
			}
			require.Contains(t, strings.Join(reasons, "\n"), row.reason)
			require.Equal(t, row.verdict == Refused, len(reasons) > 0)
			if loads {
				require.Equal(t, Allowed, Policy{Mode: PolicyOff}.Judge(info).Verdict)
			}
		})
	}
}

// zipped1 is a gzip file of one text.
func zipped1(t *testing.T, content string) string {
	t.Helper()
	var file bytes.Buffer
	w := gzip.NewWriter(&file)
	_, err := io.WriteString(w, content)
	require.NoError(t, errors.Join(err, w.Close()))
	return file.String()
}

// commented is a zip archive that ends in a comment, as data may.
func commented(t *testing.T) string {
	t.Helper()
	var file bytes.Buffer
	archive := zip.NewWriter(&file)
	require.NoError(t, archive.SetComment("written by hand"))
	_, err := archive.Create("columns.csv")
	require.NoError(t, errors.Join(err, archive.Close()))
	return file.String()
}

func TestInspectExtra_LeavesDataUnread(t *testing.T) {
	data := &endless{"income,age\n", 1 << 30}
	_, loads, err := InspectExtra(t.Context(), data, "columns.csv")
	require.NoError(t, err)
	require.False(t, loads)
	require.Greater(t, data.left, 1<<30-1<<20)
}

func TestInspectExtra_KeepsErrorsOfTheSourceApartFromDamage(t *testing.T) {
	broken := errors.New("disk on fire")
	for _, name := range []string{"columns.csv", "pre.pkl"} {
		_, _, err := InspectExtra(t.Context(), io.MultiReader(strings.NewReader(runsCode[:5]), iotest.ErrReader(broken)), name)
		require.ErrorIs(t, err, broken, name)
	}
}

func TestPolicy_NothingLetsPassWhatItsMinimumRefuses(t *testing.T) {
	const unknown, denied = "my.Clip", "os.system"
	for name, row := range map[string]struct {
		policy  Policy
		verdict Verdict
		applied string
	}{
		"off alone":                                 {Policy{Mode: PolicyOff}, Allowed, PolicyOff},
		"off above off":                             {Policy{Mode: PolicyOff, Minimum: &Policy{Mode: PolicyOff}}, Allowed, PolicyOff},
		"off above deny":                            {Policy{Mode: PolicyOff, Minimum: &Policy{Mode: PolicyDeny}}, Refused, PolicyDeny},
		"off above deny that allows":                {Policy{Mode: PolicyOff, Minimum: &Policy{Mode: PolicyDeny, Allowed: []string{denied}}}, Allowed, PolicyDeny},
		"strict that allows":                        {Policy{Allowed: []string{unknown, denied}}, Allowed, PolicyStrict},
		"strict that allows, above strict":          {Policy{Allowed: []string{unknown, denied}, Minimum: &Policy{}}, Refused, PolicyStrict},
		"strict that allows, above strict that too": {Policy{Allowed: []string{unknown, denied}, Minimum: &Policy{Allowed: []string{unknown, denied}}}, Allowed, PolicyStrict},
		"strict, above strict that allows":          {Policy{Minimum: &Policy{Allowed: []string{unknown, denied}}}, Refused, PolicyStrict},
		"strict, above deny that allows":            {Policy{Minimum: &Policy{Mode: PolicyDeny, Allowed: []string{denied}}}, Refused, PolicyStrict},
		"strict that allows, above deny":            {Policy{Allowed: []string{unknown}, Minimum: &Policy{Mode: PolicyDeny}}, Refused, PolicyStrict},
		"deny above strict":                         {Policy{Mode: PolicyDeny, Minimum: &Policy{Mode: PolicyStrict}}, Refused, PolicyStrict},
	} {
		t.Run(name, func(t *testing.T) {
			info := row.policy.Judge(Info{Reasons: []Reason{{Severity: Unknown, Global: unknown}, {Severity: Denied, Global: denied}}})
			require.Equal(t, row.verdict, info.Verdict)
			require.Equal(t, row.applied, row.policy.Strictest())
			if row.verdict == Refused {
				require.NotEmpty(t, info.Reasons)
			}
		})
	}

	own := Policy{Allowed: []string{unknown}, Minimum: &Policy{Mode: PolicyDeny}}.Judge(Info{Reasons: []Reason{{Severity: Unknown, Global: unknown}}})
	require.Equal(t, Allowed, own.Verdict, "a class of the project's own, which deny lets pass")
	require.Empty(t, own.Reasons)
	deceptive := Policy{Allowed: []string{""}, Minimum: &Policy{Mode: PolicyDeny, Allowed: []string{""}}}.Judge(Info{Reasons: []Reason{{Severity: Deceptive}}})
	require.Equal(t, Refused, deceptive.Verdict)
	lifted := Policy{Mode: PolicyOff, Minimum: &Policy{}}.Judge(Info{Reasons: []Reason{{Severity: Denied, Global: denied, Problem: "it executes"}}})
	require.Equal(t, "os.system: it executes; the project lets it pass, but the least policy of this worker is strict (byte 0)", lifted.Reasons[0].String())
}
