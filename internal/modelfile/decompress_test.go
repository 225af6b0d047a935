package modelfile

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"runtime/metrics"
	"testing"
	"time"

	"github.com/pierrec/lz4/v4"
	"github.com/stretchr/testify/require"
	"github.com/ulikunitz/xz"
	"github.com/ulikunitz/xz/lzma"
)

// fuzzOutput is as much of what a file expands to as is looked at.
const fuzzOutput = 1 << 20

// decompress reads a compressed file as Inspect does: what it yields, and how much of the file it leaves. A file that is not compressed has no compression.
func decompress(content []byte) (output []byte, left int, compression string, err error) {
	source := &source{ctx: context.Background(), r: bytes.NewReader(content)}
	buffered := bufio.NewReaderSize(source, bufferBytes)
	r, compression, err := open(buffered)
	if err != nil || compression == "" {
		return nil, 0, compression, err
	}
	output, err = io.ReadAll(io.LimitReader(&expanded{r: r, source: source}, fuzzOutput))
	rest, _ := io.Copy(io.Discard, buffered)
	return output, int(rest), compression, err
}

// FuzzDecompress takes files that may be compressed. Whatever they are, it takes bounded time and memory to read them, and no byte of what is
// read goes by unseen: what follows a member is left, to be refused, or read as one more member, as Python does.
func FuzzDecompress(f *testing.F) { // more seeds are in testdata/fuzz, by testdata/make_seeds.py
	names, err := filepath.Glob("testdata/forest.*.joblib")
	require.NoError(f, err)
	require.NotEmpty(f, names)
	for _, name := range names {
		f.Add(fixture(f, filepath.Base(name)))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		began, before := time.Now(), allocated()
		output, left, compression, err := decompress(content)
		require.Less(t, allocated()-before, uint64(maxDictionary+32<<20), "a dictionary, the output in growing slices, and what lz4 and bz2 take")
		require.Less(t, time.Since(began), 20*time.Second)
		if err == nil && compression != "" && len(output) < fuzzOutput {
			requireSeen(t, content[:len(content)-left], output)
		}
		requireWritten(t, content)
	})
}

// requireSeen sees that a file which was read to its end, and its content, are all that there is: nothing may follow without a word.
func requireSeen(t *testing.T, whole, output []byte) {
	t.Helper()
	again, left, _, err := decompress(whole)
	require.NoError(t, err)
	require.Zero(t, left)
	require.True(t, bytes.Equal(output, again))

	const stranger = "\x80\x04N."
	again, left, _, err = decompress(append(bytes.Clone(whole), stranger...))
	if err == nil {
		require.Equal(t, len(stranger), left, "what follows was taken for a part of the member")
		require.True(t, bytes.Equal(output, again))
	}

	again, left, _, err = decompress(append(bytes.Clone(whole), whole...))
	if err == nil && left == 0 {
		require.True(t, bytes.Equal(append(bytes.Clone(output), output...), again[:min(len(again), 2*len(output))]), "the second member went by unseen")
	} else if err == nil {
		require.Equal(t, len(whole), left)
		require.True(t, bytes.Equal(output, again))
	}
}

// writers compress by Go's own libraries. There is none for bz2.
var writers = []func(io.Writer) (io.WriteCloser, error){
	func(w io.Writer) (io.WriteCloser, error) { return zlib.NewWriter(w), nil },
	func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriter(w), nil },
	func(w io.Writer) (io.WriteCloser, error) { return lz4.NewWriter(w), nil },
	func(w io.Writer) (io.WriteCloser, error) { return xz.WriterConfig{DictCap: 1 << 16}.NewWriter(w) },
	func(w io.Writer) (io.WriteCloser, error) {
		return lzma.WriterConfig{DictCap: 1 << 16, EOSMarker: true}.NewWriter(w)
	},
}

// requireWritten sees that what is read is what was written.
func requireWritten(t *testing.T, content []byte) {
	t.Helper()
	if len(content) > 4096 {
		return
	}
	var file bytes.Buffer
	w, err := writers[len(content)%len(writers)](&file)
	require.NoError(t, err)
	_, err = w.Write(content)
	require.NoError(t, errors.Join(err, w.Close()))
	output, left, compression, err := decompress(file.Bytes())
	require.NoError(t, err, compression)
	require.Zero(t, left)
	require.True(t, bytes.Equal(content, output), compression)
}

// allocated is what the process has allocated since it began.
func allocated() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// What Python compressed, in the ways that joblib does and a few more (testdata/make_seeds.py), is read as it was.
func TestDecompress_ReadsWhatPythonWrote(t *testing.T) {
	want := []byte("\x80\x04csklearn.tree._classes\nDecisionTreeClassifier\n)\x81.")
	for i := range 4 * 256 {
		want = append(want, byte(i))
	}
	for _, name := range []string{
		"zlib_0", "zlib_1", "zlib_9", "gzip_0", "gzip_1", "gzip_9", "gzip_name", "bz2_1", "bz2_9", "lzma", "lzma_sized",
		"xz_none", "xz_crc32", "xz_crc64", "xz_delta", "xz_x86", "xz_padded", "lz4_plain", "lz4_checked", "lz4_independent", "lz4_without_size", "lz4_high",
	} {
		output, left, _, err := decompress(seed(t, name))
		require.NoError(t, err, name)
		require.Zero(t, left, name)
		require.True(t, bytes.Equal(want, output), name)
	}
}

func seed(t *testing.T, name string) []byte {
	t.Helper()
	var content []byte
	_, err := fmt.Sscanf(string(fixture(t, "fuzz/FuzzDecompress/"+name)), "go test fuzz v1\n[]byte(%q)", &content)
	require.NoError(t, err, name)
	return content
}
