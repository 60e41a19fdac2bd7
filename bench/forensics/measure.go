package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"regexp"
	"syscall"
	"time"

	"migrationlog/checkpoint"
	"migrationlog/replay"
)

// measurement is a question as one program answers it.
type measurement struct {
	question question
	by       string // replay-tool, a call of the library, "sqlite3" or "SQLite"
	bare     bool   // on the log without summaries
}

func (m measurement) name() string {
	name := m.question.name + ", " + m.by
	if m.bare {
		name += ", no index"
	}
	return name
}

// all returns all measurements in the order of the report.
func all() (list []measurement) {
	for _, q := range questions {
		for _, bare := range []bool{false, true} {
			if bare && !q.bare {
				continue
			}
			list = append(list, measurement{q, byTool, bare})
			for _, c := range q.calls {
				if !bare || c != "Store.History" { // a store writes the summaries that are missing
					list = append(list, measurement{q, c, bare})
				}
			}
		}
		if q.sql != nil {
			list = append(list, measurement{q, "sqlite3", false}, measurement{q, "SQLite", false})
		}
	}
	return list
}

// measure measures everything that matches, in rounds and in a random order, and replaces its samples
// in the results.
func measure(ctx context.Context, f files, expr *regexp.Regexp, rounds int, seed uint64) error {
	r, err := readResults(f)
	if err != nil {
		return err
	}
	var chosen []measurement
	for _, m := range all() {
		if expr.MatchString(m.name()) {
			chosen = append(chosen, m)
			r.Samples[m.name()] = map[string][]float64{}
		}
	}
	if len(chosen) == 0 {
		return errors.New("-run leaves nothing to measure")
	}
	subjects, lastSeq, err := chooseSubjects(ctx, f, rounds, seed)
	if err != nil {
		return err
	}
	if r.Events, r.LogBytes, r.IndexBytes, err = f.sizes(lastSeq); err != nil {
		return err
	}
	rng := rand.New(rand.NewPCG(seed, 0))
	for _, s := range subjects {
		rng.Shuffle(len(chosen), func(i, j int) { chosen[i], chosen[j] = chosen[j], chosen[i] })
		for _, m := range chosen {
			found, err := m.run(ctx, f, s)
			if err != nil {
				return fmt.Errorf("%s: %w", m.name(), err)
			}
			if m.question.name == "verify" {
				found[rateGB] = float64(r.LogBytes) / 1e6 / found[warmMS]
			}
			for metric, v := range found {
				r.Samples[m.name()][metric] = append(r.Samples[m.name()][metric], v)
			}
			if err := r.write(f); err != nil { // so that an interrupted run keeps its samples
				return err
			}
		}
	}
	return nil
}

// chooseSubjects returns a migration and a point for each round. The points are in equal parts of the
// log, so that the migrations are early, middle and late ones.
func chooseSubjects(ctx context.Context, f files, rounds int, seed uint64) (list []subject, lastSeq uint64, err error) {
	reader, err := replay.Open(f.log)
	if err != nil {
		return nil, 0, err
	}
	newest, _, _, err := reader.Newest(ctx, 1)
	if err != nil {
		return nil, 0, err
	}
	for _, r := range newest {
		lastSeq = r.Seq
	}
	rng := rand.New(rand.NewPCG(seed, 1))
	for n := range uint64(rounds) {
		part := lastSeq / uint64(rounds)
		s := subject{Seq: 1 + n*part + rng.Uint64N(part)}
		for r, err := range reader.Find(ctx, replay.Query{FromSeq: s.Seq}, nil) {
			if err != nil {
				return nil, 0, err
			}
			if id, ok := r.Migration(); ok && s.Migration == (checkpoint.MigrationID{}) {
				s.Migration = id
			}
			if u, ok := r.Event.(checkpoint.Upserted); ok && s.Migration != (checkpoint.MigrationID{}) {
				s.VShard = u.Checkpoint.Payload.Shard()
				break
			}
		}
		list = append(list, s)
	}
	return list, lastSeq, nil
}

func (f files) sizes(lastSeq uint64) (events uint64, logBytes, indexBytes int64, err error) {
	size := func(path string, sum *int64) error {
		return eachFile(path, func(file *os.File) error {
			info, err := file.Stat()
			if err == nil {
				*sum += info.Size()
			}
			return err
		})
	}
	err = errors.Join(size(f.log+"/wal", &logBytes), size(f.log+"/index", &indexBytes))
	return lastSeq, logBytes, indexBytes, err
}

// run measures one sample.
func (m measurement) run(ctx context.Context, f files, s subject) (map[string]float64, error) {
	dir := f.log
	if m.bare {
		dir = f.bare
	}
	switch m.by {
	case byTool:
		return runProcess(ctx, dir, m.question.exit, f.tool, m.question.tool(dir, s)...)
	case "sqlite3":
		return runProcess(ctx, f.database, 0, "sqlite3", "-readonly", f.database, m.question.sql(s))
	case "SQLite":
		return runInProcess(ctx, call{Name: m.by, Dir: f.database, SQL: m.question.sql(s), Subject: s})
	}
	return runInProcess(ctx, call{Name: m.by, Dir: dir, Subject: s})
}

// runProcess runs a program twice: after the files of path were removed from the page cache, and again.
// Its output is read and thrown away. exit is the expected exit code.
func runProcess(ctx context.Context, path string, exit int, program string, args ...string) (map[string]float64, error) {
	if err := evict(path); err != nil {
		return nil, err
	}
	found := map[string]float64{}
	for _, metric := range []string{coldMS, warmMS} {
		var stderr bytes.Buffer
		process := exec.CommandContext(ctx, program, args...)
		process.Stderr = &stderr
		out, err := process.StdoutPipe()
		if err != nil {
			return nil, err
		}
		began := time.Now()
		if err := process.Start(); err != nil {
			return nil, err
		}
		n, err := io.Copy(io.Discard, out)
		wait := process.Wait()
		found[metric] = time.Since(began).Seconds() * 1e3
		if process.ProcessState.ExitCode() != exit {
			err = errors.Join(err, wait)
		}
		if err != nil || n == 0 {
			return nil, fmt.Errorf("%s %q: %w, %d bytes of output\n%s", program, args, err, n, stderr.Bytes())
		}
		usage := process.ProcessState.SysUsage().(*syscall.Rusage) // Maxrss is at least that of this process
		found[rssMiB] = max(found[rssMiB], float64(usage.Maxrss)/1024)
	}
	return found, nil
}

// runInProcess runs a call in a new process of this program.
func runInProcess(ctx context.Context, c call) (found map[string]float64, err error) {
	encoded, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	process := exec.CommandContext(ctx, program)
	process.Env = append(os.Environ(), callEnv+"="+string(encoded))
	process.Stderr = os.Stderr
	out, err := process.Output()
	if err != nil {
		return nil, err
	}
	return found, json.Unmarshal(out, &found)
}
