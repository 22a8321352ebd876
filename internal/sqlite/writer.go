package sqlite

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"sync/atomic"
	"time"

	"taskflow/internal/store"

	sqlite3 "modernc.org/sqlite/lib"
)

// writer is the one connection that writes, with its prepared statements. It begins and ends transactions by
// statements of its own: database/sql ends a transaction when the context it began with does, also in the middle of a
// COMMIT.
type writer struct {
	db *sql.DB // of one connection
	// turn holds a token while nobody writes. Who has the token owns the fields below.
	turn          chan struct{}
	waits, waited atomic.Int64 // of those who had to wait for it; nanoseconds
	conn          *sql.Conn    // nil until it is needed, and after it was given up
	stmts         map[string]*sql.Stmt
	// logLimit is maxLogBytes, or less in a test; logNext the size of the log file at which boundLog acts next.
	logLimit, logNext int64
	// commit runs COMMIT. Tests put one in its place whose outcome is in doubt.
	commit func(context.Context) error
}

// openWriter connects, and makes sure that the file is in WAL mode: a file system without shared memory refuses it
// without an error.
func openWriter(ctx context.Context, path string) (*writer, error) {
	db, err := openPool(writerDSN(path), 1)
	if err != nil {
		return nil, err
	}
	w := &writer{db: db, turn: make(chan struct{}, 1), logLimit: maxLogBytes, logNext: maxLogBytes}
	w.commit = func(ctx context.Context) error { return w.run(ctx, "COMMIT") }
	w.turn <- struct{}{}
	var mode string
	if err := db.QueryRowContext(ctx, "PRAGMA journal_mode").Scan(&mode); err != nil {
		return nil, errors.Join(classify(err), db.Close())
	}
	if mode != "wal" {
		return nil, errors.Join(unavailable(fmt.Errorf("journal mode is %q, the file system does not allow WAL", mode)), db.Close())
	}
	return w, nil
}

// acquire waits for the turn to write.
func (w *writer) acquire(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case <-w.turn:
		return nil
	default:
	}
	began := time.Now()
	w.waits.Add(1)
	defer func() { w.waited.Add(int64(time.Since(began))) }()
	select {
	case <-w.turn:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (w *writer) release() { w.turn <- struct{}{} }

// stmt prepares a statement once for the connection, which it opens where there is none.
func (w *writer) stmt(ctx context.Context, query string) (*sql.Stmt, error) {
	if s := w.stmts[query]; s != nil {
		return s, nil
	}
	if w.conn == nil {
		conn, err := w.db.Conn(ctx)
		if err != nil {
			return nil, err
		}
		w.conn, w.stmts = conn, make(map[string]*sql.Stmt)
	}
	s, err := w.conn.PrepareContext(ctx, query)
	if err != nil {
		return nil, err
	}
	w.stmts[query] = s
	return s, nil
}

// run executes a statement that takes and returns nothing.
func (w *writer) run(ctx context.Context, query string) error {
	s, err := w.stmt(ctx, query)
	if err != nil {
		return err
	}
	_, err = s.ExecContext(ctx)
	return err
}

// drop gives the connection up, and with it whatever transaction is open on it. The next statement opens another.
func (w *writer) drop() error {
	if w.conn == nil {
		return nil
	}
	err := w.closeStmts()
	// ErrBadConn makes database/sql close the connection rather than keep it for the next.
	if e := w.conn.Raw(func(any) error { return driver.ErrBadConn }); !errors.Is(e, driver.ErrBadConn) {
		err = errors.Join(err, e)
	}
	w.conn = nil
	return err
}

// closeStmts closes what was prepared on the connection: database/sql does not where it closes a connection that was
// taken from the pool, and SQLite keeps one with open statements, and its locks, alive.
func (w *writer) closeStmts() error {
	var err error
	for _, s := range w.stmts {
		err = errors.Join(err, s.Close())
	}
	w.stmts = nil
	return err
}

// close is called when nothing is under way any more.
func (w *writer) close() error {
	return errors.Join(w.drop(), w.db.Close())
}

// IMMEDIATE takes the file's write lock at once, and waits for it busyMillis at most.
const begin = `BEGIN IMMEDIATE`

// transact runs fn in a transaction that has the write lock, and commits what it wrote. An error of fn is returned as
// it is. Whatever happens, also a panic of fn, no transaction is left open.
func (s *Store) transact(ctx context.Context, fn func(*tx) error) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.running.Done()
	if err := s.writer.acquire(ctx); err != nil {
		return err
	}
	defer s.writer.release()
	t := &tx{s: s, ctx: ctx, detached: context.WithoutCancel(ctx)}
	end := s.hooks.roundTrip(ctx, "begin")
	err := s.writer.run(ctx, begin)
	end(err)
	if err != nil {
		s.giveUp("begin", err) // it may have begun, where ctx ended while it did
		return classify(err)
	}
	defer t.rollback()
	if err := fn(t); err != nil {
		return err
	}
	if t.err != nil {
		return t.err // fn has kept it to itself; half of what it wanted must not be committed
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return t.commit()
}

// giveUp drops the connection after an error that leaves its state in doubt.
func (s *Store) giveUp(doing string, cause error) {
	if errors.Is(cause, context.Canceled) || errors.Is(cause, context.DeadlineExceeded) {
		cause = nil // nothing is wrong with the database
	}
	if err := errors.Join(cause, s.writer.drop()); err != nil {
		s.log.Warn("SQLite connection is given up", slog.String("during", doing), slog.Any("error", err))
	}
}

// rollback undoes what was not committed.
func (t *tx) rollback() {
	if t.ended {
		return
	}
	t.ended = true
	err := t.s.writer.run(t.detached, "ROLLBACK")
	// SQLITE_ERROR: SQLite has rolled back by itself, as it does when the disk is full, and has no transaction left.
	if err != nil && primaryCode(err) != sqlite3.SQLITE_ERROR {
		t.s.giveUp("rollback", err)
	}
}

// commit makes the change durable. The caller's context does not interrupt it.
func (t *tx) commit() error {
	if t.batch == 0 {
		return nil // nothing was written; the rollback ends it
	}
	t.ended = true
	end := t.s.hooks.roundTrip(t.detached, "commit")
	err := t.s.writer.commit(t.detached)
	end(err)
	if err == nil {
		t.s.boundLog(t.detached)
		return nil
	}
	t.s.giveUp("commit", err)
	if code := primaryCode(err); code == sqlite3.SQLITE_FULL || code == sqlite3.SQLITE_BUSY || codeOf(err) == sqlite3.SQLITE_IOERR_WRITE {
		// The write of a page failed, or none was tried: the mark that ends a commit, which is written last, is not
		// in the log.
		return unavailable(err)
	}
	return t.settle(err)
}

const (
	selectFeed = `SELECT seq, batch FROM feed WHERE id = 1`
	updateFeed = `UPDATE feed SET seq = seq + ?, batch = ? WHERE id = 1`
)

// settle finds out whether a COMMIT that failed has taken effect. A failed sync may have left a whole commit in the
// log that is not seen now but would be after a crash; so it is not enough to look: settle commits as well, over the
// place where that one would be. Where it cannot, or another process has written since, the outcome is unknown.
func (t *tx) settle(cause error) error {
	found, err := t.overwrite()
	if err != nil {
		t.s.giveUp("finding out about a commit", err)
		return fmt.Errorf("%w: %w", store.ErrOutcomeUnknown, errors.Join(cause, err))
	}
	switch found {
	case t.batch:
		return nil
	case t.before:
		return unavailable(cause)
	}
	return fmt.Errorf("%w: %w", store.ErrOutcomeUnknown, cause)
}

// overwrite reads the number of the last write and replaces it, in a transaction of its own.
func (t *tx) overwrite() (found int64, err error) {
	w := t.s.writer
	if err := w.run(t.detached, begin); err != nil {
		return 0, err
	}
	read, err := w.stmt(t.detached, selectFeed)
	if err != nil {
		return 0, err
	}
	var seq int64
	if err := read.QueryRowContext(t.detached).Scan(&seq, &found); err != nil {
		return 0, err
	}
	write, err := w.stmt(t.detached, updateFeed)
	if err != nil {
		return 0, err
	}
	if _, err := write.ExecContext(t.detached, 0, newBatch()); err != nil {
		return 0, err
	}
	return found, w.run(t.detached, "COMMIT")
}

// newBatch is a number that tells one write from another; 0 stands for none.
func newBatch() int64 { return 1 + rand.Int64N(1<<62) }

// maxLogBytes is the size of the log file above which a write empties it. SQLite starts the log over by itself only at
// a moment when no reader uses it, and under many overlapping reads that moment may never come.
const maxLogBytes = 64 << 20

// boundLog empties the log file where it has grown too large: it waits for the readers of the moment, which are short,
// and keeps new ones off the log. Where some reader is slow it leaves off, and tries again when as much has been added.
func (s *Store) boundLog(ctx context.Context) {
	info, err := os.Stat(s.path + "-wal")
	if err != nil || info.Size() < s.writer.logNext {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	var busy, pages, moved int
	err = s.writer.conn.QueryRowContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)").Scan(&busy, &pages, &moved)
	if err == nil && busy == 0 {
		s.writer.logNext = s.writer.logLimit
		return
	}
	s.writer.logNext = info.Size() + s.writer.logLimit
	s.log.Warn("SQLite log file could not be emptied: a reader is slow", slog.Int64("bytes", info.Size()), slog.Any("error", err))
}
