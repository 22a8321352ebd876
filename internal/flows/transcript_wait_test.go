package flows_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"taskflow/internal/flows"

	"github.com/google/uuid"
)

// This file reads what transcripts say of waits and external events.

// generation is that of the wait a flow is in; 0 where it waits for nothing.
func generation(f *flows.Flow) int64 {
	if f == nil || f.Wait == nil {
		return 0
	}
	return f.Wait.Generation
}

func seconds(n float64) time.Time { return noon.Add(time.Duration(n * float64(time.Second))) }

// when reads "at" in seconds past noon, or "after" as [years, months, days, seconds].
func (b *body) when() flows.When {
	var w flows.When
	var at *float64
	if b.get("at", &at); at != nil {
		w.At = ptr(seconds(*at))
	}
	var after []float64
	if b.get("after", &after); len(after) == 4 {
		w.After = &flows.Period{Years: int(after[0]), Months: int(after[1]), Days: int(after[2]),
			Rest: time.Duration(after[3] * float64(time.Second))}
	}
	return w
}

func nested(t *testing.T, raw json.RawMessage) *body {
	var b body
	if err := json.Unmarshal(raw, &b.members); err != nil {
		t.Fatalf("%s: %v", raw, err)
	}
	return &b
}

// setWait reads a wait as callers send it; none is a manual one.
func setWait(t *testing.T, b *body) flows.Action {
	a := flows.SetWait{Kind: flows.WaitManual, Details: b.raw("details"), CallbackKey: "key-1"}
	b.get("kind", &a.Kind)
	var horizon float64
	b.get("horizon", &horizon)
	a.Horizon = time.Duration(horizon * float64(time.Second))
	var conditions []json.RawMessage
	if b.get("conditions", &conditions); a.Kind != flows.WaitAnyOf && a.Kind != flows.WaitManual {
		a.Conditions = []flows.ConditionSpec{conditionOf(b, a.Kind)}
	}
	for _, raw := range conditions {
		one := nested(t, raw)
		var kind flows.WaitKind
		one.get("kind", &kind)
		a.Conditions = append(a.Conditions, conditionOf(one, kind))
		if err := one.left(); err != nil {
			t.Fatalf("%s: %v", raw, err)
		}
	}
	if raw := b.raw("timeout"); raw != nil {
		one := nested(t, raw)
		a.Timeout = &flows.TimeoutSpec{When: one.when(), Patch: one.raw("state_patch")}
		one.get("on_timeout", &a.Timeout.Then)
		if err := one.left(); err != nil {
			t.Fatalf("%s: %v", raw, err)
		}
	}
	return a
}

func conditionOf(b *body, kind flows.WaitKind) flows.ConditionSpec {
	c := flows.ConditionSpec{Kind: kind, When: b.when()}
	b.get("topic", &c.Pair.Topic)
	b.get("correlation_id", &c.Pair.CorrelationID)
	var secret string
	if b.get("secret", &secret) {
		c.Verify = &flows.Verify{Scheme: "github", Secret: secret}
	}
	return c
}

// event lets an external event arrive, as the engine does: it is offered to the flow, and its fate is recorded. "to"
// says which flow it is for: "this" or "another"; "ttl" is how many seconds it is kept, 3600 where it is absent.
func (p *player) event(t *testing.T, b *body) string {
	var number int
	b.get("id", &number)
	e := flows.ExternalEvent{Owners: flows.Everyone, ID: uuid.UUID{15: byte(number)}, Payload: b.raw("payload"), Actor: "stripe", At: p.now}
	b.get("topic", &e.Pair.Topic)
	b.get("correlation_id", &e.Pair.CorrelationID)
	ttl := 3600.0
	b.get("ttl", &ttl)
	e.ExpiresAt = p.now.Add(time.Duration(ttl * float64(time.Second)))
	var to string
	var target *flows.Flow
	if b.get("to", &to); to != "" {
		e.FlowID, target = ptr(stepA), &flows.Flow{ID: stepA, Status: flows.Running}
		if to == "this" {
			e.FlowID, target = ptr(someID), p.flow
		}
	}
	if err := b.left(); err != nil {
		t.Fatal(err)
	}
	if err := e.Validate(); err != nil {
		return "invalid: " + err.Error() + "\n"
	}
	before := p.flow
	text := p.decide(flows.Command{Owners: flows.Everyone, FlowID: someID, Actor: e.Actor, Action: flows.EndByEvent{Event: &e}})
	var resumed []*flows.Flow
	if p.flow != before {
		resumed, target = []*flows.Flow{p.flow}, p.flow
	}
	settled := e.Settle(resumed, false, target, p.now)
	p.kept[number] = &settled
	return text + eventText(&settled)
}

// buffered are the kept events of some pairs, oldest first.
func (p *player) buffered(pairs []flows.Pair) []*flows.ExternalEvent {
	var list []*flows.ExternalEvent
	for _, number := range slices.Sorted(maps.Keys(p.kept)) {
		if e := p.kept[number]; slices.Contains(pairs, e.Pair) {
			list = append(list, e)
		}
	}
	slices.SortStableFunc(list, func(a, b *flows.ExternalEvent) int { return a.At.Compare(b.At) })
	return list
}

func eventText(e *flows.ExternalEvent) string {
	text := fmt.Sprintf("external event %d: %s at %s", e.ID[15], e.Outcome, clock(e.At))
	if e.Outcome == flows.EventBuffered {
		text += " until " + clock(e.ExpiresAt)
	}
	for _, f := range e.Flows {
		text += fmt.Sprintf(" resumed %s at revision %d", f.FlowID.String()[34:], f.Revision)
	}
	return text + "\n"
}
