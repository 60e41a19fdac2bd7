package migrationlog

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"time"

	"migrationlog/replay"
)

// Scrub reads the whole log while the store is in use, at Options.ScrubRate, and
// reports what would be found if it were opened now: a disk that goes bad is
// noticed before a restart depends on it. It covers every event that was visible
// when it began. What the store serves comes from memory and is not changed by
// what Scrub finds; nor is the log. So that a restart finds again what is lost, write it
// once more: each of s.Rows whose Seq is among the report's Lost, by
// s.Upsert(row.Checkpoint, Confirm(), Strict(), IfSeq(row.Seq)); and of the migrations in
// doubt those that have no row any more, by an Abort or a Remove with Confirm.
//
// It returns ErrClosed, an I/O error, or ctx's.
func (s *Store) Scrub(ctx context.Context) (replay.Report, error) {
	if s.queue.Closed() {
		return replay.Report{}, ErrClosed
	}
	visible := s.view.Load().LastSeq()

	reader, err := replay.OpenFS(pacedFS{os.DirFS(s.dir), ctx, s.opts.ScrubRate})
	if err != nil {
		return replay.Report{}, fmt.Errorf("scrub %s: %w", s.dir, err)
	}
	fold, err := reader.FoldTo(ctx, replay.Point{Seq: max(visible, 1)})
	if err != nil {
		return replay.Report{}, fmt.Errorf("scrub %s: %w", s.dir, err)
	}
	report := fold.Report()
	report.TornTail = nil // a write under way
	for _, d := range report.Damage {
		s.opts.Logger.Warn("migrationlog is damaged", "dir", s.dir, "damage", d.String())
	}
	return report, nil
}

// pacedFS reads files no faster than so many bytes per second.
type pacedFS struct {
	fs.FS
	ctx            context.Context
	bytesPerSecond int
}

func (p pacedFS) Open(name string) (fs.File, error) {
	f, err := p.FS.Open(name)
	return pacedFile{f, p}, err
}

func (p pacedFS) ReadDir(name string) ([]fs.DirEntry, error) { return fs.ReadDir(p.FS, name) }

func (p pacedFS) Stat(name string) (fs.FileInfo, error) { return fs.Stat(p.FS, name) }

type pacedFile struct {
	fs.File
	pace pacedFS
}

// Read reads at most a hundredth of a second's bytes, and waits for as long.
func (f pacedFile) Read(b []byte) (int, error) {
	n, err := f.File.Read(b[:min(len(b), max(1, f.pace.bytesPerSecond/100))])
	if n == 0 || err != nil {
		return n, err
	}
	select {
	case <-f.pace.ctx.Done():
		return n, f.pace.ctx.Err()
	case <-time.After(time.Duration(n) * time.Second / time.Duration(f.pace.bytesPerSecond)):
		return n, nil
	}
}
