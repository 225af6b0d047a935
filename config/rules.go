package config

import (
	"path"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// versionPattern has the characters of a version of PEP 440, and nothing that could become another
// requirement where it is written into a requirements.txt.
var versionPattern = regexp.MustCompile(`^[0-9][0-9A-Za-z.!+_-]{0,63}$`)

// packagePattern is a name of PEP 508.
var packagePattern = regexp.MustCompile(`^(?i)[A-Z0-9](?:[A-Z0-9._-]{0,98}[A-Z0-9])?$`)

// picklePolicies are those of internal/modelfile.
var picklePolicies = []string{"strict", "deny", "off"}

// globalPattern is a module and a name in it, which follows a colon where it has a dot itself.
var globalPattern = regexp.MustCompile(`^[\pL_][\pL\pN_]*(\.[\pL_][\pL\pN_]*)*[.:][\pL_][\pL\pN_.]*$`)

var packageSeparators = regexp.MustCompile(`[-_.]+`)

// normalizePackage makes the form in which PEP 503 compares names of packages: lower case, single dashes.
func normalizePackage(name string) (string, bool) {
	return strings.ToLower(packageSeparators.ReplaceAllString(name, "-")), packagePattern.MatchString(name)
}

func pathProblem(name string) string {
	switch {
	case strings.TrimSpace(name) == "":
		return "is no path"
	case strings.ContainsRune(name, 0):
		return "has a NUL character"
	}
	return ""
}

// maxModelName is in characters. MLflow's database holds one more, but a registration also shows its model as a keyword, of which a
// Temporal server on SQL holds no more (VARCHAR(255)).
const maxModelName = 255

// modelNameProblem holds the rules of MLflow's _validate_model_name, and refuses quotes of any kind and backslashes beyond: MLflow's
// search has no escape for them (internal/mlflow's Filter refuses the same), so a version could not be looked up by this name.
func modelNameProblem(name string) string {
	switch {
	case strings.TrimSpace(name) == "":
		return "is no name"
	case strings.TrimSpace(name) != name:
		return "has blanks around it"
	case hasControl(name):
		return "has control characters"
	case strings.ContainsAny(name, "/:'\"`\\"):
		return "has one of / : ' \" ` \\"
	case name == "." || strings.HasPrefix(name, ".."):
		return "is a path"
	case utf8.RuneCountInString(name) > maxModelName:
		return "is longer than " + strconv.Itoa(maxModelName) + " characters"
	}
	return ""
}

// extraFilesProblem returns the first problem, and the index of the file that has it.
func extraFilesProblem(files []string) (int, string) {
	seen := map[string]bool{}
	for i, file := range files {
		if problem := pathProblem(file); problem != "" {
			return i, problem
		}
		name := path.Base(file)
		switch {
		case name == "." || name == ".." || strings.HasSuffix(file, "/"):
			return i, "is a folder"
		case seen[name]:
			return i, "has the same name as another extra file"
		}
		seen[name] = true
	}
	return 0, ""
}

// isEnvironmentFile tells a file of pins by its name, as the tools that write it do.
func isEnvironmentFile(file string) bool {
	name := path.Base(file)
	return strings.HasSuffix(name, ".txt") || name == "uv.lock" || name == "poetry.lock"
}

func hasControl(name string) bool { return strings.ContainsFunc(name, unicode.IsControl) }

// quoted is a value in quotes, on one line, and short enough for a message.
func quoted(value string) string {
	const maxRunes = 80
	if runes := []rune(value); len(runes) > maxRunes {
		value = string(runes[:maxRunes]) + "…"
	}
	return strconv.Quote(value)
}

// nearest returns the known key that takes the fewest edits to reach, the first among equals.
func nearest(name string, known []Key) string {
	best, fewest := "", -1
	for _, key := range known {
		if edits := distance(strings.ToLower(name), key.Name); fewest < 0 || edits < fewest {
			best, fewest = key.Name, edits
		}
	}
	return best
}

// distance is the number of edits from a to b (Levenshtein). Past the length of any key it is not exact.
func distance(a, b string) int {
	from, to := []rune(a), []rune(b)
	if len(from) > 100 {
		return len(from)
	}
	previous := make([]int, len(to)+1)
	for j := range previous {
		previous[j] = j
	}
	for i := range from {
		current := make([]int, len(to)+1)
		current[0] = i + 1
		for j := range to {
			replace := previous[j]
			if from[i] != to[j] {
				replace++
			}
			current[j+1] = min(replace, previous[j+1]+1, current[j]+1)
		}
		previous = current
	}
	return previous[len(to)]
}
