package replay

import (
	"io/fs"
	"slices"
	"sync"

	"github.com/google/uuid"

	"migrationlog/eventlog/segment"
	"migrationlog/internal/summary"
)

// Index keeps the summaries of a log's segments in memory: their totals and their filters of
// migrations. It reads a summary when it is first needed. An Index is safe for concurrent use.
//
// An Index uses a summary only if the size and the last header of the segment match it. It checks
// this once.
type Index struct {
	fsys fs.FS
	log  uuid.UUID

	openAll sync.Once
	mu      sync.Mutex
	entries map[string]*indexEntry // by segment
}

// indexEntry is the summary of one segment.
type indexEntry struct {
	file   *segment.SummaryFile
	decode func() *summary.Summary // nil if the summary is damaged
}

// NewIndex returns an empty index of a log.
func NewIndex(fsys fs.FS, log uuid.UUID) *Index {
	return &Index{fsys: fsys, log: log, entries: make(map[string]*indexEntry)}
}

// entryOf returns the entry of a segment, or nil if the segment must be read. The first call opens
// all summaries with several goroutines.
func (x *Index) entryOf(name string) *indexEntry {
	x.openAll.Do(func() {
		names, _ := segment.SummaryNames(x.fsys) // if this fails, they are opened one by one
		var openers sync.WaitGroup
		for part := range slices.Chunk(names, summariesPerOpener) {
			openers.Go(func() {
				for _, name := range part {
					x.open(name)
				}
			})
		}
		openers.Wait()
	})
	x.mu.Lock()
	e := x.entries[name]
	x.mu.Unlock()
	if e != nil {
		return e
	}
	return x.open(name)
}

// summariesPerOpener is the number of summaries that one goroutine opens. Opening one takes about as
// long as starting some goroutines.
const summariesPerOpener = 32

// open opens the summary of a segment, or returns nil.
func (x *Index) open(name string) *indexEntry {
	file, ok := segment.OpenSummary(x.fsys, name, x.log)
	if !ok {
		return nil // a writer may be about to write the summary
	}
	if matches, err := file.Matches(x.fsys, x.log); err != nil || !matches { //mutant:index-matches
		return nil
	}
	e := &indexEntry{file: file, decode: sync.OnceValue(func() *summary.Summary {
		s, _ := summary.OfFile(file)
		return s
	})}
	x.mu.Lock()
	x.entries[name] = e
	x.mu.Unlock()
	return e
}

// summaryOf returns the summary of a segment, or nil if the segment must be read.
func (x *Index) summaryOf(name string) *summary.Summary {
	if e := x.entryOf(name); e != nil {
		return e.decode()
	}
	return nil
}

// Summarized reports whether all segments but the last one have a summary that matches them. Search then
// reads few segments.
func (r *Reader) Summarized() bool {
	names, err := segment.Names(r.fsys)
	if err != nil || len(names) == 0 {
		return false
	}
	return !slices.ContainsFunc(names[:len(names)-1], func(name string) bool { return r.index.entryOf(name) == nil })
}

// onlyRange returns the function for segment.ScanOptions.Only that leaves out the segments without a
// frame from one number to another one. If to is 0, there is no upper limit.
func (x *Index) onlyRange(from, to uint64) func(name string) (seqs []uint64, lastSeq uint64, ok bool) {
	return func(name string) ([]uint64, uint64, bool) {
		e := x.entryOf(name)
		if e == nil || e.file.LastSeq >= from && (to == 0 || e.file.FirstSeq <= to) {
			return nil, 0, false
		}
		return nil, e.file.LastSeq, true
	}
}

// only returns the function for segment.ScanOptions.Only that selects frames by the summaries.
func (x *Index) only(choose func(*summary.Summary) (seqs []uint64, ok bool)) func(name string) (seqs []uint64, lastSeq uint64, ok bool) {
	return func(name string) ([]uint64, uint64, bool) {
		s := x.summaryOf(name)
		if s == nil {
			return nil, 0, false
		}
		seqs, ok := choose(s)
		return seqs, s.LastSeq, ok
	}
}
