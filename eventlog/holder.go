package eventlog

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"unicode"
)

// Holder identifies the process that has a log open, or that had it open when it was killed. The
// PID alone is not enough, because the main process of every container has PID 1.
type Holder struct {
	PID    int
	Host   string // "" if it is not known, or if LOCK was written by an older version
	BootID string // a new one after each start of the machine; "" if it is not known
}

// maxLockBytes limits the content of LOCK that is read.
const maxLockBytes = 512

// thisProcess returns this process as the holder of a lock.
func thisProcess() Holder {
	host, _ := os.Hostname()
	bootID, _ := os.ReadFile("/proc/sys/kernel/random/boot_id") // Linux only
	return Holder{PID: os.Getpid(), Host: word(host), BootID: word(string(bootID))}
}

// word returns the text as one word of printable characters.
func word(text string) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) || !unicode.IsPrint(r) {
			return '_'
		}
		return r
	}, strings.TrimSpace(text))
	return strings.ToValidUTF8(text[:min(len(text), maxLockBytes/4)], "")
}

// Restarted reports whether this machine was started again after the holder had written LOCK. If
// so, the holder does not run any more. For another host, Restarted returns false.
func (h Holder) Restarted() bool {
	here := thisProcess()
	return h.Host == here.Host && h.BootID != "" && here.BootID != "" && h.BootID != here.BootID
}

// String returns the text for messages.
func (h Holder) String() string {
	if h.Host == "" {
		return fmt.Sprintf("process %d", h.PID)
	}
	return fmt.Sprintf("process %d on host %s", h.PID, word(h.Host))
}

// encode returns the content of LOCK: the PID, the host and the boot id, separated by spaces. If
// the host is not known, it is the PID alone.
func (h Holder) encode() []byte {
	words := []string{strconv.Itoa(h.PID)}
	if h.Host != "" {
		words = append(words, h.Host, h.BootID)
	}
	return []byte(strings.TrimSpace(strings.Join(words, " ")) + "\n")
}

// parseHolder reads the content of LOCK. Older versions wrote the PID alone.
func parseHolder(text string) (h Holder, ok bool) {
	words := strings.Fields(text)
	if len(words) == 0 || len(words) > 3 || strings.Contains(strings.TrimSpace(text), "\n") {
		return Holder{}, false
	}
	pid, err := strconv.Atoi(words[0])
	if err != nil || pid <= 0 {
		return Holder{}, false
	}
	words = append(words, "", "")
	return Holder{PID: pid, Host: words[1], BootID: words[2]}, true
}

// ReadHolder returns the process in the file LOCK of a log, and the beginning of the file's text.
// ok is false if LOCK has no process, for example after a writer has closed the log. Only a lock
// can show whether the process still has the log open. The text may contain any bytes.
func ReadHolder(dir string) (h Holder, text string, ok bool) {
	return readHolder(filepath.Join(dir, LockName))
}

func readHolder(path string) (h Holder, text string, ok bool) {
	if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() { // the open of a pipe would block
		return Holder{}, "", false
	}
	f, err := os.Open(path)
	if err != nil {
		return Holder{}, "", false
	}
	defer f.Close()
	b, _ := io.ReadAll(io.LimitReader(f, maxLockBytes))
	h, ok = parseHolder(string(b))
	return h, string(b), ok
}
