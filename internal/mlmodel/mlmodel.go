// Package mlmodel packs a model file as the folder that MLflow loads: MLmodel, the model itself, and the files that
// describe its environment. It writes what mlflow.sklearn.log_model writes, key for key, in the layout of MLflow 3
// (logged models) or of MLflow 2 (files below a run).
//
// It knows how the folder looks, not where it goes: it neither uploads nor speaks to a server. It does not read the
// model; what there is to know of it comes in as a modelfile.Info.
package mlmodel

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"

	"registrar/internal/modelfile"
)

// modelPath is where the official client puts a pickled model. Loaders find it by MLmodel; people by habit.
const modelPath = "model.pkl"

// predictFunctions are what the pyfunc flavour of scikit-learn can call
// (mlflow/sklearn/__init__.py, _SklearnModelWrapper).
var predictFunctions = []string{"predict", "predict_proba", "predict_log_proba", "predict_joint_log_proba", "score"}

// ErrSpec is in the chain of every error that the Spec's own values cause. Trying again does not help.
var ErrSpec = errors.New("model cannot be packed")

// ModelFile is a file that goes into the folder as it is.
type ModelFile struct {
	// Name is a plain file name, without folders.
	Name string
	// SizeBytes is the length of what Open gives.
	SizeBytes int64
	// SHA256 is its digest in hex; needed of a model in LayoutHybrid alone.
	SHA256 string
	// Open may be called more than once, and gives the same bytes each time. That they are the right ones is for it to see to: it ends in an
	// error before the last byte where they are not.
	Open func() (io.ReadCloser, error)
}

// Spec is everything that decides how the folder looks: equal Specs give equal bytes.
type Spec struct {
	// Info is what the model file tells of itself. Its Format decides the layout.
	Info modelfile.Info
	// ModelFile is the model.
	ModelFile ModelFile
	// ExtraFiles lie beside the model below extra_files/, under their names, which must differ.
	ExtraFiles []ModelFile
	// Layout is for a joblib file. Empty: LayoutWrapper.
	Layout Layout
	// Signature is how much MLmodel says of inputs and outputs. Empty: SignatureOutputs.
	Signature Signature
	// PredictFn is the method that mlflow.pyfunc calls. Empty: predict.
	PredictFn string
	// Environment gives the version for a package, and for python, pip, setuptools and wheel. Names are compared as
	// package indexes do: case, and whether -, _ or . parts the words, do not count. A package beyond the usual becomes a
	// requirement too; mlflow here overrides MLflowVersion as a requirement.
	Environment map[string]string
	// Locked has versions by package, as ReadLock gives them. Those that the model needs are taken where Environment leaves them open.
	Locked map[string]string
	// RunID is the MLflow run that the model comes from.
	RunID string
	// ModelID is the logged model, m- and 32 hex digits; unused without LoggedModel.
	ModelID string
	// ArtifactURI is the logged model's artifact location; unused without LoggedModel.
	ArtifactURI string
	// MLflowVersion is the server's version: a client of that version reads what it serves. Empty: not written.
	MLflowVersion string
	// CreatedAt is written in UTC, with microseconds.
	CreatedAt time.Time
	// LoggedModel chooses MLflow 3's layout. False: that of MLflow 2, in which the folder lies in the run's artifacts
	// under RunArtifactPath.
	LoggedModel bool
}

// RunArtifactPath is the folder below a run's artifacts that holds the model in the layout of MLflow 2.
const RunArtifactPath = "model"

// File is one file of the folder.
type File struct {
	// Path is relative to the folder, with slashes.
	Path string
	// SizeBytes is the exact length of what Open gives.
	SizeBytes int64
	// Open may be called more than once. An error of a model or extra file comes through as it is.
	Open func() (io.ReadCloser, error)
}

// Files gives the folder's files in the order of their upload: MLmodel comes last, its presence says that the others are
// there. Nothing is opened yet. Errors have ErrSpec in their chain.
func Files(spec Spec) ([]File, error) {
	if err := spec.Check(); err != nil {
		return nil, err
	}
	descriptor, err := describe(spec)
	if err != nil {
		return nil, err
	}
	descriptorYAML, err := encode(descriptor)
	if err != nil {
		return nil, err
	}
	environment, err := environmentFiles(spec)
	if err != nil {
		return nil, err
	}
	files := packedModel(spec)
	for _, extra := range spec.ExtraFiles {
		files = append(files, File{Path: extraPath(extra), SizeBytes: extra.SizeBytes, Open: extra.Open})
	}
	files = append(files, environment...)
	return append(files, inMemory("MLmodel", fold(descriptorYAML))), nil
}

// Check looks at what a person chose: names, versions and the predict function. Files checks the same; here it can be
// known before anything is created. Errors have ErrSpec in their chain.
func (s Spec) Check() error {
	if formats := []string{modelfile.FormatJoblib, modelfile.FormatPickle, modelfile.FormatSkops}; !slices.Contains(formats, s.Info.Format) {
		return fmt.Errorf("%w: format of %s is %q, not one of %s", ErrSpec, s.ModelFile.Name, s.Info.Format, strings.Join(formats, ", "))
	}
	if s.PredictFn != "" && !slices.Contains(predictFunctions, s.PredictFn) {
		return fmt.Errorf("%w: predict_fn is %q, not one of %s", ErrSpec, s.PredictFn, strings.Join(predictFunctions, ", "))
	}
	if err := s.checkChoices(); err != nil {
		return err
	}
	seen := map[string]bool{}
	for _, extra := range s.ExtraFiles {
		if !isFileName(extra.Name) {
			return fmt.Errorf("%w: extra file %q is not a plain file name", ErrSpec, extra.Name)
		}
		if seen[extra.Name] {
			return fmt.Errorf("%w: two extra files are named %s; rename one", ErrSpec, extra.Name)
		}
		seen[extra.Name] = true
	}
	_, err := resolve(s)
	return err
}

func (s Spec) checkChoices() error {
	switch {
	case s.Layout != "" && s.Layout != LayoutWrapper && s.Layout != LayoutHybrid:
		return fmt.Errorf("%w: layout is %q, not %s or %s", ErrSpec, s.Layout, LayoutWrapper, LayoutHybrid)
	case s.Signature != "" && s.Signature != SignatureOutputs && s.Signature != SignatureColumns:
		return fmt.Errorf("%w: signature is %q, not %s or %s", ErrSpec, s.Signature, SignatureOutputs, SignatureColumns)
	case isHybrid(s) && !digestShape.MatchString(s.ModelFile.SHA256):
		return fmt.Errorf("%w: layout %s needs the digest of %s", ErrSpec, LayoutHybrid, s.ModelFile.Name)
	}
	return nil
}

// Unknown names what the folder leaves open because neither the model file nor Environment tells: packages without a
// version, and python. Sorted. Consumers get the newest that fits.
func Unknown(spec Spec) []string {
	versions, err := resolve(spec)
	if err != nil {
		return nil
	}
	return versions.unknown()
}

var unsafeName = regexp.MustCompile(`[/\\\x00-\x1f\x7f]`)

func isFileName(name string) bool {
	return name != "" && name != "." && name != ".." && !unsafeName.MatchString(name)
}

func extraPath(extra ModelFile) string { return "extra_files/" + extra.Name }

func inMemory(path string, content []byte) File {
	return File{
		Path:      path,
		SizeBytes: int64(len(content)),
		Open:      func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil },
	}
}
