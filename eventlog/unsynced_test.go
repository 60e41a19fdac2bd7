package eventlog

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog/eventlog/segment"
)

// relaxed are the options of a member of a replicated store.
var relaxed = Options{NoSync: true, Replicated: true}

// killedLog returns the directory of a log whose writer was killed. Its first durable events were
// made durable, the others were not. Each event has another content.
func killedLog(t testing.TB, durable, events int, segmentBytes int) (dir string) {
	dir = filepath.Join(memDir(t), "log")
	opts := relaxed
	opts.SegmentSize = segmentBytes
	log := openLog(t, dir, opts)
	for seq := 1; seq <= events; seq++ {
		require.NoError(t, write(log, eventBody(seq)))
		if seq == durable {
			require.NoError(t, log.MakeDurable())
		}
	}
	require.NoError(t, log.abandonSegments()) // changes no frame
	require.NoError(t, log.lock.Close())
	return dir
}

func eventBody(seq int) []byte { return fmt.Appendf(bytes.Clone(body[:80]), "event %4d", seq) }

// requireEvents opens a log and checks that it has exactly the events up to last, and no damage. It
// then writes one more.
func requireEvents(t testing.TB, dir string, last int, opts Options, msg ...any) {
	t.Helper()
	r := begin(t, dir, opts)
	frames, damage := items(t, r)
	require.Empty(t, damage, msg...)
	require.Len(t, frames, last, msg...)
	for i, f := range frames {
		require.Equal(t, eventBody(i+1), f.Body, msg...)
	}
	log, err := r.Finish(segment.FrameID{})
	require.NoError(t, err, msg...)
	require.EqualValues(t, last+1, log.NextSeq(), msg...)
	require.NoError(t, write(log, eventBody(last+1)), msg...)
	require.NoError(t, log.Close(), msg...)
}

// requireKept checks that bytes exist in a file in quarantine/ and that this file has a report.
func requireKept(t testing.TB, dir string, want []byte, msg ...any) {
	t.Helper()
	for _, name := range names(t, filepath.Join(dir, QuarantineDir)) {
		if filepath.Ext(name) != reportSuffix && bytes.Contains(read(t, dir, QuarantineDir, name), want) {
			require.Equal(t, reasonUnsynced, reportOf(t, dir, filepath.Join(QuarantineDir, name)).Reason, msg...)
			return
		}
	}
	require.Fail(t, "the bytes are gone", msg...)
}

// D11: the opening of a replicated log keeps the events up to the last MakeDurable, and moves all
// later ones to quarantine/, in one segment or in several.
func TestD11_DropUnsynced(t *testing.T) {
	for name, tc := range map[string]struct{ durable, events, segmentBytes, last int }{
		"nothing unsynced":       {3, 3, 1 << 20, 3},
		"one segment":            {3, 7, 1 << 20, 3},
		"nothing durable":        {0, 4, 1 << 20, 0},
		"no event":               {0, 0, 1 << 20, 0},
		"a rotation makes it so": {3, 9, 2 * bodyBytes, 8}, // segments of two events: the ninth is alone
	} {
		t.Run(name, func(t *testing.T) {
			dir := killedLog(t, tc.durable, tc.events, tc.segmentBytes)
			requireEvents(t, dir, tc.last, relaxed)
			for seq := tc.last + 1; seq <= tc.events; seq++ {
				requireKept(t, dir, eventBody(seq))
			}
			if tc.last == tc.events {
				require.NotContains(t, names(t, dir), QuarantineDir)
			}
		})
	}
}

// D11: the watermark is lower than the names of the segments, as after a power cut. The opening
// moves the later segments, all snapshots above the watermark, and their summaries.
func TestD11_SeveralSegments(t *testing.T) {
	whole := killedLog(t, 9, 9, 2*bodyBytes)
	for watermark := range 10 {
		dir := filepath.Join(memDir(t), "log")
		require.NoError(t, os.CopyFS(dir, os.DirFS(whole)))
		setWatermark(t, dir, uint64(watermark))
		for seq := uint64(1); seq <= 9; seq += 2 {
			put(t, snapshotAt(t, dir, seq), dir, segment.SnapshotDir, segment.Name(seq))
			put(t, []byte("a summary"), dir, segment.SummaryDir, segment.Name(seq))
		}
		requireEvents(t, dir, watermark, relaxed, watermark)
		for seq := watermark + 1; seq <= 9; seq++ {
			requireKept(t, dir, eventBody(seq), watermark)
		}
		for seq := uint64(1); seq <= 9; seq += 2 {
			path := filepath.Join(dir, segment.SnapshotDir, segment.Name(seq))
			summary := filepath.Join(dir, segment.SummaryDir, segment.Name(seq))
			if seq <= uint64(watermark) {
				require.FileExists(t, path, watermark)
			} else {
				require.NoFileExists(t, path, watermark)
				require.NoFileExists(t, summary, watermark)
			}
			if seq+1 < uint64(watermark) {
				require.FileExists(t, summary, watermark)
			}
		}
	}
}

// snapshotAt returns a snapshot after the event seq. It proves that the events were durable.
func snapshotAt(t testing.TB, dir string, seq uint64) []byte {
	m, _, err := segment.ReadManifest(os.DirFS(dir))
	require.NoError(t, err)
	return segment.Snapshot{Version: segment.SnapshotVersion, Last: segment.FrameID{Seq: seq, Segment: 1}, Synced: true, Body: []byte("x")}.Encode(m.UUID)
}

// D11: a power cut may leave any part of the unsynced bytes. Whatever is there, the opened log has
// the durable events, no damage, and nothing else, and the bytes are kept.
func TestD11_EveryCutAndDamage(t *testing.T) {
	const durable, events = 2, 5
	whole := killedLog(t, durable, events, 1<<20)
	data := bytes.TrimRight(read(t, segmentPath(whole, 1)), "\x00")
	from := durable * entryBytes
	try := func(content []byte, msg string) {
		dir := filepath.Join(filepath.Dir(whole), "log2")
		require.NoError(t, os.RemoveAll(dir))
		require.NoError(t, os.CopyFS(dir, os.DirFS(whole)))
		put(t, content, segmentPath(dir, 1))
		requireEvents(t, dir, durable, relaxed, msg)
		if rest := bytes.TrimRight(content[from:], "\x00"); len(rest) > 0 {
			requireKept(t, dir, rest, msg)
		}
	}
	for at := from; at <= len(data); at++ {
		try(data[:at], fmt.Sprint("cut at ", at))
	}
	for at := from; at < len(data); at += 7 {
		damaged := bytes.Clone(data)
		damaged[at] ^= 0x10
		try(damaged, fmt.Sprint("flipped at ", at))
	}
	for at := from; at < len(data); at += 61 { // a hole
		holed := bytes.Clone(data)
		clear(holed[at:min(len(holed), at+sectorBytes)])
		try(append(holed, make([]byte, 1000)...), fmt.Sprint("zeros at ", at))
	}
}

const sectorBytes = 512

// entryBytes is the size of the entry of eventBody.
var entryBytes = 2 + segment.NewBody(eventBody(1)).FrameBytes()

// D11: nothing is dropped if the drop could remove an event up to the watermark. This is so if the
// watermark's frame is missing or not intact, if its number comes twice, if a frame with a lower
// number follows it, if a newer version wrote after it, or if there is no watermark. The scan reports
// the loss, or the log is refused.
func TestD11_NothingUpToTheWatermarkIsDropped(t *testing.T) {
	entry := func(t *testing.T, dir string, seq int) []byte {
		return bytes.Clone(read(t, segmentPath(dir, 1))[(seq-1)*entryBytes : seq*entryBytes])
	}
	for name, tc := range map[string]struct {
		change  func(t *testing.T, dir string)
		frames  int // that are found
		damaged bool
	}{
		"the watermark's frame is damaged": {func(t *testing.T, dir string) { flip(t, 3*entryBytes-1, segmentPath(dir, 1)) }, 4, true},
		"the watermark is above the end":   {func(t *testing.T, dir string) { setWatermark(t, dir, 8) }, 5, true},
		"both watermarks are damaged": {func(t *testing.T, dir string) {
			put(t, []byte("x"), dir, segment.WatermarkName)
			put(t, []byte("x"), dir, segment.WatermarkCopyName)
		}, 5, true},
		"an earlier frame behind it": {func(t *testing.T, dir string) {
			data := read(t, segmentPath(dir, 1))
			copy(data[3*entryBytes:], entry(t, dir, 2))
			put(t, data, segmentPath(dir, 1))
		}, 4, true},
		"its segment is missing": {func(t *testing.T, dir string) {
			require.NoError(t, os.Rename(segmentPath(dir, 1), segmentPath(dir, 4)))
		}, 5, false},
		"an earlier frame in a later segment": {func(t *testing.T, dir string) {
			put(t, entry(t, dir, 1), segmentPath(dir, 6))
		}, 5, true},
	} {
		t.Run(name, func(t *testing.T) {
			dir := killedLog(t, 3, 5, 1<<20)
			tc.change(t, dir)
			before := contents(t, dir)
			r := begin(t, dir, relaxed)
			frames, damage := items(t, r)
			require.NoError(t, r.Abandon())
			require.Len(t, frames, tc.frames)
			require.Equal(t, tc.damaged, len(damage) > 0)
			require.Equal(t, before, contents(t, dir))
		})
	}
}

// D11: a frame of a newer version above the watermark is not dropped. The log is refused, and nothing
// changes.
func TestD11_NewerVersionIsNotDropped(t *testing.T) {
	dir := killedLog(t, 3, 5, 1<<20)
	m, _, err := segment.ReadManifest(os.DirFS(dir))
	require.NoError(t, err)
	data := read(t, segmentPath(dir, 1))
	header := data[4*entryBytes+2:][:segment.HeaderBytes]
	require.EqualValues(t, segment.FormatVersion, header[3])
	header[3]++
	checksum := crc32.Checksum(append(bytes.Clone(header[:36]), m.UUID[:]...), crc32.MakeTable(crc32.Castagnoli))
	binary.LittleEndian.PutUint32(header[36:], checksum)
	put(t, data, segmentPath(dir, 1))
	before := contents(t, dir)
	r := begin(t, dir, relaxed)
	for _, err = range r.Scan(segment.ScanAll) {
	}
	require.ErrorIs(t, err, segment.ErrNewerFormat)
	require.NoError(t, r.Abandon())
	require.Equal(t, before, contents(t, dir))
}

// D11: one of the two watermarks is enough, and the lower one is used.
func TestD11_OneWatermark(t *testing.T) {
	for name, change := range map[string]func(t *testing.T, dir, file string){
		"damaged": func(t *testing.T, dir, file string) { put(t, []byte("x"), dir, file) },
		"missing": func(t *testing.T, dir, file string) { require.NoError(t, os.Remove(filepath.Join(dir, file))) },
		"higher": func(t *testing.T, dir, file string) {
			lower := tree(t, dir)
			setWatermark(t, dir, 5)
			for _, other := range segment.WatermarkNames {
				if other != file {
					_, line, _ := bytes.Cut([]byte(lower[other]), []byte("\n"))
					put(t, line, dir, other)
				}
			}
		},
	} {
		for _, file := range segment.WatermarkNames {
			dir := killedLog(t, 3, 5, 1<<20)
			change(t, dir, file)
			r := begin(t, dir, relaxed)
			frames, _ := items(t, r)
			require.Len(t, frames, 3, "%s %s", name, file)
			require.NoError(t, r.Abandon())
			repaired(t, dir, relaxed)
			requireEvents(t, dir, 3, relaxed, "%s %s", name, file)
		}
	}
}

// D4, D11: a full disk has no space for the copy in quarantine/. The opening fails and changes
// nothing. Once there is space, it succeeds.
func TestD11_FullDisk(t *testing.T) {
	disk := smallDisk(t, 1<<20)
	dir := filepath.Join(disk, "log")
	require.NoError(t, os.CopyFS(dir, os.DirFS(killedLog(t, 3, 5, 1<<20))))
	ballast := filepath.Join(disk, "ballast")
	require.ErrorIs(t, os.WriteFile(ballast, make([]byte, 1<<20), 0o600), syscall.ENOSPC)
	before := contents(t, dir)
	for range 2 {
		_, err := Begin(dir, relaxed)
		require.ErrorIs(t, err, syscall.ENOSPC)
		require.ErrorContains(t, err, "drop the events after the last sync")
	}
	after := contents(t, dir)
	delete(after, QuarantineDir) // an empty directory
	before["."], after["."] = "", ""
	require.Equal(t, before, after)
	require.NoError(t, os.Remove(ballast))
	requireEvents(t, dir, 3, relaxed)
}

// D4, D11: a backup with hard links keeps the events that are dropped from the log.
func TestD11_LinkedBackup(t *testing.T) {
	dir := killedLog(t, 3, 9, 4*entryBytes)
	setWatermark(t, dir, 3)
	backup := linkAll(t, dir)
	before := contents(t, backup)
	requireEvents(t, dir, 3, relaxed)
	require.Equal(t, before, contents(t, backup))
}

// D11: an interrupted drop is continued. After any of its steps, the next opening has the same
// events.
func TestD11_InterruptedDrop(t *testing.T) {
	whole := killedLog(t, 9, 9, 2*bodyBytes)
	setWatermark(t, whole, 3)
	moved := func(t *testing.T, dir string, names ...string) {
		for _, name := range names {
			put(t, nil, dir, QuarantineDir, filepath.Base(name)+".json")
			require.NoError(t, os.Rename(filepath.Join(dir, name), filepath.Join(dir, QuarantineDir, filepath.Base(name))))
		}
	}
	for name, change := range map[string]func(t *testing.T, dir string){
		"the last segment moved": func(t *testing.T, dir string) { moved(t, dir, "wal/"+segment.Name(9)) },
		"a middle segment moved": func(t *testing.T, dir string) { moved(t, dir, "wal/"+segment.Name(7)) },
		"all later segments": func(t *testing.T, dir string) {
			moved(t, dir, "wal/"+segment.Name(9), "wal/"+segment.Name(7), "wal/"+segment.Name(5))
		},
		"a report without a file": func(t *testing.T, dir string) { put(t, []byte("{"), dir, QuarantineDir, segment.Name(9)+".json") },
		"the tail copied": func(t *testing.T, dir string) {
			put(t, []byte("a part"), dir, QuarantineDir, fmt.Sprintf("%s-%d.unsynced", segment.Name(3), entryBytes))
		},
		"the tail cut": func(t *testing.T, dir string) {
			require.NoError(t, os.Truncate(segmentPath(dir, 3), int64(entryBytes)))
		},
	} {
		dir := filepath.Join(memDir(t), "log")
		require.NoError(t, os.CopyFS(dir, os.DirFS(whole)))
		change(t, dir)
		requireEvents(t, dir, 3, relaxed, name)
	}
}

// MakeDurable syncs also with NoSync, and after it all entries are durable. It does not hide that the
// log has failed, or that the lock is gone.
func TestMakeDurable(t *testing.T) {
	dir := filepath.Join(memDir(t), "log")
	log := openLog(t, dir, relaxed)
	require.NoError(t, log.MakeDurable(), "of an empty log")
	for seq := 1; seq <= 3; seq++ {
		require.NoError(t, write(log, eventBody(seq)))
	}
	require.Zero(t, log.DurableThrough())
	require.Equal(t, [2]uint64{0, 0}, watermarks(t, dir))
	require.NoError(t, log.MakeDurable())
	require.EqualValues(t, 3, log.DurableThrough())
	require.Equal(t, [2]uint64{3, 3}, watermarks(t, dir))
	require.NoError(t, log.MakeDurable(), "without new entries")

	require.NoError(t, write(log, eventBody(4)))
	require.NoError(t, os.Remove(filepath.Join(dir, LockName)))
	require.ErrorIs(t, log.MakeDurable(), ErrFailed)
	require.ErrorIs(t, log.MakeDurable(), ErrFailed)
	require.Equal(t, [2]uint64{3, 3}, watermarks(t, dir))
	require.ErrorIs(t, log.Close(), ErrFailed)
	requireEvents(t, dir, 3, relaxed)
}

// The manifest of a new log records the beginning of its history. A log that exists keeps its own.
func TestBegin_History(t *testing.T) {
	want := &segment.History{Index: 4711, Term: 3, Origin: segment.OriginRestored}
	opts := Options{History: want}
	dir := closedLog(t, 2, opts)
	require.Contains(t, string(read(t, dir, "MANIFEST")), "\nhistory 4711 3 restored\n")
	r := begin(t, dir, Options{})
	require.Equal(t, want, r.Directory().Manifest.History)
	require.NoError(t, r.Abandon())

	before := tree(t, dir)
	_, err := Begin(dir, opts)
	require.ErrorIs(t, err, os.ErrExist)
	require.ErrorContains(t, err, "already has a log")
	require.Equal(t, before, tree(t, dir))
}

// D11: a replicated log is opened only as such, so that no Store appends an event without a position.
// A log that is not replicated is never opened as one, because its events would be dropped.
func TestD11_KindOfLogStays(t *testing.T) {
	replicated := killedLog(t, 3, 5, 1000)
	_, err := Begin(replicated, Options{})
	require.ErrorIs(t, err, ErrReplicated)
	requireEvents(t, replicated, 3, relaxed)

	plain := filepath.Join(memDir(t), "log")
	log := openLog(t, plain, Options{NoSync: true}) // its watermark stays 0
	for seq := 1; seq <= 5; seq++ {
		require.NoError(t, write(log, eventBody(seq)))
	}
	require.NoError(t, log.abandonSegments())
	require.NoError(t, log.lock.Close())
	before := names(t, plain)
	_, err = Begin(plain, relaxed)
	require.ErrorIs(t, err, ErrNotReplicated)
	require.Equal(t, before, names(t, plain))
	requireEvents(t, plain, 5, Options{})
}
