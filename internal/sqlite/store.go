// Package sqlite keeps flows in one SQLite file: the embedded default, for a single serving process with subcommands
// beside it. It owns the schema of migrations/sqlite, the connections and the SQL, and implements [store.Store]. It
// holds no rule of the domain and knows nothing of commands, HTTP or the other databases. cmd/server opens it and hands
// it to the engine (which changes) and the HTTP layer (which reads).
//
// One connection writes, a few read. A write is one transaction that has the file's write lock from its first
// statement (BEGIN IMMEDIATE), so nothing needs locks on rows, sees a stale row or fails to serialize; readers work on
// snapshots and wait for nobody. Durability is WAL with synchronous=FULL: a commit that was reported has been synced.
package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"taskflow/internal/store"

	_ "modernc.org/sqlite" // the driver "sqlite"
)

// DefaultReaders is how many connections read at once where [Options] does not say.
const DefaultReaders = 4

// Options of [Open]. The zero value is ready for use.
type Options struct {
	// Readers is how many connections read at once; 0 is [DefaultReaders].
	Readers int
	// Now is the store's clock, which [store.Snapshot.Now] is read from; nil is time.Now.
	Now func() time.Time
	// Logger is told what no caller sees: a connection given up, a log file that does not shrink. nil is silence.
	Logger *slog.Logger
	Hooks  Hooks
}

// Store is one SQLite file. It is safe for concurrent use.
type Store struct {
	path    string
	now     func() time.Time
	log     *slog.Logger
	hooks   Hooks
	writer  *writer
	readers *sql.DB
	// keys is one connection for what every request or the health of the server hangs on, the keys and the schema's version:
	// no caller's reads can take it.
	keys *sql.DB

	stmtsMu sync.Mutex
	stmts   map[string]*sql.Stmt // of readers, by their text

	closeMu sync.Mutex
	closed  bool
	running sync.WaitGroup // operations under way; raised under closeMu while not closed
}

var _ store.Store = (*Store)(nil)

// errClosed is the cause of an ErrUnavailable after Close.
var errClosed = errors.New("store is closed")

// Open opens the file at path, and makes it and its folder where they are missing; the schema is [Migrate]'s work, and
// until that is done every operation but SchemaVersion fails. It returns an error where path names no file (":memory:",
// a "file:" URI), and store.ErrUnavailable where the file cannot be opened or cannot have the durability promised.
func Open(ctx context.Context, path string, o Options) (*Store, error) {
	path, err := resolve(path)
	if err != nil {
		return nil, err
	}
	s := &Store{path: path, now: o.Now, log: o.Logger, hooks: o.Hooks, stmts: make(map[string]*sql.Stmt)}
	if s.now == nil {
		s.now = time.Now
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.writer, err = openWriter(ctx, path); err != nil {
		return nil, fmt.Errorf("opening SQLite file %q: %w", path, err)
	}
	readers := o.Readers
	if readers <= 0 {
		readers = DefaultReaders
	}
	if s.readers, err = openPool(readerDSN(path), readers); err != nil {
		return nil, errors.Join(err, s.writer.close())
	}
	if s.keys, err = openPool(readerDSN(path), 1); err != nil {
		return nil, errors.Join(err, s.readers.Close(), s.writer.close())
	}
	return s, nil
}

// Close waits for what is under way and closes every connection. What begins afterwards fails with
// store.ErrUnavailable. A second Close does nothing.
func (s *Store) Close() error {
	s.closeMu.Lock()
	done := s.closed
	s.closed = true
	s.closeMu.Unlock()
	if done {
		return nil
	}
	s.running.Wait()
	// The writer goes last: it is the one that may fold the log into the file as it leaves.
	return errors.Join(s.readers.Close(), s.keys.Close(), s.writer.close())
}

// enter counts an operation in; the caller must call s.running.Done when it is over.
func (s *Store) enter() error {
	s.closeMu.Lock()
	defer s.closeMu.Unlock()
	if s.closed {
		return unavailable(errClosed)
	}
	s.running.Add(1)
	return nil
}

// clock reads the time as the file keeps it: in microseconds, never ahead.
func (s *Store) clock() time.Time { return s.now().UTC().Truncate(time.Microsecond) }

// resolve makes path absolute and its folder exist.
func resolve(path string) (string, error) {
	if path == "" || strings.HasPrefix(path, ":") || strings.HasPrefix(path, "file:") {
		return "", fmt.Errorf("SQLite path %q: it must be the path of a file; in-memory databases and URIs are not served", path)
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("SQLite path %q: %w", path, err)
	}
	if err := os.MkdirAll(filepath.Dir(abs), 0o700); err != nil {
		return "", fmt.Errorf("SQLite path %q: %w", path, err)
	}
	return abs, nil
}

// The settings of each connection. They belong to a connection, not to the file, so they are in the name that every
// connection is opened by: a statement would reach one connection of a pool.
const (
	// busyMillis is how long a connection waits for another process's lock.
	busyMillis = "5000"
	// checkpointPages is after how many pages in the log a commit folds them into the file: 16 MiB, four times SQLite's
	// default, for fewer syncs of the file itself.
	checkpointPages = "4000"
	// logBytes is what the log file is cut back to when it starts over.
	logBytes = "16777216"
	// Kibibytes of pages that a connection keeps in memory.
	writerCache, readerCache = "-32000", "-8000"
)

func writerDSN(path string) string {
	return dsn(path, url.Values{
		"_txlock": {"immediate"}, // for goose, which begins with the driver's BEGIN
		"_pragma": {
			"wal_autocheckpoint(" + checkpointPages + ")",
			"journal_size_limit(" + logBytes + ")",
			"cache_size(" + writerCache + ")",
		},
	})
}

func readerDSN(path string) string {
	return dsn(path, url.Values{
		"_query_only": {"true"},
		"_pragma":     {"cache_size(" + readerCache + ")"},
	})
}

func dsn(path string, settings url.Values) string {
	settings.Set("_busy_timeout", busyMillis)
	settings.Set("_journal_mode", "WAL")
	settings.Set("_synchronous", "FULL")
	settings.Set("_dqs", "false") // "name" is a column or an error, never a string
	slashed := filepath.ToSlash(path)
	if !strings.HasPrefix(slashed, "/") {
		slashed = "/" + slashed // C:/…
	}
	return "file://" + (&url.URL{Path: slashed}).EscapedPath() + "?" + settings.Encode()
}

// openPool makes a pool that keeps its connections.
func openPool(dsn string, size int) (*sql.DB, error) {
	db, err := sql.Open("sqlite", dsn)
	if err != nil {
		return nil, fmt.Errorf("SQLite: %w", err)
	}
	db.SetMaxOpenConns(size)
	db.SetMaxIdleConns(size)
	return db, nil
}
