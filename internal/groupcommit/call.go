package groupcommit

// Write is a pointer to a type that embeds Call.
type Write interface{ call() *Call }

// Call is the queue's part of a write. The zero value is ready to use. A write may be used
// again, with its Call, after Do has returned.
type Call struct {
	done  chan signal // holds one
	chain bool        // the call brings many writes
}

func (c *Call) call() *Call { return c }

// prepare readies the call for the queue.
func (c *Call) prepare(chain bool) {
	if c.done == nil {
		c.done = make(chan signal, 1)
	}
	c.chain = chain
}

// signal is sent to a caller that waits in Do.
type signal uint8

const (
	committed    signal = iota // a batch with the caller's write was committed
	becomeLeader               // the caller must commit the next batch
)
