package storetest_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"taskflow/internal/flows"
	"taskflow/internal/store"
	"taskflow/internal/store/storetest"

	"github.com/google/uuid"
)

func exists(t *testing.T, s store.Store, id uuid.UUID) bool {
	t.Helper()
	_, err := s.Flow(t.Context(), id, flows.Everyone)
	if err != nil && !errors.Is(err, flows.ErrNotFound) {
		t.Fatal(err)
	}
	return err == nil
}

func save(t *testing.T, s store.Store, id uuid.UUID) error {
	t.Helper()
	return s.Update(t.Context(), saving(store.Need{Flows: []uuid.UUID{id}}, creates(id)))
}

func TestFaultsFailOnce(t *testing.T) {
	refused := errors.New("refused")
	for name, c := range map[string]struct {
		fault     storetest.Fault
		err       error
		persisted bool
	}{
		"unavailable":       {storetest.Unavailable(), store.ErrUnavailable, false},
		"refused":           {storetest.Fault{Err: refused}, refused, false},
		"unknown, there":    {storetest.UnknownPersisted(), store.ErrOutcomeUnknown, true},
		"unknown, not done": {storetest.UnknownLost(), store.ErrOutcomeUnknown, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := storetest.NewFaulty(openMemory(t))
			s.Inject(c.fault)
			if err := save(t, s, one); !errors.Is(err, c.err) {
				t.Errorf("Update = %v, want %v", err, c.err)
			}
			if got := exists(t, s, one); got != c.persisted {
				t.Errorf("the flow is there: %v, want %v", got, c.persisted)
			}
			if err := save(t, s, two); err != nil {
				t.Errorf("the Update after it: %v", err)
			}
			if n := s.Updates(); n != 2 {
				t.Errorf("%d Updates have begun, want 2", n)
			}
		})
	}
}

func TestFaultPanics(t *testing.T) {
	s := storetest.NewFaulty(openMemory(t))
	s.Inject(storetest.Panics("boom"))
	func() {
		defer func() {
			if r := recover(); r != "boom" {
				t.Errorf("recovered %v, want boom", r)
			}
		}()
		t.Errorf("Update returned %v", save(t, s, one))
	}()
	if exists(t, s, one) {
		t.Error("the flow is there")
	}
	if err := save(t, s, one); err != nil {
		t.Errorf("the Update after it: %v", err)
	}
}

func TestFaultMatchesWrites(t *testing.T) {
	refused := errors.New("refused")
	s := storetest.NewFaulty(openMemory(t))
	s.Inject(storetest.Refused(refused, storetest.WritesFlow(one)))
	both := store.Writes{Created: []*flows.Flow{flow(two), flow(one)}}
	for range 3 {
		if err := s.Update(t.Context(), saving(store.Need{}, both)); !errors.Is(err, refused) {
			t.Errorf("Update of both = %v, want the refusal", err)
		}
	}
	if err := save(t, s, two); err != nil {
		t.Errorf("Update of the other = %v", err)
	}
	if exists(t, s, one) || !exists(t, s, two) {
		t.Error("the wrong flow is there")
	}
	s.Heal()
	if err := save(t, s, one); err != nil {
		t.Errorf("Update after healing = %v", err)
	}
}

func TestWritesFlow(t *testing.T) {
	matches := storetest.WritesFlow(one)
	for name, of := range map[string]func(id uuid.UUID) store.Writes{
		"erased":  func(id uuid.UUID) store.Writes { return store.Writes{Erased: []uuid.UUID{id}} },
		"created": creates,
		"updated": func(id uuid.UUID) store.Writes { return store.Writes{Updated: []store.FlowUpdate{{Flow: flow(id)}}} },
		"step":    func(id uuid.UUID) store.Writes { return store.Writes{Steps: []*flows.Step{{FlowID: id}}} },
		"event":   func(id uuid.UUID) store.Writes { return store.Writes{Events: []flows.Event{{FlowID: id}}} },
	} {
		if !matches(of(one)) || matches(of(two)) {
			t.Errorf("%s: %v for the flow, %v for another", name, matches(of(one)), matches(of(two)))
		}
	}
}

func TestFaultKeepsFnsError(t *testing.T) {
	s := storetest.NewFaulty(openMemory(t))
	s.Inject(storetest.Unavailable())
	boom := errors.New("boom")
	if err := s.Update(t.Context(), func(store.Tx) error { return boom }); err != boom {
		t.Errorf("Update = %v, want fn's error", err)
	}
}

func TestBlock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storetest.NewFaulty(openMemory(t))
		gate := s.Block()
		var group sync.WaitGroup
		for _, id := range []uuid.UUID{one, two} {
			group.Go(func() {
				if err := save(t, s, id); err != nil {
					t.Error(err)
				}
			})
		}
		<-gate.Arrived()
		<-gate.Arrived()
		synctest.Wait()
		if exists(t, s, one) || exists(t, s, two) {
			t.Error("a blocked Update went through")
		}
		gate.Release()
		gate.Release()
		group.Wait()
		if !exists(t, s, one) || !exists(t, s, two) {
			t.Error("a released Update did not go through")
		}
	})
}

func TestBlockedUpdateHeedsItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := storetest.NewFaulty(openMemory(t))
		gate := s.Block()
		defer gate.Release()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := s.Update(ctx, load); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Update = %v, want DeadlineExceeded", err)
		}
	})
}
