package mlflow

import (
	"context"
	"net/http"
	"net/url"
)

// The statuses of a run that this project uses.
const (
	RunRunning  = "RUNNING"
	RunFinished = "FINISHED"
	RunFailed   = "FAILED"
	RunKilled   = "KILLED"
)

// The lifecycle stages of runs and experiments.
const (
	LifecycleActive  = "active"
	LifecycleDeleted = "deleted"
)

// Tag is a key with a text, on any kind of object.
type Tag struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// Param is a write-once key of a run, or a parameter of a logged model. MLflow cuts values silently at 6000 characters.
type Param struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// Metric is one measured value. MLflow takes a metric as repeated only where key, value, timestamp and step are all
// equal. Value may be NaN; an infinity comes back as ±1.797e308.
type Metric struct {
	Key       string  `json:"key"`
	Value     float64 `json:"value"`
	Timestamp int64   `json:"timestamp"` // milliseconds since the epoch
	Step      int64   `json:"step"`
	ModelID   string  `json:"model_id,omitempty"` // the logged model that gets the metric too
}

// Run is a run with what was logged to it.
type Run struct {
	Info    RunInfo    `json:"info"`
	Data    RunData    `json:"data"`
	Outputs RunOutputs `json:"outputs"`
}

// RunInfo is what MLflow itself keeps of a run.
type RunInfo struct {
	RunID          string `json:"run_id"`
	RunName        string `json:"run_name"`
	ExperimentID   string `json:"experiment_id"`
	UserID         string `json:"user_id"`
	Status         string `json:"status"`
	StartTime      int64  `json:"start_time"` // milliseconds since the epoch
	EndTime        int64  `json:"end_time"`   // milliseconds since the epoch; zero while it runs
	ArtifactURI    string `json:"artifact_uri"`
	LifecycleStage string `json:"lifecycle_stage"`
}

// RunData is what was logged. Metrics holds the last value of each key.
type RunData struct {
	Metrics []Metric `json:"metrics"`
	Params  []Param  `json:"params"`
	Tags    []Tag    `json:"tags"`
}

// RunOutputs are the logged models that a run made.
type RunOutputs struct {
	ModelOutputs []ModelOutput `json:"model_outputs"`
}

// ModelOutput names a logged model as the output of a run.
type ModelOutput struct {
	ModelID string `json:"model_id"`
	Step    int64  `json:"step"`
}

// RunPage is one page of found runs. NextPageToken is empty on the last.
type RunPage struct {
	Runs          []Run  `json:"runs"`
	NextPageToken string `json:"next_page_token"`
}

// CreateRunRequest describes a new run. StartTime is in milliseconds since the epoch.
type CreateRunRequest struct {
	ExperimentID string `json:"experiment_id"`
	UserID       string `json:"user_id,omitempty"`
	RunName      string `json:"run_name,omitempty"`
	StartTime    int64  `json:"start_time"`
	Tags         []Tag  `json:"tags,omitempty"`
}

// UpdateRunRequest ends or resumes a run. EndTime is in milliseconds since the epoch, zero leaves it.
type UpdateRunRequest struct {
	RunID   string `json:"run_id"`
	Status  string `json:"status"`
	EndTime int64  `json:"end_time,omitempty"`
}

// LogBatchRequest is what to log to a run in one step: at most 100 params, 100 tags, and 1000 metrics, params and tags in all.
type LogBatchRequest struct {
	RunID   string   `json:"run_id"`
	Metrics []Metric `json:"metrics,omitempty"`
	Params  []Param  `json:"params,omitempty"`
	Tags    []Tag    `json:"tags,omitempty"`
}

// CreateRun makes a run. Not repeatable: each request that arrives makes another.
func (c *Client) CreateRun(ctx context.Context, request CreateRunRequest) (Run, error) {
	var reply struct{ Run Run }
	err := c.create(ctx, "runs/create", request, &reply)
	return reply.Run, err
}

// GetRun reads a run, a deleted one too (its LifecycleStage tells).
func (c *Client) GetRun(ctx context.Context, runID string) (Run, error) {
	var reply struct{ Run Run }
	err := c.get(ctx, "runs/get", url.Values{"run_id": {runID}}, &reply)
	return reply.Run, err
}

// SearchRuns finds the active runs of the experiments that match the filter (see Filter), a page at a time; the first
// has an empty pageToken. Without experiments MLflow finds nothing, and says 200.
func (c *Client) SearchRuns(ctx context.Context, experimentIDs []string, filter, pageToken string) (RunPage, error) {
	var page RunPage
	err := c.send(ctx, http.MethodPost, "runs/search", search{
		ExperimentIDs: experimentIDs, Filter: filter, PageToken: pageToken, RunViewType: "ACTIVE_ONLY",
	}, &page)
	return page, err
}

// SearchAllRuns is SearchRuns over all pages.
func (c *Client) SearchAllRuns(ctx context.Context, experimentIDs []string, filter string) ([]Run, error) {
	return everyPage(func(token string) ([]Run, string, error) {
		page, err := c.SearchRuns(ctx, experimentIDs, filter, token)
		return page.Runs, page.NextPageToken, err
	})
}

// UpdateRun sets status and end time. Repeatable.
func (c *Client) UpdateRun(ctx context.Context, request UpdateRunRequest) error {
	return c.send(ctx, http.MethodPost, "runs/update", request, nil)
}

// DeleteRun hides a run from searches; GetRun still reads it. Repeatable.
func (c *Client) DeleteRun(ctx context.Context, runID string) error {
	return c.send(ctx, http.MethodPost, "runs/delete", map[string]string{"run_id": runID}, nil)
}

// LogBatch logs metrics, params and tags. Repeatable with the same content, where no more than 100 of the metrics are a
// logged model's: of more MLflow inserts some again, and answers 400. A param that has another value already is a 400, and
// then no metric is written either.
func (c *Client) LogBatch(ctx context.Context, request LogBatchRequest) error {
	return c.send(ctx, http.MethodPost, "runs/log-batch", request, nil)
}

// LogParam writes one param, once: where the key has another value it is a 400 INVALID_PARAMETER_VALUE, and the
// first value stays. Repeatable with the same value.
func (c *Client) LogParam(ctx context.Context, runID, key, value string) error {
	return c.send(ctx, http.MethodPost, "runs/log-parameter",
		map[string]string{"run_id": runID, "key": key, "value": value}, nil)
}

// SetRunTag sets a tag of a run, over what was there. Repeatable.
func (c *Client) SetRunTag(ctx context.Context, runID, key, value string) error {
	return c.send(ctx, http.MethodPost, "runs/set-tag",
		map[string]string{"run_id": runID, "key": key, "value": value}, nil)
}

// LogOutputs names logged models as the outputs of a run. Not repeatable: an output that is there already is a 400, so
// look at the run's Outputs first.
func (c *Client) LogOutputs(ctx context.Context, runID string, outputs []ModelOutput) error {
	request := struct {
		RunID  string        `json:"run_id"`
		Models []ModelOutput `json:"models"`
	}{runID, outputs}
	return c.send(ctx, http.MethodPost, "runs/outputs", request, nil)
}

// LogModel records the MLmodel of a model under the run's artifacts, as JSON, in the tag mlflow.log-model.history: the
// way of servers without logged models. Not repeatable: MLflow appends it again.
func (c *Client) LogModel(ctx context.Context, runID, modelJSON string) error {
	return c.send(ctx, http.MethodPost, "runs/log-model", map[string]string{"run_id": runID, "model_json": modelJSON}, nil)
}
