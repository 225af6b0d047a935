package mlmodel

import (
	"strings"

	"registrar/internal/modelfile"
)

const (
	// skopsPath is where the official client puts a skops file.
	skopsPath    = "model.skops"
	skopsPackage = "skops"
	// skopsSince is the first version of MLflow that loads skops files.
	skopsSince = "3.9"
)

func isSkops(spec Spec) bool { return spec.Info.Format == modelfile.FormatSkops }

func modelPathOf(spec Spec) string {
	if isSkops(spec) {
		return skopsPath
	}
	return modelPath
}

// trustedTypes are all that a skops file names. Which of them skops trusts by itself differs from version to version, and a name that is
// listed without need does no harm; that each is one that models need is for the security gate to see.
func trustedTypes(spec Spec) []scalar {
	if !isSkops(spec) {
		return nil
	}
	types := make([]scalar, len(spec.Info.Globals))
	for i, name := range spec.Info.Globals {
		types[i] = scalar(strings.ReplaceAll(name, ":", "."))
	}
	return types
}
