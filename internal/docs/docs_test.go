package docs

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"
)

const sample = "# Title\n" + `
Say ` + "`starter status\nWORKFLOW_ID`" + `, or:

    make build   # first
    MLFLOW_TRACKING_URI=https://mlflow \
        bin/worker --allow-root /srv

    umask 002 && starter list

- an item

    of a list, no block

      but this is one

` + "```text\nnot a command\n```\n\n```sh\nstarter flush > out\n```\n\n<!-- not run: needs a cluster -->\n\n    kubectl apply -k deploy\n\n```\nwhat is this?\n```\n"

func TestParse_TellsCommandsFromOtherCode(t *testing.T) {
	d := parse("x.md", sample)

	require.Equal(t, []Span{{"x.md", 3, "starter status WORKFLOW_ID"}}, d.spans)
	require.Equal(t, []Block{
		{"x.md", 6, "make build   # first\nMLFLOW_TRACKING_URI=https://mlflow \\\n    bin/worker --allow-root /srv\n\numask 002 && starter list", ""},
		{"x.md", 23, "starter flush > out", ""},
		{"x.md", 28, "kubectl apply -k deploy", "needs a cluster"},
	}, d.blocks)
	require.Len(t, d.problems, 2)
	require.Contains(t, d.problems[0], "x.md:16: a code block within a list")
	require.Contains(t, d.problems[1], "x.md:30: a code block without a language")
}

func TestCommands_AreOneALine(t *testing.T) {
	commands := Commands(parse("x.md", sample).blocks[0])
	require.Equal(t, []Span{
		{"x.md", 6, "make build"},
		{"x.md", 7, "MLFLOW_TRACKING_URI=https://mlflow      bin/worker --allow-root /srv"},
		{"x.md", 10, "umask 002"},
		{"x.md", 10, "starter list"},
	}, commands)
	args, ok := argsOf("worker", commands[1].Text)
	require.True(t, ok)
	require.Equal(t, []string{"--allow-root", "/srv"}, args)
	_, ok = argsOf("starter", commands[1].Text)
	require.False(t, ok)
}

func TestUnderstood_RefusesWhatCannotBeTyped(t *testing.T) {
	tree := func() *cobra.Command {
		root := &cobra.Command{Use: "starter", Args: cobra.NoArgs, SilenceErrors: true, SilenceUsage: true, Run: func(*cobra.Command, []string) {}}
		status := &cobra.Command{Use: "status", Args: cobra.ExactArgs(1), Run: func(*cobra.Command, []string) { t.Error("was run") }}
		status.Flags().Bool("known", false, "")
		root.AddCommand(status)
		return root
	}
	for _, good := range []Mention{
		{Args: []string{"status"}, Named: true},
		{Args: []string{"completion"}, Named: true},
		{Args: []string{"status", "ID"}},
		{Args: []string{"status", "ID", "--known"}},
		{Args: []string{"--help"}, Named: true},
	} {
		require.NoError(t, understood(tree(), good), "%v", good)
	}
	for _, bad := range []Mention{
		{Args: []string{"stat"}, Named: true},
		{Args: []string{"stat", "ID"}},
		{Args: []string{"status"}},
		{Args: []string{"status", "ID", "another"}},
		{Args: []string{"status", "ID", "--unknown"}},
		{Args: []string{"--unknown"}, Named: true},
	} {
		require.Error(t, understood(tree(), bad), "%v", bad)
	}
}

func TestDocuments_NameMakeTargetsThatThereAre(t *testing.T) {
	mentions := Mentions(t, "make")
	require.NotEmpty(t, mentions)
	tried := map[string]bool{}
	for _, m := range mentions {
		line := strings.Join(m.Args, " ")
		if tried[line] {
			continue
		}
		tried[line] = true
		dry := exec.CommandContext(t.Context(), "make", append([]string{"--dry-run", "--no-print-directory"}, m.Args...)...)
		dry.Dir = Root(t)
		output, err := dry.CombinedOutput()
		require.NoError(t, err, "%s: make %s\n%s", m.At, line, output)
	}
}

var (
	link     = regexp.MustCompile(`\]\(([^)#\s]+)[^)]*\)`)
	testName = regexp.MustCompile("`(Test[A-Z]\\w*(?:_\\w+)?)`")
	testFunc = regexp.MustCompile(`(?m)^func (Test\w+)\(`)
)

func TestDocuments_LinkToFilesThatThereAre(t *testing.T) {
	for _, name := range Documents(t) {
		text, err := os.ReadFile(filepath.Join(Root(t), name))
		require.NoError(t, err)
		for _, found := range link.FindAllStringSubmatch(string(text), -1) {
			if target := found[1]; !strings.Contains(target, "://") {
				require.FileExistsf(t, filepath.Join(Root(t), filepath.Dir(name), target), "%s links to %s", name, target)
			}
		}
	}
}

// A document that says which test proves it names one, or what the names of several begin with.
func TestDocuments_NameTestsThatThereAre(t *testing.T) {
	var tests strings.Builder
	require.NoError(t, filepath.WalkDir(Root(t), func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && strings.HasPrefix(entry.Name(), ".") && path != Root(t) {
			return fs.SkipDir
		}
		if !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		source, err := os.ReadFile(path)
		for _, found := range testFunc.FindAllSubmatch(source, -1) {
			tests.WriteString(" ")
			tests.Write(found[1])
		}
		return err
	}))
	named := 0
	for _, name := range Documents(t) {
		text, err := os.ReadFile(filepath.Join(Root(t), name))
		require.NoError(t, err)
		for _, found := range testName.FindAllStringSubmatch(string(text), -1) {
			named++
			require.Containsf(t, tests.String(), " "+found[1], "%s names the test %s", name, found[1])
		}
	}
	require.Positive(t, named)
}
