package storetest

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"taskflow/internal/flows"
	"taskflow/internal/store"

	"github.com/google/uuid"
	"pgregory.net/rapid"
)

// This file holds what random histories do with waits and external events. The times of a history are in the past of
// every store's clock, but for those that are far in the future: so what is due and what has expired does not depend on
// when the stores were asked.

func (h *history) pair() flows.Pair {
	return pick(h, "pair", pair("t", "c"), pair("t", "c"), pair("t", "d"), pair("T", "c"))
}

func (h *history) when() flows.When {
	return flows.When{At: pointer(pick(h, "when", at(h.clock+3), at(h.clock+30), farAway, at(h.clock-1)))}
}

// begin makes a flow wait, also one that does not exist yet, that runs, or that has ended.
func (h *history) begin() {
	id := h.flowID()
	h.clock += pick(h, "clock", 0, 1, -1)
	h.apply([]flows.Command{{FlowID: id, Owners: "*", Action: flows.Erase{}},
		{FlowID: id, Owners: "*", Action: flows.Create{Mode: flows.Managed, ControllerID: "c1", Goal: "goal", OwnerSessionKey: "agent:a"}},
		{FlowID: id, Owners: "*", Action: flows.Start{}}, {FlowID: id, Owners: "*", Action: h.wait()}})
}

func (h *history) wait() flows.Action {
	a := flows.SetWait{Kind: pick(h, "wait kind", flows.WaitExternalEvent, flows.WaitAnyOf, flows.WaitTimer,
		flows.WaitManual, flows.WaitCallback), CallbackKey: "key",
		Details: pick(h, "details", nil, json.RawMessage(`{ "n": 1.10 }`))}
	switch a.Kind {
	case flows.WaitManual:
	case flows.WaitAnyOf:
		for range rapid.IntRange(2, 4).Draw(h.T, "conditions") {
			kind := pick(h, "condition", flows.WaitExternalEvent, flows.WaitTimer, flows.WaitManual, flows.WaitCallback)
			a.Conditions = append(a.Conditions, h.condition(kind))
		}
	default:
		a.Conditions = []flows.ConditionSpec{h.condition(a.Kind)}
	}
	if pick(h, "timeout given", false, false, true) {
		a.Timeout = &flows.TimeoutSpec{When: h.when(), Then: pick(h, "then", flows.TimeoutResumes, flows.TimeoutFails,
			flows.TimeoutCancels)}
		if a.Timeout.Then == flows.TimeoutResumes {
			a.Timeout.Patch = h.json()
		}
	}
	return a
}

func (h *history) condition(kind flows.WaitKind) flows.ConditionSpec {
	c := flows.ConditionSpec{Kind: kind}
	switch kind {
	case flows.WaitTimer:
		c.When = h.when()
	case flows.WaitExternalEvent:
		c.Pair = h.pair()
	case flows.WaitCallback:
		c.Verify = pick(h, "verify", nil, &flows.Verify{Scheme: "github", Header: "X-Sig", Secret: "<secret>"})
	}
	return c
}

// post lets an external event arrive. No two arrive at once, so that their order does not depend on the store.
func (h *history) post() {
	h.posted++
	now := at(h.clock)
	e := flows.ExternalEvent{Owners: h.owners(), ID: stepID(1000 + h.posted), Pair: h.pair(), Payload: h.json(), Actor: "stripe",
		Traceparent: pick(h, "trace", "", tracedBy),
		At:          now.Add(time.Duration(h.posted) * time.Microsecond)}
	e.ExpiresAt = pick(h, "expires", farAway, at(h.clock+60), e.At)
	if pick(h, "for one flow", false, false, true) {
		e.FlowID = pointer(h.flowID())
	}
	h.both("post", func(s store.Store) (string, error) {
		settled, err := post(h.ctx, s, now, e)
		return receiptsText(inFlowOrder([]*flows.ExternalEvent{&settled})), err
	})
}

// fire ends the waits whose time has come by a clock of the history.
func (h *history) fire() {
	h.clock += pick(h, "clock", 5, 40, 0)
	now := at(h.clock)
	h.both("fire", func(s store.Store) (string, error) {
		ids, err := fire(h.ctx, s, &now, 100)
		return fmt.Sprint(ids), err
	})
}

func (h *history) prune() {
	before := at(h.clock - rapid.IntRange(-1, 4).Draw(h.T, "before"))
	h.both("prune", func(s store.Store) (string, error) {
		count, err := s.CountEnded(h.ctx, before)
		if err != nil {
			return "", err
		}
		n, err := s.Prune(h.ctx, before, 100)
		return fmt.Sprint(count, n), err
	})
	swept := at(h.clock - rapid.IntRange(-1, 4).Draw(h.T, "swept"))
	h.both("sweep of external events", func(s store.Store) (string, error) {
		n, err := s.SweepExternalEvents(h.ctx, swept, 100)
		return fmt.Sprint(n), err
	})
}

func (h *history) listReceipts() {
	q := store.ExternalEventQuery{Owners: h.owners(), Topic: pick(h, "topic", "", "", "t"), CorrelationID: pick(h, "correlation", "", "", "c"),
		Outcome: pick(h, "outcome", append(flows.EventOutcomes, "", "")...), Limit: h.limit()}
	if pick(h, "either given", false, false, true) {
		q.EitherOf = pointer(h.pair())
	}
	h.both(receiptQueryText(q), func(s store.Store) (string, error) {
		list, err := allReceipts(h.ctx, s, q)
		return receiptsText(inFlowOrder(list)), err
	})
}

// inFlowOrder puts the flows of receipts in the order of their ids: which of two that began to wait at once comes first is
// the store's affair.
func inFlowOrder(list []*flows.ExternalEvent) []*flows.ExternalEvent {
	for _, e := range list {
		slices.SortFunc(e.Flows, func(a, b flows.ResumedFlow) int { return slices.Compare(a.FlowID[:], b.FlowID[:]) })
	}
	return list
}

// compareWaits compares what waits, what is kept and what is due.
func (h *history) compareWaits() {
	h.both("receipts", func(s store.Store) (string, error) {
		list, err := allReceipts(h.ctx, s, store.ExternalEventQuery{Owners: flows.Everyone, Limit: 3})
		return receiptsText(inFlowOrder(list)), err
	})
	h.both("next due", func(s store.Store) (string, error) {
		at, _, ok, err := s.NextDue(h.ctx)
		return fmt.Sprint(timeText(at), ok), err
	})
	h.both("due", func(s store.Store) (string, error) {
		var text string
		err := s.Update(h.ctx, func(tx store.Tx) error {
			snapshot, err := tx.LoadDue(100)
			text = ""
			for _, id := range sortedIDs(snapshot.Flows) {
				text += flowText(snapshot.Flows[id]) + "\n"
			}
			return err
		})
		return text, err
	})
	pairs := []flows.Pair{pair("t", "c"), pair("t", "d"), pair("T", "c")}
	need := store.Need{Await: pairs, Match: offered(flows.Everyone, pairs...)}
	for n := range 6 {
		need.Flows = append(need.Flows, flowID(n))
	}
	h.both("pairs", func(s store.Store) (string, error) {
		var text []string
		err := s.Update(h.ctx, func(tx store.Tx) error {
			snapshot, err := tx.Load(need)
			text = nil
			for _, p := range pairs {
				text = append(text, fmt.Sprint(p, waitersText(snapshot, p)), receiptsText(inFlowOrder(snapshot.Buffered[p])))
			}
			return err
		})
		return strings.Join(text, "\n"), err
	})
}

// waitersText lists who waits for a pair and since when; of two that began at once, the lesser id first.
func waitersText(s store.Snapshot, p flows.Pair) string {
	since := func(id uuid.UUID) time.Time { return s.Flows[id].Wait.Since }
	ids := slices.Clone(s.Waiting[store.Match{Pair: p, Owners: flows.Everyone}])
	rises := slices.IsSortedFunc(ids, func(a, b uuid.UUID) int { return since(a).Compare(since(b)) })
	slices.SortFunc(ids, func(a, b uuid.UUID) int { return byTime(since(a), since(b), a, b) })
	text := fmt.Sprint("the longest first: ", rises, ", more: ", s.More[store.Match{Pair: p, Owners: flows.Everyone}])
	for _, id := range ids {
		text += fmt.Sprint(" ", id, " since ", timeText(since(id)))
	}
	return text
}
