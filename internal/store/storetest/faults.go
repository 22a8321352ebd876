package storetest

import (
	"context"
	"errors"
	"sync"

	"taskflow/internal/store"

	"github.com/google/uuid"
)

// Faulty is a store whose Updates, and looks at the trail, fail as a test asks. Other reads and sweeps pass through.
//
// Each [Faulty.Inject] adds a fault; an Update meets the oldest one that matches what it saves. What is persisted, and
// what is not, is decided by running the real Update or rolling it back, so the store behind it is as a database would
// be left.
type Faulty struct {
	store.Store

	mu      sync.Mutex // guards everything below
	faults  []*Fault
	gate    *Gate
	updates int
	blind   bool
}

// NewFaulty returns inner, failing on demand.
func NewFaulty(inner store.Store) *Faulty { return &Faulty{Store: inner} }

// Fault is one way to fail.
type Fault struct {
	// Match chooses the Updates that fail by what they save, so that a batch can be split around the command at
	// fault. nil is any Update, also one that saves nothing.
	Match func(store.Writes) bool
	// Times is how many Updates fail; 0 is one, a negative number all from now on.
	Times int
	// Persist commits the change before it fails.
	Persist bool
	// Err is what Update returns.
	Err error
	// Panic, where it is not nil, is thrown after the change was rolled back; Persist and Err play no part.
	Panic any
}

// Unavailable is a database that is not there: nothing is changed, [store.ErrUnavailable].
func Unavailable() Fault { return Fault{Err: store.ErrUnavailable} }

// Refused is a statement that the database refuses whenever match says so: nothing is changed, err.
func Refused(err error, match func(store.Writes) bool) Fault {
	return Fault{Err: err, Match: match, Times: -1}
}

// UnknownPersisted breaks the connection during a commit that went through.
func UnknownPersisted() Fault { return Fault{Err: store.ErrOutcomeUnknown, Persist: true} }

// UnknownLost breaks the connection during a commit that did not go through.
func UnknownLost() Fault { return Fault{Err: store.ErrOutcomeUnknown} }

// Panics throws value out of Update; nothing is changed.
func Panics(value any) Fault { return Fault{Panic: value} }

// WritesFlow matches an Update that creates, updates or erases the flow, or writes a step or an event of it.
func WritesFlow(id uuid.UUID) func(store.Writes) bool {
	return func(w store.Writes) bool {
		for _, erased := range w.Erased {
			if erased == id {
				return true
			}
		}
		for _, f := range w.Created {
			if f.ID == id {
				return true
			}
		}
		for _, u := range w.Updated {
			if u.Flow.ID == id {
				return true
			}
		}
		for _, s := range w.Steps {
			if s.FlowID == id {
				return true
			}
		}
		for _, e := range w.Events {
			if e.FlowID == id {
				return true
			}
		}
		return false
	}
}

// Inject adds a fault.
func (f *Faulty) Inject(fault Fault) {
	if fault.Times == 0 {
		fault.Times = 1
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults = append(f.faults, &fault)
}

// Heal takes every fault back.
func (f *Faulty) Heal() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults = nil
}

// Blind has every look at the trail fail from now on, or no longer.
func (f *Faulty) Blind(is bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.blind = is
}

func (f *Faulty) isBlind() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.blind
}

// Tail implements store.Reader.
func (f *Faulty) Tail(ctx context.Context, after int64, limit int) ([]store.FeedEvent, error) {
	if f.isBlind() {
		return nil, store.ErrUnavailable
	}
	return f.Store.Tail(ctx, after, limit)
}

// Events implements store.Reader.
func (f *Faulty) Events(ctx context.Context, q store.EventQuery) (store.EventPage, error) {
	if f.isBlind() {
		return store.EventPage{}, store.ErrUnavailable
	}
	return f.Store.Events(ctx, q)
}

// Updates is how many Updates have begun.
func (f *Faulty) Updates() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.updates
}

// Gate holds Updates back, so that batches form behind them.
type Gate struct {
	arrived  chan struct{}
	released chan struct{}
	once     sync.Once
}

// Block holds every Update that begins from now on, before it does anything, until the gate is released or the
// Update's context ends.
func (f *Faulty) Block() *Gate {
	g := &Gate{arrived: make(chan struct{}, 1024), released: make(chan struct{})}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.gate = g
	return g
}

// Arrived receives once for each Update that the gate holds, up to 1024 that nobody has received.
func (g *Gate) Arrived() <-chan struct{} { return g.arrived }

// Release lets everything through, now and afterwards. It may be called more than once.
func (g *Gate) Release() { g.once.Do(func() { close(g.released) }) }

// wait holds one Update.
func (g *Gate) wait(ctx context.Context) error {
	select {
	case <-g.released:
		return nil
	default:
	}
	select {
	case g.arrived <- struct{}{}:
	default: // nobody counts them
	}
	select {
	case <-g.released:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (f *Faulty) begin() *Gate {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.updates++
	return f.gate
}

// take finds the fault that an Update meets and counts it off, or nil.
func (f *Faulty) take(w store.Writes) *Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, fault := range f.faults {
		if fault.Times == 0 || fault.Match != nil && !fault.Match(w) {
			continue
		}
		if fault.Times > 0 {
			fault.Times--
		}
		return fault
	}
	return nil
}

// errRollback makes the store behind undo what a fault does not persist.
var errRollback = errors.New("rolled back by a fault")

// Update implements [store.Updater].
func (f *Faulty) Update(ctx context.Context, fn func(store.Tx) error) error {
	if gate := f.begin(); gate != nil {
		if err := gate.wait(ctx); err != nil {
			return err
		}
	}
	var fault *Fault // met by the first run that got through; a rerun meets the same one
	err := f.Store.Update(ctx, func(tx store.Tx) error {
		watched := &watchedTx{Tx: tx}
		if err := fn(watched); err != nil {
			return err
		}
		if fault == nil {
			fault = f.take(watched.writes)
		}
		switch {
		case fault == nil:
			return nil
		case fault.Panic != nil:
			panic(fault.Panic)
		case !fault.Persist:
			return errRollback
		}
		return nil
	})
	if fault != nil && (err == nil || errors.Is(err, errRollback)) {
		return fault.Err
	}
	return err
}

// watchedTx remembers what was saved.
type watchedTx struct {
	store.Tx
	writes store.Writes
}

func (tx *watchedTx) Save(w store.Writes) error {
	tx.writes = w
	return tx.Tx.Save(w)
}
