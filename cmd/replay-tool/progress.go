package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/term"
)

// progress shows on a terminal how far something is that takes over a second.
type progress struct {
	w      io.Writer // nil: nobody watches
	what   string
	next   time.Time
	calls  uint64
	showed bool
}

const progressTime = time.Second

func (t *tool) progress(what string) *progress {
	p := &progress{what: what, next: time.Now().Add(progressTime)}
	if f, ok := t.stderr.(*os.File); ok && !t.quiet && term.IsTerminal(int(f.Fd())) {
		p.w = f
	}
	return p
}

// at tells how many of the things have been done.
func (p *progress) at(done uint64) {
	p.calls++
	if p.w == nil || p.calls%16 != 0 || time.Now().Before(p.next) {
		return
	}
	p.next = time.Now().Add(progressTime / 4)
	p.showed = true
	fmt.Fprintf(p.w, "\r%s %d", p.what, done)
}

// end clears the line.
func (p *progress) end() {
	if p.showed {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}
