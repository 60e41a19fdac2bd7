package oracle_test

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The default number of histories takes a few seconds.
var (
	seedFlag      = flag.Uint64("seed", 0, "seed of all cases; if it is 0, the clock gives the seed")
	caseFlag      = flag.Int("case", -1, "number of the only case to run, with its steps; -1 runs all")
	historiesFlag = flag.Int("histories", 400, "TestD8_RandomHistories: number of histories that are compared with the oracle")
)

// maxFailures is the number of failed histories after which the test stops.
const maxFailures = 1_000

// tally counts the results of all histories.
type tally struct {
	mu       sync.Mutex
	kinds    map[string]int // histories with at least one difference of this kind
	failed   map[int]string // the histories' steps and differences
	failures int
	refused  int
}

// D1, D3, D5, D8: the default opening, an opening that reads all, and the replay reader agree with
// the oracle about every log, even if the log is damaged and healed again.
func TestD8_RandomHistories(t *testing.T) {
	seed := *seedFlag
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	first, last := 0, *historiesFlag
	if testing.Short() {
		last = min(last, 200)
	}
	if *caseFlag >= 0 {
		first, last = *caseFlag, *caseFlag+1
	}
	base := memDir(t)
	found := tally{kinds: map[string]int{}, failed: map[int]string{}}
	var next atomic.Int64
	next.Store(int64(first))
	var workers sync.WaitGroup
	for worker := range 2 * runtime.GOMAXPROCS(0) { // more than one per CPU, because a reader of a torn tail sleeps
		workers.Go(func() {
			dir := filepath.Join(base, fmt.Sprint(worker))
			for {
				number := int(next.Add(1)) - 1
				if number >= last || !found.try(dir, seed, number) {
					return
				}
			}
		})
	}
	workers.Wait()
	t.Logf("seed %d, histories %d to %d, refused %d", seed, first, last-1, found.refused)
	found.require(t, seed)
}

// try runs one history. It returns false if enough histories have failed.
func (f *tally) try(dir string, seed uint64, number int) bool {
	h := newHistory(dir, seed, uint64(number))
	err := runHistory(h)
	err = errors.Join(err, os.RemoveAll(dir))
	f.mu.Lock()
	defer f.mu.Unlock()
	if h.refused {
		f.refused++
	}
	if err == nil {
		return f.failures < maxFailures
	}
	kinds := map[string]bool{}
	if d := (difference{}); errors.As(err, &d) {
		for _, line := range d.lines {
			kinds[kindOf(line)] = true
		}
	} else {
		kinds["error: "+strings.SplitN(err.Error(), "\n", 2)[0]] = true
	}
	for kind := range kinds {
		f.kinds[kind]++
	}
	f.failures++
	if len(f.failed) < 3 || *caseFlag >= 0 {
		f.failed[number] = h.stepsText() + "\n" + err.Error()
	}
	return f.failures < maxFailures
}

// runHistory runs a history and returns a panic as an error, so that the other histories continue.
func runHistory(h *history) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return h.run()
}

func (f *tally) require(t *testing.T, seed uint64) {
	if f.failures == 0 {
		return
	}
	for _, kind := range slices.Sorted(maps.Keys(f.kinds)) {
		t.Logf("%6d histories: %s", f.kinds[kind], kind)
	}
	for _, number := range slices.Sorted(maps.Keys(f.failed)) {
		t.Logf("history %d:\n%s\nto repeat: go test ./internal/oracle -run TestD8_RandomHistories -count=1 -seed=%d -case=%d",
			number, f.failed[number], seed, number)
	}
	require.Zero(t, f.failures, "some histories differ from the oracle")
}

// memDir returns a new directory, in memory if the system has a file system in memory.
func memDir(t testing.TB) string {
	dir, err := os.MkdirTemp("/dev/shm", "migrationlog-oracle-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}
