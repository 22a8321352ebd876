package engine

import (
	"context"
	"errors"

	"taskflow/internal/flows"
	"taskflow/internal/store"
)

const (
	// takeMost is how many events a follower is given at once from memory, takePage how many it reads from the store.
	takeMost = 256
	takePage = 100
)

// Follower reads the feed from a place on, without a gap and without a repeat: first what the store has, then what is
// committed, as it is. It is for one goroutine, and owns none.
type Follower struct {
	engine   *Engine
	query    store.EventQuery
	position int64
	trouble  trouble
}

// Follow begins to follow the events that match q, after q.After, or from now on where that is nil: then the events that
// are committed when Follow is called are passed over. q.Desc and q.Limit play no part. Who is done must call Close.
//
// Errors: flows.ErrNotFound where q is FromFlow and there is no such flow, ErrStopped, or one of the store's.
func (e *Engine) Follow(ctx context.Context, q store.EventQuery) (*Follower, error) {
	if e.isStopped() {
		return nil, ErrStopped
	}
	q.Desc, q.Limit = false, 1
	if q.FromFlow {
		if _, err := e.store.Events(ctx, q); err != nil {
			return nil, err
		}
	}
	f := &Follower{engine: e, query: q, trouble: trouble{log: e.options.Logger, doing: "reading what a follower is behind with"}}
	if q.After != nil {
		f.position = *q.After
	} else if last, err := lastSeq(ctx, e.store); err != nil {
		return nil, err
	} else {
		f.position = last
	}
	e.feed.join()
	return f, nil
}

// Close ends following.
func (f *Follower) Close() { f.engine.feed.leave() }

// Position is the seq up to which the follower has seen everything that matches.
func (f *Follower) Position() int64 { return f.position }

// Stalled reports whether the store could not be read when it was last looked at for new events, by the feed or by Take:
// where none come, there may be some all the same. The channel that Take returns is closed when this changes, too.
func (f *Follower) Stalled() bool {
	f.engine.feed.mu.RLock()
	defer f.engine.feed.mu.RUnlock()
	return f.engine.feed.stalled || f.trouble.failing
}

// Take returns the next events, in the order of seq, and moves on past them. It never waits for one: more is closed when it
// is worth calling again, which may be at once, and may turn out to be for nothing. A store that cannot be read is no error:
// the follower is stalled until it can.
//
// Errors: ErrStopped; flows.ErrNotFound where the one flow that is followed is gone, which is not always noticed; ctx's.
func (f *Follower) Take(ctx context.Context) (events []*FeedEntry, more <-chan struct{}, err error) {
	events, reached, behind, more, err := f.engine.feed.after(f.position, &f.query, takeMost)
	switch {
	case err != nil:
		return nil, nil, err
	case behind:
		return f.replay(ctx, reached, more)
	}
	f.trouble.report(nil) // it has met the feed, which is read for it from now on
	f.position = max(f.position, reached)
	return events, more, nil
}

// replay reads on in the store. What the feed had reached before the page was read is in the page or in those that follow,
// so after the last page there is no need to look again for anything up to there.
func (f *Follower) replay(ctx context.Context, reached int64, more <-chan struct{}) ([]*FeedEntry, <-chan struct{}, error) {
	reading, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	q := f.query
	q.After, q.Limit = &f.position, takePage
	page, err := f.engine.store.Events(reading, q)
	switch {
	case ctx.Err() != nil:
		return nil, nil, ctx.Err()
	case errors.Is(err, flows.ErrNotFound):
		return nil, nil, err
	}
	if f.trouble.report(err); err != nil {
		return nil, f.engine.feed.readAgain(), nil
	}
	events := make([]*FeedEntry, len(page.Items))
	for i, e := range page.Items {
		events[i] = &FeedEntry{FeedEvent: store.FeedEvent{Event: e}}
	}
	position := reached
	if len(page.Items) > 0 {
		position = max(position, page.Items[len(page.Items)-1].Seq)
	}
	if page.Next != nil {
		position = *page.Next
	}
	if position > f.position {
		f.position, more = position, f.engine.feed.ready
	}
	return events, more, nil
}
