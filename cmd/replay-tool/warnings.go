package main

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"migrationlog/checkpoint"
	"migrationlog/replay"
)

// lineWarnings collects what import must warn of in the lines that it has read.
type lineWarnings struct {
	now     func() time.Time
	rounded []string // the first maxShownSkipped

	roundedCount uint64
	late, future lineCount
}

// lineCount counts lines of one kind.
type lineCount struct {
	count     uint64
	firstLine uint64
	firstMS   uint64 // the clock of its event
}

func (c *lineCount) add(line, ms uint64) {
	if c.count++; c.count == 1 {
		c.firstLine, c.firstMS = line, ms
	}
}

// addRead counts a line that was read.
func (w *lineWarnings) addRead(line uint64, r replay.Record) {
	if r.Rounded == "" {
		return
	}
	if w.roundedCount++; w.roundedCount <= maxShownSkipped {
		w.rounded = append(w.rounded, fmt.Sprintf("line %d: %s may have been rounded, and the line has no crc32c", line, r.Rounded))
	}
}

// maxAheadOfClock is the difference between the clocks of two machines that needs no warning.
const maxAheadOfClock = 24 * time.Hour

// addAppended counts an event that was appended.
func (w *lineWarnings) addAppended(line uint64, e checkpoint.Event) {
	switch ms := e.WallMS(); {
	case ms > checkpoint.MaxTimestampMS:
		w.late.add(line, ms)
	case ms > uint64(w.now().Add(maxAheadOfClock).UnixMilli()):
		w.future.add(line, ms)
	}
}

// print prints the warnings.
func (w *lineWarnings) print(t *tool) {
	for _, text := range w.rounded {
		t.warnf("%s", text)
	}
	if more := w.roundedCount - uint64(len(w.rounded)); more > 0 {
		t.warnf("and %s with numbers that may have been rounded", count(more, "more line"))
	}
	if w.roundedCount > 0 {
		t.warnf("compare these numbers with their source: about 1 in 100 looks rounded by chance. %s", replay.RoundingHint)
	}
	if c := w.late; c.count > 0 {
		t.warnf("%s a clock after the year 9999, the first on line %d: ts_ms %d. The value may be in nanoseconds or microseconds. It must be in Unix milliseconds",
			have(c.count, "event"), c.firstLine, c.firstMS)
	}
	if c := w.future; c.count > 0 {
		t.warnf("%s a clock more than a day ahead of this machine's clock, the first on line %d: %s. Compare the clocks of the machines",
			have(c.count, "event"), c.firstLine, t.isoTime(c.firstMS))
	}
}

// warnf prints a warning to stderr. Even --quiet does not suppress it.
func (t *tool) warnf(format string, args ...any) {
	t.alertf("warning: %s", fmt.Sprintf(format, args...))
}

// waitHandler is the slog.Handler of a store that a command opens. It prints only the messages
// about an operation that takes long, which have the attribute elapsed. The command prints the
// other messages itself, from the report and the errors of the store.
type waitHandler struct{ tool *tool }

// storeLogger returns the logger for a store. The caller must call stop after it has closed the
// store, because the store may log after that.
func (t *tool) storeLogger() (logger *slog.Logger, stop func()) {
	t.setLogging(true)
	return slog.New(waitHandler{t}), func() { t.setLogging(false) }
}

func (t *tool) setLogging(on bool) {
	t.printMu.Lock()
	t.logging = on
	t.printMu.Unlock()
}

func (waitHandler) Enabled(context.Context, slog.Level) bool { return true }

func (h waitHandler) Handle(_ context.Context, r slog.Record) error {
	text, waits := r.Message, false
	var parts []string
	r.Attrs(func(a slog.Attr) bool {
		switch a.Key {
		case "elapsed":
			waits = true
			parts = append(parts, a.Value.Duration().Round(time.Millisecond).String())
		case "operation":
			parts = append(parts, a.Value.String())
		case "dir":
			parts = append(parts, quoted(a.Value.String()))
		}
		return true
	})
	h.tool.printMu.Lock()
	defer h.tool.printMu.Unlock()
	if !waits || !h.tool.logging || h.tool.quiet && r.Level < slog.LevelWarn {
		return nil
	}
	_, err := fmt.Fprintln(h.tool.stderr, message(fmt.Sprintf("%s (%s)", text, strings.Join(parts, ", "))))
	return err
}

func (h waitHandler) WithAttrs([]slog.Attr) slog.Handler { return h }
func (h waitHandler) WithGroup(string) slog.Handler      { return h }
