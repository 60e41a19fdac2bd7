package oracle_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"migrationlog"
	"migrationlog/checkpoint"
	"migrationlog/internal/oracle"
)

// disturb keeps a copy of the closed log, damages the log, or heals earlier damage, at random.
func (h *history) disturb() error {
	if h.chance(4) {
		files, err := load(h.dir)
		if err != nil {
			return err
		}
		h.saved = append(h.saved, files)
		h.saved = h.saved[max(len(h.saved)-3, 0):]
		h.note("keep a copy")
	}
	for range h.r.IntN(3) {
		if len(h.heals) > 0 && h.chance(2) {
			if err := h.heal(); err != nil {
				return err
			}
			continue
		}
		if err := h.damage(); err != nil {
			return err
		}
	}
	return nil
}

func (h *history) damage() error {
	switch h.r.IntN(21) {
	case 0, 1, 2, 3, 4, 5:
		return h.flipFrame()
	case 6, 7, 8:
		return h.hideSegment()
	case 9, 10:
		return h.swapSegment()
	case 11:
		return h.restoreOlder("wal/")
	case 12:
		return h.restoreOlder("snapshots/")
	case 13:
		return h.hideSnapshot()
	case 14:
		return h.flipSnapshot()
	case 15:
		return h.loseWatermark()
	case 16:
		return h.tearTail()
	case 17:
		return h.downgradeSnapshot()
	}
	return h.appendForeign()
}

// heal undoes one of the damages, if that is possible.
func (h *history) heal() error {
	i := h.r.IntN(len(h.heals))
	heal := h.heals[i]
	h.heals = slices.Delete(h.heals, i, i+1)
	done, err := heal.do()
	h.note("heal %s: %t", heal.name, done)
	return err
}

// change rewrites one file of the log and records how to undo this. The change can be undone if the
// file still begins with the changed content, or is a prefix of it because a repair has cut the
// file.
func (h *history) change(name, what string, changed []byte) error {
	h.note("%s %s", what, name)
	path := filepath.Join(h.dir, name)
	original, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	h.heals = append(h.heals, heal{what + " " + name, func() (bool, error) {
		now, err := os.ReadFile(path)
		if err != nil || !bytes.HasPrefix(now, changed) && !bytes.HasPrefix(changed, now) {
			return false, ignoreMissing(err)
		}
		healed := original
		if len(original) == len(changed) { // bits were flipped
			n := min(len(original), len(now))
			healed = slices.Concat(original[:n], now[n:])
		}
		return true, os.WriteFile(path, healed, 0o600)
	}})
	return os.WriteFile(path, changed, 0o600)
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// hide removes files from the log and records how to restore them. A file is restored only if its
// name is free.
func (h *history) hide(what string, names ...string) error {
	files, err := load(h.dir)
	if err != nil {
		return err
	}
	h.note("hide %s %v", what, names)
	h.heals = append(h.heals, heal{"hidden " + what, func() (bool, error) {
		done := false
		for _, name := range names {
			path := filepath.Join(h.dir, name)
			if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				return false, err
			}
			if err := os.WriteFile(path, files[name], 0o600); err != nil {
				return false, err
			}
			done = true
		}
		return done, nil
	}})
	for _, name := range names {
		if err := os.Remove(filepath.Join(h.dir, name)); err != nil {
			return err
		}
	}
	return nil
}

// flipFrame changes one bit of an intact frame or of its length prefix.
func (h *history) flipFrame() error {
	l, err := oracle.Read(h.dir)
	if err != nil || len(l.Events) == 0 {
		return err
	}
	e := l.Events[h.r.IntN(len(l.Events))]
	at := e.Offset + h.r.IntN(e.Length)
	if h.chance(6) {
		at = e.Offset - 1
	}
	name := segmentName(e.Segment)
	b, err := os.ReadFile(filepath.Join(h.dir, name))
	if err != nil {
		return err
	}
	changed := bytes.Clone(b)
	changed[at] ^= 1 << h.r.IntN(8)
	return h.change(name, fmt.Sprintf("flip byte %d (seq %d is at %d) in", at, e.Seq, e.Offset), changed)
}

func (h *history) hideSegment() error {
	files, err := load(h.dir)
	segments := files.segments()
	if err != nil || len(segments) < 2 {
		return err
	}
	return h.hide("segment", segments[h.r.IntN(len(segments))])
}

// swapSegment makes a copy of the log, in its present or an earlier state, and writes other events
// to the copy. Then it replaces a segment of the log by the segment of the copy with the same name.
func (h *history) swapSegment() error {
	files, err := load(h.dir)
	if err != nil {
		return err
	}
	base := files
	if len(h.saved) > 0 && h.chance(2) {
		base = h.saved[h.r.IntN(len(h.saved))]
	}
	if err := base.store(h.scratch); err != nil {
		return err
	}
	opts := h.opts
	opts.SegmentSize = 300 + h.r.IntN(1700)
	s, err := migrationlog.Open(h.scratch, &opts)
	if err != nil { // Open refuses this state of the log
		return nil
	}
	acknowledged, notes := h.acknowledged, len(h.steps)
	h.acknowledged = map[uint64]eventKey{}
	for range 1 + h.r.IntN(8) {
		err = errors.Join(err, h.write(s))
	}
	h.acknowledged = acknowledged
	if err := errors.Join(err, s.Close()); err != nil {
		return err
	}
	diverged, err := load(h.scratch)
	if err != nil {
		return err
	}
	common := slices.DeleteFunc(diverged.segments(), func(name string) bool {
		return files[name] == nil || bytes.Equal(files[name], diverged[name])
	})
	if len(common) == 0 {
		h.steps = h.steps[:notes]
		return nil
	}
	h.forked = true
	name := common[h.r.IntN(len(common))]
	return h.change(name, "take from the diverged copy", diverged[name])
}

// restoreOlder replaces a directory of the log by the directory of an earlier copy.
func (h *history) restoreOlder(folder string) error {
	if len(h.saved) == 0 {
		return nil
	}
	older := h.saved[h.r.IntN(len(h.saved))]
	files, err := load(h.dir)
	if err != nil {
		return err
	}
	if folder == "wal/" {
		h.forked = true
	}
	h.note("restore %s from a copy", folder)
	put := func(from image) error {
		now, err := load(h.dir)
		if err != nil {
			return err
		}
		for _, name := range now.names(folder) {
			delete(now, name)
		}
		for _, name := range from.names(folder) {
			now[name] = from[name]
		}
		return now.store(h.dir)
	}
	h.heals = append(h.heals, heal{"older " + folder, func() (bool, error) { return true, put(files) }})
	return put(older)
}

func (h *history) hideSnapshot() error {
	files, err := load(h.dir)
	names := files.names("snapshots/")
	if err != nil || len(names) == 0 {
		return err
	}
	if h.chance(2) {
		names = names[len(names)-1:]
	}
	return h.hide("snapshots", names...)
}

func (h *history) flipSnapshot() error {
	files, err := load(h.dir)
	names := files.names("snapshots/")
	if err != nil || len(names) == 0 {
		return err
	}
	name := names[h.r.IntN(len(names))]
	changed := bytes.Clone(files[name])
	at := h.r.IntN(len(changed))
	if h.chance(2) {
		at = h.r.IntN(min(len(changed), 40))
	}
	changed[at] ^= 1 << h.r.IntN(8)
	return h.change(name, fmt.Sprintf("flip byte %d in", at), changed)
}

// downgradeSnapshot rewrites a snapshot in version 1 or 2 of the format.
func (h *history) downgradeSnapshot() error {
	l, err := oracle.Read(h.dir)
	if err != nil || len(l.Snapshots) == 0 {
		return err
	}
	s := l.Snapshots[h.r.IntN(len(l.Snapshots))]
	encode := s.EncodeV1
	if h.chance(2) {
		encode = s.EncodeV2
	}
	if b, ok := encode(l.UUID); ok {
		return h.change(snapshotName(s.Seq), fmt.Sprintf("downgrade to version %d", b[3]), b)
	}
	return nil
}

// loseWatermark removes one or both watermark files, or damages one.
func (h *history) loseWatermark() error {
	files, err := load(h.dir)
	if err != nil {
		return err
	}
	names := slices.DeleteFunc([]string{"WATERMARK", "wal/WATERMARK"}, func(name string) bool { return len(files[name]) == 0 })
	if len(names) == 0 {
		return nil
	}
	h.weakWatermarks = true // a restored watermark may be too low
	if h.chance(2) {
		return h.hide("watermarks", names[:1+h.r.IntN(len(names))]...)
	}
	name := names[h.r.IntN(len(names))]
	changed := bytes.Clone(files[name])
	changed[h.r.IntN(len(changed))] ^= 1 << h.r.IntN(8)
	return h.change(name, "flip a bit of", changed)
}

// tearTail appends the beginning of an entry to the log, as a writer leaves it that is killed
// during a write.
func (h *history) tearTail() error {
	l, err := oracle.Read(h.dir)
	if err != nil || !l.TailClean || l.TailEnd == 0 {
		return err
	}
	id := h.ids[h.r.IntN(len(h.ids)-1)]
	h.clock++
	entry := oracle.AppendEntry(nil, l.UUID, l.Reached+1, 0, l.Reached, oracle.UnknownBody(9, id, h.clock))
	entry = entry[:1+h.r.IntN(len(entry)-1)]
	h.note("leave %d bytes of seq %d", len(entry), l.Reached+1)
	name := segmentName(l.TailSegment)
	b, err := os.ReadFile(filepath.Join(h.dir, name))
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(h.dir, name), append(b[:l.TailEnd], entry...), 0o600)
}

// appendForeign appends an event that this store would not write. The event has an unknown kind, as
// from a newer version, or an unusual previous number, or a position, as from a replicated store.
func (h *history) appendForeign() error {
	l, err := oracle.Read(h.dir)
	if err != nil {
		return err
	}
	e := h.event()
	id, seq, prev := e.Migration(), l.Reached+1, uint64(0)
	for _, e := range l.Events {
		if e.Migration == id {
			prev = e.Seq
			if e.Kind == oracle.KindAborted || e.Kind == oracle.KindRemoved {
				prev = 0
			}
		}
	}
	if h.chance(2) {
		prev = h.r.Uint64N(seq)
	}
	body, kind := oracle.UnknownBody(20+h.r.Uint64N(3), id, e.WallMS()), "an unknown kind"
	if h.chance(4) {
		kind = describe(e)
		if body, err = checkpoint.EncodeEvent(e); err != nil {
			return err
		}
	}
	index := h.r.Uint64N(2) * seq * 1000
	body = checkpoint.AppendPosition(body, index, index/2000)
	h.note("append #%d of %s, %s, previous %d, index %d", seq, label(id), kind, prev, index)
	h.acknowledged[seq] = eventKey{id, e.WallMS()}
	return appendFrame(h.dir, l, prev, body, h.chance(2))
}

// appendFrame appends an event with the next number and raises the watermarks. It uses the last
// segment if that segment is clean and rotate is false. Otherwise it creates a new segment.
func appendFrame(dir string, l *oracle.Log, prev uint64, body []byte, rotate bool) error {
	seq := l.Reached + 1
	name, b := segmentName(seq), []byte(nil) // the file exists if a writer has already created this segment
	if l.TailClean && l.TailEnd > 0 && !rotate {
		name = segmentName(l.TailSegment)
		var err error
		if b, err = os.ReadFile(filepath.Join(dir, name)); err != nil {
			return err
		}
		b = b[:l.TailEnd]
	}
	b = oracle.AppendEntry(b, l.UUID, seq, prev, l.Reached, body)
	if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
		return err
	}
	for _, file := range []string{"WATERMARK", "wal/WATERMARK"} {
		if err := os.WriteFile(filepath.Join(dir, file), oracle.AppendWatermark(nil, l.UUID, seq), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// stepsText returns the steps of the history, one per line.
func (h *history) stepsText() string { return strings.Join(h.steps, "\n") }
