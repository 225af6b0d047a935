package activities

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"time"

	"registrar/internal/mlflow"
	"registrar/internal/mlmodel"
)

// partsUnderWay is how far an upload in parts has come, as upload.json has it. It lies beside the frozen copies, and not in the heartbeats: the
// addresses of the parts are secrets for as long as they hold.
type partsUnderWay struct {
	ArtifactURI string `json:"artifact_uri"`
	File        string `json:"file"`
	SizeBytes   int64  `json:"size_bytes"`
	PartBytes   int64  `json:"part_bytes"`
	// RunID is the run that the file's model is of: who ends the run, gives the upload up.
	RunID string `json:"run_id"`

	// Refusals is how often the store refused this file's parts. It outlives the upload, which then has no id.
	Refusals int `json:"refusals,omitempty"`

	// Unconnected is how many attempts in a row did not get through to the store.
	Unconnected int `json:"unconnected,omitempty"`

	// Incomplete says that MLflow failed to make the parts the file, which may be the store's moment of weakness once.
	Incomplete bool `json:"incomplete,omitempty"`

	BegunAt time.Time              `json:"begun_at,omitzero"`
	Upload  mlflow.MultipartUpload `json:"upload"`
	// Done are the parts that the store has, in order, and SHA256 the digest of all their bytes: what goes on must go on with the same file.
	Done   []mlflow.Part `json:"done"`
	SHA256 string        `json:"sha256"`
}

// resumedParts is what an earlier attempt left of the same upload; nil where there is nothing, or nothing that fits together: upload.json is a file that
// anybody who writes into the project may edit. The refusals are those of the file in this run, which it may have been sent for to a logged model that
// was condemned.
func (u *upload) resumedParts(t target, f mlmodel.File) (p *partsUnderWay, refusals int, err error) {
	p, err = readParts(u.folder)
	if p == nil || err != nil || p.File != f.Path || p.SizeBytes != f.SizeBytes {
		return nil, 0, err
	}
	if p.RunID == u.in.Run.RunID {
		refusals = p.Refusals
	}
	if p.ArtifactURI != t.artifactURI || !p.fits() {
		return nil, refusals, nil
	}
	if p.BegunAt.IsZero() { // an older worker remembered no time
		p.BegunAt = time.Now()
	}
	return p, refusals, nil
}

// fits tells that there is an address for each part that the store does not have yet, and that the parts that it has are the first ones.
func (p *partsUnderWay) fits() bool {
	if p.SizeBytes <= 0 || p.PartBytes <= 0 || p.Upload.UploadID == "" {
		return false
	}
	parts := (p.SizeBytes-1)/p.PartBytes + 1
	if int64(len(p.Upload.Targets)) != parts || len(p.Done) > len(p.Upload.Targets) {
		return false
	}
	for i, part := range p.Done {
		if part.Number != p.Upload.Targets[i].Number {
			return false
		}
	}
	return true
}

// readParts is what is remembered; nil where nothing is, or nothing that this worker's user may read.
func readParts(folder frozen) (*partsUnderWay, error) {
	data, err := folder.ReadUpload()
	if isAbsent(err) || errors.Is(err, fs.ErrPermission) {
		return nil, nil
	}
	var p partsUnderWay
	if err != nil || json.Unmarshal(data, &p) != nil {
		return nil, err // what does not make sense is begun anew
	}
	return &p, nil
}

func (u *upload) remember(p *partsUnderWay) error {
	data, err := json.Marshal(p)
	if err != nil {
		return err
	}
	return u.folder.WriteUpload(data)
}

// giveUpParts forgets an upload that is under way, though not that the store refused it, and asks the store to do so, too. A store that does not hear of it
// keeps the parts until its own rules remove them. What another attempt has begun since, which goes on where this one was frozen, stays.
func (u *upload) giveUpParts(ctx context.Context, p *partsUnderWay) error {
	_ = p.abort(ctx, u.client)
	left, err := readParts(u.folder)
	if left == nil || err != nil || left.Upload.UploadID != p.Upload.UploadID {
		return err
	}
	if p.Refusals == 0 {
		return u.folder.RemoveUpload()
	}
	p.Upload, p.Done, p.SHA256, p.Incomplete = mlflow.MultipartUpload{}, nil, "", false
	return u.remember(p)
}

// forgetParts gives up what another attempt, or a worker with other settings, left of a file that is there whole.
func (u *upload) forgetParts(ctx context.Context, file string) error {
	p, err := readParts(u.folder)
	if p == nil || err != nil || p.File != file {
		return err
	}
	_ = p.abort(ctx, u.client)
	return u.folder.RemoveUpload()
}

// endParts aborts the upload of a run that is under way, and forgets it once the store has.
func endParts(ctx context.Context, client *mlflow.Client, folder frozen, runID string) error {
	p, err := readParts(folder)
	if p == nil || err != nil || p.RunID != runID {
		return err // another generation's: it is its own to give up
	}
	if err := p.abort(ctx, client); err != nil {
		return err
	}
	return folder.RemoveUpload()
}

// abort gives up what the store has, if anything, also when the step was canceled.
func (p *partsUnderWay) abort(ctx context.Context, client *mlflow.Client) error {
	if p.Upload.UploadID == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	return storesError(client.AbortMultipartUpload(ctx, p.ArtifactURI, p.File, p.Upload.UploadID))
}
