package engine_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"taskflow/internal/engine"
	"taskflow/internal/flows"
	"taskflow/internal/store"
	"taskflow/internal/store/storetest"

	"github.com/google/uuid"
)

// poll is how often the engine looks for waits that another server began.
const poll = 500 * time.Millisecond

func in(d time.Duration) flows.When { return flows.When{After: &flows.Period{Rest: d}} }

// timer waits for a time.
func timer(when flows.When) flows.SetWait {
	return flows.SetWait{Kind: flows.WaitTimer, Conditions: []flows.ConditionSpec{{Kind: flows.WaitTimer, When: when}}}
}

// timeout waits for anybody, but not for ever.
func timeout(d time.Duration, then flows.TimeoutAction, patch string) flows.SetWait {
	spec := &flows.TimeoutSpec{When: in(d), Then: then}
	if patch != "" {
		spec.Patch = json.RawMessage(patch)
	}
	return flows.SetWait{Kind: flows.WaitManual, Timeout: spec}
}

// begin makes a flow that waits; it is at revision 2, or past that where its wait has ended as it began.
func (r *rig) begin(wait flows.SetWait) uuid.UUID {
	r.Helper()
	id := uuid.New()
	r.all(create(id), command(id, flows.Start{}), command(id, wait))
	return id
}

// second starts another engine on the same store, as another server would.
func (r *rig) second(o engine.Options) *engine.Engine {
	e := engine.New(r.faulty, o)
	r.Cleanup(func() { r.want("Close of another", e.Close(context.Background()), nil) })
	return e
}

// wantWaiting checks that the wait that began at revision 2 goes on.
func (r *rig) wantWaiting(when string, id uuid.UUID) {
	r.Helper()
	if f := r.flow(id); f.Status != flows.Waiting || f.Wait == nil || f.Revision != 2 {
		r.Errorf("%s: %s at %d, want it waiting at 2", when, f.Status, f.Revision)
	}
}

// wantResumed checks that the wait that began at revision 2 ended, once, in this way.
func (r *rig) wantResumed(when string, id uuid.UUID, by flows.ResumeKind) {
	r.Helper()
	f := r.flow(id)
	if f.Status != flows.Running || f.Wait != nil || f.Revision != 3 || f.ResumedBy == nil || f.ResumedBy.Kind != by {
		r.Errorf("%s: %s at %d by %+v, want it resumed once by %s", when, f.Status, f.Revision, f.ResumedBy, by)
	}
}

func TestTimerFiresAtItsTimeAndNotBeforeAndOnce(t *testing.T) {
	for _, d := range []time.Duration{time.Millisecond, poll, poll + time.Millisecond, 10 * time.Minute} {
		t.Run(d.String(), func(t *testing.T) {
			bubble(t, engine.Options{}, func(r *rig) {
				after(123 * time.Millisecond) // not in step with the loop's own rhythm
				id, due := r.begin(timer(in(d))), time.Now().Add(d)
				after(d - 1)
				r.wantWaiting("just before", id)
				after(1)
				r.wantResumed("at its time", id, flows.ResumedByTimer)
				if f := r.flow(id); !f.UpdatedAt.Equal(due) {
					r.Errorf("fired at %s, due at %s", f.UpdatedAt, due)
				}
				after(time.Minute)
				r.wantResumed("later", id, flows.ResumedByTimer)
			})
		})
	}
}

// TestOverdue: what is due and cannot be ended counts from its time on, until it has ended.
func TestOverdue(t *testing.T) {
	bubble(t, engine.Options{}, func(r *rig) {
		want := func(when string, want time.Duration) {
			r.Helper()
			if got := r.engine.Overdue(); got != want {
				r.Errorf("%s: overdue for %v, want %v", when, got, want)
			}
		}
		want("with no wait", 0)
		id := r.begin(timer(in(time.Second)))
		after(900 * time.Millisecond)
		want("before its time", 0)
		gate := r.faulty.Block()
		after(4100 * time.Millisecond)
		want("while it cannot be ended", 4*time.Second)
		gate.Release()
		after(poll)
		r.wantResumed("at last", id, flows.ResumedByTimer)
		want("when it has ended", 0)
	})
}

func TestEarlierWaitWakesTheLoop(t *testing.T) {
	bubble(t, engine.Options{}, func(r *rig) {
		late := r.begin(timer(in(400 * time.Millisecond)))
		after(50 * time.Millisecond)
		early := r.begin(timer(in(20 * time.Millisecond)))
		after(20 * time.Millisecond)
		r.wantResumed("the earlier", early, flows.ResumedByTimer)
		r.wantWaiting("the later", late)
		after(330 * time.Millisecond)
		r.wantResumed("the later", late, flows.ResumedByTimer)
	})
}

func TestTimeThatIsPastFiresInTheWaitsOwnCommit(t *testing.T) {
	bubble(t, engine.Options{}, func(r *rig) {
		past := time.Now().Add(-time.Second)
		r.wantResumed("at once", r.begin(timer(flows.When{At: &past})), flows.ResumedByTimer)
	})
}

func TestWaitThatHasEndedIsNotFired(t *testing.T) {
	bubble(t, engine.Options{}, func(r *rig) {
		id := r.begin(timer(in(time.Second)))
		r.all(command(id, flows.Resume{}), command(id, timer(in(time.Hour))))
		after(time.Minute)
		if f := r.flow(id); f.Status != flows.Waiting || f.Revision != 4 {
			r.Errorf("the new wait was ended by the old one's timer: %s at %d", f.Status, f.Revision)
		}
	})
}

func TestAnotherServerFiresWhatItsOwnerCannot(t *testing.T) {
	bubble(t, engine.Options{}, func(r *rig) {
		r.second(engine.Options{})
		after(poll / 5)
		soon, late := r.begin(timer(in(poll/5))), r.begin(timer(in(10*time.Second)))
		r.want("Close", r.engine.Close(r.Context()), nil)
		after(poll)
		r.wantResumed("within a poll", soon, flows.ResumedByTimer)
		after(10*time.Second - poll - 1)
		r.wantWaiting("what the other knew of, just before", late)
		after(1)
		r.wantResumed("what the other knew of", late, flows.ResumedByTimer)
	})
}

func TestTwoServersFireEachTimerOnce(t *testing.T) {
	bubble(t, engine.Options{}, func(r *rig) {
		r.second(engine.Options{})
		var waiting []uuid.UUID
		for range 50 {
			waiting = append(waiting, r.begin(timer(in(time.Second))))
		}
		after(time.Second + poll)
		for _, id := range waiting {
			r.wantResumed("fired by two", id, flows.ResumedByTimer)
		}
	})
}

func TestManyAreFiredInBatches(t *testing.T) {
	bubble(t, engine.Options{}, func(r *rig) {
		var commands []engine.Command
		for range 450 {
			id := uuid.New()
			commands = append(commands, create(id), command(id, flows.Start{}), command(id, timer(in(time.Second))))
		}
		r.all(commands...)
		before := len(r.spy.commits())
		after(time.Second)
		var batches []int
		for _, w := range r.spy.commits()[before:] {
			batches = append(batches, len(w.Updated))
		}
		if got := fmt.Sprint(batches); got != "[200 200 50]" {
			r.Errorf("fired in batches of %s", got)
		}
		for i := 0; i < len(commands); i += 3 {
			r.wantResumed("one of many", commands[i].FlowID, flows.ResumedByTimer)
		}
	})
}

func TestTimersGoByTheStoresClock(t *testing.T) {
	for _, offset := range []time.Duration{time.Hour, -time.Hour} {
		t.Run(offset.String(), func(t *testing.T) {
			synced(t, offset, func(r *rig) {
				at := time.Now().Add(offset + time.Minute)
				absolute, relative := r.begin(timer(flows.When{At: &at})), r.begin(timer(in(100*time.Millisecond)))
				after(100 * time.Millisecond)
				r.wantResumed("on time", relative, flows.ResumedByTimer)
				after(time.Minute - 100*time.Millisecond - 1)
				r.wantWaiting("just before", absolute)
				after(1)
				r.wantResumed("at the time", absolute, flows.ResumedByTimer)
			})
		})
	}
}

func TestTimeouts(t *testing.T) {
	tests := map[flows.TimeoutAction]struct {
		patch, state string
		status       flows.Status
		kind         flows.EventKind
	}{
		flows.TimeoutResumes: {`{"late":true}`, `{"late":true}`, flows.Running, flows.EventResumed},
		flows.TimeoutFails:   {"", `{"failure":{"reason":"timeout","at":"2000-01-01T00:00:01.000000Z"}}`, flows.Failed, flows.EventFailed},
		flows.TimeoutCancels: {"", `{}`, flows.Cancelled, flows.EventCancelled},
	}
	for then, want := range tests {
		t.Run(string(then), func(t *testing.T) {
			bubble(t, engine.Options{}, func(r *rig) {
				id := r.begin(timeout(time.Second, then, want.patch))
				after(time.Second - 1)
				r.wantWaiting("just before", id)
				after(1)
				f, trail := r.flow(id), r.trail(id)
				last := trail[len(trail)-1]
				if f.Status != want.status || string(f.State) != want.state || f.Wait != nil || f.Revision != 3 {
					r.Errorf("%s at %d with %s, want %s with %s", f.Status, f.Revision, f.State, want.status, want.state)
				}
				if last.Kind != want.kind || last.Actor != flows.ActorTimer {
					r.Errorf("%s by %s, want %s by the timer", last.Kind, last.Actor, want.kind)
				}
				if then == flows.TimeoutResumes && f.ResumedBy.Kind != flows.ResumedByTimeout {
					r.Errorf("resumed by %+v", f.ResumedBy)
				}
			})
		})
	}
}

func TestFiringGoesOnAfterTrouble(t *testing.T) {
	var log journal
	bubble(t, engine.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))}, func(r *rig) {
		id := r.begin(timer(in(time.Second)))
		fault := storetest.Unavailable()
		fault.Times = -1
		r.faulty.Inject(fault)
		after(50 * time.Second) // and so before the first sweep
		r.wantWaiting("without a store", id)
		if log.count("level=WARN") != 1 || log.count(store.ErrUnavailable.Error()) != 1 {
			r.Errorf("the trouble is not logged once:\n%s", log.all())
		}
		r.faulty.Heal()
		after(poll)
		r.wantResumed("with a store again", id, flows.ResumedByTimer)
		if log.count("level=WARN") != 1 || log.count("no more trouble") != 1 {
			r.Errorf("the end of the trouble is not logged once:\n%s", log.all())
		}
	})
}

// TestFiringOneThatFailsHarmsNoStranger has the store refuse one flow, whose wait is due before all others.
func TestFiringOneThatFailsHarmsNoStranger(t *testing.T) {
	faults := map[string]func(id uuid.UUID) storetest.Fault{
		"refused": func(id uuid.UUID) storetest.Fault { return storetest.Refused(errPoison, storetest.WritesFlow(id)) },
		"panics": func(id uuid.UUID) storetest.Fault {
			return storetest.Fault{Panic: "no invariant", Match: storetest.WritesFlow(id), Times: -1}
		},
	}
	for name, fault := range faults {
		t.Run(name, func(t *testing.T) {
			bubble(t, engine.Options{}, func(r *rig) {
				bad := r.begin(timer(in(time.Second - time.Millisecond)))
				r.faulty.Inject(fault(bad))
				var strangers []uuid.UUID
				for n := range 5 {
					strangers = append(strangers, r.begin(timer(in(time.Second+time.Duration(n)*poll))))
				}
				after(time.Second + 5*poll)
				for _, id := range strangers {
					r.wantResumed("a stranger", id, flows.ResumedByTimer)
				}
				r.wantWaiting("the one at fault", bad)
				r.faulty.Heal()
				after(poll)
				r.wantResumed("the one at fault, afterwards", bad, flows.ResumedByTimer)
			})
		})
	}
}

func TestCloseEndsTheFiring(t *testing.T) {
	bubble(t, engine.Options{}, func(r *rig) {
		id := r.begin(timer(in(time.Second)))
		r.want("Close", r.engine.Close(r.Context()), nil)
		after(time.Minute)
		r.wantWaiting("after Close", id)
	})
}

func TestCloseWaitsForTheFiringUnderWay(t *testing.T) {
	bubble(t, engine.Options{}, func(r *rig) {
		id := r.begin(timer(in(time.Second)))
		gate := r.faulty.Block()
		after(time.Second)
		closed := make(chan error, 1)
		go func() { closed <- r.engine.Close(r.Context()) }()
		after(time.Second)
		if len(gate.Arrived()) != 1 || len(closed) > 0 {
			r.Errorf("%d transactions under way, %d closed", len(gate.Arrived()), len(closed))
		}
		gate.Release()
		r.want("Close", <-closed, nil)
		r.wantResumed("after Close", id, flows.ResumedByTimer)
	})
}
