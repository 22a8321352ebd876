package pg_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"taskflow/internal/flows"
	"taskflow/internal/pg"
	"taskflow/internal/pg/pgtest"
	"taskflow/internal/store"

	"github.com/google/uuid"
)

// replicas opens stores on one database.
func replicas(t *testing.T, n int) []*pg.Store {
	t.Helper()
	url := pgtest.Database(t)
	list := make([]*pg.Store, n)
	for i := range list {
		list[i] = open(t, url)
	}
	return list
}

// race runs fn on each replica at once, and returns what each said.
func race(list []*pg.Store, fn func(s *pg.Store) error) []error {
	errs := make([]error, len(list))
	start := make(chan struct{})
	var running sync.WaitGroup
	for i, s := range list {
		running.Go(func() {
			<-start
			errs[i] = fn(s)
		})
	}
	close(start)
	running.Wait()
	return errs
}

// Of replicas that create the same flows, in whatever order, one does; the others run again and see them.
func TestReplicasCreateTheSame(t *testing.T) {
	t.Parallel()
	list := replicas(t, 3)
	for range 20 {
		one, two := newFlow(), newFlow()
		var turn sync.Mutex
		reversed := false
		errs := race(list, func(s *pg.Store) error {
			turn.Lock()
			batch := []*flows.Flow{one, two}
			if reversed = !reversed; reversed {
				batch = []*flows.Flow{two, one}
			}
			turn.Unlock()
			return create(t.Context(), s, batch...)
		})
		created := 0
		for _, err := range errs {
			if err == nil {
				created++
			} else if !errors.Is(err, flows.ErrAlreadyExists) {
				t.Error(err)
			}
		}
		if created != 1 {
			t.Fatalf("%d replicas created the flow", created)
		}
		expectTrail(t, list[0], one.ID, "creator")
		expectTrail(t, list[0], two.ID, "creator")
	}
}

var errFound = errors.New("found the answer")

// Of replicas with one answer key, one acts and stores its answer; the others find it.
func TestReplicasShareAnswerKey(t *testing.T) {
	t.Parallel()
	list := replicas(t, 3)
	for n := range 20 {
		keys := []store.AnswerKey{{byte(n), 1, 9: 1}, {byte(n), 2, 9: 2}}
		acted := race(list, func(s *pg.Store) error {
			return s.Update(t.Context(), func(tx store.Tx) error {
				snapshot, err := tx.Load(store.Need{Answers: keys})
				if err != nil {
					return err
				}
				if len(snapshot.Answers) > 0 {
					if len(snapshot.Answers) != len(keys) {
						return fmt.Errorf("half of an answer: %v", snapshot.Answers)
					}
					return errFound
				}
				f := newFlow()
				w := store.Writes{Created: []*flows.Flow{f}, Events: []flows.Event{eventOf(f, "only")}}
				for _, key := range keys {
					w.Answers = append(w.Answers, store.Answer{Key: key, Response: f.ID[:], CreatedAt: f.CreatedAt})
				}
				return tx.Save(w)
			})
		})
		count := 0
		for _, err := range acted {
			if err == nil {
				count++
			} else if !errors.Is(err, errFound) {
				t.Error(err)
			}
		}
		if count != 1 {
			t.Fatalf("%d replicas acted on one key", count)
		}
	}
}

// A reader that has seen a number never later finds a new event below it, with several replicas writing at once.
func TestFeedInCommitOrder(t *testing.T) {
	t.Parallel()
	const writers, changes = 8, 40
	list := replicas(t, 2)
	var writing sync.WaitGroup
	for i := range writers {
		writing.Go(func() {
			for n := range changes {
				batch := []*flows.Flow{newFlow(), newFlow()}[:1+n%2]
				if err := create(t.Context(), list[i%2], batch...); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	done := make(chan struct{})
	go func() {
		writing.Wait()
		close(done)
	}()
	seen := follow(t, list[0], done)
	all, err := list[0].Events(t.Context(), store.EventQuery{Owners: flows.Everyone, Limit: 10_000})
	must(t, err)
	want := writers * (changes + changes/2)
	if len(all.Items) != want || len(seen) != want {
		t.Fatalf("%d events were written, %d seen, want %d", len(all.Items), len(seen), want)
	}
	for i, e := range all.Items {
		if e.Seq != int64(i)+1 || seen[i] != e.FlowID {
			t.Fatalf("event %d has number %d and flow %s; the reader saw %s", i, e.Seq, e.FlowID, seen[i])
		}
	}
}

// follow reads the feed until done is closed, and once more, never going back.
func follow(t *testing.T, s store.Reader, done <-chan struct{}) (seen []uuid.UUID) {
	t.Helper()
	after := int64(0)
	for last := false; ; {
		select {
		case <-done:
			last = true
		default:
		}
		page, err := s.Events(t.Context(), store.EventQuery{Owners: flows.Everyone, After: &after, Limit: 7})
		must(t, err)
		for _, e := range page.Items {
			seen, after = append(seen, e.FlowID), e.Seq
		}
		if last && page.Next == nil {
			return seen
		}
	}
}

// Sweeping passes over answers that a change holds, and waits for nobody.
func TestSweepPassesOverLocked(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	s, other := open(t, url), connect(t, url)
	old := time.Now().Add(-48 * time.Hour)
	must(t, s.Update(t.Context(), func(tx store.Tx) error {
		return tx.Save(store.Writes{Answers: []store.Answer{
			{Key: store.AnswerKey{1}, Response: []byte("x"), CreatedAt: old},
			{Key: store.AnswerKey{2}, Response: []byte("y"), CreatedAt: old}}})
	}))
	exec(t, other, "begin")
	key := store.AnswerKey{1}
	exec(t, other, "select from answers where key = $1 for update", key[:])
	for _, want := range []int{1, 0} {
		if n, err := s.SweepAnswers(t.Context(), time.Now(), 10); err != nil || n != want {
			t.Errorf("swept %d, %v; want %d", n, err, want)
		}
	}
	exec(t, other, "rollback")
	if n, err := s.SweepAnswers(t.Context(), time.Now(), 10); err != nil || n != 1 {
		t.Errorf("swept %d, %v; want 1", n, err)
	}
}
