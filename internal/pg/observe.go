package pg

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// Hooks are told what a store does; a nil one is not called. They must be quick and safe for concurrent use.
type Hooks struct {
	// RoundTrip is called before each call to the database, with what it is ("load", "commit", "read", "settle"); end
	// is called after it.
	RoundTrip func(ctx context.Context, operation string) (end func(error))
	// Retried: a change is going to be run again, for "raced" (another inserted the same key first), "conflict" (a
	// deadlock), "lock_wait" or "broken" (the connection).
	Retried func(reason string)
}

func (h *Hooks) roundTrip(ctx context.Context, operation string) (end func(error)) {
	if h.RoundTrip == nil {
		return func(error) {}
	}
	return h.RoundTrip(ctx, operation)
}

func (h *Hooks) retried(f fault) {
	if h.Retried == nil {
		return
	}
	switch f {
	case raced:
		h.Retried("raced")
	case conflict:
		h.Retried("conflict")
	case lockWait:
		h.Retried("lock_wait")
	case broken:
		h.Retried("broken")
	}
}

// Pool is how a pool of connections is used now. Waits counts those who had to wait for a connection since the start,
// and Waited is how long they did, all together.
type Pool struct {
	Name                string
	Acquired, Idle, Max int
	Waits               int64
	Waited              time.Duration
}

// Pools are the store's pools of connections.
func (s *Store) Pools() []Pool {
	return []Pool{poolOf("writers", s.writers), poolOf("readers", s.readers), poolOf("keys", s.keys)}
}

func poolOf(name string, p *pgxpool.Pool) Pool {
	stat := p.Stat()
	return Pool{Name: name, Acquired: int(stat.AcquiredConns()), Idle: int(stat.IdleConns()), Max: int(stat.MaxConns()),
		Waits: stat.EmptyAcquireCount(), Waited: stat.EmptyAcquireWaitTime()}
}
