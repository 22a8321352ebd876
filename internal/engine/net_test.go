package engine_test

import (
	"encoding/json"
	"slices"
	"testing"

	"taskflow/internal/engine"
	"taskflow/internal/flows"
	"taskflow/internal/store"

	"github.com/google/uuid"
)

// all applies commands in one commit, each of which is accepted, and returns what was written.
func (r *rig) all(commands ...engine.Command) store.Writes {
	r.Helper()
	before := r.faulty.Updates()
	outcomes, _, err := r.engine.ApplyAll(r.Context(), commands, nil)
	if err != nil {
		r.Fatal(err)
	}
	for i, o := range outcomes {
		if o.Err != nil {
			r.Fatalf("command %d, %T: %v", i, commands[i].Action, o.Err)
		}
	}
	r.wantUpdates(before, 1)
	return r.spy.last()
}

// life is a whole life of a flow, from created to erased.
func life(id uuid.UUID) []engine.Command {
	return []engine.Command{
		create(id), command(id, flows.Start{}), command(id, flows.SetWait{Kind: flows.WaitManual}),
		command(id, flows.Resume{Patch: json.RawMessage(`{"a":1}`)}), observe(id, "run", flows.StepSucceeded),
		command(id, flows.Finish{}), command(id, flows.Erase{}),
	}
}

func kinds(events []flows.Event) []flows.EventKind {
	var list []flows.EventKind
	for _, e := range events {
		list = append(list, e.Kind)
	}
	return list
}

func (r *rig) wantWrites(w store.Writes, erased, created, updated, steps int, events ...flows.EventKind) {
	r.Helper()
	if len(w.Erased) != erased || len(w.Created) != created || len(w.Updated) != updated || len(w.Steps) != steps {
		r.Errorf("%d erased, %d created, %d updated, %d steps; want %d, %d, %d, %d",
			len(w.Erased), len(w.Created), len(w.Updated), len(w.Steps), erased, created, updated, steps)
	}
	if got := kinds(w.Events); !slices.Equal(got, events) {
		r.Errorf("events %v, want %v", got, events)
	}
}

func TestLifeInOneBatchLeavesNothing(t *testing.T) {
	bubble(t, engine.Options{}, func(r *rig) {
		id := uuid.New()
		r.wantWrites(r.all(life(id)...), 0, 0, 0, 0)
		r.missing(id)
	})
}

func TestIDOfAnErasedFlowIsUsedAgain(t *testing.T) {
	bubble(t, engine.Options{}, func(r *rig) {
		id := uuid.New()
		anew := append(life(id), create(id), observe(id, "run", flows.StepRunning))
		r.wantWrites(r.all(anew...), 0, 1, 0, 1, flows.EventCreated, flows.EventStepObserved)
		if f := r.flow(id); f.Revision != 0 || f.StepsTotal != 1 || f.StepsActive != 1 || string(f.State) != "{}" {
			r.Errorf("the second life begins as %+v", f)
		}

		// The same with a flow that is recorded, its step too.
		end := []engine.Command{command(id, flows.Cancel{}), command(id, flows.Erase{})}
		w := r.all(append(append(end, life(id)...), create(id), command(id, flows.Start{}))...)
		r.wantWrites(w, 1, 1, 0, 0, flows.EventCreated, flows.EventStarted)
		if f := r.flow(id); f.Revision != 1 || f.StepsTotal != 0 || len(r.trail(id)) != 2 {
			r.Errorf("the third life begins as %+v, with %d events", f, len(r.trail(id)))
		}

		// A recorded flow that ends and goes, last.
		w = r.all(append(append(end, life(id)...), create(uuid.New()))...)
		r.wantWrites(w, 1, 1, 0, 0, flows.EventCreated)
		r.missing(id)
	})
}

func TestErasureSparesOtherFlowsOfItsBatch(t *testing.T) {
	bubble(t, engine.Options{}, func(r *rig) {
		gone, stays := uuid.New(), uuid.New()
		commands := []engine.Command{create(stays), observe(stays, "run", flows.StepRunning)}
		commands = append(commands, life(gone)...)
		r.wantWrites(r.all(append(commands, command(stays, flows.Start{}))...), 0, 1, 0, 1,
			flows.EventCreated, flows.EventStepObserved, flows.EventStarted)
		r.missing(gone)
		if len(r.trail(stays)) != 3 || r.flow(stays).StepsTotal != 1 {
			r.Errorf("the other has %d events, %+v", len(r.trail(stays)), r.flow(stays))
		}
	})
}

func TestStepOfAnErasedFlowIsNotSeenByItsSuccessor(t *testing.T) {
	bubble(t, engine.Options{}, func(r *rig) {
		id := r.created(1)[0]
		first := r.must(observe(id, "run", flows.StepRunning))
		commands := []engine.Command{command(id, flows.Cancel{}), command(id, flows.Erase{}), create(id), observe(id, "run", flows.StepPending)}
		outcomes, _, err := r.engine.ApplyAll(r.Context(), commands, nil)
		if err != nil {
			r.Fatal(err)
		}
		if o := outcomes[3]; o.Err != nil || !o.StepCreated || o.Step.ID == first.Step.ID || o.Flow.StepsTotal != 1 {
			r.Errorf("observed as %+v", o)
		}
		step, err := r.faulty.Step(r.Context(), store.StepKey{FlowID: id, RunID: "run"}, flows.Everyone)
		if err != nil || step.ID != outcomes[3].Step.ID || step.Status != flows.StepPending {
			r.Errorf("recorded as %+v, %v", step, err)
		}
	})
}

func TestStepsOfABatch(t *testing.T) {
	bubble(t, engine.Options{}, func(r *rig) {
		id := r.created(1)[0]
		observed := flows.EventStepObserved
		w := r.all(observe(id, "run", flows.StepPending), observe(id, "run", flows.StepRunning), observe(id, "other", flows.StepFailed))
		r.wantWrites(w, 0, 0, 1, 2, observed, observed, observed)
		if f := r.flow(id); f.StepsTotal != 2 || f.StepsActive != 1 || f.Revision != 0 {
			r.Errorf("counted %+v", f)
		}
		// Neither counter changes, so the flow's row stays as it is.
		r.wantWrites(r.all(observe(id, "run", flows.StepPending)), 0, 0, 0, 1, observed)

		long := r.flow(id).CreatedAt.Add(-1)
		late := observe(id, "run", flows.StepSucceeded)
		action := late.Action.(flows.ObserveStep)
		action.ObservedAt = &long
		late.Action = action
		if result := r.must(late); !result.Stale || result.Step.Status != flows.StepPending {
			r.Errorf("a stale observation: %+v", result)
		}
		r.wantWrites(r.spy.last(), 0, 0, 0, 0)

		// The drain: the last active step ends, and the flow with it, all in one batch.
		w = r.all(command(id, flows.Start{}), command(id, flows.RequestCancel{}), observe(id, "run", flows.StepSucceeded))
		r.wantWrites(w, 0, 0, 1, 1, flows.EventStarted, flows.EventCancelRequested, observed, flows.EventCancelled)
		if f := r.flow(id); f.Status != flows.Cancelled || f.Revision != 3 || f.StepsActive != 0 {
			r.Errorf("drained to %+v", f)
		}
	})
}

func TestUpdateSaysWhatChanged(t *testing.T) {
	value, other := "v", "w"
	label := func(l map[string]*string) flows.Action { return flows.UpdateState{Labels: l} }
	merge := func(text string) flows.Action { return flows.UpdateState{Patch: json.RawMessage(text)} }
	set := label(map[string]*string{"env": &other})
	for _, c := range []struct {
		name          string
		actions       []flows.Action
		state, labels bool
	}{
		{"a move", []flows.Action{flows.Start{}}, false, false},
		{"several moves", []flows.Action{flows.Start{}, flows.Finish{}}, false, false},
		{"a patch", []flows.Action{merge(`{"b":1}`)}, true, false},
		{"a patch, then a move", []flows.Action{merge(`{"b":1}`), flows.Start{}}, true, false},
		{"a move with a patch", []flows.Action{flows.Start{}, flows.Finish{FinalState: json.RawMessage(`7`)}}, true, false},
		{"a failure", []flows.Action{flows.Start{}, flows.Fail{Reason: "no"}}, true, false},
		{"an empty patch", []flows.Action{merge(`{}`)}, false, false},
		{"a null", []flows.Action{merge(`null`)}, true, false},
		{"another state of the same length", []flows.Action{merge(`{"a":2}`)}, true, false},
		{"a label", []flows.Action{set}, false, true},
		{"a label as it was", []flows.Action{label(map[string]*string{"env": &value})}, false, false},
		{"a label removed", []flows.Action{label(map[string]*string{"env": nil})}, false, true},
		{"a label there and back", []flows.Action{set, label(map[string]*string{"env": &value})}, false, false},
		{"both", []flows.Action{set, merge(`{"b":1}`)}, true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, engine.Options{}, func(r *rig) {
				id := uuid.New()
				born := create(id)
				action := born.Action.(flows.Create)
				action.State, action.Labels = json.RawMessage(`{"a":1}`), map[string]string{"env": value}
				born.Action = action
				r.must(born)
				var commands []engine.Command
				for _, a := range c.actions {
					commands = append(commands, command(id, a))
				}
				w := r.all(commands...)
				if len(w.Updated) != 1 || w.Updated[0].State != c.state || w.Updated[0].Labels != c.labels {
					r.Errorf("updates %+v, want one with state %v, labels %v", w.Updated, c.state, c.labels)
				}
				f := r.flow(id)
				if got := w.Updated[0].Flow; f.Revision != got.Revision || string(f.State) != string(got.State) || f.Labels["env"] != got.Labels["env"] {
					r.Errorf("recorded %+v, want %+v", f, got)
				}
			})
		})
	}
}
