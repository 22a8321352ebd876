package engine_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"taskflow/internal/engine"
	"taskflow/internal/flows"
	"taskflow/internal/store"
	"taskflow/internal/store/storetest"
)

// oracle applies requests one command at a time, each in a transaction of its own, to a store of its own: what the
// engine does must be what it does.
type oracle struct {
	store  *storetest.Memory
	ttl    time.Duration
	poison func(store.Writes) bool // changes that the store refuses; nil for none
	err    error                   // what it refuses them with
	log    []store.Writes          // everything that was committed
}

func newOracle(ttl time.Duration) *oracle {
	return &oracle{store: storetest.NewMemory(time.Now), ttl: ttl}
}

// apply answers a request as [engine.Engine.Apply] and ApplyAll would.
func (o *oracle) apply(r request) answer {
	if r.publish != nil {
		return answer{outcomes: []string{o.publish(*r.publish)}}
	}
	if !r.many {
		return answer{outcomes: []string{o.one(r.commands[0])}}
	}
	if r.once == nil {
		return answer{outcomes: o.each(r)}
	}
	if replay, err := o.recorded(r.once.Key, r.once.Fingerprint); replay != nil || err != nil {
		return answer{replay: string(replay), err: errorText(err)}
	}
	mark := len(o.log)
	outcomes := o.each(r)
	if slices.Contains(outcomes, errorText(o.err)) {
		o.rollback(mark)
		return answer{err: errorText(o.err)}
	}
	o.commit(store.Writes{Answers: []store.Answer{{
		Key: r.once.Key, Fingerprint: r.once.Fingerprint, Owners: r.once.Owners, CreatedAt: o.load(store.Need{}).Now,
		Response: []byte(strings.Join(append([]string{"all:"}, outcomes...), "\n")),
	}}})
	return answer{outcomes: outcomes}
}

func (o *oracle) each(r request) []string {
	outcomes := make([]string, len(r.commands))
	for i, c := range r.commands {
		outcomes[i] = o.one(c)
	}
	return outcomes
}

// one decides and commits one command, and answers with its outcome as text.
func (o *oracle) one(c engine.Command) string {
	if err := c.Validate(); err != nil {
		return errorText(err)
	}
	if c.Once != nil {
		if replay, err := o.recorded(c.Once.Key, c.Once.Fingerprint); replay != nil || err != nil {
			return outcomeText(engine.Outcome{Result: engine.Result{Replay: replay}, Err: err})
		}
	}
	need := store.Need{Flows: []id{c.FlowID}, Await: c.Awaits()}
	if run, ok := c.Needs(); ok {
		need.Steps = []store.StepKey{{FlowID: c.FlowID, RunID: run}}
	}
	found := o.load(need)
	subject := flows.Subject{Flow: found.Flows[c.FlowID]}
	for _, pair := range need.Await {
		subject.Buffered = append(subject.Buffered, found.Buffered[pair]...)
	}
	if len(need.Steps) > 0 {
		subject.Step = found.Steps[need.Steps[0]]
	}
	change, err := flows.Decide(subject, c.Command, found.Now)
	if err != nil {
		return errorText(err)
	}
	w := writesOf(subject.Flow, change)
	if o.poison != nil && o.poison(w) {
		return errorText(o.err)
	}
	result := engine.Result{Change: change}
	if c.Once != nil {
		w.Answers = []store.Answer{{
			Key: c.Once.Key, Fingerprint: c.Once.Fingerprint, Owners: c.Once.Owners, Response: c.Once.Encode(result), CreatedAt: found.Now,
		}}
	}
	o.commit(w)
	return outcomeText(engine.Outcome{Result: result})
}

// publish records an event and resumes everybody who waits for it, and answers with its receipt as text.
func (o *oracle) publish(p engine.Publication) string {
	if p.Once != nil {
		if replay, err := o.recorded(p.Once.Key, p.Once.Fingerprint); replay != nil || err != nil {
			return publishedText(engine.Published{Replay: replay}, err)
		}
	}
	need := store.Need{Match: []store.Match{{Pair: p.Event.Pair, Owners: flows.Everyone}}}
	if p.Event.FlowID != nil {
		need.Flows = []id{*p.Event.FlowID}
	}
	found := o.load(need)
	event, waiting, target := p.Event, found.Waiting[store.Match{Pair: p.Event.Pair, Owners: flows.Everyone}], (*flows.Flow)(nil)
	event.At, event.ExpiresAt = found.Now, found.Now.Add(p.Keep)
	if event.FlowID != nil {
		if target = found.Flows[*event.FlowID]; target == nil {
			return publishedText(engine.Published{}, flows.ErrNotFound)
		}
		waiting = []id{target.ID}
	}
	var w store.Writes
	var resumed []*flows.Flow
	for _, id := range waiting {
		c := flows.Command{Owners: flows.Everyone, FlowID: id, Actor: event.Actor, Action: flows.EndByEvent{Event: &event}}
		change, err := flows.Decide(flows.Subject{Flow: found.Flows[id]}, c, found.Now)
		if err != nil {
			continue
		}
		one := writesOf(found.Flows[id], change)
		w.Updated, w.Events = append(w.Updated, one.Updated...), append(w.Events, one.Events...)
		resumed = append(resumed, change.Flow)
	}
	settled := event.Settle(resumed, false, target, found.Now)
	w.ExternalEvents = []*flows.ExternalEvent{&settled}
	if o.poison != nil && o.poison(w) {
		return publishedText(engine.Published{}, o.err)
	}
	if p.Once != nil {
		w.Answers = []store.Answer{{Key: p.Once.Key, Fingerprint: p.Once.Fingerprint, Owners: p.Once.Owners, Response: p.Once.Encode(settled), CreatedAt: found.Now}}
	}
	o.commit(w)
	return publishedText(engine.Published{Event: settled}, nil)
}

// recorded is the stored answer that is not too old.
func (o *oracle) recorded(key store.AnswerKey, fingerprint [32]byte) ([]byte, error) {
	found := o.load(store.Need{Answers: []store.AnswerKey{key}})
	a := found.Answers[key]
	switch {
	case a == nil, found.Now.Sub(a.CreatedAt) >= o.ttl:
		return nil, nil
	case a.Fingerprint != fingerprint:
		return nil, engine.ErrKeyReused
	}
	return a.Response, nil
}

// writesOf is what one change writes.
func writesOf(before *flows.Flow, c flows.Change) store.Writes {
	w := store.Writes{Events: c.Events}
	switch {
	case c.Erased:
		return store.Writes{Erased: []id{before.ID}}
	case c.Created:
		w.Created = []*flows.Flow{c.Flow}
	case c.Updated:
		w.Updated = []store.FlowUpdate{{
			Flow: c.Flow, State: !bytes.Equal(before.State, c.Flow.State), Labels: !maps.Equal(before.Labels, c.Flow.Labels),
			Wait: !bytes.Equal(flows.StoreWait(before.Wait), flows.StoreWait(c.Flow.Wait)),
		}}
	}
	if c.Step != nil && !c.Stale {
		w.Steps = []*flows.Step{c.Step}
	}
	if c.Consumed != nil {
		w.ExternalEvents = []*flows.ExternalEvent{c.Consumed}
	}
	return w
}

func (o *oracle) load(need store.Need) (found store.Snapshot) {
	return load(o.store, need)
}

func load(s store.Store, need store.Need) (found store.Snapshot) {
	err := s.Update(context.Background(), func(tx store.Tx) (err error) {
		found, err = tx.Load(need)
		return err
	})
	if err != nil {
		panic(err)
	}
	return found
}

func (o *oracle) commit(w store.Writes) {
	need := store.Need{Flows: slices.Clone(w.Erased), Answers: keysOf(w), Await: pairs}
	for _, f := range w.Created {
		need.Flows = append(need.Flows, f.ID)
	}
	for _, u := range w.Updated {
		need.Flows = append(need.Flows, u.Flow.ID)
	}
	for _, e := range w.Events {
		need.Flows = append(need.Flows, e.FlowID)
	}
	for _, s := range w.Steps {
		need.Flows = append(need.Flows, s.FlowID)
		need.Steps = append(need.Steps, store.StepKey{FlowID: s.FlowID, RunID: s.RunID})
	}
	for _, e := range w.ExternalEvents {
		need.Events = append(need.Events, e.ID)
	}
	err := o.store.Update(context.Background(), func(tx store.Tx) error {
		if _, err := tx.Load(need); err != nil {
			return err
		}
		return tx.Save(w)
	})
	if err != nil {
		panic(err)
	}
	o.log = append(o.log, w)
}

// rollback undoes what was committed after the first n transactions, by making those again in a new store.
func (o *oracle) rollback(n int) {
	log := o.log[:n:n]
	o.log, o.store = nil, storetest.NewMemory(time.Now)
	for _, w := range log {
		o.commit(w)
	}
}

// answer is what a request was answered, as text.
type answer struct {
	outcomes []string
	replay   string
	err      string
}

func (a answer) String() string {
	return fmt.Sprintf("%q, replay %q, error %q", a.outcomes, a.replay, a.err)
}

// errorText tells an error by its type and text; a panic loses its type on the way.
func errorText(err error) string {
	var invalid *flows.InvalidValue
	var conflict *flows.RevisionConflict
	switch {
	case err == nil:
		return ""
	case errors.As(err, &invalid):
		return "invalid value"
	case errors.As(err, &conflict):
		return fmt.Sprintf("conflict: expected %d, is %s", conflict.Expected, flowText(conflict.Flow))
	}
	return "error: " + err.Error()
}

func outcomeText(o engine.Outcome) string {
	switch {
	case o.Err != nil:
		return errorText(o.Err)
	case o.Replay != nil:
		return "replay: " + string(o.Replay)
	}
	return fmt.Sprintf("flow %s, created %v, updated %v, erased %v, step %s new %v, stale %v, events %s", flowText(o.Flow),
		o.Created, o.Updated, o.Erased, stepText(o.Step), o.StepCreated, o.Stale, eventsText(o.Events))
}

func publishedText(p engine.Published, err error) string {
	switch {
	case err != nil:
		return errorText(err)
	case p.Replay != nil:
		return "replay: " + string(p.Replay)
	}
	return receiptText(&p.Event)
}

func receiptText(e *flows.ExternalEvent) string {
	return fmt.Sprintf("event %v for %v: %s by %s at %s until %s, %s, %d flows: %v", e.Pair, e.FlowID, e.Payload, e.Actor,
		flows.FormatTime(e.At), flows.FormatTime(e.ExpiresAt), e.Outcome, e.FlowCount, e.Flows)
}

func flowText(f *flows.Flow) string {
	c := *f
	wait, resumed := flows.StoreWait(f.Wait), flows.EncodeResumedBy(f.ResumedBy)
	ended := "-"
	if f.EndedAt != nil {
		ended = flows.FormatTime(*f.EndedAt)
	}
	labels := fmt.Sprint(f.Labels) // sorted; none and an empty map are the same
	c.Wait, c.ResumedBy, c.EndedAt, c.State, c.Labels = nil, nil, nil, nil, nil
	return fmt.Sprintf("%+v %s %s %s %s %s", c, f.State, wait, resumed, ended, labels)
}

func stepText(s *flows.Step) string {
	if s == nil {
		return "-"
	}
	c := *s
	child := "-"
	if s.ChildSessionKey != nil {
		child = *s.ChildSessionKey
	}
	c.ChildSessionKey, c.Result = nil, nil
	return fmt.Sprintf("%+v %s %s", c, child, s.Result)
}

// eventsText leaves the numbers out: one transaction for each change and one for many hand out the same ones, unless
// something was erased in between.
func eventsText(list []flows.Event) string {
	var out []string
	for _, e := range list {
		out = append(out, fmt.Sprintf("%s rev=%d %s by %s at %s: %s", e.FlowID, e.Revision, e.Kind, e.Actor, flows.FormatTime(e.At), e.Payload))
	}
	return strings.Join(out, "\n")
}
