package engine

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"maps"
	"slices"
	"time"

	"taskflow/internal/flows"
	"taskflow/internal/store"

	"github.com/google/uuid"
)

// Publication is an external event that is to be recorded and offered to the flows that wait for it.
type Publication struct {
	// Event has its ID, Pair, FlowID, Owners, Payload and Actor; the rest is filled in.
	Event flows.ExternalEvent
	// Keep is how long the event is kept for a flow that has yet to wait; 0 is not at all.
	Keep time.Duration
	Once *Once[flows.ExternalEvent]
}

// Published is what became of a publication.
type Published struct {
	Event flows.ExternalEvent
	// Replay is the stored answer to an earlier request with the same key; nil where this one took effect itself.
	Replay []byte
}

// need is what the publication looks at.
func (p *Publication) need(n *store.Need) {
	if p.Once != nil {
		n.Answers = append(n.Answers, p.Once.Key)
	}
	if p.Event.FlowID != nil {
		needOwned(n, *p.Event.FlowID, p.Event.Owners)
		n.Await = append(n.Await, p.Event.Pair)
		return
	}
	n.Match = append(n.Match, matchOf(&p.Event))
}

// matchOf is what an event is offered to.
func matchOf(event *flows.ExternalEvent) store.Match {
	return store.Match{Pair: event.Pair, Owners: event.Owners}
}

// Publish records an external event and, in the same commit, resumes the flows that wait for it; where more wait than
// one transaction takes, the rest follow. Errors are those of [Engine.Apply]; flows.ErrNotFound where the event is for a
// flow that does not exist, or that its Owners do not cover.
func (e *Engine) Publish(ctx context.Context, p Publication) (Published, error) {
	if err := p.Event.Validate(); err != nil {
		return Published{}, err
	}
	name := []byte(p.Event.Pair.Topic + "\x00" + p.Event.Pair.CorrelationID)
	if p.Once != nil {
		name = p.Once.Key[:]
	}
	r := &request{publish: &p, done: make(chan struct{})}
	if err := e.send(ctx, r, int(maphash.Bytes(e.seed, name)%uint64(len(e.queues)))); err != nil {
		return Published{}, err
	}
	if r.err != nil {
		return Published{}, r.err
	}
	if r.published.Event.Outcome == flows.EventDelivering {
		signal(e.deliver)
	}
	return r.published, nil
}

// publish decides a publication.
func (w *workspace) publish(p *Publication) (Published, error) {
	w.commands++
	if p.Once != nil {
		replay, err := replay(w, p.Once)
		if replay != nil || err != nil {
			return Published{Replay: replay}, err
		}
	}
	event := p.Event
	event.At, event.ExpiresAt = w.now, w.now.Add(p.Keep)
	var target *flows.Flow
	if event.FlowID != nil {
		if target = w.entry(*event.FlowID).flow; target == nil || !event.Owners.Covers(target.OwnerSessionKey) {
			return Published{}, flows.ErrNotFound
		}
		event.NotBefore(target.CreatedAt) // it is for this life of the flow
	}
	candidates, more := w.waiting(matchOf(&event)), w.recorded.More[matchOf(&event)]
	if more {
		event.NotBefore(w.recorded.Latest[matchOf(&event)]) // all of them wait already, and are to get it
	}
	if target != nil {
		candidates, more = []uuid.UUID{target.ID}, false
	}
	// Where others wait than those that were found, they get it too, also if something has ended the waits of those
	// before the event's turn came.
	settled := w.settle(event.Settle(w.offer(&event, candidates), more, target, w.now))
	if p.Once != nil {
		keep(w, p.Once, *settled)
	}
	return Published{Event: *settled}, nil
}

// goOn gives an event that more flows waited for than one transaction takes to the next of them.
func (w *workspace) goOn(event *flows.ExternalEvent) {
	found := w.waiting(matchOf(event))
	resumed := w.offer(event, found)
	// Those that have waited longest come first: where there are some and none took it, none of the rest will. Where
	// there are none, others have ended the waits of those that were to be tried, and the rest come next.
	more := w.recorded.More[matchOf(event)] && (len(resumed) > 0 || len(found) == 0)
	w.settle(event.Settle(resumed, more, nil, w.now))
}

// offer gives an event to flows, and returns those whose wait it ended.
func (w *workspace) offer(event *flows.ExternalEvent, candidates []uuid.UUID) []*flows.Flow {
	var resumed []*flows.Flow
	for _, id := range candidates {
		entry := w.entry(id)
		command := flows.Command{FlowID: id, Owners: event.Owners, Actor: event.Actor, Action: flows.EndByEvent{Event: event}}
		change, err := flows.Decide(flows.Subject{Flow: entry.flow}, command, w.now)
		if err != nil {
			continue // it does not wait for this
		}
		w.commands++
		w.apply(entry, change, event)
		resumed = append(resumed, change.Flow)
	}
	return resumed
}

// waiting are the flows that are covered and wait for a pair by now, of those that were found and those of this batch;
// the longest first.
func (w *workspace) waiting(m store.Match) []uuid.UUID {
	since := make(map[uuid.UUID]time.Time)
	for _, id := range slices.Concat(w.recorded.Waiting[m], w.began[m.Pair]) {
		f := w.entry(id).flow
		if f != nil && f.Wait != nil && slices.Contains(f.Wait.Pairs(), m.Pair) && m.Owners.Covers(f.OwnerSessionKey) {
			since[id] = f.Wait.Since
		}
	}
	return slices.SortedFunc(maps.Keys(since), func(a, b uuid.UUID) int {
		return cmp.Or(since[a].Compare(since[b]), bytes.Compare(a[:], b[:]))
	})
}

// settle notes the fate of an external event.
func (w *workspace) settle(event flows.ExternalEvent) *flows.ExternalEvent {
	_, known := w.external[event.ID]
	w.external[event.ID] = &event
	if !known && event.Outcome == flows.EventBuffered {
		w.kept[event.Pair] = append(w.kept[event.Pair], &event)
	}
	return &event
}

// buffered are the events that are kept for what the command is going to wait for, oldest first.
func (w *workspace) buffered(c *Command) []*flows.ExternalEvent {
	var found []*flows.ExternalEvent
	for _, pair := range c.Awaits() {
		for _, event := range slices.Concat(w.recorded.Buffered[pair], w.kept[pair]) {
			if settled := w.external[event.ID]; settled != nil {
				event = settled
			}
			found = append(found, event)
		}
	}
	return found
}

// deliverEvery is how often events whose delivery was cut off are looked for.
const deliverEvery = time.Second

// deliverAll goes on delivering events that more flows waited for than one transaction takes, until the engine stops:
// its own at once, those of a server that went down within deliverEvery.
func (e *Engine) deliverAll() {
	tick := time.NewTicker(deliverEvery)
	defer tick.Stop()
	t := trouble{log: e.options.Logger, doing: "delivering external events"}
	for {
		select {
		case <-e.stopped:
			return
		case <-e.deliver:
		case <-tick.C:
		}
		t.report(e.deliverOnce())
	}
}

// deliverOnce takes every event that is being delivered one transaction further.
func (e *Engine) deliverOnce() error {
	ctx, cancel := context.WithTimeout(context.Background(), commitTimeout)
	defer cancel()
	ids, err := e.store.Delivering(ctx, 10)
	if err != nil {
		return err
	}
	var failed []error
	for _, id := range ids {
		if err := e.deliverMore(ctx, id); err != nil {
			failed = append(failed, fmt.Errorf("event %s: %w", id, err)) // no reason to keep the others back
			continue
		}
		signal(e.deliver) // until none is left
	}
	return errors.Join(failed...)
}

func (e *Engine) deliverMore(ctx context.Context, id uuid.UUID) (err error) {
	defer e.recovered(&err)
	event, err := e.store.ExternalEvent(ctx, id, flows.Everyone)
	if err != nil {
		return err
	}
	var requests []string
	if event.Traceparent != "" {
		requests = []string{event.Traceparent}
	}
	load := func(tx store.Tx) (store.Snapshot, error) {
		return tx.Load(store.Need{Match: []store.Match{matchOf(event)}, Events: []uuid.UUID{event.ID}})
	}
	return e.transact(ctx, workDeliveries, requests, load, func(w *workspace) {
		if recorded := w.recorded.Events[event.ID]; recorded != nil && recorded.Outcome == flows.EventDelivering {
			w.goOn(recorded)
		}
	})
}
