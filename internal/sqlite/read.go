package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"math"
	"time"

	"taskflow/internal/flows"
	"taskflow/internal/store"

	"github.com/google/uuid"
)

// read runs an operation on the readers and says in the store's terms why it failed.
func (s *Store) read(ctx context.Context, fn func() error) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.running.Done()
	end := s.hooks.roundTrip(ctx, "read")
	err := fn()
	end(err)
	if errors.Is(err, flows.ErrNotFound) {
		return flows.ErrNotFound
	}
	return s.classify(err)
}

// stmt prepares a statement once for each reading connection. It is for constant statements only, so that their number
// is bounded. It may take a connection, so who holds one in a transaction must not wait for it.
func (s *Store) stmt(ctx context.Context, query string) (*sql.Stmt, error) {
	s.stmtsMu.Lock()
	known := s.stmts[query]
	s.stmtsMu.Unlock()
	if known != nil {
		return known, nil
	}
	prepared, err := s.readers.PrepareContext(ctx, query)
	if err != nil {
		return nil, err
	}
	s.stmtsMu.Lock()
	defer s.stmtsMu.Unlock()
	if known := s.stmts[query]; known != nil {
		return known, prepared.Close() // another was quicker
	}
	s.stmts[query] = prepared
	return prepared, nil
}

// one reads one row of a constant statement with scan, or flows.ErrNotFound.
func (s *Store) one(ctx context.Context, scan func(row) error, query string, args ...any) error {
	stmt, err := s.stmt(ctx, query)
	if err != nil {
		return err
	}
	return orNotFound(scan(stmt.QueryRowContext(ctx, args...)))
}

func orNotFound(err error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return flows.ErrNotFound
	}
	return err
}

// errEnough is how a scan says that it wants no more rows.
var errEnough = errors.New("enough")

// each calls scan for every row of a constant statement, until it returns errEnough.
func (s *Store) each(ctx context.Context, scan func(row) error, query string, args ...any) error {
	stmt, err := s.stmt(ctx, query)
	if err != nil {
		return err
	}
	rows, err := stmt.QueryContext(ctx, args...)
	return eachRow(rows, err, scan)
}

func eachRow(rows *sql.Rows, err error, scan func(row) error) error {
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := scan(rows); errors.Is(err, errEnough) {
			return nil
		} else if err != nil {
			return err
		}
	}
	return rows.Err()
}

// snapshot runs fn in a transaction, so that all it reads is of one moment. fn must not use s.readers: the connections
// may all be held by callers of snapshot.
func (s *Store) snapshot(ctx context.Context, fn func(*sql.Tx) error) error {
	tx, err := s.readers.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return err
	}
	// Nothing was written, so the way it ends is all the same.
	defer func() { _ = tx.Rollback() }()
	return fn(tx)
}

// Flow implements [store.Reader].
func (s *Store) Flow(ctx context.Context, id uuid.UUID, owners flows.Owners) (*flows.Flow, error) {
	f := new(flows.Flow)
	err := s.read(ctx, func() error {
		condition, args := covered("owner_session_key", owners)
		return s.one(ctx, func(r row) error { return scanFlow(r, f) }, selectFlow+" AND "+condition, append([]any{id[:]}, args...)...)
	})
	if err != nil {
		return nil, err
	}
	return f, nil
}

// Step implements [store.Reader].
func (s *Store) Step(ctx context.Context, key store.StepKey, owners flows.Owners) (*flows.Step, error) {
	step := new(flows.Step)
	err := s.read(ctx, func() error {
		condition, args := flowCovered(key.FlowID, owners)
		return s.one(ctx, func(r row) error { return scanStep(r, step) }, selectStep+" AND "+condition,
			append([]any{key.FlowID[:], key.RunID}, args...)...)
	})
	if err != nil {
		return nil, err
	}
	return step, nil
}

const (
	selectSteps = `
SELECT ` + stepColumns + ` FROM steps
WHERE flow_id = ? AND (created_at, id) > (?, ?) AND `
	inOrderOfCreation = ` ORDER BY created_at, id LIMIT ?`
)

// Steps implements [store.Reader].
func (s *Store) Steps(ctx context.Context, q store.StepQuery) (store.StepPage, error) {
	var page store.StepPage
	after, afterID := int64(math.MinInt64), []byte{}
	if q.From != nil {
		after, afterID = q.From.CreatedAt.UnixMicro(), q.From.ID[:]
	}
	condition, conditionArgs := flowCovered(q.FlowID, q.Owners)
	args := append(append([]any{q.FlowID[:], after, afterID}, conditionArgs...), q.Limit+1)
	filling := store.Filling{Limit: q.Limit}
	err := s.read(ctx, func() error {
		err := s.each(ctx, func(r row) error {
			if filling.Full() { // and the list goes on
				last := page.Items[len(page.Items)-1]
				page.Next = &store.StepPosition{CreatedAt: last.CreatedAt, ID: last.ID}
				return errEnough
			}
			step := new(flows.Step)
			page.Items = append(page.Items, step)
			err := scanStep(r, step)
			filling.AddStep(step)
			return err
		}, selectSteps+condition+inOrderOfCreation, args...)
		if err != nil || len(page.Items) > 0 {
			return err
		}
		return s.flowExists(ctx, q.FlowID, q.Owners)
	})
	if err != nil {
		return store.StepPage{}, err
	}
	return page, nil
}

const selectFlowExists = `SELECT 1 FROM flows WHERE id = ?`

// flowExists returns flows.ErrNotFound where there is no such flow that is covered. A list that has rows needs not ask: they are
// deleted with their flow.
func (s *Store) flowExists(ctx context.Context, id uuid.UUID, owners flows.Owners) error {
	var one int
	condition, args := covered("owner_session_key", owners)
	return s.one(ctx, func(r row) error { return r.Scan(&one) }, selectFlowExists+" AND "+condition, append([]any{id[:]}, args...)...)
}

const selectNextDue = `
SELECT due_at FROM flows INDEXED BY flows_due
WHERE due_at IS NOT NULL AND waiting_since IS NOT NULL ORDER BY due_at, id LIMIT 1`

// NextDue implements [store.Reader].
func (s *Store) NextDue(ctx context.Context) (at time.Time, in time.Duration, ok bool, err error) {
	err = s.read(ctx, func() error {
		return s.one(ctx, func(r row) error { return r.Scan(micros{&at}) }, selectNextDue)
	})
	switch {
	case errors.Is(err, flows.ErrNotFound):
		return time.Time{}, 0, false, nil
	case err != nil:
		return time.Time{}, 0, false, err
	}
	return at, at.Sub(s.now()), true, nil
}

const (
	selectMigrated = `SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = 'goose_db_version'`
	selectVersion  = `SELECT coalesce(max(version_id), 0) FROM goose_db_version WHERE is_applied`
)

// SchemaVersion implements [store.Reader]; a file that [Migrate] has never seen has version 0.
func (s *Store) SchemaVersion(ctx context.Context) (int64, error) {
	var version int64
	err := s.read(ctx, func() (err error) {
		version, err = s.schemaVersion(ctx)
		return err
	})
	return version, err
}

func (s *Store) schemaVersion(ctx context.Context) (version int64, err error) {
	var tables int
	if err := s.keys.QueryRowContext(ctx, selectMigrated).Scan(&tables); err != nil || tables == 0 {
		return 0, err
	}
	err = s.keys.QueryRowContext(ctx, selectVersion).Scan(&version)
	return version, err
}
