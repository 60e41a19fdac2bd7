package migrationlog

import (
	"errors"
	"fmt"
	"os"

	"migrationlog/checkpoint"
	"migrationlog/eventlog"
	"migrationlog/eventlog/segment"
)

// Replace replaces the state and the history by the state of another member or of a backup. The new
// log has one restored event per row, and its manifest has the index at which its history begins.
// Replace renames the old directory to DIR.replaced-1 (or a higher number) and never deletes it.
// After a crash at any point the replica has the old or the new state. Replace must not run
// concurrently with Apply. If it returns an error other than ErrFailed, the old state is in use.
func (r *Replica) Replace(s *State) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.failure(); err != nil {
		return err
	}
	if r.closed {
		return ErrClosed
	}
	old := r.store.Load()
	err := r.opts.writeReplacement(old.dir, s, segment.OriginRestored)
	if err != nil {
		return fmt.Errorf("replace the state of %s: %w", old.dir, newLogError{err})
	}
	r.replacing.Store(true)
	defer r.replacing.Store(false)
	// If the old log stays in use, the engine delivers the entries of its unsynced events again. The
	// old log therefore needs no record of the applied index.
	closing := old.close()
	_, err = eventlog.SwapDir(old.dir)
	if err != nil {
		err = fmt.Errorf("replace the state of %s: %w", old.dir, errors.Join(err, closing))
	}
	if !errors.Is(err, ErrFailed) {
		next, openErr := r.open(old.dir)
		if openErr == nil {
			r.store.Store(next)
			return err
		}
		err = fmt.Errorf("%w: open %s after the replacement of its state: %w", ErrFailed, old.dir, errors.Join(openErr, err))
	}
	r.failed.Store(&err)
	return err
}

// newLogError is the error of a new log that could not be written. The log that is in use has not
// failed, so errors.Is does not find ErrFailed.
type newLogError struct{ err error }

func (e newLogError) Error() string        { return "write the new log: " + e.err.Error() }
func (e newLogError) Is(target error) bool { return target != ErrFailed && errors.Is(e.err, target) }

// replacementBatchBytes is the maximum size of one write to a new log. The event of a row has at
// most checkpoint.MaxEventBytes.
const replacementBatchBytes = 1 << 20

// writeReplacement writes a complete new log next to the one in dir, for SwapDir. The log in dir
// must be open.
func (o *ReplicaOptions) writeReplacement(dir string, s *State, origin string) error {
	restoring, err := eventlog.BeginSwap(dir)
	if err != nil {
		return err
	}
	if err := o.writeLog(restoring, s, origin); err != nil {
		return errors.Join(err, os.RemoveAll(restoring))
	}
	return nil
}

// writeLog writes a new log with a state into an empty directory.
func (o *ReplicaOptions) writeLog(dir string, s *State, origin string) error {
	d := s.Digest()
	logOptions := o.Store.logOptions()
	logOptions.MustExist, logOptions.NoSync, logOptions.Replicated = false, true, true // Close makes everything durable
	logOptions.History = &segment.History{Index: d.Index, Term: d.Term, Origin: origin}
	recovery, err := eventlog.Begin(dir, logOptions)
	if err != nil {
		return err
	}
	for _, err := range recovery.Scan(segment.ScanAll) {
		if err != nil {
			return errors.Join(err, recovery.Abandon())
		}
	}
	log, err := recovery.Finish(segment.FrameID{})
	if err != nil {
		return err
	}
	if err := writeRestored(log, s); err != nil {
		_ = log.Close() // the same error again
		return err
	}
	return log.Close()
}

// writeRestored writes the rows of a state, and then its digests.
func writeRestored(log *eventlog.Log, s *State) error {
	var entries []eventlog.Entry
	memory := make([]byte, 0, replacementBatchBytes)
	flush := func() error {
		if len(entries) == 0 {
			return nil
		}
		err := log.Write(entries)
		entries, memory = entries[:0], memory[:0]
		return err
	}
	for restored := range restoredRows(s.at.view) {
		if len(memory)+len(restored) > cap(memory) {
			if err := flush(); err != nil {
				return err
			}
		}
		memory = append(memory, restored...) // within its capacity, so earlier bodies stay where they are
		entries = append(entries, eventlog.Entry{Body: segment.NewBody(memory[len(memory)-len(restored):])})
	}
	d := s.Digest()
	if d.Index == 0 { // nothing was applied
		return flush()
	}
	event := checkpoint.Digest{State: d.State, Chain: d.Chain, TimestampMS: s.at.timestampMS, Epoch: s.at.view.Epoch()}
	body, err := encodeAt(event, d.Index, d.Term)
	if err != nil {
		return err
	}
	entries = append(entries, eventlog.Entry{Body: segment.NewBody(body)})
	return flush()
}
