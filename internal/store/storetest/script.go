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
		need.Flows = append(need.Flows, c.FlowID)
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

// batch works out the net effect of many commands.
type batch struct {
	recorded, flows map[uuid.UUID]*flows.Flow // before the batch, and now
	steps           map[store.StepKey]*flows.Step
	erased          map[uuid.UUID]bool
	changed         map[uuid.UUID]bool
	written         map[store.StepKey]bool
	events          []flows.Event
}

func newBatch(s store.Snapshot) *batch {
	return &batch{
		recorded: s.Flows, flows: maps.Clone(s.Flows), steps: maps.Clone(s.Steps),
		erased: map[uuid.UUID]bool{}, changed: map[uuid.UUID]bool{}, written: map[store.StepKey]bool{},
	}
}

func (b *batch) decide(c flows.Command, now time.Time) error {
	subject := flows.Subject{Flow: b.flows[c.FlowID]}
	if run, ok := c.Needs(); ok {
		subject.Step = b.steps[store.StepKey{FlowID: c.FlowID, RunID: run}]
	}
	change, err := flows.Decide(subject, c, now)
	if err != nil {
		return err
	}
	if change.Erased {
		b.erase(c.FlowID)
		return nil
	}
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
	w := store.Writes{Events: b.events}
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
			State: !bytes.Equal(last.State, f.State), Labels: !maps.Equal(last.Labels, f.Labels)})
	}
	for key := range b.written {
		w.Steps = append(w.Steps, b.steps[key])
	}
	return w
}
