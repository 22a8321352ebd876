package pg_test

import (
	"fmt"
	"syscall"
	"testing"

	"taskflow/internal/flows"
	"taskflow/internal/pg/pgtest"
	"taskflow/internal/store"

	"github.com/google/uuid"
)

// BenchmarkUpdate is a batch of changes of state without the engine: both round trips, and what encodes and decodes them.
// The processor's time is this process's, without the database's.
func BenchmarkUpdate(b *testing.B) {
	for _, size := range []int{1, 30, 100} {
		b.Run(fmt.Sprintf("changes=%d", size), func(b *testing.B) {
			s := open(b, pgtest.Database(b))
			var list []*flows.Flow
			var ids []uuid.UUID
			for range size {
				f := newFlow()
				list, ids = append(list, f), append(ids, f.ID)
			}
			must(b, create(b.Context(), s, list...))
			before := processorTime(b)
			for b.Loop() {
				must(b, s.Update(b.Context(), func(tx store.Tx) error {
					snapshot, err := tx.Load(store.Need{Flows: ids})
					if err != nil {
						return err
					}
					var w store.Writes
					for _, f := range snapshot.Flows {
						next := *f
						next.Revision++
						next.UpdatedAt = snapshot.Now
						w.Updated = append(w.Updated, store.FlowUpdate{Flow: &next, State: true, Narrow: true})
						w.Events = append(w.Events, eventOf(&next, "benchmark"))
					}
					return tx.Save(w)
				}))
			}
			b.ReportMetric(float64(processorTime(b)-before)/float64(b.N*size), "cpu-ns/change")
		})
	}
}

// processorTime is what this process has used, in nanoseconds.
func processorTime(b *testing.B) int64 {
	var usage syscall.Rusage
	must(b, syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	return usage.Utime.Nano() + usage.Stime.Nano()
}
