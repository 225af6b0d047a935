package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"go.temporal.io/sdk/client"

	"registrar/activities"
	"registrar/config"
	"registrar/internal/gate"
	"registrar/internal/receipt"
	"registrar/internal/snapshot"
)

// frozen is a registration that is asked for: its inputs are copied, and judged.
type frozen struct {
	*snapshot.Staged
	decision gate.Decision
}

// known is what the starter itself knows of a registration that has not ended.
func (f frozen) known(p *project) receipt.Receipt {
	r := receiptOf(f.Request(), "")
	r.Decision, r.Warnings = &f.decision, p.settings.Warnings
	return r
}

// handle is a registration that Temporal has.
type handle struct {
	workflowID, runID string
	key               string
	// joined: it ran already, perhaps from another copy of the project.
	joined bool
}

// handOver starts the registration, or joins the one of the same files that is running. Two starters of the same files take turns. What was
// staged stays where the error is that Temporal does not answer; what Temporal refuses to start stays queued, and the error says so.
func (s *starter) handOver(ctx context.Context, c client.Client, p *project, asked frozen) (h handle, err error) {
	request := asked.Request()
	unlock, err := snapshot.Lock(ctx, p.rootDir, snapshot.ShortKey(request.RegistrationKey))
	if err != nil {
		return handle{}, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	h = handle{workflowID: receiptOf(request, "").WorkflowID, key: request.RegistrationKey}
	if err := p.isNobodyElses(ctx, c, h); err != nil {
		return handle{}, err
	}
	found, err := latestRun(ctx, c, h.workflowID)
	if err != nil {
		return handle{}, err
	}
	if found.running {
		h.runID, h.joined = found.runID, true
		return h, p.join(ctx, asked, h)
	}
	folder, err := asked.Commit(ctx)
	if err != nil {
		return handle{}, err
	}
	// The worker writes the same bytes, unless it asks more of the files than the project. The pipeline finds its decision also where no worker is there to write it.
	if err := writeDecision(folder, asked.decision); err != nil {
		return handle{}, err
	}
	h.runID, h.joined, err = s.handOverFolder(ctx, c, p, folder, found)
	if err != nil && !isUnreachable(err) {
		err = fmt.Errorf("%w; the files stay queued in %s: `starter flush`, or the next `starter register`, asks again", err, p.path(folder.Path()))
	}
	return h, err
}

// isNobodyElses tells, by an error, that another workflow than that of h registers these very files from this folder, as one that was started by hand:
// the first to end would take the copies from the other. The worker sees to it the other way round. Hold the lock.
func (p *project) isNobodyElses(ctx context.Context, c client.Client, h handle) error {
	folder, err := snapshot.Open(p.rootDir, snapshot.ShortKey(h.key))
	if err != nil {
		return nil //nolint:nilerror // none is there, or one that Commit mends
	}
	handover, there, err := folder.HandedOver()
	if err != nil || !there || handover.WorkflowID == h.workflowID {
		return nil //nolint:nilerror // Commit mends the note, too
	}
	running, err := activities.GoesOn(ctx, c, handover.WorkflowID, handover.RunID)
	if err != nil {
		return fmt.Errorf("look for workflow %s: %w", handover.WorkflowID, err)
	}
	if running {
		return fmt.Errorf("workflow %s registers these files already: wait for it (starter result %s), or cancel it (starter cancel %s)",
			handover.WorkflowID, handover.WorkflowID, handover.WorkflowID)
	}
	return nil
}

// handOverFolder starts what is in a registration folder, or joins who was first. Hold the lock: it keeps the worker from writing the last
// receipt before the first one is there.
func (s *starter) handOverFolder(ctx context.Context, c client.Client, p *project, folder *snapshot.Folder, found latest) (runID string, joined bool, err error) {
	runID, joined = found.runID, found.running
	request := folder.Request()
	if !joined {
		if err := setState(folder, receipt.Queued); err != nil {
			return "", false, err
		}
		runID, joined, err = s.start(ctx, c, startRequest{
			id: receiptOf(request, "").WorkflowID, root: p.root, rootDir: p.settings.RootDir, request: request, again: found.runID != "",
		})
		if err != nil {
			return "", false, err
		}
	}
	return runID, joined, handedOver(folder, handle{workflowID: receiptOf(request, "").WorkflowID, runID: runID})
}

// handedOver notes in a folder that the run of h has it. Hold the lock.
func handedOver(folder *snapshot.Folder, h handle) error {
	if err := setState(folder, receipt.Running); err != nil {
		return err
	}
	return folder.MarkHandedOver(h.workflowID, h.runID)
}

// join makes the registration folder of a registration that is running: it may have been started from another copy of the project, whose
// files the worker reads and writes. Where the folder is that of the running one, it stays. Hold the lock.
func (p *project) join(ctx context.Context, asked frozen, h handle) error {
	folder, err := snapshot.Open(p.rootDir, snapshot.ShortKey(h.key))
	switch {
	case isAbsent(err):
	case err != nil:
		return err
	default:
		handover, there, err := folder.HandedOver()
		if err != nil {
			return err
		}
		if there && handover.RunID == h.runID {
			if err := p.sameSettings(folder, h.workflowID); err != nil {
				return errors.Join(err, asked.Discard())
			}
			return errors.Join(writeDecision(folder, asked.decision), asked.Discard())
		}
		if !there { // a starter may have died before it could note the run
			if err := p.sameSettings(folder, h.workflowID); err != nil {
				return err
			}
		}
	}
	if folder, err = asked.Commit(ctx); err != nil {
		return err
	}
	if err := writeDecision(folder, asked.decision); err != nil {
		return err
	}
	return handedOver(folder, h)
}

// writeDecision writes the decision of the registration that is asked for now.
func writeDecision(folder *snapshot.Folder, decision gate.Decision) error {
	data, err := decision.JSON()
	if err != nil {
		return err
	}
	if err := folder.MarkNewest(); err != nil {
		return err
	}
	return folder.WriteDecision(data)
}

// sameSettings sees that a registration was asked for with the settings of now.
func (p *project) sameSettings(folder *snapshot.Folder, workflowID string) error {
	frozenConfig, err := folder.ReadConfig()
	if err != nil {
		return err
	}
	frozenParams, err := folder.ReadParams()
	if err != nil {
		return err
	}
	running, err := config.Parse(config.File(frozenConfig), config.File(frozenParams))
	if err != nil {
		return err
	}
	if difference := running.Difference(p.settings); difference != "" {
		return otherSettings(difference, workflowID)
	}
	return nil
}

// sameDecision sees that a registration that was joined is judged by the rules of here: its settings may be where nobody here can read them.
func (f frozen) sameDecision(r receipt.Receipt) error {
	if r.Decision == nil {
		return nil
	}
	theirs, ours := *r.Decision, f.decision
	if m := theirs.Model; m == nil || m.MinPolicy != "" { // a worker that judges no model files, or asks more of them than the project
		theirs, ours = gate.Decision{Rules: theirs.Rules}, gate.Decision{Rules: ours.Rules}
	}
	there, err := theirs.JSON()
	if err != nil {
		return err
	}
	here, err := ours.JSON()
	if err != nil {
		return err
	}
	if bytes.Equal(there, here) {
		return nil
	}
	return otherSettings(fmt.Sprintf("%s there, %s here", r.Decision.Summary(), f.decision.Summary()), r.WorkflowID)
}

func otherSettings(difference, workflowID string) error {
	return fmt.Errorf("these files are being registered with other settings (%s): wait for it (starter result %s), or cancel it (starter cancel %s)",
		difference, workflowID, workflowID)
}

// queue keeps the registration in its folder until Temporal can be reached.
func (s *starter) queue(ctx context.Context, p *project, asked frozen, unreachable error, f waitFlags) (err error) {
	if p.isTemporary() && !filepath.IsAbs(p.settings.RootDir) {
		return errors.Join(fmt.Errorf("%w; nothing is queued in %s, which DVC removes when the experiment ends: "+
			"give model_registration.root_dir an absolute path to queue it there", unreachable, p.root), asked.Discard())
	}
	request := asked.Request()
	unlock, err := snapshot.Lock(ctx, p.rootDir, snapshot.ShortKey(request.RegistrationKey))
	if err != nil {
		return errors.Join(err, asked.Discard())
	}
	defer func() { err = errors.Join(err, unlock()) }()
	folder, err := p.commitQueued(ctx, asked)
	if err != nil {
		return errors.Join(err, asked.Discard())
	}
	if err := writeDecision(folder, asked.decision); err != nil {
		return err
	}
	handover, there, err := folder.HandedOver()
	if err != nil {
		return err
	}
	r := asked.known(p)
	r.State = receipt.Queued
	text := "is queued in " + p.path(folder.Path()) + ", and handed over by `starter flush` or the next `starter register`"
	if there {
		r.WorkflowID, r.State = handover.WorkflowID, receipt.Waiting
		text = "was handed to Temporal before, as " + handover.WorkflowID + ", and is still in " + p.path(folder.Path())
	}
	r.Waiting = waitForTemporal(unreachable)
	if err := setReceipt(folder, r); err != nil {
		return err
	}
	s.warn(fmt.Sprintf("%v; the registration %s", unreachable, text))
	return s.report(r, f.detailed)
}

func waitForTemporal(unreachable error) *receipt.Wait {
	return &receipt.Wait{Since: time.Now().UTC().Truncate(time.Second), Layer: "temporal", LastError: unreachable.Error()}
}

// commitQueued makes the registration folder of a registration that Temporal has not heard of. One that it has, and that may be running
// with other settings, is left as it is. So is that of another workflow whose copies are still there: whether it is running, only Temporal knows. Were it,
// to queue would take the copies from it in the end; was it terminated, the next register with Temporal there does what is asked for now.
func (p *project) commitQueued(ctx context.Context, asked frozen) (*snapshot.Folder, error) {
	folder, err := snapshot.Open(p.rootDir, snapshot.ShortKey(asked.Request().RegistrationKey))
	if err != nil && !isAbsent(err) {
		return nil, err
	}
	if err == nil {
		h, there, err := folder.HandedOver()
		if err != nil {
			return nil, err
		}
		if there && (readReceipt(folder).State != receipt.Done || h.WorkflowID != receiptOf(asked.Request(), "").WorkflowID && hasModel(folder)) {
			return folder, errors.Join(p.sameSettings(folder, h.WorkflowID), asked.Discard())
		}
	}
	return asked.Commit(ctx)
}

// hasModel tells whether a folder's copy of the model is there. It is removed when the registration ends; a receipt tells less where it was started by
// hand: that of an earlier one stays until then.
func hasModel(folder *snapshot.Folder) bool {
	f, err := folder.OpenVerified(folder.Request().Model)
	if err != nil {
		return !isAbsent(err)
	}
	_ = f.Close() // nothing was read
	return true
}
