package driver

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"migrationlog/examples/shardmover/coordinator"
)

const (
	liveInterval  = 150 * time.Millisecond // between two drawings on a terminal
	plainInterval = 5 * time.Second        // between two lines elsewhere
	barWidth      = 40                     // characters
)

// screen shows the progress of a run: a live view on a terminal, and otherwise a line now and then.
type screen struct {
	opts  Options
	began time.Time
	stop  func()
	// acknowledged returns the number of acknowledged writes.
	acknowledged func() uint64

	mu                               sync.Mutex
	complete, aborted, kills, faults int
	leads                            string // the last step that has no migration
	lastFault                        string
	groups                           []string // the last step of each group
	drawn                            int      // lines of the last drawing
}

// newScreen returns a screen that shows the progress until it is closed.
func newScreen(ctx context.Context, o Options, acknowledged func() uint64) *screen {
	s := &screen{opts: o, began: time.Now(), acknowledged: acknowledged, groups: make([]string, o.Groups)}
	interval, show := plainInterval, s.printLine
	if o.Width > 0 {
		interval, show = liveInterval, s.draw
	}
	s.stop = goUntil(ctx, func(ctx context.Context) {
		for sleep(ctx, interval) == nil {
			show()
		}
		show()
	})
	return s
}

func (s *screen) close() { s.stop() }

// progress notes a step of a coordinator.
func (s *screen) progress(p coordinator.Progress) {
	s.mu.Lock()
	defer s.mu.Unlock()
	text := p.Step
	if p.Detail != "" {
		text += ": " + p.Detail
	}
	if p.Group == 0 || p.Group > uint64(len(s.groups)) {
		s.leads = fmt.Sprintf("coordinator %d %s", p.Coordinator, text)
		return
	}
	s.groups[p.Group-1] = fmt.Sprintf("%.8s  %s", p.ID, text)
}

// ended notes the end of a move.
func (s *screen) ended(o coordinator.Outcome) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o == coordinator.Complete {
		s.complete++
	} else {
		s.aborted++
	}
}

// kill notes a kill.
func (s *screen) kill(site uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kills++
	s.leads = fmt.Sprintf("coordinator %d was killed", site)
}

// fault notes a fault.
func (s *screen) fault(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults++
	s.lastFault = text
}

// summary returns the counts. The caller holds the lock.
func (s *screen) summary() string {
	text := fmt.Sprintf("%3.0f s  moves %d of %d (%d complete, %d aborted)  kills %d of %d  writes %d", time.Since(s.began).Seconds(),
		s.complete+s.aborted, s.opts.Moves, s.complete, s.aborted, s.kills, s.opts.Kills, s.acknowledged())
	if s.opts.Faults {
		text += fmt.Sprintf("  faults %d", s.faults)
	}
	return text
}

func (s *screen) printLine() {
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintln(s.opts.Screen, s.summary())
}

// draw replaces the last drawing.
func (s *screen) draw() {
	s.mu.Lock()
	defer s.mu.Unlock()
	done := barWidth
	if s.opts.Moves > 0 {
		done = barWidth * (s.complete + s.aborted) / s.opts.Moves
	}
	lines := []string{s.summary(), "[" + strings.Repeat("#", done) + strings.Repeat(".", barWidth-done) + "]  " + s.leads}
	if s.opts.Faults {
		lines = append(lines, "fault: "+s.lastFault)
	}
	for i, text := range s.groups {
		lines = append(lines, fmt.Sprintf("group %2d  %s", i+1, text))
	}
	if s.drawn > 0 {
		fmt.Fprintf(s.opts.Screen, "\x1b[%dA", s.drawn) // up
	}
	for _, line := range lines {
		fmt.Fprintf(s.opts.Screen, "\x1b[2K%.*s\n", s.opts.Width-1, line) // erase the old line
	}
	s.drawn = len(lines)
}
