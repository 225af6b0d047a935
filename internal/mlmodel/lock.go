package mlmodel

import (
	"bufio"
	"bytes"
	"fmt"
	"path"
	"regexp"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// exactPin is a line of requirements.txt that leaves one version. What follows, such as hashes and markers, is not read.
var exactPin = regexp.MustCompile(`^([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^\]]*\])?\s*===?\s*([^\s;,\\#*]+)\s*(?:[;\\#].*|--hash.*)?$`)

// ReadLock reads which versions a file of pins leaves: a uv.lock or poetry.lock by that name, else a requirements.txt. Names are as package
// indexes compare them. A package that the file gives in several versions, for several systems, is left out: which of them trained the model,
// it does not tell. Errors have ErrSpec in their chain.
func ReadLock(name string, content []byte) (map[string]string, error) {
	pins, err := requirementPins(content), error(nil)
	if base := path.Base(name); base == "uv.lock" || base == "poetry.lock" {
		pins, err = lockedPackages(content)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: environment_file %s is no %s: %w; lock anew, or leave the setting out", ErrSpec, name, path.Base(name), err)
	}
	versions := map[string]string{}
	ambiguous := map[string]bool{}
	for _, p := range pins {
		known := normalized(p.Name)
		if before, ok := versions[known]; ok && before != p.Version {
			ambiguous[known] = true
		}
		versions[known] = p.Version
	}
	for known, version := range versions {
		if ambiguous[known] || !versionShape.MatchString(version) {
			delete(versions, known)
		}
	}
	return versions, nil
}

type lockedPackage struct {
	Name    string `toml:"name"`
	Version string `toml:"version"`
}

// lockedPackages reads what uv and poetry write: TOML with a table for each package.
func lockedPackages(content []byte) ([]lockedPackage, error) {
	var lock struct {
		Package []lockedPackage `toml:"package"`
	}
	if err := toml.Unmarshal(content, &lock); err != nil {
		return nil, err
	}
	return lock.Package, nil
}

func requirementPins(content []byte) []lockedPackage {
	var pins []lockedPackage
	lines := bufio.NewScanner(bytes.NewReader(content))
	lines.Buffer(nil, len(content)+1)
	for lines.Scan() {
		if match := exactPin.FindStringSubmatch(strings.TrimSpace(lines.Text())); match != nil {
			pins = append(pins, lockedPackage{Name: match[1], Version: match[2]})
		}
	}
	return pins
}

// normalized is a package's name as PEP 503 compares it.
func normalized(name string) string { return strings.ToLower(separators.ReplaceAllString(name, "-")) }
