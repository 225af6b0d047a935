package modelfile

import (
	"fmt"
	"regexp"
	"strings"
)

// A few of the names that models need can do more than models do with them, so what they are given is judged too.

// maxArguments and maxDimensions bound what is looked at again whenever a file refers to it.
const (
	maxArguments  = 256
	maxDimensions = 64
)

// isReconstructed says whether a function returns an array that is filled by its state.
func isReconstructed(g *global) bool {
	return (g.name == "_reconstruct" && (g.module == "numpy.core.multiarray" || g.module == "numpy._core.multiarray")) || g.name == "_mareconstruct" && g.in("numpy.ma")
}

// judgeCall says what is wrong with the arguments of an allowed name. made is the result, about which it may note what it learns.
func (m *machine) judgeCall(g *global, arguments value, by use, made *object) string {
	list, ok := arguments.(tuple)
	if !ok {
		return "its arguments are not written out"
	}
	args := list.items
	if len(args) > maxArguments {
		return "it is given more arguments than a model needs"
	}
	if by == byCall && reaches(g) {
		return judgeReach(g, args)
	}
	if hides(arguments) && (!isReconstructed(g) || !isMemmap(args[0])) {
		return "it is given a name that is only ever used in its place"
	}
	switch {
	case g.is("numpy.dtype"):
		made.dtype = newDtype(arguments)
		if made.dtype.kind == 0 && !isRecord(args) {
			return "it describes a type that numpy does not write"
		}
		return m.judgeInert(args[1:])
	case isReconstructed(g):
		return judgeReconstruct(args)
	case g.in("numpy") && (g.name == "scalar" || g.name == "_frombuffer"):
		return m.judgeBuffer(g, args, made)
	case g.name == "_ufunc_reconstruct":
		return judgeUfunc(args)
	case g.in("numpy.random._pickle"):
		return judgeRandom(args)
	case g.is("_codecs.encode"):
		if len(args) != 2 || args[1] != text("latin1") && args[1] != text("latin-1") || !isString(args[0]) {
			return "pickle writes no bytes in this way"
		}
	case g.name == "newObj" || g.name == "_new_Index":
		return judgeFactory(g, args)
	case strings.HasPrefix(g.name, "__pyx_unpickle_"):
		if problem := judgeFactory(g, args); problem != "" {
			return problem
		}
		return m.judgeInert(parts(args[1:]))
	case g.is("functools.partial"), g.in("pandas") && by == byCall, g.in("sklearn") && by == byNew, g.in("scipy") && by == byNew:
		return "" // these only keep what they are given, or take apart what pandas describes
	case g.is("collections.defaultdict") && len(args) > 0:
		made.active = isActive(args[0])
		return m.judgeInert(args[1:])
	case g.is("fractions.Fraction") && len(args) == 1:
		if written, ok := args[0].(text); !ok || !isFraction.MatchString(string(written)) {
			return "Python writes no fraction in this way" // 1e999999999 takes for ever
		}
	case g.module == "builtins":
		if problem := judgeBuiltin(args); problem != "" {
			return problem
		}
	}
	return m.judgeInert(args)
}

var isFraction = regexp.MustCompile(`^-?[0-9]+(/[0-9]+)?$`)

// parts gives the values, and those within the ones that are tuples.
func parts(args []value) []value {
	var inner []value
	for _, arg := range args {
		if list, ok := arg.(tuple); ok {
			inner = append(inner, list.items...)
		} else {
			inner = append(inner, arg)
		}
	}
	return inner
}

// judgeInert sees that what is called cannot call in its turn. dict(x) asks x for its keys, str(x) for its name, a ball tree a metric for
// distances; an object whose state has a callable in the place of a method would call that.
func (m *machine) judgeInert(args []value) string {
	for _, arg := range args {
		_, isList := arg.(*list)
		_, isDict := arg.(*dict)
		if isActive(arg) || m.findings.late && (isList || isDict) {
			return "it is given an object, which it may ask to do something"
		}
	}
	return ""
}

// isActive says whether a value is, or holds, an object that does more than to be data when it is asked for something: one of a class with
// methods in Python. What an object is that only whoever allows its class lets pass, is his.
func isActive(v value) bool {
	switch v := v.(type) {
	case *global, lost:
		return true
	case tuple:
		return v.active
	case *list:
		return v.active
	case *dict:
		return v.active
	case *object:
		return v.active || !isInertClass(v.callee)
	}
	return false
}

// isInertClass says whether objects that a name makes are data through and through, save what is put into them.
func isInertClass(g *global) bool {
	switch g.module {
	case "builtins", "datetime", "decimal", "fractions", "collections":
		return !reaches(g)
	case "numpy":
		return g.use == byMention || g.name == "dtype" // a class of arrays or of scalars
	}
	return g.severity != "" || isReconstructed(g) || g.in("numpy") && (g.name == "scalar" || g.name == "_frombuffer")
}

// replaces says whether an attribute of an object takes the place of a method, and can be called, or would be called by another way.
func replaces(key, item value) bool {
	if key == text("_sklearn_version") { // which scikit-learn puts into a warning
		return isActive(item)
	}
	if name, ok := key.(text); !isUnwritten(key) && (!ok || !known().methods[name]) {
		return false
	}
	switch item := item.(type) {
	case *global:
		return item.severity == ""
	case lost:
		return true
	case *object:
		return item.callee.callable || !item.made && !isInertClass(item.callee)
	}
	return false
}

func replacedBy(name text) string {
	return fmt.Sprintf("its state has what can be called in the place of %s", name)
}

// methodType is types.MethodType, which cloudpickle names in a way of its own.
var methodType = &global{module: "types", name: "MethodType", use: byCall}

const methodTypeMaker = "cloudpickle.cloudpickle._builtin_type"

// reaches says whether a function returns what its arguments name. Discrete distributions of scipy's keep a method of their own within
// numpy.vectorize, which pickle writes as getattr(distribution, "_entropy"), cloudpickle as MethodType(_entropy, distribution).
func reaches(g *global) bool {
	return g.is("builtins.getattr") || g.is(methodTypeMaker) || g == methodType
}

func judgeReach(g *global, args []value) string {
	switch {
	case g.is(methodTypeMaker) && len(args) == 1 && args[0] == text("MethodType"):
		return ""
	case g.is("builtins.getattr") && len(args) == 2 && isOwnDistribution(args[0]) && distributionMethods[args[1]]:
		return ""
	case g == methodType && len(args) == 2 && isOwnDistribution(args[1]):
		if method, ok := args[0].(*global); ok && method.severity == "" && method.in("scipy.stats") {
			return ""
		}
	}
	return "it reaches what it is told"
}

func isOwnDistribution(v value) bool {
	o, ok := v.(*object)
	return ok && o.made && o.callee.severity == "" && o.callee.in("scipy.stats")
}

var distributionMethods = map[value]bool{text("_entropy"): true, text("_cdf_single"): true, text("_ppf_single"): true}

// isRecord says that numpy.dtype is given a class of numpy's, as records do.
func isRecord(args []value) bool {
	if len(args) == 0 {
		return false
	}
	class, ok := args[0].(*global)
	return ok && class.module == "numpy"
}

// judgeReconstruct allows the empty array of a class, which is filled by its state.
func judgeReconstruct(args []value) string {
	if len(args) < 3 {
		return "numpy writes no array in this way"
	}
	if _, ok := args[0].(*global); !ok {
		return "numpy writes no array in this way"
	}
	for _, arg := range args[1:] {
		if shape, ok := arg.(tuple); ok && product(shape) != 0 {
			return "it makes an array of a size that is not in the file"
		}
	}
	return ""
}

// judgeBuffer looks at the functions that make a scalar or an array of bytes. With a type of objects, the first returns any object as it is,
// and the second makes objects of bytes.
func (m *machine) judgeBuffer(g *global, args []value, made *object) string {
	kind, bytes, shape := 0, 1, value(tuple{})
	if g.name == "_frombuffer" {
		if len(args) < 3 {
			return "numpy writes no array in this way"
		}
		kind, bytes, shape = 1, 0, args[2]
	}
	if len(args) < 2 {
		return "numpy writes no scalar in this way"
	}
	described := dtypeOf(args[kind])
	if described == nil || described.kind == 0 || described.objects || !isString(args[bytes]) {
		return "numpy writes neither scalars nor arrays of such a type and content"
	}
	content, _ := args[bytes].(data)
	made.array = m.newArray(g, described, shape, string(content)).array
	return ""
}

// isString says that a value is a string, or bytes, or another plain thing that needs no look.
func isString(v value) bool {
	switch v := v.(type) {
	case text, data, opaque:
		return true
	case *object: // bytes and bytearrays in the protocols that have no opcode for them
		return v.callee.is("builtins.bytes") || v.callee.is("builtins.bytearray")
	}
	return false
}

// judgeUfunc allows the functions that numpy could name as well. It imports whatever module it is told.
func judgeUfunc(args []value) string {
	if len(args) == 2 {
		module, isText := args[0].(text)
		name, isTextToo := args[1].(text)
		if isText && isTextToo && within(string(module), "numpy") {
			if g, ok := known().allowed[qualified{string(module), string(name)}]; ok && g.use == byMention {
				return ""
			}
		}
	}
	return "it imports what it is told, which is not known to be harmless"
}

// judgeRandom allows what makes random states: each is a name of numpy's, or comes from one. Another function would be called.
func judgeRandom(args []value) string {
	for _, arg := range args {
		switch arg := arg.(type) {
		case text, none:
			continue
		case *global:
			if arg.in("numpy.random") {
				continue
			}
		case *object:
			if arg.callee.in("numpy.random") {
				continue
			}
		}
		return "it calls what it is given, which is not numpy's"
	}
	return ""
}

// judgeFactory allows functions that make an object of a class to make one of their own package.
func judgeFactory(g *global, args []value) string {
	if len(args) > 0 {
		if class, ok := args[0].(*global); ok && (class.severity != "" || topLevel(class.module) == topLevel(g.module)) {
			return ""
		}
	}
	return "it makes an object of a class that is not its package's"
}

// judgeBuiltin sees that a container is not of a size that is not in the file.
func judgeBuiltin(args []value) string {
	for _, arg := range args {
		switch arg := arg.(type) {
		case integer:
			if arg > 1<<20 {
				return "it makes an object of a size that is not in the file"
			}
		case *object:
			if arg.callee.is("builtins.range") {
				return "it makes an object of a size that is not in the file"
			}
		}
	}
	return ""
}

// judgeBase looks at what copyreg._reconstructor makes an object from: object, or a container that the class extends.
func (m *machine) judgeBase(g *global, rest []value) string {
	if !g.is("copyreg._reconstructor") {
		return ""
	}
	if len(rest) == 2 {
		if base, ok := rest[0].(*global); ok && base.module == "builtins" && bases[base.name] {
			switch rest[1].(type) {
			case *list, *dict: // which the class takes as they are
				return ""
			}
			return m.judgeInert(rest[1:])
		}
	}
	return "it makes an object of a class that is not its own"
}

var bases = map[string]bool{
	"object": true, "dict": true, "list": true, "tuple": true, "set": true, "frozenset": true, "int": true, "float": true, "str": true, "complex": true,
}

// The names that are only ever used in their place. As an argument, or kept, the first would let another function make a wrapper, behind which
// joblib reads an array and this reader would not; the second, called by whoever it was kept for, makes files; the others reach anything.
func onlyInPlace(g *global) bool {
	return g.is("joblib.numpy_pickle.NumpyArrayWrapper") || isMemmap(g) || reaches(g)
}

// isMemmap says whether a value is the class of arrays that lie in files. Models have it where they were trained on such arrays.
func isMemmap(v value) bool {
	g, ok := v.(*global)
	return ok && g.is("numpy.memmap")
}

// hides says whether a value is, or holds, a name that is only ever used in its place. Lists and dictionaries are looked at when they are
// filled.
func hides(v value) bool {
	switch v := v.(type) {
	case *global:
		return onlyInPlace(v)
	case tuple:
		return v.hides
	}
	return false
}

// judgeItem looks at what is put into a list or a dictionary.
func (m *machine) judgeItem(item value) {
	if hides(item) {
		m.deceptive("it keeps a name that is only ever used in its place")
	}
}

// judgeState says what is wrong with the state that an object is given.
func (m *machine) judgeState(instance *object, state value) string {
	if hides(state) {
		return "it is given a name that is only ever used in its place"
	}
	if instance.callee.severity != "" {
		return "" // whoever allows the name allows what it does
	}
	if isDistribution(instance.callee) {
		return judgeTemplate(state)
	}
	switch state := state.(type) {
	case lost:
		return "its state is not written out"
	case *object, *global:
		return "its state is an object, which scikit-learn does not write"
	case *list:
		return "its state is a list, which scikit-learn does not write"
	case *dict:
		return judgeKeys(state)
	case tuple:
		// Where the class says nothing else, the second of two is set as attributes, one by one.
		for _, part := range state.items[:min(len(state.items), maxArguments)] {
			if attributes, ok := part.(*dict); ok {
				if problem := judgeKeys(attributes); problem != "" {
					return problem
				}
			}
		}
	}
	return ""
}

func judgeKeys(state *dict) string {
	if state.special != "" {
		return fmt.Sprintf("its state sets %s, which changes what the object is", state.special)
	}
	if state.replaced != "" {
		return replacedBy(state.replaced)
	}
	return ""
}

// isDistribution says whether unpickling executes a template from the object's own state (scipy/stats/_distn_infrastructure.py,
// rv_generic.__setstate__).
func isDistribution(g *global) bool {
	return g.in("scipy.stats") && !strings.HasSuffix(g.name, "_frozen") && g.name != "gaussian_kde"
}

// judgeTemplate allows only the template that scipy makes itself.
func judgeTemplate(state value) string {
	const altered = "it executes a template from its own state, which is not the one that scipy writes"
	entries, ok := state.(*dict)
	if !ok || entries.more || entries.special != "" || entries.replaced != "" {
		return altered
	}
	template, ok := entries.entry("_parse_arg_template").(text)
	if !ok {
		return altered
	}
	parts := templateStart.FindStringSubmatch(string(template))
	if parts == nil {
		return altered
	}
	for _, scale := range []struct{ in, out string }{{"loc=0, scale=1", "loc, scale"}, {"loc=0", "loc, 1"}} {
		filled := strings.NewReplacer("{shapes}", parts[1], "{in}", scale.in, "{out}", scale.out).Replace(scipyTemplate)
		if string(template) == filled {
			return ""
		}
	}
	return altered
}

var templateStart = regexp.MustCompile(`^\ndef _parse_args\(self, ((?:[A-Za-z_][A-Za-z0-9_]*, )*) loc=0`)

// scipyTemplate is parse_arg_template of scipy/stats/_distn_infrastructure.py.
const scipyTemplate = `
def _parse_args(self, {shapes} {in}):
    return ({shapes}), {out}

def _parse_args_rvs(self, {shapes} {in}, size=None):
    return self._argcheck_rvs({shapes} {out}, size=size)

def _parse_args_stats(self, {shapes} {in}, moments='mv'):
    return ({shapes}), {out}, moments
`

// calculate gives the results of calls that other parts of the file may refer to.
func (m *machine) calculate(g *global, arguments value) (value, bool) {
	list, ok := arguments.(tuple)
	if !ok {
		return nil, false
	}
	switch {
	case g.is("_codecs.encode") && len(list.items) == 2:
		written, ok := list.items[0].(text)
		if !ok {
			return opaque{}, true
		}
		return latin1(written), true
	case g.is(methodTypeMaker) && len(list.items) == 1 && list.items[0] == text("MethodType"):
		return methodType, true
	}
	return nil, false
}

// latin1 gives the bytes that pickle writes as a string in the protocols that have no bytes.
func latin1(written text) value {
	bytes := make([]byte, 0, len(written))
	for _, character := range string(written) {
		if character > 0xff {
			return opaque{}
		}
		bytes = append(bytes, byte(character)) //nolint:gosec // checked above
	}
	return data(bytes)
}
