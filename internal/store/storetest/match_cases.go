package storetest

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"taskflow/internal/flows"
	"taskflow/internal/store"

	"github.com/google/uuid"
)

func matchCases() []testCase {
	return []testCase{
		{"Waiting", "Waiting are the flows that wait for the pairs of Need.Match, the longest first; each is in Flows too.",
			testMatch},
		{"Pairs", "Pair names what an external event is about: both parts must be equal.", testMatchPairs},
		{"Ends", "Match: the flows that wait for them are locked and read.", testMatchEnds},
		{"MoreThanTheLimit", "At most MatchLimit of each pair. More says that there are others.", testMatchLimit},
		{"WithFlows", "Need is what a transaction is going to look at. Duplicates are allowed.", testMatchWithFlows},
		{"Post", "A flow in Waiting may be updated, and the event saved.", testPost},
	}
}

func bufferedCases() []testCase {
	return []testCase{
		{"OldestFirst", "Buffered are the kept events of Need.Await, oldest first.", testBuffered},
		{"Consumed", "ExternalEvents are inserted, or replace the one of the same id that Load found.", testConsumed},
		{"ForEachWait", "There are as many for each as Need.Await names the pair.", testBufferedForEach},
		{"Targets", "Buffered are those that are for any flow or for one of Need.Flows.", testBufferedTargets},
		{"InTheWay", "Some may have expired, but none stands in the way of one that has not.", testInTheWay},
		{"ByID", "Events are those of Need.Events that exist.", testEventsByID},
	}
}

func pair(topic, correlation string) flows.Pair {
	return flows.Pair{Topic: topic, CorrelationID: correlation}
}

// expectWaiting compares who waits for a pair, the longest first, with flows by their numbers.
func expectWaiting(t *testing.T, s store.Store, p flows.Pair, more bool, want ...int) {
	t.Helper()
	snapshot := load(t, s, store.Need{Match: []store.Match{{Pair: p, Owners: flows.Everyone}}})
	if got := numbers(snapshot.Waiting[store.Match{Pair: p, Owners: flows.Everyone}]); !slices.Equal(got, want) || snapshot.More[store.Match{Pair: p, Owners: flows.Everyone}] != more {
		t.Errorf("waiting for %v: %v, more %v; want %v, %v", p, got, snapshot.More[store.Match{Pair: p, Owners: flows.Everyone}], want, more)
	}
	if len(snapshot.Flows) != len(want) {
		t.Errorf("waiting for %v: %d flows were read, want %d", p, len(snapshot.Flows), len(want))
	}
	for _, n := range want {
		if f := snapshot.Flows[flowID(n)]; f == nil || f.Wait == nil || !slices.Contains(f.Wait.Pairs(), p) {
			t.Errorf("waiting for %v: flow %d is %v", p, n, f)
		}
	}
}

// testMatch has waits that began in another order than that of the ids and of the creations.
func testMatch(t *testing.T, s store.Store) {
	since := func(f *flows.Flow, seconds int) *flows.Flow {
		f.Wait.Since = at(seconds)
		return f
	}
	long := since(waiting(2, awaited("t", "c")), 5)
	create(t, s, since(waiting(1, awaited("t", "c")), 20), long, since(waiting(3, timer(farAway), awaited("t", "c")), 10),
		newFlow(4), waiting(5, awaited("t", "other")), waiting(6, timer(at(1))))
	expectWaiting(t, s, pair("t", "c"), false, 2, 3, 1)
	expectWaiting(t, s, pair("t", "other"), false, 5)
	expectWaiting(t, s, pair("nobody", "c"), false)
	snapshot := load(t, s, store.Need{Match: []store.Match{{Pair: pair("t", "c"), Owners: flows.Everyone}}})
	same(t, "flow", flowText(snapshot.Flows[long.ID]), flowText(long))
	if snapshot.Now.IsZero() {
		t.Error("Now is not set")
	}

	create(t, s, newFlow(7)) // and one that begins to wait later
	f := waiting(7, awaited("t", "c"))
	f.Wait.Since = at(7)
	update(t, s, store.FlowUpdate{Flow: f, Wait: true})
	expectWaiting(t, s, pair("t", "c"), false, 2, 7, 3, 1)
}

// testMatchPairs has pairs that are alike: run together, in another case, the other way round, with wildcards.
func testMatchPairs(t *testing.T, s store.Store) {
	pairs := []flows.Pair{
		pair("a", "b"), pair("b", "a"), pair("A", "b"), pair("a", "B"), pair("a:b", "c"), pair("a", "b:c"), pair("ab", "c"),
		pair("a", "bc"), pair("a ", "b"), pair(" a", "b"), pair("%", "_"), pair("a%", "b_"), pair("é", "b"), pair("e\u0301", "b"),
		pair("a\x01", "b"), pair("a", "\x01b"), pair(`a\`, `"b'`), pair(strings.Repeat("😀", 256), strings.Repeat("é", 256)),
		pair(strings.Repeat("😀", 256), strings.Repeat("é", 255)),
	}
	for n, p := range pairs {
		create(t, s, waiting(n, flows.Condition{Kind: flows.WaitExternalEvent, Pair: p}))
	}
	for n, p := range pairs {
		expectWaiting(t, s, p, false, n)
	}
	snapshot := load(t, s, store.Need{Match: offered(flows.Everyone, pairs...)})
	if len(snapshot.Flows) != len(pairs) {
		t.Errorf("%d flows wait for all pairs, want %d", len(snapshot.Flows), len(pairs))
	}
	for n, p := range pairs {
		if got := numbers(snapshot.Waiting[store.Match{Pair: p, Owners: flows.Everyone}]); !slices.Equal(got, []int{n}) {
			t.Errorf("waiting for %q: %v, want %d", p, got, n)
		}
	}

	// One wait for many pairs, one of them twice: it comes once with each.
	n := len(pairs)
	create(t, s, waiting(n, awaited("a", "b"), awaited("x", "y"), awaited("a", "b"), awaited("b", "a")))
	expectWaiting(t, s, pair("a", "b"), false, 0, n)
	expectWaiting(t, s, pair("x", "y"), false, n)
	expectWaiting(t, s, pair("b", "a"), false, 1, n)
	expectWaiting(t, s, pair("x", "b"), false)
}

// testMatchEnds ends waits in every way: what has ended is not matched.
func testMatchEnds(t *testing.T, s store.Store) {
	p := pair("t", "c")
	for n := range 6 {
		create(t, s, waiting(n, awaited("t", "c"), awaited("t", "d")))
	}
	for n, action := range []flows.Action{0: flows.Cancel{}, 1: flows.Fail{Reason: "no"}, 2: flows.RequestCancel{}, 3: flows.Resume{},
		4: flows.Cancel{}} {
		refusals, err := apply(t.Context(), s, at(50), flows.Command{Owners: flows.Everyone, FlowID: flowID(n), Action: action})
		if err != nil || refusals[0] != nil {
			t.Fatalf("%T: %v, %v", action, err, refusals[0])
		}
	}
	save(t, s, store.Writes{Erased: []uuid.UUID{flowID(4)}})
	expectWaiting(t, s, p, false, 5)
	save(t, s, store.Writes{Erased: []uuid.UUID{flowID(5)}})
	expectWaiting(t, s, p, false)
	create(t, s, newFlow(5))
	expectWaiting(t, s, p, false)
	expectWaiting(t, s, pair("t", "d"), false)
}

// testMatchLimit offers an event to more flows than one transaction takes.
func testMatchLimit(t *testing.T, s store.Store) {
	const n = store.MatchLimit
	p := pair("t", "c")
	fill(t, s, n, func(i int, f *flows.Flow) { *f = *waiting(i, awaited("t", "c")) })
	snapshot := load(t, s, store.Need{Match: []store.Match{{Pair: p, Owners: flows.Everyone}}})
	if len(snapshot.Waiting[store.Match{Pair: p, Owners: flows.Everyone}]) != n || len(snapshot.Flows) != n || snapshot.More[store.Match{Pair: p, Owners: flows.Everyone}] {
		t.Errorf("%d wait, %d were read, more %v; want %d and no more", len(snapshot.Waiting[store.Match{Pair: p, Owners: flows.Everyone}]), len(snapshot.Flows),
			snapshot.More[store.Match{Pair: p, Owners: flows.Everyone}], n)
	}
	last := waiting(n+1, awaited("t", "c"))
	early := waiting(n+2, awaited("t", "c"), awaited("u", "c"))
	early.Wait.Since = at(-1) // longer than all others
	create(t, s, last, early)
	snapshot = load(t, s, store.Need{Match: []store.Match{{Pair: p, Owners: flows.Everyone}, {Pair: pair("u", "c"), Owners: flows.Everyone}}})
	got := numbers(snapshot.Waiting[store.Match{Pair: p, Owners: flows.Everyone}])
	if len(got) != n || got[0] != n+2 || got[1] != 0 || got[n-1] != n-2 || !snapshot.More[store.Match{Pair: p, Owners: flows.Everyone}] {
		t.Errorf("%d wait, from %d to %d, more %v", len(got), got[0], got[len(got)-1], snapshot.More[store.Match{Pair: p, Owners: flows.Everyone}])
	}
	if latest := snapshot.Latest[store.Match{Pair: p, Owners: flows.Everyone}]; !latest.Equal(last.Wait.Since) {
		t.Errorf("the last of all waits began at %v, want %v", latest, last.Wait.Since)
	}
	if snapshot.More[store.Match{Pair: pair("u", "c"), Owners: flows.Everyone}] || len(snapshot.Waiting[store.Match{Pair: pair("u", "c"), Owners: flows.Everyone}]) != 1 {
		t.Errorf("the other pair: %d wait, more %v", len(snapshot.Waiting[store.Match{Pair: pair("u", "c"), Owners: flows.Everyone}]), snapshot.More[store.Match{Pair: pair("u", "c"), Owners: flows.Everyone}])
	}

	receipt := newReceipt(1, p)
	receipt.At = at(5000) // when all of them wait
	e, err := post(t.Context(), s, at(5000), receipt)
	if err != nil || e.Outcome != flows.EventDelivering || e.FlowCount != n || len(e.Flows) != flows.MaxReceiptFlows {
		t.Fatalf("the first part: %s, %v", receiptText(&e), err)
	}
	expectWaiting(t, s, p, false, n-1, n+1)
	e, err = post(t.Context(), s, at(5000), e)
	if err != nil || e.Outcome != flows.EventDelivered || e.FlowCount != n+2 || len(e.Flows) != flows.MaxReceiptFlows {
		t.Fatalf("the rest: %s, %v", receiptText(&e), err)
	}
	expectWaiting(t, s, p, false)
	expectReceipt(t, s, &e)
}

// testMatchWithFlows loads one flow by its id, by two pairs, and each of them twice.
func testMatchWithFlows(t *testing.T, s store.Store) {
	f := waiting(1, awaited("t", "c"), awaited("u", "c"))
	create(t, s, f, newFlow(2))
	p, q := pair("t", "c"), pair("u", "c")
	snapshot := load(t, s, store.Need{Flows: []uuid.UUID{flowID(2), f.ID, flowID(3), f.ID}, Match: []store.Match{{Pair: p, Owners: flows.Everyone}, {Pair: q, Owners: flows.Everyone}, {Pair: p, Owners: flows.Everyone}},
		Await: []flows.Pair{q, pair("new", "c"), q}, Answers: []store.AnswerKey{answerKey(1)}})
	if len(snapshot.Flows) != 2 || len(snapshot.Waiting[store.Match{Pair: p, Owners: flows.Everyone}]) != 1 || len(snapshot.Waiting[store.Match{Pair: q, Owners: flows.Everyone}]) != 1 || len(snapshot.Buffered[q]) != 0 {
		t.Errorf("snapshot: %+v", snapshot)
	}
	same(t, "flow", flowText(snapshot.Flows[f.ID]), flowText(f))
}

// testPost resumes whoever waits, and records the receipt in the same transaction.
func testPost(t *testing.T, s store.Store) {
	p := pair("t", "c")
	create(t, s, waiting(1, awaited("t", "c")), waiting(2, timer(farAway), awaited("t", "c")), waiting(3, awaited("t", "d")))
	e, err := post(t.Context(), s, at(100), newReceipt(1, p))
	if err != nil || e.Outcome != flows.EventDelivered || e.FlowCount != 2 {
		t.Fatalf("%s, %v", receiptText(&e), err)
	}
	expectReceipt(t, s, &e)
	for n := range 2 {
		f := readFlow(t, s, flowID(n+1))
		if f.Status != flows.Running || f.ResumedBy.EventID == nil || *f.ResumedBy.EventID != e.ID {
			t.Errorf("flow %d is %s", n+1, flowText(f))
		}
	}
	expectWaiting(t, s, p, false)
	expectWaiting(t, s, pair("t", "d"), false, 3)
	expectDue(t, s, 10)
	if next := nextDue(t, s); next != nil {
		t.Errorf("NextDue = %s, and no wait ends by the clock", next)
	}
}

// newReceipt is an external event that has just arrived, to be kept.
func newReceipt(n int, p flows.Pair) flows.ExternalEvent {
	return flows.ExternalEvent{Owners: flows.Everyone, ID: stepID(n), Pair: p, Payload: fmt.Appendf(nil, `{"n":%d}`, n), Actor: "stripe", At: at(n),
		ExpiresAt: farAway, Outcome: flows.EventBuffered}
}

func expectBuffered(t *testing.T, s store.Store, need store.Need, p flows.Pair, want ...flows.ExternalEvent) {
	t.Helper()
	snapshot := load(t, s, need)
	var got, wanted []*flows.ExternalEvent
	for _, e := range snapshot.Buffered[p] {
		if e.ExpiresAt.After(snapshot.Now) {
			got = append(got, e)
		}
	}
	for i := range want {
		wanted = append(wanted, &want[i])
	}
	text := receiptsText
	if len(wanted) > 10 || len(got) > 10 { // their payloads tell them apart
		text = func(list []*flows.ExternalEvent) string {
			return lines(list, func(e *flows.ExternalEvent) string { return string(e.Payload) })
		}
	}
	same(t, fmt.Sprintf("buffered for %v", p), text(got), text(wanted))
}

func saveReceipts(t *testing.T, s store.Store, list ...flows.ExternalEvent) {
	t.Helper()
	var w store.Writes
	for i := range list {
		w.ExternalEvents = append(w.ExternalEvents, &list[i])
	}
	save(t, s, w)
}

func testBuffered(t *testing.T, s store.Store) {
	p := pair("t", "c")
	first, second, third := newReceipt(3, p), newReceipt(1, p), newReceipt(2, p)
	first.At, second.At, third.At = at(10), at(20), at(20) // of two that came at once, the lesser id first
	third.Payload = nil
	var others []flows.ExternalEvent
	for i, outcome := range flows.EventOutcomes {
		e := newReceipt(10+i, p)
		if e.Outcome = outcome; outcome == flows.EventBuffered {
			e.Pair = pair("t", "d")
		}
		others = append(others, e)
	}
	saveReceipts(t, s, append(others, second, third, first)...)
	expectBuffered(t, s, store.Need{Await: []flows.Pair{p}}, p, first, third, second)
	expectBuffered(t, s, store.Need{Await: []flows.Pair{pair("t", "d"), p, p}}, p, first, third, second)
	expectBuffered(t, s, store.Need{Await: []flows.Pair{p}}, pair("t", "d"))
	expectBuffered(t, s, store.Need{Await: []flows.Pair{pair("c", "t")}}, pair("c", "t"))
}

// testConsumed begins waits one by one: each gets the oldest event that is left.
func testConsumed(t *testing.T, s store.Store) {
	p := pair("t", "c")
	saveReceipts(t, s, newReceipt(1, p), newReceipt(2, p))
	wait := flows.SetWait{Kind: flows.WaitExternalEvent, Conditions: []flows.ConditionSpec{{Kind: flows.WaitExternalEvent, Pair: p}}}
	for n := range 3 {
		refusals, err := apply(t.Context(), s, at(100+n), createCommand(flowID(n), "waits"),
			flows.Command{Owners: flows.Everyone, FlowID: flowID(n), Action: flows.Start{}}, flows.Command{Owners: flows.Everyone, FlowID: flowID(n), Action: wait})
		if err != nil || refusals[2] != nil {
			t.Fatalf("wait %d: %v, %v", n, err, refusals)
		}
		f := readFlow(t, s, flowID(n))
		if n == 2 {
			if f.Status != flows.Waiting {
				t.Errorf("the third flow is %s, and no event was left", f.Status)
			}
			continue
		}
		e, err := s.ExternalEvent(t.Context(), stepID(n+1), flows.Everyone)
		if err != nil || f.Status != flows.Running || f.ResumedBy.EventID == nil || *f.ResumedBy.EventID != e.ID {
			t.Fatalf("flow %d: %s, %v", n, flowText(f), err)
		}
		want := newReceipt(n+1, p)
		want.Outcome, want.FlowCount, want.Flows = flows.EventDelivered, 1, []flows.ResumedFlow{{FlowID: f.ID, Revision: f.Revision}}
		same(t, "receipt", receiptText(e), receiptText(&want))
	}
	expectBuffered(t, s, store.Need{Await: []flows.Pair{p}}, p)
	expectWaiting(t, s, p, false, 2) // it was created, started and set waiting in one batch
}

func testBufferedTargets(t *testing.T, s store.Store) {
	p := pair("t", "c")
	mine, other, anyone := newReceipt(1, p), newReceipt(2, p), newReceipt(3, p)
	mine.FlowID, other.FlowID = pointer(flowID(1)), pointer(flowID(2))
	saveReceipts(t, s, mine, other, anyone)
	create(t, s, newFlow(1), newFlow(2))
	await := []flows.Pair{p}
	expectBuffered(t, s, store.Need{Await: await, Flows: []uuid.UUID{flowID(1)}}, p, mine, anyone)
	expectBuffered(t, s, store.Need{Await: await, Flows: []uuid.UUID{flowID(2), flowID(3)}}, p, other, anyone)
	expectBuffered(t, s, store.Need{Await: await, Flows: []uuid.UUID{flowID(1), flowID(2)}}, p, mine, other, anyone)
	expectBuffered(t, s, store.Need{Await: await}, p, anyone)
}

// testBufferedForEach keeps as many events as there may be waits in a transaction, and as many older ones for one flow of it.
func testBufferedForEach(t *testing.T, s store.Store) {
	const n = 2 * store.MatchLimit
	p, other := pair("t", "c"), pair("t", "d")
	var list []flows.ExternalEvent
	need := store.Need{Flows: []uuid.UUID{flowID(0), flowID(1)}, Await: []flows.Pair{other}}
	for i := range n {
		named, open := newReceipt(i, p), newReceipt(n+i, p)
		named.FlowID = pointer(flowID(0))
		list = append(list, named, open)
		need.Await = append(need.Await, p)
	}
	kept := newReceipt(5000, other)
	saveReceipts(t, s, append(list, kept)...)
	create(t, s, newFlow(0), newFlow(1))
	var named, open int
	snapshot := load(t, s, need)
	for _, e := range snapshot.Buffered[p] {
		if e.FlowID == nil {
			open++
		} else {
			named++
		}
	}
	if named != n || open != n || len(snapshot.Buffered[other]) != 1 {
		t.Errorf("%d for the flow, %d for any and %d of another pair are kept; want %d, %d and 1", named, open, len(snapshot.Buffered[other]), n, n)
	}
}

// testInTheWay keeps more events than are read that the flow cannot have, before one that it can.
func testInTheWay(t *testing.T, s store.Store) {
	p := pair("t", "c")
	var list []flows.ExternalEvent
	for n := range store.MatchLimit {
		expired, foreign := newReceipt(n, p), newReceipt(n+1000, p)
		expired.ExpiresAt, foreign.FlowID = expired.At.Add(time.Hour), pointer(flowID(9))
		list = append(list, expired, foreign)
	}
	live := newReceipt(5000, p)
	saveReceipts(t, s, append(list, live)...)
	create(t, s, newFlow(1))
	expectBuffered(t, s, store.Need{Await: []flows.Pair{p}, Flows: []uuid.UUID{flowID(1)}}, p, live)

	list = nil
	for n := range store.MatchLimit + 10 {
		list = append(list, newReceipt(6000+n, p))
	}
	saveReceipts(t, s, list...)
	expectBuffered(t, s, store.Need{Await: []flows.Pair{p}, Flows: []uuid.UUID{flowID(1)}}, p,
		append([]flows.ExternalEvent{live}, list[:store.MatchLimit-1]...)...)
}

func testEventsByID(t *testing.T, s store.Store) {
	a, b := newReceipt(1, pair("t", "c")), fullReceipt(2)
	saveReceipts(t, s, a, b)
	snapshot := load(t, s, store.Need{Events: []uuid.UUID{b.ID, stepID(3), a.ID, b.ID}})
	if len(snapshot.Events) != 2 || snapshot.Events[a.ID] == nil || snapshot.Events[b.ID] == nil {
		t.Fatalf("events: %v", snapshot.Events)
	}
	same(t, "event", receiptText(snapshot.Events[a.ID]), receiptText(&a))
	same(t, "full event", receiptText(snapshot.Events[b.ID]), receiptText(&b))
}
