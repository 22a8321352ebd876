// Package pg keeps flows in PostgreSQL, version 13 or newer. It owns the SQL of that database, its connections, the
// retries of what a database may refuse for a moment, and finding out what became of a commit whose answer was lost. It
// never decides what a change may do: that is package flows. cmd/server opens it; the engine and the HTTP layer use it
// through package store.
//
// A batch of changes is two round trips: begin, locks and reads in the first; writes and commit in the second. The
// tables and why they are so are in migrations/postgres.
package pg

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"taskflow/internal/store"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Options of a Store. A zero field is its default.
type Options struct {
	Writers int // connections for changes, default 4
	Readers int // connections for reads, default 16
	Logger  *slog.Logger
	Hooks   Hooks
}

// keyReaders is how many connections there are for reading keys: they are read once a second at most.
const keyReaders = 2

// Store is a PostgreSQL database. It is safe for concurrent use.
type Store struct {
	// Reads have connections of their own, so that no number of readers keeps a commit waiting; what every request or the
	// health of the server hangs on, the keys and the schema's version, has some that no caller's reads can take.
	writers, readers, keys *pgxpool.Pool
	reads                  *flowReads
	// single is how to connect outside the pools.
	single *pgx.ConnConfig
	logger *slog.Logger
	hooks  Hooks
	// patience is how long to ask for the outcome of a commit.
	patience time.Duration

	open   sync.RWMutex // held for reading by each change and each read of one flow, so that Close waits for them
	closed bool         // guarded by open
}

var _ store.Store = (*Store)(nil)

var errClosed = errors.New("the store is closed")

// Open makes a store for the database at url (postgres://…, or key=value pairs). It connects when the first connection is
// needed: the database may be down. It owns goroutines that read flows, until Close. ctx ends nothing but Open itself. Errors: a URL that cannot be read.
func Open(ctx context.Context, url string, o Options) (*Store, error) {
	config, err := poolConfig(url)
	if err != nil {
		return nil, fmt.Errorf("database URL: %w", err)
	}
	s := &Store{single: config.ConnConfig.Copy(), logger: o.Logger, hooks: o.Hooks, patience: settleTimeout}
	if s.logger == nil {
		s.logger = slog.New(slog.DiscardHandler)
	}
	if s.writers, err = newPool(ctx, config, o.Writers, 4); err != nil {
		return nil, err
	}
	if s.readers, err = newPool(ctx, config, o.Readers, 16); err != nil {
		s.writers.Close()
		return nil, err
	}
	if s.keys, err = newPool(ctx, config, keyReaders, keyReaders); err != nil {
		s.writers.Close()
		s.readers.Close()
		return nil, err
	}
	s.reads = startReads(s)
	return s, nil
}

func newPool(ctx context.Context, config *pgxpool.Config, size, byDefault int) (*pgxpool.Pool, error) {
	config = config.Copy()
	if size <= 0 {
		size = byDefault
	}
	config.MaxConns, config.MinConns, config.MinIdleConns = int32(size), 0, 0
	pool, err := pgxpool.NewWithConfig(context.WithoutCancel(ctx), config)
	if err != nil {
		return nil, fmt.Errorf("opening a pool: %w", err)
	}
	return pool, nil
}

// Close waits for what is under way and gives back every connection. Changes and reads that come later fail with
// store.ErrUnavailable.
func (s *Store) Close() error {
	s.open.Lock()
	defer s.open.Unlock()
	if !s.closed {
		s.reads.stop()
	}
	s.closed = true
	s.writers.Close()
	s.readers.Close()
	s.keys.Close()
	return nil
}

// on runs fn on a connection of a pool, and once more on another where the first one breaks: fn must bear that.
func (s *Store) on(ctx context.Context, pool *pgxpool.Pool, fn func(context.Context, *pgx.Conn) error) error {
	for try := 0; ; try++ {
		f, err := s.once(ctx, pool, fn)
		if f == broken {
			pool.Reset()
		}
		if f != broken || try == broken.tries() {
			return f.wrap(err)
		}
	}
}

func (s *Store) once(ctx context.Context, pool *pgxpool.Pool, fn func(context.Context, *pgx.Conn) error) (fault, error) {
	limited, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	conn, err := pool.Acquire(limited)
	if err != nil {
		return faultIn(ctx, nil, err)
	}
	defer conn.Release()
	end := s.hooks.roundTrip(limited, "read")
	if pool == s.writers {
		err = strictly(conn.Conn(), func() error { return fn(limited, conn.Conn()) })
	} else {
		err = fn(limited, conn.Conn())
	}
	end(err)
	return faultIn(ctx, conn.Conn(), err)
}
