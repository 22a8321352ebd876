package storetest_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"taskflow/internal/flows"
	"taskflow/internal/store"
	"taskflow/internal/store/storetest"

	"github.com/google/uuid"
)

func openMemory(t *testing.T) store.Store {
	m := storetest.NewMemory(time.Now)
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

func TestMemory(t *testing.T) { storetest.Run(t, openMemory) }

// TestFaultyWithoutFaults holds that the wrapper alone changes nothing.
func TestFaultyWithoutFaults(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store { return storetest.NewFaulty(openMemory(t)) })
}

var (
	one = uuid.MustParse("00000000-0000-7000-8000-000000000001")
	two = uuid.MustParse("00000000-0000-7000-8000-000000000002")
)

func flow(id uuid.UUID) *flows.Flow {
	return &flows.Flow{ID: id, Mode: flows.Managed, ControllerID: "c", Goal: "g", OwnerSessionKey: "o", CurrentStep: "init",
		State: []byte("{}"), Status: flows.Created}
}

func creates(id uuid.UUID) store.Writes { return store.Writes{Created: []*flows.Flow{flow(id)}} }

// saving is an fn that loads and saves.
func saving(need store.Need, w store.Writes) func(store.Tx) error {
	return func(tx store.Tx) error {
		if _, err := tx.Load(need); err != nil {
			return err
		}
		return tx.Save(w)
	}
}

func TestMemoryCatchesMisuse(t *testing.T) {
	known, key := store.Need{Flows: []uuid.UUID{one}}, store.AnswerKey{1}
	step := &flows.Step{FlowID: one, RunID: "r"}
	event := flows.Event{FlowID: one, Kind: flows.EventStarted}
	updates := store.FlowUpdate{Flow: flow(one)}
	pair := flows.Pair{Topic: "t", CorrelationID: "c"}
	arrived := &flows.ExternalEvent{Owners: flows.Everyone, ID: two, Pair: pair, Outcome: flows.EventBuffered}
	awaiting := flow(two)
	awaiting.Status = flows.Waiting
	awaiting.Wait = &flows.Wait{Kind: flows.WaitExternalEvent, Conditions: []flows.Condition{{Kind: flows.WaitExternalEvent, Pair: pair}}}
	timed := flow(one)
	timed.Status, timed.Wait = flows.Waiting, &flows.Wait{Kind: flows.WaitManual, Generation: 3}
	finished := flow(one)
	finished.Status = flows.Finished
	for name, fn := range map[string]func(store.Tx) error{
		"save before load": func(tx store.Tx) error { return tx.Save(store.Writes{}) },
		"second load": func(tx store.Tx) error {
			_, err := tx.Load(known)
			return errors.Join(err, saving(known, store.Writes{})(tx))
		},
		"load after save": func(tx store.Tx) error { return errors.Join(saving(known, store.Writes{})(tx), load(tx)) },
		"second save": func(tx store.Tx) error {
			return errors.Join(saving(known, store.Writes{})(tx), tx.Save(store.Writes{}))
		},
		"due after load": func(tx store.Tx) error { return errors.Join(load(tx), loadDue(tx)) },
		"load after due": func(tx store.Tx) error { return errors.Join(loadDue(tx), load(tx)) },
		"updated, not due": func(tx store.Tx) error {
			return errors.Join(loadDue(tx), tx.Save(store.Writes{Updated: []store.FlowUpdate{updates}}))
		},
		"wait differs, flag off": saving(known, store.Writes{Updated: []store.FlowUpdate{{Flow: timed}}}),
		"status differs, narrow": saving(known, store.Writes{Updated: []store.FlowUpdate{{Flow: finished, Narrow: true}}}),
		"begins to wait, pair not loaded": saving(store.Need{Flows: []uuid.UUID{two}, Match: []store.Match{{Pair: pair, Owners: flows.Everyone}}},
			store.Writes{Created: []*flows.Flow{awaiting}}),
		"event not loaded": saving(store.Need{Match: []store.Match{{Pair: flows.Pair{Topic: "t"}, Owners: flows.Everyone}}, Events: []uuid.UUID{one}},
			store.Writes{ExternalEvents: []*flows.ExternalEvent{arrived}}),
		"event after due": func(tx store.Tx) error {
			return errors.Join(loadDue(tx), tx.Save(store.Writes{ExternalEvents: []*flows.ExternalEvent{arrived}}))
		},
		"event twice": saving(store.Need{Match: []store.Match{{Pair: pair, Owners: flows.Everyone}}},
			store.Writes{ExternalEvents: []*flows.ExternalEvent{arrived, arrived}}),
		"error dropped": func(tx store.Tx) error {
			_ = tx.Save(store.Writes{})
			return nil
		},
		"step without its flow": func(tx store.Tx) error {
			_, err := tx.Load(store.Need{Steps: []store.StepKey{{FlowID: one, RunID: "r"}}})
			return err
		},
		"created twice":       saving(known, store.Writes{Created: []*flows.Flow{flow(two), flow(two)}}),
		"created but exists":  saving(known, creates(one)),
		"updated twice":       saving(known, store.Writes{Updated: []store.FlowUpdate{updates, updates}}),
		"updated, not loaded": saving(store.Need{}, store.Writes{Updated: []store.FlowUpdate{updates}}),
		"updated, missing":    saving(store.Need{Flows: []uuid.UUID{two}}, store.Writes{Updated: []store.FlowUpdate{{Flow: flow(two)}}}),
		"created and updated": saving(known, store.Writes{Erased: known.Flows, Created: []*flows.Flow{flow(one)},
			Updated: []store.FlowUpdate{updates}}),
		"erased, not loaded":     saving(store.Need{}, store.Writes{Erased: known.Flows}),
		"event of erased flow":   saving(known, store.Writes{Erased: known.Flows, Events: []flows.Event{event}}),
		"event, flow not loaded": saving(store.Need{}, store.Writes{Events: []flows.Event{event}}),
		"event with a number":    saving(known, store.Writes{Events: []flows.Event{{Seq: 1, FlowID: one}}}),
		"step, flow not loaded":  saving(store.Need{}, store.Writes{Steps: []*flows.Step{step}}),
		"step twice":             saving(known, store.Writes{Steps: []*flows.Step{step, step}}),
		"answer not loaded":      saving(known, store.Writes{Answers: []store.Answer{{Key: key}}}),
		"answer twice": saving(store.Need{Answers: []store.AnswerKey{key}},
			store.Writes{Answers: []store.Answer{{Key: key}, {Key: key}}}),
	} {
		t.Run(name, func(t *testing.T) {
			m := openMemory(t)
			if err := m.Update(t.Context(), saving(known, creates(one))); err != nil {
				t.Fatal(err)
			}
			if err := m.Update(t.Context(), fn); !errors.Is(err, storetest.ErrMisuse) {
				t.Errorf("Update = %v, want ErrMisuse", err)
			}
			if f, err := m.Flow(t.Context(), one, flows.Everyone); err != nil || f.Goal != "g" {
				t.Errorf("the flow is %v, %v", f, err)
			}
			if _, err := m.ExternalEvent(t.Context(), two, flows.Everyone); !errors.Is(err, flows.ErrNotFound) {
				t.Errorf("the external event: %v, want ErrNotFound", err)
			}
			if _, err := m.Flow(t.Context(), two, flows.Everyone); !errors.Is(err, flows.ErrNotFound) {
				t.Errorf("the other flow: %v, want ErrNotFound", err)
			}
		})
	}
}

func load(tx store.Tx) error {
	_, err := tx.Load(store.Need{})
	return err
}

func loadDue(tx store.Tx) error {
	_, err := tx.LoadDue(5)
	return err
}

// TestMemoryAllows has what is near to a misuse, and is none.
func TestMemoryAllows(t *testing.T) {
	pair := flows.Pair{Topic: "t", CorrelationID: "c"}
	waits := flow(one)
	waits.Status, waits.Wait = flows.Waiting, &flows.Wait{Kind: flows.WaitAnyOf, Generation: 1, Conditions: []flows.Condition{
		{Kind: flows.WaitExternalEvent, Pair: pair}, {Kind: flows.WaitTimer, At: time.Now().Add(-time.Hour)}}}
	arrived := &flows.ExternalEvent{Owners: flows.Everyone, ID: two, Pair: pair, Outcome: flows.EventBuffered}
	writes := store.Writes{Updated: []store.FlowUpdate{{Flow: flow(one), Wait: true}}}
	events := store.Writes{ExternalEvents: []*flows.ExternalEvent{arrived}}
	begin := saving(store.Need{Flows: []uuid.UUID{one}, Await: []flows.Pair{pair}}, store.Writes{Created: []*flows.Flow{waits}})
	for name, fn := range map[string]func(store.Tx) error{
		"updated after due":            func(tx store.Tx) error { return errors.Join(loadDue(tx), tx.Save(writes)) },
		"updated after match":          saving(store.Need{Match: []store.Match{{Pair: pair, Owners: flows.Everyone}}}, writes),
		"event of a pair awaited":      saving(store.Need{Await: []flows.Pair{pair}}, events),
		"event of a pair matched":      saving(store.Need{Match: []store.Match{{Pair: pair, Owners: flows.Everyone}}}, events),
		"event by its id":              saving(store.Need{Events: []uuid.UUID{two}}, events),
		"waits on, and says it begins": saving(store.Need{Flows: []uuid.UUID{one}}, store.Writes{Updated: []store.FlowUpdate{{Flow: waits, Wait: true}}}),
	} {
		t.Run(name, func(t *testing.T) {
			m := openMemory(t)
			for _, fn := range []func(store.Tx) error{begin, fn} {
				if err := m.Update(t.Context(), fn); err != nil {
					t.Errorf("Update = %v", err)
				}
			}
		})
	}
}

func TestMemoryTxEndsWithUpdate(t *testing.T) {
	m := openMemory(t)
	var kept store.Tx
	if err := m.Update(t.Context(), func(tx store.Tx) error { kept = tx; return nil }); err != nil {
		t.Fatal(err)
	}
	if err := load(kept); !errors.Is(err, storetest.ErrMisuse) {
		t.Errorf("Load = %v, want ErrMisuse", err)
	}
	if err := loadDue(kept); !errors.Is(err, storetest.ErrMisuse) {
		t.Errorf("LoadDue = %v, want ErrMisuse", err)
	}
	if err := kept.Save(store.Writes{}); !errors.Is(err, storetest.ErrMisuse) {
		t.Errorf("Save = %v, want ErrMisuse", err)
	}
}

func TestMemoryClosed(t *testing.T) {
	m := storetest.NewMemory(time.Now)
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if err := m.Update(t.Context(), load); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("Update = %v, want ErrUnavailable", err)
	}
	if _, err := m.Stats(t.Context(), flows.Everyone); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("Stats = %v, want ErrUnavailable", err)
	}
}

func TestMemoryInABubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := openMemory(t)
		began := time.Now()
		<-time.After(time.Hour)
		err := m.Update(t.Context(), func(tx store.Tx) error {
			s, err := tx.Load(store.Need{})
			if waited := s.Now.Sub(began); waited != time.Hour {
				t.Errorf("Now is %s after the beginning, want an hour", waited)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	})
}
