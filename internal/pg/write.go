package pg

import (
	"maps"
	"slices"
	"time"

	"taskflow/internal/flows"
	"taskflow/internal/store"

	"github.com/jackc/pgx/v5"
)

const (
	eraseEvents = `delete from events where flow_id = any($1::uuid[])`
	eraseSteps  = `delete from steps where flow_id = any($1::uuid[])`
	eraseLabels = `delete from flow_labels where flow_id = any($1::uuid[])`
	eraseFlows  = `delete from flows where id = any($1::uuid[])`

	insertFlows = `
insert into flows (id, mode, controller_id, owner_session_key, requester_origin, created_at, created_by, goal, current_step, state,
    labels, wait, waiting_since, due_at, due_since, resumed_by, status, cancel_requested, revision, steps_total,
    steps_active, updated_at, ended_at)
select id, mode, controller_id, owner_session_key, requester_origin, created_at, created_by, goal, current_step, state,
    labels, wait, waiting_since, due_at, due_since, resumed_by, status, cancel_requested, revision, steps_total,
    steps_active, updated_at, ended_at
from unnest($1::uuid[], $2::text[], $3::text[], $4::json[], $5::json[], $6::json[], $7::timestamptz[],
    $8::timestamptz[], $9::timestamptz[], $10::json[], $11::text[], $12::bool[], $13::bigint[], $14::int[], $15::int[],
    $16::timestamptz[], $17::timestamptz[], $18::text[], $19::text[], $20::text[], $21::text[], $22::timestamptz[],
    $23::text[])
    as u(id, goal, current_step, state, labels, wait, waiting_since, due_at, due_since, resumed_by, status,
    cancel_requested, revision, steps_total, steps_active, updated_at, ended_at, mode, controller_id, owner_session_key,
    requester_origin, created_at, created_by)`

	// A null state or null labels stay as they are: nothing was sent, and what is stored out of line is not rewritten.
	// The columns that it leaves out never change.
	updateFlows = `
update flows f set goal = u.goal, current_step = u.current_step, state = coalesce(u.state, f.state),
    labels = coalesce(u.labels, f.labels), wait = u.wait, waiting_since = u.waiting_since, due_at = u.due_at,
    due_since = u.due_since, resumed_by = u.resumed_by, status = u.status, cancel_requested = u.cancel_requested,
    revision = u.revision, steps_total = u.steps_total, steps_active = u.steps_active, updated_at = u.updated_at,
    ended_at = u.ended_at
from unnest($1::uuid[], $2::text[], $3::text[], $4::json[], $5::json[], $6::json[], $7::timestamptz[],
    $8::timestamptz[], $9::timestamptz[], $10::json[], $11::text[], $12::bool[], $13::bigint[], $14::int[], $15::int[],
    $16::timestamptz[], $17::timestamptz[])
    as u(id, goal, current_step, state, labels, wait, waiting_since, due_at, due_since, resumed_by, status,
    cancel_requested, revision, steps_total, steps_active, updated_at, ended_at)
where f.id = u.id`

	// updateStates is updateFlows for changes that leave a flow's course as it is, which are most.
	updateStates = `
update flows f set goal = u.goal, current_step = u.current_step, state = coalesce(u.state, f.state),
    labels = coalesce(u.labels, f.labels), revision = u.revision, updated_at = u.updated_at
from unnest($1::uuid[], $2::text[], $3::text[], $4::json[], $5::json[], $6::bigint[], $7::timestamptz[])
    as u(id, goal, current_step, state, labels, revision, updated_at)
where f.id = u.id`

	insertLabels = `
insert into flow_labels (key, value, created_at, flow_id)
select key, value, created_at, flow_id
from unnest($1::text[], $2::text[], $3::timestamptz[], $4::uuid[]) as u(key, value, created_at, flow_id)`

	// What the load found is replaced, everything else is inserted: each row of an insert that looks out for conflicts is
	// written, and confirmed by a second record in the log.
	insertSteps = `
insert into steps (id, flow_id, run_id, runtime, task, status, child_session_key, result, observed_at, created_at,
    updated_at)
select id, flow_id, run_id, runtime, task, status, child_session_key, result, observed_at, created_at, updated_at
from unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::json[],
    $9::timestamptz[], $10::timestamptz[], $11::timestamptz[])
    as u(id, flow_id, run_id, runtime, task, status, child_session_key, result, observed_at, created_at, updated_at)`

	upsertSteps = insertSteps + `
on conflict (flow_id, run_id) do update set runtime = excluded.runtime, task = excluded.task,
    status = excluded.status, child_session_key = excluded.child_session_key, result = excluded.result,
    observed_at = excluded.observed_at, updated_at = excluded.updated_at`

	insertAnswers = `
insert into answers (key, fingerprint, response, created_at, owners)
select key, fingerprint, response, created_at, owners
from unnest($1::bytea[], $2::bytea[], $3::bytea[], $4::timestamptz[], $5::text[])
    as u(key, fingerprint, response, created_at, owners)`

	upsertAnswers = insertAnswers + `
on conflict (key) do update set fingerprint = excluded.fingerprint, response = excluded.response,
    created_at = excluded.created_at, owners = excluded.owners`

	// The counter's row stays locked until the commit, so it is the last lock that a transaction takes, and the commit
	// leaves in the same flush.
	appendEvents = `
with counter as (
    update feed set seq = seq + cardinality($1::uuid[]) returning seq - cardinality($1::uuid[]) as before)
insert into events (seq, flow_id, revision, kind, payload, actor, at)
select counter.before + u.n, u.flow_id, u.revision, u.kind, u.payload, u.actor, u.at
from counter, unnest($1::uuid[], $2::bigint[], $3::text[], $4::json[], $5::text[], $6::timestamptz[])
    with ordinality as u(flow_id, revision, kind, payload, actor, at, n)`

	// appendTracedEvents is appendEvents where some event has a traceparent: most servers see none, and each array costs.
	appendTracedEvents = `
with counter as (
    update feed set seq = seq + cardinality($1::uuid[]) returning seq - cardinality($1::uuid[]) as before)
insert into events (seq, flow_id, revision, kind, payload, actor, at, traceparent)
select counter.before + u.n, u.flow_id, u.revision, u.kind, u.payload, u.actor, u.at, nullif(u.traceparent, '')
from counter, unnest($1::uuid[], $2::bigint[], $3::text[], $4::json[], $5::text[], $6::timestamptz[],
    $7::text[]) with ordinality as u(flow_id, revision, kind, payload, actor, at, traceparent, n)`
)

// queueWrites queues the statements that write w over what was loaded.
func queueWrites(batch *pgx.Batch, w *store.Writes, loaded *store.Snapshot) {
	if len(w.Erased) > 0 {
		ids := distinct(w.Erased)
		for _, statement := range []string{eraseEvents, eraseSteps, eraseFlows} {
			batch.Queue(statement, ids)
		}
	}
	if len(w.Created) > 0 {
		queueCreated(batch, w.Created)
	}
	queueUpdated(batch, w.Updated)
	queueLabels(batch, w)
	queueAwaited(batch, w)
	recorded, added := split(w.Steps, func(s *flows.Step) bool { return loaded.Steps[store.StepKey{FlowID: s.FlowID, RunID: s.RunID}] != nil })
	queueSteps(batch, upsertSteps, recorded)
	queueSteps(batch, insertSteps, added)
	expired, answers := split(w.Answers, func(a store.Answer) bool { return loaded.Answers[a.Key] != nil })
	queueAnswers(batch, upsertAnswers, expired)
	queueAnswers(batch, insertAnswers, answers)
	settled, published := split(w.ExternalEvents, loadedEvents(loaded))
	queueExternalEvents(batch, upsertExternalEvents, settled)
	queueExternalEvents(batch, insertExternalEvents, published)
	if len(w.Open) > 0 {
		queueOpen(batch, w.Open)
	}
	if len(w.Events) > 0 {
		queueEvents(batch, w.Events)
	}
}

// queueCreated inserts in the order of ids: two transactions that create the same ones wait for each other in one order.
func queueCreated(batch *pgx.Batch, created []*flows.Flow) {
	created = slices.SortedFunc(slices.Values(created), func(a, b *flows.Flow) int { return compareIDs(a.ID, b.ID) })
	whole := column(created, func(f *flows.Flow) store.FlowUpdate {
		return store.FlowUpdate{Flow: f, State: true, Labels: true}
	})
	batch.Queue(insertFlows, append(changing(whole),
		column(created, func(f *flows.Flow) string { return string(f.Mode) }),
		column(created, func(f *flows.Flow) string { return f.ControllerID }),
		column(created, func(f *flows.Flow) string { return f.OwnerSessionKey }),
		column(created, func(f *flows.Flow) string { return f.RequesterOrigin }),
		column(created, func(f *flows.Flow) time.Time { return f.CreatedAt }),
		column(created, func(f *flows.Flow) string { return f.CreatedBy }))...)
}

func queueUpdated(batch *pgx.Batch, updates []store.FlowUpdate) {
	type update = store.FlowUpdate
	var states, courses []update
	for _, u := range updates {
		if !u.Narrow {
			courses = append(courses, u)
		} else {
			states = append(states, u)
		}
	}
	if len(states) > 0 {
		batch.Queue(updateStates,
			column(states, func(u update) [16]byte { return u.Flow.ID }),
			column(states, func(u update) string { return u.Flow.Goal }),
			column(states, func(u update) string { return u.Flow.CurrentStep }),
			column(states, encodeState),
			column(states, encodeLabels),
			column(states, func(u update) int64 { return u.Flow.Revision }),
			column(states, func(u update) time.Time { return u.Flow.UpdatedAt }))
	}
	if len(courses) > 0 {
		batch.Queue(updateFlows, changing(courses)...)
	}
}

// changing are the columns of flows that a change may alter, in the order of the statements' arguments.
func changing(updates []store.FlowUpdate) []any {
	type update = store.FlowUpdate
	return []any{
		column(updates, func(u update) [16]byte { return u.Flow.ID }),
		column(updates, func(u update) string { return u.Flow.Goal }),
		column(updates, func(u update) string { return u.Flow.CurrentStep }),
		column(updates, encodeState),
		column(updates, encodeLabels),
		column(updates, encodeWait),
		column(updates, waitingSince),
		column(updates, func(u store.FlowUpdate) *time.Time { return u.Flow.DueAt() }),
		column(updates, dueSince),
		column(updates, encodeResumedBy),
		column(updates, func(u update) string { return string(u.Flow.Status) }),
		column(updates, func(u update) bool { return u.Flow.CancelRequested }),
		column(updates, func(u update) int64 { return u.Flow.Revision }),
		column(updates, func(u update) int32 { return int32(u.Flow.StepsTotal) }),
		column(updates, func(u update) int32 { return int32(u.Flow.StepsActive) }),
		column(updates, func(u update) time.Time { return u.Flow.UpdatedAt }),
		column(updates, func(u update) *time.Time { return u.Flow.EndedAt }),
	}
}

func encodeState(u store.FlowUpdate) []byte {
	if !u.State {
		return nil
	}
	return u.Flow.State
}

func encodeLabels(u store.FlowUpdate) []byte {
	if !u.Labels {
		return nil
	}
	return flows.StoreLabels(u.Flow.Labels)
}

func encodeWait(u store.FlowUpdate) []byte {
	if u.Flow.Wait == nil {
		return nil
	}
	return flows.StoreWait(u.Flow.Wait)
}

func waitingSince(u store.FlowUpdate) *time.Time {
	if u.Flow.Wait == nil {
		return nil
	}
	return &u.Flow.Wait.Since
}

// dueSince marks the due time as the wait's own.
func dueSince(u store.FlowUpdate) *time.Time {
	if u.Flow.DueAt() == nil {
		return nil
	}
	return waitingSince(u)
}

func encodeResumedBy(u store.FlowUpdate) []byte {
	if u.Flow.ResumedBy == nil {
		return nil
	}
	return flows.EncodeResumedBy(u.Flow.ResumedBy)
}

// queueLabels brings flow_labels to what the flows have.
func queueLabels(batch *pgx.Batch, w *store.Writes) {
	stale := slices.Clone(w.Erased)
	labelled := slices.Clone(w.Created)
	for _, u := range w.Updated {
		if u.Labels {
			stale = append(stale, u.Flow.ID)
			labelled = append(labelled, u.Flow)
		}
	}
	if len(stale) > 0 {
		batch.Queue(eraseLabels, distinct(stale))
	}
	var keys, values []string
	var times []time.Time
	var ids [][16]byte
	for _, f := range labelled {
		for key, value := range f.Labels {
			keys, values = append(keys, key), append(values, value)
			times, ids = append(times, f.CreatedAt), append(ids, f.ID)
		}
	}
	if len(keys) > 0 {
		batch.Queue(insertLabels, keys, values, times, ids)
	}
}

// split tells the rows that were found from those that are new.
func split[T any](rows []T, found func(T) bool) (recorded, added []T) {
	for _, row := range rows {
		if found(row) {
			recorded = append(recorded, row)
		} else {
			added = append(added, row)
		}
	}
	return recorded, added
}

func queueAnswers(batch *pgx.Batch, sql string, answers []store.Answer) {
	if len(answers) == 0 {
		return
	}
	type answer = store.Answer
	batch.Queue(sql,
		column(answers, func(a answer) []byte { return a.Key[:] }),
		column(answers, func(a answer) []byte { return a.Fingerprint[:] }),
		column(answers, func(a answer) []byte { return a.Response }),
		column(answers, func(a answer) time.Time { return a.CreatedAt }),
		column(answers, func(a answer) string { return string(a.Owners) }))
}

func queueSteps(batch *pgx.Batch, sql string, steps []*flows.Step) {
	if len(steps) == 0 {
		return
	}
	type step = *flows.Step
	batch.Queue(sql,
		column(steps, func(s step) [16]byte { return s.ID }),
		column(steps, func(s step) [16]byte { return s.FlowID }),
		column(steps, func(s step) string { return s.RunID }),
		column(steps, func(s step) string { return string(s.Runtime) }),
		column(steps, func(s step) string { return s.Task }),
		column(steps, func(s step) string { return string(s.Status) }),
		column(steps, func(s step) *string { return s.ChildSessionKey }),
		column(steps, func(s step) []byte { return s.Result }),
		column(steps, func(s step) time.Time { return s.ObservedAt }),
		column(steps, func(s step) time.Time { return s.CreatedAt }),
		column(steps, func(s step) time.Time { return s.UpdatedAt }))
}

// queueOpen changes the counts of open flows, in the order of callers. A caller whose count is to fall has a row.
func queueOpen(batch *pgx.Batch, changes map[string]int64) {
	callers := slices.Sorted(maps.Keys(changes))
	batch.Queue(countOpen, callers, column(callers, func(c string) int64 { return changes[c] }))
}

func queueEvents(batch *pgx.Batch, events []flows.Event) {
	type event = flows.Event
	args := []any{
		column(events, func(e event) [16]byte { return e.FlowID }),
		column(events, func(e event) int64 { return e.Revision }),
		column(events, func(e event) string { return string(e.Kind) }),
		column(events, func(e event) []byte { return e.Payload }),
		column(events, func(e event) string { return e.Actor }),
		column(events, func(e event) time.Time { return e.At }),
	}
	if !slices.ContainsFunc(events, func(e event) bool { return e.Traceparent != "" }) {
		batch.Queue(appendEvents, args...)
		return
	}
	batch.Queue(appendTracedEvents, append(args, column(events, func(e event) string { return e.Traceparent }))...)
}
