package config

import (
	"fmt"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// document is what a YAML file says in the sections that are known, each value of its right kind.
type document struct {
	file   string
	values map[string]any
	// nodes has the node of each value, by section and key with a dot between, for errors.
	nodes map[string]*yaml.Node
}

// readDocument reads the sections of a file, and nothing else of it. What is in the schema of the other file, named other, would go
// unread here, and its thresholds with it.
func readDocument(file File, schema, foreign Schema, other string) (document, error) {
	d := document{file: file.Name, values: map[string]any{}, nodes: map[string]*yaml.Node{}}
	root, err := parseYAML(file)
	if err != nil {
		return d, err
	}
	// Merge keys may multiply what a small file says; no honest file comes near this bound.
	budget := 10_000
	members, err := d.entries(root, "", &budget)
	if err != nil {
		return d, err
	}
	for _, s := range foreign.Sections {
		if found := find(members, s.Name); found != nil && s.strict {
			return d, &Error{File: d.file, Line: found.key.Line, Key: s.Name, Problem: "is in the wrong file", Remedy: "move it to " + other}
		}
	}
	for _, s := range schema.Sections {
		found := find(members, s.Name)
		if found == nil {
			err = d.checkMisspelled(s, members)
		} else if err = d.checkOnce(members, s.Name, s.Name); err == nil {
			err = d.readSection(s, found.value, &budget)
		}
		if err != nil {
			return d, err
		}
		for _, key := range s.Keys {
			if path := s.Name + "." + key.Name; key.Required && d.nodes[path] == nil {
				failure := &Error{File: d.file, Key: path, Problem: "is missing", Remedy: fmt.Sprintf("add %s below %s", key.Name, s.Name)}
				if found != nil {
					failure.Line = found.key.Line
				}
				return d, failure
			}
		}
	}
	return d, nil
}

// readSection reads the known keys of a section, and in a strict one refuses all others.
func (d document) readSection(s Section, node *yaml.Node, budget *int) error {
	node = resolve(node)
	if isNull(node) {
		return nil
	}
	if node.Kind != yaml.MappingNode {
		return &Error{File: d.file, Line: node.Line, Key: s.Name, Value: show(node), Problem: "is not a mapping", Remedy: "give keys and values below it"}
	}
	members, err := d.entries(node, s.Name+".", budget)
	if err != nil {
		return err
	}
	values := map[string]any{}
	for _, member := range members {
		name, path := member.key.Value, s.Name+"."+member.key.Value
		wanted, known := s.key(name)
		if !known || member.key.Kind != yaml.ScalarNode {
			if s.strict {
				return &Error{File: d.file, Line: member.key.Line, Key: path, Problem: "is no known key", Remedy: fmt.Sprintf("the nearest known one is %s", nearest(name, s.Keys))}
			}
			continue
		}
		if err := d.checkOnce(members, name, path); err != nil {
			return err
		}
		value := resolve(member.value)
		if isNull(value) && !s.strict {
			continue
		}
		d.nodes[path] = value
		if values[name], err = d.convert(path, wanted, value, budget); err != nil {
			return err
		}
	}
	d.values[s.Name] = values
	return nil
}

// checkMisspelled refuses a section that looks like s, which is not there: ignored as the section of
// another stage, it would take the threshold or the address with it.
func (d document) checkMisspelled(s Section, members []entry) error {
	if !s.strict && s.Name != "mlflow" {
		return nil
	}
	for _, member := range members {
		if name := member.key.Value; distance(strings.ToLower(name), s.Name) <= len(s.Name)/6 {
			return &Error{File: d.file, Line: member.key.Line, Key: name, Problem: "is no known section", Remedy: "write " + s.Name}
		}
	}
	return nil
}

// checkOnce refuses a name that a mapping has twice. It is asked only for what is read, since the sections
// of other stages may hold anything.
func (d document) checkOnce(members []entry, name, path string) error {
	for _, member := range members {
		if member.first > 0 && member.key.Value == name {
			return &Error{File: d.file, Line: member.key.Line, Key: path, Problem: fmt.Sprintf("is there twice, first in line %d", member.first), Remedy: "keep one"}
		}
	}
	return nil
}

// convert turns a node into the Go value of the wanted key's kind, and refuses all that would need guessing.
func (d document) convert(path string, wanted Key, node *yaml.Node, budget *int) (any, error) {
	tag := node.ShortTag()
	switch wanted.kind {
	case number:
		var value float64
		if tag != "!!float" && tag != "!!int" || node.Decode(&value) != nil {
			return nil, d.fail(path, "is not a number", wanted.remedy())
		}
		return value, nil
	case duration:
		if tag == "!!int" || tag == "!!float" {
			return nil, d.fail(path, "has no unit", fmt.Sprintf("write %ss for seconds", node.Value))
		}
		if _, err := time.ParseDuration(node.Value); err != nil || tag != "!!str" {
			return nil, d.fail(path, "is not a duration", "give a number with its unit, such as 10s or 1m")
		}
		return node.Value, nil
	case textList:
		return d.texts(path, wanted, node)
	case versionMap:
		return d.versions(path, node, budget)
	default:
		if node.Kind != yaml.ScalarNode || tag != "!!str" {
			return nil, d.fail(path, "is not a string", quoteRemedy(node, "give a string"))
		}
		return node.Value, nil
	}
}

func (d document) texts(path string, key Key, node *yaml.Node) ([]string, error) {
	if node.Kind != yaml.SequenceNode {
		return nil, d.fail(path, "is not a list", fmt.Sprintf("give a list such as [%s], or [] for none", strings.TrimPrefix(key.Example, "- ")))
	}
	texts := []string{}
	for i, item := range node.Content {
		item = resolve(item)
		itemPath := fmt.Sprintf("%s[%d]", path, i)
		d.nodes[itemPath] = item
		if item.Kind != yaml.ScalarNode || item.ShortTag() != "!!str" {
			return nil, d.fail(itemPath, "is not a string", quoteRemedy(item, "give "+key.Item))
		}
		texts = append(texts, item.Value)
	}
	return texts, nil
}

// versions reads a mapping of package names to versions. It normalizes the names, which makes them lower
// case, so that viper, which lowers every key, changes nothing.
func (d document) versions(path string, node *yaml.Node, budget *int) (map[string]string, error) {
	if node.Kind != yaml.MappingNode {
		return nil, d.fail(path, "is not a mapping", `give packages and versions, such as scikit-learn: "1.9.1"`)
	}
	members, err := d.entries(node, path+".", budget)
	if err != nil {
		return nil, err
	}
	versions := map[string]string{}
	for _, member := range members {
		packagePath, value := path+"."+member.key.Value, resolve(member.value)
		d.nodes[packagePath] = value
		if err := d.checkOnce(members, member.key.Value, packagePath); err != nil {
			return nil, err
		}
		name, ok := normalizePackage(member.key.Value)
		if !ok {
			return nil, &Error{File: d.file, Line: member.key.Line, Key: packagePath, Problem: "is no name of a package", Remedy: "give a name such as scikit-learn, or python"}
		}
		if _, exists := versions[name]; exists {
			return nil, &Error{File: d.file, Line: member.key.Line, Key: packagePath, Problem: fmt.Sprintf("is the package %s, which is there already", name), Remedy: "keep one"}
		}
		if value.Kind != yaml.ScalarNode || value.ShortTag() != "!!str" {
			return nil, d.fail(packagePath, "is not a string, and YAML would read 3.10 as 3.1", quoteRemedy(value, "give a version"))
		}
		if !versionPattern.MatchString(value.Value) {
			return nil, d.fail(packagePath, "is not a version", `give one such as "1.9.1", without an operator`)
		}
		versions[name] = value.Value
	}
	return versions, nil
}

// fail makes the error for the value at path. Without a node the value is a default.
func (d document) fail(path, problem, remedy string) *Error {
	failure := &Error{File: d.file, Key: path, Problem: problem, Remedy: remedy}
	if node := d.nodes[path]; node != nil {
		failure.Line, failure.Value = node.Line, show(node)
	}
	return failure
}

// refuse makes the error for the value of a key, with what its declaration wants.
func (d document) refuse(path, problem string) *Error {
	section, name, _ := strings.Cut(path, ".")
	for _, schema := range Schemas() {
		for _, s := range schema.Sections {
			if key, ok := s.key(name); ok && s.Name == section {
				return d.fail(path, problem, key.remedy())
			}
		}
	}
	return d.fail(path, problem, "")
}

// place names the file and line of a value.
func (d document) place(path string) string {
	if node := d.nodes[path]; node != nil {
		return fmt.Sprintf("%s:%d", d.file, node.Line)
	}
	return d.file
}

// text returns the string at path, and whether the file has it.
func (d document) text(path string) (string, bool) {
	node := d.nodes[path]
	if node == nil {
		return "", false
	}
	return node.Value, true
}
