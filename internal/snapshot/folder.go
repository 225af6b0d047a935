package snapshot

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Folder is a registration folder.
type Folder struct {
	root    *os.Root
	path    string
	request Request
}

// Handover says which workflow has a registration.
type Handover struct {
	WorkflowID string `json:"workflow_id"`
	RunID      string `json:"run_id"`
}

// handoverNote is workflow.json.
type handoverNote struct {
	Handover
	RequestID string `json:"request_id"`
}

// Open opens the registration folder with these first 16 hex digits of the registration key below rootDir, which has to
// stay open as long as the folder is used. The error wraps [fs.ErrNotExist] where there is none.
func Open(rootDir *os.Root, shortKey string) (*Folder, error) {
	if !isShortKey(shortKey) {
		return nil, inputErrorf("open registration folder %q: want the first %d hex digits of a registration key",
			shortKey, shortKeyLength)
	}
	folder := &Folder{root: rootDir, path: FolderPath(shortKey)}
	data, err := readSmall(rootDir, path.Join(folder.path, requestName))
	if err != nil {
		return nil, err
	}
	if folder.request, err = decodeRequest(data); err != nil {
		return nil, fmt.Errorf("read %s: %w", path.Join(folder.path, requestName), err)
	}
	return folder, nil
}

func isShortKey(name string) bool {
	return len(name) == shortKeyLength && strings.Trim(name, "0123456789abcdef") == ""
}

// ShortKeys returns the names of all registration folders below rootDir, in their order, for Open: whether there is a
// registration in each of them, it says.
func ShortKeys(rootDir *os.Root) ([]string, error) {
	entries, err := readFolder(rootDir, registrationsName)
	if err != nil {
		return nil, fmt.Errorf("list registrations: %w", err)
	}
	var keys []string
	for _, entry := range entries {
		if isShortKey(entry.Name()) {
			keys = append(keys, entry.Name())
		}
	}
	return keys, nil
}

// Request returns request.json as it was when the folder was opened.
func (f *Folder) Request() Request { return f.request }

// Path returns the name of the folder, relative to root_dir, with slashes.
func (f *Folder) Path() string { return f.path }

// ReadConfig returns the copy of config.yaml under the name it was configured by. The error is a [*MismatchError] where
// the copy is not what was copied.
func (f *Folder) ReadConfig() (File, error) { return f.readSettings(f.request.Config) }

// ReadParams returns the copy of params.yaml, as ReadConfig does.
func (f *Folder) ReadParams() (File, error) { return f.readSettings(f.request.Params) }

func (f *Folder) readSettings(entry Entry) (File, error) {
	if entry.SizeBytes > maxSmallBytes {
		return File{}, inputErrorf("read %s: it has %d bytes, want at most %d", entry.Name, entry.SizeBytes, maxSmallBytes)
	}
	reader, err := f.OpenVerified(entry)
	if err != nil {
		return File{}, err
	}
	data, err := io.ReadAll(reader)
	if err := errors.Join(err, reader.Close()); err != nil {
		return File{}, err
	}
	return File{Name: entry.Path, Data: data}, nil
}

// OpenVerified opens a copy for reading. The reader hands out the last bytes only when size and digest of the whole are
// those of the entry; its error is a [*MismatchError] otherwise, so that an upload of a wrong copy never completes.
// Where the copy was removed, the error wraps [fs.ErrNotExist].
func (f *Folder) OpenVerified(entry Entry) (io.ReadCloser, error) {
	file, err := openVerified(f.root, f.path, entry)
	if err != nil {
		return nil, err
	}
	return file, nil
}

// Verify reads all copies and reports the first that is not what was copied, as a [*MismatchError], or is missing, as an
// error that wraps [fs.ErrNotExist]. It checks that the request belongs to its key and to the folder, too. The model, and after it the extra files, are
// given to inspect as they are verified, so that each is read once; an error of inspect is that of Verify, unless the file is not what was copied,
// which comes first. Progress and inspect may be nil.
func (f *Folder) Verify(ctx context.Context, progress Progress, inspect func(entry Entry, file io.Reader) error) error {
	if err := f.verifyKey(); err != nil {
		return err
	}
	meter := &meter{report: progress}
	for _, entry := range f.request.Entries() {
		meter.total += entry.SizeBytes
	}
	for _, entry := range f.request.Entries() {
		look := inspect
		if entry != f.request.Model && !slices.Contains(f.request.ExtraFiles, entry) {
			look = nil
		}
		if err := f.verify(ctx, entry, meter, look); err != nil {
			return err
		}
	}
	return nil
}

// verifyKey finds a request.json that was edited, or moved to another folder.
func (f *Folder) verifyKey() error {
	name := path.Join(f.path, requestName)
	if key := f.request.Key(); key != f.request.RegistrationKey {
		return inputErrorf("verify %s: registration_key is %s, its fields make %s: register the model again",
			name, f.request.RegistrationKey, key)
	}
	if short := ShortKey(f.request.RegistrationKey); short != path.Base(f.path) {
		return inputErrorf("verify %s: it belongs in the folder %s: register the model again", name, short)
	}
	return nil
}

// verify reads a copy to its end, through inspect where there is one.
func (f *Folder) verify(ctx context.Context, entry Entry, meter *meter, inspect func(Entry, io.Reader) error) error {
	file, err := openVerified(f.root, f.path, entry)
	if err != nil {
		return err
	}
	defer file.Close() // only read
	reader := &meteredReader{ctx: ctx, file: file, meter: meter}
	var refused error
	if inspect != nil {
		refused = inspect(entry, reader)
	}
	// What inspect leaves, after the end of what it looks for or after an error, is read here. An error of reader stays its error.
	buffer := make([]byte, min(hashBufferBytes, max(entry.SizeBytes, 1)))
	if _, err := io.CopyBuffer(io.Discard, struct{ io.Reader }{reader}, buffer); err != nil {
		return err
	}
	return refused
}

// meteredReader counts what is read, and ends with the context.
type meteredReader struct {
	ctx   context.Context
	file  *verifiedReader
	meter *meter
}

// Read implements [io.Reader].
func (r *meteredReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := r.file.Read(p)
	r.meter.add(n)
	return n, err
}

// ReadAt implements [io.ReaderAt], as verifiedReader does.
func (r *meteredReader) ReadAt(p []byte, offset int64) (int, error) { return r.file.ReadAt(p, offset) }

// WriteDecision writes decision.json into the folder, and into root_dir where the folder is that of the newest registration,
// each of them whole or not at all. It may be repeated.
func (f *Folder) WriteDecision(data []byte) error { return f.publish(decisionName, data) }

// WriteReceipt writes receipt.json, as WriteDecision does. It takes the Lock, so that it comes between no other's look at
// the receipt and what that one writes; the error is that of a context where the lock is held for over half a minute. Who
// holds it calls SetReceipt.
func (f *Folder) WriteReceipt(data []byte) (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), receiptPatience)
	defer cancel()
	unlock, err := Lock(ctx, f.root, path.Base(f.path))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	return f.SetReceipt(data)
}

// receiptPatience is longer than a starter holds the Lock while Temporal answers.
const receiptPatience = 30 * time.Second

// SetReceipt writes receipt.json, as WriteReceipt does. Hold the Lock.
func (f *Folder) SetReceipt(data []byte) error { return f.publish(receiptName, data) }

// ReadReceipt returns the last receipt; the error wraps [fs.ErrNotExist] where none was written yet.
func (f *Folder) ReadReceipt() ([]byte, error) {
	return readSmall(f.root, path.Join(f.path, receiptName))
}

func (f *Folder) publish(name string, data []byte) error {
	if err := writeFile(f.root, path.Join(f.path, name), data); err != nil {
		return err
	}
	return f.showNewest(name)
}

// MarkNewest makes the folder that of the newest registration, whose decision and receipt lie in root_dir, too: one that was
// asked for earlier and ends later leaves them alone. It may be repeated.
func (f *Folder) MarkNewest() error {
	return writeFile(f.root, newestName, []byte(path.Base(f.path)+"\n"))
}

// showNewest brings a file of the newest registration into root_dir. Where it is replaced meanwhile, or another registration
// becomes the newest, it is brought again: whoever writes last has looked after it.
func (f *Folder) showNewest(name string) error {
	var shown []byte
	for {
		newest, err := readSmall(f.root, path.Join(f.newest(), name))
		if errors.Is(err, fs.ErrNotExist) || err == nil && shown != nil && bytes.Equal(newest, shown) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := writeFile(f.root, name, newest); err != nil {
			return err
		}
		shown = newest
	}
}

// newest is the folder of the newest registration: f itself where none is marked, or where that was removed.
func (f *Folder) newest() string {
	mark, err := readSmall(f.root, newestName)
	key := strings.TrimSpace(string(mark))
	if err != nil || !isShortKey(key) {
		return f.path
	}
	if _, err := f.root.Stat(FolderPath(key)); err != nil {
		return f.path
	}
	return FolderPath(key)
}

// MarkHandedOver notes that Temporal has the registration, so that it is not queued any more. It may be repeated. The
// note holds for the request that f was opened with: the next Commit makes it void.
func (f *Folder) MarkHandedOver(workflowID, runID string) error {
	data, err := encode(handoverNote{Handover{WorkflowID: workflowID, RunID: runID}, f.request.ID})
	if err != nil {
		return err
	}
	return writeFile(f.root, path.Join(f.path, workflowName), data)
}

// HandedOver returns which workflow has the registration, and false where it is still queued.
func (f *Folder) HandedOver() (Handover, bool, error) {
	name := path.Join(f.path, workflowName)
	data, err := readSmall(f.root, name)
	if errors.Is(err, fs.ErrNotExist) {
		return Handover{}, false, nil
	}
	if err != nil {
		return Handover{}, false, err
	}
	var note handoverNote
	if err := json.Unmarshal(data, &note); err != nil {
		return Handover{}, false, fmt.Errorf("read %s: %w", name, err)
	}
	if note.RequestID != f.request.ID {
		return Handover{}, false, nil
	}
	return note.Handover, true, nil
}

// WriteUpload writes upload.json, how far an upload has come, whole or not at all. It may hold what only its owner may read, and is of that mode.
func (f *Folder) WriteUpload(data []byte) error {
	return writeFileMode(f.root, path.Join(f.path, uploadName), data, secretMode)
}

// ReadUpload returns the last upload.json; the error wraps [fs.ErrNotExist] where there is none.
func (f *Folder) ReadUpload() ([]byte, error) {
	return readUpTo(f.root, path.Join(f.path, uploadName), maxUploadBytes)
}

// RemoveUpload removes upload.json. It may be repeated.
func (f *Folder) RemoveUpload() error { return f.root.RemoveAll(path.Join(f.path, uploadName)) }

// RemoveModel removes the copies of the model and of the extra files, which take the room, once the workflow run that
// has them ended; everything else stays. Where the registration is queued again, or was handed to another run, they are
// wanted, and stay too. It may be repeated. It takes the Lock: do not hold it.
func (f *Folder) RemoveModel(ctx context.Context, runID string) (err error) {
	unlock, err := Lock(ctx, f.root, path.Base(f.path))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	current, err := Open(f.root, path.Base(f.path))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	handover, handedOver, err := current.HandedOver()
	if err != nil || !handedOver || handover.RunID != runID {
		return err
	}
	return errors.Join(
		f.root.RemoveAll(path.Join(f.path, modelFolder)),
		f.root.RemoveAll(path.Join(f.path, extraFolder)),
	)
}

// file returns where the copy lies in root_dir. An entry comes from a file that others may have edited.
func file(folder string, entry Entry) (string, error) {
	if !filepath.IsLocal(entry.Name) {
		return "", inputErrorf("read %s: it names the copy %q, want a name inside the folder",
			path.Join(folder, requestName), entry.Name)
	}
	return path.Join(folder, entry.Name), nil
}
