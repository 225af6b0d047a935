package mlflowtest

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"slices"

	"registrar/internal/mlflow"
)

type searchBody struct {
	ExperimentIDs []string `json:"experiment_ids"`
	Filter        string   `json:"filter"`
	MaxResults    int      `json:"max_results"`
}

func (st *store) searchExperiments(body searchBody) (any, error) {
	if body.MaxResults <= 0 {
		return nil, invalid("Invalid value 0 for parameter 'max_results' supplied. It must be a positive integer")
	}
	return object{"experiments": st.experiments[:min(body.MaxResults, len(st.experiments))]}, nil
}

func (st *store) getExperimentByName(r *http.Request) (any, error) {
	name := r.URL.Query().Get("experiment_name")
	for _, experiment := range st.experiments {
		if experiment.Name == name {
			return object{"experiment": experiment}, nil
		}
	}
	return nil, notFound(fmt.Sprintf("Could not find experiment with name '%s'", name))
}

func (st *store) experiment(id string) (*mlflow.Experiment, error) {
	for _, experiment := range st.experiments {
		if experiment.ExperimentID == id {
			return experiment, nil
		}
	}
	return nil, notFound(fmt.Sprintf("No Experiment with id=%s exists", id))
}

func (st *store) getExperiment(r *http.Request) (any, error) {
	experiment, err := st.experiment(r.URL.Query().Get("experiment_id"))
	return object{"experiment": experiment}, err
}

func (st *store) createExperiment(body mlflow.CreateExperimentRequest) (any, error) {
	for _, experiment := range st.experiments {
		if experiment.Name == body.Name {
			return nil, exists(fmt.Sprintf("Experiment(name=%s) already exists.", body.Name))
		}
	}
	id := fmt.Sprint(len(st.experiments))
	st.experiments = append(st.experiments, &mlflow.Experiment{
		ExperimentID: id, Name: body.Name, LifecycleStage: mlflow.LifecycleActive, Tags: body.Tags,
		ArtifactLocation: cmp.Or(body.ArtifactLocation, "mlflow-artifacts:/"+id),
	})
	return object{"experiment_id": id}, nil
}

func (st *store) setExperimentTag(body struct {
	ExperimentID string `json:"experiment_id"`
	Key          string `json:"key"`
	Value        string `json:"value"`
},
) (any, error) {
	experiment, err := st.experiment(body.ExperimentID)
	if err != nil {
		return nil, err
	}
	if body.Key == "" {
		return nil, invalid("Missing value for required parameter 'key'.")
	}
	experiment.Tags = setTag(experiment.Tags, mlflow.Tag{Key: body.Key, Value: body.Value})
	return nil, nil
}

func (st *store) createRun(body mlflow.CreateRunRequest) (any, error) {
	experiment, err := st.experiment(body.ExperimentID)
	if err != nil {
		return nil, err
	}
	id := st.hexID()
	made := &run{Run: mlflow.Run{
		Info: mlflow.RunInfo{
			RunID: id, RunName: cmp.Or(body.RunName, "unnamed-"+id), ExperimentID: body.ExperimentID, UserID: body.UserID,
			Status: mlflow.RunRunning, StartTime: body.StartTime, LifecycleStage: mlflow.LifecycleActive,
			ArtifactURI: experiment.ArtifactLocation + "/" + id + "/artifacts",
		},
		Data: mlflow.RunData{Tags: slices.Clone(body.Tags)},
	}}
	made.Data.Tags = setTag(made.Data.Tags, mlflow.Tag{Key: "mlflow.runName", Value: made.Info.RunName})
	st.runs = append(st.runs, made)
	return object{"run": made.view()}, nil
}

func (r *run) view() mlflow.Run {
	view := r.Run
	view.Data.Metrics = nil
	for _, metric := range r.history {
		metric.ModelID = ""
		view.Data.Metrics = setMetric(view.Data.Metrics, metric)
	}
	view.Data.Params = slices.Clone(r.Data.Params)
	view.Data.Tags = slices.Clone(r.Data.Tags)
	view.Outputs.ModelOutputs = slices.Clone(r.Outputs.ModelOutputs)
	return view
}

func (st *store) run(id string) (*run, error) {
	for _, run := range st.runs {
		if run.Info.RunID == id {
			return run, nil
		}
	}
	return nil, notFound(fmt.Sprintf("Run with id=%s not found", id))
}

// activeRun is the run, for what changes it.
func (st *store) activeRun(id string) (*run, error) {
	run, err := st.run(id)
	if err == nil && run.Info.LifecycleStage != mlflow.LifecycleActive {
		return nil, invalid(fmt.Sprintf("The run %s must be in the 'active' state. Current state is deleted.", id))
	}
	return run, err
}

func (st *store) getRun(r *http.Request) (any, error) {
	run, err := st.run(r.URL.Query().Get("run_id"))
	if err != nil {
		return nil, err
	}
	return object{"run": run.view()}, nil
}

func (st *store) searchRuns(body searchBody) (any, error) {
	matches, err := matcher(body.Filter, "run_id", "run_name", "status", "user_id")
	if err != nil {
		return nil, err
	}
	var found []mlflow.Run
	for _, run := range st.runs {
		info := run.Info
		attributes := map[string]string{"run_id": info.RunID, "run_name": info.RunName, "status": info.Status, "user_id": info.UserID}
		if slices.Contains(body.ExperimentIDs, info.ExperimentID) && info.LifecycleStage == mlflow.LifecycleActive &&
			matches(attributes, run.Data.Tags) {
			found = append(found, run.view())
		}
	}
	slices.SortFunc(found, func(a, b mlflow.Run) int {
		return cmp.Or(cmp.Compare(b.Info.StartTime, a.Info.StartTime), cmp.Compare(a.Info.RunID, b.Info.RunID))
	})
	return object{"runs": found}, nil
}

func (st *store) updateRun(body mlflow.UpdateRunRequest) (any, error) {
	run, err := st.activeRun(body.RunID)
	if err != nil {
		return nil, err
	}
	run.Info.Status = cmp.Or(body.Status, run.Info.Status)
	run.Info.EndTime = cmp.Or(body.EndTime, run.Info.EndTime)
	return object{"run_info": run.Info}, nil
}

type runKeyValue struct {
	RunID string `json:"run_id"`
	Key   string `json:"key"`
	Value string `json:"value"`
}

func (st *store) deleteRun(body runKeyValue) (any, error) {
	run, err := st.run(body.RunID)
	if err != nil {
		return nil, err
	}
	run.Info.LifecycleStage = mlflow.LifecycleDeleted
	return nil, nil
}

func (st *store) logParameter(body runKeyValue) (any, error) {
	return st.logBatch(mlflow.LogBatchRequest{RunID: body.RunID, Params: []mlflow.Param{{Key: body.Key, Value: body.Value}}})
}

func (st *store) setRunTag(body runKeyValue) (any, error) {
	return st.logBatch(mlflow.LogBatchRequest{RunID: body.RunID, Tags: []mlflow.Tag{{Key: body.Key, Value: body.Value}}})
}

// logBatch refuses the whole batch where it is too large, and where a param has another value already.
func (st *store) logBatch(body mlflow.LogBatchRequest) (any, error) {
	if err := checkLimits(body); err != nil {
		return nil, err
	}
	run, err := st.activeRun(body.RunID)
	if err != nil {
		return nil, err
	}
	var added []mlflow.Param
	for _, param := range body.Params {
		known := slices.IndexFunc(run.Data.Params, func(old mlflow.Param) bool { return old.Key == param.Key })
		if known < 0 {
			added = append(added, param)
		} else if run.Data.Params[known].Value != param.Value {
			return nil, invalid(fmt.Sprintf("Changing param values is not allowed. Param with key='%s' was already logged.", param.Key))
		}
	}
	run.Data.Params = append(run.Data.Params, added...)
	for _, tag := range body.Tags {
		run.Data.Tags = setTag(run.Data.Tags, tag)
	}
	for _, metric := range body.Metrics {
		metric.Value = storable(metric.Value)
		if !slices.ContainsFunc(run.history, func(old mlflow.Metric) bool { return sameMetric(old, metric) }) {
			run.history = append(run.history, metric)
		}
	}
	return nil, st.logModelMetrics(body.Metrics)
}

// logModelMetrics refuses more than 100 of which some are there already: _log_model_metrics of mlflow/store/tracking/sqlalchemy_store.py looks for
// those by 100, and each time inserts all the others.
func (st *store) logModelMetrics(metrics []mlflow.Metric) error {
	type logged struct {
		model  *loggedModel
		metric mlflow.Metric
	}
	var all []logged
	repeated := false
	for _, metric := range metrics {
		model, err := st.loggedModel(metric.ModelID)
		if err != nil {
			continue
		}
		metric.Value = storable(metric.Value)
		all = append(all, logged{model, metric})
		repeated = repeated || slices.ContainsFunc(model.Data.Metrics, func(old mlflow.Metric) bool { return sameMetric(old, metric) })
	}
	if repeated && len(all) > 100 {
		return &refusal{http.StatusBadRequest, "BAD_REQUEST", "UNIQUE constraint failed: logged_model_metrics"}
	}
	for _, l := range all {
		l.model.Data.Metrics = setMetric(l.model.Data.Metrics, l.metric)
	}
	return nil
}

// checkLimits is _validate_batch_log_limits of mlflow/utils/validation.py.
func checkLimits(body mlflow.LogBatchRequest) error {
	metrics, params, tags := len(body.Metrics), len(body.Params), len(body.Tags)
	for _, entities := range []struct {
		name         string
		count, limit int
	}{{"metrics", metrics, 1000}, {"params", params, 100}, {"tags", tags, 100}, {"metrics, params, and tags", metrics + params + tags, 1000}} {
		if entities.count > entities.limit {
			return invalid(fmt.Sprintf("A batch logging request can contain at most %d %s. Got %d %[2]s.", entities.limit, entities.name, entities.count))
		}
	}
	return nil
}

func sameMetric(a, b mlflow.Metric) bool {
	sameValue := a.Value == b.Value || math.IsNaN(a.Value) && math.IsNaN(b.Value)
	return a.Key == b.Key && sameValue && a.Timestamp == b.Timestamp && a.Step == b.Step
}

func (st *store) metricHistory(r *http.Request) (any, error) {
	query := r.URL.Query()
	run, err := st.run(query.Get("run_id"))
	if err != nil {
		return nil, err
	}
	var history []mlflow.Metric
	for _, metric := range run.history {
		if metric.Key == query.Get("metric_key") {
			history = append(history, metric)
		}
	}
	return object{"metrics": history}, nil
}

type outputsBody struct {
	RunID  string               `json:"run_id"`
	Models []mlflow.ModelOutput `json:"models"`
}

func (st *store) logOutputs(body outputsBody) (any, error) {
	run, err := st.activeRun(body.RunID)
	if err != nil {
		return nil, err
	}
	for _, output := range body.Models {
		known := func(old mlflow.ModelOutput) bool { return old.ModelID == output.ModelID }
		if slices.ContainsFunc(run.Outputs.ModelOutputs, known) {
			return nil, &refusal{http.StatusBadRequest, "BAD_REQUEST", "UNIQUE constraint failed: inputs"}
		}
		run.Outputs.ModelOutputs = append(run.Outputs.ModelOutputs, output)
	}
	return nil, nil
}

type logModelBody struct {
	RunID     string `json:"run_id"`
	ModelJSON string `json:"model_json"`
}

func (st *store) logModel(body logModelBody) (any, error) {
	run, err := st.activeRun(body.RunID)
	if err != nil {
		return nil, err
	}
	const key = "mlflow.log-model.history"
	var history []json.RawMessage
	for _, tag := range run.Data.Tags {
		if tag.Key == key {
			if err := json.Unmarshal([]byte(tag.Value), &history); err != nil {
				return nil, err
			}
		}
	}
	if !json.Valid([]byte(body.ModelJSON)) {
		return nil, invalid("Malformed model info. It is not valid JSON.")
	}
	text, err := json.Marshal(append(history, json.RawMessage(body.ModelJSON)))
	if err != nil {
		return nil, err
	}
	run.Data.Tags = setTag(run.Data.Tags, mlflow.Tag{Key: key, Value: string(text)})
	return nil, nil
}
