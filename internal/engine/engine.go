package engine

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"runtime"
	"sync"
	"time"

	"taskflow/internal/flows"
	"taskflow/internal/store"
)

var (
	// ErrOverloaded: the queue is full. Nothing was changed.
	ErrOverloaded = errors.New("queue full")
	// ErrStopped: the engine is shutting down and takes no more commands. Nothing was changed.
	ErrStopped = errors.New("shutting down")
	// ErrKeyReused: the idempotency key was sent before with another request. Nothing was changed.
	ErrKeyReused = errors.New("idempotency key was used for another request")
)

// Command is a flows.Command, and the idempotency key it was sent with, if any.
type Command struct {
	flows.Command
	Once *Once[Result]
}

// Once makes a request take effect once: its first success is stored in the commit of its effect, and a repeat within
// Options.AnswerTTL is answered with what was stored.
//
// A repeat whose caller does not cover all that it covered then is flows.ErrNotFound. That is enough to know that it
// covers the flow: a flow's owner never changes.
type Once[T any] struct {
	Key         store.AnswerKey
	Fingerprint [32]byte
	Owners      flows.Owners // what the caller covers
	// Encode renders the answer that is to be stored, which is never empty. It runs in the committer, once or, if the
	// batch is tried again, more than once.
	Encode func(T) []byte
	// Passing reports that an answer is not to be stored: it says only that nothing was made for now. nil stores each.
	Passing func(T) bool
}

// Result is what an accepted command did.
type Result struct {
	flows.Change
	// Replay is the stored answer to an earlier request with the same key; nil where this one took effect itself.
	// With it, Change is empty.
	Replay []byte
}

// Outcome is the answer to one command of several.
type Outcome struct {
	Result
	// Err is why the command was refused or not made: an error of the package flows, one of this package's or
	// store's, or an unexpected one.
	Err error
}

// Options of an Engine. The zero value of each is the default.
type Options struct {
	// Committers commit batches side by side; flows are spread over them by id. Default: one for each four processors. On
	// two, a second one made 6 % fewer changes at 64 connections: its batches are half as large, and wait for the first's.
	Committers int
	// Queue is how many requests may wait for each committer before new ones are turned away. Default 4096.
	Queue int
	// Batch is how many commands a transaction takes at most; the last ApplyAll in it may exceed that. Default 512.
	Batch int
	// AnswerTTL is how long a stored answer is given again. Default 24 h.
	AnswerTTL time.Duration
	// RetainTerminal is how long a flow is kept after it has ended; 0 is for ever.
	RetainTerminal time.Duration
	Logger         *slog.Logger
	// Observer is told what was done; nil is nobody.
	Observer Observer
	// Trace begins the spans of transactions; nil is no tracing.
	Trace TraceBatch
}

func (o *Options) setDefaults() {
	setDefault(&o.Committers, max(1, runtime.GOMAXPROCS(0)/4))
	setDefault(&o.Queue, 4096)
	setDefault(&o.Batch, 512)
	setDefault(&o.AnswerTTL, 24*time.Hour)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Observer == nil {
		o.Observer = unobserved{}
	}
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Engine applies commands, ends the waits that end by themselves, and shows what was committed as a live feed. It owns one
// goroutine for each committer, one that fires what is due, one that reads the feed, one that goes on delivering external
// events, and one that sweeps what has expired, from New to Close.
type Engine struct {
	store   store.Store
	options Options
	queues  []chan *request
	seed    maphash.Seed
	stopped chan struct{} // closed when no more requests are taken
	work    sync.WaitGroup
	clock   dueClock
	feed    *feed
	deliver chan struct{} // holds a token where an external event is still being delivered

	// gate keeps a request from being queued after its committer has looked for the last time: senders hold it for
	// reading, Close for writing.
	gate sync.RWMutex
}

// New starts an engine over a store.
func New(s store.Store, o Options) *Engine {
	o.setDefaults()
	e := &Engine{
		store: s, options: o, seed: maphash.MakeSeed(), stopped: make(chan struct{}), deliver: make(chan struct{}, 1),
		clock: dueClock{wake: make(chan struct{}, 1)}, feed: newFeed(),
	}
	for range o.Committers {
		queue := make(chan *request, o.Queue)
		e.queues = append(e.queues, queue)
		e.work.Go(func() { e.commitAll(queue) })
	}
	e.work.Go(e.fireAll)
	e.work.Go(e.followFeed)
	e.work.Go(e.deliverAll)
	e.work.Go(e.sweepAll)
	return e
}

// Close takes no more commands, lets those that were queued be committed and answered, and waits for them until ctx
// ends.
func (e *Engine) Close(ctx context.Context) error {
	e.gate.Lock()
	if !e.isStopped() {
		close(e.stopped)
		for _, queue := range e.queues {
			close(queue)
		}
	}
	e.gate.Unlock()
	done := make(chan struct{})
	go func() { // ends with the committers, whose transactions are bounded in time
		e.work.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("draining the queue: %w", ctx.Err())
	}
}

func (e *Engine) isStopped() bool {
	select {
	case <-e.stopped:
		return true
	default:
		return false
	}
}

// Apply makes one change and answers when it is durable, or says why it was not made: an error of the package flows
// where it was refused, [ErrKeyReused], [ErrOverloaded], [ErrStopped], store.ErrUnavailable: nothing was changed;
// store.ErrOutcomeUnknown: it may have been. A ctx that ends withdraws a command that still waits for its turn, which is
// store.ErrUnavailable; of one that is being made it abandons the answer only, which is store.ErrOutcomeUnknown.
func (e *Engine) Apply(ctx context.Context, c Command) (Result, error) {
	if err := c.Validate(); err != nil {
		return Result{}, err
	}
	r := &request{commands: []Command{c}, done: make(chan struct{})}
	if err := e.send(ctx, r, e.shard(&c)); err != nil {
		return Result{}, err
	}
	return r.outcomes[0].Result, r.outcomes[0].Err
}

// ApplyAll makes many changes, in order, in as few commits as can be; each is made or refused on its own. With once,
// they are one commit, and the answer to all of them is stored with it; a repeat gets it as replay. An error means
// that none of them was made, but store.ErrOutcomeUnknown, which leaves it open. commands stay with the engine: they
// are not to be altered afterwards, as they may still be at work when ctx has ended.
func (e *Engine) ApplyAll(ctx context.Context, commands []Command, once *Once[[]Outcome]) (outcomes []Outcome, replay []byte, err error) {
	r := &request{commands: commands, once: once, done: make(chan struct{})}
	for i := range commands {
		if err := commands[i].Validate(); err != nil {
			r.refuse(i, err)
		} else if c := &commands[i]; once != nil && c.Once != nil && c.Once.Key == once.Key {
			r.refuse(i, ErrKeyReused) // the key is taken by the whole that the command is a part of
		}
	}
	if err := e.send(ctx, r, wholes); err != nil {
		return nil, nil, err
	}
	return r.outcomes, r.replay, r.err
}

// wholes is the committer of requests that name several flows. There is one for them all: two that commit at once would
// wait for each other's rows.
const wholes = 0

// shard is the committer for a command. Commands on one flow meet there, and so do creates with one key. The whole name
// is hashed: a caller's own ids may differ in a few bytes only.
func (e *Engine) shard(c *Command) int {
	name := c.FlowID[:]
	if _, creates := c.Action.(flows.Create); creates && c.Once != nil {
		name = c.Once.Key[:]
	}
	return int(maphash.Bytes(e.seed, name) % uint64(len(e.queues)))
}

// send queues a request and waits for its answer.
func (e *Engine) send(ctx context.Context, r *request, shard int) error {
	if err := e.enqueue(r, shard); err != nil {
		return err
	}
	select {
	case <-r.done:
		return nil
	case <-ctx.Done():
	}
	if r.claim() {
		return fmt.Errorf("%w: gave up waiting for its turn: %w", store.ErrUnavailable, ctx.Err())
	}
	return fmt.Errorf("%w: gave up waiting: %w", store.ErrOutcomeUnknown, ctx.Err())
}

func (e *Engine) enqueue(r *request, shard int) error {
	e.gate.RLock()
	defer e.gate.RUnlock()
	if e.isStopped() {
		return ErrStopped
	}
	select {
	case e.queues[shard] <- r:
		return nil
	default:
		return ErrOverloaded
	}
}
