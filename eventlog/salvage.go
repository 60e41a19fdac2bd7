package eventlog

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"migrationlog/eventlog/segment"
)

// ErrOutDir is returned by Salvage if it must not write into the given directory.
var ErrOutDir = errors.New("cannot salvage into this directory")

// SalvageOptions configures Salvage. The zero value selects the defaults.
type SalvageOptions struct {
	Progress func(bytes int64) // is called with the number of bytes that were just read; may be nil
}

// Salvaged is the result of Salvage.
type Salvaged struct {
	segment.Identity
	UUID      uuid.UUID // of the new log
	NewUUID   bool      // no manifest had the UUID, so the new log has another UUID
	Watermark *uint64   // the surviving watermark; nil if no watermark file is intact
	Segments  int
	Snapshots int
	SizeBytes int64    // of all copied segments
	LeftOut   []string // files that were not copied, relative to the damaged log's directory
}

// Salvage copies the log in dir to a new or empty directory, given by the argument to. The log's
// manifest may be lost, and dir may have only segments. Salvage never writes into dir. The new log
// has the same segments, byte for byte, and the same quarantine/, index/ and watermark. It has the
// snapshots that belong to the log. It therefore has the same losses and doubts, with two
// exceptions:
//
//   - If no manifest is intact, the skipped numbers are lost. They are below the watermark. The new
//     log reports them as acknowledged and lost, although this is unknown.
//   - If both watermarks are lost, it is unknown for some losses whether they were acknowledged.
//     Salvage writes no watermark in this case: the report of the new log says so until it is
//     opened for writing.
//
// Salvage writes the manifest last. If it is interrupted, the directory is therefore not a log.
// After an error it removes everything that it made. Everything is durable if it returns nil. Its
// errors are ErrOutDir, segment.ErrNotALog, segment.ErrUnidentified, segment.ErrNewerFormat, ctx's
// error or an I/O error.
func Salvage(ctx context.Context, dir, to string, opts SalvageOptions) (Salvaged, error) {
	s := &salvage{ctx: ctx, dir: dir, to: to, opts: opts, copied: map[string]bool{}}
	if err := s.inspect(); err != nil {
		return Salvaged{}, fmt.Errorf("%s: %w", dir, err)
	}
	if err := s.makeTarget(); err != nil {
		return Salvaged{}, err
	}
	if err := s.write(); err != nil {
		if left := s.remove(); left != nil {
			return Salvaged{}, errors.Join(fmt.Errorf("salvage: %w", err), left)
		}
		return Salvaged{}, fmt.Errorf("salvage: %w. The copy was removed again, and %s is as it was: remove the cause, and start again", err, dir)
	}
	return s.result, nil
}

// SalvageListName is the file in which a salvaged log has the list of the events that it lacks.
// Readers and writers of a log ignore it.
const SalvageListName = "MANIFEST.salvage.json"

// WriteSalvageList writes the list of lost events into a log that Salvage has made, and makes it
// durable. It returns fs.ErrExist if the log has such a list. After another error the log is complete
// and has no list.
func WriteSalvageList(dir string, list []byte) error {
	if err := createFile(filepath.Join(dir, SalvageListName), list); err != nil {
		return err
	}
	return syncDir(dir)
}

// salvage is one call of Salvage.
type salvage struct {
	ctx     context.Context
	dir, to string
	opts    SalvageOptions
	fsys    fs.FS // the damaged log
	isWAL   bool  // dir has only the files of the log's wal/
	result  Salvaged
	copied  map[string]bool // files, by their names in the new log
	made    []string        // directories that did not exist before, the deepest first
}

// inspect identifies the log.
func (s *salvage) inspect() (err error) {
	if _, err := os.ReadDir(s.dir); err != nil {
		return err
	}
	if s.fsys, s.isWAL, err = segment.RescuedFS(os.DirFS(s.dir)); err != nil {
		return err
	}
	names, err := segment.Names(s.fsys)
	if err != nil {
		return err
	}
	var census segment.Census
	for _, name := range names {
		data, err := fs.ReadFile(s.fsys, path.Join(segment.WALDir, name))
		if err != nil {
			return err
		}
		census.AddSegment(name, data)
		if err := s.progress(int64(len(data))); err != nil {
			return err
		}
	}
	id, err := census.Identify(s.fsys)
	if err != nil {
		return err
	}
	s.result.Identity, s.result.UUID = id, id.Manifest.UUID
	if id.Manifest.UUID == uuid.Nil {
		random, err := uuid.NewRandom()
		if err != nil {
			return err
		}
		s.result.UUID, s.result.NewUUID = id.Fingerprint.UUID(random), true
	}
	return nil
}

// progress reports bytes that were read. It returns ctx's error.
func (s *salvage) progress(bytes int64) error {
	if s.opts.Progress != nil {
		s.opts.Progress(bytes)
	}
	return s.ctx.Err()
}

// makeTarget creates the new log's directory if it is missing, and wal/ in it. It returns ErrOutDir
// if the directory is not empty. If two processes salvage into the same directory, only one of them
// can create wal/.
func (s *salvage) makeTarget() error {
	to, err := filepath.Abs(s.to)
	if err != nil {
		return err
	}
	if err := checkOutside(s.dir, to); err != nil {
		return err
	}
	entries, err := os.ReadDir(to)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if len(entries) > 0 {
		return fmt.Errorf("%w: %s is not empty. Give a new or empty directory", ErrOutDir, s.to)
	}
	for missing := to; errors.Is(err, fs.ErrNotExist); missing = filepath.Dir(missing) {
		if _, err = os.Lstat(missing); err != nil {
			s.made = append(s.made, missing)
		}
	}
	if err := makeDir(to); err != nil {
		return errors.Join(err, s.removeDirs())
	}
	err = os.Mkdir(filepath.Join(to, segment.WALDir), dirPerm)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%w: %s is not empty. Another process has just written to it", ErrOutDir, s.to)
	}
	if err != nil {
		return errors.Join(err, s.removeDirs())
	}
	return nil
}

// checkOutside returns ErrOutDir if to is dir or lies in it or in one of its directories, which may
// be symbolic links. The directory to need not exist.
func checkOutside(dir, to string) error {
	var protected []fs.FileInfo
	for _, name := range []string{".", segment.WALDir, segment.SnapshotDir, segment.SummaryDir, QuarantineDir} {
		info, err := os.Stat(filepath.Join(dir, name))
		switch {
		case err == nil:
			protected = append(protected, info)
		case name == "." || !errors.Is(err, fs.ErrNotExist):
			return err
		}
	}
	at, err := nearestExisting(to)
	if err != nil {
		return err
	}
	for {
		info, err := os.Stat(at)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(protected, func(p fs.FileInfo) bool { return os.SameFile(p, info) }) {
			return fmt.Errorf("%w: %s lies in the damaged log %s, which must not change", ErrOutDir, to, dir)
		}
		if at == filepath.Dir(at) {
			return nil
		}
		at = filepath.Dir(at)
	}
}

// nearestExisting returns the path, or the nearest directory above it that exists, without symbolic
// links.
func nearestExisting(path string) (string, error) {
	for {
		existing, err := filepath.EvalSymlinks(path)
		if err == nil || !errors.Is(err, fs.ErrNotExist) || path == filepath.Dir(path) {
			return existing, err
		}
		path = filepath.Dir(path)
	}
}

// write fills the new log's directory. The watermark and the snapshots are read before the segments
// are copied. If a writer has the damaged log open, they are then not newer than the segments.
func (s *salvage) write() error {
	watermark, damage, err := segment.ReadWatermark(s.fsys, s.result.UUID)
	if err != nil {
		return err
	}
	if len(damage) < len(segment.WatermarkNames) {
		s.result.Watermark = &watermark
		line := segment.AppendWatermark(nil, s.result.UUID, watermark)
		for _, name := range segment.WatermarkNames {
			if err := createFile(filepath.Join(s.to, name), line); err != nil {
				return err
			}
		}
	}
	if err := s.copySnapshots(); err != nil {
		return err
	}
	names, err := segment.Names(s.fsys)
	if err != nil {
		return err
	}
	for _, name := range names {
		n, err := s.copyFile(path.Join(segment.WALDir, name))
		if err != nil {
			return err
		}
		s.result.Segments++
		s.result.SizeBytes += n
	}
	for _, dir := range []string{segment.SummaryDir, QuarantineDir} {
		if err := s.copyDir(dir, func(string) bool { return true }); err != nil {
			return err
		}
	}
	if err := s.listLeftOut(); err != nil {
		return err
	}
	if err := errors.Join(syncDir(filepath.Join(s.to, segment.WALDir)), syncDir(s.to)); err != nil {
		return err
	}
	r := &Recovery{dir: s.to, opts: Options{Now: time.Now}}
	m := s.result.Manifest
	if !s.result.ManifestIntact {
		m = segment.Manifest{UUID: s.result.UUID, Created: r.now().Truncate(time.Second), Revision: 1}
	}
	return r.writeManifest(m)
}

// copySnapshots copies the snapshots whose headers belong to the log. The header proves that events
// were durable, so a snapshot with a damaged body is copied as well.
func (s *salvage) copySnapshots() error {
	names, err := segment.SnapshotNames(s.fsys)
	if err != nil || len(names) == 0 {
		return err
	}
	return s.copyDir(segment.SnapshotDir, func(name string) bool {
		ours := segment.IsSnapshotOf(s.fsys, name, s.result.UUID)
		if ours {
			s.result.Snapshots++
		}
		return ours
	})
}

// copyDir copies the regular files of a directory for which selected returns true. It does nothing
// if the damaged log has no such directory.
func (s *salvage) copyDir(dir string, selected func(name string) bool) error {
	entries, err := fs.ReadDir(s.fsys, dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := os.Mkdir(filepath.Join(s.to, dir), dirPerm); err != nil {
		return err
	}
	for _, e := range entries {
		if !e.Type().IsRegular() || !selected(e.Name()) {
			continue
		}
		if _, err := s.copyFile(path.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return syncDir(filepath.Join(s.to, dir))
}

// copyFile copies a file of the damaged log to its place in the new one, and syncs its content.
func (s *salvage) copyFile(name string) (n int64, err error) {
	from, err := s.fsys.Open(name)
	if err != nil {
		return 0, err
	}
	defer from.Close()
	if n, err = createFrom(filepath.Join(s.to, filepath.FromSlash(name)), from); err != nil {
		return 0, err
	}
	s.copied[name] = true
	return n, s.progress(n)
}

// listLeftOut lists the files that were not copied, and the directories that cannot be read. It
// does not list LOCK and the files that Salvage writes itself.
func (s *salvage) listLeftOut() error {
	replaced := []string{LockName, segment.ManifestName, segment.ManifestCopyName, segment.WatermarkName, segment.WatermarkCopyName}
	return fs.WalkDir(os.DirFS(s.dir), ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil && e != nil && e.IsDir() && name != "." { // such as lost+found, if a whole disk was rescued
			s.result.LeftOut = append(s.result.LeftOut, name)
			return fs.SkipDir
		}
		if err != nil || e.IsDir() {
			return err
		}
		place := name
		if s.isWAL {
			place = path.Join(segment.WALDir, name)
		}
		if !s.copied[place] && !slices.Contains(replaced, strings.TrimSuffix(place, segment.TemporarySuffix)) {
			s.result.LeftOut = append(s.result.LeftOut, name)
		}
		return nil
	})
}

// remove removes everything that makeTarget and write have made.
func (s *salvage) remove() (err error) {
	for _, name := range []string{segment.ManifestName, segment.ManifestName + segment.TemporarySuffix, segment.WALDir,
		segment.WatermarkName, segment.SnapshotDir, segment.SummaryDir, QuarantineDir} {
		err = errors.Join(err, os.RemoveAll(filepath.Join(s.to, name)))
	}
	if err = errors.Join(err, s.removeDirs()); err != nil {
		err = fmt.Errorf("%s is incomplete and is not a log, but it cannot be removed: remove it by hand (%w)", s.to, err)
	}
	return err
}

// removeDirs removes the directories that makeTarget has made.
func (s *salvage) removeDirs() (err error) {
	for _, dir := range s.made {
		if removed := os.Remove(dir); !errors.Is(removed, fs.ErrNotExist) {
			err = errors.Join(err, removed)
		}
	}
	return err
}
