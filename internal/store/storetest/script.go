package storetest

import (
	"bytes"
	"context"
	"maps"
	"slices"
	"time"

	"taskflow/internal/flows"
	"taskflow/internal/store"

	"github.com/google/uuid"
)

// apply runs commands through [flows.Decide] in one Update, as the engine does: a later command sees an earlier one's
// result, refused ones take no part, and the net effect is saved. now is the time Decide is given, so that two stores
// come to the same result. It returns the refusals, nil for a command that was accepted.
func apply(ctx context.Context, s store.Updater, now time.Time, commands ...flows.Command) ([]error, error) {
	var need store.Need
	for _, c := range commands {
		if create, creates := c.Action.(flows.Create); creates {
			need.Flows, need.Creating = append(need.Flows, c.FlowID), append(need.Creating, create.OwnerSessionKey)
			need.Callers = append(need.Callers, c.CallerID)
		} else {
			need.Owned = append(need.Owned, store.OwnedFlow{ID: c.FlowID, Owners: c.Owners})
		}
		need.Await = append(need.Await, c.Awaits()...)
		if run, ok := c.Needs(); ok {
			need.Steps = append(need.Steps, store.StepKey{FlowID: c.FlowID, RunID: run})
		}
	}
	var refusals []error
	err := s.Update(ctx, func(tx store.Tx) error {
		snapshot, err := tx.Load(need)
		if err != nil {
			return err
		}
		refusals = make([]error, len(commands))
		b := newBatch(snapshot)
		for i, c := range commands {
			refusals[i] = b.decide(c, now)
		}
		return tx.Save(b.writes())
	})
	return refusals, err
}

// post offers an external event to the flows that wait for it, at most [store.MatchLimit] of them, and records its fate.
// One that is still delivering is offered again in the same way.
func post(ctx context.Context, s store.Updater, now time.Time, e flows.ExternalEvent) (flows.ExternalEvent, error) {
	match := store.Match{Pair: e.Pair, Owners: e.Owners}
	need := store.Need{Match: []store.Match{match}, Events: []uuid.UUID{e.ID}}
	if e.FlowID != nil {
		need.Owned = append(need.Owned, store.OwnedFlow{ID: *e.FlowID, Owners: e.Owners})
	}
	var settled flows.ExternalEvent
	err := s.Update(ctx, func(tx store.Tx) error {
		snapshot, err := tx.Load(need)
		if err != nil {
			return err
		}
		b := newBatch(snapshot)
		offered, more := snapshot.Waiting[match], snapshot.More[match]
		var target *flows.Flow
		if e.FlowID != nil {
			target, offered, more = snapshot.Flows[*e.FlowID], []uuid.UUID{*e.FlowID}, false
		}
		var resumed []*flows.Flow
		for _, id := range offered {
			if b.decide(flows.Command{Owners: flows.Everyone, FlowID: id, Action: flows.EndByEvent{Event: &e}}, now) == nil {
				resumed = append(resumed, b.flows[id])
			}
		}
		settled = e.Settle(resumed, more && len(resumed) > 0, target, now)
		b.external = append(b.external, &settled)
		return tx.Save(b.writes())
	})
	return settled, err
}

// fire ends waits whose time has come, at most limit of them, and returns the flows that LoadDue gave. now is the time
// Decide is given; nil is the database's.
func fire(ctx context.Context, s store.Updater, now *time.Time, limit int) ([]uuid.UUID, error) {
	var ids []uuid.UUID
	err := s.Update(ctx, func(tx store.Tx) error {
		snapshot, err := tx.LoadDue(limit)
		if err != nil {
			return err
		}
		at := snapshot.Now
		if now != nil {
			at = *now
		}
		b := newBatch(snapshot)
		ids = sortedIDs(snapshot.Flows)
		for _, id := range ids {
			// A refusal takes no part: by another clock than the database's the time may not have come.
			_ = b.decide(flows.Command{Owners: flows.Everyone, FlowID: id, Action: flows.FireDue{Generation: snapshot.Flows[id].Wait.Generation}}, at)
		}
		return tx.Save(b.writes())
	})
	return ids, err
}

func sortedIDs(flows map[uuid.UUID]*flows.Flow) []uuid.UUID {
	return slices.SortedFunc(maps.Keys(flows), func(a, b uuid.UUID) int { return slices.Compare(a[:], b[:]) })
}

// batch works out the net effect of many commands.
type batch struct {
	recorded, flows map[uuid.UUID]*flows.Flow // before the batch, and now
	steps           map[store.StepKey]*flows.Step
	buffered        map[flows.Pair][]*flows.ExternalEvent
	erased          map[uuid.UUID]bool
	changed         map[uuid.UUID]bool
	written         map[store.StepKey]bool
	events          []flows.Event
	external        []*flows.ExternalEvent
	counted         map[string]int64 // open flows of callers, as recorded
	open            map[string]int64 // and how they change
}

func newBatch(s store.Snapshot) *batch {
	b := &batch{
		recorded: s.Flows, flows: maps.Clone(s.Flows), steps: maps.Clone(s.Steps), buffered: maps.Clone(s.Buffered),
		erased: map[uuid.UUID]bool{}, changed: map[uuid.UUID]bool{}, written: map[store.StepKey]bool{},
		counted: s.Open, open: map[string]int64{},
	}
	if b.flows == nil {
		b.flows = map[uuid.UUID]*flows.Flow{}
	}
	return b
}

func (b *batch) decide(c flows.Command, now time.Time) error {
	subject := flows.Subject{Flow: b.flows[c.FlowID], Open: b.counted[c.CallerID] + b.open[c.CallerID]}
	if run, ok := c.Needs(); ok {
		subject.Step = b.steps[store.StepKey{FlowID: c.FlowID, RunID: run}]
	}
	for _, pair := range c.Awaits() {
		subject.Buffered = append(subject.Buffered, b.buffered[pair]...)
	}
	change, err := flows.Decide(subject, c, now)
	if err != nil {
		return err
	}
	if e := change.Consumed; e != nil {
		b.external = append(b.external, e)
		b.buffered[e.Pair] = slices.DeleteFunc(slices.Clone(b.buffered[e.Pair]), func(other *flows.ExternalEvent) bool {
			return other.ID == e.ID
		})
	}
	if change.Erased {
		b.erase(c.FlowID)
		return nil
	}
	b.count(b.flows[c.FlowID], -1)
	b.count(change.Flow, 1)
	b.flows[c.FlowID] = change.Flow
	if change.Created || change.Updated {
		b.changed[c.FlowID] = true
	}
	if change.Step != nil && !change.Stale {
		b.steps[stepKey(change.Step)], b.written[stepKey(change.Step)] = change.Step, true
	}
	b.events = append(b.events, change.Events...)
	return nil
}

// count counts a flow that has not ended for its creator.
func (b *batch) count(f *flows.Flow, n int64) {
	if f != nil && f.CreatedBy != "" && !f.Status.Terminal() {
		b.open[f.CreatedBy] += n
	}
}

// erase forgets everything the batch did to a flow.
func (b *batch) erase(id uuid.UUID) {
	b.erased[id] = b.recorded[id] != nil
	delete(b.flows, id)
	delete(b.changed, id)
	for key := range b.steps {
		if key.FlowID == id {
			delete(b.steps, key)
			delete(b.written, key)
		}
	}
	b.events = slices.DeleteFunc(b.events, func(e flows.Event) bool { return e.FlowID == id })
}

func (b *batch) writes() store.Writes {
	w := store.Writes{Events: b.events, ExternalEvents: b.external, Open: maps.Clone(b.open)}
	maps.DeleteFunc(w.Open, func(_ string, n int64) bool { return n == 0 })
	for id, erased := range b.erased {
		if erased {
			w.Erased = append(w.Erased, id)
		}
	}
	for id := range b.changed {
		f, last := b.flows[id], b.recorded[id]
		if last == nil || b.erased[id] {
			w.Created = append(w.Created, f)
			continue
		}
		w.Updated = append(w.Updated, store.FlowUpdate{Flow: f,
			State: !bytes.Equal(last.State, f.State), Labels: !maps.Equal(last.Labels, f.Labels), Wait: last.Wait != f.Wait,
			Narrow: last.Wait == f.Wait && sameCourse(last, f)})
	}
	for key := range b.written {
		w.Steps = append(w.Steps, b.steps[key])
	}
	return w
}
