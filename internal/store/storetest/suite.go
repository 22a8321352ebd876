package storetest

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"taskflow/internal/flows"
	"taskflow/internal/store"

	"github.com/google/uuid"
)

// Run is the conformance suite: what the comments of package store promise, sentence by sentence, and then random
// histories compared with [Memory]. open returns a fresh, empty store, and closes it when t ends.
//
// Not here, because it takes a database's own means to provoke: that what was answered is on disk, that a database out
// of reach is [store.ErrUnavailable], that a commit without an answer is [store.ErrOutcomeUnknown], and that Close waits.
// Each store's own tests hold those.
func Run(t *testing.T, open func(t *testing.T) store.Store) {
	subjects := []struct {
		name  string
		cases []testCase
	}{
		{"Update", updateCases()},
		{"Save", saveCases()},
		{"Values", valueCases()},
		{"Answers", answerCases()},
		{"Races", raceCases()},
		{"Flows", flowListCases()},
		{"Pages", pageCases()},
		{"Large", largeCases()},
		{"Steps", stepCases()},
		{"Events", eventCases()},
		{"Stats", statsCases()},
		{"Due", dueCases()},
		{"Match", matchCases()},
		{"Buffered", bufferedCases()},
		{"Receipts", receiptCases()},
		{"Retention", retentionCases()},
		{"Keys", keyCases()},
		{"WaitRaces", waitRaceCases()},
		{"Owners", ownerCases()},
		{"APIKeys", apiKeyCases()},
	}
	for _, subject := range subjects {
		t.Run(subject.name, func(t *testing.T) {
			for _, c := range subject.cases {
				t.Run(c.name, func(t *testing.T) {
					s := open(t)
					c.test(t, s)
					if t.Failed() {
						t.Logf("package store says: %s", c.says)
					}
				})
			}
		})
	}
	t.Run("Histories", func(t *testing.T) { histories(t, open(t)) })
}

// testCase is one promise of package store and its test.
type testCase struct {
	name string
	says string // the sentence, or the part of it, that is tested
	test func(t *testing.T, s store.Store)
}

// epoch is the time at which the suite's flows begin. It has microseconds, and is far from every real clock.
var epoch = time.Date(2021, 2, 3, 4, 5, 6, 7000, time.UTC)

// at is n seconds after epoch.
func at(n int) time.Time { return epoch.Add(time.Duration(n) * time.Second) }

// flowID makes an id from a number. Greater numbers have smaller ids, so that an order by id is not one by insertion.
func flowID(n int) uuid.UUID {
	return uuid.MustParse(fmt.Sprintf("%08x-0000-7000-8000-%012x", 0xffffffff-n, n))
}

func stepID(n int) uuid.UUID {
	return uuid.MustParse(fmt.Sprintf("%08x-1111-7000-8000-%012x", 0xffffffff-n, n))
}

// newFlow is a plain flow as a Create leaves it.
func newFlow(n int) *flows.Flow {
	return &flows.Flow{
		ID: flowID(n), Mode: flows.Managed, ControllerID: "kate/inbox", Goal: fmt.Sprint("goal ", n),
		OwnerSessionKey: "agent:kate", CurrentStep: "init", State: []byte("{}"), Status: flows.Created,
		CreatedAt: at(n), UpdatedAt: at(n),
	}
}

func createdEvent(f *flows.Flow) flows.Event {
	return flows.Event{FlowID: f.ID, Revision: f.Revision, Kind: flows.EventCreated, Payload: []byte("{}"),
		Actor: "tester", At: f.CreatedAt}
}

// touch is a flow one revision on, and the event of that.
func touch(f *flows.Flow, state string) (*flows.Flow, flows.Event) {
	next := *f
	next.Revision++
	next.State = []byte(state)
	return &next, flows.Event{FlowID: f.ID, Revision: next.Revision, Kind: flows.EventStateUpdated,
		Payload: []byte(`{"next_step":null}`), Actor: "tester", At: next.UpdatedAt}
}

// save loads what w names and saves w, in one Update that must succeed.
func save(t *testing.T, s store.Store, w store.Writes) {
	t.Helper()
	err := s.Update(t.Context(), func(tx store.Tx) error {
		if _, err := tx.Load(needOf(w)); err != nil {
			return err
		}
		return tx.Save(w)
	})
	if err != nil {
		t.Fatalf("Update: %v", err)
	}
}

// needOf is everything that w writes.
func needOf(w store.Writes) store.Need {
	need := store.Need{Flows: slices.Clone(w.Erased)}
	for _, f := range w.Created {
		need.Flows, need.Await = append(need.Flows, f.ID), append(need.Await, pairsOf(f)...)
	}
	for _, u := range w.Updated {
		need.Flows, need.Await = append(need.Flows, u.Flow.ID), append(need.Await, pairsOf(u.Flow)...)
	}
	for _, e := range w.ExternalEvents {
		need.Events, need.Await = append(need.Events, e.ID), append(need.Await, e.Pair)
	}
	for _, e := range w.Events {
		need.Flows = append(need.Flows, e.FlowID)
	}
	for _, step := range w.Steps {
		need.Flows = append(need.Flows, step.FlowID)
		need.Steps = append(need.Steps, stepKey(step))
	}
	for _, a := range w.Answers {
		need.Answers = append(need.Answers, a.Key)
	}
	return need
}

func pairsOf(f *flows.Flow) []flows.Pair {
	if f.Wait == nil {
		return nil
	}
	return f.Wait.Pairs()
}

// create saves flows with an event each.
func create(t *testing.T, s store.Store, list ...*flows.Flow) {
	t.Helper()
	w := store.Writes{Created: list}
	for _, f := range list {
		w.Events = append(w.Events, createdEvent(f))
	}
	save(t, s, w)
}

// load runs an Update that only loads.
func load(t *testing.T, s store.Store, need store.Need) store.Snapshot {
	t.Helper()
	var snapshot store.Snapshot
	err := s.Update(t.Context(), func(tx store.Tx) error {
		var err error
		snapshot, err = tx.Load(need)
		return err
	})
	if err != nil {
		t.Fatalf("Update that only loads: %v", err)
	}
	return snapshot
}

func readFlow(t *testing.T, s store.Store, id uuid.UUID) *flows.Flow {
	t.Helper()
	f, err := s.Flow(t.Context(), id, flows.Everyone)
	if err != nil {
		t.Fatalf("Flow(%s): %v", id, err)
	}
	return f
}

// allFlows pages through q to the end, for everyone where q does not say.
func allFlows(ctx context.Context, s store.Reader, q store.FlowQuery) ([]*flows.Flow, error) {
	q = forEveryone(q)
	var all []*flows.Flow
	for pages := 0; ; pages++ {
		page, err := s.Flows(ctx, q)
		if err != nil {
			return nil, err
		}
		if len(page.Items) > q.Limit || pages > 20_000 {
			return nil, fmt.Errorf("page %d has %d flows, limit %d", pages, len(page.Items), q.Limit)
		}
		all = append(all, page.Items...)
		if page.Next == nil {
			return all, nil
		}
		q.From = page.Next
	}
}

// allEvents pages through q to the end, for everyone where q does not say.
func allEvents(ctx context.Context, s store.Reader, q store.EventQuery) ([]flows.Event, error) {
	q = forEveryone(q)
	var all []flows.Event
	for pages := 0; ; pages++ {
		page, err := s.Events(ctx, q)
		if err != nil {
			return nil, err
		}
		if len(page.Items) > q.Limit || pages > 20_000 {
			return nil, fmt.Errorf("page %d has %d events, limit %d", pages, len(page.Items), q.Limit)
		}
		all = append(all, page.Items...)
		if page.Next == nil {
			return all, nil
		}
		q.After = page.Next
	}
}

// allSteps pages through q to the end, for everyone where q does not say.
func allSteps(ctx context.Context, s store.Reader, q store.StepQuery) ([]*flows.Step, error) {
	q = forEveryone(q)
	var all []*flows.Step
	for pages := 0; ; pages++ {
		page, err := s.Steps(ctx, q)
		if err != nil {
			return nil, err
		}
		if len(page.Items) > q.Limit || pages > 20_000 {
			return nil, fmt.Errorf("page %d has %d steps, limit %d", pages, len(page.Items), q.Limit)
		}
		all = append(all, page.Items...)
		if page.Next == nil {
			return all, nil
		}
		q.From = page.Next
	}
}

// allReceipts pages through q to the end, for everyone where q does not say.
func allReceipts(ctx context.Context, s store.Reader, q store.ExternalEventQuery) ([]*flows.ExternalEvent, error) {
	q = forEveryone(q)
	var all []*flows.ExternalEvent
	for pages := 0; ; pages++ {
		page, err := s.ExternalEvents(ctx, q)
		if err != nil {
			return nil, err
		}
		if len(page.Items) > q.Limit || pages > 20_000 {
			return nil, fmt.Errorf("page %d has %d receipts, limit %d", pages, len(page.Items), q.Limit)
		}
		all = append(all, page.Items...)
		if page.Next == nil {
			return all, nil
		}
		q.From = page.Next
	}
}

func trail(t *testing.T, s store.Reader, id uuid.UUID) []flows.Event {
	t.Helper()
	events, err := allEvents(t.Context(), s, store.EventQuery{Owners: flows.Everyone, FlowID: id, FromFlow: true, Limit: 100})
	if err != nil {
		t.Fatalf("Events of %s: %v", id, err)
	}
	return events
}

// same compares two texts, as the functions of text.go write them.
func same(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s:\n got %s\nwant %s", what, shorten(got), shorten(want))
	}
}

// shorten keeps a message of a failed test readable.
func shorten(s string) string {
	const most = 4000
	if len(s) <= most {
		return s
	}
	return s[:most] + fmt.Sprintf("... (%d bytes)", len(s))
}

// goals lists the goals of flows, which is how tests name them.
func goals(list []*flows.Flow) string {
	names := make([]string, len(list))
	for i, f := range list {
		names[i] = f.Goal
	}
	return strings.Join(names, " | ")
}

// offered are pairs that senders with the same owners have an event for.
func offered(owners flows.Owners, pairs ...flows.Pair) []store.Match {
	var list []store.Match
	for _, p := range pairs {
		list = append(list, store.Match{Pair: p, Owners: owners})
	}
	return list
}

// forEveryone is a query by a caller that covers everyone, where it does not say.
func forEveryone[Q store.FlowQuery | store.StepQuery | store.EventQuery | store.ExternalEventQuery](q Q) Q {
	switch q := any(&q).(type) {
	case *store.FlowQuery:
		q.Owners = cmp.Or(q.Owners, flows.Everyone)
	case *store.StepQuery:
		q.Owners = cmp.Or(q.Owners, flows.Everyone)
	case *store.EventQuery:
		q.Owners = cmp.Or(q.Owners, flows.Everyone)
	case *store.ExternalEventQuery:
		q.Owners = cmp.Or(q.Owners, flows.Everyone)
	}
	return q
}
