package storetest

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"taskflow/internal/flows"
	"taskflow/internal/store"

	"github.com/google/uuid"
)

func raceCases() []testCase {
	return []testCase{
		{"NoLostUpdate", "Load locks and reads; what is read after a lock is what was committed when the lock was had.",
			testNoLostUpdate},
		{"Now", "Now is the database's clock, read after the locks were had.", testNowAfterLocks},
		{"OneCreate", "fn may run again, with fresh data, after a lost race to insert.", testOneCreate},
		{"OneAnswer", "Locks are taken in one order by every writer: answer keys, then flows by id.", testOneAnswer},
		{"OneStep", "Steps replace the recorded step of the same (FlowID, RunID).", testOneStep},
		{"StepsCounted", "What is read after a lock is what was committed when the lock was had.", testStepsCounted},
		{"NoDeadlock", "Locks are taken in one order by every writer.", testNoDeadlock},
		{"EraseAndUse", "What is read after a lock is what was committed when the lock was had.", testEraseAndUse},
		{"SeqRises", "A reader that has seen a Seq never later finds a new event below it.", testSeqRises},
	}
}

// trifle is how far a database's clock may be set back while the suite runs.
const trifle = 50 * time.Millisecond

// together runs fn n times at once and waits for all of them.
func together(t *testing.T, n int, fn func(i int) error) {
	t.Helper()
	var group sync.WaitGroup
	start := make(chan struct{})
	errs := make([]error, n)
	for i := range n {
		group.Go(func() {
			<-start
			errs[i] = fn(i)
		})
	}
	close(start)
	group.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// increment raises a number in the state of a flow by what it loads.
func increment(ctx context.Context, s store.Updater, id uuid.UUID) error {
	return s.Update(ctx, func(tx store.Tx) error {
		snapshot, err := tx.Load(store.Need{Flows: []uuid.UUID{id}})
		if err != nil {
			return err
		}
		runtime.Gosched() // lets others in between, where nothing locks
		next, event := touch(snapshot.Flows[id], "")
		next.State = fmt.Append(nil, next.Revision)
		return tx.Save(store.Writes{Updated: []store.FlowUpdate{{Flow: next, State: true}}, Events: []flows.Event{event}})
	})
}

func testNoLostUpdate(t *testing.T, s store.Store) {
	const n = 40
	create(t, s, newFlow(1))
	together(t, n, func(int) error { return increment(t.Context(), s, flowID(1)) })
	f := readFlow(t, s, flowID(1))
	if f.Revision != n || string(f.State) != fmt.Sprint(n) {
		t.Errorf("after %d increments: revision %d, state %s", n, f.Revision, f.State)
	}
	for i, e := range trail(t, s, f.ID) {
		if e.Revision != int64(i) {
			t.Errorf("event %d of the trail has revision %d", i, e.Revision)
		}
	}
}

// testNowAfterLocks queues writers up behind each other: the time that each is told is not from before it waited.
func testNowAfterLocks(t *testing.T, s store.Store) {
	f := newFlow(1)
	f.UpdatedAt = load(t, s, store.Need{}).Now
	create(t, s, f)
	together(t, 20, func(int) error {
		return s.Update(t.Context(), func(tx store.Tx) error {
			snapshot, err := tx.Load(store.Need{Flows: []uuid.UUID{f.ID}})
			if err != nil {
				return err
			}
			last := snapshot.Flows[f.ID]
			if snapshot.Now.Before(last.UpdatedAt.Add(-trifle)) {
				return fmt.Errorf("the clock says %s, and a change of %s is there", snapshot.Now, last.UpdatedAt)
			}
			next := *last
			next.Revision, next.UpdatedAt = last.Revision+1, snapshot.Now
			return tx.Save(store.Writes{Updated: []store.FlowUpdate{{Flow: &next}}})
		})
	})
}

// testOneCreate lets many create one flow: one does, the others see it.
func testOneCreate(t *testing.T, s store.Store) {
	for round := range 8 {
		id := flowID(round)
		results := make([]error, 4)
		together(t, len(results), func(i int) error {
			refusals, err := apply(t.Context(), s, epoch, createCommand(id, fmt.Sprint("by ", i)))
			if err == nil {
				results[i] = refusals[0]
			}
			return err
		})
		winner := -1
		for i, err := range results {
			switch {
			case err == nil && winner < 0:
				winner = i
			case !errors.Is(err, flows.ErrAlreadyExists):
				t.Errorf("create %d of round %d: %v, the winner was %d", i, round, err, winner)
			}
		}
		if winner < 0 {
			t.Fatal("nobody created the flow")
		}
		if f := readFlow(t, s, id); f.Goal != fmt.Sprint("by ", winner) {
			t.Errorf("the flow is %q, the winner was %d", f.Goal, winner)
		}
		if n := len(trail(t, s, id)); n != 1 {
			t.Errorf("the trail has %d events", n)
		}
	}
}

func createCommand(id uuid.UUID, goal string) flows.Command {
	return flows.Command{Owners: flows.Everyone, FlowID: id, Actor: "tester", Action: flows.Create{Mode: flows.Managed,
		ControllerID: "kate/inbox", Goal: goal, OwnerSessionKey: "agent:kate"}}
}

// testOneAnswer repeats one request at once, as after a lost answer: it has one effect, and every repeat sees its answer.
func testOneAnswer(t *testing.T, s store.Store) {
	const n = 12
	answers := make([]string, n)
	together(t, n, func(i int) error {
		return s.Update(t.Context(), func(tx store.Tx) error {
			snapshot, err := tx.Load(store.Need{Answers: []store.AnswerKey{answerKey(1)}, Flows: []uuid.UUID{flowID(i)}})
			if err != nil {
				return err
			}
			runtime.Gosched()
			if a := snapshot.Answers[answerKey(1)]; a != nil {
				answers[i] = string(a.Response)
				return nil
			}
			answers[i] = fmt.Sprint("by ", i)
			return tx.Save(store.Writes{Created: []*flows.Flow{newFlow(i)},
				Events: []flows.Event{createdEvent(newFlow(i))}, Answers: []store.Answer{newAnswer(1, answers[i])}})
		})
	})
	list, err := allFlows(t.Context(), s, store.FlowQuery{Owners: flows.Everyone, Limit: n})
	if err != nil || len(list) != 1 {
		t.Fatalf("there are %d flows, %v; want one", len(list), err)
	}
	for i, answer := range answers {
		if answer != answers[0] {
			t.Errorf("repeat %d was answered %q, the first %q", i, answer, answers[0])
		}
	}
}

func stepCommand(id uuid.UUID, n int, run string, status flows.StepStatus) flows.Command {
	return flows.Command{Owners: flows.Everyone, FlowID: id, Actor: "tester", Action: flows.ObserveStep{StepID: stepID(n), RunID: run,
		Task: fmt.Sprint("task ", n), Status: status}}
}

func testOneStep(t *testing.T, s store.Store) {
	create(t, s, newFlow(1))
	const n = 12
	together(t, n, func(i int) error {
		_, err := apply(t.Context(), s, at(i), stepCommand(flowID(1), i, "r", flows.StepRunning))
		return err
	})
	steps, err := allSteps(t.Context(), s, store.StepQuery{Owners: flows.Everyone, FlowID: flowID(1), Limit: n})
	if err != nil || len(steps) != 1 {
		t.Fatalf("there are %d steps, %v; want one", len(steps), err)
	}
	if f := readFlow(t, s, flowID(1)); f.StepsTotal != 1 || f.StepsActive != 1 {
		t.Errorf("the flow counts %d steps, %d active", f.StepsTotal, f.StepsActive)
	}
	if events := trail(t, s, flowID(1)); len(events) != n+1 {
		t.Errorf("the trail has %d events, want %d", len(events), n+1)
	}
}

func testStepsCounted(t *testing.T, s store.Store) {
	create(t, s, newFlow(1))
	const n = 20
	together(t, n, func(i int) error {
		status := flows.StepRunning
		if i%4 == 0 {
			status = flows.StepFailed
		}
		_, err := apply(t.Context(), s, at(i), stepCommand(flowID(1), i, fmt.Sprint("run ", i), status))
		return err
	})
	if f := readFlow(t, s, flowID(1)); f.StepsTotal != n || f.StepsActive != n*3/4 {
		t.Errorf("the flow counts %d steps, %d active", f.StepsTotal, f.StepsActive)
	}
}

// testNoDeadlock changes three flows under two answer keys at once, named in every order.
func testNoDeadlock(t *testing.T, s store.Store) {
	create(t, s, newFlow(0), newFlow(1), newFlow(2))
	const n = 24
	together(t, n, func(i int) error {
		return s.Update(t.Context(), func(tx store.Tx) error {
			ids := []uuid.UUID{flowID(i % 3), flowID((i + 1 + i/3%2) % 3), flowID((i + 2 - i/3%2) % 3)}
			snapshot, err := tx.Load(store.Need{Flows: ids,
				Answers: []store.AnswerKey{answerKey(i % 2), answerKey((i + 1) % 2)}})
			if err != nil {
				return err
			}
			var w store.Writes
			for _, id := range ids {
				next, event := touch(snapshot.Flows[id], "{}")
				w.Updated, w.Events = append(w.Updated, store.FlowUpdate{Flow: next}), append(w.Events, event)
			}
			w.Answers = []store.Answer{newAnswer(i%2, fmt.Sprint("by ", i)), newAnswer((i+1)%2, fmt.Sprint("by ", i))}
			return tx.Save(w)
		})
	})
	for i := range 3 {
		if f := readFlow(t, s, flowID(i)); f.Revision != n {
			t.Errorf("flow %d is at revision %d, want %d", i, f.Revision, n)
		}
	}
}

// testEraseAndUse erases a flow while others change it and create it anew: whatever came last is whole.
func testEraseAndUse(t *testing.T, s store.Store) {
	id := flowID(1)
	together(t, 24, func(i int) error {
		var err error
		switch i % 3 {
		case 0:
			_, err = apply(t.Context(), s, at(i), createCommand(id, "again"),
				flows.Command{Owners: flows.Everyone, FlowID: id, Action: flows.Cancel{}})
		case 1:
			_, err = apply(t.Context(), s, at(i), stepCommand(id, i, fmt.Sprint("run ", i), flows.StepRunning))
		case 2:
			_, err = apply(t.Context(), s, at(i), flows.Command{Owners: flows.Everyone, FlowID: id, Action: flows.Erase{}})
		}
		return err
	})
	f, err := s.Flow(t.Context(), id, flows.Everyone)
	all, errEvents := allEvents(t.Context(), s, store.EventQuery{Owners: flows.Everyone, Limit: 10})
	switch {
	case errors.Is(err, flows.ErrNotFound) && errEvents == nil:
		if len(all) != 0 {
			t.Errorf("the flow is gone, its trail is %s", eventsText(all))
		}
	case err != nil || errEvents != nil:
		t.Fatal(err, errEvents)
	default:
		steps, err := allSteps(t.Context(), s, store.StepQuery{Owners: flows.Everyone, FlowID: id, Limit: 10})
		if err != nil || len(steps) != f.StepsTotal || len(all) != 2+len(steps) || all[0].Kind != flows.EventCreated {
			t.Errorf("%d steps, %v, counted %d; trail:\n%s", len(steps), err, f.StepsTotal, eventsText(all))
		}
	}
}

// testSeqRises reads the feed while it is written. What the reader saw, in the order in which it saw it, is the whole
// trail: nothing came in below what it had seen.
func testSeqRises(t *testing.T, s store.Store) {
	const writers, rounds = 8, 12
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var seen []int64
	read := func() error {
		q := store.EventQuery{Owners: flows.Everyone, Limit: 5}
		if len(seen) > 0 {
			q.After = &seen[len(seen)-1]
		}
		events, err := allEvents(t.Context(), s, q)
		for _, e := range events {
			seen = append(seen, e.Seq)
		}
		return err
	}
	var reader sync.WaitGroup
	var readErr error
	reader.Go(func() {
		for ctx.Err() == nil && readErr == nil {
			readErr = read()
		}
	})
	together(t, writers, func(i int) error {
		err := s.Update(t.Context(), func(tx store.Tx) error {
			if _, err := tx.Load(store.Need{Flows: []uuid.UUID{flowID(i)}}); err != nil {
				return err
			}
			return tx.Save(store.Writes{Created: []*flows.Flow{newFlow(i)}, Events: []flows.Event{createdEvent(newFlow(i))}})
		})
		for range rounds {
			if err == nil {
				err = increment(t.Context(), s, flowID(i))
			}
		}
		return err
	})
	cancel()
	reader.Wait()
	if err := errors.Join(readErr, read()); err != nil {
		t.Fatal(err)
	}
	all, err := allEvents(t.Context(), s, store.EventQuery{Owners: flows.Everyone, Limit: 50})
	if err != nil || len(all) != writers*(rounds+1) || len(seen) != len(all) {
		t.Fatalf("the trail has %d events, the reader saw %d, %v; want %d", len(all), len(seen), err, writers*(rounds+1))
	}
	for i, e := range all {
		if e.Seq != seen[i] || i > 0 && e.Seq <= all[i-1].Seq {
			t.Errorf("event %d is %d, the reader saw %d", i, e.Seq, seen[i])
		}
	}
}
