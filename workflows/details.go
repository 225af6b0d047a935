package workflows

import (
	"fmt"
	"strings"

	"registrar/internal/receipt"
)

// details is the registration in Markdown, for the Web UI: what it is about, how it stands, and why.
func (r *registration) details() string {
	var b strings.Builder
	fmt.Fprintf(&b, "## %s\n\n", r.headline())
	r.waitingText(&b)
	for _, warning := range r.receipt.Warnings {
		fmt.Fprintf(&b, "**Warning:** %s\n\n", warning)
	}
	if r.receipt.Error != "" {
		fmt.Fprintf(&b, "**Error:** %s\n\n", r.receipt.Error)
	}
	r.decisionTable(&b)
	b.WriteString("| | |\n|---|---|\n")
	row := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&b, "| %s | %s |\n", name, value)
		}
	}
	row("Model", code(r.receipt.ModelName))
	row("Version", r.receipt.ModelVersion)
	row("Stage", r.receipt.Stage)
	row("Alias", strings.Join(r.receipt.Aliases, ", "))
	row("MLflow run", code(r.receipt.MLflowRunID))
	row("MLflow server", r.receipt.TrackingURI)
	row("Model file", code(r.frozen.Request.Model.Path))
	row("SHA-256", code(r.receipt.ModelSHA256))
	row("Folder", code(r.folder()))
	return b.String()
}

func (r *registration) headline() string {
	switch {
	case r.receipt.Outcome == receipt.Registered, r.receipt.Outcome == receipt.AlreadyRegistered:
		return fmt.Sprintf("%s: version %s", words(string(r.receipt.Outcome)), r.receipt.ModelVersion)
	case r.receipt.Outcome != "":
		return words(string(r.receipt.Outcome))
	case r.receipt.Waiting != nil:
		return fmt.Sprintf("%s for MLflow (%s)", words(string(r.receipt.State)), strings.ReplaceAll(r.receipt.Waiting.Layer, "_", " "))
	}
	return words(string(r.receipt.State))
}

func (r *registration) folder() string {
	if r.project.Key == "" {
		return ""
	}
	return r.project.Folder()
}

func (r *registration) decisionTable(b *strings.Builder) {
	if r.receipt.Decision == nil {
		return
	}
	fmt.Fprintf(b, "### Decision\n\n%s\n", r.receipt.Decision.Markdown())
}

func (r *registration) waitingText(b *strings.Builder) {
	w := r.receipt.Waiting
	if w == nil {
		return
	}
	fmt.Fprintf(b, "### Waiting since %s\n\n", w.Since.UTC().Format("2006-01-02 15:04:05 UTC"))
	fmt.Fprintf(b, "%s\n\n", code(w.LastError))
	if r.receipt.State == receipt.Blocked {
		b.WriteString("MLflow refuses the worker's credentials, which it had taken before. Renew them (`MLFLOW_TRACKING_TOKEN_FILE` is read again for each request); the registration goes on by itself.\n\n")
		return
	}
	fmt.Fprintf(b, "The registration goes on by itself when MLflow answers; it is probed every %s. To probe at once: `starter recheck %s`\n\n",
		r.loaded.Settings.ProbeInterval, r.receipt.WorkflowID)
}

// words is a name of the JSON as people read it.
func words(name string) string {
	text := strings.ReplaceAll(name, "_", " ")
	if text == "" {
		return ""
	}
	return strings.ToUpper(text[:1]) + text[1:]
}

func code(text string) string {
	if text == "" {
		return ""
	}
	return "`" + strings.ReplaceAll(text, "`", "'") + "`"
}
