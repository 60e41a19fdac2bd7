package main

import (
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
)

// warnOwner prints a warning if the command runs as root and will write to a log of another user.
// If the log does not exist, the directory in which it will be created counts. Files that root
// creates may lock the log's own program out. Even --quiet does not suppress the warning.
func (t *tool) warnOwner(dir string) {
	uid, ok := ownerOfDir(dir)
	if !ok || os.Geteuid() != 0 || uid == 0 {
		return
	}
	name := "#" + strconv.Itoa(uid) // the form in which sudo takes a number
	if owner, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		name = owner.Username
	}
	fmt.Fprintln(t.stderr, message(fmt.Sprintf("warning: %s belongs to user %s, and this command runs as root. The files that it creates will belong to root, and the user's programs may fail to open the log. Run the command as that user: sudo -u %s replay-tool ... If root has created files, run: chown -R %d %s",
		quoted(dir), name, quoted(name), uid, quoted(dir))))
}

// ownerOfDir returns the owner of a directory, or of the nearest directory above it that exists.
func ownerOfDir(dir string) (uid int, ok bool) {
	path, err := filepath.Abs(dir)
	if err != nil {
		return 0, false
	}
	for {
		if info, err := os.Stat(path); err == nil {
			return ownerOf(info)
		}
		parent := filepath.Dir(path)
		if parent == path {
			return 0, false
		}
		path = parent
	}
}
