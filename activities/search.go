package activities

import (
	"context"
	"strconv"
	"strings"

	"registrar/internal/mlflow"
)

// versionsOf are all model versions that carry the registration key, whoever made them.
func versionsOf(ctx context.Context, client *mlflow.Client, key string) ([]mlflow.ModelVersion, error) {
	filter, err := mlflow.Filter(mlflow.TagIs(TagKey, key))
	if err != nil {
		return nil, err
	}
	return client.SearchModelVersions(ctx, filter)
}

// experiments are all that are active. Runs and logged models are looked for in each of them: the experiment is a setting, and may have been
// another one before; and MLflow answers a search of runs without experiments with nothing.
type experiments []mlflow.Experiment

func allExperiments(ctx context.Context, client *mlflow.Client) (experiments, error) {
	return client.SearchAllExperiments(ctx)
}

func (e experiments) ids() []string {
	var ids []string
	for _, one := range e {
		ids = append(ids, one.ExperimentID)
	}
	return ids
}

// named is the id of the experiment of a name; empty where no active one has it.
func (e experiments) named(name string) string {
	for _, one := range e {
		if one.Name == name {
			return one.ExperimentID
		}
	}
	return ""
}

// runsOf are the runs of this owner with the registration key, of any generation, in any of the experiments.
func runsOf(ctx context.Context, client *mlflow.Client, owner Owner, in experiments) ([]mlflow.Run, error) {
	if len(in) == 0 {
		return nil, nil
	}
	filter, err := mlflow.Filter(mlflow.TagIs(TagKey, owner.Key))
	if err != nil {
		return nil, err
	}
	found, err := client.SearchAllRuns(ctx, in.ids(), filter)
	if err != nil {
		return nil, err
	}
	var own []mlflow.Run
	for _, r := range found {
		if isOwn(r.Data.Tags, owner) {
			own = append(own, r)
		}
	}
	return own, nil
}

// loggedModelsOf are the logged models of this owner with the registration key, of any generation, in any of the experiments.
func loggedModelsOf(ctx context.Context, client *mlflow.Client, owner Owner, in experiments) ([]mlflow.LoggedModel, error) {
	if len(in) == 0 { // which MLflow refuses
		return nil, nil
	}
	filter, err := mlflow.Filter(mlflow.TagIs(TagKey, owner.Key))
	if err != nil {
		return nil, err
	}
	found, err := client.SearchLoggedModels(ctx, in.ids(), filter)
	if err != nil {
		return nil, err
	}
	var own []mlflow.LoggedModel
	for _, m := range found {
		if isOwn(m.Info.Tags, owner) {
			own = append(own, m)
		}
	}
	return own, nil
}

// loggedModelOf is the logged model that a version was made from, as its source tells; empty where it was made from files of a run.
func loggedModelOf(v mlflow.ModelVersion) string {
	id, ok := strings.CutPrefix(v.Source, "models:/")
	if !ok {
		return ""
	}
	return id
}

// ownerTags go with each creating call.
func ownerTags(o Owner) []mlflow.Tag {
	return []mlflow.Tag{
		{Key: TagKey, Value: o.Key},
		{Key: TagOwner, Value: o.Owner},
		{Key: TagGeneration, Value: o.Generation},
		{Key: TagStarted, Value: strconv.FormatInt(o.StartedAt, 10)},
	}
}

func isOwn(tags []mlflow.Tag, owner Owner) bool { return tag(tags, TagOwner) == owner.Owner }

// isOfGeneration tells what an attempt may adopt.
func isOfGeneration(tags []mlflow.Tag, owner Owner) bool {
	return isOwn(tags, owner) && tag(tags, TagGeneration) == owner.Generation
}

func tag(tags []mlflow.Tag, key string) string {
	for _, t := range tags {
		if t.Key == key {
			return t.Value
		}
	}
	return ""
}

func param(params []mlflow.Param, key string) string {
	for _, p := range params {
		if p.Key == key {
			return p.Value
		}
	}
	return ""
}
