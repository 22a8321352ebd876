package storetest

import (
	"errors"
	"fmt"
	"testing"

	"taskflow/internal/flows"
	"taskflow/internal/store"
)

func stepCases() []testCase {
	return []testCase{
		{"Unknown", "Steps: flows.ErrNotFound where there is no such flow.", testStepsUnknown},
		{"OldestFirst", "Steps reads one page of a flow's steps, oldest first.", testStepsOldestFirst},
		{"Paging", "Next is nil at the end.", testStepsPaging},
		{"Between", "Steps reads one page of a flow's steps, oldest first.", testStepsBetweenPages},
	}
}

func testStepsUnknown(t *testing.T, s store.Store) {
	create(t, s, newFlow(1))
	if page, err := s.Steps(t.Context(), store.StepQuery{Owners: flows.Everyone, FlowID: flowID(2), Limit: 1}); !errors.Is(err, flows.ErrNotFound) {
		t.Errorf("Steps of an unknown flow: %v, %v; want ErrNotFound", page, err)
	}
	page, err := s.Steps(t.Context(), store.StepQuery{Owners: flows.Everyone, FlowID: flowID(1), Limit: 1})
	if err != nil || len(page.Items) != 0 || page.Next != nil {
		t.Errorf("Steps of a flow without steps: %v, %v", page, err)
	}
}

// saveSteps saves steps of which many have one creation time, and returns them as they are to be listed.
func saveSteps(t *testing.T, s store.Store) []*flows.Step {
	t.Helper()
	w := store.Writes{Created: []*flows.Flow{newFlow(1), newFlow(2)}}
	var want []*flows.Step
	for n := range 14 { // greater numbers have smaller ids
		step := newStep(1, 100-n, fmt.Sprint("run ", n%3, n))
		step.CreatedAt = at(n / 5)
		want = append(want, step)
	}
	for i := len(want) - 1; i >= 0; i-- {
		w.Steps = append(w.Steps, want[i])
	}
	w.Steps = append(w.Steps, newStep(2, 1, "of another flow"))
	save(t, s, w)
	return want
}

func testStepsOldestFirst(t *testing.T, s store.Store) {
	want := saveSteps(t, s)
	page, err := s.Steps(t.Context(), store.StepQuery{Owners: flows.Everyone, FlowID: flowID(1), Limit: 100})
	if err != nil || page.Next != nil {
		t.Fatalf("Next %v, %v", page.Next, err)
	}
	same(t, "steps", stepsText(page.Items), stepsText(want))
}

func testStepsPaging(t *testing.T, s store.Store) {
	want := saveSteps(t, s)
	for _, limit := range []int{1, 2, 3, 7, 13, 14, 15} {
		q := store.StepQuery{Owners: flows.Everyone, FlowID: flowID(1), Limit: limit}
		var got []*flows.Step
		for {
			page, err := s.Steps(t.Context(), forEveryone(q))
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, page.Items...)
			if full := len(got) < len(want); full && len(page.Items) != limit || full != (page.Next != nil) {
				t.Fatalf("limit %d: a page of %d, Next %v, after %d of %d", limit, len(page.Items), page.Next, len(got), len(want))
			}
			if page.Next == nil {
				break
			}
			q.From = page.Next
		}
		same(t, fmt.Sprint("steps by ", limit), stepsText(got), stepsText(want))
	}
}

// testStepsBetweenPages observes recorded steps again and adds one between pages: an upsert moves no step.
func testStepsBetweenPages(t *testing.T, s store.Store) {
	want := saveSteps(t, s)
	page, err := s.Steps(t.Context(), store.StepQuery{Owners: flows.Everyone, FlowID: flowID(1), Limit: 6})
	if err != nil {
		t.Fatal(err)
	}
	again := *want[2]
	again.ID, again.CreatedAt, again.Task = stepID(7), at(900), "observed again"
	late := newStep(1, 5, "late")
	late.CreatedAt = at(901)
	save(t, s, store.Writes{Steps: []*flows.Step{&again, late}})
	rest, err := allSteps(t.Context(), s, store.StepQuery{Owners: flows.Everyone, FlowID: flowID(1), Limit: 6, From: page.Next})
	if err != nil {
		t.Fatal(err)
	}
	same(t, "both pages", stepsText(append(page.Items, rest...)), stepsText(append(want, late)))
}
