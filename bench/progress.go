package main

import (
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/term"
)

// progress prints the state of a run to stderr. On a terminal it updates one line. Otherwise it
// prints a line for each step.
type progress struct {
	mu       sync.Mutex
	terminal bool
	began    time.Time
	step     int
	steps    int
	what     string
	stop     chan struct{}
}

func newProgress(steps int) *progress {
	p := &progress{terminal: term.IsTerminal(int(os.Stderr.Fd())), began: time.Now(), steps: steps, stop: make(chan struct{})}
	go p.tick()
	return p
}

// tick prints the state again at intervals, because a step can take long.
func (p *progress) tick() {
	every := 10 * time.Second
	if p.terminal {
		every = 500 * time.Millisecond
	}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			p.show("")
		case <-p.stop:
			return
		}
	}
}

// begin starts the next step.
func (p *progress) begin(what string) {
	p.mu.Lock()
	p.step++
	p.what = what
	p.mu.Unlock()
	p.show("")
}

// events prints the number of events that a step has written.
func (p *progress) events(n, of int) {
	if p.terminal {
		p.show(fmt.Sprintf(", %d of %d events", n, of))
	}
}

func (p *progress) show(more string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	start, end := "", "\n"
	if p.terminal {
		start, end = "\r\x1b[K", ""
	}
	fmt.Fprintf(os.Stderr, "%s[%d/%d, %s] %s%s%s", start, p.step, p.steps, time.Since(p.began).Round(time.Second), p.what, more, end)
}

func (p *progress) done() {
	close(p.stop)
	if p.terminal {
		fmt.Fprint(os.Stderr, "\r\x1b[K")
	}
}
