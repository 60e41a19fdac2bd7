package timeline_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"migrationlog/checkpoint"
	"migrationlog/replay/timeline"
)

func page(t *testing.T, line *timeline.Timeline, o timeline.PageOptions) string {
	var out bytes.Buffer
	require.NoError(t, line.WritePage(&out, o))
	return out.String()
}

// pageData returns the data of a page.
func pageData(t *testing.T, html string) (data map[string]any) {
	_, rest, ok := strings.Cut(html, `<script type="application/json" id="data">`)
	require.True(t, ok)
	text, _, ok := strings.Cut(rest, "</script>")
	require.True(t, ok)
	require.NoError(t, json.Unmarshal([]byte(text), &data))
	return data
}

// The page of the recording is small, and its policy allows its own script and style only.
func TestPage_SizeAndPolicy(t *testing.T) {
	html := page(t, draw(t, timeline.Options{}, recording(t)), timeline.PageOptions{Log: "00b97c17", Command: "replay-tool show log "})
	require.Less(t, len(html), 300_000)
	require.Len(t, pageData(t, html)["moves"], 1485)

	policy := regexp.MustCompile(`Content-Security-Policy" content="([^"]*)"`).FindStringSubmatch(html)[1]
	hash := func(element string) string {
		_, rest, ok := strings.Cut(html, "<"+element+">")
		require.True(t, ok)
		content, _, ok := strings.Cut(rest, "</"+element+">")
		require.True(t, ok)
		sum := sha256.Sum256([]byte(content))
		return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
	}
	require.Equal(t, "default-src 'none'; script-src "+hash("script")+"; style-src "+hash("style")+"; base-uri 'none'; form-action 'none'", policy)
	for _, forbidden := range []string{"innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "http:", "https:", "src=", "href=", " style=", "onclick="} {
		require.NotContains(t, html, forbidden)
	}
}

// Text from a log cannot end the element that has it.
func TestPage_Escapes(t *testing.T) {
	h := newHistory(t)
	h.step(1, addLearner, 0, 1000)
	reason := "</script><script>alert(1)</script>{{script}}\u2028<!--"
	h.add(checkpoint.Aborted{MigrationID: newID(1), Reason: reason, TimestampMS: 1100})
	line := draw(t, timeline.Options{}, h.records)
	html := page(t, line, timeline.PageOptions{Command: "</script>"})
	require.Equal(t, 2, strings.Count(html, "</script"), "the ends of the data and of the script")
	data := pageData(t, html)
	require.Equal(t, []any{reason}, data["reasons"])
	require.Equal(t, "</script>", data["command"])

	var svg bytes.Buffer
	require.NoError(t, line.WriteSVG(&svg, timeline.SVGOptions{Title: "<&\x01>"}))
	require.NotContains(t, svg.String(), "<script")
	parseXML(t, svg.String())
}

// Numbers that JavaScript would round are texts, and clocks after the year 9999 are that year's
// end.
func TestPage_LargeNumbers(t *testing.T) {
	h := newHistory(t)
	c, err := checkpoint.New(newID(1), 1<<32-1, checkpoint.AddLearner{VShardID: 1<<32 - 1, SourceNode: 1<<64 - 1, TargetNode: 2, SourceGroup: 1<<53 + 1, WritePauseBudgetUS: 1 << 53}, 1<<64-1)
	require.NoError(t, err)
	h.add(checkpoint.Upserted{Checkpoint: c})
	line := draw(t, timeline.Options{}, h.records)
	data := pageData(t, page(t, line, timeline.PageOptions{}))
	require.Equal(t, []any{0.0, 0.0}, []any{data["to"], data["end"]})
	move := data["moves"].([]any)[0].([]any)
	require.Equal(t, []any{float64(1<<32 - 1), "18446744073709551615", 2.0, "9007199254740993", float64(1 << 53)}, move[2:7])
	require.Equal(t, []any{float64(1 + (1<<32-1)*32), 0.0, 0.0}, move[15])
	require.Len(t, picture(t, line, 80), 1)
	require.NoError(t, line.WritePerfetto(io.Discard))
}

// The offsets of a time zone are those of the range.
func TestPage_Zones(t *testing.T) {
	in, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Skip("no time zones on this machine")
	}
	h := newHistory(t)
	change := time.Date(2026, 10, 25, 1, 0, 0, 0, time.UTC).UnixMilli()
	h.step(1, addLearner, 0, uint64(change-1000))
	h.step(1, complete, 0, uint64(change+1000))
	zones := pageData(t, page(t, draw(t, timeline.Options{}, h.records), timeline.PageOptions{Location: in}))["zones"]
	require.Equal(t, []any{[]any{0.0, 7200.0, "CEST"}, []any{1000.0, 3600.0, "CET"}}, zones)
}

// traceFile is a file for Perfetto.
type traceFile struct {
	Events []struct {
		Phase string `json:"ph"`
		Name  string
		PID   int
		TID   int
		TS    uint64
		Dur   *uint64
		Cat   string
		Args  map[string]any
	} `json:"traceEvents"`
	Other struct {
		T0MS uint64 `json:"t0_ms"`
	} `json:"otherData"`
}

// fold checks that the slices of each track are nested and that those of one depth do not overlap.
// It returns the number of events by kind.
func (f traceFile) fold(t *testing.T) map[string]int {
	type track struct{ pid, tid int }
	type slice struct{ from, to uint64 }
	open := map[track][]slice{} // the slices that contain the present one
	lastFrom := map[track]uint64{}
	counts := map[string]int{}
	for _, e := range f.Events {
		counts[e.Phase]++
		if e.Phase != "X" {
			continue
		}
		counts[e.Cat]++
		require.Less(t, e.TS, uint64(1e12), "no time is before t0")
		at, s := track{e.PID, e.TID}, slice{e.TS, e.TS + *e.Dur}
		require.GreaterOrEqual(t, s.from, lastFrom[at], "slices are in order")
		lastFrom[at] = s.from
		depth := map[string]int{"move": 0, "phase": 1}[e.Cat]
		require.GreaterOrEqual(t, len(open[at]), depth, "a phase is in a move")
		if len(open[at]) > depth { // the slice before it at this depth has ended
			require.LessOrEqual(t, open[at][depth].to, s.from, "%s of %v overlaps", e.Name, at)
		}
		if depth == 1 {
			require.LessOrEqual(t, s.to, open[at][0].to, "a phase ends with its move")
		}
		open[at] = append(open[at][:depth], s)
	}
	return counts
}

func perfetto(t *testing.T, line *timeline.Timeline) (f traceFile) {
	var out bytes.Buffer
	require.NoError(t, line.WritePerfetto(&out))
	require.NoError(t, json.Unmarshal(out.Bytes(), &f))
	return f
}

// The slices of the recording are nested and do not overlap.
func TestPerfetto_Recording(t *testing.T) {
	f := perfetto(t, draw(t, timeline.Options{}, recording(t)))
	require.Len(t, f.Events, 9716)
	require.Equal(t, map[string]int{"M": 32, "X": 1485 + 7045, "move": 1485, "phase": 7045, "i": 176 + 978}, f.fold(t))
	require.EqualValues(t, recordingStartMS, f.Other.T0MS)
	for _, e := range f.Events {
		if e.Phase == "M" {
			require.Equal(t, "vshard "+strconv.Itoa(e.PID), e.Args["name"])
		}
	}
}

// Overlapping moves, clocks that go back, lost events and moves before the range do not break the
// nesting.
func TestPerfetto_Nesting(t *testing.T) {
	h := newHistory(t)
	h.step(1, addLearner, 0, 1500, 7)
	h.step(2, addLearner, 0, 1200, 7)
	h.step(1, catchUp, 1, 1000, 7)
	h.step(2, catchUp, 0, 1300, 7)
	h.abort(2, 900)
	h.step(2, addLearner, 0, 950, 7)
	h.step(1, complete, 0, 1400, 7)
	h.step(1, catchUp, 0, 1450, 7)
	h.step(2, complete, 0, 1450, 7)
	h.remove(2, 1440)
	h.lose(4, 4)
	for _, o := range []timeline.Options{{}, {SinceMS: 1420}, {By: timeline.ByNode}, {By: timeline.ByMigration}} {
		counts := perfetto(t, draw(t, o, h.records)).fold(t)
		require.Positive(t, counts["move"])
	}
}

func parseXML(t *testing.T, text string) (rects int) {
	for d := xml.NewDecoder(strings.NewReader(text)); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return rects
		}
		require.NoError(t, err)
		if e, ok := token.(xml.StartElement); ok && e.Name.Local == "rect" {
			rects++
			for _, a := range e.Attr {
				require.False(t, a.Name.Local == "width" && a.Value == "0")
			}
		}
	}
}

// The image of the recording is well-formed, has no script, and no bar of width 0.
func TestSVG_Recording(t *testing.T) {
	line := draw(t, timeline.Options{}, recording(t))
	var out bytes.Buffer
	require.NoError(t, line.WriteSVG(&out, timeline.SVGOptions{Title: "moves"}))
	require.NotContains(t, out.String(), "<script")
	require.Equal(t, 1485, strings.Count(out.String(), "<g><title>"))
	require.Contains(t, out.String(), "aborted at CatchUp: target node unreachable during catch-up")
	bars := 0
	for _, l := range line.Lanes {
		for _, m := range l.Moves {
			for _, b := range m.Bars {
				if b.ToMS > b.FromMS {
					bars++
				}
			}
		}
	}
	require.Equal(t, 4681, bars)
	for _, phase := range []string{"AddLearner", "CatchUp", "PromoteLearner", "LeadershipTransfer", "Cutover"} {
		bars += strings.Count(out.String(), `<rect class="`+phase+`"`)
	}
	require.Equal(t, 2*4681+5, bars, "each has a rectangle, and the legend has five")
	parseXML(t, out.String())
}
