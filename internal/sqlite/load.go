package sqlite

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"taskflow/internal/flows"
	"taskflow/internal/store"

	"github.com/google/uuid"
)

const selectAnswer = `SELECT key, fingerprint, created_at, owners, response FROM answers WHERE key = ?`

// Load implements [store.Tx]. It needs no locks on rows or pairs: the transaction has the file's.
func (t *tx) Load(need store.Need) (store.Snapshot, error) {
	s := store.Snapshot{
		Now:      t.s.clock(),
		Flows:    make(map[uuid.UUID]*flows.Flow, len(need.Flows)),
		Steps:    make(map[store.StepKey]*flows.Step, len(need.Steps)),
		Answers:  make(map[store.AnswerKey]*store.Answer, len(need.Answers)),
		Buffered: make(map[flows.Pair][]*flows.ExternalEvent, len(need.Await)),
		Waiting:  make(map[store.Match][]uuid.UUID, len(need.Match)),
		More:     make(map[store.Match]bool),
		Latest:   make(map[store.Match]time.Time),
		Events:   make(map[uuid.UUID]*flows.ExternalEvent, len(need.Events)),
	}
	for _, key := range need.Answers {
		a := new(store.Answer)
		if t.found(func(r row) error { return scanAnswer(r, a) }, selectAnswer, key[:]) {
			s.Answers[key] = a
		}
	}
	for _, id := range need.Flows {
		t.loadFlow(&s, id)
	}
	for _, o := range need.Owned {
		t.loadCovered(&s, o)
	}
	for _, key := range need.Steps {
		step := new(flows.Step)
		if s.Flows[key.FlowID] != nil && t.found(func(r row) error { return scanStep(r, step) }, selectStep, key.FlowID[:], key.RunID) {
			s.Steps[key] = step
		}
	}
	for _, id := range need.Events {
		e := new(flows.ExternalEvent)
		if t.found(func(r row) error { return scanExternal(r, e) }, selectExternal, id[:]) {
			s.Events[id] = e
		}
	}
	if len(need.Await) > 0 {
		t.loadBuffered(&s, &need)
	}
	t.loadOpen(&s, need.Callers)
	for _, m := range need.Match {
		t.loadWaiting(&s, m)
	}
	// After the first failure every statement returns it and does nothing, so asking once is enough.
	if t.err != nil {
		return store.Snapshot{}, t.err
	}
	return s, nil
}

// found is one for one of many statements: false where there is no row or something failed, which t.err tells apart.
func (t *tx) found(scan func(row) error, query string, args ...any) bool {
	found, err := t.one(scan, query, args...)
	return found && err == nil
}

// loadFlow adds a flow to what was found, and returns it; nil where there is none.
func (t *tx) loadFlow(s *store.Snapshot, id uuid.UUID) *flows.Flow {
	if f := s.Flows[id]; f != nil {
		return f
	}
	f := new(flows.Flow)
	if !t.found(func(r row) error { return scanFlow(r, f) }, selectFlow, id[:]) {
		return nil
	}
	s.Flows[id] = f
	return f
}

// hexList is a JSON list of identifiers in hex.
func hexList(ids []uuid.UUID) string {
	var list strings.Builder
	list.WriteString("[")
	for i, id := range ids {
		if i > 0 {
			list.WriteString(",")
		}
		fmt.Fprintf(&list, `"%x"`, id[:])
	}
	list.WriteString("]")
	return list.String()
}

// loadWaiting adds the flows that wait for a pair. Where one no longer does (see repair) it looks again without it.
func (t *tx) loadWaiting(s *store.Snapshot, m store.Match) {
	if _, known := s.Waiting[m]; known {
		return
	}
	for t.err == nil {
		ids := t.awaiting(m, store.MatchLimit+1)
		var waiting []uuid.UUID
		for _, id := range ids[:min(len(ids), store.MatchLimit)] {
			f := t.loadFlow(s, id)
			if f != nil && f.Wait != nil && slices.Contains(f.Wait.Pairs(), m.Pair) {
				waiting = append(waiting, id)
				continue
			}
			t.repair(id, f)
		}
		if len(waiting) == min(len(ids), store.MatchLimit) {
			s.Waiting[m] = waiting
			if len(ids) > store.MatchLimit {
				s.More[m], s.Latest[m] = true, t.latest(m.Pair)
			}
			return
		}
	}
}

const selectLatest = `SELECT coalesce(max(since), 0) FROM awaited WHERE topic = ? AND correlation_id = ?`

// latest is when the last wait for a pair began, by awaited.
func (t *tx) latest(p flows.Pair) time.Time {
	var since int64
	t.found(func(r row) error { return r.Scan(&since) }, selectLatest, p.Topic, p.CorrelationID)
	return time.UnixMicro(since).UTC()
}

const selectDue = `
SELECT id FROM flows INDEXED BY flows_due
WHERE due_at IS NOT NULL AND waiting_since IS NOT NULL AND due_at <= ? ORDER BY due_at, id LIMIT ?`

// LoadDue implements [store.Tx].
func (t *tx) LoadDue(limit int) (store.Snapshot, error) {
	s := store.Snapshot{Now: t.s.clock(), Flows: make(map[uuid.UUID]*flows.Flow)}
	ids, err := t.ids(selectDue, s.Now.UnixMicro(), limit)
	if err != nil {
		return store.Snapshot{}, err
	}
	for _, id := range ids {
		f := t.loadFlow(&s, id)
		if f == nil { // a failure: its row was there a moment ago
			break
		}
		if due := f.DueAt(); due == nil || due.After(s.Now) {
			delete(s.Flows, id)
			t.repair(id, f)
		}
	}
	if t.err != nil {
		return store.Snapshot{}, t.err
	}
	return s, nil
}

const (
	updateDue     = `UPDATE flows SET due_at = ? WHERE id = ?`
	deleteAwaited = `DELETE FROM awaited WHERE flow_id = ?`
	insertAwaited = `INSERT INTO awaited (topic, correlation_id, since, flow_id) VALUES (?, ?, ?, ?)`
)

// repair makes what a flow is found by agree with the flow, nil where there is none. The release before this one, run on
// the file again, has changed or erased flows without that; left there, it would be found again for ever.
func (t *tx) repair(id uuid.UUID, f *flows.Flow) {
	if f == nil {
		t.do(deleteAwaited, id[:])
	} else {
		t.rematch(f)
		t.do(updateDue, microsOf(f.DueAt()), id[:])
	}
	_, _ = t.mark(0)
}

// rematch rewrites the rows of awaited that belong to a flow.
func (t *tx) rematch(f *flows.Flow) {
	t.do(deleteAwaited, f.ID[:])
	if f.Wait == nil {
		return
	}
	for _, pair := range f.Wait.Pairs() {
		t.do(insertAwaited, pair.Topic, pair.CorrelationID, f.Wait.Since.UnixMicro(), f.ID[:])
	}
}
