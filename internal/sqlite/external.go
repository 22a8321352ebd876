package sqlite

import (
	"context"
	"database/sql"

	"taskflow/internal/flows"
	"taskflow/internal/store"

	"github.com/google/uuid"
)

const externalColumns = `id, topic, correlation_id, flow_id, payload, actor, at, expires_at, outcome, flows, flow_count, owners,
	coalesce(traceparent, '')`

const selectExternal = `SELECT ` + externalColumns + ` FROM external_events WHERE id = ?`

// scanExternal reads an event as it was last written; see [flows.ExternalEvent.OutcomeAt].
func scanExternal(r row, e *flows.ExternalEvent) error {
	var only uuid.NullUUID
	var resumed []byte
	err := r.Scan(&e.ID, &e.Pair.Topic, &e.Pair.CorrelationID, &only, (*[]byte)(&e.Payload), &e.Actor, micros{&e.At},
		micros{&e.ExpiresAt}, &e.Outcome, &resumed, &e.FlowCount, &e.Owners, &e.Traceparent)
	if err != nil {
		return err
	}
	if only.Valid {
		e.FlowID = &only.UUID
	}
	e.Flows, err = flows.LoadResumed(resumed)
	return err
}

const upsertExternal = `
INSERT INTO external_events (id, topic, correlation_id, flow_id, payload, actor, at, expires_at, outcome, flows, flow_count,
	owners, traceparent)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, nullif(?, ''))
ON CONFLICT (id) DO UPDATE SET topic = excluded.topic, correlation_id = excluded.correlation_id,
	flow_id = excluded.flow_id, payload = excluded.payload, actor = excluded.actor, at = excluded.at,
	expires_at = excluded.expires_at, outcome = excluded.outcome, flows = excluded.flows,
	flow_count = excluded.flow_count, owners = excluded.owners, traceparent = excluded.traceparent`

func (t *tx) saveExternal(e *flows.ExternalEvent) {
	var only, payload any
	if e.FlowID != nil {
		only = e.FlowID[:]
	}
	if e.Payload != nil {
		payload = string(e.Payload)
	}
	t.do(upsertExternal, e.ID[:], e.Pair.Topic, e.Pair.CorrelationID, only, payload, e.Actor, e.At.UnixMicro(),
		e.ExpiresAt.UnixMicro(), string(e.Outcome), string(flows.StoreResumed(e.Flows)), e.FlowCount, string(e.Owners), e.Traceparent)
}

// ExternalEvent implements [store.Reader].
func (s *Store) ExternalEvent(ctx context.Context, id uuid.UUID, owners flows.Owners) (*flows.ExternalEvent, error) {
	e := new(flows.ExternalEvent)
	err := s.read(ctx, func() error {
		condition, args := covered("owners", owners)
		return s.one(ctx, func(r row) error { return scanExternal(r, e) }, selectExternal+" AND "+condition,
			append([]any{id[:]}, args...)...)
	})
	if err != nil {
		return nil, err
	}
	e.Outcome = e.OutcomeAt(s.clock())
	return e, nil
}

const selectDelivering = `
SELECT id FROM external_events INDEXED BY external_events_delivering
WHERE outcome = 'delivering' ORDER BY at, id LIMIT ?`

// Delivering implements [store.Reader].
func (s *Store) Delivering(ctx context.Context, limit int) ([]uuid.UUID, error) {
	var ids []uuid.UUID
	err := s.read(ctx, func() error {
		return s.each(ctx, func(r row) error {
			ids = append(ids, uuid.UUID{})
			return r.Scan(&ids[len(ids)-1])
		}, selectDelivering, limit)
	})
	if err != nil {
		return nil, err
	}
	return ids, nil
}

// ExternalEvents implements [store.Reader]. It reads keys, up to the end of the page or as many as a page may examine;
// then the events themselves, by their ids.
func (s *Store) ExternalEvents(ctx context.Context, q store.ExternalEventQuery) (store.ExternalEventPage, error) {
	var page store.ExternalEventPage
	err := s.read(ctx, func() error {
		byID, err := s.stmt(ctx, selectExternal)
		if err != nil {
			return err
		}
		return s.snapshot(ctx, func(tx *sql.Tx) (err error) {
			page, err = s.readExternals(ctx, tx, tx.StmtContext(ctx, byID), &q)
			return err
		})
	})
	if err != nil {
		return store.ExternalEventPage{}, err
	}
	return page, nil
}

func (s *Store) readExternals(
	ctx context.Context, tx *sql.Tx, byID *sql.Stmt, q *store.ExternalEventQuery,
) (page store.ExternalEventPage, err error) {
	now := s.clock() // one time for the filter and the answer
	query, args, examine := externalKeys(q, now.UnixMicro())
	rows, err := tx.QueryContext(ctx, query, append(args, examine+1)...)
	if err != nil {
		return page, err
	}
	var last uuid.UUID
	scan := func(r row) (id uuid.UUID, at store.EventPosition, matches bool, err error) {
		err = r.Scan(&id, micros{&at.At}, &matches)
		at.ID = id
		repeated := id == last // found by its topic and by its correlation id
		last = id
		return id, at, matches && !repeated, err
	}
	ids, next, err := pageOfKeys(rows, q.Limit, examine, scan)
	if err != nil {
		return page, err
	}
	page.Next = next
	filling := store.Filling{Limit: q.Limit}
	for i, id := range ids {
		if filling.Full() {
			last := page.Items[i-1]
			page.Next = &store.EventPosition{At: last.At, ID: last.ID}
			break
		}
		e := new(flows.ExternalEvent)
		if err := scanExternal(byID.QueryRowContext(ctx, id[:]), e); err != nil {
			return page, err
		}
		e.Outcome = e.OutcomeAt(now)
		page.Items = append(page.Items, e)
		filling.AddReceipt(e)
	}
	return page, nil
}

// Where keys of external events come from, one for each filter that has an index.
const (
	externalsByTime        = `external_events e INDEXED BY external_events_at`
	externalsByTopic       = `external_events e INDEXED BY external_events_topic`
	externalsByCorrelation = `external_events e INDEXED BY external_events_correlation`
)

// externalKeys builds the statement that reads keys of external events, but for the value of its LIMIT, and says how many
// to examine at most. now decides which buffered events have expired.
func externalKeys(q *store.ExternalEventQuery, now int64) (query string, args []any, examine int) {
	match := externalFilters(q, now)
	examine = q.Limit
	if len(match.parts) > 1 || q.Owners != flows.Everyone || q.Outcome != "" || q.EitherOf != nil {
		examine = store.Examined
	}
	walk := func(from, driver string, value ...any) {
		var where clause
		if driver != "" {
			where.and(driver, value...)
		}
		if q.From != nil {
			where.and("(e.at, e.id) < (?, ?)", q.From.At.UnixMicro(), q.From.ID[:])
		}
		if query != "" {
			query += " UNION ALL "
		}
		query += "SELECT e.id AS id, e.at AS at, (" + match.text() + ") IS TRUE FROM " + from + " WHERE " + where.text()
		args = append(append(args, match.args...), where.args...)
	}
	const topic, correlation = "e.topic = ?", "e.correlation_id = ?"
	switch {
	case q.CorrelationID != "":
		walk(externalsByCorrelation, correlation, q.CorrelationID)
	case q.Topic != "":
		walk(externalsByTopic, topic, q.Topic)
	case q.EitherOf != nil:
		// Each walk is in the order of the page, so they are merged as they go, and an event that is in both comes
		// twice in a row.
		walk(externalsByTopic, topic, q.EitherOf.Topic)
		walk(externalsByCorrelation, correlation, q.EitherOf.CorrelationID)
	default:
		walk(externalsByTime, "")
	}
	return query + " ORDER BY at DESC, id DESC LIMIT ?", args, examine
}

// externalFilters are all filters; one of them is what the keys are read by, and to ask it twice does no harm.
func externalFilters(q *store.ExternalEventQuery, now int64) *clause {
	c := new(clause)
	if q.Owners != flows.Everyone {
		// A sender's owners are covered where what stands for them is: they have no "*" but at the end.
		condition, args := covered("e.owners", q.Owners)
		c.and(condition, args...)
	}
	if q.Topic != "" {
		c.and("e.topic = ?", q.Topic)
	}
	if q.CorrelationID != "" {
		c.and("e.correlation_id = ?", q.CorrelationID)
	}
	if q.EitherOf != nil {
		c.and("(e.topic = ? OR e.correlation_id = ?)", q.EitherOf.Topic, q.EitherOf.CorrelationID)
	}
	switch q.Outcome {
	case "":
	case flows.EventBuffered:
		c.and("e.outcome = 'buffered' AND e.expires_at > ?", now)
	case flows.EventExpired:
		c.and("(e.outcome = 'expired' OR e.outcome = 'buffered' AND e.expires_at <= ?)", now)
	default:
		c.and("e.outcome = ?", string(q.Outcome))
	}
	return c
}
