package replay

import (
	"context"
	"errors"
	"io/fs"
	"iter"
	"maps"
	"path"

	"migrationlog/checkpoint"
	"migrationlog/eventlog/segment"
	"migrationlog/internal/summary"
	"migrationlog/projection"
)

// Found is a record that Search yields.
type Found struct {
	Record
	Selected bool // false for damage that the query does not select
	// Row is the row of the record's migration: the one after the record or, if the record ended it,
	// the one before. It is set only with SearchOptions.Rows, and if HasRow is true.
	Row    projection.Row
	HasRow bool
}

// SearchOptions configure Search.
type SearchOptions struct {
	Rows    bool      // yield the rows too
	Covered *Coverage // set when the sequence ends, unless it is nil
}

// Search yields the records that Find yields, and all damage that it finds on its way. With rows,
// it also reads the earlier events of the selected migrations, and does not yield records that a
// writer has appended since Search began.
func (r *Reader) Search(ctx context.Context, q Query, o SearchOptions) iter.Seq2[Found, error] {
	opts := segment.ScanOptions{From: q.firstSeq(), CheckEnds: true}
	picks := &picker{reader: r, query: q}
	switch {
	case q.needsRows() || o.Rows:
		opts.From, opts.Only = 0, picks.only
	case q.isNarrow():
		opts.Only = r.index.only(q.choose)
	case len(q.Kinds) == 0 && q.FromSeq+q.ToSeq > 0:
		opts.Only = r.index.onlyRange(q.FromSeq, q.ToSeq)
	}
	excludes := q.excludes
	if o.Rows {
		excludes = func([]byte) bool { return false }
	}
	return func(yield func(Found, error) bool) {
		scan := segment.NewScan(r.fsys, r.dir, opts)
		if o.Covered != nil {
			defer func() { *o.Covered = coverageOf(scan) }()
		}
		m := NewMatcher(q)
		m.partial = true
		for rec, err := range decoded(ctx, scan, excludes) {
			if err != nil {
				yield(Found{}, err)
				return
			}
			if (Point{Seq: q.ToSeq}).Before(rec) || picks.isLater(rec) {
				return
			}
			if found := m.find(rec, o.Rows); (found.Selected || rec.Damage != nil) && !yield(found, nil) {
				return
			}
		}
	}
}

// SearchLast returns the last n selected records of Search, with the damage between them and after
// them. If fewer records are selected, it returns all of them. It begins with the last segment, and
// reads earlier segments until it has n records.
func (r *Reader) SearchLast(ctx context.Context, q Query, n int, o SearchOptions) (last []Found, err error) {
	selected := 0
	err = r.searchBack(ctx, q, o, func(found []Found, fromSeq uint64) (enough bool) {
		last, selected = found, 0
		for i := len(found) - 1; i >= 0; i-- {
			if found[i].Selected {
				if selected++; selected == n {
					last = found[i:]
					return true
				}
			}
		}
		return false
	})
	return last, err
}

// NewestMigration returns the migration that began last on a vShard. If the beginnings of all
// migrations of the vShard are lost, it returns the first one. It returns false if there is none.
func (r *Reader) NewestMigration(ctx context.Context, vShardID uint32) (id checkpoint.MigrationID, ok bool, err error) {
	q := Query{VShards: []uint32{vShardID}, Kinds: []Kind{KindCheckpoint, KindRestored}}
	err = r.searchBack(ctx, q, SearchOptions{}, func(found []Found, fromSeq uint64) (enough bool) {
		for _, f := range found {
			if f.Damage == nil && (f.PrevSeq == 0 || !ok && fromSeq <= 1) {
				id, ok = f.Event.Migration(), true
			}
		}
		return ok
	})
	return id, ok, err
}

// searchBack calls visit with the records of the last segment, then with those of the last two
// segments, of the last four, and so on. It ends if visit returns true, or if visit got the records
// of all segments. fromSeq is the lowest number that was searched for these records.
func (r *Reader) searchBack(ctx context.Context, q Query, o SearchOptions, visit func(found []Found, fromSeq uint64) (enough bool)) error {
	names, err := segment.Names(r.fsys)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for segments := 1; ; segments *= 2 {
		part := q
		if segments < len(names) {
			first, _ := segment.ParseName(names[len(names)-segments])
			part.FromSeq = max(q.FromSeq, first)
		}
		var found []Found
		for f, err := range r.Search(ctx, part, o) {
			if err != nil {
				return err
			}
			found = append(found, f)
		}
		if visit(found, part.FromSeq) || part.FromSeq == q.FromSeq {
			return nil
		}
	}
}

// picker picks the frames of a query that needs rows: the frames that the query may select, and the
// earlier frames of their migrations. It goes through the segments from the last one to the first
// one.
type picker struct {
	reader *Reader
	query  Query
	// The events of these migrations are also needed: before FromSeq and after ToSeq.
	before, after map[checkpoint.MigrationID]bool

	done    bool
	picked  map[string]pick // by segment; the others must be read
	lastSeq uint64          // the last event of the log when it was done

	// needed has the migrations whose events in earlier segments may be needed. The value is true if
	// all these events are needed. It is false if they are needed only with a selected vShard or node.
	needed map[checkpoint.MigrationID]bool
}

// pick has the picked frames of a segment.
type pick struct {
	seqs    []uint64
	lastSeq uint64
}

// only is the function for segment.ScanOptions.Only.
func (p *picker) only(name string) (seqs []uint64, lastSeq uint64, ok bool) {
	if !p.done {
		p.done = true
		p.pickAll()
	}
	picked, ok := p.picked[name]
	return picked.seqs, picked.lastSeq, ok
}

// isLater reports whether a writer has appended the record after the frames were picked. The
// earlier events of its migration may not be picked.
func (p *picker) isLater(r Record) bool {
	return p.lastSeq != 0 && r.Damage == nil && r.Seq > p.lastSeq
}

// pickAll picks the frames of all segments. If it cannot read one, the scan reads all segments, and
// returns the error.
func (p *picker) pickAll() {
	names, err := segment.Names(p.reader.fsys)
	if err != nil {
		return
	}
	p.picked, p.needed = make(map[string]pick), make(map[checkpoint.MigrationID]bool)
	last := len(names) - 1
	summarized := 0 // before this segment, no segment has a summary, and all of them are read
	for summarized < last && p.reader.index.entryOf(names[summarized]) == nil {
		summarized++
	}
	for i := last; i >= summarized; i-- {
		if first, _ := segment.ParseName(names[i]); first <= p.query.FromSeq {
			maps.Copy(p.needed, p.before)
			p.before = nil
		}
		var s *summary.Summary
		if i < last { // the last one may be growing
			if lastSeq, outside := p.outside(names[i]); outside {
				p.picked[names[i]] = pick{nil, lastSeq}
				continue
			}
			s = p.reader.index.summaryOf(names[i])
		}
		if s != nil {
			seqs, few, ok := p.pick(s)
			if few {
				p.picked[names[i]] = pick{seqs, s.LastSeq}
			}
			if ok {
				continue
			}
		}
		first, _ := segment.ParseName(names[i])
		if q := p.query; i == last && q.ToSeq != 0 && q.ToSeq < first && len(p.after) == 0 {
			p.lastSeq = q.ToSeq
			continue
		}
		lastSeq, err := p.visitRuns(names[i])
		if err != nil {
			p.picked = nil
			return
		}
		if i == last {
			p.lastSeq = max(first-1, lastSeq)
		}
	}
}

// outside reports whether the numbers of a summarized segment are outside the query and no later
// segment needs one of its events. It returns the number of its last event.
func (p *picker) outside(name string) (lastSeq uint64, outside bool) {
	e := p.reader.index.entryOf(name)
	if e == nil || len(p.needed)+len(p.after) > 0 || p.query.includesAny(e.file.SummaryHead) {
		return 0, false
	}
	return e.file.LastSeq, true
}

// visitRuns finds the migrations that need earlier events in a segment without a summary, which the
// scan reads completely. It returns the number of the last intact frame.
func (p *picker) visitRuns(name string) (lastSeq uint64, err error) {
	data, err := fs.ReadFile(p.reader.fsys, path.Join(segment.WALDir, name))
	if err != nil {
		return 0, err
	}
	log := p.reader.dir.Manifest.UUID
	unknown := func(uint64, checkpoint.MigrationID) (summary.Migration, bool) { return summary.Migration{}, false }
	var runs []*summary.Summary
	for run := range segment.Runs(data, log) {
		if built, ok := summary.Build(run.Data, log, run.FirstSeq, unknown); ok {
			if s, ok := summary.Of(built); ok {
				runs = append(runs, s)
				lastSeq = max(lastSeq, s.LastSeq)
			}
		}
	}
	for i := len(runs) - 1; i >= 0; i-- {
		p.pick(runs[i])
	}
	return lastSeq, nil
}

// pick returns the numbers of the frames of a segment that are needed. few is false if the scan
// reads the whole segment instead. ok is false if a part of the summary is damaged.
func (p *picker) pick(s *summary.Summary) (seqs []uint64, few, ok bool) {
	q := p.query
	mayMatch, mayBeNeeded := q.mayMatch(s, s.Totals()), mayContainAny(s, p.needed)
	if q.ToSeq != 0 && s.LastSeq > q.ToSeq {
		mayBeNeeded = mayBeNeeded || mayContainAny(s, p.after)
	}
	if !mayMatch && !mayBeNeeded {
		return nil, true, true
	}
	frames, hasFrames := s.Frames()
	migrations, hasMigrations := s.Migrations()
	if !hasFrames || !hasMigrations {
		return nil, false, false
	}
	matched := make([]bool, migrations.Len())
	if mayMatch {
		matched = q.matched(s, frames, migrations)
	}
	chosen := p.addNeeded(migrations, matched)
	if q.ToSeq != 0 && s.LastSeq > q.ToSeq {
		for i := range chosen {
			chosen[i] = chosen[i] || p.after[migrations.ID(i)]
		}
	}
	for i := range frames.Len() {
		seq := s.FirstSeq + uint64(i)
		if m := frames.MigrationAt(seq); m >= len(chosen) || chosen[m] {
			seqs = append(seqs, seq)
		}
	}
	return seqs, len(seqs) <= frames.Len()/maxPickedFraction, true
}

func mayContainAny(s *summary.Summary, ids map[checkpoint.MigrationID]bool) bool {
	for id := range ids {
		if s.MayContain(id) {
			return true
		}
	}
	return false
}

// matched returns, for each migration of a segment, whether the query may select one of its frames.
func (q Query) matched(s *summary.Summary, frames summary.Frames, migrations summary.Migrations) []bool {
	candidate, matched := make([]bool, migrations.Len()), make([]bool, migrations.Len())
	found := false
	for i := range candidate {
		candidate[i] = allows(q.Migrations, migrations.ID(i)) && (!q.needsRows() || q.mayHaveRow(migrations.At(i)))
		found = found || candidate[i]
	}
	if !found {
		return matched
	}
	for i := range frames.Len() {
		seq := s.FirstSeq + uint64(i)
		if m := frames.MigrationAt(seq); m < len(candidate) && candidate[m] && !matched[m] {
			f, _ := frames.At(seq)
			matched[m] = q.mayMatchFrame(seq, f)
		}
	}
	return matched
}

// addNeeded returns the incarnations whose frames are needed. These are all incarnations of an id
// if one of them is matched or a later segment needs them. addNeeded updates needed for the earlier
// segments.
func (p *picker) addNeeded(migrations summary.Migrations, matched []bool) (chosen []bool) {
	ids := make(map[checkpoint.MigrationID]bool) // the chosen ones; true: an earlier segment has events of the id
	sure := make(map[checkpoint.MigrationID]bool)
	for i := range matched {
		id := migrations.ID(i)
		isSure, isNeeded := p.needed[id]
		if !isNeeded && !matched[i] {
			continue
		}
		m := migrations.At(i)
		if isNeeded && !isSure && !matched[i] && !p.query.mayHaveRow(m) {
			continue
		}
		ids[id] = ids[id] || !m.Began
		m.Partial = false // only the events of this segment
		sure[id] = sure[id] || isSure || !p.query.needsRows() || p.query.mayHaveRow(m)
	}
	chosen = make([]bool, len(matched))
	for i := range chosen {
		id := migrations.ID(i)
		_, chosen[i] = ids[id]
		delete(p.needed, id)
	}
	for id, beganEarlier := range ids {
		if beganEarlier {
			p.needed[id] = sure[id]
		}
	}
	return chosen
}
