package pg

import (
	"context"
	"strings"
	"time"

	"taskflow/internal/flows"
	"taskflow/internal/store"

	"github.com/jackc/pgx/v5"
)

// What the tests of package pg_test see of the inside.

// SetPatience is for tests of a database that stays away.
func (s *Store) SetPatience(d time.Duration) { s.patience = d }

// Outcome asks what became of a transaction that is said to have written w.
func (s *Store) Outcome(ctx context.Context, xid string, w store.Writes) (string, error) {
	result, err := s.ask(ctx, &tx{xid: xid, writes: w})
	return result.String(), err
}

// ErrorOf is the error that Update returns for good for an SQLSTATE.
func ErrorOf(code string, err error) error { return faultOfCode(code).wrap(err) }

// FlowsStatement is the statement of a page of flows, and how many it examines.
func FlowsStatement(q store.FlowQuery) (sql string, args []any, examined int) {
	return PlannedFlowsStatement(q, q.Plan())
}

// PlannedFlowsStatement is FlowsStatement by a plan.
func PlannedFlowsStatement(q store.FlowQuery, plan store.Plan) (sql string, args []any, examined int) {
	s, examined := flowsStatement(&q, plan)
	return s.text.String(), s.args, examined
}

// EventsStatement is the statement of a page of events, and how many it examines.
func EventsStatement(q store.EventQuery) (sql string, args []any, examined int) {
	s, examined := eventsStatement(&q)
	return s.text.String(), s.args, examined
}

// ExternalEventsStatement is the statement of a page of receipts, and how many it examines.
func ExternalEventsStatement(q store.ExternalEventQuery) (sql string, args []any, examined int) {
	s, examined := externalEventsStatement(&q)
	return s.text.String(), s.args, examined
}

// PairLocks are the advisory locks of a change, in the order in which they are taken.
func PairLocks(need store.Need) []int64 { return pairLocks(need) }

// Settings are what every session has.
func Settings() map[string]string { return sessionSettings() }

// numbered puts numbers in the place of a statement's ?.
func numbered(sql string) string {
	var s statement
	s.add(sql, make([]any, strings.Count(sql, "?"))...)
	return s.text.String()
}

// StatsStatements are the statements of Stats for owners, with their arguments.
func StatsStatements(owners flows.Owners) (list []string, args [][]any) {
	ask := statsOf(owners)
	for _, one := range []statsStatement{ask.byStatus, ask.byController, ask.failedByController, ask.dueNext, ask.waitingLongest} {
		list, args = append(list, one.sql), append(args, one.args)
	}
	return list, args
}

// Fixed are the statements of fixed text, by name.
var Fixed = map[string]string{
	"load flows": loadFlows, "load steps": loadSteps, "load answers": loadAnswers, "select step": numbered(selectStep),
	"sweep": sweepAnswers, "erase events": eraseEvents, "erase steps": eraseSteps,
	"due next": described(dueSoonest), "waiting longest": described(waitingLongest), "failed by controller": failedByController, "erase labels": eraseLabels, "erase flows": eraseFlows, "load due": loadDue, "next due": nextDue,
	"load waiting": loadFlowsAndWaiting, "load more": loadMore, "load buffered": loadBuffered,
	"load external events": loadExternalEvents, "select receipt": numbered(selectReceipt), "delivering": delivering,
	"load covered": loadCovered, "load covered more": loadCoveredMore, "load covered steps": loadCoveredSteps,
	"sweep external events": sweepExternalEvents, "lock ended": lockEnded, "count ended": countEnded,
	"erase awaited": eraseAwaited, "select tail": selectTail, "gathered": selectGathered,
}

// WriteStatements are the statements that write w over what was loaded, with their arguments.
func WriteStatements(w store.Writes, loaded store.Snapshot) []*pgx.QueuedQuery {
	var batch pgx.Batch
	queueWrites(&batch, &w, &loaded)
	return batch.QueuedQueries
}
