package real_test

import (
	"bufio"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"migrationlog"
)

// task is the task of a child. A child is a process that runs this test's program.
type task struct {
	Role   string // writer or contender
	Dir    string
	Seed   uint64
	Origin uint64 // origin of its generators; it differs between the children of a log
}

const taskEnv = "MIGRATIONLOG_TORTURE_ORDER"

func TestMain(m *testing.M) {
	text := os.Getenv(taskEnv)
	if text == "" {
		os.Exit(m.Run())
	}
	var o task
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		printLine("error", err)
		os.Exit(1)
	}
	map[string]func(task){"writer": runWriter, "contender": runContender}[o.Role](o)
}

// printLine prints a line. The whole line is written when it returns.
func printLine(words ...any) { os.Stdout.WriteString(fmt.Sprintln(words...)) }

// runWriter opens the log and writes to it until it is killed.
func runWriter(o task) {
	r := rand.New(rand.NewPCG(o.Seed, o.Origin))
	opts := &migrationlog.Options{SegmentSize: 200 + r.IntN(1<<uint(8+r.IntN(7)))}
	printLine("opening")
	s, err := migrationlog.Open(o.Dir, opts)
	if err != nil {
		printLine("error", err)
		os.Exit(1)
	}
	printLine("open")
	for g := range 1 + r.Uint64N(6) {
		a := newGenerator(rand.New(rand.NewPCG(o.Seed, o.Origin<<8|g)), o.Origin<<8|g)
		a.longEvery = 20
		go func() {
			for {
				writeAndPrint(s, a)
			}
		}()
	}
	select {}
}

// writeAndPrint prints the event, writes it, and prints its number when it is acknowledged.
func writeAndPrint(s *migrationlog.Store, a *generator) {
	e := a.event()
	text := hex.EncodeToString([]byte(body(e)))
	printLine("issue", text)
	receipt, err := write(s, e)
	if err != nil {
		printLine("error", err)
		os.Exit(1)
	}
	if receipt.Appended() {
		printLine("ack", receipt.Seq, text)
	}
}

// child is a process that runs a task, and the lines that it has printed so far.
type child struct {
	cmd     *exec.Cmd
	in      io.WriteCloser
	allRead chan struct{} // closed when all its output has been read

	mu       sync.Mutex
	replied  *sync.Cond
	ended    bool
	lines    int
	issued   []string          // bodies of the events that it started to write
	acked    map[uint64]string // bodies of the acknowledged events, by their numbers
	messages []string          // all other lines
	failure  string            // the last line that reports an error or is not valid
}

func startChild(t testing.TB, o task) *child {
	self, err := os.Executable()
	require.NoError(t, err)
	text, err := json.Marshal(o)
	require.NoError(t, err)
	c := &child{cmd: exec.Command(self), allRead: make(chan struct{}), acked: map[uint64]string{}}
	c.replied = sync.NewCond(&c.mu)
	c.cmd.Env = append(os.Environ(), taskEnv+"="+string(text))
	c.cmd.Stderr = os.Stderr
	c.in, err = c.cmd.StdinPipe()
	require.NoError(t, err)
	out, err := c.cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, c.cmd.Start())
	go c.readLines(out)
	return c
}

func (c *child) readLines(out io.Reader) {
	defer close(c.allRead)
	r := bufio.NewReaderSize(out, 1<<18)
	for {
		line, err := r.ReadString('\n')
		c.mu.Lock()
		if err != nil { // an incomplete last line does not count
			c.ended = true
		} else {
			c.parseLine(strings.TrimSuffix(line, "\n"))
		}
		c.replied.Broadcast()
		c.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (c *child) parseLine(line string) {
	c.lines++
	verb, rest, _ := strings.Cut(line, " ")
	switch verb {
	case "issue":
		b, err := hex.DecodeString(rest)
		if err != nil {
			c.failure = line
		}
		c.issued = append(c.issued, string(b))
	case "ack":
		var seq uint64
		var text string
		_, err := fmt.Sscan(rest, &seq, &text)
		b, decodeErr := hex.DecodeString(text)
		if err != nil || decodeErr != nil || c.acked[seq] != "" {
			c.failure = line
		}
		c.acked[seq] = string(b)
	case "error":
		c.failure = line
	default:
		c.messages = append(c.messages, line)
	}
}

// await waits until the child has printed this number of lines or has ended.
func (c *child) await(lines int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.lines < lines && !c.ended {
		c.replied.Wait()
	}
}

// kill sends SIGKILL to the child. It returns when the process has ended and all its output has
// been read.
func (c *child) kill() {
	c.cmd.Process.Kill()
	c.wait()
}

func (c *child) wait() {
	<-c.allRead
	c.in.Close()
	c.cmd.Wait() // if the child was killed, this is an error
}
