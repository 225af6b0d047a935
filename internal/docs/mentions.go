package docs

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

func position(document string, line int) string { return fmt.Sprintf("%s:%d", document, line) }

// Mention is a place where a document tells of a command of this project.
type Mention struct {
	At   string   // document:line
	Args []string // without the program's name
	// Named: the text only speaks of the command, and leaves its arguments out.
	Named bool
}

// Mentions are the places where the documents tell of a program's commands, in blocks and in the text. A span such as `make` alone is none.
func Mentions(t *testing.T, program string) (mentions []Mention) {
	t.Helper()
	for _, name := range Documents(t) {
		for _, block := range Blocks(t, name) {
			for _, command := range Commands(block) {
				if args, ok := argsOf(program, command.Text); ok {
					mentions = append(mentions, Mention{At: position(name, command.Line), Args: args})
				}
			}
		}
		for _, span := range Spans(t, name) {
			if args, ok := argsOf(program, span.Text); ok && len(args) > 0 {
				mentions = append(mentions, Mention{At: position(name, span.Line), Args: args, Named: len(args) == 1})
			}
		}
	}
	return mentions
}

// Commands are the commands of a block, a line each: lines that end in a backslash go on, and && and ; part them.
func Commands(b Block) (commands []Span) {
	begun, first := "", 0
	for i, line := range strings.Split(b.Text, "\n") {
		if begun == "" {
			first = i
		}
		if rest, goesOn := strings.CutSuffix(line, `\`); goesOn {
			begun += rest + " "
			continue
		}
		for _, part := range separator.Split(withoutComment(begun+line), -1) {
			if part = strings.TrimSpace(part); part != "" {
				commands = append(commands, Span{b.Document, b.Line + first, part})
			}
		}
		begun = ""
	}
	return commands
}

var (
	separator  = regexp.MustCompile(`&&|\|\||[;|]`)
	comment    = regexp.MustCompile(`(^|\s)#.*$`)
	assignment = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*=\S*\s+`)
	words      = regexp.MustCompile(`'[^']*'|"[^"]*"|\S+`)
)

func withoutComment(line string) string { return comment.ReplaceAllString(line, "") }

// argsOf are the arguments of a command line where it calls the program, as starter or bin/starter, perhaps with variables before it.
func argsOf(program, line string) (args []string, ok bool) {
	for assignment.MatchString(line) {
		line = assignment.ReplaceAllString(line, "")
	}
	args = words.FindAllString(line, -1)
	if len(args) == 0 || args[0] != program && args[0] != "bin/"+program {
		return nil, false
	}
	for i := range args {
		args[i] = strings.Trim(args[i], `'"`)
	}
	if redirected := slices.IndexFunc(args, func(arg string) bool { return strings.HasPrefix(arg, ">") || strings.HasPrefix(arg, "<") }); redirected >= 0 {
		args = args[:redirected]
	}
	return args[1:], true
}

// RequireCommands sees that what the documents tell of a program can be typed: its commands, flags and numbers of arguments are those of
// the tree, of which each mention gets a new one. Nothing is run.
func RequireCommands(t *testing.T, program string, tree func() *cobra.Command) {
	t.Helper()
	mentions := Mentions(t, program)
	if len(mentions) == 0 {
		t.Errorf("the documents do not mention %s", program)
	}
	for _, m := range mentions {
		if err := understood(tree(), m); err != nil {
			t.Errorf("%s: %s %s: %v", m.At, program, strings.Join(m.Args, " "), err)
		}
	}
}

func understood(root *cobra.Command, m Mention) error {
	if m.Named && !strings.HasPrefix(m.Args[0], "-") {
		root.InitDefaultCompletionCmd() // which Execute adds
		found, _, err := root.Find(m.Args)
		if err == nil && found == root {
			err = errors.New("there is no such command")
		}
		return err
	}
	silence(root)
	root.SetArgs(m.Args)
	root.SetOut(io.Discard)
	root.SetErr(io.Discard)
	return root.Execute()
}

// silence takes away what commands do, and leaves what they ask of their arguments.
func silence(command *cobra.Command) {
	if command.Run != nil || command.RunE != nil {
		command.Run, command.RunE = nil, func(*cobra.Command, []string) error { return nil }
	}
	for _, sub := range command.Commands() {
		silence(sub)
	}
}
