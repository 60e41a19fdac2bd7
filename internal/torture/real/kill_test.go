package real_test

import (
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"migrationlog"
	"migrationlog/eventlog/segment"
)

// killsPerLog is the number of writers of one log that are killed, one after another.
const killsPerLog = 10

// D1, D3, D7: a writing process is killed at any moment. Every event that it had acknowledged
// exists afterwards, byte for byte, and no event exists that was never written. Several writers of
// one log are killed one after another. No number ever has two different events.
func TestD1_Kill(t *testing.T) {
	c := newCases(t)
	c.each(t, (*killsFlag+killsPerLog-1)/killsPerLog, func(t *testing.T, n int, r *rand.Rand) {
		dir, place := memDir(t), "in memory"
		if n%3 == 2 {
			dir, place = t.TempDir(), "on a disk"
		}
		defer os.RemoveAll(dir)
		l := &lineage{dir: filepath.Join(dir, "log"), seed: r.Uint64(), r: r, c: c, issued: map[string]bool{}, shown: map[uint64]string{}}
		for l.kills < killsPerLog {
			l.round(t)
		}
		c.count("killed "+place, l.kills)
		c.count("events recovered", len(l.shown))
	})
}

// lineage is a log and its successive writers.
type lineage struct {
	dir  string
	seed uint64
	r    *rand.Rand
	c    *cases

	kills  int
	issued map[string]bool   // bodies of the events that some writer started to write
	shown  map[uint64]string // bodies that were acknowledged or read, by their numbers
}

// round kills a writer and opens the log. Sometimes it also kills the next writer during recovery.
func (l *lineage) round(t *testing.T) {
	l.killWriter(t, l.r.IntN(6))
	if l.r.IntN(3) == 0 {
		l.tearTail(t)
	}
	if l.r.IntN(3) == 0 {
		l.killWriter(t, 1)
	}
	s, err := migrationlog.Open(l.dir, nil)
	require.NoError(t, err)
	report := s.Report()
	require.NoError(t, s.Close())
	require.Empty(t, report.Damage)
	require.Empty(t, report.Lost)
	require.Empty(t, report.AcknowledgedLost)
	if report.TornTail != nil {
		l.c.count("torn tails found by the test's own opening", 1)
	}
	found := bodies(t, l.dir)
	for seq, b := range l.shown {
		require.Equal(t, b, found[seq], "seq %d", seq)
	}
	seen := map[string]bool{}
	for seq, b := range found {
		require.True(t, l.issued[b], "seq %d was never written", seq)
		require.False(t, seen[b], "the event of seq %d exists twice", seq)
		seen[b] = true
	}
	require.EqualValues(t, len(found), lastOf(found), "no number is missing")
	require.Equal(t, rowsOf(t, found), rows(s))
	l.shown = found
}

// killWriter starts a writer and kills it at a random moment: while it starts (moment 0), while it
// opens the log (moment 1), or while it writes (any other moment).
func (l *lineage) killWriter(t *testing.T, moment int) {
	l.kills++
	w := startChild(t, task{Role: "writer", Dir: l.dir, Seed: l.seed, Origin: uint64(l.kills)})
	switch moment {
	case 0:
		time.Sleep(time.Duration(l.r.IntN(8000)) * time.Microsecond)
	case 1:
		w.await(1)
		time.Sleep(time.Duration(l.r.IntN(1500)) * time.Microsecond)
	default:
		w.await(3 + l.r.IntN(300))
		time.Sleep(time.Duration(l.r.IntN(300)) * time.Microsecond)
	}
	w.kill()
	require.Empty(t, w.failure)
	for _, b := range w.issued {
		require.False(t, l.issued[b])
		l.issued[b] = true
	}
	for seq, b := range w.acked {
		require.Contains(t, l.issued, b)
		if shown, ok := l.shown[seq]; ok {
			require.Equal(t, shown, b, "seq %d has two different events", seq)
		}
		l.shown[seq] = b
	}
	where := "killed before it opened the log"
	if len(w.messages) == 1 {
		where = "killed while it opened the log"
	} else if len(w.messages) == 2 {
		where = "killed while it wrote"
	}
	l.c.count(where, 1)
	l.c.count("events acknowledged", len(w.acked))
}

// tearTail writes the beginning of an entry at the end of the log, as a kill in the middle of a
// write can leave it. Real kills rarely leave one, because the kernel executes a small write in one
// step.
func (l *lineage) tearTail(t *testing.T) {
	fsys := os.DirFS(l.dir)
	held, err := segment.ReadDirectory(fsys)
	if err != nil { // the log does not exist yet
		require.True(t, os.IsNotExist(err) || isOneOf(err, segment.ErrNotALog, fs.ErrNotExist), "%v", err)
		return
	}
	scan := segment.NewScan(fsys, held, segment.ScanOptions{})
	for item, err := range scan.Items() {
		require.NoError(t, err)
		require.True(t, item.Damage == nil || item.Damage.Torn)
	}
	tail := scan.Tail()
	if tail.Beyond > 0 {
		return
	}
	frame := segment.AppendFrame(nil, &held.Manifest.UUID, segment.Header{Seq: tail.NextSeq}, segment.NewBody([]byte(body(newGenerator(l.r, 0).upsert()))))
	whole := entry(frame)
	f, err := os.OpenFile(filepath.Join(l.dir, segment.WALDir, tail.Segment), os.O_WRONLY|os.O_APPEND, 0)
	require.NoError(t, err)
	_, err = f.Write(whole[:1+l.r.IntN(len(whole)-1)])
	require.NoError(t, err)
	require.NoError(t, f.Close())
	l.c.count("torn tails made", 1)
}
