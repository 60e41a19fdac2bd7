package eventlog

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"migrationlog/eventlog/segment"
)

// unsynced is the part of a log above its watermark.
type unsynced struct {
	seq       uint64   // the watermark
	segment   string   // the segment that ends with the watermark's frame
	end       int64    // offset of that end
	rest      []byte   // the bytes after it, without zeros at the end of the file
	segments  []string // the later segments, the last one first
	snapshots []string // the snapshots that cover a frame above the watermark
}

// dropUnsynced moves everything above the watermark to quarantine/: the bytes after the frame with
// the watermark's number, the segments after that one, and the snapshots with a higher number. It
// returns dropped = false if there is nothing.
//
// The log has no evidence that these events are durable. After a power cut, any part of them may be
// missing, and also a part in the middle. The consensus engine delivers their entries again, so the
// drop loses nothing. A later opening finds the same watermark, so it continues an interrupted
// drop.
//
// dropUnsynced never drops a frame up to the watermark. If the watermark's frame is not intact, or
// if a frame with a lower number follows it, dropUnsynced drops nothing. The scan then reports the
// loss.
func (r *Recovery) dropUnsynced(names []string) (dropped bool, err error) {
	u, err := r.findUnsynced(names)
	if err != nil || u == nil {
		return false, err
	}
	if err := r.removeSummaries(u); err != nil { //mutant:unsynced-summaries-removed
		return false, err
	}
	for _, name := range u.snapshots { //mutant:unsynced-snapshots-moved
		if err := r.moveUnsynced(segment.SnapshotDir, name, u); err != nil {
			return false, err
		}
	}
	for _, name := range u.segments { //mutant:unsynced-segments-moved
		if err := r.moveUnsynced(segment.WALDir, name, u); err != nil {
			return false, err
		}
	}
	if len(u.rest) > 0 {
		if err := r.cutUnsynced(u); err != nil {
			return false, err
		}
	}
	return true, nil
}

// findUnsynced returns the part of the log above the watermark. It returns nil if there is no such
// part, or if it must stay.
func (r *Recovery) findUnsynced(names []string) (*unsynced, error) {
	if r.found.Manifest.Revision == 0 || r.isDamaged(segment.WatermarkName) && r.isDamaged(segment.WatermarkCopyName) { //mutant:no-watermark-no-drop
		return nil, nil
	}
	id := r.found.Manifest.UUID
	u := &unsynced{seq: r.found.Watermark}
	for _, name := range slices.Backward(names) {
		data, err := os.ReadFile(filepath.Join(r.dir, segment.WALDir, name))
		if err != nil {
			return nil, err
		}
		first, _ := segment.ParseName(name)
		isLast := first <= max(u.seq, 1)
		end, found := 0, true
		if isLast {
			end, found = segment.EndOf(data, id, u.seq)
		}
		if !found || !segment.HasOnlyAfter(data[end:], id, u.seq) { //mutant:durable-not-dropped
			return nil, nil
		}
		rest := bytes.TrimRight(data[end:], "\x00")
		if isLast {
			u.segment, u.end, u.rest = name, int64(end), rest
			break
		}
		if first > u.seq+1 || len(rest) > 0 { // otherwise it is the next segment, and is not used yet
			u.segments = append(u.segments, name)
		}
	}
	if u.segment == "" { // the segment of the watermark's frame is missing
		return nil, nil
	}
	var err error
	u.snapshots, err = segment.SnapshotsAfter(r.FS(), id, u.seq)
	if err != nil || len(u.rest)+len(u.segments)+len(u.snapshots) == 0 {
		return nil, err
	}
	return u, nil
}

// moveUnsynced moves a segment or a snapshot to quarantine/.
func (r *Recovery) moveUnsynced(dir, name string, u *unsynced) error {
	path := filepath.Join(r.dir, dir, name)
	info, err := os.Stat(path)
	if err == nil {
		err = overwrite(path, 0, nil) // a killed writer may have left the content only in the kernel's memory
	}
	if err == nil {
		err = r.quarantine(name, func(to string) error { return moveFile(path, to) }, quarantineReport{
			Segment: dir + "/" + name, Length: info.Size(), NextSeq: u.seq + 1, Reason: reasonUnsynced,
		})
	}
	if err != nil {
		return err
	}
	return syncDir(filepath.Join(r.dir, dir))
}

// cutUnsynced cuts off the bytes after the watermark's frame. It copies them to quarantine/ first.
func (r *Recovery) cutUnsynced(u *unsynced) error {
	path := filepath.Join(r.dir, segment.WALDir, u.segment)
	err := r.quarantine(fmt.Sprintf("%s-%d.unsynced", u.segment, u.end), func(to string) error { return createFile(to, u.rest) }, quarantineReport{
		Segment: u.segment, Offset: u.end, Length: int64(len(u.rest)), NextSeq: u.seq + 1, Reason: reasonUnsynced,
	})
	if err != nil {
		return err
	}
	if err := separate(path); err != nil { // a backup may have the same file
		return err
	}
	if err := os.Truncate(path, u.end); err != nil { //mutant:unsynced-cut
		return err
	}
	return overwrite(path, u.end, nil)
}

const reasonUnsynced = "above the watermark: the consensus engine delivers these events again"

// removeSummaries removes the summaries of the watermark's segment and of later ones. The log will
// write other frames there, and new summaries of them.
func (r *Recovery) removeSummaries(u *unsynced) error {
	names, err := segment.SummaryNames(r.FS())
	if err != nil {
		return err
	}
	dir := filepath.Join(r.dir, segment.SummaryDir)
	removed := false
	for _, name := range names {
		if name >= u.segment {
			removed = true
			if err := os.Remove(filepath.Join(dir, name)); err != nil {
				return err
			}
		}
	}
	if !removed {
		return nil
	}
	return syncDir(dir)
}
