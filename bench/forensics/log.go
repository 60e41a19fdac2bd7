package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"migrationlog"
	"migrationlog/bench/eventgen"
	"migrationlog/bench/peer"
	"migrationlog/eventlog/segment"
)

// liveMigrations is the number of migrations that have a row at any time.
const liveMigrations = 1000

// makeLog writes a log of that many events with summaries of all full segments, a copy of it without
// summaries, and the executable of replay-tool.
func (f files) makeLog(ctx context.Context, events int, seed uint64) error {
	if _, err := os.Stat(f.log); err == nil {
		return fmt.Errorf("%s exists already: remove it first", f.log)
	}
	if out, err := exec.CommandContext(ctx, "go", "build", "-C", "..", "-o", f.tool, "./cmd/replay-tool").CombinedOutput(); err != nil {
		return fmt.Errorf("building replay-tool: %w\n%s", err, out)
	}
	p, err := peer.Named("migrationlog")
	if err != nil {
		return err
	}
	g, left := eventgen.New(seed, liveMigrations), events
	began := time.Now()
	err = p.Import(f.log, func() (eventgen.Op, bool, error) {
		if left == 0 || ctx.Err() != nil {
			return eventgen.Op{}, false, ctx.Err()
		}
		left--
		op, err := g.Next()
		return op, true, err
	}, nil)
	if err != nil {
		return err
	}
	fmt.Printf("wrote %d events in %.1f s\n", events, time.Since(began).Seconds())
	if err := f.awaitSummaries(ctx); err != nil {
		return err
	}
	return f.copyBare()
}

// awaitSummaries opens the store and waits until each segment but the last has a summary.
func (f files) awaitSummaries(ctx context.Context) (err error) {
	s, err := migrationlog.Open(f.log, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	began := time.Now()
	for {
		segments, err := segment.Names(os.DirFS(f.log))
		if err != nil {
			return err
		}
		summaries, err := filepath.Glob(filepath.Join(f.log, "index", "*"))
		if err != nil {
			return err
		}
		if len(summaries) >= len(segments)-1 {
			fmt.Printf("%d segments, and all summaries %.1f s after the opening\n", len(segments), time.Since(began).Seconds())
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// copyBare copies the log without index/. The segments and the snapshots are hard links, because no
// command writes to them.
func (f files) copyBare() error {
	return filepath.WalkDir(f.log, func(path string, e os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(f.log, path)
		if err != nil {
			return err
		}
		to := filepath.Join(f.bare, rel)
		switch {
		case e.Name() == "index":
			return filepath.SkipDir
		case e.IsDir():
			return os.MkdirAll(to, 0o700)
		case filepath.Dir(rel) == ".":
			return copyFile(path, to)
		}
		return os.Link(path, to)
	})
}

func copyFile(from, to string) error {
	content, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, content, 0o600)
}

// loadSQL loads the exported SQL into a new SQLite database, in the fastest way that sqlite3 has.
func (f files) loadSQL(ctx context.Context) error {
	if err := os.Remove(f.database); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	export := exec.CommandContext(ctx, f.tool, "export", f.log, "--format", "sql", "-q")
	load := exec.CommandContext(ctx, "sqlite3", "-bail",
		"-cmd", "PRAGMA journal_mode=OFF", "-cmd", "PRAGMA synchronous=OFF", "-cmd", "PRAGMA cache_size=-1000000", f.database)
	load.Stdout, load.Stderr, export.Stderr = io.Discard, os.Stderr, os.Stderr
	var err error
	if load.Stdin, err = export.StdoutPipe(); err != nil {
		return err
	}
	began := time.Now()
	if err := errors.Join(export.Start(), load.Start()); err != nil {
		return err
	}
	if err := errors.Join(load.Wait(), export.Wait()); err != nil {
		return err
	}
	elapsed := time.Since(began)
	info, err := os.Stat(f.database)
	if err != nil {
		return err
	}
	r, err := readResults(f)
	if err != nil {
		return err
	}
	r.LoadSeconds, r.DatabaseBytes = elapsed.Seconds(), info.Size()
	return r.write(f)
}
