package pg

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"taskflow/internal/flows"
	"taskflow/internal/store"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	askStatus = `select pg_xact_status($1::text::xid8)`

	// A row that bears the transaction's id is proof. One that does not is proof of the opposite only where it could
	// not have been deleted since: answers stay for hours; events stay as long as their flow does, which created_at
	// tells from a later one with the same id.
	witnessAnswer = `
select exists(select from answers where key = $2 and xmin = $1::text::xid8::xid), true`

	witnessEvent = `
select exists(select from events where flow_id = $2 and revision = $3 and at = $4 and xmin = $1::text::xid8::xid),
    exists(select from flows where id = $2 and created_at = $5)`

	// A receipt is written again when its fate changes, so one that does not bear the id tells nothing; none at all does:
	// receipts stay for days.
	witnessExternalEvent = `
select exists(select from external_events where id = $2 and xmin = $1::text::xid8::xid),
    not exists(select from external_events where id = $2)`

	// raiseNothing is a commit of its own: when it has been confirmed, so has everything before it, by a synchronous
	// standby too: that has the log in its order. A commit that was cut off while it waited for the standby counts as committed
	// without it, this one too, which then proves nothing.
	raiseNothing = `update feed set seq = seq`
)

// outcome is what became of a transaction.
type outcome int

const (
	pending   outcome = iota // it runs, or the database could not be asked
	committed                // it is there for good
	lost                     // nothing of it is there
	unclear                  // it cannot be told
)

func (o outcome) String() string {
	return [...]string{pending: "pending", committed: "committed", lost: "lost", unclear: "unclear"}[o]
}

// settle finds out what became of a commit whose answer was lost to cause, or came with a warning. It asks on connections of
// its own, until it knows or its patience ends.
func (s *Store) settle(ctx context.Context, t *tx, cause error) (fault, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.patience)
	defer cancel()
	closing, closed := context.WithTimeout(ctx, time.Second)
	_ = t.conn.Close(closing) // so that the server ends a transaction of which it got a part
	closed()
	s.writers.Reset()
	s.logger.WarnContext(ctx, "a commit is in doubt", "transaction", t.xid, "cause", cause)
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		select {
		case <-ctx.Done():
			return unknown, cause
		case <-pause.C:
		}
		result, err := s.ask(ctx, t)
		if err == nil && result != pending {
			s.logger.WarnContext(ctx, "found out about the commit", "transaction", t.xid, "outcome", result.String())
		}
		switch {
		case err != nil || result == pending:
			pause.Reset(100 * time.Millisecond)
		case result == committed:
			return none, nil
		case result == lost:
			return broken, cause
		default:
			return unknown, cause
		}
	}
}

// ask asks once.
func (s *Store) ask(ctx context.Context, t *tx) (_ outcome, err error) {
	end := s.hooks.roundTrip(ctx, "settle")
	defer func() { end(err) }()
	conn, err := pgx.ConnectConfig(ctx, s.single.Copy())
	if err != nil {
		return pending, err
	}
	defer func() { _ = conn.Close(ctx) }()
	var status *string
	err = conn.QueryRow(ctx, askStatus, t.xid).Scan(&status)
	var pgErr *pgconn.PgError
	switch {
	case errors.As(err, &pgErr) && pgErr.Code == "22023":
		// invalid_parameter_value: the id is in the future, so a crash took it back.
		return lost, nil
	case err != nil:
		return pending, err
	case status == nil:
		return unclear, nil // so long ago that the database has forgotten
	}
	switch *status {
	case "in progress":
		return pending, nil
	case "aborted":
		return lost, nil
	case "committed":
		return verify(ctx, conn, t)
	}
	return unclear, fmt.Errorf("pg_xact_status answered %q", *status)
}

// verify makes sure that the transaction that was committed under t's id is t: after a crash, an id whose transaction
// was lost is handed out again.
func verify(ctx context.Context, conn *pgx.Conn, t *tx) (outcome, error) {
	sql, args := witness(t)
	if sql == "" {
		return unclear, nil
	}
	var found, conclusive bool
	if err := conn.QueryRow(ctx, sql, args...).Scan(&found, &conclusive); err != nil {
		return pending, err
	}
	switch {
	case found:
		return committed, strictly(conn, func() error { _, err := conn.Exec(ctx, raiseNothing); return err })
	case conclusive:
		return lost, nil
	}
	return unclear, nil
}

// witness chooses a row that t has written, the one whose absence says most: an answer, an event of a flow that was
// there before, any event, an external event. "" where there is none.
func witness(t *tx) (sql string, args []any) {
	w := &t.writes
	if len(w.Answers) > 0 {
		return witnessAnswer, []any{t.xid, w.Answers[0].Key[:]}
	}
	if len(w.Events) == 0 && len(w.ExternalEvents) > 0 {
		return witnessExternalEvent, []any{t.xid, [16]byte(w.ExternalEvents[0].ID)}
	}
	if len(w.Events) == 0 {
		return "", nil
	}
	changed := make(map[uuid.UUID]*flows.Flow, len(w.Updated)+len(w.Created))
	for _, f := range w.Created {
		changed[f.ID] = f
	}
	updated := func(e flows.Event) bool {
		return slices.ContainsFunc(w.Updated, func(u store.FlowUpdate) bool { return u.Flow.ID == e.FlowID })
	}
	for _, u := range w.Updated {
		changed[u.Flow.ID] = u.Flow
	}
	event := w.Events[max(0, slices.IndexFunc(w.Events, updated))]
	var born *time.Time // null matches nothing
	if f := changed[event.FlowID]; f != nil {
		born = &f.CreatedAt
	}
	return witnessEvent, []any{t.xid, [16]byte(event.FlowID), event.Revision, event.At, born}
}
