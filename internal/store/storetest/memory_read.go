package storetest

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"taskflow/internal/flows"
	"taskflow/internal/store"

	"github.com/google/uuid"
)

// covered is a flow, nil where there is none that is covered.
func (m *Memory) covered(id uuid.UUID, owners flows.Owners) *flows.Flow {
	if f := m.flows[id]; f != nil && owners.Covers(f.OwnerSessionKey) {
		return f
	}
	return nil
}

// Flow implements [store.Reader].
func (m *Memory) Flow(ctx context.Context, id uuid.UUID, owners flows.Owners) (*flows.Flow, error) {
	if err := m.lock(ctx); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	f := m.covered(id, owners)
	if f == nil {
		return nil, flows.ErrNotFound
	}
	return copyFlow(f), nil
}

// Flows implements [store.Reader]. It sorts every flow for each page, and bounds a page as the databases do.
func (m *Memory) Flows(ctx context.Context, q store.FlowQuery) (store.FlowPage, error) {
	if err := m.lock(ctx); err != nil {
		return store.FlowPage{}, err
	}
	defer m.mu.Unlock()
	var page store.FlowPage
	examined, residual, filling := 0, q.Plan().Residual, store.Filling{Limit: q.Limit}
	for _, f := range m.inOrder(q.Order) {
		at := store.FlowPosition{Time: f.CreatedAt, ID: f.ID}
		if q.Order.ByUpdate() {
			at = store.FlowPosition{Seq: m.changed[f.ID]}
		}
		if q.From != nil && !precedes(*q.From, at, q.Order) {
			continue
		}
		if filling.Full() || residual && examined == store.Examined {
			return page, nil // Next is where the last one examined was
		}
		examined++
		page.Next = &at
		if matches(f, q) {
			found := copyFlow(f)
			if q.WithoutState {
				found.State = nil
			}
			page.Items = append(page.Items, found)
			filling.AddFlow(found)
		}
	}
	page.Next = nil
	return page, nil
}

func (m *Memory) inOrder(order store.FlowOrder) []*flows.Flow {
	list := make([]*flows.Flow, 0, len(m.flows))
	for _, f := range m.flows {
		list = append(list, f)
	}
	slices.SortFunc(list, func(a, b *flows.Flow) int {
		if order.ByUpdate() {
			return cmp.Compare(m.changed[a.ID], m.changed[b.ID])
		}
		return byTime(a.CreatedAt, b.CreatedAt, a.ID, b.ID)
	})
	if order == "" || order.Desc() {
		slices.Reverse(list)
	}
	return list
}

// precedes reports whether a comes before b in the order.
func precedes(a, b store.FlowPosition, order store.FlowOrder) bool {
	c := byTime(a.Time, b.Time, a.ID, b.ID)
	if order.ByUpdate() {
		c = cmp.Compare(a.Seq, b.Seq)
	}
	if order == "" || order.Desc() {
		c = -c
	}
	return c < 0
}

// matches reports whether a flow passes every filter of q.
func matches(f *flows.Flow, q store.FlowQuery) bool {
	for _, l := range q.Labels {
		if value, has := f.Labels[l.Key]; !has || value != l.Value {
			return false
		}
	}
	switch {
	case !q.Owners.Covers(f.OwnerSessionKey),
		q.OwnerSessionKey != "" && f.OwnerSessionKey != q.OwnerSessionKey,
		q.ControllerID != "" && f.ControllerID != q.ControllerID,
		q.Mode != "" && f.Mode != q.Mode,
		len(q.Statuses) > 0 && !slices.Contains(q.Statuses, f.Status),
		q.WaitKind != "" && (f.Wait == nil || f.Wait.Kind != q.WaitKind),
		q.CancelRequested != nil && f.CancelRequested != *q.CancelRequested,
		q.CreatedAfter != nil && !f.CreatedAt.After(*q.CreatedAfter),
		q.CreatedBefore != nil && !f.CreatedAt.Before(*q.CreatedBefore),
		q.UpdatedAfter != nil && !f.UpdatedAt.After(*q.UpdatedAfter),
		q.UpdatedBefore != nil && !f.UpdatedAt.Before(*q.UpdatedBefore),
		!strings.Contains(f.Goal, q.GoalContains):
		return false
	}
	return true
}

// Step implements [store.Reader].
func (m *Memory) Step(ctx context.Context, key store.StepKey, owners flows.Owners) (*flows.Step, error) {
	if err := m.lock(ctx); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	s := m.steps[key]
	if s == nil || m.covered(key.FlowID, owners) == nil {
		return nil, flows.ErrNotFound
	}
	return copyStep(s), nil
}

// Steps implements [store.Reader].
func (m *Memory) Steps(ctx context.Context, q store.StepQuery) (store.StepPage, error) {
	if err := m.lock(ctx); err != nil {
		return store.StepPage{}, err
	}
	defer m.mu.Unlock()
	if m.covered(q.FlowID, q.Owners) == nil {
		return store.StepPage{}, flows.ErrNotFound
	}
	var list []*flows.Step
	for key, s := range m.steps {
		if key.FlowID == q.FlowID && (q.From == nil || byTime(q.From.CreatedAt, s.CreatedAt, q.From.ID, s.ID) < 0) {
			list = append(list, copyStep(s))
		}
	}
	slices.SortFunc(list, func(a, b *flows.Step) int { return byTime(a.CreatedAt, b.CreatedAt, a.ID, b.ID) })
	var page store.StepPage
	filling := store.Filling{Limit: q.Limit}
	for _, s := range list {
		if filling.Full() {
			last := page.Items[len(page.Items)-1]
			page.Next = &store.StepPosition{CreatedAt: last.CreatedAt, ID: last.ID}
			break
		}
		page.Items = append(page.Items, s)
		filling.AddStep(s)
	}
	return page, nil
}

// Events implements [store.Reader]. A page is bounded as in the databases, where a filter other than the flow's id may
// pass over many events.
func (m *Memory) Events(ctx context.Context, q store.EventQuery) (store.EventPage, error) {
	if err := m.lock(ctx); err != nil {
		return store.EventPage{}, err
	}
	defer m.mu.Unlock()
	if q.FromFlow && m.covered(q.FlowID, q.Owners) == nil {
		return store.EventPage{}, flows.ErrNotFound
	}
	list := slices.Clone(m.events)
	if q.Desc {
		slices.Reverse(list)
	}
	var page store.EventPage
	examined, filling := 0, store.Filling{Limit: q.Limit}
	for _, e := range list {
		seen := q.After != nil && (!q.Desc && e.Seq <= *q.After || q.Desc && e.Seq >= *q.After)
		if seen || q.OfOneFlow() && e.FlowID != q.FlowID {
			continue
		}
		if filling.Full() || examined == store.Examined {
			return page, nil
		}
		examined++
		page.Next = &e.Seq
		if fed := m.fed(e); q.Matches(&fed) {
			page.Items = append(page.Items, fed.Event)
			filling.AddEvent(&fed.Event)
		}
	}
	page.Next = nil
	return page, nil
}

// fed is an event with what its flow is filtered by.
func (m *Memory) fed(e flows.Event) store.FeedEvent {
	f := m.flows[e.FlowID]
	e.Payload = slices.Clone(e.Payload)
	return store.FeedEvent{Event: e, OwnerSessionKey: f.OwnerSessionKey, ControllerID: f.ControllerID, Mode: f.Mode}
}

// Tail implements [store.Reader].
func (m *Memory) Tail(ctx context.Context, after int64, limit int) ([]store.FeedEvent, error) {
	if err := m.lock(ctx); err != nil {
		return nil, err
	}
	defer m.mu.Unlock()
	var list []store.FeedEvent
	filling := store.Filling{Limit: limit}
	for _, e := range m.events {
		if e.Seq > after && !filling.Full() {
			list = append(list, m.fed(e))
			filling.AddEvent(&e)
		}
	}
	return list, nil
}

// Stats implements [store.Reader].
func (m *Memory) Stats(ctx context.Context, owners flows.Owners) (store.Stats, error) {
	if err := m.lock(ctx); err != nil {
		return store.Stats{}, err
	}
	defer m.mu.Unlock()
	stats := store.Stats{ByStatus: map[flows.Status]int64{}}
	for _, s := range flows.Statuses {
		stats.ByStatus[s] = 0
	}
	var mine, failed []*flows.Flow
	for _, f := range m.flows {
		if owners.Covers(f.OwnerSessionKey) {
			mine = append(mine, f)
			stats.ByStatus[f.Status]++
		}
	}
	slices.SortFunc(mine, func(a, b *flows.Flow) int { return byTime(b.CreatedAt, a.CreatedAt, b.ID, a.ID) })
	for _, f := range mine {
		if f.Status == flows.Failed && len(failed) < store.Examined {
			failed = append(failed, f)
		}
		if f.Wait == nil {
			continue
		}
		stats.WaitingLongest = append(stats.WaitingLongest, timedAt(f, f.Wait.Since))
		if due, ok := f.Wait.Due(); ok {
			stats.DueNext = append(stats.DueNext, timedAt(f, due))
		}
	}
	stats.ByController, stats.FailedByController = countControllers(mine), countControllers(failed)
	stats.DueNext, stats.WaitingLongest = earliest(stats.DueNext), earliest(stats.WaitingLongest)
	return stats, nil
}

func countControllers(list []*flows.Flow) []store.ControllerCount {
	counts := map[string]int64{}
	for _, f := range list {
		counts[f.ControllerID]++
	}
	var out []store.ControllerCount
	for id, n := range counts {
		out = append(out, store.ControllerCount{ControllerID: id, Flows: n})
	}
	slices.SortFunc(out, func(a, b store.ControllerCount) int {
		return cmp.Or(cmp.Compare(b.Flows, a.Flows), strings.Compare(a.ControllerID, b.ControllerID))
	})
	return out[:min(len(out), store.MaxControllers)]
}

func timedAt(f *flows.Flow, at time.Time) store.TimedFlow {
	return store.TimedFlow{FlowID: f.ID, ControllerID: f.ControllerID, Goal: f.Goal, At: at}
}

func earliest(list []store.TimedFlow) []store.TimedFlow {
	slices.SortFunc(list, func(a, b store.TimedFlow) int { return byTime(a.At, b.At, a.FlowID, b.FlowID) })
	return list[:min(len(list), store.MaxTimed)]
}

// SchemaVersion implements [store.Reader]; there is one version.
func (m *Memory) SchemaVersion(ctx context.Context) (int64, error) {
	if err := m.lock(ctx); err != nil {
		return 0, err
	}
	defer m.mu.Unlock()
	return 1, nil
}
