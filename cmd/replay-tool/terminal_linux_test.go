package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// openTerminal returns the two ends of a new terminal of 80 columns.
func openTerminal(t *testing.T) (screen, device *os.File) {
	screen, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("this system has no pseudo-terminals: %v", err)
	}
	t.Cleanup(func() { screen.Close() })
	fd := int(screen.Fd())
	require.NoError(t, unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0))
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	require.NoError(t, err)
	require.NoError(t, unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 25, Col: 80}))
	device, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	return screen, device
}

// onTerminal runs a program and returns what it writes to the terminal.
func onTerminal(t *testing.T, environment []string, program string, args ...string) string {
	screen, device := openTerminal(t)
	c := exec.Command(program, args...)
	c.Env = append([]string{"PATH=" + os.Getenv("PATH")}, environment...)
	c.Stdout = device
	require.NoError(t, c.Start())
	require.NoError(t, device.Close())
	written, _ := io.ReadAll(screen) // its error is the end of the terminal
	_ = c.Wait()                     // the exit code of a finding is none of this test
	return strings.ReplaceAll(string(written), "\r\n", "\n")
}

// A terminal shows the same bytes as a pipe at its width, except for the color. NO_COLOR, TERM=dumb
// and --color decide about the color.
func TestTerminal_Color(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	importedFrom(violationsFile)(t, dir)
	program := toolProgram(t)
	terminal := []string{"TERM=xterm"}
	for _, command := range []string{"triage", "show --vshard 22", "state", "log", "lint", "stats", "diff --at #3", "timeline", "verify", "info", "quiet", "plan", "what-if"} {
		args := append(strings.Fields(command), dir, "--time", "raw", "--now", "1795399805305")
		switch args[0] {
		case "triage", "show", "state", "plan", "what-if":
		default:
			args = args[:len(args)-2] // they have no --now
		}
		_, pipe, _ := runTool(t, nil, append(args, "--width", "80")...)
		require.NotEmpty(t, pipe, command)
		written := onTerminal(t, terminal, program, args...)
		require.Equal(t, pipe, styles.ReplaceAllString(written, ""), command)
	}
	args := []string{"triage", dir}
	for _, tc := range []struct {
		environment []string
		color       string
		colored     bool
	}{
		{terminal, "auto", true},
		{terminal, "never", false},
		{[]string{"TERM=xterm", "NO_COLOR=1"}, "auto", false},
		{[]string{"TERM=xterm", "NO_COLOR="}, "auto", true},
		{[]string{"TERM=dumb"}, "auto", false},
		{[]string{"TERM=dumb", "NO_COLOR=1"}, "always", true},
	} {
		written := onTerminal(t, tc.environment, program, append(args, "--color", tc.color)...)
		require.Equal(t, tc.colored, strings.Contains(written, "\x1b["), "%v --color %s", tc.environment, tc.color)
	}
}
