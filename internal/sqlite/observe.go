package sqlite

import (
	"context"
	"database/sql"
	"time"
)

// Hooks are told what a store does; a nil one is not called. They must be quick and safe for concurrent use.
type Hooks struct {
	// RoundTrip is called before what takes the disk or another's lock ("begin", "commit") and before each "read"; end
	// is called after it.
	RoundTrip func(ctx context.Context, operation string) (end func(error))
}

func (h *Hooks) roundTrip(ctx context.Context, operation string) (end func(error)) {
	if h.RoundTrip == nil {
		return func(error) {}
	}
	return h.RoundTrip(ctx, operation)
}

// Pool is how a pool of connections is used now. Waits counts those who had to wait for a connection since the start,
// and Waited is how long they did, all together.
type Pool struct {
	Name                string
	Acquired, Idle, Max int
	Waits               int64
	Waited              time.Duration
}

// Pools are the store's pools of connections: that of one writer, that of the readers, and that of the keys.
func (s *Store) Pools() []Pool {
	free := len(s.writer.turn)
	return []Pool{
		{Name: "writers", Acquired: 1 - free, Idle: free, Max: 1, Waits: s.writer.waits.Load(), Waited: time.Duration(s.writer.waited.Load())},
		poolOf("readers", s.readers), poolOf("keys", s.keys),
	}
}

func poolOf(name string, db *sql.DB) Pool {
	stats := db.Stats()
	return Pool{Name: name, Acquired: stats.InUse, Idle: stats.Idle, Max: stats.MaxOpenConnections, Waits: stats.WaitCount, Waited: stats.WaitDuration}
}
