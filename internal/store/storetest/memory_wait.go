package storetest

import (
	"context"
	"fmt"
	"slices"
	"time"

	"taskflow/internal/flows"
	"taskflow/internal/store"

	"github.com/google/uuid"
)

// This file holds what [Memory] does with waits, external events, callback keys and retention.

// snapshot reads what was asked for.
func (m *Memory) snapshot(need store.Need) store.Snapshot {
	s := store.Snapshot{
		Now:      m.clock(),
		Flows:    map[uuid.UUID]*flows.Flow{},
		Steps:    map[store.StepKey]*flows.Step{},
		Answers:  map[store.AnswerKey]*store.Answer{},
		Buffered: map[flows.Pair][]*flows.ExternalEvent{},
		Waiting:  map[store.Match][]uuid.UUID{},
		More:     map[store.Match]bool{},
		Latest:   map[store.Match]time.Time{},
		Open:     map[string]int64{},
		Events:   map[uuid.UUID]*flows.ExternalEvent{},
	}
	for _, id := range need.Flows {
		if f := m.flows[id]; f != nil {
			s.Flows[id] = copyFlow(f)
		}
	}
	for _, o := range need.Owned {
		if f := m.covered(o.ID, o.Owners); f != nil {
			s.Flows[o.ID] = copyFlow(f)
		}
	}
	for _, key := range need.Steps {
		if step := m.steps[key]; step != nil && s.Flows[key.FlowID] != nil {
			s.Steps[key] = copyStep(step)
		}
	}
	for _, key := range need.Answers {
		if a := m.answers[key]; a != nil {
			s.Answers[key] = copyAnswer(a)
		}
	}
	for pair, limit := range store.KeptLimits(need.Await) {
		s.Buffered[pair] = m.buffered(pair, limit, need)
	}
	for _, match := range need.Match {
		m.match(&s, match)
	}
	for _, caller := range need.Callers {
		s.Open[caller] = m.open[caller]
	}
	for _, id := range need.Events {
		if e := m.arrived[id]; e != nil {
			s.Events[id] = copyExternal(e)
		}
	}
	return s
}

// buffered are the kept events of a pair that one of the flows may consume, oldest first, so many of a kind.
func (m *Memory) buffered(pair flows.Pair, limit int, need store.Need) []*flows.ExternalEvent {
	ids, owners := named(need), slices.Clone(need.Creating)
	for _, id := range ids {
		if f := m.flows[id]; f != nil {
			owners = append(owners, f.OwnerSessionKey)
		}
	}
	var list []*flows.ExternalEvent
	for _, e := range m.arrived {
		mine := (e.FlowID == nil || slices.Contains(ids, *e.FlowID)) &&
			(e.Owners == flows.Everyone || slices.ContainsFunc(owners, e.Owners.Covers))
		if e.Pair == pair && mine && e.OutcomeAt(m.clock()) == flows.EventBuffered {
			list = append(list, copyExternal(e))
		}
	}
	slices.SortFunc(list, oldestEvent)
	type kind struct {
		owners flows.Owners
		flow   uuid.UUID // zero for any
	}
	of := map[kind]int{}
	return slices.DeleteFunc(list, func(e *flows.ExternalEvent) bool {
		k := kind{owners: e.Owners}
		if e.FlowID != nil {
			k.flow = *e.FlowID
		}
		of[k]++
		return of[k] > limit
	})
}

func oldestEvent(a, b *flows.ExternalEvent) int { return byTime(a.At, b.At, a.ID, b.ID) }

// match adds the flows that are covered and wait for a pair, the longest first.
func (m *Memory) match(s *store.Snapshot, match store.Match) {
	var list []*flows.Flow
	for _, f := range m.flows {
		if f.Wait != nil && slices.Contains(f.Wait.Pairs(), match.Pair) && match.Owners.Covers(f.OwnerSessionKey) {
			list = append(list, f)
		}
	}
	slices.SortFunc(list, func(a, b *flows.Flow) int { return byTime(a.Wait.Since, b.Wait.Since, a.ID, b.ID) })
	if len(list) > store.MatchLimit {
		list, s.More[match], s.Latest[match] = list[:store.MatchLimit], true, m.latest(match.Pair)
	}
	s.Waiting[match] = nil
	for _, f := range list {
		s.Waiting[match] = append(s.Waiting[match], f.ID)
		s.Flows[f.ID] = copyFlow(f)
	}
}

// latest is when the last wait for a pair began.
func (m *Memory) latest(pair flows.Pair) (since time.Time) {
	for _, f := range m.flows {
		if f.Wait != nil && slices.Contains(f.Wait.Pairs(), pair) && f.Wait.Since.After(since) {
			since = f.Wait.Since
		}
	}
	return since
}

// due reads the flows whose wait is due, the earliest first.
func (m *Memory) due(limit int) store.Snapshot {
	s := store.Snapshot{Now: m.clock(), Flows: map[uuid.UUID]*flows.Flow{}}
	for _, f := range m.timed() {
		if at, _ := f.Wait.Due(); len(s.Flows) < limit && !at.After(s.Now) {
			s.Flows[f.ID] = copyFlow(f)
		}
	}
	return s
}

// timed are the flows whose wait ends by the clock, the earliest first.
func (m *Memory) timed() []*flows.Flow {
	var list []*flows.Flow
	for _, f := range m.flows {
		if f.Wait == nil {
			continue
		}
		if _, timed := f.Wait.Due(); timed {
			list = append(list, f)
		}
	}
	slices.SortFunc(list, func(a, b *flows.Flow) int {
		dueA, _ := a.Wait.Due()
		dueB, _ := b.Wait.Due()
		return byTime(dueA, dueB, a.ID, b.ID)
	})
	return list
}

// NextDue implements [store.Reader].
func (m *Memory) NextDue(ctx context.Context) (at time.Time, in time.Duration, ok bool, err error) {
	if err := m.lock(ctx); err != nil {
		return time.Time{}, 0, false, err
	}
	defer m.mu.Unlock()
	list := m.timed()
	if len(list) == 0 {
		return time.Time{}, 0, false, nil
	}
	at, _ = list[0].Wait.Due()
	return at, at.Sub(m.clock()), true, nil
}

// SweepExternalEvents implements [store.Updater]; the oldest go first.
func (m *Memory) SweepExternalEvents(ctx context.Context, before time.Time, limit int) (int, error) {
	if err := m.lock(ctx); err != nil {
		return 0, err
	}
	defer m.mu.Unlock()
	var old []*flows.ExternalEvent
	for _, e := range m.arrived {
		outcome := e.OutcomeAt(m.clock())
		if e.At.Before(before) && outcome != flows.EventDelivering && outcome != flows.EventBuffered {
			old = append(old, e)
		}
	}
	slices.SortFunc(old, oldestEvent)
	old = old[:min(limit, len(old))]
	for _, e := range old {
		delete(m.arrived, e.ID)
	}
	return len(old), nil
}

// ended are the flows that ended before a time, oldest end first.
func (m *Memory) ended(before time.Time) []*flows.Flow {
	var list []*flows.Flow
	for _, f := range m.flows {
		if f.EndedAt != nil && f.EndedAt.Before(before) {
			list = append(list, f)
		}
	}
	slices.SortFunc(list, func(a, b *flows.Flow) int { return byTime(*a.EndedAt, *b.EndedAt, a.ID, b.ID) })
	return list
}

// Prune implements [store.Updater].
func (m *Memory) Prune(ctx context.Context, endedBefore time.Time, limit int) (int, error) {
	if err := m.lock(ctx); err != nil {
		return 0, err
	}
	defer m.mu.Unlock()
	list := m.ended(endedBefore)
	list = list[:min(limit, len(list))]
	for _, f := range list {
		m.erase(f.ID)
	}
	return len(list), nil
}

// CountEnded implements [store.Reader].
func (m *Memory) CountEnded(ctx context.Context, before time.Time) (int64, error) {
	if err := m.lock(ctx); err != nil {
		return 0, err
	}
	defer m.mu.Unlock()
	return int64(len(m.ended(before))), nil
}

// AddCallbackKey implements [store.Updater]. A key whose id is taken is refused.
func (m *Memory) AddCallbackKey(ctx context.Context, key store.CallbackKey, onlyFirst bool) error {
	if err := m.lock(ctx); err != nil {
		return err
	}
	defer m.mu.Unlock()
	if onlyFirst && len(m.keys) > 0 {
		return nil
	}
	if slices.ContainsFunc(m.keys, func(k store.CallbackKey) bool { return k.ID == key.ID }) {
		return fmt.Errorf("a callback key %q exists", key.ID)
	}
	m.keys = append(m.keys, copyKey(key))
	slices.SortStableFunc(m.keys, func(a, b store.CallbackKey) int { return a.CreatedAt.Compare(b.CreatedAt) })
	return nil
}

// CallbackKeys implements [store.Reader].
func (m *Memory) CallbackKeys(ctx context.Context) ([]store.CallbackKey, error) {
	if err := m.lock(ctx); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	var list []store.CallbackKey
	for _, key := range m.keys {
		list = append(list, copyKey(key))
	}
	return list, nil
}

func copyKey(key store.CallbackKey) store.CallbackKey {
	key.Secret = slices.Clone(key.Secret)
	return key
}

// shown is an external event as reading shows it: with its fate as of now.
func (m *Memory) shown(e *flows.ExternalEvent) *flows.ExternalEvent {
	e = copyExternal(e)
	e.Outcome = e.OutcomeAt(m.clock())
	return e
}

// ExternalEvent implements [store.Reader].
func (m *Memory) ExternalEvent(ctx context.Context, id uuid.UUID, owners flows.Owners) (*flows.ExternalEvent, error) {
	if err := m.lock(ctx); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	e := m.arrived[id]
	if e == nil || !owners.CoversAll(e.Owners) {
		return nil, flows.ErrNotFound
	}
	return m.shown(e), nil
}

// ExternalEvents implements [store.Reader]. It bounds a page as the databases do.
func (m *Memory) ExternalEvents(ctx context.Context, q store.ExternalEventQuery) (store.ExternalEventPage, error) {
	if err := m.lock(ctx); err != nil {
		return store.ExternalEventPage{}, err
	}
	defer m.mu.Unlock()
	var page store.ExternalEventPage
	examined, filling := 0, store.Filling{Limit: q.Limit}
	for _, e := range m.newestFirst() {
		at := store.EventPosition{At: e.At, ID: e.ID}
		if q.From != nil && byTime(q.From.At, e.At, q.From.ID, e.ID) <= 0 {
			continue
		}
		if filling.Full() || examined == store.Examined {
			return page, nil // Next is where the last one examined was
		}
		examined++
		page.Next = &at
		if externalMatches(e, q) {
			page.Items = append(page.Items, e)
			filling.AddReceipt(e)
		}
	}
	page.Next = nil
	return page, nil
}

func (m *Memory) newestFirst() []*flows.ExternalEvent {
	list := make([]*flows.ExternalEvent, 0, len(m.arrived))
	for _, e := range m.arrived {
		list = append(list, m.shown(e))
	}
	slices.SortFunc(list, func(a, b *flows.ExternalEvent) int { return oldestEvent(b, a) })
	return list
}

// externalMatches reports whether a receipt, as it is shown, passes every filter of q.
func externalMatches(e *flows.ExternalEvent, q store.ExternalEventQuery) bool {
	either := q.EitherOf
	return q.Owners.CoversAll(e.Owners) &&
		(q.Topic == "" || e.Pair.Topic == q.Topic) &&
		(q.CorrelationID == "" || e.Pair.CorrelationID == q.CorrelationID) &&
		(either == nil || e.Pair.Topic == either.Topic || e.Pair.CorrelationID == either.CorrelationID) &&
		(q.Outcome == "" || e.Outcome == q.Outcome)
}

// Delivering implements [store.Reader].
func (m *Memory) Delivering(ctx context.Context, limit int) ([]uuid.UUID, error) {
	if err := m.lock(ctx); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	var list []uuid.UUID
	newest := m.newestFirst()
	for _, e := range slices.Backward(newest) {
		if e.Outcome == flows.EventDelivering && len(list) < limit {
			list = append(list, e.ID)
		}
	}
	return list, nil
}
