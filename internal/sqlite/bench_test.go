package sqlite_test

import (
	"fmt"
	"testing"

	"taskflow/internal/flows"
	"taskflow/internal/store"

	"github.com/google/uuid"
)

// BenchmarkUpdate commits batches of changes to flows that exist, as the engine does. The figure that counts is
// changes/s.
func BenchmarkUpdate(b *testing.B) {
	for _, size := range []int{1, 100} {
		b.Run(fmt.Sprintf("%d changes", size), func(b *testing.B) {
			s := open(b)
			const population = 1000
			var ids []uuid.UUID
			for n := range population {
				f := aFlow(n)
				ids = append(ids, f.ID)
				mustSave(b, s, created(f))
			}
			next := 0
			b.ResetTimer()
			for b.Loop() {
				need := store.Need{}
				for range size {
					need.Flows = append(need.Flows, ids[next%population])
					next++
				}
				err := s.Update(b.Context(), func(tx store.Tx) error {
					found, err := tx.Load(need)
					if err != nil {
						return err
					}
					var w store.Writes
					for _, id := range need.Flows {
						f := found.Flows[id]
						f.Revision++
						w.Updated = append(w.Updated, store.FlowUpdate{Flow: f, State: true})
						w.Events = append(w.Events, event(f, flows.EventStateUpdated))
					}
					return tx.Save(w)
				})
				if err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N*size)/b.Elapsed().Seconds(), "changes/s")
		})
	}
}

func BenchmarkFlow(b *testing.B) {
	s := open(b)
	f := aFlow(0)
	mustSave(b, s, created(f))
	for b.Loop() {
		if _, err := s.Flow(b.Context(), f.ID, flows.Everyone); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkFlows reads pages: one that an index serves, and one that examines as many flows as a page may.
func BenchmarkFlows(b *testing.B) {
	s := open(b)
	for n := 0; n < store.Examined; n += 500 {
		var list []*flows.Flow
		for i := range 500 {
			list = append(list, aFlow(n+i))
		}
		mustSave(b, s, created(list...))
	}
	for name, q := range map[string]store.FlowQuery{
		"50 by owner":     {OwnerSessionKey: aFlow(0).OwnerSessionKey, Limit: 50},
		"none of a goal":  {GoalContains: "not there", Limit: 50},
		"50 by update":    {Order: store.UpdatedDesc, Limit: 50},
		"none by a label": {Mode: flows.Mirrored, Labels: []store.Label{{Key: "team", Value: "a"}}, Limit: 50},
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := s.Flows(b.Context(), q); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
