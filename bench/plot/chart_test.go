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
	for _, name := range []string{"migrationlog", "floor", "a", "b", "c", "d", "e", "f", "g <h>"} {
		style := map[string]plot.Style{"migrationlog": plot.Subject, "floor": plot.Reference}[name]
		c.Series = append(c.Series, plot.Series{Name: name, Style: style, Colour: len(c.Series), Points: []plot.Point{
			{X: 1, Y: 10, Low: 8, High: 13}, {X: 1000, Y: 500, Low: 500, High: 500},
		}})
	}
	return c
}

// A picture is well-formed XML, and every series, its spread and its name are in it.
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

// Labels of lines that end in the same place do not cover each other.
func TestWriteSVG_LabelsAreApart(t *testing.T) {
	var svg bytes.Buffer
	require.NoError(t, example().WriteSVG(&svg))
	labels := regexp.MustCompile(`<text class="[cr][^"]*" x="[0-9.]+" y="([0-9.]+)">`).FindAllStringSubmatch(svg.String(), -1)
	require.Len(t, labels, 9)
	var last float64
	for _, label := range labels {
		y, err := strconv.ParseFloat(label[1], 64)
		require.NoError(t, err)
		require.GreaterOrEqual(t, y-last, 16.9)
		last = y
	}
}

// What has no values or only one is drawn all the same.
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

func TestName(t *testing.T) {
	for want, v := range map[string]float64{"0.5": 0.5, "20": 20, "5k": 5000, "10M": 1e7, "1.5k": 1500} {
		require.Equal(t, want, plot.Name(v))
	}
}
