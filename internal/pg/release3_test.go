package pg_test

import (
	"testing"
	"time"

	"taskflow/internal/flows"
	"taskflow/internal/pg/pgtest"
	"taskflow/internal/store"

	"github.com/google/uuid"
)

// The statements by which the release before schema 4 writes the trail and receipts, word for word.
const (
	appendEvents3 = `
with counter as (
    update feed set seq = seq + cardinality($1::uuid[]) returning seq - cardinality($1::uuid[]) as before)
insert into events (seq, flow_id, revision, kind, payload, actor, at)
select counter.before + u.n, u.flow_id, u.revision, u.kind, u.payload, u.actor, u.at
from counter, unnest($1::uuid[], $2::bigint[], $3::text[], $4::json[], $5::text[], $6::timestamptz[])
    with ordinality as u(flow_id, revision, kind, payload, actor, at, n)`

	upsertExternalEvents3 = `
insert into external_events (id, topic, correlation_id, flow_id, payload, actor, at, expires_at, outcome, flows,
    flow_count, owners)
select id, topic, correlation_id, flow_id, payload, actor, at, expires_at, outcome, flows, flow_count, owners
from unnest($1::uuid[], $2::text[], $3::text[], $4::uuid[], $5::json[], $6::text[], $7::timestamptz[],
    $8::timestamptz[], $9::text[], $10::json[], $11::bigint[], $12::text[])
    as u(id, topic, correlation_id, flow_id, payload, actor, at, expires_at, outcome, flows, flow_count, owners)
on conflict (id) do update set topic = excluded.topic, correlation_id = excluded.correlation_id,
    flow_id = excluded.flow_id, payload = excluded.payload, actor = excluded.actor, at = excluded.at,
    expires_at = excluded.expires_at, outcome = excluded.outcome, flows = excluded.flows,
    flow_count = excluded.flow_count, owners = excluded.owners`
)

// What that release writes beside this one has no traceparent, and what it settles of this one's keeps its own.
func TestRelease3BesideThis(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	conn, s := connect(t, url), open(t, url)
	f := newFlow()
	must(t, create(t.Context(), s, f))
	exec(t, conn, appendEvents3, [][16]byte{f.ID}, []int64{1}, []string{"started"}, [][]byte{[]byte("{}")}, []string{"old"}, []time.Time{f.CreatedAt})
	found, err := s.Events(t.Context(), store.EventQuery{Owners: flows.Everyone, FlowID: f.ID, Desc: true, Limit: 1})
	must(t, err)
	if got := found.Items[0]; got.Actor != "old" || got.Traceparent != "" {
		t.Errorf("the other release's event is read as %+v", got)
	}
	const traced = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	e := flows.ExternalEvent{ID: uuid.Must(uuid.NewV7()), Owners: flows.Everyone, Pair: flows.Pair{Topic: "t", CorrelationID: "c"}, Actor: "new",
		Traceparent: traced, At: f.CreatedAt, ExpiresAt: f.CreatedAt.Add(time.Hour), Outcome: flows.EventBuffered}
	save(t, s, store.Writes{ExternalEvents: []*flows.ExternalEvent{&e}})
	exec(t, conn, upsertExternalEvents3, [][16]byte{e.ID}, []string{"t"}, []string{"c"}, []*[16]byte{nil}, [][]byte{nil}, []string{"new"},
		[]time.Time{e.At}, []time.Time{e.ExpiresAt}, []string{"delivered"}, [][]byte{[]byte("[]")}, []int64{1}, []string{"*"})
	got, err := s.ExternalEvent(t.Context(), e.ID, flows.Everyone)
	must(t, err)
	if got.Outcome != flows.EventDelivered || got.Traceparent != traced {
		t.Errorf("a receipt that the other release settled is read as %+v", got)
	}
}
