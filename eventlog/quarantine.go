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

// QuarantineDir is the directory for the original bytes of each file that a repair has replaced,
// cut or moved, and of each damaged segment. Next to each quarantined file is a report in JSON.
const QuarantineDir = "quarantine"

const reportSuffix = ".json"

// quarantineReport is the content of the JSON report on a quarantined file.
type quarantineReport struct {
	Segment string           `json:"segment"` // the file that contained the bytes
	Offset  int64            `json:"offset"`
	Length  int64            `json:"length"`
	NextSeq uint64           `json:"next_seq,omitempty"` // the sequence number with which the log continues
	Reason  string           `json:"reason"`
	Damage  []segment.Damage `json:"damage,omitempty"` // all damage in the segment
	SavedAt time.Time        `json:"saved_at"`
}

// quarantineFile puts a file into quarantine/. If the file does not exist, it does nothing.
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

// quarantineSegment links a damaged segment into quarantine/, unless it has done so before for the
// same damage. The segment also stays in wal/, because its intact frames are still in use. If the
// repair will cut the segment's end off, quarantineSegment copies the segment and does not link it.
func (r *Recovery) quarantineSegment(name string, damage []segment.Damage) error {
	from := filepath.Join(r.dir, segment.WALDir, name)
	info, err := os.Lstat(from)
	if _, ok := segment.ParseName(name); !ok || errors.Is(err, fs.ErrNotExist) {
		return nil // not a segment, or the segment is missing
	}
	if err != nil {
		return err
	}
	if done, err := r.alreadyQuarantined(name, damage); err != nil || done {
		return errors.Join(err, r.syncQuarantine())
	}
	put := linkFile
	if tail := r.scan.Tail(); tail.Segment == name && tail.Beyond > 0 { //mutant:cut-segment-copied
		put = copyFile
	}
	return r.quarantine(name, func(to string) error { return put(from, to) }, quarantineReport{Segment: name, Length: info.Size(), Reason: "damaged", Damage: damage})
}

// quarantine puts a file into quarantine/ under an unused name, and makes the file and its report
// durable. The function put creates the file at the given path.
func (r *Recovery) quarantine(name string, put func(to string) error, report quarantineReport) error {
	dir := filepath.Join(r.dir, QuarantineDir)
	if err := makeDir(dir); err != nil {
		return err
	}
	to, err := freeName(filepath.Join(dir, name))
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
	if err := put(to); err != nil { // on a full disk, repeated attempts must not leave reports behind
		return errors.Join(err, os.Remove(to+reportSuffix))
	}
	r.quarantined = append(r.quarantined, filepath.Join(QuarantineDir, filepath.Base(to)))
	return syncDir(dir) //mutant:quarantine-synced
}

// syncQuarantine makes the names in quarantine/ durable. An interrupted opening may not have done
// so.
func (r *Recovery) syncQuarantine() error { return syncDir(filepath.Join(r.dir, QuarantineDir)) }

// isLinked reports whether the file already has a link in quarantine/. This is so if an earlier
// opening was interrupted after it had linked the file and before it had replaced it.
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

// alreadyQuarantined reports whether an earlier opening has put the segment into quarantine/ for
// the same damage.
func (r *Recovery) alreadyQuarantined(name string, damage []segment.Damage) (bool, error) {
	dir := filepath.Join(r.dir, QuarantineDir)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	for _, e := range entries {
		file, isReport := strings.CutSuffix(e.Name(), reportSuffix)
		if !isReport || !strings.HasPrefix(file, name) {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return false, err
		}
		var report quarantineReport
		_, missing := os.Lstat(filepath.Join(dir, file))
		if json.Unmarshal(text, &report) == nil && missing == nil && slices.EqualFunc(report.Damage, damage, sameDamage) {
			return true, nil
		}
	}
	return false, err
}

func sameDamage(a, b segment.Damage) bool {
	a.DurableThrough, b.DurableThrough = 0, 0 // not in the report
	a.Severity, b.Severity = 0, 0             // not in the report of an older version
	return a == b
}

// freeName returns the path if neither it nor its report exists. Otherwise it appends the lowest
// number that makes both names unused.
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

// moveFile renames a file. If that fails, it copies the file and then removes the original, because
// wal/ may be on another file system than quarantine/.
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

// linkOrMove links a file. A directory cannot be linked, so linkOrMove renames it.
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

// linkFile links a file. If that fails, it copies the file.
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
		return fmt.Errorf("%s is not a regular file", from)
	}
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return createFile(to, b)
}
