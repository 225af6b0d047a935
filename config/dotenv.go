package config

import (
	"bytes"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// ParseDotEnv reads a .env file as python-dotenv 1.2 does (src/dotenv/parser.py and variables.py): export
// prefixes, quotes, escapes, comments, values over several lines; a line that is none of these is skipped, a
// name without "=" sets nothing, the last of equal names wins. ${NAME} and ${NAME:-default} mean
// variables of the file above. One that is not there stays as it is, since the variables of the
// worker must not get into a value that names a host. An error is an *Error, and quotes no value.
func ParseDotEnv(file File) (map[string]string, error) {
	switch {
	case len(file.Data) > MaxFileBytes:
		return nil, &Error{File: file.Name, Problem: "is larger than a .env file may be", Remedy: "give lines of NAME=value"}
	case !utf8.Valid(file.Data):
		return nil, &Error{File: file.Name, Problem: "is not UTF-8 text", Remedy: "save it as UTF-8"}
	}
	scanner := dotEnvScanner{rest: string(bytes.TrimPrefix(file.Data, []byte("\ufeff")))}
	variables := map[string]string{}
	for {
		scanner.take(blanks)
		if scanner.rest == "" {
			return variables, nil
		}
		if name, value, ok := scanner.binding(); ok {
			variables[name] = expand(value, variables)
		}
	}
}

// The patterns are python-dotenv's, each anchored where the scanner stands.
var (
	blanks          = regexp.MustCompile(`^\s*`)
	exportPrefix    = regexp.MustCompile(`^(?:export[^\S\r\n]+)?`)
	quotedName      = regexp.MustCompile(`^'([^']+)'`)
	plainName       = regexp.MustCompile(`^([^=#\s]+)`)
	equalSign       = regexp.MustCompile(`^[^\S\r\n]*=([^\S\r\n]*)`)
	singleQuoted    = regexp.MustCompile(`^(?s)'((?:\\.|[^'\\])*)'`)
	doubleQuoted    = regexp.MustCompile(`^(?s)"((?:\\.|[^"\\])*)"`)
	plainValue      = regexp.MustCompile(`^([^\r\n]*)`)
	trailingComment = regexp.MustCompile(`\s+#.*`)
	lineEnd         = regexp.MustCompile(`^(?:[^\S\r\n]*#[^\r\n]*)?[^\S\r\n]*(?:\r\n|\n|\r|$)`)
	lineRest        = regexp.MustCompile(`^[^\r\n]*(?:\r\n|\r|\n)?`)
	singleEscape    = regexp.MustCompile(`\\[\\']`)
	doubleEscape    = regexp.MustCompile(`\\[\\'"abfnrtv]`)
	reference       = regexp.MustCompile(`\$\{([^}:]*)(?::-([^}]*))?\}`)
)

type dotEnvScanner struct{ rest string }

// take moves past a pattern, and returns its group, or all of it where it has none.
func (s *dotEnvScanner) take(pattern *regexp.Regexp) (string, bool) {
	match := pattern.FindStringSubmatch(s.rest)
	if match == nil {
		return "", false
	}
	s.rest = s.rest[len(match[0]):]
	return match[len(match)-1], true
}

// binding moves past one line, or more where a quoted value has them, and returns what it sets.
func (s *dotEnvScanner) binding() (name, value string, ok bool) {
	s.take(exportPrefix)
	if name, ok = s.take(quotedName); !ok && !strings.HasPrefix(s.rest, "'") {
		name, ok = s.take(plainName)
	}
	space, assigned := "", false
	if ok {
		space, assigned = s.take(equalSign)
	}
	// After a blank, # begins a comment; right after the sign it belongs to the value.
	if assigned && (space == "" || !strings.HasPrefix(s.rest, "#")) {
		value, ok = s.value()
	}
	if ok {
		_, ok = s.take(lineEnd)
	}
	if !ok {
		s.take(lineRest)
		return "", "", false
	}
	return name, value, assigned
}

func (s *dotEnvScanner) value() (string, bool) {
	switch {
	case strings.HasPrefix(s.rest, "'"):
		value, ok := s.take(singleQuoted)
		return singleEscape.ReplaceAllStringFunc(value, unescape), ok
	case strings.HasPrefix(s.rest, `"`):
		value, ok := s.take(doubleQuoted)
		return doubleEscape.ReplaceAllStringFunc(value, unescape), ok
	}
	value, ok := s.take(plainValue)
	return strings.TrimRightFunc(trailingComment.ReplaceAllString(value, ""), unicode.IsSpace), ok
}

// unescape turns one escape into its character.
func unescape(escape string) string {
	if at := strings.IndexByte("abfnrtv", escape[1]); at >= 0 {
		return "\a\b\f\n\r\t\v"[at : at+1]
	}
	return escape[1:]
}

// expand puts in the variables that a value refers to.
func expand(value string, variables map[string]string) string {
	return reference.ReplaceAllStringFunc(value, func(match string) string {
		parts := reference.FindStringSubmatch(match)
		if known, ok := variables[parts[1]]; ok {
			return known
		}
		if strings.Contains(match, ":-") {
			return parts[2]
		}
		return match
	})
}
