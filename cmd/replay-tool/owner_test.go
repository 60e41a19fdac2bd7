package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// A command that runs as root and writes to a log of another user warns, even with --quiet. The
// same holds for a new log in a directory of another user.
func TestOwner_RootWritesToALogOfAnotherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can create files of another user")
	}
	parent := t.TempDir()
	theirs := filepath.Join(parent, "their logs")
	require.NoError(t, os.Mkdir(theirs, 0o750))
	stderr := func(args ...string) string {
		command := exec.Command("replay-tool", args...)
		var errs bytes.Buffer
		command.Stderr = &errs
		require.NoError(t, command.Run(), errs.String())
		return errs.String()
	}
	ours := filepath.Join(parent, "ours", "log")
	require.NotContains(t, stderr("import", ours, os.DevNull), "warning")
	require.NoError(t, os.Chown(theirs, 4711, 4711))
	for _, args := range [][]string{
		{"import", "-q", filepath.Join(theirs, "a", "log"), os.DevNull}, {"demo", filepath.Join(theirs, "demo")}, {"import", theirs, os.DevNull},
	} {
		errs := stderr(args...)
		require.Contains(t, errs, "warning: '"+theirs)
		require.Contains(t, errs, " belongs to user #4711, and this command runs as root. ")
		require.Contains(t, errs, "sudo -u '#4711' replay-tool ")
		require.Equal(t, 1, strings.Count(errs, "warning"), errs)
	}
	require.NotContains(t, stderr("info", "-q", theirs), "warning", "a reading command creates no files")
}

// An error about permissions names the owner, who can run the command. The error about a read-only
// file system says so.
func TestOwner_ErrorsNameTheAction(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can run a command as two users")
	}
	self, err := os.Executable()
	require.NoError(t, err)
	parent, err := os.MkdirTemp("", "owner")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(parent) })
	require.NoError(t, os.Chmod(parent, 0o755))
	binary := filepath.Join(parent, "replay-tool") // the other user may not reach the test's binary
	content, err := os.ReadFile(self)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(binary, content, 0o755))
	log, file := filepath.Join(parent, "log"), filepath.Join(parent, "file")
	code, _, errs := importText(t, log, catchUpLine(1, 0, 2, 3), "-q")
	require.Equal(t, exitClean, code, errs)
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	require.NoError(t, os.Chown(file, 4712, 4712))
	require.NoError(t, filepath.WalkDir(log, func(path string, _ os.DirEntry, _ error) error { return os.Chown(path, 4711, 4711) }))
	as := func(uid uint32, args ...string) string {
		command := exec.Command(binary, args...)
		command.Dir = parent
		command.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
		out, err := command.CombinedOutput()
		require.Error(t, err, "%s", out)
		return string(out)
	}
	asOwner := func(uid int) string {
		return ". Run the command as the owner of the file or directory: sudo -u '#" + strconv.Itoa(uid) + "' replay-tool ..."
	}
	for _, mode := range []os.FileMode{0o750, 0o755} {
		require.NoError(t, os.Chmod(log, mode))
		for _, args := range [][]string{{"info", "log"}, {"log", log}, {"verify", "log"}, {"state", "log"}, {"import", "log", os.DevNull}, {"salvage", "log", "--out", "new"}} {
			require.Contains(t, as(4713, args...), "permission denied"+asOwner(4711), args)
		}
	}
	require.Contains(t, as(4711, "import", "log", file), "permission denied"+asOwner(4712))
	require.NoError(t, os.Chmod(filepath.Join(log, "MANIFEST"), 0))
	require.NoError(t, os.Chmod(filepath.Join(log, "wal", "MANIFEST"), 0))
	require.Contains(t, as(4711, "info", "log"), "permission denied. Check the permissions with 'ls -ld log/MANIFEST'")
	require.Contains(t, as(4711, "import", "new", os.DevNull), asOwner(0)[:40])

	require.Contains(t, accessHint(&os.PathError{Op: "open", Path: "x", Err: syscall.EROFS}, nil), "The file system is mounted read-only")
	require.Empty(t, accessHint(&os.PathError{Op: "open", Path: "x", Err: syscall.ENOSPC}, nil))
}
