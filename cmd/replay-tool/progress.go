package main

import (
	"fmt"
	"io"
	"time"
)

// progress shows a counter on a terminal if a command takes longer than progressDelay.
type progress struct {
	w     io.Writer // nil if stderr is not a terminal or --quiet is set
	label string
	next  time.Time
	calls uint64
	shown bool
}

const progressDelay = time.Second

func (t *tool) progress(label string) *progress {
	p := &progress{label: label, next: time.Now().Add(progressDelay)}
	if f := terminalOf(t.stderr); f != nil && !t.quiet {
		p.w = f
	}
	return p
}

// update sets the counter.
func (p *progress) update(done uint64) {
	p.calls++
	if p.w == nil || p.calls%16 != 0 || time.Now().Before(p.next) {
		return
	}
	p.next = time.Now().Add(progressDelay / 4)
	p.shown = true
	fmt.Fprintf(p.w, "\r%s %d", p.label, done)
}

// end clears the counter from the terminal.
func (p *progress) end() {
	if p.shown {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}
