// Package modelfile reads a trained model's file as data: which format and compression it has, which classes it names
// and which library versions it carries. It knows the pickle format (protocols 0 to 5), joblib's raw arrays between the
// opcodes, and the compressions that joblib writes.
//
// It never executes a model: nothing is imported, called or constructed, so a hostile file can cost time and be refused,
// no more. It knows nothing of MLflow, nor whether the classes that the file names exist anywhere.
package modelfile

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
)

// The formats that Inspect tells apart. Both are pickles by their opcodes; only the second can be read by Python's
// pickle module, because joblib puts the bytes of arrays between the opcodes and may compress the whole.
const (
	FormatJoblib = "joblib"
	FormatPickle = "pickle"
)

// The compressions that joblib writes and reads (joblib/compressor.py). The empty string stands for none.
const (
	CompressionZlib  = "zlib"
	CompressionGzip  = "gzip"
	CompressionBzip2 = "bz2"
	CompressionLZMA  = "lzma"
	CompressionXZ    = "xz"
	CompressionLZ4   = "lz4"
)

// FormatError says why a file is not a model file that can be read. It never quotes the file, which may be another
// file than its sender may see.
type FormatError struct {
	// Offset counts bytes from the start of the file, or of its decompressed content where Compression is set.
	Offset int64
	// Compression is one of the Compression constants, empty for none.
	Compression string
	// Problem is what was found there and, where known, the remedy.
	Problem string
}

// Error gives the problem and its place.
func (e *FormatError) Error() string {
	if e.Compression != "" {
		return fmt.Sprintf("read model file: %s (byte %d of the %s-decompressed content)", e.Problem, e.Offset, e.Compression)
	}
	return fmt.Sprintf("read model file: %s (byte %d)", e.Problem, e.Offset)
}

// Inspect reads a model file to its end and says what it is, and whether PolicyStrict lets it pass. It streams: memory stays bounded whatever
// the file's size, at some megabytes for a usual file, and some tens of megabytes for a hostile one or one with a vocabulary of millions of
// words; LZMA and xz add their dictionary, at most 64 MiB. A file that is damaged, cut short or no model is a *FormatError; an error of r, or of
// ctx when it ends, comes back wrapped. A skops file is read where r is an io.ReaderAt of the same bytes too. Inspecting changes nothing and may be repeated.
func Inspect(ctx context.Context, r io.Reader) (Info, error) {
	digest := sha256.New()
	info, err := inspect(ctx, r, io.TeeReader(r, digest))
	info.SHA256 = hex.EncodeToString(digest.Sum(nil))
	if err != nil {
		return Info{}, err
	}
	return info, nil
}

// InspectHashed reads as Inspect does, and leaves the SHA-256 of the file, in hex, to the caller, who knows it or verifies it anyway. Where r is an
// io.Seeker, large arrays are not read.
func InspectHashed(ctx context.Context, r io.Reader, digest string) (Info, error) {
	info, err := inspect(ctx, r, r)
	if err != nil {
		return Info{}, err
	}
	info.SHA256 = digest
	return info, nil
}

// inspect reads a file through r, and where it lies if it can be read there.
func inspect(ctx context.Context, file, r io.Reader) (Info, error) {
	source := &source{ctx: ctx, file: file, r: r}
	info, _, err := read(source)
	if source.failed != nil {
		return Info{}, fmt.Errorf("read model file: %w", source.failed)
	}
	if err != nil {
		return Info{}, err
	}
	info.SizeBytes = source.read
	return Policy{}.Judge(info), nil
}

// read reads a file of any format. What was found before an error comes back with it.
func read(source *source) (Info, *findings, error) {
	found := newFindings()
	buffered := bufio.NewReaderSize(source, bufferBytes)
	if start, err := buffered.Peek(len(zipMagic)); err == nil && string(start) == zipMagic {
		if file, ok := source.file.(io.ReaderAt); ok {
			info, err := readSkops(source, buffered, file, found)
			return info, found, err
		}
	}
	content, compression, err := open(buffered)
	if err != nil {
		return Info{}, found, err
	}
	var r io.Reader = buffered
	if compression != "" {
		r = &expanded{r: content, source: source}
	}
	stream := newStream(r)
	if compression == "" {
		stream.jump = source.jump
	}
	program := newMachine(stream, found, true)
	root, err := program.run()
	if err != nil {
		return Info{}, found, locate(err, stream.offset, compression)
	}
	end := stream.offset
	// Python stops at STOP too, but only the end of a compressed file has its checksum.
	more, err := stream.drain()
	if err != nil {
		return Info{}, found, locate(err, stream.offset, compression)
	}
	// A decompressor may leave something behind its end, where Python's goes on.
	left, err := io.Copy(io.Discard, buffered)
	if err != nil {
		return Info{}, found, locate(err, stream.offset, compression)
	}
	if more || left > 0 {
		found.object(Reason{Severity: Deceptive, Offset: end, Problem: "something follows the end of the model, where another reader may go on"})
	}
	info := describe(root, found)
	info.Format, info.Compression, info.PickleProtocol = FormatPickle, compression, program.protocol
	if compression != "" || found.rawArrays {
		info.Format = FormatJoblib
	}
	return info, found, nil
}

// topLevel gives the part of a module's name that a package provides.
func topLevel(module string) string {
	name, _, _ := strings.Cut(module, ".")
	return name
}

// source reads the caller's file, ends when the context ends, and remembers what went wrong: an error of the file system
// must not be taken for damage by a decompressor that met it.
type source struct {
	ctx    context.Context // io.Reader takes none
	file   io.Reader
	r      io.Reader
	read   int64
	failed error
}

func (s *source) Read(p []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		s.failed = err
		return 0, err
	}
	n, err := s.r.Read(p)
	s.read += int64(n)
	if err != nil && !errors.Is(err, io.EOF) {
		s.failed = err
	}
	return n, err
}

// jump goes on n bytes further on in a file where that can be done.
func (s *source) jump(n int64) bool {
	seeker, ok := s.r.(io.Seeker)
	if !ok {
		return false
	}
	if _, err := seeker.Seek(n, io.SeekCurrent); err != nil {
		return false
	}
	s.read += n
	return true
}

// Bounds of what a compressed file expands to. Arrays of a forest come to a tenth of their size, and zeros to a thousandth.
const (
	freeExpansion = 1 << 30
	maxExpansion  = 200
)

// expanded is what a decompressor yields.
type expanded struct {
	r      io.Reader
	source *source
	read   int64
}

func (e *expanded) Read(p []byte) (int, error) {
	n, err := e.r.Read(p)
	e.read += int64(n)
	if e.read > freeExpansion && e.read/maxExpansion > e.source.read {
		return 0, problem(fmt.Sprintf("it expands to more than %d times its size: save it with less compression, or none", maxExpansion))
	}
	return n, err
}
