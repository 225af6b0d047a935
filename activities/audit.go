package activities

import (
	"context"
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"sort"
	"strings"
	"time"

	"registrar/internal/mlflow"
)

// AuditInput says which registered model is looked at.
type AuditInput struct {
	Server       Server `json:"server"`
	ModelName    string `json:"model_name"`
	LoggedModels bool   `json:"logged_models"`
	// Registrations begins the workflow ids of this model's registrations; empty from an older worker: then no owner is this model's.
	Registrations string `json:"registrations,omitempty"`
	// Fix repairs what can be nobody's any more.
	Fix bool `json:"fix"`
	// Before leaves alone what was made later, in milliseconds since the epoch: it may be under way.
	Before int64 `json:"before"`
}

// AuditResult is what should not be there.
type AuditResult struct {
	Findings []Finding `json:"findings"`
}

// Finding is one thing that should not be there.
type Finding struct {
	// Kind is one of the Finding constants.
	Kind string `json:"kind"`
	// Object is "run", "logged_model" or "version", and ID its id or number.
	Object string `json:"object"`
	ID     string `json:"id"`
	// Detail says what is wrong, and Remedy what to do where it was not repaired.
	Detail string `json:"detail"`
	Remedy string `json:"remedy,omitempty"`
	// Fixed says what was done about it.
	Fixed string `json:"fixed,omitempty"`
}

// The kinds of findings.
const (
	FindingTwin           = "twin_versions"         // two live versions of one registration key
	FindingUnfinished     = "unfinished_version"    // no registrar.completed, and nobody is working on it
	FindingNoFiles        = "version_without_files" // the files, or the logged model, are gone
	FindingRunning        = "run_left_running"
	FindingPending        = "logged_model_left_pending"
	FindingUnversioned    = "without_version" // a run that FINISHED, or a logged model that is READY, of no live version
	FindingStageOff       = "stage_misplaced" // stage or alias is not on the highest completed version
	FindingUngatedVersion = "ungated_version" // a version under the name that no registration made
)

// Audit looks for what other tools, other namespaces or requests beyond the bounds of the protocol left, and repairs it where asked to.
// What a live execution may be working on, what has an alias or a stage, what a run decided on, what a version of any name refers to, and what
// cannot be shown to be this model's is left alone, and at most reported. May be repeated.
func (a *Activities) Audit(ctx context.Context, in AuditInput) (AuditResult, error) {
	client, err := a.mlflow(in.Server)
	if err != nil {
		return AuditResult{}, classify(ctx, err)
	}
	defer heartbeats(ctx, func() any { return nil })()
	u := &audit{in: in, client: client, namespace: a.Namespace, isRunning: a.isRunning, findings: []Finding{}}
	if err := u.run(ctx); err != nil {
		return AuditResult{}, classify(ctx, err)
	}
	return AuditResult{Findings: u.findings}, nil
}

type audit struct {
	in        AuditInput
	client    *mlflow.Client
	namespace string
	isRunning func(ctx context.Context, workflowID, runID string) (bool, error)

	versions []mlflow.ModelVersion
	alias    string // the version that has it
	runs     []mlflow.Run
	models   []mlflow.LoggedModel
	unproven map[string]bool // the runs that may as well be another model's
	referred references
	findings []Finding
}

func (u *audit) run(ctx context.Context) error {
	if err := u.read(ctx); err != nil {
		return err
	}
	for _, step := range []func(context.Context) error{u.twins, u.files, u.unfinished, u.references, u.leftRuns, u.leftModels, u.promotion} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// read takes in all versions of the name, all runs that registrations (or the stage that they replace) made, and their logged models. Runs that
// are shown to be another model's are left out.
func (u *audit) read(ctx context.Context) error {
	var err error
	var aliases []mlflow.Alias
	if u.versions, aliases, err = holders(ctx, u.client, u.in.ModelName); mlflow.IsNotFound(err) {
		err = nil
	}
	if err != nil {
		return err
	}
	u.alias = holderOf(aliases)
	experiments, err := u.client.SearchAllExperiments(ctx)
	if err != nil {
		return err
	}
	var ids []string
	for _, e := range experiments {
		ids = append(ids, e.ExperimentID)
	}
	byRunName, err := mlflow.Filter(mlflow.AttributeIs("run_name", RunName))
	if err != nil {
		return err
	}
	runs, err := u.client.SearchAllRuns(ctx, ids, byRunName)
	if err != nil {
		return err
	}
	mine := map[string]bool{}
	u.unproven = map[string]bool{}
	for _, r := range runs {
		whose := u.whose(r)
		if whose == anotherModel {
			continue
		}
		u.runs = append(u.runs, r)
		mine[r.Info.RunID] = true
		u.unproven[r.Info.RunID] = whose == unknownModel
	}
	if !u.in.LoggedModels {
		return nil
	}
	models, err := u.client.SearchLoggedModels(ctx, ids, "")
	if err != nil {
		return err
	}
	for _, m := range models {
		if mine[m.Info.SourceRunID] {
			u.models = append(u.models, m)
		}
	}
	return nil
}

// belonging says which model a run is of.
type belonging int

const (
	unknownModel belonging = iota
	thisModel
	anotherModel
)

// startersID is the form of the workflow ids that the starter makes (workflows.RegistrationID). Who starts a registration by hand makes up any other.
var startersID = regexp.MustCompile(`^register/[^/]+/[0-9a-f]{16}$`)

// whose reads it from the param model_name, which a registration logs with its model, and before that from the owner, whose workflow id has the
// name where the starter made it. The name of the run tells nothing: each project of the pipeline's template calls its runs so.
func (u *audit) whose(r mlflow.Run) belonging {
	name, owner := param(r.Data.Params, "model_name"), tag(r.Data.Tags, TagOwner)
	id := strings.TrimPrefix(owner, u.namespace+"/")
	switch {
	case name == u.in.ModelName:
		return thisModel
	case name != "":
		return anotherModel
	case id != owner && u.in.Registrations != "" && strings.HasPrefix(id, u.in.Registrations):
		return thisModel
	case startersID.MatchString(id):
		return anotherModel
	}
	return unknownModel
}

// references are what versions of any name are made from.
type references struct {
	ids map[string]bool // of runs and logged models
	// runs have versions whose source names no logged model: it may be any of the run's that the files are in.
	runs map[string]bool
}

// references are read anew, and after the twins: what was deleted with them refers to nothing any more.
func (u *audit) references(ctx context.Context) error {
	versions, err := u.client.SearchModelVersions(ctx, "")
	if err != nil {
		return err
	}
	u.referred = references{ids: map[string]bool{}, runs: map[string]bool{}}
	for _, v := range versions {
		u.referred.add(v)
	}
	return nil
}

// add takes each part of the source for an id: models:/<id>, runs:/<id>/model and the folders in an artifact store all have it between slashes.
func (r references) add(v mlflow.ModelVersion) {
	segments := strings.Split(v.Source, "/")
	for _, id := range append(segments, v.RunID) {
		r.ids[id] = true
		if model := loggedModelOf(v); model == "" || strings.Contains(model, "/") { // models:/<name>/<version> is a copy
			r.runs[id] = true
		}
	}
}

func (u *audit) report(f Finding) { u.findings = append(u.findings, f) }

// isAtRest tells that nobody works on an object any more: its execution is closed, or it is no registration's, and old enough. Other
// namespaces cannot be asked, so theirs never are.
func (u *audit) isAtRest(ctx context.Context, tags []mlflow.Tag, madeAt int64) (bool, error) {
	if madeAt >= u.in.Before {
		return false, nil
	}
	owner, ours := strings.CutPrefix(tag(tags, TagOwner), u.namespace+"/")
	if tag(tags, TagOwner) == "" {
		return true, nil
	}
	if !ours {
		return false, nil
	}
	running, err := u.isRunning(ctx, owner, tag(tags, TagGeneration))
	return err == nil && !running, err
}

// twins are versions of one key. The first that is completed stays, and each that somebody uses.
func (u *audit) twins(ctx context.Context) error {
	byKey := map[string][]mlflow.ModelVersion{}
	for _, v := range u.versions {
		if key := tag(v.Tags, TagKey); key != "" {
			byKey[key] = append(byKey[key], v)
		} else {
			u.report(Finding{Kind: FindingUngatedVersion, Object: "version", ID: v.Version, Detail: "made by another tool: it passed no gate"})
		}
	}
	for key, versions := range byKey {
		sort.Slice(versions, func(i, j int) bool { return precedes(versions[i], versions[j]) })
		for _, v := range versions[1:] {
			if err := u.twin(ctx, key, versions[0], v); err != nil {
				return err
			}
		}
	}
	sort.SliceStable(u.findings, func(i, j int) bool { return VersionNumber(u.findings[i].ID) < VersionNumber(u.findings[j].ID) })
	return nil
}

// precedes puts the version that stays first: a completed one before others, and then the older one.
func precedes(a, b mlflow.ModelVersion) bool {
	if done := tag(a.Tags, TagCompleted) != ""; done != (tag(b.Tags, TagCompleted) != "") {
		return done
	}
	return VersionNumber(a.Version) < VersionNumber(b.Version)
}

func (u *audit) twin(ctx context.Context, key string, kept, v mlflow.ModelVersion) error {
	f := Finding{
		Kind: FindingTwin, Object: "version", ID: v.Version,
		Detail: fmt.Sprintf("of the same files as version %s (key %s)", kept.Version, key),
		Remedy: "delete one of them, once nobody uses it",
	}
	rest, err := u.isAtRest(ctx, v.Tags, v.CreationTimestamp)
	if err != nil {
		return err
	}
	if u.in.Fix && rest && tag(v.Tags, TagCompleted) == "" {
		_, deleted, err := closeAndDelete(ctx, u.client, v)
		if err != nil {
			return err
		}
		if deleted {
			f.Fixed, f.Remedy = "deleted", ""
			// Its run and its logged model are without a version now.
			u.versions = slices.DeleteFunc(u.versions, func(one mlflow.ModelVersion) bool { return one.Version == v.Version })
		}
	}
	u.report(f)
	return nil
}

// files are what a version is loaded from.
func (u *audit) files(ctx context.Context) error {
	for _, v := range u.versions {
		missing, err := u.missing(ctx, v)
		if err != nil {
			return err
		}
		if missing != "" {
			u.report(Finding{
				Kind: FindingNoFiles, Object: "version", ID: v.Version, Detail: missing,
				Remedy: "delete the version, or register the files again with --force",
			})
		}
	}
	return nil
}

func (u *audit) missing(ctx context.Context, v mlflow.ModelVersion) (string, error) {
	folder := v.Source
	if id := loggedModelOf(v); id != "" {
		model, err := u.client.GetLoggedModel(ctx, id)
		if mlflow.IsNotFound(err) {
			return "its logged model " + id + " is gone", nil
		}
		if err != nil {
			return "", err
		}
		folder = model.Info.ArtifactURI
	}
	listed, err := u.client.ListArtifacts(ctx, folder, "")
	if errors.Is(err, mlflow.ErrArtifactsNotProxied) {
		return "", nil // in a store of another tool's choice, where this worker cannot look
	}
	if err != nil && !mlflow.IsNotFound(err) {
		return "", err
	}
	for _, f := range listed {
		if path.Base(f.Path) == "MLmodel" {
			return "", nil
		}
	}
	return "no MLmodel in " + folder, nil
}

func (u *audit) unfinished(ctx context.Context) error {
	for _, v := range u.versions {
		if tag(v.Tags, TagKey) == "" || tag(v.Tags, TagCompleted) != "" {
			continue
		}
		rest, err := u.isAtRest(ctx, v.Tags, v.CreationTimestamp)
		if err != nil {
			return err
		}
		if rest {
			u.report(Finding{
				Kind: FindingUnfinished, Object: "version", ID: v.Version, Detail: "its registration was cut off",
				Remedy: "register the same files again: that finishes it, or sweeps it",
			})
		}
	}
	return nil
}

func (u *audit) leftRuns(ctx context.Context) error {
	for _, r := range u.runs {
		rest, err := u.isAtRest(ctx, r.Data.Tags, r.Info.StartTime)
		if err != nil {
			return err
		}
		if !rest || u.referred.ids[r.Info.RunID] || decidedOn(r) {
			continue
		}
		proven := !u.unproven[r.Info.RunID]
		switch r.Info.Status {
		case mlflow.RunRunning:
			err = u.fix(proven, Finding{Kind: FindingRunning, Object: "run", ID: r.Info.RunID, Detail: "RUNNING, and nobody works on it"}, "set to FAILED",
				func() error {
					return u.client.UpdateRun(ctx, mlflow.UpdateRunRequest{RunID: r.Info.RunID, Status: mlflow.RunFailed, EndTime: time.Now().UnixMilli()})
				})
		case mlflow.RunFinished:
			err = u.fix(proven, Finding{Kind: FindingUnversioned, Object: "run", ID: r.Info.RunID, Detail: "FINISHED, and no version comes from it"}, "deleted",
				func() error { return u.client.DeleteRun(ctx, r.Info.RunID) })
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (u *audit) leftModels(ctx context.Context) error {
	decided := map[string]bool{}
	for _, r := range u.runs {
		decided[r.Info.RunID] = decidedOn(r)
	}
	for _, m := range u.models {
		rest, err := u.isAtRest(ctx, m.Info.Tags, m.Info.CreationTimestamp)
		if err != nil {
			return err
		}
		if !rest || u.referred.ids[m.Info.ModelID] || u.referred.runs[m.Info.SourceRunID] || decided[m.Info.SourceRunID] {
			continue
		}
		f := Finding{Kind: FindingUnversioned, Object: "logged_model", ID: m.Info.ModelID, Detail: "no version is made from it"}
		if m.Info.Status == mlflow.LoggedModelPending {
			f.Kind, f.Detail = FindingPending, "its upload was given up"
		}
		if err := u.fix(!u.unproven[m.Info.SourceRunID], f, "deleted", func() error { return u.client.DeleteLoggedModel(ctx, m.Info.ModelID) }); err != nil {
			return err
		}
	}
	return nil
}

// fix repairs and reports; an object that is gone meanwhile is repaired, too. What is not proven to be this model's is reported only.
func (u *audit) fix(proven bool, f Finding, done string, repair func() error) error {
	if !proven {
		f.Detail += "; neither model_name nor owner of its run shows the model, so it may be another model's"
		f.Remedy = "if it is this model's, end or delete it by hand in MLflow"
		u.report(f)
		return nil
	}
	f.Remedy = "starter audit --fix"
	if u.in.Fix {
		if err := repair(); err != nil && !mlflow.IsNotFound(err) {
			return err
		}
		f.Remedy, f.Fixed = "", done
	}
	u.report(f)
	return nil
}

// decidedOn tells that a run was returned with a version once: a person who deleted the version left the run, and so does the audit.
func decidedOn(r mlflow.Run) bool {
	decision := param(r.Data.Params, ParamVersion)
	return decision != "" && decision != NoVersion
}

// promotion sees that stage and alias are on the highest completed version.
func (u *audit) promotion(context.Context) error {
	highest := ""
	for _, v := range u.versions {
		if tag(v.Tags, TagCompleted) != "" && VersionNumber(v.Version) > VersionNumber(highest) {
			highest = v.Version
		}
	}
	for _, v := range u.versions {
		holds := v.CurrentStage == Stage || v.Version == u.alias
		if holds == (v.Version == highest) {
			continue
		}
		if detail := misplaced(v, highest); detail != "" {
			u.report(Finding{
				Kind: FindingStageOff, Object: "version", ID: v.Version, Detail: detail,
				Remedy: "move it by hand in MLflow if it was not meant so",
			})
		}
	}
	return nil
}

func misplaced(v mlflow.ModelVersion, highest string) string {
	if highest == "" {
		return ""
	}
	if v.Version == highest {
		return fmt.Sprintf("the highest completed version holds neither stage %s nor alias %s", Stage, Alias)
	}
	return fmt.Sprintf("holds stage %s or alias %s, and version %s is the highest completed one", Stage, Alias, highest)
}
