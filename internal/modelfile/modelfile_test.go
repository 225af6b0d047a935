package modelfile

import (
	"bytes"
	"compress/zlib"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/pierrec/lz4/v4"
	"github.com/stretchr/testify/require"
)

const forest = "sklearn.ensemble._forest.RandomForestClassifier"

// The files in testdata are written by testdata/make.py.
func fixture(t testing.TB, name string) []byte {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("testdata", name))
	require.NoError(t, err)
	return content
}

func inspected(t testing.TB, content []byte) (Info, error) {
	t.Helper()
	return Inspect(t.Context(), bytes.NewReader(content))
}

func TestInspect_TellsWhatTheFileTells(t *testing.T) {
	sklearnPickle := []string{"numpy", "sklearn"}
	withJoblib := []string{"joblib", "numpy", "sklearn"}
	python2Names := []string{"_codecs", "builtins", "copyreg", "numpy", "sklearn"}
	for name, want := range map[string]Info{
		"forest.joblib":        {Format: FormatJoblib, Compression: "", PickleProtocol: 4, Modules: withJoblib},
		"forest.zlib.joblib":   {Format: FormatJoblib, Compression: CompressionZlib, PickleProtocol: 4, Modules: withJoblib},
		"forest.gzip.joblib":   {Format: FormatJoblib, Compression: CompressionGzip, PickleProtocol: 4, Modules: withJoblib},
		"forest.bz2.joblib":    {Format: FormatJoblib, Compression: CompressionBzip2, PickleProtocol: 4, Modules: withJoblib},
		"forest.lzma.joblib":   {Format: FormatJoblib, Compression: CompressionLZMA, PickleProtocol: 4, Modules: withJoblib},
		"forest.xz.joblib":     {Format: FormatJoblib, Compression: CompressionXZ, PickleProtocol: 4, Modules: withJoblib},
		"forest.lz4.joblib":    {Format: FormatJoblib, Compression: CompressionLZ4, PickleProtocol: 4, Modules: withJoblib},
		"forest.protocol0.pkl": {Format: FormatPickle, PickleProtocol: 0, Modules: python2Names},
		"forest.protocol1.pkl": {Format: FormatPickle, PickleProtocol: 0, Modules: python2Names},
		"forest.protocol2.pkl": {Format: FormatPickle, PickleProtocol: 2, Modules: []string{"_codecs", "numpy", "sklearn"}},
		"forest.protocol3.pkl": {Format: FormatPickle, PickleProtocol: 3, Modules: sklearnPickle},
		"forest.protocol4.pkl": {Format: FormatPickle, PickleProtocol: 4, Modules: sklearnPickle},
		"forest.protocol5.pkl": {Format: FormatPickle, PickleProtocol: 5, Modules: sklearnPickle},
	} {
		t.Run(name, func(t *testing.T) {
			content := fixture(t, name)
			got, err := inspected(t, content)
			require.NoError(t, err)
			require.Equal(t, Allowed, got.Verdict, "%v", got.Reasons)
			require.NotEmpty(t, got.Globals)
			require.Contains(t, []string{"", ">=2"}, got.NumpyVersion)
			digest := sha256.Sum256(content)
			want.SizeBytes, want.SHA256 = int64(len(content)), hex.EncodeToString(digest[:])
			want.RootClass, want.Framework, want.SklearnVersion = forest, "sklearn", "1.9.1"
			want.NFeaturesIn, want.Classes, want.ClassesType = 3, []string{"False", "True"}, "bool"
			want.Params = forestParams
			want.Verdict, want.Globals, want.NumpyVersion = got.Verdict, got.Globals, got.NumpyVersion
			require.Equal(t, want, got)
		})
	}
}

// forestParams are what get_params of the forest in testdata returns.
var forestParams = map[string]string{
	"bootstrap": "True", "ccp_alpha": "0.0", "class_weight": "None", "criterion": "'gini'", "max_depth": "2", "max_features": "'sqrt'",
	"max_leaf_nodes": "None", "max_samples": "None", "min_impurity_decrease": "0.0", "min_samples_leaf": "1", "min_samples_split": "2",
	"min_weight_fraction_leaf": "0.0", "monotonic_cst": "None", "n_estimators": "2", "n_jobs": "None", "oob_score": "False", "random_state": "0",
	"verbose": "0", "warm_start": "False",
}

func TestInspect_FollowsThePartsOfAPipeline(t *testing.T) {
	got, err := inspected(t, fixture(t, "pipeline.joblib"))
	require.NoError(t, err)
	require.Equal(t, Allowed, got.Verdict, "%v", got.Reasons)
	require.Equal(t, []Step{
		{"onehotencoder", "sklearn.preprocessing._encoders.OneHotEncoder"}, {"randomforestclassifier", forest},
	}, got.Steps)
	require.Equal(t, 2, got.NFeaturesIn)
	require.Equal(t, []string{"'bad'", "'good'"}, got.Classes)
	require.Equal(t, "str", got.ClassesType)
	require.Equal(t, "numpy.float64", got.Params["onehotencoder__dtype"])
	require.Equal(t, "1", got.Params["randomforestclassifier__max_depth"])
	require.Equal(t, "[('onehotencoder', OneHotEncoder(...)), ('randomforestclassifier', RandomForestClassifier(...))]", got.Params["steps"])
}

func TestInspect_FollowsJoblibThroughEachProtocol(t *testing.T) {
	for _, protocol := range []string{"0", "1", "2", "3", "4", "5"} {
		got, err := inspected(t, fixture(t, "pipeline.protocol"+protocol+".joblib"))
		require.NoError(t, err, protocol)
		require.Equal(t, FormatJoblib, got.Format, protocol)
		require.Equal(t, "sklearn.pipeline.Pipeline", got.RootClass, protocol)
	}
}

func TestInspect_RefusesWhatIsNoModel(t *testing.T) {
	for name, row := range map[string]struct{ content, problem string }{
		"empty":       {"", "the file is empty"},
		"git lfs":     {"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "git lfs pull"},
		"dvc":         {"outs:\n- md5: 00\n  path: model.joblib\n", "dvc pull"},
		"skops":       {"PK\x03\x04\x14\x00", "zip archive"},
		"html":        {"<!DOCTYPE html><title>Not found</title>", "HTML"},
		"json":        {`{"learner": {}}`, "JSON"},
		"npy":         {"\x93NUMPY\x01\x00", "NumPy array"},
		"hdf5":        {"\x89HDF\r\n\x1a\n", "HDF5"},
		"zstandard":   {"\x28\xb5\x2f\xfd\x00", "Zstandard"},
		"old joblib":  {"ZF0x10", "before 0.10"},
		"text":        {"root:x:0:0:root:/root:/bin/bash\n", "no pickle"},
		"protocol 9":  {"\x80\x09.", "protocol 0 to 5"},
		"unknown id":  {"\x80\x02Pid\n.", "not in the file"},
		"lone opcode": {"\x80\x02R.", "nothing to work on"},
		"no memo":     {"\x80\x02h\x05.", "not there before"},
		"endless":     {"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\xff", "length beyond any file"},
		"not zlib":    {"\x78\x00\x00\x00", "zlib header"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := inspected(t, []byte(row.content))
			var refused *FormatError
			require.ErrorAs(t, err, &refused)
			require.ErrorContains(t, err, row.problem)
			require.NotContains(t, err.Error(), "root:", "the file's content is not for the error's reader")
		})
	}
}

func TestInspect_RefusesEveryCut(t *testing.T) {
	for _, name := range []string{"forest.joblib", "pipeline.protocol0.joblib", "forest.gzip.joblib", "forest.xz.joblib"} {
		content := fixture(t, name)
		for end := range len(content) {
			_, err := inspected(t, content[:end])
			var refused *FormatError
			require.ErrorAs(t, err, &refused, "%s cut at %d", name, end)
		}
	}
}

func TestInspect_RefusesAWrongChecksum(t *testing.T) {
	for _, name := range []string{"forest.zlib.joblib", "forest.gzip.joblib", "forest.bz2.joblib", "forest.xz.joblib"} {
		content := fixture(t, name)
		content[len(content)/2] ^= 0x10
		_, err := inspected(t, content)
		var refused *FormatError
		require.ErrorAs(t, err, &refused, name)
	}
}

func TestInspect_KeepsErrorsOfTheSourceApartFromDamage(t *testing.T) {
	broken := errors.New("disk on fire")
	for _, name := range []string{"forest.joblib", "forest.gzip.joblib", "forest.lz4.joblib", "forest.xz.joblib"} {
		half := fixture(t, name)[:1000]
		_, err := Inspect(t.Context(), io.MultiReader(bytes.NewReader(half), iotest.ErrReader(broken)))
		require.ErrorIs(t, err, broken, name)
	}

	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := Inspect(ended, bytes.NewReader(fixture(t, "forest.joblib")))
	require.ErrorIs(t, err, context.Canceled)
}

// joblibArray is what joblib writes of an array of one dimension whose bytes are 0x2e, the opcode STOP, with as long a padding
// before it.
func joblibArray(code string, elements byte, bytes int) string {
	size := "\xff\xff\xff\xff"
	if code[0] == 'U' || code[0] == 'S' {
		size = string([]byte{byte((bytes + int(elements) - 1) / int(elements)), 0, 0, 0})
	}
	return remembered("\x8c\x13joblib.numpy_pickle") + "\x8c\x11NumpyArrayWrapper\x93)\x81}(" +
		"\x8c\x08subclass\x8c\x05numpy\x8c\x07ndarray\x93\x8c\x05shapeK" + string([]byte{elements}) + "\x85" +
		remembered("\x8c\x05dtype") + "\x8c\x05numpy\x8c\x05dtype\x93" + remembered(short(code)) + "\x85R" +
		"(K\x03" + remembered("\x8c\x01|") + "NNNJ" + size + "J\xff\xff\xff\xffK\x00tb" +
		"\x8c\x1bnumpy_array_alignment_bytesK\x10ub" +
		"\x2e" + strings.Repeat("\xff", 0x2e) + strings.Repeat(".", bytes)
}

func short(text string) string { return "\x8c" + string([]byte{byte(len(text))}) + text }

// remembered pushes a value by way of the memo: LONG_BINPUT, POP, LONG_BINGET.
func remembered(value string) string {
	const index = "\xf0\xff\xff\xff"
	return value + "r" + index + "0j" + index
}

func TestInspect_IsNotMisledByOpcodesWithinArrays(t *testing.T) {
	got, err := inspected(t, []byte("\x80\x04"+joblibArray("u1", 200, 200)+"0}."))
	require.NoError(t, err)
	require.Equal(t, FormatJoblib, got.Format)

	_, err = inspected(t, []byte("\x80\x04"+joblibArray("u1", 200, 200)))
	require.ErrorContains(t, err, "cut short", "the dots in the array are not the end")
}

func TestInspect_KnowsTheSizesOfElements(t *testing.T) {
	for code, size := range map[string]int{"u1": 1, "f8": 8, "U2": 8, "S3": 3, "c16": 16, "M8": 8} {
		_, err := inspected(t, []byte("\x80\x04"+joblibArray(code, 3, 3*size)+"0}."))
		require.NoError(t, err, code)
		_, err = inspected(t, []byte("\x80\x04"+joblibArray(code, 3, 3*size-1)+"}"))
		require.ErrorContains(t, err, "cut short", code)
	}
	_, err := inspected(t, []byte("\x80\x04"+joblibArray("T", 1, 1)+"."))
	require.ErrorContains(t, err, "type and shape")
}

func TestInspect_RefusesAnArrayWithinAFrame(t *testing.T) {
	_, err := inspected(t, []byte("\x80\x04\x95\xff\x00\x00\x00\x00\x00\x00\x00"+joblibArray("u1", 1, 1)+"."))
	require.ErrorContains(t, err, "within a frame")
}

func TestInspect_TakesNoVersionThatIsNone(t *testing.T) {
	state := func(version string) []byte {
		return []byte("\x80\x04\x8c\x0csklearn.tree\x8c\x04Tree\x93)\x81}\x8c\x10_sklearn_version" + short(version) + "sb.")
	}
	got, err := inspected(t, state("1.5.2"))
	require.NoError(t, err)
	require.Equal(t, "1.5.2", got.SklearnVersion)
	require.Equal(t, "sklearn.tree.Tree", got.RootClass)

	got, err = inspected(t, state("1.5\n--index-url x"))
	require.NoError(t, err)
	require.Empty(t, got.SklearnVersion)
}

// endless repeats a pattern up to a number of bytes, without holding them.
type endless struct {
	pattern string
	left    int
}

func (e *endless) Read(p []byte) (int, error) {
	if e.left <= 0 {
		return 0, io.EOF
	}
	n := 0
	for n+len(e.pattern) <= len(p) {
		n += copy(p[n:], e.pattern)
	}
	e.left -= n
	return n, nil
}

func TestInspect_BoundsItsMemory(t *testing.T) {
	const size = 64 << 20
	word := "\x8c\x20" + strings.Repeat("w", 32)
	for name, row := range map[string]struct{ pattern, end, problem string }{
		"marks":                {"(", "", "nests more"},
		"lists":                {"]", "", "nests more"},
		"words":                {word, "", "nests more"},
		"remembered words":     {word + "\x940", joblibArray("u1", 9, 9) + "0N.", ""},
		"remembered dicts":     {"}\x940", joblibArray("u1", 9, 9) + "0N.", ""},
		"tuples in tuples":     {")\x85", "", "nests more"},
		"one tuple in another": {"\x85", "", "nothing to work on"},
		"classes":              {"cm\nn\n\x94", "", "nests more"},
	} {
		t.Run(name, func(t *testing.T) {
			content := io.MultiReader(strings.NewReader("\x80\x04"), &endless{row.pattern, size}, strings.NewReader(row.end))
			peak := uint64(0)
			_, err := Inspect(t.Context(), observed{content, &peak})
			require.Less(t, peak, uint64(128<<20))
			if row.problem == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, row.problem)
		})
	}
}

// largeFile holds an array of size bytes, most of them in a hole, which takes no room on the disk.
func largeFile(t *testing.T, size uint32) *os.File {
	t.Helper()
	head := "\x80\x04" + strings.TrimSuffix(joblibArray("u1", 1, 1), ".")
	shape := string(binary.LittleEndian.AppendUint32([]byte("shapeJ"), size))
	head = strings.Replace(head, "shapeK\x01", shape, 1)
	file, err := os.Create(filepath.Join(t.TempDir(), "large.joblib"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, file.Close()) })
	_, err = file.WriteString(head)
	require.NoError(t, err)
	_, err = file.WriteAt([]byte("0N."), int64(len(head))+int64(size))
	require.NoError(t, err)
	return file
}

func TestInspect_ReadsLargeArraysInLittleMemory(t *testing.T) {
	for compression, row := range map[string]struct {
		size  uint32
		write func(io.Writer) io.WriteCloser
	}{
		"":              {512 << 20, nil},
		CompressionZlib: {24 << 20, func(w io.Writer) io.WriteCloser { return zlib.NewWriter(w) }}, // Go compresses slowly
		CompressionLZ4:  {64 << 20, func(w io.Writer) io.WriteCloser { return lz4.NewWriter(w) }},
	} {
		t.Run("compression "+compression, func(t *testing.T) {
			file := largeFile(t, row.size)
			if row.write != nil {
				plain := file
				_, err := plain.Seek(0, io.SeekStart)
				require.NoError(t, err)
				file, err = os.Create(filepath.Join(t.TempDir(), "compressed.joblib"))
				require.NoError(t, err)
				defer file.Close()
				w := row.write(file)
				_, err = io.Copy(w, plain)
				require.NoError(t, errors.Join(err, w.Close()))
			}
			_, err := file.Seek(0, io.SeekStart)
			require.NoError(t, err)
			runtime.GC()
			var before runtime.MemStats
			runtime.ReadMemStats(&before)
			peak := uint64(0)
			info, err := Inspect(t.Context(), observed{file, &peak})
			require.NoError(t, err)
			require.Equal(t, Allowed, info.Verdict, "%v", info.Reasons)
			require.Equal(t, compression, info.Compression)
			require.Less(t, int64(peak)-int64(before.HeapAlloc), int64(12<<20))
		})
	}
}

func TestInspectHashed_StepsOverLargeArraysOfAFile(t *testing.T) {
	file := largeFile(t, 8<<20)
	inspected := func(cut int64) (seeking, reading Info, failed [2]error) {
		whole, err := file.Stat()
		require.NoError(t, err)
		_, err = file.Seek(0, io.SeekStart)
		require.NoError(t, err)
		reading, failed[1] = InspectHashed(t.Context(), io.LimitReader(file, whole.Size()-cut), "digest")
		require.NoError(t, file.Truncate(whole.Size()-cut))
		_, err = file.Seek(0, io.SeekStart)
		require.NoError(t, err)
		counted := &countedFile{File: file}
		seeking, failed[0] = InspectHashed(t.Context(), counted, "digest")
		require.Less(t, counted.read, int64(1<<20), "bytes read of 8 MiB")
		return seeking, reading, failed
	}
	seeking, reading, failed := inspected(0)
	require.NoError(t, errors.Join(failed[:]...))
	require.Equal(t, reading, seeking)
	require.Equal(t, Allowed, seeking.Verdict)

	for _, cut := range []int64{1, 6 << 20} {
		_, _, failed = inspected(cut)
		require.ErrorContains(t, failed[0], "cut short")
		require.ErrorContains(t, failed[1], "cut short")
	}
}

// countedFile counts the bytes that are read of it.
type countedFile struct {
	*os.File
	read int64
}

func (c *countedFile) Read(p []byte) (int, error) {
	n, err := c.File.Read(p)
	c.read += int64(n)
	return n, err
}

func TestInspect_BoundsWhatACompressedFileExpandsTo(t *testing.T) {
	held := &source{read: 1 << 20}
	expands := &expanded{r: &endless{"\x00", 2 << 30}, source: held}
	_, err := io.Copy(io.Discard, expands)
	require.ErrorContains(t, err, "expands to more than 200 times")
	require.LessOrEqual(t, expands.read, int64(freeExpansion+1<<20))
}

// observed looks at the heap while it is read from.
type observed struct {
	io.Reader
	peak *uint64
}

func (o observed) Read(p []byte) (int, error) {
	n, err := o.Reader.Read(p)
	if n > 0 {
		var memory runtime.MemStats
		runtime.ReadMemStats(&memory)
		*o.peak = max(*o.peak, memory.HeapAlloc)
	}
	return n, err
}

func FuzzInspect(f *testing.F) {
	for _, pattern := range []string{"testdata/*.joblib", "testdata/*.pkl"} {
		names, err := filepath.Glob(pattern)
		require.NoError(f, err)
		require.NotEmpty(f, names)
		for _, name := range names {
			f.Add(fixture(f, filepath.Base(name)))
		}
	}
	for _, program := range []string{
		joblibArray("u1", 3, 3), joblibArray("U2", 2, 16), "\x8c\x05posix\x8c\x06system\x93\x8c\x01x\x85R", "(]\x94a}\x94h\x00h\x01s\x85\x85\x85t",
		"\x8c\x07copyreg\x8c\x0e_reconstructor\x93cnumpy\nndarray\nc__builtin__\nobject\nN\x87R}\x8c\x01aK\x01sb", "V\\u0061\\U00000062\n2\x93",
		"cnumpy\ndtype\n\x8c\x02V8\x89\x88\x87R(K\x03\x8c\x01|N\x8c\x01a\x85}\x8c\x01acnumpy\ndtype\n\x8c\x02f8\x85RK\x00\x86sK\x08K\x01K\x00tb",
	} {
		f.Add([]byte("\x80\x04" + program + "."))
		var compressed bytes.Buffer
		w := zlib.NewWriter(&compressed)
		_, err := io.WriteString(w, "\x80\x04"+program+".")
		require.NoError(f, errors.Join(err, w.Close()))
		f.Add(compressed.Bytes())
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		info, err := inspected(t, content)
		if err != nil {
			var refused *FormatError
			require.ErrorAs(t, err, &refused)
			return
		}
		require.Equal(t, len(info.Reasons) > 0, info.Verdict == Refused)
		data, err := json.Marshal(info)
		require.NoError(t, err)
		require.Less(t, len(data), 1<<20, "it must fit into a payload")
	})
}
