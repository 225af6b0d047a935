package modelfile

import "regexp"

// versionShape is what a version looks like. What does not, is not passed on.
var versionShape = regexp.MustCompile(`^[0-9][0-9A-Za-z.!+_-]{0,63}$`)

// nameShape is what a module or a name in it looks like. What does not, is not passed on: it may be a line of a file that is no pickle.
var nameShape = regexp.MustCompile(`^[\pL_][\pL\pN_]*(\.[\pL_][\pL\pN_]*)*$`)

// problemUnknown and problemDenied are what speaks against a name.
const (
	problemUnknown = "it is not among the names that models of scikit-learn are known to need"
	problemDenied  = "it executes what it is given, or reaches beyond the model"
)

// named gives what an import by name stands for, and judges the name.
func (m *machine) named(module, name value) value {
	moduleName, isText := module.(text)
	attribute, isTextToo := name.(text)
	if !isText || !isTextToo || !nameShape.MatchString(string(moduleName)) || !nameShape.MatchString(string(attribute)) {
		m.deceptive("it imports a name that is not written out")
		return lost{}
	}
	pair := qualified{string(moduleName), string(attribute)}
	if m.protocol < 3 { // as Python 3 does, so that it can read what Python 2 wrote
		pair.module, pair.name = known().modern(pair.module, pair.name)
	}
	if g, ok := m.findings.globals[pair]; ok {
		return g
	}
	if len(m.findings.globals) >= maxGlobals {
		m.deceptive("it imports more names than a model does")
		return lost{}
	}
	g := known().judge(pair.module, pair.name)
	m.findings.globals[pair] = g
	switch g.severity {
	case Unknown:
		m.object(Unknown, g.String(), problemUnknown)
	case Denied:
		m.object(Denied, g.String(), problemDenied)
	}
	return g
}

// call pushes the result of using something with arguments: byCall, or byNew where the class's constructor is left out.
func (m *machine) call(callable, arguments value, by use) error {
	g, ok := callable.(*global)
	if !ok {
		m.deceptive("it calls what is not a name")
		return m.push(lost{})
	}
	m.findings.calls = true
	if g.use < by || g.use == byMention {
		severity := Unknown
		if known().denied[qualified{g.module, g.name}] { // it may be mentioned, as a class of arrays
			severity = Denied
		}
		m.object(severity, g.String(), "it is called while the file is loaded")
	}
	if class, rest, ok := newObject(g, arguments); ok {
		// Protocols 0 and 1 have no opcode for new objects: a function makes them, and its first argument is the class.
		if problem := m.judgeBase(g, rest); problem != "" {
			m.object(Deceptive, g.String(), problem)
		}
		if g.is("copyreg._reconstructor") && len(rest) > 0 {
			rest = rest[1:] // without the class that __new__ is taken from
		}
		return m.call(class, newTuple(rest), byNew)
	}
	made := &object{callee: g, made: by == byNew}
	if g.severity == "" {
		if problem := m.judgeCall(g, arguments, by, made); problem != "" {
			severity := Deceptive
			if reaches(g) {
				severity = Denied
			}
			m.object(severity, g.String(), problem)
		}
		if result, ok := m.calculate(g, arguments); ok {
			return m.push(result)
		}
	} else if hides(arguments) {
		m.deceptive("it hands on a name that is only ever used in its place")
	}
	return m.push(made)
}

// newObject takes the arguments of the functions by which copyreg makes objects apart.
func newObject(g *global, arguments value) (class value, rest []value, ok bool) {
	if !g.is("copyreg._reconstructor") && !g.is("copyreg.__newobj__") && !g.is("copyreg.__newobj_ex__") {
		return nil, nil, false
	}
	list, isTuple := arguments.(tuple)
	if !isTuple || len(list.items) == 0 {
		return lost{}, nil, true
	}
	return list.items[0], list.items[1:], true
}

// build gives the object on the top of the stack its state.
func (m *machine) build() error {
	state, err := m.pop()
	if err != nil {
		return err
	}
	top, err := m.top()
	if err != nil {
		return err
	}
	instance, ok := top.(*object)
	if !ok {
		m.deceptive("it changes what is no new object: a class, a function, or a part of another object")
		return nil
	}
	if instance.callee.is("joblib.numpy_pickle.NumpyArrayWrapper") && instance.made && m.joblib {
		return m.rawArray(instance, state)
	}
	if instance.callee.in("joblib.numpy_pickle") && (instance.callee.name == "NDArrayWrapper" || instance.callee.name == "ZNDArrayWrapper") {
		return problem("it was written by joblib before 0.10, with arrays in files beside it: save it again with joblib.dump")
	}
	if instance.built {
		m.deceptive("it gives an object its state twice")
	}
	instance.built = true
	if problem := m.judgeState(instance, state); problem != "" {
		m.object(Deceptive, instance.callee.String(), problem)
	}
	switch {
	case instance.dtype != nil:
		if problem := instance.dtype.describe(state); problem != "" {
			m.deceptive(problem)
			instance.dtype.kind = 0
		}
	case isReconstructed(instance.callee):
		m.fillArray(instance, state)
	default:
		hold(state)
		instance.state = state
		m.noteVersion(instance, state)
	}
	return nil
}

// noteVersion keeps scikit-learn's version. States are built from the inside out, so that the outermost comes last.
func (m *machine) noteVersion(instance *object, state value) {
	entries, ok := state.(*dict)
	if !ok || topLevel(instance.callee.module) != "sklearn" {
		return
	}
	if version, ok := entries.entry("_sklearn_version").(text); ok && versionShape.MatchString(string(version)) {
		m.findings.sklearnVersion = string(version)
	}
}

// global pushes what GLOBAL names, and for INST calls it.
func (m *machine) global(code byte) error {
	module, err := m.line()
	if err != nil {
		return err
	}
	name, err := m.line()
	if err != nil {
		return err
	}
	named := m.named(module, name)
	if code == 'c' {
		return m.push(named)
	}
	arguments, err := m.popMark()
	if err != nil {
		return err
	}
	return m.call(named, newTuple(arguments), byCall)
}

// line reads a name of protocol 0.
func (m *machine) line() (value, error) {
	line, whole, err := m.stream.line()
	if err != nil || !whole {
		return lost{}, err
	}
	return text(line), nil
}

func (m *machine) stackGlobal() error {
	names, err := m.take(2)
	if err != nil {
		return err
	}
	return m.push(m.named(names[0], names[1]))
}

// construct reads the opcodes that make an object of a class, or of a function, and arguments.
func (m *machine) construct(code byte) error {
	if code == 'o' { // OBJ: mark, class, arguments
		items, err := m.popMark()
		if err != nil {
			return err
		}
		if len(items) == 0 {
			return problem("it is no pickle, or damaged: an object has no class")
		}
		return m.call(items[0], newTuple(items[1:]), byCall)
	}
	count := 2
	if code == 0x92 { // NEWOBJ_EX has keyword arguments too
		count = 3
	}
	items, err := m.take(count)
	if err != nil {
		return err
	}
	arguments := items[1]
	if count == 3 {
		if keywords, ok := items[2].(*dict); !ok || len(keywords.entries) > 0 || keywords.more {
			arguments = newTuple(items[1:])
		}
	}
	by := byNew
	if code == 'R' {
		by = byCall
	}
	return m.call(items[0], arguments, by)
}
