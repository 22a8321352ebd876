package storetest

import (
	"context"
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
	"pgregory.net/rapid"
)

// histories applies the same random history of Updates and reads to the store and to the oracle: every answer is equal.
// One store serves all histories, and is emptied between them; numbers of events are therefore compared by their order
// and not by their value.
func histories(t *testing.T, s store.Store) {
	rapid.Check(t, func(rt *rapid.T) {
		empty(rt, t.Context(), s)
		h := &history{T: rt, ctx: t.Context(), subject: s, oracle: NewMemory(time.Now)}
		operations := []func(){h.begin, h.post, h.batch, h.fire, h.begin, h.post, h.batch, h.fire, h.batch, h.batch, h.answer,
			h.listFlows, h.listEvents, h.listSteps, h.listReceipts, h.sweep, h.prune}
		for range rapid.IntRange(4, 14).Draw(rt, "operations") {
			operations[rapid.IntRange(0, len(operations)-1).Draw(rt, "operation")]()
		}
		h.compareAll()
	})
}

// empty erases whatever the history before left.
func empty(t *rapid.T, ctx context.Context, s store.Store) {
	list, err := allFlows(ctx, s, store.FlowQuery{Owners: flows.Everyone, Limit: 100})
	if err != nil {
		t.Fatal(err)
	}
	w := store.Writes{Open: map[string]int64{}}
	for _, f := range list {
		w.Erased = append(w.Erased, f.ID)
		if f.CreatedBy != "" && !f.Status.Terminal() {
			w.Open[f.CreatedBy]--
		}
	}
	err = s.Update(ctx, func(tx store.Tx) error {
		if _, err := tx.Load(needOf(w)); err != nil {
			return err
		}
		return tx.Save(w)
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.SweepAnswers(ctx, farAway, 1000); err != nil {
		t.Fatal(err)
	}
	emptyReceipts(t, ctx, s)
}

// emptyReceipts takes back what is kept, and sweeps.
func emptyReceipts(t *rapid.T, ctx context.Context, s store.Store) {
	list, err := allReceipts(ctx, s, store.ExternalEventQuery{Owners: flows.Everyone, Limit: 100})
	if err != nil || len(list) == 0 {
		if err != nil {
			t.Fatal(err)
		}
		return
	}
	w := store.Writes{ExternalEvents: list}
	for _, e := range list {
		e.Outcome = flows.EventUnmatched
	}
	err = s.Update(ctx, func(tx store.Tx) error {
		if _, err := tx.Load(needOf(w)); err != nil {
			return err
		}
		return tx.Save(w)
	})
	if err != nil {
		t.Fatal(err)
	}
	if n, err := s.SweepExternalEvents(ctx, farAway, 1000); err != nil || n != len(list) {
		t.Fatalf("swept %d of %d, %v", n, len(list), err)
	}
}

// history is a random history in the making.
type history struct {
	*rapid.T
	ctx             context.Context
	subject, oracle store.Store
	clock           int // seconds; mostly rises, sometimes stands still or runs back
	steps           int // steps made so far: each has an id of its own
	answers         int // answers made so far
	posted          int // external events made so far
}

// both asks the store and the oracle, and compares the answers as text.
func (h *history) both(what string, ask func(s store.Store) (string, error)) {
	h.Helper()
	want, wantErr := ask(h.oracle)
	got, gotErr := ask(h.subject)
	if (gotErr == nil) != (wantErr == nil) || errors.Is(gotErr, flows.ErrNotFound) != errors.Is(wantErr, flows.ErrNotFound) {
		h.Fatalf("%s: error %v, the oracle's %v", what, gotErr, wantErr)
	}
	if got != want {
		h.Fatalf("%s:\n got %s\nwant %s", what, shorten(got), shorten(want))
	}
}

func pick[T any](h *history, what string, from ...T) T {
	return rapid.SampledFrom(from).Draw(h.T, what)
}

// owners is what some caller covers, mostly every flow that there is.
func (h *history) owners() flows.Owners {
	return pick(h, "owners", flows.Everyone, flows.Everyone, "agent:*", "agent:a", "agent:b*", "agent:nobody")
}

func (h *history) flowID() uuid.UUID { return flowID(rapid.IntRange(0, 5).Draw(h.T, "flow")) }

func (h *history) batch() {
	h.clock += pick(h, "clock", 0, 1, 1, 5, -2)
	var commands []flows.Command
	for range rapid.IntRange(1, 5).Draw(h.T, "commands") {
		c := flows.Command{Owners: h.owners(), CallerID: pick(h, "caller", "", "k1", "k2"), MaxOpen: 3, FlowID: h.flowID(),
			Actor: pick(h, "actor", "kate", "timer"), Traceparent: pick(h, "trace", "", tracedBy), Action: h.action()}
		commands = append(commands, c)
	}
	h.apply(commands)
}

func (h *history) apply(commands []flows.Command) {
	var text []string
	for _, c := range commands {
		text = append(text, fmt.Sprintf("%T of %s", c.Action, c.FlowID))
	}
	h.both(strings.Join(text, ", "), func(s store.Store) (string, error) {
		refusals, err := apply(h.ctx, s, at(h.clock), commands...)
		return fmt.Sprint(refusals), err
	})
}

func (h *history) json() json.RawMessage {
	return pick(h, "json", nil, json.RawMessage(`null`), json.RawMessage(`{}`), json.RawMessage(`{"a":1.10}`),
		json.RawMessage(`{"b":[1e2,{"é":"\u00e9"}],"a":null}`), json.RawMessage(`12345678901234567890`))
}

func (h *history) reason() *string { return pick(h, "reason", nil, pointer("no 'good' \\ reason")) }

func (h *history) action() flows.Action {
	switch pick(h, "action", "create", "create", "create", "start", "start", "wait", "wait", "wait", "resume", "finish", "fail", "request",
		"cancel", "update", "update", "step", "step", "step", "erase") {
	case "create":
		return flows.Create{Mode: pick(h, "mode", flows.Managed, flows.Mirrored), ControllerID: pick(h, "controller", "c1", "C1"),
			Goal: pick(h, "goal", "sort mail", "100%_\\"), OwnerSessionKey: pick(h, "owner", "agent:a", "agent:b"),
			RequesterOrigin: pick(h, "requester", "", "slack"), State: h.json(),
			Labels: pick(h, "labels", nil, map[string]string{"env": "prod"}, map[string]string{"env": "dev", "x": ""})}
	case "start":
		return flows.Start{}
	case "wait":
		return h.wait()
	case "resume":
		return flows.Resume{Patch: h.json()}
	case "finish":
		return flows.Finish{FinalState: h.json()}
	case "fail":
		return flows.Fail{Reason: "no"}
	case "request":
		return flows.RequestCancel{Reason: h.reason()}
	case "cancel":
		return flows.Cancel{Reason: h.reason()}
	case "update":
		return flows.UpdateState{Patch: h.json(), CurrentStep: pick(h, "next step", nil, pointer("collect")),
			Goal: pick(h, "new goal", nil, pointer("new goal")),
			Labels: pick(h, "new labels", nil, map[string]*string{"env": nil},
				map[string]*string{"env": pointer("prod"), "y": pointer("1")})}
	case "step":
		return h.observation()
	}
	return flows.Erase{}
}

func (h *history) observation() flows.Action {
	h.steps++
	a := flows.ObserveStep{StepID: stepID(h.steps), RunID: pick(h, "run", "a", "A", "b/c"), Task: fmt.Sprint("task ", h.steps),
		Status:  pick(h, "step status", flows.StepStatuses...),
		Runtime: pick(h, "runtime", nil, pointer(flows.Mirrored)), Result: h.json()}
	a.ChildSessionKey.Set = pick(h, "child given", true, false)
	if a.ChildSessionKey.Set {
		a.ChildSessionKey.Value = pick(h, "child", nil, pointer("agent:child"))
	}
	if pick(h, "observed_at given", true, false) {
		a.ObservedAt = pointer(at(rapid.IntRange(-3, 3).Draw(h.T, "observed_at")))
	}
	return a
}

func (h *history) answer() {
	h.answers++
	a := newAnswer(rapid.IntRange(0, 3).Draw(h.T, "key"), fmt.Sprint("answer ", h.answers))
	a.CreatedAt = at(h.clock)
	h.both("answer", func(s store.Store) (string, error) {
		var before string
		err := s.Update(h.ctx, func(tx store.Tx) error {
			snapshot, err := tx.Load(store.Need{Answers: []store.AnswerKey{a.Key}})
			if err != nil {
				return err
			}
			before = answerText(snapshot.Answers[a.Key])
			return tx.Save(store.Writes{Answers: []store.Answer{a}})
		})
		return before, err
	})
}

func (h *history) sweep() {
	before := at(h.clock - rapid.IntRange(0, 3).Draw(h.T, "before"))
	h.both("sweep", func(s store.Store) (string, error) {
		n, err := s.SweepAnswers(h.ctx, before, 100)
		return fmt.Sprint(n), err
	})
}

func (h *history) limit() int { return pick(h, "limit", 1, 2, 3, 7, 100) }

func (h *history) bound(what string) *time.Time {
	if pick(h, what+" given", false, false, false, true) {
		return pointer(at(h.clock - rapid.IntRange(-1, 8).Draw(h.T, what)))
	}
	return nil
}

func (h *history) listFlows() {
	q := store.FlowQuery{Owners: h.owners(),
		OwnerSessionKey: pick(h, "owner", "", "", "agent:a"), ControllerID: pick(h, "controller", "", "", "c1"),
		Mode: pick(h, "mode", "", "", flows.Managed), WaitKind: pick(h, "wait", "", "", "", flows.WaitManual, flows.WaitAnyOf),
		CancelRequested: pick(h, "cancel", nil, nil, pointer(true), pointer(false)),
		GoalContains:    pick(h, "contains", "", "", "goal", "%_"),
		Statuses:        rapid.SliceOfN(rapid.SampledFrom(flows.Statuses), 0, 3).Draw(h.T, "statuses"),
		Labels: pick(h, "labels", nil, nil, []store.Label{{Key: "env", Value: "prod"}},
			[]store.Label{{Key: "env", Value: "prod"}, {Key: "y", Value: "1"}}),
		CreatedAfter: h.bound("created after"), CreatedBefore: h.bound("created before"),
		UpdatedAfter: h.bound("updated after"), UpdatedBefore: h.bound("updated before"),
		Order: pick(h, "order", append(orders(), "")...), Limit: h.limit(), WithoutState: pick(h, "without state", false, true),
	}
	h.both(queryText(q), func(s store.Store) (string, error) {
		list, err := allFlows(h.ctx, s, q)
		return flowsText(list), err
	})
}

func (h *history) listEvents() {
	q := store.EventQuery{Owners: h.owners(),
		OwnerSessionKey: pick(h, "owner", "", "", "agent:a"), ControllerID: pick(h, "controller", "", "", "c1"),
		Mode: pick(h, "mode", "", "", flows.Mirrored), Desc: pick(h, "desc", false, true), Limit: h.limit(),
		Kinds: rapid.SliceOfN(rapid.SampledFrom(flows.EventKinds), 0, 4).Draw(h.T, "kinds"),
	}
	if pick(h, "flow given", false, true) {
		q.FlowID, q.FromFlow = h.flowID(), pick(h, "from flow", false, true)
	}
	place := rapid.IntRange(-1, 20).Draw(h.T, "after")
	h.both(fmt.Sprintf("%+v after event %d", q, place), func(s store.Store) (string, error) {
		all, err := allEvents(h.ctx, s, store.EventQuery{Owners: flows.Everyone, Limit: 100})
		if err != nil {
			return "", err
		}
		q := q
		if place >= 0 && place < len(all) {
			q.After = &all[place].Seq
		}
		list, err := allEvents(h.ctx, s, q)
		rises := slices.IsSortedFunc(list, func(a, b flows.Event) int {
			if q.Desc {
				a, b = b, a
			}
			return int(a.Seq - b.Seq)
		})
		return fmt.Sprintln(rises) + eventsText(list), err
	})
}

func (h *history) listSteps() {
	q := store.StepQuery{Owners: h.owners(), FlowID: h.flowID(), Limit: h.limit()}
	key := store.StepKey{FlowID: q.FlowID, RunID: pick(h, "run", "a", "A", "b/c")}
	h.both(fmt.Sprintf("steps of %s by %d", q.FlowID, q.Limit), func(s store.Store) (string, error) {
		list, err := allSteps(h.ctx, s, q)
		return stepsText(list), err
	})
	h.both(fmt.Sprintf("step %v", key), func(s store.Store) (string, error) {
		step, err := s.Step(h.ctx, key, q.Owners)
		if err != nil {
			return "", err
		}
		return stepText(step), nil
	})
}

// compareAll compares everything that is there at the end.
func (h *history) compareAll() {
	h.compareWaits()
	for _, q := range []store.FlowQuery{{Order: store.CreatedAsc, Limit: 4}, {Order: store.UpdatedDesc, Limit: 4}} {
		h.both(queryText(q), func(s store.Store) (string, error) {
			list, err := allFlows(h.ctx, s, q)
			return flowsText(list), err
		})
	}
	h.both("trail", func(s store.Store) (string, error) {
		list, err := allEvents(h.ctx, s, store.EventQuery{Owners: flows.Everyone, Limit: 50})
		return eventsText(list), err
	})
	need := store.Need{Callers: []string{"k1", "k2", "k3"}}
	for n := range 6 {
		need.Flows, need.Answers = append(need.Flows, flowID(n)), append(need.Answers, answerKey(n))
		h.both(fmt.Sprint("steps of flow ", n), func(s store.Store) (string, error) {
			list, err := allSteps(h.ctx, s, store.StepQuery{Owners: flows.Everyone, FlowID: flowID(n), Limit: 50})
			return stepsText(list), err
		})
	}
	for _, owners := range []flows.Owners{flows.Everyone, "agent:*", "agent:a", "agent:b*"} {
		h.compareStats(owners)
	}
	h.both("loaded", func(s store.Store) (string, error) {
		var text []string
		err := s.Update(h.ctx, func(tx store.Tx) error {
			snapshot, err := tx.Load(need)
			text = nil
			for n := range 6 {
				if f := snapshot.Flows[flowID(n)]; f != nil {
					text = append(text, flowText(f))
				}
				text = append(text, answerText(snapshot.Answers[answerKey(n)]))
			}
			for _, caller := range need.Callers {
				text = append(text, fmt.Sprint(caller, " has open: ", snapshot.Open[caller]))
			}
			return err
		})
		return strings.Join(text, "\n"), err
	})
}

func (h *history) compareStats(owners flows.Owners) {
	h.both(fmt.Sprint("stats of ", owners), func(s store.Store) (string, error) {
		got, err := s.Stats(h.ctx, owners)
		return statsText(got), err
	})
}
