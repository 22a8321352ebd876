package storetest

import (
	"fmt"
	"testing"

	"taskflow/internal/flows"
	"taskflow/internal/store"
)

func statsCases() []testCase {
	return []testCase{
		{"Empty", "ByStatus has every status, 0 where there is none; OldestWaiting is nil where none waits.", testStatsEmpty},
		{"Population", "Stats are counts over all flows.", testStatsPopulation},
		{"OldestWaiting", "OldestWaiting is the flow that has waited longest.", testOldestWaiting},
		{"MaxControllers", "Most flows first, then by name; at most MaxControllers.", testMaxControllers},
	}
}

func stats(t *testing.T, s store.Store) store.Stats {
	t.Helper()
	got, err := s.Stats(t.Context(), flows.Everyone)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func statsText(s store.Stats) string {
	text := ""
	for _, status := range flows.Statuses {
		n, has := s.ByStatus[status]
		text += fmt.Sprintf("%s=%d(%v) ", status, n, has)
	}
	for _, c := range s.ByController {
		text += fmt.Sprintf("%q:%d ", c.ControllerID, c.Flows)
	}
	if w := s.OldestWaiting; w != nil {
		text += "oldest " + w.FlowID.String() + " " + timeText(w.Since)
	}
	return text + " next timer " + optional(s.NextTimer, timeText)
}

func testStatsEmpty(t *testing.T, s store.Store) {
	want := store.Stats{ByStatus: map[flows.Status]int64{}}
	for _, status := range flows.Statuses {
		want.ByStatus[status] = 0
	}
	got := stats(t, s)
	same(t, "stats", statsText(got), statsText(want))
	if len(got.ByStatus) != len(flows.Statuses) {
		t.Errorf("ByStatus is %v", got.ByStatus)
	}
}

func testStatsPopulation(t *testing.T, s store.Store) {
	population(t, s)
	want := store.Stats{
		ByStatus: map[flows.Status]int64{flows.Created: 2, flows.Running: 3, flows.Waiting: 3, flows.Finished: 1,
			flows.Failed: 1, flows.Cancelled: 2},
		ByController: []store.ControllerCount{{ControllerID: "c2", Flows: 5}, {ControllerID: "c1", Flows: 4},
			{ControllerID: "c3", Flows: 2}, {ControllerID: "C1", Flows: 1}},
		OldestWaiting: &store.WaitingFlow{FlowID: flowID(2), Since: at(102)},
		NextTimer:     pointer(farAway),
	}
	same(t, "stats", statsText(stats(t, s)), statsText(want))
}

// testOldestWaiting ends the oldest wait, and changes a waiting flow without ending its wait.
func testOldestWaiting(t *testing.T, s store.Store) {
	run := func(now int, n int, actions ...flows.Action) {
		t.Helper()
		for _, action := range actions {
			refusals, err := apply(t.Context(), s, at(now), flows.Command{Owners: flows.Everyone, FlowID: flowID(n), Action: action})
			if err != nil || refusals[0] != nil {
				t.Fatalf("%T: %v, %v", action, err, refusals[0])
			}
		}
	}
	expect := func(n, since int) {
		t.Helper()
		want := &store.WaitingFlow{FlowID: flowID(n), Since: at(since)}
		if got := stats(t, s).OldestWaiting; got == nil || got.FlowID != want.FlowID || !got.Since.Equal(want.Since) {
			t.Errorf("OldestWaiting = %v, want %v", got, want)
		}
	}
	wait := flows.SetWait{Kind: flows.WaitManual}
	for n := range 3 {
		run(n, n, createCommand(flowID(n), "waits").Action, flows.Start{})
	}
	run(10, 2, wait)
	run(20, 0, wait)
	run(30, 1, wait)
	expect(2, 10)
	run(40, 2, flows.UpdateState{Patch: []byte(`{"a":1}`)})
	expect(2, 10)
	run(50, 2, flows.Resume{}, wait)
	expect(0, 20)
	run(60, 0, flows.Cancel{})
	expect(1, 30)
	run(70, 1, flows.Fail{Reason: "no"}, flows.Erase{})
	expect(2, 50)
	run(80, 2, flows.Resume{})
	if got := stats(t, s).OldestWaiting; got != nil {
		t.Errorf("OldestWaiting = %v, and none waits", got)
	}
}

func testMaxControllers(t *testing.T, s store.Store) {
	const n = store.MaxControllers + 20
	name := func(i int) string { return fmt.Sprintf("%c%03d", "cC"[i%2], i) }
	fill(t, s, 2*n, func(i int, f *flows.Flow) {
		f.ControllerID = name(i % n)
		if i >= n && i%n >= 10 { // the second flow of the first ten controllers only
			f.ControllerID = "most"
		}
	})
	got := stats(t, s).ByController
	if len(got) != store.MaxControllers || got[0] != (store.ControllerCount{ControllerID: "most", Flows: n - 10}) {
		t.Fatalf("%d controllers, beginning with %v", len(got), got[0])
	}
	for i := 1; i < len(got); i++ {
		a, b := got[i-1], got[i]
		if a.Flows < b.Flows || a.Flows == b.Flows && a.ControllerID >= b.ControllerID {
			t.Errorf("%v comes before %v", a, b)
		}
	}
	if got[1] != (store.ControllerCount{ControllerID: "C001", Flows: 2}) {
		t.Errorf("the second is %v", got[1])
	}
}
