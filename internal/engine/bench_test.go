package engine_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"taskflow/internal/engine"
	"taskflow/internal/store/storetest"

	"github.com/google/uuid"
)

// BenchmarkApply is the engine's own cost of a change: the store is in memory and commits at once. Each caller has a
// flow of its own.
func BenchmarkApply(b *testing.B) {
	for _, callers := range []int{1, 8, 64} {
		b.Run(fmt.Sprint("callers=", callers), func(b *testing.B) { benchmarkApply(b, callers) })
	}
}

func benchmarkApply(b *testing.B, callers int) {
	s := storetest.NewFaulty(storetest.NewMemory(time.Now))
	e := engine.New(s, engine.Options{})
	ids := make([]uuid.UUID, callers)
	for i := range ids {
		ids[i] = uuid.New()
		if _, err := e.Apply(b.Context(), create(ids[i])); err != nil {
			b.Fatal(err)
		}
	}
	before := s.Updates()
	var left atomic.Int64
	left.Store(int64(b.N))
	var work sync.WaitGroup
	b.ReportAllocs()
	b.ResetTimer()
	for _, id := range ids {
		work.Go(func() {
			c := patch(id, "a", 1)
			for left.Add(-1) >= 0 {
				if _, err := e.Apply(context.Background(), c); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	work.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/float64(s.Updates()-before), "changes/commit")
	if err := e.Close(context.Background()); err != nil {
		b.Error(err)
	}
}
