package sqlite_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"taskflow/internal/flows"
	"taskflow/internal/sqlite"
	"taskflow/internal/sqlite/sqlitetest"
	"taskflow/internal/store"

	"github.com/google/uuid"
	sqlite3 "modernc.org/sqlite/lib"
)

func TestReceiptComesBackWhole(t *testing.T) {
	s := open(t)
	e := anEvent(1, flows.Pair{Topic: "pay", CorrelationID: "é\"'7"}, flows.EventDelivering)
	flow := aFlow(1).ID
	e.FlowID, e.FlowCount = &flow, 1<<40
	for n := range flows.MaxReceiptFlows {
		e.Flows = append(e.Flows, flows.ResumedFlow{FlowID: aFlow(n).ID, Revision: int64(n) << 40})
	}
	bare := anEvent(2, flows.Pair{Topic: "t", CorrelationID: "c"}, flows.EventUnmatched)
	bare.Payload = nil
	mustSave(t, s, store.Writes{ExternalEvents: []*flows.ExternalEvent{e, bare}})
	for _, want := range []*flows.ExternalEvent{e, bare} {
		read, err := s.ExternalEvent(t.Context(), want.ID, flows.Everyone)
		if err != nil {
			t.Fatal(err)
		}
		loaded := load(t, s, store.Need{Events: []uuid.UUID{want.ID, want.ID, uuid.New()}}).Events
		for _, got := range []*flows.ExternalEvent{read, loaded[want.ID]} {
			if text(got) != text(want) || len(loaded) != 1 {
				t.Errorf("read %s\nwant %s", text(got), text(want))
			}
		}
	}
	e.Outcome, e.Flows, e.Payload, e.FlowID = flows.EventDelivered, e.Flows[:1], nil, nil
	mustSave(t, s, store.Writes{ExternalEvents: []*flows.ExternalEvent{e}})
	if got, err := s.ExternalEvent(t.Context(), e.ID, flows.Everyone); err != nil || text(got) != text(e) {
		t.Errorf("replaced, it reads %s, %v\nwant %s", text(got), err, text(e))
	}
	if _, err := s.ExternalEvent(t.Context(), uuid.New(), flows.Everyone); !errors.Is(err, flows.ErrNotFound) {
		t.Errorf("an unknown event: %v", err)
	}
}

func text(e *flows.ExternalEvent) string {
	flow := "-"
	if e.FlowID != nil {
		flow = e.FlowID.String()
	}
	return fmt.Sprintf("%s %q %s %s payload=%s nil=%v %s %v %v %s %v", e.ID, e.Pair, flow, e.Actor, e.Payload, e.Payload == nil,
		e.Outcome, e.At, e.ExpiresAt, fmt.Sprint(e.Flows), e.FlowCount)
}

func TestBufferedIsExpiredByTheClock(t *testing.T) {
	now := testEpoch
	s := atTime(t, &now)
	e := anEvent(0, flows.Pair{Topic: "pay", CorrelationID: "7"}, flows.EventBuffered)
	e.ExpiresAt = testEpoch.Add(time.Minute)
	mustSave(t, s, store.Writes{ExternalEvents: []*flows.ExternalEvent{e}})
	for _, c := range []struct {
		before time.Duration
		want   flows.EventOutcome
	}{{time.Minute, flows.EventBuffered}, {time.Microsecond, flows.EventBuffered}, {0, flows.EventExpired},
		{-time.Hour, flows.EventExpired}} {
		now = e.ExpiresAt.Add(-c.before)
		if got, err := s.ExternalEvent(t.Context(), e.ID, flows.Everyone); err != nil || got.Outcome != c.want {
			t.Errorf("%v before: %s, %v; want %s", c.before, got.Outcome, err, c.want)
		}
		for _, outcome := range flows.EventOutcomes {
			page, err := s.ExternalEvents(t.Context(), store.ExternalEventQuery{Owners: flows.Everyone, Outcome: outcome, Limit: 5})
			if err != nil || len(page.Items) > 1 || (len(page.Items) == 1) != (outcome == c.want) {
				t.Errorf("%v before: %d events are %s, %v", c.before, len(page.Items), outcome, err)
			}
			for _, got := range page.Items {
				if got.Outcome != c.want {
					t.Errorf("%v before: listed as %s", c.before, got.Outcome)
				}
			}
		}
		kept := load(t, s, store.Need{Await: []flows.Pair{e.Pair}}).Buffered[e.Pair]
		if (len(kept) == 1) != (c.want == flows.EventBuffered) {
			t.Errorf("%v before: %d events are kept", c.before, len(kept))
		}
	}
}

// TestReceiptsAreListedOnce compares every filter with the plain list, on pages of every size.
func TestReceiptsAreListedOnce(t *testing.T) {
	s := open(t)
	var all []*flows.ExternalEvent
	for n := range 60 {
		pair := flows.Pair{Topic: "t" + fmt.Sprint(n%3), CorrelationID: "c" + fmt.Sprint(n%4)}
		e := anEvent(n, pair, flows.EventOutcomes[n%2])
		e.At = testEpoch.Add(time.Duration(n/5) * time.Second) // ties
		all = append(all, e)
	}
	mustSave(t, s, store.Writes{ExternalEvents: all})
	slices.SortFunc(all, func(a, b *flows.ExternalEvent) int {
		if c := b.At.Compare(a.At); c != 0 {
			return c
		}
		return strings.Compare(b.ID.String(), a.ID.String())
	})
	for _, topic := range []string{"", "t1", "no"} {
		for _, correlation := range []string{"", "c2"} {
			for _, either := range []*flows.Pair{nil, {Topic: "t0", CorrelationID: "c2"}, {Topic: "t0", CorrelationID: "no"}} {
				for _, outcome := range []flows.EventOutcome{"", flows.EventDelivered} {
					for _, limit := range []int{1, 2, 7, 100} {
						checkReceipts(t, s, store.ExternalEventQuery{Owners: flows.Everyone, Topic: topic, CorrelationID: correlation, EitherOf: either,
							Outcome: outcome, Limit: limit}, all)
					}
				}
			}
		}
	}
}

func checkReceipts(t *testing.T, s *sqlite.Store, q store.ExternalEventQuery, all []*flows.ExternalEvent) {
	t.Helper()
	var want, got []uuid.UUID
	for _, e := range all {
		if (q.Topic == "" || q.Topic == e.Pair.Topic) && (q.CorrelationID == "" || q.CorrelationID == e.Pair.CorrelationID) &&
			(q.EitherOf == nil || q.EitherOf.Topic == e.Pair.Topic || q.EitherOf.CorrelationID == e.Pair.CorrelationID) &&
			(q.Outcome == "" || q.Outcome == e.Outcome) {
			want = append(want, e.ID)
		}
	}
	for page := 0; page <= len(all); page++ {
		list, err := s.ExternalEvents(t.Context(), q)
		if err != nil || len(list.Items) > q.Limit {
			t.Fatalf("%+v: %d events, %v", q, len(list.Items), err)
		}
		for _, e := range list.Items {
			got = append(got, e.ID)
		}
		if q.From = list.Next; q.From == nil {
			break
		}
	}
	if q.From != nil || !slices.Equal(got, want) {
		t.Errorf("%+v (either %+v): %d events, %v\nwant %d, %v", q, q.EitherOf, len(got), got, len(want), want)
	}
}

func TestWorkOfAPageOfReceiptsIsBounded(t *testing.T) {
	s := open(t)
	pair := flows.Pair{Topic: "t", CorrelationID: "c"}
	var w store.Writes
	for n := range store.Examined + 100 {
		e := anEvent(n, pair, flows.EventUnmatched)
		if n == 0 {
			e.Outcome = flows.EventDelivered
		}
		w.ExternalEvents = append(w.ExternalEvents, e)
	}
	mustSave(t, s, w)
	for _, q := range []store.ExternalEventQuery{{}, {Topic: "t"}, {CorrelationID: "c"}, {Topic: "t", CorrelationID: "c"},
		{EitherOf: &pair}} {
		q.Owners, q.Outcome, q.Limit = flows.Everyone, flows.EventDelivered, 5
		first, err := s.ExternalEvents(t.Context(), q)
		if err != nil || len(first.Items) != 0 || first.Next == nil {
			t.Errorf("%+v: the first page has %d events and goes on at %v, %v; want none, and a place", q, len(first.Items),
				first.Next, err)
		}
		found := 0
		for q.From = first.Next; q.From != nil; {
			page, err := s.ExternalEvents(t.Context(), q)
			if err != nil {
				t.Fatal(err)
			}
			found += len(page.Items)
			q.From = page.Next
		}
		if found != 1 {
			t.Errorf("%+v: %d events in all, want the oldest", q, found)
		}
	}
}

func TestSweepKeepsWhatIsStillToBeDelivered(t *testing.T) {
	now := *at(time.Hour)
	s := atTime(t, &now)
	pair := flows.Pair{Topic: "t", CorrelationID: "c"}
	var w store.Writes
	for n, outcome := range []flows.EventOutcome{flows.EventDelivered, flows.EventDelivering, flows.EventBuffered, flows.EventBuffered,
		flows.EventUnmatched, flows.EventUnmatched} {
		w.ExternalEvents = append(w.ExternalEvents, anEvent(n, pair, outcome))
	}
	w.ExternalEvents[2].ExpiresAt = now.Add(time.Microsecond)
	w.ExternalEvents[3].ExpiresAt = now
	mustSave(t, s, w)
	left := func() string {
		var ids []string
		for n := range 6 {
			if _, err := s.ExternalEvent(t.Context(), anEvent(n, pair, "").ID, flows.Everyone); err == nil {
				ids = append(ids, fmt.Sprint(n))
			}
		}
		return strings.Join(ids, "")
	}
	for _, c := range []struct {
		before      time.Time
		limit, want int
		left        string
	}{{*at(0), 10, 0, "012345"}, {*at(5 * time.Second), 2, 2, "1245"}, {*at(5 * time.Second), 2, 1, "125"},
		{*at(5 * time.Second), 2, 0, "125"}, {now, 10, 1, "12"}} {
		if got, err := s.SweepExternalEvents(t.Context(), c.before, c.limit); got != c.want || err != nil || left() != c.left {
			t.Errorf("swept %d before %v, %v, and left %s; want %d and %s", got, c.before, err, left(), c.want, c.left)
		}
	}
	if ids, err := s.Delivering(t.Context(), 5); err != nil || !slices.Equal(ids, []uuid.UUID{anEvent(1, pair, "").ID}) {
		t.Errorf("delivering: %v, %v", ids, err)
	}
}

func TestOnlyOneFirstCallbackKey(t *testing.T) {
	path := sqlitetest.File(t)
	stores := []*sqlite.Store{openAs(t, path, sqlite.Options{}), openAs(t, path, sqlite.Options{})}
	key := func(n int) store.CallbackKey {
		return store.CallbackKey{ID: fmt.Sprintf("key-%04d", n), Secret: []byte{0, byte(n), 255},
			CreatedAt: testEpoch.Add(-time.Duration(n) * time.Second)}
	}
	var all sync.WaitGroup
	for n := range 20 {
		all.Go(func() {
			if err := stores[n%2].AddCallbackKey(t.Context(), key(n), true); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	s := stores[0]
	keys, err := s.CallbackKeys(t.Context())
	if err != nil || len(keys) != 1 {
		t.Fatalf("%d keys, %v; want one", len(keys), err)
	}
	if err := s.AddCallbackKey(t.Context(), key(90), false); err != nil { // older than the first
		t.Fatal(err)
	}
	if err := s.AddCallbackKey(t.Context(), key(90), false); err == nil {
		t.Error("a key whose id is taken was accepted")
	}
	keys, err = s.CallbackKeys(t.Context())
	if err != nil || len(keys) != 2 || fmt.Sprint(keys[0]) != fmt.Sprint(key(90)) {
		t.Errorf("keys %v, %v; want the older first", keys, err)
	}
	lost := func(context.Context, func(context.Context) error) error { return resultCode(sqlite3.SQLITE_IOERR) }
	s.NextCommit(lost)
	if err := s.AddCallbackKey(t.Context(), key(91), false); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("a commit that was lost: %v, want ErrUnavailable", err)
	}
}

func TestPlanOfReceipts(t *testing.T) {
	s := open(t)
	from := &store.EventPosition{At: testEpoch, ID: uuid.New()}
	const page = "(at,id)<(?,?)"
	for _, c := range []struct {
		query       store.ExternalEventQuery
		first, next string
	}{
		{store.ExternalEventQuery{Owners: flows.Everyone}, "SCAN e USING COVERING INDEX external_events_at",
			"SEARCH e USING COVERING INDEX external_events_at (" + page},
		{store.ExternalEventQuery{Owners: flows.Everyone, Topic: "t"}, "SEARCH e USING COVERING INDEX external_events_topic (topic=?)",
			"SEARCH e USING COVERING INDEX external_events_topic (topic=? AND " + page},
		{store.ExternalEventQuery{Owners: flows.Everyone, CorrelationID: "c"}, "SEARCH e USING COVERING INDEX external_events_correlation (correlation_id=?)",
			"SEARCH e USING COVERING INDEX external_events_correlation (correlation_id=? AND " + page},
	} {
		for _, outcome := range []flows.EventOutcome{"", flows.EventBuffered, flows.EventExpired, flows.EventDelivered} {
			q := c.query
			q.Outcome, q.Limit = outcome, 50
			check := func(want string) {
				t.Helper()
				query, args := sqlite.ExternalKeys(q)
				plan := explain(t, s, query, args...)
				if q.Outcome != "" || want != c.first && want != c.next {
					plan[0], want = strings.Replace(plan[0], "COVERING ", "", 1), strings.Replace(want, "COVERING ", "", 1)
				}
				checkPlan(t, plan, want)
			}
			check(c.first)
			q.From = from
			check(c.next)
		}
	}
}

func TestPlanOfReceiptsThatNearlyMatch(t *testing.T) {
	s := open(t)
	for _, q := range []store.ExternalEventQuery{
		{EitherOf: &flows.Pair{Topic: "t", CorrelationID: "c"}, Limit: 5},
		{EitherOf: &flows.Pair{Topic: "t", CorrelationID: "c"}, Limit: 5, Outcome: flows.EventExpired,
			From: &store.EventPosition{At: testEpoch, ID: uuid.New()}},
	} {
		query, args := sqlite.ExternalKeys(q)
		plan := explain(t, s, query, args...)
		checkPlan(t, plan, "MERGE (UNION ALL)")
		want := []string{"", "LEFT", "SEARCH e USING INDEX external_events_topic (topic=?", "RIGHT",
			"SEARCH e USING INDEX external_events_correlation (correlation_id=?"}
		for i := range want {
			if len(plan) != len(want) || !strings.HasPrefix(plan[i], want[i]) {
				t.Errorf("the plan is %q, want %q", plan, want)
				break
			}
			if q.From != nil && want[i] != "" && strings.HasPrefix(plan[i], "SEARCH") && !strings.Contains(plan[i], "(at,id)<(?,?)") {
				t.Errorf("%q is not bounded by the place of the page", plan[i])
			}
		}
	}
}
