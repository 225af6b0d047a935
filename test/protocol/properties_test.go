package protocol

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"registrar/activities"
	"registrar/internal/mlflow"
)

// returned is what a caller was told of.
type returned struct{ version, run, model string }

// judge knows what was promised so far. Its errors begin with the property that is violated:
//
//	P1   at rest: one run FINISHED, one logged model, one version of what was registered, and nothing else
//	P2   what was returned or decided on is never deleted
//	P3   at rest stage and alias are on the highest completed version
//	P3s  the stage never resolves backwards
//	P4   nothing of others, and nothing with an alias or a stage, is deleted
//	P5   everything comes to an end, and to a good one
//	T    two versions of one generation are never visible at once
type judge struct {
	promised []returned
	left     []returned      // decided on, cut off, and not finished since
	removed  map[string]bool // versions that a person deleted
	byHand   bool            // a person set an alias
	highest  int             // version that the stage ever resolved to
}

// changed judges a change by owner; by a person, where owner is empty.
func (j *judge) changed(before, after holdings, owner string) error {
	for _, v := range before.versions {
		if _, there := after.version(v.Version); there || owner == "" {
			continue
		}
		switch {
		case before.isDecided(v):
			return fmt.Errorf("P2: version %s, which is decided on, was deleted", v.Version)
		case tag(v.Tags, activities.TagOwner) != owner:
			return fmt.Errorf("P4: version %s of another owner was deleted", v.Version)
		case v.CurrentStage != mlflow.StageNone || len(v.Aliases) > 0:
			return fmt.Errorf("P4: version %s, which has a stage or an alias, was deleted", v.Version)
		}
	}
	for _, m := range before.models {
		if !after.hasModel(m.Info.ModelID) && tag(m.Info.Tags, activities.TagOwner) != owner {
			return fmt.Errorf("P4: a logged model of another owner was deleted")
		}
	}
	for _, r := range before.runs {
		if before.hasRun(r.Info.RunID) && !after.hasRun(r.Info.RunID) && tag(r.Data.Tags, activities.TagOwner) != owner {
			return fmt.Errorf("P4: a run of another owner was deleted")
		}
	}
	return j.always(after)
}

// always is what holds in every state.
func (j *judge) always(h holdings) error {
	for _, p := range j.promised {
		if _, there := h.version(p.version); !there && !j.removed[p.version] {
			return fmt.Errorf("P2: version %s, which was returned, was deleted", p.version)
		}
		if p.model != "" && !h.hasModel(p.model) {
			return fmt.Errorf("P2: the logged model of version %s, which was returned, was deleted", p.version)
		}
		if !h.hasRun(p.run) {
			return fmt.Errorf("P2: the run of version %s, which was returned, was deleted", p.version)
		}
	}
	staged := h.staged()
	if staged > 0 && staged < j.highest && len(j.removed) == 0 {
		return fmt.Errorf("P3s: stage %s resolves to version %d, after version %d", activities.Stage, staged, j.highest)
	}
	j.highest = max(j.highest, staged)
	seen := map[string]bool{}
	for _, v := range h.versions {
		generation := tag(v.Tags, activities.TagOwner) + tag(v.Tags, activities.TagGeneration)
		if seen[generation] && !j.byHand {
			return fmt.Errorf("T: two versions of one generation are visible at once")
		}
		seen[generation] = true
	}
	return nil
}

// atRest judges what is left in the end. Owners are those whose last execution was not terminated. Without a bound on delays only versions
// are promised to be one.
func (j *judge) atRest(h holdings, owners []string, unlimited bool) error {
	for _, owner := range owners {
		if err := j.versionsLeft(h, owner); err != nil {
			return err
		}
		if unlimited {
			continue
		}
		if err := j.othersLeft(h, owner); err != nil {
			return err
		}
	}
	if unlimited {
		return nil
	}
	completed := h.highestCompleted()
	if completed == 0 || j.byHand {
		return nil
	}
	for what, holder := range map[string]int{"stage": h.staged(), "alias": number(h.alias)} {
		// A higher one that is decided on was cut off by a termination after its promotion: whoever starts it again finishes it.
		version, _ := h.version(strconv.Itoa(holder))
		if holder != completed && (holder < completed || !h.isDecided(version)) {
			return fmt.Errorf("P3: the %s is on version %d, the highest completed one is %d", what, holder, completed)
		}
	}
	return nil
}

// leave excuses what an owner's terminated execution had decided on, where the next one was canceled before it had looked it up. It stays for
// the one after that.
func (j *judge) leave(h holdings, owner string) {
	for _, v := range h.versions {
		if tag(v.Tags, activities.TagOwner) == owner && tag(v.Tags, activities.TagCompleted) == "" && h.isDecided(v) {
			j.left = append(j.left, returned{v.Version, v.RunID, strings.TrimPrefix(v.Source, "models:/")})
		}
	}
}

func (j *judge) isPromised(is func(returned) bool) bool { return slices.ContainsFunc(j.promised, is) }

func (j *judge) isLeft(is func(returned) bool) bool { return slices.ContainsFunc(j.left, is) }

func (j *judge) versionsLeft(h holdings, owner string) error {
	var live []string
	for _, v := range h.versions {
		switch {
		case tag(v.Tags, activities.TagOwner) != owner:
		case j.isPromised(func(p returned) bool { return p.version == v.Version }):
			live = append(live, v.Version)
		case j.isLeft(func(p returned) bool { return p.version == v.Version }):
		case !slices.Contains(v.Aliases, personsAlias):
			return fmt.Errorf("P1: version %s is left that nobody was told of", v.Version)
		}
	}
	if len(live) > 1 {
		return fmt.Errorf("P1: versions %v of one key were registered", live)
	}
	return nil
}

func (j *judge) othersLeft(h holdings, owner string) error {
	for _, m := range h.models {
		is := func(p returned) bool { return p.model == m.Info.ModelID }
		if tag(m.Info.Tags, activities.TagOwner) == owner && !j.isPromised(is) && !j.isLeft(is) && !j.byHand {
			return fmt.Errorf("P1: a logged model is left over")
		}
	}
	for _, r := range h.runs {
		if tag(r.Data.Tags, activities.TagOwner) != owner || !h.hasRun(r.Info.RunID) {
			continue
		}
		is := func(p returned) bool { return p.run == r.Info.RunID }
		ended := r.Info.Status == mlflow.RunKilled || r.Info.Status == mlflow.RunFailed
		if !j.isPromised(is) && !j.isLeft(is) && !ended && !j.byHand {
			return fmt.Errorf("P1: a run is left over, %s", r.Info.Status)
		}
		if j.isPromised(is) && r.Info.Status != mlflow.RunFinished {
			return fmt.Errorf("P1: the run of a registered version is %s", r.Info.Status)
		}
	}
	return nil
}
