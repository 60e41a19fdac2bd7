package main

import (
	"bufio"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/spf13/cobra"
)

// outFile has the flags of a command that can write its output to a file.
type outFile struct {
	path  string
	force bool
}

func (o *outFile) register(c *cobra.Command) {
	c.Flags().StringVar(&o.path, "out", "", "write to this `file`, outside DIR, and not to stdout; - is stdout")
	c.Flags().BoolVar(&o.force, "force", false, "replace the file of --out if it exists")
}

func (o *outFile) isStdout() bool { return o.path == "" || o.path == "-" }

// check returns a usageError if the file exists, or if it would be in the log directory dir.
func (o *outFile) check(dir string) error {
	if o.isStdout() {
		return nil
	}
	info, err := os.Lstat(o.path)
	switch {
	case err == nil && info.IsDir():
		return usageErrorf("--out %s: it is a directory: give a file", quoted(o.path))
	case err == nil && !info.Mode().IsRegular(): // such as /dev/null, which --force would replace
		return usageErrorf("--out %s: it is not a regular file, and would be replaced by one: give another file, or write to stdout", quoted(o.path))
	case err == nil && !o.force:
		return o.errExists()
	}
	return checkOutside(dir, o.path)
}

// checkOutside returns a usageError if the file or directory that --out will create is in the log
// directory dir.
func checkOutside(dir, out string) error {
	log, err := os.Stat(dir)
	if err != nil {
		return nil // opening the log returns the error
	}
	parent, err := filepath.Abs(filepath.Dir(filepath.Clean(out)))
	if err != nil {
		return err
	}
	if parent, err = filepath.EvalSymlinks(parent); err != nil {
		return err
	}
	for ; ; parent = filepath.Dir(parent) {
		if info, err := os.Stat(parent); err == nil && os.SameFile(info, log) {
			return usageErrorf("--out %s is in the directory of the log: give a place outside it", quoted(out))
		}
		if parent == filepath.Dir(parent) {
			return nil
		}
	}
}

func (o *outFile) errExists() error {
	return usageErrorf("%s exists: give another --out, or --force to replace it", quoted(o.path))
}

// write calls print, which prints to stdout. With --out, it prints to a temporary file, which gets
// its name when it is complete.
func (o *outFile) write(t *tool, print func() error) error {
	if o.isStdout() {
		return print()
	}
	temporary := filepath.Join(filepath.Dir(o.path), "."+filepath.Base(o.path)+"."+strconv.Itoa(os.Getpid()))
	file, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	defer os.Remove(temporary)
	err = t.redirected(file, print)
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return err
	}
	if err := o.rename(temporary); err != nil {
		return err
	}
	return syncDir(filepath.Dir(o.path))
}

// syncDir makes the names in a directory durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if errors.Is(err, errors.ErrUnsupported) || errors.Is(err, syscall.EINVAL) { // some file systems cannot
		err = nil
	}
	return errors.Join(err, d.Close())
}

// rename gives a complete file its name. Without --force, it replaces no file that another process
// has made meanwhile, unless the file system has no links.
func (o *outFile) rename(temporary string) error {
	if !o.force {
		err := os.Link(temporary, o.path)
		if err == nil {
			return nil
		}
		if errors.Is(err, fs.ErrExist) {
			return o.errExists()
		}
	}
	return os.Rename(temporary, o.path)
}

// redirected calls print while stdout is a file.
func (t *tool) redirected(file *os.File, print func() error) error {
	unbuffered, buffer := t.unbuffered, t.buffer
	t.unbuffered, t.buffer = file, bufio.NewWriterSize(file, outputBufferBytes)
	t.setOutput(t.buffer)
	err := errors.Join(print(), t.flush())
	t.unbuffered, t.buffer = unbuffered, buffer
	if buffer == nil {
		t.setOutput(unbuffered)
	} else {
		t.setOutput(buffer)
	}
	return err
}
