package eventlog

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"migrationlog/eventlog/segment"
)

// QuarantineDir holds the original bytes of everything that a repair replaced
// or cut off, each beside a report in JSON.
const QuarantineDir = "quarantine"

// quarantineReport is the JSON beside a quarantined file.
type quarantineReport struct {
	Segment string           `json:"segment"` // the file that the bytes come from
	Offset  int64            `json:"offset"`
	Length  int64            `json:"length"`
	NextSeq uint64           `json:"next_seq,omitempty"` // the number that the log went on with
	Reason  string           `json:"reason"`
	Damage  []segment.Damage `json:"damage,omitempty"` // all that was found in the segment
	SavedAt time.Time        `json:"saved_at"`
}

// repair makes the directory one that tidwall/wal can append to: strays out of
// its way, the last segment ending with its last entry and durable to there; and
// it writes down what later openings could not know: which of the lost numbers
// nobody vouches for, before the watermark goes past them.
func (r *Recovery) repair() error {
	for _, d := range r.found.Strays {
		if err := r.keepFile(d, moveFile); err != nil {
			return err
		}
	}
	for _, d := range r.found.Damage { // in place until there is a sound one
		linked, err := r.isLinked(d)
		if err == nil && !linked {
			err = r.keepFile(d, linkOrMove)
		}
		if err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.damage)) {
		if err := r.keepSegment(name, r.damage[name]); err != nil {
			return err
		}
	}
	if err := r.repairTail(); err != nil {
		return err
	}
	if err := r.syncDirs(); err != nil {
		return err
	}
	if err := r.updateManifest(); err != nil {
		return err
	}
	return r.updateWatermark()
}

// repairTail cuts off what is behind the log's last entry, and makes the rest
// durable.
func (r *Recovery) repairTail() error {
	tail := r.scan.Tail()
	path := filepath.Join(r.dir, segment.WALDir, tail.Segment)
	if tail.Torn {
		if err := r.saveTail(path, tail); err != nil {
			return err
		}
	}
	if tail.Beyond > 0 {
		if err := os.Truncate(path, tail.Bytes); err != nil {
			return err
		}
	}
	return rewrite(path, tail.Durable, tail.Bytes)
}

// rewrite writes a part of a file over itself. What a killed writer has left may be
// in the kernel's memory alone, and where a sync has failed the kernel may take it
// for written all the same, and never write it again unless it is changed. From
// here on it is served, so it has to last.
func rewrite(path string, from, to int64) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if int64(len(b)) < to {
		return fmt.Errorf("%s has %d bytes where %d were read: somebody else writes to it", path, len(b), to)
	}
	return overwrite(path, from, b[from:to])
}

// overwrite writes into a file that is there, and syncs it.
func overwrite(path string, at int64, b []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(b, at)
	return errors.Join(err, f.Sync(), f.Close())
}

// syncDirs makes the names durable that a killed writer may have left in the
// kernel's memory.
func (r *Recovery) syncDirs() error {
	return errors.Join(syncDir(filepath.Join(r.dir, segment.WALDir)), syncDir(r.dir), syncParent(r.dir))
}

// updateManifest writes down which numbers are skipped, and makes both copies the
// same.
func (r *Recovery) updateManifest() error {
	unknowable := r.scan.Losses().Unknowable()
	if len(unknowable) > 0 || r.found.Manifest.Revision == 0 {
		r.found.Manifest = r.found.Manifest.Skip(unknowable)
		if r.found.Manifest.Revision == 1 { // from now on there has to be one
			if err := r.updateWatermark(); err != nil {
				return err
			}
		}
		return r.writeManifest(r.found.Manifest)
	}
	for _, name := range []string{segment.ManifestCopyName, segment.ManifestName} {
		same, err := r.holds(name, r.found.Manifest.Encode())
		if err != nil {
			return err
		}
		if !same {
			return r.writeManifest(r.found.Manifest)
		}
	}
	return nil
}

// updateWatermark makes both files say that all up to the log's end is durable. It
// writes into a file that is sound: a copy of the directory tends to take the older
// inode first, and its watermark is then no newer than its frames.
func (r *Recovery) updateWatermark() error {
	want := segment.AppendWatermark(nil, r.found.Manifest.UUID, r.scan.Tail().NextSeq-1)
	for _, name := range segment.WatermarkNames {
		path := filepath.Join(r.dir, name)
		same, err := r.holds(name, want)
		if err == nil && !same {
			if _, missing := os.Lstat(path); missing != nil || r.isDamaged(name) {
				err = replaceFile(path, want)
			} else {
				err = overwrite(path, 0, want)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// holds reports whether a file has this content. One that is damaged, and may be
// anything, is not looked into.
func (r *Recovery) holds(name string, want []byte) (bool, error) {
	if r.isDamaged(name) {
		return false, nil
	}
	b, err := os.ReadFile(filepath.Join(r.dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return bytes.Equal(b, want), err
}

func (r *Recovery) isDamaged(name string) bool {
	return slices.ContainsFunc(r.found.Damage, func(d segment.Damage) bool { return d.Segment == name })
}

// saveTail copies what is behind the log's last entry.
func (r *Recovery) saveTail(path string, tail segment.Tail) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if int64(len(b)) != tail.Bytes+tail.Beyond {
		return fmt.Errorf("segment %s has %d bytes where %d were read: somebody else writes to it", path, len(b), tail.Bytes+tail.Beyond)
	}
	return r.save(fmt.Sprintf("%s-%d.torn", tail.Segment, tail.Bytes), func(to string) error {
		return createFile(to, b[tail.Bytes:])
	}, quarantineReport{
		Segment: tail.Segment, Offset: tail.Bytes, Length: tail.Beyond, NextSeq: tail.NextSeq,
		Reason: "the last write was not whole",
	})
}

// keepFile puts a file, if it is there, into quarantine/.
func (r *Recovery) keepFile(d segment.Damage, put func(from, to string) error) error {
	from := filepath.Join(r.dir, d.Segment)
	_, err := os.Lstat(from)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return r.save(filepath.Base(d.Segment), func(to string) error { return put(from, to) },
		quarantineReport{Segment: d.Segment, Length: d.Length, Reason: d.Reason})
}

// syncQuarantine makes durable what an opening that was cut short has put there.
func (r *Recovery) syncQuarantine() error { return syncDir(filepath.Join(r.dir, QuarantineDir)) }

// isLinked reports whether the file has a name in quarantine/ already: an earlier
// opening that gave it one was cut short.
func (r *Recovery) isLinked(d segment.Damage) (bool, error) {
	file, err := os.Lstat(filepath.Join(r.dir, d.Segment))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	entries, err := os.ReadDir(filepath.Join(r.dir, QuarantineDir))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	for _, e := range entries {
		if info, err := e.Info(); err == nil && os.SameFile(file, info) {
			return true, r.syncQuarantine()
		}
	}
	return false, err
}

// moveFile gives a file another name. wal/ may be on another file system than
// quarantine/: then it is copied first.
func moveFile(from, to string) error {
	err := os.Rename(from, to)
	if err == nil {
		return nil
	}
	if copied := copyFile(from, to); copied != nil {
		return errors.Join(err, copied)
	}
	return errors.Join(syncDir(filepath.Dir(to)), os.Remove(from))
}

// linkFile gives a file a second name, or, where the file system cannot, copies it.
func linkFile(from, to string) error {
	err := os.Link(from, to)
	if err == nil {
		return nil
	}
	if copied := copyFile(from, to); copied != nil {
		return errors.Join(err, copied)
	}
	return nil
}

func copyFile(from, to string) error {
	info, err := os.Lstat(from)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is no regular file", from)
	}
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return createFile(to, b)
}

// linkOrMove gives a file a second name, or, where it is a directory, another.
func linkOrMove(from, to string) error {
	info, err := os.Lstat(from)
	switch {
	case err != nil:
		return err
	case info.IsDir():
		return os.Rename(from, to)
	}
	return linkFile(from, to)
}

// keepSegment gives a damaged segment a second name in quarantine/, once for what
// is wrong with it. The segment stays where it is: its whole frames are served
// from there. Where its end will be cut off, quarantine/ gets a copy.
func (r *Recovery) keepSegment(name string, damage []segment.Damage) error {
	from := filepath.Join(r.dir, segment.WALDir, name)
	info, err := os.Lstat(from)
	if _, ok := segment.ParseName(name); !ok || errors.Is(err, fs.ErrNotExist) {
		return nil // not a segment, or the damage is that it is missing
	}
	if err != nil {
		return err
	}
	if kept, err := r.isKept(name, damage); err != nil || kept {
		return errors.Join(err, r.syncQuarantine())
	}
	put := linkFile
	if tail := r.scan.Tail(); tail.Segment == name && tail.Beyond > 0 {
		put = copyFile
	}
	return r.save(name, func(to string) error { return put(from, to) }, quarantineReport{Segment: name, Length: info.Size(), Reason: "damaged", Damage: damage})
}

// isKept reports whether an earlier opening has kept the segment for the same
// damage.
func (r *Recovery) isKept(name string, damage []segment.Damage) (bool, error) {
	dir := filepath.Join(r.dir, QuarantineDir)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	for _, e := range entries {
		kept, isReport := strings.CutSuffix(e.Name(), reportSuffix)
		if !isReport || !strings.HasPrefix(kept, name) {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return false, err
		}
		var report quarantineReport
		_, lost := os.Lstat(filepath.Join(dir, kept))
		if json.Unmarshal(text, &report) == nil && lost == nil && slices.EqualFunc(report.Damage, damage, sameDamage) {
			return true, nil
		}
	}
	return false, err
}

func sameDamage(a, b segment.Damage) bool {
	a.DurableThrough, b.DurableThrough = 0, 0 // not in the report
	return a == b
}

// save puts a file into quarantine/ under a name that is free there, and makes it
// and its report durable.
func (r *Recovery) save(name string, put func(to string) error, report quarantineReport) error {
	dir := filepath.Join(r.dir, QuarantineDir)
	if err := makeDir(dir); err != nil {
		return err
	}
	to, err := freeName(filepath.Join(dir, name[:min(len(name), maxNameBytes)]))
	if err != nil {
		return err
	}
	report.SavedAt = r.now()
	text, err := json.MarshalIndent(report, "", "  ")
	if err != nil {
		return err
	}
	if err := createFile(to+reportSuffix, append(text, '\n')); err != nil {
		return err
	}
	if err := put(to); err != nil { // the disk may be full: no attempt leaves more on it
		return errors.Join(err, os.Remove(to+reportSuffix))
	}
	r.saved = append(r.saved, filepath.Join(QuarantineDir, filepath.Base(to)))
	return syncDir(dir)
}

const (
	reportSuffix = ".json"
	maxNameBytes = 200 // file systems allow 255, of which the report's suffix takes some
)

// freeName returns the path, numbered if need be, that neither a file nor its
// report has yet.
func freeName(path string) (string, error) {
	for i, name := 1, path; ; i, name = i+1, fmt.Sprintf("%s.%d", path, i) {
		free := true
		for _, taken := range []string{name, name + reportSuffix} {
			_, err := os.Lstat(taken)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return "", err
			}
			free = free && err != nil
		}
		if free {
			return name, nil
		}
	}
}
