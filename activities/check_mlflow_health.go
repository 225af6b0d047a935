package activities

import (
	"context"

	"registrar/internal/failure"
	"registrar/internal/mlflow"
)

// CheckMLflowHealthInput names the server to look at.
type CheckMLflowHealthInput struct {
	Server Server `json:"server"`
}

// CheckMLflowHealthResult is what the server can do.
type CheckMLflowHealthResult struct {
	// Version is what the server says of itself, such as 3.17.2; empty where it does not tell.
	Version string `json:"version,omitempty"`
	// LoggedModels tells whether the server has logged models; MLflow 2 has none, and gets the older layout.
	LoggedModels bool `json:"logged_models"`
}

// CheckMLflowHealth reads what a registration will need: the tracking database and the proxied artifact store. The registry is what LookUp reads
// next. It does not ask /health, which answers OK with the database locked. It changes nothing.
func (a *Activities) CheckMLflowHealth(ctx context.Context, in CheckMLflowHealthInput) (CheckMLflowHealthResult, error) {
	defer heartbeats(ctx, nothing)()
	result, err := a.health(ctx, in.Server)
	return result, classify(ctx, err)
}

func (a *Activities) health(ctx context.Context, server Server) (CheckMLflowHealthResult, error) {
	var result CheckMLflowHealthResult
	client, err := a.mlflow(server)
	if err != nil {
		return result, err
	}
	if result.LoggedModels, err = tracks(ctx, client); err != nil {
		return result, err
	}
	// A server that hides its version is served all the same: the version only names the writer in MLmodel. One that cannot answer now is
	// asked again.
	version, err := client.Version(ctx)
	if kind, _ := kindOf(err); err != nil && kind == failure.Outage {
		return result, err
	}
	result.Version = version
	return result, nil
}

// serves tells, by an error, that a server cannot serve a registration: tracking, artifacts or registry.
func (a *Activities) serves(ctx context.Context, server Server) error {
	client, err := a.mlflow(server)
	if err != nil {
		return err
	}
	if _, err := tracks(ctx, client); err != nil {
		return err
	}
	// A name that no registry has: the answer is small, and asks the database all the same.
	if _, err := client.GetRegisteredModel(ctx, "registrar health check"); !mlflow.IsNotFound(err) {
		return err
	}
	return nil
}

// tracks sees that the tracking database and the artifact store answer, and whether the server has logged models.
func tracks(ctx context.Context, client *mlflow.Client) (loggedModels bool, err error) {
	if loggedModels, err = hasLoggedModels(ctx, client); err != nil {
		return false, err
	}
	if err := client.ArtifactStoreReachable(ctx); err != nil {
		return false, &artifactStoreError{err}
	}
	return loggedModels, nil
}

// hasLoggedModels asks for a logged model that is nobody's: a server that knows logged models looks for it in its database, and says so in MLflow's
// JSON; one without them answers 404 with a page. So does an ingress whose MLflow has just gone, so another request must succeed after it.
func hasLoggedModels(ctx context.Context, client *mlflow.Client) (bool, error) {
	_, err := client.GetLoggedModel(ctx, "m-00000000000000000000000000000000")
	switch {
	case mlflow.IsEndpointMissing(err):
		_, err := client.SearchExperiments(ctx, 1)
		return false, err
	case err == nil, mlflow.IsNotFound(err):
		return true, nil
	}
	return false, err
}
