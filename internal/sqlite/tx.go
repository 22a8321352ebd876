package sqlite

import (
	"context"
	"database/sql"
	"errors"

	"taskflow/internal/store"

	"github.com/google/uuid"
)

// tx is one transaction on the writer's connection. It implements [store.Tx], whose methods take no context: it keeps
// the one that Update was called with.
type tx struct {
	s   *Store
	ctx context.Context // asked between statements, so that a caller who has gone ends the work
	// detached is what statements run with. To interrupt one would cost a goroutine for each; they are short.
	detached context.Context
	ended    bool
	err      error // the first failure, so that fn cannot pass over it

	// The numbers of the last write before this one, and of this one; see feed.batch. 0 until something is written.
	before, batch int64
}

// Update implements [store.Updater]. fn runs once: who has the file's write lock cannot fail to serialize.
func (s *Store) Update(ctx context.Context, fn func(store.Tx) error) error {
	return s.transact(ctx, func(t *tx) error { return fn(t) })
}

// exec runs a prepared statement and returns how many rows it changed.
func (t *tx) exec(query string, args ...any) (int64, error) {
	stmt, err := t.stmt(query)
	if err != nil {
		return 0, err
	}
	result, err := stmt.ExecContext(t.detached, args...)
	if err != nil {
		return 0, t.fail(err)
	}
	n, err := result.RowsAffected()
	return n, t.fail(err)
}

// do is exec for one of many statements. After the first failure every other does nothing, so t.err is asked for once,
// when all are done.
func (t *tx) do(query string, args ...any) { _, _ = t.exec(query, args...) }

// one reads at most one row with scan; found is false where there is none.
func (t *tx) one(scan func(row) error, query string, args ...any) (found bool, err error) {
	stmt, err := t.stmt(query)
	if err != nil {
		return false, err
	}
	switch err := scan(stmt.QueryRowContext(t.detached, args...)); {
	case errors.Is(err, sql.ErrNoRows):
		return false, nil
	case err != nil:
		return false, t.fail(err)
	}
	return true, nil
}

// each calls scan for every row. scan must not run another statement.
func (t *tx) each(scan func(row) error, query string, args ...any) error {
	stmt, err := t.stmt(query)
	if err != nil {
		return err
	}
	rows, err := stmt.QueryContext(t.detached, args...)
	return t.fail(eachRow(rows, err, scan))
}

// ids reads a column of identifiers.
func (t *tx) ids(query string, args ...any) ([]uuid.UUID, error) {
	var ids []uuid.UUID
	err := t.each(func(r row) error {
		ids = append(ids, uuid.UUID{})
		return r.Scan(&ids[len(ids)-1])
	}, query, args...)
	return ids, err
}

func (t *tx) stmt(query string) (*sql.Stmt, error) {
	if t.err != nil {
		return nil, t.err
	}
	if t.ended {
		return nil, t.fail(sql.ErrTxDone)
	}
	if err := t.ctx.Err(); err != nil {
		return nil, t.fail(err)
	}
	stmt, err := t.s.writer.stmt(t.detached, query)
	return stmt, t.fail(err)
}

// fail notes an error in the store's terms.
func (t *tx) fail(err error) error {
	if err != nil && t.err == nil {
		t.err = t.s.classify(err)
	}
	return t.err
}
