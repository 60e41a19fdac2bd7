package eventlog

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// Writer is the result of FindWriter.
type Writer struct {
	Known bool // Alive is valid
	Alive bool // a process holds the lock
	PID   int  // of that process
}

// FindWriter looks for the process that has a log open. It takes no lock. Linux lists the holders of
// all locks. On other systems, and if the process in LOCK runs on another host or in another
// container, the result is not known.
func FindWriter(dir string) Writer {
	path := filepath.Join(dir, LockName)
	if _, err := os.Stat(path); err != nil {
		return Writer{Known: errors.Is(err, fs.ErrNotExist)}
	}
	holder, _, named := readHolder(path)
	pid, listed := lockHolder(path, holder.PID)
	if pid > 0 {
		return Writer{Known: true, Alive: true, PID: pid}
	}
	isHere := named && holder.Host == thisProcess().Host && holder.BootID != ""
	return Writer{Known: listed && (!named || isHere) || holder.Restarted()}
}
