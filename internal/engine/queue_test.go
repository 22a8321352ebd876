package engine_test

import (
	"context"
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
)

func TestFullQueueTurnsAwayAtOnce(t *testing.T) {
	const room = 3
	bubble(t, engine.Options{Queue: room}, func(r *rig) {
		release := r.hold()
		var queued []*pending
		for n := range room {
			if n == 1 { // an ApplyAll takes one place, however many its commands
				queued = append(queued, r.sendAll(r.Context(), []engine.Command{create(uuid.New()), create(uuid.New())}, nil))
				continue
			}
			queued = append(queued, r.send(r.Context(), create(uuid.New())))
		}
		late, before := create(uuid.New()), r.faulty.Updates()
		turnedAway := r.send(r.Context(), late)
		if !turnedAway.answered() {
			r.Fatal("a command waits for a place in a full queue")
		}
		_, err := turnedAway.wait()
		r.want("Apply", err, engine.ErrOverloaded)
		_, _, err = r.engine.ApplyAll(r.Context(), []engine.Command{late}, onceAll("all", "whole"))
		r.want("ApplyAll", err, engine.ErrOverloaded)
		release()
		for i, p := range queued {
			<-p.done
			for _, o := range p.outcomes {
				r.want(fmt.Sprint("queued request ", i), o.Err, nil)
			}
		}
		r.wantUpdates(before, 1)
		r.missing(late.FlowID)
		r.must(late) // there is room again
	})
}

// tired are contexts that end while a caller waits.
func tired() map[string]struct {
	err  error
	make func(context.Context) (context.Context, func())
} {
	return map[string]struct {
		err  error
		make func(context.Context) (context.Context, func())
	}{
		"cancelled": {context.Canceled, func(ctx context.Context) (context.Context, func()) {
			return context.WithCancel(ctx)
		}},
		"out of time": {context.DeadlineExceeded, func(ctx context.Context) (context.Context, func()) {
			ctx, cancel := context.WithTimeout(ctx, time.Second)
			return ctx, func() { <-ctx.Done(); cancel() }
		}},
	}
}

// What is being made is made whether its caller waits or not, and nobody can tell that caller.
func TestCallerThatGivesUpAbandonsTheAnswerOfWhatIsBeingMade(t *testing.T) {
	for name, tired := range tired() {
		t.Run(name, func(t *testing.T) {
			bubble(t, engine.Options{}, func(r *rig) {
				gate := r.faulty.Block()
				ctx, end := tired.make(r.Context())
				c := keyed(create(uuid.New()), "key", "request")
				p := r.send(ctx, c)
				if p.answered() {
					r.Fatalf("answered before its commit: %v", p.outcomes[0].Err)
				}
				end()
				result, err := p.wait()
				r.want("Apply", err, store.ErrOutcomeUnknown)
				r.want("Apply", err, tired.err)
				if result.Flow != nil {
					r.Errorf("answered with %+v as well", result)
				}
				r.missing(c.FlowID) // not yet
				gate.Release()
				synctest.Wait()
				if f := r.flow(c.FlowID); f.Revision != 0 {
					r.Errorf("the command was made as %+v", f)
				}
				if got, want := string(r.must(c).Replay), string(stored(c.FlowID, 0)); got != want {
					r.Errorf("the repeat replayed %q, want %q", got, want)
				}
			})
		})
	}
}

// What still waits for its turn is taken back, and its caller is told so: nothing is in doubt.
func TestCallerThatGivesUpWithdrawsWhatIsQueued(t *testing.T) {
	for name, tired := range tired() {
		t.Run(name, func(t *testing.T) {
			bubble(t, engine.Options{}, func(r *rig) {
				release := r.hold()
				ctx, end := tired.make(r.Context())
				one, several := create(uuid.New()), create(uuid.New())
				p, all := r.send(ctx, one), r.sendAll(ctx, []engine.Command{several}, nil)
				end()
				_, err := p.wait()
				<-all.done
				for _, err := range []error{err, all.err} {
					r.want("a queued request", err, store.ErrUnavailable)
					r.want("a queued request", err, tired.err)
					if errors.Is(err, store.ErrOutcomeUnknown) {
						r.Errorf("a queued request is in doubt: %v", err)
					}
				}
				release()
				synctest.Wait()
				r.missing(one.FlowID)
				r.missing(several.FlowID)
				r.must(one) // nothing is in its way
			})
		})
	}
}

func TestCallerThatGivesUpHarmsNoStranger(t *testing.T) {
	bubble(t, engine.Options{}, func(r *rig) {
		release := r.hold()
		ctx, cancel := context.WithCancel(r.Context())
		r.send(ctx, create(uuid.New()))
		stranger := r.send(r.Context(), create(uuid.New()))
		cancel()
		release()
		if result, err := stranger.wait(); err != nil || !result.Created {
			r.Errorf("answered with %+v, %v", result, err)
		}
	})
}

func TestCloseAnswersWhatWasQueuedAndTakesNoMore(t *testing.T) {
	bubble(t, engine.Options{Committers: 3}, func(r *rig) {
		gate := r.faulty.Block()
		var queued []*pending
		for range 30 {
			queued = append(queued, r.send(r.Context(), create(uuid.New())))
		}
		queued = append(queued, r.sendAll(r.Context(), []engine.Command{create(uuid.New())}, onceAll("all", "whole")))
		closes := make(chan error, 2)
		for range cap(closes) {
			go func() { closes <- r.engine.Close(r.Context()) }()
		}
		synctest.Wait()
		late := create(uuid.New())
		_, err := r.engine.Apply(r.Context(), late)
		r.want("Apply", err, engine.ErrStopped)
		_, _, err = r.engine.ApplyAll(r.Context(), []engine.Command{late}, nil)
		r.want("ApplyAll", err, engine.ErrStopped)
		if len(closes) > 0 {
			r.Error("Close did not wait for the queue")
		}
		gate.Release()
		for i, p := range queued {
			<-p.done
			if p.err != nil || p.outcomes[0].Err != nil || r.flow(p.outcomes[0].Flow.ID).Revision != 0 {
				r.Errorf("queued request %d: %+v", i, p)
			}
		}
		for range cap(closes) {
			r.want("Close", <-closes, nil)
		}
		r.want("Close once more", r.engine.Close(r.Context()), nil)
		r.missing(late.FlowID)
	})
}

func TestCloseReturnsWithItsContext(t *testing.T) {
	bubble(t, engine.Options{}, func(r *rig) {
		gate, id := r.faulty.Block(), uuid.New()
		p := r.send(r.Context(), create(id))
		ctx, cancel := context.WithTimeout(r.Context(), time.Second)
		defer cancel()
		r.want("Close", r.engine.Close(ctx), context.DeadlineExceeded)
		r.want("Close, with a context that has ended", r.engine.Close(ctx), context.DeadlineExceeded)
		_, err := r.engine.Apply(r.Context(), create(uuid.New()))
		r.want("Apply", err, engine.ErrStopped)
		gate.Release()
		_, err = p.wait()
		r.want("the command under way", err, nil)
		r.want("Close, with time", r.engine.Close(r.Context()), nil)
	})
}

// TestApplyRacesClose runs on real goroutines, for the race detector: no answer is lost, nothing hangs, and a command
// is there if and only if it was answered so.
func TestApplyRacesClose(t *testing.T) {
	const callers, rounds = 8, 50
	for range rounds {
		m := storetest.NewMemory(time.Now)
		e := engine.New(m, engine.Options{Queue: 4})
		var made, answered atomic.Int64
		var work sync.WaitGroup
		started := make(chan struct{}, callers)
		for n := range callers {
			work.Go(func() {
				for i := 0; ; i++ {
					var err error
					if n%2 == 0 {
						_, err = e.Apply(t.Context(), create(uuid.New()))
					} else {
						_, _, err = e.ApplyAll(t.Context(), []engine.Command{create(uuid.New())}, nil)
					}
					answered.Add(1)
					if i == 0 {
						started <- struct{}{}
					}
					switch {
					case err == nil:
						made.Add(1)
					case errors.Is(err, engine.ErrStopped):
						return
					case !errors.Is(err, engine.ErrOverloaded):
						t.Error(err)
						return
					}
				}
			})
		}
		for range callers {
			<-started
		}
		for range 2 {
			work.Go(func() {
				if err := e.Close(t.Context()); err != nil {
					t.Error("Close:", err)
				}
			})
		}
		work.Wait()
		stats, err := m.Stats(t.Context(), flows.Everyone)
		if err != nil {
			t.Fatal(err)
		}
		if there := stats.ByStatus["created"]; there != made.Load() {
			t.Fatalf("%d flows are there, %d of %d calls were answered so", there, made.Load(), answered.Load())
		}
	}
}
