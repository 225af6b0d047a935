package activities

import (
	"context"
	"fmt"
	"io"
	"os"
	"path"
	"sync/atomic"

	"go.temporal.io/sdk/activity"

	"registrar/config"
	"registrar/internal/failure"
	"registrar/internal/gate"
	"registrar/internal/mlmodel"
	"registrar/internal/modelfile"
	"registrar/internal/snapshot"
)

// SnapshotModelInput names a frozen registration folder to check, or, without a key, the inputs to freeze.
type SnapshotModelInput struct {
	Project  Project         `json:"project"`
	Config   string          `json:"config"`
	Params   string          `json:"params"`
	Settings config.Settings `json:"settings"`
	// ForceToken makes a registration of its own of files that are registered already.
	ForceToken string `json:"force_token,omitempty"`
}

// SnapshotModelResult is what is frozen.
type SnapshotModelResult struct {
	Project Project          `json:"project"`
	Request snapshot.Request `json:"request"`
	// Model is what the model file says of itself.
	Model modelfile.Info `json:"model"`
	// Verdict is what became of it, and of the extra files; nil from an older worker.
	Verdict *gate.Model `json:"verdict,omitempty"`
}

// JudgedBy is the verdict on the files; where an older worker gave none, on the model file alone and by the settings.
func (r SnapshotModelResult) JudgedBy(settings config.Settings) *gate.Model {
	if r.Verdict != nil {
		return r.Verdict
	}
	return ModelVerdict(r.Model, PicklePolicy(settings, nil))
}

// SnapshotModel checks that the registration folder holds the bytes that its request.json says, or makes the folder where
// the workflow was started without one; and reads the model as data, so that a file that cannot be registered is refused before MLflow
// hears of it, and the extra files that a consumer would load like it. A file that may not be loaded is no error: the verdict on it is for
// ValidateMetrics to act on. May be repeated.
func (a *Activities) SnapshotModel(ctx context.Context, in SnapshotModelInput) (SnapshotModelResult, error) {
	ctx, stop := untilWorkerStops(ctx)
	defer stop()
	var done, total atomic.Int64
	defer heartbeats(ctx, func() any { return Progress{Done: done.Load(), Total: total.Load()} })()
	progress := func(d, t int64) { done.Store(d); total.Store(t) }

	in.Project.RootDir = in.Settings.RootDir
	if in.Project.Key == "" {
		key, err := a.freeze(ctx, in, progress)
		if err != nil {
			return SnapshotModelResult{}, classify(ctx, err)
		}
		in.Project.Key = key
	}
	folder, err := a.folder(in.Project)
	if err != nil {
		return SnapshotModelResult{}, classify(ctx, err)
	}
	defer folder.Close()
	result := SnapshotModelResult{Project: in.Project, Request: folder.Request()}
	policy := PicklePolicy(in.Settings, a.MinPolicy)
	err = folder.Verify(ctx, progress, func(entry snapshot.Entry, file io.Reader) (err error) {
		if entry != result.Request.Model { // which comes before them
			return AddExtraFile(ctx, result.Verdict, file, entry, policy)
		}
		if result.Model, err = inspect(ctx, file, folder, in.Settings); err != nil {
			return err
		}
		result.Verdict = ModelVerdict(result.Model, policy)
		result.Model = policy.Judge(result.Model)
		return nil
	})
	return result, classify(ctx, err)
}

// inspect reads the frozen model, and sees that it can be packed with the settings.
func inspect(ctx context.Context, file io.Reader, folder frozen, settings config.Settings) (modelfile.Info, error) {
	entry := folder.Request().Model
	info, err := modelfile.InspectHashed(ctx, file, entry.SHA256)
	if err != nil {
		return modelfile.Info{}, fmt.Errorf("%s: %w", entry.Path, err)
	}
	locked, err := readLock(folder, settings.EnvironmentFile)
	if err != nil {
		return modelfile.Info{}, err
	}
	spec := mlmodel.Spec{
		Info:        info,
		ModelFile:   mlmodel.ModelFile{Name: path.Base(entry.Path), SizeBytes: entry.SizeBytes, SHA256: entry.SHA256},
		Layout:      mlmodel.Layout(settings.Layout),
		Signature:   mlmodel.Signature(settings.Signature),
		PredictFn:   settings.PredictFn,
		Environment: settings.Environment,
		Locked:      locked,
	}
	return info, spec.Check()
}

// maxLockBytes is more than a lock file of a thousand packages with all their hashes takes.
const maxLockBytes = 16 << 20

// readLock reads the frozen extra file that tells versions; name is its path as configured, empty for none.
func readLock(folder frozen, name string) (map[string]string, error) {
	if name == "" {
		return nil, nil
	}
	for _, entry := range folder.Request().ExtraFiles {
		if entry.Path != name {
			continue
		}
		f, err := folder.OpenVerified(entry)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		return ReadLock(name, entry.SizeBytes, f)
	}
	return nil, fmt.Errorf("%w: environment_file %s is not among the frozen files; register again", mlmodel.ErrSpec, name)
}

// ReadLock reads which versions an environment_file of a size leaves, as mlmodel.ReadLock gives them; name is its path as configured.
func ReadLock(name string, sizeBytes int64, file io.Reader) (map[string]string, error) {
	if sizeBytes > maxLockBytes {
		return nil, fmt.Errorf("%w: environment_file %s has %d bytes, over the %d of a lock file; name another", mlmodel.ErrSpec, name, sizeBytes, maxLockBytes)
	}
	content, err := io.ReadAll(file)
	if err != nil {
		return nil, err
	}
	return mlmodel.ReadLock(name, content)
}

// freeze makes the registration folder, and returns its key.
func (a *Activities) freeze(ctx context.Context, in SnapshotModelInput, progress func(done, total int64)) (key string, err error) {
	configFile, paramsFile, err := a.settingsFiles(LoadConfigInput{Project: in.Project, Config: in.Config, Params: in.Params})
	if err != nil {
		return "", err
	}
	dir, err := a.Roots.OpenRoot(in.Project.Root)
	if err != nil {
		return "", err
	}
	defer dir.Close()
	rootDir, err := dir.Sub(in.Settings.RootDir, true)
	if err != nil {
		return "", err
	}
	defer rootDir.Close()
	staged, err := snapshot.Stage(ctx, dir, rootDir, snapshot.Inputs{
		ModelName:  in.Settings.ModelName,
		Model:      in.Settings.ModelPath,
		Metrics:    in.Settings.MetricFileName,
		ExtraFiles: in.Settings.ExtraFiles,
		Config:     snapshot.File(configFile),
		Params:     snapshot.File(paramsFile),
		ForceToken: in.ForceToken,
	}, progress)
	if err != nil {
		return "", err
	}
	defer func() { _ = staged.Discard() }() // nothing is there where it was committed; what stays otherwise is garbage, and is collected
	unlock, err := snapshot.Lock(ctx, rootDir, snapshot.ShortKey(staged.Request().RegistrationKey))
	if err != nil {
		return "", err
	}
	defer func() {
		if failed := unlock(); err == nil {
			err = failed
		}
	}()
	execution := activity.GetInfo(ctx).WorkflowExecution
	if err := a.isNobodyElses(ctx, rootDir, staged.Request(), execution.ID); err != nil {
		return "", err
	}
	folder, err := staged.Commit(ctx)
	if err != nil {
		return "", err
	}
	if err := folder.MarkNewest(); err != nil {
		return "", err
	}
	return folder.Request().RegistrationKey, folder.MarkHandedOver(execution.ID, execution.RunID)
}

// isNobodyElses tells, by an error, that another workflow registers these very files: two would make two versions, and the first to end would take the
// copies from the other.
func (a *Activities) isNobodyElses(ctx context.Context, rootDir *os.Root, request snapshot.Request, workflowID string) error {
	folder, err := snapshot.Open(rootDir, snapshot.ShortKey(request.RegistrationKey))
	if err != nil {
		return nil //nolint:nilerror // none is there, or one that Commit mends
	}
	handover, there, err := folder.HandedOver()
	if err != nil || !there || handover.WorkflowID == workflowID {
		return err
	}
	running, err := a.isRunning(ctx, handover.WorkflowID, handover.RunID)
	if err != nil || !running {
		return err
	}
	return applicationError(fmt.Errorf("freeze the model: %s registers these files already, under the key %s; see `starter result %s`",
		handover.WorkflowID, request.RegistrationKey, handover.WorkflowID), failure.BadInput, failure.Detail{})
}
