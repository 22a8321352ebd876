package engine_test

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"taskflow/internal/engine"
	"taskflow/internal/flows"
	"taskflow/internal/store"
	"taskflow/internal/store/storetest"

	"github.com/google/uuid"
	"pgregory.net/rapid"
)

type id = uuid.UUID

// TestEngineIsTheOneByOneOracle sends random requests through the engine, in random batches and past random faults, and
// applies them one by one to the oracle: the answers, the flows, the steps, the trail and the stored answers are equal.
func TestEngineIsTheOneByOneOracle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rapid.SyncTest(t, func(t *rapid.T) {
			h := newHistory(t)
			defer h.close()
			for range rapid.IntRange(1, 8).Draw(t, "rounds") {
				h.round()
				h.compare()
				<-time.After(rapid.SampledFrom([]time.Duration{0, time.Second, historyTTL / 2}).Draw(t, "pause"))
			}
		})
	})
}

const historyTTL = 100 * time.Second

// request is a call of Apply, of ApplyAll, or of Publish.
type request struct {
	many     bool
	commands []engine.Command
	once     *engine.Once[[]engine.Outcome]
	publish  *engine.Publication // instead of all that
}

// history is a random history in the making.
type history struct {
	*rapid.T
	faulty *storetest.Faulty
	engine *engine.Engine
	oracle *oracle
	keyed  []request // sent before, to be repeated
	steps  byte      // made so far: each has an id of its own
	events byte      // likewise
}

func newHistory(t *rapid.T) *history {
	faulty := storetest.NewFaulty(storetest.NewMemory(time.Now))
	options := engine.Options{Committers: 1, AnswerTTL: historyTTL, Batch: rapid.IntRange(1, 8).Draw(t, "batch")}
	return &history{T: t, faulty: faulty, engine: engine.New(faulty, options), oracle: newOracle(historyTTL)}
}

func (h *history) close() {
	if err := h.engine.Close(context.Background()); err != nil {
		h.Error(err)
	}
}

func pick[T any](h *history, what string, from ...T) T {
	return rapid.SampledFrom(from).Draw(h.T, what)
}

func flowID(n int) id { return id{6: 0x70, 8: 0x80, 15: byte(n)} }

func (h *history) flowID() id { return flowID(rapid.IntRange(0, 3).Draw(h.T, "flow")) }

// round sends some requests while the store is held, lets them go, and has the oracle do the same.
func (h *history) round() {
	poisoned, fault := h.fault()
	var requests []request
	for range rapid.IntRange(1, 10).Draw(h.T, "requests") {
		requests = append(requests, h.request(poisoned))
	}
	if fault != nil {
		h.faulty.Inject(*fault)
	}
	gate := h.faulty.Block()
	answers := make([]chan answer, len(requests))
	for i, r := range requests {
		answers[i] = make(chan answer, 1)
		go func() { answers[i] <- h.send(r) }() // read below
		synctest.Wait()                         // it is queued: they arrive in order
	}
	gate.Release()
	for i, r := range requests {
		h.judge(i, r, <-answers[i], fault)
	}
	h.faulty.Heal()
	h.oracle.poison, h.oracle.err = nil, nil
}

// fault draws what goes wrong in a round, nil for nothing, and whether it is the fault of some flow's commands.
func (h *history) fault() (poisoned bool, fault *storetest.Fault) {
	var f storetest.Fault
	switch pick(h, "fault", "none", "none", "refused", "panic", "unavailable", "persisted", "lost") {
	case "none":
		return false, nil
	case "refused":
		f = storetest.Refused(errPoison, storetest.WritesFlow(h.flowID()))
		h.oracle.err = errPoison
	case "panic":
		f = storetest.Fault{Panic: "no invariant", Match: storetest.WritesFlow(h.flowID()), Times: -1}
		h.oracle.err = errors.New("panic: no invariant")
	case "unavailable":
		f = storetest.Unavailable()
	case "persisted":
		f = storetest.UnknownPersisted()
	case "lost":
		f = storetest.UnknownLost()
	}
	h.oracle.poison = f.Match
	return f.Match != nil, &f
}

func (h *history) send(r request) answer {
	if r.publish != nil {
		return answer{outcomes: []string{publishedText(h.engine.Publish(context.Background(), *r.publish))}}
	}
	if !r.many {
		result, err := h.engine.Apply(context.Background(), r.commands[0])
		return answer{outcomes: []string{outcomeText(engine.Outcome{Result: result, Err: err})}}
	}
	outcomes, replay, err := h.engine.ApplyAll(context.Background(), r.commands, r.once)
	if err != nil {
		return answer{err: errorText(err)}
	}
	a := answer{replay: string(replay)}
	for _, o := range outcomes {
		a.outcomes = append(a.outcomes, outcomeText(o))
	}
	return a
}

// judge compares an answer with the oracle's. Where the engine says that it could not, or does not know, the fault says
// what the oracle is to do.
func (h *history) judge(i int, r request, got answer, fault *storetest.Fault) {
	text := got.String()
	unavailable := strings.Contains(text, store.ErrUnavailable.Error())
	unknown := strings.Contains(text, store.ErrOutcomeUnknown.Error())
	switch {
	case unavailable && fault != nil && fault.Err == store.ErrUnavailable:
		return // nothing was changed
	case unknown && fault != nil && fault.Err == store.ErrOutcomeUnknown:
		if fault.Persist {
			h.oracle.apply(r)
		}
		return
	}
	if want := h.oracle.apply(r).String(); text != want {
		h.Fatalf("request %d, %s:\n got %s\nwant %s", i, describe(r.commands), text, want)
	}
}

// compare compares everything that is there, and looks for gaps in the revisions.
func (h *history) compare() {
	keys := store.Need{}
	for n := range keyCount {
		keys.Answers = append(keys.Answers, keyOf(n))
	}
	for n := range 4 {
		keys.Flows = append(keys.Flows, flowID(n))
		for _, run := range runs {
			keys.Steps = append(keys.Steps, store.StepKey{FlowID: flowID(n), RunID: run})
		}
	}
	if got, want := h.recorded(h.faulty, keys), h.recorded(h.oracle.store, keys); got != want {
		h.Fatalf("recorded:\n%s\nwant:\n%s", got, want)
	}
	for n := range 4 {
		h.noGaps(flowID(n))
	}
}

func (h *history) recorded(s store.Store, need store.Need) string {
	found := load(s, need)
	var out []string
	for _, id := range need.Flows {
		if f := found.Flows[id]; f != nil {
			out = append(out, flowText(f))
		}
	}
	for _, key := range need.Steps {
		out = append(out, stepText(found.Steps[key]))
	}
	for _, key := range need.Answers {
		if a := found.Answers[key]; a != nil && found.Now.Sub(a.CreatedAt) < historyTTL { // the engine sweeps the others
			out = append(out, fmt.Sprintf("answer %x at %s: %s", a.Fingerprint, a.CreatedAt, a.Response))
		}
	}
	receipts, err := s.ExternalEvents(context.Background(), store.ExternalEventQuery{Owners: flows.Everyone, Limit: store.Examined})
	if err != nil || receipts.Next != nil {
		h.Fatalf("the receipts, with more than one page: %v, %v", receipts.Next, err)
	}
	for _, e := range receipts.Items {
		out = append(out, receiptText(e))
	}
	return strings.Join(append(out, eventsText(h.trail(s, store.EventQuery{Owners: flows.Everyone}))), "\n")
}

func (h *history) trail(s store.Store, q store.EventQuery) []flows.Event {
	q.Limit = store.Examined
	page, err := s.Events(context.Background(), q)
	if err != nil || page.Next != nil {
		h.Fatalf("the trail, with more than one page: %v, %v", page.Next, err)
	}
	return page.Items
}

// noGaps checks that a flow's revisions rise by one from 0, each with one event, up to the flow's own.
func (h *history) noGaps(id id) {
	f, err := h.faulty.Flow(context.Background(), id, flows.Everyone)
	if errors.Is(err, flows.ErrNotFound) {
		return
	}
	next := int64(0)
	for _, e := range h.trail(h.faulty, store.EventQuery{Owners: flows.Everyone, FlowID: id}) {
		switch {
		case e.Kind == flows.EventStepObserved && e.Revision == next-1:
		case e.Revision != next:
			h.Fatalf("flow %s: %s at revision %d, want %d", id, e.Kind, e.Revision, next)
		default:
			next++
		}
	}
	if err != nil || f.Revision != next-1 {
		h.Fatalf("flow %s is at %d, its last event at %d, %v", id, f.Revision, next-1, err)
	}
}

// request draws a request. In a round in which some flow's changes fail, nothing is erased: a batch that creates and
// erases a flow writes nothing of it, and so succeeds where its commands, one by one, would not.
func (h *history) request(poisoned bool) request {
	if len(h.keyed) > 0 && pick(h, "repeat", false, false, false, true) {
		r := pick(h, "which", h.keyed...)
		if r.publish != nil {
			again := *r.publish
			again.Event.ID = h.eventID()
			return request{publish: &again}
		}
		if !poisoned || !strings.Contains(describe(r.commands), "flows.Erase") {
			return r
		}
	}
	if pick(h, "publish", false, false, false, true) {
		return h.publication()
	}
	r := request{many: pick(h, "many", false, false, true)}
	n := 1
	if r.many {
		n = rapid.IntRange(0, 5).Draw(h.T, "commands")
	}
	hasKey := false
	for range n {
		c := h.command(poisoned)
		hasKey = hasKey || c.Once != nil
		r.commands = append(r.commands, c)
	}
	if r.many && pick(h, "with a key", false, false, true) {
		hasKey = true
		r.once = &engine.Once[[]engine.Outcome]{
			// Never one of its own commands' keys, which is refused.
			Owners: flows.Everyone,
			Key:    keyOf(keyCount - 1), Fingerprint: sha256.Sum256([]byte(describe(r.commands))), Encode: encodeTexts,
		}
	}
	if hasKey {
		h.keyed = append(h.keyed, r)
	}
	return r
}

// pairs are what flows wait for and events are about.
var pairs = []flows.Pair{{Topic: "payment", CorrelationID: "1"}, {Topic: "payment", CorrelationID: "2"}}

// eventID rises, as the server's do: that is the order of events of one moment.
func (h *history) eventID() id {
	h.events++
	return id{0: 2, 15: h.events}
}

func (h *history) publication() request {
	p := &engine.Publication{
		Event: flows.ExternalEvent{Owners: flows.Everyone, ID: h.eventID(), Pair: pick(h, "pair", pairs...), Payload: h.json(), Actor: "shop"},
		Keep:  pick(h, "keep", 0, time.Second, time.Hour),
	}
	if pick(h, "for one", false, false, true) {
		target := h.flowID()
		p.Event.FlowID = &target
	}
	r := request{publish: p}
	if pick(h, "keyed", false, false, true) {
		p.Once = &engine.Once[flows.ExternalEvent]{
			Owners:      flows.Everyone,
			Key:         keyOf(rapid.IntRange(0, keyCount-2).Draw(h.T, "key")),
			Fingerprint: sha256.Sum256(fmt.Append(nil, p.Event.Pair, p.Event.FlowID, p.Event.Payload, p.Keep)),
			Encode:      func(e flows.ExternalEvent) []byte { return []byte(receiptText(&e)) },
		}
		h.keyed = append(h.keyed, r)
	}
	return r
}

func encodeTexts(outcomes []engine.Outcome) []byte {
	out := []string{"all:"}
	for _, o := range outcomes {
		out = append(out, outcomeText(o))
	}
	return []byte(strings.Join(out, "\n"))
}

// keyCount is how many keys there are; the last is for requests of many commands.
const keyCount = 4

func keyOf(n int) store.AnswerKey { return store.AnswerKey{0: byte(n)} }

var runs = []string{"a", "b"}

// describe tells a list of commands from another.
func describe(commands []engine.Command) string {
	var out []string
	for _, c := range commands {
		text, err := json.Marshal(c.Action)
		revision := "any"
		if c.IfRevision != nil {
			revision = fmt.Sprint(*c.IfRevision)
		}
		out = append(out, fmt.Sprintf("%T %s of %s at %s %v", c.Action, text, c.FlowID, revision, err))
	}
	return strings.Join(out, "; ")
}

func (h *history) command(poisoned bool) engine.Command {
	c := engine.Command{Command: flows.Command{Owners: flows.Everyone, FlowID: h.flowID(), Actor: pick(h, "actor", "kate", "timer"), MaxState: 60, Action: h.action(poisoned)}}
	if pick(h, "if match", false, false, false, true) {
		c = atRevision(c, rapid.Int64Range(0, 4).Draw(h.T, "revision"))
	}
	if pick(h, "keyed", false, false, true) {
		c.Once = &engine.Once[engine.Result]{
			Owners:      flows.Everyone,
			Key:         keyOf(rapid.IntRange(0, keyCount-2).Draw(h.T, "key")),
			Fingerprint: sha256.Sum256([]byte(describe([]engine.Command{c}))),
			Encode:      func(r engine.Result) []byte { return []byte(outcomeText(engine.Outcome{Result: r})) },
		}
	}
	return c
}

func (h *history) action(poisoned bool) flows.Action {
	kind := pick(h, "action", "create", "create", "start", "start", "wait", "await", "await", "await any", "resume", "finish", "fail", "request", "cancel",
		"update", "update", "step", "step", "erase", "erase", "invalid")
	switch kind {
	case "start":
		return flows.Start{}
	case "await":
		event := flows.ConditionSpec{Kind: flows.WaitExternalEvent, Pair: pick(h, "pair", pairs...)}
		return flows.SetWait{Kind: flows.WaitExternalEvent, Conditions: []flows.ConditionSpec{event}}
	case "await any":
		both := []flows.ConditionSpec{{Kind: flows.WaitExternalEvent, Pair: pairs[1]}, {Kind: flows.WaitExternalEvent, Pair: pairs[0]}}
		return flows.SetWait{Kind: flows.WaitAnyOf, Conditions: both}
	case "wait":
		return flows.SetWait{Kind: flows.WaitManual, Details: json.RawMessage(`{"n":1.10}`)}
	case "resume":
		return flows.Resume{Patch: h.json()}
	case "finish":
		return flows.Finish{FinalState: h.json()}
	case "fail":
		return flows.Fail{Reason: "no"}
	case "request":
		return flows.RequestCancel{}
	case "cancel":
		return flows.Cancel{}
	case "update":
		value := pick(h, "label", "x", "y")
		return flows.UpdateState{Patch: h.json(), Labels: pick(h, "labels", nil, map[string]*string{"env": &value}, map[string]*string{"env": nil})}
	case "step":
		return h.observation()
	case "invalid":
		return flows.Fail{}
	case "erase":
		if !poisoned {
			return flows.Erase{}
		}
	}
	return flows.Create{Mode: pick(h, "mode", flows.Managed, flows.Mirrored), ControllerID: "c", Goal: "g", OwnerSessionKey: "o",
		State: h.json(), Labels: pick(h, "labels", nil, map[string]string{"env": "x"})}
}

func (h *history) observation() flows.Action {
	h.steps++
	a := flows.ObserveStep{StepID: id{0: 1, 15: h.steps}, RunID: pick(h, "run", runs...), Task: fmt.Sprint("task ", h.steps),
		Status: pick(h, "status", flows.StepStatuses...)}
	if pick(h, "observed_at", false, true) {
		at := time.Now().Add(pick(h, "age", -time.Minute, 0, time.Second))
		a.ObservedAt = &at
	}
	return a
}

func (h *history) json() json.RawMessage {
	return pick(h, "json", nil, json.RawMessage(`null`), json.RawMessage(`{}`), json.RawMessage(`{"a":1.10}`),
		json.RawMessage(`{"b":[1e2],"a":null}`), json.RawMessage(`{"c":"more than sixty characters in a state are too many here"}`))
}
