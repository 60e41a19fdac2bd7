//go:build simulated

package simulated

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/term"

	"migrationlog"
	"migrationlog/checkpoint"
	"migrationlog/internal/torture/simos"
)

var (
	seedFlag    = flag.Int64("seed", 0, "seed of all cases; if it is 0, the clock gives the seed")
	cutsFlag    = flag.Int("cuts", 2000, "power cuts to try")
	caseFlag    = flag.Int("case", -1, "number of the only case to run; -1 runs all")
	workersFlag = flag.Int("workers", 4, "number of cases that run at once; some of them wait until a tail stops changing")
	// A few failed cases are enough to see what they have in common.
	failuresFlag = flag.Int64("failures", 10, "number of failed cases after which a test stops")
)

func TestMain(m *testing.M) {
	flag.Parse()
	if *seedFlag == 0 {
		*seedFlag = time.Now().UnixNano()
	}
	fmt.Printf("seed %d\n", *seedFlag)
	debug.SetGCPercent(400) // the cases allocate and drop thousands of small logs
	os.Exit(m.Run())
}

// draw returns a random number generator for one case. Its numbers depend only on the seed and on
// n.
func draw(n int) *rand.Rand { return rand.New(rand.NewPCG(uint64(*seedFlag), uint64(n))) }

// eachCase runs the cases from 0 to n-1, or only the case of the -case flag, several at once. If a
// case fails, it prints the command that runs this case alone.
func eachCase(t *testing.T, n int, try func(n int, dir string) error) {
	base := memDir(t)
	next := make(chan int)
	var failures atomic.Int64
	var workers sync.WaitGroup
	for range *workersFlag {
		workers.Go(func() {
			for i := range next {
				dir := filepath.Join(base, fmt.Sprint(i))
				err := os.Mkdir(dir, 0o750)
				if err == nil {
					err = try(i, dir)
				}
				if err != nil && failures.Add(1) <= *failuresFlag {
					t.Errorf("case %d: %v\nto repeat: go run ./internal/torture -seed %d -run '^%s$' -case %d", i, err, *seedFlag, t.Name(), i)
				}
				if err := os.RemoveAll(dir); err != nil {
					t.Error(err)
				}
			}
		})
	}
	isTerminal := term.IsTerminal(int(os.Stderr.Fd()))
	printed := time.Now()
	for i := range n {
		if (*caseFlag < 0 || *caseFlag == i) && failures.Load() < *failuresFlag {
			next <- i
		}
		if isTerminal && time.Since(printed) > time.Second {
			printed = time.Now()
			fmt.Fprintf(os.Stderr, "\r%s: %d of %d ", t.Name(), i, n)
		}
	}
	close(next)
	workers.Wait()
}

// memDir returns a new directory, in memory if the system has a file system in memory.
func memDir(t *testing.T) string {
	dir, err := os.MkdirTemp("/dev/shm", "torture-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// tally counts the tested cases by class.
type tally struct {
	mu    sync.Mutex
	count map[string]int
	seen  map[string]map[uint64]bool
}

func newTally() *tally {
	return &tally{count: map[string]int{}, seen: map[string]map[uint64]bool{}}
}

func (c *tally) add(class string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.count[class]++
}

// see counts a state and reports whether it is the first of its kind in its class.
func (c *tally) see(class string, hash uint64) (isNew bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.count[class]++
	if c.seen[class] == nil {
		c.seen[class] = map[uint64]bool{}
	}
	isNew = !c.seen[class][hash]
	c.seen[class][hash] = true
	return isNew
}

func (c *tally) String() string {
	var lines []string
	for _, class := range sortedKeys(c.count) {
		line := fmt.Sprintf("%9d %s", c.count[class], class)
		if seen := c.seen[class]; seen != nil {
			line += fmt.Sprintf(", %d distinct", len(seen))
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}

// The build under test uses the simulated disk: the disk recorded one write and one sync of the
// segment for each upsert. Before the first upsert, another write preallocated zeros.
func TestSimulated(t *testing.T) {
	dir := memDir(t)
	disk := simos.Watch(dir)
	defer disk.Stop()
	s, err := migrationlog.Open(filepath.Join(dir, "log"), &migrationlog.Options{SegmentSize: 700}) // small enough to be preallocated in one write
	require.NoError(t, err)
	require.NotEmpty(t, disk.Ops(), "this build uses the real disk: use go run ./internal/torture")
	want := []simos.OpKind{simos.OpWrite, simos.OpWrite, simos.OpSync}
	for range 3 {
		before := len(disk.Ops())
		c, err := checkpoint.New(checkpoint.NewMigrationID(), 0, checkpoint.CatchUp{VShardID: 7}, 1)
		require.NoError(t, err)
		_, err = s.Upsert(c)
		require.NoError(t, err)
		var got []simos.OpKind
		for _, op := range disk.Ops()[before:] {
			if op.Path == "log/wal/00000000000000000001" {
				got = append(got, op.Kind)
			}
		}
		require.Equal(t, want, got)
		want = want[len(want)-2:]
	}
	require.NoError(t, s.Close())
}

func removeAll(dir string) {
	if err := os.RemoveAll(dir); err != nil {
		panic(err)
	}
}
