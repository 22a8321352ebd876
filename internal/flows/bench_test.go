package flows_test

import (
	"testing"
	"time"

	"taskflow/internal/flows"
)

// BenchmarkEncodeWait writes the wait of a flow as it stands in the trail, in the store and in the answer.
func BenchmarkEncodeWait(b *testing.B) {
	w := &flows.Wait{Kind: flows.WaitExternalEvent, Generation: 2, Since: time.Now(),
		Conditions: []flows.Condition{{Kind: flows.WaitExternalEvent, Pair: flows.Pair{Topic: "payment", CorrelationID: "order-7"}}}}
	b.ReportAllocs()
	for b.Loop() {
		flows.EncodeWait(w, nil)
	}
}
