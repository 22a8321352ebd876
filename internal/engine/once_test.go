package engine_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"taskflow/internal/engine"
	"taskflow/internal/flows"
	"taskflow/internal/store"
	"taskflow/internal/store/storetest"

	"github.com/google/uuid"
)

// onceAll is a key for an ApplyAll. Its stored answer tells what became of each command.
func onceAll(key, fingerprint string) *engine.Once[[]engine.Outcome] {
	return &engine.Once[[]engine.Outcome]{
		Owners: flows.Everyone,
		Key:    sha256.Sum256([]byte(key)), Fingerprint: sha256.Sum256([]byte(fingerprint)), Encode: encodeAll,
	}
}

func encodeAll(outcomes []engine.Outcome) []byte {
	var out []string
	for _, o := range outcomes {
		switch {
		case o.Err != nil:
			out = append(out, "error: "+o.Err.Error())
		case o.Replay != nil:
			out = append(out, "replay: "+string(o.Replay))
		default:
			out = append(out, string(stored(o.Flow.ID, o.Flow.Revision)))
		}
	}
	return []byte(strings.Join(out, "\n"))
}

func TestTwoCommandsWithOneKeyShareOneOutcome(t *testing.T) {
	for name, together := range map[string]bool{"in one batch": true, "one after the other": false} {
		t.Run(name, func(t *testing.T) {
			bubble(t, engine.Options{}, func(r *rig) {
				first, second := keyed(create(uuid.New()), "key", "request"), keyed(create(uuid.New()), "key", "request")
				release := func() {}
				if together {
					release = r.hold()
				}
				sent := []*pending{r.send(r.Context(), first), r.send(r.Context(), second)}
				release()
				if result, err := sent[0].wait(); err != nil || result.Replay != nil || !result.Created {
					r.Errorf("the first: %+v, %v", result, err)
				}
				result, err := sent[1].wait()
				if want := string(stored(first.FlowID, 0)); err != nil || string(result.Replay) != want || result.Flow != nil || result.Created {
					r.Errorf("the second: %+v, %v; want %q replayed and nothing else", result, err, want)
				}
				r.missing(second.FlowID)
				if n := len(r.trail(first.FlowID)); n != 1 {
					r.Errorf("%d events, want one", n)
				}
			})
		})
	}
}

func TestStoredAnswerOutlivesTheEngine(t *testing.T) {
	bubble(t, engine.Options{}, func(r *rig) {
		c := keyed(create(uuid.New()), "key", "request")
		r.must(c)
		other := engine.New(r.faulty, engine.Options{})
		defer func() { r.want("Close", other.Close(context.Background()), nil) }()
		result, err := other.Apply(r.Context(), c)
		if err != nil || string(result.Replay) != string(stored(c.FlowID, 0)) {
			r.Errorf("answered with %+v, %v", result, err)
		}
	})
}

func TestKeyOfAnotherRequestIsRefused(t *testing.T) {
	bubble(t, engine.Options{}, func(r *rig) {
		flow := r.created(2)
		release := r.hold()
		sent := []*pending{
			r.send(r.Context(), keyed(patch(flow[0], "a", 1), "key", "one")),
			r.send(r.Context(), keyed(patch(flow[1], "a", 1), "key", "two")),
		}
		release()
		_, err := sent[0].wait()
		r.want("the first", err, nil)
		_, err = sent[1].wait()
		r.want("another in its batch", err, engine.ErrKeyReused)
		_, err = r.engine.Apply(r.Context(), keyed(patch(flow[1], "a", 1), "key", "two"))
		r.want("another later", err, engine.ErrKeyReused)
		_, _, err = r.engine.ApplyAll(r.Context(), []engine.Command{patch(flow[1], "a", 1)}, onceAll("key", "many"))
		r.want("an ApplyAll", err, engine.ErrKeyReused)
		if f := r.flow(flow[1]); f.Revision != 0 {
			r.Errorf("the flow of the others is at revision %d", f.Revision)
		}
	})
}

func TestFailureIsNotStored(t *testing.T) {
	bubble(t, engine.Options{}, func(r *rig) {
		id := r.created(1)[0]
		finish := keyed(command(id, flows.Finish{}), "key", "finish")
		_, err := r.engine.Apply(r.Context(), finish)
		var illegal *flows.IllegalTransition
		if !errors.As(err, &illegal) || len(r.spy.last().Answers) != 0 {
			r.Errorf("%v, with %d answers stored", err, len(r.spy.last().Answers))
		}
		r.must(command(id, flows.Start{}))
		if result := r.must(finish); result.Replay != nil || result.Flow.Status != flows.Finished {
			r.Errorf("the repeat, legal by now, was answered %+v", result)
		}

		// In one batch: a refusal leaves the key to the next, even to another request.
		other := r.created(1)[0]
		release := r.hold()
		refused := r.send(r.Context(), keyed(command(other, flows.Resume{}), "other", "resume"))
		accepted := r.send(r.Context(), keyed(command(other, flows.Start{}), "other", "start"))
		release()
		if _, err := refused.wait(); !errors.As(err, &illegal) {
			r.Errorf("the first: %v", err)
		}
		if result, err := accepted.wait(); err != nil || result.Replay != nil {
			r.Errorf("the second: %+v, %v", result, err)
		}
	})
}

func TestFailedTransactionLeavesTheKeyFree(t *testing.T) {
	bubble(t, engine.Options{}, func(r *rig) {
		c := keyed(create(uuid.New()), "key", "request")
		twin := keyed(create(uuid.New()), "key", "request")
		r.faulty.Inject(storetest.Refused(errPoison, storetest.WritesFlow(c.FlowID)))
		release := r.hold()
		sent := []*pending{r.send(r.Context(), c), r.send(r.Context(), twin)}
		release()
		_, err := sent[0].wait()
		r.want("the command at fault", err, errPoison)
		if result, err := sent[1].wait(); err != nil || !result.Created {
			r.Errorf("its twin, whose id is no fault: %+v, %v; want it made", result, err)
		}
		r.missing(c.FlowID)
		r.faulty.Heal()
		if got, want := string(r.must(c).Replay), string(stored(twin.FlowID, 0)); got != want {
			r.Errorf("replayed %q, want %q", got, want)
		}
	})
}

func TestAnswerExpiresByTheStoresClock(t *testing.T) {
	const ttl = time.Hour
	synctest.Test(t, func(t *testing.T) {
		ahead := 5 * time.Hour // of this process's clock, which stands still throughout
		r := newRig(t, engine.Options{AnswerTTL: ttl}, func() time.Time { return time.Now().Add(ahead) })
		id := r.created(1)[0]
		c := keyed(patch(id, "a", 1), "key", "patch")
		r.must(c)
		ahead += ttl - time.Microsecond
		if got, want := string(r.must(c).Replay), string(stored(id, 1)); got != want {
			t.Errorf("just before the end: replayed %q, want %q", got, want)
		}
		ahead += time.Microsecond
		if result := r.must(c); result.Replay != nil || result.Flow.Revision != 2 {
			t.Errorf("at the end: %+v, want it made again", result)
		}
		if got, want := string(r.must(c).Replay), string(stored(id, 2)); got != want {
			t.Errorf("after that: replayed %q, want the new answer %q", got, want)
		}
		// Another request may take over a key that has expired.
		ahead += ttl
		if result := r.must(keyed(patch(id, "b", 1), "key", "another")); result.Flow.Revision != 3 {
			t.Errorf("another request: %+v", result)
		}
	})
}

func TestReplayChangesNothing(t *testing.T) {
	bubble(t, engine.Options{}, func(r *rig) {
		id := r.created(1)[0]
		c := atRevision(keyed(patch(id, "a", 1), "key", "patch"), 0)
		r.must(c)
		r.must(patch(id, "a", 2))
		result := r.must(c) // its revision is long past: the key is looked up first
		if got, want := string(result.Replay), string(stored(id, 1)); got != want || result.Flow != nil || result.Events != nil {
			r.Errorf("answered with %+v, want %q replayed", result, want)
		}
		if w := r.spy.last(); !w.Empty() {
			r.Errorf("a replay wrote %+v", w)
		}
		if f := r.flow(id); f.Revision != 2 || string(f.State) != `{"a":2}` || len(r.trail(id)) != 3 {
			r.Errorf("the flow is %+v", f)
		}
	})
}

func TestApplyAllWithAKeyIsOneCommitAndStored(t *testing.T) {
	bubble(t, engine.Options{Batch: 2}, func(r *rig) {
		id := uuid.New()
		commands := []engine.Command{
			create(id), command(id, flows.Finish{}), command(id, flows.Start{}), command(id, flows.Fail{}), // 1, 3 are refused
			keyed(patch(id, "a", 1), "inner", "patch"), keyed(patch(id, "a", 1), "inner", "patch"),
			patch(uuid.New(), "a", 1),                // 6 too
			keyed(patch(id, "b", 1), "all", "whole"), // 7 has the key of the whole
		}
		before := r.faulty.Updates()
		outcomes, replay, err := r.engine.ApplyAll(r.Context(), commands, onceAll("all", "whole"))
		if err != nil || replay != nil || len(outcomes) != len(commands) {
			r.Fatalf("%d outcomes, %q, %v", len(outcomes), replay, err)
		}
		r.wantUpdates(before, 1)
		for i, revision := range map[int]int64{0: 0, 2: 1, 4: 2} {
			if o := outcomes[i]; o.Err != nil || o.Flow.Revision != revision {
				r.Errorf("command %d: %+v, want revision %d", i, o, revision)
			}
		}
		var illegal *flows.IllegalTransition
		var invalid *flows.InvalidValue
		if !errors.As(outcomes[1].Err, &illegal) || !errors.As(outcomes[3].Err, &invalid) {
			r.Errorf("refused with %v and %v", outcomes[1].Err, outcomes[3].Err)
		}
		r.want("on an unknown flow", outcomes[6].Err, flows.ErrNotFound)
		r.want("with the key of the whole", outcomes[7].Err, engine.ErrKeyReused)
		if got, want := string(outcomes[5].Replay), string(stored(id, 2)); got != want {
			r.Errorf("the repeat inside replayed %q, want %q", got, want)
		}
		if w := r.spy.last(); len(w.Answers) != 2 || len(w.Events) != 3 {
			r.Errorf("stored %d answers and %d events, want the whole's, the inner one's, and 3", len(w.Answers), len(w.Events))
		}

		again, replay, err := r.engine.ApplyAll(r.Context(), commands, onceAll("all", "whole"))
		if want := string(encodeAll(outcomes)); err != nil || again != nil || string(replay) != want {
			r.Errorf("the repeat: %v, %q, %v; want %q replayed", again, replay, err, want)
		}
		if w := r.spy.last(); !w.Empty() {
			r.Errorf("the repeat wrote %+v", w)
		}
		if got, want := string(r.must(commands[4]).Replay), string(stored(id, 2)); got != want {
			r.Errorf("the inner command, alone, replayed %q, want %q", got, want)
		}
		_, _, err = r.engine.ApplyAll(r.Context(), commands, onceAll("all", "another"))
		r.want("another request", err, engine.ErrKeyReused)
	})
}

func TestTwoApplyAllWithOneKeyInOneBatch(t *testing.T) {
	bubble(t, engine.Options{}, func(r *rig) {
		release := r.hold()
		first, second := uuid.New(), uuid.New()
		sent := []*pending{
			r.sendAll(r.Context(), []engine.Command{create(first)}, onceAll("all", "whole")),
			r.sendAll(r.Context(), []engine.Command{create(second)}, onceAll("all", "whole")),
		}
		release()
		<-sent[0].done
		<-sent[1].done
		if sent[0].err != nil || sent[0].replay != nil {
			r.Errorf("the first: %+v", sent[0])
		}
		if got, want := string(sent[1].replay), string(stored(first, 0)); sent[1].err != nil || got != want {
			r.Errorf("the second: %q, %v; want %q replayed", got, sent[1].err, want)
		}
		r.missing(second)
	})
}

func TestApplyAllOfRefusalsOnlyIsStoredToo(t *testing.T) {
	bubble(t, engine.Options{}, func(r *rig) {
		id := uuid.New()
		commands := []engine.Command{command(id, flows.Start{})}
		if _, replay, err := r.engine.ApplyAll(r.Context(), commands, onceAll("all", "whole")); err != nil || replay != nil {
			r.Errorf("the first: %q, %v", replay, err)
		}
		r.must(create(id)) // it would be accepted by now
		_, replay, err := r.engine.ApplyAll(r.Context(), commands, onceAll("all", "whole"))
		if want := "error: " + flows.ErrNotFound.Error(); err != nil || string(replay) != want {
			r.Errorf("the repeat: %q, %v; want %q", replay, err, want)
		}
	})
}

func TestApplyAllWithAKeyWhoseTransactionFailsChangesNothing(t *testing.T) {
	for name, poison := range poisons() {
		t.Run(name, func(t *testing.T) {
			bubble(t, engine.Options{}, func(r *rig) {
				poisoned, innocent := uuid.New(), uuid.New()
				fault, answered := poison(poisoned)
				r.faulty.Inject(fault)
				commands := []engine.Command{
					keyed(create(innocent), "inner", "create"), create(poisoned), command(uuid.New(), flows.Start{}),
				}
				release := r.hold()
				stranger := uuid.New()
				strangers := []*pending{r.send(r.Context(), create(stranger))}
				failed := r.sendAll(r.Context(), commands, onceAll("all", "whole"))
				strangers = append(strangers, r.send(r.Context(), patch(stranger, "a", 1)))
				release()
				<-failed.done
				if !answered(failed.err) || failed.replay != nil {
					r.Errorf("answered %q, %v", failed.replay, failed.err)
				}
				for i, p := range strangers {
					if result, err := p.wait(); err != nil || result.Flow.Revision != int64(i) {
						r.Errorf("stranger %d: %+v, %v", i, result.Flow, err)
					}
				}
				r.missing(poisoned)
				r.missing(innocent)

				r.faulty.Heal()
				outcomes, replay, err := r.engine.ApplyAll(r.Context(), commands, onceAll("all", "whole"))
				if err != nil || replay != nil || outcomes[0].Replay != nil || outcomes[1].Err != nil {
					r.Errorf("the repeat: %+v, %q, %v; want it made", outcomes, replay, err)
				}
				r.want("the refused one", outcomes[2].Err, flows.ErrNotFound)
			})
		})
	}
}

func TestApplyAllWithAKeyWhoseOutcomeIsUnknown(t *testing.T) {
	for name, fault := range map[string]storetest.Fault{
		"persisted": storetest.UnknownPersisted(), "lost": storetest.UnknownLost(),
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, engine.Options{}, func(r *rig) {
				id := uuid.New()
				commands := []engine.Command{create(id), command(id, flows.Start{})}
				r.faulty.Inject(fault)
				_, replay, err := r.engine.ApplyAll(r.Context(), commands, onceAll("all", "whole"))
				if r.want("the first", err, store.ErrOutcomeUnknown); replay != nil {
					r.Errorf("replayed %q", replay)
				}
				_, replay, err = r.engine.ApplyAll(r.Context(), commands, onceAll("all", "whole"))
				if got := replay != nil; err != nil || got != fault.Persist {
					r.Errorf("the repeat: %q, %v; persisted: %v", replay, err, fault.Persist)
				}
				if f := r.flow(id); f.Revision != 1 || len(r.trail(id)) != 2 {
					r.Errorf("revision %d, %d events; want one effect", f.Revision, len(r.trail(id)))
				}
			})
		})
	}
}

func TestReplayIsNotHandedOutWithAFailure(t *testing.T) {
	bubble(t, engine.Options{}, func(r *rig) {
		commands := []engine.Command{create(uuid.New())}
		if _, _, err := r.engine.ApplyAll(r.Context(), commands, onceAll("all", "whole")); err != nil {
			r.Fatal(err)
		}
		r.faulty.Inject(storetest.Unavailable())
		outcomes, replay, err := r.engine.ApplyAll(r.Context(), commands, onceAll("all", "whole"))
		if r.want("ApplyAll", err, store.ErrUnavailable); replay != nil {
			r.Errorf("replayed %q with an error; outcomes %s", replay, fmt.Sprint(outcomes))
		}
	})
}
