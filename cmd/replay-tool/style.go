package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
)

// style is the look of a text on a terminal. It is never the only sign of a fact, because a terminal
// may have no colors.
type style uint8

const (
	stylePlain   style = iota
	styleError         // damage, an abort, a finding of severity error
	styleWarning       // a doubt, another try
	styleBold          // in flight
	styleDim           // dates and ids
)

// styleCodes has the parameters of the escape sequences. They use the terminal's own colors.
var styleCodes = [...]string{styleError: "31", styleWarning: "33", styleBold: "1", styleDim: "2"}

// styleMark begins the escape sequence of a style. escapingWriter escapes all other sequences. The
// number in it is random, so that no text from a file can contain it.
var styleMark = fmt.Sprintf("\x1b[%d;", rand.Uint32())

const (
	colorAuto   = "auto"
	colorAlways = "always"
	colorNever  = "never"
)

// colored reports whether stdout has styles.
func (t *tool) colored() bool {
	switch t.color {
	case colorAlways:
		return true
	case colorAuto:
		return os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" && terminalOf(t.unbuffered) != nil
	}
	return false
}

// paint returns the text in a style. Only an escapingWriter may print it.
func (t *tool) paint(s style, text string) string {
	if s == stylePlain || text == "" || !t.colored() {
		return text
	}
	return styleMark + styleCodes[s] + "m" + text + styleMark + "0m"
}

// cutStyleMark returns the text after a mark of a style.
func cutStyleMark(b []byte) (rest []byte, ok bool) { return bytes.CutPrefix(b, []byte(styleMark)) }

// printable returns a text as escapingWriter prints it, with its styles. It is a single line.
func printable(text string) string {
	if plainBytes([]byte(text)) == len(text) && !strings.ContainsAny(text, "\n\t") {
		return text
	}
	parts := strings.Split(strings.NewReplacer("\n", `\n`, "\t", " ").Replace(text), styleMark)
	for i, part := range parts {
		parts[i] = string(appendEscaped(nil, []byte(part)))
	}
	return strings.Join(parts, styleMark)
}
