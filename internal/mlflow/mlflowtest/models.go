package mlflowtest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"

	"registrar/internal/mlflow"
)

func (st *store) createLoggedModel(body mlflow.CreateLoggedModelRequest) (any, error) {
	experiment, err := st.experiment(body.ExperimentID)
	if err != nil {
		return nil, err
	}
	id := "m-" + st.hexID()
	made := &loggedModel{LoggedModel: mlflow.LoggedModel{
		Info: mlflow.LoggedModelInfo{
			ModelID: id, ExperimentID: body.ExperimentID, Name: body.Name, SourceRunID: body.SourceRunID,
			Status: mlflow.LoggedModelPending, CreationTimestamp: st.now(), Tags: slices.Clone(body.Tags),
			ArtifactURI: experiment.ArtifactLocation + "/models/" + id + "/artifacts",
		},
		Data: mlflow.LoggedModelData{Params: slices.Clone(body.Params)},
	}}
	st.models = append(st.models, made)
	return object{"model": made.view()}, nil
}

func (m *loggedModel) view() mlflow.LoggedModel {
	view := m.LoggedModel
	view.Info.Tags = slices.Clone(m.Info.Tags)
	view.Data.Params = slices.Clone(m.Data.Params)
	view.Data.Metrics = slices.Clone(m.Data.Metrics)
	return view
}

func (st *store) liveModels() []*loggedModel {
	return slices.DeleteFunc(slices.Clone(st.models), func(model *loggedModel) bool { return model.deleted })
}

// anyModel is the logged model, deleted or not: MLflow goes on changing deleted ones with 200.
func (st *store) anyModel(id string) (*loggedModel, error) {
	for _, model := range st.models {
		if model.Info.ModelID == id {
			return model, nil
		}
	}
	return nil, notFound(fmt.Sprintf("Logged model with ID '%s' not found.", id))
}

func (st *store) loggedModel(id string) (*loggedModel, error) {
	model, err := st.anyModel(id)
	if err == nil && model.deleted {
		return nil, notFound(fmt.Sprintf("Logged model with ID '%s' not found.", id))
	}
	return model, err
}

func (st *store) getLoggedModel(r *http.Request) (any, error) {
	model, err := st.loggedModel(r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	return object{"model": model.view()}, nil
}

func (st *store) searchLoggedModels(body searchBody) (any, error) {
	if len(body.ExperimentIDs) == 0 {
		return nil, invalid("Missing value for required parameter 'experiment_ids'.")
	}
	matches, err := matcher(body.Filter, "name", "source_run_id", "model_id", "status")
	if err != nil {
		return nil, err
	}
	var found []mlflow.LoggedModel
	for _, model := range slices.Backward(st.liveModels()) {
		info := model.Info
		attributes := map[string]string{
			"name": info.Name, "source_run_id": info.SourceRunID, "model_id": info.ModelID, "status": info.Status,
		}
		if slices.Contains(body.ExperimentIDs, info.ExperimentID) && matches(attributes, info.Tags) {
			found = append(found, model.view())
		}
	}
	return object{"models": found}, nil
}

func (st *store) finalizeLoggedModel(r *http.Request) (any, error) {
	return withBody(func(body mlflow.LoggedModelInfo) (any, error) {
		model, err := st.anyModel(r.PathValue("id"))
		if err != nil {
			return nil, err
		}
		model.Info.Status = body.Status
		return object{"model": model.view()}, nil
	})(r)
}

func (st *store) setLoggedModelTags(r *http.Request) (any, error) {
	return withBody(func(body mlflow.LoggedModelInfo) (any, error) {
		model, err := st.loggedModel(r.PathValue("id"))
		if err != nil {
			return nil, err
		}
		for _, tag := range body.Tags {
			model.Info.Tags = setTag(model.Info.Tags, tag)
		}
		return nil, nil
	})(r)
}

func (st *store) deleteLoggedModel(r *http.Request) (any, error) {
	model, err := st.anyModel(r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	model.deleted = true
	return nil, nil
}

// addVersionTag keeps what MLflow itself writes on a logged model that becomes a version.
func (m *loggedModel) addVersionTag(name string, number int) error {
	const key = "mlflow.modelVersions"
	type entry struct {
		Name    string `json:"name"`
		Version int    `json:"version"`
	}
	var entries []entry
	for _, tag := range m.Info.Tags {
		if tag.Key == key {
			if err := json.Unmarshal([]byte(tag.Value), &entries); err != nil {
				return err
			}
		}
	}
	text, err := json.Marshal(append(entries, entry{name, number}))
	if err != nil {
		return err
	}
	m.Info.Tags = setTag(m.Info.Tags, mlflow.Tag{Key: key, Value: string(text)})
	return nil
}
