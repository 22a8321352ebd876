package engine_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"taskflow/internal/engine"
	"taskflow/internal/flows"
	"taskflow/internal/store"
	"taskflow/internal/store/storetest"

	"github.com/google/uuid"
)

var errPoison = errors.New("value out of range") // what a database says of one command's values

func TestRefusedCommandTakesNoPartInTheWrite(t *testing.T) {
	bubble(t, engine.Options{}, func(r *rig) {
		flow := r.created(3)
		release := r.hold()
		before := r.faulty.Updates()
		unknown := r.send(r.Context(), command(uuid.New(), flows.Start{}))
		first := r.send(r.Context(), patch(flow[0], "a", 1))
		late := r.send(r.Context(), atRevision(patch(flow[1], "a", 1), 7))
		illegal := r.send(r.Context(), keyed(command(flow[1], flows.Finish{}), "key", "finish"))
		last := r.send(r.Context(), patch(flow[2], "a", 1))
		release()
		_, err := unknown.wait()
		r.want("on an unknown flow", err, flows.ErrNotFound)
		_, err = late.wait()
		var conflict *flows.RevisionConflict
		if !errors.As(err, &conflict) || conflict.Expected != 7 || conflict.Flow.ID != flow[1] {
			r.Errorf("at another revision: %v", err)
		}
		_, err = illegal.wait()
		var transition *flows.IllegalTransition
		if !errors.As(err, &transition) {
			r.Errorf("an illegal move: %v", err)
		}
		for _, stranger := range []*pending{first, last} {
			if result, err := stranger.wait(); err != nil || result.Flow.Revision != 1 {
				r.Errorf("a stranger: %+v, %v", result.Flow, err)
			}
		}
		r.wantUpdates(before, 1)
		w := r.spy.last()
		if len(w.Updated) != 2 || len(w.Events) != 2 || len(w.Created)+len(w.Erased)+len(w.Steps)+len(w.Answers) != 0 {
			r.Errorf("wrote %+v, want two flows and their events", w)
		}
	})
}

func TestBatchOfRefusalsWritesNothing(t *testing.T) {
	bubble(t, engine.Options{}, func(r *rig) {
		id := r.created(1)[0]
		saves := r.spy.saves
		_, err := r.engine.Apply(r.Context(), command(id, flows.Finish{}))
		if err == nil {
			r.Error("an illegal move was accepted")
		}
		if w := r.spy.last(); !w.Empty() || r.spy.saves != saves {
			r.Errorf("saved %+v", w)
		}
	})
}

// poisons are two ways in which a transaction can fail for the reason of one flow, and what its command is answered.
func poisons() map[string]func(id uuid.UUID) (fault storetest.Fault, answered func(error) bool) {
	return map[string]func(uuid.UUID) (storetest.Fault, func(error) bool){
		"refused": func(id uuid.UUID) (storetest.Fault, func(error) bool) {
			return storetest.Refused(fmt.Errorf("insert: %w", errPoison), storetest.WritesFlow(id)),
				func(err error) bool { return errors.Is(err, errPoison) }
		},
		"panic": func(id uuid.UUID) (storetest.Fault, func(error) bool) {
			return storetest.Fault{Panic: "broken invariant", Match: storetest.WritesFlow(id), Times: -1},
				func(err error) bool { return err != nil && strings.Contains(err.Error(), "broken invariant") }
		},
	}
}

func TestFailingTransactionIsSplitUntilTheCommandAtFaultStandsAlone(t *testing.T) {
	const size = 16
	for name, poison := range poisons() {
		for _, at := range []int{0, 6, size - 1} {
			t.Run(fmt.Sprint(name, " at ", at), func(t *testing.T) {
				bubble(t, engine.Options{}, func(r *rig) { splits(r, size, at, poison) })
			})
		}
	}
}

// splits sends one batch with a command at fault, one that Decide refuses, and strangers, two of them on one flow.
func splits(r *rig, size, at int, poison func(uuid.UUID) (storetest.Fault, func(error) bool)) {
	flow := r.created(size)
	flow[3] = flow[2]
	fault, answered := poison(flow[at])
	r.faulty.Inject(fault)
	release := r.hold()
	before := r.faulty.Updates()
	var sent []*pending
	for i, id := range flow {
		sent = append(sent, r.send(r.Context(), patch(id, fmt.Sprint("n", i), i)))
	}
	refused := r.send(r.Context(), command(flow[1], flows.Resume{}))
	release()
	for i, p := range sent {
		result, err := p.wait()
		want := int64(1)
		if i == 3 {
			want = 2
		}
		switch {
		case i == at && !answered(err):
			r.Errorf("the command at fault was answered %+v, %v", result.Flow, err)
		case i != at && (err != nil || result.Flow.Revision != want):
			r.Errorf("stranger %d: %+v, %v; want revision %d", i, result.Flow, err, want)
		}
	}
	_, err := refused.wait()
	var illegal *flows.IllegalTransition
	if !errors.As(err, &illegal) {
		r.Errorf("the refused command: %v", err)
	}
	for i, id := range flow {
		want := r.flow(id).Revision + 1 // each revision has one event
		if got := int64(len(r.trail(id))); got != want || i != at && want < 2 || i == at && want != 1 {
			r.Errorf("flow %d has %d events at revision %d", i, got, want-1)
		}
	}
	// Two halves at each of the levels of a batch of 17.
	if made := r.faulty.Updates() - before; made > 1+2*5 {
		r.Errorf("%d transactions to find one command of %d", made, size)
	}
}

func TestTwoCommandsAtFaultHarmNoStranger(t *testing.T) {
	bubble(t, engine.Options{}, func(r *rig) {
		flow := r.created(8)
		r.faulty.Inject(storetest.Refused(errPoison, storetest.WritesFlow(flow[2])))
		r.faulty.Inject(storetest.Refused(errPoison, storetest.WritesFlow(flow[3])))
		release := r.hold()
		var sent []*pending
		for _, id := range flow {
			sent = append(sent, r.send(r.Context(), patch(id, "a", 1)))
		}
		release()
		for i, p := range sent {
			var want error
			if i == 2 || i == 3 {
				want = errPoison
			}
			_, err := p.wait()
			r.want(fmt.Sprint("command ", i), err, want)
		}
	})
}

func TestCommandAtFaultInsideApplyAllFailsAlone(t *testing.T) {
	const size = 64
	bubble(t, engine.Options{}, func(r *rig) {
		poisoned := uuid.New()
		r.faulty.Inject(storetest.Refused(errPoison, storetest.WritesFlow(poisoned)))
		id := uuid.New()
		commands := []engine.Command{create(id), command(id, flows.Fail{}) /* invalid */, command(id, flows.Start{})}
		for len(commands) < size {
			commands = append(commands, patch(id, fmt.Sprint("n", len(commands)), 1))
		}
		commands[40] = create(poisoned)
		commands[50] = command(id, flows.Fail{}) // invalid
		before := r.faulty.Updates()
		outcomes, replay, err := r.engine.ApplyAll(r.Context(), commands, nil)
		if err != nil || replay != nil || len(outcomes) != size {
			r.Fatalf("%d outcomes, %q, %v", len(outcomes), replay, err)
		}
		for i, o := range outcomes {
			var invalid *flows.InvalidValue
			switch {
			case i == 40:
				r.want("the command at fault", o.Err, errPoison)
			case (i == 1 || i == 50) != errors.As(o.Err, &invalid):
				r.Errorf("command %d: %v", i, o.Err)
			case i != 1 && i != 50 && (o.Err != nil || o.Flow.ID != id):
				r.Errorf("command %d: %+v, %v", i, o.Flow, o.Err)
			}
		}
		r.missing(poisoned)
		if f := r.flow(id); f.Revision != size-4 || len(r.trail(id)) != size-3 {
			r.Errorf("revision %d with %d events, want %d and one more", f.Revision, len(r.trail(id)), size-4)
		}
		// The request whole, then two halves at each level.
		if made := r.faulty.Updates() - before; made > 1+2*6 {
			r.Errorf("%d transactions to find one command of %d", made, size)
		}
	})
}

func TestPanicWhileEncodingAnAnswerFailsThatCommandAlone(t *testing.T) {
	bubble(t, engine.Options{}, func(r *rig) {
		bad := keyed(create(uuid.New()), "key", "request")
		bad.Once.Encode = func(engine.Result) []byte { panic("no way to say this") }
		release := r.hold()
		good := create(uuid.New())
		sent := []*pending{r.send(r.Context(), bad), r.send(r.Context(), good)}
		release()
		if _, err := sent[0].wait(); err == nil || !strings.Contains(err.Error(), "no way to say this") {
			r.Errorf("answered with %v", err)
		}
		r.missing(bad.FlowID)
		if _, err := sent[1].wait(); err != nil || r.flow(good.FlowID).Revision != 0 {
			r.Errorf("a stranger: %v", err)
		}
		r.must(create(uuid.New())) // the committer lives
	})
}

// clumsy is an observer that breaks when it is told of a conflict or of a transaction.
type clumsy struct{ *counts }

func (clumsy) Conflict()                                    { panic("no such counter") }
func (clumsy) Committed(string, int, time.Duration, string) { panic("no such histogram") }

// TestPanicAfterTheCommitChangesNothing: what is durable is answered, and not made once more.
func TestPanicAfterTheCommitChangesNothing(t *testing.T) {
	bubble(t, engine.Options{Observer: clumsy{&counts{}}}, func(r *rig) {
		id := r.created(1)[0]
		stale, zero := patch(id, "late", 1), int64(0)
		stale.IfRevision = &zero
		release := r.hold()
		first, second, refused := r.send(r.Context(), patch(id, "n", 1)), r.send(r.Context(), patch(id, "n", 2)), r.send(r.Context(), stale)
		release()
		for i, p := range []*pending{first, second} {
			if result, err := p.wait(); err != nil || result.Flow.Revision != int64(i+1) {
				r.Errorf("change %d was answered %+v, %v", i, result.Flow, err)
			}
		}
		if _, err := refused.wait(); !errors.As(err, new(*flows.RevisionConflict)) {
			r.Errorf("the stale change was answered %v", err)
		}
		if f := r.flow(id); f.Revision != 2 || len(r.trail(id)) != 3 {
			r.Errorf("revision %d with %d events, want 2 with 3", f.Revision, len(r.trail(id)))
		}
		r.must(create(uuid.New())) // the committer lives
	})
}

func TestUnavailableIsAnsweredToAllAndNotTriedAgain(t *testing.T) {
	bubble(t, engine.Options{}, func(r *rig) {
		flow := r.created(4)
		release := r.hold()
		r.faulty.Inject(storetest.Fault{Err: fmt.Errorf("%w: connection refused", store.ErrUnavailable),
			Match: storetest.WritesFlow(flow[0])}) // one that the plug does not meet
		before := r.faulty.Updates()
		sent := []*pending{r.send(r.Context(), command(flow[1], flows.Resume{}))} // refused, had it been decided
		for _, id := range flow {
			sent = append(sent, r.send(r.Context(), keyed(patch(id, "a", 1), id.String(), "patch")))
		}
		all := r.sendAll(r.Context(), []engine.Command{patch(flow[0], "b", 1), create(uuid.New())}, nil)
		once := r.sendAll(r.Context(), []engine.Command{create(uuid.New())}, onceAll("all", "request"))
		release()
		for i, p := range sent {
			_, err := p.wait()
			r.want(fmt.Sprint("command ", i), err, store.ErrUnavailable)
		}
		<-all.done
		r.want("ApplyAll", all.err, nil)
		for i, o := range all.outcomes {
			r.want(fmt.Sprint("ApplyAll's command ", i), o.Err, store.ErrUnavailable)
		}
		<-once.done
		r.want("ApplyAll with a key", once.err, store.ErrUnavailable)
		r.wantUpdates(before, 1)
		for _, id := range flow {
			if f := r.flow(id); f.Revision != 0 {
				r.Errorf("flow %s is at revision %d, want nothing changed", id, f.Revision)
			}
			// The database is back, and the key is free.
			if result := r.must(keyed(patch(id, "a", 1), id.String(), "patch")); result.Replay != nil || result.Flow.Revision != 1 {
				r.Errorf("repeated: %+v", result)
			}
		}
	})
}

func TestUnknownOutcomeIsReportedAndARepeatSettlesIt(t *testing.T) {
	for name, fault := range map[string]storetest.Fault{
		"persisted": storetest.UnknownPersisted(), "lost": storetest.UnknownLost(),
		"out of time": {Err: fmt.Errorf("%w: %w", store.ErrOutcomeUnknown, context.DeadlineExceeded), Persist: true},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, engine.Options{}, func(r *rig) { unknownOutcome(r, fault) })
		})
	}
}

func unknownOutcome(r *rig, fault storetest.Fault) {
	flow := r.created(3)
	commands := make([]engine.Command, len(flow))
	for i, id := range flow {
		commands[i] = keyed(patch(id, "a", 1), id.String(), "patch")
	}
	release := r.hold()
	fault.Match = storetest.WritesFlow(flow[0])
	r.faulty.Inject(fault)
	before := r.faulty.Updates()
	var sent []*pending
	for _, c := range commands {
		sent = append(sent, r.send(r.Context(), c))
	}
	release()
	for i, p := range sent {
		_, err := p.wait()
		r.want(fmt.Sprint("command ", i), err, store.ErrOutcomeUnknown)
		if errors.Is(err, store.ErrUnavailable) {
			r.Errorf("command %d: %v promises that nothing was changed", i, err)
		}
	}
	r.wantUpdates(before, 1)
	for i, c := range commands {
		if got := r.flow(flow[i]).Revision == 1; got != fault.Persist {
			r.Fatalf("changed: %v, but the fault persists: %v", got, fault.Persist)
		}
		for range 2 {
			result := r.must(c)
			if result.Replay == nil && result.Flow.Revision != 1 || result.Replay != nil && string(result.Replay) != string(stored(flow[i], 1)) {
				r.Errorf("a repeat was answered %+v", result)
			}
		}
		if f := r.flow(flow[i]); f.Revision != 1 || len(r.trail(flow[i])) != 2 {
			r.Errorf("after the repeats: revision %d, %d events; want one effect", f.Revision, len(r.trail(flow[i])))
		}
	}
}

func TestDatabaseThatAnswersNothingIsUnavailable(t *testing.T) {
	bubble(t, engine.Options{}, func(r *rig) {
		gate, id, began := r.faulty.Block(), uuid.New(), time.Now()
		_, err := r.engine.Apply(r.Context(), create(id))
		r.want("a held transaction", err, store.ErrUnavailable)
		if errors.Is(err, store.ErrOutcomeUnknown) {
			r.Errorf("%v, but no commit was sent", err)
		}
		if waited := time.Since(began); waited <= 0 || waited > time.Minute {
			r.Errorf("waited for %v", waited)
		}
		r.wantUpdates(0, 1)
		gate.Release()
		r.missing(id)
		r.must(create(id))
	})
}
