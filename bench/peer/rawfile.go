package peer

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"migrationlog/bench/eventgen"
)

var rawFilePeer = Peer{
	Name: "raw file", Keeps: KeepsBytes, Open: openRawFile,
	Setup: "a file of zeros written and synced beforehand; one pwrite and one fdatasync for all writers that wait",
}

const (
	frameOverheadBytes = 40       // before each event, as a log needs to find and check its entries
	zeroChunkBytes     = 16 << 10 // zeros per write; if one write makes one folio of the page cache, larger ones make each sync longer
)

// rawFile is a file that is written as fast as events can be made durable in it.
type rawFile struct {
	file     *os.File
	fd       int
	end      int64 // end of the last entry
	zeroed   int64 // size of the file, including zeros
	bulk     bool
	commit   *group[[]byte]
	growStep int64
}

func openRawFile(dir string, o Options) (Store, error) {
	file, err := os.OpenFile(filepath.Join(dir, "rawfile"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	f := &rawFile{file: file, fd: int(file.Fd()), bulk: o.Bulk, growStep: max(1<<20, int64(o.ExpectedEvents)*128)}
	f.commit = newGroup(f.flush, func(b []byte) []byte { return b[:0] })
	if f.zeroed, err = file.Seek(0, io.SeekEnd); err == nil {
		f.end, err = f.scan(func([]byte) error { return nil })
	}
	if err == nil && !o.Bulk && f.zeroed-f.end < f.growStep {
		err = f.grow(f.end + f.growStep)
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return f, nil
}

// grow writes and syncs zeros, so that a later fdatasync need not make a size or an extent durable.
func (f *rawFile) grow(to int64) error {
	zeros := make([]byte, zeroChunkBytes)
	for f.zeroed < to {
		n, err := f.file.WriteAt(zeros, f.zeroed)
		f.zeroed += int64(n)
		if err != nil {
			return err
		}
	}
	return f.file.Sync()
}

func appendRawEntry(buf, value []byte) []byte {
	var header [frameOverheadBytes]byte
	buf = binary.AppendUvarint(buf, uint64(frameOverheadBytes+len(value)))
	buf = append(buf, header[:]...)
	return append(buf, value...)
}

func (f *rawFile) Apply(op *eventgen.Op) error {
	return f.commit.add(func(buf []byte) []byte { return appendRawEntry(buf, op.Value) })
}

func (f *rawFile) flush(buf []byte) error {
	if need := f.end + int64(len(buf)); need > f.zeroed && !f.bulk {
		if err := f.grow(need + f.growStep); err != nil {
			return err
		}
	}
	n, err := f.file.WriteAt(buf, f.end)
	f.end += int64(n)
	if err != nil || f.bulk {
		return err
	}
	return unix.Fdatasync(f.fd)
}

func (f *rawFile) ApplyAll(ops []eventgen.Op) error {
	var buf []byte
	for i := range ops {
		buf = appendRawEntry(buf, ops[i].Value)
	}
	return f.flush(buf)
}

// scan reads all entries and returns the offset after the last one.
func (f *rawFile) scan(see func(value []byte) error) (int64, error) {
	content, err := io.ReadAll(io.NewSectionReader(f.file, 0, 1<<62))
	if err != nil {
		return 0, err
	}
	for at := 0; ; {
		length, n := binary.Uvarint(content[at:])
		if n <= 0 || length < frameOverheadBytes {
			return int64(at), nil
		}
		value := content[at+n+frameOverheadBytes : at+n+int(length)]
		if err := see(bytes.Clone(value)); err != nil {
			return 0, err
		}
		at += n + int(length)
	}
}

func (f *rawFile) Load() (any, int, error) { return counted(f.Rows()) }

func (f *rawFile) Rows() (map[ID][]byte, error) {
	rows := newRowMap()
	_, err := f.scan(rows.apply)
	return rows.rows, err
}

func (f *rawFile) Close() error {
	err := f.file.Sync()
	return errors.Join(err, f.file.Close())
}
