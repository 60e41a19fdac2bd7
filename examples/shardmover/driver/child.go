package driver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"time"

	"migrationlog/examples/shardmover/coordinator"
	"migrationlog/examples/shardmover/node"
	"migrationlog/examples/shardmover/shard"
	"migrationlog/examples/shardmover/wire"
)

// childVariable is the environment variable with the job of a child process. A child runs the same
// program as the driver.
const childVariable = "SHARDMOVER_CHILD"

// job is the job of a child process.
type job struct {
	Dir         string              `json:"dir"` // of the run
	Coordinator bool                `json:"coordinator"`
	Site        uint64              `json:"site"`
	Nodes       []uint64            `json:"nodes"`
	Members     []uint64            `json:"members"` // of the metadata group
	First       [][]shard.ReplicaID `json:"first"`   // of each group
	Proxied     bool                `json:"proxied"`
}

func (j job) endpoint() string {
	if j.Coordinator {
		return wire.CoordinatorName(j.Site)
	}
	return wire.NodeName(j.Site)
}

// addresses returns the directory of the endpoints' addresses.
func addresses(dir string) wire.Directory { return wire.Directory(filepath.Join(dir, "addresses")) }

// processDir returns the directory of the data of a process.
func processDir(dir, endpoint string) string { return filepath.Join(dir, endpoint) }

// RunChild runs the job of a child process, and ends the process. In another process it returns.
func RunChild() {
	text, found := os.LookupEnv(childVariable)
	if !found {
		return
	}
	var j job
	err := json.Unmarshal([]byte(text), &j)
	if err == nil {
		err = j.run()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, j.endpoint()+":", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// run serves until the standard input ends, which happens at the latest when the driver ends.
func (j job) run() (err error) {
	mux, err := wire.Listen(addresses(j.Dir), j.endpoint())
	if err != nil {
		return err
	}
	defer mux.Close()
	network := wire.NewNetwork(addresses(j.Dir), j.endpoint(), j.Proxied)
	var served interface {
		API() http.Handler
		Close() error
	}
	if j.Coordinator {
		c, err := coordinator.Open(coordinator.Options{
			Dir: processDir(j.Dir, j.endpoint()), Node: j.Site, Members: j.Members, Nodes: j.Nodes, Network: network, Mux: mux,
			Log: os.Stderr, Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)), Output: os.Stdout,
		})
		if err != nil {
			return err
		}
		ctx, stop := context.WithCancel(context.Background())
		stopped := make(chan struct{})
		go func() { defer close(stopped); c.Run(ctx) }()
		defer func() { stop(); <-stopped; err = errors.Join(err, c.Close()) }()
		served = c
	} else {
		n, err := node.Open(node.Options{
			Dir: processDir(j.Dir, j.endpoint()), Node: j.Site, First: j.First, Network: network, Mux: mux, Log: os.Stderr,
		})
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, n.Close()) }()
		served = n
	}
	go func() { _ = http.Serve(mux.Service(wire.APIService), served.API()) }() // ends with the process
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// child is a running child process.
type child struct {
	cmd    *exec.Cmd
	stdin  io.Closer
	output io.ReadCloser
	ended  chan struct{} // closed when the process has ended
	asked  atomic.Bool   // the driver has ended the process
}

// start starts a child process. Its errors are appended to DIR/ENDPOINT.log.
func (j job) start() (*child, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(j)
	if err != nil {
		return nil, err
	}
	log, err := os.OpenFile(filepath.Join(j.Dir, j.endpoint()+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	c := &child{cmd: exec.Command(program), ended: make(chan struct{})}
	c.cmd.Env, c.cmd.Stderr = append(os.Environ(), childVariable+"="+string(text)), log
	if c.stdin, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	// The pipe belongs to the driver, not to Cmd, because Cmd.Wait would discard the last lines.
	read, write, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer write.Close()
	c.cmd.Stdout, c.output = write, read
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = c.cmd.Wait() // ExitCode has the result
		close(c.ended)
	}()
	return c, nil
}

// kill ends the process with SIGKILL.
func (c *child) kill() {
	c.asked.Store(true)
	_ = c.cmd.Process.Kill() // it may have ended
	<-c.ended
}

// stop asks the process to close everything, and returns an error if it fails.
func (c *child) stop() error {
	c.asked.Store(true)
	_ = c.stdin.Close()
	select {
	case <-c.ended:
	case <-time.After(20 * time.Second):
		c.kill()
		return errors.New("the process has not ended after 20 s")
	}
	if code := c.cmd.ProcessState.ExitCode(); code != 0 {
		return fmt.Errorf("the process has ended with exit code %d", code)
	}
	return nil
}
