package main

import (
	"io"
	"os"
	"strings"
	"time"
	"unicode"

	"github.com/mattn/go-runewidth"
	"golang.org/x/term"
)

// screen is where people read. What is no terminal gets whole values, line by line, without a colour; a program may read it.
type screen struct {
	file *os.File // nil: no terminal, or one that can do no more than print
	// colours are asked for by nobody who sets NO_COLOR (no-color.org).
	colours bool
}

// screenOf looks what a writer leads to. With --output json nothing is for people.
func (s *starter) screenOf(w io.Writer) screen {
	file, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) || s.output == "json" || s.variable("TERM", "dumb") == "dumb" {
		return screen{}
	}
	return screen{file: file, colours: s.variable("NO_COLOR", "") == ""}
}

// isLive tells whether what was written can be written over.
func (t screen) isLive() bool { return t.file != nil }

// size is how many columns and lines there are; 0 for no limit. It may change at any time.
func (t screen) size() (columns, lines int) {
	if t.file == nil {
		return 0, 0
	}
	columns, lines, err := term.GetSize(int(t.file.Fd()))
	if err != nil {
		return 0, 0
	}
	return columns, lines
}

// The colours, and what ends them (ECMA-48, SGR).
const (
	bold   = "\x1b[1m"
	dim    = "\x1b[2m"
	red    = "\x1b[31m"
	green  = "\x1b[32m"
	yellow = "\x1b[33m"
	plain  = "\x1b[0m"
)

// in is text in a colour, where there are any.
func (t screen) in(colour, text string) string {
	if !t.colours || colour == "" || text == "" {
		return text
	}
	return colour + text + plain
}

// colourOf is the colour of a state, an outcome, or a verdict.
func colourOf(word string) string {
	switch word {
	case "registered", "already_registered", "passed":
		return green
	case "failed", "terminated", "timed_out", "blocked":
		return red
	case "waiting", "queued", "rejected", "canceled", "pending_approval":
		return yellow
	}
	return ""
}

// time is a time as there is room for it: on a narrow screen without year and seconds.
func (t screen) time(at time.Time) string {
	if columns, _ := t.size(); columns > 0 && columns < 100 {
		return at.Local().Format("Jan _2 15:04")
	}
	return at.Local().Format("2006-01-02 15:04:05")
}

// printable is a text from elsewhere without what would move the cursor, or break the line.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, text)
}

// oneLine is a text of several lines in one.
func oneLine(text string) string { return strings.Join(strings.Fields(printable(text)), " ") }

// leastID is the narrowest column that both ends of an id find room in.
const leastID = 20

// fit is a name or an id in at most so many columns; 0: all of it. What is left out is marked, and the end stays: it tells ids apart.
func fit(text string, columns int) string {
	wide := runewidth.StringWidth(text)
	switch {
	case columns <= 0 || wide <= columns:
		return text
	case columns < leastID:
		return "…" + runewidth.TruncateLeft(text, wide-columns+1, "")
	}
	tail := min(columns/2, 16)
	return runewidth.Truncate(text, columns-tail, "…") + runewidth.TruncateLeft(text, wide-tail, "")
}

// cut is the beginning of a sentence; 0: all of it.
func cut(text string, columns int) string {
	if columns <= 0 {
		return text
	}
	return runewidth.Truncate(text, columns, "…")
}

// fold is a text in lines of at most so many columns, broken between words; 0: one line. A word that is longer stays whole, such as an address.
func fold(text string, columns int) []string {
	if columns <= 0 {
		return []string{text}
	}
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		switch {
		case line == "":
			line = word
		case runewidth.StringWidth(line)+1+runewidth.StringWidth(word) <= columns:
			line += " " + word
		default:
			lines, line = append(lines, line), word
		}
	}
	return append(lines, line)
}
