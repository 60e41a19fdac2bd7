package real_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"migrationlog"
	"migrationlog/eventlog/segment"
	"migrationlog/internal/torture/simos"
	"migrationlog/replay"
)

// One damaged log in openEvery is also opened for writing, on a real file system.
const openEvery = 64

// D2, D3, D4, D5, D7: a log gets one to four damages of any kind in any files. Only the frames that
// a damage touches are lost, and the report lists them. No event is invented. No number that still
// exists in any file is used again.
//
// A frame must be found if its bytes are intact anywhere in the file of its own segment. There is
// one exception: a damage may copy a frame of a later segment into an earlier one. The scan then
// decides by the names of the segments and by the first header of the later one. If another damage
// has moved this header, the scan may miss the frame.
func TestD2_RandomDamage(t *testing.T) {
	c := newCases(t)
	logs := pool(t, c.rand(-1))
	c.each(t, *damagesFlag*2/5, func(t *testing.T, n int, r *rand.Rand) {
		log := logs[r.IntN(len(logs))]
		damaged, story, overwritten := log.damage(r)
		c.count("damages", len(story))
		c.count("damaged logs: "+log.class, 1)
		// The reader waits until the tail stops changing. In a synctest bubble this takes no time.
		synctest.Test(t, func(t *testing.T) {
			defer func() {
				if p := recover(); p != nil || t.Failed() {
					t.Logf("%s: %s", log.class, strings.Join(story, "; "))
					if p != nil {
						panic(p)
					}
				}
			}()
			report, err := log.checkRead(t, c, n, damaged)
			// If no damage changed a length, the last write can look torn only if its last sectors
			// are zeros.
			if torn := report.TornTail; torn != nil && overwritten {
				require.Zero(t, (torn.Offset+torn.Length)%simos.SectorBytes)
				require.Empty(t, bytes.Trim(damaged[segment.WALDir+"/"+torn.Segment][torn.Offset+torn.Length:], "\x00"))
			}
			if n%openEvery == 0 {
				log.checkOpen(t, c, r, damaged, report, err)
			}
		})
	})
}

// damage returns the files of the log with one to four damages, and a description of each. The
// result overwritten is true if all damages only flipped bits and wrote zeros. Noise does not
// count, because it may look like a torn write.
func (l *intactLog) damage(r *rand.Rand) (damaged memory, story []string, overwritten bool) {
	damaged = maps.Clone(l.files)
	overwritten = true
	if r.IntN(3) == 0 { // a power cut may leave a stale watermark
		seq := r.Uint64N(l.last + 1)
		for _, name := range segment.WatermarkNames {
			damaged[name] = segment.AppendWatermark(nil, l.uuid, seq)
		}
		story = append(story, fmt.Sprintf("the watermark is %d", seq))
	}
	for range 1 + r.IntN(4) {
		name := l.names[r.IntN(len(l.names))]
		for tries := 0; tries < 3 && !strings.HasPrefix(name, segment.WALDir+"/0"); tries++ { // prefer segments
			name = l.names[r.IntN(len(l.names))]
		}
		b, there := damaged[name]
		if !there {
			continue
		}
		if r.IntN(12) == 0 && l.damageFile(r, damaged, name, &story) {
			overwritten = false
			continue
		}
		from := damaged[l.names[r.IntN(len(l.names))]]
		after, what, over := damageBytes(r, slices.Clone(b), from)
		overwritten = overwritten && over
		damaged[name] = after
		story = append(story, fmt.Sprintf("%s of %d bytes: %s", name, len(b), what))
	}
	return damaged, story, overwritten
}

// damageFile deletes a file, truncates it to nothing, or exchanges it with another file.
func (l *intactLog) damageFile(r *rand.Rand, damaged memory, name string, story *[]string) bool {
	switch r.IntN(3) {
	case 0:
		delete(damaged, name)
		*story = append(*story, name+" is deleted")
	case 1:
		damaged[name] = []byte{}
		*story = append(*story, name+" is truncated to 0 bytes")
	default:
		other := l.names[r.IntN(len(l.names))]
		damaged[name], damaged[other] = damaged[other], damaged[name]
		for _, n := range []string{name, other} {
			if damaged[n] == nil { // it was deleted before
				delete(damaged, n)
			}
		}
		*story = append(*story, name+" and "+other+" are exchanged")
	}
	return true
}

const sectorBytes = 512

// damageBytes damages b. One kind of damage overwrites a part of b with bytes of from.
func damageBytes(r *rand.Rand, b, from []byte) (damaged []byte, what string, overwritten bool) {
	if len(b) == 0 {
		return noise(r, 1+r.IntN(100)), "noise in an empty file", false
	}
	at := r.IntN(len(b))
	end := min(len(b), at+1+r.IntN(1<<uint(1+r.IntN(9))))
	if r.IntN(20) == 0 {
		end = len(b)
	}
	what = fmt.Sprintf("[%d:%d] ", at, end)
	switch r.IntN(11) {
	case 0, 1, 2:
		bit := r.IntN(8)
		b[at] ^= 1 << bit
		return b, fmt.Sprintf("bit %d of byte %d", bit, at), true
	case 3:
		clear(b[at:end])
		return b, what + "zeros", true
	case 4:
		copy(b[at:end], noise(r, end-at))
		return b, what + "noise", false
	case 5:
		return b[:at], fmt.Sprintf("cut at %d", at), false
	case 6:
		return slices.Delete(b, at, end), what + "removed", false
	case 7:
		return slices.Insert(b, at, noise(r, end-at)...), what + "noise inserted", false
	case 8:
		if r.IntN(2) == 0 {
			return append(b, make([]byte, end-at)...), fmt.Sprintf("%d zeros appended", end-at), false
		}
		return append(b, noise(r, end-at)...), fmt.Sprintf("%d bytes of noise appended", end-at), false
	case 9:
		n := (len(b) + sectorBytes - 1) / sectorBytes
		return exchange(b, r.IntN(n)*sectorBytes, r.IntN(n)*sectorBytes), "two sectors exchanged", false
	}
	if len(from) == 0 {
		return b, "nothing", true
	}
	source := r.IntN(len(from))
	n := copy(b[at:], slices.Clone(from[source:min(len(from), source+end-at)]))
	return b, fmt.Sprintf("[%d:%d] overwritten with a copy of other bytes, from offset %d", at, at+n, source), false
}

func noise(r *rand.Rand, sizeBytes int) []byte {
	b := make([]byte, sizeBytes)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// exchange exchanges two sectors. If one of them is the last and incomplete, it exchanges only as
// many bytes as that sector has.
func exchange(b []byte, one, other int) []byte {
	n := min(sectorBytes, len(b)-one, len(b)-other)
	kept := slices.Clone(b[one : one+n])
	copy(b[one:], b[other:other+n])
	copy(b[other:], kept)
	return b
}

// checkRead reads the damaged log and compares the found frames with the surviving ones.
func (l *intactLog) checkRead(t *testing.T, c *cases, n int, damaged memory) (replay.Report, error) {
	reader, err := replay.OpenFS(damaged)
	if err != nil {
		l.checkRefusal(t, c, damaged, err)
		return replay.Report{}, err
	}
	fold, found := reader.NewFold(), map[uint64]bool{}
	last := uint64(0)
	for r, err := range reader.Records(t.Context(), replay.Query{}) {
		if err != nil {
			require.NoError(t, err)
		}
		fold.Add(r)
		if r.Damage != nil {
			continue
		}
		written, ok := l.frames[r.Seq]
		if !ok || r.Seq <= last || !bytes.Equal(written.bytes, damaged[segment.WALDir+"/"+r.Segment][r.Offset:r.Offset+r.Length]) {
			t.Fatalf("seq %d (after seq %d) was found, but it was not written like this, or is out of order", r.Seq, last)
		}
		if n%8 == 0 {
			require.Equal(t, written.event, r.Event)
		}
		last = r.Seq
		found[r.Seq] = true
	}
	report := fold.Report()
	if n%8 == 0 {
		again, err := reader.Verify(t.Context())
		require.NoError(t, err)
		require.Equal(t, report, again)
	}
	l.checkReport(t, c, damaged, withoutSnapshots(report), found)
	return report, nil
}

// checkRefusal checks the reason of a refusal. A log may be refused only if neither copy of its
// manifest is intact.
func (l *intactLog) checkRefusal(t *testing.T, c *cases, damaged memory, err error) {
	require.True(t, isOneOf(err, segment.ErrManifestLost, segment.ErrNotALog, segment.ErrNewerFormat), "%v", err)
	c.count("refused by the reader", 1)
	one, other := damaged[segment.ManifestName], damaged[segment.ManifestCopyName]
	if errors.Is(err, segment.ErrManifestLost) {
		require.False(t, bytes.Equal(l.files[segment.ManifestName], one) || bytes.Equal(l.files[segment.ManifestName], other))
		return
	}
	require.ErrorIs(t, err, segment.ErrNotALog)
	require.NotContains(t, damaged, segment.ManifestName)
	for name, b := range damaged {
		if strings.HasPrefix(name, segment.WALDir+"/0") {
			require.Empty(t, b, name)
		}
	}
}

// checkReport compares the report with the found and the surviving frames.
func (l *intactLog) checkReport(t *testing.T, c *cases, damaged memory, report replay.Report, found map[uint64]bool) {
	left := l.surviving(damaged)
	if left.misplaced {
		c.count("with a misplaced header", 1)
	}
	for seq, inItsFile := range left.inPlace {
		if !inItsFile || found[seq] {
			continue
		}
		if !left.inEarlierSegment {
			t.Fatalf("seq %d is intact but was not found: %v", seq, report.Damage)
		}
		c.count("frames missed because of a copy in an earlier segment", 1)
	}
	highest := report.LastSeq
	for _, lost := range report.Lost {
		highest = max(highest, lost.Last)
	}
	for seq := range left.anywhere {
		if seq > highest {
			t.Fatalf("seq %d is intact, but neither found nor reported", seq)
		}
	}
	for _, lost := range report.Lost {
		for seq := lost.First; seq <= lost.Last; seq++ {
			if found[seq] || left.inPlace[seq] && !left.inEarlierSegment {
				t.Fatalf("seq %d exists but was reported as lost", seq)
			}
			if seq > l.last+1000 {
				t.Fatalf("seq %d was reported as lost, but the last number was %d", seq, l.last)
			}
		}
	}
	if uint64(len(found))+countUpTo(report.Lost, report.LastSeq) != report.LastSeq {
		t.Fatalf("the numbers up to seq %d: %d were found and %v are lost, which is not all of them", report.LastSeq, len(found), report.Lost)
	}
	for _, lost := range report.AcknowledgedLost {
		if lost.Last > l.last {
			t.Fatalf("seq %d was never used, but is reported as acknowledged", lost.Last)
		}
	}
	c.count("frames found", len(found))
	c.count("frames lost", int(replay.CountSeqs(report.Lost)))
}

// countUpTo returns how many of the lost numbers are at most last.
func countUpTo(lost []replay.SeqRange, last uint64) (n uint64) {
	for _, r := range lost {
		if r.First <= last {
			n += min(r.Last, last) - r.First + 1
		}
	}
	return n
}

// checkOpen opens the damaged log for writing, writes, and opens it again.
func (l *intactLog) checkOpen(t *testing.T, c *cases, r *rand.Rand, damaged memory, read replay.Report, readErr error) {
	parent := memDir(t)
	defer os.RemoveAll(parent)
	dir := filepath.Join(parent, "log")
	put(t, dir, damaged)
	s, err := migrationlog.Open(dir, &migrationlog.Options{VerifyAll: true})
	if err != nil {
		require.True(t, isOneOf(err, segment.ErrManifestLost, segment.ErrNewerFormat, migrationlog.ErrNeedsRepair), "%v", err)
		after := files(t, dir)
		delete(after, "LOCK")
		before := maps.Clone(map[string][]byte(damaged))
		delete(before, "LOCK")
		require.Equal(t, before, after, "a refused Open must not change the log")
		c.count("opened: refused", 1)
		return
	}
	c.count("opened", 1)
	if errors.Is(readErr, segment.ErrNotALog) { // Open has created a new log
		require.NoError(t, s.Close())
		return
	}
	report := s.Report()
	report.Quarantined = nil
	require.Equal(t, withoutSnapshots(read), withoutSnapshots(report))
	before := bodies(t, dir)
	receipts := map[uint64]string{}
	for a, i := newGenerator(r, 2), 0; i < 1+r.IntN(3); i++ {
		e := a.upsert()
		receipt, err := write(s, e)
		require.NoError(t, err)
		if receipt.Duplicate {
			continue
		}
		receipts[receipt.Seq] = body(e)
		require.False(t, l.surviving(damaged).anywhere[receipt.Seq], "seq %d is used again", receipt.Seq)
		require.False(t, receipt.Seq <= report.LastSeq || countUpTo(report.Lost, receipt.Seq) != replay.CountSeqs(report.Lost), "seq %d is used again", receipt.Seq)
	}
	require.NoError(t, s.Close())

	s, err = migrationlog.Open(dir, &migrationlog.Options{VerifyAll: true})
	require.NoError(t, err)
	require.Equal(t, joined(report.Lost), joined(s.Report().Lost))
	require.Equal(t, joined(report.AcknowledgedLost), joined(s.Report().AcknowledgedLost))
	require.Nil(t, s.Report().TornTail)
	require.NoError(t, s.Close())
	maps.Copy(before, receipts)
	require.Equal(t, before, bodies(t, dir))
	l.checkKept(t, damaged, files(t, dir))
}

// withoutSnapshots returns the report without the damage of snapshots.
func withoutSnapshots(r replay.Report) replay.Report {
	var damage []replay.Damage
	for _, d := range r.Damage {
		if !strings.HasPrefix(d.Segment, segment.SnapshotDir) {
			damage = append(damage, d)
		}
	}
	r.Damage = damage
	return r
}

// endsWith returns the offset at which file ends with b. Zeros at the end of either do not count.
// If file does not end with b, it returns math.MaxInt.
func endsWith(file, b []byte) int {
	file, b = bytes.TrimRight(file, "\x00"), bytes.TrimRight(b, "\x00")
	if !bytes.HasSuffix(file, b) {
		return math.MaxInt
	}
	return len(file) - len(b)
}

// checkKept checks that no byte has disappeared, except zeros after the end of the log. All bytes
// that were cut off or moved must be in quarantine/.
func (l *intactLog) checkKept(t *testing.T, before memory, after map[string][]byte) {
	for name, was := range before {
		if filepath.Base(name) == segment.WatermarkName || filepath.Dir(name) != segment.WALDir && name != segment.ManifestName {
			continue // the lock and the files that a writer updates
		}
		if filepath.Base(name) == segment.ManifestName && bytes.Equal(was, l.files[name]) {
			continue // it was intact, so the next revision may have replaced it
		}
		same := 0
		for is := after[name]; same < len(was) && same < len(is) && was[same] == is[same]; {
			same++
		}
		kept := len(bytes.Trim(was[same:], "\x00")) == 0
		for saved, b := range after {
			kept = kept || strings.HasPrefix(saved, "quarantine/") && endsWith(was, b) <= same
		}
		require.True(t, kept, "%s: the bytes from offset %d on are missing", name, same)
	}
}
