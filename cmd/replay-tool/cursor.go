package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/uuid"

	"migrationlog/replay"
)

// cursor is a position in a log, kept in a file. A program that copies a log with 'log -f' continues
// after it. The zero value has no file.
type cursor struct {
	file  string
	saved cursorPosition // the content of the file
	now   cursorPosition // after the last record that was handled
}

// cursorPosition is the content of the file of a cursor.
type cursorPosition struct {
	UUID uuid.UUID `json:"uuid"` // of the log
	Seq  uint64    `json:"seq"`  // of the last record that was printed, or that the filters left out
	// HeaderCRC32C is the checksum of the frame's header. It is 0 if the last record was damage.
	HeaderCRC32C uint32 `json:"header_crc32c"`
}

// openCursor reads the file. If the file does not exist, the cursor is before the first record. It
// returns a usageError if the file has the cursor of another log.
func openCursor(file string, log uuid.UUID) (c cursor, err error) {
	if file == "" {
		return c, nil
	}
	c = cursor{file: file, now: cursorPosition{UUID: log}}
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return c, err
	}
	if err := json.Unmarshal(b, &c.saved); err != nil || c.saved.UUID == (uuid.UUID{}) {
		return c, usageErrorf("%s is not a cursor file of 'replay-tool log': give another file, or remove it to begin with the first event", quoted(file))
	}
	if c.saved.UUID != log {
		return c, usageErrorf("%s is a cursor in log %s, and this is log %s: give the cursor file of this log, or a new file", quoted(file), c.saved.UUID, log)
	}
	c.now = c.saved
	return c, nil
}

// isAfter reports whether a record is after the cursor's position in its file.
func (c *cursor) isAfter(r replay.Record) bool {
	if r.Damage != nil {
		return r.Damage.LastSeq > c.saved.Seq || c.saved.Seq == 0
	}
	return r.Seq > c.saved.Seq
}

// check returns an error if the log has another event at the cursor's position.
func (c *cursor) check(r replay.Record) error {
	if r.Damage == nil && r.Seq == c.saved.Seq && c.saved.HeaderCRC32C != 0 && r.HeaderCRC32C != c.saved.HeaderCRC32C {
		return fmt.Errorf("%w: the log has another event #%d than the one at the cursor. Compare the events that were copied with the log, remove %s, and start again",
			replay.ErrReplaced, r.Seq, quoted(c.file))
	}
	return nil
}

// checkEnd returns an error if the log ends before the cursor. The event lastIntact is its last one
// that is not lost.
func (c *cursor) checkEnd(lastSeq, lastIntact uint64) error {
	if c.saved.Seq <= lastSeq {
		return nil
	}
	end := fmt.Sprintf("the log ends with #%d", lastSeq)
	if lastIntact < lastSeq {
		end += fmt.Sprintf(", and the last one that is not lost is #%d", lastIntact)
	}
	return fmt.Errorf("%w: the cursor is at #%d, and %s. Compare the events that were copied with the log, remove %s, and start again",
		replay.ErrReplaced, c.saved.Seq, end, quoted(c.file))
}

// rangeEnd is the end of the range of --to and --until. No cursor passes the first record after it,
// because a run with a later end or with none must print this record. The clocks of later records may
// go back into the range. The next run prints these records again.
type rangeEnd struct {
	toSeq   uint64 // 0: none
	untilMS uint64 // 0: none
	passed  bool
}

// isBefore reports whether the range ended before a record. The records must be given in order.
func (e *rangeEnd) isBefore(r replay.Record) bool {
	first := r.Seq
	if r.Damage != nil {
		first = r.Damage.FirstSeq
	}
	if e.toSeq != 0 && first > e.toSeq || e.untilMS != 0 && r.WallMS() > e.untilMS {
		e.passed = true
	}
	return e.passed
}

// advance moves the cursor after a record that was handled.
func (c *cursor) advance(r replay.Record) {
	switch d := r.Damage; {
	case d == nil:
		c.now.Seq, c.now.HeaderCRC32C = r.Seq, r.HeaderCRC32C
	case d.LastSeq > c.now.Seq && !d.Torn:
		c.now.Seq, c.now.HeaderCRC32C = d.LastSeq, 0
	}
}

// save writes the file if the cursor has moved. All records before it must have been written to
// stdout. A crash leaves the old file or the new one.
func (c *cursor) save() error {
	if c.file == "" || c.now == c.saved || c.now.Seq < c.saved.Seq {
		return nil
	}
	b, err := json.Marshal(c.now)
	if err != nil {
		return err
	}
	if err := writeDurably(c.file, append(b, '\n')); err != nil {
		return fmt.Errorf("cursor file: %w", err)
	}
	c.saved = c.now
	return nil
}

// writeDurably replaces a file. The content and the name are on the device when it returns.
func writeDurably(file string, content []byte) (err error) {
	temp, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+"-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(temp.Name())
		}
	}()
	_, err = temp.Write(content)
	if err = errors.Join(err, temp.Sync(), temp.Close()); err != nil {
		return err
	}
	if err = os.Rename(temp.Name(), file); err != nil {
		return err
	}
	return syncDir(filepath.Dir(file))
}
