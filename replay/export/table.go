package export

import (
	"encoding/json"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Table is one of the tables.
type Table string

// The tables. docs/TOOL.md describes their columns.
const (
	Event  Table = "event"  // each event
	Stay   Table = "stay"   // each stay in a phase
	Move   Table = "move"   // each incarnation
	Damage Table = "damage" // each finding about the log's files
)

// Tables lists all tables.
var Tables = []Table{Event, Stay, Move, Damage}

// column is a column of a table with its type in SQL. A number of 64 bits that names something, such
// as a node, is text in SQL: the integers of SQLite and PostgreSQL end at 2^63-1.
type column struct{ name, sqlType string }

const (
	integer  = "BIGINT"
	text     = "TEXT"
	jsonText = "JSON"
)

var columns = map[Table][]column{
	Event: {
		{"seq", integer}, {"kind", text}, {"migration_id", text}, {"incarnation", integer}, {"attempt", integer}, {"phase", text},
		{"vshard_id", integer}, {"ts_ms", integer}, {"payload", jsonText}, {"crc32c", integer}, {"epoch", integer},
		{"raft_index", integer}, {"raft_term", integer},
	},
	Stay: {
		{"migration_id", text}, {"incarnation", integer}, {"phase", text}, {"attempt", integer}, {"seq", integer}, {"ms", integer}, {"next", text},
	},
	Move: {
		{"migration_id", text}, {"incarnation", integer}, {"vshard_id", integer}, {"source_node", text}, {"target_node", text}, {"source_group", text},
		{"started_ms", integer}, {"ended_ms", integer}, {"outcome", text}, {"reason", text},
		{"phase", text}, {"retries", integer}, {"first_seq", integer}, {"last_seq", integer},
	},
	Damage: {
		{"n", integer}, {"first_seq", integer}, {"last_seq", integer}, {"segment", text}, {"offset_bytes", integer}, {"length_bytes", integer},
		{"reason", text}, {"severity", text}, {"torn", integer},
	},
}

// keys has the primary key of each table. A second load into the same database fails because of it.
var keys = map[Table]string{Event: "seq", Stay: "seq", Move: "migration_id, incarnation", Damage: "n"}

// indexes has the indexes that are made after the rows.
var indexes = []struct {
	table   Table
	columns string
}{
	{Event, "migration_id"}, {Event, "ts_ms"}, {Event, "vshard_id"},
	{Stay, "migration_id"}, {Stay, "phase, ms"},
	{Move, "vshard_id"}, {Move, "source_node"}, {Move, "target_node"}, {Move, "outcome"},
}

// cell is one value of a row.
type cell struct {
	kind cellKind
	n    uint64
	s    string
}

type cellKind uint8

const (
	null     cellKind = iota
	number            // of 64 bits
	negative          // s has its digits
	name              // a number of 64 bits that names something
	words             // text
	document          // JSON
)

func numberCell(n uint64) cell { return cell{kind: number, n: n} }
func nameCell(n uint64) cell   { return cell{kind: name, n: n} }
func textCell(s string) cell   { return cell{kind: words, s: s} }

func signedCell(n int64) cell {
	if n < 0 {
		return cell{kind: negative, s: strconv.FormatInt(n, 10)}
	}
	return numberCell(uint64(n))
}

// known returns the cell, or null if the value is not known.
func known(isKnown bool, c cell) cell {
	if !isKnown {
		return cell{}
	}
	return c
}

// fitsSQL reports whether SQL can hold the cell.
func (c cell) fitsSQL() bool { return c.kind != number || c.n <= math.MaxInt64 }

func (c cell) appendSQL(dst []byte) []byte {
	switch c.kind {
	case number:
		if !c.fitsSQL() {
			break
		}
		return strconv.AppendUint(dst, c.n, 10)
	case negative:
		return append(dst, c.s...)
	case name:
		return append(strconv.AppendUint(append(dst, '\''), c.n, 10), '\'')
	case words, document:
		return append(append(append(dst, '\''), strings.ReplaceAll(plain(c.s), "'", "''")...), '\'')
	}
	return append(dst, "NULL"...)
}

// appendCSV appends the cell as a field (RFC 4180). NULL is empty without quotes, and an empty text
// has quotes, as PostgreSQL reads them.
func (c cell) appendCSV(dst []byte) []byte {
	switch c.kind {
	case number, name:
		return strconv.AppendUint(dst, c.n, 10)
	case negative:
		return append(dst, c.s...)
	case words, document:
		s := plain(c.s)
		if s != "" && !strings.ContainsAny(s, ",\"\r\n") {
			return append(dst, s...)
		}
		return append(append(append(dst, '"'), strings.ReplaceAll(s, `"`, `""`)...), '"')
	}
	return dst
}

func (c cell) appendJSON(dst []byte) ([]byte, error) {
	switch c.kind {
	case number, name:
		return strconv.AppendUint(dst, c.n, 10), nil
	case negative, document:
		return append(dst, c.s...), nil
	case words:
		b, err := json.Marshal(c.s)
		return append(dst, b...), err
	}
	return append(dst, "null"...), nil
}

// plain returns a text that every database accepts: a NUL becomes \u0000, and a byte that is not
// UTF-8 becomes \xff. The payload of the event has the exact text.
func plain(s string) string {
	if !strings.Contains(s, "\x00") && utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, size := utf8.DecodeRuneInString(s)
		switch {
		case r == 0:
			b.WriteString(`\u0000`)
		case r == utf8.RuneError && size == 1:
			b.WriteString(`\x` + strconv.FormatUint(uint64(s[0]), 16))
		default:
			b.WriteString(s[:size])
		}
		s = s[size:]
	}
	return b.String()
}
