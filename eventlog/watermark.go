package eventlog

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/google/uuid"

	"migrationlog/eventlog/segment"
)

// watermark records up to which sequence number the frames are durable. After the process is killed
// it is exact, because the kernel still writes it. It is not synced with each append, so it can lag
// after a power cut. It is raised only after the frames are durable.
type watermark struct {
	files []*os.File
	log   uuid.UUID
	line  []byte
}

func openWatermark(dir string, log uuid.UUID) (*watermark, error) {
	w := &watermark{log: log}
	for _, name := range segment.WatermarkNames {
		file, err := os.OpenFile(filepath.Join(dir, name), os.O_RDWR, 0)
		if err != nil {
			return nil, errors.Join(err, w.close())
		}
		w.files = append(w.files, file)
	}
	return w, nil
}

// set writes the sequence number to both files. All frames up to seq must be durable.
func (w *watermark) set(seq uint64) error {
	w.line = segment.AppendWatermark(w.line[:0], w.log, seq)
	for _, file := range w.files {
		if _, err := file.WriteAt(w.line, 0); err != nil {
			return err
		}
	}
	return nil
}

// sync makes the last set number durable. It returns an error if a file was removed or replaced,
// because later openings would not read the old file.
func (w *watermark) sync() error {
	for _, file := range w.files {
		held, err := file.Stat()
		if err != nil {
			return err
		}
		named, err := os.Stat(file.Name())
		if err != nil {
			return err
		}
		if !os.SameFile(held, named) { //mutant:watermark-file-ours
			return fmt.Errorf("%s was replaced: another process writes to it", file.Name())
		}
		if err := datasync(file); err != nil {
			return err
		}
	}
	return nil
}

func (w *watermark) close() (err error) {
	for _, file := range w.files {
		err = errors.Join(err, file.Close())
	}
	return err
}
