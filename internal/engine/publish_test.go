package engine_test

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"taskflow/internal/engine"
	"taskflow/internal/flows"
	"taskflow/internal/store"
	"taskflow/internal/store/storetest"

	"github.com/google/uuid"
)

var paid = flows.Pair{Topic: "payment", CorrelationID: "order-7"}

// await waits for an event.
func await(pair flows.Pair) flows.SetWait {
	return flows.SetWait{Kind: flows.WaitExternalEvent, Conditions: []flows.ConditionSpec{{Kind: flows.WaitExternalEvent, Pair: pair}}}
}

// publication is of an event that says n; ids rise with n, as the server's do.
func publication(pair flows.Pair, n int, keep time.Duration) engine.Publication {
	return engine.Publication{Keep: keep, Event: flows.ExternalEvent{
		Owners: flows.Everyone,
		ID:     uuid.UUID{0: 1, 15: byte(n)}, Pair: pair, Payload: json.RawMessage(fmt.Sprintf(`{"n":%d}`, n)), Actor: "shop",
	}}
}

func forOnly(id uuid.UUID, p engine.Publication) engine.Publication {
	p.Event.FlowID = &id
	return p
}

// once gives a publication an idempotency key. Its stored answer tells the event.
func once(p engine.Publication, key, fingerprint string) engine.Publication {
	p.Once = &engine.Once[flows.ExternalEvent]{
		Owners: flows.Everyone,
		Key:    sha256.Sum256([]byte(key)), Fingerprint: sha256.Sum256([]byte(fingerprint)),
		Encode: func(e flows.ExternalEvent) []byte { return []byte(e.ID.String() + " " + string(e.Outcome)) },
	}
	return p
}

func (r *rig) publish(p engine.Publication) flows.ExternalEvent {
	r.Helper()
	published, err := r.engine.Publish(r.Context(), p)
	if err != nil {
		r.Fatal("Publish:", err)
	}
	return published.Event
}

// receipt is a publication's answer that may not be there yet.
type receipt struct {
	*pending
	engine.Published
}

// sendEvent calls Publish and returns when the publication is queued, or answered.
func (r *rig) sendEvent(p engine.Publication) *receipt {
	var got receipt
	got.pending = r.start(func(pending *pending) { got.Published, pending.err = r.engine.Publish(r.Context(), p) })
	return &got
}

// fate reads a receipt and checks it.
func (r *rig) fate(p engine.Publication, outcome flows.EventOutcome, count int64) *flows.ExternalEvent {
	r.Helper()
	e, err := r.faulty.ExternalEvent(r.Context(), p.Event.ID, flows.Everyone)
	if err != nil {
		r.Fatal("reading a receipt:", err)
	}
	if e.Outcome != outcome || e.FlowCount != count || len(e.Flows) != int(min(count, flows.MaxReceiptFlows)) {
		r.Errorf("event %s: %s, %d flows, %d listed; want %s, %d", e.Payload, e.Outcome, e.FlowCount, len(e.Flows), outcome, count)
	}
	return e
}

// wantEvent checks that the wait that began at revision 2 was ended, once, by this publication.
func (r *rig) wantEvent(id uuid.UUID, p engine.Publication) {
	r.Helper()
	f := r.flow(id)
	r.wantResumed("by an event", id, flows.ResumedByEvent)
	if f.ResumedBy == nil || f.ResumedBy.EventID == nil || *f.ResumedBy.EventID != p.Event.ID {
		r.Errorf("resumed by %+v, want event %s", f.ResumedBy, p.Event.ID)
	}
	if want := fmt.Sprintf(`{"resume_event":%s}`, p.Event.Payload); string(f.State) != want {
		r.Errorf("state %s, want %s", f.State, want)
	}
}

// Two batches of as many waits as one may have meet in one transaction, and each wait finds an event that is kept.
func TestEveryWaitOfATransactionFindsAnEvent(t *testing.T) {
	bubble(t, engine.Options{}, func(r *rig) {
		const half = store.MatchLimit
		var setUp, waits []engine.Command
		var ids []uuid.UUID
		for n := range 2 * half {
			id := uuid.New()
			ids = append(ids, id)
			setUp = append(setUp, create(id), command(id, flows.Start{}))
			waits = append(waits, command(id, await(paid)))
			p := publication(paid, n, time.Hour)
			p.Event.ID = uuid.New()
			r.publish(p)
		}
		r.all(setUp...)
		release := r.hold()
		first, second := r.sendAll(r.Context(), waits[:half], nil), r.sendAll(r.Context(), waits[half:], nil)
		before := r.faulty.Updates()
		release()
		<-first.done
		<-second.done
		r.wantUpdates(before, 1)
		for _, id := range ids {
			r.wantResumed("by an event that was kept", id, flows.ResumedByEvent)
		}
	})
}

// An event that names a flow is for that life of its id: erased and created again, it is another flow.
func TestEventIsForOneLifeOfAFlow(t *testing.T) {
	turned(t, func(r *rig, back func(time.Duration)) {
		id := uuid.New()
		r.all(create(id), command(id, flows.Start{}))
		back(time.Second) // a clock that is put back makes no other life
		r.publish(forOnly(id, publication(paid, 1, time.Hour)))
		r.must(command(id, await(paid)))
		r.wantResumed("by the event for it", id, flows.ResumedByEvent)
		p := forOnly(id, publication(paid, 2, time.Hour))
		r.publish(p)
		back(0)
		after(time.Second)
		r.all(command(id, flows.Cancel{}), command(id, flows.Erase{}))
		r.all(create(id), command(id, flows.Start{}), command(id, await(paid)))
		r.wantWaiting("for an event of its own", id)
		r.fate(p, flows.EventBuffered, 0)
	})
}

func TestPublishResumesWhoeverWaits(t *testing.T) {
	bubble(t, engine.Options{}, func(r *rig) {
		first, second := r.begin(await(paid)), r.begin(await(paid))
		other := r.begin(await(flows.Pair{Topic: paid.Topic, CorrelationID: "order-8"}))
		p, before := publication(paid, 1, time.Hour), r.faulty.Updates()
		event := r.publish(p)
		r.wantUpdates(before, 1)
		if event.Outcome != flows.EventDelivered || event.FlowCount != 2 || !event.ExpiresAt.Equal(event.At.Add(time.Hour)) {
			r.Errorf("answered with %+v", event)
		}
		for _, resumed := range r.fate(p, flows.EventDelivered, 2).Flows {
			if resumed.Revision != 3 || resumed.FlowID != first && resumed.FlowID != second {
				r.Errorf("the receipt lists %+v", resumed)
			}
		}
		r.wantEvent(first, p)
		r.wantEvent(second, p)
		r.wantWaiting("another pair", other)
		r.wantWaiting("it was delivered, and is not kept", r.begin(await(paid)))
	})
}

func TestPublishThatFindsNobody(t *testing.T) {
	bubble(t, engine.Options{}, func(r *rig) {
		kept, unkept, expired := publication(paid, 1, time.Hour), publication(paid, 2, 0), publication(paid, 3, time.Second)
		r.publish(unkept)
		r.fate(unkept, flows.EventUnmatched, 0)
		r.publish(expired)
		r.fate(expired, flows.EventBuffered, 0)
		after(time.Second)
		r.fate(expired, flows.EventExpired, 0)
		r.publish(kept)
		r.fate(kept, flows.EventBuffered, 0)
		id := r.begin(await(paid))
		r.wantEvent(id, kept)
		if got := fmt.Sprint(kinds(r.trail(id))); got != "[created started waiting resumed]" {
			r.Errorf("trail %s", got)
		}
		r.fate(kept, flows.EventDelivered, 1)
		r.wantWaiting("it is used up", r.begin(await(paid)))
	})
}

func TestPublishForOneFlow(t *testing.T) {
	bubble(t, engine.Options{}, func(r *rig) {
		stranger, target := r.begin(await(paid)), r.begin(await(paid))
		p := forOnly(target, publication(paid, 1, time.Hour))
		r.publish(p)
		r.fate(p, flows.EventDelivered, 1)
		r.wantEvent(target, p)
		_, err := r.engine.Publish(r.Context(), forOnly(uuid.New(), publication(paid, 2, time.Hour)))
		r.want("an unknown flow", err, flows.ErrNotFound)
		if _, err := r.faulty.ExternalEvent(r.Context(), publication(paid, 2, 0).Event.ID, flows.Everyone); err == nil {
			r.Error("the event for an unknown flow was recorded")
		}
		ended := r.begin(await(paid))
		r.must(command(ended, flows.Cancel{}))
		p = forOnly(ended, publication(paid, 3, time.Hour))
		r.publish(p)
		r.fate(p, flows.EventUnmatched, 0)
		p = forOnly(target, publication(paid, 4, time.Hour)) // which runs
		r.publish(p)
		r.fate(p, flows.EventBuffered, 0)
		r.wantWaiting("one it is not for", r.begin(await(paid)))
		r.wantWaiting("the stranger", stranger)
		result := r.must(command(target, await(paid)))
		if by := result.Flow.ResumedBy; by == nil || by.EventID == nil || *by.EventID != p.Event.ID || result.Flow.Revision != 5 {
			r.Errorf("its next wait was ended by %+v at %d", by, result.Flow.Revision)
		}
		r.fate(p, flows.EventDelivered, 1)
	})
}

func TestPublishAndWaitInOneBatch(t *testing.T) {
	type step func(r *rig, id uuid.UUID) (done <-chan struct{})
	wait := func(r *rig, id uuid.UUID) <-chan struct{} { return r.send(r.Context(), command(id, await(paid))).done }
	event := func(n int) step {
		return func(r *rig, _ uuid.UUID) <-chan struct{} { return r.sendEvent(publication(paid, n, time.Hour)).done }
	}
	tests := map[string]struct {
		steps  []step
		winner int
		left   []int
	}{
		"publish, then wait":          {[]step{event(1), wait}, 1, nil},
		"wait, then publish":          {[]step{wait, event(1)}, 1, nil},
		"two publications, then wait": {[]step{event(1), event(2), wait}, 1, []int{2}},
		"wait between two":            {[]step{event(1), wait, event(2)}, 1, []int{2}},
		"wait, then two publications": {[]step{wait, event(1), event(2)}, 1, []int{2}},
		"the other is the first":      {[]step{event(2), event(1), wait}, 2, []int{1}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			bubble(t, engine.Options{}, func(r *rig) {
				id := uuid.New()
				r.all(create(id), command(id, flows.Start{}))
				release := r.hold()
				before := r.faulty.Updates()
				var sent []<-chan struct{}
				for _, step := range test.steps {
					sent = append(sent, step(r, id))
				}
				release()
				for _, done := range sent {
					<-done
				}
				r.wantUpdates(before, 1)
				r.wantEvent(id, publication(paid, test.winner, 0))
				r.fate(publication(paid, test.winner, 0), flows.EventDelivered, 1)
				for _, n := range test.left {
					r.fate(publication(paid, n, 0), flows.EventBuffered, 0)
				}
			})
		})
	}
}

func TestPublishOnce(t *testing.T) {
	bubble(t, engine.Options{}, func(r *rig) {
		id := r.begin(await(paid))
		p := once(publication(paid, 1, time.Hour), "key", "request")
		r.publish(p)
		w := r.spy.last()
		if len(w.Answers) != 1 || len(w.ExternalEvents) != 1 || len(w.Updated) != 1 || len(w.Events) != 1 {
			r.Errorf("one commit wrote %+v, want the answer, the receipt, the flow and its event", w)
		}
		again := r.begin(await(paid))
		repeat := once(publication(paid, 2, time.Hour), "key", "request")
		published, err := r.engine.Publish(r.Context(), repeat)
		if want := p.Event.ID.String() + " delivered"; err != nil || string(published.Replay) != want {
			r.Errorf("the repeat: %q, %v; want %q", published.Replay, err, want)
		}
		_, err = r.engine.Publish(r.Context(), once(publication(paid, 2, time.Hour), "key", "another"))
		r.want("the key with another request", err, engine.ErrKeyReused)
		r.wantEvent(id, p)
		r.wantWaiting("the repeat changes nothing", again)
		if _, err := r.faulty.ExternalEvent(r.Context(), repeat.Event.ID, flows.Everyone); err == nil {
			r.Error("the repeat was recorded")
		}
	})
}

func TestPublishOnceInOneBatch(t *testing.T) {
	bubble(t, engine.Options{}, func(r *rig) {
		release := r.hold()
		first := r.sendEvent(once(publication(paid, 1, time.Hour), "key", "request"))
		repeat := r.sendEvent(once(publication(paid, 2, time.Hour), "key", "request"))
		reused := r.sendEvent(once(publication(paid, 3, time.Hour), "key", "another"))
		release()
		<-first.done
		<-repeat.done
		<-reused.done
		if want := first.Event.ID.String() + " buffered"; first.err != nil || repeat.err != nil || string(repeat.Replay) != want {
			r.Errorf("%v; the repeat: %q, %v; want %q", first.err, repeat.Replay, repeat.err, want)
		}
		r.want("the key with another request", reused.err, engine.ErrKeyReused)
	})
}

func TestPublicationThatFailsHarmsNoStranger(t *testing.T) {
	for _, fault := range []func(uuid.UUID) storetest.Fault{
		func(id uuid.UUID) storetest.Fault { return storetest.Refused(errPoison, storetest.WritesFlow(id)) },
		func(id uuid.UUID) storetest.Fault {
			return storetest.Fault{Panic: errPoison.Error(), Match: storetest.WritesFlow(id), Times: -1}
		},
	} {
		bubble(t, engine.Options{}, func(r *rig) {
			bad, other := r.begin(await(paid)), flows.Pair{Topic: "parcel", CorrelationID: "1"}
			good := r.begin(await(other))
			release := r.hold()
			r.faulty.Inject(fault(bad))
			stranger := r.send(r.Context(), create(uuid.New()))
			failing := r.sendEvent(once(publication(paid, 1, time.Hour), "key", "request"))
			delivered, kept := r.sendEvent(publication(other, 2, 0)), r.sendEvent(publication(other, 3, time.Hour))
			release()
			_, err := stranger.wait()
			r.want("a stranger", err, nil)
			<-failing.done
			if failing.err == nil || failing.Replay != nil || failing.Event.ID != uuid.Nil {
				r.Errorf("the publication at fault: %+v, %v", failing.Published, failing.err)
			}
			<-delivered.done
			<-kept.done
			r.want("another publication", delivered.err, nil)
			r.wantEvent(good, publication(other, 2, 0))
			r.fate(publication(other, 3, 0), flows.EventBuffered, 0)
			r.wantWaiting("the flow at fault", bad)
			if _, err := r.faulty.ExternalEvent(r.Context(), publication(paid, 1, 0).Event.ID, flows.Everyone); err == nil {
				r.Error("the event was recorded without its effect")
			}
			r.faulty.Heal()
			p := once(publication(paid, 4, 0), "key", "request")
			r.publish(p) // the key is free: failures are not stored
			r.wantEvent(bad, p)
		})
	}
}

func TestPublishRefusesAndStops(t *testing.T) {
	bubble(t, engine.Options{Queue: 1}, func(r *rig) {
		_, err := r.engine.Publish(r.Context(), publication(flows.Pair{}, 1, 0))
		if _, invalid := err.(*flows.InvalidValue); !invalid {
			r.Errorf("an event about nothing: %v", err)
		}
		release := r.hold()
		queued := r.sendEvent(publication(paid, 2, time.Hour))
		_, err = r.engine.Publish(r.Context(), publication(paid, 3, time.Hour))
		r.want("with a full queue", err, engine.ErrOverloaded)
		release()
		<-queued.done
		r.faulty.Inject(storetest.Unavailable())
		published, err := r.engine.Publish(r.Context(), publication(paid, 4, time.Hour))
		r.want("without a store", err, store.ErrUnavailable)
		if published.Event.ID != uuid.Nil {
			r.Errorf("without a store: answered with %+v as well", published)
		}
		r.want("Close", r.engine.Close(r.Context()), nil)
		_, err = r.engine.Publish(r.Context(), publication(paid, 5, time.Hour))
		r.want("after Close", err, engine.ErrStopped)
		synctest.Wait()
	})
}
