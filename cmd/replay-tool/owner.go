package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
)

// warnOwner prints a warning if the command runs as root and will write to a log of another user.
// If the log does not exist, it checks the directory in which the log will be created. The
// log's own program may not be able to open files that root creates. Even --quiet does not suppress
// the warning.
func (t *tool) warnOwner(dir string) {
	uid, ok := ownerOfDir(dir)
	if !ok || os.Geteuid() != 0 || uid == 0 {
		return
	}
	name := userName(uid)
	t.warnf("%s belongs to user %s, and this command runs as root. The files that it creates will belong to root, and the user's programs may fail to open the log. Run the command as that user: sudo -u %s replay-tool ... If root has created files, run: chown -R %d %s",
		quoted(dir), name, quoted(name), uid, quoted(dir))
}

// ownerOfDir returns the owner of a directory or file. If that does not exist or cannot be reached,
// it returns the owner of the nearest directory above.
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

// userName returns the name of a user in the form that sudo -u takes.
func userName(uid int) string {
	if owner, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		return owner.Username
	}
	return "#" + strconv.Itoa(uid)
}

// accessHint returns the sentence that follows an error about permissions or about a read-only file
// system, or "". It names the action. The args are those of the command, with DIR first.
func accessHint(err error, args []string) string {
	var at *fs.PathError
	switch {
	case isReadOnly(err):
		return ". The file system is mounted read-only: find out why, for example with 'dmesg', and mount it for writing. Commands that only read work meanwhile"
	case !errors.Is(err, fs.ErrPermission) || !errors.As(err, &at):
		return ""
	}
	path := at.Path
	if !filepath.IsAbs(path) && !slices.Contains(args, path) && len(args) > 0 {
		inLog := filepath.Join(args[0], path) // the paths of a reader are relative to DIR
		if _, err := os.Lstat(inLog); !errors.Is(err, fs.ErrNotExist) {
			path = inLog
		}
	}
	uid, ok := ownerOfDir(path)
	if !ok || uid == os.Geteuid() {
		return fmt.Sprintf(". Check the permissions with 'ls -ld %s'", quoted(path))
	}
	return fmt.Sprintf(". Run the command as the owner of the file or directory: sudo -u %s replay-tool ...", quoted(userName(uid)))
}
