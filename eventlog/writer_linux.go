//go:build linux && !portable

package eventlog

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// lockHolder returns the process that holds the lock on the file at path, or 0. listed is true if
// the system listed its locks.
func lockHolder(path string, namedPID int) (pid int, listed bool) {
	id, _, err := statID(path)
	if err != nil {
		return 0, false
	}
	locks, err := os.ReadFile("/proc/locks")
	if err != nil {
		return 0, false
	}
	return findLock(string(locks), id, namedPID), true
}

// findLock returns the process that holds a flock on the file, from the content of /proc/locks, or
// 0. On some file systems, such as btrfs, the device in it differs from that of stat. A lock on
// another device therefore counts if namedPID holds it.
//
//	1: FLOCK  ADVISORY  WRITE 4711 fd:01:1835021 0 EOF
func findLock(locks string, id fileID, namedPID int) int {
	inode := fmt.Sprintf(":%d", id.inode)
	file := fmt.Sprintf("%02x:%02x", unix.Major(id.device), unix.Minor(id.device)) + inode
	for line := range strings.Lines(locks) {
		words := strings.Fields(line)
		if len(words) < 6 || words[1] != "FLOCK" { // the second word of a process that waits is "->"
			continue
		}
		pid, err := strconv.Atoi(words[4])
		if err == nil && pid > 0 && (words[5] == file || pid == namedPID && strings.HasSuffix(words[5], inode)) {
			return pid
		}
	}
	return 0
}
