package modelfile

import (
	_ "embed"
	"strings"
	"sync"
)

// use is what a name may be used for while a file is loaded. Each includes those before it.
type use int

const (
	byMention use = iota // kept as a value
	byNew                // made by __new__ alone, which calls no constructor
	byCall               // called
)

// global is something imported by name: a class or a function. Equal names are the same global.
type global struct {
	module, name string
	// severity is empty where the name is on the list of the allowed.
	severity Severity
	// use, items and params are what that list says.
	use    use
	items  bool
	params map[string]bool
	// callable says that it is a class whose objects can be called.
	callable bool
}

// String gives the name as Info.Globals has it. A name with dots reaches through what it begins with, so it is not to be taken for a module.
func (g *global) String() string {
	if strings.Contains(g.name, ".") {
		return g.module + ":" + g.name
	}
	return g.module + "." + g.name
}

// is compares with a module and a name, joined by a dot.
func (g *global) is(qualified string) bool {
	return len(qualified) == len(g.module)+1+len(g.name) && strings.HasPrefix(qualified, g.module) &&
		qualified[len(g.module)] == '.' && strings.HasSuffix(qualified, g.name)
}

// in says whether the global is of a package or a module below it.
func (g *global) in(module string) bool { return within(g.module, module) }

func within(module, parent string) bool {
	return module == parent || strings.HasPrefix(module, parent) && module[len(parent)] == '.'
}

//go:embed allowed.txt
var allowedText string

//go:embed denied.txt
var deniedText string

//go:embed python2.txt
var python2Text string

//go:embed methods.txt
var methodsText string

type qualified struct{ module, name string }

// lists are the names that are known.
type lists struct {
	allowed map[qualified]*global
	// words are the modules and names of the allowed: what a memo that overflows still keeps.
	words map[string]bool
	// denied has whole modules with all below them under an empty name.
	denied map[qualified]bool
	// python2 has what pickle makes of names in protocols 0 to 2 (Lib/_compat_pickle.py); whole modules under an empty name.
	python2 map[qualified]qualified
	// methods are the names under which Python finds methods of the classes that are allowed.
	methods map[text]bool
}

var known = sync.OnceValue(func() lists {
	l := lists{allowed: map[qualified]*global{}, words: map[string]bool{}, denied: map[qualified]bool{}, python2: map[qualified]qualified{}, methods: map[text]bool{}}
	for words := range lines(allowedText) {
		g := &global{module: words[0], name: words[1], items: strings.HasSuffix(words[2], ",items")}
		g.use = map[string]use{"ref": byMention, "new": byNew, "call": byCall}[strings.TrimSuffix(words[2], ",items")]
		if len(words) > 3 {
			g.params = map[string]bool{}
			for _, param := range words[3:] {
				g.params[param] = true
			}
		}
		l.allowed[qualified{g.module, g.name}] = g
		l.words[g.module], l.words[g.name] = true, true
	}
	for words := range lines(deniedText) {
		if len(words) == 1 {
			l.denied[qualified{words[0], ""}] = true
		}
		for _, name := range words[1:] {
			l.denied[qualified{words[0], name}] = true
		}
	}
	for words := range lines(python2Text) {
		if len(words) == 2 {
			l.python2[qualified{words[0], ""}] = qualified{words[1], ""}
		} else {
			l.python2[qualified{words[0], words[1]}] = qualified{words[2], words[3]}
		}
	}
	for words := range lines(methodsText) {
		if len(words) == 1 {
			l.methods[text(words[0])] = true
			continue
		}
		if g, ok := l.allowed[qualified{words[0], strings.TrimSuffix(words[1], "()")}]; ok {
			g.callable = true
		}
	}
	return l
})

// lines yields the words of each line that is no comment.
func lines(content string) func(yield func([]string) bool) {
	return func(yield func([]string) bool) {
		for line := range strings.Lines(content) {
			line = strings.TrimSpace(line)
			if line != "" && line[0] != '#' && !yield(strings.Split(line, " ")) {
				return
			}
		}
	}
}

// judge finds what the lists say of a name. Only the very pair of module and name is allowed, since packages hold on to other packages.
func (l lists) judge(module, name string) *global {
	if g, ok := l.allowed[qualified{module, name}]; ok {
		return g
	}
	g := &global{module: module, name: name, severity: Unknown, use: byCall, items: true}
	first, _, dotted := strings.Cut(name, ".")
	if dotted || l.denied[qualified{module, first}] {
		g.severity = Denied
	}
	for parent := module; parent != ""; {
		if l.denied[qualified{parent, ""}] {
			g.severity = Denied
		}
		parent = parent[:max(strings.LastIndexByte(parent, '.'), 0)]
	}
	return g
}

// modern gives the name that pickle imports for one of Python 2.
func (l lists) modern(module, name string) (string, string) {
	if renamed, ok := l.python2[qualified{module, name}]; ok {
		return renamed.module, renamed.name
	}
	if renamed, ok := l.python2[qualified{module, ""}]; ok {
		return renamed.module, name
	}
	return module, name
}
