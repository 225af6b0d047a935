package mlmodel

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"go.yaml.in/yaml/v3"

	"registrar/internal/modelfile"
)

// descriptor is the content of MLmodel. The official client sorts its keys, so the fields are in that order; null is
// written where the official client writes it.
type descriptor struct {
	ArtifactPath    scalar     `yaml:"artifact_path" json:"artifact_path"`
	Flavors         flavors    `yaml:"flavors" json:"flavors"`
	FromTypeHint    *bool      `yaml:"is_signature_from_type_hint,omitempty" json:"is_signature_from_type_hint,omitempty"`
	MLflowVersion   scalar     `yaml:"mlflow_version,omitempty" json:"mlflow_version,omitempty"`
	ModelID         scalar     `yaml:"model_id,omitempty" json:"model_id,omitempty"`
	ModelSizeBytes  int64      `yaml:"model_size_bytes" json:"model_size_bytes"`
	ModelUUID       scalar     `yaml:"model_uuid" json:"model_uuid"`
	Prompts         *null      `yaml:"prompts,omitempty" json:"prompts,omitempty"`
	RunID           scalar     `yaml:"run_id" json:"run_id"`
	Signature       *signature `yaml:"signature,omitempty" json:"signature,omitempty"`
	HintFromExample *bool      `yaml:"type_hint_from_example,omitempty" json:"type_hint_from_example,omitempty"`
	UTCTimeCreated  scalar     `yaml:"utc_time_created" json:"utc_time_created"`
}

type flavors struct {
	PythonFunction pythonFunction `yaml:"python_function" json:"python_function"`
	Sklearn        sklearn        `yaml:"sklearn" json:"sklearn"`
}

type pythonFunction struct {
	Code          scalar           `yaml:"code,omitempty" json:"code,omitempty"`
	Env           environmentPaths `yaml:"env" json:"env"`
	LoaderModule  scalar           `yaml:"loader_module" json:"loader_module"`
	ModelPath     scalar           `yaml:"model_path" json:"model_path"`
	PredictFn     scalar           `yaml:"predict_fn" json:"predict_fn"`
	PythonVersion scalar           `yaml:"python_version,omitempty" json:"python_version,omitempty"`
}

type environmentPaths struct {
	Conda      scalar `yaml:"conda" json:"conda"`
	Virtualenv scalar `yaml:"virtualenv" json:"virtualenv"`
}

type sklearn struct {
	Code                *scalar     `yaml:"code" json:"code"`
	ExtraFiles          []extraFile `yaml:"extra_files,omitempty" json:"extra_files,omitempty"`
	PickledModel        scalar      `yaml:"pickled_model" json:"pickled_model"`
	SerializationFormat scalar      `yaml:"serialization_format" json:"serialization_format"`
	SklearnVersion      scalar      `yaml:"sklearn_version,omitempty" json:"sklearn_version,omitempty"`
	SkopsTrustedTypes   any         `yaml:"skops_trusted_types,omitempty" json:"skops_trusted_types,omitempty"`
}

type extraFile struct {
	Path scalar `yaml:"path" json:"path"`
}

// DescriptorJSON is the content of MLmodel as JSON. MLflow 2 takes it in runs/log-model, by which the run shows its model.
// Errors have ErrSpec in their chain.
func DescriptorJSON(spec Spec) ([]byte, error) {
	if err := spec.Check(); err != nil {
		return nil, err
	}
	described, err := describe(spec)
	if err != nil {
		return nil, err
	}
	return json.Marshal(described)
}

// describe fills in the descriptor.
func describe(spec Spec) (descriptor, error) {
	if spec.RunID == "" || spec.CreatedAt.IsZero() {
		return descriptor{}, fmt.Errorf("%w: run id and creation time are needed", ErrSpec)
	}
	if spec.LoggedModel && (spec.ModelID == "" || spec.ArtifactURI == "") {
		return descriptor{}, fmt.Errorf("%w: a logged model needs its model id and artifact URI", ErrSpec)
	}
	versions, err := resolve(spec)
	if err != nil {
		return descriptor{}, err
	}
	predictFn := spec.PredictFn
	if predictFn == "" {
		predictFn = predictFunctions[0]
	}
	signature, err := signatureOf(spec, predictFn)
	if err != nil {
		return descriptor{}, fmt.Errorf("%w: write signature: %w", ErrSpec, err)
	}
	described := descriptor{
		ArtifactPath: RunArtifactPath,
		Flavors: flavors{
			PythonFunction: pythonFunction{
				Env:           environmentPaths{Conda: condaPath, Virtualenv: pythonEnvPath},
				LoaderModule:  "mlflow.sklearn",
				ModelPath:     scalar(modelPathOf(spec)),
				PredictFn:     scalar(predictFn),
				PythonVersion: scalar(versions.python),
			},
			Sklearn: sklearn{
				PickledModel:        scalar(modelPathOf(spec)),
				SerializationFormat: serializationFormat(spec.Info),
				SklearnVersion:      scalar(versions.packages[sklearnPackage]),
			},
		},
		MLflowVersion:  scalar(spec.MLflowVersion),
		ModelUUID:      runModelUUID(spec.RunID),
		RunID:          scalar(spec.RunID),
		Signature:      signature,
		UTCTimeCreated: scalar(spec.CreatedAt.UTC().Format("2006-01-02 15:04:05.000000")),
	}
	if signature != nil {
		no := false
		described.FromTypeHint, described.HintFromExample = &no, &no
	}
	if isHybrid(spec) {
		code := scalar(codePath)
		described.Flavors.PythonFunction.Code, described.Flavors.Sklearn.Code = code, &code
	}
	for _, file := range packedModel(spec) {
		described.ModelSizeBytes += file.SizeBytes
	}
	for _, extra := range spec.ExtraFiles {
		described.ModelSizeBytes += extra.SizeBytes
		described.Flavors.Sklearn.ExtraFiles = append(described.Flavors.Sklearn.ExtraFiles, extraFile{scalar(extraPath(extra))})
	}
	if spec.LoggedModel {
		described.ArtifactPath = scalar(spec.ArtifactURI)
		described.ModelID = scalar(spec.ModelID)
		described.ModelUUID = scalar(spec.ModelID)
		described.Prompts = &null{}
		described.Flavors.Sklearn.SkopsTrustedTypes = &null{}
	}
	if isSkops(spec) {
		described.Flavors.Sklearn.SkopsTrustedTypes = trustedTypes(spec)
	}
	return described, nil
}

// serializationFormat is which pickle module MLflow loads the model with: a file that refers to cloudpickle gets the
// one whose absence MLflow can explain.
func serializationFormat(info modelfile.Info) scalar {
	if info.Format == modelfile.FormatSkops {
		return "skops"
	}
	if info.Format == modelfile.FormatPickle && imports(info, "cloudpickle") {
		return "cloudpickle"
	}
	return "pickle"
}

// runModelUUID stands in for the random identifier that MLflow 2 gives each packed model, and is the same on each try.
func runModelUUID(runID string) scalar {
	digest := sha256.Sum256([]byte(runID))
	return scalar(hex.EncodeToString(digest[:16]))
}

// scalar is a string that is written as the official client's YAML library does: in single quotes where it would
// otherwise read as a number, a date or anything but a string.
type scalar string

// MarshalYAML chooses the quotes.
func (s scalar) MarshalYAML() (any, error) {
	node := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: string(s)}
	plain, err := yaml.Marshal(node)
	if err != nil {
		return nil, err
	}
	if bytes.HasPrefix(plain, []byte(`"`)) && !bytes.ContainsRune(plain, '\\') {
		node.Style = yaml.SingleQuotedStyle
	}
	return node, nil
}

// null is a key that is there and has no value.
type null struct{}

// MarshalYAML writes null.
func (null) MarshalYAML() (any, error) { return nil, nil }

// MarshalJSON writes null.
func (null) MarshalJSON() ([]byte, error) { return []byte("null"), nil }

// encode writes YAML in the indentation of the official client.
func encode(document any) ([]byte, error) {
	var buffer bytes.Buffer
	encoder := yaml.NewEncoder(&buffer)
	encoder.SetIndent(2)
	encoder.CompactSeqIndent()
	if err := encoder.Encode(document); err != nil {
		return nil, fmt.Errorf("%w: write YAML: %w", ErrSpec, err)
	}
	if err := encoder.Close(); err != nil {
		return nil, fmt.Errorf("%w: write YAML: %w", ErrSpec, err)
	}
	return buffer.Bytes(), nil
}
