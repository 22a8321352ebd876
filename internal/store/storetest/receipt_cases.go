package storetest

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"taskflow/internal/flows"
	"taskflow/internal/store"

	"github.com/google/uuid"
)

func receiptCases() []testCase {
	return []testCase{
		{"Stored", "ExternalEvents are inserted.", testReceiptStored},
		{"Replaced", "ExternalEvents replace the recorded one of the same id.", testReceiptReplaced},
		{"Payloads", "Payload is the sender's JSON; nil where none was given.", testReceiptPayloads},
		{"Unknown", "ExternalEvent reads one receipt, or flows.ErrNotFound.", testReceiptUnknown},
		{"Outcome", "Its Outcome is as of the database's clock.", testReceiptOutcome},
		{"Filters", "ExternalEventQuery selects receipts. A zero field does not narrow.", testReceiptFilters},
		{"Paging", "ExternalEvents reads one page of receipts, newest first. Next is nil only at the end.", testReceiptPaging},
		{"Delivering", "Delivering lists external events that are still being delivered, oldest first, at most limit.",
			testDelivering},
		{"Swept", "SweepExternalEvents deletes at most limit external events that were recorded before the given time and are " +
			"neither delivering nor, by the database's clock, still buffered, and returns how many it deleted.", testReceiptsSwept},
		{"FlowErased", "Erased: with their steps and events.", testReceiptOutlivesFlow},
		{"RolledBack", "An error from fn rolls back.", testReceiptRolledBack},
	}
}

// fullReceipt is a receipt with a value in every field that one can have.
func fullReceipt(n int) flows.ExternalEvent {
	e := newReceipt(n, pair("payment é😀", `order "7"`))
	e.FlowID, e.Payload, e.Actor = pointer(flowID(n)), json.RawMessage(`{"n":1.10,"t":"<&é\u0041"}`), "billing <service>"
	e.Traceparent = tracedBy
	e.ExpiresAt, e.Outcome, e.FlowCount = at(n+3600).Add(time.Microsecond), flows.EventDelivering, 1<<40
	for i := range flows.MaxReceiptFlows {
		e.Flows = append(e.Flows, flows.ResumedFlow{FlowID: flowID(i), Revision: 1<<50 + int64(i)})
	}
	return e
}

func expectReceipt(t *testing.T, s store.Store, want *flows.ExternalEvent) {
	t.Helper()
	got, err := s.ExternalEvent(t.Context(), want.ID, flows.Everyone)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "receipt", receiptText(got), receiptText(want))
}

func testReceiptStored(t *testing.T, s store.Store) {
	full, plain := fullReceipt(1), newReceipt(2, pair("t", "c"))
	empty := flows.ExternalEvent{Owners: flows.Everyone, ID: uuid.MustParse("f47ac10b-58cc-4372-a567-0e02b2c3d479"), Pair: pair("t", "c"), Actor: "a",
		At: at(5), ExpiresAt: at(5), Outcome: flows.EventUnmatched}
	saveReceipts(t, s, full, plain, empty)
	for _, e := range []*flows.ExternalEvent{&full, &plain, &empty} {
		expectReceipt(t, s, e)
	}
	list, err := allReceipts(t.Context(), s, store.ExternalEventQuery{Owners: flows.Everyone, Limit: 10})
	if err != nil {
		t.Fatal(err)
	}
	same(t, "list", receiptsText(list), receiptsText([]*flows.ExternalEvent{&empty, &plain, &full}))
	full.Flows[0].Revision = 0 // what was given away is the caller's
	got, err := s.ExternalEvent(t.Context(), full.ID, flows.Everyone)
	if err != nil || got.Flows[0].Revision == 0 {
		t.Errorf("the store shares its memory: %v", err)
	}
}

func testReceiptReplaced(t *testing.T, s store.Store) {
	e, other := newReceipt(1, pair("t", "c")), newReceipt(2, pair("t", "c"))
	saveReceipts(t, s, e, other)
	e.Outcome, e.FlowCount = flows.EventDelivering, 500
	e.Flows = []flows.ResumedFlow{{FlowID: flowID(1), Revision: 3}}
	next := newReceipt(3, pair("t", "c"))
	saveReceipts(t, s, next, e)
	expectReceipt(t, s, &e)
	expectReceipt(t, s, &other)
	expectReceipt(t, s, &next)
	e.Outcome, e.FlowCount = flows.EventDelivered, 700
	e.Flows = append(e.Flows, flows.ResumedFlow{FlowID: flowID(2), Revision: 9})
	saveReceipts(t, s, e)
	expectReceipt(t, s, &e)
	expectBuffered(t, s, store.Need{Await: []flows.Pair{e.Pair}}, e.Pair, other, next)
}

func testReceiptPayloads(t *testing.T, s store.Store) {
	var list []flows.ExternalEvent
	for n, text := range documents() {
		e := newReceipt(n, pair("t", "c"))
		e.Payload = json.RawMessage(text)
		list = append(list, e)
	}
	none := newReceipt(len(list), pair("t", "c"))
	none.Payload = nil
	big := newReceipt(len(list)+1, pair("t", "c"))
	big.Payload = json.RawMessage(`"` + strings.Repeat("é", 128<<10) + `"`)
	list = append(list, none, big)
	saveReceipts(t, s, list...)
	for i := range list {
		expectReceipt(t, s, &list[i])
	}
	expectBuffered(t, s, store.Need{Await: []flows.Pair{pair("t", "c")}}, pair("t", "c"), list...)
}

func testReceiptUnknown(t *testing.T, s store.Store) {
	saveReceipts(t, s, newReceipt(1, pair("t", "c")))
	for _, id := range []uuid.UUID{stepID(2), uuid.Nil} {
		if e, err := s.ExternalEvent(t.Context(), id, flows.Everyone); !errors.Is(err, flows.ErrNotFound) {
			t.Errorf("ExternalEvent(%s) = %v, %v, want ErrNotFound", id, e, err)
		}
	}
	page, err := s.ExternalEvents(t.Context(), store.ExternalEventQuery{Owners: flows.Everyone, Topic: "nobody's", Limit: 5})
	if err != nil || len(page.Items) != 0 || page.Next != nil {
		t.Errorf("ExternalEvents = %v, %v", page, err)
	}
}

// testReceiptOutcome has events that expire without being written to, one of them while the test runs.
func testReceiptOutcome(t *testing.T, s store.Store) {
	now := load(t, s, store.Need{}).Now
	soon, expired, kept := newReceipt(1, pair("t", "c")), newReceipt(2, pair("t", "c")), newReceipt(3, pair("t", "c"))
	soon.ExpiresAt, expired.ExpiresAt, kept.ExpiresAt = now.Add(15*time.Millisecond), now.Add(-time.Microsecond), now.Add(time.Hour)
	late := newReceipt(4, pair("t", "c")) // what was delivered does not expire
	late.ExpiresAt, late.Outcome = at(5), flows.EventDelivered
	saveReceipts(t, s, soon, expired, kept, late)
	expired.Outcome = flows.EventExpired
	expectReceipt(t, s, &expired)
	expectReceipt(t, s, &kept)
	expectReceipt(t, s, &late)
	for {
		before := load(t, s, store.Need{}).Now
		got, err := s.ExternalEvent(t.Context(), soon.ID, flows.Everyone)
		if err != nil {
			t.Fatal(err)
		}
		after := load(t, s, store.Need{}).Now
		switch {
		case got.Outcome == flows.EventBuffered && before.After(soon.ExpiresAt.Add(trifle)):
			t.Fatalf("it expires at %s, and is still buffered at %s", soon.ExpiresAt, before)
		case got.Outcome == flows.EventExpired && after.Before(soon.ExpiresAt.Add(-trifle)):
			t.Fatalf("it expires at %s, and has expired at %s", soon.ExpiresAt, after)
		case got.Outcome == flows.EventExpired:
			return
		}
	}
}

// receipts are events of three topics and three correlation ids, with every fate, of which two each arrived at once.
func receipts() []flows.ExternalEvent {
	var list []flows.ExternalEvent
	for n := range 36 {
		e := newReceipt(n, pair([]string{"a", "b", "A"}[n%3], []string{"x", "y", "b"}[n/3%3]))
		e.At = at(n / 2)
		e.Outcome = flows.EventOutcomes[n%5]
		if e.Outcome == flows.EventExpired { // as it is written
			e.Outcome, e.ExpiresAt = flows.EventBuffered, at(n/2+1)
		}
		list = append(list, e)
	}
	return list
}

// receiptFilters has every filter alone, and every two of them.
func receiptFilters() []store.ExternalEventQuery {
	alone := []func(*store.ExternalEventQuery){
		func(q *store.ExternalEventQuery) { q.Topic = "a" },
		func(q *store.ExternalEventQuery) { q.Topic = "nobody's" },
		func(q *store.ExternalEventQuery) { q.CorrelationID = "b" },
		func(q *store.ExternalEventQuery) { q.EitherOf = &flows.Pair{Topic: "b", CorrelationID: "x"} },
		func(q *store.ExternalEventQuery) { q.EitherOf = &flows.Pair{Topic: "b", CorrelationID: "nobody's"} },
		func(q *store.ExternalEventQuery) { q.EitherOf = &flows.Pair{Topic: "x", CorrelationID: "b"} },
		func(q *store.ExternalEventQuery) { q.EitherOf = &flows.Pair{Topic: "x", CorrelationID: "a"} },
	}
	for _, outcome := range flows.EventOutcomes {
		alone = append(alone, func(q *store.ExternalEventQuery) { q.Outcome = outcome })
	}
	all := []store.ExternalEventQuery{{}}
	for i, first := range alone {
		for _, second := range alone[i:] {
			var q store.ExternalEventQuery
			first(&q)
			second(&q)
			all = append(all, q)
		}
	}
	return all
}

func receiptQueryText(q store.ExternalEventQuery) string {
	return fmt.Sprintf("topic=%q correlation=%q either=%v outcome=%q limit=%d", q.Topic, q.CorrelationID, q.EitherOf, q.Outcome,
		q.Limit)
}

// expectReceipts is what matches q, by the filters one by one.
func expectReceipts(list []flows.ExternalEvent, q store.ExternalEventQuery) []*flows.ExternalEvent {
	var want []*flows.ExternalEvent
	for _, e := range list {
		if e.ExpiresAt.Before(farAway) {
			e.Outcome = flows.EventExpired
		}
		if q.Topic != "" && e.Pair.Topic != q.Topic || q.CorrelationID != "" && e.Pair.CorrelationID != q.CorrelationID ||
			q.Outcome != "" && e.Outcome != q.Outcome {
			continue
		}
		if o := q.EitherOf; o == nil || e.Pair.Topic == o.Topic || e.Pair.CorrelationID == o.CorrelationID {
			want = append(want, &e)
		}
	}
	slices.SortFunc(want, func(a, b *flows.ExternalEvent) int { return byTime(b.At, a.At, b.ID, a.ID) })
	return want
}

func testReceiptFilters(t *testing.T, s store.Store) {
	list := receipts()
	saveReceipts(t, s, list...)
	found := 0
	for i, q := range receiptFilters() {
		q.Limit = []int{1, 2, 3, 7, 100}[i%5]
		got, err := allReceipts(t.Context(), s, q)
		if err != nil {
			t.Fatalf("%s: %v", receiptQueryText(q), err)
		}
		want := expectReceipts(list, q)
		same(t, receiptQueryText(q), receiptsText(got), receiptsText(want))
		found += len(want)
	}
	if found < 300 {
		t.Errorf("the filters let %d receipts through in all: they test little", found)
	}
}

// testReceiptPaging adds events between pages: those that were there come once each.
func testReceiptPaging(t *testing.T, s store.Store) {
	list := receipts()
	saveReceipts(t, s, list...)
	for round, limit := range []int{1, 2, 5, 36, 100} {
		q := store.ExternalEventQuery{Owners: flows.Everyone, Limit: limit}
		var ids []uuid.UUID
		for pages := 0; ; pages++ {
			page, err := s.ExternalEvents(t.Context(), forEveryone(q))
			if err != nil || len(page.Items) > limit || pages > 100 {
				t.Fatalf("page %d: %d of %d, %v", pages, len(page.Items), limit, err)
			}
			for _, e := range page.Items {
				ids = append(ids, e.ID)
			}
			if page.Next == nil {
				break
			}
			if q.From = page.Next; pages < 3 {
				saveReceipts(t, s, newReceipt(1000+10*round+pages, pair("later", "x"))) // newer than all that were there
			}
		}
		for _, e := range list {
			if n := count(ids, e.ID); n != 1 {
				t.Errorf("limit %d: the event of %s came %d times", limit, e.At, n)
			}
		}
	}
}

func count(ids []uuid.UUID, id uuid.UUID) int {
	n := 0
	for _, other := range ids {
		if other == id {
			n++
		}
	}
	return n
}

func testDelivering(t *testing.T, s store.Store) {
	expect := func(limit int, want ...uuid.UUID) {
		t.Helper()
		got, err := s.Delivering(t.Context(), limit)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("Delivering(%d) = %v, %v; want %v", limit, got, err, want)
		}
	}
	expect(10)
	var list []flows.ExternalEvent
	for i, outcome := range flows.EventOutcomes {
		for n := range 3 {
			e := newReceipt(10*i+n, pair("t", fmt.Sprint(n)))
			e.Outcome, e.At = outcome, at(100-n)
			list = append(list, e)
		}
	}
	saveReceipts(t, s, list...)
	expect(10, stepID(12), stepID(11), stepID(10))
	expect(2, stepID(12), stepID(11))
	done := list[3+2]
	done.Outcome = flows.EventDelivered
	saveReceipts(t, s, done)
	expect(10, stepID(11), stepID(10))
}

func testReceiptsSwept(t *testing.T, s store.Store) {
	var list []flows.ExternalEvent
	now := load(t, s, store.Need{}).Now
	for n := range 12 {
		e := newReceipt(n, pair("t", "c"))
		e.Outcome = []flows.EventOutcome{flows.EventDelivered, flows.EventUnmatched, flows.EventBuffered}[n%3]
		if e.Outcome == flows.EventBuffered {
			e.ExpiresAt = now.Add(-time.Minute)
		}
		list = append(list, e)
	}
	going, kept := newReceipt(1, pair("t", "c")), newReceipt(2, pair("t", "c"))
	going.ID, going.Outcome, kept.ID = stepID(100), flows.EventDelivering, stepID(101)
	saveReceipts(t, s, append(list, going, kept)...)
	sweep := func(before time.Time, limit, want int) {
		t.Helper()
		if n, err := s.SweepExternalEvents(t.Context(), before, limit); n != want || err != nil {
			t.Errorf("SweepExternalEvents(%s, %d) = %d, %v; want %d", before, limit, n, err, want)
		}
	}
	sweep(at(0), 100, 0)
	sweep(at(8), 3, 3)
	sweep(at(8), 100, 5)
	sweep(at(8), 100, 0)
	left, err := allReceipts(t.Context(), s, store.ExternalEventQuery{Owners: flows.Everyone, Limit: 5})
	if err != nil || len(left) != 6 {
		t.Fatalf("%d are left, %v; want 6", len(left), err)
	}
	expectReceipt(t, s, &going)
	expectReceipt(t, s, &kept)
	sweep(farAway, 100, 4)
	expectBuffered(t, s, store.Need{Await: []flows.Pair{kept.Pair}}, kept.Pair, kept)
}

// testReceiptOutlivesFlow erases the flows that an event resumed and was for: the receipt stays.
func testReceiptOutlivesFlow(t *testing.T, s store.Store) {
	f, target := waiting(1, awaited("t", "c")), newFlow(2)
	create(t, s, f, target)
	done, err := post(t.Context(), s, at(10), newReceipt(1, pair("t", "c")))
	if err != nil {
		t.Fatal(err)
	}
	kept := newReceipt(2, pair("t", "c"))
	kept.FlowID = &target.ID
	saveReceipts(t, s, kept)
	save(t, s, store.Writes{Erased: []uuid.UUID{f.ID, target.ID}})
	expectReceipt(t, s, &done)
	expectReceipt(t, s, &kept)
}

func testReceiptRolledBack(t *testing.T, s store.Store) {
	old, fresh := newReceipt(1, pair("t", "c")), newReceipt(2, pair("t", "c"))
	saveReceipts(t, s, old)
	boom := errors.New("boom")
	err := s.Update(t.Context(), func(tx store.Tx) error {
		changed := old
		changed.Outcome = flows.EventDelivered
		w := store.Writes{ExternalEvents: []*flows.ExternalEvent{&changed, &fresh}}
		if _, err := tx.Load(needOf(w)); err != nil {
			return err
		}
		return errors.Join(tx.Save(w), boom)
	})
	if !errors.Is(err, boom) {
		t.Errorf("Update = %v, want %v", err, boom)
	}
	expectReceipt(t, s, &old)
	if _, err := s.ExternalEvent(t.Context(), fresh.ID, flows.Everyone); !errors.Is(err, flows.ErrNotFound) {
		t.Errorf("the new event: %v, want ErrNotFound", err)
	}
}
