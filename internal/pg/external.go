package pg

import (
	"context"
	"slices"
	"time"

	"taskflow/internal/flows"
	"taskflow/internal/store"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

const (
	loadExternalEvents = `select ` + externalColumns + ` from external_events x where x.id = any($1::uuid[])`

	insertExternalEvents = `
insert into external_events (id, topic, correlation_id, flow_id, payload, actor, at, expires_at, outcome, flows,
    flow_count, owners, traceparent)
select id, topic, correlation_id, flow_id, payload, actor, at, expires_at, outcome, flows, flow_count, owners,
    nullif(traceparent, '')
from unnest($1::uuid[], $2::text[], $3::text[], $4::uuid[], $5::json[], $6::text[], $7::timestamptz[],
    $8::timestamptz[], $9::text[], $10::json[], $11::bigint[], $12::text[], $13::text[])
    as u(id, topic, correlation_id, flow_id, payload, actor, at, expires_at, outcome, flows, flow_count, owners,
    traceparent)`

	upsertExternalEvents = insertExternalEvents + `
on conflict (id) do update set topic = excluded.topic, correlation_id = excluded.correlation_id,
    flow_id = excluded.flow_id, payload = excluded.payload, actor = excluded.actor, at = excluded.at,
    expires_at = excluded.expires_at, outcome = excluded.outcome, flows = excluded.flows,
    flow_count = excluded.flow_count, owners = excluded.owners, traceparent = excluded.traceparent`

	// outcomeNow is flows.ExternalEvent.OutcomeAt by the database's clock.
	outcomeNow = `case when x.outcome = 'buffered' and x.expires_at <= statement_timestamp() then 'expired'
		else x.outcome end`

	// receiptColumns are externalColumns with the outcome as of now.
	receiptColumns = `x.id, x.topic, x.correlation_id, x.flow_id, x.payload, x.actor, x.at, x.expires_at, ` + outcomeNow + `,
		x.flows, x.flow_count, x.owners, coalesce(x.traceparent, '')`

	selectReceipt = `select ` + receiptColumns + ` from external_events x where x.id = ?`

	delivering = `select id from external_events where outcome = 'delivering' order by at, id limit $1`
)

func queueLoadExternalEvents(batch *pgx.Batch, ids []uuid.UUID, snapshot *store.Snapshot) {
	snapshot.Events = make(map[uuid.UUID]*flows.ExternalEvent)
	batch.Queue(loadExternalEvents, distinct(ids)).Query(each(scanExternalEvent, func(e *flows.ExternalEvent) {
		snapshot.Events[e.ID] = e
	}))
}

// loadedEvents tells which external events were there when they were loaded, by their ids or as kept for a pair.
func loadedEvents(loaded *store.Snapshot) func(*flows.ExternalEvent) bool {
	return func(e *flows.ExternalEvent) bool {
		return loaded.Events[e.ID] != nil ||
			slices.ContainsFunc(loaded.Buffered[e.Pair], func(kept *flows.ExternalEvent) bool { return kept.ID == e.ID })
	}
}

// queueExternalEvents writes in the order of ids.
func queueExternalEvents(batch *pgx.Batch, sql string, events []*flows.ExternalEvent) {
	if len(events) == 0 {
		return
	}
	type event = *flows.ExternalEvent
	events = slices.SortedFunc(slices.Values(events), func(a, b event) int { return compareIDs(a.ID, b.ID) })
	batch.Queue(sql,
		column(events, func(e event) [16]byte { return e.ID }),
		column(events, func(e event) string { return e.Pair.Topic }),
		column(events, func(e event) string { return e.Pair.CorrelationID }),
		column(events, func(e event) *[16]byte { return (*[16]byte)(e.FlowID) }),
		column(events, func(e event) []byte { return e.Payload }),
		column(events, func(e event) string { return e.Actor }),
		column(events, func(e event) time.Time { return e.At }),
		column(events, func(e event) time.Time { return e.ExpiresAt }),
		column(events, func(e event) string { return string(e.Outcome) }),
		column(events, func(e event) []byte { return flows.StoreResumed(e.Flows) }),
		column(events, func(e event) int64 { return e.FlowCount }),
		column(events, func(e event) string { return string(e.Owners) }),
		column(events, func(e event) string { return e.Traceparent }))
}

// ExternalEvent implements store.Reader.
func (s *Store) ExternalEvent(ctx context.Context, id uuid.UUID, owners flows.Owners) (*flows.ExternalEvent, error) {
	var sql statement
	sql.add(selectReceipt, [16]byte(id))
	sql.covered(`x.owners`, owners)
	return readOne(ctx, s, scanExternalEvent, &sql)
}

// Delivering implements store.Reader.
func (s *Store) Delivering(ctx context.Context, limit int) (ids []uuid.UUID, err error) {
	err = s.read(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		rows, err := conn.Query(ctx, delivering, limit)
		if err != nil {
			return err
		}
		ids, err = pgx.CollectRows(rows, scanID)
		return err
	})
	return ids, err
}

// ExternalEvents implements store.Reader.
func (s *Store) ExternalEvents(ctx context.Context, q store.ExternalEventQuery) (store.ExternalEventPage, error) {
	sql, window := externalEventsStatement(&q)
	var page store.ExternalEventPage
	err := s.read(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		items, last, err := readPage(ctx, conn, sql, q.Limit, window, scanReceipt, (*store.Filling).AddReceipt)
		if err != nil {
			return err
		}
		page = store.ExternalEventPage{Items: items}
		if last != nil {
			page.Next = &store.EventPosition{At: (*last).At, ID: (*last).ID}
		}
		return nil
	})
	return page, err
}

func scanReceipt(row pgx.CollectableRow) (f found[*flows.ExternalEvent], err error) {
	columns := fieldsOf(row)
	f.n, f.hit = columns.bigint(), columns.boolean()
	f.item, err = columns.externalEvent()
	return f, err
}

// externalEventsStatement is the statement of a page of receipts, and how many of them it examines.
func externalEventsStatement(q *store.ExternalEventQuery) (sql *statement, examined int) {
	sql = new(statement)
	byBoth := q.Topic != "" && q.CorrelationID != ""
	byOne := q.Topic != "" || q.CorrelationID != ""
	examined = window(q.Limit, q.Owners != flows.Everyone || q.Outcome != "" || byBoth || byOne && q.EitherOf != nil)
	sql.add(openWindow)
	switch either := q.EitherOf; {
	case q.CorrelationID != "":
		walkReceipts(sql, q, `x.correlation_id, `, q.CorrelationID)
	case q.Topic != "":
		walkReceipts(sql, q, `x.topic, `, q.Topic)
	case either != nil:
		// The newest of both are among the newest of each; those that have both parts fall together.
		sql.add(`select id, seq, hit from ((`)
		walkReceipts(sql, q, `x.topic, `, either.Topic)
		sql.add(` limit ?) union (`, examined)
		walkReceipts(sql, q, `x.correlation_id, `, either.CorrelationID)
		sql.add(` limit ?)) either order by at desc, id desc`, examined)
	default:
		walkReceipts(sql, q, ``)
	}
	sql.add(` limit ?`, examined)
	sql.add(closeWindow + `r.*`)
	sql.add(fromWindow, q.Limit+1, examined)
	sql.add(`select ` + receiptColumns + ` from external_events x where x.id = p.id limit 1` + endWindow)
	return sql, examined
}

// walkReceipts walks one index backwards, from where the page before ended, and marks what matches. column is the index's
// leading one, with its value.
func walkReceipts(sql *statement, q *store.ExternalEventQuery, column string, value ...any) {
	sql.add(`select x.id, x.at, 0::bigint as seq, coalesce(true`)
	if q.Topic != "" {
		sql.add(` and x.topic = ?`, q.Topic)
	}
	if q.CorrelationID != "" {
		sql.add(` and x.correlation_id = ?`, q.CorrelationID)
	}
	if e := q.EitherOf; e != nil {
		sql.add(` and (x.topic = ? or x.correlation_id = ?)`, e.Topic, e.CorrelationID)
	}
	// A sender's owners are covered where what stands for them is: they have no "*" but at the end.
	sql.covered(`x.owners`, q.Owners)
	if q.Outcome != "" {
		sql.add(` and `+outcomeNow+` = ?`, string(q.Outcome))
	}
	sql.add(`, false) as hit from external_events x`)
	low, high := always()
	if q.From != nil {
		high = placeAt(q.From.At, q.From.ID)
	}
	sql.within(column+`x.at, x.id`, low.after(value...), high.after(value...), true)
}
