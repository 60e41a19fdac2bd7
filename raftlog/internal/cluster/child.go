package cluster

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"
)

// A Task is the task of a child process, which runs one member.
type Task struct {
	Role    string // of the program that runs in the child
	ID      raft.ServerID
	Addr    raft.ServerAddress
	Dir     string
	Servers []raft.Server
	Seed    uint64
	Life    int               // number of the child among those of the member, from 0
	Args    map[string]string // for the program
}

const taskEnv = "RAFTLOG_TEST_TASK"

// ChildTask returns the task of this process, if it is a child.
func ChildTask() (task Task, ok bool) {
	text := os.Getenv(taskEnv)
	if text == "" {
		return task, false
	}
	if err := json.Unmarshal([]byte(text), &task); err != nil {
		panic(err)
	}
	return task, true
}

// StartMember starts the member of the task, with a transport over TCP.
func (task Task) StartMember(c Config) (*Member, error) {
	m := &Member{ID: task.ID, Addr: task.Addr, Dir: task.Dir}
	addr, err := net.ResolveTCPAddr("tcp", string(task.Addr))
	if err != nil {
		return nil, err
	}
	trans, err := raft.NewTCPTransport(string(task.Addr), addr, 3, 2*time.Second, io.Discard)
	if err != nil {
		return nil, err
	}
	return m, m.Start(c, trans, task.Servers)
}

// A Message is one line that a child prints for its parent, or the parent for the child.
type Message struct {
	Op    string `json:"op"`
	Key   string `json:"key,omitempty"`
	Index uint64 `json:"index,omitempty"`
	Text  string `json:"text,omitempty"`
}

var printing sync.Mutex

// Print sends a message to the parent. When it returns, a kill does not prevent its arrival.
func Print(m Message) {
	line, err := json.Marshal(m)
	if err != nil {
		panic(err)
	}
	printing.Lock()
	defer printing.Unlock()
	if _, err := os.Stdout.Write(append(line, '\n')); err != nil {
		os.Exit(3) // the parent has ended
	}
}

// Commands calls do for each message of the parent. At the end of the input the process ends.
func Commands(do func(Message)) {
	decoder := json.NewDecoder(os.Stdin)
	for {
		var m Message
		if err := decoder.Decode(&m); err != nil {
			os.Exit(0)
		}
		do(m)
	}
}

// A Child is a child process.
type Child struct {
	Task Task

	cmd     *exec.Cmd
	in      io.WriteCloser
	allRead chan struct{} // closed when all its output has been read

	mu      sync.Mutex
	replies map[string]Message // the last message with each Op that the parent did not handle
	counts  map[string]int     // number of messages with each Op
	ended   bool
}

// StartChild starts a process that runs the test's program with a task. It calls handle for each
// message of the child, on one goroutine. If handle returns false, the message is kept for Ask.
func StartChild(t testing.TB, task Task, handle func(Message) bool) *Child {
	self, err := os.Executable()
	require.NoError(t, err)
	text, err := json.Marshal(task)
	require.NoError(t, err)
	c := &Child{Task: task, cmd: exec.Command(self), allRead: make(chan struct{}), replies: map[string]Message{}, counts: map[string]int{}}
	c.cmd.Env = append(os.Environ(), taskEnv+"="+string(text))
	require.NoError(t, os.MkdirAll(task.Dir, 0o700))
	stderr, err := os.OpenFile(task.Dir+"/stderr.log", os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	require.NoError(t, err)
	defer stderr.Close()
	c.cmd.Stderr = stderr
	c.in, err = c.cmd.StdinPipe()
	require.NoError(t, err)
	out, err := c.cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, c.cmd.Start())
	go c.read(out, handle)
	t.Cleanup(func() {
		c.Kill()
		if t.Failed() {
			t.Logf("errors of member %s:\n%s", task.ID, lastLines(task.Dir+"/stderr.log", 40))
		}
	})
	return c
}

func (c *Child) read(out io.Reader, handle func(Message) bool) {
	defer close(c.allRead)
	r := bufio.NewReaderSize(out, 1<<18)
	for {
		line, err := r.ReadBytes('\n')
		var m Message
		if err == nil { // an incomplete last line does not count
			if json.Unmarshal(line, &m) != nil {
				m = Message{Op: "error", Text: string(line)}
			}
			handled := handle(m)
			c.mu.Lock()
			c.counts[m.Op]++
			if !handled {
				c.replies[m.Op] = m
			}
			c.mu.Unlock()
			continue
		}
		c.mu.Lock()
		c.ended = true
		c.mu.Unlock()
		return
	}
}

// Ask sends a message, and waits for the next message of the child with the same Op. It returns an
// error if the child ends.
func (c *Child) Ask(m Message) (Message, error) {
	c.mu.Lock()
	before := c.counts[m.Op]
	c.mu.Unlock()
	if err := json.NewEncoder(c.in).Encode(m); err != nil {
		return Message{}, err
	}
	for end := time.Now().Add(Patience); time.Now().Before(end); time.Sleep(time.Millisecond) {
		c.mu.Lock()
		now, reply, ended := c.counts[m.Op], c.replies[m.Op], c.ended
		c.mu.Unlock()
		if now > before {
			return reply, nil
		}
		if ended {
			return Message{}, errors.New("the child has ended")
		}
	}
	return Message{}, fmt.Errorf("no reply to %s within %s", m.Op, Patience)
}

// Count returns the number of messages with this Op so far.
func (c *Child) Count(op string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.counts[op]
}

// Ended reports whether the child has closed its output.
func (c *Child) Ended() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ended
}

// Kill sends SIGKILL to the child. It returns when the process has ended and all its output has
// been handled.
func (c *Child) Kill() {
	c.cmd.Process.Kill()
	c.Wait()
}

// Wait waits until the child has ended, and returns the error of the process.
func (c *Child) Wait() error {
	<-c.allRead
	c.in.Close()
	return c.cmd.Wait()
}

// FreeAddrs returns addresses on the loopback device with ports that are free now.
func FreeAddrs(t testing.TB, n int) (addrs []raft.ServerAddress) {
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		defer l.Close()
		addrs = append(addrs, raft.ServerAddress(l.Addr().String()))
	}
	return addrs
}
