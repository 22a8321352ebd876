package sqlite

import (
	"context"
	"database/sql"
	"slices"

	"taskflow/internal/flows"
	"taskflow/internal/store"
)

// Stats implements [store.Reader]. The counts are of one moment.
func (s *Store) Stats(ctx context.Context, owners flows.Owners) (store.Stats, error) {
	stats := store.Stats{ByStatus: make(map[flows.Status]int64, len(flows.Statuses))}
	for _, status := range flows.Statuses {
		stats.ByStatus[status] = 0
	}
	err := s.read(ctx, func() error {
		return s.snapshot(ctx, func(tx *sql.Tx) error { return readStats(ctx, tx, owners, &stats) })
	})
	if err != nil {
		return store.Stats{}, err
	}
	return stats, nil
}

const (
	countByStatus     = `SELECT status, count(*) FROM flows INDEXED BY flows_status GROUP BY status`
	countByController = `
SELECT controller_id, count(*) FROM flows INDEXED BY flows_controller GROUP BY controller_id
ORDER BY 2 DESC, 1 LIMIT ?`

	selectDueSoonest = `
SELECT id, controller_id, goal, due_at FROM flows INDEXED BY flows_due
WHERE due_at IS NOT NULL AND waiting_since IS NOT NULL ORDER BY due_at, id LIMIT ?`
	selectWaitingLongest = `
SELECT id, controller_id, goal, waiting_since FROM flows INDEXED BY flows_waiting
WHERE waiting_since IS NOT NULL ORDER BY waiting_since, id LIMIT ?`

	selectFailed           = `SELECT controller_id FROM flows INDEXED BY flows_status WHERE status = 'failed'`
	countFailedOf          = `SELECT controller_id, count(*) FROM (`
	countFailedNewest      = ` ORDER BY created_at DESC, id DESC LIMIT ?) GROUP BY controller_id ORDER BY 2 DESC, 1 LIMIT ?`
	countFailedControllers = countFailedOf + selectFailed + countFailedNewest
)

// The statistics of those who do not cover everyone are of what the index on the owner finds; no other index is walked past
// everybody else's flows.
const (
	countMineByStatus      = `SELECT f.status, count(*) FROM ` + fromOwner + ` WHERE `
	countMineByController  = `SELECT f.controller_id, count(*) FROM ` + fromOwner + ` WHERE `
	selectMyFailed         = `SELECT f.controller_id FROM ` + fromOwner + ` WHERE f.status = 'failed' AND `
	selectMyDueSoonest     = `SELECT f.id, f.controller_id, f.goal, f.due_at FROM ` + fromOwner + ` WHERE f.due_at IS NOT NULL AND f.waiting_since IS NOT NULL AND `
	selectMyWaitingLongest = `SELECT f.id, f.controller_id, f.goal, f.waiting_since FROM ` + fromOwner + ` WHERE f.waiting_since IS NOT NULL AND `
)

// statistics are the statements of Stats.
type statistics struct{ byStatus, byController, failedByController, dueNext, waitingLongest string }

// statisticsOf are the statements for a caller, and the arguments that all of them begin with.
func statisticsOf(owners flows.Owners) (statistics, []any) {
	if owners == flows.Everyone {
		return statistics{countByStatus, countByController, countFailedControllers, selectDueSoonest, selectWaitingLongest}, nil
	}
	var where clause
	owned(&where, owners)
	mine := where.text()
	return statistics{
		byStatus:           countMineByStatus + mine + ` GROUP BY f.status`,
		byController:       countMineByController + mine + ` GROUP BY f.controller_id ORDER BY 2 DESC, 1 LIMIT ?`,
		failedByController: countFailedOf + selectMyFailed + mine + countFailedNewest,
		dueNext:            selectMyDueSoonest + mine + ` ORDER BY f.due_at, f.id LIMIT ?`,
		waitingLongest:     selectMyWaitingLongest + mine + ` ORDER BY f.waiting_since, f.id LIMIT ?`,
	}, where.args
}

func readStats(ctx context.Context, tx *sql.Tx, owners flows.Owners, stats *store.Stats) error {
	ask, mine := statisticsOf(owners)
	read := func(scan func(row) error, query string, args ...any) error {
		rows, err := tx.QueryContext(ctx, query, append(slices.Clone(mine), args...)...)
		return eachRow(rows, err, scan)
	}
	err := read(func(r row) error {
		var status flows.Status
		var n int64
		err := r.Scan(&status, &n)
		stats.ByStatus[status] = n
		return err
	}, ask.byStatus)
	if err != nil {
		return err
	}
	if err := read(controllersInto(&stats.ByController), ask.byController, store.MaxControllers); err != nil {
		return err
	}
	if err := read(controllersInto(&stats.FailedByController), ask.failedByController, store.Examined, store.MaxControllers); err != nil {
		return err
	}
	if err := read(timedInto(&stats.DueNext), ask.dueNext, store.MaxTimed); err != nil {
		return err
	}
	return read(timedInto(&stats.WaitingLongest), ask.waitingLongest, store.MaxTimed)
}

func controllersInto(list *[]store.ControllerCount) func(row) error {
	return func(r row) error {
		var c store.ControllerCount
		err := r.Scan(&c.ControllerID, &c.Flows)
		*list = append(*list, c)
		return err
	}
}

func timedInto(list *[]store.TimedFlow) func(row) error {
	return func(r row) error {
		var f store.TimedFlow
		err := r.Scan(&f.FlowID, &f.ControllerID, &f.Goal, micros{&f.At})
		*list = append(*list, f)
		return err
	}
}
