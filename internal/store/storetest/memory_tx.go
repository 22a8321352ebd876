package storetest

import (
	"bytes"
	"fmt"
	"maps"
	"slices"

	"taskflow/internal/flows"
	"taskflow/internal/store"

	"github.com/google/uuid"
)

// This file holds the transactions of [Memory], and the rules of [store.Tx] and [store.Writes] that they keep.

// memoryTx is one run of an Update's fn.
type memoryTx struct {
	m      *Memory
	need   *store.Need        // what was asked for; nil before Load and LoadDue
	locked map[uuid.UUID]bool // the flows that were loaded, or were looked for and are not there
	saved  bool
	writes store.Writes
	misuse error // the first breach of a rule
	done   bool  // Update has returned
}

func (tx *memoryTx) wrong(format string, args ...any) error {
	err := fmt.Errorf("%w: %s", ErrMisuse, fmt.Sprintf(format, args...))
	if tx.misuse == nil {
		tx.misuse = err
	}
	return err
}

// Load implements [store.Tx].
func (tx *memoryTx) Load(need store.Need) (store.Snapshot, error) {
	if err := tx.first("Load"); err != nil {
		return store.Snapshot{}, err
	}
	for _, key := range need.Steps {
		if !slices.Contains(named(need), key.FlowID) {
			return store.Snapshot{}, tx.wrong("step %q is loaded without its flow %s", key.RunID, key.FlowID)
		}
	}
	s := tx.m.snapshot(need)
	tx.need = &need
	tx.lock(named(need), s)
	return s, nil
}

// LoadDue implements [store.Tx]. Updates are serial here, so no flow is ever passed over.
func (tx *memoryTx) LoadDue(limit int) (store.Snapshot, error) {
	if err := tx.first("LoadDue"); err != nil {
		return store.Snapshot{}, err
	}
	s := tx.m.due(limit)
	tx.need = &store.Need{}
	tx.lock(nil, s)
	return s, nil
}

// first refuses a load that is not the first thing a transaction does.
func (tx *memoryTx) first(name string) error {
	switch {
	case tx.done:
		return tx.wrong("%s after the end of Update", name)
	case tx.saved:
		return tx.wrong("%s after Save", name)
	case tx.need != nil:
		return tx.wrong("%s is a second load", name)
	}
	return nil
}

func (tx *memoryTx) lock(named []uuid.UUID, s store.Snapshot) {
	tx.locked = map[uuid.UUID]bool{}
	for _, id := range named {
		tx.locked[id] = true
	}
	for id := range s.Flows {
		tx.locked[id] = true
	}
}

// Save implements [store.Tx]. The writing is put off until fn has returned; the rules are checked at once.
func (tx *memoryTx) Save(w store.Writes) error {
	switch {
	case tx.done:
		return tx.wrong("Save after the end of Update")
	case tx.need == nil:
		return tx.wrong("Save before Load")
	case tx.saved:
		return tx.wrong("a second Save")
	}
	tx.saved, tx.writes = true, w
	return tx.check(w)
}

// check looks for breaches of the rules of [store.Writes]: each thing is written once, what is changed was loaded and
// so locked, and nothing is written for a flow that is not there afterwards.
func (tx *memoryTx) check(w store.Writes) error {
	exists := map[uuid.UUID]bool{}
	for id := range tx.m.flows {
		exists[id] = true
	}
	for _, id := range w.Erased {
		if !tx.locked[id] {
			return tx.wrong("flow %s is erased but was not loaded", id)
		}
		delete(exists, id)
	}
	if err := tx.checkOpen(w); err != nil {
		return err
	}
	created := map[uuid.UUID]bool{}
	for _, f := range w.Created {
		if exists[f.ID] {
			return tx.wrong("flow %s is created but exists", f.ID)
		}
		exists[f.ID], created[f.ID] = true, true
		if err := tx.checkWait(f); err != nil {
			return err
		}
	}
	updated := map[uuid.UUID]bool{}
	for _, u := range w.Updated {
		if id := u.Flow.ID; !exists[id] || created[id] || updated[id] || !tx.locked[id] {
			return tx.wrong("flow %s is updated but is missing, created, updated twice or not loaded", id)
		}
		updated[u.Flow.ID] = true
		if err := tx.checkUpdate(u); err != nil {
			return err
		}
	}
	writable := func(id uuid.UUID) bool {
		return exists[id] && (created[id] || tx.locked[id])
	}
	return tx.checkRows(w, writable)
}

func (tx *memoryTx) checkRows(w store.Writes, writable func(flow uuid.UUID) bool) error {
	steps := map[store.StepKey]bool{}
	for _, s := range w.Steps {
		if steps[stepKey(s)] || !writable(s.FlowID) {
			return tx.wrong("step %q is written twice, or its flow %s is missing or not loaded", s.RunID, s.FlowID)
		}
		if tx.m.steps[stepKey(s)] != nil && !slices.Contains(tx.need.Steps, stepKey(s)) && !slices.Contains(w.Erased, s.FlowID) {
			return tx.wrong("step %q is recorded and was not loaded", s.RunID)
		}
		steps[stepKey(s)] = true
	}
	for _, e := range w.Events {
		if e.Seq != 0 || !writable(e.FlowID) {
			return tx.wrong("event %s has a number, or its flow %s is missing or not loaded", e.Kind, e.FlowID)
		}
	}
	answers := map[store.AnswerKey]bool{}
	for _, a := range w.Answers {
		if answers[a.Key] || !slices.Contains(tx.need.Answers, a.Key) {
			return tx.wrong("answer %x is written twice or was not loaded", a.Key)
		}
		answers[a.Key] = true
	}
	return tx.checkExternal(w.ExternalEvents)
}

// checkUpdate holds that a wait that differs is declared: or else the flow is matched by what it no longer waits for. And
// that a narrow update is one: or else a database keeps what was to change.
func (tx *memoryTx) checkUpdate(u store.FlowUpdate) error {
	if u.Narrow && (u.Wait || !sameCourse(tx.m.flows[u.Flow.ID], u.Flow)) {
		return tx.wrong("the update of flow %s is not narrow, and FlowUpdate.Narrow is on", u.Flow.ID)
	}
	if u.Wait {
		return tx.checkWait(u.Flow)
	}
	last := tx.m.flows[u.Flow.ID].Wait
	if !bytes.Equal(flows.StoreWait(last), flows.StoreWait(u.Flow.Wait)) {
		return tx.wrong("the wait of flow %s differs, and FlowUpdate.Wait is off", u.Flow.ID)
	}
	return nil
}

// sameCourse reports whether a narrow update leads from a to b.
func sameCourse(a, b *flows.Flow) bool {
	return a.Status == b.Status && a.CancelRequested == b.CancelRequested && a.StepsTotal == b.StepsTotal &&
		a.StepsActive == b.StepsActive && (a.EndedAt == nil) == (b.EndedAt == nil) &&
		bytes.Equal(flows.EncodeResumedBy(a.ResumedBy), flows.EncodeResumedBy(b.ResumedBy))
}

// checkWait holds that the pairs for which a wait begins were locked by Await: or else an event for one of them, which
// arrives at the same time, is lost.
func (tx *memoryTx) checkWait(f *flows.Flow) error {
	if f.Wait == nil {
		return nil
	}
	if last := tx.m.flows[f.ID]; last != nil && last.Wait != nil && last.Wait.Generation == f.Wait.Generation {
		return nil // it has begun before
	}
	for _, pair := range f.Wait.Pairs() {
		if !slices.Contains(tx.need.Await, pair) {
			return tx.wrong("flow %s begins to wait for %v, which was not loaded by Await", f.ID, pair)
		}
	}
	return nil
}

// checkExternal holds that external events are written once, and only under the lock of their pair, or of their own.
func (tx *memoryTx) checkExternal(list []*flows.ExternalEvent) error {
	written := map[uuid.UUID]bool{}
	for _, e := range list {
		loaded := slices.ContainsFunc(tx.need.Match, func(m store.Match) bool { return m.Pair == e.Pair }) || slices.Contains(tx.need.Await, e.Pair) ||
			slices.Contains(tx.need.Events, e.ID)
		if written[e.ID] || !loaded {
			return tx.wrong("external event %s is written twice, or was not loaded by its pair or its id", e.ID)
		}
		if tx.m.arrived[e.ID] != nil && !slices.Contains(tx.need.Events, e.ID) && !slices.Contains(tx.need.Await, e.Pair) {
			return tx.wrong("external event %s is recorded and was not loaded", e.ID)
		}
		written[e.ID] = true
	}
	return nil
}

// named are the flows that are looked at by their ids.
func named(need store.Need) []uuid.UUID {
	ids := slices.Clone(need.Flows)
	for _, o := range need.Owned {
		ids = append(ids, o.ID)
	}
	return ids
}

// checkOpen holds that the counts of open flows follow the flows.
func (tx *memoryTx) checkOpen(w store.Writes) error {
	changes := map[string]int64{}
	add := func(f *flows.Flow, n int64) {
		if f != nil && f.CreatedBy != "" && !f.Status.Terminal() {
			changes[f.CreatedBy] += n
		}
	}
	for _, id := range w.Erased {
		add(tx.m.flows[id], -1)
	}
	for _, f := range w.Created {
		add(f, 1)
	}
	for _, u := range w.Updated {
		add(tx.m.flows[u.Flow.ID], -1)
		add(u.Flow, 1)
	}
	maps.DeleteFunc(changes, func(_ string, n int64) bool { return n == 0 })
	if !maps.Equal(changes, w.Open) {
		return tx.wrong("the counts of open flows change by %v, and the flows by %v", w.Open, changes)
	}
	return nil
}
