package eventlog

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"migrationlog/eventlog/segment"
)

// repair makes the directory one that tidwall/wal can append to: strays out of
// its way, the last segment ending with its last entry and durable to there; and
// it writes down what later openings could not know: which of the lost numbers
// nobody vouches for, before the watermark goes past them.
func (r *Recovery) repair() error {
	for _, d := range r.found.Damage { // in place until there is a sound one
		linked, err := r.isLinked(d)
		if err == nil && !linked {
			err = r.quarantineFile(d, linkOrMove)
		}
		if err != nil {
			return err
		}
	}
	if err := r.raiseWatermark(); err != nil {
		return err
	}
	for _, d := range r.found.Strays { //mutant:strays-moved
		if err := r.quarantineFile(d, moveFile); err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.damage)) { //mutant:damaged-segments-kept
		if err := r.quarantineSegment(name, r.damage[name]); err != nil {
			return err
		}
	}
	if err := r.repairTail(); err != nil {
		return err
	}
	if err := r.syncDirs(); err != nil { //mutant:repair-names-synced
		return err
	}
	if err := r.updateManifest(); err != nil { //mutant:manifest-before-watermark
		return err
	}
	return r.updateWatermark()
}

// repairTail cuts off what is behind the log's last entry, and makes the rest
// durable.
func (r *Recovery) repairTail() error {
	tail := r.scan.Tail()
	path := filepath.Join(r.dir, segment.WALDir, tail.Segment)
	if tail.Torn > 0 { //mutant:torn-tail-saved
		if err := r.quarantineTail(path, tail); err != nil {
			return err
		}
	}
	if tail.Beyond > 0 { //mutant:torn-tail-cut
		if err := os.Truncate(path, tail.Bytes); err != nil {
			return err
		}
	}
	return rewrite(path, tail.Durable, tail.Bytes) //mutant:tail-rewritten
}

// rewrite writes a part of a file over itself. What a killed writer has left may be
// in the kernel's memory alone, and where a sync has failed the kernel may take it
// for written all the same, and never write it again unless it is changed. From
// here on it is served, so it has to last.
func rewrite(path string, from, to int64) error {
	if from == to {
		return overwrite(path, from, nil)
	}
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
	unknowable := r.scan.Losses().UnknownIfAcknowledged() //mutant:unknowable-noted
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
		same, err := r.hasContent(name, r.found.Manifest.Encode())
		if err != nil {
			return err
		}
		if !same {
			return r.writeManifest(r.found.Manifest)
		}
	}
	return nil
}

// raiseWatermark raises the watermark to the highest number that is proven durable. The repair then
// moves a damaged snapshot away and cuts off a torn write, whose headers may have been the proof. An
// opening that is cut short in between must leave it to the next one.
func (r *Recovery) raiseWatermark() error {
	through, moves := r.scan.Losses().Through(), slices.ContainsFunc(r.found.Strays, segment.Damage.OfSnapshot)
	if through <= r.found.Watermark || r.found.Manifest.Revision == 0 || !moves && r.scan.Tail().Torn == 0 {
		return nil
	}
	return r.writeWatermark(through) //mutant:evidence-kept
}

// updateWatermark makes both files say that all up to the log's end is durable.
func (r *Recovery) updateWatermark() error { return r.writeWatermark(r.scan.Tail().NextSeq - 1) }

// writeWatermark writes both files. It writes into a file that is sound: a copy of the directory
// tends to take the older inode first, and its watermark is then no newer than its frames.
func (r *Recovery) writeWatermark(seq uint64) error {
	want := segment.AppendWatermark(nil, r.found.Manifest.UUID, seq)
	for _, name := range segment.WatermarkNames {
		path := filepath.Join(r.dir, name)
		same, err := r.hasContent(name, want)
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

// hasContent reports whether a file has this content. One that is damaged, and may be
// anything, is not looked into.
func (r *Recovery) hasContent(name string, want []byte) (bool, error) {
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

// quarantineTail copies what is behind the log's last entry, but for the zeros of space that
// was not used yet.
func (r *Recovery) quarantineTail(path string, tail segment.Tail) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if int64(len(b)) != tail.Bytes+tail.Beyond {
		return fmt.Errorf("segment %s has %d bytes where %d were read: somebody else writes to it", path, len(b), tail.Bytes+tail.Beyond)
	}
	return r.quarantine(fmt.Sprintf("%s-%d.torn", tail.Segment, tail.Bytes), func(to string) error {
		return createFile(to, b[tail.Bytes:tail.Bytes+tail.Torn])
	}, quarantineReport{
		Segment: tail.Segment, Offset: tail.Bytes, Length: tail.Torn, NextSeq: tail.NextSeq,
		Reason: "the last write was not whole",
	})
}
