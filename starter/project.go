package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"registrar/activities"
	"registrar/config"
	"registrar/internal/confine"
	"registrar/internal/gate"
	"registrar/internal/modelfile"
	"registrar/internal/receipt"
	"registrar/internal/snapshot"
	"registrar/workflows"
)

// project is the folder that is registered from.
type project struct {
	root     string // absolute
	dir      *confine.Dir
	rootDir  *os.Root
	config   config.File
	params   config.File
	settings config.Settings
}

// openProject opens a project to register from it: the folder for registrations is made where it is not there.
func openProject(f registerFlags) (*project, error) {
	p, err := readProject(f)
	if err != nil {
		return nil, err
	}
	if p.rootDir, err = p.dir.Sub(p.settings.RootDir, true); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: model_registration.root_dir: %w", f.config, err), p.dir.Close())
	}
	return p, nil
}

// readProject reads the settings of a project, and changes nothing; it opens no rootDir.
func readProject(f registerFlags) (*project, error) {
	root, err := filepath.Abs(f.root)
	if err != nil {
		return nil, fmt.Errorf("find project root %s: %w", f.root, err)
	}
	p := &project{root: root}
	if p.dir, err = confine.Unconfined(root); err != nil {
		return nil, fmt.Errorf("%w: give the project with --root", err)
	}
	if p.config, err = readSettings(p.dir, f.config, "--config"); err != nil {
		return nil, errors.Join(err, p.dir.Close())
	}
	if p.params, err = readSettings(p.dir, f.params, "--params"); err != nil {
		return nil, errors.Join(err, p.dir.Close())
	}
	if p.settings, err = config.Parse(p.config, p.params); err != nil {
		return nil, errors.Join(err, p.dir.Close())
	}
	return p, nil
}

func readSettings(dir *confine.Dir, name, flag string) (config.File, error) {
	data, err := dir.ReadFile(name, config.MaxFileBytes)
	if isAbsent(err) {
		return config.File{}, fmt.Errorf("read settings: %w: give --root or %s", err, flag)
	}
	if err != nil {
		return config.File{}, fmt.Errorf("read settings: %w", err)
	}
	return config.File{Name: name, Data: data}, nil
}

// isTemporary tells a project that DVC removes when the experiment ends that runs in it (dvc exp run --temp or --queue): a registration that waits
// loses its folder then.
func (p *project) isTemporary() bool {
	return strings.Contains(filepath.ToSlash(p.root)+"/", "/.dvc/tmp/exps/")
}

func isAbsent(err error) bool { return errors.Is(err, fs.ErrNotExist) }

// close closes folders that were read through; there is nothing in it that could fail and be lost.
func (p *project) close() {
	_ = p.rootDir.Close()
	_ = p.dir.Close()
}

// path is where a registration folder is, for people.
func (p *project) path(folder string) string {
	if filepath.IsAbs(p.settings.RootDir) {
		return filepath.Join(p.settings.RootDir, folder)
	}
	return filepath.Join(p.root, p.settings.RootDir, folder)
}

// copies are the frozen inputs of a registration, staged or in their folder.
type copies interface {
	Request() snapshot.Request
	OpenVerified(snapshot.Entry) (io.ReadCloser, error)
}

// judge judges the frozen files and the metrics, as the worker will.
func (p *project) judge(ctx context.Context, frozen copies) (gate.Decision, error) {
	model, err := p.judgeModel(ctx, frozen)
	if err != nil {
		return gate.Decision{}, err
	}
	entry := frozen.Request().Metrics
	f, err := frozen.OpenVerified(entry)
	if err != nil {
		return gate.Decision{}, err
	}
	defer f.Close()
	metrics, err := gate.ParseMetrics(entry.Path, f)
	if err != nil {
		return gate.Decision{}, err
	}
	return gate.Decide(workflows.Rules(p.settings), metrics).WithModel(model), nil
}

// judgeModel judges the files that a consumer loads, by the project's policy. What the worker asks as well is not known here.
func (p *project) judgeModel(ctx context.Context, frozen copies) (verdict *gate.Model, err error) {
	request, policy := frozen.Request(), activities.PicklePolicy(p.settings, nil)
	for _, entry := range append([]snapshot.Entry{request.Model}, request.ExtraFiles...) {
		f, err := frozen.OpenVerified(entry)
		if err != nil {
			return nil, err
		}
		if verdict == nil {
			verdict, err = judgeModelFile(ctx, f, entry, policy)
		} else {
			err = activities.AddExtraFile(ctx, verdict, f, entry, policy)
		}
		if err := errors.Join(err, f.Close()); err != nil {
			return nil, err
		}
	}
	return verdict, nil
}

func judgeModelFile(ctx context.Context, f io.Reader, entry snapshot.Entry, policy modelfile.Policy) (*gate.Model, error) {
	info, err := modelfile.InspectHashed(ctx, f, entry.SHA256)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", entry.Path, err)
	}
	return activities.ModelVerdict(info, policy), nil
}

// receiptOf says of a registration what its request says.
func receiptOf(request snapshot.Request, state receipt.State) receipt.Receipt {
	return receipt.Receipt{
		WorkflowID: workflows.RegistrationID(request.ModelName, request.RegistrationKey), State: state,
		ModelName: request.ModelName, ModelSHA256: request.Model.SHA256, RegistrationKey: request.RegistrationKey,
	}
}

// withKnown is r with what is known beside it of the same registration: neither Temporal nor a worker may be there to say it again. What the worker
// said in the end is all that there is.
func withKnown(r, known receipt.Receipt) receipt.Receipt {
	r.ModelName = cmp.Or(r.ModelName, known.ModelName)
	r.ModelSHA256 = cmp.Or(r.ModelSHA256, known.ModelSHA256)
	r.RegistrationKey = cmp.Or(r.RegistrationKey, known.RegistrationKey)
	if r.State == receipt.Done {
		return r
	}
	r.Decision = cmp.Or(r.Decision, known.Decision)
	if len(r.Warnings) == 0 {
		r.Warnings = known.Warnings
	}
	return r
}

// readReceipt is the receipt of a folder; one that is not there, or cannot be read, says nothing.
func readReceipt(folder *snapshot.Folder) (r receipt.Receipt) {
	data, err := folder.ReadReceipt()
	if err != nil || json.Unmarshal(data, &r) != nil {
		return receipt.Receipt{}
	}
	return r
}

// setState writes how a registration that has not ended stands. What the receipt says of an earlier run of it holds no longer: so one that
// says done is always that of the run that has the folder. Hold the lock.
func setState(folder *snapshot.Folder, state receipt.State) error {
	r := receiptOf(folder.Request(), state)
	if last := readReceipt(folder); last.State != receipt.Done {
		r.Decision, r.Warnings = last.Decision, last.Warnings
	}
	return setReceipt(folder, r)
}

func setReceipt(folder *snapshot.Folder, r receipt.Receipt) error {
	data, err := r.JSON()
	if err != nil {
		return err
	}
	return folder.SetReceipt(data)
}

// keepReceipt writes how the run of h stands. The receipt of a run that ended is the worker's to write, and stays; where that could not, since
// it serves another copy of the project or may not write into this one, it is written here, and the copy of the model removed.
func (p *project) keepReceipt(ctx context.Context, h handle, r receipt.Receipt) error {
	folder, written, err := p.replaceReceipt(ctx, h, r)
	if err != nil || !written || r.State != receipt.Done {
		return err
	}
	return folder.RemoveModel(ctx, h.runID)
}

func (p *project) replaceReceipt(ctx context.Context, h handle, r receipt.Receipt) (folder *snapshot.Folder, written bool, err error) {
	unlock, err := snapshot.Lock(ctx, p.rootDir, snapshot.ShortKey(h.key))
	if err != nil {
		return nil, false, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	folder, err = snapshot.Open(p.rootDir, snapshot.ShortKey(h.key))
	if err != nil {
		return nil, false, err
	}
	handover, handedOver, err := folder.HandedOver()
	last := readReceipt(folder)
	if err != nil || !handedOver || handover.RunID != h.runID || last.State == receipt.Done {
		return folder, false, err
	}
	return folder, true, setReceipt(folder, withKnown(r, last))
}
