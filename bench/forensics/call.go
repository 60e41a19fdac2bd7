package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	_ "modernc.org/sqlite" // the driver "sqlite"

	"migrationlog"
	"migrationlog/replay"
)

// callEnv is the environment variable that contains the call of a process.
const callEnv = "MIGRATIONLOG_FORENSICS_CALL"

// call is one measurement of calls of a library, in a process of its own.
type call struct {
	Name    string  `json:"name"`
	Dir     string  `json:"dir"` // of the log, or the path of the database
	SQL     string  `json:"sql"`
	Subject subject `json:"subject"`
}

// calls has the calls of package replay. Each opens a new Reader.
var calls = map[string]func(context.Context, *replay.Reader, subject) (found int, err error){
	"Reader.History": func(ctx context.Context, r *replay.Reader, s subject) (n int, err error) {
		for _, err := range r.History(ctx, s.Migration, nil) {
			if err != nil {
				return n, err
			}
			n++
		}
		return n, nil
	},
	"Reader.Search": func(ctx context.Context, r *replay.Reader, s subject) (n int, err error) {
		q := replay.Query{VShards: []uint32{s.VShard}}
		for _, err := range r.Search(ctx, q, replay.SearchOptions{Rows: true}) {
			if err != nil {
				return n, err
			}
			n++
		}
		return n, nil
	},
	"Reader.Newest": func(ctx context.Context, r *replay.Reader, _ subject) (int, error) {
		records, _, _, err := r.Newest(ctx, 50)
		return len(records), err
	},
	"Reader.Totals": func(ctx context.Context, r *replay.Reader, _ subject) (int, error) {
		totals, err := r.Totals(ctx)
		return int(totals.Events), err
	},
	"Reader.FoldTo": func(ctx context.Context, r *replay.Reader, s subject) (int, error) {
		fold, err := r.FoldTo(ctx, replay.Point{Seq: s.Seq})
		if err != nil {
			return 0, err
		}
		return fold.View.Len(), nil
	},
}

// runCall measures a call twice: after the files were removed from the page cache, and again.
func runCall(encoded string) (err error) {
	var c call
	if err := json.Unmarshal([]byte(encoded), &c); err != nil {
		return err
	}
	ctx := context.Background()
	run, end, err := c.prepare(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, end()) }()
	if err := evict(c.Dir); err != nil {
		return err
	}
	found := map[string]float64{}
	for _, metric := range []string{coldMS, warmMS} {
		began := time.Now()
		n, err := run()
		if err != nil {
			return err
		}
		if n == 0 {
			return fmt.Errorf("%s found nothing for %+v", c.Name, c.Subject)
		}
		found[metric] = time.Since(began).Seconds() * 1e3
	}
	return json.NewEncoder(os.Stdout).Encode(found)
}

// prepare opens everything that stays open between the calls.
func (c call) prepare(ctx context.Context) (run func() (int, error), end func() error, err error) {
	switch c.Name {
	case "SQLite":
		db, err := sql.Open("sqlite", "file:"+c.Dir+"?mode=ro")
		if err != nil {
			return nil, nil, err
		}
		return func() (int, error) { return countRows(ctx, db, c.SQL) }, db.Close, nil
	case "Store.History":
		store, err := migrationlog.Open(c.Dir, nil)
		if err != nil {
			return nil, nil, err
		}
		return func() (n int, err error) {
			for _, err := range store.History(ctx, c.Subject.Migration) {
				if err != nil {
					return n, err
				}
				n++
			}
			return n, nil
		}, store.Close, nil
	}
	return func() (int, error) {
		r, err := replay.Open(c.Dir)
		if err != nil {
			return 0, err
		}
		return calls[c.Name](ctx, r, c.Subject)
	}, func() error { return nil }, nil
}

// countRows reads all columns of all rows of a query.
func countRows(ctx context.Context, db *sql.DB, query string) (n int, err error) {
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	names, err := rows.Columns()
	if err != nil {
		return 0, err
	}
	values := make([]any, len(names))
	for i := range values {
		values[i] = new(any)
	}
	for rows.Next() {
		if err := rows.Scan(values...); err != nil {
			return n, err
		}
		n++
	}
	return n, rows.Err()
}
