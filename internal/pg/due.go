package pg

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

const nextDue = `
select f.due_at, clock_timestamp() from flows f where f.due_since = f.waiting_since order by f.due_at, f.id limit 1`

// dueTime is a row of nextDue.
type dueTime struct{ At, Now time.Time }

// NextDue implements store.Reader.
func (s *Store) NextDue(ctx context.Context) (at time.Time, in time.Duration, ok bool, err error) {
	err = s.read(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		rows, err := conn.Query(ctx, nextDue)
		if err != nil {
			return err
		}
		return each(pgx.RowToStructByPos[dueTime], func(d dueTime) {
			at, in, ok = d.At.UTC(), d.At.Sub(d.Now), true
		})(rows)
	})
	return at, in, ok, err
}
