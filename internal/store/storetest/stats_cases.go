package storetest

import (
	"fmt"
	"testing"
	"time"

	"taskflow/internal/flows"
	"taskflow/internal/store"
)

func statsCases() []testCase {
	return []testCase{
		{"Empty", "ByStatus has every status, 0 where there is none; the lists are empty.", testStatsEmpty},
		{"Population", "Stats are counts over all flows.", testStatsPopulation},
		{"WaitingLongest", "WaitingLongest: with when the wait began; the earliest first.", testWaitingLongest},
		{"DueNext", "DueNext: whose wait ends by the clock, with when; the earliest first.", testDueNext},
		{"Timed", "The earliest first, then by id; at most MaxTimed, of those that are covered.", testTimed},
		{"MaxControllers", "Most flows first, then by name; at most MaxControllers.", testMaxControllers},
		{"Failed", "FailedByController counts failed flows, most first, then by name, of those that are covered.", testFailed},
		{"ManyFailed", "Of the newest, by creation, at most Examined; at most MaxControllers.", testManyFailed},
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
	text += controllersText(s.ByController) + "failed " + controllersText(s.FailedByController)
	return text + "due " + timedText(s.DueNext) + "waiting " + timedText(s.WaitingLongest)
}

func controllersText(list []store.ControllerCount) (text string) {
	for _, c := range list {
		text += fmt.Sprintf("%q:%d ", c.ControllerID, c.Flows)
	}
	return text
}

func timedText(list []store.TimedFlow) (text string) {
	for _, f := range list {
		text += fmt.Sprintf("%s %q %q %s ", f.FlowID, f.ControllerID, f.Goal, timeText(f.At))
	}
	return text
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
		FailedByController: []store.ControllerCount{{ControllerID: "C1", Flows: 1}},
		DueNext: []store.TimedFlow{{FlowID: flowID(11), ControllerID: "c2", Goal: "l observed", At: farAway},
			{FlowID: flowID(8), ControllerID: "c1", Goal: "i observe 100", At: farAway}},
		WaitingLongest: []store.TimedFlow{{FlowID: flowID(2), ControllerID: "c2", Goal: "c SORT mail", At: at(102)},
			{FlowID: flowID(8), ControllerID: "c1", Goal: "i observe 100", At: at(111)},
			{FlowID: flowID(11), ControllerID: "c2", Goal: "l observed", At: at(117)}},
	}
	same(t, "stats", statsText(stats(t, s)), statsText(want))
}

// testWaitingLongest ends waits, and changes a waiting flow without ending its wait.
func testWaitingLongest(t *testing.T, s store.Store) {
	run := func(now int, n int, actions ...flows.Action) {
		t.Helper()
		for _, action := range actions {
			refusals, err := apply(t.Context(), s, at(now), flows.Command{Owners: flows.Everyone, FlowID: flowID(n), Action: action})
			if err != nil || refusals[0] != nil {
				t.Fatalf("%T: %v, %v", action, err, refusals[0])
			}
		}
	}
	expect := func(want ...int) { // flow, since, flow, since
		t.Helper()
		var list []store.TimedFlow
		for i := 0; i < len(want); i += 2 {
			list = append(list, store.TimedFlow{FlowID: flowID(want[i]), ControllerID: "kate/inbox", Goal: "waits", At: at(want[i+1])})
		}
		same(t, "WaitingLongest", timedText(stats(t, s).WaitingLongest), timedText(list))
	}
	wait := flows.SetWait{Kind: flows.WaitManual}
	for n := range 3 {
		run(n, n, createCommand(flowID(n), "waits").Action, flows.Start{})
	}
	run(10, 2, wait)
	run(20, 0, wait)
	run(30, 1, wait)
	expect(2, 10, 0, 20, 1, 30)
	run(40, 2, flows.UpdateState{Patch: []byte(`{"a":1}`)})
	expect(2, 10, 0, 20, 1, 30)
	run(50, 2, flows.Resume{}, wait)
	expect(0, 20, 1, 30, 2, 50)
	run(60, 0, flows.Cancel{})
	expect(1, 30, 2, 50)
	run(70, 1, flows.Fail{Reason: "no"}, flows.Erase{})
	expect(2, 50)
	run(80, 2, flows.Resume{})
	expect()
}

func testDueNext(t *testing.T, s store.Store) {
	expect := func(want ...store.TimedFlow) {
		t.Helper()
		for i := range want {
			want[i].ControllerID = "kate/inbox"
		}
		same(t, "DueNext", timedText(stats(t, s).DueNext), timedText(want))
	}
	expect()
	create(t, s, waiting(1, awaited("t", "c")), waiting(2, flows.Condition{Kind: flows.WaitManual}))
	expect()
	create(t, s, waiting(3, timer(farAway)))
	far := store.TimedFlow{FlowID: flowID(3), Goal: "goal 3", At: farAway}
	expect(far)
	create(t, s, waiting(4, timer(at(9)), timer(farAway))) // one that is due and has not been ended yet counts
	expect(store.TimedFlow{FlowID: flowID(4), Goal: "goal 4", At: at(9)}, far)
	if _, err := fire(t.Context(), s, nil, 10); err != nil {
		t.Fatal(err)
	}
	expect(far)
}

// testTimed has two owners whose flows wait in turn, in pairs with one time. Ids fall as numbers rise.
func testTimed(t *testing.T, s store.Store) {
	const n = 4 * store.MaxTimed
	var list []*flows.Flow
	for i := range n {
		f := waiting(n-i, timer(farAway.Add(time.Duration(i/4)*time.Second)))
		f.OwnerSessionKey = []string{"agent:a", "agent:b"}[i%2]
		f.Wait.Since = at(i / 4)
		list = append(list, f)
	}
	create(t, s, list...)
	for owners, step := range map[flows.Owners]int{flows.Everyone: 1, "agent:*": 1, "agent:a": 2, "agent:a*": 2, "agent:c": n} {
		got, err := s.Stats(t.Context(), owners)
		if err != nil {
			t.Fatal(err)
		}
		var due, since []store.TimedFlow
		for i := 0; i < n && step < n && len(due) < store.MaxTimed; i += step {
			f := list[i]
			due = append(due, store.TimedFlow{FlowID: f.ID, ControllerID: f.ControllerID, Goal: f.Goal, At: f.Wait.Conditions[0].At})
			since = append(since, store.TimedFlow{FlowID: f.ID, ControllerID: f.ControllerID, Goal: f.Goal, At: f.Wait.Since})
		}
		same(t, fmt.Sprintf("DueNext as %q", owners), timedText(got.DueNext), timedText(due))
		same(t, fmt.Sprintf("WaitingLongest as %q", owners), timedText(got.WaitingLongest), timedText(since))
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

// failed makes a flow one that has failed.
func failed(f *flows.Flow) {
	f.Status, f.Revision, f.EndedAt = flows.Failed, 2, pointer(f.CreatedAt)
}

func testFailed(t *testing.T, s store.Store) {
	fill(t, s, 12, func(i int, f *flows.Flow) {
		f.ControllerID, f.OwnerSessionKey = []string{"c", "b", "b", "a"}[i%4], []string{"agent:a", "agent:b"}[i/6]
		if i%4 != 3 {
			failed(f)
		}
	})
	for owners, want := range map[flows.Owners][]store.ControllerCount{
		flows.Everyone: {{ControllerID: "b", Flows: 6}, {ControllerID: "c", Flows: 3}},
		"agent:*":      {{ControllerID: "b", Flows: 6}, {ControllerID: "c", Flows: 3}},
		"agent:b":      {{ControllerID: "b", Flows: 3}, {ControllerID: "c", Flows: 1}},
		"agent:c":      nil,
	} {
		got, err := s.Stats(t.Context(), owners)
		if err != nil {
			t.Fatal(err)
		}
		same(t, fmt.Sprintf("FailedByController as %q", owners), controllersText(got.FailedByController), controllersText(want))
	}
}

// testManyFailed has more failed flows than are counted; the oldest are one controller's, the others of more controllers than
// are listed.
func testManyFailed(t *testing.T, s store.Store) {
	const old = 100
	fill(t, s, store.Examined+old, func(i int, f *flows.Flow) {
		failed(f)
		if f.ControllerID = fmt.Sprintf("c%03d", i%(store.MaxControllers+20)); i < old {
			f.ControllerID = "old"
		}
	})
	for _, owners := range []flows.Owners{flows.Everyone, "agent:*"} {
		got, err := s.Stats(t.Context(), owners)
		if err != nil {
			t.Fatal(err)
		}
		list, before := got.FailedByController, store.ControllerCount{Flows: store.Examined}
		if len(list) != store.MaxControllers || got.ByStatus[flows.Failed] != store.Examined+old {
			t.Errorf("as %q: %d controllers, %v", owners, len(list), got.ByStatus)
		}
		for _, c := range list {
			if c.ControllerID == "old" || c.Flows > before.Flows || c.Flows == before.Flows && c.ControllerID <= before.ControllerID {
				t.Errorf("as %q: %v comes after %v", owners, c, before)
			}
			before = c
		}
	}
}
