package pg

import (
	"context"
	"time"

	"taskflow/internal/store"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

const (
	countEnded = `select count(*) from flows where ended_at < $1`

	// What the flows have is found by statements after it: some of it may have been committed as the lock was let go.
	lockEnded = `
select f.id from flows f where f.ended_at < $1 order by f.ended_at, f.id limit $2 for update skip locked`

	sweepAnswers = `
delete from answers where key in (
    select key from answers where created_at < $1 order by created_at limit $2 for update skip locked)`

	sweepExternalEvents = `
delete from external_events where id in (
    select id from external_events
    where at < $1 and outcome <> 'delivering' and not (outcome = 'buffered' and expires_at > clock_timestamp())
    order by at, id limit $2 for update skip locked)`
)

// CountEnded implements store.Reader.
func (s *Store) CountEnded(ctx context.Context, before time.Time) (n int64, err error) {
	err = s.read(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		return conn.QueryRow(ctx, countEnded, before).Scan(&n)
	})
	return n, err
}

// Prune implements store.Updater.
func (s *Store) Prune(ctx context.Context, endedBefore time.Time, limit int) (int, error) {
	var erased int
	err := s.Update(ctx, func(t store.Tx) error {
		ids, err := t.(*tx).loadEnded(endedBefore, limit)
		if err != nil {
			return err
		}
		erased = len(ids)
		return t.Save(store.Writes{Erased: ids})
	})
	if err != nil {
		return 0, err
	}
	return erased, nil
}

// loadEnded takes the place of Load: it locks at most limit flows that ended before the given time, the oldest end first,
// passing over those that another transaction has locked.
func (t *tx) loadEnded(before time.Time, limit int) (ids []uuid.UUID, err error) {
	var batch pgx.Batch
	batch.Queue(begin)
	batch.Queue(lockEnded, before, limit).Query(each(scanID, func(id uuid.UUID) { ids = append(ids, id) }))
	return ids, t.start(&batch, new(store.Snapshot))
}

func scanID(row pgx.CollectableRow) (id uuid.UUID, err error) {
	err = row.Scan((*[16]byte)(&id))
	return id, err
}

// SweepAnswers implements store.Updater.
func (s *Store) SweepAnswers(ctx context.Context, before time.Time, limit int) (int, error) {
	return s.sweep(ctx, sweepAnswers, before, limit)
}

// SweepExternalEvents implements store.Updater.
func (s *Store) SweepExternalEvents(ctx context.Context, before time.Time, limit int) (int, error) {
	return s.sweep(ctx, sweepExternalEvents, before, limit)
}

// sweep runs a statement that deletes at most limit rows from before a time.
func (s *Store) sweep(ctx context.Context, sql string, before time.Time, limit int) (int, error) {
	var deleted int
	err := s.on(ctx, s.writers, func(ctx context.Context, conn *pgx.Conn) error {
		tag, err := conn.Exec(ctx, sql, before, limit)
		deleted = int(tag.RowsAffected())
		return err
	})
	return deleted, err
}
