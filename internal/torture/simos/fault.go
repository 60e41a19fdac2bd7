package simos

import (
	"errors"
	"fmt"
	"slices"
	"syscall"
)

// maxCalls ends a program that tries for ever. It is far above what any test
// needs between two changes of what fails.
const maxCalls = 100_000

// fault is which calls fail, and with what.
type fault struct {
	calls  int
	armed  int // number of calls when the faults were last changed
	failAt int // 0: none
	err    error
	sticky bool
	fired  int
	last   string
}

// callKind is what a call does, which decides what may fail it.
type callKind string

const (
	callOpen     callKind = "open"
	callCreate   callKind = "create" // an open that makes the file
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

// failsIfFull are the calls that a full disk fails.
var failsIfFull = []callKind{callCreate, callWrite, callRename, callLink, callMkdir}

// FailAt makes the n-th call from the beginning, counted from 1, fail with errno,
// and with sticky all after it until Heal. ENOSPC fails only what needs space,
// and lets half of a write through.
func (d *Disk) FailAt(n int, errno syscall.Errno, sticky bool) {
	d.arm(n, errno, sticky)
}

// ErrKilled is what a program is told that has been killed, and tells nobody.
var ErrKilled = errors.New("the program was killed")

// KillAt ends the program at the n-th call: that one, if it writes, does half of
// it, and nothing after it does anything, until Heal. What was done stays in the
// kernel's memory, and is lost only with the power.
func (d *Disk) KillAt(n int) { d.arm(n, ErrKilled, true) }

// Heal ends all faults.
func (d *Disk) Heal() { d.arm(0, nil, false) }

func (d *Disk) arm(n int, err error, sticky bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.failAt, d.err, d.sticky, d.armed = n, err, sticky, d.calls
}

// Calls is the number of calls made so far that can fail.
func (d *Disk) Calls() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.calls
}

// Fired is the number of calls that were failed, and the last of them.
func (d *Disk) Fired() (n int, last string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.fired, d.last
}

// EndlessError is what a Disk panics with when a program makes calls without
// end.
type EndlessError struct{ Last string }

func (e EndlessError) Error() string {
	return fmt.Sprintf("the program made %d calls and does not end; the last is %s", maxCalls, e.Last)
}

// call counts a call and returns the error that it is to fail with. Its caller
// holds the lock.
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
