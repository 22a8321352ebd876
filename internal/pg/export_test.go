package pg

import (
	"context"
	"time"

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
	s, examined := flowsStatement(&q)
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

// Fixed are the statements of fixed text, by name.
var Fixed = map[string]string{
	"load flows": loadFlows, "load steps": loadSteps, "load answers": loadAnswers, "select step": selectStep,
	"oldest waiting": oldestWaiting, "sweep": sweepAnswers, "erase events": eraseEvents, "erase steps": eraseSteps,
	"erase labels": eraseLabels, "erase flows": eraseFlows, "load due": loadDue, "next due": nextDue,
	"load waiting": loadFlowsAndWaiting, "load more": loadMore, "load buffered": loadBuffered,
	"load external events": loadExternalEvents, "select receipt": selectReceipt, "delivering": delivering,
	"sweep external events": sweepExternalEvents, "lock ended": lockEnded, "count ended": countEnded,
	"erase awaited": eraseAwaited, "select tail": selectTail,
}

// WriteStatements are the statements that write w, with their arguments.
func WriteStatements(w store.Writes) []*pgx.QueuedQuery {
	var batch pgx.Batch
	queueWrites(&batch, &w)
	return batch.QueuedQueries
}
