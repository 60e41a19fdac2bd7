package main

import (
	"encoding/json"
	"fmt"
	"strconv"

	"migrationlog/checkpoint"
	"migrationlog/replay"
)

// recordPrinter prints records one by one in the format of --output.
type recordPrinter struct {
	*tool
	clock   *clock
	printed int
	line    []byte // memory of the last line, for reuse
}

// print prints the next record.
func (p *recordPrinter) print(r replay.Record) error {
	p.line = p.line[:0]
	switch p.output {
	case outputNDJSON:
		b, err := r.MarshalJSON() // json.Marshal would check and copy these bytes once more
		if err != nil {
			return err
		}
		p.line = append(p.line, b...)
	case outputJSON:
		b, err := json.MarshalIndent(r, "  ", "  ")
		if err != nil {
			return err
		}
		p.line = append(p.line, ",\n  "...)
		if p.printed == 0 {
			p.line[0] = '['
		}
		p.line = append(p.line, b...)
	default:
		if p.printed == 0 {
			fmt.Fprintf(p.stdout, "%s\n", appendHeading(nil))
		}
		p.line = appendRow(p.line, p.clock, r)
	}
	if p.output != outputJSON {
		p.line = append(p.line, '\n')
	}
	p.printed++
	_, err := p.stdout.Write(p.line)
	return err
}

// end prints the end of a JSON array. Other formats have no end.
func (p *recordPrinter) end() error {
	if p.output != outputJSON {
		return nil
	}
	end := "\n]\n"
	if p.printed == 0 {
		end = "[]\n"
	}
	_, err := fmt.Fprint(p.stdout, end)
	return err
}

// recordColumn is a column of the table of records.
type recordColumn int

const (
	columnSeq recordColumn = iota
	columnTime
	columnMigration
	columnStep
	columnAttempt
	columnVShard
	columnDetail
)

// recordColumns has the width of each column in characters. A log has too many records to find the
// widths first. The widths therefore fit the longest value, except for a seq above 9,999,999,999.
// The last column has no width.
var recordColumns = [...]struct {
	heading string
	width   int
}{
	columnSeq:       {"SEQ", 10},
	columnTime:      {"TIME", 24},
	columnMigration: {"MIGRATION", 36},
	columnStep:      {"STEP", 18},
	columnAttempt:   {"ATTEMPT", 10},
	columnVShard:    {"VSHARD", 10},
	columnDetail:    {"DETAIL", 0},
}

const columnGap = 2

// columnStart returns the number of characters before a column.
func columnStart(c recordColumn) (n int) {
	for _, before := range recordColumns[:c] {
		n += before.width + columnGap
	}
	return n
}

func appendHeading(line []byte) []byte {
	for c, col := range recordColumns {
		line = appendCell(line, recordColumn(c), col.heading)
	}
	return line
}

// appendRow appends the row of a record, without the line end.
func appendRow(line []byte, clock *clock, r replay.Record) []byte {
	if d := r.Damage; d != nil {
		line = appendCell(line, columnSeq, damageSeqs(*d))
		line = appendCell(line, columnStep, "DAMAGE")
		return appendCell(line, columnDetail, d.String())
	}
	id, _ := r.Migration()
	line = appendCell(line, columnSeq, strconv.FormatUint(r.Seq, 10))
	line = appendCell(line, columnTime, clock.show(r.WallMS()))
	line = appendCell(line, columnMigration, id.String())
	line = appendCell(line, columnStep, stepOf(r))
	if u, ok := r.Event.(checkpoint.Upserted); ok {
		line = appendCell(line, columnAttempt, strconv.FormatUint(uint64(u.Checkpoint.Attempt), 10))
		line = appendCell(line, columnVShard, strconv.FormatUint(uint64(u.Checkpoint.Payload.Shard()), 10))
	}
	if detail := detailOf(r); detail != "" {
		line = appendCell(line, columnDetail, detail)
	}
	return line
}

// appendCell appends the blanks up to the column's start and the text. If an earlier text is longer
// than its column, a gap still separates the two.
func appendCell(line []byte, c recordColumn, text string) []byte {
	if c > 0 {
		blanks := max(columnStart(c)-len(line), columnGap)
		for range blanks {
			line = append(line, ' ')
		}
	}
	return append(line, text...)
}

// damageSeqs returns the SEQ column of damage.
func damageSeqs(d replay.Damage) string {
	switch {
	case d.Lost() == 0:
		return "-"
	case d.Lost() == 1:
		return strconv.FormatUint(d.FirstSeq, 10)
	}
	return fmt.Sprintf("%d-%d", d.FirstSeq, d.LastSeq)
}
