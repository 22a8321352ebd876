package storetest

import (
	"fmt"
	"testing"

	"taskflow/internal/flows"
	"taskflow/internal/store"
)

func pageCases() []testCase {
	return []testCase{
		{"Inserts", "A flow that was committed before the first page was read, and does not change, is on exactly one page.",
			testInsertsBetween},
		{"Changes", "A flow that was committed before the first page was read, and does not change, is on exactly one page.",
			testChangesBetween},
		{"Erasures", "Flows reads one page without a repeat or a gap between pages.", testErasuresBetween},
		{"OneTime", "Time and ID place a flow in an order by creation.", testOneCreationTime},
		{"Full", "Limit is the most flows a page may have.", testFullPages},
		{"Examined", "Where a filter is not served by an index the page examines a bounded number of flows, and may be " +
			"short or empty; Next is nil only at the end of the list. So with events.", testExamined},
	}
}

// between reads the flows 0 to 19 page by page, does something after each page, and counts how often each flow came.
func between(t *testing.T, s store.Store, q store.FlowQuery, act func(page int)) map[string]int {
	t.Helper()
	seen := map[string]int{}
	for pages := 0; ; pages++ {
		page, err := s.Flows(t.Context(), forEveryone(q))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range page.Items {
			seen[f.Goal]++
		}
		if page.Next == nil {
			return seen
		}
		if pages < 12 {
			act(pages)
		}
		q.From = page.Next
	}
}

func testInsertsBetween(t *testing.T, s store.Store) {
	next := 0
	for _, order := range orders() {
		q := store.FlowQuery{Owners: flows.Everyone, Order: order, Limit: 3, OwnerSessionKey: fmt.Sprint("agent:", order)}
		insert := func(created int) {
			f := newFlow(next)
			f.OwnerSessionKey, f.Goal, f.CreatedAt = q.OwnerSessionKey, fmt.Sprint("goal ", next), at(created)
			create(t, s, f)
			next++
		}
		first := next
		for n := range 20 {
			insert(n / 3)
		}
		seen := between(t, s, q, func(page int) {
			insert(page % 8)   // among those that are there, before and after the place reached
			insert(-10)        // before all
			insert(100 + page) // after all
		})
		for n := first; n < first+20; n++ {
			if c := seen[fmt.Sprint("goal ", n)]; c != 1 {
				t.Errorf("order %s: flow %d came %d times", order, n-first, c)
			}
		}
		for name, c := range seen {
			if c > 1 {
				t.Errorf("order %s: %s came %d times", order, name, c)
			}
		}
	}
}

func testChangesBetween(t *testing.T, s store.Store) {
	for round, order := range orders() {
		q := store.FlowQuery{Owners: flows.Everyone, Order: order, Limit: 3, OwnerSessionKey: fmt.Sprint("agent:", order)}
		var list []*flows.Flow
		for n := range 20 {
			f := newFlow(round*20 + n)
			f.OwnerSessionKey, f.Goal, f.CreatedAt = q.OwnerSessionKey, fmt.Sprint("goal ", n), at(n/3)
			list = append(list, f)
		}
		create(t, s, list...)
		changed := map[int]bool{}
		seen := between(t, s, q, func(page int) {
			n := page * 5 % 20 // 0, 5, 10 and 15, again and again
			changed[n] = true
			next, event := touch(list[n], fmt.Sprint(page))
			next.UpdatedAt = at(1000 + page)
			list[n] = next
			save(t, s, store.Writes{Updated: []store.FlowUpdate{{Flow: next, State: true}}, Events: []flows.Event{event}})
		})
		for n := range 20 {
			if c := seen[fmt.Sprint("goal ", n)]; c != 1 && (!changed[n] || !order.ByUpdate()) {
				t.Errorf("order %s: flow %d came %d times, changed: %v", order, n, c, changed[n])
			}
		}
	}
}

// testErasuresBetween erases the very flow at which the next page begins.
func testErasuresBetween(t *testing.T, s store.Store) {
	for _, order := range orders() {
		for n := range 9 {
			create(t, s, newFlow(n))
		}
		page, err := s.Flows(t.Context(), store.FlowQuery{Owners: flows.Everyone, Order: order, Limit: 3})
		if err != nil || len(page.Items) != 3 || page.Next == nil {
			t.Fatalf("order %s: %v, %v", order, page, err)
		}
		var gone store.Writes
		for _, f := range page.Items {
			gone.Erased = append(gone.Erased, f.ID)
		}
		save(t, s, gone)
		rest, err := allFlows(t.Context(), s, store.FlowQuery{Owners: flows.Everyone, Order: order, Limit: 3, From: page.Next})
		if err != nil {
			t.Fatal(err)
		}
		want := "goal 3 | goal 4 | goal 5 | goal 6 | goal 7 | goal 8"
		if order.Desc() {
			want = "goal 5 | goal 4 | goal 3 | goal 2 | goal 1 | goal 0"
		}
		same(t, "order "+string(order), goals(rest), want)
		gone.Erased = nil
		for _, f := range rest {
			gone.Erased = append(gone.Erased, f.ID)
		}
		save(t, s, gone)
	}
}

func testOneCreationTime(t *testing.T, s store.Store) {
	fill(t, s, 30, func(_ int, f *flows.Flow) { f.CreatedAt = at(0) })
	for _, order := range []store.FlowOrder{store.CreatedAsc, store.CreatedDesc} {
		for _, limit := range []int{1, 7, 29, 30, 31} {
			list, err := allFlows(t.Context(), s, store.FlowQuery{Owners: flows.Everyone, Order: order, Limit: limit})
			if err != nil || len(list) != 30 {
				t.Fatalf("order %s by %d: %d flows, %v", order, limit, len(list), err)
			}
			for i, f := range list {
				want := flowID(29 - i) // ids fall as numbers rise
				if order.Desc() {
					want = flowID(i)
				}
				if f.ID != want {
					t.Fatalf("order %s by %d: flow %d is %s, want %s", order, limit, i, f.ID, want)
				}
			}
		}
	}
}

// testFullPages asks for what one index serves: every page but the last is full.
func testFullPages(t *testing.T, s store.Store) {
	fill(t, s, 20, func(_ int, f *flows.Flow) { f.Labels = map[string]string{"env": "prod"} })
	for name, q := range map[string]store.FlowQuery{
		"all":        {},
		"owner":      {OwnerSessionKey: "agent:kate"},
		"controller": {ControllerID: "kate/inbox"},
		"label":      {Labels: []store.Label{{Key: "env", Value: "prod"}}},
		"status":     {Statuses: []flows.Status{flows.Created}},
		"bounded":    {CreatedAfter: pointer(at(-1)), CreatedBefore: pointer(at(30))},
	} {
		for _, q.Order = range []store.FlowOrder{store.CreatedAsc, store.CreatedDesc} {
			for _, q.Limit = range []int{6, 20, 21} {
				q.From = nil
				for left := 20; left > 0; left -= q.Limit {
					page, err := s.Flows(t.Context(), forEveryone(q))
					if err != nil || len(page.Items) != min(q.Limit, left) || left > q.Limit && page.Next == nil ||
						left < q.Limit && page.Next != nil {
						t.Fatalf("%s by %d, %d left: a page of %d, Next %v, %v", name, q.Limit, left, len(page.Items),
							page.Next, err)
					}
					q.From = page.Next
				}
			}
		}
	}
}

// testExamined hides two flows among more than a page examines, one near either end, and looks for them by filters that
// are served from each of the indexes.
func testExamined(t *testing.T, s store.Store) {
	const n, low, high = store.Examined + 200, 30, store.Examined + 150
	fill(t, s, n, func(i int, f *flows.Flow) {
		f.Labels = map[string]string{"env": "prod"}
		if i == low || i == high {
			f.Goal, f.Mode, f.OwnerSessionKey = "needle", flows.Mirrored, "agent:rare"
			f.Labels["rare"] = "yes"
		}
	})
	for _, q := range []store.FlowQuery{
		{Order: store.CreatedAsc, GoalContains: "needle"},
		{Order: store.CreatedDesc, GoalContains: "needle", CancelRequested: pointer(false)},
		{Order: store.CreatedAsc, ControllerID: "kate/inbox", Mode: flows.Mirrored},
		{Order: store.CreatedDesc, Statuses: []flows.Status{flows.Created}, Mode: flows.Mirrored},
		{Order: store.CreatedDesc, Labels: []store.Label{{Key: "env", Value: "prod"}}, Mode: flows.Mirrored},
		{Order: store.UpdatedAsc, OwnerSessionKey: "agent:rare"},
		{Order: store.UpdatedDesc, Labels: []store.Label{{Key: "rare", Value: "yes"}}},
	} {
		q.WithoutState, q.Limit = true, 5
		list, err := allFlows(t.Context(), s, q)
		if err != nil || goals(list) != "needle | needle" {
			t.Errorf("%s: %s, %v; want both needles", queryText(q), goals(list), err)
		}
		page, err := s.Flows(t.Context(), forEveryone(q))
		if err != nil || len(page.Items) != 1 || page.Next == nil {
			t.Errorf("%s: a first page of %d, Next %v, %v; want one needle and more to come", queryText(q),
				len(page.Items), page.Next, err)
		}
	}
	testEventsExamined(t, s)
}

func testEventsExamined(t *testing.T, s store.Store) {
	for _, q := range []store.EventQuery{
		{OwnerSessionKey: "agent:rare"},
		{Kinds: []flows.EventKind{flows.EventCreated}, Mode: flows.Mirrored, Desc: true},
	} {
		q.Limit = 10
		list, err := allEvents(t.Context(), s, q)
		if err != nil || len(list) != 2 {
			t.Errorf("%+v: %d events, %v; want 2", q, len(list), err)
		}
	}
}
