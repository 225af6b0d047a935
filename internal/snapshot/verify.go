package snapshot

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"

	"registrar/internal/confine"
)

// InputError says that an input, or a registration folder, is not what it should be. It is final: trying again does not help.
type InputError struct{ text string }

// Error says what is wrong, and what would be right.
func (e *InputError) Error() string { return e.text }

func inputErrorf(format string, values ...any) error {
	return &InputError{fmt.Sprintf(format, values...)}
}

// MismatchError says that a copy is not what was copied. It must not be used; to register again makes a right one.
type MismatchError struct {
	Name           string // of the copy, relative to root_dir
	WantSHA256     string
	FoundSHA256    string // empty where the size told already
	WantSizeBytes  int64
	FoundSizeBytes int64
}

// Error names the copy and what it should be.
func (e *MismatchError) Error() string {
	if e.FoundSHA256 == "" {
		return fmt.Sprintf("verify %s: it has %d bytes, want %d: the copy was changed, register the model again",
			e.Name, e.FoundSizeBytes, e.WantSizeBytes)
	}
	return fmt.Sprintf("verify %s: its sha256 is %s, want %s: the copy was changed, register the model again",
		e.Name, e.FoundSHA256, e.WantSHA256)
}

func openVerified(root *os.Root, folder string, entry Entry) (*verifiedReader, error) {
	name, err := file(folder, entry)
	if err != nil {
		return nil, err
	}
	copied, err := openCopy(root, name, entry)
	if err != nil {
		return nil, err
	}
	return &verifiedReader{file: copied, hash: sha256.New(), name: name, entry: entry}, nil
}

// openCopy opens a copy that has the size it should have.
func openCopy(root *os.Root, name string, entry Entry) (*os.File, error) {
	copied, err := confine.OpenRegular(root, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: the copy was removed, register the model again", err)
	}
	if err != nil {
		return nil, err
	}
	info, err := copied.Stat()
	if err == nil && info.Size() != entry.SizeBytes {
		err = &MismatchError{
			Name: name, WantSHA256: entry.SHA256, WantSizeBytes: entry.SizeBytes, FoundSizeBytes: info.Size(),
		}
	}
	if err != nil {
		return nil, errors.Join(err, copied.Close())
	}
	return copied, nil
}

// verifiedReader keeps back the bytes that complete the file until it knows that they may go.
type verifiedReader struct {
	file  *os.File
	hash  hash.Hash
	name  string
	entry Entry
	done  int64
	err   error // what ended the reading; stays
}

// Read implements [io.Reader].
func (r *verifiedReader) Read(buffer []byte) (int, error) {
	if r.err != nil || len(buffer) == 0 {
		return 0, r.err
	}
	left := r.entry.SizeBytes - r.done
	n, err := r.file.Read(buffer[:min(int64(len(buffer)), left)])
	r.hash.Write(buffer[:n])
	r.done += int64(n)
	switch {
	case r.done == r.entry.SizeBytes:
		r.err = io.EOF
		if found := hex.EncodeToString(r.hash.Sum(nil)); found != r.entry.SHA256 {
			r.err, n = r.mismatch(found), 0
		}
	case errors.Is(err, io.EOF): // Truncated since it was opened.
		r.err = r.mismatch("")
	case err != nil:
		r.err = err
	}
	if n > 0 {
		return n, nil
	}
	return 0, r.err
}

// ReadAt implements [io.ReaderAt], for formats that have their contents listed at their end. What it reads is not checked yet: it is what was
// copied where Read has come to its end without an error before.
func (r *verifiedReader) ReadAt(buffer []byte, offset int64) (int, error) {
	return r.file.ReadAt(buffer, offset)
}

func (r *verifiedReader) mismatch(foundSHA256 string) error {
	return &MismatchError{
		Name: r.name, WantSHA256: r.entry.SHA256, FoundSHA256: foundSHA256,
		WantSizeBytes: r.entry.SizeBytes, FoundSizeBytes: r.done,
	}
}

// Close implements [io.Closer].
func (r *verifiedReader) Close() error { return r.file.Close() }
