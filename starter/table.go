package main

import (
	"io"
	"strings"

	"github.com/mattn/go-runewidth"
)

// cell is a text of a table, with the colour that it has where there are colours.
type cell struct{ text, colour string }

// table is rows under a heading.
type table struct {
	columns []column
	rows    [][]cell
}

type column struct {
	heading string
	kind    columnKind
}

type columnKind int

const (
	aWord   columnKind = iota // whole, such as a time
	aNumber                   // whole, flush right
	aPhrase                   // its end may be left out
	anID                      // its middle may
)

const (
	gap = "  "
	// leastWidth is what a column keeps that is shortened.
	leastWidth = 6
)

func (t *table) add(cells ...cell) {
	for i := range cells {
		cells[i].text = printable(cells[i].text)
	}
	t.rows = append(t.rows, cells)
}

// lines are the table as the screen has room for it, coloured. A screen gets no column that is empty, and none that there is no room for.
func (t *table) lines(on screen) []string {
	columns, _ := on.size()
	shown := *t
	if on.isLive() {
		shown = shown.without(func(i int) bool { return shown.isEmpty(i) })
	}
	widths, fits := shown.widths(columns)
	for !fits && len(shown.columns) > 1 {
		last := len(shown.columns) - 1
		shown = shown.without(func(i int) bool { return i == last })
		widths, fits = shown.widths(columns)
	}
	heading := make([]cell, len(shown.columns))
	for i, c := range shown.columns {
		heading[i] = cell{c.heading, dim}
	}
	var lines []string
	for _, row := range append([][]cell{heading}, shown.rows...) {
		cells := make([]string, len(row))
		for i, c := range row {
			cells[i] = shown.columns[i].kind.cell(c, widths[i], on)
		}
		lines = append(lines, strings.TrimRight(strings.Join(cells, gap), " "))
	}
	return lines
}

func (k columnKind) cell(c cell, width int, on screen) string {
	text := cut(c.text, width)
	if k == anID {
		text = fit(c.text, width)
	}
	padding := strings.Repeat(" ", max(0, width-runewidth.StringWidth(text)))
	if k == aNumber {
		return padding + on.in(c.colour, text)
	}
	return on.in(c.colour, text) + padding
}

func (t *table) isEmpty(column int) bool {
	for _, row := range t.rows {
		if row[column].text != "" {
			return false
		}
	}
	return true
}

// without is the table without some columns.
func (t *table) without(leftOut func(int) bool) table {
	var kept table
	for i, c := range t.columns {
		if !leftOut(i) {
			kept.columns = append(kept.columns, c)
		}
	}
	for _, row := range t.rows {
		var cells []cell
		for i, c := range row {
			if !leftOut(i) {
				cells = append(cells, c)
			}
		}
		kept.rows = append(kept.rows, cells)
	}
	return kept
}

// widths are those of the longest cells. Where they are too many together, the widest of those that may be shortened give; it does not fit where
// that is not enough.
func (t *table) widths(columns int) (widths []int, fits bool) {
	widths = make([]int, len(t.columns))
	total := len(gap) * (len(widths) - 1)
	for i, c := range t.columns {
		widths[i] = runewidth.StringWidth(c.heading)
		for _, row := range t.rows {
			widths[i] = max(widths[i], runewidth.StringWidth(row[i].text))
		}
		total += widths[i]
	}
	for ; columns > 0 && total > columns; total-- {
		widest := -1
		for i, c := range t.columns {
			if c.kind >= aPhrase && widths[i] > leastWidth && (widest < 0 || widths[i] >= widths[widest]) {
				widest = i
			}
		}
		if widest < 0 {
			return widths, false
		}
		widths[widest]--
	}
	return widths, true
}

func (t *table) write(w io.Writer, on screen) error {
	_, err := io.WriteString(w, strings.Join(t.lines(on), "\n")+"\n")
	return err
}
