package activities

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"path"
	"slices"
	"strings"
	"time"

	"go.temporal.io/sdk/activity"

	"registrar/internal/failure"
	"registrar/internal/mlflow"
	"registrar/internal/mlmodel"
)

// DefaultPartBytes is the size of a part, and half the size of the smallest file that goes up in parts.
const DefaultPartBytes = 32 << 20

// maxParts bounds what is remembered of an upload; the parts of a larger file are larger. S3 itself takes 10,000 of at most 5 GiB.
const maxParts = 500

// maxRefusals is how often the store refuses the parts of a file for good before it is sent whole. Once, the registration may have waited for longer than
// their addresses hold; an upload that takes longer itself would begin anew for ever. Nobody can be asked for new addresses of an upload that is under way.
const maxRefusals = 2

// addressesHold is how long MLflow lets an address of a part hold (botocore's generate_presigned_url: an hour, where nothing is said). After that a
// connection that the store cuts is a refusal whose words were lost: it may answer, and close, while the part is still being sent.
const addressesHold = time.Hour

// maxUnconnected is how many attempts in a row may fail to connect to a store that took parts before, while MLflow gets at it, until the file is sent whole.
// More than one: a store that was restarted must not cost the parts that it has.
const maxUnconnected = 3

var (
	// errAnew says that what was remembered of an upload is of no use.
	errAnew = errors.New("the parts that were sent before are of no use")
	// errRefused is errAnew, since the store does not take the parts any more.
	errRefused = fmt.Errorf("%w: the store refuses them", errAnew)
	// errWhole says that a file is not to be sent in parts.
	errWhole = errors.New("the file is to be sent whole")
)

// partBytes is the size of the parts that a file is sent in; 0 where it is sent whole: it is small, the server's store takes no parts, or the worker
// has no word of its own that the server is to be trusted: the parts go to a host that the server names.
func (u *upload) partBytes(ctx context.Context, f mlmodel.File) (int64, error) {
	if u.parts == 0 || f.SizeBytes < 2*u.parts {
		return 0, nil
	}
	offered, err := u.client.MultipartUploads(ctx)
	if !offered || err != nil {
		return 0, err
	}
	const mebibyte = 1 << 20
	return max(u.parts, (f.SizeBytes/maxParts/mebibyte+1)*mebibyte), nil
}

// sendInParts sends a file in parts, from where an earlier attempt stopped.
func (u *upload) sendInParts(ctx context.Context, t target, f mlmodel.File, partBytes int64) error {
	p, refusals, err := u.resumedParts(t, f)
	if err != nil {
		return err
	}
	if p == nil && !isFirstAttempt(ctx, u.in.First) {
		there, err := u.isThere(ctx, t.artifactURI, f.Path, f.SizeBytes)
		if err != nil {
			return err
		}
		if there {
			u.done.Add(f.SizeBytes)
			return u.forgetParts(ctx, f.Path)
		}
	}
	if p == nil && refusals >= maxRefusals {
		return u.whole(ctx, f, errors.New("the store refused its parts again before all were sent"))
	}
	if p == nil {
		if p, err = u.beginParts(ctx, t, f, partBytes, refusals); err != nil {
			return err
		}
	}
	err = u.sendParts(ctx, p, f)
	if err == nil {
		err = u.completeParts(ctx, p, f)
	}
	switch {
	case err == nil:
		return u.folder.RemoveUpload()
	case errors.Is(err, errRefused):
		p.Refusals++
	case isA[*unconnectedError](err):
		err = u.unconnected(ctx, p, f, err)
	}
	if errors.Is(err, errAnew) || errors.Is(err, errWhole) || errors.Is(err, mlflow.ErrPartTarget) {
		return errors.Join(err, u.giveUpParts(ctx, p))
	}
	return err
}

// whole is errWhole, and why.
func (u *upload) whole(ctx context.Context, f mlmodel.File, why error) error {
	activity.GetLogger(ctx).Warn("the file is sent whole", "file", f.Path, "size_bytes", f.SizeBytes, "reason", why)
	return fmt.Errorf("%w: %w", errWhole, why)
}

// unconnected is errWhole where MLflow gets at the store and the worker does not: the addresses of the parts are those that MLflow has for it, which may
// mean nothing outside MLflow's network, and the probe would see a server that is well. Otherwise it is the error itself, an outage that ends. Nothing is
// remembered of errWhole: the next attempt, perhaps on another worker, tries parts again.
func (u *upload) unconnected(ctx context.Context, p *partsUnderWay, f mlmodel.File, err error) error {
	if _, unlisted := u.isThere(ctx, p.ArtifactURI, p.File, p.SizeBytes); unlisted != nil {
		return err
	}
	p.Unconnected++
	if len(p.Done) > 0 && p.Unconnected < maxUnconnected {
		return errors.Join(err, u.remember(p))
	}
	return u.whole(ctx, f, fmt.Errorf("MLflow gets at the artifact store, and this worker does not: %w", err))
}

func (u *upload) beginParts(ctx context.Context, t target, f mlmodel.File, partBytes int64, refusals int) (*partsUnderWay, error) {
	if left, err := readParts(u.folder); err != nil {
		return nil, err
	} else if left != nil { // of a logged model that was condemned
		if err := u.giveUpParts(ctx, left); err != nil {
			return nil, err
		}
	}
	p := &partsUnderWay{
		ArtifactURI: t.artifactURI, File: f.Path, SizeBytes: f.SizeBytes, PartBytes: partBytes, RunID: u.in.Run.RunID, Refusals: refusals, BegunAt: time.Now(),
	}
	var err error
	if p.Upload, err = u.client.CreateMultipartUpload(ctx, t.artifactURI, f.Path, int((f.SizeBytes+partBytes-1)/partBytes)); err != nil {
		_ = p.abort(ctx, u.client) // where it has an id, and not the addresses that it needs
		return nil, u.unbegun(ctx, t, f, err)
	}
	return p, u.remember(p)
}

// unbegun is errWhole where MLflow's store takes files, and none in parts, though MLflow offers it: a library that lacks it, a permission, or a bucket's rule
// that MLflow obeys with whole files alone. Otherwise it is the error itself.
func (u *upload) unbegun(ctx context.Context, t target, f mlmodel.File, err error) error {
	answer, ok := errors.AsType[*mlflow.APIError](err)
	if !ok {
		return err
	}
	isWhole := isLasting(answer) && answer.Status != http.StatusUnauthorized
	if answer.Status == http.StatusInternalServerError && activity.GetInfo(ctx).Attempt > 1 { // once may be a moment of weakness
		_, unlisted := u.isThere(ctx, t.artifactURI, f.Path, f.SizeBytes)
		isWhole = unlisted == nil
	}
	if isWhole {
		return u.whole(ctx, f, err)
	}
	return storesError(err)
}

// orPassing is why a file went whole that might go in parts, where that passes and the whole file was refused for good: by a proxy that takes less at once,
// before which there are parts. Another attempt tries them again. Otherwise it is the refusal.
func orPassing(whole, refused error) error {
	answer, ok := errors.AsType[*mlflow.APIError](refused)
	if !ok || !isLasting(answer) {
		return refused
	}
	if why, ok := errors.AsType[*mlflow.APIError](whole); isA[*unconnectedError](whole) || ok && why.Status == http.StatusInternalServerError {
		return &artifactStoreError{&incompletePartsError{fmt.Errorf("%w; %w", whole, refused)}}
	}
	return refused
}

// isLasting tells whether an answer is a refusal that it makes no sense to ask again after.
func isLasting(answer *mlflow.APIError) bool {
	switch answer.Status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return false
	case http.StatusNotImplemented:
		return true
	}
	return answer.Status < 500
}

// sendParts sends the parts that the store does not have yet. A part that fails is sent again, alone, while others get through; after that another attempt
// begins with it. The file is read from its beginning all the same: its digest is looked at before its last part is complete.
func (u *upload) sendParts(ctx context.Context, p *partsUnderWay, f mlmodel.File) error {
	began := u.done.Load()
	for {
		had := len(p.Done)
		err := u.sendPartsOnce(ctx, p, f)
		kind, _ := kindOf(err)
		if err == nil || ctx.Err() != nil || len(p.Done) == had || kind != failure.Outage || errors.Is(err, errAnew) {
			return err
		}
		u.done.Store(began)
	}
}

func (u *upload) sendPartsOnce(ctx context.Context, p *partsUnderWay, f mlmodel.File) error {
	body, err := f.Open()
	if err != nil {
		return err
	}
	defer body.Close()
	digest := sha256.New()
	stream := io.TeeReader(&counting{ctx: ctx, r: body, n: &u.done}, digest)
	sent := int64(len(p.Done)) * p.PartBytes
	if sent = min(sent, p.SizeBytes); sent > 0 {
		if _, err := io.CopyN(io.Discard, stream, sent); err != nil {
			return err
		}
		if sumOf(digest) != p.SHA256 {
			return fmt.Errorf("%w: %w", errAnew, &incompletePartsError{errors.New("they are not of this file")})
		}
	}
	for sent < p.SizeBytes {
		size := min(p.PartBytes, p.SizeBytes-sent)
		part, err := u.client.UploadPart(ctx, p.Upload.Targets[len(p.Done)], size, io.LimitReader(stream, size))
		if err != nil && ctx.Err() == nil {
			err = p.partError(err)
		}
		if err != nil {
			return err
		}
		sent += size
		p.Done, p.SHA256, p.Unconnected = append(p.Done, part), sumOf(digest), 0
		if err := u.remember(p); err != nil {
			return err
		}
	}
	return nil
}

func sumOf(digest hash.Hash) string { return hex.EncodeToString(digest.Sum(nil)) }

// partError says what it means that a part was not taken. Stores do not agree on how they call an address that is too old (S3: 403 AccessDenied, or 400
// ExpiredToken where the key that signed it expired; Google's: 400 ExpiredToken), an upload that somebody aborted (404), or what a proxy before them does
// not let through; all that is certain is that the same part to the same address is refused again. Once the addresses are old, whatever comes is a refusal.
func (p *partsUnderWay) partError(err error) error {
	isOld := time.Since(p.BegunAt) > addressesHold
	if failed, ok := errors.AsType[*mlflow.TransportError](err); ok {
		switch {
		case slices.Contains([]mlflow.Layer{mlflow.LayerDNS, mlflow.LayerTCP, mlflow.LayerTLS}, failed.Layer):
			return &unconnectedError{err}
		case failed.Layer == mlflow.LayerHTTP && isOld:
			return fmt.Errorf("%w: %w", errRefused, &incompletePartsError{err})
		}
		return err
	}
	refused, ok := errors.AsType[*mlflow.APIError](err)
	switch {
	case ok && (isOld || isLasting(refused) && refused.Message != slowBody):
		return fmt.Errorf("%w: %w", errRefused, &incompletePartsError{err})
	case ok:
		return &artifactStoreError{&incompletePartsError{err}}
	}
	return err
}

// slowBody is S3's code for a body that did not come in time, a 400.
const slowBody = "RequestTimeout"

// unconnectedError: the worker has no connection to the store that a part goes to.
type unconnectedError struct{ err error }

func (e *unconnectedError) Error() string { return "reach artifact store: " + e.err.Error() }

func (e *unconnectedError) Unwrap() error { return e.err }

// incompletePartsError: the store did not take a part, or not the whole. Another attempt goes on, or begins anew.
type incompletePartsError struct{ err error }

func (e *incompletePartsError) Error() string { return "upload in parts: " + e.err.Error() }

// completeParts makes the parts the file. Where the answer is lost, or says that there is no such upload, the file tells. Hours of upload are begun anew
// only where the file is known not to be there, and MLflow fails a second time: a login that expired, a proxy or a store that is busy, says nothing of the
// parts.
func (u *upload) completeParts(ctx context.Context, p *partsUnderWay, f mlmodel.File) error {
	refused := u.client.CompleteMultipartUpload(ctx, p.ArtifactURI, p.File, p.Upload.UploadID, p.Done)
	if refused == nil {
		return nil
	}
	there, err := u.isThere(ctx, p.ArtifactURI, p.File, p.SizeBytes)
	switch {
	case there:
		return nil
	case err == nil && isBarred(refused):
		return u.whole(ctx, f, refused)
	case err != nil || !mayLackUpload(refused):
		return storesError(refused)
	case !mlflow.IsNotFound(refused) && !p.Incomplete:
		p.Incomplete = true
		return errors.Join(storesError(refused), u.remember(p))
	}
	return fmt.Errorf("%w: %w", errRefused, &incompletePartsError{refused})
}

// isBarred tells whether something between this worker and MLflow lets no such request through. A 404 may be an ingress that is being changed, a 401 a login
// that expired.
func isBarred(err error) bool {
	answer, ok := errors.AsType[*mlflow.APIError](err)
	return ok && isLasting(answer) && answer.Status >= 400 && answer.Status != http.StatusUnauthorized && answer.Status != http.StatusNotFound
}

// mayLackUpload tells whether MLflow answers so where its store does not know the upload. S3's NoSuchUpload is an error that MLflow does not catch, a 500.
func mayLackUpload(err error) bool {
	answer, ok := errors.AsType[*mlflow.APIError](err)
	return ok && (answer.Status == http.StatusInternalServerError || mlflow.IsNotFound(err))
}

// isThere tells whether the file is complete: parts, and what breaks off, are not seen. Nobody but this generation writes there, and of the same copy.
func (u *upload) isThere(ctx context.Context, artifactURI, file string, sizeBytes int64) (bool, error) {
	files, err := u.client.ListArtifacts(ctx, artifactURI, strings.TrimPrefix(path.Dir(file), "."))
	for _, f := range files {
		if f.Path == file && f.FileSize == sizeBytes {
			return true, nil
		}
	}
	return false, err
}
