package simos

import (
	"fmt"
	"slices"
	"syscall"
)

// maxCalls ends a program that tries for ever. It is far above what any test
// needs.
const maxCalls = 100_000

// fault is which calls fail, and with what.
type fault struct {
	calls  int
	failAt int // 0: none
	errno  syscall.Errno
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

// whatFillsADisk are the calls that a full disk fails.
var whatFillsADisk = []callKind{callCreate, callWrite, callRename, callLink, callMkdir}

// FailAt makes the n-th call from the beginning, counted from 1, fail with errno,
// and with sticky all after it until Heal. ENOSPC fails only what needs space,
// and lets half of a write through.
func (d *Disk) FailAt(n int, errno syscall.Errno, sticky bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.failAt, d.errno, d.sticky = n, errno, sticky
}

// Heal ends all faults.
func (d *Disk) Heal() { d.FailAt(0, 0, false) }

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
	if d.calls > maxCalls {
		panic(EndlessError{string(kind) + " " + d.relative(path)})
	}
	hit := d.failAt != 0 && (d.calls == d.failAt || d.sticky && d.calls > d.failAt)
	if !hit || d.errno == syscall.ENOSPC && !slices.Contains(whatFillsADisk, kind) {
		return nil
	}
	d.fired++
	d.last = fmt.Sprintf("call %d, %s %s", d.calls, kind, d.relative(path))
	return d.errno
}
