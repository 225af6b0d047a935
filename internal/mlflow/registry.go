package mlflow

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
)

// VersionReady is the status of a version that can be used.
const VersionReady = "READY"

// StageNone is the stage of a version that was never moved; StageArchived that of one that was put away.
const (
	StageNone     = "None"
	StageArchived = "Archived"
)

// RegisteredModel is a name in the registry, with its versions.
type RegisteredModel struct {
	Name           string         `json:"name"`
	Description    string         `json:"description"`
	Tags           []Tag          `json:"tags"`
	Aliases        []Alias        `json:"aliases"`
	LatestVersions []ModelVersion `json:"latest_versions"` // the highest of each stage
}

// Alias is a name that points to one version of a registered model.
type Alias struct {
	Alias   string `json:"alias"`
	Version string `json:"version"`
}

// ModelVersion is one version of a registered model. MLflow numbers versions from 1, and writes the number as text.
type ModelVersion struct {
	Name              string   `json:"name"`
	Version           string   `json:"version"`
	CreationTimestamp int64    `json:"creation_timestamp"` // milliseconds since the epoch
	CurrentStage      string   `json:"current_stage"`
	Description       string   `json:"description"`
	Source            string   `json:"source"` // models:/<model id>, or an artifact URI
	RunID             string   `json:"run_id"`
	Status            string   `json:"status"`
	StatusMessage     string   `json:"status_message"`
	Tags              []Tag    `json:"tags"`
	Aliases           []string `json:"aliases"`
}

// CreateRegisteredModelRequest describes a new name in the registry.
type CreateRegisteredModelRequest struct {
	Name        string `json:"name"`
	Description string `json:"description,omitempty"`
	Tags        []Tag  `json:"tags,omitempty"`
}

// CreateModelVersionRequest describes a new version. ModelID is mandatory with a Source of models:/<model id>.
type CreateModelVersionRequest struct {
	Name        string `json:"name"`
	Source      string `json:"source"`
	RunID       string `json:"run_id,omitempty"`
	ModelID     string `json:"model_id,omitempty"`
	Description string `json:"description,omitempty"`
	Tags        []Tag  `json:"tags,omitempty"`
}

// CreateRegisteredModel makes a name in the registry. A name that is taken is a 400 RESOURCE_ALREADY_EXISTS, so
// repeating makes no second one.
func (c *Client) CreateRegisteredModel(ctx context.Context, request CreateRegisteredModelRequest) (RegisteredModel, error) {
	var reply registeredModelReply
	err := c.create(ctx, "registered-models/create", request, &reply)
	return reply.RegisteredModel, err
}

// GetRegisteredModel reads a registered model.
func (c *Client) GetRegisteredModel(ctx context.Context, name string) (RegisteredModel, error) {
	var reply registeredModelReply
	err := c.get(ctx, "registered-models/get", url.Values{"name": {name}}, &reply)
	return reply.RegisteredModel, err
}

// SearchRegisteredModels finds the registered models that match the filter (see Filter), all pages.
func (c *Client) SearchRegisteredModels(ctx context.Context, filter string) ([]RegisteredModel, error) {
	return everyPage(func(token string) ([]RegisteredModel, string, error) {
		var page struct {
			RegisteredModels []RegisteredModel `json:"registered_models"`
			NextPageToken    string            `json:"next_page_token"`
		}
		err := c.get(ctx, "registered-models/search", searchQuery(filter, token), &page)
		return page.RegisteredModels, page.NextPageToken, err
	})
}

// DeleteRegisteredModel deletes a name with all its versions. One that is not there is not found.
func (c *Client) DeleteRegisteredModel(ctx context.Context, name string) error {
	return c.send(ctx, http.MethodDelete, "registered-models/delete", map[string]string{"name": name}, nil)
}

// SetRegisteredModelTag sets a tag of a registered model, over what was there. Repeatable.
func (c *Client) SetRegisteredModelTag(ctx context.Context, name, key, value string) error {
	return c.send(ctx, http.MethodPost, "registered-models/set-tag", map[string]string{"name": name, "key": key, "value": value}, nil)
}

// DeleteRegisteredModelTag removes a tag of a registered model. Repeatable.
func (c *Client) DeleteRegisteredModelTag(ctx context.Context, name, key string) error {
	return c.send(ctx, http.MethodDelete, "registered-models/delete-tag", map[string]string{"name": name, "key": key}, nil)
}

// CreateModelVersion makes a version. Not repeatable: each request that arrives makes another. MLflow takes a logged
// model that is PENDING and has no files, and says READY: verify them before.
func (c *Client) CreateModelVersion(ctx context.Context, request CreateModelVersionRequest) (ModelVersion, error) {
	var reply modelVersionReply
	err := c.create(ctx, "model-versions/create", request, &reply)
	return reply.ModelVersion, err
}

// GetModelVersion reads a version.
func (c *Client) GetModelVersion(ctx context.Context, name, version string) (ModelVersion, error) {
	var reply modelVersionReply
	err := c.get(ctx, "model-versions/get", url.Values{"name": {name}, "version": {version}}, &reply)
	return reply.ModelVersion, err
}

// SearchModelVersions finds the versions that match the filter (see Filter), all pages. MLflow filters them on name,
// run_id, source_path, version_number and tags. Aliases are not filled in: GetModelVersion has them.
func (c *Client) SearchModelVersions(ctx context.Context, filter string) ([]ModelVersion, error) {
	return everyPage(func(token string) ([]ModelVersion, string, error) {
		var page struct {
			ModelVersions []ModelVersion `json:"model_versions"`
			NextPageToken string         `json:"next_page_token"`
		}
		err := c.get(ctx, "model-versions/search", searchQuery(filter, token), &page)
		return page.ModelVersions, page.NextPageToken, err
	})
}

// NewestModelVersions are the versions with the highest numbers that match the filter, at most limit of them, the highest first: one request,
// however many there are. As with SearchModelVersions, aliases are not filled in. limit is at least 1 and at most 10,000.
func (c *Client) NewestModelVersions(ctx context.Context, filter string, limit int) ([]ModelVersion, error) {
	query := searchQuery(filter, "")
	query.Set("max_results", strconv.Itoa(limit))
	// Left to itself MLflow puts first what was changed last.
	query.Set("order_by", "version_number DESC")
	var page struct {
		ModelVersions []ModelVersion `json:"model_versions"`
	}
	err := c.get(ctx, "model-versions/search", query, &page)
	return page.ModelVersions, err
}

// UpdateModelVersion sets the description of a version. Repeatable.
func (c *Client) UpdateModelVersion(ctx context.Context, name, version, description string) error {
	return c.send(ctx, http.MethodPatch, "model-versions/update",
		map[string]string{"name": name, "version": version, "description": description}, nil)
}

// DeleteModelVersion deletes a version and the aliases that point to it. Its number is not given again. One that is
// deleted already is not found.
func (c *Client) DeleteModelVersion(ctx context.Context, name, version string) error {
	return c.send(ctx, http.MethodDelete, "model-versions/delete", map[string]string{"name": name, "version": version}, nil)
}

// SetModelVersionTag sets a tag of a version, over what was there. Repeatable.
func (c *Client) SetModelVersionTag(ctx context.Context, name, version, key, value string) error {
	return c.send(ctx, http.MethodPost, "model-versions/set-tag",
		map[string]string{"name": name, "version": version, "key": key, "value": value}, nil)
}

// TransitionModelVersionStage moves a version to a stage. Repeatable. archiveExisting archives all others in that
// stage, higher ones too: a late request of an old version then takes the stage from a newer one.
func (c *Client) TransitionModelVersionStage(ctx context.Context, name, version, stage string, archiveExisting bool) error {
	request := struct {
		Name    string `json:"name"`
		Version string `json:"version"`
		Stage   string `json:"stage"`
		Archive bool   `json:"archive_existing_versions"`
	}{name, version, stage, archiveExisting}
	return c.send(ctx, http.MethodPost, "model-versions/transition-stage", request, nil)
}

// SetRegisteredModelAlias points an alias to a version, from wherever it pointed. Repeatable.
func (c *Client) SetRegisteredModelAlias(ctx context.Context, name, alias, version string) error {
	return c.send(ctx, http.MethodPost, "registered-models/alias",
		map[string]string{"name": name, "alias": alias, "version": version}, nil)
}

// GetModelVersionByAlias reads the version that an alias points to. An alias that is not set is a 400
// INVALID_PARAMETER_VALUE, and so no IsNotFound: where it may be missing, read RegisteredModel.Aliases.
func (c *Client) GetModelVersionByAlias(ctx context.Context, name, alias string) (ModelVersion, error) {
	var reply modelVersionReply
	err := c.get(ctx, "registered-models/alias", url.Values{"name": {name}, "alias": {alias}}, &reply)
	return reply.ModelVersion, err
}

type registeredModelReply struct {
	RegisteredModel RegisteredModel `json:"registered_model"`
}

type modelVersionReply struct {
	ModelVersion ModelVersion `json:"model_version"`
}
