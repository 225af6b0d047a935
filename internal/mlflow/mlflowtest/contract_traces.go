package mlflowtest

import (
	"net/http"

	"github.com/stretchr/testify/require"

	"registrar/internal/mlflow"
)

// What a check of permissions builds on: requests that prove something, and leave nothing behind.

func (c *contract) registeredModelDeleted() {
	name := c.newRegisteredModel()
	require.NoError(c, c.client.DeleteRegisteredModel(c.Context(), name))
	_, err := c.client.GetRegisteredModel(c.Context(), name)
	require.True(c, mlflow.IsNotFound(err), err)
	err = c.client.DeleteRegisteredModel(c.Context(), name)
	require.True(c, mlflow.IsNotFound(err), err)
}

func (c *contract) registeredModelTag() {
	name := c.newRegisteredModel()
	require.NoError(c, c.client.SetRegisteredModelTag(c.Context(), name, "contract.trace", "1"))
	tagged, err := c.client.GetRegisteredModel(c.Context(), name)
	require.NoError(c, err)
	require.Contains(c, tagged.Tags, mlflow.Tag{Key: "contract.trace", Value: "1"})

	require.NoError(c, c.client.DeleteRegisteredModelTag(c.Context(), name, "contract.trace"))
	require.NoError(c, c.client.DeleteRegisteredModelTag(c.Context(), name, "contract.trace"), "repeatable")
	after, err := c.client.GetRegisteredModel(c.Context(), name)
	require.NoError(c, err)
	require.Empty(c, after.Tags)
}

func (c *contract) experimentTagRefused() {
	id := c.newExperiment()
	err := c.client.SetExperimentTag(c.Context(), id, "", "")
	c.requireRefused(err, http.StatusBadRequest, "INVALID_PARAMETER_VALUE")
	require.True(c, mlflow.IsInvalid(err))
	experiment, err := c.client.GetExperiment(c.Context(), id)
	require.NoError(c, err)
	require.Empty(c, experiment.Tags)

	require.NoError(c, c.client.SetExperimentTag(c.Context(), id, "contract.tag", "1"))
	experiment, err = c.client.GetExperiment(c.Context(), id)
	require.NoError(c, err)
	require.Contains(c, experiment.Tags, mlflow.Tag{Key: "contract.tag", Value: "1"})
}

func (c *contract) artifactDeleted() {
	uri := c.newRun(c.newExperiment()).Info.ArtifactURI
	require.NoError(c, c.client.DeleteArtifact(c.Context(), uri, "absent"), "what is not there is no error")
	c.upload(uri, "kept", "a")
	c.upload(uri, "gone", "b")
	require.NoError(c, c.client.DeleteArtifact(c.Context(), uri, "gone"))
	files, err := c.client.ListArtifacts(c.Context(), uri, "")
	require.NoError(c, err)
	require.Equal(c, []mlflow.FileInfo{{Path: "kept", FileSize: 1}}, files)
	require.Error(c, c.client.DeleteArtifact(c.Context(), uri, ""), "never all of them")
}
