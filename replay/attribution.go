package replay

import (
	"io/fs"
	"path"
	"sort"

	"github.com/google/uuid"

	"migrationlog/eventlog/segment"
	"migrationlog/internal/summary"
)

// AttributeLosses looks up the migrations of lost events in the summaries of their segments, and
// attributes the events to them. Only these migrations are then in doubt. An event stays
// unattributed if it is in no summary that agrees with its segment.
//
// A summary never decides which events are lost. AttributeLosses reads the damaged segments again.
func (f *Fold) AttributeLosses(fsys fs.FS) {
	if f.attributed || f.View.ForgetsEnded() {
		return
	}
	f.attributed = true
	var lost []SeqRange // a copy, because View.Attribute changes the runs
	for first, last := range f.View.Unattributed() {
		lost = append(lost, SeqRange{First: first, Last: last})
	}
	if len(lost) == 0 {
		return
	}
	names, err := segment.SummaryNames(fsys)
	if err != nil {
		return // the events stay unattributed
	}
	for _, r := range lost {
		i := sort.SearchStrings(names, segment.Name(r.First+1)) - 1 // the last one that begins at or before it
		for i = max(i, 0); i < len(names) && names[i] <= segment.Name(r.Last); i++ {
			f.attribute(fsys, names[i], r)
		}
	}
}

// attribute attributes the lost events that are in one summary.
func (f *Fold) attribute(fsys fs.FS, name string, lost SeqRange) {
	s, ok := summary.Open(fsys, f.log, name)
	if !ok || lost.First > s.LastSeq {
		return
	}
	frames, hasFrames := s.Frames()
	migrations, hasMigrations := s.Migrations()
	//mutant:summary-agrees
	if !hasFrames || !hasMigrations || !agrees(fsys, f.log, name, frames) || !isFollowed(fsys, s.LastSeq) {
		return
	}
	for seq := max(lost.First, s.FirstSeq); seq <= min(lost.Last, s.LastSeq); seq++ {
		if i := frames.MigrationAt(seq); i < migrations.Len() {
			f.View.Attribute(seq, migrations.ID(i))
		}
	}
}

// isFollowed reports whether a segment begins after the last frame of a summary. The summary of a
// segment that a power cut has shortened is older than the frames that were written there since.
func isFollowed(fsys fs.FS, lastSeq uint64) bool {
	_, err := fs.Stat(fsys, path.Join(segment.WALDir, segment.Name(lastSeq+1)))
	return err == nil
}

// agrees reports whether each intact header of the segment has the checksum that the summary has for
// it. The summary of a diverged copy has other checksums. If the segment has no intact header,
// nothing shows that the summary belongs to it.
func agrees(fsys fs.FS, log uuid.UUID, name string, frames summary.Frames) bool {
	data, err := fs.ReadFile(fsys, path.Join(segment.WALDir, name))
	if err != nil {
		return false
	}
	first, _ := segment.ParseName(name)
	found := false
	for id := range segment.IntactHeaders(data, log, first) {
		frame, ok := frames.At(id.Seq)
		if !ok {
			continue // a misplaced frame of another segment
		}
		if frame.HeaderCRC32C != id.HeaderCRC32C {
			return false
		}
		found = true
	}
	return found
}
