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

// task is one measurement. Each task runs in its own process, so that memory, garbage and
// goroutines of another task cannot affect it.
type task struct {
	Kind       string `json:"kind"`
	Peer       string `json:"peer"`
	Dir        string `json:"dir"`
	Seed       uint64 `json:"seed"`
	Writers    int    `json:"writers"`
	Events     int    `json:"events"`
	Rows       int    `json:"rows"`
	DurationMS int    `json:"duration_ms"`

	Snapshot bool `json:"snapshot"` // start: a snapshot makes reading the events unnecessary
	Unended  bool `json:"unended"`  // make: no migration ends

	Migration       peer.ID `json:"migration"`        // history: the migration whose events are read
	MigrationEvents int     `json:"migration_events"` // history: their number

	KillAfter int `json:"kill_after"` // kill the process with SIGKILL after this many events; 0: never

	program string // executable that runs the task; "": this one
}

// values are the results of a task, by metric. The end of a metric's name is its unit.
type values map[string]float64

// taskEnv is the environment variable that contains the task of a process.
const taskEnv = "MIGRATIONLOG_BENCH_TASK"

const progressWord = "progress "

// runTask decodes a task, runs it, and prints its values.
func runTask(encoded string) error {
	var t task
	if err := json.Unmarshal([]byte(encoded), &t); err != nil {
		return err
	}
	measure, ok := map[string]func(task) (values, error){
		"upsert": measureUpsert, "import": measureImport, "start": measureStart, "load": measureLoad, "get": measureGet,
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

func reportProgress(events int) { fmt.Fprintf(os.Stderr, "%s%d\n", progressWord, events) }

// runInProcess runs the task in a new process. It calls progress with the number of events written
// so far, if the task reports it. The process is killed if ctx is canceled.
func runInProcess(ctx context.Context, t task, progress func(events int)) (values, error) {
	encoded, err := json.Marshal(t)
	if err != nil {
		return nil, err
	}
	program := t.program
	if program == "" {
		if program, err = os.Executable(); err != nil {
			return nil, err
		}
	}
	process := exec.CommandContext(ctx, program)
	process.Env = append(os.Environ(), taskEnv+"="+string(encoded))
	var out bytes.Buffer
	process.Stdout = &out
	stderr, err := process.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := process.Start(); err != nil {
		return nil, err
	}
	killed := false
	var messages []string
	lines := bufio.NewScanner(stderr)
	for lines.Scan() {
		number, isProgress := strings.CutPrefix(lines.Text(), progressWord)
		events, err := strconv.Atoi(number)
		if !isProgress || err != nil {
			messages = append(messages, lines.Text())
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
		return nil, fmt.Errorf("%s of %s: %w: %s", t.Kind, t.Peer, err, strings.Join(messages[max(0, len(messages)-20):], "\n"))
	}
	var found values
	return found, json.Unmarshal(out.Bytes(), &found)
}

// open opens the task's peer in the task's directory for one writer.
func (t task) open() (peer.Peer, peer.Store, error) {
	p, err := peer.Named(t.Peer)
	if err != nil {
		return p, nil, err
	}
	s, err := p.Open(t.Dir, peer.Options{Writers: 1})
	return p, s, err
}
