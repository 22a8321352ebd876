package pg

import (
	"context"

	"taskflow/internal/flows"
	"taskflow/internal/store"

	"github.com/jackc/pgx/v5"
)

const (
	countByStatus = `select status, count(*) from flows group by status`

	countByController = `
select controller_id, count(*) as flows from flows group by controller_id order by flows desc, controller_id limit $1`

	// The bounds name the index's columns in its order, as those of a page do: asked for one status, the planner may walk
	// all flows by creation instead.
	failedByController = `
select controller_id, count(*) as flows from (
    select controller_id from flows
    where (status, created_at) >= ('failed', timestamptz '-infinity') and (status, created_at) <= ('failed', timestamptz 'infinity')
    order by status desc, created_at desc, id desc limit $2) newest
group by controller_id order by flows desc, controller_id limit $1`

	dueSoonest = `
select id, due_at from flows where due_since = waiting_since order by due_at, id limit $1`

	waitingLongest = `
select id, waiting_since from flows where waiting_since is not null order by waiting_since, id limit $1`
)

// ofMine is a statement over flows, for those that are covered: they are read first, by the index on the owner, so that
// the statement walks no other index past everybody else's. Its name hides the table's.
func ofMine(sql string, owners flows.Owners, args ...any) (string, []any) {
	mine := statement{args: args}
	mine.add(`with flows as materialized (
    select f.id, f.status, f.controller_id, f.created_at, f.waiting_since, f.due_at, f.due_since from flows f where true`)
	mine.ofOwners(owners)
	mine.add(`)` + sql)
	return mine.text.String(), mine.args
}

// described adds to a statement that finds flows and times what a person knows the flows by.
func described(sql string) string {
	return `select found.id, f.controller_id, f.goal, found.at from (` + sql + `) found (id, at) join flows f on f.id = found.id order by found.at, found.id`
}

// statsStatement is one of Stats, with its arguments.
type statsStatement struct {
	sql  string
	args []any
}

// statsStatements are those of Stats for a caller.
type statsStatements struct{ byStatus, byController, failedByController, dueNext, waitingLongest statsStatement }

func statsOf(owners flows.Owners) statsStatements {
	of := func(sql string, args ...any) statsStatement {
		if owners != flows.Everyone {
			sql, args = ofMine(sql, owners, args...)
		}
		return statsStatement{sql, args}
	}
	describe := func(s statsStatement) statsStatement { return statsStatement{described(s.sql), s.args} }
	return statsStatements{
		byStatus:           of(countByStatus),
		byController:       of(countByController, store.MaxControllers),
		failedByController: of(failedByController, store.MaxControllers, store.Examined),
		dueNext:            describe(of(dueSoonest, store.MaxTimed)),
		waitingLongest:     describe(of(waitingLongest, store.MaxTimed)),
	}
}

// Stats implements store.Reader: one snapshot, counted off the indexes.
func (s *Store) Stats(ctx context.Context, owners flows.Owners) (store.Stats, error) {
	var stats store.Stats
	ask := statsOf(owners)
	err := s.read(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		stats = store.Stats{ByStatus: make(map[flows.Status]int64)}
		for _, status := range flows.Statuses {
			stats.ByStatus[status] = 0
		}
		var batch pgx.Batch
		batch.Queue(ask.byStatus.sql, ask.byStatus.args...).Query(each(pgx.RowToStructByPos[statusCount], func(c statusCount) {
			stats.ByStatus[flows.Status(c.Status)] = c.Flows
		}))
		queueList(&batch, ask.byController, pgx.RowToStructByPos[store.ControllerCount], &stats.ByController)
		queueList(&batch, ask.failedByController, pgx.RowToStructByPos[store.ControllerCount], &stats.FailedByController)
		queueList(&batch, ask.dueNext, scanTimed, &stats.DueNext)
		queueList(&batch, ask.waitingLongest, scanTimed, &stats.WaitingLongest)
		snapshot := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
		return pgx.BeginTxFunc(ctx, conn, snapshot, func(tx pgx.Tx) error { return tx.SendBatch(ctx, &batch).Close() })
	})
	return stats, err
}

// queueList queues a statement whose rows go into a list.
func queueList[T any](batch *pgx.Batch, ask statsStatement, scan pgx.RowToFunc[T], list *[]T) {
	batch.Queue(ask.sql, ask.args...).Query(each(scan, func(row T) { *list = append(*list, row) }))
}

type statusCount struct {
	Status string
	Flows  int64
}

func scanTimed(row pgx.CollectableRow) (store.TimedFlow, error) {
	var f store.TimedFlow
	err := row.Scan((*[16]byte)(&f.FlowID), &f.ControllerID, &f.Goal, &f.At)
	f.At = f.At.UTC()
	return f, err
}
