package migrationlog

import (
	"bytes"
	"io"
	"io/fs"
	"path"
	"sync"
	"sync/atomic"
	"time"

	"migrationlog/eventlog/segment"
	"migrationlog/internal/summary"
)

// summaries writes the missing summaries of sealed segments, in the order of the segments. The work
// runs in a goroutine of its own, which ends when no segment is left. Neither Open nor a write waits
// for it.
type summaries struct {
	fsys    fs.FS         // the log's directory
	seen    uint64        // Log.SealedBefore when the leader last looked; only the leader uses it
	before  atomic.Uint64 // the segments with lower numbers are sealed
	running atomic.Bool   // held by the goroutine; guards handled
	handled uint64        // the segments with lower numbers were looked at
	stop    chan struct{} // closed by Close
	done    sync.WaitGroup
}

// The goroutine works in steps of about 0.05 ms with pauses, because the callers of a busy store wait
// for its processor.
const (
	summaryStepPause = 500 * time.Microsecond
	summaryStepBytes = 128 << 10 // of a segment that is read
)

func (u *summaries) init(fsys fs.FS, sealedBefore uint64) {
	u.fsys, u.seen, u.stop = fsys, sealedBefore, make(chan struct{})
	u.before.Store(sealedBefore)
}

// summarizeWhenDue starts the goroutine if a segment was sealed. Only the leader calls it.
func (s *Store) summarizeWhenDue() {
	if before := s.log.SealedBefore(); before != s.summaries.seen {
		s.summaries.seen = before
		s.summaries.before.Store(before)
		s.startSummaries()
	}
}

// startSummaries starts the goroutine, unless it runs already. A running one also handles the segments
// that were sealed meanwhile.
func (s *Store) startSummaries() {
	u := &s.summaries
	if !u.running.CompareAndSwap(false, true) {
		return
	}
	u.done.Add(1)
	go func() {
		defer u.done.Done()
		memory := summaryMemory{pause: func() { s.pauseSummaries(summaryStepPause) }}
		memory.builder.Pause = memory.pause
		for {
			before := u.before.Load()
			ended := s.summarizeBefore(before, &memory)
			u.running.Store(false)
			if !ended || u.before.Load() == before || !u.running.CompareAndSwap(false, true) {
				return
			}
		}
	}()
}

// summaryMemory is reused for each segment.
type summaryMemory struct {
	segment bytes.Buffer
	builder summary.Builder
	pause   func()
}

// read reads a segment. The bytes are valid until the next call.
func (m *summaryMemory) read(fsys fs.FS, name string) ([]byte, error) {
	f, err := fsys.Open(path.Join(segment.WALDir, name))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	m.segment.Reset()
	m.segment.Grow(int(info.Size()) + bytes.MinRead)
	for {
		n, err := io.CopyN(&m.segment, f, summaryStepBytes)
		if err == io.EOF {
			return m.segment.Bytes(), nil
		}
		if err != nil {
			return nil, err
		}
		if n == summaryStepBytes {
			m.pause()
		}
	}
}

// stopSummaries makes the goroutine end after its current segment, and waits for this. No leader may
// run any more.
func (s *Store) stopSummaries() {
	close(s.summaries.stop)
	s.summaries.done.Wait()
}

// summarizeBefore looks at the segments with numbers below before, and writes the missing summaries.
// It returns false after an error, and if Close was called.
func (s *Store) summarizeBefore(before uint64, memory *summaryMemory) bool {
	names, err := segment.Names(s.summaries.fsys)
	if err != nil {
		s.logSummary("", err)
		return false
	}
	for i, name := range names {
		first, _ := segment.ParseName(name)
		if first < s.summaries.handled {
			continue
		}
		if first >= before || i+1 == len(names) {
			break
		}
		started := time.Now()
		next, _ := segment.ParseName(names[i+1])
		if err := s.summarize(name, first, next, memory); err != nil {
			s.logSummary(name, err)
			return false
		}
		s.summaries.handled = next
		if !s.pauseSummaries(time.Since(started)) { // so that it takes at most half of the time
			return false
		}
	}
	return true
}

// pauseSummaries waits, and returns false if Close was called.
func (s *Store) pauseSummaries(d time.Duration) bool {
	select {
	case <-s.summaries.stop:
		return false
	case <-time.After(d):
		return true
	}
}

// summarize writes the summary of a segment, unless it has one. first and next are the numbers of the
// segment and of the one after it. A segment that is not intact gets no summary. If it has one from
// before the damage, that one stays, because it has the migrations of the lost events. A summary is
// also replaced if the segment after it begins with another frame than the summary names.
func (s *Store) summarize(name string, first, next uint64, memory *summaryMemory) error {
	fsys := s.summaries.fsys
	following, hasFollowing := segment.FirstHeaderCRC32C(fsys, segment.Name(next), s.uuid)
	//mutant:summary-of-next-segment
	if old, ok := summary.Open(fsys, s.uuid, name); ok && old.IsIntact() && (!hasFollowing || old.NextHeaderCRC32C == following) {
		matches, err := old.Matches(fsys, s.uuid)
		if err != nil || matches {
			return err
		}
	}
	data, err := memory.read(fsys, name)
	if err != nil {
		return err
	}
	built, ok := memory.builder.Build(data, s.uuid, first, summary.NewIndex(fsys, s.uuid).Migration)
	if !ok || built.LastSeq+1 != next { //mutant:damaged-not-summarized
		return nil
	}
	built.NextHeaderCRC32C = following
	memory.pause()
	return s.log.SaveSummary(built)
}

// logSummary logs the error of a summary. The log does not need the summary. As for logFailure, the
// caller must hold no lock and must not be in commitBatch.
func (s *Store) logSummary(name string, err error) {
	s.opts.Logger.Warn("migrationlog could not write a summary of a segment: queries read the whole segment and take longer until a later Open writes the summary", "dir", s.dir, "segment", name, "error", err)
}
