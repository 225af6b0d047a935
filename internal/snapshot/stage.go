package snapshot

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

const (
	// copyChunkBytes is how far a copy goes at a time, and copyAhead how many chunks it may be before its hash: a canceled one ends with them.
	copyChunkBytes  = 4 << 20
	copyAhead       = 8
	hashBufferBytes = 256 << 10

	// A pipeline that writes a model anew takes a moment to finish: the copy is tried again that often, after that long.
	copyAttempts = 3
	copyPause    = 200 * time.Millisecond

	// staleStaging is longer than any copy takes, so what is older belongs to nobody.
	staleStaging = 24 * time.Hour
)

// ErrChanging says that a source was written to during each attempt to copy it.
var ErrChanging = errors.New("the file is being rewritten")

// Sources opens the inputs of a registration, regular files only; [confine.Dir] does.
type Sources interface {
	Open(name string) (*os.File, error)
}

// Inputs are what a registration is made of. Model, Metrics and ExtraFiles are names for Sources.
type Inputs struct {
	ModelName      string
	Model, Metrics string
	ExtraFiles     []string
	Config, Params File
	ForceToken     string // empty but for --force
	GitCommit      string // empty where there is none
	User           string
}

// File is a settings file that was read before.
type File struct {
	Name string // of the file, as configured
	Data []byte // at most 1 MiB
}

// Progress is told how many of all bytes are done. It is called often, and must be quick.
type Progress func(doneBytes, totalBytes int64)

// Staged are inputs that were copied and not yet committed.
type Staged struct {
	root    *os.Root
	path    string
	request Request
}

// Stage copies the inputs below rootDir and hashes them in the same pass, so that what was hashed is what was copied. All
// is on the disk when it returns, and nothing of it stays when it fails. A source that is written to meanwhile is copied
// again, at last the error is [ErrChanging]: a mixture of two models is never staged. Other errors are those of sources,
// of the context, and of a disk that is full. Memory is constant. The progress may be nil.
func Stage(ctx context.Context, sources Sources, rootDir *os.Root, inputs Inputs, progress Progress) (*Staged, error) {
	// Another user's leftovers may be in the way of nobody but themselves.
	_ = CollectGarbage(rootDir, staleStaging)

	request := Request{
		SchemaVersion: SchemaVersion,
		ID:            rand.Text(),
		ModelName:     inputs.ModelName,
		ForceToken:    inputs.ForceToken,
		GitCommit:     inputs.GitCommit,
		User:          inputs.User,
		FrozenAt:      time.Now().UTC(),
	}
	total, err := plan(sources, inputs, &request)
	if err != nil {
		return nil, err
	}
	staged := &Staged{root: rootDir, path: stagingName(request.ID)}
	if err := staged.fill(ctx, sources, inputs, &request, &meter{total: total, report: progress}); err != nil {
		return nil, errors.Join(err, staged.Discard())
	}
	staged.request = request
	return staged, nil
}

// Request returns what was staged, as request.json says it.
func (s *Staged) Request() Request { return s.request }

// OpenVerified opens a copy for reading. Its bytes were hashed when it was made, a moment ago and by this process, and are not hashed again.
func (s *Staged) OpenVerified(entry Entry) (io.ReadCloser, error) {
	name, err := file(s.path, entry)
	if err != nil {
		return nil, err
	}
	copied, err := openCopy(s.root, name, entry)
	if err != nil {
		return nil, err
	}
	return copied, nil
}

// Discard removes what was staged and not committed. It may be repeated.
func (s *Staged) Discard() error { return s.root.RemoveAll(s.path) }

// plan names the copies, and looks at every source before the first byte is copied. It returns how much there is to copy.
func plan(sources Sources, inputs Inputs, request *Request) (totalBytes int64, err error) {
	request.Metrics = Entry{Name: metricsName, Path: inputs.Metrics}
	request.Model = Entry{Name: path.Join(modelFolder, filepath.Base(inputs.Model)), Path: inputs.Model}
	for _, extra := range inputs.ExtraFiles {
		entry := Entry{Name: path.Join(extraFolder, filepath.Base(extra)), Path: extra}
		for _, other := range request.ExtraFiles {
			if other.Name == entry.Name {
				return 0, inputErrorf("copy extra files: %q and %q have the same file name, want names that differ",
					other.Path, entry.Path)
			}
		}
		request.ExtraFiles = append(request.ExtraFiles, entry)
	}
	for _, entry := range request.copied() {
		if err := checkName(entry.Path); err != nil {
			return 0, err
		}
		size, err := sizeOf(sources, entry.Path)
		if errors.Is(err, fs.ErrNotExist) {
			return 0, fmt.Errorf("copy inputs: %w: run the stage that writes it, or configure where it is", err)
		}
		if err != nil {
			return 0, fmt.Errorf("copy inputs: %w", err)
		}
		if size == 0 && entry == &request.Model {
			return 0, inputErrorf("copy model %s: the file is empty, want a trained model", entry.Path)
		}
		if size > maxSmallBytes && entry == &request.Metrics {
			return 0, inputErrorf("copy metrics %s: the file has %d bytes, want at most %d", entry.Path, size, maxSmallBytes)
		}
		totalBytes += size
	}
	for _, settings := range []File{inputs.Config, inputs.Params} {
		if len(settings.Data) > maxSmallBytes {
			return 0, inputErrorf("copy settings %s: the file has %d bytes, want at most %d",
				settings.Name, len(settings.Data), maxSmallBytes)
		}
	}
	return totalBytes, nil
}

// copied returns the entries that are copied from a source, all but the settings.
func (r *Request) copied() []*Entry {
	entries := []*Entry{&r.Metrics, &r.Model}
	for i := range r.ExtraFiles {
		entries = append(entries, &r.ExtraFiles[i])
	}
	return entries
}

// checkName refuses file names that no consumer could be given: they go into MLflow, and from there to any system.
func checkName(source string) error {
	name := filepath.Base(source)
	hostile := func(r rune) bool { return unicode.IsControl(r) || r == '\\' }
	if source == "" || name == "." || name == ".." || name == "/" || !utf8.ValidString(name) ||
		strings.ContainsFunc(name, hostile) {
		return inputErrorf("copy %q: want a file name in UTF-8 without control characters and backslashes", source)
	}
	return nil
}

func sizeOf(sources Sources, name string) (int64, error) {
	file, err := sources.Open(name)
	if err != nil {
		return 0, err
	}
	info, err := file.Stat()
	if err := errors.Join(err, file.Close()); err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// fill makes the staging folder, down to request.json, and everything in it durable.
func (s *Staged) fill(ctx context.Context, sources Sources, inputs Inputs, request *Request, progress *meter) error {
	request.SettingsSHA256 = SettingsDigest(inputs.Config.Data, inputs.Params.Data)
	settings := path.Join(settingsFolder, ShortKey(request.SettingsSHA256))
	for _, folder := range []string{modelFolder, extraFolder, settings} {
		if err := s.root.MkdirAll(path.Join(s.path, folder), folderMode); err != nil {
			return err
		}
	}
	for _, entry := range request.copied() {
		if err := s.copyFile(ctx, sources, entry, progress); err != nil {
			return fmt.Errorf("copy %s: %w", entry.Path, err)
		}
	}
	request.Config = entryOf(path.Join(settings, "config.yaml"), inputs.Config)
	request.Params = entryOf(path.Join(settings, "params.yaml"), inputs.Params)
	request.RegistrationKey = request.Key()
	data, err := encode(request)
	if err != nil {
		return err
	}
	for name, data := range map[string][]byte{
		request.Config.Name: inputs.Config.Data,
		request.Params.Name: inputs.Params.Data,
		requestName:         data,
	} {
		if err := createFile(s.root, path.Join(s.path, name), data); err != nil {
			return err
		}
	}
	for _, folder := range []string{modelFolder, extraFolder, settings, settingsFolder, "."} {
		if err := syncFolder(s.root, path.Join(s.path, folder)); err != nil {
			return err
		}
	}
	return nil
}

func entryOf(name string, file File) Entry {
	sum := sha256.Sum256(file.Data)
	return Entry{Name: name, Path: file.Name, SHA256: hex.EncodeToString(sum[:]), SizeBytes: int64(len(file.Data))}
}

// copyFile copies one source, and sets size and digest of its entry.
func (s *Staged) copyFile(ctx context.Context, sources Sources, entry *Entry, progress *meter) error {
	before := progress.done
	for attempt := 1; ; attempt++ {
		err := s.copyOnce(ctx, sources, entry, progress)
		if !errors.Is(err, ErrChanging) {
			return err
		}
		if attempt == copyAttempts {
			return fmt.Errorf("%w, try again when it is complete", err)
		}
		progress.done = before
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(copyPause):
		}
	}
}

func (s *Staged) copyOnce(ctx context.Context, sources Sources, entry *Entry, progress *meter) (err error) {
	source, err := sources.Open(entry.Path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, source.Close()) }()
	before, err := source.Stat()
	if err != nil {
		return err
	}
	target, err := s.root.OpenFile(path.Join(s.path, entry.Name), os.O_RDWR|os.O_CREATE|os.O_TRUNC, fileMode)
	if err != nil {
		return err
	}
	size, digest, err := copyHashed(ctx, target, source, progress)
	if err == nil {
		err = synced(ctx, target)
	}
	if err := errors.Join(err, target.Close()); err != nil {
		return err
	}
	after, err := source.Stat()
	if err != nil {
		return err
	}
	// joblib truncates a file and writes it anew in place: same file, another time or size.
	if size != before.Size() || size != after.Size() || !before.ModTime().Equal(after.ModTime()) {
		return ErrChanging
	}
	entry.SHA256, entry.SizeBytes = digest, size
	return nil
}

// synced brings a copy down to the disk. That may take long, and nothing breaks it off: who is canceled does not wait for it.
func synced(ctx context.Context, file interface{ Sync() error }) error {
	done := make(chan error, 1)
	go func() { done <- file.Sync() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// copyHashed copies a file, and hashes what the copy holds as it grows, so that the two share two processors. Between files io.Copy copies
// inside the kernel (copy_file_range), and where the file system can, it shares the blocks instead.
func copyHashed(ctx context.Context, target, source *os.File, progress *meter) (sizeBytes int64, digest string, err error) {
	type hashed struct {
		digest string
		err    error
	}
	chunks, ended := make(chan int64, copyAhead), make(chan hashed)
	go func() {
		var h hashed
		h.digest, h.err = hashGrowing(ctx, target, chunks, progress)
		ended <- h
	}()
	for err = ctx.Err(); err == nil; err = ctx.Err() {
		var n int64
		n, err = io.Copy(target, io.LimitReader(source, copyChunkBytes))
		sizeBytes += n
		chunks <- n
		if err != nil || n < copyChunkBytes {
			break
		}
	}
	close(chunks)
	h := <-ended
	return sizeBytes, h.digest, errors.Join(err, h.err)
}

// hashGrowing hashes a file by the chunks that are told to be there. It takes all of them, also after an error.
func hashGrowing(ctx context.Context, file io.ReaderAt, chunks <-chan int64, progress *meter) (digest string, err error) {
	hash := sha256.New()
	var buffer []byte
	var offset int64
	for chunk := range chunks {
		if buffer == nil { // most files have one small chunk
			buffer = make([]byte, min(hashBufferBytes, max(chunk, 1)))
		}
		for end := offset + chunk; err == nil && offset < end; {
			part := buffer[:min(int64(len(buffer)), end-offset)]
			if _, err = file.ReadAt(part, offset); err == nil {
				hash.Write(part)
				offset += int64(len(part))
				progress.add(len(part))
				err = ctx.Err()
			}
		}
	}
	return hex.EncodeToString(hash.Sum(nil)), err
}

// meter counts the bytes for a Progress, which may be nil.
type meter struct {
	done, total int64
	report      Progress
}

func (m *meter) add(n int) {
	m.done += int64(n)
	if m.report != nil {
		m.report(m.done, m.total)
	}
}
