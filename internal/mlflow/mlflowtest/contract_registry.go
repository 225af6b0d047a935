package mlflowtest

import (
	"errors"
	"io"
	"net/http"
	"strings"

	"github.com/stretchr/testify/require"

	"registrar/internal/mlflow"
)

func (c *contract) loggedModelSearch() {
	experiment := c.newExperiment()
	run := c.newRun(experiment)
	first, second := c.newLoggedModel(experiment, run.Info.RunID), c.newLoggedModel(experiment, "")
	require.NotEqual(c, first.Info.ModelID, second.Info.ModelID, "nothing is idempotent")
	require.Equal(c, mlflow.LoggedModelPending, first.Info.Status)
	require.Regexp(c, `^m-[0-9a-f]{32}$`, first.Info.ModelID)
	require.Contains(c, first.Info.ArtifactURI, first.Info.ModelID)
	require.Equal(c, run.Info.RunID, first.Info.SourceRunID)
	require.NotZero(c, first.Info.CreationTimestamp)

	byTag, err := c.client.SearchLoggedModels(c.Context(), []string{experiment}, c.byKey())
	require.NoError(c, err)
	require.Len(c, byTag, 2)
	ofRun := c.filter(mlflow.AttributeIs("source_run_id", run.Info.RunID))
	byRun, err := c.client.SearchLoggedModels(c.Context(), []string{experiment}, ofRun)
	require.NoError(c, err)
	require.Len(c, byRun, 1)
	require.Equal(c, first.Info.ModelID, byRun[0].Info.ModelID)
	require.Equal(c, run.Info.RunID, byRun[0].Info.SourceRunID)
	_, err = c.client.SearchLoggedModels(c.Context(), nil, c.byKey())
	c.requireRefused(err, http.StatusBadRequest, "INVALID_PARAMETER_VALUE")
}

func (c *contract) loggedModelReady() {
	id := c.newLoggedModel(c.newExperiment(), "").Info.ModelID
	require.NoError(c, c.client.FinalizeLoggedModel(c.Context(), id, mlflow.LoggedModelReady))
	require.NoError(c, c.client.FinalizeLoggedModel(c.Context(), id, mlflow.LoggedModelReady), "repeatable")
	require.NoError(c, c.client.SetLoggedModelTags(c.Context(), id, []mlflow.Tag{{Key: "late", Value: "1"}}))
	model, err := c.client.GetLoggedModel(c.Context(), id)
	require.NoError(c, err)
	require.Equal(c, mlflow.LoggedModelReady, model.Info.Status)
	require.Contains(c, model.Info.Tags, mlflow.Tag{Key: "late", Value: "1"})
	require.Equal(c, []mlflow.Param{{Key: "depth", Value: "3"}}, model.Data.Params)
}

func (c *contract) loggedModelDeleted() {
	experiment := c.newExperiment()
	id := c.newLoggedModel(experiment, "").Info.ModelID
	require.NoError(c, c.client.DeleteLoggedModel(c.Context(), id))
	require.NoError(c, c.client.DeleteLoggedModel(c.Context(), id), "repeatable")
	_, err := c.client.GetLoggedModel(c.Context(), id)
	require.True(c, mlflow.IsNotFound(err), err)
	found, err := c.client.SearchLoggedModels(c.Context(), []string{experiment}, c.byKey())
	require.NoError(c, err)
	require.Empty(c, found)
}

func (c *contract) loggedModelZombie() {
	experiment := c.newExperiment()
	run := c.newRun(experiment)
	id := c.newLoggedModel(experiment, run.Info.RunID).Info.ModelID
	require.NoError(c, c.client.DeleteLoggedModel(c.Context(), id))
	require.NoError(c, c.client.FinalizeLoggedModel(c.Context(), id, mlflow.LoggedModelReady))
	require.NoError(c, c.client.LogOutputs(c.Context(), run.Info.RunID, []mlflow.ModelOutput{{ModelID: id}}))
	_, err := c.client.GetLoggedModel(c.Context(), id)
	require.True(c, mlflow.IsNotFound(err), err)
}

func (c *contract) registeredModelTaken() {
	name := c.newRegisteredModel()
	_, err := c.client.CreateRegisteredModel(c.Context(), mlflow.CreateRegisteredModelRequest{Name: name})
	require.True(c, mlflow.IsAlreadyExists(err), err)
	c.requireRefused(err, http.StatusBadRequest, "RESOURCE_ALREADY_EXISTS")
	found, err := c.client.SearchRegisteredModels(c.Context(), c.filter(mlflow.AttributeIs("name", name)))
	require.NoError(c, err)
	require.Len(c, found, 1)
}

func (c *contract) versionOfPending() {
	name := c.newRegisteredModel()
	model := c.newLoggedModel(c.newExperiment(), "")
	version := c.newVersion(name, model.Info.ModelID)
	require.Equal(c, "1", version.Version)
	require.Equal(c, mlflow.VersionReady, version.Status)
	require.Equal(c, mlflow.StageNone, version.CurrentStage)
	require.Equal(c, "models:/"+model.Info.ModelID, version.Source)
	require.NotZero(c, version.CreationTimestamp)

	for what, filter := range map[string]string{
		"name and tag": c.filter(mlflow.AttributeIs("name", name), mlflow.TagIs("contract.key", c.unique)),
		"tag":          c.byKey(),
		"source":       c.filter(mlflow.AttributeIs("source_path", "models:/"+model.Info.ModelID)),
	} {
		found, err := c.client.SearchModelVersions(c.Context(), filter)
		require.NoError(c, err, what)
		require.Len(c, found, 1, what)
		require.Equal(c, version.Source, found[0].Source, what)
	}
	model, err := c.client.GetLoggedModel(c.Context(), model.Info.ModelID)
	require.NoError(c, err)
	require.Contains(c, model.Info.Tags, mlflow.Tag{Key: "contract.key", Value: c.unique})
	for _, tag := range model.Info.Tags {
		if tag.Key == "mlflow.modelVersions" {
			require.JSONEq(c, `[{"name": "`+name+`", "version": 1}]`, tag.Value)
			return
		}
	}
	require.Fail(c, "the server has not written mlflow.modelVersions")
}

func (c *contract) versionTwice() {
	name := c.newRegisteredModel()
	model := c.newLoggedModel(c.newExperiment(), "").Info.ModelID
	require.Equal(c, "1", c.newVersion(name, model).Version)
	require.Equal(c, "2", c.newVersion(name, model).Version, "nothing is idempotent")
}

func (c *contract) versionFenced() {
	name := c.newRegisteredModel()
	model := c.newLoggedModel(c.newExperiment(), "").Info.ModelID
	require.NoError(c, c.client.DeleteLoggedModel(c.Context(), model))
	_, err := c.client.CreateModelVersion(c.Context(), mlflow.CreateModelVersionRequest{
		Name: name, Source: "models:/" + model, ModelID: model,
	})
	c.requireRefused(err, http.StatusInternalServerError, "INTERNAL_ERROR")
	found, err := c.client.SearchModelVersions(c.Context(), c.filter(mlflow.AttributeIs("name", name)))
	require.NoError(c, err)
	require.Empty(c, found)
}

func (c *contract) versionIncomplete() {
	name := c.newRegisteredModel()
	model := c.newLoggedModel(c.newExperiment(), "").Info.ModelID
	_, err := c.client.CreateModelVersion(c.Context(), mlflow.CreateModelVersionRequest{Name: name, Source: "models:/" + model})
	c.requireRefused(err, http.StatusBadRequest, "INVALID_PARAMETER_VALUE")
	_, err = c.client.CreateModelVersion(c.Context(), mlflow.CreateModelVersionRequest{
		Name: "absent " + c.unique, Source: "models:/" + model, ModelID: model,
	})
	c.requireRefused(err, http.StatusNotFound, "RESOURCE_DOES_NOT_EXIST")
}

func (c *contract) versionOfRunArtifacts() {
	run := c.newRun(c.newExperiment())
	source := run.Info.ArtifactURI + "/model"
	version, err := c.client.CreateModelVersion(c.Context(), mlflow.CreateModelVersionRequest{
		Name: c.newRegisteredModel(), Source: source, RunID: run.Info.RunID, Description: "text",
	})
	require.NoError(c, err)
	require.Equal(c, source, version.Source)
	require.Equal(c, run.Info.RunID, version.RunID)
	require.Equal(c, "text", version.Description)
}

func (c *contract) versionDeleted() {
	name := c.newRegisteredModel()
	model := c.newLoggedModel(c.newExperiment(), "").Info.ModelID
	c.newVersion(name, model)
	c.newVersion(name, model)
	require.NoError(c, c.client.SetRegisteredModelAlias(c.Context(), name, "staging", "2"))
	require.NoError(c, c.client.DeleteModelVersion(c.Context(), name, "2"))

	err := c.client.DeleteModelVersion(c.Context(), name, "2")
	require.True(c, mlflow.IsNotFound(err), err)
	found, err := c.client.SearchModelVersions(c.Context(), c.byKey())
	require.NoError(c, err)
	require.Len(c, found, 1)
	registered, err := c.client.GetRegisteredModel(c.Context(), name)
	require.NoError(c, err)
	require.Empty(c, registered.Aliases)
	require.Equal(c, "3", c.newVersion(name, model).Version, "the number of a deleted version is not given again")
}

func (c *contract) versionDescribed() {
	name := c.newRegisteredModel()
	c.newVersion(name, c.newLoggedModel(c.newExperiment(), "").Info.ModelID)
	require.NoError(c, c.client.UpdateModelVersion(c.Context(), name, "1", "**why** <it> passed"))
	require.NoError(c, c.client.SetModelVersionTag(c.Context(), name, "1", "contract.completed", "1"))
	require.NoError(c, c.client.SetModelVersionTag(c.Context(), name, "1", "contract.completed", "2"), "overwrites")
	version, err := c.client.GetModelVersion(c.Context(), name, "1")
	require.NoError(c, err)
	require.Equal(c, "**why** <it> passed", version.Description)
	require.Contains(c, version.Tags, mlflow.Tag{Key: "contract.completed", Value: "2"})
}

func (c *contract) versionsNewest() {
	name := c.newRegisteredModel()
	model := c.newLoggedModel(c.newExperiment(), "").Info.ModelID
	for range 11 {
		c.newVersion(name, model)
	}
	// What was touched last is not what is newest, and 10 is more than 9 though its text is less.
	require.NoError(c, c.client.TransitionModelVersionStage(c.Context(), name, "3", mlflow.StageArchived, false))
	filter := c.filter(mlflow.AttributeIs("name", name))
	for limit, want := range map[int][]string{2: {"11", "10"}, 20: {"11", "10", "9", "8", "7", "6", "5", "4", "3", "2", "1"}} {
		found, err := c.client.NewestModelVersions(c.Context(), filter, limit)
		require.NoError(c, err)
		var numbers []string
		for _, version := range found {
			numbers = append(numbers, version.Version)
		}
		require.Equal(c, want, numbers)
	}
}

func (c *contract) alias() {
	name := c.newRegisteredModel()
	model := c.newLoggedModel(c.newExperiment(), "").Info.ModelID
	c.newVersion(name, model)
	c.newVersion(name, model)
	require.NoError(c, c.client.SetRegisteredModelAlias(c.Context(), name, "staging", "1"))
	require.NoError(c, c.client.SetRegisteredModelAlias(c.Context(), name, "staging", "2"))

	version, err := c.client.GetModelVersionByAlias(c.Context(), name, "staging")
	require.NoError(c, err)
	require.Equal(c, "2", version.Version)
	require.Equal(c, []string{"staging"}, version.Aliases)
	first, err := c.client.GetModelVersion(c.Context(), name, "1")
	require.NoError(c, err)
	require.Empty(c, first.Aliases)
	registered, err := c.client.GetRegisteredModel(c.Context(), name)
	require.NoError(c, err)
	require.Equal(c, []mlflow.Alias{{Alias: "staging", Version: "2"}}, registered.Aliases)
	found, err := c.client.SearchModelVersions(c.Context(), c.byKey())
	require.NoError(c, err)
	for _, version := range found {
		require.Empty(c, version.Aliases, "a search leaves aliases out")
	}
}

func (c *contract) aliasRefused() {
	name := c.newRegisteredModel()
	c.newVersion(name, c.newLoggedModel(c.newExperiment(), "").Info.ModelID)
	for _, reserved := range []string{"latest", "v1"} {
		c.requireRefused(c.client.SetRegisteredModelAlias(c.Context(), name, reserved, "1"),
			http.StatusBadRequest, "INVALID_PARAMETER_VALUE")
	}
	_, err := c.client.GetModelVersionByAlias(c.Context(), name, "staging")
	c.requireRefused(err, http.StatusBadRequest, "INVALID_PARAMETER_VALUE")
}

// stages are the stages of all versions, by number.
func (c *contract) stages(name string) map[string]string {
	c.Helper()
	found, err := c.client.SearchModelVersions(c.Context(), c.filter(mlflow.AttributeIs("name", name)))
	require.NoError(c, err)
	stages := map[string]string{}
	for _, version := range found {
		stages[version.Version] = version.CurrentStage
	}
	return stages
}

func (c *contract) stage() {
	name := c.newRegisteredModel()
	model := c.newLoggedModel(c.newExperiment(), "").Info.ModelID
	c.newVersion(name, model)
	c.newVersion(name, model)
	for _, version := range []string{"1", "2", "2"} {
		require.NoError(c, c.client.TransitionModelVersionStage(c.Context(), name, version, "Staging", false))
	}
	require.Equal(c, map[string]string{"1": "Staging", "2": "Staging"}, c.stages(name))
	registered, err := c.client.GetRegisteredModel(c.Context(), name)
	require.NoError(c, err)
	require.Len(c, registered.LatestVersions, 1)
	require.Equal(c, "2", registered.LatestVersions[0].Version, "a stage means its highest version")

	require.NoError(c, c.client.TransitionModelVersionStage(c.Context(), name, "1", mlflow.StageArchived, false))
	require.Equal(c, map[string]string{"1": mlflow.StageArchived, "2": "Staging"}, c.stages(name))
	c.requireRefused(c.client.TransitionModelVersionStage(c.Context(), name, "1", "Nowhere", false),
		http.StatusBadRequest, "INVALID_PARAMETER_VALUE")
}

func (c *contract) stageArchive() {
	name := c.newRegisteredModel()
	model := c.newLoggedModel(c.newExperiment(), "").Info.ModelID
	for range 3 {
		c.newVersion(name, model)
	}
	require.NoError(c, c.client.TransitionModelVersionStage(c.Context(), name, "1", "Staging", false))
	require.NoError(c, c.client.TransitionModelVersionStage(c.Context(), name, "3", "Staging", false))
	require.NoError(c, c.client.TransitionModelVersionStage(c.Context(), name, "2", "Staging", true))
	require.Equal(c, map[string]string{"1": mlflow.StageArchived, "2": "Staging", "3": mlflow.StageArchived}, c.stages(name))
}

func (c *contract) upload(artifactURI, file, content string) {
	c.Helper()
	require.NoError(c, c.client.UploadArtifact(c.Context(), artifactURI, file, int64(len(content)), strings.NewReader(content)))
}

func (c *contract) artifacts() {
	uri := c.newLoggedModel(c.newExperiment(), "").Info.ArtifactURI
	require.NoError(c, c.client.ArtifactStoreReachable(c.Context()))
	files, err := c.client.ListArtifacts(c.Context(), uri, "")
	require.NoError(c, err)
	require.Empty(c, files)

	c.upload(uri, "MLmodel", "hello")
	c.upload(uri, "empty", "")
	c.upload(uri, "code/load er%.py", "pass")
	c.upload(uri, "large", strings.Repeat("x", 3<<20))
	files, err = c.client.ListArtifacts(c.Context(), uri, "")
	require.NoError(c, err)
	require.ElementsMatch(c, []mlflow.FileInfo{
		{Path: "MLmodel", FileSize: 5}, {Path: "empty"}, {Path: "code", IsDir: true}, {Path: "large", FileSize: 3 << 20},
	}, files)
	files, err = c.client.ListArtifacts(c.Context(), uri, "code")
	require.NoError(c, err)
	require.Equal(c, []mlflow.FileInfo{{Path: "code/load er%.py", FileSize: 4}}, files)
	files, err = c.client.ListArtifacts(c.Context(), uri, "MLmodel")
	require.NoError(c, err)
	require.Empty(c, files, "a file is no folder")
}

func (c *contract) artifactsOverwritten() {
	uri := c.newRun(c.newExperiment()).Info.ArtifactURI
	c.upload(uri, "model/MLmodel", "first")
	c.upload(uri, "model/MLmodel", "the second")
	files, err := c.client.ListArtifacts(c.Context(), uri, "model")
	require.NoError(c, err)
	require.Equal(c, []mlflow.FileInfo{{Path: "model/MLmodel", FileSize: 10}}, files)
}

func (c *contract) artifactsBroken() {
	uri := c.newRun(c.newExperiment()).Info.ArtifactURI
	c.upload(uri, "model.pkl", "whole")
	broken := errors.New("disk gone")
	body := io.MultiReader(strings.NewReader(strings.Repeat("x", 2<<20)), &failingReader{broken})
	err := c.client.UploadArtifact(c.Context(), uri, "model.pkl", 4<<20, body)
	require.ErrorIs(c, err, broken)
	files, err := c.client.ListArtifacts(c.Context(), uri, "")
	require.NoError(c, err)
	require.Equal(c, []mlflow.FileInfo{{Path: "model.pkl", FileSize: 5}}, files)
}

type failingReader struct{ err error }

func (r *failingReader) Read([]byte) (int, error) { return 0, r.err }

func (c *contract) filterValues() {
	value := "prod/register/Ünsal's AND (50% of; a=b, c): " + c.unique
	_, err := mlflow.Filter(mlflow.TagIs("contract.owner", value))
	require.Error(c, err, "a quote cannot be searched for")
	value = strings.ReplaceAll(value, "'", "")
	owner := []mlflow.Tag{{Key: "contract.owner", Value: value}}
	filter := c.filter(mlflow.TagIs("contract.owner", value), mlflow.TagIs("contract.owner", value))

	experiment := c.newExperiment()
	_, err = c.client.CreateRun(c.Context(), mlflow.CreateRunRequest{ExperimentID: experiment, Tags: owner})
	require.NoError(c, err)
	runs, err := c.client.SearchAllRuns(c.Context(), []string{experiment}, filter)
	require.NoError(c, err)
	require.Len(c, runs, 1)

	model, err := c.client.CreateLoggedModel(c.Context(), mlflow.CreateLoggedModelRequest{
		ExperimentID: experiment, Name: "model", Tags: owner,
	})
	require.NoError(c, err)
	models, err := c.client.SearchLoggedModels(c.Context(), []string{experiment}, filter)
	require.NoError(c, err)
	require.Len(c, models, 1)

	id := model.Info.ModelID
	_, err = c.client.CreateModelVersion(c.Context(), mlflow.CreateModelVersionRequest{
		Name: c.newRegisteredModel(), Source: "models:/" + id, ModelID: id, Tags: owner,
	})
	require.NoError(c, err)
	versions, err := c.client.SearchModelVersions(c.Context(), filter)
	require.NoError(c, err)
	require.Len(c, versions, 1)
}

func (c *contract) filterUnknown() {
	_, err := c.client.SearchModelVersions(c.Context(), c.filter(mlflow.AttributeIs("nonsense", "1")))
	c.requireRefused(err, http.StatusBadRequest, "INVALID_PARAMETER_VALUE")
}
