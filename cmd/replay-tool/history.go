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
// after each record. If visit returns an error, fold stops and returns it.
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
		n++
		p.update(n)
	}
	return fold, nil
}

// resolve returns the id that begins with idPrefix. It returns an error if the log has no such id
// or more than one.
func resolve(ctx context.Context, reader *replay.Reader, idPrefix string) (checkpoint.MigrationID, error) {
	search, err := newIDSearch(idPrefix)
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

// idSearch finds the one migration whose id has a given beginning.
type idSearch struct {
	prefix string
	bytes  []byte // the complete bytes of the prefix
	nibble int    // the digit after them, -1 without one
	found  checkpoint.MigrationID
	lost   uint64 // number of lost events so far
}

// newIDSearch returns a usageError if idPrefix is not the beginning of an id.
func newIDSearch(idPrefix string) (*idSearch, error) {
	s := &idSearch{prefix: strings.ToLower(idPrefix), nibble: -1}
	digits := strings.ReplaceAll(s.prefix, "-", "")
	if strings.Trim(digits, "0123456789abcdef") != "" || s.prefix == "" {
		return nil, usageErrorf("%q is not a migration id or the beginning of one: give the digits 0-9 and a-f, and hyphens", idPrefix)
	}
	if n := len(digits); n%2 == 1 {
		nibble, err := strconv.ParseUint(digits[n-1:], 16, 8)
		if err != nil {
			return nil, err
		}
		s.nibble, digits = int(nibble), digits[:n-1]
	}
	var err error
	s.bytes, err = hex.DecodeString(digits)
	return s, err
}

// add looks at the next record of the log and reports whether it belongs to the migration. It
// returns a usageError if a second migration has the same beginning.
func (s *idSearch) add(r replay.Record) (matches bool, err error) {
	if r.Damage != nil {
		s.lost += r.Damage.Lost()
		return false, nil
	}
	id, ok := r.Migration()
	n := len(s.bytes)
	if !ok || !bytes.HasPrefix(id[:], s.bytes) || s.nibble >= 0 && (n == len(id) || int(id[n]>>4) != s.nibble) {
		return false, nil
	}
	if id == s.found {
		return true, nil
	}
	if !strings.HasPrefix(id.String(), s.prefix) { // the hyphens of the prefix are in other places
		return false, nil
	}
	if s.found != (checkpoint.MigrationID{}) {
		return false, usageErrorf("%q is the beginning of %s and of %s: give more characters", s.prefix, s.found, id)
	}
	s.found = id
	return true, nil
}

// result returns the migration after all records were added.
func (s *idSearch) result() (checkpoint.MigrationID, error) {
	switch {
	case s.found != (checkpoint.MigrationID{}):
		return s.found, nil
	case s.lost > 0:
		return s.found, fmt.Errorf("%w: migration %s is not in the log, but the log lost %s that may belong to it. To see the damage, run 'replay-tool verify'",
			errMatchMayBeLost, s.prefix, count(s.lost, "event"))
	}
	return s.found, fmt.Errorf("%w: migration %s is not in the log. To list all events, run 'replay-tool log'", errNoMatch, s.prefix)
}
