package config_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"registrar/config"
	"registrar/internal/docs"
)

func TestReference_OfConfigurationIsWhatTheCodeSays(t *testing.T) {
	for _, schema := range config.Schemas() {
		docs.RequireFile(t, schema.Path, schema.Template())
		docs.RequireGenerated(t, "docs/configuration.md", schema.Path, reference(schema))
	}
}

// reference is the table of a file's keys.
func reference(schema config.Schema) string {
	var b strings.Builder
	b.WriteString("| key | value | default | meaning |\n|---|---|---|---|\n")
	for _, section := range schema.Sections {
		for _, key := range section.Keys {
			absent := "none"
			switch {
			case key.Required:
				absent = "required"
			case key.Default != "":
				absent = "`" + key.Default + "`"
			case key.Otherwise != "":
				absent = key.Otherwise
			}
			fmt.Fprintf(&b, "| `%s.%s` | %s | %s | %s |\n", section.Name, key.Name, docs.Cell(key.Wanted), docs.Cell(absent), docs.Cell(key.Meaning))
		}
	}
	return b.String()
}

func TestTemplate_AsksForWhatThePipelineAsksFor(t *testing.T) {
	settings, err := parse(config.Schemas()[0].Template(), config.Schemas()[1].Template())
	require.NoError(t, err)
	require.Equal(t, ofPipeline, settings)
	require.Empty(t, settings.Warnings)
}

// commentedKey is a line of a template with a key that is commented out, or what is below one; comments are sentences, and begin otherwise.
var commentedKey = regexp.MustCompile(`(?m)^  # ( *(?:[a-z_]+:|- ).*)$`)

func TestTemplate_EveryKeyMayBeUncommented(t *testing.T) {
	var texts []string
	for _, schema := range config.Schemas() {
		text := commentedKey.ReplaceAllString(schema.Template(), "  $1")
		for _, section := range schema.Sections {
			for _, key := range section.Keys {
				if key.Name != "registered_model_name" { // another stage's
					require.Contains(t, text, "\n  "+key.Name+":", "%s of %s", key.Name, schema.Path)
				}
			}
		}
		texts = append(texts, text)
	}
	settings, err := parse(texts[0], texts[1])
	require.NoError(t, err)
	require.Empty(t, settings.Warnings)
	require.Equal(t, []string{"artifacts/data_transformation/preprocessor.pkl", "uv.lock"}, settings.ExtraFiles, "the lock file is frozen too")
	require.Equal(t, map[string]string{"python": "3.11.7", "numpy": "2.3.5"}, settings.Environment)
	require.Equal(t, "72h0m0s", settings.MaxWait.String())
}
