package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"migrationlog/bench/peer"
)

// task is one measurement. It runs in a process of its own, so that none finds
// the memory, the garbage or the goroutines of another.
type task struct {
	Kind       string `json:"kind"`
	Peer       string `json:"peer"`
	Dir        string `json:"dir"`
	Seed       uint64 `json:"seed"`
	Writers    int    `json:"writers"`
	Events     int    `json:"events"`
	Rows       int    `json:"rows"`
	DurationMS int    `json:"duration_ms"`

	Snapshot bool `json:"snapshot"` // one spares the start reading the events

	KillAfter int `json:"kill_after"` // end the process with SIGKILL once it has told of so many events
}

// values are what a task found, by metric. A metric's unit is the end of its name.
type values map[string]float64

// taskEnv holds the task of a process that is to run one.
const taskEnv = "MIGRATIONLOG_BENCH_TASK"

const progressWord = "progress "

// runTask is the life of a process that was started for one task.
func runTask(encoded string) error {
	var t task
	if err := json.Unmarshal([]byte(encoded), &t); err != nil {
		return err
	}
	measure, ok := map[string]func(task) (values, error){
		"upsert": measureUpsert, "import": measureImport, "start": measureStart, "get": measureGet,
		"history": measureHistory, "disk": measureDisk, "make": makeHistory, "write": writeOn,
	}[t.Kind]
	if !ok {
		return fmt.Errorf("there is no task %q", t.Kind)
	}
	if err := os.MkdirAll(t.Dir, 0o700); err != nil {
		return err
	}
	found, err := measure(t)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(found)
}

func tellProgress(events int) { fmt.Fprintf(os.Stderr, "%s%d\n", progressWord, events) }

// run runs the task in a new process. progress is told how many events it has
// written so far, where it tells. The process ends with ctx.
func (t task) run(ctx context.Context, progress func(events int)) (values, error) {
	encoded, err := json.Marshal(t)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	process := exec.CommandContext(ctx, self)
	process.Env = append(os.Environ(), taskEnv+"="+string(encoded))
	var out bytes.Buffer
	process.Stdout = &out
	told, err := process.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := process.Start(); err != nil {
		return nil, err
	}
	killed := false
	var said []string
	lines := bufio.NewScanner(told)
	for lines.Scan() {
		number, isProgress := strings.CutPrefix(lines.Text(), progressWord)
		events, err := strconv.Atoi(number)
		if !isProgress || err != nil {
			said = append(said, lines.Text())
			continue
		}
		progress(events)
		if t.KillAfter > 0 && events >= t.KillAfter && !killed {
			killed = true
			if err := process.Process.Kill(); err != nil {
				return nil, err
			}
		}
	}
	err = errors.Join(lines.Err(), process.Wait())
	if killed {
		return nil, nil
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil {
		return nil, fmt.Errorf("%s of %s: %w: %s", t.Kind, t.Peer, err, strings.Join(said[max(0, len(said)-20):], "\n"))
	}
	var found values
	return found, json.Unmarshal(out.Bytes(), &found)
}

// open opens the task's peer in its directory, for one writer.
func (t task) open() (peer.Peer, peer.Store, error) {
	p, err := peer.Named(t.Peer)
	if err != nil {
		return p, nil, err
	}
	s, err := p.Open(t.Dir, peer.Options{Writers: 1})
	return p, s, err
}
