package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"migrationlog/checkpoint"
	"migrationlog/eventlog"
	"migrationlog/replay"
	"migrationlog/replay/story"
)

const (
	timeISO      = "iso"
	timeRelative = "relative"
	timeRaw      = "raw"
)

// wallClock returns the present. Tests replace it.
var wallClock = time.Now

func wallMS() uint64 { return uint64(max(wallClock().UnixMilli(), 0)) }

// zone is a time zone with the name that the user gave it.
type zone struct {
	name     string
	location *time.Location
}

// parseZone reads the value of --tz: UTC, local, an offset such as +01:00, or a name.
func parseZone(name string) (zone, error) {
	switch {
	case strings.EqualFold(name, "utc"):
		return zone{"UTC", time.UTC}, nil
	case strings.EqualFold(name, "local"):
		return zone{"local", time.Local}, nil
	}
	for _, layout := range []string{"-07:00", "-0700", "-07"} {
		if at, err := time.Parse(layout, name); err == nil {
			_, offset := at.Zone()
			return zone{name, time.FixedZone(name, offset)}, nil
		}
	}
	location, err := time.LoadLocation(name)
	if err != nil || name == "" {
		return zone{}, usageErrorf("--tz %q: unknown time zone: give UTC, local, an offset such as +01:00, or a name such as Europe/Berlin", name)
	}
	return zone{name, location}, nil
}

// clock formats Unix milliseconds in the style of --time and in the zone of --tz.
type clock struct {
	style   string
	zone    zone
	firstMS *uint64 // the first time shown, nil before that
	day     string  // the last date that newDay has returned
}

func (t *tool) clock() *clock { return &clock{style: t.timeStyle, zone: t.zone} }

// isoTime returns a time with its date and its zone, for messages. The options that read a time
// accept it.
func (t *tool) isoTime(ms uint64) string { return (&clock{style: timeISO, zone: t.zone}).show(ms) }

// show returns a time with its date.
func (c *clock) show(ms uint64) string { return c.format(ms, "2006-01-02T15:04:05.000Z07:00") }

// short returns a time of day. newDay returns its date.
func (c *clock) short(ms uint64) string { return c.format(ms, "15:04:05.000") }

// shortTimeWidth is the usual width of a short time.
const shortTimeWidth = len("15:04:05.000")

func (c *clock) format(ms uint64, layout string) string {
	switch {
	case c.style == timeRelative:
		if c.firstMS == nil {
			c.firstMS = &ms
		}
		return fmt.Sprintf("%+.3fs", (float64(ms)-float64(*c.firstMS))/1000)
	case c.style == timeRaw, ms > checkpoint.MaxTimestampMS:
		return strconv.FormatUint(ms, 10)
	}
	return c.at(ms).Format(layout)
}

func (c *clock) at(ms uint64) time.Time {
	at := time.UnixMilli(int64(ms))
	if c.zone.location == nil {
		return at.UTC()
	}
	return at.In(c.zone.location)
}

// title returns the heading of a column of short times.
func (c *clock) title() string {
	if c.style != timeISO {
		return "TIME"
	}
	return "TIME " + c.zone.name
}

// newDay returns the date of a time if its day is not the one that newDay has returned last.
// Otherwise it returns "".
func (c *clock) newDay(ms uint64) string {
	if c.style != timeISO || ms > checkpoint.MaxTimestampMS {
		return ""
	}
	day := c.at(ms).Format(time.DateOnly)
	if day == c.day {
		return ""
	}
	c.day = day
	return day
}

const timeFormats = "02:10:04, -5m (before the end of the log), now-5m, 2026-11-23T14:05:00Z, '2026-11-23 14:05' in the zone of --tz, or Unix milliseconds"

// timeReader reads the times of the command line.
type timeReader struct {
	zone   zone
	reader *replay.Reader
	// endMS returns the clock of the log's last intact event. It returns a usageError if there is none.
	endMS func() (uint64, error)
}

func (t *tool) times(ctx context.Context, reader *replay.Reader) timeReader {
	z := t.zone
	if z.location == nil {
		z = zone{"UTC", time.UTC}
	}
	return timeReader{z, reader, sync.OnceValues(func() (uint64, error) { return lastEventMS(ctx, reader) })}
}

// lastEventMS reads only the end of the log if that is not damaged.
func lastEventMS(ctx context.Context, reader *replay.Reader) (ms uint64, err error) {
	records, _, ok, err := reader.Newest(ctx, 2) // an event, and perhaps a torn tail
	if err != nil {
		return 0, err
	}
	isEmpty := true
	if ok {
		for _, r := range records {
			if r.Damage == nil {
				ms, isEmpty = r.WallMS(), false
			}
		}
	} else {
		for r, err := range reader.Records(ctx, replay.Query{}) {
			if err != nil {
				return 0, err
			}
			if r.Damage == nil {
				ms, isEmpty = r.WallMS(), false
			}
		}
	}
	if isEmpty {
		return 0, usageErrorf("the log has no event, so a time cannot be relative to its end: give a time with its date")
	}
	return ms, nil
}

// parse returns a time in Unix milliseconds. It returns a usageError if the text has none of the
// timeFormats, or if the time is before minTimeMS.
func (r timeReader) parse(text string) (ms uint64, err error) {
	if ms, err = strconv.ParseUint(text, 10, 64); err == nil {
		if ms < minTimeMS {
			return 0, usageErrorf("%q is too small for a time in Unix milliseconds. If you meant seconds, append 000, or append s for a time before the end of the log", text)
		}
		return ms, nil
	}
	if after, ok := strings.CutPrefix(text, "now"); ok {
		backMS, ok := parseSpan(after)
		if after != "" && (!ok || after[0] != '-') {
			return 0, usageErrorf("%q is not a time: give now, or a time before it such as now-5m", text)
		}
		now := wallMS()
		return now - min(backMS, now), nil
	}
	if backMS, ok := parseSpan(text); ok {
		endMS, err := r.endMS()
		return endMS - min(backMS, endMS), err
	}
	for _, layout := range []string{time.RFC3339Nano, time.DateTime, "2006-01-02 15:04", "2006-01-02T15:04:05", "2006-01-02T15:04", time.DateOnly} {
		if at, err := time.ParseInLocation(layout, text, r.zone.location); err == nil {
			if at.UnixMilli() < minTimeMS {
				return 0, usageErrorf("%q is too early: give a time after 2001-09-09", text)
			}
			return uint64(at.UnixMilli()), nil
		}
	}
	for _, layout := range []string{"15:04", time.TimeOnly} {
		if at, err := time.ParseInLocation(layout, text, r.zone.location); err == nil {
			return r.onLastDay(at)
		}
	}
	return 0, usageErrorf("%q is not a time: give %s", text, timeFormats)
}

// onLastDay returns a time of day on the day on which the log ends.
func (r timeReader) onLastDay(at time.Time) (uint64, error) {
	endMS, err := r.endMS()
	if err != nil {
		return 0, err
	}
	y, m, d := time.UnixMilli(int64(min(endMS, checkpoint.MaxTimestampMS))).In(r.zone.location).Date()
	on := time.Date(y, m, d, at.Hour(), at.Minute(), at.Second(), at.Nanosecond(), r.zone.location)
	return uint64(max(on.UnixMilli(), 0)), nil
}

// minTimeMS is in September 2001. If a number is smaller, it probably is in seconds.
const minTimeMS = 1_000_000_000_000

var daysPattern = regexp.MustCompile(`^(\d{1,5})d`)

// parseSpan reads a time span, such as 20s, 5m or 2d3h. It may have a minus before it.
func parseSpan(text string) (ms uint64, ok bool) {
	text = strings.TrimPrefix(text, "-")
	if strings.HasPrefix(text, "-") || strings.HasPrefix(text, "+") {
		return 0, false
	}
	var days time.Duration
	if found := daysPattern.FindStringSubmatch(text); found != nil {
		n, err := strconv.Atoi(found[1])
		if err != nil {
			return 0, false
		}
		days = time.Duration(n) * 24 * time.Hour
		if text = text[len(found[0]):]; text == "" {
			return uint64(days.Milliseconds()), true
		}
	}
	rest, err := time.ParseDuration(text)
	return uint64((days + rest).Milliseconds()), err == nil && days+rest >= 0
}

const pointFormats = "#SEQ, index:RAFT_INDEX, a time, or ID@PHASE (just before that event)"

// point reads a point in a history. It returns replay.ErrNotKept if the log does not have it.
func (r timeReader) point(ctx context.Context, text string) (replay.Point, error) {
	p, err := r.parsePoint(ctx, text)
	if err != nil {
		return p, err
	}
	resolved, err := r.reader.Resolve(ctx, p)
	switch {
	case errors.Is(err, replay.ErrNoPositions):
		return p, usageErrorf("%s: %w. Give #SEQ or a time", text, err)
	case err == nil && p.Index > 0 && resolved.Seq == 0:
		return p, fmt.Errorf("%w: the first event of the log has a raft index above %d", errNoMatch, p.Index)
	}
	return resolved, err
}

// indexPoint reads the raft index of a point.
func (r timeReader) indexPoint(text string) (replay.Point, error) {
	index, err := strconv.ParseUint(text, 10, 64)
	if err != nil || index == 0 {
		return replay.Point{}, usageErrorf("%q is not a raft index: give index: and a number of at least 1", "index:"+text)
	}
	positions, err := r.reader.Positions()
	if errors.Is(err, replay.ErrNoPositions) {
		return replay.Point{Index: index}, nil // Resolve returns the error
	}
	if err != nil {
		return replay.Point{}, err
	}
	last, err := positions.LastIndex()
	if err == nil && index > last {
		err = usageErrorf("index:%d: the log ends with raft index %d, give that or an earlier one", index, last)
	}
	return replay.Point{Index: index}, err
}

func (r timeReader) parsePoint(ctx context.Context, text string) (replay.Point, error) {
	if number, ok := strings.CutPrefix(text, "index:"); ok {
		return r.indexPoint(number)
	}
	if number, ok := strings.CutPrefix(text, "#"); ok {
		seq, err := strconv.ParseUint(number, 10, 64)
		if err != nil || seq == 0 {
			return replay.Point{}, usageErrorf("%q is not a seq: give # and a number of at least 1", text)
		}
		return replay.Point{Seq: seq}, nil
	}
	if id, step, ok := strings.Cut(text, "@"); ok {
		return beforeStep(ctx, r.reader, id, step)
	}
	ms, err := r.parse(text)
	if err != nil {
		err = fmt.Errorf("%w. A point can also be #SEQ, index:RAFT_INDEX or ID@PHASE, such as '#9402', index:12840 or 781d20@Cutover", err)
	}
	if seq, notASeq := strconv.ParseUint(text, 10, 64); err != nil && notASeq == nil {
		err = usageErrorf("%w. If you meant a seq, give '#%d' with the quotes", err, seq)
	}
	return replay.Point{TimeMS: ms}, err
}

// pointAfterEnd returns the error for a point after the last event of the log. The last event 0 means
// that the log has none.
func pointAfterEnd(seq, last uint64) error {
	if last == 0 {
		return usageErrorf("--at '#%d': the log has no event", seq)
	}
	return usageErrorf("--at '#%d': the log ends with #%d, give that or an earlier number", seq, last)
}

// beforeStep returns the point just before the first event of a phase or kind in the newest
// incarnation of a migration that has one.
func beforeStep(ctx context.Context, reader *replay.Reader, idPart, step string) (replay.Point, error) {
	isStep := func(r replay.Record) bool { return strings.EqualFold(string(r.Kind()), step) }
	phase, err := parsePhase(step)
	hasPhase := err == nil
	if hasPhase {
		isStep = func(r replay.Record) bool {
			u, ok := r.Event.(checkpoint.Upserted)
			return ok && u.Checkpoint.Phase() == phase
		}
	}
	id, err := resolve(ctx, reader, idPart)
	if err != nil {
		return replay.Point{}, err
	}
	var seq uint64
	found := false    // in the present incarnation
	isBefore := false // the log has only a restored row that is later than the event
	for r, err := range reader.History(ctx, id, nil) {
		if err != nil {
			return replay.Point{}, err
		}
		if isStep(r) && r.Damage == nil && !found {
			seq, found = r.Seq, true
		}
		if row, ok := r.Event.(checkpoint.Restored); ok && hasPhase && row.Facts.RecordedPhases>>(phase-1)&1 == 1 {
			isBefore = true
		}
		if kind := r.Kind(); kind == replay.KindAbort || kind == replay.KindRemove {
			found = false
		}
	}
	switch {
	case seq == 0 && isBefore:
		begin, err := reader.Beginning()
		return replay.Point{}, cmp.Or(err, error(&replay.NotKeptError{Beginning: begin}))
	case seq == 0:
		return replay.Point{}, fmt.Errorf("%w: migration %s has no event %s. To see its history, run 'replay-tool show'", errNoMatch, id, step)
	case seq == 1:
		return replay.Point{}, usageErrorf("%s of migration %s is the first event of the log, so no state is before it", step, id)
	}
	return replay.Point{Seq: seq - 1}, nil
}

// nowFlag is the flag --now: the time to which open spans are measured.
type nowFlag struct{ text string }

func (f *nowFlag) register(c *cobra.Command) {
	c.Flags().StringVar(&f.text, "now", "", "measure the time in a phase to this `time`; without it, to the present if a writer has the log open, else to the end of the log")
}

// measuredTo is a time to which open spans are measured.
type measuredTo struct {
	ms   uint64
	text string // "to the log's end", "to the present" or "to TIME"
}

// sentence returns the text with the time, for messages.
func (m measuredTo) sentence(t *tool) string {
	at := t.isoTime(m.ms)
	if m.text == "to "+at {
		return m.text
	}
	return m.text + ", " + at
}

// read returns the time to measure to. endMS is the highest clock of the events that were read.
func (f *nowFlag) read(t *tool, times timeReader, dir string, endMS uint64) (measuredTo, error) {
	if f.text != "" {
		ms, err := times.parse(f.text)
		return measuredTo{ms, "to " + t.isoTime(ms)}, err
	}
	if eventlog.FindWriter(dir).Alive {
		return measuredTo{wallMS(), "to the present"}, nil
	}
	return measuredTo{endMS, "to the log's end"}, nil
}

// shortSpan is story.Span.
func shortSpan(ms uint64) string { return story.Span(ms) }

// pauseSpan returns a time span in microseconds like shortSpan, with one more digit if it is short,
// such as 776us, 2.8ms or 500ms.
func pauseSpan(us uint64) string {
	switch {
	case us == 0:
		return "0"
	case us < 1000:
		return fmt.Sprintf("%dus", us)
	case us < 100_000:
		tenths := (us + 50) / 100
		return strings.TrimSuffix(fmt.Sprintf("%d.%d", tenths/10, tenths%10), ".0") + "ms"
	}
	return shortSpan((us + 500) / 1000)
}
