package engine_test

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"taskflow/internal/engine"
	"taskflow/internal/flows"
	"taskflow/internal/store"
	"taskflow/internal/store/storetest"

	"github.com/google/uuid"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is an engine over a store in memory that fails and waits as a test asks. Inside a bubble of testing/synctest the
// order of everything is known.
type rig struct {
	*testing.T
	faulty *storetest.Faulty
	spy    *spy
	engine *engine.Engine
}

// bubble runs a test on a new rig, on the bubble's own clock.
func bubble(t *testing.T, o engine.Options, test func(r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { test(newRig(t, o, time.Now)) })
}

// synced is bubble with a store whose clock is ahead of the process's.
func synced(t *testing.T, ahead time.Duration, test func(r *rig)) {
	t.Helper()
	clock := func() time.Time { return time.Now().Add(ahead) }
	synctest.Test(t, func(t *testing.T) { test(newRig(t, engine.Options{}, clock)) })
}

// turned is bubble with a store whose clock the test puts back, by so much in all.
func turned(t *testing.T, test func(r *rig, back func(time.Duration))) {
	t.Helper()
	var by atomic.Int64
	clock := func() time.Time { return time.Now().Add(-time.Duration(by.Load())) }
	synctest.Test(t, func(t *testing.T) {
		test(newRig(t, engine.Options{}, clock), func(d time.Duration) { by.Store(int64(d)) })
	})
}

// newRig starts an engine; clock is the store's. One committer is the default here, so that whatever is sent meets.
func newRig(t *testing.T, o engine.Options, clock func() time.Time) *rig {
	if o.Committers == 0 {
		o.Committers = 1
	}
	s := &spy{Store: storetest.NewMemory(clock)}
	r := &rig{T: t, faulty: storetest.NewFaulty(s), spy: s}
	r.engine = engine.New(r.faulty, o)
	t.Cleanup(func() {
		if err := r.engine.Close(context.Background()); err != nil {
			t.Error("Close:", err)
		}
	})
	return r
}

// spy remembers what was committed, and can stand in for the sweep.
type spy struct {
	store.Store
	mu    sync.Mutex // guards everything below
	saved []store.Writes
	saves int       // calls of Save in them
	sweep sweepFunc // nil for the store's own
	prune []pruning
	gone  int // loads yet to come whose waiting flows have all been resumed by others, just before they were locked
}

// pruning is a call of Prune.
type pruning struct{ limit, pruned int }

type sweepFunc func(ctx context.Context, before time.Time, limit int) (int, error)

func (s *spy) Update(ctx context.Context, fn func(store.Tx) error) error {
	var tx spyTx
	err := s.Store.Update(ctx, func(inner store.Tx) error {
		tx = spyTx{Tx: inner, spy: s}
		return fn(&tx)
	})
	if err == nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.saved, s.saves = append(s.saved, tx.writes), s.saves+tx.saves
	}
	return err
}

func (s *spy) SweepAnswers(ctx context.Context, before time.Time, limit int) (int, error) {
	s.mu.Lock()
	sweep := s.sweep
	s.mu.Unlock()
	if sweep == nil {
		sweep = s.Store.SweepAnswers
	}
	return sweep(ctx, before, limit)
}

func (s *spy) Prune(ctx context.Context, endedBefore time.Time, limit int) (int, error) {
	n, err := s.Store.Prune(ctx, endedBefore, limit)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.prune = append(s.prune, pruning{limit, n})
	return n, err
}

func (s *spy) pruned() []pruning {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.prune
}

func (s *spy) onSweep(sweep sweepFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sweep = sweep
}

// commits are the transactions that were committed so far, those that wrote nothing too.
func (s *spy) commits() []store.Writes {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.saved
}

// last is what the last commit wrote.
func (s *spy) last() store.Writes {
	saved := s.commits()
	return saved[len(saved)-1]
}

type spyTx struct {
	store.Tx
	spy    *spy
	writes store.Writes
	saves  int
}

func (tx *spyTx) Load(need store.Need) (store.Snapshot, error) {
	snapshot, err := tx.Tx.Load(need)
	if tx.spy == nil {
		return snapshot, err
	}
	tx.spy.mu.Lock()
	defer tx.spy.mu.Unlock()
	if len(need.Match) > 0 && tx.spy.gone > 0 {
		tx.spy.gone--
		snapshot.Waiting = nil
	}
	return snapshot, err
}

func (tx *spyTx) Save(w store.Writes) error {
	tx.writes = w
	tx.saves++
	return tx.Tx.Save(w)
}

// pending is an answer that may not be there yet.
type pending struct {
	done     chan struct{}
	outcomes []engine.Outcome // one, for Apply
	replay   []byte
	err      error // of ApplyAll
}

// send calls Apply and returns when the command is queued, or answered.
func (r *rig) send(ctx context.Context, c engine.Command) *pending {
	return r.start(func(p *pending) {
		result, err := r.engine.Apply(ctx, c)
		p.outcomes = []engine.Outcome{{Result: result, Err: err}}
	})
}

// sendAll is send for ApplyAll.
func (r *rig) sendAll(ctx context.Context, commands []engine.Command, once *engine.Once[[]engine.Outcome]) *pending {
	return r.start(func(p *pending) { p.outcomes, p.replay, p.err = r.engine.ApplyAll(ctx, commands, once) })
}

func (r *rig) start(call func(p *pending)) *pending {
	p := &pending{done: make(chan struct{})}
	go func() { // ends with the call; bubbles and goleak see to it that it does
		defer close(p.done)
		call(p)
	}()
	synctest.Wait()
	return p
}

// wait blocks until the answer to an Apply is there.
func (p *pending) wait() (engine.Result, error) {
	<-p.done
	return p.outcomes[0].Result, p.outcomes[0].Err
}

func (p *pending) answered() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// hold occupies the committer with a command of its own that is held in the store, so that whatever is sent before
// release forms one batch behind it.
func (r *rig) hold() (release func()) {
	r.Helper()
	gate := r.faulty.Block()
	plug := r.send(r.Context(), create(uuid.New()))
	if len(gate.Arrived()) != 1 {
		r.Fatal("the committer did not reach the store")
	}
	return func() {
		gate.Release()
		if _, err := plug.wait(); err != nil {
			r.Fatal("holding the committer:", err)
		}
	}
}

// must applies a command that is expected to be accepted.
func (r *rig) must(c engine.Command) engine.Result {
	r.Helper()
	result, err := r.engine.Apply(r.Context(), c)
	if err != nil {
		r.Fatalf("%T: %v", c.Action, err)
	}
	return result
}

// flow reads a flow that is there.
func (r *rig) flow(id uuid.UUID) *flows.Flow {
	r.Helper()
	f, err := r.faulty.Flow(r.Context(), id, flows.Everyone)
	if err != nil {
		r.Fatalf("reading flow %s: %v", id, err)
	}
	return f
}

func (r *rig) missing(id uuid.UUID) {
	r.Helper()
	if f, err := r.faulty.Flow(r.Context(), id, flows.Everyone); !errors.Is(err, flows.ErrNotFound) {
		r.Errorf("flow %s is %v, %v; want ErrNotFound", id, f, err)
	}
}

// trail reads a flow's events, or with uuid.Nil everybody's.
func (r *rig) trail(id uuid.UUID) []flows.Event {
	r.Helper()
	page, err := r.faulty.Events(r.Context(), store.EventQuery{Owners: flows.Everyone, FlowID: id, Limit: store.Examined})
	if err != nil {
		r.Fatal(err)
	}
	return page.Items
}

// want checks an error, nil too.
func (r *rig) want(what string, got, want error) {
	r.Helper()
	if !errors.Is(got, want) {
		r.Errorf("%s: error %v, want %v", what, got, want)
	}
}

func (r *rig) wantUpdates(before, want int) {
	r.Helper()
	if got := r.faulty.Updates() - before; got != want {
		r.Errorf("%d transactions, want %d", got, want)
	}
}

func command(id uuid.UUID, a flows.Action) engine.Command {
	return engine.Command{Command: flows.Command{Owners: flows.Everyone, FlowID: id, Actor: "tester", Action: a}}
}

func create(id uuid.UUID) engine.Command {
	return command(id, flows.Create{Mode: flows.Managed, ControllerID: "c", Goal: "g", OwnerSessionKey: "o"})
}

// patch lays one member onto a flow's state.
func patch(id uuid.UUID, key string, value int) engine.Command {
	return command(id, flows.UpdateState{Patch: json.RawMessage(fmt.Sprintf(`{%q:%d}`, key, value))})
}

func observe(id uuid.UUID, run string, status flows.StepStatus) engine.Command {
	return command(id, flows.ObserveStep{StepID: uuid.New(), RunID: run, Task: "t", Status: status})
}

func atRevision(c engine.Command, revision int64) engine.Command {
	c.IfRevision = &revision
	return c
}

// keyed gives a command an idempotency key. Its stored answer tells the flow and its revision.
func keyed(c engine.Command, key, fingerprint string) engine.Command {
	c.Once = &engine.Once[engine.Result]{
		Owners: flows.Everyone,
		Key:    sha256.Sum256([]byte(key)), Fingerprint: sha256.Sum256([]byte(fingerprint)),
		Encode: func(result engine.Result) []byte { return stored(result.Flow.ID, result.Flow.Revision) },
	}
	return c
}

func stored(id uuid.UUID, revision int64) []byte {
	return fmt.Appendf(nil, "flow %s at %d", id, revision)
}

// ids makes n ids and a flow of each.
func (r *rig) created(n int) []uuid.UUID {
	r.Helper()
	list := make([]uuid.UUID, n)
	for i := range list {
		list[i] = uuid.New()
		r.must(create(list[i]))
	}
	return list
}
