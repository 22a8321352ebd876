package engine_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"testing"
	"testing/synctest"
	"time"

	"taskflow/internal/engine"
	"taskflow/internal/flows"
	"taskflow/internal/store"

	"github.com/google/uuid"
)

func TestIdleCommandCommitsAloneAtOnce(t *testing.T) {
	bubble(t, engine.Options{}, func(r *rig) {
		began := time.Now()
		for n := 1; n <= 3; n++ {
			result := r.must(create(uuid.New()))
			if !result.Created || result.Flow.Revision != 0 {
				r.Errorf("answered with %+v", result)
			}
			if got := r.faulty.Updates(); got != n {
				r.Errorf("%d transactions after %d commands, want one each", got, n)
			}
		}
		if waited := time.Since(began); waited != 0 {
			r.Errorf("an idle engine let its callers wait %v for others", waited)
		}
	})
}

func TestWhatQueuesBehindABatchSharesTheNext(t *testing.T) {
	bubble(t, engine.Options{}, func(r *rig) {
		release := r.hold()
		before := r.faulty.Updates()
		var sent []*pending
		var want []uuid.UUID
		for range 20 {
			id := uuid.New()
			want = append(want, id)
			sent = append(sent, r.send(r.Context(), create(id)))
		}
		for i, p := range sent {
			if p.answered() {
				r.Fatalf("command %d was answered before its commit", i)
			}
		}
		release()
		for i, p := range sent {
			if _, err := p.wait(); err != nil {
				r.Errorf("command %d: %v", i, err)
			}
		}
		r.wantUpdates(before, 1)
		for i, e := range r.trail(uuid.Nil)[1:] { // the first is the plug's
			if e.FlowID != want[i] {
				r.Errorf("event %d is of %s, want %s: not in the order of arrival", i, e.FlowID, want[i])
			}
		}
	})
}

func TestLaterCommandOfABatchSeesEarlierOnes(t *testing.T) {
	bubble(t, engine.Options{}, func(r *rig) {
		id, release := uuid.New(), r.hold()
		sent := []*pending{
			r.send(r.Context(), create(id)),
			r.send(r.Context(), atRevision(command(id, flows.Start{}), 0)),
			r.send(r.Context(), atRevision(patch(id, "a", 1), 0)), // too late
			r.send(r.Context(), atRevision(patch(id, "b", 2), 1)),
			r.send(r.Context(), create(id)), // taken by now
			r.send(r.Context(), command(id, flows.Finish{})),
			r.send(r.Context(), patch(id, "c", 3)), // it has ended
		}
		before := r.faulty.Updates()
		release()
		for i, revision := range map[int]int64{0: 0, 1: 1, 3: 2, 5: 3} {
			if result, err := sent[i].wait(); err != nil || result.Flow.Revision != revision {
				r.Errorf("command %d: %+v, %v; want revision %d", i, result.Flow, err, revision)
			}
		}
		_, err := sent[2].wait()
		if conflict, ok := err.(*flows.RevisionConflict); !ok || conflict.Flow.Revision != 1 || conflict.Flow.Status != flows.Running {
			r.Errorf("command 2: %v, want a conflict with the flow as the batch had made it", err)
		}
		_, err = sent[4].wait()
		r.want("command 4", err, flows.ErrAlreadyExists)
		_, err = sent[6].wait()
		if terminal, ok := err.(*flows.AlreadyTerminal); !ok || terminal.Status != flows.Finished {
			r.Errorf("command 6: %v, want AlreadyTerminal", err)
		}
		r.wantUpdates(before, 1)
		if f := r.flow(id); f.Status != flows.Finished || f.Revision != 3 || string(f.State) != `{"b":2}` {
			r.Errorf("recorded as %+v", f)
		}
	})
}

func TestFortyWritersOfOneFlow(t *testing.T) {
	const writers = 40
	bubble(t, engine.Options{}, func(r *rig) {
		id := r.created(1)[0]
		release := r.hold()
		before := r.faulty.Updates()
		want := map[string]int{}
		var sent []*pending
		for n := range writers {
			key := fmt.Sprint("writer ", n)
			want[key] = n
			sent = append(sent, r.send(r.Context(), patch(id, key, n)))
		}
		release()
		for n, p := range sent {
			if result, err := p.wait(); err != nil || result.Flow.Revision != int64(n+1) {
				r.Errorf("writer %d: revision %v, %v; want %d", n, result.Flow, err, n+1)
			}
		}
		r.wantUpdates(before, 1)
		f := r.flow(id)
		var state map[string]int
		if err := json.Unmarshal(f.State, &state); err != nil || !maps.Equal(state, want) || f.Revision != writers {
			r.Errorf("revision %d, state %s; want %d and every patch", f.Revision, f.State, writers)
		}
		w := r.spy.last()
		if len(w.Updated) != 1 || len(w.Events) != writers || len(w.Created) != 0 {
			r.Errorf("wrote %d rows and %d events, want one row and %d events", len(w.Updated), len(w.Events), writers)
		}
		if trail := r.trail(id); len(trail) != writers+1 {
			r.Errorf("%d events, want %d", len(trail), writers+1)
		}
	})
}

func TestEarlierAnswersOfABatchAreNotAltered(t *testing.T) {
	bubble(t, engine.Options{}, func(r *rig) {
		id, value := uuid.New(), "v"
		release := r.hold()
		label := func(key string) *pending {
			return r.send(r.Context(), command(id, flows.UpdateState{Labels: map[string]*string{key: &value}}))
		}
		first, second, third := r.send(r.Context(), create(id)), label("a"), label("b")
		release()
		for i, p := range []*pending{first, second, third} {
			if result, err := p.wait(); err != nil || len(result.Flow.Labels) != i || result.Flow.Revision != int64(i) {
				r.Errorf("answer %d has labels %v, %v; want %d of them", i, result.Flow.Labels, err, i)
			}
		}
	})
}

func TestBatchIsBounded(t *testing.T) {
	bubble(t, engine.Options{Batch: 4}, func(r *rig) {
		release := r.hold()
		before := r.faulty.Updates()
		var sent []*pending
		for range 9 { // 4, 4, 1
			sent = append(sent, r.send(r.Context(), create(uuid.New())))
		}
		release()
		for _, p := range sent {
			if _, err := p.wait(); err != nil {
				r.Error(err)
			}
		}
		r.wantUpdates(before, 3)
		for i, w := range r.spy.commits()[1:] {
			if len(w.Created) != []int{4, 4, 1}[i] {
				r.Errorf("batch %d has %d commands, want at most 4", i, len(w.Created))
			}
		}
	})
}

func TestApplyAllMayExceedTheBatchAndTakesNobodyWithIt(t *testing.T) {
	bubble(t, engine.Options{Batch: 4}, func(r *rig) {
		release := r.hold()
		before := r.faulty.Updates()
		var many []engine.Command
		for range 10 {
			many = append(many, create(uuid.New()))
		}
		all := r.sendAll(r.Context(), many, nil)
		after := r.send(r.Context(), create(uuid.New()))
		release()
		<-all.done
		if _, err := after.wait(); err != nil {
			r.Error(err)
		}
		for i, o := range all.outcomes {
			if o.Err != nil || o.Flow.ID != many[i].FlowID {
				r.Errorf("command %d: %+v", i, o)
			}
		}
		r.wantUpdates(before, 2)
	})
}

func TestRequestsOfNothingCountToo(t *testing.T) {
	bubble(t, engine.Options{Batch: 4}, func(r *rig) {
		release := r.hold()
		before := r.faulty.Updates()
		var sent []*pending
		for range 5 {
			sent = append(sent, r.sendAll(r.Context(), nil, nil))
		}
		release()
		for _, p := range sent {
			<-p.done
			r.want("ApplyAll", p.err, nil)
		}
		r.wantUpdates(before, 2)
	})
}

func TestApplyAllOfNothing(t *testing.T) {
	bubble(t, engine.Options{}, func(r *rig) {
		outcomes, replay, err := r.engine.ApplyAll(r.Context(), nil, nil)
		if len(outcomes) != 0 || replay != nil || err != nil {
			r.Errorf("answered with %v, %q, %v", outcomes, replay, err)
		}
	})
}

// sameTail is an id that only its first bytes tell from others, as a caller's own ids may be.
func sameTail(n byte) uuid.UUID { return uuid.UUID{0: n, 6: 0x40, 8: 0x80, 15: 0x01} }

func TestCommittersWorkSideBySideWhateverTheIDs(t *testing.T) {
	bubble(t, engine.Options{Committers: 2}, func(r *rig) {
		gate := r.faulty.Block()
		var sent []*pending
		for n := range byte(64) {
			sent = append(sent, r.send(r.Context(), create(sameTail(n))))
		}
		if got := len(gate.Arrived()); got != 2 {
			r.Errorf("%d committers are at work, want 2", got)
		}
		gate.Release()
		for _, p := range sent {
			if _, err := p.wait(); err != nil {
				r.Error(err)
			}
		}
	})
}

func TestCommandsOfOneFlowMeetAndSoDoCreatesWithOneKey(t *testing.T) {
	id := uuid.New()
	for name, next := range map[string]func() engine.Command{
		"flow": func() engine.Command { return patch(id, "a", 1) },
		"key":  func() engine.Command { return keyed(create(uuid.New()), "key", "request") },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, engine.Options{Committers: 16}, func(r *rig) {
				r.must(create(id))
				gate := r.faulty.Block()
				var sent []*pending
				for range 16 {
					sent = append(sent, r.send(r.Context(), next()))
				}
				if got := len(gate.Arrived()); got != 1 {
					r.Errorf("%d committers are at work on them, want 1", got)
				}
				gate.Release()
				for _, p := range sent {
					if _, err := p.wait(); err != nil {
						r.Error(err)
					}
				}
			})
		})
	}
}

var errAgain = errors.New("could not serialize access")

// again is a store that runs every change twice, as a database does after a serialization failure.
type again struct {
	store.Store
	between func() // other people's changes meanwhile
}

func (a *again) Update(ctx context.Context, fn func(store.Tx) error) error {
	err := a.Store.Update(ctx, func(tx store.Tx) error {
		if err := fn(&spyTx{Tx: tx}); err != nil {
			return err
		}
		return errAgain
	})
	if err != errAgain {
		return err
	}
	a.between()
	return a.Store.Update(ctx, fn)
}

func TestTransactionThatRunsAgainIsDecidedAnew(t *testing.T) {
	bubble(t, engine.Options{}, func(r *rig) {
		id := r.created(1)[0]
		twice := &again{Store: r.faulty, between: func() { r.must(command(id, flows.Start{})) }}
		e := engine.New(twice, engine.Options{Committers: 1})
		defer func() { r.want("Close", e.Close(r.Context()), nil) }()
		outcomes, _, err := e.ApplyAll(r.Context(), []engine.Command{
			keyed(patch(id, "a", 1), "key", "a"),
			keyed(patch(id, "a", 1), "key", "a"),
			create(uuid.New()),
			atRevision(patch(id, "b", 1), 1), // right in the first run only
		}, nil)
		synctest.Wait()
		if err != nil || outcomes[0].Err != nil || outcomes[0].Flow.Revision != 2 || outcomes[0].Flow.Status != flows.Running {
			r.Errorf("answered with %+v, %v; want what the second run decided", outcomes[0], err)
		}
		if got, want := string(outcomes[1].Replay), string(stored(id, 2)); got != want {
			r.Errorf("replayed %q, want %q", got, want)
		}
		if _, ok := outcomes[3].Err.(*flows.RevisionConflict); !ok || outcomes[2].Err != nil {
			r.Errorf("answered with %v and %v, want no error and a conflict", outcomes[2].Err, outcomes[3].Err)
		}
		if f := r.flow(id); f.Revision != 2 || len(r.trail(id)) != 3 {
			r.Errorf("revision %d with %d events, want 2 and 3", f.Revision, len(r.trail(id)))
		}
	})
}

func TestReplayFoundByTheSecondRunIsTheWholeAnswer(t *testing.T) {
	bubble(t, engine.Options{}, func(r *rig) {
		mine, theirs := uuid.New(), uuid.New()
		request := func(id uuid.UUID) ([]engine.Command, *engine.Once[[]engine.Outcome]) {
			return []engine.Command{keyed(create(id), "inner", "create")}, onceAll("all", "whole")
		}
		twice := &again{Store: r.faulty, between: func() { // at another replica
			commands, once := request(theirs)
			_, _, err := r.engine.ApplyAll(r.Context(), commands, once)
			r.want("the other's", err, nil)
		}}
		e := engine.New(twice, engine.Options{Committers: 1})
		defer func() { r.want("Close", e.Close(r.Context()), nil) }()
		commands, once := request(mine)
		outcomes, replay, err := e.ApplyAll(r.Context(), commands, once)
		if want := string(stored(theirs, 0)); err != nil || outcomes != nil || string(replay) != want {
			r.Errorf("answered with %+v, %q, %v; want nothing but %q replayed", outcomes, replay, err, want)
		}
		r.missing(mine)
	})
}
