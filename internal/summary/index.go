package summary

import (
	"io/fs"
	"sort"

	"github.com/google/uuid"

	"migrationlog/checkpoint"
	"migrationlog/eventlog/segment"
)

// Index looks up migrations in the summaries of a log. It keeps one summary in memory, so look-ups in
// the order of the numbers are fast. Of the summaries that are in no file it has the migrations that
// were added. It is not safe for concurrent use.
type Index struct {
	fsys  fs.FS
	log   uuid.UUID
	names []string // of the summaries, in the order of their segments

	name       string // of the summary in memory
	found      bool   // that summary is intact
	frames     Frames
	migrations Migrations

	added map[uint64]Migration // by the number of the latest event
}

// NewIndex returns an index of the summaries that the log has now.
func NewIndex(fsys fs.FS, log uuid.UUID) *Index {
	names, err := segment.SummaryNames(fsys)
	if err != nil {
		names = nil // without summaries, nothing is found
	}
	return &Index{fsys: fsys, log: log, names: names, added: map[uint64]Migration{}}
}

// Add adds the migrations of a summary that have not ended. A look-up removes the migration, because
// only one later segment has its next event.
func (x *Index) Add(s *Summary) {
	frames, ok := s.Frames()
	migrations, hasMigrations := s.Migrations()
	if !ok || !hasMigrations {
		return
	}
	latest := make([]uint64, migrations.Len()) // by migration
	for seq := s.FirstSeq; seq <= s.LastSeq; seq++ {
		latest[frames.MigrationAt(seq)] = seq
	}
	for i, seq := range latest {
		if m := migrations.At(i); !m.Ended {
			x.added[seq] = m
		}
	}
}

// Migration returns the incarnation that the frame with that number belongs to, and its state after the
// last event of the frame's segment. It returns false if the frame is in no intact summary that matches
// its segment and was not added, or belongs to a migration with another id. Migration is a Prior.
func (x *Index) Migration(seq uint64, id checkpoint.MigrationID) (Migration, bool) {
	if m, ok := x.added[seq]; ok && m.ID == id {
		delete(x.added, seq)
		return m, true
	}
	if !x.load(seq) {
		return Migration{}, false
	}
	f, ok := x.frames.At(seq)
	if !ok || f.Migration >= x.migrations.Len() || x.migrations.ID(f.Migration) != id {
		return Migration{}, false
	}
	return x.migrations.At(f.Migration), true
}

// load reads the summary of the segment that may have the frame.
func (x *Index) load(seq uint64) bool {
	i := sort.SearchStrings(x.names, segment.Name(seq+1)) - 1
	if i < 0 {
		return false
	}
	if x.names[i] == x.name {
		return x.found
	}
	x.name, x.found = x.names[i], false
	s, ok := Open(x.fsys, x.log, x.name)
	if !ok {
		return false
	}
	if matches, err := s.Matches(x.fsys, x.log); err != nil || !matches { // the segment may have other events now
		return false
	}
	var hasFrames, hasMigrations bool
	x.frames, hasFrames = s.Frames()
	x.migrations, hasMigrations = s.Migrations()
	x.found = hasFrames && hasMigrations
	return x.found
}
