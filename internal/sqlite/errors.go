package sqlite

import (
	"context"
	"errors"
	"fmt"

	"taskflow/internal/store"

	sqlite3 "modernc.org/sqlite/lib"
)

// coder is what the driver's errors have: SQLite's result code.
type coder interface{ Code() int }

// primaryCode is the result code without its extension, or 0 where err is not SQLite's.
func primaryCode(err error) int {
	var c coder
	if errors.As(err, &c) {
		return c.Code() & 0xff
	}
	return 0
}

// classify says in the store's terms why an operation failed. It takes what comes from the driver, never what a
// caller's function returned.
func classify(err error) error {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	switch primaryCode(err) {
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL, // another process has the lock
		sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_NOMEM, // the machine
		sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM: // the file
		return unavailable(err)
	}
	return fmt.Errorf("SQLite: %w", err)
}

func unavailable(cause error) error { return fmt.Errorf("%w: %w", store.ErrUnavailable, cause) }
