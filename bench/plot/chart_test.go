package plot_test

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"regexp"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog/bench/plot"
)

func example() plot.Chart {
	c := plot.Chart{
		Title: "A & B", Subtitle: "<one>", X: plot.Axis{Label: "writers", Log: true}, Y: plot.Axis{Label: "ms", Log: true},
	}
	for _, name := range []string{"migrationlog", "raw file", "a", "b", "c", "d", "e", "f", "g <h>"} {
		style := map[string]plot.Style{"migrationlog": plot.Subject, "raw file": plot.Reference}[name]
		c.Series = append(c.Series, plot.Series{Name: name, Style: style, Number: len(c.Series), Points: []plot.Point{
			{X: 1, Y: 10, Low: 8, High: 13}, {X: 1000, Y: 500, Low: 500, High: 500},
		}})
	}
	return c
}

// A picture is well-formed XML and has every series with its spread and its name.
func TestWriteSVG_HasEverySeries(t *testing.T) {
	var svg bytes.Buffer
	require.NoError(t, example().WriteSVG(&svg))
	texts := map[string]int{}
	decoder := xml.NewDecoder(bytes.NewReader(svg.Bytes()))
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		if text, ok := token.(xml.CharData); ok {
			texts[string(text)]++
		}
	}
	for _, s := range example().Series {
		require.Equal(t, 2, texts[s.Name], "%s: a title and a label", s.Name)
	}
	require.Equal(t, 1, texts["A & B"])
	require.Equal(t, 9, bytes.Count(svg.Bytes(), []byte(` spread"`)), "points without a spread have no bar")
	require.NotContains(t, svg.String(), "NaN")
	require.Contains(t, svg.String(), "prefers-color-scheme:dark")
}

// Labels of lines that end at the same point do not overlap.
func TestWriteSVG_LabelsAreApart(t *testing.T) {
	var svg bytes.Buffer
	require.NoError(t, example().WriteSVG(&svg))
	labels := regexp.MustCompile(`<text class="label[^"]*" x="[0-9.]+" y="([0-9.]+)">`).FindAllStringSubmatch(svg.String(), -1)
	require.Len(t, labels, 9)
	var last float64
	for _, label := range labels {
		y, err := strconv.ParseFloat(label[1], 64)
		require.NoError(t, err)
		require.GreaterOrEqual(t, y-last, 16.9)
		last = y
	}
}

// A series without points or with one point is drawn, and makes no number invalid.
func TestWriteSVG_FewValues(t *testing.T) {
	for _, points := range [][]plot.Point{nil, {{X: 1, Y: 0}}, {{X: 5, Y: 7, Low: 7, High: 7}}} {
		for _, log := range []bool{false, true} {
			var svg bytes.Buffer
			c := plot.Chart{X: plot.Axis{Log: log}, Y: plot.Axis{Log: log}, Series: []plot.Series{{Name: "a", Points: points}}}
			require.NoError(t, c.WriteSVG(&svg))
			require.NotRegexp(t, "NaN|Inf", svg.String())
		}
	}
}

// Without colours a reader can distinguish the series: each has a dash pattern and a mark that no
// other series has, and a mark at every data point.
func TestWriteSVG_SeriesDifferInGrayscale(t *testing.T) {
	c := plot.Chart{}
	add := func(style plot.Style, number int) {
		c.Series = append(c.Series, plot.Series{Name: "x", Style: style, Number: number, Points: []plot.Point{{X: 0, Y: 0}, {X: 1, Y: 0}, {X: 2, Y: 0}}})
	}
	add(plot.Subject, 0)
	add(plot.Reference, 0)
	for n := range 9 {
		add(plot.Plain, n)
	}
	for n := range 5 {
		add(plot.Variant, n)
	}
	var svg bytes.Buffer
	require.NoError(t, c.WriteSVG(&svg))
	series := regexp.MustCompile(`<g><title>x</title>.*</g>`).FindAllString(svg.String(), -1)
	require.Len(t, series, len(c.Series))
	colour := regexp.MustCompile(`\b(c[0-9]+|r)"`)
	looks, dashes := map[string]bool{}, map[string]bool{}
	for _, s := range series {
		dash := regexp.MustCompile(`stroke-width:[^"]*`).FindString(s)
		elements := regexp.MustCompile(`<(circle|path) class="(mark|open|strokes) [^>]*>`).FindAllString(s, -1)
		require.Len(t, elements, 3, "a mark at every data point")
		mark := colour.ReplaceAllString(elements[0], `"`) // all at the same point
		require.False(t, looks[mark], "the mark of another series: %s", mark)
		looks[mark] = true
		require.False(t, dashes[dash], "the dash pattern of another series: %s", dash)
		dashes[dash] = true
	}
}

// A label names a logarithmic scale. No line leads from the data to a label.
func TestWriteSVG_NamesLogarithmicScale(t *testing.T) {
	for _, log := range []bool{false, true} {
		c := example()
		c.X.Log, c.Y.Log = log, log
		var svg bytes.Buffer
		require.NoError(t, c.WriteSVG(&svg))
		require.Equal(t, log, bytes.Contains(svg.Bytes(), []byte(">writers (logarithmic)<")))
		require.Equal(t, log, bytes.Contains(svg.Bytes(), []byte(">ms (logarithmic)<")))
		require.NotContains(t, svg.String(), "lead")
	}
}

func TestName(t *testing.T) {
	for want, v := range map[string]float64{"0.5": 0.5, "20": 20, "5k": 5000, "10M": 1e7, "1.5k": 1500} {
		require.Equal(t, want, plot.Name(v))
	}
}
