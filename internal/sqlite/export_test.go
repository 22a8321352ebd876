package sqlite

import (
	"context"
	"database/sql"

	"taskflow/internal/store"
)

// OnWriter runs fn on the connection that writes.
func (s *Store) OnWriter(ctx context.Context, fn func(*sql.Conn) error) error {
	if err := s.writer.acquire(ctx); err != nil {
		return err
	}
	defer s.writer.release()
	if _, err := s.writer.stmt(ctx, selectFeed); err != nil {
		return err
	}
	return fn(s.writer.conn)
}

// Readers is the pool that reads.
func (s *Store) Readers() *sql.DB { return s.readers }

// NextCommit puts fn in the place of the next COMMIT.
func (s *Store) NextCommit(fn func(ctx context.Context, commit func(context.Context) error) error) {
	commit := s.writer.commit
	s.writer.commit = func(ctx context.Context) error {
		s.writer.commit = commit
		return fn(ctx, commit)
	}
}

// LimitLog makes boundLog act at a size that a test reaches.
func (s *Store) LimitLog(bytes int64) { s.writer.logLimit, s.writer.logNext = bytes, bytes }

// FlowKeys is the statement that reads a page of flows, with a value for its LIMIT.
func FlowKeys(q store.FlowQuery) (string, []any) { return PlannedFlowKeys(q, q.Plan()) }

// PlannedFlowKeys is FlowKeys by a plan.
func PlannedFlowKeys(q store.FlowQuery, plan store.Plan) (string, []any) {
	query, args, examine := flowKeys(&q, plan)
	return query, append(args, examine)
}

// EventKeys is the statement that reads a filtered page of events, with a value for its LIMIT.
func EventKeys(q store.EventQuery) (string, []any) {
	query, args := eventKeys(&q)
	return query, append(args, store.Examined)
}

// Statements are the constant ones that run often.
var Statements = map[string]string{
	"flow": selectFlow, "step": selectStep, "steps": selectSteps + "TRUE" + inOrderOfCreation, "events": selectEvents, "events desc": selectEventsDesc,
	"flow events": selectFlowEvents + "TRUE" + inOrder, "flow events desc": selectFlowEvents + "TRUE" + inOrderDesc, "event": selectEvent, "tail": selectTail,
	"answer": selectAnswer, "sweep": deleteOldAnswers, "waiting longest": selectWaitingLongest, "due soonest": selectDueSoonest,
	"delete labels": deleteLabels, "delete steps": deleteSteps, "delete events": deleteEvents, "update flow": updateFlow,
	"count by status": countByStatus, "count by controller": countByController, "count failed": countFailedControllers,
	"due": selectDue, "next due": selectNextDue, "awaiting": selectAwaiting, "delete awaited": deleteAwaited,
	"update due": updateDue, "external": selectExternal, "delivering": selectDelivering,
	"sweep externals": deleteOldExternals, "ended": selectEnded, "count ended": countEnded,
	"callback keys": selectCallbackKeys,
}

// SelectBuffered reads what is kept for a pair.
const SelectBuffered = selectBuffered

// ExternalKeys is the statement that reads a page of external events, with a value for its LIMIT.
func ExternalKeys(q store.ExternalEventQuery) (string, []any) {
	query, args, examine := externalKeys(&q, 0)
	return query, append(args, examine)
}

// DownAll takes every migration back.
func DownAll(ctx context.Context, path string) error {
	db, err := openPool(writerDSN(path), 1)
	if err != nil {
		return err
	}
	defer db.Close()
	provider, err := newProvider(db)
	if err != nil {
		return err
	}
	_, err = provider.DownTo(ctx, 0)
	return err
}
