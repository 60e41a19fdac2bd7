package eventlog

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"migrationlog/eventlog/segment"
)

// QuarantineDir holds the original bytes of everything that a repair replaced
// or cut off, each beside a report in JSON.
const QuarantineDir = "quarantine"

// quarantineReport is the JSON beside a quarantined file.
type quarantineReport struct {
	Segment string    `json:"segment"` // the file that the bytes come from
	Offset  int64     `json:"offset"`
	Length  int64     `json:"length"`
	NextSeq uint64    `json:"next_seq,omitempty"` // the number that the log went on with
	Reason  string    `json:"reason"`
	SavedAt time.Time `json:"saved_at"`
}

// repair makes the directory one that tidwall/wal can append to: strays out of
// its way, both manifests sound, the last segment ending with its last entry
// and durable to there.
func (r *Recovery) repair() error {
	wal := filepath.Join(r.dir, segment.WALDir)
	for _, d := range r.strays {
		if err := r.moveAway(d); err != nil {
			return err
		}
	}
	for _, d := range r.damaged {
		if err := r.rewriteManifest(d); err != nil {
			return err
		}
	}
	tail := r.scan.Tail()
	path := filepath.Join(wal, tail.Segment)
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
	// A killed writer may have left its last frames, and the names of its files, in
	// the kernel's memory alone. From here on they are served, so they have to last.
	if err := syncFile(path); err != nil {
		return err
	}
	if err := errors.Join(syncDir(wal), syncDir(r.dir)); err != nil {
		return err
	}
	err := syncDir(filepath.Join(r.dir, ".."))
	if errors.Is(err, fs.ErrPermission) { // then it was not made by us
		return nil
	}
	return err
}

// saveTail copies what is behind the log's last entry.
func (r *Recovery) saveTail(path string, tail segment.Tail) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	torn, err := io.ReadAll(io.NewSectionReader(f, tail.Bytes, tail.Beyond))
	if err != nil {
		return err
	}
	return r.save(fmt.Sprintf("%s-%d.torn", tail.Segment, tail.Bytes), func(to string) error {
		return createFile(to, torn)
	}, quarantineReport{
		Segment: tail.Segment, Offset: tail.Bytes, Length: tail.Beyond, NextSeq: tail.NextSeq,
		Reason: "the last write was not whole",
	})
}

// rewriteManifest puts the sound copy's text in the place of the other.
func (r *Recovery) rewriteManifest(d segment.Damage) error {
	path := filepath.Join(r.dir, d.Segment)
	_, err := os.Lstat(path)
	if err == nil {
		err = r.moveAway(d)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return replaceFile(path, r.manifest.Encode())
}

// moveAway moves a file that must not stay where it is.
func (r *Recovery) moveAway(d segment.Damage) error {
	from := filepath.Join(r.dir, d.Segment)
	return r.save(filepath.Base(d.Segment), func(to string) error { return os.Rename(from, to) },
		quarantineReport{Segment: d.Segment, Length: d.Length, Reason: d.Reason})
}

// save puts a file into quarantine/ under a name that is free there, and makes it
// and its report durable.
func (r *Recovery) save(name string, put func(to string) error, report quarantineReport) error {
	dir := filepath.Join(r.dir, QuarantineDir)
	if err := makeDir(dir); err != nil {
		return err
	}
	to, err := freeName(filepath.Join(dir, name))
	if err != nil {
		return err
	}
	if err := put(to); err != nil {
		return err
	}
	report.SavedAt = r.opts.Now().UTC()
	text, err := json.MarshalIndent(report, "", "  ")
	if err != nil {
		return err
	}
	if err := createFile(to+reportSuffix, append(text, '\n')); err != nil {
		return err
	}
	r.saved = append(r.saved, filepath.Join(QuarantineDir, filepath.Base(to)))
	return syncDir(dir)
}

const reportSuffix = ".json"

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
