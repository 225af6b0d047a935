package gate

import (
	"fmt"
	"strings"
)

// Markdown returns the decision as a table, a row for each rule, and what speaks against the model file below it.
func (d Decision) Markdown() string {
	var b strings.Builder
	b.WriteString("| metric | minimum | observed | verdict |\n|---|---|---|---|\n")
	for _, v := range d.Rules {
		verdict := "passed"
		if !v.Passed {
			verdict = "**refused**: " + v.Reason
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", cell(v.Metric), v.MinText(), cell(v.ObservedText()), cell(verdict))
	}
	if d.Model != nil {
		d.Model.markdown(&b, "The model file", d.Model.Verdict, d.Model.Reasons)
		for _, extra := range d.Model.ExtraFiles {
			d.Model.markdown(&b, "The extra file `"+cell(extra.Path)+"`", extra.Verdict, extra.Reasons)
		}
	}
	return b.String()
}

func (m Model) markdown(b *strings.Builder, file, verdict string, reasons []string) {
	if len(reasons) == 0 {
		return
	}
	fmt.Fprintf(b, "\n%s is **%s** by the policy `%s`:\n\n", file, verdict, m.Policy)
	for _, reason := range reasons {
		fmt.Fprintf(b, "- %s\n", cell(reason))
	}
}

// cell keeps a text from a file within its cell.
func cell(text string) string {
	return strings.NewReplacer("|", "\\|", "\n", " ", "\r", " ").Replace(text)
}
