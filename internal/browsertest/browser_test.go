package browsertest

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

var (
	needBrowser = flag.Bool("need-browser", false, "fail, and do not skip, if this machine has no browser")
	screenshot  = flag.String("screenshot", "", "write a picture of the page to this `file`")
)

// browsers are the programs that can run the test, in the order in which they are tried.
var browsers = []string{"chromium-headless-shell", "headless-shell", "chromium", "chromium-browser", "google-chrome"}

// tab is a tab of a browser that shows the page.
type tab struct {
	ctx  context.Context
	page string // URL without the part after #

	mu       sync.Mutex
	requests []string
	errors   []string
}

// stepTime limits one step of a test. A step takes a few milliseconds.
const stepTime = 10 * time.Second

// openTab starts a browser that records all requests and errors of the page.
func openTab(t *testing.T, file string) *tab {
	path := ""
	for _, name := range browsers {
		if found, err := exec.LookPath(name); err == nil {
			path = found
			break
		}
	}
	if path == "" {
		if *needBrowser {
			t.Fatalf("no browser: install one of %s", strings.Join(browsers, ", "))
		}
		t.Skipf("no browser: install one of %s", strings.Join(browsers, ", "))
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path))
	if os.Getuid() == 0 {
		options = append(options, chromedp.NoSandbox) // its sandbox does not work for root
	}
	ctx, cancel := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	b := &tab{ctx: ctx, page: "file://" + file}
	require.NoError(t, chromedp.Listen(ctx, b.record))
	call(t, b, log.Enable, cdp.Empty{})
	call(t, b, runtime.Enable, cdp.Empty{})
	call(t, b, network.Enable, network.EnableParams{})
	return b
}

// record keeps the requests and the errors of the page. It must not wait.
func (b *tab) record(event any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch e := event.(type) {
	case *network.EventRequestWillBeSent:
		b.requests = append(b.requests, e.Request.URL)
	case *runtime.EventExceptionThrown:
		b.errors = append(b.errors, fmt.Sprintf("%s %+v", e.ExceptionDetails.Text, e.ExceptionDetails.Exception))
	case *runtime.EventConsoleAPICalled:
		b.errors = append(b.errors, fmt.Sprintf("console: %v", e.Args))
	case *log.EventEntryAdded:
		b.errors = append(b.errors, e.Entry.Text)
	}
}

// checkQuiet fails if the page had an error or asked for anything but itself.
func (b *tab) checkQuiet(t *testing.T) {
	b.mu.Lock()
	defer b.mu.Unlock()
	require.Empty(t, b.errors)
	require.NotEmpty(t, b.requests)
	for _, url := range b.requests {
		require.Equal(t, b.page, strings.SplitN(url, "#", 2)[0])
	}
}

func call[P, R any](t *testing.T, b *tab, command cdp.Command[P, R], parameters P) R {
	ctx, cancel := context.WithTimeout(b.ctx, stepTime)
	defer cancel()
	result, err := chromedp.Call(ctx, command, parameters)
	require.NoError(t, err)
	return result
}

// do runs actions one after another.
func (b *tab) do(t *testing.T, actions ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, stepTime)
	defer cancel()
	require.NoError(t, chromedp.Do(ctx, actions...))
}

// eval returns the value of an expression of the page's script.
func eval[T any](t *testing.T, b *tab, expression string) T {
	t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, stepTime)
	defer cancel()
	value, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression))
	require.NoError(t, err, expression)
	return value
}

// until waits for an expression to be true. chromedp.Poll would compile the expression in the page,
// which its policy forbids.
func (b *tab) until(t *testing.T, expression string) {
	t.Helper()
	for end := time.Now().Add(stepTime); !eval[bool](t, b, expression); time.Sleep(5 * time.Millisecond) {
		require.True(t, time.Now().Before(end), "%s: not so after %v", expression, stepTime)
	}
}

// open opens the page with the part of the address after #, and waits until it is drawn.
func (b *tab) open(t *testing.T, view string) {
	b.do(t, chromedp.Navigate("about:blank"), chromedp.Navigate(b.page+view))
	b.drawn(t)
}

// drawn waits until the last change is drawn.
func (b *tab) drawn(t *testing.T) {
	b.until(t, `document.documentElement.dataset.drawn !== undefined && !drawPending`)
}

// press presses keys, one after another.
func (b *tab) press(t *testing.T, keys ...string) {
	for _, key := range keys {
		b.do(t, chromedp.KeyEvent(key))
	}
}

// point is a position in the window.
type point struct{ X, Y float64 }

// middleOf returns the position of a move.
func (b *tab) middleOf(t *testing.T, idEnd string) point {
	return eval[point](t, b, fmt.Sprintf(`(() => {
		const m = moves.find((m) => m.digits.endsWith(%q)), area = canvas.getBoundingClientRect();
		return {X: area.left + (xOf(m.from) + xOf(m.to)) / 2, Y: area.top + yOf(shown.lanes.indexOf(m.lanes[0])) + laneHeight / 2};
	})()`, idEnd))
}

func (b *tab) setScheme(t *testing.T, scheme string) {
	call(t, b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}})
	b.until(t, fmt.Sprintf("matchMedia('(prefers-color-scheme: %s)').matches", scheme))
}

// runner runs the tool that it has built, in a directory where "log" is an import of the recording.
type runner struct{ work, tool, page string }

func newRunner(t *testing.T) runner {
	root, err := filepath.Abs("../..")
	require.NoError(t, err)
	work := t.TempDir()
	r := runner{work, filepath.Join(work, "replay-tool"), filepath.Join(work, "timeline.html")}
	build := exec.Command("go", "build", "-o", r.tool, "./cmd/replay-tool")
	build.Dir = root
	out, err := build.CombinedOutput()
	require.NoError(t, err, string(out))
	r.run(t, "import", "-q", "log", filepath.Join(root, "testdata", "raft-moves.ndjson"))
	r.run(t, "timeline", "-q", "log", "--format", "html", "--out", r.page)
	return r
}

func (r runner) run(t *testing.T, args ...string) []byte {
	command := exec.Command(r.tool, args...)
	command.Dir = r.work
	out, err := command.Output()
	require.NoError(t, err, args)
	return out
}
