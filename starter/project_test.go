package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"registrar/internal/receipt"
	"registrar/internal/snapshot"
)

// handedOverProject is a project whose registration run-1 of Temporal has.
func handedOverProject(t *testing.T) (*project, *snapshot.Folder) {
	t.Helper()
	p, err := openProject(registerFlags{root: newProject(t), config: "config/config.yaml", params: "config/params.yaml"})
	require.NoError(t, err)
	t.Cleanup(p.close)
	asked, err := new(starter).freeze(t.Context(), p, "")
	require.NoError(t, err)
	folder, err := asked.Commit(t.Context())
	require.NoError(t, err)
	require.NoError(t, handedOver(folder, handle{workflowID: "register/forest/1", runID: "run-1"}))
	return p, folder
}

func TestReceipt_OfTheWorkerStays(t *testing.T) {
	p, folder := handedOverProject(t)
	h := handle{runID: "run-1", key: folder.Request().RegistrationKey}
	data, err := receipt.Receipt{State: receipt.Done, Outcome: receipt.Registered, ModelVersion: "7"}.JSON()
	require.NoError(t, err)
	require.NoError(t, folder.WriteReceipt(data))

	require.NoError(t, p.keepReceipt(t.Context(), h, receiptOf(folder.Request(), receipt.Waiting)))

	require.Equal(t, "7", readReceipt(folder).ModelVersion)
}

func TestReceipt_OfAnEarlierRunSaysNothingOfALaterOne(t *testing.T) {
	p, folder := handedOverProject(t)
	data, err := receipt.Receipt{State: receipt.Done, Outcome: receipt.Rejected, Warnings: []string{"refused"}}.JSON()
	require.NoError(t, err)
	require.NoError(t, folder.WriteReceipt(data))
	require.NoError(t, handedOver(folder, handle{workflowID: "register/forest/1", runID: "run-2"}))
	require.Equal(t, receiptOf(folder.Request(), receipt.Running), readReceipt(folder))
	key := folder.Request().RegistrationKey

	require.NoError(t, p.keepReceipt(t.Context(), handle{runID: "run-2", key: key}, receiptOf(folder.Request(), receipt.Waiting)))
	require.Equal(t, receipt.Waiting, readReceipt(folder).State)

	late := receiptOf(folder.Request(), receipt.Done)
	require.NoError(t, p.keepReceipt(t.Context(), handle{runID: "run-1", key: key}, late))
	require.Equal(t, receipt.Waiting, readReceipt(folder).State, "the folder is another run's")
}

func TestJoin_ComparesTheSettingsOfTheRunThatIsJoined(t *testing.T) {
	before, folder := handedOverProject(t)
	write(t, before.root, "config/params.yaml", "registration_params:\n  min_roc_auc: 0.70\n")
	p, err := openProject(registerFlags{root: before.root, config: "config/config.yaml", params: "config/params.yaml"})
	require.NoError(t, err)
	t.Cleanup(p.close)
	asked, err := new(starter).freeze(t.Context(), p, "")
	require.NoError(t, err)
	h := handle{workflowID: "register/forest/1", runID: "run-1", key: folder.Request().RegistrationKey, joined: true}
	require.ErrorContains(t, p.join(t.Context(), asked, h), "min_roc_auc is 0.6 there and 0.7 here")

	asked, err = new(starter).freeze(t.Context(), p, "")
	require.NoError(t, err)
	h.runID = "run-2" // of another copy of the project, after the one of here had ended
	require.NoError(t, p.join(t.Context(), asked, h))

	folder, err = snapshot.Open(p.rootDir, snapshot.ShortKey(h.key))
	require.NoError(t, err)
	handover, there, err := folder.HandedOver()
	require.NoError(t, err)
	require.True(t, there)
	require.Equal(t, "run-2", handover.RunID)
	require.NoError(t, p.sameSettings(folder, h.workflowID))
	require.Contains(t, read(t, p.root, "out/decision.json"), `"min": 0.7`)
}

func TestReceipt_ThatTheWorkerCouldNotWriteIsWritten(t *testing.T) {
	p, folder := handedOverProject(t)
	r := receiptOf(folder.Request(), receipt.Done)
	r.Outcome = receipt.Registered

	require.NoError(t, p.keepReceipt(t.Context(), handle{runID: "run-1", key: folder.Request().RegistrationKey}, r))

	require.Equal(t, r, readReceipt(folder))
	require.NoDirExists(t, filepath.Join(p.root, "out", folder.Path(), "model"), "nothing needs the copy any more")
	newest, err := os.ReadFile(filepath.Join(p.root, "out", "receipt.json"))
	require.NoError(t, err)
	require.Contains(t, string(newest), `"registered"`)
}

func TestRegister_QueuesNothingInAFolderThatDVCRemoves(t *testing.T) {
	root := filepath.Join(t.TempDir(), ".dvc", "tmp", "exps", "standalone", "tmp1")
	require.NoError(t, os.CopyFS(root, os.DirFS(newProject(t))))

	a := inProcess(t, "register", "--root", root)

	require.Equal(t, exitFailure, a.code, "exit code 0 would be a promise that nobody keeps")
	require.Contains(t, a.stderr, "warning: DVC removes this folder")
	require.Contains(t, a.stderr, "nothing is queued in "+root)
	require.NoFileExists(t, filepath.Join(root, "out", "receipt.json"))

	elsewhere := t.TempDir()
	write(t, root, "config/config.yaml", strings.ReplaceAll(read(t, root, "config/config.yaml"), "root_dir: out", "root_dir: "+elsewhere))
	a = inProcess(t, "register", "--root", root)
	require.Zero(t, a.code)
	require.NotContains(t, a.stderr, "nothing is queued")
	require.FileExists(t, filepath.Join(elsewhere, "receipt.json"))
}

// The receipt of an earlier registration says done until the one by hand ends.
func TestRegister_LeavesAloneWhatAnotherWorkflowMayStillReadWhereTemporalIsAway(t *testing.T) {
	root := newProject(t)
	folder := frozenFor(t, root, "register/by-hand", "run-1")
	data, err := receipt.Receipt{WorkflowID: "register/by-hand", State: receipt.Done, Outcome: receipt.Failed}.JSON()
	require.NoError(t, err)
	require.NoError(t, folder.WriteReceipt(data))

	a := inProcess(t, "register", "--root", root, "-o", "json")

	require.Zero(t, a.code, a.stderr)
	require.Equal(t, "register/by-hand", haver(t, folder, root))
	require.Empty(t, queuedIn(t, root))
	r := written(t, root, "out/receipt.json")
	require.Equal(t, receipt.Waiting, r.State)
	require.Equal(t, "register/by-hand", r.WorkflowID, "who has the files")
	require.Contains(t, a.stderr, "was handed to Temporal before, as register/by-hand, and is still in ")

	require.NoError(t, folder.WriteReceipt(data))
	require.NoError(t, folder.RemoveModel(t.Context(), "run-1"))
	a = inProcess(t, "register", "--root", root)

	require.Zero(t, a.code, a.stderr)
	require.Len(t, queuedIn(t, root), 1, "it has ended")
}
