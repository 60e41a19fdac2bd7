package groupcommit

import "time"

// Write is a pointer to a type that embeds Call.
type Write interface{ call() *Call }

// Call holds the queue's state of one write. A write embeds it. The zero value is ready to use.
// After Do has returned, the write and its Call may be used again.
type Call struct {
	done     chan signal // has a buffer for one signal, so that sending it never blocks
	chain    bool        // the write is the first of a chain, see Queue.Do
	queuedAt time.Time   // set only if the write may become the first pending one, see Queue.join; otherwise it may be left from an earlier use
}

func (c *Call) call() *Call { return c }

// prepare must be called before the call is queued.
func (c *Call) prepare(chain bool) {
	if c.done == nil {
		c.done = make(chan signal, 1)
	}
	c.chain = chain
}

// signal is sent to a caller that is blocked in Do.
type signal uint8

const (
	committed    signal = iota // the batch with the caller's write was committed
	becomeLeader               // the caller must commit the next batch
)
