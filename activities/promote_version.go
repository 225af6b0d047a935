package activities

import (
	"context"
	"fmt"
	"strconv"

	"go.temporal.io/sdk/activity"

	"registrar/internal/mlflow"
)

// Stage and Alias are what the Prediction API asks for: models:/<name>/Staging, or models:/<name>@staging.
const (
	Stage = "Staging"
	Alias = "staging"
)

// PromoteVersionInput names the version that stage and alias shall move to.
type PromoteVersionInput struct {
	Server    Server `json:"server"`
	ModelName string `json:"model_name"`
	Version   string `json:"version"`
	// ArtifactURI is where the files of the version's run go: a picture of the model's history is left there. Empty: none is.
	ArtifactURI string `json:"artifact_uri,omitempty"`
}

// PromoteVersionResult tells where stage and alias are now.
type PromoteVersionResult struct {
	Promoted bool `json:"promoted"`
	// Newer is the higher version that holds stage or alias, and keeps them.
	Newer string `json:"newer,omitempty"`
	// Deleted tells that somebody deleted the version.
	Deleted bool `json:"deleted,omitempty"`
	// Doubtful tells that a request of an earlier attempt may still arrive.
	Doubtful bool `json:"doubtful,omitempty"`
}

// PromoteVersion moves stage and alias to the version, archives the earlier holders of the stage one by one, and reads back (protocol step
// promote). Forwards only: a higher version that holds either keeps both. It may be repeated, but must never run twice at one
// time for a name: workflow PromoteVersions sees to that. It has all versions at hand, so it also draws the model's history.
func (a *Activities) PromoteVersion(ctx context.Context, in PromoteVersionInput) (PromoteVersionResult, error) {
	client, err := a.mlflow(in.Server)
	if err != nil {
		return PromoteVersionResult{}, classify(ctx, err)
	}
	defer heartbeats(ctx, nothing)()
	result, err := promote(ctx, client, in)
	result.Doubtful = activity.GetInfo(ctx).Attempt > 1
	return result, openIf(result.Doubtful, classify(ctx, err))
}

func promote(ctx context.Context, client *mlflow.Client, in PromoteVersionInput) (PromoteVersionResult, error) {
	versions, aliases, err := holders(ctx, client, in.ModelName)
	if err != nil {
		return PromoteVersionResult{}, err
	}
	version := find(versions, in.Version)
	if newer := holderAbove(versions, holderOf(aliases), in.Version); newer != "" {
		if version != nil {
			drawHistory(ctx, client, in, versions, aliases)
		}
		return PromoteVersionResult{Newer: newer}, nil
	}
	if version == nil {
		return PromoteVersionResult{Deleted: true}, nil
	}
	if version.Status != mlflow.VersionReady {
		return PromoteVersionResult{}, &notReadyError{version: in.Version, status: version.Status}
	}
	// Never with archive_existing_versions: a late request of an old version would archive a newer one.
	if err := client.TransitionModelVersionStage(ctx, in.ModelName, in.Version, Stage, false); err != nil {
		return PromoteVersionResult{}, err
	}
	if err := client.SetRegisteredModelAlias(ctx, in.ModelName, Alias, in.Version); err != nil {
		return PromoteVersionResult{}, err
	}
	for _, v := range versions {
		if v.CurrentStage != Stage || v.Version == in.Version {
			continue
		}
		if err := client.TransitionModelVersionStage(ctx, in.ModelName, v.Version, mlflow.StageArchived, false); err != nil && !mlflow.IsNotFound(err) {
			return PromoteVersionResult{}, err
		}
	}
	if err := readBack(ctx, client, in); err != nil {
		return PromoteVersionResult{Promoted: true}, err
	}
	versions, aliases = promoted(in.Version, versions, aliases)
	drawHistory(ctx, client, in, versions, aliases)
	return PromoteVersionResult{Promoted: true}, nil
}

// promoted is what was read before a version was promoted, as it is since.
func promoted(version string, before []mlflow.ModelVersion, aliasesBefore []mlflow.Alias) (versions []mlflow.ModelVersion, aliases []mlflow.Alias) {
	for _, v := range before {
		switch {
		case v.Version == version:
			v.CurrentStage = Stage
		case v.CurrentStage == Stage:
			v.CurrentStage = mlflow.StageArchived
		}
		versions = append(versions, v)
	}
	for _, a := range aliasesBefore {
		if a.Alias != Alias {
			aliases = append(aliases, a)
		}
	}
	return versions, append(aliases, mlflow.Alias{Alias: Alias, Version: version})
}

// readBack sees that stage and alias resolve to the version.
func readBack(ctx context.Context, client *mlflow.Client, in PromoteVersionInput) error {
	byAlias, err := client.GetModelVersionByAlias(ctx, in.ModelName, Alias)
	if err != nil {
		return err
	}
	if byAlias.Version != in.Version || byAlias.CurrentStage != Stage {
		return &displacedError{version: in.Version, alias: byAlias.Version, stage: byAlias.CurrentStage}
	}
	return nil
}

// notReadyError: the registry has the version, and cannot serve it yet. Another attempt looks anew.
type notReadyError struct{ version, status string }

func (e *notReadyError) Error() string {
	return fmt.Sprintf("promote version %s: its status is %s, not READY", e.version, e.status)
}

// displacedError: somebody moved stage or alias meanwhile. Another attempt looks anew.
type displacedError struct{ version, alias, stage string }

func (e *displacedError) Error() string {
	return fmt.Sprintf("read back promotion of version %s: alias %s is on version %s, in stage %s", e.version, Alias, e.alias, e.stage)
}

// holders are all versions of a name with their stages, and the aliases, which a search of versions leaves out.
func holders(ctx context.Context, client *mlflow.Client, name string) (versions []mlflow.ModelVersion, aliases []mlflow.Alias, err error) {
	filter, err := mlflow.Filter(mlflow.AttributeIs("name", name))
	if err != nil {
		return nil, nil, err
	}
	model, err := client.GetRegisteredModel(ctx, name)
	if err != nil {
		return nil, nil, err
	}
	versions, err = client.SearchModelVersions(ctx, filter)
	return versions, model.Aliases, err
}

// holderOf is the version that has the alias; empty where none does.
func holderOf(aliases []mlflow.Alias) string {
	for _, a := range aliases {
		if a.Alias == Alias {
			return a.Version
		}
	}
	return ""
}

// holderAbove is the highest version above version that holds stage or alias; empty where none does.
func holderAbove(versions []mlflow.ModelVersion, alias, version string) string {
	highest, found := VersionNumber(version), ""
	for _, v := range versions {
		if (v.CurrentStage == Stage || v.Version == alias) && VersionNumber(v.Version) > highest {
			highest, found = VersionNumber(v.Version), v.Version
		}
	}
	return found
}

func find(versions []mlflow.ModelVersion, version string) *mlflow.ModelVersion {
	for i, v := range versions {
		if v.Version == version {
			return &versions[i]
		}
	}
	return nil
}

// VersionNumber is a version's number, and 0 where it is none. MLflow counts from 1 and writes it as a string.
func VersionNumber(version string) int64 {
	n, _ := strconv.ParseInt(version, 10, 64)
	return n
}
