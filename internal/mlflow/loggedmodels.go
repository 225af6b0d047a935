package mlflow

import (
	"context"
	"net/http"
)

// The statuses of a logged model.
const (
	LoggedModelPending      = "LOGGED_MODEL_PENDING"
	LoggedModelReady        = "LOGGED_MODEL_READY"
	LoggedModelUploadFailed = "LOGGED_MODEL_UPLOAD_FAILED"
)

// LoggedModel is a model's metadata with the place of its files. MLflow 3 only: see IsEndpointMissing.
type LoggedModel struct {
	Info LoggedModelInfo `json:"info"`
	Data LoggedModelData `json:"data"`
}

// LoggedModelInfo is what MLflow itself keeps of a logged model.
type LoggedModelInfo struct {
	ModelID           string `json:"model_id"`
	ExperimentID      string `json:"experiment_id"`
	Name              string `json:"name"`
	ArtifactURI       string `json:"artifact_uri"`
	Status            string `json:"status"`
	SourceRunID       string `json:"source_run_id"`
	CreationTimestamp int64  `json:"creation_timestamp_ms"` // milliseconds since the epoch
	Tags              []Tag  `json:"tags"`
}

// LoggedModelData is what was logged to a model.
type LoggedModelData struct {
	Params  []Param  `json:"params"`
	Metrics []Metric `json:"metrics"`
}

// CreateLoggedModelRequest describes a new logged model.
type CreateLoggedModelRequest struct {
	ExperimentID string  `json:"experiment_id"`
	Name         string  `json:"name"`
	ModelType    string  `json:"model_type,omitempty"`
	SourceRunID  string  `json:"source_run_id,omitempty"`
	Params       []Param `json:"params,omitempty"`
	Tags         []Tag   `json:"tags,omitempty"`
}

// CreateLoggedModel makes a logged model, in LoggedModelPending. Not repeatable: each request that arrives makes
// another.
func (c *Client) CreateLoggedModel(ctx context.Context, request CreateLoggedModelRequest) (LoggedModel, error) {
	var reply struct{ Model LoggedModel }
	err := c.create(ctx, "logged-models", request, &reply)
	return reply.Model, err
}

// GetLoggedModel reads a logged model. A deleted one is not found.
func (c *Client) GetLoggedModel(ctx context.Context, modelID string) (LoggedModel, error) {
	var reply struct{ Model LoggedModel }
	err := c.get(ctx, loggedModelPath(modelID), nil, &reply)
	return reply.Model, err
}

// SearchLoggedModels finds the logged models of the experiments that match the filter (see Filter), all pages.
func (c *Client) SearchLoggedModels(ctx context.Context, experimentIDs []string, filter string) ([]LoggedModel, error) {
	return everyPage(func(token string) ([]LoggedModel, string, error) {
		var page struct {
			Models        []LoggedModel
			NextPageToken string `json:"next_page_token"`
		}
		err := c.send(ctx, http.MethodPost, "logged-models/search",
			search{ExperimentIDs: experimentIDs, Filter: filter, PageToken: token}, &page)
		return page.Models, page.NextPageToken, err
	})
}

// FinalizeLoggedModel sets the status of a logged model. Repeatable. A deleted one takes it with 200: only
// GetLoggedModel tells.
func (c *Client) FinalizeLoggedModel(ctx context.Context, modelID, status string) error {
	return c.send(ctx, http.MethodPatch, loggedModelPath(modelID),
		map[string]string{"model_id": modelID, "status": status}, nil)
}

// SetLoggedModelTags sets tags of a logged model, over what was there. Repeatable.
func (c *Client) SetLoggedModelTags(ctx context.Context, modelID string, tags []Tag) error {
	request := struct {
		Tags []Tag `json:"tags"`
	}{tags}
	return c.send(ctx, http.MethodPatch, loggedModelPath(modelID)+"/tags", request, nil)
}

// DeleteLoggedModel deletes a logged model; no version can then be created from it (500 INTERNAL_ERROR). Repeatable.
func (c *Client) DeleteLoggedModel(ctx context.Context, modelID string) error {
	return c.send(ctx, http.MethodDelete, loggedModelPath(modelID), struct{}{}, nil)
}

func loggedModelPath(modelID string) string { return "logged-models/" + modelID }
