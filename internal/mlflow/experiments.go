package mlflow

import (
	"context"
	"net/http"
	"net/url"
)

// Experiment is a named group of runs.
type Experiment struct {
	ExperimentID     string `json:"experiment_id"`
	Name             string `json:"name"`
	ArtifactLocation string `json:"artifact_location"`
	LifecycleStage   string `json:"lifecycle_stage"`
	Tags             []Tag  `json:"tags"`
}

// CreateExperimentRequest describes a new experiment. An empty ArtifactLocation leaves it to the server.
type CreateExperimentRequest struct {
	Name             string `json:"name"`
	ArtifactLocation string `json:"artifact_location,omitempty"`
	Tags             []Tag  `json:"tags,omitempty"`
}

// SearchExperiments reads up to maxResults active experiments: the cheapest request that asks the database.
func (c *Client) SearchExperiments(ctx context.Context, maxResults int) ([]Experiment, error) {
	var reply struct{ Experiments []Experiment }
	err := c.send(ctx, http.MethodPost, "experiments/search", search{MaxResults: maxResults}, &reply)
	return reply.Experiments, err
}

// SearchAllExperiments reads all active experiments, all pages.
func (c *Client) SearchAllExperiments(ctx context.Context) ([]Experiment, error) {
	return everyPage(func(token string) ([]Experiment, string, error) {
		var page struct {
			Experiments   []Experiment
			NextPageToken string `json:"next_page_token"`
		}
		err := c.send(ctx, http.MethodPost, "experiments/search", search{MaxResults: pageSize, PageToken: token}, &page)
		return page.Experiments, page.NextPageToken, err
	})
}

// GetExperimentByName reads an experiment, a deleted one too (its LifecycleStage tells).
func (c *Client) GetExperimentByName(ctx context.Context, name string) (Experiment, error) {
	var reply struct{ Experiment Experiment }
	err := c.get(ctx, "experiments/get-by-name", url.Values{"experiment_name": {name}}, &reply)
	return reply.Experiment, err
}

// GetExperiment reads an experiment, a deleted one too.
func (c *Client) GetExperiment(ctx context.Context, experimentID string) (Experiment, error) {
	var reply struct{ Experiment Experiment }
	err := c.get(ctx, "experiments/get", url.Values{"experiment_id": {experimentID}}, &reply)
	return reply.Experiment, err
}

// CreateExperiment makes an experiment and gives its id. A name that is taken, by a deleted experiment too, is a
// 400 RESOURCE_ALREADY_EXISTS, so repeating makes no second one.
func (c *Client) CreateExperiment(ctx context.Context, request CreateExperimentRequest) (string, error) {
	var reply struct {
		ExperimentID string `json:"experiment_id"`
	}
	err := c.create(ctx, "experiments/create", request, &reply)
	return reply.ExperimentID, err
}

// SetExperimentTag sets a tag of an experiment, over what was there. Repeatable. A tag without a key is refused with a 400, after the
// caller's permission was judged.
func (c *Client) SetExperimentTag(ctx context.Context, experimentID, key, value string) error {
	return c.send(ctx, http.MethodPost, "experiments/set-experiment-tag",
		map[string]string{"experiment_id": experimentID, "key": key, "value": value}, nil)
}
