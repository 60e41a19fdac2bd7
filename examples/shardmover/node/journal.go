package node

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
)

// journal is the list of the compensations that a node has carried out. The checks compare it with the
// events of the store.
type journal struct {
	mu   sync.Mutex
	file *os.File
}

const journalName = "compensations.ndjson"

func openJournal(dir string) (*journal, error) {
	file, err := os.OpenFile(filepath.Join(dir, journalName), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	return &journal{file: file}, err
}

// record adds a compensation.
func (j *journal) record(c Compensation) error {
	line, err := json.Marshal(c)
	if err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	_, err = j.file.Write(append(line, '\n'))
	return err
}

// Compensations returns the compensations that the node in dir has carried out.
func Compensations(dir string) (all []Compensation, err error) {
	data, err := os.ReadFile(filepath.Join(dir, journalName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for lines := bufio.NewScanner(bytes.NewReader(data)); err == nil && lines.Scan(); {
		var c Compensation
		err = json.Unmarshal(lines.Bytes(), &c)
		all = append(all, c)
	}
	return all, err
}
