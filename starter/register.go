package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os/exec"
	"os/user"
	"time"

	"github.com/spf13/cobra"

	"registrar/config"
	"registrar/internal/snapshot"
)

// registerFlags are the flags of register.
type registerFlags struct {
	root, config, params string
	force                string
	waitFlags
}

// addProject adds the flags that say which project is meant.
func (f *registerFlags) addProject(command *cobra.Command) {
	addRoot(command, &f.root)
	flags := command.Flags()
	flags.StringVar(&f.config, "config", config.ConfigPath, "where things are, relative to the root")
	flags.StringVar(&f.params, "params", config.ParamsPath, "thresholds and MLflow, relative to the root")
	for _, name := range []string{"config", "params"} {
		_ = command.RegisterFlagCompletionFunc(name, filesEndingIn("yaml", "yml")) // fails for unknown flags
	}
}

func addRoot(command *cobra.Command, root *string) {
	command.Flags().StringVar(root, "root", ".", "project root")
	_ = command.RegisterFlagCompletionFunc("root", folders) // fails for unknown flags
}

func (s *starter) registerCommand() *cobra.Command {
	var f registerFlags
	command := &cobra.Command{
		Use:   "register",
		Short: "Register the model of a project",
		Long: `Freezes the model, its metrics and the settings into the registration folder, hands the registration to Temporal, and shows its progress.

By default it returns when the registration ended or waits (for MLflow, for a worker, or for Temporal itself): what waits goes on by itself.
The same files again join the registration that is running, or find what is registered already.
` + exitCodesHelp,
		Example: "  starter register\n  starter register --root /srv/pipelines/acras --wait final --output json",
		Args: func(command *cobra.Command, args []string) error {
			if len(args) == 1 && f.force == randomToken {
				return fmt.Errorf("--force %s: want --force=%s", args[0], args[0])
			}
			return cobra.NoArgs(command, args)
		},
		RunE: func(command *cobra.Command, _ []string) error {
			if err := f.check(); err != nil {
				return err
			}
			if command.Flags().Changed("force") && f.force == "" {
				return usageError{errors.New("--force=: want a token, or --force alone for a random one")}
			}
			if f.force == randomToken {
				f.force = rand.Text()
				fmt.Fprintf(s.stderr, "force token: %s (give it again to repeat this very registration)\n", f.force)
			}
			return s.register(command.Context(), f)
		},
	}
	flags := command.Flags()
	f.addProject(command)
	flags.StringVar(&f.force, "force", "", "make a new version though these files are registered already; with a token of yours it may be repeated")
	flags.Lookup("force").NoOptDefVal = randomToken
	f.add(command)
	return command
}

// randomToken stands for --force without a token. Nobody's own token is likely to be this.
const randomToken = "(a random one)"

// errInterrupted is why a registration is queued that Temporal could have had.
var errInterrupted = errors.New("interrupted before it was handed over")

func (s *starter) register(ctx context.Context, f registerFlags) error {
	p, err := openProject(f)
	if err != nil {
		return err
	}
	defer p.close()
	for _, warning := range p.settings.Warnings {
		s.warn(warning)
	}
	if p.isTemporary() && f.wait != "final" {
		s.warn("DVC removes this folder when the experiment ends, and a registration that waits then fails: give --wait final")
	}
	asked, err := s.freeze(ctx, p, f.force)
	if err != nil {
		return err
	}
	f.started = time.Now()
	c, err := s.connect(ctx)
	var h handle
	if err == nil {
		defer c.Close()
		show := func(workflowID string) { fmt.Fprintf(s.stderr, "  was queued, handed over: %s\n", workflowID) }
		_, left := s.handOverQueued(ctx, c, p, asked.Request().RegistrationKey, f.waitFlags, show)
		if ctx.Err() != nil { // what was asked for is not given up because others were before it
			return errors.Join(ctx.Err(), s.queue(context.WithoutCancel(ctx), p, asked, errInterrupted, f.waitFlags))
		}
		if left != nil {
			s.warn(fmt.Sprintf("queued registrations are still queued: %v", left))
		}
		h, err = s.handOver(ctx, c, p, asked)
	}
	if ctx.Err() == nil && isUnreachable(err) {
		return s.queue(ctx, p, asked, s.unreachable(err), f.waitFlags)
	}
	if err != nil {
		return errors.Join(err, asked.Discard())
	}
	r, err := s.follow(ctx, c, h, f.waitFlags)
	if err != nil {
		return err
	}
	if h.joined {
		if err := asked.sameDecision(r); err != nil {
			return err
		}
	}
	r = withKnown(r, asked.known(p))
	s.keepReceipt(ctx, p, h, r)
	return s.report(r, f.detailed)
}

// freeze copies and hashes the inputs in one pass, and judges the metrics: what cannot be read as such is refused before anybody hears of it.
func (s *starter) freeze(ctx context.Context, p *project, forceToken string) (frozen, error) {
	bar := s.bar("freezing inputs")
	defer bar.end()
	staged, err := snapshot.Stage(ctx, p.dir, p.rootDir, snapshot.Inputs{
		ModelName:  p.settings.ModelName,
		Model:      p.settings.ModelPath,
		Metrics:    p.settings.MetricFileName,
		ExtraFiles: p.settings.ExtraFiles,
		Config:     snapshot.File(p.config),
		Params:     snapshot.File(p.params),
		ForceToken: forceToken,
		GitCommit:  gitCommit(ctx, p.root),
		User:       userName(),
	}, bar.set)
	if err != nil {
		return frozen{}, err
	}
	decision, err := p.judge(ctx, staged)
	if err != nil {
		return frozen{}, errors.Join(err, staged.Discard())
	}
	return frozen{Staged: staged, decision: decision}, nil
}

// gitCommit is the commit that the project is at; empty where it is not in a repository, or git is not installed.
func gitCommit(ctx context.Context, root string) string {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	git := exec.CommandContext(ctx, "git", "rev-parse", "--verify", "HEAD")
	git.Dir = root
	out, err := git.Output()
	if err != nil {
		return ""
	}
	return string(bytes.TrimSpace(out))
}

func userName() string {
	current, err := user.Current()
	if err != nil {
		return ""
	}
	return current.Username
}
