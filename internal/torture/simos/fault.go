package simos

import (
	"errors"
	"fmt"
	"slices"
	"syscall"
)

// maxCalls is the limit of calls between two changes of the faults. It stops a program that retries
// for ever. The tests need far fewer calls.
const maxCalls = 100_000

// fault selects the calls that fail, and their error.
type fault struct {
	calls  int
	armed  int // number of calls when the faults were last changed
	failAt int // number of the call that fails; 0 if none does
	err    error
	sticky bool
	fired  int
	last   string
}

// callKind is the kind of a call. It decides which faults apply to the call.
type callKind string

const (
	callOpen     callKind = "open"
	callCreate   callKind = "create" // a call of OpenFile that creates the file
	callRead     callKind = "read"
	callStat     callKind = "stat"
	callReadDir  callKind = "readdir"
	callWrite    callKind = "write"
	callSync     callKind = "sync"
	callTruncate callKind = "truncate"
	callRename   callKind = "rename"
	callLink     callKind = "link"
	callMkdir    callKind = "mkdir"
	callRemove   callKind = "remove"
	callClose    callKind = "close"
)

// failsIfFull has the calls that fail if the disk is full.
var failsIfFull = []callKind{callCreate, callWrite, callRename, callLink, callMkdir}

// FailAt makes the n-th call since the start of the watch fail with errno, counted from 1. If
// sticky is set, all later calls fail too, until Heal. ENOSPC applies only to calls that need
// space. If the call is a write, about half of it is still written.
func (d *Disk) FailAt(n int, errno syscall.Errno, sticky bool) {
	d.arm(n, errno, sticky)
}

// ErrKilled is returned by every call of a program after KillAt has killed it. A real killed
// program would not run any more, so tests ignore the results of that program.
var ErrKilled = errors.New("the program was killed")

// KillAt simulates that the program is killed at the n-th call. If that call is a write, about half
// of it is still written. No later call has any effect, until Heal. The earlier changes stay in the
// kernel's memory and are lost only if the power is cut.
func (d *Disk) KillAt(n int) { d.arm(n, ErrKilled, true) }

// Heal removes all faults. Later calls succeed.
func (d *Disk) Heal() { d.arm(0, nil, false) }

func (d *Disk) arm(n int, err error, sticky bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.failAt, d.err, d.sticky, d.armed = n, err, sticky, d.calls
}

// Calls returns the number of calls so far that could have failed.
func (d *Disk) Calls() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.calls
}

// Fired returns the number of calls that failed because of a fault, and a description of the last.
func (d *Disk) Fired() (n int, last string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.fired, d.last
}

// EndlessError is the value with which a Disk panics if a program makes more than maxCalls calls.
type EndlessError struct{ Last string }

func (e EndlessError) Error() string {
	return fmt.Sprintf("the program made %d calls and does not end; the last is %s", maxCalls, e.Last)
}

// call counts a call. It returns an error if the call must fail. The caller must hold the lock.
func (d *Disk) call(kind callKind, path string) error {
	d.calls++
	if d.calls-d.armed > maxCalls {
		panic(EndlessError{string(kind) + " /" + d.relative(path)})
	}
	hit := d.failAt != 0 && (d.calls == d.failAt || d.sticky && d.calls > d.failAt)
	if !hit || d.err == syscall.ENOSPC && !slices.Contains(failsIfFull, kind) {
		return nil
	}
	d.fired++
	d.last = fmt.Sprintf("call %d, %s /%s", d.calls, kind, d.relative(path))
	return d.err
}
