package engine

import (
	"context"
	"slices"
	"sort"
	"sync"
	"time"

	"taskflow/internal/flows"
	"taskflow/internal/store"
)

const (
	// feedPoll is how often the feed is looked at for what other servers have committed, while somebody follows it. What
	// this one commits is read at once.
	feedPoll = 100 * time.Millisecond
	// feedRest is the least time between two reads: under load, one read serves many commits.
	feedRest = 10 * time.Millisecond
	// feedPage is how many events are read at once.
	feedPage = 256
	// The feed keeps this many events in memory, and this many bytes of them, for those who are a little behind. Who is
	// further behind reads the store.
	feedEvents = 16_384
	feedBytes  = 16 << 20
	// entryBytes is about what an event takes besides its payload, twice: as it is and encoded.
	entryBytes = 512
)

// feed is the part of the audit trail that was committed last, in memory, for any number of followers. One loop reads it
// from the store in the order of seq. Nobody who writes waits for it, and it waits for no follower.
//
// It relies on what the store promises of seq: a reader that has seen n never later finds a new event below n.
type feed struct {
	wake chan struct{} // holds a token where there may be something to read
	// ready is closed from the beginning: what a follower is given that need not wait.
	ready chan struct{}

	mu        sync.RWMutex
	followers int
	stopped   bool
	stalled   bool          // the store could not be read when it was looked at last
	awaited   bool          // a follower could not read the store, and is to be woken when it has been read again
	changed   chan struct{} // closed, and made anew, when something below has changed
	// running says that entries are all the events with from < seq <= to. It begins with the first follower.
	running  bool
	from, to int64
	entries  []*FeedEntry
	bytes    int
}

func newFeed() *feed {
	f := &feed{wake: make(chan struct{}, 1), ready: make(chan struct{}), changed: make(chan struct{})}
	close(f.ready)
	return f
}

// FeedEntry is one event of the feed. Followers share it.
type FeedEntry struct {
	store.FeedEvent
	encode sync.Once
	text   []byte
}

// Encoded is the event as encode writes it. It is written once for all followers, who must all encode it alike and must
// not alter it.
func (e *FeedEntry) Encoded(encode func(flows.Event) []byte) []byte {
	e.encode.Do(func() { e.text = encode(e.Event) })
	return e.text
}

// note tells the loop that something was committed. It does next to nothing, and nothing where nobody follows.
func (f *feed) note() {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if f.followers > 0 {
		signal(f.wake)
	}
}

// join and leave count the followers. The first one starts the loop.
func (f *feed) join() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.followers++
	if !f.running {
		signal(f.wake)
	}
}

func (f *feed) leave() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.followers--
}

// announce wakes every follower. The caller holds f.mu.
func (f *feed) announce() {
	close(f.changed)
	f.changed = make(chan struct{})
}

// begin starts at the last event there is.
func (f *feed) begin(last int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.running, f.from, f.to = true, last, last
	f.announce()
}

// add appends what was read, and lets go of the oldest that there is no room for.
func (f *feed) add(events []store.FeedEvent) {
	if len(events) == 0 {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, e := range events {
		f.entries = append(f.entries, &FeedEntry{FeedEvent: e})
		f.bytes += entrySize(&e)
	}
	f.to = events[len(events)-1].Seq
	drop := 0
	for drop < len(f.entries)-1 && (len(f.entries)-drop > feedEvents || f.bytes > feedBytes) {
		f.bytes -= entrySize(&f.entries[drop].FeedEvent)
		f.from = f.entries[drop].Seq
		drop++
	}
	f.entries = slices.Delete(f.entries, 0, drop)
	f.announce()
}

func entrySize(e *store.FeedEvent) int { return entryBytes + 2*len(e.Payload) }

// idle lets go of everything where nobody follows, and reports whether that is so.
func (f *feed) idle() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.followers > 0 {
		return false
	}
	f.running, f.entries, f.bytes = false, nil, 0
	return true
}

// stall notes whether the store could be read, and wakes every follower where that is news, or what one waits for.
func (f *feed) stall(stalled bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stalled != stalled || f.awaited && !stalled {
		f.stalled, f.awaited = stalled, false
		f.announce()
	}
}

// readAgain is for a follower that could not read the store: more is closed when the loop could, or has ended. So one asks
// a database in trouble, and not all.
func (f *feed) readAgain() (more <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stopped {
		return f.ready
	}
	f.awaited = true
	return f.changed
}

// stop ends every follower.
func (f *feed) stop() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stopped = true
	f.announce()
}

// after are the events above position that match q and are in memory, until they are limit or a page, and how far that
// leads. Where position lies before what is in memory, behind is true: everything up to reached is in the store. more is
// closed when it is worth asking again.
func (f *feed) after(position int64, q *store.EventQuery, limit int) (found []*FeedEntry, reached int64, behind bool, more <-chan struct{}, err error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	switch {
	case f.stopped:
		return nil, position, false, f.ready, ErrStopped
	case !f.running:
		return nil, position, true, f.changed, nil
	case position < f.from:
		return nil, f.to, true, f.changed, nil
	}
	next := sort.Search(len(f.entries), func(i int) bool { return f.entries[i].Seq > position })
	filling := store.Filling{Limit: limit}
	for _, e := range f.entries[next:] {
		if filling.Full() {
			return found, position, false, f.ready, nil
		}
		if position = e.Seq; q.Matches(&e.FeedEvent) {
			found = append(found, e)
			filling.AddEvent(&e.Event)
		}
	}
	return found, position, false, f.changed, nil
}

// followFeed reads the feed while somebody follows it, until the engine stops.
func (e *Engine) followFeed() {
	defer e.feed.stop()
	timer := time.NewTimer(feedPoll)
	defer timer.Stop()
	t := trouble{log: e.options.Logger, doing: "reading the feed"}
	for {
		select {
		case <-e.stopped:
			return
		case <-e.feed.wake:
		case <-timer.C:
		}
		if e.feed.idle() {
			timer.Stop()
			continue // until somebody joins
		}
		err := e.feedOnce()
		t.report(err)
		e.feed.stall(err != nil)
		timer.Reset(feedRest)
		select {
		case <-e.stopped:
			return
		case <-timer.C:
		}
		timer.Reset(feedPoll - feedRest)
	}
}

// feedOnce reads everything that was committed since the last time.
func (e *Engine) feedOnce() error {
	ctx, cancel := context.WithTimeout(context.Background(), commitTimeout)
	defer cancel()
	if !e.feed.running { // nobody else writes it
		last, err := lastSeq(ctx, e.store)
		if err != nil {
			return err
		}
		e.feed.begin(last)
	}
	for rows := feedPage; !e.isStopped(); {
		events, err := e.store.Tail(ctx, e.feed.to, rows)
		if err != nil {
			return err
		}
		filling := store.Filling{Limit: rows}
		for i := range events {
			filling.AddEvent(&events[i].Event)
		}
		if e.feed.add(events); !filling.Full() {
			return nil // there was no more
		}
		if rows = feedPage; len(events) < rows { // they are large: a database sends what was asked for, though most of it is not kept
			rows = min(rows, 2*len(events))
		}
	}
	return nil
}

// lastSeq is the number of the last event that is committed; 0 before the first.
func lastSeq(ctx context.Context, r store.Reader) (int64, error) {
	page, err := r.Events(ctx, store.EventQuery{Owners: flows.Everyone, Desc: true, Limit: 1})
	if err != nil || len(page.Items) == 0 {
		return 0, err
	}
	return page.Items[0].Seq, nil
}
