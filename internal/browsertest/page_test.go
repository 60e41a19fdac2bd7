package browsertest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"image"
	"image/png"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/require"
)

// startMS is the clock of the first event of the recording.
const startMS = 1795399697649

// The page that the tool writes for the recording works in a browser without a network: it draws
// all moves, and the pointer, the filter, the keyboard and the address do what the page describes.
func TestPage(t *testing.T) {
	r := newRunner(t)
	b := openTab(t, r.page)
	b.do(t, chromedp.EmulateViewport(1280, 860))
	b.setScheme(t, "light")
	b.open(t, "")
	for _, part := range []struct {
		name string
		test func(*testing.T, *tab, runner)
	}{
		{"draws all moves", testDraws}, {"hover", testHover}, {"filter", testFilter}, {"click", testClick}, {"stories", testStories},
		{"keyboard", testKeyboard}, {"wheel and drag", testWheel}, {"address", testAddress}, {"dark", testDark}, {"table", testTable}, {"narrow", testNarrow},
	} {
		t.Run(part.name, func(t *testing.T) { part.test(t, b, r) })
	}
	b.checkQuiet(t)
	t.Run("damaged log", func(t *testing.T) { testDamaged(t, b, r) })
	if *screenshot != "" {
		takeScreenshot(t, b)
	}
}

// pixels is a function of the page that returns pixels of the picture. They are read from a copy,
// because the browser warns of a canvas that is read often.
const pixels = `((x, y, w, h) => {
	const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext('2d', {willReadFrequently: true});
	copy.drawImage(canvas, 0, 0);
	return copy.getImageData(x, y, w, h);
})`

func testDraws(t *testing.T, b *tab, _ runner) {
	require.Equal(t, "1485", eval[string](t, b, `document.documentElement.dataset.drawn`))
	require.Contains(t, eval[string](t, b, `document.getElementById('summary').textContent`),
		"2026-11-23 02:08:17.649 to 02:10:05.305 UTC \u00b7 1485 moves \u00b7 1303 done \u00b7 176 aborted \u00b7 6 in flight \u00b7 3 findings")
	require.Len(t, eval[[]string](t, b, `shown.lanes.map((l) => l.label)`), 32)
	colored := eval[int](t, b, `(() => {
		const d = `+pixels+`(0, 0, canvas.width, canvas.height).data;
		let n = 0;
		for (let i = 0; i < d.length; i += 4) if (Math.max(d[i], d[i+1], d[i+2]) - Math.min(d[i], d[i+1], d[i+2]) > 60) n++;
		return n;
	})()`)
	require.Greater(t, colored, 10_000, "pixels of bars")
	require.Equal(t, []string{"application", "Timeline of the moves"}, eval[[]string](t, b, `['role', 'aria-label'].map((a) => canvas.getAttribute(a))`))
}

func testHover(t *testing.T, b *tab, _ runner) {
	require.True(t, eval[bool](t, b, `tooltip.hidden`))
	at := b.middleOf(t, "781d20")
	b.do(t, chromedp.MouseEvent("mouseMoved", at.X, at.Y))
	b.until(t, `!tooltip.hidden`)
	require.Equal(t, "vshard 11   node 8 -> 6   781d20\nin flight at CatchUp for 978ms\n02:10:04.324 to 02:10:05.305", eval[string](t, b, `tooltip.textContent`))
	inside := eval[bool](t, b, `(() => {
		const a = tooltip.getBoundingClientRect(), v = box.getBoundingClientRect();
		return a.left >= v.left && a.right <= v.right && a.top >= v.top && a.bottom <= v.bottom;
	})()`)
	require.True(t, inside, "the tooltip is inside the picture")
	b.do(t, chromedp.MouseEvent("mouseMoved", 5, 5))
	b.until(t, `tooltip.hidden`)
}

// setFilter types a filter and returns the ids that it shows.
func setFilter(t *testing.T, b *tab, text string) []string {
	b.do(t, chromedp.Focus(chromedp.CSS("#filter")))
	eval[bool](t, b, `(byID('filter').select(), true)`)
	b.press(t, kb.Backspace)
	b.do(t, chromedp.SendKeys(chromedp.CSS("#filter"), text))
	b.drawn(t)
	return eval[[]string](t, b, `[...shown.moves].map((m) => m.id).sort()`)
}

// timelineJSON is a part of `timeline -o json`.
type timelineJSON struct {
	Lanes []struct {
		Moves []struct {
			ID      string  `json:"migration_id"`
			VShard  int     `json:"vshard_id"`
			Source  *uint64 `json:"source_node"`
			Target  *uint64 `json:"target_node"`
			Outcome string
			Bars    []struct{ Phase string }
		}
	}
}

func testFilter(t *testing.T, b *tab, r runner) {
	var line timelineJSON
	require.NoError(t, json.Unmarshal(r.run(t, "timeline", "log", "-o", "json"), &line))
	count := func(vshards func(int) bool, node uint64, outcome, phase string) (n int) {
		for _, l := range line.Lanes {
			for _, m := range l.Moves {
				last := "Complete"
				if m.Outcome == "aborted" || m.Outcome == "in_flight" {
					last = m.Bars[len(m.Bars)-1].Phase
				}
				if vshards(m.VShard) && (node == 0 || *m.Source == node || *m.Target == node) && (outcome == "" || m.Outcome == outcome) && (phase == "" || last == phase) {
					n++
				}
			}
		}
		return n
	}
	all := func(int) bool { return true }
	for text, want := range map[string]int{
		"vshard:8":                              count(func(v int) bool { return v == 8 }, 0, "", ""),
		"vshard:1-13,20 ":                       count(func(v int) bool { return v <= 13 || v == 20 }, 0, "", ""),
		"node:3 state:aborted":                  count(all, 3, "aborted", ""),
		"node:3 state:aborted phase:CatchUp":    count(all, 3, "aborted", "CatchUp"),
		"state:in-flight":                       6,
		"state:done":                            1303,
		"state:removed":                         978,
		"rule:slow-phase":                       1,
		"781d20":                                1,
		"01a2062a-e5a4-7ef8-9768-301503781d20 ": 1,
		"vshard:8 phase:addlearner":             0,
	} {
		require.Len(t, setFilter(t, b, text), want, text)
		require.Equal(t, fmt.Sprintf("%d of 1485 moves", want), eval[string](t, b, `byID('count').textContent`), text)
		require.Equal(t, "false", eval[string](t, b, `byID('filter').getAttribute('aria-invalid')`), text)
	}
	for text, message := range map[string]string{
		"color:red": `"color:" is unknown`, "vshard:x": "not a number", "state:lost": `state "lost" is unknown`, "what?": "not a part of an id",
	} {
		setFilter(t, b, text)
		require.Contains(t, eval[string](t, b, `byID('count').textContent`), message)
		require.Equal(t, "true", eval[string](t, b, `byID('filter').getAttribute('aria-invalid')`))
	}
	require.Len(t, setFilter(t, b, ""), 1485)
}

// record is a record of `show -o json`.
type record struct {
	Seq           uint64
	Kind          string
	Phase         string
	Attempt       int
	Reason        string
	Compensations []struct {
		Kind    string
		GroupID uint64 `json:"group_id"`
		PeerID  uint64 `json:"peer_id"`
	}
	TSMS int64 `json:"ts_ms"`
}

// storyOfPage is the text of the page's story.
type storyOfPage struct {
	Head, ID, Outcome, Reason, Command string
	Compensations                      []string
	Steps                              []struct {
		Seq, MS, Stayed string
		Cells           []string
	}
}

func readStory(t *testing.T, b *tab) storyOfPage {
	return eval[storyOfPage](t, b, `(() => {
		const text = (s) => { const e = story.querySelector(s); return e ? e.textContent : ''; };
		return {
			Head: text('h2'), ID: text('.id'), Outcome: text('.outcome'), Reason: text('.reason'), Command: text('.command'),
			Compensations: [...story.querySelectorAll('.compensations li')].map((e) => e.textContent),
			Steps: [...story.querySelectorAll('.steps tbody tr')].map((e) => ({
				Seq: e.dataset.seq || '', MS: e.dataset.ms || '', Stayed: e.dataset.stayed || '', Cells: [...e.cells].map((c) => c.textContent),
			})),
		};
	})()`)
}

// requireSameStory compares the story on the page with `show -o json`.
func requireSameStory(t *testing.T, b *tab, r runner, id string) {
	var show struct {
		MigrationID string  `json:"migration_id"`
		VShardID    int     `json:"vshard_id"`
		SourceNode  *uint64 `json:"source_node"`
		TargetNode  *uint64 `json:"target_node"`
		SourceGroup *uint64 `json:"source_group"`
		Records     []record
	}
	require.NoError(t, json.Unmarshal(r.run(t, "show", "log", id, "-o", "json"), &show))
	s := readStory(t, b)
	require.Equal(t, show.MigrationID, s.ID)
	if show.SourceNode != nil { // a migration that has ended may have no facts
		require.Equal(t, fmt.Sprintf("vshard %d, node %d -> %d, group %d", show.VShardID, *show.SourceNode, *show.TargetNode, *show.SourceGroup), s.Head)
	}
	require.Equal(t, "replay-tool show log "+show.MigrationID, s.Command)
	require.Len(t, s.Steps, len(show.Records))
	for i, want := range show.Records {
		got := s.Steps[i]
		require.Equal(t, strconv.FormatUint(want.Seq, 10), got.Seq)
		require.Equal(t, got.Seq, got.Cells[0])
		require.Equal(t, strconv.FormatInt(want.TSMS, 10), got.MS)
		name := want.Kind
		if want.Phase != "" {
			name = want.Phase
		}
		if want.Attempt > 0 {
			name += fmt.Sprintf(", try %d", want.Attempt+1)
		}
		require.Equal(t, name, got.Cells[2])
		stayed := ""
		if i+1 < len(show.Records) {
			stayed = strconv.FormatInt(show.Records[i+1].TSMS-want.TSMS, 10)
		}
		require.Equal(t, stayed, got.Stayed)
	}
	last := show.Records[len(show.Records)-1]
	var compensations []string
	for _, c := range last.Compensations {
		compensations = append(compensations, fmt.Sprintf("%s(group %d, node %d)", c.Kind, c.GroupID, c.PeerID))
	}
	require.ElementsMatch(t, compensations, s.Compensations)
	if last.Reason != "" {
		require.Equal(t, "reason: "+strconv.Quote(last.Reason), s.Reason)
	}
}

func testClick(t *testing.T, b *tab, r runner) {
	at := b.middleOf(t, "781d20")
	b.do(t, chromedp.MouseClickXY(at.X, at.Y))
	b.until(t, `!story.hidden`)
	s := readStory(t, b)
	require.Equal(t, "in flight at CatchUp for 978ms", s.Outcome)
	require.Equal(t, "> 978ms", s.Steps[1].Cells[3])
	require.Equal(t, "learner at log index 79476", s.Steps[1].Cells[4])
	requireSameStory(t, b, r, s.ID)
	b.do(t, chromedp.Click(chromedp.CSS("#story .close")))
	b.until(t, `story.hidden && document.activeElement === canvas`)
}

// The story of a move of each kind is that of show: aborted, tried again, removed, done, in flight.
func testStories(t *testing.T, b *tab, r runner) {
	ids := eval[[]string](t, b, `(() => {
		const kinds = [
			(m) => m.digits.endsWith('7a909'), (m) => m.outcome === 'aborted' && m.phase === 2, (m) => m.steps.some((s) => s.attempt > 1),
			(m) => m.outcome === 'removed', (m) => m.outcome === 'done', (m) => m.outcome === 'in_flight', (m) => m.findings.length > 0,
		];
		return kinds.map((k) => moves.find(k)).filter(Boolean).map((m) => m.id);
	})()`)
	require.GreaterOrEqual(t, len(ids), 6)
	for _, id := range ids {
		eval[bool](t, b, fmt.Sprintf(`(select(moves.find((m) => m.id === %q), true), true)`, id))
		requireSameStory(t, b, r, id)
	}
	eval[bool](t, b, `(select(moves.find((m) => m.digits.endsWith('7a909')), true), true)`)
	require.Equal(t, []string{"RemoveVoter(group 6, node 1)", "RestoreLeaderHint(group 6, node 2)"}, readStory(t, b).Compensations)
	require.Equal(t, "aborted at PromoteLearner after 35ms", readStory(t, b).Outcome)
	eval[bool](t, b, `(closeStory(), true)`)
}

func testKeyboard(t *testing.T, b *tab, r runner) {
	b.do(t, chromedp.Focus(chromedp.CSS("#picture")))
	selected := func() []int {
		return eval[[]int](t, b, `view.selected ? [lanes.indexOf(view.selected.lanes[0]), view.selected.lanes[0].moves.indexOf(view.selected)] : []`)
	}
	b.press(t, kb.ArrowRight)
	require.Equal(t, []int{0, 0}, selected())
	b.press(t, kb.ArrowRight, kb.ArrowRight)
	require.Equal(t, []int{0, 2}, selected())
	b.press(t, kb.ArrowLeft)
	require.Equal(t, []int{0, 1}, selected())
	b.press(t, kb.ArrowUp) // there is no lane above
	require.Equal(t, []int{0, 1}, selected())
	b.press(t, kb.ArrowDown)
	require.Equal(t, 1, selected()[0])
	require.True(t, eval[bool](t, b, `story.hidden`))
	require.Contains(t, eval[string](t, b, `byID('status').textContent`), "vshard 2, node ")
	b.press(t, kb.Enter)
	require.True(t, eval[bool](t, b, `!story.hidden && document.activeElement === story`))
	requireSameStory(t, b, r, eval[string](t, b, `view.selected.id`))
	b.press(t, kb.Escape)
	require.True(t, eval[bool](t, b, `story.hidden && document.activeElement === canvas && view.selected === null`))
	b.press(t, "/")
	require.Equal(t, "filter", eval[string](t, b, `document.activeElement.id`))
	require.Len(t, setFilter(t, b, "781d20"), 1)
	b.press(t, kb.Escape)
	require.True(t, eval[bool](t, b, `document.activeElement === canvas && byID('filter').value === '781d20'`))
	require.False(t, eval[bool](t, b, `canvas.dispatchEvent(new KeyboardEvent('keydown', {key: '/', bubbles: true, cancelable: true}))`), "/ is not typed into the filter")
	require.Len(t, setFilter(t, b, ""), 1485)
	b.press(t, kb.Escape)

	length := func() float64 { return eval[float64](t, b, `view.to - view.from`) }
	whole := length()
	b.press(t, "+")
	require.InDelta(t, whole/2, length(), 1)
	b.press(t, "+", "-", "-")
	require.InDelta(t, whole, length(), 1)
	b.press(t, "-")
	require.InDelta(t, whole, length(), 1, "no more than everything")
	b.press(t, "+", "+", "0")
	require.InDelta(t, whole, length(), 1)
}

func testWheel(t *testing.T, b *tab, _ runner) {
	at := eval[point](t, b, `(() => { const a = canvas.getBoundingClientRect(); return {X: a.left + a.width / 2, Y: a.top + a.height / 2}; })()`)
	pointed := fmt.Sprintf(`timeAt(%f - canvas.getBoundingClientRect().left)`, at.X)
	before, length := eval[float64](t, b, pointed), eval[float64](t, b, `view.to - view.from`)
	b.do(t, chromedp.MouseEvent("mouseWheel", at.X, at.Y, func(p *input.DispatchMouseEventParams) { p.DeltaX, p.DeltaY = 0.01, -400 }))
	b.until(t, fmt.Sprintf(`view.to - view.from < %f`, length*0.9))
	require.InDelta(t, before, eval[float64](t, b, pointed), 20, "the time under the pointer stays")
	from := eval[float64](t, b, `view.from`)
	long := eval[string](t, b, `moves.find((m) => m.from > view.from + 9000 && m.to < view.to - 9000 && m.to - m.from > 1900).digits`)
	at = b.middleOf(t, long) // it stays under the pointer
	b.do(t, chromedp.DragAndDropXY(at.X, at.Y, at.X+100, at.Y))
	b.until(t, fmt.Sprintf(`view.from < %f`, from-1))
	require.True(t, eval[bool](t, b, `story.hidden`), "a drag opens no story")
	b.press(t, "0")
}

func testAddress(t *testing.T, b *tab, r runner) {
	id := "01a20629-54ec-795e-a94d-b3e3c587a909"
	view := fmt.Sprintf("#view=%d-%d&filter=vshard:6%%20state:aborted&move=%s.1", startMS+3000, startMS+6000, id)
	check := func() {
		require.Equal(t, []float64{3000, 6000}, eval[[]float64](t, b, `[Math.round(view.from), Math.round(view.to)]`))
		require.Equal(t, "vshard:6 state:aborted", eval[string](t, b, `byID('filter').value`))
		require.Equal(t, id, readStory(t, b).ID)
	}
	b.open(t, view)
	check()
	requireSameStory(t, b, r, id)
	b.press(t, "0", kb.Escape)
	b.until(t, fmt.Sprintf(`location.hash.endsWith('&filter=vshard:6%%20state:aborted') && !location.hash.includes('=%d-')`, startMS+3000))
	eval[bool](t, b, `(location.hash = `+strconv.Quote(view)+`, true)`) // a link on a page that is open
	b.until(t, `!story.hidden`)
	check()
	b.do(t, chromedp.Reload())
	b.drawn(t)
	check()
	for _, wrong := range []string{"#view=x", "#view=9-1", "#move=nothing.1", "#filter=color:red", "#%"} {
		b.open(t, wrong)
		require.True(t, eval[bool](t, b, `story.hidden && view.from < 0 && shown.moves.size === 1485`), wrong)
	}
	b.open(t, "")
}

func testDark(t *testing.T, b *tab, _ runner) {
	corner := pixels + `(canvas.width - 3, 2, 1, 1).data[0]`
	require.Greater(t, eval[int](t, b, corner), 200)
	b.setScheme(t, "dark")
	b.until(t, corner+` < 60`)
	b.setScheme(t, "light")
	b.until(t, corner+` > 200`)
}

// The table has the moves that the filter selects, in the order of time.
func testTable(t *testing.T, b *tab, _ runner) {
	rows := `[...byID('table').querySelectorAll('tbody tr')].map((r) => [...r.cells].map((c) => c.textContent))`
	require.Empty(t, eval[[][]string](t, b, rows), "it is made when it is opened")
	b.do(t, chromedp.Click(chromedp.CSS("#table summary")))
	b.until(t, `byID('table').querySelector('tbody') !== null`)
	require.Len(t, eval[[][]string](t, b, rows), 1485)
	setFilter(t, b, "state:in_flight")
	b.until(t, rows+`.length === 6`)
	got := eval[[][]string](t, b, rows)
	require.Equal(t, []string{"11", "8 -> 6", "02:10:04.324", "in flight at CatchUp for 978ms", "9401", "", "01a2062a-e5a4-7ef8-9768-301503781d20"}, got[0])
	setFilter(t, b, "")
	b.do(t, chromedp.Click(chromedp.CSS("#table summary")))
}

// The page fits a narrow window and a screen with more pixels.
func testNarrow(t *testing.T, b *tab, _ runner) {
	defer b.do(t, chromedp.EmulateViewport(1280, 860))
	b.do(t, chromedp.EmulateViewport(420, 800, chromedp.EmulateScale(2)))
	b.until(t, `window.innerWidth === 420 && canvas.width === 2 * box.clientWidth`)
	require.False(t, eval[bool](t, b, `document.documentElement.scrollWidth > window.innerWidth`), "nothing is beside the window")
}

// The page of a damaged log shows which events are lost, and which moves may have gone on.
func testDamaged(t *testing.T, b *tab, r runner) {
	page := b.page
	defer func() { b.page = page }()
	require.NoError(t, os.RemoveAll(filepath.Join(r.work, "log", "snapshots")))
	wal, err := filepath.Glob(filepath.Join(r.work, "log", "wal", "0*"))
	require.NoError(t, err)
	content, err := os.ReadFile(wal[0])
	require.NoError(t, err)
	clear(content[150_000:190_000])
	require.NoError(t, os.WriteFile(wal[0], content, 0o600))
	file := filepath.Join(r.work, "damaged.html")
	command := exec.Command(r.tool, "timeline", "-q", "log", "--format", "html", "--out", file)
	command.Dir = r.work
	require.ErrorContains(t, command.Run(), "exit status 3")

	b.requests, b.page = nil, "file://"+file
	b.open(t, "#filter=state:in_doubt")
	lost := eval[int](t, b, `losses[0].last - losses[0].first + 1`)
	require.Greater(t, lost, 400)
	require.Contains(t, eval[string](t, b, `byID('summary').textContent`), eval[string](t, b, "`events #${losses[0].first} to #${losses[0].last} are lost`"))
	inDoubt := eval[int](t, b, `shown.moves.size`)
	require.Greater(t, inDoubt, 0)
	require.Contains(t, eval[string](t, b, `byID('summary').textContent`), fmt.Sprintf("%d in doubt", inDoubt))
	b.press(t, kb.Enter)
	s := readStory(t, b)
	require.Regexp(t, `^in doubt: it was at \w+, and events after that are lost$`, s.Outcome)
	require.Equal(t, "LOST?", s.Steps[len(s.Steps)-1].Cells[2])
	b.checkQuiet(t)
}

// takeScreenshot writes the picture in docs. It has a limited number of colors and is small.
func takeScreenshot(t *testing.T, b *tab) {
	b.do(t, chromedp.EmulateViewport(1280, 760))
	b.open(t, fmt.Sprintf("#view=%d-%d&move=01a20629-54ec-795e-a94d-b3e3c587a909.1", startMS+2300, startMS+6300))
	shot, err := chromedp.Run(b.ctx, chromedp.CaptureScreenshot())
	require.NoError(t, err)
	picture, err := png.Decode(bytes.NewReader(shot))
	require.NoError(t, err)
	require.Equal(t, image.Pt(1280, 760), picture.Bounds().Size())
	var out bytes.Buffer
	require.NoError(t, (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&out, picture))
	require.Less(t, out.Len(), 150_000)
	require.NoError(t, os.WriteFile(*screenshot, out.Bytes(), 0o644))
}
