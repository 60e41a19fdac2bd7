package storetest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"

	"migrationlog/internal/fault"
)

// A child is a process that runs the test program again, with only the test that started it. That
// test calls the same function of this package, which finds the child's task in the environment.
const taskEnv = "MIGRATIONLOG_STORETEST"

// task is the task of a child.
type task struct {
	Test string
	Dir  string
	// If LimitWrite is not 0, no file may grow beyond LimitBytes from this write on. 1 is the first.
	LimitWrite int
	LimitBytes uint64
}

// runIfChild runs the coordinator and ends the process, if this process is a child.
func runIfChild(t TB, start func() Trial) {
	text := os.Getenv(taskEnv)
	if text == "" {
		return
	}
	var o task
	if err := json.Unmarshal([]byte(text), &o); err != nil || o.Test != t.Name() {
		return
	}
	trial := start()
	c := &connection{in: bufio.NewReader(os.NewFile(3, "replies")), out: os.NewFile(4, "requests")}
	if trial.Cluster != nil {
		trial.Cluster.remote = c
	}
	writes := 0
	fault.Set(o.Dir, func(at fault.Point, lastSeq uint64) error {
		switch at {
		case fault.BeforeWrite:
			if writes++; writes == o.LimitWrite {
				c.call(request{Op: opLimited, Seq: lastSeq + 1})
				return limitFileSize(o.LimitBytes)
			}
		case fault.AfterSync:
			return c.call(request{Op: opDurable, Seq: lastSeq}).err()
		}
		return nil
	})
	c.call(request{Op: opStarted})
	ended := request{Op: opEnded}
	if err := trial.Run(o.Dir); err != nil {
		ended.Err = err.Error()
	}
	c.call(ended)
	os.Exit(0)
}

// child is a running child, seen by its parent.
type child struct {
	cmd      *exec.Cmd
	requests *bufio.Reader
	replies  *os.File
	from     *os.File
	output   bytes.Buffer
}

func startChild(t TB, o task) (*child, error) {
	o.Test = t.Name()
	text, err := json.Marshal(o)
	if err != nil {
		return nil, err
	}
	names := strings.Split(t.Name(), "/")
	for i, name := range names {
		names[i] = "^" + regexp.QuoteMeta(name) + "$"
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	theirReplies, replies, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer theirReplies.Close()
	requests, theirRequests, err := os.Pipe()
	if err != nil {
		replies.Close()
		return nil, err
	}
	defer theirRequests.Close()
	c := &child{cmd: exec.Command(self, "-test.run="+strings.Join(names, "/")), requests: bufio.NewReader(requests), replies: replies, from: requests}
	c.cmd.Env = append(os.Environ(), taskEnv+"="+string(text))
	c.cmd.ExtraFiles = []*os.File{theirReplies, theirRequests}
	c.cmd.Stdout, c.cmd.Stderr = &c.output, &c.output
	if err := c.cmd.Start(); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

func (c *child) close() {
	c.replies.Close()
	c.from.Close()
}

// next returns the child's next request. It returns an error if the child has ended.
func (c *child) next() (q request, err error) {
	line, err := c.requests.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &q)
	}
	return q, err
}

func (c *child) reply(r reply) error {
	text, err := json.Marshal(r)
	if err == nil {
		_, err = c.replies.Write(append(text, '\n'))
	}
	return err
}

// kill ends the child with SIGKILL and waits for its end.
func (c *child) kill() {
	c.cmd.Process.Kill()
	c.cmd.Wait() // if the child was killed, this is an error
	c.close()
}

// wait waits for the end of a child that has nothing left to do.
func (c *child) wait() error {
	err := c.cmd.Wait()
	c.close()
	if err != nil {
		return fmt.Errorf("%w\n%s", err, &c.output)
	}
	return nil
}
