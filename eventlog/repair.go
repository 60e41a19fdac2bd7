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

// repair prepares the directory for appending with tidwall/wal. It moves dangerous stray files
// away, cuts off the torn write or the unused space after the last entry of the last segment, and
// makes that segment durable. A damaged segment is made durable too, and its damaged entries stay
// as they are.
//
// For some lost events it is unknown whether they had been acknowledged. repair records their
// numbers in the manifest before updateWatermark raises the watermark above them. Otherwise a later
// opening would report these events as acknowledged. updateManifest raises the watermark earlier
// only if readers do not use it yet. raiseWatermark is safe too: it raises the watermark only to
// the last number that was certainly durable.
func (r *Recovery) repair() error {
	// A damaged manifest or watermark gets a hard link in quarantine/. It also keeps its own name
	// until an intact file replaces it.
	for _, d := range r.found.Damage {
		linked, err := r.isLinked(d)
		if err == nil && !linked {
			err = r.quarantineFile(d, linkOrMove)
		}
		if err != nil {
			return err
		}
	}
	if err := r.clearPrepared(); err != nil { //mutant:prepared-segment-cleared
		return err
	}
	if err := r.separateLinks(); err != nil {
		return err
	}
	if err := r.raiseWatermark(); err != nil {
		return err
	}
	for _, d := range r.toMove { //mutant:strays-moved
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

// repairTail cuts off the bytes after the log's last entry and makes the rest of the segment
// durable. It copies a torn write to quarantine/ first.
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

// rewrite writes the bytes between two offsets again, with the same content, and syncs the file.
// The bytes that a killed writer has left may exist only in the kernel's page cache. After a failed
// sync, the kernel may have marked these pages as clean. A later sync then skips them, unless the
// bytes are written again. The log is about to return these frames to its readers, so they must
// become durable now.
func rewrite(path string, from, to int64) error {
	if from == to {
		return overwrite(path, from, nil)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if int64(len(b)) < to {
		return fmt.Errorf("%s has %d bytes, expected at least %d: another process writes to it", path, len(b), to)
	}
	return overwrite(path, from, b[from:to])
}

// overwrite writes into an existing file and syncs it.
func overwrite(path string, at int64, b []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(b, at)
	return errors.Join(err, f.Sync(), f.Close())
}

// syncDirs makes the names of all files durable. A killed writer may have left names that exist
// only in the kernel's memory.
func (r *Recovery) syncDirs() error {
	return errors.Join(syncDir(filepath.Join(r.dir, segment.WALDir)), syncDir(r.dir), syncParent(r.dir, false))
}

// updateManifest adds the numbers of lost events to the manifest's skipped numbers, if it is
// unknown whether the events had been acknowledged. It also writes both copies if they differ or
// one of them is missing or damaged.
func (r *Recovery) updateManifest() error {
	unknown := r.scan.Losses().UnknownIfAcknowledged() //mutant:unknowable-noted
	if len(unknown) > 0 || r.found.Manifest.Revision == 0 {
		r.found.Manifest = r.found.Manifest.Skip(unknown)
		// Readers use the watermark only if the revision is at least 1. The watermark must
		// therefore exist before revision 1 is written.
		if r.found.Manifest.Revision == 1 {
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

// raiseWatermark raises the watermark to the highest number that was certainly durable. Sometimes
// the only proof of that number is the header of a damaged snapshot or of a torn write. The repair
// moves or cuts off such a header. If the opening is interrupted after that, the next opening finds
// the number in the watermark.
func (r *Recovery) raiseWatermark() error {
	through := r.scan.Losses().Through()
	if through <= r.found.Watermark || r.found.Manifest.Revision == 0 || !r.movesSnapshot && r.scan.Tail().Torn == 0 {
		return nil
	}
	return r.writeWatermark(through) //mutant:evidence-kept
}

// updateWatermark sets both watermark files to the last sequence number of the log.
func (r *Recovery) updateWatermark() error { return r.writeWatermark(r.scan.Tail().NextSeq - 1) }

// writeWatermark writes both watermark files. It overwrites an intact file in place, and replaces
// only a damaged or missing one. The watermark files were therefore usually created before the
// segments. Some tools copy files in the order of their creation. If such a tool copies the
// directory while a writer runs, the copied watermark is not newer than the copied frames. See also
// separateLinks.
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

// hasContent reports whether the file has this content. It does not read a damaged file, which may
// be a directory or of any size.
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

// quarantineTail copies the torn write after the log's last entry to quarantine/, without the
// preallocated zeros after it.
func (r *Recovery) quarantineTail(path string, tail segment.Tail) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if int64(len(b)) != tail.Bytes+tail.Beyond {
		return fmt.Errorf("segment %s has %d bytes, expected %d: another process writes to it", path, len(b), tail.Bytes+tail.Beyond)
	}
	return r.quarantine(fmt.Sprintf("%s-%d.torn", tail.Segment, tail.Bytes), func(to string) error {
		return createFile(to, b[tail.Bytes:tail.Bytes+tail.Torn])
	}, quarantineReport{
		Segment: tail.Segment, Offset: tail.Bytes, Length: tail.Torn, NextSeq: tail.NextSeq,
		Reason: "the last write was not whole",
	})
}
