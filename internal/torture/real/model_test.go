package real_test

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"migrationlog"
	"migrationlog/checkpoint"
	"migrationlog/eventlog/segment"
	"migrationlog/replay"
)

// D2, D5, D8: between random writes, the store is reopened or killed, or a frame is damaged. The
// state of the store always equals the fold of the surviving events. The report lists exactly the
// lost events. If the row of a migration differs from its true row, the migration is in doubt.
func TestD8_ModelWithDamage(t *testing.T) {
	c := newCases(t)
	require.NoError(t, flag.Set("rapid.checks", fmt.Sprint(*runsFlag)))
	require.NoError(t, flag.Set("rapid.seed", fmt.Sprint(c.seed)))
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("to repeat: go test ./internal/torture/real -run '^%s$' -count=1 -seed=%d -runs=%d", t.Name(), c.seed, *runsFlag)
		}
	})
	parent := memDir(t)
	rapid.Check(t, func(t *rapid.T) {
		m := newModel(t, parent, c)
		defer m.end()
		t.Repeat(map[string]func(*rapid.T){
			"write":  m.writeSome,
			"reopen": m.reopen,
			"kill":   m.kill,
			"damage": m.damage,
			"":       m.check,
		})
		m.reopen(t)
	})
	t.Log(c)
}

// model has all events that were ever written, and the numbers of the destroyed ones.
type model struct {
	c         *cases
	parent    string
	dir       string
	opts      *migrationlog.Options
	store     *migrationlog.Store
	abandoned []*migrationlog.Store // killed stores; the test continues with copies of their directories
	events    []checkpoint.Event    // the event with number n is at index n-1
	destroyed map[uint64]bool
	logs      int
}

func newModel(t *rapid.T, parent string, c *cases) *model {
	parent, err := os.MkdirTemp(parent, "")
	require.NoError(t, err)
	m := &model{c: c, parent: parent, dir: filepath.Join(parent, "0"), destroyed: map[uint64]bool{}}
	m.opts = &migrationlog.Options{SegmentSize: rapid.IntRange(1, 1500).Draw(t, "segment_size")}
	m.store, err = migrationlog.Open(m.dir, m.opts)
	require.NoError(t, err)
	c.count("runs", 1)
	return m
}

func (m *model) end() {
	for _, s := range append(m.abandoned, m.store) {
		s.Close()
	}
	os.RemoveAll(m.parent)
}

// writeSome writes several events.
func (m *model) writeSome(t *rapid.T) {
	for range rapid.IntRange(1, 8).Draw(t, "events") {
		m.write(t)
	}
}

// write writes an event. It checks that the receipt has the next number, or no number if the event
// changes nothing.
func (m *model) write(t *rapid.T) {
	a := newGenerator(rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "event"), 0)), 1)
	e := a.event()
	before, had := m.shown()[e.Migration()]
	receipt, err := write(m.store, e)
	require.NoError(t, err)
	upsert, isUpsert := e.(checkpoint.Upserted)
	same := had && isUpsert && before.Phase() == upsert.Checkpoint.Phase() && before.Attempt == upsert.Checkpoint.Attempt
	if same || ends(e) && !had {
		require.False(t, receipt.Appended())
		return
	}
	m.events = append(m.events, e)
	require.EqualValues(t, len(m.events), receipt.Seq)
	m.c.count("events", 1)
}

func (m *model) reopen(t *rapid.T) {
	require.NoError(t, m.store.Close())
	m.open(t)
}

// kill continues with a copy of the directory, which is made while the store is open.
func (m *model) kill(t *rapid.T) {
	m.abandoned = append(m.abandoned, m.store)
	m.logs++
	next := filepath.Join(m.parent, fmt.Sprint(m.logs))
	err := os.CopyFS(next, os.DirFS(m.dir))
	for errors.Is(err, fs.ErrNotExist) { // a snapshot was renamed or removed during the copy
		require.NoError(t, os.RemoveAll(next))
		err = os.CopyFS(next, os.DirFS(m.dir))
	}
	require.NoError(t, err)
	m.dir = next
	m.open(t)
	m.c.count("kills", 1)
}

func (m *model) open(t *rapid.T) {
	opts := *m.opts
	opts.VerifyAll = rapid.Bool().Draw(t, "read_all")
	s, err := migrationlog.Open(m.dir, &opts)
	require.NoError(t, err)
	m.store = s
	report := s.Report()
	require.Nil(t, report.TornTail)
	switch {
	case report.SnapshotSeq > 0 && len(report.Lost) == 0: // the events before the snapshot were not read
		require.False(t, opts.VerifyAll)
		m.c.count("started from a snapshot", 1)
	case report.SnapshotSeq > 0:
		m.c.count("rows of lost events taken from a snapshot", 1)
		fallthrough
	default:
		require.Equal(t, m.destroyed, numbers(report.Lost))
	}
	for seq := range numbers(report.AcknowledgedLost) {
		require.True(t, m.destroyed[seq], "seq %d", seq)
	}
	truth := m.rows(uint64(len(m.events)))
	for id, row := range rows(s) {
		if want, ok := truth[id]; !ok || want != row {
			require.Contains(t, report.InDoubt, id, "the true row is %v", want)
			m.c.count("rows in doubt that differ from the true ones", 1)
		}
	}
	m.check(t)
}

// damage destroys a frame while the store is closed.
func (m *model) damage(t *rapid.T) {
	require.NoError(t, m.store.Close())
	if frames := m.frames(t); len(frames) > 0 {
		f := rapid.SampledFrom(frames).Draw(t, "frame")
		path := filepath.Join(m.dir, segment.WALDir, f.Segment)
		b, err := os.ReadFile(path)
		require.NoError(t, err)
		whole := b[f.Offset : f.Offset+f.Length]
		switch rapid.IntRange(0, 3).Draw(t, "damage") {
		case 0:
			whole[rapid.IntRange(0, segment.HeaderBytes-1).Draw(t, "byte")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		case 1:
			whole[rapid.IntRange(segment.HeaderBytes, len(whole)-1).Draw(t, "byte")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		case 2:
			clear(whole)
		case 3:
			copy(whole, noise(rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "noise"), 0)), len(whole)))
		}
		require.NoError(t, os.WriteFile(path, b, 0o600))
		m.destroyed[f.Seq] = true
		m.c.count("frames destroyed", 1)
	}
	m.open(t)
}

// frames returns the intact frames of the log. They must be exactly the surviving events.
func (m *model) frames(t *rapid.T) (whole []replay.Record) {
	reader, err := replay.Open(m.dir)
	require.NoError(t, err)
	for r, err := range reader.Records(t.Context(), replay.Query{}) {
		require.NoError(t, err)
		if r.Damage == nil {
			require.False(t, m.destroyed[r.Seq])
			require.Equal(t, body(m.events[r.Seq-1]), body(r.Event))
			whole = append(whole, r)
		}
	}
	require.Len(t, whole, len(m.events)-len(m.destroyed))
	return whole
}

// rows returns the rows that result from the events. It includes the destroyed events up to the
// number through, but not those after it.
func (m *model) rows(through uint64) map[checkpoint.MigrationID]checkpoint.Checkpoint {
	rows := map[checkpoint.MigrationID]checkpoint.Checkpoint{}
	for i, e := range m.events {
		if seq := uint64(i + 1); seq <= through || !m.destroyed[seq] {
			apply(rows, e)
		}
	}
	return rows
}

// shown returns the expected rows of the store. A snapshot contains the effect of all events before
// it, even if they are destroyed later.
func (m *model) shown() map[checkpoint.MigrationID]checkpoint.Checkpoint {
	return m.rows(m.store.Report().SnapshotSeq)
}

func (m *model) check(t *rapid.T) {
	require.Equal(t, m.shown(), rows(m.store))
}

// numbers returns the single numbers in the ranges.
func numbers(ranges []replay.SeqRange) map[uint64]bool {
	all := map[uint64]bool{}
	for _, r := range ranges {
		for seq := r.First; seq <= r.Last; seq++ {
			all[seq] = true
		}
	}
	return all
}
