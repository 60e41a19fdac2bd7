package eventlog

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"migrationlog/eventlog/segment"
)

// QuarantineDir holds the bytes, as they were found, of everything that a repair
// replaced, cut off or moved away, and of every damaged segment, each beside a
// report in JSON.
const QuarantineDir = "quarantine"

const (
	reportSuffix = ".json"
	maxNameBytes = 200 // file systems allow 255, of which the report's suffix takes some
)

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

// quarantineFile puts a file, if it is there, into quarantine/.
func (r *Recovery) quarantineFile(d segment.Damage, put func(from, to string) error) error {
	from := filepath.Join(r.dir, d.Segment)
	_, err := os.Lstat(from)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return r.quarantine(filepath.Base(d.Segment), func(to string) error { return put(from, to) },
		quarantineReport{Segment: d.Segment, Length: d.Length, Reason: d.Reason})
}

// quarantineSegment gives a damaged segment a second name in quarantine/, once for what
// is wrong with it. The segment stays where it is: its whole frames are served
// from there. Where its end will be cut off, quarantine/ gets a copy.
func (r *Recovery) quarantineSegment(name string, damage []segment.Damage) error {
	from := filepath.Join(r.dir, segment.WALDir, name)
	info, err := os.Lstat(from)
	if _, ok := segment.ParseName(name); !ok || errors.Is(err, fs.ErrNotExist) {
		return nil // not a segment, or the damage is that it is missing
	}
	if err != nil {
		return err
	}
	if kept, err := r.alreadyQuarantined(name, damage); err != nil || kept {
		return errors.Join(err, r.syncQuarantine())
	}
	put := linkFile
	if tail := r.scan.Tail(); tail.Segment == name && tail.Beyond > 0 { //mutant:cut-segment-copied
		put = copyFile
	}
	return r.quarantine(name, func(to string) error { return put(from, to) }, quarantineReport{Segment: name, Length: info.Size(), Reason: "damaged", Damage: damage})
}

// quarantine puts a file into quarantine/ under a name that is free there, and makes it
// and its report durable.
func (r *Recovery) quarantine(name string, put func(to string) error, report quarantineReport) error {
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
	r.quarantined = append(r.quarantined, filepath.Join(QuarantineDir, filepath.Base(to)))
	return syncDir(dir) //mutant:quarantine-synced
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

// alreadyQuarantined reports whether an earlier opening has kept the segment for the same
// damage.
func (r *Recovery) alreadyQuarantined(name string, damage []segment.Damage) (bool, error) {
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
