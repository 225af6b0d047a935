package mlmodel

import (
	"regexp"

	"registrar/internal/modelfile"
)

// Layout is how a joblib file becomes something that pickle.load reads. A file that pickle.load reads already is packed as it is in either.
type Layout string

const (
	// LayoutWrapper puts the file whole into a pickle of 45 bytes: one file, which every consumer loads. It is read into memory beside the
	// arrays that come out of it. The empty Layout means it too.
	LayoutWrapper Layout = "wrapper"
	// LayoutHybrid leaves the file as it is, beside a small pickle that calls a loader module in the model's code folder. Loading takes no more
	// memory than joblib.load does; a consumer that takes model.pkl alone, without the folder, cannot load it.
	LayoutHybrid Layout = "hybrid"
)

const (
	codePath = "code"
	rawPath  = "model.joblib"
)

// loaderSource is the module that the hybrid layout's pickle calls. MLflow puts a loaded model's code folder at the front of sys.path, while
// Python keeps a module that it has imported before: the model is looked for along sys.path, so that a second download is loaded from its own
// folder though the module is the first one's.
const loaderSource = `"""Loads the joblib file beside this folder. Written by registrar."""

import sys
from pathlib import Path

import joblib


def load():
    here = Path(__file__)
    for entry in [*sys.path, here.parent]:
        if (Path(entry) / here.name).is_file():
            model = Path(entry).resolve().parent / "` + rawPath + `"
            if model.is_file():
                return joblib.load(model)
    raise FileNotFoundError("` + rawPath + ` is not beside the folder of " + here.name + ": load the model's whole folder")
`

// digestShape is a SHA-256 in hex.
var digestShape = regexp.MustCompile(`^[0-9a-f]{64}$`)

// isHybrid says that the model lies in the hybrid layout.
func isHybrid(spec Spec) bool {
	return spec.Layout == LayoutHybrid && spec.Info.Format == modelfile.FormatJoblib
}

// loaderModule has a name of the model's own: two models in one process would otherwise share the first one's module.
func loaderModule(spec Spec) string { return "registrar_model_" + spec.ModelFile.SHA256[:16] }

// hybridModel is the model in three files. The pickle calls the loader module's load without arguments, by opcodes of Python's
// Lib/pickletools.py.
func hybridModel(spec Spec) []File {
	module := loaderModule(spec)
	pickle := "\x80\x04" + // PROTO 4
		"\x8c\x20" + module + "\x8c\x04load\x93" + // SHORT_BINUNICODE of 32 and 4 bytes, STACK_GLOBAL
		")R" + // EMPTY_TUPLE, REDUCE
		"." // STOP
	return []File{
		{Path: rawPath, SizeBytes: spec.ModelFile.SizeBytes, Open: spec.ModelFile.Open},
		inMemory(codePath+"/"+module+".py", []byte(loaderSource)),
		inMemory(modelPath, []byte(pickle)),
	}
}
