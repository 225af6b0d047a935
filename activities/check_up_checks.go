package activities

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"registrar/config"
	"registrar/internal/confine"
	"registrar/internal/failure"
	"registrar/internal/mlflow"
	"registrar/internal/snapshot"
)

// project sees that the worker reads the same settings as the starter, and may write where decisions and receipts go.
func (u *checkUp) project(context.Context) Check {
	settings, server, err := u.load(LoadConfigInput{Project: Project{Root: u.in.Root}, Config: u.in.Config, Params: u.in.Params})
	switch {
	case isA[*confine.OutsideError](err), isA[*config.Error](err):
		return failed(err, "") // which says what to do
	case isAbsent(err):
		return failed(err, "run a worker on a machine that sees the project's folder under the same name")
	case err != nil:
		return failed(err, "let the worker's user read the project's folder")
	}
	u.settings, u.server = settings, server
	if difference := u.in.Settings.Difference(settings); difference != "" {
		return failed(errors.New("the worker reads other settings than the starter: "+difference), "give both the same folder")
	}
	if err := u.writable(); isA[*confine.OutsideError](err) {
		return failed(err, "")
	} else if err != nil {
		return warning(fmt.Sprintf("the worker may not write into %s (%v): the starter that waits for a registration writes its receipt", settings.RootDir, err),
			"let the worker's user write there: see Users in docs/operations.md")
	}
	if u.MinPolicy != nil {
		return ok("the worker reads the same settings, and judges model files by the policy " + u.MinPolicy.Mode + " at least (--min-pickle-policy)")
	}
	return ok("the worker reads the same settings")
}

func (u *checkUp) writable() error {
	dir, err := u.Roots.OpenRoot(u.in.Root)
	if err != nil {
		return err
	}
	defer dir.Close()
	rootDir, err := dir.Sub(u.settings.RootDir, false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // the starter makes it
	}
	if err != nil {
		return err
	}
	defer rootDir.Close()
	return snapshot.CheckWritable(rootDir)
}

// reach sends the first request. An answer that is about the credentials is left to their own check.
func (u *checkUp) reach(ctx context.Context) Check {
	var err error
	if u.client, err = u.mlflow(serverOf(u.server, u.in.Root)); err != nil {
		return failed(err, "correct the variable for the worker")
	}
	where := fmt.Sprintf("%s, from %s", u.server.URI, u.server.Origin)
	_, err = u.client.SearchExperiments(ctx, 1)
	kind, detail := kindOf(err)
	switch {
	case err == nil:
	case kind == failure.Unauthorized:
		u.refused = err
		return ok(where)
	default:
		return failed(err, u.remedyOf(err, detail))
	}
	if version, err := u.client.Version(ctx); err == nil && version != "" {
		where += ", version " + version
	}
	return ok(where)
}

// remedyOf is what to do about an MLflow server that gives no answer, or not the right one.
func (u *checkUp) remedyOf(err error, detail failure.Detail) string {
	switch detail.Layer {
	case "dns", "tcp":
		return "start MLflow, or correct its address in " + u.server.Origin
	case "tls":
		return "set MLFLOW_TRACKING_SERVER_CERT_PATH for the worker to the authority that signed the server's certificate"
	case "database":
		return "look at MLflow's database"
	}
	if remedy := strings.TrimPrefix(advice(err), ": "); remedy != "" {
		return remedy
	}
	return "look at MLflow's log, and at what stands before it"
}

func (u *checkUp) credentials(context.Context) Check {
	access, _, err := u.access(serverOf(u.server, u.in.Root))
	if err != nil {
		return failed(err, "")
	}
	const trust = "set MLFLOW_TRACKING_URI beside the credentials, or start the worker with --trust-host"
	switch {
	case u.refused != nil && access.Withheld != "":
		return failed(fmt.Errorf("%w; %s", u.refused, access.Withheld), trust)
	case u.refused != nil:
		return failed(u.refused, u.remedyOf(u.refused, failure.Detail{}))
	case access.Withheld != "":
		return warning(access.Withheld, trust)
	}
	return ok(access.String())
}

// experiment asks for permission by a tag without a key: MLflow judges the permission first, and then refuses the request for what is in
// it. An experiment that is not there could be made, but not be removed: MLflow keeps deleted ones, and their names.
func (u *checkUp) experiment(ctx context.Context) Check {
	name := u.settings.ExperimentName
	found, err := u.client.GetExperimentByName(ctx, name)
	if mlflow.IsNotFound(err) {
		return ok(fmt.Sprintf("%q is not there: the first registration makes it", name))
	}
	if err != nil {
		return u.denied(err)
	}
	u.location = found.ArtifactLocation
	if err := activeExperiment(found); err != nil {
		return failed(err, "")
	}
	if err := u.client.SetExperimentTag(ctx, found.ExperimentID, "", ""); err != nil && !mlflow.IsInvalid(err) {
		return u.denied(err)
	}
	return ok(fmt.Sprintf("%q, the worker may write to it", name))
}

// denied is the failure of a request that the server took, and refused.
func (u *checkUp) denied(err error) Check {
	_, detail := kindOf(err)
	return failed(err, u.remedyOf(err, detail))
}

const (
	// checkUpTag comes and goes on a registered model, whose times stay as they were. A check that was cut off leaves it to the next one.
	checkUpTag = "registrar.check_up"
	// checkUpName comes and goes in the registry, and as a file in the artifact store. It is always the same, so that at most one is left by
	// checks that were cut off; and nobody's: removing a registered model takes its versions along.
	checkUpName = "registrar-check-up"
)

// registry writes to the registered model, or makes another where there is none yet, and takes it back.
func (u *checkUp) registry(ctx context.Context) Check {
	name := u.settings.ModelName
	_, err := u.client.GetRegisteredModel(ctx, name)
	if err != nil && !mlflow.IsNotFound(err) {
		return u.denied(err)
	}
	there := err == nil
	write := func(ctx context.Context) error { return u.client.SetRegisteredModelTag(ctx, name, checkUpTag, "1") }
	remove := func(ctx context.Context) error { return u.client.DeleteRegisteredModelTag(ctx, name, checkUpTag) }
	detail, left := fmt.Sprintf("%q, the worker may write to it", name), "the tag "+checkUpTag
	if !there {
		write = func(ctx context.Context) error {
			_, err := u.client.CreateRegisteredModel(ctx, mlflow.CreateRegisteredModelRequest{Name: checkUpName, Description: "made and removed by `starter doctor`"})
			return err
		}
		remove = func(ctx context.Context) error { return u.client.DeleteRegisteredModel(ctx, checkUpName) }
		detail, left = fmt.Sprintf("%q is not there: the first registration makes it", name), "the registered model "+checkUpName
	}
	err = write(ctx)
	if err != nil && !mlflow.IsAlreadyExists(err) && !mlflow.OutcomeOpen(err) {
		return u.denied(err)
	}
	unremoved := cleanly(ctx, remove)
	switch {
	case err != nil && !mlflow.IsAlreadyExists(err):
		return u.denied(err)
	case unremoved != nil && !mlflow.IsNotFound(unremoved): // another check may have removed it
		return warning(fmt.Sprintf("%s stays: %v", left, unremoved), "remove it by hand")
	}
	return ok(detail)
}

// artifactStore writes a small file where the experiment's artifacts go, and deletes it. Deleting takes more rights than writing, so it is
// tried first, when there is nothing to delete: nothing is written that would stay.
func (u *checkUp) artifactStore(ctx context.Context) Check {
	if err := u.client.ArtifactStoreReachable(ctx); err != nil {
		return failed(&artifactStoreError{err}, "look at MLflow's artifact store; `mlflow server` needs --artifacts-destination, and no --no-serve-artifacts")
	}
	location := u.location
	if location == "" {
		location = "mlflow-artifacts:/"
	}
	remove := func(ctx context.Context) error { return u.client.DeleteArtifact(ctx, location, checkUpName) }
	if err := remove(ctx); errors.Is(err, mlflow.ErrArtifactsNotProxied) {
		return failed(err, "") // which says what to do
	} else if err != nil {
		return warning(fmt.Sprintf("it is there; writing was not tried, since what is written could not be deleted: %v", err), "")
	}
	const content = "written and deleted by starter doctor\n"
	err := u.client.UploadArtifact(ctx, location, checkUpName, int64(len(content)), strings.NewReader(content))
	if err != nil && !mlflow.OutcomeOpen(err) {
		return u.denied(&artifactStoreError{err})
	}
	unremoved := cleanly(ctx, remove)
	switch {
	case err != nil:
		return failed(&artifactStoreError{err}, "let MLflow's server write to its --artifacts-destination")
	case unremoved != nil:
		return warning(fmt.Sprintf("%s stays in %s: %v", checkUpName, location, unremoved), "delete it by hand")
	}
	return ok("the worker may write to " + location)
}
