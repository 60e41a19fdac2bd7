package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"migrationlog/checkpoint"
	"migrationlog/replay"
)

// fold reads the whole log and folds all records. It calls visit, unless that is nil, with the fold
// after each record. If visit returns an error, or ctx ends, fold stops and returns that error.
func (t *tool) fold(ctx context.Context, dir string, visit func(*replay.Fold, replay.Record) error) (*replay.Fold, error) {
	reader, err := replay.Open(dir)
	if err != nil {
		return nil, err
	}
	fold := reader.NewFold()
	p := t.progress("events read:")
	defer p.end()
	var n uint64
	for r, err := range readAhead(reader.Records(ctx, replay.Query{})) {
		if err != nil {
			return nil, err
		}
		fold.Add(r)
		if visit != nil {
			if err := visit(fold, r); err != nil {
				return nil, err
			}
		}
		if err := ctx.Err(); err != nil { // records that were read ahead do not have it
			return nil, err
		}
		n++
		p.update(n)
	}
	return fold, nil
}

// resolve returns the id that begins or ends with idPart. It returns an error if the log has no such id
// or more than one.
func resolve(ctx context.Context, reader *replay.Reader, idPart string) (checkpoint.MigrationID, error) {
	search, err := newIDSearch(idPart)
	if err != nil {
		return checkpoint.MigrationID{}, err
	}
	for r, err := range readAhead(reader.Records(ctx, replay.Query{})) {
		if err != nil {
			return checkpoint.MigrationID{}, err
		}
		if _, err := search.add(r); err != nil {
			return checkpoint.MigrationID{}, err
		}
	}
	return search.result()
}

// idSearch finds the one migration whose id has a given beginning or end.
type idSearch struct {
	part  string // of the id, in lower case
	first digits
	last  digits // zero if the part is too short for an end
	found checkpoint.MigrationID
	lost  uint64 // number of lost events so far
}

// minEndDigits is the smallest number of digits that select an id by its end.
const minEndDigits = 4

// digits are the first or the last hexadecimal digits of an id.
type digits struct {
	bytes  []byte // every two digits that are a whole byte of the id
	nibble int    // the digit after them, or before them in an end; -1 if there is none
}

// newIDSearch returns a usageError if idPart is not a part of an id.
func newIDSearch(idPart string) (*idSearch, error) {
	s := &idSearch{part: strings.ToLower(idPart)}
	text := strings.ReplaceAll(s.part, "-", "")
	if strings.Trim(text, "0123456789abcdef") != "" || s.part == "" {
		return nil, usageErrorf("%q is not a migration id, or the beginning or the end of one: give the digits 0-9 and a-f, and hyphens", idPart)
	}
	odd := len(text) % 2
	var err error
	if s.first, err = parseDigits(text[:len(text)-odd], text[len(text)-odd:]); err != nil {
		return nil, err
	}
	if len(text) >= minEndDigits {
		s.last, err = parseDigits(text[odd:], text[:odd])
	}
	return s, err
}

// parseDigits returns the digits of whole bytes, and one more digit or "".
func parseDigits(whole, rest string) (d digits, err error) {
	d.nibble = -1
	if rest != "" {
		nibble, err := strconv.ParseUint(rest, 16, 8)
		if err != nil {
			return d, err
		}
		d.nibble = int(nibble)
	}
	d.bytes, err = hex.DecodeString(whole)
	return d, err
}

// add looks at the next record of the log and reports whether it belongs to the migration. It
// returns a usageError if a second migration has the same beginning or end.
func (s *idSearch) add(r replay.Record) (matches bool, err error) {
	if r.Damage != nil {
		s.lost += r.Damage.Lost()
		return false, nil
	}
	id, ok := r.Migration()
	if !ok || !s.matches(id) {
		return false, nil
	}
	if id == s.found {
		return true, nil
	}
	if s.found != (checkpoint.MigrationID{}) {
		return false, usageErrorf("%q is the beginning or the end of %s and of %s: give more characters", s.part, s.found, id)
	}
	s.found = id
	return true, nil
}

// matches reports whether the part is the beginning or the end of the id. It also compares the
// places of the hyphens.
func (s *idSearch) matches(id checkpoint.MigrationID) bool {
	if !s.first.beginningOf(id) && !s.last.endOf(id) {
		return false
	}
	text := id.String()
	return strings.HasPrefix(text, s.part) || s.last.endOf(id) && strings.HasSuffix(text, s.part)
}

// beginningOf reports whether the id begins with the digits.
func (d digits) beginningOf(id checkpoint.MigrationID) bool {
	n := len(d.bytes)
	return bytes.HasPrefix(id[:], d.bytes) && (d.nibble < 0 || n < len(id) && int(id[n]>>4) == d.nibble)
}

// endOf reports whether the id ends with the digits. No id ends with the zero value.
func (d digits) endOf(id checkpoint.MigrationID) bool {
	n := len(id) - len(d.bytes)
	return len(d.bytes) > 0 && bytes.HasSuffix(id[:], d.bytes) && (d.nibble < 0 || n > 0 && int(id[n-1]&0xf) == d.nibble)
}

// result returns the migration after all records were added.
func (s *idSearch) result() (checkpoint.MigrationID, error) {
	switch {
	case s.found != (checkpoint.MigrationID{}):
		return s.found, nil
	case s.lost > 0:
		return s.found, fmt.Errorf("%w: migration %s is not in the log, but the log lost %s that may belong to it. To see the damage, run 'replay-tool verify'",
			errMatchMayBeLost, s.part, count(s.lost, "event"))
	}
	return s.found, fmt.Errorf("%w: migration %s is not in the log. To list all events, run 'replay-tool log'", errNoMatch, s.part)
}
