package mlflowtest

import (
	"io"
	"net/http"
	"path"
	"strings"

	"registrar/internal/mlflow"
)

const (
	api       = "/api/2.0/mlflow/"
	artifacts = "/api/2.0/mlflow-artifacts/artifacts"
)

// routes names every endpoint once.
func (s *Server) routes() *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /version", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "3.17.2") })
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, "<!doctype html><html lang=en><title>404 Not Found</title>")
	})
	handle := func(method, endpoint string, apply func(*http.Request) (any, error)) {
		s.handle(mux, method+" "+api+endpoint, apply)
	}
	st := &s.store

	handle("POST", "experiments/search", withBody(st.searchExperiments))
	handle("GET", "experiments/get-by-name", st.getExperimentByName)
	handle("GET", "experiments/get", st.getExperiment)
	handle("POST", "experiments/create", withBody(st.createExperiment))
	handle("POST", "experiments/set-experiment-tag", withBody(st.setExperimentTag))

	handle("POST", "runs/create", withBody(st.createRun))
	handle("GET", "runs/get", st.getRun)
	handle("POST", "runs/search", withBody(st.searchRuns))
	handle("POST", "runs/update", withBody(st.updateRun))
	handle("POST", "runs/delete", withBody(st.deleteRun))
	handle("POST", "runs/log-batch", withBody(st.logBatch))
	handle("POST", "runs/log-parameter", withBody(st.logParameter))
	handle("POST", "runs/set-tag", withBody(st.setRunTag))
	handle("POST", "runs/outputs", withBody(st.logOutputs))
	handle("POST", "runs/log-model", withBody(st.logModel))
	handle("GET", "metrics/get-history", st.metricHistory)

	handle("POST", "logged-models", withBody(st.createLoggedModel))
	handle("POST", "logged-models/search", withBody(st.searchLoggedModels))
	handle("GET", "logged-models/{id}", st.getLoggedModel)
	handle("PATCH", "logged-models/{id}", st.finalizeLoggedModel)
	handle("PATCH", "logged-models/{id}/tags", st.setLoggedModelTags)
	handle("DELETE", "logged-models/{id}", st.deleteLoggedModel)

	handle("POST", "registered-models/create", withBody(st.createRegisteredModel))
	handle("GET", "registered-models/get", st.getRegisteredModel)
	handle("GET", "registered-models/search", st.searchRegisteredModels)
	handle("DELETE", "registered-models/delete", withBody(st.deleteRegisteredModel))
	handle("POST", "registered-models/set-tag", withBody(st.setRegisteredModelTag))
	handle("DELETE", "registered-models/delete-tag", withBody(st.deleteRegisteredModelTag))
	handle("POST", "registered-models/alias", withBody(st.setAlias))
	handle("GET", "registered-models/alias", st.getByAlias)
	handle("POST", "model-versions/create", withBody(st.createModelVersion))
	handle("GET", "model-versions/get", st.getModelVersion)
	handle("GET", "model-versions/search", st.searchModelVersions)
	handle("PATCH", "model-versions/update", withBody(st.updateModelVersion))
	handle("DELETE", "model-versions/delete", withBody(st.deleteModelVersion))
	handle("POST", "model-versions/set-tag", withBody(st.setModelVersionTag))
	handle("POST", "model-versions/transition-stage", withBody(st.transitionStage))

	s.handle(mux, "PUT "+artifacts+"/{path...}", st.putArtifact)
	s.handle(mux, "DELETE "+artifacts+"/{path...}", st.deleteArtifact)
	s.handle(mux, "GET "+artifacts, st.listArtifacts)
	return mux
}

func (st *store) putArtifact(r *http.Request) (any, error) {
	content, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	st.artifacts[r.PathValue("path")] = content
	return nil, nil
}

func (st *store) deleteArtifact(r *http.Request) (any, error) {
	delete(st.artifacts, r.PathValue("path"))
	return nil, nil
}

// listArtifacts lists one folder; of a file, and of what is not there, it lists nothing.
func (st *store) listArtifacts(r *http.Request) (any, error) {
	folder := r.URL.Query().Get("path")
	if folder != "" && path.Clean("/"+folder) != "/"+folder {
		return nil, invalid("Invalid path")
	}
	found := map[string]mlflow.FileInfo{}
	for file, content := range st.artifacts {
		below, ok := strings.CutPrefix("/"+file, path.Join("/", folder)+"/")
		if folder == "" {
			below, ok = file, true
		}
		if !ok {
			continue
		}
		name, _, inFolder := strings.Cut(below, "/")
		info := mlflow.FileInfo{Path: name, IsDir: inFolder}
		if !inFolder {
			info.FileSize = int64(len(content))
		}
		found[name] = info
	}
	return object{"files": sortedValues(found)}, nil
}
