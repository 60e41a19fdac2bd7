package replay

import (
	"io/fs"
	"path"
	"sort"

	"github.com/google/uuid"

	"migrationlog/checkpoint"
	"migrationlog/eventlog/segment"
	"migrationlog/internal/summary"
)

// AttributeLosses looks up the migrations of lost events in the summaries of their segments, and
// attributes the events to them. Only these migrations are then in doubt. An event stays
// unattributed if no summary agrees with its segment up to a frame after the event.
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
	if !hasFrames || !hasMigrations || f.linksContradict(frames, migrations) {
		return
	}
	through := agreesThrough(fsys, f.log, s.SummaryHead, frames)
	for seq := max(lost.First, s.FirstSeq); seq <= min(lost.Last, through); seq++ {
		if i := frames.MigrationAt(seq); i < migrations.Len() {
			f.View.Attribute(seq, migrations.ID(i))
		}
	}
}

// addLink records the migration of a lost event to which an intact event is linked.
func (f *Fold) addLink(r Record) {
	lost := f.losses.Lost()
	i := sort.Search(len(lost), func(i int) bool { return lost[i].Last >= r.PrevSeq })
	if i == len(lost) || lost[i].First > r.PrevSeq {
		return
	}
	if f.links == nil {
		f.links = make(map[uint64]checkpoint.MigrationID)
	}
	if f.links[r.PrevSeq], _ = r.Migration(); r.Kind() == KindDigest {
		f.links[r.PrevSeq] = checkpoint.StoreID
	}
}

// linksContradict reports whether an intact event is linked to a lost event that the summary gives to
// another migration. The summary then describes other frames.
func (f *Fold) linksContradict(frames summary.Frames, migrations summary.Migrations) bool {
	for seq, id := range f.links {
		//mutant:links-contradict
		if frame, ok := frames.At(seq); ok && (frame.Migration >= migrations.Len() || migrations.ID(frame.Migration) != id) {
			return true
		}
	}
	return false
}

// agreesThrough returns the number up to which a summary describes the frames of its segment, or 0.
//
// A diverged copy of the log has the same frames up to the point at which the copies diverged, so
// intact frames before a lost one prove nothing about it. The number is therefore that of the last
// intact header that has the checksum of the summary. If the next segment begins with the header
// that the summary names, it is the number of the segment's last frame. No intact header may
// have another checksum, and at least one in the segment must be intact. If the segment was cut
// short, only the next segment proves that the summary describes this segment and not a shorter one.
func agreesThrough(fsys fs.FS, log uuid.UUID, head segment.SummaryHead, frames summary.Frames) uint64 {
	next := segment.Name(head.LastSeq + 1)
	if _, err := fs.Stat(fsys, path.Join(segment.WALDir, next)); err != nil {
		return 0 // a power cut may have shortened the segment, and other frames were written since
	}
	nextCRC32C, isFollowed := segment.FirstHeaderCRC32C(fsys, next, log)
	//mutant:summary-names-next
	if isFollowed && nextCRC32C != head.NextHeaderCRC32C {
		return 0
	}
	data, err := fs.ReadFile(fsys, path.Join(segment.WALDir, head.Name()))
	//mutant:summary-same-size
	if sizeBytes := int64(len(data)); err != nil || sizeBytes > head.SizeBytes || sizeBytes < head.SizeBytes && !isFollowed {
		return 0
	}
	through := lastAgreeing(data, log, head.FirstSeq, frames)
	if through > 0 && isFollowed { //mutant:evidence-after-the-loss
		through = head.LastSeq
	}
	return through
}

// lastAgreeing returns the highest number of an intact header in the content of a segment. It returns
// 0 if the segment has none, or if the summary has another checksum for one of them.
func lastAgreeing(data []byte, log uuid.UUID, first uint64, frames summary.Frames) (last uint64) {
	for id := range segment.IntactHeaders(data, log, first) {
		frame, ok := frames.At(id.Seq)
		if !ok {
			continue // a misplaced frame of another segment
		}
		//mutant:summary-agrees
		if frame.HeaderCRC32C != id.HeaderCRC32C {
			return 0
		}
		last = max(last, id.Seq)
	}
	return last
}
