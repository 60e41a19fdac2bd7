package summary

import (
	"io/fs"
	"slices"

	"github.com/google/uuid"

	"migrationlog/checkpoint"
	"migrationlog/eventlog/segment"
	"migrationlog/replay/histogram"
)

// The sections of a summary. The first two are small, and Open reads them with the head.
const (
	sectionTotals = iota
	sectionFilter
	sectionStays
	sectionMigrations
	sectionFrames
)

// Summary answers questions about the events of one segment. It does not change, so several
// goroutines may use it.
//
// A summary describes the segment as it was when the summary was built. If the segment was damaged
// or replaced since, the summary still describes the earlier content: see Matches.
type Summary struct {
	segment.SummaryHead
	sections sections
	totals   Totals
	filter   filter
}

// sections is a segment.Summary or a segment.SummaryFile.
type sections interface {
	Section(i int) ([]byte, bool)
}

// Open reads the head, the totals and the filter of a segment's summary from index/. It returns false
// if the log has no intact summary of that segment in this version. The reader then reads the
// segment.
func Open(fsys fs.FS, log uuid.UUID, segmentName string) (*Summary, bool) {
	file, ok := segment.OpenSummary(fsys, segmentName, log)
	if !ok {
		return nil, false
	}
	return OfFile(file)
}

// OfFile returns the summary in a file. It returns false if the totals or the filter are damaged.
func OfFile(file *segment.SummaryFile) (*Summary, bool) {
	s, ok := decode(file.SummaryHead, file)
	if !ok {
		return nil, false
	}
	return s, true
}

// Of returns a summary that Build has built, without a file.
func Of(s segment.Summary) (*Summary, bool) { return decode(s.SummaryHead, s) }

func decode(head segment.SummaryHead, from sections) (*Summary, bool) {
	s := &Summary{SummaryHead: head, sections: from}
	totals, ok := from.Section(sectionTotals)
	if ok {
		s.totals, ok = decodeTotals(totals)
	}
	if !ok {
		return nil, false
	}
	filter, ok := from.Section(sectionFilter)
	if ok {
		s.filter, ok = decodeFilter(filter)
	}
	return s, ok
}

// MayContain reports whether the segment may have an event of the migration. If it returns false, the
// segment has none. It returns true for one in 256 other migrations by mistake.
func (s *Summary) MayContain(id checkpoint.MigrationID) bool { return s.filter.mayContain(id) }

// Totals returns the counts of the segment's events. The caller must not change its slices.
func (s *Summary) Totals() Totals { return s.totals }

// Stays returns, for each phase, the lengths of the finished stays that ended in the segment. A stay
// runs from a checkpoint to the next checkpoint, abort or removal of its incarnation. It is finished
// if it ended in a later phase or, in phase Complete, in a removal. A stay during which the clock went
// back counts as 0 ms. A stay whose beginning is not known is left out. Stays reads from the file. It
// returns false if that part of the file is missing or damaged.
func (s *Summary) Stays() (stays [checkpoint.PhaseComplete + 1]histogram.Encoded, ok bool) {
	b, ok := s.sections.Section(sectionStays)
	if !ok {
		return stays, false
	}
	for phase := checkpoint.PhaseAddLearner; phase <= checkpoint.PhaseComplete; phase++ {
		h, rest, err := histogram.Split(b)
		if err != nil {
			return stays, false
		}
		stays[phase], b = h, rest
	}
	return stays, len(b) == 0
}

// Migrations returns the migrations that have events in the segment. It reads from the file. It
// returns false if that part of the file is missing or damaged.
func (s *Summary) Migrations() (Migrations, bool) {
	b, ok := s.sections.Section(sectionMigrations)
	if !ok {
		return Migrations{}, false
	}
	return decodeMigrations(b)
}

// Frames returns the frames of the segment. It reads from the file. It returns false if that part of
// the file is missing or damaged.
func (s *Summary) Frames() (Frames, bool) {
	b, ok := s.sections.Section(sectionFrames)
	if !ok {
		return Frames{}, false
	}
	return decodeFrames(b, s.FirstSeq, s.LastSeq)
}

// IsPartial reports whether the segment has migrations whose earlier events could not be looked up. It
// reads from the file if the totals do not exclude it.
func (s *Summary) IsPartial() bool {
	if !s.totals.AnyVShard || !s.totals.AnyNode {
		return false
	}
	migrations, ok := s.Migrations()
	return !ok || slices.ContainsFunc(migrations.flags, func(flags byte) bool { return flags&flagPartial != 0 })
}

// IsIntact reads all sections and reports whether none is damaged.
func (s *Summary) IsIntact() bool {
	_, stays := s.Stays()
	migrations, ok := s.Migrations()
	frames, hasFrames := s.Frames()
	return stays && ok && hasFrames && frames.migrations() <= migrations.Len()
}
