package peer

import (
	"database/sql"
	"errors"
	"path/filepath"
	"sync"

	_ "modernc.org/sqlite"

	"migrationlog/bench/eventgen"
)

var sqlitePeer = Peer{
	Name: "SQLite", Module: "modernc.org/sqlite", Keeps: KeepsRows, Open: openSQLite,
	Setup: "WAL, synchronous=FULL; one connection for writing, behind a mutex; prepared statements",
}

type sqliteStore struct {
	mu                    sync.Mutex // held by the one that writes
	writer, reader        *sql.DB
	upsert, remove, fetch *sql.Stmt
}

func openSQLite(dir string, o Options) (Store, error) {
	path := filepath.Join(dir, "rows.db")
	level := "FULL"
	if o.Bulk {
		level = "NORMAL" // no sync for each transaction: Close does it
	}
	s := &sqliteStore{}
	var err error
	dsn := "file:" + path + "?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous("
	if s.writer, err = sql.Open("sqlite", dsn+level+")&_txlock=immediate"); err != nil {
		return nil, err
	}
	s.writer.SetMaxOpenConns(1)
	if _, err = s.writer.Exec(`CREATE TABLE IF NOT EXISTS migrations (id BLOB PRIMARY KEY, event BLOB NOT NULL) WITHOUT ROWID`); err != nil {
		return nil, err
	}
	if s.reader, err = sql.Open("sqlite", dsn+level+")&_pragma=query_only(1)"); err != nil {
		return nil, err
	}
	prepare := func(db *sql.DB, query string) *sql.Stmt {
		stmt, e := db.Prepare(query)
		err = errors.Join(err, e)
		return stmt
	}
	s.upsert = prepare(s.writer, `INSERT INTO migrations (id, event) VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET event = excluded.event`)
	s.remove = prepare(s.writer, `DELETE FROM migrations WHERE id = ?`)
	s.fetch = prepare(s.reader, `SELECT event FROM migrations WHERE id = ?`)
	return s, err
}

func (s *sqliteStore) put(upsert, remove *sql.Stmt, op *eventgen.Op) (err error) {
	if op.Ends {
		_, err = remove.Exec(op.ID[:])
	} else {
		_, err = upsert.Exec(op.ID[:], op.Value)
	}
	return err
}

func (s *sqliteStore) Apply(op *eventgen.Op) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.put(s.upsert, s.remove, op)
}

func (s *sqliteStore) ApplyAll(ops []eventgen.Op) error {
	tx, err := s.writer.Begin()
	if err != nil {
		return err
	}
	upsert, remove := tx.Stmt(s.upsert), tx.Stmt(s.remove)
	for i := range ops {
		if err := s.put(upsert, remove, &ops[i]); err != nil {
			return errors.Join(err, tx.Rollback())
		}
	}
	return tx.Commit()
}

func (s *sqliteStore) Rows() (map[ID][]byte, error) {
	found, err := s.reader.Query(`SELECT id, event FROM migrations`)
	if err != nil {
		return nil, err
	}
	defer found.Close()
	rows := map[ID][]byte{}
	for found.Next() {
		var id, value []byte
		if err := found.Scan(&id, &value); err != nil {
			return nil, err
		}
		rows[ID(id)] = value
	}
	return rows, found.Err()
}

func (s *sqliteStore) Load() (any, int, error) { return counted(s.Rows()) }

func (s *sqliteStore) Get(id ID, buf []byte) ([]byte, bool, error) {
	err := s.fetch.QueryRow(id[:]).Scan(&buf)
	if errors.Is(err, sql.ErrNoRows) {
		return buf, false, nil
	}
	return buf, err == nil, err
}

func (s *sqliteStore) All() (int, error) {
	rows, err := s.Rows()
	return len(rows), err
}

// Close moves all rows from the WAL into the database, which syncs both.
func (s *sqliteStore) Close() error {
	err := s.reader.Close()
	_, e := s.writer.Exec(`PRAGMA wal_checkpoint(TRUNCATE)`)
	return errors.Join(err, e, s.writer.Close())
}
