package docs

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Block is a code block that tells a reader what to type: one that is indented, or fenced as sh.
type Block struct {
	Document string
	Line     int // of its first line
	Text     string
	// NotRun is the reason that a comment before the block gives for not running it; empty where there is none.
	NotRun string
}

// Span is code within the text, on one line.
type Span struct {
	Document string
	Line     int
	Text     string
}

// document is a Markdown file, taken apart.
type document struct {
	blocks []Block
	spans  []Span
	// problems are blocks of which nobody knows whether they hold commands.
	problems []string
}

// Documents are the Markdown files of the repository, without the change log, which tells of what was.
func Documents(t *testing.T) (names []string) {
	t.Helper()
	root := Root(t)
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && path != root && (strings.HasPrefix(entry.Name(), ".") || slices.Contains([]string{"bin", "testdata"}, entry.Name())):
			return fs.SkipDir
		case filepath.Ext(path) != ".md" || entry.Name() == "CHANGELOG.md":
			return nil
		}
		name, err := filepath.Rel(root, path)
		names = append(names, filepath.ToSlash(name))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// Blocks are the code blocks of a document that hold commands.
func Blocks(t *testing.T, name string) []Block {
	t.Helper()
	d := read(t, name)
	for _, problem := range d.problems {
		t.Error(problem)
	}
	return d.blocks
}

// Spans are the pieces of code in the text of a document.
func Spans(t *testing.T, name string) []Span {
	t.Helper()
	return read(t, name).spans
}

func read(t *testing.T, name string) document {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(Root(t), name))
	if err != nil {
		t.Fatal(err)
	}
	return parse(name, string(data))
}

var (
	fence    = regexp.MustCompile("^ {0,3}(```+|~~~+) *([A-Za-z0-9_-]*)")
	notRun   = regexp.MustCompile(`^<!-- not run: (.+) -->$`)
	listItem = regexp.MustCompile(`^ {0,3}([-*+]|[0-9]+[.)]) `)
	codeSpan = regexp.MustCompile("`([^`]+)`")
)

// parse takes a document apart as CommonMark does, as far as this repository uses it.
func parse(name, text string) (d document) {
	lines := strings.Split(text, "\n")
	reason, inList := "", false
	prose := make([]string, len(lines)) // without code blocks
	for i := 0; i < len(lines); i++ {
		line := lines[i]
		begin := fence.FindStringSubmatch(line)
		switch {
		case begin != nil:
			first := i + 1
			i = endOfFence(lines, first, begin[1])
			switch begin[2] {
			case "sh", "bash", "shell", "console":
				d.blocks = append(d.blocks, Block{name, first + 1, strings.Join(lines[first:i], "\n"), reason})
			case "":
				d.problems = append(d.problems, position(name, first)+": a code block without a language: fence commands as ```sh, and anything else by what it is, such as ```text")
			}
			reason, inList = "", inList && strings.HasPrefix(line, " ")
		case strings.HasPrefix(line, "      ") && inList && strings.TrimSpace(lines[i-1]) == "":
			d.problems = append(d.problems, position(name, i+1)+": a code block within a list: fence it, as ```sh where it holds commands")
		case strings.HasPrefix(line, "    ") && !inList && (i == 0 || strings.TrimSpace(lines[i-1]) == ""):
			first := i
			for i < len(lines) && (strings.HasPrefix(lines[i], "    ") || strings.TrimSpace(lines[i]) == "") {
				i++
			}
			i--
			block := strings.Join(lines[first:i+1], "\n")
			d.blocks = append(d.blocks, Block{name, first + 1, strings.TrimSpace(strings.ReplaceAll("\n"+block, "\n    ", "\n")), reason})
			reason = ""
		default:
			if said := notRun.FindStringSubmatch(strings.TrimSpace(line)); said != nil {
				reason, inList = said[1], inList && strings.HasPrefix(line, " ")
			} else if strings.TrimSpace(line) != "" {
				reason = ""
				inList = listItem.MatchString(line) || inList && strings.HasPrefix(line, " ")
			}
			prose[i] = line
		}
	}
	whole := strings.Join(prose, "\n")
	for _, at := range codeSpan.FindAllStringSubmatchIndex(whole, -1) {
		code := whole[at[2]:at[3]]
		if strings.Contains(code, "\n\n") {
			continue // a stray mark
		}
		d.spans = append(d.spans, Span{name, 1 + strings.Count(whole[:at[0]], "\n"), strings.Join(strings.Fields(code), " ")})
	}
	return d
}

// endOfFence is the line that ends a block which was fenced by mark, or the end of the document.
func endOfFence(lines []string, from int, mark string) int {
	for i := from; i < len(lines); i++ {
		if strings.HasPrefix(strings.TrimLeft(lines[i], " "), mark) {
			return i
		}
	}
	return len(lines)
}
