package modelfile

import (
	"fmt"
	"maps"
	"slices"
)

const (
	// maxGlobals bounds the different names of a file. A pipeline of every class in scikit-learn has fewer.
	maxGlobals = 2048
	maxReasons = 50
)

// findings are what a file tells, gathered while it is read.
type findings struct {
	budget
	sklearnVersion string
	rawArrays      bool
	// announced says that the file calls itself a pickle, or has the schema of skops, and calls that it names something and calls it.
	announced, calls bool
	globals          map[qualified]*global
	reasons          []Reason
	noted            map[Reason]bool
}

func newFindings() *findings {
	return &findings{globals: map[qualified]*global{}, noted: map[Reason]bool{}}
}

// object notes a reason, once for each name and problem.
func (f *findings) object(r Reason) {
	same := Reason{Severity: r.Severity, Global: r.Global, Problem: r.Problem}
	if f.noted[same] || len(f.reasons) > maxReasons {
		return
	}
	f.noted[same] = true
	if len(f.reasons) == maxReasons {
		// What is left out may be what nothing but PolicyOff lets pass.
		r = Reason{Severity: Deceptive, Opcode: r.Opcode, Offset: r.Offset, Problem: fmt.Sprintf("more than %d reasons", maxReasons)}
	}
	f.reasons = append(f.reasons, r)
}

func (f *findings) modules() []string {
	tops := map[string]bool{}
	for name := range f.globals {
		tops[topLevel(name.module)] = true
	}
	return slices.Sorted(maps.Keys(tops))
}

func (f *findings) names() []string {
	names := map[string]bool{}
	for _, g := range f.globals {
		names[g.String()] = true
	}
	return slices.Sorted(maps.Keys(names))
}

// numpyVersion tells by names: numpy.core became numpy._core with 2.0.
func (f *findings) numpyVersion() string {
	var before, since bool
	for name := range f.globals {
		before = before || within(name.module, "numpy.core")
		since = since || within(name.module, "numpy._core")
	}
	switch {
	case since && !before:
		return ">=2"
	case before && !since:
		return "<2"
	}
	return ""
}
