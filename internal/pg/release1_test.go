package pg_test

import (
	"encoding/json"
	"testing"
	"time"

	"taskflow/internal/flows"
	"taskflow/internal/pg"
	"taskflow/internal/pg/pgtest"
	"taskflow/internal/store"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// The statements that the release with schema 1 changes flows by, word for word. They must do on every later schema what
// they did on theirs.
const (
	insertFlows1 = `
insert into flows (id, mode, controller_id, owner_session_key, requester_origin, created_at, goal, current_step, state,
    labels, wait, waiting_since, resumed_by, status, cancel_requested, revision, steps_total, steps_active, updated_at,
    ended_at)
select id, mode, controller_id, owner_session_key, requester_origin, created_at, goal, current_step, state,
    labels, wait, waiting_since, resumed_by, status, cancel_requested, revision, steps_total, steps_active, updated_at,
    ended_at
from unnest($1::uuid[], $2::text[], $3::text[], $4::json[], $5::json[], $6::json[], $7::timestamptz[], $8::json[],
    $9::text[], $10::bool[], $11::bigint[], $12::int[], $13::int[], $14::timestamptz[], $15::timestamptz[],
    $16::text[], $17::text[], $18::text[], $19::text[], $20::timestamptz[])
    as u(id, goal, current_step, state, labels, wait, waiting_since, resumed_by, status, cancel_requested, revision,
    steps_total, steps_active, updated_at, ended_at, mode, controller_id, owner_session_key, requester_origin,
    created_at)`

	updateFlows1 = `
update flows f set goal = u.goal, current_step = u.current_step, state = coalesce(u.state, f.state),
    labels = coalesce(u.labels, f.labels), wait = u.wait, waiting_since = u.waiting_since, resumed_by = u.resumed_by,
    status = u.status, cancel_requested = u.cancel_requested, revision = u.revision, steps_total = u.steps_total,
    steps_active = u.steps_active, updated_at = u.updated_at, ended_at = u.ended_at
from unnest($1::uuid[], $2::text[], $3::text[], $4::json[], $5::json[], $6::json[], $7::timestamptz[], $8::json[],
    $9::text[], $10::bool[], $11::bigint[], $12::int[], $13::int[], $14::timestamptz[], $15::timestamptz[])
    as u(id, goal, current_step, state, labels, wait, waiting_since, resumed_by, status, cancel_requested, revision,
    steps_total, steps_active, updated_at, ended_at)
where f.id = u.id`

	loadFlows1 = `select f.id, f.mode, f.controller_id, f.goal, f.owner_session_key, f.requester_origin, f.current_step,
		f.state, f.wait, f.resumed_by, f.status, f.cancel_requested, f.revision, f.labels, f.steps_total, f.steps_active,
		f.created_at, f.updated_at, f.ended_at from flows f where f.id = any($1::uuid[]) order by f.id for update`

	eraseFlows1 = `delete from flows where id = any($1::uuid[])`
)

// changing1 are the values that both statements have. That release knows of a wait its kind, its generation and when it
// began.
func changing1(f *flows.Flow) []any {
	var wait []byte
	var since *time.Time
	if w := f.Wait; w != nil {
		wait, _ = json.Marshal(map[string]any{"kind": w.Kind, "generation": w.Generation, "since": flows.FormatTime(w.Since)})
		since = &w.Since
	}
	return []any{[][16]byte{f.ID}, []string{f.Goal}, []string{f.CurrentStep}, [][]byte{f.State}, [][]byte{[]byte("{}")},
		[][]byte{wait}, []*time.Time{since}, [][]byte{nil}, []string{string(f.Status)}, []bool{false}, []int64{f.Revision},
		[]int32{0}, []int32{0}, []time.Time{f.UpdatedAt}, []*time.Time{f.EndedAt}}
}

// insert1 and update1 write a flow as that release does.
func insert1(t *testing.T, conn *pgx.Conn, f *flows.Flow) {
	t.Helper()
	exec(t, conn, insertFlows1, append(changing1(f), []string{string(f.Mode)}, []string{f.ControllerID},
		[]string{f.OwnerSessionKey}, []string{f.RequesterOrigin}, []time.Time{f.CreatedAt})...)
}

func update1(t *testing.T, conn *pgx.Conn, f *flows.Flow) {
	t.Helper()
	exec(t, conn, loadFlows1, [][16]byte{f.ID})
	exec(t, conn, updateFlows1, changing1(f)...)
}

// foundDue counts what is found to be due, and to wait for a pair.
func foundDue(t *testing.T, s *pg.Store, pair flows.Pair) (due, waiting int) {
	t.Helper()
	load := func(with func(store.Tx) (store.Snapshot, error)) (snapshot store.Snapshot) {
		must(t, s.Update(t.Context(), func(tx store.Tx) (err error) {
			snapshot, err = with(tx)
			return err
		}))
		return snapshot
	}
	due = len(load(func(tx store.Tx) (store.Snapshot, error) { return tx.LoadDue(10) }).Flows)
	matched := load(func(tx store.Tx) (store.Snapshot, error) {
		return tx.Load(store.Need{Match: []store.Match{{Pair: pair, Owners: flows.Everyone}}})
	})
	if _, _, ok, err := s.NextDue(t.Context()); err != nil || ok != (due > 0) {
		t.Errorf("NextDue finds something: %v, %v; LoadDue finds %d", ok, err, due)
	}
	return due, len(matched.Waiting[store.Match{Pair: pair, Owners: flows.Everyone}])
}

// What that release wrote is read by this one; and what it does beside this one leaves no wait that is none: it ends a
// wait, begins another, and erases a flow, and knows nothing of due times and awaited events.
func TestRelease1BesideThis(t *testing.T) {
	t.Parallel()
	url := pgtest.Empty(t)
	must(t, pg.Migrate(t.Context(), url, 1))
	conn := connect(t, url)
	f := newFlow()
	f.Labels, f.Status = nil, flows.Waiting
	f.Wait = &flows.Wait{Kind: flows.WaitManual, Generation: 1, Since: f.UpdatedAt}
	insert1(t, conn, f)
	must(t, pg.Migrate(t.Context(), url, 0))
	s, pair := open(t, url), flows.Pair{Topic: "t", CorrelationID: "c"}
	expect := func(when string, wantDue, wantWaiting int) {
		t.Helper()
		if due, waiting := foundDue(t, s, pair); due != wantDue || waiting != wantWaiting {
			t.Errorf("%s: %d are due, %d wait for the event; want %d and %d", when, due, waiting, wantDue, wantWaiting)
		}
	}
	got, err := s.Flow(t.Context(), f.ID, flows.Everyone)
	must(t, err)
	if got.Wait == nil || got.Wait.Kind != flows.WaitManual || got.Wait.Generation != 1 || !got.Wait.Since.Equal(f.UpdatedAt) {
		t.Errorf("the wait of release 1 is read as %+v", got.Wait)
	}
	begin := func() {
		t.Helper()
		f.Revision++
		f.UpdatedAt = f.UpdatedAt.Add(time.Millisecond)
		f.Status, f.Wait = flows.Waiting, &flows.Wait{Kind: flows.WaitAnyOf, Generation: f.Revision, Since: f.UpdatedAt,
			Conditions: []flows.Condition{{Kind: flows.WaitTimer, At: f.UpdatedAt.Add(-time.Hour)},
				{Kind: flows.WaitExternalEvent, Pair: pair}}}
		save(t, s, store.Writes{Updated: []store.FlowUpdate{{Flow: f, Wait: true}}})
	}
	begin()
	expect("this release began a wait", 1, 1)
	f.Status, f.Wait = flows.Running, nil
	update1(t, conn, f)
	expect("release 1 ended it", 0, 0)
	f.Status, f.Wait = flows.Waiting, &flows.Wait{Kind: flows.WaitManual, Since: f.UpdatedAt.Add(time.Millisecond)}
	update1(t, conn, f)
	expect("release 1 began another", 0, 0)
	begin()
	expect("this release began one again", 1, 1)
	exec(t, conn, eraseFlows1, [][16]byte{f.ID})
	expect("release 1 erased the flow", 0, 0)
	insert1(t, conn, f)
	save(t, s, store.Writes{Erased: []uuid.UUID{f.ID}})
	if n := query[int](t, conn, "select count(*) from awaited"); n != 0 {
		t.Errorf("%d rows of an erased flow are left in awaited", n)
	}
}

// A migration that was cut off is taken up again.
func TestMigrationRunAgain(t *testing.T) {
	t.Parallel()
	url := pgtest.Empty(t)
	must(t, pg.Migrate(t.Context(), url, 2))
	exec(t, connect(t, url), `
		delete from goose_db_version where version_id >= 2;
		drop table callback_keys;
		drop index flows_by_end`)
	must(t, pg.Migrate(t.Context(), url, 0))
	const whole = `select bool_and(indisvalid) and count(*) = 2 from pg_index
		where indexrelid in ('flows_by_due'::regclass, 'flows_by_end'::regclass)`
	if !query[bool](t, connect(t, url), whole) {
		t.Error("the indexes are not whole")
	}
	must(t, create(t.Context(), open(t, url), timed(time.Hour)))
}
