package storetest

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"taskflow/internal/flows"
	"taskflow/internal/store"
)

func saveCases() []testCase {
	return []testCase{
		{"StateFlag", "State: State differs.", testStateFlag},
		{"NarrowFlag", "Narrow: only what a caller tells of a flow differs.", testNarrowFlag},
		{"LabelsFlag", "Labels: Labels differ.", testLabelsFlag},
		{"LabelsReplaced", "Labels: Labels differ.", testLabelsReplaced},
		{"Erased", "Erased: with their steps and events.", testErased},
		{"ErasedLabels", "Erased: with their steps and events.", testErasedLabels},
		{"ErasedMissing", "Erased: with their steps and events.", testErasedMissing},
		{"ErasedAndCreated", "One that is in Erased as well is erased first, so that its id can be used again.",
			testErasedAndCreated},
		{"StepInserted", "Steps are inserted.", testStepInserted},
		{"StepReplaced", "Steps replace the recorded step of the same (FlowID, RunID); ID and CreatedAt of a recorded " +
			"step stay as they are.", testStepReplaced},
		{"EventsInOrder", "Events are appended to the trail in this order.", testEventsInOrder},
		{"SeqNotWrittenBack", "The store does not write Seq back.", testSeqNotWrittenBack},
		{"StepEventAlone", "Writes is the net effect of a batch of changes.", testStepEventAlone},
		{"ManyAtOnce", "Save writes everything in w.", testManyAtOnce},
		{"NothingShared", "fn must not touch anything but the Tx and what it assigns anew on each run.", testNothingShared},
	}
}

func testStateFlag(t *testing.T, s store.Store) {
	f := fullFlow(1)
	create(t, s, f)
	next := *f
	next.Revision, next.Goal, next.State = 9, "changed", []byte(`{"not":"written"}`)
	next.Labels = map[string]string{"new": "label"}
	save(t, s, store.Writes{Updated: []store.FlowUpdate{{Flow: &next, Labels: true}}})
	next.State = f.State
	same(t, "State false leaves the state", flowText(readFlow(t, s, f.ID)), flowText(&next))

	next.State = []byte(`[1,2]`)
	save(t, s, store.Writes{Updated: []store.FlowUpdate{{Flow: &next, State: true}}})
	same(t, "State true writes it", flowText(readFlow(t, s, f.ID)), flowText(&next))
}

func testNarrowFlag(t *testing.T, s store.Store) {
	f := fullFlow(1)
	create(t, s, f)
	next := *f
	next.Revision, next.Goal, next.CurrentStep = 9, "another", "changed"
	next.State, next.Labels = []byte(`{"is":"written"}`), map[string]string{"these": "too"}
	next.UpdatedAt = f.UpdatedAt.Add(time.Second)
	other := newFlow(2) // updated with more than that in the same transaction
	create(t, s, other)
	ended := *other
	ended.Status, ended.EndedAt = flows.Cancelled, &next.UpdatedAt
	save(t, s, store.Writes{Updated: []store.FlowUpdate{
		{Flow: &next, State: true, Labels: true, Narrow: true}, {Flow: &ended}}})
	same(t, "narrow", flowText(readFlow(t, s, f.ID)), flowText(&next))
	same(t, "beside it", flowText(readFlow(t, s, other.ID)), flowText(&ended))
	next.Revision, next.Goal = 10, "once more"
	save(t, s, store.Writes{Updated: []store.FlowUpdate{{Flow: &next, Narrow: true}}})
	same(t, "narrow, without state and labels", flowText(readFlow(t, s, f.ID)), flowText(&next))
}

func testLabelsFlag(t *testing.T, s store.Store) {
	f := fullFlow(1)
	create(t, s, f)
	next := *f
	next.Revision, next.CurrentStep, next.State = 9, "changed", []byte(`{"is":"written"}`)
	next.Labels = map[string]string{"not": "written"}
	save(t, s, store.Writes{Updated: []store.FlowUpdate{{Flow: &next, State: true}}})
	next.Labels = f.Labels
	same(t, "Labels false leaves the labels", flowText(readFlow(t, s, f.ID)), flowText(&next))
	expectFlows(t, s, store.FlowQuery{Owners: flows.Everyone, Labels: []store.Label{{Key: "not", Value: "written"}}}, "")
	expectFlows(t, s, store.FlowQuery{Owners: flows.Everyone, Labels: []store.Label{{Key: "env", Value: "prod"}}}, f.Goal)
}

func testLabelsReplaced(t *testing.T, s store.Store) {
	f := newFlow(1)
	f.Labels = map[string]string{"stays": "1", "changes": "1", "goes": "1"}
	create(t, s, f)
	next := *f
	next.Labels = map[string]string{"stays": "1", "changes": "2", "comes": "1"}
	save(t, s, store.Writes{Updated: []store.FlowUpdate{{Flow: &next, Labels: true}}})
	same(t, "flow", flowText(readFlow(t, s, f.ID)), flowText(&next))
	for label, found := range map[store.Label]bool{
		{Key: "stays", Value: "1"}: true, {Key: "changes", Value: "2"}: true, {Key: "comes", Value: "1"}: true,
		{Key: "changes", Value: "1"}: false, {Key: "goes", Value: "1"}: false,
	} {
		want := ""
		if found {
			want = f.Goal
		}
		expectFlows(t, s, store.FlowQuery{Owners: flows.Everyone, Labels: []store.Label{label}}, want)
	}
	next.Labels = nil
	save(t, s, store.Writes{Updated: []store.FlowUpdate{{Flow: &next, Labels: true}}})
	same(t, "flow without labels", flowText(readFlow(t, s, f.ID)), flowText(&next))
	expectFlows(t, s, store.FlowQuery{Owners: flows.Everyone, Labels: []store.Label{{Key: "stays", Value: "1"}}}, "")
}

func testErased(t *testing.T, s store.Store) {
	gone, kept := newFlow(1), newFlow(2)
	create(t, s, gone, kept)
	save(t, s, store.Writes{Steps: []*flows.Step{newStep(1, 1, "r"), newStep(2, 2, "r")}})
	save(t, s, store.Writes{Erased: needOf(store.Writes{Created: []*flows.Flow{gone}}).Flows})

	ctx := t.Context()
	_, errFlow := s.Flow(ctx, gone.ID, flows.Everyone)
	_, errStep := s.Step(ctx, store.StepKey{FlowID: gone.ID, RunID: "r"}, flows.Everyone)
	_, errSteps := s.Steps(ctx, store.StepQuery{Owners: flows.Everyone, FlowID: gone.ID, Limit: 5})
	_, errTrail := s.Events(ctx, store.EventQuery{Owners: flows.Everyone, FlowID: gone.ID, FromFlow: true, Limit: 5})
	for what, err := range map[string]error{"Flow": errFlow, "Step": errStep, "Steps": errSteps, "Events": errTrail} {
		if !errors.Is(err, flows.ErrNotFound) {
			t.Errorf("%s of the erased flow: %v, want ErrNotFound", what, err)
		}
	}
	events, err := allEvents(ctx, s, store.EventQuery{Owners: flows.Everyone, Limit: 10})
	if err != nil {
		t.Fatal(err)
	}
	same(t, "what remains of the trail", eventsText(events), eventsText([]flows.Event{createdEvent(kept)}))
	if _, err := s.Step(ctx, store.StepKey{FlowID: kept.ID, RunID: "r"}, flows.Everyone); err != nil {
		t.Errorf("the other flow's step: %v", err)
	}
	expectFlows(t, s, store.FlowQuery{Owners: flows.Everyone}, kept.Goal)
}

func testErasedLabels(t *testing.T, s store.Store) {
	f := newFlow(1)
	f.Labels = map[string]string{"env": "prod"}
	create(t, s, f)
	save(t, s, store.Writes{Erased: needOf(store.Writes{Created: []*flows.Flow{f}}).Flows})
	label := []store.Label{{Key: "env", Value: "prod"}}
	expectFlows(t, s, store.FlowQuery{Owners: flows.Everyone, Labels: label}, "")
	f.Labels = nil
	create(t, s, f)
	expectFlows(t, s, store.FlowQuery{Owners: flows.Everyone, Labels: label}, "")
	same(t, "the new flow", flowText(readFlow(t, s, f.ID)), flowText(f))
}

func testErasedMissing(t *testing.T, s store.Store) {
	create(t, s, newFlow(1))
	save(t, s, store.Writes{Erased: needOf(store.Writes{Created: []*flows.Flow{newFlow(2)}}).Flows})
	expectFlows(t, s, store.FlowQuery{Owners: flows.Everyone}, "goal 1")
}

func testErasedAndCreated(t *testing.T, s store.Store) {
	old := fullFlow(1)
	save(t, s, store.Writes{Created: []*flows.Flow{old}, Steps: []*flows.Step{fullStep(1, 1), newStep(1, 2, "old")},
		Events: []flows.Event{createdEvent(old)}})
	next := newFlow(1)
	next.Goal, next.CreatedAt, next.UpdatedAt = "a second life", at(50), at(50)
	next.Labels = map[string]string{"life": "second"}
	step := newStep(1, 3, fullStep(1, 1).RunID)
	step.Task = "of the second life"
	save(t, s, store.Writes{Erased: needOf(store.Writes{Created: []*flows.Flow{old}}).Flows,
		Created: []*flows.Flow{next}, Steps: []*flows.Step{step}, Events: []flows.Event{createdEvent(next)}})

	same(t, "flow", flowText(readFlow(t, s, old.ID)), flowText(next))
	same(t, "trail", eventsText(trail(t, s, old.ID)), eventsText([]flows.Event{createdEvent(next)}))
	steps, err := allSteps(t.Context(), s, store.StepQuery{Owners: flows.Everyone, FlowID: old.ID, Limit: 10})
	if err != nil {
		t.Fatal(err)
	}
	same(t, "steps", stepsText(steps), stepsText([]*flows.Step{step}))
	expectFlows(t, s, store.FlowQuery{Owners: flows.Everyone, Labels: []store.Label{{Key: "env", Value: "prod"}}}, "")
	expectFlows(t, s, store.FlowQuery{Owners: flows.Everyone, Labels: []store.Label{{Key: "life", Value: "second"}}}, next.Goal)
}

func testStepInserted(t *testing.T, s store.Store) {
	step := fullStep(1, 1)
	save(t, s, store.Writes{Created: []*flows.Flow{newFlow(1)}, Steps: []*flows.Step{step}})
	got, err := s.Step(t.Context(), stepKey(step), flows.Everyone)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "step", stepText(got), stepText(step))
	for _, key := range []store.StepKey{{FlowID: flowID(1), RunID: "other"}, {FlowID: flowID(2), RunID: step.RunID}} {
		if _, err := s.Step(t.Context(), key, flows.Everyone); !errors.Is(err, flows.ErrNotFound) {
			t.Errorf("Step(%v): %v, want ErrNotFound", key, err)
		}
	}
}

func testStepReplaced(t *testing.T, s store.Store) {
	first := newStep(1, 1, "r")
	save(t, s, store.Writes{Created: []*flows.Flow{newFlow(1)}, Steps: []*flows.Step{first, newStep(1, 2, "R")}})
	second := fullStep(1, 7)
	second.RunID, second.CreatedAt = "r", at(70)
	save(t, s, store.Writes{Steps: []*flows.Step{second}})
	want := *second
	want.ID, want.CreatedAt = first.ID, first.CreatedAt
	got, err := s.Step(t.Context(), stepKey(first), flows.Everyone)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "replaced", stepText(got), stepText(&want))

	third := newStep(1, 8, "r") // fields go back to null
	save(t, s, store.Writes{Steps: []*flows.Step{third}})
	third.ID, third.CreatedAt = first.ID, first.CreatedAt
	list, err := allSteps(t.Context(), s, store.StepQuery{Owners: flows.Everyone, FlowID: flowID(1), Limit: 10})
	if err != nil {
		t.Fatal(err)
	}
	same(t, "all steps", stepsText(list), stepsText([]*flows.Step{third, newStep(1, 2, "R")}))
}

func testEventsInOrder(t *testing.T, s store.Store) {
	w := store.Writes{Created: []*flows.Flow{newFlow(1), newFlow(2)}}
	for i := range 50 { // times run backwards: the order of the list counts, not that of the times
		w.Events = append(w.Events, flows.Event{FlowID: flowID(1 + i%2), Revision: int64(i / 2),
			Kind: flows.EventKinds[i%len(flows.EventKinds)], Payload: fmt.Appendf(nil, `{"n":%d}`, i), Actor: "tester",
			At: at(-i), Traceparent: []string{"", tracedBy}[i%2]})
	}
	save(t, s, w)
	got, err := allEvents(t.Context(), s, store.EventQuery{Owners: flows.Everyone, Limit: 7})
	if err != nil {
		t.Fatal(err)
	}
	same(t, "trail", eventsText(got), eventsText(w.Events))
	same(t, "feed", eventsText(unfed(tail(t, s, 7))), eventsText(w.Events))
	for i := 1; i < len(got); i++ {
		if got[i].Seq <= got[i-1].Seq {
			t.Errorf("seq %d comes after %d", got[i].Seq, got[i-1].Seq)
		}
	}
	if len(got) > 0 && got[0].Seq < 1 {
		t.Errorf("the first seq is %d", got[0].Seq)
	}
}

func testSeqNotWrittenBack(t *testing.T, s store.Store) {
	w := store.Writes{Created: []*flows.Flow{newFlow(1)}, Events: []flows.Event{createdEvent(newFlow(1))}}
	save(t, s, w)
	if w.Events[0].Seq != 0 {
		t.Errorf("Seq is %d", w.Events[0].Seq)
	}
}

// testStepEventAlone saves a step that was observed again: its flow is not written, the step and the event are.
func testStepEventAlone(t *testing.T, s store.Store) {
	create(t, s, newFlow(1))
	step := newStep(1, 1, "r")
	event := flows.Event{FlowID: flowID(1), Kind: flows.EventStepObserved, Payload: []byte(`{"run_id":"r"}`),
		Actor: "tester", At: at(5)}
	save(t, s, store.Writes{Steps: []*flows.Step{step}, Events: []flows.Event{event}})
	same(t, "flow", flowText(readFlow(t, s, flowID(1))), flowText(newFlow(1)))
	same(t, "trail", eventsText(trail(t, s, flowID(1))), eventsText([]flows.Event{createdEvent(newFlow(1)), event}))
}

// testManyAtOnce saves a large batch of everything at once.
func testManyAtOnce(t *testing.T, s store.Store) {
	const n = 500
	w := store.Writes{}
	for i := range n {
		f := newFlow(i)
		f.Labels = map[string]string{"n": fmt.Sprint(i % 3), "all": "yes"}
		w.Created = append(w.Created, f)
		w.Events = append(w.Events, createdEvent(f))
		w.Steps = append(w.Steps, newStep(i, i, "r"))
		w.Answers = append(w.Answers, newAnswer(i, fmt.Sprint("answer ", i)))
	}
	save(t, s, w)
	second := store.Writes{Steps: w.Steps, Answers: w.Answers}
	for _, f := range w.Created {
		next, event := touch(f, `{"touched":true}`)
		next.Labels = map[string]string{"all": "still"}
		second.Updated = append(second.Updated, store.FlowUpdate{Flow: next, State: true, Labels: true})
		second.Events = append(second.Events, event)
	}
	save(t, s, second)

	got, err := allFlows(t.Context(), s, store.FlowQuery{Owners: flows.Everyone, Order: store.CreatedAsc, Limit: 500,
		Labels: []store.Label{{Key: "all", Value: "still"}}})
	if err != nil {
		t.Fatal(err)
	}
	want := make([]*flows.Flow, n)
	for i, u := range second.Updated {
		want[i] = u.Flow
	}
	same(t, "flows", flowsText(got), flowsText(want))
	snapshot := load(t, s, needOf(second))
	if len(snapshot.Flows) != n || len(snapshot.Steps) != n || len(snapshot.Answers) != n {
		t.Errorf("loaded %d flows, %d steps, %d answers", len(snapshot.Flows), len(snapshot.Steps), len(snapshot.Answers))
	}
	save(t, s, store.Writes{Erased: needOf(w).Flows})
	expectFlows(t, s, store.FlowQuery{Owners: flows.Everyone}, "")
}

// testNothingShared alters what it gave to the store and what it got from it.
func testNothingShared(t *testing.T, s store.Store) {
	f := fullFlow(1)
	create(t, s, f)
	got := readFlow(t, s, f.ID)
	got.State[0], f.State[0] = '!', '!'
	got.Labels["env"], f.Labels["env"] = "altered", "altered"
	same(t, "flow", flowText(readFlow(t, s, f.ID)), flowText(fullFlow(1)))
}
