package modelfile

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestInspect_ReadsSkops(t *testing.T) {
	file, err := os.Open("testdata/forest.skops")
	require.NoError(t, err)
	defer file.Close()
	info, err := Inspect(t.Context(), file)
	require.NoError(t, err)
	require.Equal(t, Allowed, info.Verdict, "%v", info.Reasons)
	require.Equal(t, FormatSkops, info.Format)
	require.Equal(t, "sklearn.pipeline.Pipeline", info.RootClass)
	require.Equal(t, "sklearn", info.Framework)
	require.Equal(t, "1.9.1", info.SklearnVersion)
	require.Equal(t, []string{"builtins", "numpy", "sklearn"}, info.Modules)
	for _, name := range []string{"numpy.log1p", "sklearn.tree._tree.Tree", "builtins.dict", "numpy.ndarray"} {
		require.Contains(t, info.Globals, name)
	}
	stat, err := file.Stat()
	require.NoError(t, err)
	require.Equal(t, stat.Size(), info.SizeBytes)
	require.Len(t, info.SHA256, 64)
}

// archived is a zip archive with one schema.json, as skops writes it.
func archived(t *testing.T, schema string) []byte {
	t.Helper()
	return zipped(t, [2]string{"1.npy", "\x93NUMPY"}, [2]string{"schema.json", schema})
}

// zipped stores entries as Python's zipfile does: with their sizes before them.
func zipped(t *testing.T, entries ...[2]string) []byte {
	t.Helper()
	var file bytes.Buffer
	archive := zip.NewWriter(&file)
	for _, entry := range entries {
		w, err := archive.Create(entry[0])
		require.NoError(t, err)
		_, err = io.WriteString(w, entry[1])
		require.NoError(t, err)
	}
	require.NoError(t, archive.Close())
	return file.Bytes()
}

// node is an object of a schema.
func node(module, class, loader, more string) string {
	return `{"__class__": "` + class + `", "__module__": "` + module + `", "__loader__": "` + loader + `"` + more + `, "__id__": 1}`
}

func TestInspect_RefusesWhatSkopsFilesMayNotName(t *testing.T) {
	const pipeline, module = "Pipeline", "sklearn.pipeline"
	for name, inner := range map[string]string{
		"posix.system":                               node("posix", "system", "FunctionNode", ""),
		"evil.Payload":                               node("evil", "Payload", "ObjectNode", ""),
		"sklearn.base:os.system":                     node("sklearn.base", "os.system", "TypeNode", ""),
		"builtins.getattr":                           node("builtins", "getattr", "FunctionNode", ""),
		"numpy._core.multiarray._reconstruct":        node("numpy._core.multiarray", "_reconstruct", "FunctionNode", ""),
		"scipy.stats._continuous_distns.uniform_gen": node("scipy.stats._continuous_distns", "uniform_gen", "ObjectNode", ""),
		"builtins.int":                               node("builtins", "int", "ConstructorFromReduceNode", ""),
		"sklearn.svm._classes.SVC": node("sklearn.svm._classes", "SVC", "MethodNode",
			`, "content": {"func": "fit", "obj": `+node("sklearn.svm._classes", "SVC", "ObjectNode", "")+`}`),
		"subprocess.Popen": node("builtins", "dict", "FunctionNode", `, "content": {"module_path": "subprocess", "function": "Popen"}`),
		"os.popen":         node("builtins", "list", "ListNode", `, "content": [[{"deep": `+node("os", "popen", "TypeNode", "")+`}]]`),
		"runpy.run_path":   node("builtins", "dict", "DictNode", `, "\u005f_class__x": "", "content": {"a": `+node(`run\u0070y`, `run\u005fpath`, "TypeNode", "")+`}`),
	} {
		t.Run(name, func(t *testing.T) {
			file := archived(t, node(module, pipeline, "ObjectNode", `, "content": `+inner))
			info, err := Inspect(t.Context(), bytes.NewReader(file))
			require.NoError(t, err)
			require.Equal(t, Refused, info.Verdict)
			var names []string
			for _, reason := range info.Reasons {
				names = append(names, reason.Global)
			}
			require.Equal(t, []string{name}, names)
		})
	}
}

// An ObjectNode gets its content as its state, so what is called in the place of a method is called there too.
func TestInspect_RefusesCallablesInThePlaceOfMethodsInSkops(t *testing.T) {
	for name, inner := range map[string]string{
		"function":      node("numpy", "log1p", "FunctionNode", ""),
		"class":         node("numpy", "float64", "TypeNode", ""),
		"partial":       node("functools", "partial", "PartialNode", ""),
		"kernel":        node("sklearn.gaussian_process.kernels", "RBF", "ObjectNode", ""),
		"seen before":   `{"__loader__": "CachedNode", "__id__": 1}`,
		"in a deep one": node("builtins", "dict", "DictNode", `, "content": {"keys": `+node("numpy", "log1p", "FunctionNode", "")+`}`),
	} {
		t.Run(name, func(t *testing.T) {
			state := node("builtins", "dict", "DictNode", `, "content": {"_build_f": `+inner+`, "func": `+inner+`}`)
			file := archived(t, node("sklearn.isotonic", "IsotonicRegression", "ObjectNode", `, "content": `+state))
			info, err := Inspect(t.Context(), bytes.NewReader(file))
			require.NoError(t, err)
			require.Equal(t, Refused, info.Verdict)
			require.Len(t, info.Reasons, 1)
			require.Equal(t, Deceptive, info.Reasons[0].Severity)
			require.Contains(t, info.Reasons[0].Problem, "can be called in the place of ")
		})
	}
}

func TestInspect_RefusesLoadersThatCallWhatSkopsDoesNot(t *testing.T) {
	keyTypes := func(inner string) string {
		return node("builtins", "dict", "DictNode", `, "key_types": `+node("builtins", "list", "ListNode", `, "content": [`+inner+`]`)+`, "content": {"/nowhere": null}`)
	}
	for name, inner := range map[string]string{
		"a loss":          node("numpy", "memmap", "LossNode", `, "__reduce__": {"args": ["/nowhere"]}`),
		"a list":          node("numpy", "memmap", "ListNode", ""),
		"an array":        node("numpy", "memmap", "NdArrayNode", ""),
		"a tree":          node("sklearn.neighbors._ball_tree", "BallTree", "TreeNode", ""),
		"a random state":  node("sklearn.pipeline", "Pipeline", "RandomStateNode", ""),
		"a new loader":    node("sklearn.pipeline", "Pipeline", "NewNode", ""),
		"no loader":       node("sklearn.pipeline", "Pipeline", "", ""),
		"key by partial":  keyTypes(node("functools", "partial", "PartialNode", "")),
		"key by function": keyTypes(node("numpy", "log1p", "FunctionNode", "")),
		"key by file":     keyTypes(node("numpy", "memmap", "TypeNode", "")),
		"key by memory":   keyTypes(`{"__loader__": "CachedNode", "__id__": 1}`),
	} {
		t.Run(name, func(t *testing.T) {
			file := archived(t, node("sklearn.isotonic", "IsotonicRegression", "ObjectNode", `, "content": {"content": {"a": `+inner+`}}`))
			info, err := Inspect(t.Context(), bytes.NewReader(file))
			require.NoError(t, err)
			require.Equal(t, Refused, info.Verdict)
			require.Equal(t, Deceptive, info.Reasons[0].Severity, "%v", info.Reasons)
		})
	}
	file := archived(t, node("sklearn.isotonic", "IsotonicRegression", "ObjectNode", `, "content": `+keyTypes(node("builtins", "str", "TypeNode", ""))))
	info, err := Inspect(t.Context(), bytes.NewReader(file))
	require.NoError(t, err)
	require.Equal(t, Allowed, info.Verdict, "%v", info.Reasons)
}

func TestInspect_RefusesArchivesThatReadersTakeDifferently(t *testing.T) {
	good := node("sklearn.pipeline", "Pipeline", "ObjectNode", "")
	whole := archived(t, good)
	info, err := Inspect(t.Context(), bytes.NewReader(whole))
	require.NoError(t, err)
	require.Equal(t, Allowed, info.Verdict, "%v", info.Reasons)

	changed := func(change func(end []byte)) []byte {
		file := bytes.Clone(whole)
		change(file[len(file)-22:])
		return file
	}
	locator := append(bytes.Clone(whole[:len(whole)-22]), append(append([]byte("PK\x06\x07"), make([]byte, 16)...), whole[len(whole)-22:]...)...)
	for problem, file := range map[string][]byte{
		"two schema.json":                   zipped(t, [2]string{"schema.json", good}, [2]string{"schema.json", good}),
		"names that skops does not write":   zipped(t, [2]string{"schema.json", good}, [2]string{"schema.json\x00.npy", good}),
		"without schema.json":               zipped(t, [2]string{"data.pkl", good}),
		"something behind it":               append(bytes.Clone(whole), 0),
		"before or between its parts":       changed(func(end []byte) { end[16]++ }),
		"over 4 GiB":                        locator,
		"table of contents of over":         changed(func(end []byte) { binary.LittleEndian.PutUint32(end[12:], 1<<30) }),
		"says one thing twice":              archived(t, node("sklearn.pipeline", "Pipeline", "ObjectNode", `, "__class__": "Pipeline"`)),
		"object without a class":            archived(t, `{"__class__": "Pipeline"}`),
		"is of no object":                   archived(t, `{"content": 1}`),
		"is no JSON object":                 archived(t, `[`+good+`]`),
		"goes on behind its end":            archived(t, good+good),
		"ends in the middle":                archived(t, good[:len(good)-1]),
		"is damaged":                        archived(t, strings.Replace(good, ":", "=", 1)),
		"nests deeper than models":          archived(t, node("a", "b", "c", `, "content": `+strings.Repeat("[", 100_000))),
		"nests deeper than models do":       archived(t, strings.Repeat(`{"content":`, 100_000)),
		"longer text than models have":      archived(t, node("a", strings.Repeat("b", 5<<20), "c", "")),
		"names more classes than models":    archived(t, node("a", "b", "c", `, "content": [`+manyNodes()+`]`)),
		"cut short, or is still being writ": whole[:len(whole)-30],
	} {
		_, err := Inspect(t.Context(), bytes.NewReader(file))
		require.ErrorContains(t, err, problem)
		var refused *FormatError
		require.ErrorAs(t, err, &refused, problem)
	}
}

func manyNodes() string {
	var nodes []string
	for i := range 3000 {
		nodes = append(nodes, node("m", fmt.Sprintf("C%d", i), "ObjectNode", ""))
	}
	return strings.Join(nodes, ",")
}

func TestInspect_ReadsSkopsNoLongerThanItMay(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := Inspect(ctx, bytes.NewReader(archived(t, "{}")))
	require.ErrorIs(t, err, context.Canceled)
}

func TestInspect_NeedsAFileForSkops(t *testing.T) {
	_, err := Inspect(t.Context(), io.MultiReader(bytes.NewReader(archived(t, "{}"))))
	require.ErrorContains(t, err, "a skops file in a pipe")
}
