package modelfile

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"compress/zlib"
	"fmt"
	"io"

	"github.com/pierrec/lz4/v4"
	"github.com/therootcompany/xz"
	"github.com/ulikunitz/xz/lzma"
)

// maxDictionary bounds the memory of LZMA and xz. Level 9, the highest, uses 64 MiB; a hostile header may ask for 4 GiB.
const maxDictionary = 64 << 20

// containers are the compressions by the bytes they begin with, as joblib knows them (joblib/compressor.py). None of
// these can begin a pickle.
var containers = []struct {
	magic       string
	compression string
	open        func(io.Reader) (io.Reader, error)
}{
	{"\x78", CompressionZlib, func(r io.Reader) (io.Reader, error) { return zlib.NewReader(r) }},
	{"\x1f\x8b", CompressionGzip, func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) }},
	{"BZ", CompressionBzip2, func(r io.Reader) (io.Reader, error) { return bzip2.NewReader(r), nil }},
	{"\x5d\x00", CompressionLZMA, func(r io.Reader) (io.Reader, error) {
		return lzma.ReaderConfig{DictCap: maxDictionary}.NewReader(r)
	}},
	{"\xfd7zXZ", CompressionXZ, func(r io.Reader) (io.Reader, error) { return xz.NewReader(r, maxDictionary) }},
	{"\x04\x22\x4d\x18", CompressionLZ4, func(r io.Reader) (io.Reader, error) { return readOnly{lz4.NewReader(r)}, nil }},
}

// readOnly hides lz4's WriteTo: called after Read has met the end, it takes the end for a cut.
type readOnly struct{ io.Reader }

// strangers are files that are often put where a model should be, by the bytes they begin with.
var strangers = []struct{ magic, problem string }{
	{"version https://git-lfs", "it is a Git LFS pointer, not the model itself: run git lfs pull"},
	{"outs:", "it is a DVC pointer, not the model itself: run dvc pull and give the file that it tracks"},
	{"md5:", "it is a DVC pointer, not the model itself: run dvc pull and give the file that it tracks"},
	{zipMagic, "it is a zip archive (NumPy .npz or PyTorch), or a skops file in a pipe: save the model with joblib.dump or pickle.dump"},
	{"\x93NUMPY", "it is a NumPy array (.npy), not a model: save the model with joblib.dump or pickle.dump"},
	{"\x89HDF", "it is an HDF5 file (Keras): save a scikit-learn model with joblib.dump or pickle.dump"},
	{"\x28\xb5\x2f\xfd", "it is compressed with Zstandard, which joblib does not read: decompress it first"},
	{"ZF", "it was written by joblib before 0.10: load it there and save it again with joblib.dump"},
	{"<", "it is HTML or XML, perhaps the error page of a download"},
	{"{", "it is JSON, not a model: save the model with joblib.dump or pickle.dump"},
}

// open returns the pickle stream within a file and the name of the compression around it. Decompressors of one stream leave what follows it
// unread.
func open(buffered *bufio.Reader) (content io.Reader, compression string, err error) {
	start, err := buffered.Peek(32)
	if err != nil && err != io.EOF {
		return nil, "", err
	}
	if len(start) == 0 {
		return nil, "", &FormatError{Problem: "the file is empty"}
	}
	for _, stranger := range strangers {
		if bytes.HasPrefix(start, []byte(stranger.magic)) {
			return nil, "", &FormatError{Problem: stranger.problem}
		}
	}
	for _, container := range containers {
		if !bytes.HasPrefix(start, []byte(container.magic)) {
			continue
		}
		content, err := container.open(buffered)
		if err != nil {
			return nil, "", &FormatError{Problem: fmt.Sprintf("the %s header is damaged: %v", container.compression, err)}
		}
		return content, container.compression, nil
	}
	return buffered, "", nil
}
