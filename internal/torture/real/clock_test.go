package real_test

import (
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"migrationlog"
	"migrationlog/checkpoint"
	"migrationlog/replay"
)

// D9: the clock goes backwards, stands still, jumps or returns random times. The receipts, rows and
// histories, and the state after every event, are the same as for the same writes with a correct
// clock.
func TestD9_Clock(t *testing.T) {
	c := newCases(t)
	c.each(t, *clocksFlag, func(t *testing.T, n int, r *rand.Rand) {
		parent := memDir(t)
		defer os.RemoveAll(parent)
		class := clockClasses[r.IntN(len(clockClasses))]
		c.count("clocks: "+class.name, 1)
		right := &history{dir: filepath.Join(parent, "right"), clock: &clock{r: r, now: startTime, next: ticks}}
		wrong := &history{dir: filepath.Join(parent, "wrong"), clock: &clock{r: r, now: startTime, next: class.next}}
		segmentSize := 200 + r.IntN(2000)
		a := newGenerator(r, 1)
		right.open(t, segmentSize)
		wrong.open(t, segmentSize)
		for range 20 + r.IntN(60) {
			if r.IntN(10) == 0 {
				right.reopen(t, segmentSize)
				wrong.reopen(t, segmentSize)
			}
			e := a.event()
			require.Equal(t, right.write(t, e), wrong.write(t, e))
			c.count("writes", 1)
		}
		require.Equal(t, timeless(right.store.All()), timeless(wrong.store.All()))
		for id := byte(1); id <= 8; id++ {
			require.Equal(t, right.ofMigration(t, id), wrong.ofMigration(t, id))
		}
		require.NoError(t, right.store.Close())
		require.NoError(t, wrong.store.Close())
		compareReplays(t, right.dir, wrong.dir)
	})
}

var startTime = time.UnixMilli(1795399697649)

// clock returns one time after another.
type clock struct {
	r    *rand.Rand
	now  time.Time
	next func(r *rand.Rand, now time.Time) time.Time
}

func (c *clock) Now() time.Time {
	c.now = c.next(c.r, c.now)
	return c.now
}

func ticks(_ *rand.Rand, now time.Time) time.Time { return now.Add(time.Millisecond) }

var jumps = []time.Time{time.Unix(0, 0), time.Unix(0, math.MaxInt64), time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC), time.Unix(-1, 0), startTime}

var clockClasses = []struct {
	name string
	next func(r *rand.Rand, now time.Time) time.Time
}{
	{"backwards", func(_ *rand.Rand, now time.Time) time.Time { return now.Add(-time.Hour) }},
	{"standing still", func(_ *rand.Rand, now time.Time) time.Time { return now }},
	{"jumping", func(r *rand.Rand, now time.Time) time.Time {
		if r.IntN(3) > 0 {
			return now.Add(time.Millisecond)
		}
		return jumps[r.IntN(len(jumps))]
	}},
	{"random", func(r *rand.Rand, _ time.Time) time.Time { return time.UnixMilli(r.Int64N(200_000_000_000_000)) }},
}

// history is a store whose events get their times from a clock.
type history struct {
	dir   string
	clock *clock
	store *migrationlog.Store
}

func (h *history) open(t *testing.T, segmentSize int) {
	s, err := migrationlog.Open(h.dir, &migrationlog.Options{SegmentSize: segmentSize, Now: h.clock.Now, OnDamage: migrationlog.RefuseDamage})
	require.NoError(t, err)
	h.store = s
}

func (h *history) reopen(t *testing.T, segmentSize int) {
	require.NoError(t, h.store.Close())
	h.open(t, segmentSize)
}

// write writes the event with the current time of the clock.
func (h *history) write(t *testing.T, event checkpoint.Event) (receipt migrationlog.Receipt) {
	var err error
	switch e := event.(type) {
	case checkpoint.Upserted:
		e.Checkpoint.TimestampMS = uint64(max(0, h.clock.Now().UnixMilli()))
		receipt, err = h.store.Upsert(e.Checkpoint)
	case checkpoint.Aborted:
		receipt, err = h.store.Abort(e.MigrationID, e.Reason, e.Compensations)
	case checkpoint.Removed:
		receipt, err = h.store.Remove(e.MigrationID)
	default: // it keeps its timestamp
		receipt, err = writeAll(h.store, e)
	}
	if errors.Is(err, migrationlog.ErrAborting) || errors.Is(err, migrationlog.ErrConflict) { // WriteAll accepts every order
		receipt, err = writeAll(h.store, event)
	}
	require.NoError(t, err)
	return receipt
}

func (h *history) ofMigration(t *testing.T, id byte) []replay.Record {
	var records []replay.Record
	for r, err := range h.store.History(t.Context(), checkpoint.MigrationID{id}) {
		require.NoError(t, err)
		records = append(records, timelessRecord(r))
	}
	return records
}

// compareReplays compares the records of two logs, and the state after each record.
func compareReplays(t *testing.T, right, wrong string) {
	one, other := records(t, right), records(t, wrong)
	require.Equal(t, len(one), len(other))
	oneReader, err := replay.Open(right)
	require.NoError(t, err)
	otherReader, err := replay.Open(wrong)
	require.NoError(t, err)
	for i := range one {
		require.Equal(t, timelessRecord(one[i]), timelessRecord(other[i]))
		require.EqualValues(t, i+1, one[i].Seq)
		oneView, err := oneReader.StateAt(t.Context(), replay.Point{Seq: one[i].Seq})
		require.NoError(t, err)
		otherView, err := otherReader.StateAt(t.Context(), replay.Point{Seq: one[i].Seq})
		require.NoError(t, err)
		require.Equal(t, oneView.Len(), otherView.Len())
		for j, row := range oneView.All() {
			otherRow := otherView.All()[j]
			row.Checkpoint.TimestampMS, otherRow.Checkpoint.TimestampMS = 0, 0
			require.Equal(t, row, otherRow)
		}
	}
}

func records(t *testing.T, dir string) (all []replay.Record) {
	reader, err := replay.Open(dir)
	require.NoError(t, err)
	for r, err := range reader.Records(t.Context(), replay.Query{}) {
		require.NoError(t, err)
		all = append(all, r)
	}
	return all
}

func timeless(all []checkpoint.Checkpoint) []checkpoint.Checkpoint {
	for i := range all {
		all[i].TimestampMS = 0
	}
	return all
}

// timelessRecord returns the record without its time. It also removes the position, which depends
// on the encoded length of the times before it.
func timelessRecord(r replay.Record) replay.Record {
	r.Segment, r.Offset, r.Length, r.HeaderCRC32C = "", 0, 0, 0
	switch e := r.Event.(type) {
	case checkpoint.Upserted:
		e.Checkpoint.TimestampMS = 0
		r.Event = e
	case checkpoint.Aborted:
		e.TimestampMS = 0
		r.Event = e
	case checkpoint.Removed:
		e.TimestampMS = 0
		r.Event = e
	}
	return r
}

// D1, D9: a log opens again even if it was written under a clock outside the years 0 to 9999.
func TestD9_ClockOutOfRange(t *testing.T) {
	for _, year := range []int{-1, 10_000} {
		now := time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC)
		h := &history{dir: filepath.Join(t.TempDir(), "log"), clock: &clock{now: now, next: ticks}}
		h.open(t, 0)
		h.reopen(t, 0)
		require.NoError(t, h.store.Close())
	}
}
