package migrationlog

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"migrationlog/replay"
)

// Scrub reads the whole log while the store is in use, at Options.ScrubRate, and reports the damage
// that Open would find now. A failing disk is therefore noticed before a restart depends on it. The
// report covers every event that was visible when Scrub started. Scrub changes neither the log nor
// the rows in memory.
//
// Events reported as Lost are still in memory. To keep them across a restart, write them again:
//
//   - Upsert(row.Checkpoint, Confirm(), Strict(), IfSeq(row.LastSeq)) for each of Rows whose Seq is
//     Lost. If Store.Epoch is not 0, add Epoch(Store.Epoch())
//   - BeginAbort with the reason and the compensations of row.Facts.Abort, and Compensated for each
//     step that is done, both with Confirm, for each of Rows with an abort under way
//   - Abort or Remove, with Confirm, for each migration that is InDoubt and has no row
//
// This keeps the rows. If an AddLearner was lost, its facts are in memory only: write it again too,
// as docs/EMBEDDING.md shows. A clean Close keeps the facts as well, in a snapshot, unless Open had
// found lost events that no snapshot covers (see Close).
//
// These writes change the Seq of a row, so no other goroutine may write the row meanwhile. Later
// reports contain the same losses again: keep the numbers that were handled.
//
// Scrub returns ErrClosed, an I/O error, or ctx's error.
func (s *Store) Scrub(ctx context.Context) (replay.Report, error) {
	if s.queue.Closed() {
		return replay.Report{}, ErrClosed
	}
	visible := s.view.Load().LastSeq()

	reader, err := replay.OpenFS(pacedFS{os.DirFS(s.dir), ctx, s.opts.ScrubRate})
	if err == nil {
		err = s.checkSameLog(reader)
	}
	if err != nil {
		return replay.Report{}, fmt.Errorf("scrub %s: %w", s.dir, err)
	}
	fold, err := reader.FoldAllTo(ctx, replay.Point{Seq: max(visible, 1)})
	if err != nil {
		return replay.Report{}, fmt.Errorf("scrub %s: %w", s.dir, err)
	}
	report := fold.Report()
	report.TornTail = nil // it is a write in progress
	s.logDamage(report)
	return report, nil
}

// pacedFS limits the rate at which files are read.
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

// Read reads at most the bytes of 10 ms, and then waits for the time that they may take.
func (f pacedFile) Read(b []byte) (int, error) {
	n, err := f.File.Read(b[:min(len(b), max(1, f.pace.bytesPerSecond/100))])
	return f.wait(n, err)
}

// ReadAt reads a part of a small file, a segment's summary, and then waits as Read does.
func (f pacedFile) ReadAt(b []byte, offset int64) (int, error) {
	at, ok := f.File.(io.ReaderAt)
	if !ok {
		return 0, fmt.Errorf("%w: the file cannot be read at an offset", fs.ErrInvalid)
	}
	n, err := at.ReadAt(b, offset)
	return f.wait(n, err)
}

// wait waits for the time that n bytes may take. It returns the results of the read.
func (f pacedFile) wait(n int, err error) (int, error) {
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
