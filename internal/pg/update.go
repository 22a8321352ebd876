package pg

import (
	"context"
	"errors"
	"fmt"

	"taskflow/internal/store"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Update implements store.Updater.
func (s *Store) Update(ctx context.Context, fn func(store.Tx) error) error {
	s.open.RLock()
	defer s.open.RUnlock()
	if s.closed {
		return busy.wrap(errClosed)
	}
	met := make(map[fault]int)
	for {
		f, err := s.attempt(ctx, fn)
		if f == broken {
			s.writers.Reset() // what broke one connection may have broken the others
		}
		if met[f]++; met[f] > f.tries() {
			return f.wrap(err)
		}
		s.hooks.retried(f)
		s.logger.DebugContext(ctx, "running a change again", "cause", err)
	}
}

// attempt runs fn once. Whatever happens, panics too, the transaction has ended when it returns.
func (s *Store) attempt(ctx context.Context, fn func(store.Tx) error) (fault, error) {
	loading, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	conn, err := s.writers.Acquire(loading)
	if err != nil {
		return faultIn(ctx, nil, err)
	}
	defer conn.Release()
	t := &tx{ctx: loading, conn: conn.Conn(), hooks: &s.hooks}
	defer t.rollback()
	err = fn(t)
	if t.err != nil {
		// Where the database failed, that decides, whatever fn makes of it.
		return faultIn(ctx, t.conn, t.err)
	}
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return refused, err
	}
	// Whoever is given an answer once more takes it for durable, as the first time; and the first may have ended as unknown,
	// with a commit that the standby has not got.
	if t.writes.Empty() && len(t.loaded.Answers) == 0 {
		return none, nil
	}
	return s.commit(ctx, t)
}

// commit sends the writes and the commit. From here on the caller cannot cancel.
func (s *Store) commit(ctx context.Context, t *tx) (fault, error) {
	sending, cancel := context.WithTimeout(context.WithoutCancel(ctx), commitTimeout)
	defer cancel()
	var batch pgx.Batch
	queueWrites(&batch, &t.writes, &t.loaded)
	if t.writes.Empty() {
		batch.Queue(raiseNothing) // without a write a commit waits for nobody
	}
	var tag pgconn.CommandTag
	batch.Queue("commit").Fn = func(answers pgx.BatchResults) error {
		return strictly(t.conn, func() (err error) { tag, err = answers.Exec(); return err })
	}
	end := s.hooks.roundTrip(sending, "commit")
	err := t.conn.SendBatch(sending, &batch).Close()
	end(err)
	var pgErr *pgconn.PgError
	switch {
	case err == nil && tag.String() == "COMMIT":
		return none, nil
	case err == nil:
		return refused, fmt.Errorf("the commit was answered with %q", tag)
	case errors.As(err, &pgErr) && pgErr.SeverityUnlocalized == "ERROR":
		// A statement failed, and the server passed over the rest of the pipeline, the commit included.
		return faultOfCode(pgErr.Code), err
	}
	return s.settle(ctx, t, err)
}

// faultIn is faultOf with the caller's own cancellation told apart.
func faultIn(ctx context.Context, conn *pgx.Conn, err error) (fault, error) {
	if err != nil && ctx.Err() != nil {
		return refused, ctx.Err()
	}
	return faultOf(conn, err), err
}

// tx is one run of a change.
type tx struct {
	ctx    context.Context // of this run, up to the commit
	conn   *pgx.Conn
	hooks  *Hooks
	begun  bool
	xid    string // the transaction's id in the database
	loaded store.Snapshot
	writes store.Writes
	err    error // the first error of the database
}

// Save implements store.Tx: the writes leave with the commit.
func (t *tx) Save(w store.Writes) error {
	if !t.begun {
		if _, err := t.Load(store.Need{}); err != nil {
			return err
		}
	}
	t.writes = w
	return nil
}

// rollback ends a transaction that was not committed. Where that fails the connection is closed, which ends it too.
func (t *tx) rollback() {
	if t.conn.IsClosed() || t.conn.PgConn().TxStatus() == 'I' {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.ctx), rollbackTimeout)
	defer cancel()
	if _, err := t.conn.Exec(ctx, "rollback"); err != nil {
		_ = t.conn.Close(ctx) // it reports the same again
	}
}
