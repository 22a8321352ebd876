// Package storetest holds what every implementation of package store is tested with: the one conformance suite, [Run];
// the in-memory oracle, [Memory], that it is compared with; and [Faulty], which makes any store fail on demand.
//
// It is imported by tests only and never by a package that ships. The stores' tests call Run; the tests of the engine
// and of everything above it run on Memory, behind Faulty where they need a store that fails.
package storetest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"taskflow/internal/flows"
	"taskflow/internal/store"

	"github.com/google/uuid"
)

// ErrMisuse marks a breach of the rules of [store.Tx] or [store.Writes]. The databases need not notice one; Memory
// does, so that the engine's tests do.
var ErrMisuse = errors.New("misuse of the store")

// Memory is a store in memory, written to be plainly right rather than fast. One mutex is held for a whole Update, so
// every history is serial; fn runs once. It starts no goroutine and reads no clock but the one it was given, and so
// runs under testing/synctest.
type Memory struct {
	now func() time.Time

	mu      sync.Mutex // guards everything below
	closed  bool
	flows   map[uuid.UUID]*flows.Flow
	steps   map[store.StepKey]*flows.Step
	events  []flows.Event       // rising by Seq
	changed map[uuid.UUID]int64 // Seq of each flow's last change: its last event but step_observed
	seq     int64               // the last one handed out
	answers map[store.AnswerKey]*store.Answer
}

// NewMemory returns an empty store whose clock is now.
func NewMemory(now func() time.Time) *Memory {
	return &Memory{
		now:     now,
		flows:   map[uuid.UUID]*flows.Flow{},
		steps:   map[store.StepKey]*flows.Step{},
		changed: map[uuid.UUID]int64{},
		answers: map[store.AnswerKey]*store.Answer{},
	}
}

// lock begins an operation: it takes the mutex, which the caller gives back, unless ctx has ended or the store is closed.
func (m *Memory) lock(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return fmt.Errorf("closed: %w", store.ErrUnavailable)
	}
	return nil
}

// Close ends the store: whatever is asked of it afterwards is answered [store.ErrUnavailable].
func (m *Memory) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	return nil
}

// Update implements [store.Updater]. A breach of the rules is [ErrMisuse], also where fn drops the error it was given.
func (m *Memory) Update(ctx context.Context, fn func(store.Tx) error) error {
	if err := m.lock(ctx); err != nil {
		return err
	}
	defer m.mu.Unlock()
	tx := &memoryTx{m: m}
	defer func() { tx.done = true }()
	if err := fn(tx); err != nil {
		return err
	}
	if tx.misuse != nil {
		return tx.misuse
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if tx.saved {
		m.apply(tx.writes)
	}
	return nil
}

// SweepAnswers implements [store.Updater]; the oldest answers go first.
func (m *Memory) SweepAnswers(ctx context.Context, before time.Time, limit int) (int, error) {
	if err := m.lock(ctx); err != nil {
		return 0, err
	}
	defer m.mu.Unlock()
	var old []*store.Answer
	for _, a := range m.answers {
		if a.CreatedAt.Before(before) {
			old = append(old, a)
		}
	}
	slices.SortFunc(old, func(a, b *store.Answer) int { return a.CreatedAt.Compare(b.CreatedAt) })
	old = old[:min(limit, len(old))]
	for _, a := range old {
		delete(m.answers, a.Key)
	}
	return len(old), nil
}

// apply makes the changes of one transaction, whose rules have been checked.
func (m *Memory) apply(w store.Writes) {
	for _, id := range w.Erased {
		m.erase(id)
	}
	for _, f := range w.Created {
		m.flows[f.ID] = copyFlow(f)
	}
	for _, u := range w.Updated {
		next, last := copyFlow(u.Flow), m.flows[u.Flow.ID]
		if !u.State {
			next.State = last.State
		}
		if !u.Labels {
			next.Labels = last.Labels
		}
		m.flows[next.ID] = next
	}
	for _, s := range w.Steps {
		next, key := copyStep(s), stepKey(s)
		if last := m.steps[key]; last != nil {
			next.ID, next.CreatedAt = last.ID, last.CreatedAt
		}
		m.steps[key] = next
	}
	for _, e := range w.Events {
		m.seq++
		e.Seq, e.Payload = m.seq, slices.Clone(e.Payload)
		m.events = append(m.events, e)
		if e.Kind != flows.EventStepObserved {
			m.changed[e.FlowID] = e.Seq
		}
	}
	for _, a := range w.Answers {
		m.answers[a.Key] = copyAnswer(&a)
	}
}

func (m *Memory) erase(id uuid.UUID) {
	delete(m.flows, id)
	delete(m.changed, id)
	for key := range m.steps {
		if key.FlowID == id {
			delete(m.steps, key)
		}
	}
	m.events = slices.DeleteFunc(m.events, func(e flows.Event) bool { return e.FlowID == id })
}

// memoryTx is one run of an Update's fn.
type memoryTx struct {
	m      *Memory
	need   *store.Need // what was loaded; nil before Load
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
	switch {
	case tx.done:
		return store.Snapshot{}, tx.wrong("Load after the end of Update")
	case tx.saved:
		return store.Snapshot{}, tx.wrong("Load after Save")
	case tx.need != nil:
		return store.Snapshot{}, tx.wrong("a second Load")
	}
	for _, key := range need.Steps {
		if !slices.Contains(need.Flows, key.FlowID) {
			return store.Snapshot{}, tx.wrong("step %q is loaded without its flow %s", key.RunID, key.FlowID)
		}
	}
	tx.need = &need
	return tx.m.snapshot(need), nil
}

func (m *Memory) snapshot(need store.Need) store.Snapshot {
	s := store.Snapshot{
		Now:     m.now().UTC().Truncate(time.Microsecond),
		Flows:   map[uuid.UUID]*flows.Flow{},
		Steps:   map[store.StepKey]*flows.Step{},
		Answers: map[store.AnswerKey]*store.Answer{},
	}
	for _, id := range need.Flows {
		if f := m.flows[id]; f != nil {
			s.Flows[id] = copyFlow(f)
		}
	}
	for _, key := range need.Steps {
		if step := m.steps[key]; step != nil {
			s.Steps[key] = copyStep(step)
		}
	}
	for _, key := range need.Answers {
		if a := m.answers[key]; a != nil {
			s.Answers[key] = copyAnswer(a)
		}
	}
	return s
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
		if !slices.Contains(tx.need.Flows, id) {
			return tx.wrong("flow %s is erased but was not loaded", id)
		}
		delete(exists, id)
	}
	created := map[uuid.UUID]bool{}
	for _, f := range w.Created {
		if exists[f.ID] {
			return tx.wrong("flow %s is created but exists", f.ID)
		}
		exists[f.ID], created[f.ID] = true, true
	}
	updated := map[uuid.UUID]bool{}
	for _, u := range w.Updated {
		if id := u.Flow.ID; !exists[id] || created[id] || updated[id] || !slices.Contains(tx.need.Flows, id) {
			return tx.wrong("flow %s is updated but is missing, created, updated twice or not loaded", id)
		}
		updated[u.Flow.ID] = true
	}
	writable := func(id uuid.UUID) bool {
		return exists[id] && (created[id] || slices.Contains(tx.need.Flows, id))
	}
	return tx.checkRows(w, writable)
}

func (tx *memoryTx) checkRows(w store.Writes, writable func(flow uuid.UUID) bool) error {
	steps := map[store.StepKey]bool{}
	for _, s := range w.Steps {
		if steps[stepKey(s)] || !writable(s.FlowID) {
			return tx.wrong("step %q is written twice, or its flow %s is missing or not loaded", s.RunID, s.FlowID)
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
	return nil
}

func stepKey(s *flows.Step) store.StepKey { return store.StepKey{FlowID: s.FlowID, RunID: s.RunID} }

// copyFlow shares nothing with f. Waits take the way through their JSON form, as in a database.
func copyFlow(f *flows.Flow) *flows.Flow {
	c := *f
	c.State = slices.Clone(f.State)
	c.Wait = must(flows.DecodeWait(flows.EncodeWait(f.Wait)))
	c.ResumedBy = must(flows.DecodeResumedBy(flows.EncodeResumedBy(f.ResumedBy)))
	c.Labels = make(map[string]string, len(f.Labels))
	for key, value := range f.Labels {
		c.Labels[key] = value
	}
	c.EndedAt = copyOf(f.EndedAt)
	return &c
}

func copyStep(s *flows.Step) *flows.Step {
	c := *s
	c.Result, c.ChildSessionKey = slices.Clone(s.Result), copyOf(s.ChildSessionKey)
	return &c
}

func copyAnswer(a *store.Answer) *store.Answer {
	c := *a
	c.Response = slices.Clone(a.Response)
	return &c
}

func copyOf[T any](p *T) *T {
	if p == nil {
		return nil
	}
	c := *p
	return &c
}

// must panics on an error: what was encoded a moment ago decodes.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// byTime orders by a time, then by an id, as every list by creation does.
func byTime(at, bt time.Time, a, b uuid.UUID) int {
	return cmp.Or(at.Compare(bt), slices.Compare(a[:], b[:]))
}
