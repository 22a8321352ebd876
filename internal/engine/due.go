package engine

import (
	"context"
	"errors"
	"sync"
	"time"

	"taskflow/internal/flows"
	"taskflow/internal/store"
)

const (
	// dueBatch is how many waits one transaction ends.
	dueBatch = 200
	// firePoll is how often a server looks for waits that others began, and that may be due before all it knows of. The
	// server that began a wait fires it on time; the others are there for the case that it cannot.
	firePoll = 500 * time.Millisecond
)

// dueClock says when the firing loop wakes next. A wait that begins and is due earlier wakes it.
type dueClock struct {
	wake chan struct{}

	mu   sync.Mutex
	next time.Time // by this process's monotonic clock; zero while the loop is at work
	due  time.Time // of the earliest wait that was found last, by the same clock; zero where none ends by the clock
}

// found notes how far ahead the earliest wait is due.
func (c *dueClock) found(in time.Duration, any bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.due = time.Time{}
	if any {
		c.due = time.Now().Add(in)
	}
}

// Overdue is for how long the earliest wait that this server has found is due and has not ended; zero where none is. While
// the database cannot be read it goes on from what was found last.
func (e *Engine) Overdue() time.Duration {
	e.clock.mu.Lock()
	defer e.clock.mu.Unlock()
	if e.clock.due.IsZero() {
		return 0
	}
	return max(0, time.Since(e.clock.due))
}

// sleeping notes until when the loop is going to sleep.
func (c *dueClock) sleeping(until time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.next = until
}

// note wakes the loop for something due in a while, where that is before it would wake by itself.
func (c *dueClock) note(in time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.next.IsZero() || time.Now().Add(in).Before(c.next) {
		signal(c.wake)
	}
}

// noteDue tells the firing loop of the waits that a batch began. Times are told as distances by the database's clock: this
// process's own may be wrong.
func (e *Engine) noteDue(w *workspace) {
	first, any := time.Duration(0), false
	for _, id := range w.touched {
		entry := w.flows[id]
		if !entry.changed || entry.flow == nil || entry.flow.Wait == nil || entry.recorded != nil && entry.recorded.Wait == entry.flow.Wait {
			continue
		}
		if at, due := entry.flow.Wait.Due(); due && (!any || at.Sub(w.now) < first) {
			first, any = at.Sub(w.now), true
		}
	}
	if any {
		e.clock.note(first)
	}
}

// fireAll ends waits whose time has come, until the engine stops.
func (e *Engine) fireAll() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	t := trouble{log: e.options.Logger, doing: "firing what is due"}
	for {
		select {
		case <-e.stopped:
			return
		case <-e.clock.wake:
		case <-timer.C:
		}
		e.clock.sleeping(time.Time{})
		pause, err := e.fireOnce()
		t.report(err)
		e.clock.sleeping(time.Now().Add(pause))
		timer.Reset(pause)
	}
}

// fireOnce ends a batch of waits that are due, and says how long there is nothing more to do.
func (e *Engine) fireOnce() (time.Duration, error) {
	ctx, cancel := context.WithTimeout(context.Background(), commitTimeout)
	defer cancel()
	_, in, ok, err := e.store.NextDue(ctx)
	if err == nil {
		e.clock.found(in, ok)
	}
	switch {
	case err != nil:
		return firePoll, err
	case !ok || in > firePoll:
		return firePoll, nil
	case in > 0:
		return in, nil
	}
	fired, err := e.fireBatch(ctx)
	switch {
	case fired > 0:
		return 0, err
	case err != nil:
		return firePoll, err
	}
	return firePoll / 10, nil // others are at it: they hold the flows that are due
}

// fireBatch ends a batch of waits in one transaction, and counts them. Where that fails for a reason of one of the
// flows, the batch is split as any other, so that no stranger's timer stops with it.
func (e *Engine) fireBatch(ctx context.Context) (fired int, err error) {
	var due []*request
	err = e.tryFire(ctx, &due)
	switch {
	case err == nil:
	case len(due) < 2, errors.Is(err, store.ErrUnavailable), errors.Is(err, store.ErrOutcomeUnknown), ctx.Err() != nil:
		return 0, err
	default:
		err = e.commit(due)
	}
	for _, r := range due {
		if r.outcomes[0].Err == nil {
			fired++
		}
	}
	return fired, err
}

// tryFire is one transaction; due are the commands that it made.
func (e *Engine) tryFire(ctx context.Context, due *[]*request) error {
	load := func(tx store.Tx) (store.Snapshot, error) { return tx.LoadDue(dueBatch) }
	return e.transact(ctx, workTimers, nil, load, func(w *workspace) {
		*due = nil
		for id, f := range w.recorded.Flows {
			if f.Wait == nil {
				continue
			}
			r := &request{commands: []Command{{Command: flows.Command{FlowID: id, Owners: flows.Everyone, Action: flows.FireDue{Generation: f.Wait.Generation}}}}}
			*due = append(*due, r)
			w.run(r)
		}
	})
}
