package eventlog

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"migrationlog/eventlog/segment"
)

// A log is replaced by another one in three steps. All names are in the directory above the log.
//
//  1. The new log is written in DIR.new-incomplete and closed. Until then it is incomplete.
//  2. DIR.new-incomplete gets the name DIR.new-complete: it is complete and durable.
//  3. DIR gets the name DIR.replaced-N, and DIR.new-complete the name DIR.
//
// After a crash, FinishSwap uses the new log only if the old one was already set aside. Otherwise
// it removes the new log, because the program can write it again. The names can reach the device in
// any order, so the directory is synced before step 3.
//
// SwapDir holds the locks of both logs. Their LOCK files move with their directories. Another
// writer cannot open the old log before it is set aside. If a writer has opened DIR/LOCK earlier
// and waits for the lock, it finds afterwards that DIR/LOCK is another file, and locks that file.
// It cannot open the new log before SwapDir ends. While DIR does not exist, Begin does not create a
// log there.
const (
	restoringSuffix = ".new-incomplete"
	restoredSuffix  = ".new-complete"
	replacedSuffix  = ".replaced-" // and N, from 1 on
)

// swap has the paths of a log and of the log that replaces it, without symbolic links.
type swap struct {
	dir, restoring, restored string
}

// newSwap resolves dir, which need not exist. If dir is a symbolic link, its target is replaced,
// and the link stays.
func newSwap(dir string) (swap, error) {
	dir, err := segment.AbsoluteDir(dir)
	if err != nil {
		return swap{}, err
	}
	for range maxLinks {
		parent, err := filepath.EvalSymlinks(filepath.Dir(dir))
		if err != nil {
			return swap{}, err
		}
		dir = filepath.Join(parent, filepath.Base(dir))
		target, err := os.Readlink(dir)
		if err != nil { // not a link
			return swap{dir, dir + restoringSuffix, dir + restoredSuffix}, nil
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(parent, target)
		}
		dir = target
	}
	return swap{}, fmt.Errorf("%s: too many symbolic links", dir)
}

const maxLinks = 40 // as in Linux

// BeginSwap prepares the replacement of the log in dir. It returns the empty directory into which
// the caller writes the new log. The caller must have the old log open, so that no other process
// prepares a replacement. It must not call BeginSwap twice at the same time.
//
// The order of the calls is: BeginSwap, Begin of the new log, its Close, Close of the old log,
// SwapDir, Begin of dir. If one of these calls returns an error, the old log is still in dir,
// unless it is an ErrFailed of SwapDir. FinishSwap or the next BeginSwap then removes the new log.
func BeginSwap(dir string) (restoring string, err error) {
	s, err := newSwap(dir)
	if err != nil {
		return "", err
	}
	info, err := os.Stat(s.dir)
	if err != nil {
		return "", err
	}
	if isMountPoint(s.dir) {
		return "", mountPointError(s.dir)
	}
	if err := s.discard(); err != nil {
		return "", err
	}
	err = os.Mkdir(s.restoring, dirPerm)
	if err == nil {
		err = os.Chmod(s.restoring, info.Mode().Perm())
	}
	if err != nil {
		return "", fmt.Errorf("cannot create a directory next to the log %s, so the log cannot be replaced (check the permissions of the parent directory): %w", s.dir, err)
	}
	return s.restoring, nil
}

// SwapDir replaces the log in dir by the new one in the directory that BeginSwap returned, and
// returns the path at which the old log is kept. Both logs must be closed. The new log is durable
// when SwapDir returns.
//
// If SwapDir returns an ErrFailed, either log may be in dir after a crash. After any other error,
// such as a *LockedError, the old log is in dir.
func SwapDir(dir string) (replaced string, err error) {
	s, err := newSwap(dir)
	if err != nil {
		return "", err
	}
	next, err := Begin(s.restoring, Options{MustExist: true, Replicated: true}) // locks the new log
	if err != nil {
		return "", err
	}
	defer func() { _ = next.Abandon() }() // an error is harmless: it can only be about the text in LOCK
	old, err := lock(s.dir, 0)
	if err != nil {
		return "", err
	}
	defer func() { _ = unlock(old) }()
	if replaced, err = s.freeName(); err != nil {
		return "", err
	}
	if err := s.markComplete(); err != nil {
		return "", errors.Join(err, s.discard())
	}
	if err := s.exchange(replaced); err != nil {
		return "", err
	}
	_ = os.Truncate(filepath.Join(replaced, LockName), 0) // LOCK then shows that no process has this log open
	return replaced, nil
}

// markComplete makes the name DIR.new-complete durable.
func (s swap) markComplete() error {
	if err := os.Rename(s.restoring, s.restored); err != nil {
		return err
	}
	return syncDir(filepath.Dir(s.dir)) //mutant:restored-name-synced
}

// exchange sets the old log aside and gives its name to the new one. If the second rename fails, it
// undoes the first one.
func (s swap) exchange(replaced string) error {
	if err := os.Rename(s.dir, replaced); err != nil {
		if isBusy(err) {
			err = fmt.Errorf("%w (%w)", mountPointError(s.dir), err)
		}
		return errors.Join(err, s.discard())
	}
	parent := filepath.Dir(s.dir)
	if err := os.Rename(s.restored, s.dir); err != nil {
		if undo := errors.Join(os.Rename(replaced, s.dir), syncDir(parent)); undo != nil {
			return fmt.Errorf("%w (replace %s, which is now %s: %w)", ErrFailed, s.dir, replaced, errors.Join(err, undo))
		}
		return errors.Join(err, s.discard())
	}
	if err := syncDir(parent); err != nil { //mutant:swapped-names-synced
		return fmt.Errorf("%w (replace %s: %w)", ErrFailed, s.dir, err)
	}
	return nil
}

// FinishSwap finishes or undoes an interrupted replacement of the log in dir. If the old log was
// set aside, the new one gets its name. Otherwise FinishSwap removes the new one. If no replacement
// was interrupted, it does nothing. Call it before Begin. If another process has the log open for
// longer than lockTimeout, FinishSwap returns a *LockedError.
func FinishSwap(dir string, lockTimeout time.Duration) error {
	s, err := newSwap(dir)
	if errors.Is(err, fs.ErrNotExist) { // the directory above it is missing
		return nil
	}
	for deadline := time.Now().Add(lockTimeout); err == nil; {
		err = s.finish(time.Until(deadline))
		if !errors.Is(err, errSwapped) {
			break
		}
		err = nil
	}
	if err != nil && !errors.Is(err, ErrLocked) {
		err = fmt.Errorf("finish the interrupted replacement of the log %s: %w", dir, err)
	}
	return err
}

// errSwapped is returned if another process has changed the names meanwhile.
var errSwapped = errors.New("another process has replaced the log")

// finish is one try of FinishSwap. It returns errSwapped if it must be repeated.
func (s swap) finish(lockTimeout time.Duration) error {
	isRestored, err := exists(s.restored)
	isRestoring, err2 := exists(s.restoring)
	if err := errors.Join(err, err2); err != nil || !isRestored && !isRestoring {
		return err
	}
	isPresent, err := s.isPresent()
	if err != nil {
		return err
	}
	locked := s.dir
	switch {
	case isPresent:
	case isRestored:
		locked = s.restored
	default:
		locked = s.restoring
	}
	l, err := lock(locked, lockTimeout)
	if errors.Is(err, fs.ErrNotExist) {
		return errSwapped
	}
	if err != nil {
		return err
	}
	if isPresent || !isRestored { //mutant:swap-finished
		return errors.Join(s.discard(), unlock(l))
	}
	if err := checkReplaces(s.restored); err != nil {
		return errors.Join(err, unlock(l))
	}
	if err := os.Remove(s.dir); err != nil && !errors.Is(err, fs.ErrNotExist) { // an empty directory
		return errors.Join(err, unlock(l))
	}
	err = os.Rename(s.restored, s.dir)
	if err == nil {
		err = syncDir(filepath.Dir(s.dir))
	}
	return errors.Join(err, unlock(l))
}

// isPresent reports whether dir exists. An empty directory does not count, because a service
// manager may have created it in place of the one that was set aside.
func (s swap) isPresent() (bool, error) {
	entries, err := os.ReadDir(s.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err != nil || len(entries) > 0, err
}

// discard removes a new log that does not replace the old one. If the removal is interrupted, the
// rest must not look complete, so a complete log becomes an incomplete one first.
func (s swap) discard() error {
	for _, path := range []string{s.restoring, s.restored} {
		if err := checkReplaces(path); err != nil {
			return err
		}
	}
	if err := removeAll(s.restoring); err != nil {
		return err
	}
	isRestored, err := exists(s.restored)
	if err != nil || !isRestored {
		return err
	}
	if err := os.Rename(s.restored, s.restoring); err != nil {
		return err
	}
	if err := syncDir(filepath.Dir(s.dir)); err != nil { //mutant:discarded-name-synced
		return err
	}
	return removeAll(s.restoring)
}

// checkReplaces returns ErrNeedsRepair if path is a log that was not written to replace another
// one. A person may have given it this name.
func checkReplaces(path string) error {
	m, _, err := segment.ReadManifest(os.DirFS(path))
	if err == nil && m.History == nil { //mutant:other-log-not-removed
		return fmt.Errorf("%w: %s has the name of a new log that replaces another one, but it is a log with its whole history: rename it", ErrNeedsRepair, path)
	}
	return nil
}

// removeAll is like os.RemoveAll. If the directory does not exist, it also succeeds on a read-only
// file system.
func removeAll(dir string) error {
	if found, err := exists(dir); err != nil || !found {
		return err
	}
	return os.RemoveAll(dir)
}

// freeName returns an unused name for the old log. The number in the name is higher than that of
// every log that was set aside before, so the numbers are in the order of time.
func (s swap) freeName() (string, error) {
	entries, err := os.ReadDir(filepath.Dir(s.dir))
	if err != nil {
		return "", err
	}
	highest := uint64(0)
	for _, e := range entries {
		if number, ok := strings.CutPrefix(e.Name(), filepath.Base(s.dir)+replacedSuffix); ok {
			if n, err := strconv.ParseUint(number, 10, 32); err == nil {
				highest = max(highest, n)
			}
		}
	}
	return fmt.Sprintf("%s%s%d", s.dir, replacedSuffix, highest+1), nil
}

// checkNotSwapping returns ErrNeedsRepair if a complete new log does not have the name dir yet. If
// the caller created a log in dir, it would be used in place of the new one.
func checkNotSwapping(dir string) error {
	s, err := newSwap(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	waits, err := exists(s.restored)
	if err == nil && waits { //mutant:no-log-beside-restored
		err = fmt.Errorf("%w: the replacement of the log %s was interrupted, and the new log is still in %s: open the log as a replica, which finishes the replacement",
			ErrNeedsRepair, dir, s.restored)
	}
	return err
}

func exists(path string) (bool, error) {
	_, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// mountPointError returns the error for a directory that cannot be renamed.
func mountPointError(dir string) error {
	return fmt.Errorf("%s is a mount point, so it cannot be renamed, and its log cannot be replaced: move the log into a directory below the mount point", dir)
}
