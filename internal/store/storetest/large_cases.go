package storetest

import (
	"fmt"
	"strings"
	"testing"

	"taskflow/internal/flows"
	"taskflow/internal/store"
)

func largeCases() []testCase {
	return []testCase{
		{"Flows", "A page ends with the flow that brings it to PageBytes; Next is nil only at the end of the list.", testLargeFlows},
		{"Events", "A page ends with the event that brings it to PageBytes; Next is nil only where the list had no more.", testLargeEvents},
		{"Tail", "Tail reads on in the feed until the events are limit or come to PageBytes.", testLargeTail},
		{"Steps", "A page ends with the step that brings it to PageBytes; Next is nil only at the end.", testLargeSteps},
		{"Receipts", "A page ends with the receipt that brings it to PageBytes; Next is nil only at the end.", testLargeReceipts},
		{"OverLarge", "A page without an item takes one, whatever its size.", testOverLarge},
	}
}

// Sixteen items of large make a page. There are one more than two pages.
const (
	largePage  = 16
	largeItems = 2*largePage + 1
)

func large() []byte { return sized(store.PageBytes / largePage) }

// sized is a JSON string of n bytes.
func sized(n int) []byte { return []byte(`"` + strings.Repeat("x", n-2) + `"`) }

// wantPages follows pages to the end, and compares how many items each has. read is given how many came before.
func wantPages(t *testing.T, what string, want []int, read func() (items int, next bool, err error)) {
	t.Helper()
	var got []int
	for next := true; next && len(got) <= len(want); {
		n, more, err := read()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		got, next = append(got, n), more
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%s: pages of %v items, want %v", what, got, want)
	}
}

func byLarge() []int { return []int{largePage, largePage, 1} }

func testLargeFlows(t *testing.T, s store.Store) {
	fill(t, s, largeItems, func(_ int, f *flows.Flow) {
		f.Goal = "g" // the size is that of the state, but for this
		f.State = large()
	})
	for _, order := range orders() {
		for what, q := range map[string]store.FlowQuery{
			"all": {}, "one owner": {OwnerSessionKey: "agent:kate"}, "a filter without an index": {GoalContains: "g"},
		} {
			q.Owners, q.Order, q.Limit = flows.Everyone, order, 500
			seen := map[string]int{}
			wantPages(t, fmt.Sprint(what, ", ", order), byLarge(), func() (int, bool, error) {
				page, err := s.Flows(t.Context(), q)
				for _, f := range page.Items {
					seen[f.ID.String()]++
				}
				q.From = page.Next
				return len(page.Items), page.Next != nil, err
			})
			if len(seen) != largeItems {
				t.Errorf("%s, %s: %d flows, want %d", what, order, len(seen), largeItems)
			}
		}
	}
	page, err := s.Flows(t.Context(), store.FlowQuery{Owners: flows.Everyone, Limit: 500, WithoutState: true})
	if err != nil || len(page.Items) != largeItems || page.Next != nil {
		t.Errorf("without their states: %d flows, Next %v, %v; want all on one page", len(page.Items), page.Next, err)
	}
}

// largeEvents saves a flow with as many large events as make more than two pages.
func largeEvents(t *testing.T, s store.Store) {
	t.Helper()
	f := newFlow(1)
	created := createdEvent(f)
	created.Payload = large()
	save(t, s, store.Writes{Created: []*flows.Flow{f}, Events: []flows.Event{created}})
	for range largeItems - 1 {
		next, event := touch(f, "{}")
		event.Payload = large()
		save(t, s, store.Writes{Updated: []store.FlowUpdate{{Flow: next}}, Events: []flows.Event{event}})
		f = next
	}
}

func testLargeEvents(t *testing.T, s store.Store) {
	largeEvents(t, s)
	for what, q := range map[string]store.EventQuery{
		"all": {}, "one flow's": {FlowID: flowID(1), FromFlow: true}, "some": {OwnerSessionKey: "agent:kate", Kinds: []flows.EventKind{flows.EventCreated, flows.EventStateUpdated}},
	} {
		for _, q.Desc = range []bool{false, true} {
			q.Owners, q.Limit, q.After = flows.Everyone, 500, nil
			seen := map[int64]int{}
			wantPages(t, fmt.Sprint(what, ", newest first: ", q.Desc), byLarge(), func() (int, bool, error) {
				page, err := s.Events(t.Context(), q)
				for _, e := range page.Items {
					seen[e.Seq]++
				}
				q.After = page.Next
				return len(page.Items), page.Next != nil, err
			})
			if len(seen) != largeItems {
				t.Errorf("%s, newest first %v: %d events, want %d", what, q.Desc, len(seen), largeItems)
			}
		}
	}
}

func testLargeTail(t *testing.T, s store.Store) {
	largeEvents(t, s)
	after, all := int64(0), 0
	wantPages(t, "the feed", append(byLarge(), 0), func() (int, bool, error) {
		page, err := s.Tail(t.Context(), after, 500)
		if len(page) > 0 {
			after, all = page[len(page)-1].Seq, all+len(page)
		}
		return len(page), len(page) > 0, err
	})
	if all != largeItems {
		t.Errorf("%d events, want %d", all, largeItems)
	}
}

func testLargeSteps(t *testing.T, s store.Store) {
	create(t, s, newFlow(1))
	for n := range largeItems {
		step := newStep(1, n, fmt.Sprint(n))
		step.Result = large()
		save(t, s, store.Writes{Steps: []*flows.Step{step}})
	}
	q := store.StepQuery{Owners: flows.Everyone, FlowID: flowID(1), Limit: 500}
	wantPages(t, "steps", byLarge(), func() (int, bool, error) {
		page, err := s.Steps(t.Context(), q)
		q.From = page.Next
		return len(page.Items), page.Next != nil, err
	})
}

func testLargeReceipts(t *testing.T, s store.Store) {
	for n := range largeItems {
		receipt := newReceipt(n, pair("t", "c"))
		receipt.Payload = large()
		saveReceipts(t, s, receipt)
	}
	q := store.ExternalEventQuery{Owners: flows.Everyone, Limit: 500}
	wantPages(t, "receipts", byLarge(), func() (int, bool, error) {
		page, err := s.ExternalEvents(t.Context(), q)
		q.From = page.Next
		return len(page.Items), page.Next != nil, err
	})
}

func testOverLarge(t *testing.T, s store.Store) {
	for n := range 2 {
		f := newFlow(n)
		f.State = sized(store.PageBytes + 1)
		created := createdEvent(f)
		created.Payload = f.State
		save(t, s, store.Writes{Created: []*flows.Flow{f}, Events: []flows.Event{created}})
	}
	flowsOf := store.FlowQuery{Owners: flows.Everyone, Limit: 500}
	wantPages(t, "flows", []int{1, 1}, func() (int, bool, error) {
		page, err := s.Flows(t.Context(), flowsOf)
		flowsOf.From = page.Next
		return len(page.Items), page.Next != nil, err
	})
	events := store.EventQuery{Owners: flows.Everyone, Limit: 500}
	wantPages(t, "events", []int{1, 1}, func() (int, bool, error) {
		page, err := s.Events(t.Context(), events)
		events.After = page.Next
		return len(page.Items), page.Next != nil, err
	})
}
