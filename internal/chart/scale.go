package chart

import (
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// scale is the part of the numbers that the picture shows, with the round ones in it.
type scale struct {
	min, max float64
	ticks    []float64
	digits   int // after the point
}

// wantedTicks is about how many lines the grid has.
const wantedTicks = 5

// newScale takes in all values and thresholds, with a margin. It begins nowhere in particular: what matters is how the versions differ.
func newScale(points []Point) scale {
	low, high := math.Inf(1), math.Inf(-1)
	for _, point := range points {
		for _, value := range []float64{point.Value, point.Minimum} {
			if finite(value) {
				low, high = min(low, bounded(value)), max(high, bounded(value))
			}
		}
	}
	if low > high {
		low, high = 0, 1
	}
	// Halved before they are subtracted: the largest numbers are further apart than any number.
	spread := high/2 - low/2
	if least := max(math.Abs(low), math.Abs(high)) / 50; spread < least {
		spread = least
	}
	if spread == 0 {
		spread = 0.5
	}
	s := scale{min: bounded(low - spread/4), max: bounded(high + spread/4)}
	distance := round125((s.max/2 - s.min/2) / wantedTicks * 2)
	for k := math.Ceil(s.min / distance); k*distance <= s.max && len(s.ticks) < 4*wantedTicks; k++ {
		s.ticks = append(s.ticks, k*distance)
	}
	s.digits = max(0, -int(math.Floor(math.Log10(distance))))
	return s
}

// bounded keeps the picture's own numbers finite.
func bounded(value float64) float64 {
	const most = math.MaxFloat64 / 4
	return min(max(value, -most), most)
}

// round125 is the next distance that people count in: 1, 2 or 5 times a power of ten.
func round125(distance float64) float64 {
	power := math.Pow(10, math.Floor(math.Log10(distance)))
	for _, factor := range []float64{1, 2, 5} {
		if distance <= factor*power {
			return factor * power
		}
	}
	return 10 * power
}

func (s scale) format(tick float64) string {
	if most := max(math.Abs(s.min), math.Abs(s.max)); most >= 1e6 || s.digits > 6 {
		return strconv.FormatFloat(tick, 'g', 3, 64)
	}
	text := strconv.FormatFloat(tick, 'f', s.digits, 64)
	if strings.Trim(text, "-0.") == "" {
		return strings.TrimPrefix(text, "-") // what is left of a small negative number is no negative zero
	}
	return text
}

// plain is a value as people read it: to four significant digits, and with two after the point where it has fewer.
func plain(value float64) string {
	exact, short := strconv.FormatFloat(value, 'g', 4, 64), strconv.FormatFloat(value, 'f', 2, 64)
	if len(short) > len(exact) && math.Abs(value) < 1000 {
		return short
	}
	return exact
}

// How wide a character of the picture's text is in the widest of the fonts that may show it (DejaVu Sans).
const (
	textWidth = 7.6
	boldWidth = 9
)

// step is every how manieth of count labels is shown where there is room for so many.
func step(count, room int) int {
	every := 1
	for _, next := range []int{1, 2, 5, 10, 20, 50, 100, 200, 500, 1000} {
		every = next
		if (count+every-1)/every <= max(1, room) {
			break
		}
	}
	return every
}

// part is a run of neighbours, both ends included.
type part struct{ first, last int }

// runs are the longest runs of neighbours that all have something.
func runs(count int, has func(int) bool) []part {
	var parts []part
	for i := range count {
		switch {
		case !has(i):
		case i > 0 && has(i-1):
			parts[len(parts)-1].last = i
		default:
			parts = append(parts, part{i, i})
		}
	}
	return parts
}

func finite(value float64) bool { return !math.IsNaN(value) && !math.IsInf(value, 0) }

// shorten cuts a text from elsewhere to what there is room for.
func shorten(text string, runes int) string {
	if utf8.RuneCountInString(text) <= runes {
		return text
	}
	return string([]rune(text)[:runes-1]) + "…"
}

// escape makes a text safe within XML, whatever it holds: a name in MLflow may be nearly anything, and browsers run what is in a picture.
func escape(text string) string {
	text = strings.Map(func(r rune) rune {
		if r < 0x20 || r == 0x7f || r == utf8.RuneError || r == 0xfffe || r == 0xffff {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, " "))
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;", "'", "&#39;").Replace(text)
}
