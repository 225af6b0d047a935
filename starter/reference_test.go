package main

import (
	"io"
	"testing"

	"github.com/spf13/cobra"

	"registrar/internal/docs"
)

// commandTree is every command as a user without settings of their own has it; completion is added when one is run.
func commandTree() *cobra.Command {
	return newStarter(nil, io.Discard, io.Discard).command()
}

func TestReference_OfTheStarterIsWhatTheCodeSays(t *testing.T) {
	docs.RequireGenerated(t, "docs/commands.md", "starter", docs.Reference(commandTree()))
}

func TestDocuments_NameCommandsAndFlagsThatThereAre(t *testing.T) {
	docs.RequireCommands(t, "starter", commandTree)
}
