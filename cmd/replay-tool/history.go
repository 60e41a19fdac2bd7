package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"migrationlog/checkpoint"
	"migrationlog/replay"
)

// fold reads a whole history, calling visit with every record.
func (t *tool) fold(ctx context.Context, dir string, visit func(replay.Record)) (*replay.Fold, error) {
	reader, err := replay.Open(dir)
	if err != nil {
		return nil, err
	}
	fold := reader.NewFold()
	p := t.progress("events read:")
	defer p.end()
	var n uint64
	for r, err := range reader.Records(ctx, replay.Query{}) {
		if err != nil {
			return nil, err
		}
		fold.Add(r)
		if visit != nil {
			visit(r)
		}
		n++
		p.update(n)
	}
	return fold, nil
}

// resolve finds the one migration in a history whose id is, or begins with, what
// was typed.
func resolve(ctx context.Context, reader *replay.Reader, idPrefix string) (checkpoint.MigrationID, error) {
	idPrefix = strings.ToLower(idPrefix)
	if strings.Trim(idPrefix, "0123456789abcdef-") != "" || idPrefix == "" {
		return checkpoint.MigrationID{}, usageErrorf("%q is not a migration id, nor the beginning of one", idPrefix)
	}
	var found []checkpoint.MigrationID
	var lost uint64
	for r, err := range reader.Records(ctx, replay.Query{}) {
		if err != nil {
			return checkpoint.MigrationID{}, err
		}
		if r.Damage != nil {
			lost += r.Damage.Lost()
		}
		id, ok := r.Migration()
		if ok && strings.HasPrefix(id.String(), idPrefix) && !slices.Contains(found, id) {
			found = append(found, id)
		}
		if len(found) > 1 {
			return checkpoint.MigrationID{}, usageErrorf("%q is the beginning of %s and of %s: type more of it", idPrefix, found[0], found[1])
		}
	}
	if len(found) == 0 && lost > 0 {
		return checkpoint.MigrationID{}, fmt.Errorf("%w: the log has no migration %s left, but %s lost that may have been its (see 'replay-tool verify')",
			errMatchMayBeLost, idPrefix, count(lost, "event"))
	}
	if len(found) == 0 {
		return checkpoint.MigrationID{}, fmt.Errorf("%w: the log has no migration %s", errNoMatch, idPrefix)
	}
	return found[0], nil
}
