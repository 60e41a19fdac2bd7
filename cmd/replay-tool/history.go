package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"migrationlog/checkpoint"
	"migrationlog/replay"
)

// fold reads the whole log and folds all records. It calls visit, unless that is nil, with each.
func (t *tool) fold(ctx context.Context, dir string, visit func(replay.Record)) (*replay.Fold, error) {
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
			visit(r)
		}
		n++
		p.update(n)
	}
	return fold, nil
}

// resolve returns the id that begins with idPrefix. It returns an error if the log has no such id or
// more than one.
func resolve(ctx context.Context, reader *replay.Reader, idPrefix string) (checkpoint.MigrationID, error) {
	idPrefix = strings.ToLower(idPrefix)
	if strings.Trim(idPrefix, "0123456789abcdef-") != "" || idPrefix == "" {
		return checkpoint.MigrationID{}, usageErrorf("%q is not a migration id or the beginning of one: give the digits 0-9 and a-f, and hyphens", idPrefix)
	}
	var found []checkpoint.MigrationID
	var lost uint64
	for r, err := range readAhead(reader.Records(ctx, replay.Query{})) {
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
			return checkpoint.MigrationID{}, usageErrorf("%q is the beginning of %s and of %s: give more characters", idPrefix, found[0], found[1])
		}
	}
	if len(found) == 0 && lost > 0 {
		return checkpoint.MigrationID{}, fmt.Errorf("%w: migration %s is not in the log, but the log lost %s that may belong to it. To see the damage, run 'replay-tool verify'",
			errMatchMayBeLost, idPrefix, count(lost, "event"))
	}
	if len(found) == 0 {
		return checkpoint.MigrationID{}, fmt.Errorf("%w: migration %s is not in the log. To list all events, run 'replay-tool log'", errNoMatch, idPrefix)
	}
	return found[0], nil
}
