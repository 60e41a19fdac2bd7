package storetest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"time"
)

// Kills runs a coordinator in processes of its own and kills them with SIGKILL at random moments: at
// its start, during a write, between a write and its effect, and in the next start. It repeats this n
// times, each with a new log. Each time the last process runs to its end, and the result is
// checked. Every event that was durable before a kill must be in the log. start returns a new Trial
// for each run. The processes run the same test again, up to the call of Kills, and call start too.
//
// The Cluster of a Trial lives in the test's process. Another cluster would be lost with each kill.
func Kills(t TB, n int, start func() Trial) {
	t.Helper()
	runIfChild(t, start)
	if runtime.GOOS == "windows" {
		t.Skipf("a process on Windows cannot inherit the pipes that this test uses")
	}
	seed := uint64(time.Now().UnixNano())
	rng := rand.New(rand.NewPCG(seed, 0))
	requests := 1 // of a life without a kill
	for i := range n + 1 {
		r, err := newRun(start)
		if err != nil {
			t.Fatalf("%v", err)
		}
		var faults []string
		if i > 0 { // the first run only counts
			for range 1 + rng.IntN(3) {
				fault, err := r.killed(t, rng, rng.IntN(requests))
				if err != nil {
					r.remove()
					r.fail(t, strings.Join(append(faults, fault), ", then "), err)
				}
				faults = append(faults, fault)
			}
		}
		served, err := r.processToEnd(t)
		if err == nil {
			err = r.check()
		}
		requests = max(requests, served)
		r.remove()
		if err != nil {
			r.fail(t, fmt.Sprintf("%s (seed %d)", strings.Join(faults, ", then "), seed), err)
		}
	}
}

// killed starts a process and kills it at the request with this index, or a little later.
func (r *run) killed(t TB, rng *rand.Rand, at int) (fault string, err error) {
	c, err := startChild(t, task{Dir: r.dir})
	if err != nil {
		return "", err
	}
	defer func() {
		c.kill()
		if err == nil {
			err = r.restart()
		}
	}()
	for i := 0; ; i++ {
		q, err := c.next()
		if err != nil {
			return "an end without a fault", fmt.Errorf("the process has ended without a fault: %w\n%s", err, &c.output)
		}
		if q.Op == opEnded {
			return "an end without a fault", errorOf(q)
		}
		fault = fmt.Sprintf("a kill at request %d (%s)", i, q.Op)
		if i == at && rng.IntN(3) == 0 {
			return fault + " before it was carried out", nil
		}
		answer, err := r.serve(q)
		if err != nil {
			return fault, err
		}
		if i == at && rng.IntN(2) == 0 {
			return fault + " after it was carried out", nil
		}
		if err := c.reply(answer); err != nil {
			return fault, err
		}
		if i == at {
			time.Sleep(time.Duration(rng.IntN(1000)) * time.Microsecond)
			return fault + " after its reply", nil
		}
	}
}

// processToEnd runs a process to its end without a fault. It returns the number of its requests.
func (r *run) processToEnd(t TB) (served int, err error) {
	requests, err := r.process(t, task{Dir: r.dir})
	if err != nil {
		return 0, err
	}
	return len(requests), errorOf(requests[len(requests)-1])
}

// process runs a process to its end and serves its requests. The last one has the error of Run.
func (r *run) process(t TB, o task) (requests []request, err error) {
	c, err := startChild(t, o)
	if err != nil {
		return nil, err
	}
	for {
		q, err := c.next()
		if err != nil {
			c.kill()
			return nil, fmt.Errorf("the process has ended before Run returned: %w\n%s", err, &c.output)
		}
		answer, err := r.serve(q)
		if err == nil {
			err = c.reply(answer)
		}
		if err != nil {
			c.kill()
			return nil, err
		}
		requests = append(requests, q)
		if q.Op == opEnded {
			return requests, c.wait()
		}
	}
}

func errorOf(ended request) error {
	if ended.Err == "" {
		return nil
	}
	return unexpected(errors.New(ended.Err))
}

// serve carries out a request of a child.
func (r *run) serve(q request) (a reply, err error) {
	c := r.trial.Cluster
	switch q.Op {
	case opDurable:
		err = r.observe(q.Seq)
	case opDo:
		a = replyOf(c.Do(q.Move, q.Effect, q.Epoch))
	case opCompensate:
		a = replyOf(c.Compensate(q.Move, q.Step, q.Epoch))
	case opMember:
		a.OK = c.Member(q.Node)
	case opLeader:
		a.Node, a.OK = c.Leader(q.Group, q.Epoch)
	}
	return a, err
}
