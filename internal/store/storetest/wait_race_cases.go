package storetest

import (
	"errors"
	"fmt"
	"runtime"
	"testing"
	"time"

	"taskflow/internal/flows"
	"taskflow/internal/store"

	"github.com/google/uuid"
)

func waitRaceCases() []testCase {
	return []testCase{
		{"EventAndWait", "Await are pairs for which a wait may begin or an event be kept: they are locked.", testEventAndWait},
		{"EventsAndWaits", "Await and Match: the pairs are locked.", testEventsAndWaits},
		{"OneEnd", "Match and LoadDue: the flows that wait are locked and read.", testOneEnd},
		{"DueShared", "LoadDue passes over flows that another transaction has locked.", testDueShared},
		{"DuePassesOver", "LoadDue passes over flows that another transaction has locked.", testDuePassesOver},
		{"PrunePassesOver", "Flows that another transaction has locked are passed over.", testPrunePassesOver},
		{"NoDeadlock", "Locks are taken in one order by every writer: answer keys, then pairs, then flows by id.",
			testNoWaitDeadlock},
		{"TwoDeliveries", "Events and Match: what is read after a lock is what was committed when the lock was had.",
			testTwoDeliveries},
	}
}

func waitCommand(id uuid.UUID, pairs ...flows.Pair) flows.Command {
	wait := flows.SetWait{Kind: flows.WaitExternalEvent}
	for _, p := range pairs {
		wait.Conditions = append(wait.Conditions, flows.ConditionSpec{Kind: flows.WaitExternalEvent, Pair: p})
	}
	if len(pairs) > 1 {
		wait.Kind = flows.WaitAnyOf
	}
	return flows.Command{Owners: flows.Everyone, FlowID: id, Actor: "tester", Action: wait}
}

// running creates a flow that runs.
func running(t *testing.T, s store.Store, id uuid.UUID) {
	t.Helper()
	refusals, err := apply(t.Context(), s, epoch, createCommand(id, "waits"), flows.Command{Owners: flows.Everyone, FlowID: id, Action: flows.Start{}})
	if err := errors.Join(append(refusals, err)...); err != nil {
		t.Fatal(err)
	}
}

// accepted is the error of an apply whose commands must all be accepted.
func accepted(refusals []error, err error) error { return errors.Join(append(refusals, err)...) }

// testEventAndWait lets a flow begin to wait while its event arrives: whichever is first, the flow goes on.
func testEventAndWait(t *testing.T, s store.Store) {
	for round := range 20 {
		id, p := flowID(round), pair("t", fmt.Sprint(round))
		running(t, s, id)
		together(t, 2, func(i int) error {
			if i == round%2 {
				_, err := post(t.Context(), s, at(1), newReceipt(round, p))
				return err
			}
			return accepted(apply(t.Context(), s, at(1), waitCommand(id, p)))
		})
		f := readFlow(t, s, id)
		e, err := s.ExternalEvent(t.Context(), stepID(round), flows.Everyone)
		if err != nil {
			t.Fatal(err)
		}
		if f.Status != flows.Running || f.Revision != 3 || e.Outcome != flows.EventDelivered || e.FlowCount != 1 {
			t.Errorf("round %d: the flow is %s at revision %d, the event %s", round, f.Status, f.Revision, receiptText(e))
		}
	}
}

// testEventsAndWaits lets many flows wait for either of two pairs, named in either order, while events of both arrive. In
// the end no flow waits while an event is kept for it, and each event ended what its receipt says.
func testEventsAndWaits(t *testing.T, s store.Store) {
	const n = 12
	p, q := pair("t", "p"), pair("t", "q")
	for i := range n {
		running(t, s, flowID(i))
	}
	together(t, 2*n, func(i int) error {
		switch {
		case i < n && i%2 == 0:
			return accepted(apply(t.Context(), s, at(1), waitCommand(flowID(i), p, q)))
		case i < n:
			return accepted(apply(t.Context(), s, at(1), waitCommand(flowID(i), q, p)))
		}
		runtime.Gosched()
		_, err := post(t.Context(), s, at(1), newReceipt(i, []flows.Pair{p, q}[i%2]))
		return err
	})
	waits, ended := 0, map[uuid.UUID]int64{}
	for i := range n {
		f := readFlow(t, s, flowID(i))
		if f.Wait != nil {
			waits++
		} else if f.ResumedBy != nil && f.ResumedBy.EventID != nil && f.Revision == 3 {
			ended[*f.ResumedBy.EventID]++
		} else {
			t.Errorf("flow %d is %s", i, flowText(f))
		}
	}
	list, err := allReceipts(t.Context(), s, store.ExternalEventQuery{Owners: flows.Everyone, Limit: 2 * n})
	if err != nil || len(list) != n {
		t.Fatalf("%d receipts, %v; want %d", len(list), err, n)
	}
	kept := 0
	for _, e := range list {
		if e.Outcome == flows.EventBuffered {
			kept++
		}
		if e.FlowCount != ended[e.ID] || int(e.FlowCount) != len(e.Flows) {
			t.Errorf("%d flows say that it resumed them: %s", ended[e.ID], receiptText(e))
		}
	}
	if waits > 0 && kept > 0 {
		t.Errorf("%d flows wait while %d events are kept for them", waits, kept)
	}
}

// testOneEnd races a timer, an event, a callback, a resume and a timeout for each of some waits.
func testOneEnd(t *testing.T, s store.Store) {
	for round := range 8 {
		id, p := flowID(round), pair("t", fmt.Sprint(round))
		f := waiting(round, timer(at(10)), flows.Condition{Kind: flows.WaitExternalEvent, Pair: p},
			flows.Condition{Kind: flows.WaitCallback})
		f.Wait.Timeout, f.Wait.CallbackKey = &flows.Timeout{At: at(5), Then: flows.TimeoutFails}, "key"
		create(t, s, f)
		together(t, 5, func(i int) error {
			var err error
			switch (i + round) % 5 {
			case 0, 1:
				_, err = fire(t.Context(), s, nil, 10)
			case 2:
				_, err = post(t.Context(), s, at(20), newReceipt(round, p))
			case 3:
				_, err = apply(t.Context(), s, at(20), flows.Command{Owners: flows.Everyone, FlowID: id, Action: flows.Resume{}})
			case 4:
				_, err = apply(t.Context(), s, at(20), flows.Command{Owners: flows.Everyone, FlowID: id,
					Action: flows.EndByCallback{Generation: 2, Condition: 2, Key: "key"}})
			}
			return err
		})
		got := readFlow(t, s, id)
		events := trail(t, s, id)
		if got.Wait != nil || got.Revision != 3 || len(events) != 2 {
			t.Errorf("round %d: %s\n%s", round, flowText(got), eventsText(events))
		}
	}
}

// testDueShared lets many take what is due, a little at a time, until there is no more: each flow fires once.
func testDueShared(t *testing.T, s store.Store) {
	const n = 60
	var list []*flows.Flow
	for i := range n {
		list = append(list, waiting(i, timer(at(i%7)), awaited("t", "c")))
	}
	create(t, s, list...)
	together(t, 4, func(int) error {
		for {
			ids, err := fire(t.Context(), s, nil, 7)
			if err != nil || len(ids) == 0 {
				return err
			}
		}
	})
	// Whoever found nothing may have passed over what another transaction held, but not over what nobody did.
	expectDue(t, s, n)
	for i := range n {
		f := readFlow(t, s, flowID(i))
		if f.Revision != 3 || f.Wait != nil || len(trail(t, s, f.ID)) != 2 {
			t.Errorf("flow %d is %s", i, flowText(f))
		}
	}
}

// patience is how long a transaction is held open for another one that should not wait for it. A store whose Updates are
// serial lets it run out.
const patience = 50 * time.Millisecond

// whileLocked runs other while a transaction that ends the wait of one flow, or touches it, holds the flow locked.
func whileLocked(t *testing.T, s store.Store, u store.FlowUpdate, other func() error) {
	t.Helper()
	held, done := make(chan struct{}, 100), make(chan struct{})
	together(t, 2, func(i int) error {
		if i == 1 {
			defer close(done)
			<-held
			return other()
		}
		return s.Update(t.Context(), func(tx store.Tx) error {
			w := store.Writes{Updated: []store.FlowUpdate{u}}
			if _, err := tx.Load(needOf(w)); err != nil {
				held <- struct{}{}
				return err
			}
			held <- struct{}{}
			limit := time.NewTimer(patience)
			defer limit.Stop()
			select {
			case <-done:
			case <-limit.C:
			}
			return tx.Save(w)
		})
	})
}

// testDuePassesOver holds the earliest flow locked and ends its wait, while another takes what is due: it is given the
// others at once, or it waits and then the flow is due no more.
func testDuePassesOver(t *testing.T, s store.Store) {
	first, second, third := waiting(1, timer(at(1))), waiting(2, timer(at(2))), waiting(3, timer(at(3)))
	create(t, s, first, second, third)
	var got []uuid.UUID
	whileLocked(t, s, store.FlowUpdate{Flow: resumed(first), Wait: true}, func() error {
		var err error
		got, err = fire(t.Context(), s, nil, 2)
		return err
	})
	for _, id := range got {
		if id == first.ID {
			t.Error("LoadDue gave a flow that another transaction had locked, and whose wait that one ended")
		}
	}
	if _, err := fire(t.Context(), s, nil, 10); err != nil {
		t.Fatal(err)
	}
	expectDue(t, s, 10)
	for n := 1; n <= 3; n++ {
		if f := readFlow(t, s, flowID(n)); f.Revision != 3 {
			t.Errorf("flow %d is at revision %d, want 3", n, f.Revision)
		}
	}
}

// testPrunePassesOver holds an ended flow locked, as an observation of one of its steps does.
func testPrunePassesOver(t *testing.T, s store.Store) {
	first, second := endedAt(1, 10, flows.Finished), endedAt(2, 20, flows.Finished)
	create(t, s, first, second)
	touched := *first
	touched.StepsTotal = 1
	pruned := 0
	whileLocked(t, s, store.FlowUpdate{Flow: &touched}, func() error {
		var err error
		pruned, err = s.Prune(t.Context(), farAway, 10)
		return err
	})
	again, err := s.Prune(t.Context(), farAway, 10)
	if err != nil || pruned+again != 2 {
		t.Errorf("pruned %d, then %d, %v; want both flows in all", pruned, again, err)
	}
	expectFlows(t, s, store.FlowQuery{Owners: flows.Everyone}, "")
}

// testNoWaitDeadlock takes answers, pairs and flows in every order that a caller may name them, with what is due beside it.
func testNoWaitDeadlock(t *testing.T, s store.Store) {
	for n := range 3 {
		create(t, s, waiting(n, timer(at(100)), awaited("t", "0"), awaited("t", "1"), awaited("t", "2")))
	}
	p := func(n int) flows.Pair { return pair("t", fmt.Sprint(n%3)) }
	together(t, 24, func(i int) error {
		switch i % 4 {
		case 0:
			_, err := fire(t.Context(), s, pointer(at(0)), 3) // ends nothing
			return err
		case 1:
			_, err := s.Prune(t.Context(), farAway, 3)
			return err
		}
		return s.Update(t.Context(), func(tx store.Tx) error {
			need := store.Need{Answers: []store.AnswerKey{answerKey(i % 3), answerKey((i + 1) % 3)},
				Await: []flows.Pair{p(i), p(i + 1)}, Match: []store.Match{{Pair: p(i + 2), Owners: flows.Everyone}, {Pair: p(i + 1), Owners: flows.Everyone}},
				Flows: []uuid.UUID{flowID(i % 3), flowID((i + 2) % 3)}}
			snapshot, err := tx.Load(need)
			if err != nil {
				return err
			}
			var w store.Writes
			for _, id := range sortedIDs(snapshot.Flows) {
				next, event := touch(snapshot.Flows[id], "{}")
				w.Updated, w.Events = append(w.Updated, store.FlowUpdate{Flow: next}), append(w.Events, event)
			}
			e := newReceipt(i, p(i))
			w.ExternalEvents = append(w.ExternalEvents, &e)
			w.Answers = append(w.Answers, newAnswer(i%3, fmt.Sprint(i)))
			return tx.Save(w)
		})
	})
	for n := range 3 {
		if f := readFlow(t, s, flowID(n)); f.Revision != 2+12 {
			t.Errorf("flow %d is at revision %d, want %d", n, f.Revision, 2+12)
		}
	}
}

// testTwoDeliveries lets two go on with one event that is still being delivered: its count stays right.
func testTwoDeliveries(t *testing.T, s store.Store) {
	p := pair("t", "c")
	const n = 20
	for i := range n {
		create(t, s, waiting(i, awaited("t", "c")))
	}
	e := newReceipt(1, p)
	e.Outcome = flows.EventDelivering
	saveReceipts(t, s, e)
	together(t, 4, func(i int) error {
		return s.Update(t.Context(), func(tx store.Tx) error {
			snapshot, err := tx.Load(store.Need{Events: []uuid.UUID{e.ID}, Match: []store.Match{{Pair: p, Owners: flows.Everyone}}})
			if err != nil {
				return err
			}
			b := newBatch(snapshot)
			var ended []*flows.Flow
			for _, id := range snapshot.Waiting[store.Match{Pair: p, Owners: flows.Everyone}][:min(5, len(snapshot.Waiting[store.Match{Pair: p, Owners: flows.Everyone}]))] {
				if err := b.decide(flows.Command{Owners: flows.Everyone, FlowID: id, Action: flows.EndByEvent{Event: &e}}, at(9)); err != nil {
					return err
				}
				ended = append(ended, b.flows[id])
			}
			settled := snapshot.Events[e.ID].Settle(ended, len(snapshot.Waiting[store.Match{Pair: p, Owners: flows.Everyone}]) > 5, nil, at(9))
			b.external = append(b.external, &settled)
			return tx.Save(b.writes())
		})
	})
	got, err := s.ExternalEvent(t.Context(), e.ID, flows.Everyone)
	if err != nil || got.FlowCount != n || len(got.Flows) != n || got.Outcome != flows.EventDelivered {
		t.Errorf("%v, %v; want %d flows resumed", receiptText(got), err, n)
	}
}
