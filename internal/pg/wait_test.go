package pg_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"taskflow/internal/flows"
	"taskflow/internal/pg"
	"taskflow/internal/pg/pgtest"
	"taskflow/internal/store"

	"github.com/google/uuid"
)

// waitFor is a wait of f for an external event.
func waitFor(f *flows.Flow, pair flows.Pair) *flows.Wait {
	return &flows.Wait{Kind: flows.WaitExternalEvent, Generation: f.Revision, Since: f.UpdatedAt,
		Conditions: []flows.Condition{{Kind: flows.WaitExternalEvent, Pair: pair}}}
}

// timed is a flow that waits for a time so far ahead, or behind, of now.
func timed(ahead time.Duration) *flows.Flow {
	f := newFlow()
	f.Status = flows.Waiting
	f.Wait = &flows.Wait{Kind: flows.WaitTimer, Since: f.UpdatedAt,
		Conditions: []flows.Condition{{Kind: flows.WaitTimer, At: f.UpdatedAt.Add(ahead)}}}
	return f
}

func newExternalEvent(pair flows.Pair) *flows.ExternalEvent {
	now := time.Now().UTC().Truncate(time.Microsecond)
	return &flows.ExternalEvent{Owners: flows.Everyone, ID: uuid.Must(uuid.NewV7()), Pair: pair, Payload: json.RawMessage(`{"n":1.10}`),
		Actor: "sender", At: now, ExpiresAt: now.Add(time.Hour), Outcome: flows.EventBuffered}
}

func save(t testing.TB, s store.Updater, w store.Writes) {
	t.Helper()
	must(t, s.Update(t.Context(), func(tx store.Tx) error { return tx.Save(w) }))
}

// changes gathers what commands do, as the engine would.
type changes struct{ store.Writes }

func (w *changes) decide(s flows.Subject, action flows.Action, now time.Time) (*flows.Flow, error) {
	change, err := flows.Decide(s, flows.Command{Owners: flows.Everyone, FlowID: s.Flow.ID, Actor: "test", Action: action}, now)
	if err != nil {
		return nil, err
	}
	w.Updated = append(w.Updated, store.FlowUpdate{Flow: change.Flow, State: true, Wait: true})
	w.Events = append(w.Events, change.Events...)
	if change.Consumed != nil {
		w.ExternalEvents = append(w.ExternalEvents, change.Consumed)
	}
	return change.Flow, nil
}

// beginWaits makes each flow wait for the pair of the same place, in one transaction.
func beginWaits(ctx context.Context, s store.Updater, ids []uuid.UUID, pairs []flows.Pair) error {
	return s.Update(ctx, func(tx store.Tx) error {
		snapshot, err := tx.Load(store.Need{Flows: ids, Await: pairs})
		if err != nil {
			return err
		}
		var w changes
		for i, id := range ids {
			subject := flows.Subject{Flow: snapshot.Flows[id], Buffered: snapshot.Buffered[pairs[i]]}
			wait := flows.SetWait{Kind: flows.WaitExternalEvent,
				Conditions: []flows.ConditionSpec{{Kind: flows.WaitExternalEvent, Pair: pairs[i]}}}
			if _, err := w.decide(subject, wait, snapshot.Now); err != nil {
				return err
			}
		}
		return tx.Save(w.Writes)
	})
}

// publish offers external events to whoever waits for them, in one transaction.
func publish(ctx context.Context, s store.Updater, events ...*flows.ExternalEvent) error {
	var need store.Need
	for _, e := range events {
		need.Match = append(need.Match, store.Match{Pair: e.Pair, Owners: flows.Everyone})
	}
	return s.Update(ctx, func(tx store.Tx) error {
		snapshot, err := tx.Load(need)
		if err != nil {
			return err
		}
		var w changes
		for _, e := range events {
			var resumed []*flows.Flow
			for _, id := range snapshot.Waiting[store.Match{Pair: e.Pair, Owners: flows.Everyone}] {
				f, err := w.decide(flows.Subject{Flow: snapshot.Flows[id]}, flows.EndByEvent{Event: e}, snapshot.Now)
				if err != nil {
					return fmt.Errorf("flow %s of Waiting: %w", id, err)
				}
				resumed = append(resumed, f)
			}
			settled := e.Settle(resumed, snapshot.More[store.Match{Pair: e.Pair, Owners: flows.Everyone}], nil, snapshot.Now)
			w.ExternalEvents = append(w.ExternalEvents, &settled)
		}
		return tx.Save(w.Writes)
	})
}

// fireDue ends the waits that are due, at most limit, and returns whose they were.
func fireDue(ctx context.Context, s store.Updater, limit int) (fired []uuid.UUID, err error) {
	err = s.Update(ctx, func(tx store.Tx) error {
		snapshot, err := tx.LoadDue(limit)
		if err != nil {
			return err
		}
		var w changes
		fired = nil
		for id, f := range snapshot.Flows {
			fire := flows.FireDue{Generation: f.Wait.Generation}
			if _, err := w.decide(flows.Subject{Flow: f}, fire, snapshot.Now); err != nil {
				return fmt.Errorf("flow %s of LoadDue: %w", id, err)
			}
			fired = append(fired, id)
		}
		return tx.Save(w.Writes)
	})
	return fired, err
}

// Every change takes the locks of the same pairs in the same order, each once; other pairs have others.
func TestPairLocks(t *testing.T) {
	t.Parallel()
	a, b, c := flows.Pair{Topic: "ab", CorrelationID: "c"}, flows.Pair{Topic: "a", CorrelationID: "bc"}, flows.Pair{Topic: "c"}
	locks := pg.PairLocks(store.Need{Await: []flows.Pair{a, b, a}, Match: []store.Match{{Pair: c, Owners: flows.Everyone}, {Pair: b, Owners: flows.Everyone}}})
	if len(locks) != 3 || !slices.IsSorted(locks) {
		t.Errorf("three pairs have the locks %v", locks)
	}
	if turned := pg.PairLocks(store.Need{Await: []flows.Pair{c}, Match: []store.Match{{Pair: b, Owners: flows.Everyone}, {Pair: a, Owners: flows.Everyone}}}); !slices.Equal(turned, locks) {
		t.Errorf("the same pairs have the locks %v and %v", locks, turned)
	}
}

// A wait and an event for one pair, begun at once on two replicas, always meet; also where one batch has several of them
// and the other the same in another order.
func TestEventMeetsWait(t *testing.T) {
	t.Parallel()
	list := replicas(t, 2)
	before, after := 0, 0
	for n := range 300 {
		flowsOf, pairs := []uuid.UUID{}, []flows.Pair{}
		var fresh []*flows.Flow
		var events []*flows.ExternalEvent
		for i := range 3 {
			pair := flows.Pair{Topic: fmt.Sprint("topic ", i), CorrelationID: fmt.Sprint("order ", n)}
			f := newFlow()
			fresh, flowsOf, pairs = append(fresh, f), append(flowsOf, f.ID), append(pairs, pair)
			events = append(events, newExternalEvent(pair))
		}
		must(t, create(t.Context(), list[0], fresh...))
		slices.Reverse(events)
		errs := race(list, func(s *pg.Store) error {
			if (s == list[0]) == (n%2 == 0) {
				return beginWaits(t.Context(), s, flowsOf, pairs)
			}
			return publish(t.Context(), s, events...)
		})
		for _, err := range errs {
			must(t, err)
		}
		slices.Reverse(events)
		for i, id := range flowsOf {
			f, err := list[n%2].Flow(t.Context(), id, flows.Everyone)
			must(t, err)
			receipt, err := list[n%2].ExternalEvent(t.Context(), events[i].ID, flows.Everyone)
			must(t, err)
			if f.Status != flows.Running || f.ResumedBy == nil || *f.ResumedBy.EventID != receipt.ID ||
				receipt.Outcome != flows.EventDelivered || len(receipt.Flows) != 1 || receipt.Flows[0].FlowID != id {
				t.Fatalf("round %d: the flow is %s, resumed by %+v; the event was %s, to %v", n, f.Status, f.ResumedBy,
					receipt.Outcome, receipt.Flows)
			}
			if endedAtOnce(t, list[0], id) {
				before++
			} else {
				after++
			}
		}
	}
	t.Logf("%d events came before the wait, %d after it", before, after)
}

// endedAtOnce reports whether the flow's wait ended in the commit in which it began.
func endedAtOnce(t *testing.T, s store.Reader, id uuid.UUID) bool {
	t.Helper()
	page, err := s.Events(t.Context(), store.EventQuery{Owners: flows.Everyone, FlowID: id, FromFlow: true, Limit: 10})
	must(t, err)
	last := page.Items[len(page.Items)-2:]
	return last[0].Kind == flows.EventWaiting && last[0].At.Equal(last[1].At)
}

// A flow that is resumed by hand while an event waits for its lock is not offered the event; the others are.
func TestEventMeetsResume(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	s, other, watcher := open(t, url), open(t, url), connect(t, url)
	pair := flows.Pair{Topic: "t", CorrelationID: "c"}
	one, two := newFlow(), newFlow()
	must(t, create(t.Context(), s, one, two))
	must(t, beginWaits(t.Context(), s, []uuid.UUID{one.ID, two.ID}, []flows.Pair{pair, pair}))
	event := newExternalEvent(pair)
	published := make(chan error, 1)
	must(t, other.Update(t.Context(), func(tx store.Tx) error {
		snapshot, err := tx.Load(store.Need{Flows: []uuid.UUID{one.ID}})
		if err != nil {
			return err
		}
		go func() { published <- publish(t.Context(), s, event) }()
		waitBlocked(t, watcher)
		var w changes
		if _, err := w.decide(flows.Subject{Flow: snapshot.Flows[one.ID]}, flows.Resume{}, snapshot.Now); err != nil {
			return err
		}
		return tx.Save(w.Writes)
	}))
	must(t, <-published)
	receipt, err := s.ExternalEvent(t.Context(), event.ID, flows.Everyone)
	must(t, err)
	if len(receipt.Flows) != 1 || receipt.Flows[0].FlowID != two.ID || receipt.Outcome != flows.EventDelivered {
		t.Errorf("the event was %s, to %v", receipt.Outcome, receipt.Flows)
	}
	f, err := s.Flow(t.Context(), one.ID, flows.Everyone)
	must(t, err)
	if f.ResumedBy.Kind != flows.ResumedManually || f.Revision != 2 {
		t.Errorf("the other flow was resumed by %+v, and is at revision %d", f.ResumedBy, f.Revision)
	}
}

// Of two transactions at once, the second has what the first has left, and neither waits.
func TestDueFlowsAreShared(t *testing.T) {
	t.Parallel()
	list := replicas(t, 2)
	var due []*flows.Flow
	for n := range 20 {
		due = append(due, timed(-time.Hour+time.Duration(n)*time.Second))
	}
	must(t, create(t.Context(), list[0], append(due, timed(time.Hour))...))
	must(t, list[0].Update(t.Context(), func(tx store.Tx) error {
		first, err := tx.LoadDue(12)
		if err != nil {
			return err
		}
		second, err := fireDue(t.Context(), list[1], 20)
		if err != nil {
			return err
		}
		if len(first.Flows) != 12 || len(second) != 8 {
			t.Errorf("the first has %d, the second %d; want 12 and 8", len(first.Flows), len(second))
		}
		for i, f := range due {
			if slices.Contains(second, f.ID) != (i >= 12) || (first.Flows[f.ID] != nil) != (i < 12) {
				t.Errorf("flow %d, in the order of due times, came to the wrong one", i)
			}
		}
		return nil
	}))
	if left, err := fireDue(t.Context(), list[1], 20); err != nil || len(left) != 12 {
		t.Errorf("%d are left, %v; want the 12 that the first did not fire", len(left), err)
	}
}

// Replicas that fire what is due, again and again, fire each flow once.
func TestDueFlowsFireOnce(t *testing.T) {
	t.Parallel()
	list := replicas(t, 3)
	var due []*flows.Flow
	for range 200 {
		due = append(due, timed(-time.Hour))
	}
	must(t, create(t.Context(), list[0], due...))
	var mu sync.Mutex
	count := make(map[uuid.UUID]int)
	errs := race(list, func(s *pg.Store) error {
		for {
			fired, err := fireDue(t.Context(), s, 7)
			mu.Lock()
			for _, id := range fired {
				count[id]++
			}
			done := len(count) == len(due)
			mu.Unlock()
			if err != nil || done {
				return err
			}
		}
	})
	for _, err := range errs {
		must(t, err)
	}
	for _, f := range due {
		if count[f.ID] != 1 {
			t.Errorf("flow %s fired %d times", f.ID, count[f.ID])
		}
		expectTrail(t, list[0], f.ID, "creator", flows.ActorTimer)
	}
	if _, _, ok, err := list[0].NextDue(t.Context()); ok || err != nil {
		t.Errorf("something is due yet: %v, %v", ok, err)
	}
}

// Of servers that start at once, one records the first key.
func TestFirstCallbackKeyAtOnce(t *testing.T) {
	t.Parallel()
	for range 10 {
		list := replicas(t, 3)
		for i, err := range race(list, func(s *pg.Store) error {
			key := store.CallbackKey{ID: uuid.NewString()[:8], Secret: make([]byte, 32), CreatedAt: time.Now()}
			return s.AddCallbackKey(t.Context(), key, true)
		}) {
			if err != nil {
				t.Errorf("server %d: %v", i, err)
			}
		}
		if keys, err := list[0].CallbackKeys(t.Context()); err != nil || len(keys) != 1 {
			t.Fatalf("%d keys, %v", len(keys), err)
		}
	}
}

// A key that is added again is there once; its id is not for another key.
func TestCallbackKeyAgain(t *testing.T) {
	t.Parallel()
	s := open(t, pgtest.Database(t))
	key := store.CallbackKey{ID: "12345678", Secret: []byte("one secret"), CreatedAt: time.Now()}
	must(t, s.AddCallbackKey(t.Context(), key, false))
	must(t, s.AddCallbackKey(t.Context(), key, false))
	key.Secret = []byte("another")
	if err := s.AddCallbackKey(t.Context(), key, false); !errors.Is(err, flows.ErrAlreadyExists) {
		t.Errorf("another key with the id of one: %v", err)
	}
	keys, err := s.CallbackKeys(t.Context())
	if err != nil || len(keys) != 1 || string(keys[0].Secret) != "one secret" {
		t.Errorf("keys %v, %v", keys, err)
	}
}

// Pruning passes over a flow whose late step is being recorded, and leaves nothing of it once it has been.
func TestPruneMeetsLateStep(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	s, conn := open(t, url), connect(t, url)
	ended := time.Now().UTC().Add(-time.Hour).Truncate(time.Microsecond)
	var list []*flows.Flow
	for range 3 {
		f := newFlow()
		f.Status, f.EndedAt = flows.Finished, &ended
		list = append(list, f)
	}
	must(t, create(t.Context(), s, list...))
	late := list[1]
	must(t, s.Update(t.Context(), func(tx store.Tx) error {
		if _, err := tx.Load(store.Need{Flows: []uuid.UUID{late.ID}}); err != nil {
			return err
		}
		if n, err := s.Prune(t.Context(), time.Now(), 10); n != 2 || err != nil {
			t.Errorf("pruned %d, %v; want the 2 that nobody holds", n, err)
		}
		step := &flows.Step{ID: uuid.New(), FlowID: late.ID, RunID: "late", Runtime: flows.Managed, Task: "t",
			Status: flows.StepSucceeded, Result: json.RawMessage("null")}
		return tx.Save(store.Writes{Steps: []*flows.Step{step}, Events: []flows.Event{eventOf(late, "late")}})
	}))
	if n, err := s.Prune(t.Context(), time.Now(), 10); n != 1 || err != nil {
		t.Errorf("pruned %d, %v; want 1", n, err)
	}
	const left = `select (select count(*) from flows) + (select count(*) from steps) + (select count(*) from events) +
		(select count(*) from flow_labels)`
	if n := query[int](t, conn, left); n != 0 {
		t.Errorf("%d rows are left", n)
	}
}
