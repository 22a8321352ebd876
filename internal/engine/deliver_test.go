package engine_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"taskflow/internal/engine"
	"taskflow/internal/flows"
	"taskflow/internal/store"
	"taskflow/internal/store/storetest"

	"github.com/google/uuid"
)

// crowd makes n flows that wait for a pair, in the order of their ids.
func (r *rig) crowd(n int) []uuid.UUID {
	r.Helper()
	var commands []engine.Command
	list := make([]uuid.UUID, n)
	for i := range list {
		binary.BigEndian.PutUint32(list[i][12:], uint32(i+1))
		commands = append(commands, create(list[i]), command(list[i], flows.Start{}), command(list[i], await(paid)))
	}
	r.all(commands...)
	return list
}

// delivers matches a transaction that goes on delivering.
func delivers(w store.Writes) bool {
	return len(w.ExternalEvents) == 1 && w.ExternalEvents[0].FlowCount > store.MatchLimit
}

// cutOff makes every delivery that follows a publication fail.
func (r *rig) cutOff() {
	r.faulty.Inject(storetest.Fault{Match: delivers, Err: store.ErrUnavailable, Times: -1})
}

const crowd = 2*store.MatchLimit + 100

func TestCrowdIsResumedInSeveralCommits(t *testing.T) {
	bubble(t, engine.Options{}, func(r *rig) {
		waiting := r.crowd(crowd)
		p, before := publication(paid, 1, 0), len(r.spy.commits())
		event := r.publish(p)
		if event.Outcome != flows.EventDelivering || event.FlowCount != store.MatchLimit || len(event.Flows) != flows.MaxReceiptFlows {
			r.Errorf("answered with %s, %d flows, %d listed", event.Outcome, event.FlowCount, len(event.Flows))
		}
		synctest.Wait() // and no time passes
		r.fate(p, flows.EventDelivered, crowd)
		for _, id := range waiting {
			r.wantEvent(id, p)
		}
		var sizes []int
		for _, w := range r.spy.commits()[before:] {
			if len(w.Updated) > 0 {
				sizes = append(sizes, len(w.Updated))
			}
		}
		if got := fmt.Sprint(sizes); got != "[500 500 100]" {
			r.Errorf("resumed in commits of %s", got)
		}
	})
}

func TestExactlyOneHandIsDeliveredAtOnce(t *testing.T) {
	bubble(t, engine.Options{}, func(r *rig) {
		r.crowd(store.MatchLimit)
		if event := r.publish(publication(paid, 1, 0)); event.Outcome != flows.EventDelivered || event.FlowCount != store.MatchLimit {
			r.Errorf("answered with %s, %d flows", event.Outcome, event.FlowCount)
		}
	})
}

// Waits may have begun at a later time than the event comes in, where a clock has been put back, or a server's runs behind
// that of the one before.
func TestCrowdIsResumedAfterTheClockWentBack(t *testing.T) {
	turned(t, func(r *rig, back func(time.Duration)) {
		waiting := r.crowd(crowd)
		back(10 * time.Second)
		p := publication(paid, 1, 0)
		r.publish(p)
		synctest.Wait()
		r.fate(p, flows.EventDelivered, crowd)
		for _, id := range waiting {
			r.wantEvent(id, p)
		}
	})
}

func TestAnotherServerGoesOnDelivering(t *testing.T) {
	bubble(t, engine.Options{}, func(r *rig) {
		waiting := r.crowd(crowd)
		p := publication(paid, 1, 0)
		r.cutOff()
		r.publish(p)
		r.want("Close", r.engine.Close(r.Context()), nil)
		r.fate(p, flows.EventDelivering, store.MatchLimit)
		r.faulty.Heal()
		r.second(engine.Options{})
		after(time.Second)
		r.fate(p, flows.EventDelivered, crowd)
		for _, id := range waiting {
			r.wantEvent(id, p)
		}
	})
}

func TestTwoServersDeliverOnce(t *testing.T) {
	bubble(t, engine.Options{}, func(r *rig) {
		r.second(engine.Options{})
		waiting := r.crowd(crowd)
		p := publication(paid, 1, 0)
		r.cutOff()
		r.publish(p)
		after(poll)
		r.faulty.Heal()
		after(2 * time.Second)
		r.fate(p, flows.EventDelivered, crowd)
		for _, id := range waiting {
			r.wantEvent(id, p)
		}
	})
}

func TestNobodyIsResumedTwiceByOneEvent(t *testing.T) {
	bubble(t, engine.Options{}, func(r *rig) {
		waiting := r.crowd(crowd)
		p := publication(paid, 1, 0)
		r.cutOff()
		r.publish(p)
		again, twice, late := waiting[0], waiting[1], uuid.New()
		r.must(command(again, await(paid))) // at the same moment
		after(time.Millisecond)
		r.all(command(twice, await(paid)), command(twice, flows.Resume{}), command(twice, await(paid)))
		r.all(create(late), command(late, flows.Start{}), command(late, await(paid)))
		r.faulty.Heal()
		after(2 * time.Second)
		r.fate(p, flows.EventDelivered, crowd)
		for id, revision := range map[uuid.UUID]int64{again: 4, twice: 6, late: 2} {
			if f := r.flow(id); f.Status != flows.Waiting || f.Revision != revision {
				r.Errorf("a wait that began after the event: %s at %d, want it waiting at %d", f.Status, f.Revision, revision)
			}
		}
		for _, id := range waiting[2:] {
			r.wantEvent(id, p)
		}
		next := publication(paid, 2, 0)
		r.publish(next)
		r.fate(next, flows.EventDelivered, 3)
	})
}

// TestEventReachesTheRestWhereTheHandIsGone ends the waits of all that one transaction takes, in the batch of the
// publication and before it: the event is for those that wait behind them.
func TestEventReachesTheRestWhereTheHandIsGone(t *testing.T) {
	bubble(t, engine.Options{Batch: 1000}, func(r *rig) {
		waiting := r.crowd(crowd)
		gone, rest := waiting[:store.MatchLimit], waiting[store.MatchLimit:]
		var resumes []engine.Command
		for _, id := range gone {
			resumes = append(resumes, command(id, flows.Resume{}))
		}
		release := r.hold()
		before := r.faulty.Updates()
		by, p := r.sendAll(r.Context(), resumes, nil), publication(paid, 1, 0)
		published := r.sendEvent(p)
		release()
		<-by.done
		<-published.done
		if published.err != nil || published.Event.Outcome != flows.EventDelivering || r.faulty.Updates() == before {
			r.Errorf("answered with %+v, %v", published.Event.Outcome, published.err)
		}
		synctest.Wait()
		r.fate(p, flows.EventDelivered, int64(len(rest)))
		for _, id := range gone {
			r.wantResumed("by hand", id, flows.ResumedManually)
		}
		for _, id := range rest {
			r.wantEvent(id, p)
		}
	})
}

// TestEventReachesTheRestWhereOthersWereFaster finds the waits of all that a transaction takes ended by another server,
// first for the publication and then for its delivery: the event is for those that wait behind them.
func TestEventReachesTheRestWhereOthersWereFaster(t *testing.T) {
	bubble(t, engine.Options{}, func(r *rig) {
		waiting := r.crowd(crowd)
		r.spy.mu.Lock()
		r.spy.gone = 2
		r.spy.mu.Unlock()
		p := publication(paid, 1, 0)
		if event := r.publish(p); event.Outcome != flows.EventDelivering || event.FlowCount != 0 {
			r.Errorf("answered with %s, %d flows", event.Outcome, event.FlowCount)
		}
		synctest.Wait()
		r.fate(p, flows.EventDelivered, crowd)
		for _, id := range waiting {
			r.wantEvent(id, p)
		}
	})
}

// TestEventThatReachedNobodyYetIsForLaterWaitsToo: all that waited are gone before the delivery comes to them, and
// somebody began to wait in the meantime.
func TestEventThatReachedNobodyYetIsForLaterWaitsToo(t *testing.T) {
	bubble(t, engine.Options{}, func(r *rig) {
		waiting := r.crowd(crowd)
		r.spy.mu.Lock()
		r.spy.gone = 1
		r.spy.mu.Unlock()
		fault := storetest.Unavailable()
		fault.Times, fault.Match = -1, func(w store.Writes) bool { return len(w.Updated) == store.MatchLimit }
		r.faulty.Inject(fault) // holds up the delivery
		p := publication(paid, 1, time.Hour)
		r.publish(p)
		after(time.Millisecond)
		late := r.begin(await(paid))
		for hand := range slices.Chunk(waiting, 100) {
			var resumes []engine.Command
			for _, id := range hand {
				resumes = append(resumes, command(id, flows.Resume{}))
			}
			r.all(resumes...)
		}
		after(2 * time.Second)
		r.fate(p, flows.EventDelivered, 1)
		r.wantEvent(late, p)
	})
}

// TestTwoEventsShareACrowd: each flow is resumed once, and both events come to an end.
func TestTwoEventsShareACrowd(t *testing.T) {
	bubble(t, engine.Options{}, func(r *rig) {
		waiting := r.crowd(crowd)
		release := r.hold()
		first, second := r.sendEvent(publication(paid, 1, 0)), r.sendEvent(publication(paid, 2, time.Hour))
		release()
		<-first.done
		<-second.done
		synctest.Wait()
		total := int64(0)
		for n := 1; n <= 2; n++ {
			e, err := r.faulty.ExternalEvent(r.Context(), publication(paid, n, 0).Event.ID, flows.Everyone)
			if err != nil || e.Outcome == flows.EventDelivering {
				r.Fatalf("event %d: %+v, %v", n, e, err)
			}
			total += e.FlowCount
		}
		if total != crowd {
			r.Errorf("%d flows were resumed, want %d", total, crowd)
		}
		for _, id := range waiting {
			r.wantResumed("by either", id, flows.ResumedByEvent)
		}
	})
}

// TestDeliveryOfOneThatFailsHoldsUpNoOther has the store refuse one event's delivery, which began before another's.
func TestDeliveryOfOneThatFailsHoldsUpNoOther(t *testing.T) {
	var log journal
	bubble(t, engine.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))}, func(r *rig) {
		waiting := r.crowd(crowd)
		bad := publication(paid, 1, 0)
		r.faulty.Inject(storetest.Refused(errors.New("no room"), delivers))
		r.publish(bad)
		after(10 * time.Second)
		if r.fate(bad, flows.EventDelivering, store.MatchLimit); log.count("level=WARN") != 1 || log.count("no room") != 1 {
			r.Errorf("the trouble is not logged once:\n%s", log.all())
		}
		r.faulty.Heal()
		r.faulty.Inject(storetest.Refused(errors.New("no room"), func(w store.Writes) bool {
			return len(w.ExternalEvents) == 1 && w.ExternalEvents[0].ID == bad.Event.ID
		}))
		good := publication(paid, 2, 0)
		r.publish(good) // takes the next hand
		after(2 * time.Second)
		r.fate(bad, flows.EventDelivering, store.MatchLimit)
		r.fate(good, flows.EventDelivered, int64(len(waiting)-store.MatchLimit))
		r.faulty.Heal()
		after(2 * time.Second)
		r.fate(bad, flows.EventDelivered, store.MatchLimit)
		if log.count("level=WARN") != 1 || log.count("no more trouble") != 1 {
			r.Errorf("the end of the trouble is not logged once:\n%s", log.all())
		}
	})
}
