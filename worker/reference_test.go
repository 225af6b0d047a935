package main

import (
	"io"
	"testing"

	"github.com/spf13/cobra"

	"registrar/internal/docs"
)

func TestReference_OfTheWorkerIsWhatTheCodeSays(t *testing.T) {
	var s settings
	command := s.command(nil, io.Discard)
	docs.RequireGenerated(t, "docs/commands.md", "worker", docs.Reference(command))
	docs.RequireGenerated(t, "docs/configuration.md", "worker's flags", docs.Flags(command.Flags(), variable))
}

func TestDocuments_NameFlagsThatThereAre(t *testing.T) {
	docs.RequireCommands(t, "worker", func() *cobra.Command { return new(settings).command(nil, io.Discard) })
}
