package storetest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"migrationlog"
)

// TB is the part of testing.TB that this package uses.
type TB interface {
	Helper()
	Name() string
	Skipf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// Trial is a coordinator under test, with the cluster on which it acts. Each run of a test needs a
// new one.
type Trial struct {
	// Run is one life of the coordinator. It opens the log, which exists, recovers, moves vShards,
	// closes the log, and returns. Unless a fault stops it, it must end all moves. After a fault it is
	// called again as the coordinator's next start. Between two calls it may keep nothing in memory.
	Run func(dir string) error
	// Prepare writes the rows that the log has at the first start. The cluster is brought to the
	// state that they prove. If it is nil, the log is empty.
	Prepare func(*migrationlog.Store) error
	// Cluster is checked at the end of each run. If it is nil, Check is required.
	Cluster *Cluster
	// Check is the caller's own check at the end of each run. The log is closed. If it is nil,
	// Cluster is required.
	Check func(dir string) error
}

// errInterrupted is the error of a write that was interrupted, after the run has been checked. Its
// store has failed.
var errInterrupted = errors.New("storetest interrupted the write")

// run is one run of a trial: a directory, its trial, and the events that were seen in the log.
type run struct {
	trial   Trial
	root    string
	dir     string // root/log, and after a crash root/log+
	history history
}

// newRun creates a directory, the log, and the rows that the trial begins with.
func newRun(start func() Trial) (*run, error) {
	root, err := newRoot()
	if err != nil {
		return nil, err
	}
	r, err := newRunIn(root, start)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(root))
	}
	return r, nil
}

// newRoot creates a directory, in memory if the system has one there.
func newRoot() (string, error) {
	root, err := os.MkdirTemp("/dev/shm", "storetest-")
	if err != nil {
		root, err = os.MkdirTemp("", "storetest-")
	}
	return root, err
}

func newRunIn(root string, start func() Trial) (*run, error) {
	r := &run{trial: start(), root: root, dir: filepath.Join(root, "log")}
	if r.trial.Run == nil || r.trial.Cluster == nil && r.trial.Check == nil {
		return nil, errors.New("the Trial has no Run, or neither Cluster nor Check: set them")
	}
	return r, r.prepare()
}

func (r *run) prepare() error {
	store, err := migrationlog.Open(r.dir, nil)
	if err != nil {
		return err
	}
	if r.trial.Prepare != nil {
		if err := r.trial.Prepare(store); err != nil {
			return fmt.Errorf("Trial.Prepare: %w", errors.Join(err, store.Close()))
		}
	}
	if err := store.Close(); err != nil {
		return err
	}
	return r.history.read(r.dir, 0, r.trial.Cluster.assume)
}

func (r *run) remove() error { return os.RemoveAll(r.root) }

// observe passes the log's new events up to a number to the cluster. If the number is 0, it reads
// the whole log. It returns an error if an event that it has seen before is missing.
func (r *run) observe(through uint64) error {
	return r.history.read(r.dir, through, r.trial.Cluster.observe)
}

// restart prepares the next life of the coordinator.
func (r *run) restart() error {
	r.trial.Cluster.restart()
	return r.observe(0)
}

// check checks the log and the cluster after the last life.
func (r *run) check() error {
	if err := r.observe(0); err != nil {
		return err
	}
	if err := r.trial.Cluster.check(r.dir); err != nil {
		return err
	}
	if r.trial.Check != nil {
		return r.trial.Check(r.dir)
	}
	return nil
}

// unexpected describes an error of a life that no fault has touched.
func unexpected(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("the function Run returned an error without a fault: %w", err)
}

// fail reports a failed run with the events of its log.
func (r *run) fail(t TB, fault string, err error) {
	t.Helper()
	if fault == "" {
		fault = "no fault"
	}
	t.Fatalf("%s: %v\n\nthe events of the log:\n%s", fault, err, r.history.String())
}
