package sqlite

import (
	"context"
	"time"
)

// The inner query reads the index of created_at, so the oldest go first and no other row is touched.
const deleteOldAnswers = `
DELETE FROM answers WHERE rowid IN (SELECT rowid FROM answers WHERE created_at < ? ORDER BY created_at LIMIT ?)`

// SweepAnswers implements [store.Updater]; the oldest answers go first.
func (s *Store) SweepAnswers(ctx context.Context, before time.Time, limit int) (int, error) {
	return s.sweep(ctx, deleteOldAnswers, before.UnixMicro(), limit)
}

// The inner query reads its index and nothing else, so that it passes quickly over what is kept for long.
const deleteOldExternals = `
DELETE FROM external_events WHERE rowid IN (
	SELECT rowid FROM external_events INDEXED BY external_events_at
	WHERE at < ? AND outcome <> 'delivering' AND (outcome <> 'buffered' OR expires_at <= ?)
	ORDER BY at, id LIMIT ?)`

// SweepExternalEvents implements [store.Updater]; the oldest events go first.
func (s *Store) SweepExternalEvents(ctx context.Context, before time.Time, limit int) (int, error) {
	return s.sweep(ctx, deleteOldExternals, before.UnixMicro(), s.clock().UnixMicro(), limit)
}

// sweep runs a statement that deletes rows, in a transaction of its own.
func (s *Store) sweep(ctx context.Context, query string, args ...any) (int, error) {
	var deleted int64
	err := s.transact(ctx, func(t *tx) (err error) {
		deleted, err = t.exec(query, args...)
		if err != nil || deleted == 0 {
			return err
		}
		_, err = t.mark(0)
		return err
	})
	if err != nil {
		return 0, err
	}
	return int(deleted), nil
}

const (
	selectEnded = `
SELECT id FROM flows INDEXED BY flows_ended WHERE ended_at < ? ORDER BY ended_at, id LIMIT ?`
	countEnded = `SELECT count(*) FROM flows INDEXED BY flows_ended WHERE ended_at < ?`
)

// Prune implements [store.Updater]. Nothing is ever passed over: who writes has the file's lock.
func (s *Store) Prune(ctx context.Context, endedBefore time.Time, limit int) (int, error) {
	var erased int
	err := s.transact(ctx, func(t *tx) error {
		ids, err := t.ids(selectEnded, endedBefore.UnixMicro(), limit)
		if err != nil || len(ids) == 0 {
			return err
		}
		for _, id := range ids {
			t.erase(id)
		}
		erased = len(ids)
		_, err = t.mark(0)
		return err
	})
	if err != nil {
		return 0, err
	}
	return erased, nil
}

// CountEnded implements [store.Reader].
func (s *Store) CountEnded(ctx context.Context, before time.Time) (int64, error) {
	var n int64
	err := s.read(ctx, func() error {
		return s.one(ctx, func(r row) error { return r.Scan(&n) }, countEnded, before.UnixMicro())
	})
	return n, err
}
