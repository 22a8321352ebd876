package storetest

import (
	"context"
	"errors"
	"testing"
	"time"

	"taskflow/internal/flows"
	"taskflow/internal/store"

	"github.com/google/uuid"
)

func updateCases() []testCase {
	return []testCase{
		{"Commits", "Update runs fn in one transaction and commits what it saved.", testCommits},
		{"LoadsOnly", "Save last, and at most once.", testLoadsOnly},
		{"SavesNothing", "Empty reports whether there is nothing to write.", testSavesNothing},
		{"MissingIsMissing", "What does not exist is missing in the Snapshot.", testMissing},
		{"Duplicates", "Duplicates are allowed.", testDuplicateNeeds},
		{"NeedsNothing", "Now is the database's clock.", testNeedsNothing},
		{"ReadsOwnFlows", "Load locks and reads.", testLoadReads},
		{"ErrorRollsBack", "An error from fn rolls back and is returned as it is.", testErrorRollsBack},
		{"PanicRollsBack", "So does a panic, which goes on.", testPanicRollsBack},
		{"RefusedStatement", "When it returns an error other than ErrOutcomeUnknown, nothing was changed.", testRefused},
		{"CancelledBefore", "Errors: ctx's error before the commit was sent.", testCancelledBefore},
		{"CancelledInside", "Errors: ctx's error before the commit was sent.", testCancelledInside},
		{"SeenAfterwards", "A change that was answered is seen by every read that begins afterwards.", testSeenAfterwards},
		{"CancelledReads", "Errors: ctx's error.", testCancelledReads},
		{"SchemaVersion", "SchemaVersion reads the version of the last migration that was applied.", testSchemaVersion},
	}
}

func testCommits(t *testing.T, s store.Store) {
	a, b := newFlow(1), newFlow(2)
	create(t, s, a, b)
	same(t, "first flow", flowText(readFlow(t, s, a.ID)), flowText(a))
	same(t, "second flow", flowText(readFlow(t, s, b.ID)), flowText(b))
	same(t, "its trail", eventsText(trail(t, s, b.ID)), eventsText([]flows.Event{createdEvent(b)}))
}

func testLoadsOnly(t *testing.T, s store.Store) {
	create(t, s, newFlow(1))
	load(t, s, store.Need{Flows: []uuid.UUID{flowID(1)}})
	if err := s.Update(t.Context(), func(store.Tx) error { return nil }); err != nil {
		t.Errorf("Update whose fn does nothing: %v", err)
	}
	same(t, "flow", flowText(readFlow(t, s, flowID(1))), flowText(newFlow(1)))
}

func testSavesNothing(t *testing.T, s store.Store) {
	create(t, s, newFlow(1))
	save(t, s, store.Writes{})
	same(t, "flow", flowText(readFlow(t, s, flowID(1))), flowText(newFlow(1)))
}

func testMissing(t *testing.T, s store.Store) {
	create(t, s, newFlow(1))
	snapshot := load(t, s, store.Need{
		Flows:   []uuid.UUID{flowID(1), flowID(2)},
		Steps:   []store.StepKey{{FlowID: flowID(1), RunID: "r"}, {FlowID: flowID(2), RunID: "r"}},
		Answers: []store.AnswerKey{{1}},
	})
	if len(snapshot.Flows) != 1 || snapshot.Flows[flowID(1)] == nil {
		t.Errorf("flows: %v", snapshot.Flows)
	}
	if len(snapshot.Steps) != 0 || len(snapshot.Answers) != 0 {
		t.Errorf("steps %v, answers %v", snapshot.Steps, snapshot.Answers)
	}
	for _, id := range []uuid.UUID{flowID(2), uuid.Nil} {
		if f, err := s.Flow(t.Context(), id, flows.Everyone); !errors.Is(err, flows.ErrNotFound) {
			t.Errorf("Flow(%s) = %v, %v, want ErrNotFound", id, f, err)
		}
	}
}

func testDuplicateNeeds(t *testing.T, s store.Store) {
	key := store.StepKey{FlowID: flowID(1), RunID: "r"}
	save(t, s, store.Writes{
		Created: []*flows.Flow{newFlow(1)}, Steps: []*flows.Step{newStep(1, 1, "r")},
		Answers: []store.Answer{newAnswer(1, "first")},
	})
	snapshot := load(t, s, store.Need{
		Flows:   []uuid.UUID{flowID(1), flowID(2), flowID(1), flowID(2)},
		Steps:   []store.StepKey{key, key},
		Answers: []store.AnswerKey{answerKey(1), answerKey(2), answerKey(1)},
	})
	if len(snapshot.Flows) != 1 || len(snapshot.Steps) != 1 || len(snapshot.Answers) != 1 {
		t.Errorf("snapshot: %+v", snapshot)
	}
}

func testNeedsNothing(t *testing.T, s store.Store) {
	first := load(t, s, store.Need{}).Now
	second := load(t, s, store.Need{}).Now
	if first.IsZero() || second.Before(first.Add(-trifle)) {
		t.Errorf("Now ran from %s to %s", first, second)
	}
	if second.Location() != time.UTC || second.Nanosecond()%1000 != 0 {
		t.Errorf("Now is %s, want UTC with microseconds", timeText(second))
	}
}

func testLoadReads(t *testing.T, s store.Store) {
	f := fullFlow(1)
	step := fullStep(1, 1)
	save(t, s, store.Writes{Created: []*flows.Flow{f}, Steps: []*flows.Step{step}})
	snapshot := load(t, s, store.Need{Flows: []uuid.UUID{f.ID}, Steps: []store.StepKey{stepKey(step)}})
	if snapshot.Flows[f.ID] == nil || snapshot.Steps[stepKey(step)] == nil {
		t.Fatalf("snapshot: %+v", snapshot)
	}
	same(t, "flow", flowText(snapshot.Flows[f.ID]), flowText(f))
	same(t, "step", stepText(snapshot.Steps[stepKey(step)]), stepText(step))
}

// loadAndSave is an fn that saves a change of flow 1 and a new flow 2, each with an event, a step and an answer.
func loadAndSave(tx store.Tx) error {
	next, event := touch(newFlow(1), `{"touched":true}`)
	w := store.Writes{
		Created: []*flows.Flow{newFlow(2)},
		Updated: []store.FlowUpdate{{Flow: next, State: true}},
		Steps:   []*flows.Step{newStep(1, 1, "r")},
		Events:  []flows.Event{event, createdEvent(newFlow(2))},
		Answers: []store.Answer{newAnswer(1, "answer")},
	}
	if _, err := tx.Load(needOf(w)); err != nil {
		return err
	}
	return tx.Save(w)
}

// unchanged checks that nothing of loadAndSave is there, and that the store goes on working.
func unchanged(t *testing.T, s store.Store) {
	t.Helper()
	same(t, "flow", flowText(readFlow(t, s, flowID(1))), flowText(newFlow(1)))
	same(t, "trail", eventsText(trail(t, s, flowID(1))), eventsText([]flows.Event{createdEvent(newFlow(1))}))
	if _, err := s.Flow(t.Context(), flowID(2), flows.Everyone); !errors.Is(err, flows.ErrNotFound) {
		t.Errorf("the new flow: %v, want ErrNotFound", err)
	}
	if _, err := s.Step(t.Context(), store.StepKey{FlowID: flowID(1), RunID: "r"}, flows.Everyone); !errors.Is(err, flows.ErrNotFound) {
		t.Errorf("the new step: %v, want ErrNotFound", err)
	}
	snapshot := load(t, s, store.Need{Flows: []uuid.UUID{flowID(1), flowID(2)}, Answers: []store.AnswerKey{answerKey(1)}})
	if len(snapshot.Answers) != 0 {
		t.Error("the answer was stored")
	}
	if err := s.Update(t.Context(), loadAndSave); err != nil {
		t.Errorf("the Update after it: %v", err)
	}
}

func testErrorRollsBack(t *testing.T, s store.Store) {
	create(t, s, newFlow(1))
	boom := errors.New("boom")
	err := s.Update(t.Context(), func(tx store.Tx) error {
		if err := loadAndSave(tx); err != nil {
			return err
		}
		return boom
	})
	if err != boom {
		t.Errorf("Update = %v, want fn's error as it is", err)
	}
	if err := s.Update(t.Context(), func(store.Tx) error { return boom }); err != boom {
		t.Errorf("Update whose fn only fails = %v, want fn's error as it is", err)
	}
	unchanged(t, s)
}

func testPanicRollsBack(t *testing.T, s store.Store) {
	create(t, s, newFlow(1))
	stages := map[string]func(store.Tx) error{
		"before Load": func(store.Tx) error { panic("boom") },
		"after Load": func(tx store.Tx) error {
			if _, err := tx.Load(store.Need{Flows: []uuid.UUID{flowID(1)}}); err != nil {
				return err
			}
			panic("boom")
		},
		"after Save": func(tx store.Tx) error {
			if err := loadAndSave(tx); err != nil {
				return err
			}
			panic("boom")
		},
	}
	for stage, fn := range stages {
		func() {
			defer func() {
				if r := recover(); r != "boom" {
					t.Errorf("%s: recovered %v, want what fn threw", stage, r)
				}
			}()
			err := s.Update(t.Context(), fn)
			t.Errorf("%s: Update returned %v", stage, err)
		}()
	}
	unchanged(t, s)
}

// testRefused creates a flow that exists, on every run: the database refuses, and the rest of the batch is not there.
func testRefused(t *testing.T, s store.Store) {
	create(t, s, newFlow(1))
	err := s.Update(t.Context(), func(tx store.Tx) error {
		w := store.Writes{Created: []*flows.Flow{newFlow(2), newFlow(1)}}
		w.Events = []flows.Event{createdEvent(newFlow(2)), createdEvent(newFlow(1))}
		w.Answers = []store.Answer{newAnswer(1, "answer")}
		if _, err := tx.Load(needOf(w)); err != nil {
			return err
		}
		return tx.Save(w)
	})
	if err == nil || errors.Is(err, store.ErrOutcomeUnknown) || errors.Is(err, store.ErrUnavailable) {
		t.Errorf("Update = %v, want the database's refusal", err)
	}
	unchanged(t, s)
}

func testCancelledBefore(t *testing.T, s store.Store) {
	create(t, s, newFlow(1))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Update(ctx, loadAndSave); !errors.Is(err, context.Canceled) {
		t.Errorf("Update = %v, want context.Canceled", err)
	}
	others := map[string]func() error{
		"SweepAnswers":        func() error { _, err := s.SweepAnswers(ctx, farAway, 1); return err },
		"SweepExternalEvents": func() error { _, err := s.SweepExternalEvents(ctx, farAway, 1); return err },
		"Prune":               func() error { _, err := s.Prune(ctx, farAway, 1); return err },
		"AddCallbackKey":      func() error { return s.AddCallbackKey(ctx, callbackKey(1, 1), false) },
	}
	for name, change := range others {
		if err := change(); !errors.Is(err, context.Canceled) {
			t.Errorf("%s = %v, want context.Canceled", name, err)
		}
	}
	expectKeys(t, s)
	unchanged(t, s)
}

func testCancelledInside(t *testing.T, s store.Store) {
	create(t, s, newFlow(1))
	ctx, cancel := context.WithCancel(t.Context())
	err := s.Update(ctx, func(tx store.Tx) error {
		if err := loadAndSave(tx); err != nil {
			return err
		}
		cancel()
		return nil
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Update = %v, want context.Canceled", err)
	}
	unchanged(t, s)
}

// testSeenAfterwards reads more often than a pool has connections.
func testSeenAfterwards(t *testing.T, s store.Store) {
	f := newFlow(1)
	create(t, s, f)
	for range 30 {
		next, event := touch(f, `{"n":1}`)
		save(t, s, store.Writes{Updated: []store.FlowUpdate{{Flow: next, State: true}}, Events: []flows.Event{event}})
		f = next
		if got := readFlow(t, s, f.ID); got.Revision != f.Revision {
			t.Fatalf("read revision %d after %d was answered", got.Revision, f.Revision)
		}
		page, err := s.Flows(t.Context(), store.FlowQuery{Owners: flows.Everyone, Limit: 1})
		if err != nil || len(page.Items) != 1 || page.Items[0].Revision != f.Revision {
			t.Fatalf("list: %s, %v; revision %d was answered", flowsText(page.Items), err, f.Revision)
		}
		if events := trail(t, s, f.ID); events[len(events)-1].Revision != f.Revision {
			t.Fatalf("trail ends with revision %d after %d was answered", events[len(events)-1].Revision, f.Revision)
		}
	}
}

func testCancelledReads(t *testing.T, s store.Store) {
	create(t, s, newFlow(1))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	reads := map[string]func() error{
		"Flow":  func() error { _, err := s.Flow(ctx, flowID(1), flows.Everyone); return err },
		"Flows": func() error { _, err := s.Flows(ctx, store.FlowQuery{Owners: flows.Everyone, Limit: 1}); return err },
		"Step": func() error {
			_, err := s.Step(ctx, store.StepKey{FlowID: flowID(1), RunID: "r"}, flows.Everyone)
			return err
		},
		"Steps": func() error {
			_, err := s.Steps(ctx, store.StepQuery{Owners: flows.Everyone, FlowID: flowID(1), Limit: 1})
			return err
		},
		"Events": func() error {
			_, err := s.Events(ctx, store.EventQuery{Owners: flows.Everyone, FlowID: flowID(1), FromFlow: true, Limit: 1})
			return err
		},
		"ExternalEvent": func() error { _, err := s.ExternalEvent(ctx, stepID(1), flows.Everyone); return err },
		"ExternalEvents": func() error {
			_, err := s.ExternalEvents(ctx, store.ExternalEventQuery{Owners: flows.Everyone, Limit: 1})
			return err
		},
		"Delivering":    func() error { _, err := s.Delivering(ctx, 1); return err },
		"NextDue":       func() error { _, _, _, err := s.NextDue(ctx); return err },
		"CountEnded":    func() error { _, err := s.CountEnded(ctx, farAway); return err },
		"CallbackKeys":  func() error { _, err := s.CallbackKeys(ctx); return err },
		"Stats":         func() error { _, err := s.Stats(ctx, flows.Everyone); return err },
		"SchemaVersion": func() error { _, err := s.SchemaVersion(ctx); return err },
	}
	for name, read := range reads {
		if err := read(); !errors.Is(err, context.Canceled) {
			t.Errorf("%s = %v, want context.Canceled", name, err)
		}
	}
}

func testSchemaVersion(t *testing.T, s store.Store) {
	version, err := s.SchemaVersion(t.Context())
	if err != nil || version < 1 {
		t.Errorf("SchemaVersion = %d, %v", version, err)
	}
}
