package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
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
