package activities

import (
	"fmt"
	"strings"

	"registrar/internal/gate"
	"registrar/internal/snapshot"
)

// runNote is the run's description in the MLflow UI, in Markdown.
func runNote(in LogRunInput, request snapshot.Request) string {
	return evidence(in.Settings.ModelName, in.Decision, request, in.WorkflowURL, nil)
}

// versionDescription is the version's, which also says what a consumer should know of the environment.
func versionDescription(in RegisterVersionInput, request snapshot.Request) string {
	return evidence(in.ModelName, in.Decision, request, in.WorkflowURL, in.Model.Unpinned)
}

// evidence says what was decided on what evidence.
func evidence(modelName string, decision gate.Decision, request snapshot.Request, workflowURL string, unpinned []string) string {
	var b strings.Builder
	verdict := "was refused"
	if decision.Passed {
		verdict = "met all rules"
	}
	fmt.Fprintf(&b, "**%s** %s.\n\n%s\n", modelName, verdict, decision.Markdown())
	b.WriteString("Evidence, with its SHA-256:\n\n")
	for _, entry := range append([]snapshot.Entry{request.Model, request.Metrics}, request.ExtraFiles...) {
		fmt.Fprintf(&b, "- `%s`: `%s`\n", entry.Path, entry.SHA256)
	}
	if request.GitCommit != "" {
		fmt.Fprintf(&b, "- Git commit `%s`\n", request.GitCommit)
	}
	if len(unpinned) > 0 {
		fmt.Fprintf(&b, "\nNot pinned, since neither the model file nor `model_registration` tells the version: %s.\n", strings.Join(unpinned, ", "))
	}
	if workflowURL != "" {
		fmt.Fprintf(&b, "\n[The registration in Temporal](%s)\n", workflowURL)
	}
	return b.String()
}
