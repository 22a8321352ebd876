package pg

import (
	"context"
	"errors"
	"fmt"

	"taskflow/internal/store"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// fault says what is to be done about an error.
type fault int

const (
	none     fault = iota
	refused        // it would fail again: the caller's error, or a statement that the database refuses
	raced          // another transaction inserted the same key first: run again and see its row
	conflict       // deadlock or serialization failure: run again
	lockWait       // a lock could not be had in time
	broken         // the connection is of no use, and nothing was committed: try another
	busy           // the database takes no work now
	unknown        // nobody knows whether it was committed
)

// tries is how often a change that met this fault is run again.
func (f fault) tries() int {
	switch f {
	case raced, conflict:
		return 10
	case lockWait, broken:
		return 1
	}
	return 0
}

// wrap makes the caller's error of one that is not going to be tried again.
func (f fault) wrap(err error) error {
	switch f {
	case conflict, lockWait, broken, busy:
		return fmt.Errorf("%w: %w", store.ErrUnavailable, err)
	case unknown:
		return fmt.Errorf("%w: %w", store.ErrOutcomeUnknown, err)
	}
	return err
}

// faultOf sorts an error met on conn, before a commit was sent or by a change that may be made twice. conn is nil where none
// could be had. The caller's own cancellation is not for here.
func faultOf(conn *pgx.Conn, err error) fault {
	switch {
	case err == nil:
		return none
	case conn == nil:
		return busy
	case errors.As(err, new(*warning)):
		return unknown
	case conn.IsClosed():
		return broken
	}
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) {
		return faultOfCode(pgErr.Code)
	}
	return refused
}

// faultOfCode sorts an SQLSTATE (PostgreSQL documentation, appendix A).
func faultOfCode(code string) fault {
	switch code {
	case "23505": // unique_violation
		return raced
	case "40001", "40P01": // serialization_failure, deadlock_detected
		return conflict
	case "55P03": // lock_not_available
		return lockWait
	case "57014": // query_canceled: statement_timeout
		return busy
	case "42P01", "42703": // undefined_table, undefined_column: the schema is not there yet, or that of an older release
		return busy
	case "25006", // read_only_sql_transaction: this is no primary any more
		"57P01", "57P02", "57P03", "57P05", // shutting down, crashed, starting up, session timed out
		"25P03",          // idle_in_transaction_session_timeout
		"26000", "0A000": // prepared statement gone, or outdated by a migration
		return broken
	}
	switch code[:min(2, len(code))] {
	case "08": // connection
		return broken
	case "53", "58": // resources (disk, memory, connections), system
		return busy
	}
	return refused
}

// classify makes the caller's error of one met outside a pool's connection.
func classify(ctx context.Context, err error) error {
	var pgErr *pgconn.PgError
	var connectErr *pgconn.ConnectError
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, &connectErr):
		return busy.wrap(err)
	case errors.As(err, &pgErr):
		return faultOfCode(pgErr.Code).wrap(err)
	}
	return err
}
