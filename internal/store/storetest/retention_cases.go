package storetest

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"taskflow/internal/flows"
	"taskflow/internal/store"
)

func retentionCases() []testCase {
	return []testCase{
		{"Prune", "Prune erases at most limit flows that ended before the given time, with their steps and events, oldest end " +
			"first, and returns how many it erased.", testPrune},
		{"PruneRows", "Prune erases flows with their steps and events.", testPruneRows},
		{"CountEnded", "CountEnded counts the flows that ended before the given time.", testCountEnded},
	}
}

func keyCases() []testCase {
	return []testCase{
		{"OldestFirst", "CallbackKeys reads every key, oldest first.", testCallbackKeys},
		{"OnlyFirst", "With onlyFirst it does so only where there is none yet.", testOnlyFirst},
		{"OnlyFirstRace", "Also when several servers try at once.", testOnlyFirstRace},
	}
}

// endedAt is a flow that ended at a time, with an event, a step and a label.
func endedAt(n, seconds int, status flows.Status) *flows.Flow {
	f := newFlow(n)
	f.Status, f.EndedAt, f.UpdatedAt = status, pointer(at(seconds)), at(seconds)
	f.Labels = map[string]string{"env": "prod"}
	return f
}

// pruneFlows makes flows that ended at 10, 20, ... 50 seconds, in another order than that of ids and creation, and three
// that have not.
func pruneFlows(t *testing.T, s store.Store) {
	t.Helper()
	for i, n := range []int{3, 1, 5, 2, 4} {
		status := []flows.Status{flows.Finished, flows.Failed, flows.Cancelled}[i%3]
		f := endedAt(n, 10*(i+1), status)
		save(t, s, store.Writes{Created: []*flows.Flow{f}, Steps: []*flows.Step{newStep(n, n, "r")},
			Events: []flows.Event{createdEvent(f)}})
	}
	create(t, s, newFlow(6), waiting(7, timer(at(1)), awaited("t", "c")))
	running := newFlow(8)
	running.Status = flows.Running
	create(t, s, running)
}

func prune(t *testing.T, s store.Store, before time.Time, limit, want int) {
	t.Helper()
	if n, err := s.Prune(t.Context(), before, limit); n != want || err != nil {
		t.Errorf("Prune(%s, %d) = %d, %v; want %d", before, limit, n, err, want)
	}
}

func testPrune(t *testing.T, s store.Store) {
	prune(t, s, farAway, 10, 0)
	pruneFlows(t, s)
	prune(t, s, at(10), 10, 0)
	prune(t, s, at(10).Add(time.Microsecond), 10, 1)
	expectFlows(t, s, store.FlowQuery{Owners: flows.Everyone}, "goal 1 | goal 2 | goal 4 | goal 5 | goal 6 | goal 7 | goal 8")
	prune(t, s, farAway, 2, 2)
	expectFlows(t, s, store.FlowQuery{Owners: flows.Everyone}, "goal 2 | goal 4 | goal 6 | goal 7 | goal 8")
	prune(t, s, at(50), 2, 1)
	prune(t, s, at(50), 2, 0)
	prune(t, s, farAway, 2, 1)
	prune(t, s, farAway, 2, 0)
	expectFlows(t, s, store.FlowQuery{Owners: flows.Everyone}, "goal 6 | goal 7 | goal 8")
	expectWaiting(t, s, pair("t", "c"), false, 7)
	expectDue(t, s, 10, waiting(7, timer(at(1)), awaited("t", "c")))
}

// testPruneRows looks for whatever may be left of a flow, and uses its id again.
func testPruneRows(t *testing.T, s store.Store) {
	pruneFlows(t, s)
	prune(t, s, at(50), 100, 4)
	left, err := allEvents(t.Context(), s, store.EventQuery{Owners: flows.Everyone, Limit: 3})
	if err != nil || len(left) != 4 {
		t.Errorf("%d events are left, %v; want those of the four flows:\n%s", len(left), err, eventsText(left))
	}
	for n := range 9 {
		_, err := s.Step(t.Context(), store.StepKey{FlowID: flowID(n), RunID: "r"}, flows.Everyone)
		if gone := errors.Is(err, flows.ErrNotFound); gone != (n != 4) {
			t.Errorf("the step of flow %d: %v", n, err)
		}
	}
	expectFlows(t, s, store.FlowQuery{Owners: flows.Everyone, Labels: []store.Label{{Key: "env", Value: "prod"}}}, "goal 4")
	create(t, s, newFlow(3))
	same(t, "the new flow", flowText(readFlow(t, s, flowID(3))), flowText(newFlow(3)))
	same(t, "its trail", eventsText(trail(t, s, flowID(3))), eventsText([]flows.Event{createdEvent(newFlow(3))}))
	expectFlows(t, s, store.FlowQuery{Owners: flows.Everyone, Labels: []store.Label{{Key: "env", Value: "prod"}}}, "goal 4")
}

func testCountEnded(t *testing.T, s store.Store) {
	expect := func(before time.Time, want int64) {
		t.Helper()
		if n, err := s.CountEnded(t.Context(), before); n != want || err != nil {
			t.Errorf("CountEnded(%s) = %d, %v; want %d", before, n, err, want)
		}
	}
	expect(farAway, 0)
	pruneFlows(t, s)
	expect(at(10), 0)
	expect(at(10).Add(time.Microsecond), 1)
	expect(at(50), 4)
	expect(farAway, 5)
	prune(t, s, at(30), 10, 2)
	expect(farAway, 3)
}

func callbackKey(n, created int) store.CallbackKey {
	secret := make([]byte, 32)
	for i := range secret {
		secret[i] = byte(i * n)
	}
	return store.CallbackKey{ID: fmt.Sprintf("key-_%03d", n), Secret: secret, CreatedAt: at(created)}
}

func keysText(list []store.CallbackKey) string {
	return lines(list, func(k store.CallbackKey) string {
		return fmt.Sprintf("%s %x %s", k.ID, k.Secret, timeText(k.CreatedAt))
	})
}

func expectKeys(t *testing.T, s store.Store, want ...store.CallbackKey) {
	t.Helper()
	got, err := s.CallbackKeys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	same(t, "keys", keysText(got), keysText(want))
}

func addKey(t *testing.T, s store.Store, key store.CallbackKey, onlyFirst bool) {
	t.Helper()
	if err := s.AddCallbackKey(t.Context(), key, onlyFirst); err != nil {
		t.Fatalf("AddCallbackKey(%s, %v): %v", key.ID, onlyFirst, err)
	}
}

func testCallbackKeys(t *testing.T, s store.Store) {
	expectKeys(t, s)
	a, b, c := callbackKey(3, 10), callbackKey(200, 5), callbackKey(1, 20)
	addKey(t, s, a, false)
	expectKeys(t, s, a)
	addKey(t, s, b, false)
	addKey(t, s, c, false)
	expectKeys(t, s, b, a, c)
}

func testOnlyFirst(t *testing.T, s store.Store) {
	first := callbackKey(1, 10)
	addKey(t, s, first, true)
	addKey(t, s, callbackKey(2, 5), true)
	addKey(t, s, first, true)
	expectKeys(t, s, first)
	addKey(t, s, callbackKey(3, 20), false)
	addKey(t, s, callbackKey(4, 30), true)
	expectKeys(t, s, first, callbackKey(3, 20))
}

func testOnlyFirstRace(t *testing.T, s store.Store) {
	together(t, 8, func(i int) error { return s.AddCallbackKey(t.Context(), callbackKey(i, i), true) })
	keys, err := s.CallbackKeys(t.Context())
	if err != nil || len(keys) != 1 {
		t.Errorf("%d keys, %v; want one:\n%s", len(keys), err, keysText(keys))
	}
}
