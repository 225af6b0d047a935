package docs

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Reference is the reference of a program's commands: all that its help says, a section each.
func Reference(program *cobra.Command) string {
	var b strings.Builder
	fmt.Fprintf(&b, "## %s\n\n%s\n", program.Name(), indentBlocks(program.Long))
	if flags := Flags(program.PersistentFlags(), nil); flags != "" {
		fmt.Fprintf(&b, "\nFor all commands:\n\n%s", flags)
	}
	for _, command := range program.Commands() {
		if command.IsAvailableCommand() {
			writeCommand(&b, command)
		}
	}
	return b.String()
}

func writeCommand(b *strings.Builder, command *cobra.Command) {
	fmt.Fprintf(b, "\n### %s\n\n%s.\n\n```text\n%s\n```\n", command.CommandPath(), command.Short, command.UseLine())
	if command.Long != "" {
		fmt.Fprintf(b, "\n%s\n", indentBlocks(strings.TrimSpace(command.Long)))
	}
	if command.Example != "" {
		b.WriteString("\n")
		for line := range strings.SplitSeq(command.Example, "\n") {
			b.WriteString(strings.TrimRight("    "+strings.TrimPrefix(line, "  "), " ") + "\n")
		}
	}
	if flags := Flags(command.LocalNonPersistentFlags(), nil); flags != "" {
		fmt.Fprintf(b, "\n%s", flags)
	}
	for _, sub := range command.Commands() {
		if sub.IsAvailableCommand() {
			writeCommand(b, sub)
		}
	}
}

// indentBlocks makes the commands in cobra's own texts, which are indented by a tab, blocks of Markdown.
func indentBlocks(text string) string { return strings.ReplaceAll(text, "\t", "    ") }

// Flags is the table of flags; where variable is given, with the environment variable of each. Empty where there are none.
func Flags(flags *pflag.FlagSet, variable func(flag string) string) string {
	var b strings.Builder
	flags.VisitAll(func(flag *pflag.Flag) {
		if flag.Hidden || flag.Name == "help" || flag.Name == "version" {
			return
		}
		name := "`--" + flag.Name + "`"
		if flag.Shorthand != "" {
			name = "`-" + flag.Shorthand + "`, " + name
		}
		if variable != nil {
			name += "<br>`" + variable(flag.Name) + "`"
		}
		fmt.Fprintf(&b, "| %s | %s | %s |\n", name, defaultOf(flag), Cell(flag.Usage))
	})
	if b.Len() == 0 {
		return ""
	}
	return "| flag | default | meaning |\n|---|---|---|\n" + b.String()
}

func defaultOf(flag *pflag.Flag) string {
	value := strings.Trim(flag.DefValue, "[]")
	switch {
	case value == "" || value == "0s" || value == "false":
		return ""
	case flag.NoOptDefVal != "" && flag.Value.Type() != "bool":
		return ""
	}
	return "`" + value + "`"
}
