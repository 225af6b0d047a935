package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"
	"go.temporal.io/sdk/client"

	"registrar/internal/receipt"
	"registrar/internal/snapshot"
)

func (s *starter) flushCommand() *cobra.Command {
	var f registerFlags
	command := &cobra.Command{
		Use:   "flush",
		Short: "Hand queued registrations to Temporal",
		Long: `Hands over the registrations that were queued while Temporal could not be reached. May be repeated: what Temporal has is left alone.

They go in the order in which they were asked for, each when the one before it ended, so that the newest model becomes the newest version. Once
one has to wait, the others are handed over at once.`,
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			if err := notNegative("settle-timeout", f.settleTimeout); err != nil {
				return err
			}
			return s.flush(command.Context(), f)
		},
	}
	f.addProject(command)
	command.Flags().DurationVar(&f.settleTimeout, "settle-timeout", settleTimeout, "go on with the next one when no worker, or no Temporal, has answered for this long")
	return command
}

func (s *starter) flush(ctx context.Context, f registerFlags) error {
	p, err := openProject(f)
	if err != nil {
		return err
	}
	defer p.close()
	c, err := s.connect(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	show := func(workflowID string) { fmt.Fprintf(s.stdout, "handed over  %s\n", workflowID) }
	if s.output == "json" {
		show = func(string) {}
	}
	handed, failed := s.handOverQueued(ctx, c, p, "", f.waitFlags, show)
	if s.output == "json" {
		return errors.Join(s.printJSON(handed), failed)
	}
	if len(handed) == 0 && failed == nil {
		fmt.Fprintln(s.stdout, "nothing is queued")
	}
	return failed
}

// backlog is what Temporal has not heard of yet, the oldest first. The error is that of all that cannot be read.
func (p *project) backlog() ([]snapshot.Request, error) {
	keys, err := snapshot.ShortKeys(p.rootDir)
	if err != nil {
		return nil, err
	}
	var backlog []snapshot.Request
	var errs []error
	for _, key := range keys {
		folder, err := snapshot.Open(p.rootDir, key)
		if err != nil {
			errs = append(errs, p.inFolder(key, err))
			continue
		}
		_, there, err := folder.HandedOver()
		if err != nil {
			errs = append(errs, p.inFolder(key, err))
		} else if !there {
			backlog = append(backlog, folder.Request())
		}
	}
	slices.SortStableFunc(backlog, func(a, b snapshot.Request) int { return a.FrozenAt.Compare(b.FrozenAt) })
	return backlog, errors.Join(errs...)
}

// inFolder says which registration folder an error is of.
func (p *project) inFolder(shortKey string, err error) error {
	return fmt.Errorf("registration folder %s: %w: register its model again, or remove the folder", p.path(snapshot.FolderPath(shortKey)), err)
}

// handOverQueued hands over every registration of the project that is still queued, in the order in which they were asked for, and each when the
// one before it ended: what is asked for next, which may be none, comes after all of them. So the newest model becomes the newest version, the one
// that is served. Once one has to wait, the others follow at once: they would wait beside it, and be woken in their order.
//
// One that cannot be handed over keeps no other from it, unless it is Temporal that does not answer; the error is that of all of them.
func (s *starter) handOverQueued(
	ctx context.Context, c client.Client, p *project, next string, f waitFlags, show func(workflowID string),
) ([]receipt.Receipt, error) {
	handed := []receipt.Receipt{}
	backlog, err := p.backlog()
	errs := []error{err}
	backlog = slices.DeleteFunc(backlog, func(r snapshot.Request) bool { return r.RegistrationKey == next })
	inTurn := f.wait != "none"
	for i, request := range backlog {
		h, ok, err := s.handOverQueuedOne(ctx, c, p, request)
		if ok {
			show(h.workflowID)
			handed = append(handed, receiptOf(request, receipt.Running))
		}
		if err != nil && (ctx.Err() != nil || isUnreachable(err)) {
			return handed, errors.Join(append(errs, err)...)
		}
		if err != nil {
			errs = append(errs, p.inFolder(snapshot.ShortKey(request.RegistrationKey), err))
		}
		isLast := i == len(backlog)-1 && next == ""
		if inTurn = inTurn && !isLast; inTurn && ok {
			if r, err := s.await(ctx, c, p, h, f); err == nil {
				handed[len(handed)-1] = r
			}
			inTurn = handed[len(handed)-1].State == receipt.Done
		}
	}
	return handed, errors.Join(errs...)
}

// await follows a registration until it ended or waits. What goes wrong with one that was handed over is no error of the next.
func (s *starter) await(ctx context.Context, c client.Client, p *project, h handle, f waitFlags) (receipt.Receipt, error) {
	f.wait = "settled"
	r, err := s.follow(ctx, c, h, f)
	if err != nil {
		return r, err
	}
	if folder, err := snapshot.Open(p.rootDir, snapshot.ShortKey(h.key)); err == nil {
		r = withKnown(r, readReceipt(folder))
	}
	s.keepReceipt(ctx, p, h, r)
	return r, nil
}

// keepReceipt keeps the receipt where it can: how the registration stands is no other for a disk that is full.
func (s *starter) keepReceipt(ctx context.Context, p *project, h handle, r receipt.Receipt) {
	if err := p.keepReceipt(ctx, h, r); err != nil {
		s.warn(fmt.Sprintf("the receipt could not be kept in %s: %v", p.path(snapshot.FolderPath(h.key)), err))
	}
}

func (s *starter) handOverQueuedOne(ctx context.Context, c client.Client, p *project, queued snapshot.Request) (h handle, handed bool, err error) {
	h = handle{workflowID: receiptOf(queued, "").WorkflowID, key: queued.RegistrationKey}
	shortKey := snapshot.ShortKey(queued.RegistrationKey)
	unlock, err := snapshot.Lock(ctx, p.rootDir, shortKey)
	if err != nil {
		return h, false, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	folder, err := snapshot.Open(p.rootDir, shortKey)
	if err != nil {
		return h, false, err
	}
	if _, there, err := folder.HandedOver(); err != nil || there {
		return h, false, err
	}
	found, err := latestRun(ctx, c, h.workflowID)
	if err != nil {
		return h, false, err
	}
	h.runID, h.joined, err = s.handOverFolder(ctx, c, p, folder, found)
	return h, err == nil, err
}
