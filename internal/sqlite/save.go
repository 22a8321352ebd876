package sqlite

import (
	"taskflow/internal/flows"
	"taskflow/internal/store"

	"github.com/google/uuid"
)

// Save implements [store.Tx]. It writes row by row: a call of a prepared statement crosses no network.
func (t *tx) Save(w store.Writes) error {
	if w.Empty() {
		return t.err
	}
	for _, id := range w.Erased {
		t.erase(id)
	}
	for _, f := range w.Created {
		t.create(f)
	}
	for i := range w.Updated {
		t.update(&w.Updated[i])
	}
	for _, s := range w.Steps {
		t.saveStep(s)
	}
	for _, e := range w.ExternalEvents {
		t.saveExternal(e)
	}
	for i := range w.Answers {
		t.saveAnswer(&w.Answers[i])
	}
	for caller, change := range w.Open {
		t.do(countOpen, caller, change)
	}
	t.append(w.Events)
	// After the first failure every statement returns it and does nothing, so asking once is enough.
	return t.err
}

// mark takes the next n numbers of the feed and leaves this write's own number behind; first is the first of them. A
// transaction may mark more than once.
func (t *tx) mark(n int) (first int64, err error) {
	var seq, last int64
	if _, err := t.one(func(r row) error { return r.Scan(&seq, &last) }, selectFeed); err != nil {
		return 0, err
	}
	if t.batch == 0 {
		t.before, t.batch = last, newBatch()
	}
	_, err = t.exec(updateFeed, n, t.batch)
	return seq + 1, err
}

// The rows of flow_labels belong to the labels recorded in flows, so these run before that row is changed or deleted.
// CROSS JOIN looks the flow up first, then each of its few labels by the whole key.
const (
	deleteLabels = `
DELETE FROM flow_labels WHERE (key, value, created_at, flow_id) IN (
	SELECT j.key, j.value, f.created_at, f.id FROM flows f CROSS JOIN json_each(f.labels) j WHERE f.id = ?)`
	insertLabel  = `INSERT INTO flow_labels (key, value, created_at, flow_id) VALUES (?, ?, ?, ?)`
	deleteSteps  = `DELETE FROM steps WHERE flow_id = ?`
	deleteEvents = `DELETE FROM events WHERE flow_id = ?`
	deleteFlow   = `DELETE FROM flows WHERE id = ?`
)

// erase deletes a flow with all that belongs to it.
func (t *tx) erase(id uuid.UUID) {
	for _, query := range []string{deleteLabels, deleteSteps, deleteEvents, deleteAwaited, deleteFlow} {
		t.do(query, id[:])
	}
}

const insertFlow = `
INSERT INTO flows (id, mode, controller_id, owner_session_key, requester_origin, created_at, created_by,
	status, revision, cancel_requested, steps_total, steps_active, updated_at, ended_at, wait_kind, waiting_since,
	due_at, current_step, goal, resumed_by, wait, labels, state)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`

func (t *tx) create(f *flows.Flow) {
	args := append(make([]any, 0, 23), f.ID[:], string(f.Mode), f.ControllerID, f.OwnerSessionKey, f.RequesterOrigin,
		f.CreatedAt.UnixMicro(), f.CreatedBy)
	args = appendChanging(args, f)
	t.do(insertFlow, append(args, string(flows.StoreLabels(f.Labels)), string(f.State))...)
	t.insertLabels(f)
	if f.Wait != nil {
		t.rematch(f)
	}
}

// labels and state are NULL where they stay as they are.
const updateFlow = `
UPDATE flows SET status = ?, revision = ?, cancel_requested = ?, steps_total = ?, steps_active = ?, updated_at = ?,
	ended_at = ?, wait_kind = ?, waiting_since = ?, due_at = ?, current_step = ?, goal = ?, resumed_by = ?, wait = ?,
	labels = coalesce(?, labels), state = coalesce(?, state)
WHERE id = ?`

func (t *tx) update(u *store.FlowUpdate) {
	f := u.Flow
	var labels, state any
	if u.State {
		state = string(f.State)
	}
	if u.Labels {
		labels = string(flows.StoreLabels(f.Labels))
		t.do(deleteLabels, f.ID[:])
	}
	args := appendChanging(make([]any, 0, 17), f)
	t.do(updateFlow, append(args, labels, state, f.ID[:])...)
	if u.Labels {
		t.insertLabels(f)
	}
	if u.Wait {
		t.rematch(f)
	}
}

// appendChanging adds the columns that a change of a flow may alter, in the order that both statements have.
func appendChanging(args []any, f *flows.Flow) []any {
	var waitKind, waitingSince, wait, resumedBy any
	if f.Wait != nil {
		waitKind, waitingSince = string(f.Wait.Kind), f.Wait.Since.UnixMicro()
		wait = string(flows.StoreWait(f.Wait))
	}
	if f.ResumedBy != nil {
		resumedBy = string(flows.EncodeResumedBy(f.ResumedBy))
	}
	return append(args, string(f.Status), f.Revision, f.CancelRequested, f.StepsTotal, f.StepsActive,
		f.UpdatedAt.UnixMicro(), microsOf(f.EndedAt), waitKind, waitingSince, microsOf(f.DueAt()),
		f.CurrentStep, f.Goal, resumedBy, wait)
}

func (t *tx) insertLabels(f *flows.Flow) {
	for key, value := range f.Labels {
		t.do(insertLabel, key, value, f.CreatedAt.UnixMicro(), f.ID[:])
	}
}

const upsertStep = `
INSERT INTO steps (id, flow_id, run_id, runtime, task, status, child_session_key, result, observed_at, created_at, updated_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (flow_id, run_id) DO UPDATE SET runtime = excluded.runtime, task = excluded.task,
	status = excluded.status, child_session_key = excluded.child_session_key, result = excluded.result,
	observed_at = excluded.observed_at, updated_at = excluded.updated_at`

func (t *tx) saveStep(s *flows.Step) {
	var child any
	if s.ChildSessionKey != nil {
		child = *s.ChildSessionKey
	}
	t.do(upsertStep, s.ID[:], s.FlowID[:], s.RunID, string(s.Runtime), s.Task, string(s.Status), child,
		string(s.Result), s.ObservedAt.UnixMicro(), s.CreatedAt.UnixMicro(), s.UpdatedAt.UnixMicro())
}

const upsertAnswer = `
INSERT INTO answers (key, fingerprint, created_at, owners, response) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (key) DO UPDATE SET fingerprint = excluded.fingerprint, created_at = excluded.created_at,
	owners = excluded.owners, response = excluded.response`

func (t *tx) saveAnswer(a *store.Answer) {
	response := a.Response
	if response == nil {
		response = []byte{} // nil would be NULL
	}
	t.do(upsertAnswer, a.Key[:], a.Fingerprint[:], a.CreatedAt.UnixMicro(), string(a.Owners), response)
}

const insertEvent = `
INSERT INTO events (seq, flow_id, revision, kind, payload, actor, at, traceparent)
VALUES (?, ?, ?, ?, ?, ?, ?, nullif(?, ''))`

// append writes the events under the next numbers of the feed. Commits follow each other, and so do their numbers.
func (t *tx) append(events []flows.Event) {
	first, err := t.mark(len(events))
	if err != nil {
		return
	}
	for i := range events {
		e := &events[i]
		t.do(insertEvent, first+int64(i), e.FlowID[:], e.Revision, string(e.Kind), string(e.Payload), e.Actor,
			e.At.UnixMicro(), e.Traceparent)
	}
}
