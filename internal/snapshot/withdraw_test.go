package snapshot_test

import (
	"io/fs"
	"testing"

	"github.com/stretchr/testify/require"

	"registrar/internal/snapshot"
)

// ask commits a registration as a starter does before Temporal hears of it, and tells how it stood before.
func (p *project) ask(inputs snapshot.Inputs, decision string) (*snapshot.Folder, snapshot.Before) {
	p.t.Helper()
	staged := p.stage(inputs)
	before, err := staged.Before()
	require.NoError(p.t, err)
	folder, err := staged.Commit(p.t.Context())
	require.NoError(p.t, err)
	require.NoError(p.t, folder.MarkNewest())
	require.NoError(p.t, folder.WriteDecision([]byte(decision)))
	require.NoError(p.t, folder.SetReceipt([]byte("queued")))
	return folder, before
}

func (p *project) shown() map[string]string {
	p.t.Helper()
	files := map[string]string{}
	for _, name := range []string{"decision.json", "receipt.json"} {
		if data, err := fs.ReadFile(p.rootDir.FS(), name); err == nil {
			files[name] = string(data)
		}
	}
	return files
}

func (p *project) open(key string) (folder *snapshot.Folder, handover snapshot.Handover, handedOver bool) {
	p.t.Helper()
	folder, err := snapshot.Open(p.rootDir, snapshot.ShortKey(key))
	require.NoError(p.t, err)
	handover, handedOver, err = folder.HandedOver()
	require.NoError(p.t, err)
	return folder, handover, handedOver
}

func otherInputs() snapshot.Inputs {
	inputs := modelInputs()
	inputs.ForceToken = "other"
	return inputs
}

func TestWithdraw_OfTheFirstLeavesNothing(t *testing.T) {
	p := newProject(t)
	folder, before := p.ask(p.inputs(), "first")

	require.NoError(t, folder.Withdraw(before))

	require.Empty(t, p.names())
	require.Empty(t, p.shown())
}

func TestWithdraw_ShowsTheFormerOneAsItStandsNow(t *testing.T) {
	p := newProject(t)
	former, _ := p.ask(otherInputs(), "former")
	folder, before := p.ask(p.inputs(), "refused")
	require.NoError(t, former.SetReceipt([]byte("registered")))

	require.NoError(t, folder.Withdraw(before))

	require.Equal(t, map[string]string{"decision.json": "former", "receipt.json": "registered"}, p.shown())
	keys, err := snapshot.ShortKeys(p.rootDir)
	require.NoError(t, err)
	require.Equal(t, []string{snapshot.ShortKey(former.Request().RegistrationKey)}, keys)
}

func TestWithdraw_LeavesWhatBecameTheNewestMeanwhile(t *testing.T) {
	p := newProject(t)
	folder, before := p.ask(p.inputs(), "refused")
	p.ask(otherInputs(), "newer")

	require.NoError(t, folder.Withdraw(before))

	require.Equal(t, "newer", p.shown()["decision.json"])
}

func TestWithdraw_GivesAnEndedOneBackToItsRun(t *testing.T) {
	p := newProject(t)
	ended, _ := p.ask(p.inputs(), "passed")
	require.NoError(t, ended.MarkHandedOver("register/m/k", "run"))
	require.NoError(t, ended.SetReceipt([]byte("registered")))
	require.NoError(t, ended.RemoveModel(t.Context(), "run"))
	again := p.inputs()
	again.Params.Data = []byte("min_roc_auc: 0.90\n")
	folder, before := p.ask(again, "rejected")

	require.NoError(t, folder.Withdraw(before))

	folder, handover, handedOver := p.open(ended.Request().RegistrationKey)
	require.True(t, handedOver)
	require.Equal(t, snapshot.Handover{WorkflowID: "register/m/k", RunID: "run"}, handover)
	_, err := folder.OpenVerified(folder.Request().Model)
	require.ErrorIs(t, err, fs.ErrNotExist, "the copy of the model takes the room")
	require.Equal(t, map[string]string{"decision.json": "passed", "receipt.json": "registered"}, p.shown())
}

func TestWithdraw_LeavesWhatWasQueuedBefore(t *testing.T) {
	p := newProject(t)
	queued, _ := p.ask(p.inputs(), "passed")
	folder, before := p.ask(p.inputs(), "passed")

	require.NoError(t, folder.Withdraw(before))

	folder, _, handedOver := p.open(queued.Request().RegistrationKey)
	require.False(t, handedOver)
	require.NoError(t, folder.Verify(t.Context(), nil, nil))
	require.Equal(t, "queued", p.shown()["receipt.json"])
}
