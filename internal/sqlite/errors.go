package sqlite

import (
	"context"
	"errors"
	"fmt"
	"time"

	"taskflow/internal/store"

	sqlite3 "modernc.org/sqlite/lib"
)

// coder is what the driver's errors have: SQLite's result code.
type coder interface{ Code() int }

// codeOf is the result code with its extension, or 0 where err is not SQLite's.
func codeOf(err error) int {
	var c coder
	if errors.As(err, &c) {
		return c.Code()
	}
	return 0
}

// primaryCode is codeOf without the extension.
func primaryCode(err error) int { return codeOf(err) & 0xff }

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

// askTimeout bounds the question for the schema's version.
const askTimeout = 5 * time.Second

// classify is the function of that name, and tells a schema that is not there yet, or an older release's, from a statement
// that is wrong: SQLite has one code for both. It must not be called by who holds a reading connection.
func (s *Store) classify(err error) error {
	if primaryCode(err) == sqlite3.SQLITE_ERROR {
		ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
		defer cancel()
		if version, failed := s.schemaVersion(ctx); failed == nil && version < LatestVersion() {
			return unavailable(fmt.Errorf("the schema is at version %d, not at %d: %w", version, LatestVersion(), err))
		}
	}
	return classify(err)
}

func unavailable(cause error) error { return fmt.Errorf("%w: %w", store.ErrUnavailable, cause) }
