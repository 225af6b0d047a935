package mlmodel

import (
	"bytes"
	"encoding/binary"
	"io"

	"registrar/internal/modelfile"
)

// Wrap gives the bytes to put before and behind a joblib file of size bytes, so that pickle.load reads it: together they
// are a pickle, of protocol 4, of joblib.load(io.BytesIO(<the file>)). A joblib file alone is no pickle, for its arrays
// lie raw between the opcodes, and mlflow.sklearn knows only pickles. The opcodes are those of Python's
// Lib/pickletools.py.
func Wrap(size int64) (head, tail []byte) {
	head = []byte("\x80\x04" + // PROTO 4
		"\x8c\x06joblib\x8c\x04load\x93" + // SHORT_BINUNICODE twice, STACK_GLOBAL
		"\x8c\x02io\x8c\x07BytesIO\x93" +
		"\x8e") // BINBYTES8
	head = binary.LittleEndian.AppendUint64(head, uint64(size)) //nolint:gosec // a size is not negative
	tail = []byte("\x85R" +                                     // TUPLE1, REDUCE: BytesIO(file)
		"\x85R" + // joblib.load(...)
		".") // STOP
	return head, tail
}

// packedModel are the files that hold the model: a joblib file in its layout, a pickle or a skops file as it is.
func packedModel(spec Spec) []File {
	model := spec.ModelFile
	switch {
	case isHybrid(spec):
		return hybridModel(spec)
	case spec.Info.Format == modelfile.FormatJoblib:
		return []File{wrappedModel(model)}
	}
	return []File{{Path: modelPathOf(spec), SizeBytes: model.SizeBytes, Open: model.Open}}
}

// wrappedModel is model.pkl with a joblib file in its wrapper.
func wrappedModel(model ModelFile) File {
	head, tail := Wrap(model.SizeBytes)
	return File{
		Path:      modelPath,
		SizeBytes: int64(len(head)) + model.SizeBytes + int64(len(tail)),
		Open: func() (io.ReadCloser, error) {
			inner, err := model.Open()
			if err != nil {
				return nil, err
			}
			return wrapped{io.MultiReader(bytes.NewReader(head), inner, bytes.NewReader(tail)), inner}, nil
		},
	}
}

// wrapped reads the whole and closes the file within.
type wrapped struct {
	io.Reader
	io.Closer
}
