package replay

import (
	"context"
	"errors"
	"io/fs"
	"iter"
	"path"
	"runtime"
	"slices"
	"sort"

	"migrationlog/checkpoint"
	"migrationlog/eventlog/segment"
	"migrationlog/internal/summary"
	"migrationlog/replay/histogram"
)

// Totals has the counts of a whole log.
type Totals struct {
	summary.Totals
	// Stays has, for each phase, the lengths in ms of the stays that ended in a later phase or, in
	// phase Complete, in a removal.
	Stays    [checkpoint.PhaseComplete + 1]histogram.Histogram
	Coverage Coverage
	// Partial is the number of segments with moves whose earlier events are not in the log, or not
	// intact. The counts lack the phase, the target and the stays of these moves.
	Partial int
}

// Totals returns the counts of the log. It reads the segments that have no summary, and of the others
// only the summaries. Lost events are not counted.
func (r *Reader) Totals(ctx context.Context) (t Totals, err error) {
	var sum summary.Sum
	stays := func(s *summary.Summary, built bool) (any, bool) {
		if !built && s.IsPartial() { // more events may be known now
			return nil, false
		}
		return s.Stays()
	}
	for s, part := range r.summaries(ctx, stays, &t.Coverage, &err) {
		sum.Add(s.Totals())
		if s.IsPartial() {
			t.Partial++
		}
		stays := part.([checkpoint.PhaseComplete + 1]histogram.Encoded)
		for phase := checkpoint.PhaseAddLearner; phase <= checkpoint.PhaseComplete; phase++ {
			t.Stays[phase].MergeEncoded(stays[phase])
		}
	}
	t.Totals = sum.Finish()
	return t, err
}

// FindIDs returns the ids of the log's migrations that match, sorted and without repetitions. It
// reads the segments that have no summary, and of the others only the summaries.
func (r *Reader) FindIDs(ctx context.Context, matches func(checkpoint.MigrationID) bool, covered *Coverage) (found []checkpoint.MigrationID, err error) {
	migrations := func(s *summary.Summary, _ bool) (any, bool) { return s.Migrations() }
	for _, part := range r.summaries(ctx, migrations, covered, &err) {
		migrations := part.(summary.Migrations)
		for i := range migrations.Len() {
			if id := migrations.ID(i); id != checkpoint.StoreID && matches(id) {
				found = append(found, id)
			}
		}
	}
	slices.SortFunc(found, func(a, b checkpoint.MigrationID) int { return slices.Compare(a[:], b[:]) })
	return slices.Compact(found), err
}

// errEnough ends the reading of segments.
var errEnough = errors.New("the caller has stopped")

// summaries yields the summaries of all segments in order, and the part of each that get returns. It
// builds those that are missing, that do not match their segments, or whose part is damaged. A damaged
// segment without a summary gets one for each run of intact frames. After an I/O error, or if ctx is
// canceled, it sets err and ends. The pointer covered may be nil.
func (r *Reader) summaries(ctx context.Context, get func(s *summary.Summary, built bool) (any, bool), covered *Coverage, err *error) iter.Seq2[*summary.Summary, any] {
	return func(yield func(*summary.Summary, any) bool) {
		names, e := segment.Names(r.fsys)
		if e != nil {
			*err = e
			return
		}
		prior := r.newPriorEvents(names)
		for l := range r.loaded(names, get) {
			covered.count(l.summary == nil)
			e := ctx.Err()
			if e == nil && l.summary != nil {
				if !yield(l.summary, l.part) {
					return
				}
			} else if e == nil {
				e = r.build(l.name, prior, func(built *summary.Summary) bool {
					part, ok := get(built, true)
					return !ok || yield(built, part)
				})
			}
			if e != nil {
				if !errors.Is(e, errEnough) {
					*err = e
				}
				return
			}
		}
	}
}

// loadedSummary is a summary in a file and a part of it, or the name of a segment that has none.
type loadedSummary struct {
	name    string
	summary *summary.Summary
	part    any
}

// loaded yields the summaries of the segments in order. Several goroutines read them.
func (r *Reader) loaded(names []string, get func(s *summary.Summary, built bool) (any, bool)) iter.Seq[loadedSummary] {
	return func(yield func(loadedSummary) bool) {
		results := make(chan chan loadedSummary, runtime.GOMAXPROCS(0))
		stop := make(chan struct{})
		defer close(stop)
		go func() {
			defer close(results)
			for i, name := range names {
				result := make(chan loadedSummary, 1)
				select {
				case results <- result:
				case <-stop:
					return
				}
				go func() { result <- r.load(name, i+1 == len(names), get) }()
			}
		}()
		for result := range results {
			if !yield(<-result) {
				return
			}
		}
	}
}

func (r *Reader) load(name string, isLast bool, get func(s *summary.Summary, built bool) (any, bool)) loadedSummary {
	if isLast { // it may be growing
		return loadedSummary{name: name}
	}
	if s := r.index.summaryOf(name); s != nil {
		if part, ok := get(s, false); ok {
			return loadedSummary{name, s, part}
		}
	}
	return loadedSummary{name: name}
}

// build calls visit with a summary of each run of intact frames of a segment, and adds it to prior.
func (r *Reader) build(name string, prior *priorEvents, visit func(*summary.Summary) bool) error {
	data, err := fs.ReadFile(r.fsys, path.Join(segment.WALDir, name))
	if err != nil {
		return err
	}
	prior.built[name] = true
	for run := range segment.Runs(data, r.dir.Manifest.UUID) {
		built, ok := summary.Build(run.Data, r.dir.Manifest.UUID, run.FirstSeq, prior.migration)
		if !ok {
			continue
		}
		if s, ok := summary.Of(built); ok {
			prior.index.Add(s)
			if !visit(s) {
				return errEnough
			}
		}
	}
	return prior.err
}

// priorEvents looks up the migrations of earlier segments. It needs memory for the migrations that had
// not ended at the end of a segment without a summary.
type priorEvents struct {
	reader *Reader
	index  *summary.Index
	names  []string        // of all segments
	built  map[string]bool // segments whose migrations were added to the index
	err    error           // of reading a segment
}

func (r *Reader) newPriorEvents(names []string) *priorEvents {
	return &priorEvents{reader: r, index: summary.NewIndex(r.fsys, r.dir.Manifest.UUID), names: names, built: map[string]bool{}}
}

// migration is a summary.Prior. If the part of a summary with the migrations is damaged, it reads the
// segment.
func (p *priorEvents) migration(seq uint64, id checkpoint.MigrationID) (summary.Migration, bool) {
	if m, ok := p.index.Migration(seq, id); ok {
		return m, true
	}
	i := sort.SearchStrings(p.names, segment.Name(seq+1)) - 1
	if i < 0 || p.built[p.names[i]] || p.err != nil {
		return summary.Migration{}, false
	}
	p.err = p.reader.build(p.names[i], p, func(*summary.Summary) bool { return true })
	return p.index.Migration(seq, id)
}

// count adds a segment that was read or only looked up. The receiver may be nil.
func (c *Coverage) count(read bool) {
	switch {
	case c == nil:
	case read:
		c.Read++
	default:
		c.Unchecked++
	}
}
