package chart

import (
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

var update = flag.Bool("update", false, "write the pictures of testdata anew")

// pictures are what a person should look at when the drawing changes: `go test ./internal/chart -update`, and a browser.
var pictures = map[string]Chart{
	"none": {Title: "ACRAS_RandomForest_v1", Metric: "roc_auc"},
	"one":  versions(1, func(_ int, p *Point) { p.Marks = []string{"Staging", "@staging"} }),
	"two":  versions(2, func(i int, p *Point) { p.Faded = i == 0 }),
	"ten":  versions(10, promoted),
	"many": versions(200, promoted),
	"gaps": versions(12, func(i int, p *Point) {
		promoted(i, p)
		if i == 3 || i == 4 || i == 9 {
			p.Value, p.Minimum, p.Note = math.NaN(), math.NaN(), "version "+p.Label+": made by another tool, no roc_auc"
		}
	}),
	"equal": versions(6, func(_ int, p *Point) { p.Value, p.Minimum = 0.75, 0.75 }),
	"raised": versions(8, func(i int, p *Point) {
		promoted(i, p)
		if i > 3 {
			p.Minimum = 0.7
		}
	}),
	"crowded": versions(9, func(i int, p *Point) {
		p.Label = fmt.Sprint(1996 + i)
		p.Marks = []string{"Production", "@champion", "@canary-" + p.Label}
	}),
	"unmeasured": versions(3, func(_ int, p *Point) { p.Value, p.Minimum = math.NaN(), math.NaN() }),
	"losses": versions(7, func(i int, p *Point) {
		p.Value, p.Minimum = -1234567.5*float64(i*i), math.NaN()
	}),
}

func versions(count int, change func(int, *Point)) Chart {
	c := Chart{Title: "ACRAS_RandomForest_v1", Metric: "roc_auc"}
	for i := range count {
		p := Point{
			Label: fmt.Sprint(i + 1), Minimum: 0.6,
			Value: 0.68 + 0.08*math.Sin(float64(i)*0.37) + 0.03*math.Cos(float64(i)*1.9),
		}
		p.Note = fmt.Sprintf("version %s: %.4f", p.Label, p.Value)
		change(i, &p)
		c.Points = append(c.Points, p)
	}
	if count > 1 && len(c.Points[count-1].Marks) == 0 {
		c.Points[count-1].Marks = []string{"Staging", "@staging"}
	}
	return c
}

func promoted(i int, p *Point) {
	p.Faded = true
	if i == 4 {
		p.Marks, p.Faded = []string{"Production"}, false
	}
}

func TestChart_DrawsTheSameBytes(t *testing.T) {
	for name, c := range pictures {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join("testdata", name+".svg")
			drawn := c.SVG()
			if *update {
				require.NoError(t, os.MkdirAll("testdata", 0o755))
				require.NoError(t, os.WriteFile(file, drawn, 0o644))
			}
			want, err := os.ReadFile(file)
			require.NoError(t, err)
			require.Equal(t, string(want), string(drawn))
		})
	}
}

func TestChart_IsWellFormedWhateverIsInIt(t *testing.T) {
	value := rapid.OneOf(rapid.Float64(), rapid.SampledFrom([]float64{
		math.NaN(), math.Inf(1), math.Inf(-1), 0, math.Copysign(0, -1), 0.75, math.MaxFloat64, -math.MaxFloat64, math.SmallestNonzeroFloat64,
	}))
	text := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{
		`</text><script>alert(1)</script>`, `"onload="alert(1)`, "\x00\x1b[2J", "\xff\xfe", "模型", strings.Repeat("long ", 200),
	}))
	rapid.Check(t, func(t *rapid.T) {
		c := Chart{Title: text.Draw(t, "title"), Metric: text.Draw(t, "metric")}
		for range rapid.IntRange(0, 8).Draw(t, "versions") {
			c.Points = append(c.Points, Point{
				Label: text.Draw(t, "label"), Value: value.Draw(t, "value"), Minimum: value.Draw(t, "minimum"),
				Marks: rapid.SliceOfN(text, 0, 2).Draw(t, "marks"), Faded: rapid.Bool().Draw(t, "faded"), Note: text.Draw(t, "note"),
			})
		}

		drawn := c.SVG()

		if string(drawn) != string(c.SVG()) {
			t.Fatal("drawn again, it is another picture")
		}
		checkPicture(t, string(drawn))
	})
}

// checkPicture sees that a picture is XML of the elements that are drawn here alone, and that each coordinate is a number within reach.
func checkPicture(t *rapid.T, drawn string) {
	decoder := xml.NewDecoder(strings.NewReader(drawn))
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatalf("%v in %s", err, drawn)
		}
		element, ok := token.(xml.StartElement)
		if !ok {
			continue
		}
		switch element.Name.Local {
		case "svg", "title", "style", "rect", "text", "line", "path", "polyline", "circle", "g":
		default:
			t.Fatalf("element %s", element.Name.Local)
		}
		for _, a := range element.Attr {
			if strings.HasPrefix(a.Name.Local, "on") || strings.Contains(a.Value, "NaN") || strings.Contains(a.Value, "Inf") || len(a.Value) > 4000 {
				t.Fatalf("attribute %s=%q", a.Name.Local, a.Value)
			}
		}
	}
}
