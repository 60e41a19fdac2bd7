package real_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// cases runs the cases of one randomized test. The random numbers of a case depend only on the seed
// and the number of the case, so each case can be repeated alone.
type cases struct {
	name string
	seed uint64

	mu     sync.Mutex
	counts map[string]int
}

func newCases(t *testing.T) *cases {
	seed := *seedFlag
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("-seed=%d", seed)
	return &cases{name: t.Name(), seed: seed, counts: map[string]int{}}
}

// rand returns the random number generator of the case with this number. The number -1 is for the
// data that all cases share.
func (c *cases) rand(n int) *rand.Rand { return rand.New(rand.NewPCG(c.seed, uint64(n))) }

// count adds n to the counter of a class.
func (c *cases) count(class string, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.counts[class] += n
}

// each runs the cases from 0 to count-1 with two workers, and prints the counters. With the -case
// flag it runs only that case.
func (c *cases) each(t *testing.T, count int, try func(t *testing.T, n int, r *rand.Rand)) {
	var next atomic.Int64
	if *caseFlag >= 0 {
		next.Store(int64(*caseFlag))
		count = *caseFlag + 1
	}
	t.Run("cases", func(t *testing.T) {
		for range 2 {
			t.Run("worker", func(t *testing.T) {
				t.Parallel()
				for n := int(next.Add(1)) - 1; n < count; n = int(next.Add(1)) - 1 {
					c.one(t, n, try)
				}
			})
		}
	})
	t.Log(c)
}

// one runs one case. If the case fails, it prints the command that repeats it.
func (c *cases) one(t *testing.T, n int, try func(t *testing.T, n int, r *rand.Rand)) {
	defer func() {
		if p := recover(); p != nil {
			t.Errorf("panic: %v\n%s", p, debug.Stack())
		}
		if t.Failed() {
			t.Logf("to repeat: go test ./internal/torture/real -run '^%s$' -count=1 -seed=%d -case=%d", c.name, c.seed, n)
			t.FailNow()
		}
	}()
	try(t, n, c.rand(n))
}

func (c *cases) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var lines []string
	for class, n := range c.counts {
		lines = append(lines, fmt.Sprintf("%8d  %s", n, class))
	}
	slices.SortFunc(lines, func(a, b string) int { return strings.Compare(a[10:], b[10:]) })
	return "tried:\n" + strings.Join(lines, "\n")
}

// memDir returns a new directory, in memory if the system has a file system in memory.
func memDir(t testing.TB) string {
	dir, err := os.MkdirTemp("/dev/shm", "migrationlog-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}
