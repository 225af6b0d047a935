package snapshot_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"

	"registrar/internal/snapshot"
)

func TestOpen_NeedsAFolderOfThatKey(t *testing.T) {
	p := newProject(t)
	_, err := snapshot.Open(p.rootDir, "0123456789abcdef")
	require.ErrorIs(t, err, fs.ErrNotExist)
	for _, name := range []string{"", "..", "../../../../etc/x", "0123456789ABCDEF", "0123456789abcde/"} {
		_, err := snapshot.Open(p.rootDir, name)
		require.ErrorContains(t, err, "want the first 16 hex digits")
		require.NotErrorIs(t, err, fs.ErrNotExist)
	}
}

func TestOpen_RefusesWhatItCannotRead(t *testing.T) {
	p := newProject(t)
	folder := p.commit(p.inputs())
	for content, want := range map[string]string{
		"{":                              "unexpected end of JSON",
		`{"schema_version": 2}`:          "schema_version is 2, this program reads 1 to 1",
		`{}`:                             "schema_version is 0",
		strings.Repeat(" ", 1<<20) + "{": "want at most that",
	} {
		require.NoError(t, p.rootDir.WriteFile(folder.Path()+"/request.json", []byte(content), 0o644))
		_, err := snapshot.Open(p.rootDir, filepath.Base(folder.Path()))
		require.ErrorContains(t, err, want)
		require.ErrorContains(t, err, folder.Path()+"/request.json")
	}
}

func TestVerify_FindsEveryChangedCopy(t *testing.T) {
	p := newProject(t)
	folder := p.commit(p.inputs())
	for _, entry := range folder.Request().Entries() {
		name := filepath.Join(folder.Path(), entry.Name)
		content, err := p.rootDir.ReadFile(name)
		require.NoError(t, err)
		flipped := append([]byte{content[0] ^ 1}, content[1:]...)
		for _, wrong := range [][]byte{flipped, content[1:], append(content[:len(content):len(content)], 0), nil} {
			require.NoError(t, p.rootDir.WriteFile(name, wrong, 0o644))
			var mismatch *snapshot.MismatchError
			require.ErrorAs(t, folder.Verify(t.Context(), nil, nil), &mismatch, entry.Name)
			require.Equal(t, name, mismatch.Name)
			require.Equal(t, entry.SHA256, mismatch.WantSHA256)
			require.ErrorContains(t, mismatch, name)
		}
		require.NoError(t, p.rootDir.WriteFile(name, content, 0o644))
	}
	var done, total int64
	require.NoError(t, folder.Verify(t.Context(), func(d, n int64) { done, total = d, n }, nil))
	require.Positive(t, done)
	require.Equal(t, total, done)
}

func TestVerify_ShowsTheModelWhileItReadsIt(t *testing.T) {
	p := newProject(t)
	folder := p.commit(p.inputs())
	refusal := errors.New("no model")
	reading := func(all bool) func(snapshot.Entry, io.Reader) error {
		return func(entry snapshot.Entry, r io.Reader) error {
			require.Equal(t, folder.Request().Model, entry)
			seen := make([]byte, 3) // and leaves the rest
			if all {
				seen = make([]byte, len("the model"))
			}
			_, err := io.ReadFull(r, seen)
			require.NoError(t, err)
			require.True(t, strings.HasPrefix("the model", string(seen)))
			return refusal
		}
	}
	var done, total int64
	progress := func(d, n int64) { done, total = d, n }
	require.ErrorIs(t, folder.Verify(t.Context(), progress, reading(false)), refusal)
	require.ErrorIs(t, folder.Verify(t.Context(), progress, reading(true)), refusal)
	var shown []snapshot.Entry
	require.NoError(t, folder.Verify(t.Context(), progress, func(entry snapshot.Entry, _ io.Reader) error {
		shown = append(shown, entry)
		return nil
	}))
	require.Equal(t, append([]snapshot.Entry{folder.Request().Model}, folder.Request().ExtraFiles...), shown)
	require.NotEmpty(t, folder.Request().ExtraFiles)
	require.Equal(t, total, done, "each byte is read once")

	var mismatch *snapshot.MismatchError
	name := filepath.Join(folder.Path(), folder.Request().Model.Name)
	require.NoError(t, p.rootDir.WriteFile(name, []byte("the modem"), 0o644))
	require.ErrorAs(t, folder.Verify(t.Context(), nil, reading(false)), &mismatch, "a wrong copy comes before what is wrong with it")
	require.NotErrorIs(t, folder.Verify(t.Context(), nil, reading(false)), refusal)
}

func TestVerify_FindsAnEditedRequest(t *testing.T) {
	p := newProject(t)
	folder := p.commit(p.inputs())
	short := filepath.Base(folder.Path())
	original, err := p.rootDir.ReadFile(folder.Path() + "/request.json")
	require.NoError(t, err)
	edit := func(old, replacement string) error {
		edited := strings.Replace(string(original), old, replacement, 1)
		require.NotEqual(t, string(original), edited)
		require.NoError(t, p.rootDir.WriteFile(folder.Path()+"/request.json", []byte(edited), 0o644))
		reopened, err := snapshot.Open(p.rootDir, short)
		require.NoError(t, err)
		return reopened.Verify(t.Context(), nil, nil)
	}
	require.ErrorContains(t, edit("ACRAS_RandomForest_v1", "Another"), "registration_key is "+folder.Request().RegistrationKey)
	require.ErrorContains(t, edit("model/rf.joblib", "../../../artifacts/rf.joblib"), "want a name inside the folder")
	require.ErrorContains(t, edit("model/rf.joblib", "/etc/hostname"), "want a name inside the folder")

	require.NoError(t, p.rootDir.WriteFile(folder.Path()+"/request.json", original, 0o644))
	require.NoError(t, p.rootDir.Rename(folder.Path(), "registrations/0123456789abcdef"))
	moved, err := snapshot.Open(p.rootDir, "0123456789abcdef")
	require.NoError(t, err)
	require.ErrorContains(t, moved.Verify(t.Context(), nil, nil), "it belongs in the folder "+short)
}

func TestVerify_StopsWithTheContext(t *testing.T) {
	p := newProject(t)
	folder := p.commit(p.inputs())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, folder.Verify(ctx, nil, nil), context.Canceled)
}

func TestOpenVerified_KeepsTheLastByteOfAWrongCopyBack(t *testing.T) {
	p := newProject(t)
	p.write("artifacts/rf.joblib", strings.Repeat("model", 100_000))
	folder := p.commit(p.inputs())
	model := folder.Request().Model
	name := filepath.Join(folder.Path(), model.Name)
	content, err := p.rootDir.ReadFile(name)
	require.NoError(t, err)
	content[0] ^= 1
	require.NoError(t, p.rootDir.WriteFile(name, content, 0o644))

	for _, slow := range []bool{false, true} {
		verified, err := folder.OpenVerified(model)
		require.NoError(t, err)
		var reader io.Reader = verified
		if slow {
			reader = iotest.OneByteReader(verified)
		}
		delivered, err := io.Copy(io.Discard, reader)
		var mismatch *snapshot.MismatchError
		require.ErrorAs(t, err, &mismatch)
		require.Less(t, delivered, model.SizeBytes)
		require.NotEmpty(t, mismatch.FoundSHA256)
		n, err := verified.Read(make([]byte, 10))
		require.Zero(t, n)
		require.ErrorAs(t, err, &mismatch)
		require.NoError(t, verified.Close())
	}
}

func TestOpenVerified_ReadsAsAReaderShould(t *testing.T) {
	p := newProject(t)
	content := strings.Repeat("model", 1000)
	p.write("artifacts/rf.joblib", content)
	p.write("artifacts/preprocessor.pkl", "")
	folder := p.commit(p.inputs())
	for entry, want := range map[snapshot.Entry]string{folder.Request().Model: content, folder.Request().ExtraFiles[0]: ""} {
		reader, err := folder.OpenVerified(entry)
		require.NoError(t, err)
		require.NoError(t, iotest.TestReader(reader, []byte(want)))
		require.NoError(t, reader.Close())
	}
}

func TestOpenVerified_NoticesATruncationMeanwhile(t *testing.T) {
	p := newProject(t)
	folder := p.commit(p.inputs())
	reader, err := folder.OpenVerified(folder.Request().Model)
	require.NoError(t, err)
	defer closing(t, reader)
	_, err = reader.Read(make([]byte, 3))
	require.NoError(t, err)
	require.NoError(t, os.Truncate(filepath.Join(p.path, "registration", folder.Path(), "model/rf.joblib"), 5))
	_, err = io.ReadAll(reader)
	var mismatch *snapshot.MismatchError
	require.ErrorAs(t, err, &mismatch)
	require.EqualValues(t, 5, mismatch.FoundSizeBytes)
}

func TestFolder_ReadsWhatIsLeftOfAnUploadOfManyParts(t *testing.T) {
	p := newProject(t)
	folder := p.commit(p.inputs())
	left := []byte(strings.Repeat("x", 500*(4<<10)))

	require.NoError(t, folder.WriteUpload(left))
	read, err := folder.ReadUpload()

	require.NoError(t, err)
	require.Equal(t, len(left), len(read))
	require.NoError(t, folder.WriteUpload(make([]byte, 32<<20+1)))
	_, err = folder.ReadUpload()
	require.ErrorContains(t, err, folder.Path()+"/upload.json: it has over 33554432 bytes, want at most that")
}

func TestFolder_PublishesDecisionAndReceipt(t *testing.T) {
	p := newProject(t)
	folder := p.commit(p.inputs())
	for _, content := range []string{"first", "second"} {
		require.NoError(t, folder.WriteDecision([]byte("decision "+content)))
		require.NoError(t, folder.WriteReceipt([]byte("receipt "+content)))
		for name, want := range map[string]string{"decision.json": "decision ", "receipt.json": "receipt "} {
			for _, place := range []string{name, filepath.Join(folder.Path(), name)} {
				found, err := p.rootDir.ReadFile(place)
				require.NoError(t, err)
				require.Equal(t, want+content, string(found))
			}
		}
	}
	require.Len(t, p.names(), 1, "temporary files stay")
}

func TestFolder_LeavesNoTemporaryFileWhenAWriteFails(t *testing.T) {
	p := newProject(t)
	folder := p.commit(p.inputs())
	require.NoError(t, p.rootDir.Mkdir("receipt.json", 0o755))
	require.ErrorContains(t, folder.WriteReceipt([]byte("receipt")), "write receipt.json: ")
	require.Len(t, p.names(), 1)
}

func TestFolder_RemovesTheModelOfTheRunThatHasIt(t *testing.T) {
	p := newProject(t)
	folder := p.commit(p.inputs())
	require.NoError(t, folder.RemoveModel(t.Context(), "run-1"))
	require.NoError(t, folder.Verify(t.Context(), nil, nil), "a queued model was removed")

	require.NoError(t, folder.MarkHandedOver("register/x/1", "run-1"))
	handover, handedOver, err := folder.HandedOver()
	require.NoError(t, err)
	require.True(t, handedOver)
	require.Equal(t, snapshot.Handover{WorkflowID: "register/x/1", RunID: "run-1"}, handover)
	require.NoError(t, folder.RemoveModel(t.Context(), "run-0"))
	require.NoError(t, folder.Verify(t.Context(), nil, nil), "the model of another run was removed")

	again := p.commit(p.inputs())
	require.NoError(t, folder.RemoveModel(t.Context(), "run-1"))
	require.NoError(t, again.Verify(t.Context(), nil, nil), "a model that is wanted again was removed")

	require.NoError(t, again.MarkHandedOver("register/x/1", "run-2"))
	require.NoError(t, again.WriteReceipt([]byte("receipt")))
	for range 2 {
		require.NoError(t, again.RemoveModel(t.Context(), "run-2"))
	}
	err = again.Verify(t.Context(), nil, nil)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorContains(t, err, "register the model again")
	require.FileExists(t, filepath.Join(p.path, "registration", again.Path(), "receipt.json"))
	p.commit(p.inputs())

	require.NoError(t, p.rootDir.RemoveAll("registrations"))
	require.NoError(t, again.RemoveModel(t.Context(), "run-2"))
}

func TestFolder_ReceiptWaitsForWhoHoldsTheLock(t *testing.T) {
	p := newProject(t)
	folder := p.commit(p.inputs())
	unlock, err := snapshot.Lock(t.Context(), p.rootDir, snapshot.ShortKey(folder.Request().RegistrationKey))
	require.NoError(t, err)
	require.NoError(t, folder.SetReceipt([]byte("mine")))
	written := make(chan error, 1)
	go func() { written <- folder.WriteReceipt([]byte("other")) }()

	require.Never(t, func() bool { return len(written) > 0 }, 200*time.Millisecond, 20*time.Millisecond)
	found, err := folder.ReadReceipt()
	require.NoError(t, err)
	require.Equal(t, "mine", string(found))
	require.NoError(t, unlock())

	require.NoError(t, <-written)
	found, err = folder.ReadReceipt()
	require.NoError(t, err)
	require.Equal(t, "other", string(found))
}

func TestShortKeys_NameTheRegistrations(t *testing.T) {
	p := newProject(t)
	keys, err := snapshot.ShortKeys(p.rootDir)
	require.NoError(t, err)
	require.Empty(t, keys)

	inputs := p.inputs()
	one := p.commit(inputs)
	inputs.ForceToken = "again"
	two := p.commit(inputs)
	require.NotEqual(t, one.Path(), two.Path())
	p.stage(inputs)
	keys, err = snapshot.ShortKeys(p.rootDir)
	require.NoError(t, err)
	require.ElementsMatch(t, []string{path.Base(one.Path()), path.Base(two.Path())}, keys)

	require.NoError(t, p.rootDir.MkdirAll("registrations/0123456789abcdef", 0o755))
	_, err = snapshot.Open(p.rootDir, "0123456789abcdef")
	require.ErrorContains(t, err, "registrations/0123456789abcdef/request.json")
}

func TestLock_KeepsOthersAway(t *testing.T) {
	const short = "0123456789abcdef"
	p := newProject(t)
	unlock, err := snapshot.Lock(t.Context(), p.rootDir, short)
	require.NoError(t, err)
	other, err := snapshot.Lock(t.Context(), p.rootDir, "fedcba9876543210")
	require.NoError(t, err)
	require.NoError(t, other())

	soon, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err = snapshot.Lock(soon, p.rootDir, short)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, err, short)
	require.NoError(t, unlock())
	require.Empty(t, p.names(), "lock files stay")
	_, err = snapshot.Lock(t.Context(), p.rootDir, "../lock")
	require.Error(t, err)
}

// The lock file goes away with each unlock: whoever opened it before and locks it afterwards must not be let in.
func TestLock_LetsOneInAtATime(t *testing.T) {
	p := newProject(t)
	once, cancel := context.WithCancel(t.Context())
	cancel() // With an ended context, Lock tries once and does not wait.
	inside, left := make(chan struct{}, 1), make(chan error)
	visit := func() error {
		unlock, err := snapshot.Lock(once, p.rootDir, "0123456789abcdef")
		if errors.Is(err, context.Canceled) {
			return nil
		}
		if err != nil {
			return err
		}
		select {
		case inside <- struct{}{}:
		default:
			return errors.New("two are inside")
		}
		<-inside
		return unlock()
	}
	const visitors, visits = 8, 2000
	for range visitors {
		go func() {
			for range visits {
				if err := visit(); err != nil {
					left <- err
					return
				}
			}
			left <- nil
		}()
	}
	for range visitors {
		require.NoError(t, <-left)
	}
}

func TestMarkNewest_DecidesWhoseFilesLieInRootDir(t *testing.T) {
	p := newProject(t)
	older := p.commit(p.inputs())
	inputs := p.inputs()
	inputs.ForceToken = "another"
	newest := p.commit(inputs)
	inRootDir := func() string {
		content, err := p.rootDir.ReadFile("receipt.json")
		require.NoError(t, err)
		return string(content)
	}

	require.NoError(t, older.WriteReceipt([]byte("older")))
	require.Equal(t, "older", inRootDir(), "nothing is marked")
	require.NoError(t, newest.MarkNewest())
	require.NoError(t, newest.WriteReceipt([]byte("newest")))
	require.NoError(t, older.WriteReceipt([]byte("older, ended later")))
	require.Equal(t, "newest", inRootDir())
	own, err := older.ReadReceipt()
	require.NoError(t, err)
	require.Equal(t, "older, ended later", string(own))

	require.NoError(t, p.rootDir.RemoveAll(newest.Path()))
	require.NoError(t, older.WriteReceipt([]byte("alone")))
	require.Equal(t, "alone", inRootDir(), "the newest was removed by hand")
	require.NoError(t, p.rootDir.WriteFile("registrations/newest", []byte("../../etc"), 0o600))
	require.NoError(t, older.WriteReceipt([]byte("no key")))
	require.Equal(t, "no key", inRootDir())
}
