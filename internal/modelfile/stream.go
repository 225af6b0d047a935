package modelfile

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
)

const bufferBytes = 64 << 10

// stream reads a pickle's bytes forward and counts them.
type stream struct {
	r      *bufio.Reader
	offset int64
	buffer [8]byte
	taken  []byte // by the last take, for its memory
	// jump steps over bytes behind those that are buffered, and says whether it could; nil where they must be read.
	jump func(n int64) bool
}

func newStream(r io.Reader) *stream {
	return &stream{r: bufio.NewReaderSize(r, bufferBytes)}
}

// octet reads one byte.
func (s *stream) octet() (byte, error) {
	b, err := s.r.ReadByte()
	if err == nil {
		s.offset++
	}
	return b, err
}

// unsigned reads a little-endian number of up to 8 bytes.
func (s *stream) unsigned(width int) (uint64, error) {
	s.buffer = [8]byte{}
	n, err := io.ReadFull(s.r, s.buffer[:width])
	s.offset += int64(n)
	return binary.LittleEndian.Uint64(s.buffer[:]), err
}

// length reads a number of bytes to come.
func (s *stream) length(width int) (int64, error) {
	n, err := s.unsigned(width)
	if err == nil && n > math.MaxInt64 {
		return 0, problem("an object claims a length beyond any file")
	}
	return int64(n), err //nolint:gosec // checked above
}

// skip steps over n bytes without keeping them.
func (s *stream) skip(n int64) error {
	buffered := s.r.Buffered()
	if ahead := n - int64(buffered); s.jump != nil && ahead > bufferBytes && s.jump(ahead) {
		s.offset += n
		_, err := s.r.Discard(buffered)
		return err
	}
	for n > 0 {
		skipped, err := s.r.Discard(int(min(n, math.MaxInt32)))
		s.offset += int64(skipped)
		n -= int64(skipped)
		if err != nil {
			return err
		}
	}
	return nil
}

// take reads n bytes, which must be few.
func (s *stream) take(n int64) (string, error) {
	s.taken = slices.Grow(s.taken[:0], int(n))[:n]
	read, err := io.ReadFull(s.r, s.taken)
	s.offset += int64(read)
	return string(s.taken), err
}

// text reads n bytes as a string, or steps over them where they are too many to be a name.
func (s *stream) text(n int64) (value, error) {
	if n > maxText {
		return opaque{}, s.skip(n)
	}
	raw, err := s.take(n)
	return text(raw), err
}

// line reads up to a newline, which is left out, and keeps the first maxText bytes; whole says whether that was all.
func (s *stream) line() (kept string, whole bool, err error) {
	var raw []byte
	whole = true
	for {
		b, err := s.octet()
		if err != nil {
			return "", false, err
		}
		if b == '\n' {
			return string(raw), whole, nil
		}
		if whole = len(raw) < maxText; whole {
			raw = append(raw, b)
		}
	}
}

// drain reads to the end, so that a compressed file's checksum is checked, and says whether anything was left.
func (s *stream) drain() (more bool, err error) {
	left, err := io.Copy(io.Discard, s.r)
	return left > 0, err
}

// problem is what is wrong with a file, before its place is known.
type problem string

func (p problem) Error() string { return string(p) }

// locate turns what a reader met into what the caller of Inspect gets.
func locate(err error, offset int64, compression string) error {
	var found problem
	switch {
	case errors.As(err, &found):
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		found = "the file ends in the middle: it was cut short, or is still being written"
	default:
		found = problem(fmt.Sprintf("the %s data is damaged: %v", compression, err))
	}
	return &FormatError{Offset: offset, Compression: compression, Problem: string(found)}
}
