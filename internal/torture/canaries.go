package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
)

// canary is a defence and how it is removed. The suite that bears it must then
// go red: a suite that stays green would not notice if the defence were lost.
type canary struct {
	defence  string
	file     string
	old, new string
	pkg      string // of the tests that must fail; "" is the simulated ones
	run      string // these tests
}

// releaseCanaries tries those whose defence matches, two at a time, and fails if
// one lives.
func releaseCanaries(matching string) error {
	chosen, err := regexp.Compile(matching)
	if err != nil {
		return err
	}
	next := make(chan canary)
	var mu sync.Mutex
	var failures []error
	dead := 0
	var workers sync.WaitGroup
	for range 2 {
		workers.Go(func() {
			for c := range next {
				verdict, err := c.release()
				mu.Lock()
				if err != nil {
					failures = append(failures, fmt.Errorf("%s: %w", c.defence, err))
					verdict = "LIVES: " + err.Error()
				} else {
					dead++
				}
				fmt.Printf("%-62s %s\n", c.defence, verdict)
				mu.Unlock()
			}
		})
	}
	for _, c := range canaries {
		if chosen.MatchString(c.defence) {
			next <- c
		}
	}
	close(next)
	workers.Wait()
	fmt.Printf("%d canaries, %d of them dead\n", dead+len(failures), dead)
	if dead+len(failures) == 0 {
		return fmt.Errorf("no canary's defence matches %q", matching)
	}
	return errors.Join(failures...)
}

// release removes the defence and runs its tests. It returns which of them failed.
func (c canary) release() (verdict string, err error) {
	dir, err := os.MkdirTemp("", "canary-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	pkg, build := c.pkg, NewPatched
	if pkg == "" {
		pkg, build = simulated, NewOverlay
	}
	overlay, err := build(dir, []Patch{{File: c.file, Old: c.old, New: c.new}})
	if err != nil {
		return "", err
	}
	binary, err := overlay.Build(pkg, false)
	if err != nil {
		return "", fmt.Errorf("it does not compile without: %w", err)
	}
	arguments := []string{"-test.v", "-test.failfast", "-test.timeout=10m", "-test.run=" + c.run}
	if pkg == simulated {
		// The first case that shows it is enough, and where a window is one rename wide that
		// takes some 7,000 cuts: so many more are allowed that none is missed by bad luck.
		arguments = append(arguments, "-failures=1", "-cuts=160000")
	}
	test := command(binary, arguments...)
	test.Stdout, test.Stderr = nil, nil
	test.Dir = filepath.Join(overlay.root, pkg)
	output, err := test.CombinedOutput()
	if err == nil {
		return "", fmt.Errorf("%s %s does not notice", pkg, c.run)
	}
	if failed := regexp.MustCompile(`--- FAIL: (\w+)`).FindSubmatch(output); failed != nil {
		return "dead by " + string(failed[1]), nil
	}
	if strings.Contains(string(output), "panic: ") && !strings.Contains(string(output), "test timed out") {
		return "dead by a panic", nil
	}
	return "", fmt.Errorf("its tests failed in another way: %w\n%s", err, output)
}

var canaries = []canary{
	// What a disk may do to the frames.
	{"the body's checksum is compared", "eventlog/segment/frame.go",
		`crc32.Checksum(b[HeaderBytes:HeaderBytes+bodyBytes], castagnoli) == binary.LittleEndian.Uint32(b[32:])`, `true`,
		"./", "TestD2_OpenWithEveryBitFlipped"},
	{"a scan's short way ends before a frame out of its place", "eventlog/segment/scan.go",
		`if frame == nil || h.Seq != s.expect || h.Seq >= s.end {`, `if frame == nil {`,
		"./eventlog/segment", "Test"},
	{"the header's checksum is compared", "eventlog/segment/frame.go",
		`binary.LittleEndian.Uint32(b[36:]) != headerCRC(b, log)`, `false`,
		"./", "TestD2_OpenWithEveryBitFlipped"},
	{"a frame of another log is not believed", "eventlog/segment/frame.go",
		`castagnoli, log[:])`, `castagnoli, nil)`,
		"./eventlog/segment", "TestD2_Damage"},
	{"a damaged length prefix costs nothing", "eventlog/segment/find.go",
		"		} // else its length is damaged, and costs nothing\n", "		} else {\n			continue\n		}\n",
		"./", "TestD2_OpenWithEveryBitFlipped"},
	{"a frame out of its place hides none", "eventlog/segment/find.go",
		"	slices.SortFunc(ordered, ", "	slices.SortFunc(ordered[:0], ",
		"./eventlog/segment", "TestD2_Damage"},
	{"a number that any header names is not free", "eventlog/segment/tail.go",
		`if named >= next {`, `if false && named >= next {`,
		"./eventlog/segment", "TestD2_Damage|TestD3_"},
	{"a segment that is missing or short is noticed", "eventlog/segment/scan.go",
		`allZero(rest) && s.expect >= next`, `allZero(rest)`,
		"./eventlog/segment", "TestD2_Damage"},
	{"unused space is not taken for entries", "eventlog/segment/tail.go",
		`for !allZero(data[end:]) {`, `for end < len(data) {`,
		"./eventlog/segment", "TestD2_Damage"},
	{"a segment that is being made is not missing", "eventlog/segment/scan.go",
		`len(names) == 0 || s.opts.Locked {`, `len(names) > 0 {`,
		"./eventlog/segment", "TestD10_SegmentsThatAreBeingMade"},
	{"a write under way is not taken for a torn one", "eventlog/segment/scan.go",
		`rests := data != nil && bytes.Equal(again, data)`, `rests := true`,
		"./eventlog/segment", "TestD10_TailThatIsBeingWritten"},
	{"what the watermark says is missing is missing", "eventlog/segment/tail.go",
		`if next <= s.losses.through {`, `if false {`,
		"./", "TestD3_LastSegmentMissing"},
	{"what the watermark says was durable is not torn", "eventlog/segment/tail.go",
		`torn && seq > s.losses.through`, `torn`,
		"./", "TestD4_OpenWithEveryCut"},
	{"the watermark's checksum is compared", "eventlog/segment/watermark.go",
		`bytes.Equal(b, AppendWatermark(nil, log, seq))`, `true`,
		"./eventlog/segment", "TestD5_WatermarkEveryBitAndCut"},
	{"the lower of the watermarks counts", "eventlog/segment/watermark.go",
		`seq = min(seq, n)`, `seq = n`,
		"./eventlog/segment", "TestD5_WatermarkEveryBitAndCut"},
	{"the other copy of the manifest is read", "eventlog/segment/manifest.go",
		`range []string{ManifestName, ManifestCopyName}`, `range []string{ManifestName}`,
		"./eventlog/segment", "TestD1_ManifestEveryBitAndCut"},
	{"of two manifests the newer counts", "eventlog/segment/manifest.go",
		`case found.Revision < m.Revision:`, `case false:`,
		"./eventlog/segment", "TestD7_ManifestOfTwoRevisions"},

	// What lies in a directory.
	{"no log is made where one was", "eventlog/segment/manifest.go",
		`return len(names) > 0 || errors.Is(noCopy, fs.ErrNotExist), nil`, `return noCopy == nil || true, nil`,
		"./", "TestD4_NoNewLogOverAnother"},
	{"no log is made where a watermark says that one was", "eventlog/segment/manifest.go",
		`if err == nil && !bytes.HasPrefix(`, `if false && !bytes.HasPrefix(`,
		"./", "TestD4_NoNewLogOverAnother"},
	{"a log without segments is refused", "eventlog/recovery.go",
		`if len(names) == 0 {`, `if false {`,
		"./", "TestD4_SegmentsGone"},
	{"a segment named beyond the log's end is refused", "eventlog/recovery.go",
		`first > r.scan.Tail().NextSeq`, `first == 0`,
		"./", "TestD3_SegmentsUnderWrongNames"},
	{"strays are moved away before tidwall/wal sees them", "eventlog/repair.go",
		`for _, d := range r.found.Strays {`, `for _, d := range r.found.Strays[:0] {`,
		"./", "TestD4_StrayFilesAreSetAside"},
	{"nor what came among the segments since", "eventlog/tail.go",
		`if len(strays) > 0 {`, `if false {`,
		"./", "TestD4_StrayFileBesideAWriter"},
	{"a segment's name on something else is refused", "eventlog/recovery.go",
		`if _, ok := segment.ParseName(filepath.Base(d.Segment)); ok {`, `if false {`,
		"./", "TestD4_StrayFilesAreSetAside"},
	{"the WAL must end where the frames do", "eventlog/wal.go",
		`index != lastSeq`, `false`,
		"./eventlog", "TestD3_WALEndsWhereTheFramesDo"},

	// What a repair does.
	{"a torn tail is saved", "eventlog/repair.go",
		"	if tail.Torn > 0 {\n", "	if false {\n",
		"./", "TestD4_OpenWithEveryCut"},
	{"a torn tail is cut off", "eventlog/repair.go",
		"		if err := os.Truncate(path, tail.Bytes); err != nil {\n			return err\n		}\n", "",
		"./", "TestD4_OpenWithEveryCut"},
	{"a damaged segment is kept", "eventlog/repair.go",
		`for _, name := range slices.Sorted(maps.Keys(r.damage)) {`, `for _, name := range slices.Sorted(maps.Keys(r.damage))[:0] {`,
		"./", "TestD4_DamagedSegmentsAreKept"},
	{"a segment that will be cut is copied, not linked", "eventlog/quarantine.go",
		`tail.Segment == name && tail.Beyond > 0`, `tail.Segment == ""`,
		"./", "TestD4_DamagedAndTorn"},
	{"what nobody vouches for is written down", "eventlog/repair.go",
		`unknowable := r.scan.Losses().Unknowable()`, `unknowable := []segment.SeqRange(nil)`,
		"./", "TestD5_NobodyVouchesForALostTail"},
	{"the watermark goes past a loss after that is written down", "eventlog/repair.go",
		"	if err := r.updateManifest(); err != nil {\n		return err\n	}\n	return r.updateWatermark()\n",
		"	if err := r.updateWatermark(); err != nil {\n		return err\n	}\n	return r.updateManifest()\n",
		"", "TestD7_"},
	{"a damaged last segment is not appended to", "eventlog/recovery.go",
		`case tail.Dirty:`, `case false:`,
		"./", "TestD2_OpenWithEveryBitFlipped"},
	{"what is served was rewritten and synced", "eventlog/repair.go",
		`return rewrite(path, tail.Durable, tail.Bytes)`, `return nil`,
		"", "TestD6_|TestD1_PowerCut"},
	{"what a failed sync left is written again", "eventlog/repair.go",
		`return rewrite(path, tail.Durable, tail.Bytes)`, `return rewrite(path, tail.Bytes, tail.Bytes)`,
		"", "TestD6_|TestD7_"},
	{"the names that are served were synced", "eventlog/repair.go",
		"	if err := r.syncDirs(); err != nil {\n		return err\n	}\n", "",
		"", "TestD1_PowerCut"},
	{"quarantine/ is synced", "eventlog/quarantine.go",
		"	return syncDir(dir)\n}\n", "	return nil\n}\n",
		"", "TestD4_|TestD7_"},

	// What an append does.
	{"an append is synced", "eventlog/log.go",
		"	if err := l.tail.sync(); err != nil {\n		return l.fail(err)\n	}\n", "",
		"", "TestD1_PowerCut"},
	{"a failed sync fails the append", "eventlog/log.go",
		"	if err := l.tail.sync(); err != nil {\n		return l.fail(err)\n	}\n", "	l.tail.sync()\n",
		"", "TestD6_"},
	{"a failure is for good", "eventlog/log.go",
		"	l.failed = fmt.Errorf(\"%w (%w)\", ErrFailed, err)\n	return l.failed\n", "	return fmt.Errorf(\"%w (%w)\", ErrFailed, err)\n",
		"", "TestD6_"},
	{"a failed close of a full segment fails the append", "eventlog/log.go",
		"	if err := l.tail.close(); err != nil {\n		return err\n	}\n	if err := l.markDurable()", "	l.tail.close()\n	if err := l.markDurable()",
		"", "TestD6_EveryFaultOfABatch"},
	{"a new segment's name is durable before anything is in it", "eventlog/log.go",
		"	if err := syncDir(filepath.Dir(path)); err != nil {\n		return err\n	}\n", "",
		"", "TestD1_PowerCut"},
	{"the watermark follows the sync", "eventlog/log.go",
		"	if err := l.tail.sync(); err != nil {\n", "	if err := l.watermark.set(l.nextSeq - 1); err != nil {\n		return l.fail(err)\n	}\n	if err := l.tail.sync(); err != nil {\n",
		"", "TestD1_PowerCut"},
	{"a file of ours has the size that we gave it", "eventlog/tail.go",
		`sizeBytes != t.size`, `false`,
		"./", "TestD6_"},
	{"the lock file is the one that we hold", "eventlog/log.go",
		`if err == nil && !ours {`, `if false && !ours {`,
		"./", "TestD6_FailedWriteIsSticky"},
	{"who closes without the lock says nothing of what is durable", "eventlog/log.go",
		"	err := l.checkLockHeld()\n	if err == nil && l.failed == nil {\n", "	err := error(nil)\n	if l.failed == nil {\n",
		"./", "TestD6_FilesReplacedBesideAWriter"},
	{"the segment is the file that we opened", "eventlog/tail.go",
		`!id.is(t.id)`, `!id.is(id)`,
		"./", "TestD6_FilesReplacedBesideAWriter"},
	{"so is the watermark", "eventlog/watermark.go",
		`!os.SameFile(held, named)`, `held == named`,
		"./", "TestD6_FilesReplacedBesideAWriter"},
	{"a renamed file is durable under its name", "eventlog/files.go",
		"	return syncDir(filepath.Dir(path))\n", "	return nil\n",
		"", "TestD1_PowerCut"},
	{"a segment's name is durable before the manifest's", "eventlog/recovery.go",
		"	if err := syncDir(wal); err != nil {\n		return err\n	}\n", "",
		"", "TestD1_PowerCut"},
	{"a new directory is durable in its parent", "eventlog/files.go",
		"	return syncParent(dir)\n", "	return nil\n",
		"", "TestD1_PowerCut"},
	{"a file's content is durable before its name", "eventlog/files.go",
		`errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(path))`, `errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(path))`,
		"", "TestD1_PowerCut"},

	{"space that is made ahead is not counted when a segment is closed", "eventlog/tail.go",
		`errors.Join(t.file.Truncate(t.bytes), t.abandon())`, `t.abandon()`,
		"./eventlog", "Test"},
	{"tidwall/wal opens a segment before there is room in it", "eventlog/tail.go",
		"	wal, err := openAppender(", "	_, err = file.WriteAt(zeros[:9], sizeBytes)\n	wal, err := openAppender(",
		"./", "TestD1_UpsertThenReload"},
	{"room is made where nothing is written yet", "eventlog/tail.go",
		`t.file.WriteAt(zeros[:min(want-t.size, pieceBytes)], t.size)`, `t.file.WriteAt(zeros[:min(want-t.size, pieceBytes)], max(0, t.size-600))`,
		"./", "TestD1_|TestD8_"},
	{"a write cut short in unused space is torn", "eventlog/segment/tail.go",
		`s.torn(data[end:arrived(data)], next)`, `s.torn(data[end:], next)`,
		"./eventlog/segment", "TestD2_EveryCutOfUnusedSpace"},
	{"what fills its sector is not torn", "eventlog/segment/tail.go",
		`(written+sectorBytes-1)/sectorBytes*sectorBytes`, `written`,
		"./eventlog/segment", "TestD2_EveryCutOfUnusedSpace"},
	{"after a failure the file is left as it is", "eventlog/log.go",
		`err = errors.Join(err, l.tail.abandon())`, `err = errors.Join(err, l.tail.close())`,
		"./eventlog", "TestD4_NothingIsCutOffAfterAFailure"},

	// Snapshots, and the short way through a log.
	{"a snapshot's body's checksum is compared", "eventlog/segment/snapshot.go",
		`crc32.Checksum(s.Body, castagnoli) != binary.LittleEndian.Uint32(b[32:])`, `false`,
		"./", "TestD2_OpenWithEveryBitFlipped"},
	{"a snapshot's header's checksum is compared", "eventlog/segment/snapshot.go",
		`binary.LittleEndian.Uint32(b[36:]) != headerCRC(b, &log)`, `false`,
		"./", "TestD2_OpenWithEveryBitFlipped"},
	{"a snapshot is of this history", "replay/source.go",
		`h.base != 0 && !h.anchored`, `false`,
		"./", "TestD3_SnapshotOfAnotherHistory"},
	{"a snapshot's last frame is the very one", "replay/source.go",
		`seq == h.base && h.snapshot.Last == f.id(i)`, `seq == h.base`,
		"./", "TestD3_SnapshotOfAnotherHistory"},
	{"the older snapshot serves where the newer does not fit", "replay/source.go",
		`range s.Snapshots {`, `range s.Snapshots[:min(1, len(s.Snapshots))] {`,
		"./", "TestD3_SnapshotOfAnotherHistory"},
	{"a log that has lost events gets no snapshot", "projection/snapshot.go",
		`func (v *View) Whole() bool { return !v.losses.any() }`, `func (v *View) Whole() bool { return true }`,
		"./", "TestD5_NoSnapshotAfterALoss"},
	{"a loss in the last segment leads to the long way", "replay/source.go",
		`item.Damage != nil && item.Damage.Lost() > 0`, `item.Damage != nil && item.Damage.Lost() > 1<<40`,
		"./", "TestD2_OpenWithEveryBitFlipped"},
	{"a snapshot of numbers that are to be given anew is set aside", "eventlog/snapshot.go",
		`if s.Last.Seq < r.scan.Tail().NextSeq {`, `if true {`,
		"./", "TestD3_SnapshotBeyondTheLog"},
	{"the short way compares every checksum", "eventlog/segment/walk.go",
		` || !isWhole(frame, bodyBytes)`, ``,
		"./", "TestD2_SupersededFrameDamaged"},
	{"a log without its first segment is read as a whole", "replay/source.go",
		` || names[0] != segment.Name(1)`, ``,
		"./", "TestD5_FirstSegmentMissing"},
	{"segments follow on one another", "replay/source.go",
		`h.firstSeq != 0 && f.next() != h.firstSeq`, `false`,
		"./", "TestD2_SegmentMissingBehindASnapshot"},
	{"a version of the view is not changed by the next", "projection/trie.go",
		`case n.owner == t.owner:`, `case n.owner != nil:`,
		"./projection", "TestTrie_EqualsModel"},
	{"a migration that has ended has no row", "replay/source.go",
		`case l == nil && kind != checkpoint.KindUpserted && h.snapshot == nil:`, `case l == nil && kind != checkpoint.KindUpserted:`,
		"./", "TestD8_SnapshotAndTail"},
	{"the facts of earlier phases are found", "replay/source.go",
		`_, l.told = upserted.Checkpoint.Payload.(checkpoint.AddLearner)`, `l.told = true`,
		"./", "TestD8_SnapshotAndTail"},
	{"events lost before a snapshot cost no row", "replay/fold.go",
		"		f.believe(r)\n", "		_ = f.believe\n",
		"./", "TestD5_LostBeforeASnapshot"},
	{"a snapshot is believed at its own frame", "replay/fold.go",
		`s.Last == f.last && `, `s.Last.Seq == f.last.Seq && `,
		"./", "TestD3_SnapshotOfAnotherHistory|TestD3_|TestD8_"},
	{"a damaged snapshot is reported and moved away", "eventlog/recovery.go",
		`r.found.Strays = append(r.found.Strays, damaged...)`, `_ = damaged`,
		"./", "TestD8_DamagedSnapshots"},

	// Who may write, and in which order things are seen.
	{"a second writer is locked out", "eventlog/lock.go",
		"		if ours {\n", "		if ours || !got {\n",
		"./", "TestD10_"},
	{"a rotation looks at the lock", "eventlog/log.go",
		"func (l *Log) rotate() error {\n	if err := l.checkLockHeld(); err != nil {\n", "func (l *Log) rotate() error {\n	if err := l.checkLockHeld(); err != nil && false {\n",
		"./eventlog", "TestD10_RotationWithoutTheLock"},
	{"one at a time decides", "internal/groupcommit/queue.go",
		`if q.leaderActive || len(q.pending) < q.expected {`, `if len(q.pending) < q.expected {`,
		"./internal/groupcommit", "TestQueue_CommitsEveryWriteOnce"},
	{"what is visible is durable", "commit.go",
		"	next := s.next.Fold()\n", "	next := s.next.Fold()\n	s.view.Store(next)\n",
		"./", "Test"},
	{"a write is held against those before it in its batch", "projection/batch.go",
		`*word&bit != 0`, `*word&bit != 0 && bit == 0`,
		"./projection", "TestBatch"},
	{"a vShard is taken by those before in the batch", "projection/batch.go",
		"bool) {\n	b.fold()\n", "bool) {\n",
		"./", "TestGuards_VShard"},
	{"a duplicate is not appended", "commit.go",
		`if c != nil && exists && latest`, `if false && latest`,
		"./", "TestD3_"},

	{"a call's events end with the first that is refused", "commit.go",
		"w.err != nil {\n				break\n", "w.err != nil {\n				continue\n",
		"./", "TestD3_WriteAllEndsWhereItIsRefused"},

	// What is reported.
	{"a loss that may be a migration's last puts it in doubt", "projection/doubt.go",
		`case row == nil || row.last < newest || row.shaken:`, `case false:`,
		"./", "TestD5_InDoubt"},
	{"segments that are gone count as lost", "eventlog/segment/scan.go",
		`if n := s.losses.through; n > 0 {`, `if n := s.losses.through; n > 0 && false {`,
		"./", "TestD5_ReadersKnowWhatIsGone"},
	{"a reader goes by what a writer wrote down meanwhile", "replay/reader.go",
		`err == nil { // a writer`, `err == nil && m.Revision == 0 { // a writer`,
		"./", "TestD5_ReadersKnowWhatIsGone"},
	{"a loss that was superseded is told", "projection/doubt.go",
		`case row.holes.certain || l.unclaimedIn(row.holes.from, row.holes.to):`, `case false:`,
		"./", "TestD5_InDoubt"},
	{"numbers that were skipped are not said to have been acknowledged", "eventlog/segment/durable.go",
		`ranges = append(ranges, without(lost, l.skipped)...)
		}
	}
	return ranges
}

// Unknowable`, `ranges = append(ranges, lost)
		}
	}
	return ranges
}

// Unknowable`,
		"./", "TestD5_NobodyVouchesForALostTail"},
}
