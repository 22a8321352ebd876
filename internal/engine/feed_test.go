package engine_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"taskflow/internal/engine"
	"taskflow/internal/flows"
	"taskflow/internal/store"
	"taskflow/internal/store/storetest"

	"github.com/google/uuid"
)

// feedPoll is how often a server looks for what others committed.
const feedPoll = 100 * time.Millisecond

// follow follows q on an engine until the test ends.
func follow(r *rig, e *engine.Engine, q store.EventQuery) *engine.Follower {
	r.Helper()
	f, err := e.Follow(r.Context(), q)
	if err != nil {
		r.Fatal("Follow:", err)
	}
	r.Cleanup(f.Close)
	return f
}

// drain takes events until the follower would have to wait, as they come in bubbles: everybody else is at rest by then.
func drain(r *rig, f *engine.Follower) (seqs []int64) {
	r.Helper()
	for {
		events, more, err := f.Take(r.Context())
		if err != nil {
			r.Fatal("Take:", err)
		}
		for _, e := range events {
			seqs = append(seqs, e.Seq)
		}
		if !woken(more) && len(events) == 0 {
			return seqs
		}
	}
}

// woken reports whether a follower is to call Take again.
func woken(more <-chan struct{}) bool {
	select {
	case <-more:
		return true
	default:
		return false
	}
}

// wantEnded closes the engine, which ends a follower: it is told, and Take says so.
func wantEnded(r *rig, f *engine.Follower) {
	r.Helper()
	_, more, err := f.Take(r.Context())
	r.want("Take", err, nil)
	r.want("Close", r.engine.Close(r.Context()), nil)
	if !woken(more) {
		r.Error("nobody is told that the engine has stopped")
	}
	_, _, err = f.Take(r.Context())
	r.want("Take after Close", err, engine.ErrStopped)
}

// recorded are the numbers of the events that match q, as the store has them.
func (r *rig) recorded(q store.EventQuery) (seqs []int64) {
	r.Helper()
	for q.Limit = 500; ; {
		page, err := r.faulty.Events(r.Context(), q)
		if err != nil {
			r.Fatal(err)
		}
		for _, e := range page.Items {
			seqs = append(seqs, e.Seq)
		}
		if page.Next == nil {
			return seqs
		}
		q.After = page.Next
	}
}

func wantSeqs(t testing.TB, what string, got, want []int64) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

func place(seq int64) *int64 { return &seq }

func TestStreamBeginsAtNow(t *testing.T) {
	bubble(t, engine.Options{}, func(r *rig) {
		r.all(create(uuid.New()), create(uuid.New()))
		f := follow(r, r.engine, store.EventQuery{Owners: flows.Everyone})
		wantSeqs(r, "what was committed before", drain(r, f), nil)
		r.all(create(uuid.New()))
		after(feedPoll)
		wantSeqs(r, "what is committed now", drain(r, f), []int64{3})
	})
}

func TestStreamResumesWithoutAGapOrARepeat(t *testing.T) {
	bubble(t, engine.Options{}, func(r *rig) {
		other := r.second(engine.Options{Committers: 2})
		engines := []*engine.Engine{r.engine, other}
		type reader struct {
			follower *engine.Follower
			from     int64
			seen     []int64
		}
		var readers []*reader
		for range 300 {
			switch n := rand.IntN(10); {
			case n < 3 || len(readers) == 0: // another reader, from anywhere
				from := rand.Int64N(1 + int64(len(r.recorded(store.EventQuery{Owners: flows.Everyone}))))
				readers = append(readers, &reader{from: from, follower: follow(r, engines[rand.IntN(2)], store.EventQuery{Owners: flows.Everyone, After: &from})})
			case n < 4: // one goes to any server, with the last id it has seen
				one := readers[rand.IntN(len(readers))]
				last := one.from
				if len(one.seen) > 0 {
					last = one.seen[len(one.seen)-1]
				}
				one.follower = follow(r, engines[rand.IntN(2)], store.EventQuery{Owners: flows.Everyone, After: &last})
			case n < 8:
				var commands []engine.Command
				for range 1 + rand.IntN(40) {
					commands = append(commands, create(uuid.New()))
				}
				_, _, err := engines[rand.IntN(2)].ApplyAll(r.Context(), commands, nil)
				r.want("ApplyAll", err, nil)
			case n < 9:
				<-time.After(rand.N(feedPoll))
			default:
				one := readers[rand.IntN(len(readers))]
				one.seen = append(one.seen, drain(r, one.follower)...)
			}
		}
		after(2 * feedPoll)
		for i, one := range readers {
			one.seen = append(one.seen, drain(r, one.follower)...)
			wantSeqs(r, fmt.Sprintf("reader %d from %d", i, one.from), one.seen, r.recorded(store.EventQuery{Owners: flows.Everyone, After: &one.from}))
		}
	})
}

// TestStreamComesAtOnce: what this server commits is there without a poll, but for the rest that the loop takes; what
// another one commits is there within a poll.
func TestStreamComesAtOnce(t *testing.T) {
	bubble(t, engine.Options{}, func(r *rig) {
		other := r.second(engine.Options{})
		own, others := follow(r, r.engine, store.EventQuery{Owners: flows.Everyone}), follow(r, other, store.EventQuery{Owners: flows.Everyone})
		after(17 * time.Millisecond)
		r.all(create(uuid.New()))
		after(10 * time.Millisecond)
		wantSeqs(r, "on the server that committed it", drain(r, own), []int64{1})
		after(feedPoll)
		wantSeqs(r, "on another", drain(r, others), []int64{1})
	})
}

func TestStreamPassesFilters(t *testing.T) {
	bubble(t, engine.Options{}, func(r *rig) {
		one, two := uuid.New(), uuid.New()
		r.all(create(one)) // some lies in the store, and some is to come
		queries := []store.EventQuery{
			{}, {Owners: "other"}, {Owners: "oth*"}, {Owners: "nobody"}, {FlowID: one}, {FlowID: two}, {OwnerSessionKey: "o"}, {OwnerSessionKey: "other"}, {ControllerID: "c"}, {Mode: flows.Mirrored},
			{Kinds: []flows.EventKind{flows.EventStarted, flows.EventStepObserved}}, {FlowID: one, Kinds: []flows.EventKind{flows.EventStarted}},
		}
		for i := range queries {
			queries[i].Owners = cmp.Or(queries[i].Owners, flows.Everyone)
		}
		var followers []*engine.Follower
		for _, q := range queries {
			q.After = place(0)
			followers = append(followers, follow(r, r.engine, q))
		}
		mirrored := flows.Create{Mode: flows.Mirrored, ControllerID: "d", Goal: "g", OwnerSessionKey: "other"}
		r.all(command(one, flows.Start{}), command(two, mirrored), observe(two, "run", flows.StepRunning))
		after(feedPoll)
		for i, q := range queries {
			wantSeqs(r, fmt.Sprintf("%+v", q), drain(r, followers[i]), r.recorded(q))
			if got := followers[i].Position(); got != 5 {
				r.Errorf("%+v: has come to %d, want 5, filtered or not", q, got)
			}
		}
	})
}

func TestStreamOfOneFlowWantsTheFlow(t *testing.T) {
	bubble(t, engine.Options{}, func(r *rig) {
		for _, from := range []*int64{nil, place(0)} {
			_, err := r.engine.Follow(r.Context(), store.EventQuery{Owners: flows.Everyone, FlowID: uuid.New(), FromFlow: true, After: from})
			r.want("Follow a flow that does not exist", err, flows.ErrNotFound)
		}
	})
}

// TestReaderThatFallsBehindMissesNothing has more committed than the feed keeps in memory while a reader sleeps.
func TestReaderThatFallsBehindMissesNothing(t *testing.T) {
	bubble(t, engine.Options{}, func(r *rig) {
		id := uuid.New()
		r.all(create(id), command(id, flows.Start{}))
		slow, quick := follow(r, r.engine, store.EventQuery{Owners: flows.Everyone}), follow(r, r.engine, store.EventQuery{Owners: flows.Everyone})
		large := json.RawMessage(`{"a":"` + strings.Repeat("x", 200<<10) + `"}`)
		var seen []int64
		for range 150 { // 30 MB
			r.all(command(id, flows.UpdateState{Patch: large}))
			after(10 * time.Millisecond)
			seen = append(seen, drain(r, quick)...)
		}
		want := r.recorded(store.EventQuery{Owners: flows.Everyone, After: place(2)})
		wantSeqs(r, "the quick one", seen, want)
		wantSeqs(r, "the slow one", drain(r, slow), want)
		r.all(command(id, flows.Finish{}))
		after(10 * time.Millisecond)
		wantSeqs(r, "the slow one, live again", drain(r, slow), []int64{153})
	})
}

// TestStreamTakesNoMoreThanAPageAtOnce: a reader that is behind is given a page of bytes at a time, from memory and from the
// store; what another server committed is read to its end within a poll all the same.
func TestStreamTakesNoMoreThanAPageAtOnce(t *testing.T) {
	bubble(t, engine.Options{}, func(r *rig) {
		id := uuid.New()
		r.all(create(id), command(id, flows.Start{}))
		other := r.second(engine.Options{})
		live, late := follow(r, other, store.EventQuery{Owners: flows.Everyone}), follow(r, other, store.EventQuery{Owners: flows.Everyone, After: place(0)})
		after(17 * time.Millisecond)
		large := json.RawMessage(`{"a":"` + strings.Repeat("x", 200<<10) + `"}`)
		for range 30 { // a page and a half
			r.all(command(id, flows.UpdateState{Patch: large}))
		}
		after(feedPoll)
		for name, f := range map[string]*engine.Follower{"from memory": live, "from the store": late} {
			from := f.Position()
			var seen []int64
			for {
				events, _, err := f.Take(r.Context())
				r.want("Take", err, nil)
				if len(events) == 0 {
					break
				}
				bytes := 0
				for _, e := range events {
					bytes += len(e.Payload)
					seen = append(seen, e.Seq)
				}
				if bytes > store.PageBytes+2*len(large) {
					r.Errorf("%s: %d bytes at once", name, bytes)
				}
			}
			wantSeqs(r, name, seen, r.recorded(store.EventQuery{Owners: flows.Everyone, After: &from}))
		}
	})
}

// TestFeedAsksForNoMoreThanItKeeps: a database sends all the rows that it is asked for, though the page ends with the bytes.
func TestFeedAsksForNoMoreThanItKeeps(t *testing.T) {
	onTails(t, func(r *rig, s *tails) {
		id := uuid.New()
		r.apply(create(id))
		r.apply(command(id, flows.Start{}))
		live := follow(r, r.engine, store.EventQuery{Owners: flows.Everyone})
		large := json.RawMessage(`{"a":"` + strings.Repeat("x", 200<<10) + `"}`)
		other := r.second(engine.Options{})
		for range 300 {
			if _, err := other.Apply(r.Context(), command(id, flows.UpdateState{Patch: large})); err != nil {
				r.Fatal(err)
			}
		}
		s.asked.Store(0)
		after(feedPoll)
		if events := drain(r, live); len(events) != 300 {
			r.Errorf("%d events", len(events))
		}
		if asked := s.asked.Load(); asked > 2*300+2*256 {
			r.Errorf("%d rows were asked for, to read 300", asked)
		}
	})
}

// tails counts how often the feed is read, and how much of it is asked for, and fails as it is told: those reads, or pages.
type tails struct {
	store.Store
	reads, asked    atomic.Int64
	fail, failPages atomic.Bool
}

func (s *tails) Events(ctx context.Context, q store.EventQuery) (store.EventPage, error) {
	if s.failPages.Load() {
		return store.EventPage{}, errors.New("no such table")
	}
	return s.Store.Events(ctx, q)
}

func (s *tails) Tail(ctx context.Context, after int64, limit int) ([]store.FeedEvent, error) {
	s.reads.Add(1)
	s.asked.Add(int64(limit))
	if s.fail.Load() {
		return nil, store.ErrUnavailable
	}
	return s.Store.Tail(ctx, after, limit)
}

// onTails runs a test on an engine over a store whose tails are counted.
func onTails(t *testing.T, test func(r *rig, s *tails)) {
	synctest.Test(t, func(t *testing.T) {
		s := &tails{Store: storetest.NewMemory(time.Now)}
		r := &rig{T: t, faulty: storetest.NewFaulty(s), spy: &spy{Store: s}, engine: engine.New(s, engine.Options{})}
		t.Cleanup(func() { r.want("Close", r.engine.Close(context.Background()), nil) })
		test(r, s)
	})
}

func (r *rig) apply(c engine.Command) {
	r.Helper()
	if _, err := r.engine.Apply(r.Context(), c); err != nil {
		r.Fatal(err)
	}
}

func TestFeedIsReadOnlyWhileSomebodyFollows(t *testing.T) {
	onTails(t, func(r *rig, s *tails) {
		id := uuid.New()
		r.apply(create(id))
		after(time.Minute)
		if n := s.reads.Load(); n != 0 {
			r.Errorf("read %d times for nobody", n)
		}
		f, err := r.engine.Follow(r.Context(), store.EventQuery{Owners: flows.Everyone})
		r.want("Follow", err, nil)
		after(time.Second)
		if n := s.reads.Load(); n < 9 || n > 12 {
			r.Errorf("read %d times in a second without a change", n)
		}
		for range 1000 { // under load, one read serves many commits
			r.apply(patch(id, "a", 1))
			<-time.After(time.Millisecond)
		}
		if n := s.reads.Load(); n > 12+110 {
			r.Errorf("read %d times in two seconds, one with 1,000 commits", n)
		}
		f.Close()
		after(feedPoll)
		before := s.reads.Load()
		r.apply(patch(id, "a", 1))
		after(time.Minute)
		if n := s.reads.Load() - before; n != 0 {
			r.Errorf("read %d times after the last one has gone", n)
		}
		late := follow(r, r.engine, store.EventQuery{Owners: flows.Everyone, After: place(1000)})
		after(feedPoll)
		wantSeqs(r, "one that comes later", drain(r, late), []int64{1001, 1002})
	})
}

func TestStreamGoesOnAfterTroubleWithTheDatabase(t *testing.T) {
	onTails(t, func(r *rig, s *tails) {
		f := follow(r, r.engine, store.EventQuery{Owners: flows.Everyone})
		after(feedPoll)
		s.fail.Store(true)
		for range 5 {
			r.apply(create(uuid.New()))
			after(feedPoll)
		}
		wantSeqs(r, "while it cannot be read", drain(r, f), nil)
		s.fail.Store(false)
		after(feedPoll)
		wantSeqs(r, "when it can", drain(r, f), []int64{1, 2, 3, 4, 5})
	})
}

// TestFollowerThatIsBehindOutlivesTroubleWithTheDatabase: one that reads the store yet, as each does that comes before the feed has
// begun, waits until it can. Meanwhile the feed alone asks the database.
func TestFollowerThatIsBehindOutlivesTroubleWithTheDatabase(t *testing.T) {
	onTails(t, func(r *rig, s *tails) {
		for range 3 {
			r.apply(create(uuid.New()))
		}
		s.failPages.Store(true)
		f := follow(r, r.engine, store.EventQuery{Owners: flows.Everyone, After: place(0)})
		events, more, err := f.Take(r.Context())
		if err != nil || len(events) > 0 || !f.Stalled() {
			r.Fatalf("%d events, stalled %t, %v", len(events), f.Stalled(), err)
		}
		after(time.Minute)
		if !woken(more) { // that the feed has found out too
			r.Fatal("it is not woken")
		}
		if events, more, err = f.Take(r.Context()); err != nil || len(events) > 0 {
			r.Fatalf("%d events, %v", len(events), err)
		}
		after(time.Minute)
		if woken(more) {
			r.Error("it is woken for nothing")
		}
		s.failPages.Store(false)
		after(feedPoll)
		if !woken(more) {
			r.Error("it is not woken when there is something to read")
		}
		wantSeqs(r, "when it can be read", drain(r, f), []int64{1, 2, 3})
		if f.Stalled() {
			r.Error("it is stalled yet")
		}
	})
}

// TestFollowerThatMeetsTheFeedIsStalledNoMore: one that could not read the store, and has missed nothing when the feed begins.
func TestFollowerThatMeetsTheFeedIsStalledNoMore(t *testing.T) {
	onTails(t, func(r *rig, s *tails) {
		r.apply(create(uuid.New()))
		s.failPages.Store(true)
		f := follow(r, r.engine, store.EventQuery{Owners: flows.Everyone, After: place(1)})
		wantSeqs(r, "while it cannot be read", drain(r, f), nil)
		if !f.Stalled() {
			r.Error("it is not stalled")
		}
		after(feedPoll)
		s.failPages.Store(false)
		after(feedPoll)
		wantSeqs(r, "when it can", drain(r, f), nil)
		if f.Stalled() {
			r.Error("it is stalled yet")
		}
	})
}

// TestFollowerAsksAgainByItself: where its page of the trail could not be read, and the feed can.
func TestFollowerAsksAgainByItself(t *testing.T) {
	onTails(t, func(r *rig, s *tails) {
		r.apply(create(uuid.New()))
		follow(r, r.engine, store.EventQuery{Owners: flows.Everyone})
		after(feedPoll)
		s.failPages.Store(true)
		f := follow(r, r.engine, store.EventQuery{Owners: flows.Everyone, After: place(0)})
		for range 3 {
			events, more, err := f.Take(r.Context())
			if err != nil || len(events) > 0 || !f.Stalled() {
				r.Fatalf("%d events, stalled %t, %v", len(events), f.Stalled(), err)
			}
			after(feedPoll)
			if !woken(more) {
				r.Fatal("it is not to ask again")
			}
		}
		s.failPages.Store(false)
		wantSeqs(r, "when it can be read", drain(r, f), []int64{1})
	})
}

// TestFollowerInTroubleIsEnded: by the engine's end, and by its reader's.
func TestFollowerInTroubleIsEnded(t *testing.T) {
	onTails(t, func(r *rig, s *tails) {
		r.apply(create(uuid.New()))
		s.failPages.Store(true)
		f := follow(r, r.engine, store.EventQuery{Owners: flows.Everyone, After: place(0)})
		gone, cancel := context.WithCancel(r.Context())
		cancel()
		_, _, err := f.Take(gone)
		r.want("Take of a reader that has gone", err, context.Canceled)
		after(feedPoll)
		wantEnded(r, f)
	})
}

func TestEventIsEncodedOnceForAll(t *testing.T) {
	bubble(t, engine.Options{}, func(r *rig) {
		var followers []*engine.Follower
		for range 10 {
			followers = append(followers, follow(r, r.engine, store.EventQuery{Owners: flows.Everyone}))
		}
		after(feedPoll)
		r.all(create(uuid.New()))
		after(feedPoll)
		encoded := 0
		for _, f := range followers {
			events, _, err := f.Take(r.Context())
			if err != nil || len(events) != 1 {
				r.Fatalf("%d events, %v", len(events), err)
			}
			events[0].Encoded(func(flows.Event) []byte { encoded++; return nil })
		}
		if encoded != 1 {
			r.Errorf("encoded %d times", encoded)
		}
	})
}

func TestCloseEndsFollowing(t *testing.T) {
	bubble(t, engine.Options{}, func(r *rig) {
		f := follow(r, r.engine, store.EventQuery{Owners: flows.Everyone})
		after(feedPoll)
		wantEnded(r, f)
		_, err := r.engine.Follow(r.Context(), store.EventQuery{Owners: flows.Everyone})
		r.want("Follow after Close", err, engine.ErrStopped)
	})
}
