// Package docs knows the documents of this repository: the parts of them that are made from the code, and the commands in them. It is
// for tests only, and knows nothing of what the commands do.
package docs

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var write = flag.Bool("docs", false, "write the generated parts of the documents anew, as `make docs` does")

// RequireGenerated sees that a part of a document is what the code makes of it, or writes it where the test was asked to. The part stands
// between <!-- generated: NAME (make docs) --> and <!-- end: NAME -->; what is around it is written by hand.
func RequireGenerated(t *testing.T, document, name, want string) {
	t.Helper()
	file := filepath.Join(Root(t), document)
	before, have, after, err := cutPart(file, name)
	if err != nil {
		t.Fatal(err)
	}
	want = "\n\n" + strings.Trim(want, "\n") + "\n\n"
	if have == want {
		return
	}
	if !*write {
		t.Fatalf("%s: part %q is not what the code says: run `make docs`\nhave:\n%s\nwant:\n%s", document, name, have, want)
	}
	replace(t, file, before+want+after)
}

// RequireFile is RequireGenerated for a whole file.
func RequireFile(t *testing.T, name, want string) {
	t.Helper()
	file := filepath.Join(Root(t), name)
	have, err := os.ReadFile(file)
	if err == nil && string(have) == want {
		return
	}
	if !*write {
		t.Fatalf("%s is not what the code says: run `make docs`\nwant:\n%s", name, want)
	}
	replace(t, file, want)
}

func cutPart(file, name string) (before, part, after string, err error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return "", "", "", err
	}
	begin, end := fmt.Sprintf("<!-- generated: %s (make docs) -->", name), fmt.Sprintf("<!-- end: %s -->", name)
	before, rest, found := strings.Cut(string(data), begin)
	part, after, ended := strings.Cut(rest, end)
	if !found || !ended {
		return "", "", "", fmt.Errorf("%s: want a part between %s and %s", file, begin, end)
	}
	return before + begin, part, end + after, nil
}

// replace writes a document at once, so that a test of another package that reads it meanwhile sees the old one or the new one.
func replace(t *testing.T, file, text string) {
	t.Helper()
	temporary := file + ".new"
	if err := os.WriteFile(temporary, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(temporary, file); err != nil {
		t.Fatal(err)
	}
	t.Logf("%s is written anew", file)
}

// Root is the folder of the repository.
func Root(t *testing.T) string {
	t.Helper()
	folder, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(folder, "go.mod")); err == nil {
			return folder
		}
		if folder == filepath.Dir(folder) {
			t.Fatal("the test runs outside of the repository")
		}
		folder = filepath.Dir(folder)
	}
}

// Cell is a text as it stands in a cell of a Markdown table.
func Cell(text string) string {
	return strings.NewReplacer("|", `\|`, "\n", " ").Replace(text)
}
