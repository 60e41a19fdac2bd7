package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"migrationlog/checkpoint"
	"migrationlog/eventlog/segment"
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

// foldPeriod calls visit with the records of the migrations that have a row at the beginning of a period,
// and with the records of the period, see
// replay.Reader.Period. The fold has only the damage among them. If the period is the whole log, or the
// log has few segments, it reads all of them.
func (t *tool) foldPeriod(ctx context.Context, reader *replay.Reader, dir string, o replay.PeriodOptions, visit func(replay.Record) error) (*replay.Fold, replay.Coverage, error) {
	if hasMany, err := hasManySegments(dir); !hasMany || o.SinceMS == 0 && o.UntilMS == 0 {
		if err != nil {
			return nil, replay.Coverage{}, err
		}
		fold, err := t.fold(ctx, dir, func(_ *replay.Fold, r replay.Record) error { return visit(r) })
		return fold, replay.Coverage{}, err
	}
	fold := reader.NewPartialFold()
	p := t.progress("events read:")
	defer p.end()
	var covered replay.Coverage
	o.Covered = &covered
	var n uint64
	for r, err := range readAhead(reader.Period(ctx, o)) {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return nil, covered, err
		}
		if r.Damage != nil {
			fold.AddDamage(*r.Damage)
		}
		if err := visit(r); err != nil {
			return nil, covered, err
		}
		n++
		p.update(n)
	}
	return fold, covered, nil
}

// hasManySegments reports whether a log is so large that a query should not read all of it.
func hasManySegments(dir string) (bool, error) {
	names, err := segment.Names(os.DirFS(dir))
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return len(names) > maxWholeSegments, err
}

// reportCoverage prints how many segments were not checked, if there are any.
func (t *tool) reportCoverage(c replay.Coverage, dir string) {
	if c.Unchecked > 0 {
		t.statusf("%s not checked. To check all, run: replay-tool verify %s", count(c.Unchecked, "segment"), quoted(dir))
	}
}

// resolve returns the id that begins or ends with idPart. It returns an error if the log has no such id
// or more than one.
func resolve(ctx context.Context, reader *replay.Reader, idPart string) (checkpoint.MigrationID, error) {
	return selection{part: idPart}.resolve(ctx, reader)
}

// selection is the choice of a migration on the command line: a part of its id, or --vshard.
type selection struct {
	part   string
	vshard string // the newest migration of this vShard
}

func (s *selection) register(c *cobra.Command) {
	c.Flags().StringVar(&s.vshard, "vshard", "", "in place of an id: the newest migration of the vShard with this `number`")
}

// given reports whether a migration was chosen.
func (s selection) given() bool { return s.part != "" || s.vshard != "" }

func (s selection) String() string {
	if s.vshard != "" {
		return "--vshard " + s.vshard
	}
	return s.part
}

// resolve returns the id of the migration. It reads the whole log only if the summaries of its segments
// do not show the migration.
func (s selection) resolve(ctx context.Context, reader *replay.Reader) (checkpoint.MigrationID, error) {
	search, err := s.search()
	if err != nil {
		return checkpoint.MigrationID{}, err
	}
	var q replay.Query
	if search.isVShard {
		if id, ok, err := reader.NewestMigration(ctx, search.vshard); ok || err != nil {
			return id, err
		}
	} else {
		ids := search.whole()
		if len(ids) == 0 {
			ids, err = reader.FindIDs(ctx, search.matches, nil)
		}
		if err != nil {
			return checkpoint.MigrationID{}, err
		}
		if len(ids) <= maxFoundIDs {
			q.Migrations = ids
		}
	}
	if len(q.Migrations) > 0 {
		for r, err := range reader.Find(ctx, q, nil) {
			if err != nil {
				return checkpoint.MigrationID{}, err
			}
			search.add(r)
		}
	}
	if len(search.seen) > 0 {
		return search.result()
	}
	for r, err := range readAhead(reader.Records(ctx, replay.Query{})) {
		if err != nil {
			return checkpoint.MigrationID{}, err
		}
		search.add(r)
	}
	return search.result()
}

// maxFoundIDs is the largest number of matching ids whose events are looked up one by one.
const maxFoundIDs = 64

// search returns a usageError if no migration or more than one was chosen.
func (s selection) search() (*idSearch, error) {
	switch {
	case s.part != "" && s.vshard != "":
		return nil, usageErrorf("give a migration or --vshard, not both")
	case s.vshard != "":
		vshard, err := strconv.ParseUint(s.vshard, 10, 32)
		if err != nil {
			return nil, usageErrorf("--vshard %s: give the number of a vShard, such as 11", s.vshard)
		}
		return &idSearch{isVShard: true, vshard: uint32(vshard)}, nil
	}
	return newIDSearch(s.part)
}

// idSearch finds the one migration whose id has a given beginning or end, or the newest migration of
// a vShard.
type idSearch struct {
	part  string // of the id, in lower case
	first digits
	last  digits // zero if the part is too short for an end

	isVShard bool
	vshard   uint32

	found  checkpoint.MigrationID // the first match, or the newest migration of the vShard
	others int                    // number of matches after maxCandidates
	seen   []candidate            // the first matches
	lost   uint64                 // number of lost events so far
}

// candidate is a migration that matches, with the facts that distinguish it from others.
type candidate struct {
	id     checkpoint.MigrationID
	vshard uint32
	step   string
	ms     uint64
}

// maxCandidates is the largest number of migrations that an error names.
const maxCandidates = 5

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

// add looks at the next record of the log. It reports whether the record belongs to the first
// migration that matches. Result returns an error if there are others.
func (s *idSearch) add(r replay.Record) (matches bool) {
	if r.Damage != nil {
		s.lost += r.Damage.Lost()
		return false
	}
	id, ok := r.Migration()
	if !ok {
		return false
	}
	if s.isVShard {
		return s.addOfVShard(id, r)
	}
	if !s.matches(id) {
		return false
	}
	if s.found == (checkpoint.MigrationID{}) {
		s.found = id
	}
	s.addCandidate(id, r)
	return id == s.found
}

// addOfVShard makes the id the result if the record begins an incarnation on the vShard.
func (s *idSearch) addOfVShard(id checkpoint.MigrationID, r replay.Record) bool {
	c, ok := r.Checkpoint()
	if ok && c.Payload.Shard() == s.vshard && (r.PrevSeq == 0 || s.found == (checkpoint.MigrationID{})) {
		s.found = id
	}
	return id == s.found
}

// addCandidate records the latest event of a migration that matches.
func (s *idSearch) addCandidate(id checkpoint.MigrationID, r replay.Record) {
	i := slices.IndexFunc(s.seen, func(c candidate) bool { return c.id == id })
	if i < 0 {
		if len(s.seen) == maxCandidates {
			s.others++ // events, but the number is only compared with 0
			return
		}
		i = len(s.seen)
		s.seen = append(s.seen, candidate{id: id})
	}
	c := &s.seen[i]
	c.step, c.ms = stepOf(r), r.WallMS()
	if row, ok := r.Checkpoint(); ok {
		c.vshard = row.Payload.Shard()
	}
}

// whole returns the id if the part is a whole one.
func (s *idSearch) whole() []checkpoint.MigrationID {
	if len(s.first.bytes) != len(checkpoint.MigrationID{}) {
		return nil
	}
	return []checkpoint.MigrationID{checkpoint.MigrationID(s.first.bytes)}
}

// matches reports whether the part is the beginning or the end of the id. If the part has hyphens, it
// also compares their places.
func (s *idSearch) matches(id checkpoint.MigrationID) bool {
	if !s.first.beginningOf(id) && !s.last.endOf(id) {
		return false
	}
	if !strings.Contains(s.part, "-") {
		return true
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

// result returns the migration after all records were added. It returns a usageError if more than one
// migration matches.
func (s *idSearch) result() (checkpoint.MigrationID, error) {
	subject := s.subject()
	switch {
	case len(s.seen) > 1:
		return s.found, s.ambiguity()
	case s.found != (checkpoint.MigrationID{}):
		return s.found, nil
	case s.lost > 0:
		return s.found, fmt.Errorf("%w: %s is not in the log, but the log lost %s that may belong to it. To see the damage, run 'replay-tool verify'",
			errMatchMayBeLost, subject, count(s.lost, "event"))
	}
	return s.found, fmt.Errorf("%w: %s is not in the log. To list all events, run 'replay-tool log'", errNoMatch, subject)
}

// subject describes the migration that is searched.
func (s *idSearch) subject() string {
	switch digits := len(strings.ReplaceAll(s.part, "-", "")); {
	case s.isVShard:
		return fmt.Sprintf("a migration of vShard %d", s.vshard)
	case digits < minEndDigits:
		return fmt.Sprintf("a migration whose id begins with %s (an end has at least %d digits)", s.part, minEndDigits)
	case digits < 2*len(checkpoint.MigrationID{}):
		return fmt.Sprintf("a migration whose id begins or ends with %s", s.part)
	}
	return "migration " + s.part
}

// ambiguity lists the migrations that match.
func (s *idSearch) ambiguity() error {
	var b strings.Builder
	fmt.Fprintf(&b, "%q is the beginning or the end of more than one id: give more characters of one of these ids", s.part)
	for _, c := range s.seen {
		fmt.Fprintf(&b, "\n%s  vShard %d, %s at %s", c.id, c.vshard, c.step, (&clock{style: timeISO}).show(c.ms))
	}
	if s.others > 0 {
		b.WriteString("\nand others")
	}
	return usageErrorf("%s", b.String())
}
