package main

import (
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/jedib0t/go-pretty/v6/text"
	"golang.org/x/term"
)

// defaultWidth is the width of a terminal whose size is not known.
const defaultWidth = 80

// maxWidth is the largest --width. The memory of a picture is proportional to its width.
const maxWidth = 10_000

// width returns the number of characters in a line of stdout. It is 0 if lines may have any length,
// which is so on a pipe and with --wide.
func (t *tool) width() int {
	if t.wide {
		return 0
	}
	if t.fixedWidth > 0 {
		return t.fixedWidth
	}
	terminal := terminalOf(t.unbuffered)
	if terminal == nil {
		return 0
	}
	if n, err := strconv.Atoi(os.Getenv("COLUMNS")); err == nil && n > 0 {
		return min(n, maxWidth)
	}
	if n, _, err := term.GetSize(int(terminal.Fd())); err == nil && n > 0 {
		return n
	}
	return defaultWidth
}

// terminalOf returns the terminal to which w writes in the end, or nil if that is no terminal.
func terminalOf(w io.Writer) *os.File {
	for {
		switch below := w.(type) {
		case escapingWriter:
			w = below.w
		case *stickyWriter:
			w = below.w
		case *os.File:
			if term.IsTerminal(int(below.Fd())) {
				return below
			}
			return nil
		default:
			return nil
		}
	}
}

// textWidth returns the number of columns of a terminal that a text needs. Styles need none.
func textWidth(s string) int {
	if plainBytes([]byte(s)) == len(s) {
		return len(s)
	}
	return text.StringWidthWithoutEscSequences(s)
}

// cutText returns a text of at most that width. If the text is longer, its end becomes "…".
func cutText(s string, width int) string {
	if textWidth(s) <= width {
		return s
	}
	if width <= 0 {
		return ""
	}
	return text.Snip(s, width, "…")
}

// cutList is like cutText for a list of facts. If possible, it leaves out whole facts at the end.
func cutList(s string, width int) string {
	if textWidth(s) <= width {
		return s
	}
	for i := strings.LastIndex(s, ", "); i > 0; i = strings.LastIndex(s[:i], ", ") {
		if n := textWidth(s[:i]) + len(" ."); n <= width && n > width/2 {
			return s[:i] + " …"
		}
	}
	return cutText(s, width)
}
