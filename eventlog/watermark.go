package eventlog

import (
	"errors"
	"os"
	"path/filepath"

	"github.com/google/uuid"

	"migrationlog/eventlog/segment"
)

// watermark records, beside the frames, up to which number they are on the
// device. A killed process leaves it exact: the kernel has it. It is not synced
// with each append, so that after a power cut it may lag; never does it run ahead.
type watermark struct {
	file *os.File
	log  uuid.UUID
	next int // the slot to write
	slot []byte
}

func openWatermark(dir string, log uuid.UUID) (*watermark, error) {
	file, err := os.OpenFile(filepath.Join(dir, segment.WatermarkName), os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	return &watermark{file: file, log: log}, nil
}

// set notes that every frame up to seq is on the device.
func (w *watermark) set(seq uint64) error {
	w.slot = segment.AppendWatermark(w.slot[:0], w.log, seq)
	_, err := w.file.WriteAt(w.slot, int64(w.next)*segment.WatermarkStride)
	w.next = (w.next + 1) % segment.WatermarkSlots
	return err
}

func (w *watermark) sync() error { return w.file.Sync() }

// close syncs and closes the file.
func (w *watermark) close() error { return errors.Join(w.file.Sync(), w.file.Close()) }
