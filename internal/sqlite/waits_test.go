package sqlite_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"taskflow/internal/flows"
	"taskflow/internal/sqlite"
	"taskflow/internal/sqlite/sqlitetest"
	"taskflow/internal/store"

	"github.com/google/uuid"
)

// The waits of these tests began at testEpoch, and their times are counted from there.

func timerCondition(after time.Duration) flows.Condition {
	return flows.Condition{Kind: flows.WaitTimer, At: testEpoch.Add(after)}
}

func eventCondition(topic, correlation string) flows.Condition {
	return flows.Condition{Kind: flows.WaitExternalEvent, Pair: flows.Pair{Topic: topic, CorrelationID: correlation}}
}

func anyOf(conditions ...flows.Condition) *flows.Wait {
	return &flows.Wait{Kind: flows.WaitAnyOf, Conditions: conditions, Generation: 2, Since: testEpoch}
}

func one(c flows.Condition) *flows.Wait {
	return &flows.Wait{Kind: c.Kind, Conditions: []flows.Condition{c}, Generation: 2, Since: testEpoch}
}

func timer(after time.Duration) *flows.Wait { return one(timerCondition(after)) }

func event1(topic, correlation string) *flows.Wait { return one(eventCondition(topic, correlation)) }

func manual(generation int64) *flows.Wait {
	w := one(flows.Condition{Kind: flows.WaitManual})
	w.Generation = generation
	return w
}

// load runs an Update that only loads.
func load(t testing.TB, s store.Updater, need store.Need) (found store.Snapshot) {
	t.Helper()
	err := s.Update(t.Context(), func(tx store.Tx) (err error) {
		found, err = tx.Load(need)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func loadDue(t testing.TB, s store.Updater, limit int) map[uuid.UUID]*flows.Flow {
	t.Helper()
	var found store.Snapshot
	err := s.Update(t.Context(), func(tx store.Tx) (err error) {
		found, err = tx.LoadDue(limit)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found.Flows
}

// rows is the one number that a query answers.
func rows(t testing.TB, s *sqlite.Store, query string) (n int) {
	t.Helper()
	if err := s.Readers().QueryRowContext(t.Context(), query).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// atTime opens a store whose clock stands at what now points to.
func atTime(t testing.TB, now *time.Time) *sqlite.Store {
	return openAs(t, sqlitetest.File(t), sqlite.Options{Now: func() time.Time { return *now }})
}

func TestDueToTheMicrosecond(t *testing.T) {
	now := testEpoch
	s := atTime(t, &now)
	f := waits(aFlow(1), timer(time.Minute))
	mustSave(t, s, created(f, waits(aFlow(2), timer(time.Hour)), waits(aFlow(3), event1("a", "b")), aFlow(4)))
	due := testEpoch.Add(time.Minute)
	for _, c := range []struct {
		before time.Duration
		want   int
	}{{time.Minute, 0}, {time.Microsecond, 0}, {time.Nanosecond, 0}, {0, 1}, {-time.Nanosecond, 1}, {-time.Second, 1}} {
		now = due.Add(-c.before)
		if got := len(loadDue(t, s, 10)); got != c.want {
			t.Errorf("%v before: %d flows are due, want %d", c.before, got, c.want)
		}
		next, in, ok, err := s.NextDue(t.Context())
		if !ok || err != nil || !next.Equal(due) || in != c.before {
			t.Errorf("next due %v in %v, %v, %v; want %v in %v", next, in, ok, err, due, c.before)
		}
		if stats, err := s.Stats(t.Context(), flows.Everyone); err != nil || len(stats.DueNext) == 0 || !stats.DueNext[0].At.Equal(due) {
			t.Errorf("due next %v, %v; want %v", stats.DueNext, err, due)
		}
	}
	f.Status, f.Wait = flows.Running, nil
	mustSave(t, s, changed(f, func(*flows.Flow) {}))
	if got := loadDue(t, s, 10); len(got) != 0 {
		t.Errorf("%d flows are due after the wait has ended", len(got))
	}
}

func TestTheEarliestAreDueFirst(t *testing.T) {
	now := *at(time.Hour)
	s := atTime(t, &now)
	var list []*flows.Flow
	for n := range 20 {
		list = append(list, waits(aFlow(n), timer(time.Duration(20-n)*time.Second)))
	}
	mustSave(t, s, created(list...))
	got := loadDue(t, s, 3)
	for _, f := range list[17:] {
		if len(got) != 3 || got[f.ID] == nil {
			t.Errorf("the flow due at %v is not among the first %d", f.Wait.Conditions[0].At, len(got))
		}
	}
}

func TestWhatHasExpiredDoesNotCrowdOutWhatIsKept(t *testing.T) {
	now := *at(time.Hour)
	s := atTime(t, &now)
	pair := flows.Pair{Topic: "pay", CorrelationID: "7"}
	var w store.Writes
	for n := range store.MatchLimit + 50 {
		w.ExternalEvents = append(w.ExternalEvents, anEvent(n, pair, flows.EventBuffered))
	}
	kept := anEvent(store.MatchLimit+50, pair, flows.EventBuffered)
	kept.ExpiresAt = now.Add(time.Microsecond)
	w.ExternalEvents = append(w.ExternalEvents, kept)
	mustSave(t, s, w)
	got := load(t, s, store.Need{Await: []flows.Pair{pair, pair}}).Buffered[pair]
	if len(got) != 1 || got[0].ID != kept.ID {
		t.Errorf("%d events are kept, want the one that has not expired", len(got))
	}
}

func TestMatchingIsByBothPartsToTheLetter(t *testing.T) {
	s := open(t)
	pairs := []flows.Pair{{Topic: "pay", CorrelationID: "7"}, {Topic: "Pay", CorrelationID: "7"}, {Topic: "pay", CorrelationID: "70"},
		{Topic: "pay ", CorrelationID: "7"}, {Topic: "p", CorrelationID: "ay7"}, {Topic: "é", CorrelationID: "e\u0301"}}
	for n, p := range pairs {
		mustSave(t, s, created(waits(aFlow(n), event1(p.Topic, p.CorrelationID))))
	}
	var matches []store.Match
	for _, p := range append(pairs, pairs...) {
		matches = append(matches, store.Match{Pair: p, Owners: flows.Everyone})
	}
	found := load(t, s, store.Need{Match: matches})
	for n, p := range pairs {
		if !slices.Equal(found.Waiting[store.Match{Pair: p, Owners: flows.Everyone}], []uuid.UUID{aFlow(n).ID}) || found.Flows[aFlow(n).ID] == nil {
			t.Errorf("%q is awaited by %v", p, found.Waiting[store.Match{Pair: p, Owners: flows.Everyone}])
		}
	}
}

func TestEraseAndPruneLeaveNothingToMatch(t *testing.T) {
	s := open(t)
	wait := func() *flows.Wait {
		return anyOf(eventCondition("a", "1"), eventCondition("a", "2"), timerCondition(0))
	}
	erased, pruned := waits(aFlow(1), wait()), waits(aFlow(2), wait())
	pruned.EndedAt = at(0) // no flow is so, but nothing is to be left of one
	mustSave(t, s, created(erased, pruned))
	if got := rows(t, s, "SELECT count(*) FROM awaited"); got != 4 {
		t.Fatalf("%d rows to match with, want 4", got)
	}
	mustSave(t, s, store.Writes{Erased: []uuid.UUID{erased.ID}})
	if n, err := s.Prune(t.Context(), *at(1 * time.Second), 10); n != 1 || err != nil {
		t.Fatalf("pruned %d, %v", n, err)
	}
	for _, table := range []string{"flows", "flow_labels", "steps", "events", "awaited"} {
		if got := rows(t, s, "SELECT count(*) FROM "+table); got != 0 {
			t.Errorf("%d rows left in %s", got, table)
		}
	}
}

func TestUpdateWithoutWaitLeavesTheMatchingAlone(t *testing.T) {
	s := open(t)
	pair := flows.Pair{Topic: "pay", CorrelationID: "7"}
	f := waits(aFlow(1), anyOf(eventCondition("pay", "7"), timerCondition(0)))
	mustSave(t, s, created(f))
	before := derived(t, s)
	f.Revision++
	mustSave(t, s, store.Writes{Updated: []store.FlowUpdate{{Flow: f, State: true}},
		Events: []flows.Event{event(f, flows.EventStateUpdated)}})
	if after := derived(t, s); !slices.Equal(before, after) {
		t.Errorf("matched by %q, before %q", after, before)
	}
	if got := load(t, s, store.Need{Match: []store.Match{{Pair: pair, Owners: flows.Everyone}}}).Waiting[store.Match{Pair: pair, Owners: flows.Everyone}]; len(got) != 1 {
		t.Errorf("%v wait", got)
	}
}

// anEvent is the n-th of external events that are each a second younger than the one before, and are not kept.
func anEvent(n int, pair flows.Pair, outcome flows.EventOutcome) *flows.ExternalEvent {
	at := testEpoch.Add(time.Duration(n) * time.Second)
	return &flows.ExternalEvent{Owners: flows.Everyone, ID: uuid.NewSHA1(uuid.NameSpaceURL, fmt.Append(nil, n)), Pair: pair, Actor: "shop",
		Payload: json.RawMessage(`{"n":1.10}`), At: at, ExpiresAt: at, Outcome: outcome}
}
