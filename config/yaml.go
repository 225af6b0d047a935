package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// entry is a member of a YAML mapping. first is the line of an earlier one of the same name, else 0.
type entry struct {
	key, value *yaml.Node
	first      int
}

// parseYAML returns the mapping that a file of one YAML document is.
func parseYAML(file File) (*yaml.Node, error) {
	if len(file.Data) > MaxFileBytes {
		return nil, &Error{File: file.Name, Problem: fmt.Sprintf("is larger than %d bytes", MaxFileBytes), Remedy: "give the YAML file of the pipeline"}
	}
	decoder := yaml.NewDecoder(bytes.NewReader(file.Data))
	var root yaml.Node
	err := decoder.Decode(&root)
	switch {
	case errors.Is(err, io.EOF) || err == nil && isNull(root.Content[0]):
		return nil, &Error{File: file.Name, Problem: "is empty", Remedy: "give the YAML file of the pipeline"}
	case err != nil:
		return nil, syntaxError(file, err)
	}
	var second yaml.Node
	switch err := decoder.Decode(&second); {
	case err == nil:
		return nil, &Error{File: file.Name, Line: second.Line, Problem: "begins a second YAML document", Remedy: "keep one document in the file"}
	case !errors.Is(err, io.EOF):
		return nil, syntaxError(file, err)
	}
	mapping := resolve(root.Content[0])
	if mapping.Kind != yaml.MappingNode {
		return nil, &Error{File: file.Name, Line: mapping.Line, Problem: "is not a YAML mapping", Remedy: "give sections with keys and values"}
	}
	return mapping, nil
}

var yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?(.*)$`)

// syntaxError takes the line out of the parser's message, its only place.
func syntaxError(file File, err error) *Error {
	failure := &Error{File: file.Name, Problem: "is not YAML", Remedy: "check the indentation, colons and quotes from there on"}
	if match := yamlLine.FindStringSubmatch(err.Error()); match != nil {
		failure.Line, _ = strconv.Atoi(match[1]) // "" where the message has no line, then 0
		failure.Problem += " (" + match[2] + ")"
	}
	lines := bytes.Split(file.Data, []byte("\n"))
	// The parser names some errors by the line before, counting lines from 0.
	for i := max(failure.Line-1, 0); i <= failure.Line && i < len(lines); i++ {
		if indent := lines[i][:len(lines[i])-len(bytes.TrimLeft(lines[i], " \t"))]; bytes.ContainsRune(indent, '\t') {
			failure.Line, failure.Remedy = i+1, "indent with spaces, not with tabs"
			break
		}
	}
	return failure
}

// entries lists the members of a mapping: its own, then those that merge keys bring (yaml.org/type/merge).
func (d document) entries(mapping *yaml.Node, prefix string, budget *int) ([]entry, error) {
	var members, merged []entry
	lines := map[string]int{}
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		if *budget--; *budget < 0 {
			return nil, &Error{File: d.file, Line: mapping.Line, Problem: "has too many keys or merges", Remedy: "write the values out"}
		}
		key, value := resolve(mapping.Content[i]), mapping.Content[i+1]
		if key.ShortTag() == "!!merge" {
			more, err := d.merge(resolve(value), prefix, budget)
			if err != nil {
				return nil, err
			}
			merged = append(merged, more...)
			continue
		}
		members = append(members, entry{key, value, lines[key.Value]})
		lines[key.Value] = key.Line
	}
	for _, member := range merged {
		if find(members, member.key.Value) == nil {
			members = append(members, member)
		}
	}
	return members, nil
}

// merge lists the members of what a merge key names: a mapping, or a list of mappings.
func (d document) merge(value *yaml.Node, prefix string, budget *int) ([]entry, error) {
	sources := []*yaml.Node{value}
	if value.Kind == yaml.SequenceNode {
		sources = value.Content
	}
	var members []entry
	for _, source := range sources {
		source = resolve(source)
		if source.Kind != yaml.MappingNode {
			return nil, &Error{File: d.file, Line: value.Line, Key: prefix + "<<", Value: show(source), Problem: "is not a mapping", Remedy: "merge a mapping, such as *defaults"}
		}
		more, err := d.entries(source, prefix, budget)
		if err != nil {
			return nil, err
		}
		members = append(members, more...)
	}
	return members, nil
}

func find(members []entry, name string) *entry {
	for i := range members {
		if members[i].key.Kind == yaml.ScalarNode && members[i].key.Value == name {
			return &members[i]
		}
	}
	return nil
}

// resolve follows an alias; the parser made sure that it names an anchor.
func resolve(node *yaml.Node) *yaml.Node {
	if node.Kind == yaml.AliasNode {
		return node.Alias
	}
	return node
}

func isNull(node *yaml.Node) bool {
	return node.Kind == yaml.ScalarNode && node.ShortTag() == "!!null"
}

// show is a value as an error names it: short, strings in quotes, the rest as it was written.
func show(node *yaml.Node) string {
	switch {
	case node.Kind == yaml.MappingNode:
		return "a mapping"
	case node.Kind == yaml.SequenceNode:
		return "a list"
	case isNull(node):
		return "nothing"
	case node.ShortTag() == "!!str":
		return quoted(node.Value)
	}
	return strings.Trim(quoted(node.Value), `"`)
}

func quoteRemedy(node *yaml.Node, otherwise string) string {
	if node.Kind != yaml.ScalarNode || isNull(node) {
		return otherwise
	}
	return fmt.Sprintf("put it in quotes: %s", quoted(node.Value))
}
