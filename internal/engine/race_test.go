package engine_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"taskflow/internal/engine"
	"taskflow/internal/flows"
	"taskflow/internal/store"
	"taskflow/internal/store/storetest"

	"pgregory.net/rapid"
)

// callback ends a wait that began at revision 2 by its condition of that number.
func callback(flow id, generation int64, condition int, key string) engine.Command {
	return command(flow, flows.EndByCallback{Generation: generation, Condition: condition, Key: key, Payload: json.RawMessage(`"called"`)})
}

// anything waits for a time, an event or a callback, and for as long in all.
func anything(d time.Duration, then flows.TimeoutAction) flows.SetWait {
	return flows.SetWait{
		Kind: flows.WaitAnyOf, CallbackKey: "key",
		Conditions: []flows.ConditionSpec{
			{Kind: flows.WaitTimer, When: in(d + time.Millisecond)}, {Kind: flows.WaitExternalEvent, Pair: paid}, {Kind: flows.WaitCallback},
		},
		Timeout: &flows.TimeoutSpec{When: in(d), Then: then},
	}
}

func TestCallbackEndsItsWaitAndNoOther(t *testing.T) {
	bubble(t, engine.Options{}, func(r *rig) {
		flow := r.begin(anything(time.Hour, flows.TimeoutResumes))
		for what, c := range map[string]engine.Command{
			"another condition": callback(flow, 2, 0, "key"), "no condition": callback(flow, 2, 3, "key"),
			"another key": callback(flow, 2, 2, "old"),
		} {
			_, err := r.engine.Apply(r.Context(), c)
			r.want(what, err, flows.ErrNotFound)
		}
		_, err := r.engine.Apply(r.Context(), callback(flow, 1, 2, "key"))
		r.want("an earlier wait", err, flows.ErrWaitEnded)
		r.wantWaiting("after all that", flow)
		r.must(callback(flow, 2, 2, "key"))
		r.wantResumed("called back", flow, flows.ResumedByCallback)
		r.must(command(flow, anything(time.Hour, flows.TimeoutResumes)))
		_, err = r.engine.Apply(r.Context(), callback(flow, 2, 2, "key"))
		r.want("the URL of the wait before", err, flows.ErrWaitEnded)
	})
}

// TestOneThingEndsAWait lets everything that may end a wait happen at one moment, in every order.
func TestOneThingEndsAWait(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { rapid.SyncTest(t, raceOnce) })
}

func raceOnce(t *rapid.T) {
	ctx := context.Background()
	s := storetest.NewFaulty(storetest.NewMemory(time.Now))
	options := engine.Options{Committers: rapid.IntRange(1, 3).Draw(t, "committers"), Batch: rapid.IntRange(1, 8).Draw(t, "batch")}
	servers := []*engine.Engine{engine.New(s, options), engine.New(s, options)}
	defer func() {
		for _, e := range servers {
			if err := e.Close(ctx); err != nil {
				t.Error(err)
			}
		}
	}()
	flow, began := flowID(1), []engine.Command{create(flowID(1)), command(flowID(1), flows.Start{})}
	then := rapid.SampledFrom([]flows.TimeoutAction{flows.TimeoutResumes, flows.TimeoutFails, flows.TimeoutCancels}).Draw(t, "then")
	began = append(began, command(flow, anything(time.Second, then)))
	if _, _, err := servers[0].ApplyAll(ctx, began, nil); err != nil {
		t.Fatal(err)
	}
	names := rapid.SliceOfN(rapid.SampledFrom([]string{"event", "callback", "resume", "cancel", "cut", "time"}), 1, 10).Draw(t, "order")
	gate, won, done := s.Block(), make(chan string, len(names)), 0
	for n, name := range names {
		if name == "time" { // the firing loops reach the store, and are held there
			<-time.After(time.Second)
			synctest.Wait()
			continue
		}
		server := servers[rapid.IntRange(0, 1).Draw(t, "server")]
		go func() { won <- attempt(t, server, flow, name, n) }() // received below
		synctest.Wait()
		done++
	}
	gate.Release()
	var winners []string
	for range done {
		if winner := <-won; winner != "" {
			winners = append(winners, winner)
		}
	}
	if slices.Contains(names, "time") || len(winners) == 0 {
		<-time.After(2 * time.Second)
	}
	synctest.Wait()
	judgeRace(t, s, flow, winners)
}

// attempt ends the wait in one way, and returns that way where it was accepted as the end of the wait.
func attempt(t *rapid.T, e *engine.Engine, flow id, name string, n int) string {
	ctx := context.Background()
	if name == "event" {
		p := publication(paid, n, 0)
		if n%2 == 0 {
			p = forOnly(flow, p)
		}
		published, err := e.Publish(ctx, p)
		if err != nil {
			t.Error("Publish:", err)
		}
		if published.Event.FlowCount > 0 {
			return string(flows.ResumedByEvent)
		}
		return ""
	}
	c, way := command(flow, flows.Resume{}), string(flows.ResumedManually)
	switch name {
	case "callback":
		c, way = callback(flow, 2, 2, "key"), string(flows.ResumedByCallback)
	case "cancel":
		c, way = atRevision(command(flow, flows.Cancel{}), 2), string(flows.Cancelled)
	case "cut":
		c, way = atRevision(command(flow, flows.Fail{Reason: "no"}), 2), string(flows.Failed)
	}
	_, err := e.Apply(ctx, c)
	if err == nil {
		return way
	}
	var conflict *flows.RevisionConflict
	var terminal *flows.AlreadyTerminal
	var transition *flows.IllegalTransition
	if !errors.Is(err, flows.ErrWaitEnded) && !errors.As(err, &conflict) && !errors.As(err, &terminal) && !errors.As(err, &transition) {
		t.Errorf("%s: %v", name, err)
	}
	return ""
}

// judgeRace checks that the flow's trail has one end of its wait, and that nobody else was told that it was theirs.
func judgeRace(t *rapid.T, s store.Store, flow id, winners []string) {
	f, err := s.Flow(context.Background(), flow, flows.Everyone)
	if err != nil {
		t.Fatal(err)
	}
	page, err := s.Events(context.Background(), store.EventQuery{Owners: flows.Everyone, FlowID: flow, Limit: store.Examined})
	if err != nil {
		t.Fatal(err)
	}
	for i, e := range page.Items {
		if e.Revision != int64(i) {
			t.Errorf("event %d is at revision %d", i, e.Revision)
		}
	}
	if len(page.Items) != 4 || f.Revision != 3 || f.Wait != nil {
		t.Fatalf("at %d, waiting for %v, with %v; want one end of the wait", f.Revision, f.Wait, kinds(page.Items))
	}
	end, way := page.Items[3], string(f.Status) // failed and cancelled
	if end.Kind == flows.EventResumed {
		way = string(f.ResumedBy.Kind)
	}
	switch {
	case end.Actor == flows.ActorTimer && len(winners) == 0:
	case end.Actor != flows.ActorTimer && len(winners) == 1 && winners[0] == way:
	default:
		t.Errorf("the wait was ended by %s as %s (%s), and %v were told that they did", end.Actor, end.Kind, way, winners)
	}
	if want := map[flows.Status]flows.EventKind{
		flows.Running: flows.EventResumed, flows.Failed: flows.EventFailed, flows.Cancelled: flows.EventCancelled,
	}[f.Status]; end.Kind != want {
		t.Errorf("%s by %s", f.Status, fmt.Sprint(kinds(page.Items)))
	}
}
