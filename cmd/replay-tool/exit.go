package main

import (
	"context"
	"errors"
	"fmt"

	"migrationlog"
	"migrationlog/eventlog/segment"
	"migrationlog/replay"
)

// The exit codes. A test compares them with docs/TOOL.md and with --help.
const (
	exitClean       = 0
	exitIO          = 1
	exitUsage       = 2
	exitDamage      = 3
	exitTornTail    = 4
	exitLocked      = 5
	exitNoMatch     = 6
	exitFindings    = 7
	exitNewerFormat = 8
	exitHarmless    = 9
	exitInterrupted = 130
)

// usageError is a mistake in the arguments or in the input of import.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func usageErrorf(format string, args ...any) error {
	return usageError{fmt.Errorf(format, args...)}
}

var (
	errNoMatch        = errors.New("nothing matched")
	errMatchMayBeLost = errors.New("no intact event matched") // a lost one may match
)

// silentExit sets the exit code of a command that has already printed its result, such as the
// damage of the log. No further message is printed for it.
type silentExit struct{ code int }

func (silentExit) Error() string { return "the command has already printed its result" }

// reportExit returns nil if the log is clean. Otherwise it returns the silentExit for its worst
// finding. A torn tail ranks below a harmless finding, because every kill of a writer may leave a
// torn tail.
func reportExit(r replay.Report) error {
	switch {
	case r.Damaged():
		return silentExit{exitDamage}
	case len(r.Damage) > 0:
		return silentExit{exitHarmless}
	case r.TornTail != nil:
		return silentExit{exitTornTail}
	}
	return nil
}

// findingsExit is like reportExit for a command that has findings of its own, besides those about the
// log.
func findingsExit(r replay.Report, findings int) error {
	if findings > 0 && !r.Damaged() {
		return silentExit{exitFindings}
	}
	return reportExit(r)
}

// messageOf returns the message that run prints for an error. It is empty if err is nil or a
// silentExit.
func messageOf(err error) string {
	if err == nil || errors.As(err, new(silentExit)) {
		return ""
	}
	if errors.Is(err, context.Canceled) {
		return "interrupted"
	}
	return err.Error()
}

func exitCode(err error) int {
	var v silentExit
	switch {
	case err == nil:
		return exitClean
	case errors.As(err, &v):
		return v.code
	case errors.Is(err, context.Canceled):
		return exitInterrupted
	case errors.As(err, new(usageError)):
		return exitUsage
	case errors.Is(err, migrationlog.ErrInvalid), errors.Is(err, migrationlog.ErrTooLarge), errors.Is(err, migrationlog.ErrConflict), errors.Is(err, migrationlog.ErrReplicated), errors.Is(err, migrationlog.ErrIsWALDir):
		return exitUsage
	case errors.Is(err, migrationlog.ErrLocked):
		return exitLocked
	case errors.Is(err, migrationlog.ErrNewerFormat):
		return exitNewerFormat
	case errors.Is(err, errMatchMayBeLost), errors.Is(err, migrationlog.ErrManifestLost), errors.Is(err, migrationlog.ErrDamaged),
		errors.Is(err, migrationlog.ErrNeedsRepair), errors.Is(err, segment.ErrUnidentified),
		errors.Is(err, replay.ErrSnapshotsDamaged):
		return exitDamage
	case errors.Is(err, errNoMatch), errors.Is(err, replay.ErrNotKept):
		return exitNoMatch
	}
	return exitIO
}
