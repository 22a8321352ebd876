package engine_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"strings"
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

const answerTTL = time.Hour

// answers stores n answers, recorded at one time.
func (r *rig) answers(prefix string, n int, at time.Time) {
	r.Helper()
	w := store.Writes{}
	for i := range n {
		w.Answers = append(w.Answers, store.Answer{
			Key: sha256.Sum256(fmt.Append(nil, prefix, i)), Response: []byte("r"), CreatedAt: at,
		})
	}
	if err := r.spy.Update(r.Context(), func(tx store.Tx) error {
		if _, err := tx.Load(store.Need{Answers: keysOf(w)}); err != nil {
			return err
		}
		return tx.Save(w)
	}); err != nil {
		r.Fatal(err)
	}
}

func keysOf(w store.Writes) []store.AnswerKey {
	var keys []store.AnswerKey
	for _, a := range w.Answers {
		keys = append(keys, a.Key)
	}
	return keys
}

// journal is a log that can be read while it is written.
type journal struct {
	mu   sync.Mutex // guards text
	text bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

func (j *journal) count(what string) int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return strings.Count(j.text.String(), what)
}

func (j *journal) all() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

// after lets time pass on the bubble's clock, and everything happen that it brings.
func after(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func TestSweepDeletesExpiredAnswersInBatchesByTheStoresClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const ahead = 100 * time.Hour
		clock := func() time.Time { return time.Now().Add(ahead) }
		r := newRig(t, engine.Options{AnswerTTL: answerTTL}, clock)
		type call struct {
			limit, swept int
			age          time.Duration // of what is spared, by the store's clock
		}
		calls := make(chan call, 10)
		var made []call
		swept := func() string {
			for len(calls) > 0 {
				made = append(made, <-calls)
			}
			return fmt.Sprint(made)
		}
		r.spy.onSweep(func(ctx context.Context, before time.Time, limit int) (int, error) {
			swept, err := r.spy.Store.SweepAnswers(ctx, before, limit)
			calls <- call{limit, swept, clock().Sub(before)}
			return swept, err
		})
		inAMinute := clock().Add(time.Minute)
		r.answers("old", 2500, inAMinute.Add(-answerTTL-time.Microsecond))
		r.answers("fresh", 10, inAMinute.Add(-answerTTL)) // expired for a repeat, and swept next time
		after(time.Minute - 1)
		if got := swept(); got != "[]" {
			t.Errorf("swept before a minute was over: %s", got)
		}
		after(1)
		want := []call{{1000, 1000, answerTTL}, {1000, 1000, answerTTL}, {1000, 500, answerTTL}}
		if got := swept(); got != fmt.Sprint(want) {
			t.Errorf("after a minute: %s, want %v", got, want)
		}
		after(time.Minute)
		want = append(want, call{1000, 10, answerTTL})
		if got := swept(); got != fmt.Sprint(want) {
			t.Errorf("after two: %s, want %v", got, want)
		}
	})
}

func TestSweepGoesOnAfterAnError(t *testing.T) {
	var log journal
	options := engine.Options{AnswerTTL: answerTTL, Logger: slog.New(slog.NewTextHandler(&log, nil))}
	bubble(t, options, func(r *rig) {
		var calls atomic.Int32
		r.spy.onSweep(func(context.Context, time.Time, int) (int, error) {
			if n := calls.Add(1); n == 1 || n == 3 {
				return 0, errors.New("disk on fire")
			}
			return 0, nil
		})
		check := func(when string, sweeps int32, troubles, ends int) {
			r.Helper()
			after(time.Minute)
			if calls.Load() != sweeps || log.count("level=WARN") != troubles || log.count("level=INFO") != ends {
				r.Errorf("%s: %d calls, want %d; the log, where %d troubles begin and %d end:\n%s", when, calls.Load(), sweeps,
					troubles, ends, log.all())
			}
		}
		check("an error", 1, 1, 0)
		r.faulty.Inject(storetest.Unavailable())
		check("another, of the clock", 1, 1, 0)
		check("all is well", 2, 1, 1)
		check("an error again", 3, 2, 1)
		if log.count("disk on fire") != 2 {
			r.Errorf("the log does not say what was wrong:\n%s", log.all())
		}
	})
}

func TestSweepStopsWithClose(t *testing.T) {
	bubble(t, engine.Options{AnswerTTL: answerTTL}, func(r *rig) {
		var calls atomic.Int32
		entered, leave := make(chan struct{}, 2), make(chan struct{})
		r.spy.onSweep(func(context.Context, time.Time, int) (int, error) {
			calls.Add(1)
			entered <- struct{}{}
			<-leave
			return 1000, nil // there is more
		})
		<-entered
		closed := make(chan error, 1)
		go func() { closed <- r.engine.Close(r.Context()) }()
		synctest.Wait()
		if len(closed) > 0 {
			r.Error("Close did not wait for the sweep under way")
		}
		r.spy.onSweep(func(context.Context, time.Time, int) (int, error) {
			calls.Add(1)
			return 0, nil
		})
		close(leave)
		r.want("Close", <-closed, nil)
		after(time.Hour)
		if calls.Load() != 1 {
			r.Errorf("%d batches were swept, want none after Close", calls.Load())
		}
	})
}

// hands makes a clock of the store that can be set ahead.
func hands() (clock func() time.Time, ahead func(time.Duration)) {
	var offset atomic.Int64
	clock = func() time.Time { return time.Now().Add(time.Duration(offset.Load())) }
	return clock, func(d time.Duration) { offset.Add(int64(d)) }
}

func (r *rig) endedBefore(at time.Time) int64 {
	r.Helper()
	n, err := r.faulty.CountEnded(r.Context(), at)
	if err != nil {
		r.Fatal(err)
	}
	return n
}

func TestRetentionErasesEndedFlowsInBatchesByTheStoresClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const retain = 100 * time.Hour
		clock, ahead := hands()
		r := newRig(t, engine.Options{RetainTerminal: retain}, clock)
		var commands []engine.Command
		ended := make([]uuid.UUID, 250)
		for i := range ended {
			ended[i] = uuid.New()
			commands = append(commands, create(ended[i]), observe(ended[i], "run", flows.StepFailed), command(ended[i], flows.Cancel{}))
		}
		r.all(commands...)
		open := r.created(1)[0]
		ahead(retain - time.Minute)
		after(time.Minute) // as old as they may be
		if n := r.endedBefore(clock()); n != 250 || len(r.spy.pruned()) != 1 {
			r.Fatalf("%d ended flows are left after %v, want all", n, r.spy.pruned())
		}
		after(time.Minute)
		if got := fmt.Sprint(r.spy.pruned()); got != "[{100 0} {100 100} {100 100} {100 50}]" {
			r.Errorf("pruned %s, limit and number", got)
		}
		if n := r.endedBefore(clock()); n != 0 {
			r.Errorf("%d ended flows are left", n)
		}
		r.missing(ended[0])
		if trail := r.trail(uuid.Nil); len(trail) != 1 || trail[0].FlowID != open {
			r.Errorf("the trail is %v, want nothing but the open flow's", kinds(trail))
		}
	})
}

func TestWithoutRetentionFlowsAreKeptForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clock, ahead := hands()
		r := newRig(t, engine.Options{}, clock)
		id := r.created(1)[0]
		r.must(command(id, flows.Cancel{}))
		ahead(100 * 365 * 24 * time.Hour)
		after(3 * time.Minute)
		if f := r.flow(id); f.Status != flows.Cancelled || len(r.spy.pruned()) != 0 {
			r.Errorf("%+v, pruned %v", f, r.spy.pruned())
		}
	})
}

func TestReceiptsAreSweptAfterAWeek(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const week = 7 * 24 * time.Hour
		clock, ahead := hands()
		r := newRig(t, engine.Options{}, clock)
		id := r.begin(await(paid))
		delivered, unmatched := publication(paid, 1, 0), publication(paid, 2, 0)
		expired, buffered := publication(paid, 3, time.Hour), publication(paid, 4, 2*week)
		for _, p := range []engine.Publication{delivered, unmatched, expired, buffered} {
			r.publish(p)
		}
		ahead(week - time.Minute)
		after(time.Minute)
		r.fate(delivered, flows.EventDelivered, 1)
		r.fate(unmatched, flows.EventUnmatched, 0)
		r.fate(expired, flows.EventExpired, 0)
		after(time.Minute)
		for _, p := range []engine.Publication{delivered, unmatched, expired} {
			_, err := r.faulty.ExternalEvent(r.Context(), p.Event.ID, flows.Everyone)
			r.want("after a week", err, flows.ErrNotFound)
		}
		r.fate(buffered, flows.EventBuffered, 0)
		r.wantEvent(id, delivered)
		ahead(week)
		after(time.Minute)
		_, err := r.faulty.ExternalEvent(r.Context(), buffered.Event.ID, flows.Everyone)
		r.want("when it has expired", err, flows.ErrNotFound)
	})
}
