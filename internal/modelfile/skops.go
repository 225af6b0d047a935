package modelfile

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
)

// FormatSkops is a zip archive of arrays and of a schema.json that says which objects they belong to (skops/io/_persist.py). It names
// classes and functions too, and skops imports those that it is told to trust.
const FormatSkops = "skops"

const (
	zipMagic   = "PK\x03\x04"
	schemaName = "schema.json"

	// maxDirectory bounds the archive's table of contents: a hundred thousand arrays, at some 70 bytes each.
	maxDirectory = 8 << 20
	// maxSchema bounds schema.json, which is read as a stream: a forest of a thousand deep trees has some 30 MiB.
	maxSchema = 256 << 20
	// maxSchemaDepth is where Python's own reader of JSON gives up.
	maxSchemaDepth = 1000
	// maxToken bounds a text in the schema; vocabularies and other data lie beside it, but in small pieces.
	maxToken = 4 << 20
)

// readSkops reads an archive that lies in file. Content, which is all of the source, is read to its end first, for its size and its digest, and
// because it may be one that checks itself there.
func readSkops(source *source, content io.Reader, file io.ReaderAt, found *findings) (Info, error) {
	names := &search{wanted: []byte(schemaName)}
	if _, err := io.Copy(names, content); err != nil {
		return Info{}, err
	}
	// Readers disagree on where an archive has its table of contents, but not on how a name in it is written.
	found.announced = names.found
	schema, err := openSchema(file, source.read)
	if err != nil {
		return Info{}, &FormatError{Problem: err.Error()}
	}
	defer schema.Close()
	reader := newSchemaReader(source.ctx, io.LimitReader(schema, maxSchema), found)
	if err := reader.document(); err != nil {
		if source.failed = source.ctx.Err(); source.failed != nil {
			return Info{}, err
		}
		return Info{}, &FormatError{Offset: reader.tokens.InputOffset(), Problem: schemaProblem(err)}
	}
	return Info{
		Format: FormatSkops, RootClass: reader.root.String(), Framework: topLevel(reader.root.module), SklearnVersion: found.sklearnVersion,
		Modules: found.modules(), Globals: found.names(), Reasons: found.reasons,
	}, nil
}

// openSchema finds schema.json. What another reader of zip archives could take for something else is refused.
func openSchema(file io.ReaderAt, size int64) (io.ReadCloser, error) {
	if err := checkEnd(file, size); err != nil {
		return nil, err
	}
	content, err := zip.NewReader(file, size)
	if err != nil {
		return nil, fmt.Errorf("the zip archive is damaged: %w", err)
	}
	var schema *zip.File
	for _, entry := range content.File {
		// Python ends a name at a NUL, and takes another one from an extra field.
		if !entryName.MatchString(entry.Name) || len(entry.Extra) > 0 {
			return nil, errors.New("it is a zip archive with names that skops does not write: save the model with skops.io.dump, joblib.dump or pickle.dump")
		}
		switch {
		case entry.Name != schemaName:
		case schema != nil:
			return nil, errors.New("it is a zip archive with two " + schemaName) // Python takes the last
		default:
			schema = entry
		}
	}
	if schema == nil {
		return nil, errors.New("it is a zip archive without " + schemaName + " (NumPy .npz or PyTorch): save the model with skops.io.dump, joblib.dump or pickle.dump")
	}
	if schema.UncompressedSize64 > maxSchema {
		return nil, fmt.Errorf("its %s has over %d bytes", schemaName, maxSchema)
	}
	opened, err := schema.Open()
	if err != nil {
		return nil, fmt.Errorf("its %s cannot be read: %w", schemaName, err)
	}
	return opened, nil
}

// search says whether some bytes are among those that are written to it.
type search struct {
	wanted, tail []byte
	found        bool
}

func (s *search) Write(p []byte) (int, error) {
	border := append(s.tail, p[:min(len(p), len(s.wanted))]...)
	s.found = s.found || bytes.Contains(border, s.wanted) || bytes.Contains(p, s.wanted)
	last := p
	if len(p) < len(s.wanted) {
		last = border
	}
	s.tail = append([]byte(nil), last[max(0, len(last)-len(s.wanted)+1):]...)
	return len(p), nil
}

// entryName is what skops calls the files of an archive: schema.json, and a number for each array.
var entryName = regexp.MustCompile(`^[0-9A-Za-z_.-]{1,128}$`)

// checkEnd reads the record that ends an archive (PKWARE's APPNOTE.TXT, 4.3.16), before anybody makes room for the table of contents that it
// names. The table must lie right before it: where something lies between or before, Go and Python look for it in different places.
func checkEnd(file io.ReaderAt, size int64) error {
	const record, locator = 22, 20
	end := make([]byte, min(size, record+locator))
	if _, err := file.ReadAt(end, size-int64(len(end))); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if len(end) < record || string(end[len(end)-record:][:4]) != "PK\x05\x06" {
		return errors.New("the zip archive has no end, or something behind it: it was cut short, or is still being written")
	}
	if len(end) == record+locator && string(end[:4]) == "PK\x06\x07" {
		return errors.New("the zip archive is one of over 4 GiB, which is not read")
	}
	fields := end[len(end)-record:]
	directory, offset := binary.LittleEndian.Uint32(fields[12:]), binary.LittleEndian.Uint32(fields[16:])
	if directory > maxDirectory {
		return fmt.Errorf("the zip archive has a table of contents of over %d bytes, which no model has", maxDirectory)
	}
	if int64(directory)+int64(offset)+record != size {
		return errors.New("the zip archive has something before or between its parts, where another reader may find other ones")
	}
	return nil
}

// schemaNode is a JSON object of the schema: an object of a class, or a function.
type schemaNode struct {
	module, class, loader, content string
	// path and function name a function in files of the first skops versions.
	path, function string
}

// schemaReader walks through the schema and keeps names, nothing else.
type schemaReader struct {
	ctx      context.Context // a walk takes seconds
	tokens   *json.Decoder
	budget   *tokenBudget
	findings *findings
	root     *global
	// keyTypes says that what is read are the types of a dictionary's keys, which skops calls with each key.
	keyTypes bool
}

func newSchemaReader(ctx context.Context, schema io.Reader, found *findings) *schemaReader {
	budget := &tokenBudget{r: schema}
	tokens := json.NewDecoder(budget)
	tokens.UseNumber()
	return &schemaReader{ctx: ctx, tokens: tokens, budget: budget, findings: found}
}

// token reads the next name, value or bracket.
func (r *schemaReader) token() (json.Token, error) {
	r.budget.left = maxToken
	return r.tokens.Token()
}

// tokenBudget ends in an error where a token is longer than any that skops writes: the decoder holds each whole.
type tokenBudget struct {
	r    io.Reader
	left int
}

func (b *tokenBudget) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, problem("its schema.json has a longer text than models have")
	}
	n, err := b.r.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}

func (r *schemaReader) document() error {
	opening, err := r.token()
	if err != nil {
		return err
	}
	if opening != json.Delim('{') {
		return problem("its schema.json is no JSON object")
	}
	root, err := r.object(0)
	if err != nil {
		return err
	}
	if r.root = r.findings.globals[qualified{root.module, root.class}]; r.root == nil {
		return problem("its schema.json is of no object")
	}
	if _, err := r.token(); !errors.Is(err, io.EOF) {
		return problem("its schema.json goes on behind its end")
	}
	return nil
}

// value reads what a key or an array holds, and gives a node, or the text of a string as if it were the content of one.
func (r *schemaReader) value(depth int) (schemaNode, error) {
	if depth > maxSchemaDepth {
		return schemaNode{}, problem("its schema.json nests deeper than models do")
	}
	token, err := r.token()
	if err != nil {
		return schemaNode{}, err
	}
	switch token {
	case json.Delim('{'):
		return r.object(depth + 1)
	case json.Delim('['):
		for r.tokens.More() {
			if _, err := r.value(depth + 1); err != nil {
				return schemaNode{}, err
			}
		}
		_, err := r.token()
		return schemaNode{}, err
	}
	text, _ := token.(string)
	return schemaNode{content: text}, nil
}

// object reads a JSON object behind its brace. One with a class and a module is a node.
func (r *schemaReader) object(depth int) (node schemaNode, err error) {
	if err := r.ctx.Err(); err != nil {
		return node, err
	}
	seen := map[string]bool{}
	for r.tokens.More() {
		key, err := r.token()
		if err != nil {
			return node, err
		}
		name, _ := key.(string)
		outer := r.keyTypes
		r.keyTypes = outer || name == "key_types"
		inner, err := r.value(depth)
		r.keyTypes = outer
		if err != nil {
			return node, err
		}
		content := inner.content
		if known().methods[text(name)] && inner.isCallable() {
			r.findings.object(Reason{Severity: Deceptive, Offset: r.tokens.InputOffset(), Problem: replacedBy(text(name))})
		}
		if field := node.field(name); field != nil {
			if seen[name] {
				return node, problem("its schema.json says one thing twice")
			}
			seen[name], *field = true, content
		}
		if name == "_sklearn_version" {
			r.version(content)
		}
	}
	if _, err := r.token(); err != nil {
		return node, err
	}
	if r.keyTypes && !node.isKeyType() {
		r.findings.object(Reason{Severity: Deceptive, Offset: r.tokens.InputOffset(), Problem: "the keys of a dictionary are made by what is no plain type"})
	}
	if seen["module_path"] || seen["function"] {
		if err := r.name(node.path, node.function); err != nil {
			return node, err
		}
	}
	if seen["__module__"] || seen["__class__"] {
		r.judgeLoader(node)
		return node, r.name(node.module, node.class)
	}
	return node, nil
}

// field is where the text of a key belongs; nil for keys of no interest.
func (n *schemaNode) field(key string) *string {
	switch key {
	case "__module__":
		return &n.module
	case "__class__":
		return &n.class
	case "__loader__":
		return &n.loader
	case "content":
		return &n.content
	case "module_path":
		return &n.path
	case "function":
		return &n.function
	}
	return nil
}

// isCallable says whether the object of a node can be called. One that was loaded before under another name may be anything.
func (n schemaNode) isCallable() bool {
	switch n.loader {
	case "FunctionNode", "PartialNode", "MethodNode", "OperatorFuncNode", "TypeNode", "CachedNode":
		return true
	}
	g, ok := known().allowed[qualified{n.module, n.class}]
	return ok && g.callable
}

// isKeyType says whether a node is a plain type that makes a key of its text, or the list of such ones.
func (n schemaNode) isKeyType() bool {
	if n.loader == "ListNode" {
		return n.module == "builtins" && n.class == "list"
	}
	return n.loader == "TypeNode" && (n.module == "builtins" || n.module == "numpy" && !known().denied[qualified{n.module, n.class}])
}

// judgeLoader looks at how skops makes an object of a node (skops/io): some of its loaders call the class with arguments from the file, so each goes
// with its own classes only.
func (r *schemaReader) judgeLoader(node schemaNode) {
	name := &global{module: node.module, name: node.class}
	reason := Reason{Severity: Denied, Global: name.String(), Offset: r.tokens.InputOffset()}
	switch g, ok := known().allowed[qualified{node.module, node.class}]; {
	case node.loader == "ConstructorFromReduceNode":
		reason.Problem = "it is called with arguments from the file"
	case node.loader == "MethodNode":
		reason.Problem = "it reaches into an object"
	case ok && !isLoadedBy(g, node.loader):
		reason.Severity, reason.Problem = Deceptive, "it is not what skops makes by the loader that the file names"
	default:
		return
	}
	r.findings.object(reason)
}

// isLoadedBy says whether skops writes a loader for the objects of a class, or a function.
func isLoadedBy(g *global, loader string) bool {
	switch loader {
	case "ObjectNode":
		return g.use != byMention
	case "FunctionNode", "TypeNode", "JsonNode":
		return true
	case "DictNode":
		return g.is("builtins.dict") || g.is("collections.OrderedDict") || g.use == byNew && g.items
	case "DefaultDictNode":
		return g.is("collections.defaultdict")
	case "_DictWithDeprecatedKeysNode":
		return g.use == byNew && g.items
	case "ListNode":
		return g.is("builtins.list")
	case "SetNode":
		return g.is("builtins.set") || g.is("builtins.frozenset")
	case "TupleNode": // of named ones, too
		return g.is("builtins.tuple") || g.use == byNew && g.in("sklearn")
	case "PartialNode":
		return g.is("functools.partial")
	case "SliceNode":
		return g.is("builtins.slice")
	case "BytesNode":
		return g.is("builtins.bytes")
	case "BytearrayNode":
		return g.is("builtins.bytearray")
	case "NdArrayNode":
		return g.module == "numpy" && g.use == byMention && !known().denied[qualified{g.module, g.name}]
	case "MaskedArrayNode":
		return g.in("numpy.ma")
	case "RandomStateNode", "RandomGeneratorNode":
		return g.in("numpy.random") && g.use == byMention
	case "DTypeNode":
		return g.is("numpy.dtype") || g.in("numpy.dtypes")
	case "SparseMatrixNode":
		return g.in("scipy.sparse")
	case "TreeNode":
		return g.is("sklearn.tree._tree.Tree")
	case "LossNode":
		return g.use == byCall && (g.in("sklearn._loss._loss") || g.in("sklearn.linear_model._sgd_fast"))
	}
	return false
}

// name judges what a node is of.
func (r *schemaReader) name(module, class string) error {
	if module == "" || class == "" {
		return problem("its schema.json has an object without a class")
	}
	name := qualified{module, class}
	if r.findings.globals[name] != nil {
		return nil
	}
	if len(r.findings.globals) == maxGlobals {
		return problem("its schema.json names more classes than models have")
	}
	g := known().judge(module, class)
	r.findings.globals[name] = g
	reason := Reason{Severity: g.severity, Global: g.String(), Offset: r.tokens.InputOffset()}
	switch {
	case g.severity == Unknown:
		reason.Problem = problemUnknown
	case g.severity != "":
		reason.Problem = problemDenied
	case known().denied[name]:
		reason.Severity, reason.Problem = Denied, problemDenied
	case isDistribution(g):
		reason.Severity, reason.Problem = Denied, "it executes a template from its own state"
	case dependsOnArguments(g):
		reason.Severity, reason.Problem = Denied, "what it does depends on its arguments, and skops writes no such name"
	default:
		return nil
	}
	r.findings.object(reason)
	return nil
}

// dependsOnArguments says that a name is on the list of the allowed only because pickles are judged by what it is called with.
func dependsOnArguments(g *global) bool {
	return g.use == byCall && (strings.HasPrefix(g.name, "_") || g.name == "scalar" || g.name == "newObj" || g.is("builtins.getattr") || g.is("_codecs.encode"))
}

// version keeps the first version of an estimator: all parts of a model are saved by one. It is JSON within JSON.
func (r *schemaReader) version(written string) {
	var version string
	if r.findings.sklearnVersion == "" && json.Unmarshal([]byte(written), &version) == nil && versionShape.MatchString(version) {
		r.findings.sklearnVersion = version
	}
}

func schemaProblem(err error) string {
	var found problem
	switch {
	case errors.As(err, &found):
		return string(found)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "its schema.json ends in the middle"
	}
	return "its schema.json is damaged"
}
