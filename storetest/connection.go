package storetest

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"migrationlog"
	"migrationlog/checkpoint"
	"migrationlog/recovery/model"
)

// The operations that a child asks its parent for.
const (
	opStarted    = "started"
	opDurable    = "durable" // Seq: all events up to it
	opDo         = "do"
	opCompensate = "compensate"
	opMember     = "member"
	opLeader     = "leader"
	opLimited    = "limited" // the file-size limit is about to be set
	opEnded      = "ended"   // Err: of Run
)

// request is a line from a child.
type request struct {
	Op    string
	Seq   uint64                  `json:",omitempty"`
	Move  model.Move              `json:",omitzero"`
	Step  checkpoint.Compensation `json:",omitzero"`
	Node  uint64                  `json:",omitempty"`
	Group uint64                  `json:",omitempty"`
	Epoch uint64                  `json:",omitempty"`

	Effect model.Effect `json:",omitempty"`
	Err    string       `json:",omitempty"`
}

// reply is a line to a child.
type reply struct {
	Node uint64 `json:",omitempty"`
	OK   bool   `json:",omitempty"`
	Err  string `json:",omitempty"`
	Is   []int  `json:",omitempty"` // indexes in sentinels
}

// sentinels are the errors that errors.Is finds in the error of a reply.
var sentinels = []error{model.ErrFenced, model.ErrUnreachable, model.ErrPrecondition, model.ErrCompensation, migrationlog.ErrFenced}

func replyOf(err error) (r reply) {
	if err == nil {
		return r
	}
	r.Err = err.Error()
	for i, sentinel := range sentinels {
		if errors.Is(err, sentinel) {
			r.Is = append(r.Is, i)
		}
	}
	return r
}

// remoteError is an error of the parent's cluster.
type remoteError struct {
	text string
	is   []int
}

func (e *remoteError) Error() string { return e.text }

func (e *remoteError) Is(target error) bool {
	for _, i := range e.is {
		if sentinels[i] == target {
			return true
		}
	}
	return false
}

func (r reply) err() error {
	if r.Err == "" {
		return nil
	}
	return &remoteError{r.Err, r.Is}
}

// connection is the child's end of the pipes to its parent. It is safe for concurrent use.
type connection struct {
	mu  sync.Mutex
	in  *bufio.Reader
	out io.Writer
}

// call sends a request and waits for the reply. If the parent has ended, the child ends too.
func (c *connection) call(q request) (r reply) {
	c.mu.Lock()
	defer c.mu.Unlock()
	text, err := json.Marshal(q)
	if err == nil {
		_, err = c.out.Write(append(text, '\n'))
	}
	var line []byte
	if err == nil {
		line, err = c.in.ReadBytes('\n')
	}
	if err == nil {
		err = json.Unmarshal(line, &r)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "storetest: a process under test has lost its parent:", err)
		os.Exit(1)
	}
	return r
}
