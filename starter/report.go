package main

import (
	"fmt"
	"io"
	"net/url"
	"strings"

	"github.com/mattn/go-runewidth"

	"registrar/internal/receipt"
)

// report prints how a registration stands, and sets the exit code by it.
func (s *starter) report(r receipt.Receipt, detailed bool) error {
	s.code = exitCode(r, detailed)
	return s.print(r)
}

func (s *starter) print(r receipt.Receipt) error {
	if s.output == "json" {
		return s.printJSON(r)
	}
	for _, warning := range r.Warnings {
		s.warn(warning)
	}
	on := s.screenOf(s.stdout)
	if _, err := io.WriteString(s.stdout, summary(r, on)); err != nil {
		return err
	}
	if r.State == receipt.Waiting || r.State == receipt.Blocked {
		s.warn("the registration goes on by itself; to follow it: starter result --wait final " + r.WorkflowID)
	}
	return nil
}

// summary is how a registration stands, for people: what it is called, what it led to, and where to look.
func summary(r receipt.Receipt, on screen) string {
	var p page
	p.row("workflow", r.WorkflowID)
	p.row("model", r.ModelURI)
	p.row("stage", r.Stage)
	p.row("alias", strings.Join(r.Aliases, ", "))
	p.row("MLflow run", r.MLflowRunID)
	p.row("MLflow server", r.TrackingURI)
	p.row("model SHA-256", r.ModelSHA256)
	if r.Decision != nil {
		for _, verdict := range r.Decision.Rules {
			p.text("rule", verdict.String())
		}
		if model := r.Decision.Model; model != nil {
			p.row("model file", model.Verdict)
			for _, reason := range model.Reasons {
				p.text("reason", reason)
			}
			for _, extra := range model.ExtraFiles {
				p.row("extra file", extra.Path+" "+extra.Verdict)
				for _, reason := range extra.Reasons {
					p.text("reason", reason)
				}
			}
		}
	}
	if r.Waiting != nil {
		p.row("waits for", r.Waiting.Layer)
		if !r.Waiting.Since.IsZero() {
			p.row("since", r.Waiting.Since.Local().Format("2006-01-02 15:04:05"))
		}
		if r.Waiting.NextProbe != nil {
			p.row("next probe", r.Waiting.NextProbe.Local().Format("2006-01-02 15:04:05"))
		}
		p.text("last error", r.Waiting.LastError)
	}
	p.text("error", r.Error)
	p.link("version page", versionPage(r))
	p.link("run page", runPage(r))
	p.link("workflow page", r.WorkflowURL)
	return headline(r, on) + "\n" + p.lines(on)
}

// headline says in some words how a registration stands.
func headline(r receipt.Receipt, on screen) string {
	word := string(r.State)
	if r.Outcome != "" {
		word = string(r.Outcome)
	}
	said := strings.ReplaceAll(word, "_", " ") + ":"
	version := ""
	if r.ModelVersion != "" {
		version = " version " + r.ModelVersion
	}
	name := printable(r.ModelName)
	if columns, _ := on.size(); columns > 0 {
		name = fit(name, max(leastWidth, columns-len(said)-len(" ")-len(version)))
	}
	if name != "" {
		name = " " + name
	}
	return on.in(bold+colourOf(word), said) + name + version
}

// versionPage and runPage are where the MLflow UI shows what a registration led to. The tracking server serves its UI under its own address, as
// the worker sees it, so that is where the links lead; empty where there is nothing yet. The address of the Temporal Web UI is a setting of the
// worker, which puts it into the receipt.
func versionPage(r receipt.Receipt) string {
	if r.TrackingURI == "" || r.ModelVersion == "" {
		return ""
	}
	return fmt.Sprintf("%s/#/models/%s/versions/%s", r.TrackingURI, url.PathEscape(r.ModelName), r.ModelVersion)
}

func runPage(r receipt.Receipt) string {
	if r.TrackingURI == "" || r.MLflowRunID == "" || r.ExperimentID == "" {
		return ""
	}
	return fmt.Sprintf("%s/#/experiments/%s/runs/%s", r.TrackingURI, r.ExperimentID, r.MLflowRunID)
}

// page is rows of a name and a value. What is empty is left out.
type page []field

type field struct {
	name, value string
	kind        fieldKind
}

type fieldKind int

const (
	aName fieldKind = iota // a name or an id: shortened where there is no room for it
	aText                  // folded
	aLink                  // left whole: terminals make it something to click at
)

func (p *page) row(name, value string)  { p.add(field{name, value, aName}) }
func (p *page) text(name, value string) { p.add(field{name, value, aText}) }
func (p *page) link(name, value string) { p.add(field{name, value, aLink}) }

func (p *page) add(f field) {
	if f.value != "" {
		*p = append(*p, f)
	}
}

// lines are the rows as the screen has room for them.
func (p page) lines(on screen) string {
	const indent = "  "
	names := 0
	for _, f := range p {
		names = max(names, runewidth.StringWidth(f.name))
	}
	columns, _ := on.size()
	room := 0
	if columns > 0 {
		room = max(leastWidth, columns-len(indent)-names-len(gap))
	}
	var b strings.Builder
	for _, f := range p {
		values := []string{printable(f.value)}
		switch f.kind {
		case aName:
			values[0] = fit(values[0], room)
		case aText:
			values = fold(values[0], room)
		case aLink:
			if room > 0 && runewidth.StringWidth(values[0]) > room { // a line of its own leaves the most of it in one piece
				values = []string{"", values[0]}
			}
		}
		for i, value := range values {
			start := on.in(dim, runewidth.FillRight(f.name, names)) + gap
			switch {
			case i > 0 && f.kind == aLink:
				start = indent
			case i > 0:
				start = strings.Repeat(" ", names) + gap
			}
			b.WriteString(strings.TrimRight(indent+start+value, " ") + "\n")
		}
	}
	return b.String()
}

// warn writes a warning, once.
func (s *starter) warn(text string) {
	if s.warned[text] {
		return
	}
	s.warned[text] = true
	const word = "warning: "
	on := s.screenOf(s.stderr)
	columns, _ := on.size()
	for i, line := range fold(printable(text), max(0, columns-len(word))) {
		start := on.in(yellow, word)
		if i > 0 {
			start = strings.Repeat(" ", len(word))
		}
		fmt.Fprintln(s.stderr, start+line)
	}
}
