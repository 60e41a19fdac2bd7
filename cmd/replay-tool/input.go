package main

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"iter"
	"os"
	"strings"
)

// openInput opens a file for reading. Opening a named pipe blocks until it has a writer, so
// openInput returns early if ctx is canceled.
func openInput(ctx context.Context, file string) (*os.File, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return nil, usageErrorf("%s is a directory: give a file of NDJSON lines", quoted(file))
	}
	type result struct {
		file *os.File
		err  error
	}
	opened := make(chan result, 1)
	go func() {
		f, err := os.Open(file)
		opened <- result{f, err}
	}()
	select {
	case r := <-opened:
		return r.file, r.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// isFinite reports whether an input certainly ends. A pipe may stay open for as long as its writer
// lives.
func isFinite(in io.Reader) bool {
	f, ok := in.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode().IsRegular()
}

// byteOrderMark is the mark that some programs write at the start of a file in UTF-8. If such files
// are joined, it is also at the start of later lines.
const byteOrderMark = "\ufeff"

// foreignFormats has the first bytes of inputs that are not text in UTF-8, and how to convert them.
var foreignFormats = []struct{ start, name, convert string }{
	{"\x1f\x8b", "compressed with gzip", "gzip -dc FILE"},
	{"\x28\xb5\x2f\xfd", "compressed with zstd", "zstd -dc FILE"},
	{"\xfd7zXZ\x00", "compressed with xz", "xz -dc FILE"},
	{"BZh", "compressed with bzip2", "bzip2 -dc FILE"},
	{"PK\x03\x04", "a zip archive", "unzip -p FILE"},
	{"\xff\xfe\x00\x00", "UTF-32", "iconv -f UTF-32 -t UTF-8 FILE"},
	{"\x00\x00\xfe\xff", "UTF-32", "iconv -f UTF-32 -t UTF-8 FILE"},
	{"\xff\xfe", "UTF-16, as PowerShell writes it", "iconv -f UTF-16 -t UTF-8 FILE"},
	{"\xfe\xff", "UTF-16", "iconv -f UTF-16 -t UTF-8 FILE"},
	{"{\x00", "UTF-16", "iconv -f UTF-16LE -t UTF-8 FILE"},
	{"\x00{", "UTF-16", "iconv -f UTF-16BE -t UTF-8 FILE"},
}

// plainText returns the input, or an error that names its format if it is not text in UTF-8.
func plainText(in io.Reader) (io.Reader, error) {
	text := bufio.NewReader(in)
	start, _ := text.Peek(6) // the next read returns the error again
	for _, f := range foreignFormats {
		if strings.HasPrefix(string(start), f.start) {
			return nil, usageErrorf("line 1: the input is %s: convert it to UTF-8 text first, as in '%s | replay-tool import DIR -'", f.name, f.convert)
		}
	}
	return text, nil
}

// maxLineBytes limits the length of a line. The largest event has 64 KiB of CBOR, and JSON may need
// six characters per byte.
const maxLineBytes = 1 << 20

const (
	// A batch of lines, written with one call of WriteAll, ends at the first of these limits.
	maxBatchLines = 1000
	maxBatchBytes = 1 << 20
	// bufferedLines is the number of lines that are read ahead while a batch is written.
	bufferedLines = 128
)

// readLines yields the lines of in, in batches. A batch ends at a limit, or if the next line is not
// available yet. If reading fails, readLines yields the lines before the failure with the error. If
// ctx is canceled, it yields ctx's error at once, even if a read of in is blocked.
func readLines(ctx context.Context, in io.Reader) iter.Seq2[[][]byte, error] {
	type result struct {
		line []byte
		err  error
	}
	return func(yield func([][]byte, error) bool) {
		ctx, stop := context.WithCancel(ctx)
		defer stop()
		results := make(chan result, bufferedLines)
		go func() {
			defer close(results)
			text, err := plainText(in)
			if err != nil {
				results <- result{nil, err} // does not block: the channel is empty
				return
			}
			scanner := bufio.NewScanner(text)
			scanner.Buffer(nil, maxLineBytes+2) // the line and its line break
			for more := true; more; {
				more = scanner.Scan()
				r := result{bytes.Clone(scanner.Bytes()), scanner.Err()}
				if !more && r.err == nil {
					return
				}
				select {
				case results <- r:
				case <-ctx.Done():
					return
				}
			}
		}()
		for {
			var lines [][]byte
			var r result
			sizeBytes := 0
			more := true
			select {
			case <-ctx.Done():
				yield(nil, ctx.Err())
				return
			case r, more = <-results:
			}
			for more && r.err == nil {
				lines = append(lines, r.line)
				if sizeBytes += len(r.line); len(lines) == maxBatchLines || sizeBytes >= maxBatchBytes || len(results) == 0 {
					break
				}
				r, more = <-results
			}
			if len(lines) == 0 && r.err == nil || !yield(lines, r.err) || r.err != nil {
				return
			}
		}
	}
}
