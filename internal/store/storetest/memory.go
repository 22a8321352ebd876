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
	arrived map[uuid.UUID]*flows.ExternalEvent
	keys    []store.CallbackKey // oldest first
	apiKeys []store.APIKey      // oldest first
	open    map[string]int64    // flows that have not ended, by who created them
}

// NewMemory returns an empty store whose clock is now.
func NewMemory(now func() time.Time) *Memory {
	return &Memory{
		now:     now,
		flows:   map[uuid.UUID]*flows.Flow{},
		steps:   map[store.StepKey]*flows.Step{},
		changed: map[uuid.UUID]int64{},
		answers: map[store.AnswerKey]*store.Answer{},
		arrived: map[uuid.UUID]*flows.ExternalEvent{},
		open:    map[string]int64{},
	}
}

// clock reads the time as a database keeps it.
func (m *Memory) clock() time.Time { return m.now().UTC().Truncate(time.Microsecond) }

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
	for _, e := range w.ExternalEvents {
		m.arrived[e.ID] = copyExternal(e)
	}
	for caller, change := range w.Open {
		m.open[caller] = max(m.open[caller]+change, 0)
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

func stepKey(s *flows.Step) store.StepKey { return store.StepKey{FlowID: s.FlowID, RunID: s.RunID} }

// copyFlow shares nothing with f. Waits take the way through their JSON form, as in a database.
func copyFlow(f *flows.Flow) *flows.Flow {
	c := *f
	c.State = slices.Clone(f.State)
	c.Wait = must(flows.LoadWait(flows.StoreWait(f.Wait)))
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

// copyExternal shares nothing with e.
func copyExternal(e *flows.ExternalEvent) *flows.ExternalEvent {
	c := *e
	c.FlowID, c.Payload, c.Flows = copyOf(e.FlowID), slices.Clone(e.Payload), slices.Clone(e.Flows)
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
