package main

import "io"

// numberQuoter puts each number of the JSON that is written to it into quotes. It implements
// --json-strings: programs that hold numbers as float64, such as jq 1.6 and JavaScript, round
// numbers above 2^53, but they keep strings. It reads the text, so it applies to every command and
// every key.
type numberQuoter struct {
	w        io.Writer
	inString bool
	escaped  bool // the last byte was a backslash in a string
	inNumber bool
	out      []byte
}

func (q *numberQuoter) Write(text []byte) (int, error) {
	q.out = q.out[:0]
	for _, b := range text {
		isNumber := !q.inString && (b >= '0' && b <= '9' || b == '-' || q.inNumber && (b == '+' || b == '.' || b == 'e' || b == 'E'))
		if isNumber != q.inNumber {
			q.out = append(q.out, '"')
			q.inNumber = isNumber
		}
		switch {
		case q.escaped:
			q.escaped = false
		case q.inString && b == '\\':
			q.escaped = true
		case b == '"':
			q.inString = !q.inString
		}
		q.out = append(q.out, b)
	}
	if _, err := q.w.Write(q.out); err != nil {
		return 0, err
	}
	return len(text), nil
}
