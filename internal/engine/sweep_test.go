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
	"taskflow/internal/store"
	"taskflow/internal/store/storetest"
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
			if calls.Add(1) == 1 {
				return 0, errors.New("disk on fire")
			}
			return 0, nil
		})
		after(time.Minute)
		if calls.Load() != 1 || log.count("disk on fire") != 1 {
			r.Errorf("after %d calls the log has the error %d times, want once", calls.Load(), log.count("disk on fire"))
		}
		r.faulty.Inject(storetest.Unavailable())
		after(time.Minute)
		if calls.Load() != 1 || log.count(store.ErrUnavailable.Error()) != 1 {
			r.Errorf("without the clock: %d calls, and the error is logged %d times", calls.Load(), log.count(store.ErrUnavailable.Error()))
		}
		after(time.Minute)
		if calls.Load() != 2 || log.count("level=WARN") != 2 {
			r.Errorf("%d calls, %d warnings; want it to go on", calls.Load(), log.count("level=WARN"))
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
