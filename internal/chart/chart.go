// Package chart draws one metric over the versions of a model, as an SVG picture.
//
// It knows scales, labels and SVG; it knows nothing of MLflow, files or Temporal. The same chart always gives the same bytes: no time, no random
// id and no map is in it. It is written out by hand because a plotting library costs the worker 9 MB of binary and 5 MB of memory at rest, for its fonts
// alone: an SVG leaves the fonts to whoever shows it.
package chart

import (
	"fmt"
	"math"
	"strings"
	"unicode/utf8"
)

// Chart is one metric over the versions of a model, the oldest first. The zero value is an empty picture that says so.
type Chart struct {
	// Title stands above the picture, and Metric names what is measured.
	Title, Metric string
	Points        []Point
}

// Point is one version.
type Point struct {
	// Label is the version's number.
	Label string
	// Value is the metric. NaN and infinities stand for one that is not known: a gap in the line.
	Value float64
	// Minimum is the threshold that held for the version; NaN where there was none.
	Minimum float64
	// Marks are the stages and aliases that the version holds.
	Marks []string
	// Faded is a version that was put away.
	Faded bool
	// Note is shown where the mouse rests on the version.
	Note string
}

// The picture, in pixels where nobody scales it.
const (
	width, height = 960, 420
	left, right   = 76, 122 // room for the numbers of the axis, and for what the lines are at in the end
	top, bottom   = 54, 48
	laneHeight    = 22
	maxLanes      = 3
	maxMarkRunes  = 32
)

// SVG is the picture as a file of its own.
func (c Chart) SVG() []byte {
	p := c.picture()
	p.open(c)
	if len(c.Points) == 0 {
		p.text(width/2, height/2, "middle", "quiet", "no versions")
	} else {
		p.axes(c)
		p.minimum(c.Points)
		p.marks(c.Points)
		p.line(c.Points)
		p.points(c)
		p.ends(c)
	}
	p.printf("</svg>\n")
	return []byte(p.b.String())
}

// picture is the drawing under way.
type picture struct {
	b     strings.Builder
	scale scale
	count int
	lanes []label // the marks that there is room for
	floor float64 // of the plot, in pixels
	ceil  float64
}

// label is the text over a version that holds a stage or an alias. Its anchor is where x is: near an edge the text goes the other way.
type label struct {
	point, lane int
	text        string
	anchor      string
	from, to    float64
}

func (c Chart) picture() *picture {
	p := &picture{count: len(c.Points), floor: height - bottom}
	var lanes int
	p.lanes, lanes = p.arrange(c.Points)
	p.ceil = top + float64(lanes*laneHeight)
	p.scale = newScale(c.Points)
	return p
}

// x is where a version stands: all at the same distance, whatever their numbers are.
func (p *picture) x(point int) float64 {
	if p.count == 1 {
		return (left + width - right) / 2
	}
	const inset = 24
	return left + inset + float64(point)*(width-right-left-2*inset)/float64(p.count-1)
}

func (p *picture) y(value float64) float64 {
	return p.floor - (bounded(value)-p.scale.min)/(p.scale.max-p.scale.min)*(p.floor-p.ceil)
}

// printf writes coordinates to a tenth of a pixel, so that the last bits of a calculation never show.
func (p *picture) printf(format string, args ...any) { fmt.Fprintf(&p.b, format, args...) }

func (p *picture) text(x, y float64, anchor, class, text string) {
	p.printf("<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\" class=\"%s\">%s</text>\n", x, y, anchor, class, escape(text))
}

func (p *picture) open(c Chart) {
	title := c.Title
	if c.Metric != "" {
		title = c.Metric + " of " + c.Title
	}
	p.printf(`<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" role="img">
<title>%s</title>
<style>
text { font: 13px system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", Arial, sans-serif; fill: #1f2933 }
.title { font-size: 17px; font-weight: 600 }
.quiet { fill: #64748b }
.limit { fill: #b42318 }
.newest { font-weight: 600 }
.mark { fill: #1d4ed8; font-weight: 600 }
.grid { stroke: #e5e9f0 }
.axis { stroke: #94a3b8 }
.minimum { stroke: #b42318; stroke-width: 1.5; stroke-dasharray: 6 4; fill: none }
.values { stroke: #2563eb; stroke-width: 2; stroke-linejoin: round; fill: none }
.stem { stroke: #93b4f5; stroke-dasharray: 2 3 }
.point { fill: #2563eb; stroke: #ffffff }
.faded { fill: #9db7ee }
.ring { fill: none; stroke: #1d4ed8; stroke-width: 2 }
.below { fill: #b42318 }
.missing { stroke: #94a3b8; stroke-width: 1.5 }
</style>
<rect width="%d" height="%d" fill="#ffffff"/>
`, width, height, width, height, escape(title), width, height)
	p.text(left, 30, "start", "title", shorten(title, 90))
}

func (p *picture) axes(c Chart) {
	for _, tick := range p.scale.ticks {
		y := p.y(tick)
		p.printf("<line x1=\"%d\" y1=\"%.1f\" x2=\"%d\" y2=\"%.1f\" class=\"grid\"/>\n", left, y, width-right, y)
		p.text(left-10, y+4, "end", "quiet", p.scale.format(tick))
	}
	p.printf("<line x1=\"%d\" y1=\"%.1f\" x2=\"%d\" y2=\"%.1f\" class=\"axis\"/>\n", left, p.floor, width-right, p.floor)
	longest := 1
	for _, point := range c.Points {
		longest = max(longest, len(point.Label))
	}
	every := step(len(c.Points), int((width-left-right)/(textWidth*float64(longest)+16)))
	for i, point := range c.Points {
		// Counted from the newest, which is always named.
		if (len(c.Points)-1-i)%every == 0 {
			p.text(p.x(i), p.floor+18, "middle", "quiet", point.Label)
		}
	}
	p.text((left+width-right)/2, height-10, "middle", "quiet", "version")
}

// minimum is the threshold of each version, as far as it reaches in the middle between two.
func (p *picture) minimum(points []Point) {
	from := func(i int) float64 {
		if i == 0 {
			return left
		}
		return (p.x(i-1) + p.x(i)) / 2
	}
	to := func(i int) float64 {
		if i == len(points)-1 {
			return width - right
		}
		return (p.x(i) + p.x(i+1)) / 2
	}
	for _, part := range runs(len(points), func(i int) bool { return finite(points[i].Minimum) }) {
		var path strings.Builder
		for i := part.first; i <= part.last; i++ {
			verb := "L"
			if i == part.first {
				verb = "M"
			}
			fmt.Fprintf(&path, "%s%.1f %.1fL%.1f %.1f", verb, from(i), p.y(points[i].Minimum), to(i), p.y(points[i].Minimum))
		}
		p.printf("<path d=\"%s\" class=\"minimum\"/>\n", path.String())
	}
}

// line joins neighbours that both have a value: where one has none, nothing is known of what lies between.
func (p *picture) line(points []Point) {
	for _, part := range runs(len(points), func(i int) bool { return finite(points[i].Value) }) {
		if part.first == part.last {
			continue
		}
		var coordinates []string
		for i := part.first; i <= part.last; i++ {
			coordinates = append(coordinates, fmt.Sprintf("%.1f,%.1f", p.x(i), p.y(points[i].Value)))
		}
		p.printf("<polyline points=\"%s\" class=\"values\"/>\n", strings.Join(coordinates, " "))
	}
}

func (p *picture) points(c Chart) {
	radius := 5.0
	if p.count > 60 {
		radius = 2.5
	}
	for i, point := range c.Points {
		p.printf("<g><title>%s</title>", escape(point.Note))
		switch {
		case !finite(point.Value):
			p.printf("<path d=\"M%.1f %.1fl6 6m0 -6l-6 6\" class=\"missing\"/>", p.x(i)-3, p.floor-9)
		default:
			class := "point"
			if point.Faded {
				class += " faded"
			}
			if finite(point.Minimum) && point.Value < point.Minimum {
				class += " below"
			}
			p.printf("<circle cx=\"%.1f\" cy=\"%.1f\" r=\"%.1f\" class=\"%s\"/>", p.x(i), p.y(point.Value), radius, class)
			if len(point.Marks) > 0 {
				p.printf("<circle cx=\"%.1f\" cy=\"%.1f\" r=\"%.1f\" class=\"ring\"/>", p.x(i), p.y(point.Value), radius+4)
			}
		}
		p.printf("</g>\n")
	}
}

// ends says beside the plot what the newest value and the newest threshold are.
func (p *picture) ends(c Chart) {
	value, minimum := math.NaN(), math.NaN()
	for _, point := range c.Points {
		if finite(point.Value) {
			value = point.Value
		}
		if finite(point.Minimum) {
			minimum = point.Minimum
		}
	}
	const x, lineHeight = width - right + 10, 16
	valueY, minimumY := p.y(value)+5, p.y(minimum)+5
	if gap := valueY - minimumY; finite(gap) && math.Abs(gap) < lineHeight { // one above the other, around where both are
		middle := min((valueY+minimumY)/2, p.floor-lineHeight/2)
		valueY, minimumY = middle-lineHeight/2, middle+lineHeight/2
		if value < minimum {
			valueY, minimumY = minimumY, valueY
		}
	}
	if finite(minimum) {
		p.text(x, minimumY, "start", "limit", "minimum "+plain(minimum))
	}
	if finite(value) {
		p.text(x, valueY, "start", "newest", plain(value))
		return
	}
	p.text((left+width-right)/2, (p.ceil+p.floor)/2, "middle", "quiet", "no version has "+orMetric(c.Metric))
}

func orMetric(name string) string {
	if name == "" {
		return "a value"
	}
	return name
}

// marks names what versions hold, each above its version.
func (p *picture) marks(points []Point) {
	for _, l := range p.lanes {
		x, y := p.x(l.point), float64(top+l.lane*laneHeight+8)
		end := p.floor
		if finite(points[l.point].Value) {
			end = p.y(points[l.point].Value)
		}
		p.printf("<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" class=\"stem\"/>\n", x, y+4, x, end)
		p.printf("<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"18\" fill=\"#ffffff\"/>\n", l.from, y-12, l.to-l.from)
		p.text(x, y+1, l.anchor, "mark", l.text)
	}
}

// arrange puts the marks into lanes, the newest version's first, so that no two overlap. What finds no room is left to the ring and the note.
func (p *picture) arrange(points []Point) (placed []label, lanes int) {
	var taken [maxLanes][]label
	for i := len(points) - 1; i >= 0; i-- {
		if len(points[i].Marks) == 0 {
			continue
		}
		l := p.label(i, shorten(strings.Join(points[i].Marks, ", "), maxMarkRunes))
	search:
		for lane := range maxLanes {
			for _, other := range taken[lane] {
				if l.from < other.to && other.from < l.to {
					continue search
				}
			}
			l.lane = lane
			taken[lane] = append(taken[lane], l)
			placed = append(placed, l)
			lanes = max(lanes, lane+1)
			break
		}
	}
	return placed, lanes
}

func (p *picture) label(point int, text string) label {
	const space = 6
	x, wide := p.x(point), float64(utf8.RuneCountInString(text))*boldWidth
	l := label{point: point, text: text, anchor: "middle", from: x - wide/2 - space, to: x + wide/2 + space}
	switch {
	case l.from < 0:
		l.anchor, l.from, l.to = "start", x-space, x+wide+space
	case l.to > width:
		l.anchor, l.from, l.to = "end", x-wide-space, x+space
	}
	return l
}
