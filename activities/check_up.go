package activities

import (
	"context"
	"time"

	"registrar/config"
	"registrar/internal/mlflow"
)

// Check is what became of one thing that a registration needs.
type Check struct {
	Name   string      `json:"check"`
	Status CheckStatus `json:"status"`
	// Detail says what was found, and Remedy what to do about it; both without secrets.
	Detail string `json:"detail,omitempty"`
	Remedy string `json:"remedy,omitempty"`
}

// CheckStatus says how a check went.
type CheckStatus string

// The ways that a check goes. A warning is for what keeps no registration from its end.
const (
	CheckOK      CheckStatus = "ok"
	CheckWarning CheckStatus = "warning"
	CheckFailed  CheckStatus = "failed"
	CheckSkipped CheckStatus = "skipped"
)

// The checks that the worker makes, in their order.
const (
	CheckProject       = "project"
	CheckMLflow        = "mlflow"
	CheckCredentials   = "credentials"
	CheckExperiment    = "experiment"
	CheckRegistry      = "registry"
	CheckArtifactStore = "artifact_store"
)

// WorkerChecks are the names of the checks that the worker makes, in their order.
func WorkerChecks() []string {
	return []string{CheckProject, CheckMLflow, CheckCredentials, CheckExperiment, CheckRegistry, CheckArtifactStore}
}

// CheckUpInput says which project is checked.
type CheckUpInput struct {
	Root   string `json:"root"`
	Config string `json:"config"`
	Params string `json:"params"`
	// Settings are what the starter reads in the project's files; the worker has to read the same.
	Settings config.Settings `json:"settings"`
}

// CheckUpResult has a check for each of WorkerChecks.
type CheckUpResult struct {
	Checks []Check `json:"checks"`
}

// CheckUp looks, where the credentials are, at what a registration of a project will need, and leaves nothing behind. What is amiss is in
// the result; there is no other error. May be repeated.
func (a *Activities) CheckUp(ctx context.Context, in CheckUpInput) (CheckUpResult, error) {
	defer heartbeats(ctx, nothing)()
	u := &checkUp{Activities: a, in: in}
	checks := map[string]func(context.Context) Check{
		CheckProject: u.project, CheckMLflow: u.reach, CheckCredentials: u.credentials,
		CheckExperiment: u.experiment, CheckRegistry: u.registry, CheckArtifactStore: u.artifactStore,
	}
	// What the others need; of the last three none needs another.
	needed := map[string]bool{CheckProject: true, CheckMLflow: true, CheckCredentials: true}
	var result CheckUpResult
	missing := ""
	for _, name := range WorkerChecks() {
		check := Check{Status: CheckSkipped, Detail: "needs " + missing}
		if missing == "" {
			check = within(ctx, checks[name])
		}
		check.Name = name
		result.Checks = append(result.Checks, check)
		if missing == "" && needed[name] && check.Status == CheckFailed {
			missing = name
		}
	}
	return result, nil
}

// checkWithin bounds a check: MLflow takes 20 s to say that its database is locked.
const checkWithin = 30 * time.Second

func within(ctx context.Context, check func(context.Context) Check) Check {
	ctx, cancel := context.WithTimeout(ctx, checkWithin)
	defer cancel()
	return check(ctx)
}

// cleanly removes what a check made, also where the check ran out of time.
func cleanly(ctx context.Context, remove func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), checkWithin)
	defer cancel()
	return remove(ctx)
}

func ok(detail string) Check { return Check{Status: CheckOK, Detail: detail} }

func warning(detail, remedy string) Check {
	return Check{Status: CheckWarning, Detail: detail, Remedy: remedy}
}

func failed(err error, remedy string) Check {
	return Check{Status: CheckFailed, Detail: err.Error(), Remedy: remedy}
}

// checkUp is one look at a project and its MLflow server, with what the checks found out for the later ones.
type checkUp struct {
	*Activities
	in       CheckUpInput
	settings config.Settings
	server   config.Server
	client   *mlflow.Client
	// refused is the answer to the first request where that was about the credentials.
	refused error
	// location is where the artifacts of the experiment go.
	location string
}
