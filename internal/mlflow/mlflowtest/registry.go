package mlflowtest

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"registrar/internal/mlflow"
)

func (st *store) createRegisteredModel(body mlflow.CreateRegisteredModelRequest) (any, error) {
	if _, err := st.registeredModel(body.Name); err == nil {
		return nil, exists(fmt.Sprintf("Registered Model (name=%s) already exists.", body.Name))
	}
	made := &registeredModel{
		RegisteredModel: mlflow.RegisteredModel{Name: body.Name, Description: body.Description, Tags: slices.Clone(body.Tags)},
		aliases:         map[string]string{},
	}
	st.registered = append(st.registered, made)
	return object{"registered_model": made.whole()}, nil
}

func (st *store) registeredModel(name string) (*registeredModel, error) {
	for _, model := range st.registered {
		if model.Name == name {
			return model, nil
		}
	}
	return nil, notFound(fmt.Sprintf("Registered Model with name=%s not found", name))
}

func (st *store) deleteRegisteredModel(body versionBody) (any, error) {
	model, err := st.registeredModel(body.Name)
	if err != nil {
		return nil, err
	}
	st.registered = slices.DeleteFunc(st.registered, func(m *registeredModel) bool { return m == model })
	return nil, nil
}

func (st *store) setRegisteredModelTag(body versionBody) (any, error) {
	model, err := st.registeredModel(body.Name)
	if err != nil {
		return nil, err
	}
	model.Tags = setTag(model.Tags, mlflow.Tag{Key: body.Key, Value: body.Value})
	return nil, nil
}

func (st *store) deleteRegisteredModelTag(body versionBody) (any, error) {
	model, err := st.registeredModel(body.Name)
	if err != nil {
		return nil, err
	}
	model.Tags = slices.DeleteFunc(model.Tags, func(tag mlflow.Tag) bool { return tag.Key == body.Key })
	return nil, nil
}

// whole is the registered model with its aliases and the highest version of each stage.
func (m *registeredModel) whole() mlflow.RegisteredModel {
	whole := m.RegisteredModel
	highest := map[string]mlflow.ModelVersion{}
	for _, version := range m.versions {
		highest[version.CurrentStage] = bare(version)
	}
	whole.LatestVersions = sortedValues(highest)
	aliases := map[string]mlflow.Alias{}
	for alias, version := range m.aliases {
		aliases[alias] = mlflow.Alias{Alias: alias, Version: version}
	}
	whole.Aliases = sortedValues(aliases)
	return whole
}

// view is a version with its aliases, as a get shows it.
func (m *registeredModel) view(version *mlflow.ModelVersion) mlflow.ModelVersion {
	view := bare(version)
	for alias, number := range m.aliases {
		if number == version.Version {
			view.Aliases = append(view.Aliases, alias)
		}
	}
	slices.Sort(view.Aliases)
	return view
}

// bare is a version without its aliases, as a search shows it.
func bare(version *mlflow.ModelVersion) mlflow.ModelVersion {
	view := *version
	view.Tags = slices.Clone(version.Tags)
	return view
}

func (st *store) getRegisteredModel(r *http.Request) (any, error) {
	model, err := st.registeredModel(r.URL.Query().Get("name"))
	if err != nil {
		return nil, err
	}
	return object{"registered_model": model.whole()}, nil
}

func (st *store) searchRegisteredModels(r *http.Request) (any, error) {
	matches, err := matcher(r.URL.Query().Get("filter"), "name")
	if err != nil {
		return nil, err
	}
	var found []mlflow.RegisteredModel
	for _, model := range st.registered {
		if matches(map[string]string{"name": model.Name}, model.Tags) {
			found = append(found, model.whole())
		}
	}
	return object{"registered_models": found}, nil
}

// createModelVersion asks the logged model to be there, but neither to be READY nor to have files.
func (st *store) createModelVersion(body mlflow.CreateModelVersionRequest) (any, error) {
	modelID, ofLoggedModel := strings.CutPrefix(body.Source, "models:/")
	if ofLoggedModel && body.ModelID != modelID {
		return nil, invalid(fmt.Sprintf("Invalid model version source: '%s'. "+
			"The model_id request parameter must identify the resource that contains the source.", body.Source))
	}
	var source *loggedModel
	if ofLoggedModel {
		var err error
		if source, err = st.loggedModel(modelID); err != nil {
			return nil, internal(fmt.Sprintf("Unable to fetch model from model URI source artifact location '%s'.", body.Source))
		}
	}
	model, err := st.registeredModel(body.Name)
	if err != nil {
		return nil, err
	}
	st.next()
	model.numbers++
	made := &mlflow.ModelVersion{
		Name: body.Name, Version: strconv.Itoa(model.numbers), CreationTimestamp: st.now(), CurrentStage: mlflow.StageNone,
		Description: body.Description, Source: body.Source, RunID: body.RunID, Status: mlflow.VersionReady,
		Tags: slices.Clone(body.Tags),
	}
	model.versions = append(model.versions, made)
	if source != nil {
		if err := source.addVersionTag(body.Name, model.numbers); err != nil {
			return nil, err
		}
	}
	return object{"model_version": bare(made)}, nil
}

func (st *store) version(name, number string) (*registeredModel, *mlflow.ModelVersion, error) {
	if _, err := strconv.Atoi(number); err != nil {
		return nil, nil, invalid(fmt.Sprintf("Parameter 'version' must be an integer, got '%s'.", number))
	}
	model, err := st.registeredModel(name)
	if err == nil {
		for _, version := range model.versions {
			if version.Version == number {
				return model, version, nil
			}
		}
	}
	return nil, nil, notFound(fmt.Sprintf("Model Version (name=%s, version=%s) not found", name, number))
}

func (st *store) getModelVersion(r *http.Request) (any, error) {
	model, version, err := st.version(r.URL.Query().Get("name"), r.URL.Query().Get("version"))
	if err != nil {
		return nil, err
	}
	return object{"model_version": model.view(version)}, nil
}

func (st *store) searchModelVersions(r *http.Request) (any, error) {
	matches, err := matcher(r.URL.Query().Get("filter"), "name", "run_id", "source_path")
	if err != nil {
		return nil, err
	}
	var found []mlflow.ModelVersion
	for _, model := range st.registered {
		for _, version := range slices.Backward(model.versions) {
			attributes := map[string]string{"name": version.Name, "run_id": version.RunID, "source_path": version.Source}
			if matches(attributes, version.Tags) {
				found = append(found, bare(version))
			}
		}
	}
	// The highest number of a model comes first anyway, which is all that is asked for by order_by.
	if limit, err := strconv.Atoi(r.URL.Query().Get("max_results")); err == nil && limit < len(found) && r.URL.Query().Has("order_by") {
		found = found[:limit]
	}
	return object{"model_versions": found}, nil
}

// versionBody is what the changes of a version send; each uses its part.
type versionBody struct {
	Name            string `json:"name"`
	Version         string `json:"version"`
	Description     string `json:"description"`
	Key             string `json:"key"`
	Value           string `json:"value"`
	Alias           string `json:"alias"`
	Stage           string `json:"stage"`
	ArchiveExisting bool   `json:"archive_existing_versions"`
}

func (st *store) updateModelVersion(body versionBody) (any, error) {
	model, version, err := st.version(body.Name, body.Version)
	if err != nil {
		return nil, err
	}
	version.Description = body.Description
	return object{"model_version": model.view(version)}, nil
}

func (st *store) deleteModelVersion(body versionBody) (any, error) {
	model, version, err := st.version(body.Name, body.Version)
	if err != nil {
		return nil, err
	}
	model.versions = slices.DeleteFunc(model.versions, func(v *mlflow.ModelVersion) bool { return v == version })
	for alias, number := range model.aliases {
		if number == version.Version {
			delete(model.aliases, alias)
		}
	}
	return nil, nil
}

func (st *store) setModelVersionTag(body versionBody) (any, error) {
	_, version, err := st.version(body.Name, body.Version)
	if err != nil {
		return nil, err
	}
	version.Tags = setTag(version.Tags, mlflow.Tag{Key: body.Key, Value: body.Value})
	return nil, nil
}

var stages = []string{mlflow.StageNone, "Staging", "Production", mlflow.StageArchived}

func (st *store) transitionStage(body versionBody) (any, error) {
	known := slices.IndexFunc(stages, func(stage string) bool { return strings.EqualFold(stage, body.Stage) })
	if known < 0 {
		return nil, invalid(fmt.Sprintf("Invalid Model Version stage: %s. Value must be one of %s.",
			body.Stage, strings.Join(stages, ", ")))
	}
	stage := stages[known]
	if body.ArchiveExisting && (stage == mlflow.StageNone || stage == mlflow.StageArchived) {
		return nil, internal(fmt.Sprintf("cannot archive existing model versions because '%s' is not an Active stage", stage))
	}
	model, version, err := st.version(body.Name, body.Version)
	if err != nil {
		return nil, err
	}
	for _, other := range model.versions {
		if body.ArchiveExisting && other != version && other.CurrentStage == stage {
			other.CurrentStage = mlflow.StageArchived
		}
	}
	version.CurrentStage = stage
	return object{"model_version": model.view(version)}, nil
}

var reservedAlias = regexp.MustCompile(`(?i)^(latest|v[0-9]+)$`)

func (st *store) setAlias(body versionBody) (any, error) {
	if reservedAlias.MatchString(body.Alias) {
		return nil, invalid(fmt.Sprintf("'%s' alias name (case insensitive) is reserved.", body.Alias))
	}
	model, version, err := st.version(body.Name, body.Version)
	if err != nil {
		return nil, err
	}
	model.aliases[body.Alias] = version.Version
	return nil, nil
}

func (st *store) getByAlias(r *http.Request) (any, error) {
	alias := r.URL.Query().Get("alias")
	model, err := st.registeredModel(r.URL.Query().Get("name"))
	if err != nil {
		return nil, err
	}
	_, version, err := st.version(model.Name, model.aliases[alias])
	if err != nil {
		return nil, invalid(fmt.Sprintf("Registered model alias %s not found.", alias))
	}
	return object{"model_version": model.view(version)}, nil
}
