package activities

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"path"
	"slices"
	"sync/atomic"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"

	"registrar/internal/failure"
	"registrar/internal/mlflow"
	"registrar/internal/mlmodel"
	"registrar/internal/modelfile"
	"registrar/internal/snapshot"
)

// metricsPerBatch is how many metrics of a logged model MLflow takes a second time in one request: it finds those that are there already by 100, and
// refuses what has more (mlflow/store/tracking/sqlalchemy_store.py, _log_model_metrics). So a repeated attempt may send each batch again. It is
// far below the limit of 1000 for metrics, params and tags together (mlflow/utils/validation.py, MAX_ENTITIES_PER_BATCH).
const metricsPerBatch = 100

// loggedModelName is what log_model of the official client calls a model that is given no name of its own.
const loggedModelName = "model"

// UploadModelInput says which files go where. LoggedAt is fixed by the workflow once: MLflow tells two metrics of one key apart by
// their time, so that a repeated attempt with the same time adds nothing.
type UploadModelInput struct {
	Server  Server       `json:"server"`
	Project Project      `json:"project"`
	Owner   Owner        `json:"owner"`
	Run     LogRunResult `json:"run"`
	// Model is what the file says of itself.
	Model        modelfile.Info `json:"model"`
	LoggedModels bool           `json:"logged_models"`
	// MLflowVersion is the server's, for which MLmodel is written.
	MLflowVersion string `json:"mlflow_version,omitempty"`
	PredictFn     string `json:"predict_fn"`
	// Layout and Signature are the settings of the same names.
	Layout      string            `json:"layout,omitempty"`
	Signature   string            `json:"signature,omitempty"`
	Environment map[string]string `json:"environment,omitempty"`
	// EnvironmentFile is the extra file that tells versions; empty for none.
	EnvironmentFile string    `json:"environment_file,omitempty"`
	LoggedAt        time.Time `json:"logged_at"`
	// Condemned are logged models of this generation that shall have no version: never adopted.
	Condemned []string `json:"condemned,omitempty"`
	// First says that this generation has not asked for a logged model before, so that a first attempt has nothing to look for.
	First bool `json:"first,omitempty"`
}

// UploadModelResult is the logged model, complete and READY.
type UploadModelResult struct {
	ModelID string `json:"model_id,omitempty"` // empty on servers without logged models
	// Source is what the version is made from: models:/<model id>, or the folder of the run.
	Source string `json:"source"`
	// SizeBytes is what was uploaded in all.
	SizeBytes int64 `json:"size_bytes"`
	// Unpinned are packages of the model's environment whose version neither file nor setting tells.
	Unpinned []string `json:"unpinned,omitempty"`
	// Doubtful tells that an earlier attempt, also one before a wait, may have made another logged model.
	Doubtful bool `json:"doubtful,omitempty"`
}

// UploadModel makes the logged model of this generation, or adopts the one that an earlier attempt made, logs the run's params, and the metrics on
// both, uploads the files while their digests are checked, sees that all are there, and declares it READY (protocol step mklm).
// May be repeated: files are written over, the same metrics at the same time are one.
func (a *Activities) UploadModel(ctx context.Context, in UploadModelInput) (UploadModelResult, error) {
	client, err := a.mlflow(in.Server)
	if err != nil {
		return UploadModelResult{}, classify(ctx, err)
	}
	folder, err := a.folder(in.Project)
	if err != nil {
		return UploadModelResult{}, classify(ctx, err)
	}
	defer folder.Close()
	ctx, stop := untilWorkerStops(ctx)
	defer stop()
	u := &upload{in: in, client: client, folder: folder, parts: a.partBytesFor(in.Server), isRunning: a.isRunning}
	defer heartbeats(ctx, u.progress)()
	result, err := u.run(ctx)
	if err != nil {
		id, _ := u.modelID.Load().(string)
		return UploadModelResult{}, naming(id, u.ended(ctx, classify(ctx, u.orDeleted(ctx, err))))
	}
	result.Doubtful = !isFirstAttempt(ctx, in.First)
	return result, nil
}

// orDeleted is a refusal, or that the run was deleted where that is why: MLflow keeps a deleted run for a while, and answers 400 to what changes it.
func (u *upload) orDeleted(ctx context.Context, refused error) error {
	if !mlflow.IsInvalid(refused) {
		return refused
	}
	run, err := u.client.GetRun(ctx, u.in.Run.RunID)
	if err != nil || run.Info.LifecycleStage != mlflow.LifecycleDeleted {
		return refused
	}
	return &deletedRunError{refused}
}

// deletedRunError: somebody deleted the run. Another one is made.
type deletedRunError struct{ err error }

func (e *deletedRunError) Error() string { return "the run was deleted: " + e.err.Error() }

func (e *deletedRunError) Unwrap() error { return e.err }

// ended gives up an upload in parts that no other attempt will go on with: it was canceled, failed for good, or its execution was terminated.
func (u *upload) ended(ctx context.Context, err error) error {
	if temporal.IsCanceledError(err) || isFinal(err) || u.isOrphaned(ctx) {
		_ = endParts(ctx, u.client, u.folder, u.in.Run.RunID) // who ends the run, or registers these files again, tries once more
	}
	return err
}

// isOrphaned tells whether the execution that the attempt is for has ended without it. That Temporal does not know the attempt any more is no proof: where
// this worker was frozen, another one goes on.
func (u *upload) isOrphaned(ctx context.Context) bool {
	if !isNotFound(context.Cause(ctx)) {
		return false
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	execution := activity.GetInfo(ctx).WorkflowExecution
	running, err := u.isRunning(ctx, execution.ID, execution.RunID)
	return err == nil && !running
}

// naming tells the workflow of the logged model that an upload leaves when it ends without success, so that it is fenced at once.
func naming(modelID string, err error) error {
	if modelID == "" {
		return err
	}
	if temporal.IsCanceledError(err) {
		return temporal.NewCanceledError(failure.Detail{ModelID: modelID})
	}
	if failed, ok := errors.AsType[*temporal.ApplicationError](err); ok && failed.NonRetryable() {
		return detailed(err, func(detail *failure.Detail) { detail.ModelID = modelID })
	}
	return err
}

// upload is one attempt.
type upload struct {
	in     UploadModelInput
	client *mlflow.Client
	folder frozen
	parts  int64 // the smallest size of a part; 0 where files are sent whole

	isRunning func(ctx context.Context, workflowID, runID string) (bool, error)

	modelID     atomic.Value // string
	done, total atomic.Int64
}

func (u *upload) progress() any {
	id, _ := u.modelID.Load().(string)
	return Progress{Done: u.done.Load(), Total: u.total.Load(), ModelID: id}
}

func (u *upload) run(ctx context.Context) (UploadModelResult, error) {
	target, err := u.target(ctx)
	if err != nil {
		return UploadModelResult{}, err
	}
	if err := u.logParamsAndMetrics(ctx, target); err != nil {
		return UploadModelResult{}, err
	}
	spec, err := u.spec(target)
	if err != nil {
		return UploadModelResult{}, err
	}
	files, err := mlmodel.Files(spec)
	if err != nil {
		return UploadModelResult{}, err
	}
	if err := u.send(ctx, target, files); err != nil {
		return UploadModelResult{}, err
	}
	if err := u.verify(ctx, target, files); err != nil {
		return UploadModelResult{}, err
	}
	if err := u.declareReady(ctx, target, spec); err != nil {
		return UploadModelResult{}, err
	}
	return UploadModelResult{
		ModelID:   target.modelID,
		Source:    target.source,
		SizeBytes: u.total.Load(),
		Unpinned:  mlmodel.Unknown(spec),
	}, nil
}

// target is where the files go.
type target struct {
	modelID     string // of the logged model; empty on servers without them
	artifactURI string // the folder that the files go to
	source      string
}

func (u *upload) target(ctx context.Context) (target, error) {
	if !u.in.LoggedModels {
		uri := u.in.Run.ArtifactURI + "/" + mlmodel.RunArtifactPath
		return target{artifactURI: uri, source: uri}, nil
	}
	model, err := u.adoptedLoggedModel(ctx)
	if err != nil {
		return target{}, err
	}
	adopted := model != nil
	if !adopted {
		if model, err = u.createLoggedModel(ctx); err != nil {
			return target{}, err
		}
	}
	u.modelID.Store(model.Info.ModelID)
	if err := u.linkToRun(ctx, model.Info.ModelID, adopted); err != nil {
		return target{}, err
	}
	return target{modelID: model.Info.ModelID, artifactURI: model.Info.ArtifactURI, source: "models:/" + model.Info.ModelID}, nil
}

// adoptedLoggedModel is the one that an earlier attempt made of this run, in its experiment; nil where there is none. What was made of another run, which
// somebody deleted, would lead to a run that is gone: it is left to the sweep. Only where it has a version already, which the history forgot, is it taken,
// so that RegisterVersion finds that one.
func (u *upload) adoptedLoggedModel(ctx context.Context) (*mlflow.LoggedModel, error) {
	if isFirstAttempt(ctx, u.in.First) {
		return nil, nil
	}
	models, err := loggedModelsOf(ctx, u.client, u.in.Owner, experiments{{ExperimentID: u.in.Run.ExperimentID}})
	if err != nil {
		return nil, err
	}
	models = slices.DeleteFunc(models, func(m mlflow.LoggedModel) bool {
		return !isOfGeneration(m.Info.Tags, u.in.Owner) || slices.Contains(u.in.Condemned, m.Info.ModelID)
	})
	for i, m := range models {
		if m.Info.SourceRunID == u.in.Run.RunID {
			return &models[i], nil
		}
	}
	for i, m := range models {
		versions, err := versionsFrom(ctx, u.client, u.in.Owner, "models:/"+m.Info.ModelID)
		if len(versions) > 0 || err != nil {
			return &models[i], err
		}
	}
	return nil, nil
}

func (u *upload) createLoggedModel(ctx context.Context) (*mlflow.LoggedModel, error) {
	params, _ := u.params()
	model, err := u.client.CreateLoggedModel(ctx, mlflow.CreateLoggedModelRequest{
		ExperimentID: u.in.Run.ExperimentID,
		Name:         loggedModelName,
		SourceRunID:  u.in.Run.RunID,
		Params:       params,
		Tags:         append(ownerTags(u.in.Owner), sourceTags(u.folder.Request())...),
	})
	return &model, err
}

// linkToRun makes the logged model an output of the run. MLflow refuses to be told twice, so for one that was adopted it is asked first, and asked
// again where it refuses: what an earlier attempt sent may have arrived in between.
func (u *upload) linkToRun(ctx context.Context, modelID string, adopted bool) error {
	if adopted {
		if linked, err := u.isLinked(ctx, modelID); linked || err != nil {
			return err
		}
	}
	refused := u.client.LogOutputs(ctx, u.in.Run.RunID, []mlflow.ModelOutput{{ModelID: modelID}})
	if refused == nil {
		return nil
	}
	if linked, err := u.isLinked(ctx, modelID); err == nil && linked {
		return nil
	}
	return refused
}

func (u *upload) isLinked(ctx context.Context, modelID string) (bool, error) {
	run, err := u.client.GetRun(ctx, u.in.Run.RunID)
	if err != nil {
		return false, err
	}
	for _, output := range run.Outputs.ModelOutputs {
		if output.ModelID == modelID {
			return true, nil
		}
	}
	return false, nil
}

// logParamsAndMetrics puts the params on the run, and every number of metrics.json on the run and, by the model id, on the logged model.
func (u *upload) logParamsAndMetrics(ctx context.Context, t target) error {
	metrics, err := readMetrics(u.folder)
	if err != nil {
		return err
	}
	var batch []mlflow.Metric
	for _, m := range metrics.Numbers() {
		batch = append(batch, mlflow.Metric{Key: m.Name, Value: m.Value, Timestamp: u.in.LoggedAt.UnixMilli(), ModelID: t.modelID})
	}
	if batch, err = u.withoutLoggedNaN(ctx, batch); err != nil {
		return err
	}
	params, more := u.params()
	first := batch[:min(len(batch), metricsPerBatch)]
	if err := u.client.LogBatch(ctx, mlflow.LogBatchRequest{RunID: u.in.Run.RunID, Params: params, Metrics: first}); err != nil {
		return err
	}
	for metrics := range slices.Chunk(batch[len(first):], metricsPerBatch) {
		if err := u.client.LogBatch(ctx, mlflow.LogBatchRequest{RunID: u.in.Run.RunID, Metrics: metrics}); err != nil {
			return err
		}
	}
	for params := range slices.Chunk(more, paramsPerBatch) {
		if err := u.client.LogBatch(ctx, mlflow.LogBatchRequest{RunID: u.in.Run.RunID, Params: params}); err != nil {
			return err
		}
	}
	return nil
}

// withoutLoggedNaN leaves out each NaN that the run has from an earlier attempt. MLflow before 3.17 finds what is repeated by its value (_log_metrics of
// mlflow/store/tracking/sqlalchemy_store.py): it does not find NaN, which equals nothing, inserts it again, and answers 400.
func (u *upload) withoutLoggedNaN(ctx context.Context, metrics []mlflow.Metric) ([]mlflow.Metric, error) {
	if isFirstAttempt(ctx, u.in.First) || !slices.ContainsFunc(metrics, isNaN) {
		return metrics, nil
	}
	run, err := u.client.GetRun(ctx, u.in.Run.RunID)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(metrics, func(m mlflow.Metric) bool {
		return isNaN(m) && slices.ContainsFunc(run.Data.Metrics, func(logged mlflow.Metric) bool {
			return logged.Key == m.Key && logged.Timestamp == m.Timestamp && isNaN(logged)
		})
	}), nil
}

func isNaN(m mlflow.Metric) bool { return math.IsNaN(m.Value) }

// params are those of the run and behind them the hyperparameters, as many as fit into one request, and those that do not.
func (u *upload) params() (first, more []mlflow.Param) {
	all := append(slices.Clone(u.in.Run.Params), hyperparameters(u.in.Model, u.in.Run.Params)...)
	first = all[:min(len(all), paramsPerBatch)]
	return first, all[len(first):]
}

func (u *upload) spec(t target) (mlmodel.Spec, error) {
	request := u.folder.Request()
	locked, err := readLock(u.folder, u.in.EnvironmentFile)
	if err != nil {
		return mlmodel.Spec{}, err
	}
	spec := mlmodel.Spec{
		Info:          u.in.Model,
		ModelFile:     u.modelFile(request.Model),
		Layout:        mlmodel.Layout(u.in.Layout),
		Signature:     mlmodel.Signature(u.in.Signature),
		PredictFn:     u.in.PredictFn,
		Environment:   u.in.Environment,
		Locked:        locked,
		RunID:         u.in.Run.RunID,
		ModelID:       t.modelID,
		ArtifactURI:   t.artifactURI,
		MLflowVersion: u.in.MLflowVersion,
		CreatedAt:     u.in.LoggedAt,
		LoggedModel:   u.in.LoggedModels,
	}
	for _, e := range request.ExtraFiles {
		spec.ExtraFiles = append(spec.ExtraFiles, u.modelFile(e))
	}
	return spec, nil
}

func (u *upload) modelFile(e snapshot.Entry) mlmodel.ModelFile {
	return mlmodel.ModelFile{
		Name:      path.Base(e.Path),
		SizeBytes: e.SizeBytes,
		SHA256:    e.SHA256,
		Open:      func() (io.ReadCloser, error) { return u.folder.OpenVerified(e) },
	}
}

func (u *upload) send(ctx context.Context, t target, files []mlmodel.File) error {
	for _, f := range files {
		u.total.Add(f.SizeBytes)
	}
	for _, f := range files {
		if err := u.sendFile(ctx, t, f); err != nil {
			return err
		}
	}
	return nil
}

func (u *upload) sendFile(ctx context.Context, t target, f mlmodel.File) error {
	partBytes, err := u.partBytes(ctx, f)
	if err != nil {
		return err
	}
	var whole error // why a file that might go in parts does not
	if partBytes > 0 {
		before := u.done.Load()
		if whole = u.sendInParts(ctx, t, f, partBytes); !errors.Is(whole, mlflow.ErrPartTarget) && !errors.Is(whole, errWhole) {
			return whole
		}
		u.done.Store(before)
	}
	body, err := f.Open()
	if err != nil {
		return err
	}
	defer body.Close()
	err = u.client.UploadArtifact(ctx, t.artifactURI, f.Path, f.SizeBytes, &counting{ctx: ctx, r: body, n: &u.done})
	if err == nil {
		return u.forgetParts(ctx, f.Path)
	}
	return storesError(orPassing(whole, err))
}

// storesError marks MLflow's own answer where its store does not take a file. A folder that is gone it lists as an empty one, so that the health
// check sees nothing of it.
func storesError(err error) error {
	if answer, ok := errors.AsType[*mlflow.APIError](err); ok && answer.Status == http.StatusInternalServerError {
		return &artifactStoreError{err}
	}
	return err
}

// counting counts what is read, for the heartbeat, and ends with the context.
type counting struct {
	ctx context.Context
	r   io.Reader
	n   *atomic.Int64
}

func (c *counting) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := c.r.Read(p)
	c.n.Add(int64(n))
	return n, err
}

// verify sees that every file is there with its size: MLflow makes a version, and shows it READY, from nothing at all.
func (u *upload) verify(ctx context.Context, t target, files []mlmodel.File) error {
	sizes := map[string]int64{}
	folders := map[string]bool{"": true}
	for _, f := range files {
		if dir := path.Dir(f.Path); dir != "." {
			folders[dir] = true
		}
	}
	for dir := range folders {
		listed, err := u.client.ListArtifacts(ctx, t.artifactURI, dir)
		if err != nil {
			return err
		}
		for _, l := range listed {
			sizes[path.Join(dir, path.Base(l.Path))] = l.FileSize
		}
	}
	for _, f := range files {
		if size, ok := sizes[f.Path]; !ok || size != f.SizeBytes {
			return &incompleteUploadError{file: f.Path, want: f.SizeBytes, got: size}
		}
	}
	return nil
}

// incompleteUploadError: the server took a file and does not show it whole. Another attempt sends it again.
type incompleteUploadError struct {
	file      string
	want, got int64
}

func (e *incompleteUploadError) Error() string {
	return fmt.Sprintf("verify upload of %s: %d bytes were sent, the server shows %d", e.file, e.want, e.got)
}

func (u *upload) declareReady(ctx context.Context, t target, spec mlmodel.Spec) error {
	if t.modelID != "" {
		return u.client.FinalizeLoggedModel(ctx, t.modelID, mlflow.LoggedModelReady)
	}
	return u.logModelHistory(ctx, spec)
}

// logModelHistory tells MLflow 2 that the run has the model. MLflow appends to the run's tag each time, so it is asked first.
func (u *upload) logModelHistory(ctx context.Context, spec mlmodel.Spec) error {
	run, err := u.client.GetRun(ctx, u.in.Run.RunID)
	if err != nil || tag(run.Data.Tags, "mlflow.log-model.history") != "" {
		return err
	}
	descriptor, err := mlmodel.DescriptorJSON(spec)
	if err != nil {
		return err
	}
	return u.client.LogModel(ctx, u.in.Run.RunID, string(descriptor))
}
