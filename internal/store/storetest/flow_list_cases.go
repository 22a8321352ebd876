package storetest

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"taskflow/internal/flows"
	"taskflow/internal/store"
)

func flowListCases() []testCase {
	return []testCase{
		{"Empty", "Next is nil only at the end of the list.", testEmptyList},
		{"Filters", "FlowQuery selects flows. A zero field does not narrow.", testFilters},
		{"Combined", "FlowQuery selects flows; statuses: any of them; labels: all of them.", testCombined},
		{"Orders", "UpdatedAsc and UpdatedDesc go by the commit order of each flow's last change.", testOrders},
		{"DefaultOrder", `"" is CreatedDesc.`, testDefaultOrder},
		{"OrderByCommit", "UpdatedAsc goes by the commit order of each flow's last change, which is the order of updated_at " +
			"but for changes that were committed at once.", testOrderByCommit},
		{"WithoutState", "WithoutState leaves State nil.", testWithoutState},
		{"Items", "Flows reads one page of the flows that match q.", testItems},
	}
}

// expectFlows lists what matches q, oldest first, by goals.
func expectFlows(t *testing.T, s store.Store, q store.FlowQuery, want string) {
	t.Helper()
	q.Order, q.Limit = store.CreatedAsc, 2
	list, err := allFlows(t.Context(), s, q)
	if err != nil {
		t.Errorf("%s: %v", queryText(q), err)
	}
	same(t, queryText(q), goals(list), want)
}

// queryText writes the fields of a query that are set.
func queryText(q store.FlowQuery) string {
	text := fmt.Sprintf("owner=%q controller=%q mode=%q status=%v labels=%v wait=%q goal=%q order=%q limit=%d state=%v",
		q.OwnerSessionKey, q.ControllerID, q.Mode, q.Statuses, q.Labels, q.WaitKind, q.GoalContains, q.Order, q.Limit,
		!q.WithoutState)
	if q.CancelRequested != nil {
		text += fmt.Sprint(" cancel=", *q.CancelRequested)
	}
	for name, bound := range map[string]*time.Time{"created>": q.CreatedAfter, "created<": q.CreatedBefore,
		"updated>": q.UpdatedAfter, "updated<": q.UpdatedBefore} {
		if bound != nil {
			text += fmt.Sprint(" ", name, bound.Sub(epoch))
		}
	}
	return text
}

func testEmptyList(t *testing.T, s store.Store) {
	for _, q := range []store.FlowQuery{{}, {Order: store.UpdatedAsc}, {GoalContains: "x"}, {OwnerSessionKey: "o"}} {
		q.Limit = 5
		page, err := s.Flows(t.Context(), forEveryone(q))
		if err != nil || len(page.Items) != 0 || page.Next != nil {
			t.Errorf("%s: %v, %v", queryText(q), page, err)
		}
	}
	page, err := s.Events(t.Context(), store.EventQuery{Owners: flows.Everyone, Limit: 5})
	if err != nil || len(page.Items) != 0 || page.Next != nil {
		t.Errorf("Events: %v, %v", page, err)
	}
}

// filter is one filter and the letters of the members that pass it, oldest first.
type filter struct {
	set  func(*store.FlowQuery)
	want string
}

func labelled(pairs ...string) func(*store.FlowQuery) {
	return func(q *store.FlowQuery) {
		for i := 0; i < len(pairs); i += 2 {
			q.Labels = append(q.Labels, store.Label{Key: pairs[i], Value: pairs[i+1]})
		}
	}
}

func statuses(list ...flows.Status) func(*store.FlowQuery) {
	return func(q *store.FlowQuery) { q.Statuses = list }
}

func goal(text string) func(*store.FlowQuery) {
	return func(q *store.FlowQuery) { q.GoalContains = text }
}

// filters is every filter alone. Ties are a, b, c at 0 s, f, g at 3 s and j, k at 6 s, the greater letter first.
func filters() []filter {
	return []filter{
		{func(*store.FlowQuery) {}, "cbadegfhikjl"},
		{func(q *store.FlowQuery) { q.OwnerSessionKey = "agent:a" }, "cbah"},
		{func(q *store.FlowQuery) { q.OwnerSessionKey = "agent:" }, ""},
		{func(q *store.FlowQuery) { q.ControllerID = "c1" }, "baei"},
		{func(q *store.FlowQuery) { q.ControllerID = "C1" }, "f"},
		{func(q *store.FlowQuery) { q.Mode = flows.Mirrored }, "dg"},
		{func(q *store.FlowQuery) { q.Mode = flows.Managed }, "cbaefhikjl"},
		{statuses(flows.Created), "aj"},
		{statuses(flows.Running), "bdh"},
		{statuses(flows.Cancelled), "gk"},
		{statuses(flows.Waiting), "cil"},
		{statuses(flows.Finished, flows.Failed), "ef"},
		{statuses(flows.Running, flows.Created, flows.Running), "badhj"},
		{statuses(flows.Statuses...), "cbadegfhikjl"},
		{labelled("env", "prod"), "bafhj"},
		{labelled("env", ""), "i"},
		{labelled("env", "prod", "team", "x"), "b"},
		{labelled("team", "x", "env", "prod", "team", "x"), "b"},
		{labelled("env", "prod", "env", "dev"), ""},
		{labelled("team", "prod"), ""},
		{labelled("ENV", "prod"), ""},
		{func(q *store.FlowQuery) { q.WaitKind = flows.WaitManual }, "c"},
		{func(q *store.FlowQuery) { q.WaitKind = flows.WaitTimer }, "i"},
		{func(q *store.FlowQuery) { q.WaitKind = flows.WaitAnyOf }, "l"},
		{func(q *store.FlowQuery) { q.WaitKind = flows.WaitExternalEvent }, ""},
		{func(q *store.FlowQuery) { q.WaitKind = "no such kind" }, ""},
		{func(q *store.FlowQuery) { q.CancelRequested = pointer(true) }, "hk"},
		{func(q *store.FlowQuery) { q.CancelRequested = pointer(false) }, "cbadegfijl"},
		{func(q *store.FlowQuery) { q.CreatedAfter = pointer(at(3)) }, "hikjl"},
		{func(q *store.FlowQuery) { q.CreatedBefore = pointer(at(3)) }, "cbade"},
		{func(q *store.FlowQuery) { q.CreatedAfter = pointer(at(3).Add(-time.Microsecond)) }, "gfhikjl"},
		{func(q *store.FlowQuery) { q.CreatedBefore = pointer(at(3).Add(time.Microsecond)) }, "cbadegf"},
		{func(q *store.FlowQuery) { q.CreatedAfter, q.CreatedBefore = pointer(at(1)), pointer(at(4)) }, "egf"},
		{func(q *store.FlowQuery) { q.UpdatedAfter = pointer(at(102)) }, "egfhikl"},
		{func(q *store.FlowQuery) { q.UpdatedBefore = pointer(at(102)) }, "badj"},
		{func(q *store.FlowQuery) { q.UpdatedAfter, q.UpdatedBefore = pointer(at(6)), pointer(at(103)) }, "cb"},
		{goal("mail"), "cbahj"},
		{goal("sort"), "ba"},
		{goal("100%"), "d"},
		{goal("r_s"), "e"},
		{goal(`k\s`), "g"},
		{goal("漢"), "h"},
		{goal("d o"), "d"},
		{goal("l observed"), "l"},
		{goal("mail "), ""},
		{goal("%"), "d"},
		{goal("' OR 1=1 --"), ""},
	}
}

func testFilters(t *testing.T, s store.Store) {
	population(t, s)
	for _, f := range filters() {
		var q store.FlowQuery
		f.set(&q)
		for _, q.Limit = range []int{1, 2, 3, 7, 100} {
			q.Order = store.CreatedAsc
			expectLetters(t, s, q, f.want)
			q.Order = store.CreatedDesc
			expectLetters(t, s, q, reversed(f.want))
		}
	}
}

func reversed(s string) string {
	b := []byte(s)
	slices.Reverse(b)
	return string(b)
}

func expectLetters(t *testing.T, s store.Store, q store.FlowQuery, want string) {
	t.Helper()
	list, err := allFlows(t.Context(), s, q)
	if err != nil {
		t.Fatalf("%s: %v", queryText(q), err)
	}
	same(t, queryText(q), letters(list), want)
}

// testCombined pairs every filter with every other; what passes both is in the two lists of letters.
func testCombined(t *testing.T, s store.Store) {
	population(t, s)
	all := filters()
	limits, orders := []int{1, 2, 3, 7, 100, 100, 100}, orders()
	for i, first := range all {
		for j, second := range all[:i] {
			var q, alone store.FlowQuery
			first.set(&alone)
			first.set(&q)
			second.set(&q)
			if overwritten(alone, q) {
				continue // both set one field
			}
			n := i*7 + j
			q.Limit, q.Order = limits[n%len(limits)], orders[n%len(orders)]
			expectLetters(t, s, q, inOrder(q.Order, func(letter rune) bool {
				return slices.Contains([]rune(first.want), letter) && slices.Contains([]rune(second.want), letter)
			}))
		}
	}
}

// overwritten reports whether the second filter took the place of the first.
func overwritten(alone, both store.FlowQuery) bool {
	return alone.OwnerSessionKey != "" && alone.OwnerSessionKey != both.OwnerSessionKey ||
		alone.ControllerID != "" && alone.ControllerID != both.ControllerID ||
		alone.Mode != "" && alone.Mode != both.Mode ||
		alone.Statuses != nil && !slices.Equal(alone.Statuses, both.Statuses) ||
		alone.WaitKind != "" && alone.WaitKind != both.WaitKind ||
		alone.CancelRequested != nil && *alone.CancelRequested != *both.CancelRequested ||
		alone.CreatedAfter != nil && !alone.CreatedAfter.Equal(*both.CreatedAfter) ||
		alone.CreatedBefore != nil && !alone.CreatedBefore.Equal(*both.CreatedBefore) ||
		alone.UpdatedAfter != nil && !alone.UpdatedAfter.Equal(*both.UpdatedAfter) ||
		alone.UpdatedBefore != nil && !alone.UpdatedBefore.Equal(*both.UpdatedBefore) ||
		alone.GoalContains != "" && alone.GoalContains != both.GoalContains
}

func orders() []store.FlowOrder {
	return []store.FlowOrder{store.CreatedAsc, store.CreatedDesc, store.UpdatedAsc, store.UpdatedDesc}
}

// inOrder lists the letters that are kept, in an order of flows.
func inOrder(order store.FlowOrder, keep func(rune) bool) string {
	letters := "cbadegfhikjl"
	if order.ByUpdate() {
		letters = "adjbcefghikl" // a, d and j have not changed since they were created
	}
	if order.Desc() {
		letters = reversed(letters)
	}
	var out []rune
	for _, letter := range letters {
		if keep(letter) {
			out = append(out, letter)
		}
	}
	return string(out)
}

func testOrders(t *testing.T, s store.Store) {
	population(t, s)
	for _, order := range orders() {
		for _, limit := range []int{1, 2, 3, 7, 11, 12, 13} {
			expectLetters(t, s, store.FlowQuery{Owners: flows.Everyone, Order: order, Limit: limit}, inOrder(order, func(rune) bool { return true }))
		}
	}
}

func testDefaultOrder(t *testing.T, s store.Store) {
	population(t, s)
	expectLetters(t, s, store.FlowQuery{Owners: flows.Everyone, Limit: 5}, "ljkihfgedabc")
}

// testOrderByCommit has changes whose times do not rise in the order of their commits, and several of one flow.
func testOrderByCommit(t *testing.T, s store.Store) {
	create(t, s, newFlow(1), newFlow(2), newFlow(3))
	update := func(n, time int) {
		next, event := touch(readFlow(t, s, flowID(n)), `{}`)
		next.UpdatedAt, event.At = at(time), at(time)
		save(t, s, store.Writes{Updated: []store.FlowUpdate{{Flow: next, State: true}}, Events: []flows.Event{event}})
	}
	update(2, 90)
	update(3, 80)
	update(2, 70)
	update(1, 75)
	for limit := range 4 {
		q := store.FlowQuery{Owners: flows.Everyone, Order: store.UpdatedAsc, Limit: limit + 1}
		list, err := allFlows(t.Context(), s, q)
		if err != nil {
			t.Fatal(err)
		}
		same(t, queryText(q), goals(list), "goal 3 | goal 2 | goal 1")
		q.Order = store.UpdatedDesc
		if list, err = allFlows(t.Context(), s, q); err != nil {
			t.Fatal(err)
		}
		same(t, queryText(q), goals(list), "goal 1 | goal 2 | goal 3")
	}
}

func testWithoutState(t *testing.T, s store.Store) {
	create(t, s, fullFlow(1))
	for _, order := range orders() {
		page, err := s.Flows(t.Context(), store.FlowQuery{Owners: flows.Everyone, Order: order, Limit: 5, WithoutState: true})
		if err != nil || len(page.Items) != 1 {
			t.Fatalf("%v, %v", page, err)
		}
		want := fullFlow(1)
		want.State = nil
		same(t, string(order), flowText(page.Items[0]), flowText(want))
		if page.Items[0].State != nil {
			t.Errorf("State is %q, want nil", page.Items[0].State)
		}
	}
}

// testItems compares whole flows, as a list and one by one.
func testItems(t *testing.T, s store.Store) {
	population(t, s)
	for _, order := range orders() {
		list, err := allFlows(t.Context(), s, store.FlowQuery{Owners: flows.Everyone, Order: order, Limit: 5})
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range list {
			same(t, "item", flowText(f), flowText(readFlow(t, s, f.ID)))
		}
	}
	if _, err := s.Flow(t.Context(), flowID(77), flows.Everyone); !errors.Is(err, flows.ErrNotFound) {
		t.Errorf("Flow = %v, want ErrNotFound", err)
	}
}
