package storetest

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"taskflow/internal/flows"
	"taskflow/internal/store"

	"github.com/google/uuid"
)

func eventCases() []testCase {
	return []testCase{
		{"FromFlow", "Events: flows.ErrNotFound where q names a flow that does not exist and is FromFlow.", testFromFlow},
		{"Filters", "EventQuery selects audit events. A zero field does not narrow.", testEventFilters},
		{"Paging", "Events reads one page of the audit trail in the order of Seq.", testEventPaging},
		{"Tail", "Tail reads on in the feed, at most limit, each with what its flow is filtered by.", testTail},
		{"TailFilters", "Matches reports whether an event passes every filter of q.", testTailFilters},
		{"TailOfErased", "Events of a flow that was erased are gone.", testTailOfErased},
		{"After", "After is the Seq of the last event already seen, in the order of the list.", testEventsAfter},
	}
}

func testFromFlow(t *testing.T, s store.Store) {
	create(t, s, newFlow(1))
	for _, desc := range []bool{false, true} {
		_, err := s.Events(t.Context(), store.EventQuery{Owners: flows.Everyone, FlowID: flowID(2), FromFlow: true, Limit: 1, Desc: desc})
		if !errors.Is(err, flows.ErrNotFound) {
			t.Errorf("Events of an unknown flow: %v, want ErrNotFound", err)
		}
		page, err := s.Events(t.Context(), store.EventQuery{Owners: flows.Everyone, FlowID: flowID(2), Limit: 1, Desc: desc})
		if err != nil || len(page.Items) != 0 || page.Next != nil {
			t.Errorf("Events narrowed to an unknown flow: %v, %v; want an empty page", page, err)
		}
	}
	after := int64(1 << 40)
	page, err := s.Events(t.Context(), store.EventQuery{Owners: flows.Everyone, FlowID: flowID(1), FromFlow: true, Limit: 1, After: &after})
	if err != nil || len(page.Items) != 0 {
		t.Errorf("Events after the end: %v, %v; want an empty page", page, err)
	}
}

// eventFilters has every filter alone, in pairs, and some that match nothing.
func eventFilters() []store.EventQuery {
	alone := []func(*store.EventQuery){
		func(q *store.EventQuery) { q.FlowID = flowID(3) },
		func(q *store.EventQuery) { q.FlowID, q.FromFlow = flowID(7), true },
		func(q *store.EventQuery) { q.OwnerSessionKey = "agent:a" },
		func(q *store.EventQuery) { q.ControllerID = "c2" },
		func(q *store.EventQuery) { q.Mode = flows.Mirrored },
		func(q *store.EventQuery) { q.Kinds = []flows.EventKind{flows.EventStarted} },
		func(q *store.EventQuery) {
			q.Kinds = []flows.EventKind{flows.EventCancelled, flows.EventStepObserved, flows.EventCancelled}
		},
		func(q *store.EventQuery) { q.OwnerSessionKey = "agent:unknown" },
		func(q *store.EventQuery) { q.FlowID = flowID(99) },
	}
	all := []store.EventQuery{{}}
	for i, first := range alone {
		for _, second := range alone[i:] {
			var q store.EventQuery
			first(&q)
			second(&q)
			all = append(all, q)
		}
	}
	return all
}

// testEventFilters compares with what each filter leaves of the whole list.
func testEventFilters(t *testing.T, s store.Store) {
	population(t, s)
	everything, err := allEvents(t.Context(), s, store.EventQuery{Owners: flows.Everyone, Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range eventFilters() {
		var want []flows.Event
		for _, e := range everything {
			f := readFlow(t, s, e.FlowID)
			if q.FlowID != [16]byte{} && q.FlowID != e.FlowID || q.OwnerSessionKey != "" && q.OwnerSessionKey != f.OwnerSessionKey ||
				q.ControllerID != "" && q.ControllerID != f.ControllerID || q.Mode != "" && q.Mode != f.Mode ||
				len(q.Kinds) > 0 && !slices.Contains(q.Kinds, e.Kind) {
				continue
			}
			want = append(want, e)
		}
		for _, q.Desc = range []bool{false, true} {
			for _, q.Limit = range []int{3, 100} {
				got, err := allEvents(t.Context(), s, q)
				if q.FromFlow && q.FlowID == flowID(99) {
					if !errors.Is(err, flows.ErrNotFound) {
						t.Errorf("%+v: %v, want ErrNotFound", q, err)
					}
					continue
				}
				if err != nil {
					t.Fatalf("%+v: %v", q, err)
				}
				same(t, fmt.Sprintf("%+v", q), eventsText(got), eventsText(want))
			}
			slices.Reverse(want)
		}
	}
}

func testEventPaging(t *testing.T, s store.Store) {
	population(t, s)
	want, err := allEvents(t.Context(), s, store.EventQuery{Owners: flows.Everyone, Limit: 1000})
	if err != nil || len(want) < 20 {
		t.Fatalf("%d events, %v", len(want), err)
	}
	for _, desc := range []bool{false, true} {
		for _, limit := range []int{1, 2, 3, 7, len(want) - 1, len(want), len(want) + 1} {
			got, err := allEvents(t.Context(), s, store.EventQuery{Owners: flows.Everyone, Limit: limit, Desc: desc})
			if err != nil {
				t.Fatal(err)
			}
			same(t, fmt.Sprintf("by %d, desc %v", limit, desc), seqs(got), seqs(want))
			page, err := s.Events(t.Context(), store.EventQuery{Owners: flows.Everyone, Limit: limit, Desc: desc})
			if err != nil || len(page.Items) != min(limit, len(want)) || limit < len(want) && page.Next == nil ||
				limit > len(want) && page.Next != nil {
				t.Errorf("by %d, desc %v: the first page has %d, Next %v, %v", limit, desc, len(page.Items), page.Next, err)
			}
		}
		slices.Reverse(want)
	}
}

func seqs(list []flows.Event) string {
	return lines(list, func(e flows.Event) string { return fmt.Sprint(e.Seq, " ", eventText(e)) })
}

func testEventsAfter(t *testing.T, s store.Store) {
	population(t, s)
	all, err := allEvents(t.Context(), s, store.EventQuery{Owners: flows.Everyone, Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	middle := len(all) / 2
	newer, err := allEvents(t.Context(), s, store.EventQuery{Owners: flows.Everyone, Limit: 5, After: &all[middle].Seq})
	if err != nil {
		t.Fatal(err)
	}
	same(t, "after", seqs(newer), seqs(all[middle+1:]))
	older, err := allEvents(t.Context(), s, store.EventQuery{Owners: flows.Everyone, Limit: 5, After: &all[middle].Seq, Desc: true})
	if err != nil {
		t.Fatal(err)
	}
	slices.Reverse(older)
	same(t, "after, newest first", seqs(older), seqs(all[:middle]))

	last := all[len(all)-1].Seq // and what is committed later comes after the end
	create(t, s, newFlow(50))
	newest, err := allEvents(t.Context(), s, store.EventQuery{Owners: flows.Everyone, Limit: 5, After: &last})
	if err != nil {
		t.Fatal(err)
	}
	same(t, "committed later", eventsText(newest), eventsText([]flows.Event{createdEvent(newFlow(50))}))
}

// tail reads the whole feed by pages of limit.
func tail(t *testing.T, s store.Store, limit int) (all []store.FeedEvent) {
	t.Helper()
	for after := int64(0); ; {
		page, err := s.Tail(t.Context(), after, limit)
		if err != nil || len(page) > limit {
			t.Fatalf("Tail(%d, %d): %d events, %v", after, limit, len(page), err)
		}
		if len(page) == 0 {
			return all
		}
		all, after = append(all, page...), page[len(page)-1].Seq
	}
}

// unfed are events without what their flows are filtered by.
func unfed(list []store.FeedEvent) (events []flows.Event) {
	for _, e := range list {
		events = append(events, e.Event)
	}
	return events
}

func testTail(t *testing.T, s store.Store) {
	if got := tail(t, s, 10); len(got) != 0 {
		t.Errorf("the feed of an empty store has %d events", len(got))
	}
	population(t, s)
	want, err := allEvents(t.Context(), s, store.EventQuery{Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	for _, limit := range []int{1, 7, len(want), 1000} {
		same(t, fmt.Sprintf("by %d", limit), seqs(unfed(tail(t, s, limit))), seqs(want))
	}
	for _, e := range tail(t, s, 100) {
		f := readFlow(t, s, e.FlowID)
		if e.OwnerSessionKey != f.OwnerSessionKey || e.ControllerID != f.ControllerID || e.Mode != f.Mode {
			t.Errorf("event %d is fed as of %q, %q, %q; its flow is of %q, %q, %q",
				e.Seq, e.OwnerSessionKey, e.ControllerID, e.Mode, f.OwnerSessionKey, f.ControllerID, f.Mode)
		}
	}
}

// testTailFilters compares what passes the filters in memory with what the database finds.
func testTailFilters(t *testing.T, s store.Store) {
	population(t, s)
	everything := tail(t, s, 1000)
	for _, q := range eventFilters() {
		var got []flows.Event
		q = forEveryone(q)
		for _, e := range everything {
			if q.Matches(&e) {
				got = append(got, e.Event)
			}
		}
		q.FromFlow, q.Limit = false, 1000
		want, err := allEvents(t.Context(), s, q)
		if err != nil {
			t.Fatal(err)
		}
		same(t, fmt.Sprintf("%+v", q), seqs(got), seqs(want))
	}
	nobody := store.EventQuery{Owners: flows.Everyone, FromFlow: true} // the zero UUID is an id like any other
	for _, e := range everything {
		if nobody.Matches(&e) {
			t.Errorf("event %d passes as one of the flow with the zero UUID", e.Seq)
		}
	}
}

func testTailOfErased(t *testing.T, s store.Store) {
	create(t, s, newFlow(1), newFlow(2), newFlow(3))
	before := tail(t, s, 10)
	save(t, s, store.Writes{Erased: []uuid.UUID{flowID(2)}})
	same(t, "what is left", seqs(unfed(tail(t, s, 10))), seqs(unfed([]store.FeedEvent{before[0], before[2]})))
	save(t, s, store.Writes{Created: []*flows.Flow{newFlow(2)}, Events: []flows.Event{createdEvent(newFlow(2))}})
	page, err := s.Tail(t.Context(), before[2].Seq, 10)
	if err != nil || len(page) != 1 || page[0].FlowID != flowID(2) {
		t.Errorf("the second life of an id: %v, %v; want one event", page, err)
	}
}
