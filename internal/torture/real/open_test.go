package real_test

import (
	"bufio"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"migrationlog"
	"migrationlog/eventlog"
)

const contenders = 8

// D10: if eight processes open one log at the same moment, exactly one succeeds, and the others get
// an error that names it. Then all of them take turns. No two processes ever hold the log together
// or use the same number.
func TestD10_DoubleOpen(t *testing.T) {
	openTogether(t, func(dir string) {
		s, err := migrationlog.Open(dir, nil)
		require.NoError(t, err)
		require.NoError(t, s.Close())
	})
}

// D10: the same holds if the directory has no log yet. Exactly one process creates the log.
func TestD10_DoubleCreate(t *testing.T) {
	openTogether(t, func(string) {})
}

func openTogether(t *testing.T, prepare func(dir string)) {
	c := newCases(t)
	c.each(t, *opensFlag, func(t *testing.T, n int, r *rand.Rand) {
		parent := memDir(t)
		defer os.RemoveAll(parent)
		dir := filepath.Join(parent, "log")
		prepare(dir)
		children := make([]*child, contenders)
		pids := map[int]bool{0: true} // 0: the holder has not written its process ID yet
		for i := range children {
			children[i] = startChild(t, task{Role: "contender", Dir: dir, Seed: r.Uint64(), Origin: uint64(i + 1)})
			defer children[i].kill()
			pids[children[i].cmd.Process.Pid] = true
		}
		openAtOnce(t, children)
		takeTurns(t, c, dir, children, pids)
		c.count("rounds", 1)
	})
}

// openAtOnce makes all children open the log at once. It checks that exactly one succeeds, and that
// the errors of the others name it.
func openAtOnce(t *testing.T, children []*child) {
	for _, ch := range children {
		ch.await(1)
	}
	for _, ch := range children {
		fmt.Fprintln(ch.in, "go")
	}
	winner := 0
	for _, ch := range children {
		ch.await(2)
		require.Empty(t, ch.failure)
		require.Len(t, ch.messages, 2)
		if ch.messages[1] == "got" {
			require.Zero(t, winner, "two processes have the log open")
			winner = ch.cmd.Process.Pid
		}
	}
	require.NotZero(t, winner, "no process has the log open")
	for _, ch := range children {
		if ch.messages[1] != "got" {
			require.Contains(t, []string{fmt.Sprint("locked ", winner), "locked 0"}, ch.messages[1])
		}
	}
}

// takeTurns makes the holder continue and the others retry, until each of them has had the log
// open.
func takeTurns(t *testing.T, c *cases, dir string, children []*child, pids map[int]bool) {
	for _, ch := range children {
		fmt.Fprintln(ch.in, "go")
	}
	acked := map[uint64]string{}
	for _, ch := range children {
		ch.wait()
		require.Empty(t, ch.failure)
		require.Equal(t, "done", ch.messages[len(ch.messages)-1])
		for _, word := range ch.messages {
			var pid int
			if _, err := fmt.Sscanf(word, "locked %d", &pid); err == nil {
				require.Contains(t, pids, pid)
				c.count("attempts that found the log locked", 1)
			}
		}
		for seq, b := range ch.acked {
			require.NotContains(t, acked, seq, "seq %d was used twice", seq)
			acked[seq] = b
		}
	}
	require.Equal(t, acked, bodies(t, dir))
	c.count("processes that had the log open", len(children))
	c.count("events", len(acked))
}

// runContender waits for a line, tries to open the log, and prints the result. After the next line
// it retries until it has the log open, writes, and ends, with or without Close.
func runContender(o task) {
	in := bufio.NewReader(os.Stdin)
	printLine("ready")
	in.ReadString('\n')
	s := tryOpen(o)
	in.ReadString('\n')
	for s == nil {
		time.Sleep(300 * time.Microsecond)
		s = tryOpen(o)
	}
	held := o.Dir + ".held" // proves independently of the lock that no other process has the log open
	f, err := os.OpenFile(held, os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		printLine("error two processes have the log open:", err)
		os.Exit(1)
	}
	f.Close()
	r := rand.New(rand.NewPCG(o.Seed, 0))
	for a, n := newGenerator(r, o.Origin), 1+r.IntN(5); n > 0; n-- {
		writeAndPrint(s, a)
	}
	os.Remove(held)
	printLine("done")
	if r.IntN(2) == 0 {
		s.Close()
	}
	os.Exit(0)
}

func tryOpen(o task) *migrationlog.Store {
	s, err := migrationlog.Open(o.Dir, &migrationlog.Options{SegmentSize: 300})
	var locked *eventlog.LockedError
	switch {
	case err == nil:
		printLine("got")
	case errors.As(err, &locked) && errors.Is(err, migrationlog.ErrLocked):
		printLine("locked", locked.PID)
	default:
		printLine("error", strings.ReplaceAll(err.Error(), "\n", "; "))
		os.Exit(1)
	}
	return s
}

func isOneOf(err error, targets ...error) bool {
	for _, target := range targets {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}
