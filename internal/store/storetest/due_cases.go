package storetest

import (
	"encoding/binary"
	"fmt"
	"slices"
	"testing"
	"time"

	"taskflow/internal/flows"
	"taskflow/internal/store"

	"github.com/google/uuid"
)

func dueCases() []testCase {
	return []testCase{
		{"Empty", "Only Now and Flows are set; ok is false where no wait ends by the clock.", testNothingDue},
		{"Loads", "LoadDue locks and reads at most limit waiting flows whose wait is due by the database's clock, the " +
			"earliest first.", testLoadDue},
		{"Kinds", "LoadDue: whose wait is due by the database's clock.", testDueKinds},
		{"NotBefore", "LoadDue: whose wait is due by the database's clock.", testNotBefore},
		{"Fires", "LoadDue takes the place of Load.", testFires},
		{"Gone", "Nothing that is not due is looked at.", testDueGone},
		{"FlagOff", "FlowUpdate: the flags spare the database what has not changed.", testDueFlagOff},
		{"Replaced", "Wait differs: what it waits for, and when it is due, is recorded for matching.", testDueReplaced},
		{"NextDue", "NextDue is the earliest time at which some wait is due, and how far ahead of the database's clock " +
			"that is (zero or less where it has passed).", testNextDue},
		{"Many", "Save writes everything in w.", testManyDue},
		{"RolledBack", "An error from fn rolls back.", testDueRolledBack},
	}
}

// waiting is a flow that waits for the first of some conditions.
func waiting(n int, conditions ...flows.Condition) *flows.Flow {
	f := newFlow(n)
	f.Status, f.Revision = flows.Waiting, 2
	f.Wait = &flows.Wait{Kind: conditions[0].Kind, Conditions: conditions, Generation: 2, Since: at(n)}
	if len(conditions) > 1 {
		f.Wait.Kind = flows.WaitAnyOf
	}
	return f
}

func timer(at time.Time) flows.Condition { return flows.Condition{Kind: flows.WaitTimer, At: at} }

func awaited(topic, correlation string) flows.Condition {
	return flows.Condition{Kind: flows.WaitExternalEvent, Pair: flows.Pair{Topic: topic, CorrelationID: correlation}}
}

// resumed is a flow whose wait has ended, one revision on.
func resumed(f *flows.Flow) *flows.Flow {
	next := *f
	next.Status, next.Wait, next.Revision = flows.Running, nil, f.Revision+1
	next.ResumedBy = &flows.ResumedBy{Kind: flows.ResumedManually, Outcome: flows.OutcomeResumed, At: f.UpdatedAt}
	return &next
}

func update(t *testing.T, s store.Store, u store.FlowUpdate) {
	t.Helper()
	save(t, s, store.Writes{Updated: []store.FlowUpdate{u}})
}

// loadDue runs an Update that only loads what is due.
func loadDue(t *testing.T, s store.Store, limit int) store.Snapshot {
	t.Helper()
	var snapshot store.Snapshot
	err := s.Update(t.Context(), func(tx store.Tx) error {
		var err error
		snapshot, err = tx.LoadDue(limit)
		return err
	})
	if err != nil {
		t.Fatalf("LoadDue(%d): %v", limit, err)
	}
	return snapshot
}

// expectDue compares what is due with the flows of these numbers, whole.
func expectDue(t *testing.T, s store.Store, limit int, want ...*flows.Flow) {
	t.Helper()
	got := loadDue(t, s, limit).Flows
	byID := func(a, b *flows.Flow) int { return slices.Compare(a.ID[:], b.ID[:]) }
	var list []*flows.Flow
	for id, f := range got {
		if f.ID != id {
			t.Errorf("flow %s is under %s", f.ID, id)
		}
		list = append(list, f)
	}
	slices.SortFunc(list, byID)
	want = slices.Clone(want)
	slices.SortFunc(want, byID)
	same(t, fmt.Sprintf("due, limit %d", limit), flowsText(list), flowsText(want))
}

func testNothingDue(t *testing.T, s store.Store) {
	for _, f := range []*flows.Flow{newFlow(1), waiting(2, timer(farAway)), waiting(3, awaited("t", "c"))} {
		snapshot := loadDue(t, s, 10)
		if len(snapshot.Flows) != 0 || snapshot.Now.IsZero() || snapshot.Now.Location() != time.UTC ||
			snapshot.Now.Nanosecond()%1000 != 0 {
			t.Errorf("nothing is due: %v at %s", snapshot.Flows, timeText(snapshot.Now))
		}
		if next := nextDue(t, s); f.Goal != "goal 3" && next != nil {
			t.Errorf("NextDue = %s before flow %s", next, f.Goal)
		}
		create(t, s, f)
	}
	expectDue(t, s, 10)
}

// testLoadDue has due times in another order than that of ids, of creation, and of the beginning of the waits.
func testLoadDue(t *testing.T, s store.Store) {
	var list []*flows.Flow // the earliest first
	for i, n := range []int{4, 1, 5, 2, 3} {
		list = append(list, waiting(n, timer(at(100+i))))
	}
	create(t, s, list[3], list[0], list[4])
	create(t, s, list[1], list[2], waiting(6, timer(farAway)), newFlow(7))
	for limit := range 8 {
		expectDue(t, s, limit+1, list[:min(limit+1, len(list))]...)
	}
	before := load(t, s, store.Need{}).Now
	if now := loadDue(t, s, 1).Now; now.Before(before.Add(-trifle)) {
		t.Errorf("Now is %s, and was %s", now, before)
	}
}

// testDueKinds has each way in which a wait may end by the clock, and those that do not.
func testDueKinds(t *testing.T, s store.Store) {
	now := load(t, s, store.Need{}).Now
	past, future := now.Add(-time.Hour), now.Add(time.Hour)
	manual, callback := flows.Condition{Kind: flows.WaitManual}, flows.Condition{Kind: flows.WaitCallback}
	timeout := func(n int, at time.Time, conditions ...flows.Condition) *flows.Flow {
		f := waiting(n, conditions...)
		f.Wait.Timeout = &flows.Timeout{At: at, Then: flows.TimeoutFails}
		return f
	}
	due := []*flows.Flow{
		waiting(1, timer(past)),
		waiting(2, timer(future), awaited("t", "c"), timer(past)),
		timeout(3, past, manual),
		timeout(4, past, timer(future)),
		timeout(5, future, timer(past)),
		timeout(6, past, callback, awaited("t", "c")),
	}
	create(t, s, due...)
	create(t, s, waiting(11, timer(future)), waiting(12, timer(future), timer(farAway)), timeout(13, future, manual),
		timeout(14, future, timer(future)), waiting(15, awaited("t", "c")), waiting(16, manual), waiting(17, callback))
	expectDue(t, s, 100, due...)
}

// testNotBefore asks for a wait whose time is a little ahead until it is due: it never comes early.
func testNotBefore(t *testing.T, s store.Store) {
	due := load(t, s, store.Need{}).Now.Add(15 * time.Millisecond)
	create(t, s, waiting(1, timer(due)))
	for tries := 0; ; tries++ {
		before := time.Now()
		snapshot := loadDue(t, s, 5)
		if len(snapshot.Flows) > 0 {
			if snapshot.Now.Before(due) {
				t.Errorf("due at %s, and given at %s", due, snapshot.Now)
			}
			return
		}
		if before.After(due.Add(5 * time.Second)) {
			t.Fatalf("due at %s, and not there after %d tries", due, tries)
		}
	}
}

// testFires ends the waits that are due, a part at a time, and then there is nothing left.
func testFires(t *testing.T, s store.Store) {
	for n := range 5 {
		create(t, s, waiting(n, timer(at(10-n))))
	}
	for _, want := range []string{"[4 3]", "[2 1]", "[0]", "[]"} {
		ids, err := fire(t.Context(), s, nil, 2)
		if err != nil {
			t.Fatal(err)
		}
		same(t, "fired", fmt.Sprint(numbers(ids)), want)
	}
	for n := range 5 {
		f := readFlow(t, s, flowID(n))
		if f.Status != flows.Running || f.Revision != 3 || f.ResumedBy == nil || f.ResumedBy.Kind != flows.ResumedByTimer {
			t.Errorf("flow %d is %s", n, flowText(f))
		}
		if events := trail(t, s, f.ID); len(events) != 2 || events[1].Actor != flows.ActorTimer {
			t.Errorf("trail of flow %d:\n%s", n, eventsText(events))
		}
	}
}

// numbers are those that flowID made ids of.
func numbers(ids []uuid.UUID) []int {
	list := make([]int, len(ids))
	for i, id := range ids {
		list[i] = int(binary.BigEndian.Uint32(id[12:]))
	}
	return list
}

// testDueGone ends waits in every way: what has ended is due no more.
func testDueGone(t *testing.T, s store.Store) {
	for n := range 6 {
		create(t, s, waiting(n, timer(at(n))))
	}
	update(t, s, store.FlowUpdate{Flow: resumed(waiting(0, timer(at(0)))), Wait: true})
	for n, action := range []flows.Action{1: flows.Cancel{}, 2: flows.Fail{Reason: "no"}, 3: flows.RequestCancel{}, 4: flows.Resume{}} {
		if action == nil {
			continue
		}
		refusals, err := apply(t.Context(), s, at(50), flows.Command{Owners: flows.Everyone, FlowID: flowID(n), Action: action})
		if err != nil || refusals[0] != nil {
			t.Fatalf("%T: %v, %v", action, err, refusals[0])
		}
	}
	expectDue(t, s, 10, waiting(5, timer(at(5))))
	save(t, s, store.Writes{Erased: []uuid.UUID{flowID(5)}})
	expectDue(t, s, 10)
	if next := nextDue(t, s); next != nil {
		t.Errorf("NextDue = %s, and no flow waits", next)
	}
	create(t, s, newFlow(5)) // its id is used again
	expectDue(t, s, 10)
}

// testDueFlagOff changes waiting flows otherwise: what they wait for stays.
func testDueFlagOff(t *testing.T, s store.Store) {
	f := waiting(1, timer(at(10)), awaited("t", "c"))
	create(t, s, f, waiting(2, timer(farAway)))
	for range 3 {
		next, event := touch(f, `{"touched":true}`)
		next.Labels = map[string]string{"n": fmt.Sprint(next.Revision)}
		save(t, s, store.Writes{Updated: []store.FlowUpdate{{Flow: next, State: true, Labels: true}}, Events: []flows.Event{event}})
		f = next
	}
	expectDue(t, s, 10, f)
	expectWaiting(t, s, flows.Pair{Topic: "t", CorrelationID: "c"}, false, 1)
	if next := nextDue(t, s); next == nil || !next.Equal(at(10)) {
		t.Errorf("NextDue = %v, want %s", next, at(10))
	}
}

// testDueReplaced ends a wait and begins another: only the last one counts, also where both were in one batch.
func testDueReplaced(t *testing.T, s store.Store) {
	early, late := timer(at(10)), timer(farAway)
	again := func(c ...flows.Condition) *flows.Flow {
		f := waiting(1, c...)
		f.Revision = readFlow(t, s, f.ID).Revision + 2
		f.Wait.Generation = f.Revision
		return f
	}
	create(t, s, waiting(1, early, awaited("t", "old")))
	update(t, s, store.FlowUpdate{Flow: again(late, awaited("t", "new")), Wait: true})
	expectDue(t, s, 10)
	expectWaiting(t, s, flows.Pair{Topic: "t", CorrelationID: "old"}, false)
	expectWaiting(t, s, flows.Pair{Topic: "t", CorrelationID: "new"}, false, 1)
	if next := nextDue(t, s); next == nil || !next.Equal(farAway) {
		t.Errorf("NextDue = %v, want %s", next, farAway)
	}
	f := again(early)
	update(t, s, store.FlowUpdate{Flow: f, Wait: true})
	expectDue(t, s, 10, f)
	expectWaiting(t, s, flows.Pair{Topic: "t", CorrelationID: "new"}, false)
	next := again(flows.Condition{Kind: flows.WaitManual})
	update(t, s, store.FlowUpdate{Flow: next, Wait: true})
	expectDue(t, s, 10)

	// Erased and created in one batch, with another wait.
	next = waiting(1, awaited("t", "third"), early)
	save(t, s, store.Writes{Erased: []uuid.UUID{next.ID}, Created: []*flows.Flow{next}, Events: []flows.Event{createdEvent(next)}})
	expectDue(t, s, 10, next)
	expectWaiting(t, s, flows.Pair{Topic: "t", CorrelationID: "third"}, false, 1)
}

// nextDue is the time of NextDue, nil where there is none; how far ahead it is goes by the database's clock.
func nextDue(t *testing.T, s store.Store) *time.Time {
	t.Helper()
	before := load(t, s, store.Need{}).Now
	due, in, ok, err := s.NextDue(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	after := load(t, s, store.Need{}).Now
	if !ok {
		return nil
	}
	if now := due.Add(-in); now.Before(before.Add(-trifle)) || now.After(after.Add(trifle)) {
		t.Errorf("%s is %s ahead, and so now would be %s; it is from %s to %s", due, in, now, before, after)
	}
	if due.Location() != time.UTC {
		t.Errorf("NextDue is %s, want UTC", timeText(due))
	}
	return &due
}

func testNextDue(t *testing.T, s store.Store) {
	now := load(t, s, store.Need{}).Now
	if next := nextDue(t, s); next != nil {
		t.Errorf("NextDue = %s of an empty store", next)
	}
	times := []time.Time{farAway, now.Add(time.Hour), now.Add(time.Minute).Add(time.Microsecond), now.Add(-time.Minute), at(3)}
	for n, due := range times { // each earlier than the one before
		create(t, s, waiting(n, timer(due), timer(farAway)))
		if next := nextDue(t, s); next == nil || !next.Equal(due) {
			t.Errorf("NextDue = %v, want %s", next, due)
		}
	}
	for n := len(times) - 1; n >= 0; n-- {
		if next := nextDue(t, s); next == nil || !next.Equal(times[n]) {
			t.Errorf("NextDue = %v, want %s", next, times[n])
		}
		update(t, s, store.FlowUpdate{Flow: resumed(waiting(n, timer(times[n]), timer(farAway))), Wait: true})
	}
	if next := nextDue(t, s); next != nil {
		t.Errorf("NextDue = %s, and no flow waits", next)
	}
}

// testManyDue creates, replaces and ends many waits in a batch each.
func testManyDue(t *testing.T, s store.Store) {
	const n = 500
	var created, replaced, ended store.Writes
	for i := range n {
		f := waiting(i, timer(farAway), awaited("t", fmt.Sprint(i)), awaited("u", fmt.Sprint(i%2)))
		created.Created = append(created.Created, f)
		next := waiting(i, timer(at(i)), awaited("t", fmt.Sprint(i%2)))
		next.Revision, next.Wait.Generation = 4, 4
		replaced.Updated = append(replaced.Updated, store.FlowUpdate{Flow: next, Wait: true})
		ended.Updated = append(ended.Updated, store.FlowUpdate{Flow: resumed(next), Wait: true})
	}
	save(t, s, created)
	expectDue(t, s, n)
	snapshot := load(t, s, store.Need{Match: []store.Match{{Pair: flows.Pair{Topic: "u", CorrelationID: "0"}, Owners: flows.Everyone}, {Pair: flows.Pair{Topic: "t", CorrelationID: "7"}, Owners: flows.Everyone}}})
	if len(snapshot.Flows) != n/2+1 {
		t.Errorf("%d flows wait for the pairs, want %d", len(snapshot.Flows), n/2+1)
	}
	save(t, s, replaced)
	if got := len(loadDue(t, s, n).Flows); got != n {
		t.Errorf("%d flows are due, want %d", got, n)
	}
	snapshot = load(t, s, store.Need{Match: []store.Match{{Pair: flows.Pair{Topic: "u", CorrelationID: "0"}, Owners: flows.Everyone}, {Pair: flows.Pair{Topic: "t", CorrelationID: "1"}, Owners: flows.Everyone}}})
	if len(snapshot.Flows) != n/2 {
		t.Errorf("%d flows wait for the pairs, want %d", len(snapshot.Flows), n/2)
	}
	save(t, s, ended)
	expectDue(t, s, n)
}

// testDueRolledBack fails after it has ended waits: they are due still.
func testDueRolledBack(t *testing.T, s store.Store) {
	f := waiting(1, timer(at(1)), awaited("t", "c"))
	create(t, s, f)
	err := s.Update(t.Context(), func(tx store.Tx) error {
		if _, err := tx.LoadDue(5); err != nil {
			return err
		}
		if err := tx.Save(store.Writes{Updated: []store.FlowUpdate{{Flow: resumed(f), Wait: true}}}); err != nil {
			return err
		}
		return flows.ErrNotFound
	})
	if err != flows.ErrNotFound {
		t.Errorf("Update = %v, want fn's error as it is", err)
	}
	expectDue(t, s, 5, f)
	expectWaiting(t, s, flows.Pair{Topic: "t", CorrelationID: "c"}, false, 1)
}
