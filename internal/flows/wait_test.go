package flows_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"taskflow/internal/flows"

	"github.com/google/uuid"
)

var (
	payment = flows.Pair{Topic: "payment", CorrelationID: "order-7"}
	other   = flows.Pair{Topic: "payment", CorrelationID: "order-8"}
)

// arrival is an external event for anyone, kept for an hour.
func arrival(n byte, p flows.Pair) *flows.ExternalEvent {
	return &flows.ExternalEvent{Owners: flows.Everyone, ID: uuid.UUID{15: n}, Pair: p, Payload: json.RawMessage(fmt.Sprint(n)), At: noon,
		ExpiresAt: noon.Add(time.Hour), Outcome: flows.EventBuffered}
}

func specTimer(at time.Time) flows.ConditionSpec {
	return flows.ConditionSpec{Kind: flows.WaitTimer, When: flows.When{At: &at}}
}

func specEvent(p flows.Pair) flows.ConditionSpec {
	return flows.ConditionSpec{Kind: flows.WaitExternalEvent, Pair: p}
}

// anyOf is a wait for some conditions.
func anyOf(specs ...flows.ConditionSpec) flows.SetWait {
	a := flows.SetWait{Kind: flows.WaitAnyOf, Conditions: specs, CallbackKey: "key-1"}
	if len(specs) == 1 {
		a.Kind = specs[0].Kind
	}
	return a
}

func in(seconds float64) time.Time { return noon.Add(time.Duration(seconds * float64(time.Second))) }

func decide(f *flows.Flow, now time.Time, a flows.Action, buffered ...*flows.ExternalEvent) (flows.Change, error) {
	return flows.Decide(flows.Subject{Flow: f, Buffered: buffered}, flows.Command{Owners: flows.Everyone, FlowID: someID, Actor: "kate", Action: a}, now)
}

// begun is a flow that waits since noon, at revision 6.
func begun(t *testing.T, a flows.SetWait) *flows.Flow {
	t.Helper()
	if err := (flows.Command{Owners: flows.Everyone, Action: a}).Validate(); err != nil {
		t.Fatal(err)
	}
	change, err := decide(flowIn(flows.Running, false), noon, a)
	if err != nil || change.Flow.Status != flows.Waiting {
		t.Fatalf("%s, %v; want a flow that waits", outcome(change, err), err)
	}
	return change.Flow
}

// firing is what ended a wait, in short.
func firing(c flows.Change, err error) string {
	if err != nil {
		return outcome(c, err)
	}
	by := c.Flow.ResumedBy
	if c.Flow.Wait != nil {
		return "waits"
	}
	if by == nil {
		return string(c.Flow.Status)
	}
	text := string(by.Kind)
	if by.Condition != nil {
		text += fmt.Sprint(" ", *by.Condition)
	}
	return text
}

// TestFirstToHappen asks at several times what a timed wait does: as it begins, and later.
func TestFirstToHappen(t *testing.T) {
	callback, manual := flows.ConditionSpec{Kind: flows.WaitCallback}, flows.ConditionSpec{Kind: flows.WaitManual}
	timeout := func(a flows.SetWait, at float64, then flows.TimeoutAction) flows.SetWait {
		a.Timeout = &flows.TimeoutSpec{When: flows.When{At: ptr(in(at))}, Then: then}
		return a
	}
	timed := func(times ...float64) (list []flows.ConditionSpec) {
		for _, at := range times {
			list = append(list, specTimer(in(at)))
		}
		return list
	}
	for name, c := range map[string]struct {
		wait flows.SetWait
		at   float64
		want string
	}{
		"before its time":             {anyOf(timed(10)...), 9.999999, "not-waiting"},
		"at its time":                 {anyOf(timed(10)...), 10, "timer"},
		"after its time":              {anyOf(timed(10)...), 99, "timer"},
		"the earliest of several":     {anyOf(timed(30, 20, 10, 20)...), 15, "timer 2"},
		"the earliest of all past":    {anyOf(timed(30, 20, 10, 20)...), 99, "timer 2"},
		"none of several yet":         {anyOf(timed(30, 20, 10, 20)...), 9, "not-waiting"},
		"a tie":                       {anyOf(timed(30, 20, 20)...), 20, "timer 1"},
		"among others":                {anyOf(callback, manual, specEvent(payment), timed(10)[0]), 10, "timer 3"},
		"a timeout before":            {timeout(anyOf(timed(10)...), 20, flows.TimeoutResumes), 9, "not-waiting"},
		"a timer before a timeout":    {timeout(anyOf(timed(10)...), 20, flows.TimeoutFails), 99, "timer"},
		"a timeout before a timer":    {timeout(anyOf(timed(20)...), 10, flows.TimeoutResumes), 99, "timeout"},
		"a tie with a timeout":        {timeout(anyOf(timed(20, 10)...), 10, flows.TimeoutFails), 99, "timer 1"},
		"a timeout alone":             {timeout(anyOf(callback), 10, flows.TimeoutResumes), 10, "timeout"},
		"a timeout of a manual wait":  {timeout(flows.SetWait{Kind: flows.WaitManual}, 10, flows.TimeoutCancels), 10, "cancelled"},
		"a timeout that fails":        {timeout(anyOf(specEvent(payment)), 10, flows.TimeoutFails), 10, "failed"},
		"nothing that ends by clock":  {anyOf(callback, specEvent(payment)), 99, "not-waiting"},
		"nothing at all by the clock": {flows.SetWait{Kind: flows.WaitManual}, 99, "not-waiting"},
	} {
		f := begun(t, c.wait)
		due, timed := f.Wait.Due()
		if fires := timed && !due.After(in(c.at)); fires != (c.want != "not-waiting") {
			t.Errorf("%s: Due says %s, %v", name, due, timed)
		}
		if got := firing(decide(f, in(c.at), flows.FireDue{Generation: 6})); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
		for _, generation := range []int64{0, 5, 7} {
			if change, err := decide(f, in(c.at), flows.FireDue{Generation: generation}); !errors.Is(err, flows.ErrNotWaiting) {
				t.Errorf("%s: generation %d: %s", name, generation, outcome(change, err))
			}
		}
	}
}

// TestHappenedAlready begins waits of which something has happened: they end in the same change.
func TestHappenedAlready(t *testing.T) {
	past, now, later := specTimer(in(-5)), specTimer(noon), specTimer(in(5))
	mine, foreign, expired := arrival(2, payment), arrival(3, payment), arrival(4, payment)
	mine.FlowID, foreign.FlowID, expired.ExpiresAt = ptr(someID), ptr(stepA), noon
	delivered := arrival(5, payment)
	delivered.Outcome = flows.EventDelivered
	late := func(a flows.SetWait, then flows.TimeoutAction) flows.SetWait {
		a.Timeout = &flows.TimeoutSpec{When: flows.When{At: ptr(in(-60))}, Then: then}
		return a
	}
	for name, c := range map[string]struct {
		wait     flows.SetWait
		buffered []*flows.ExternalEvent
		want     string
	}{
		"a time that is past":              {anyOf(past), nil, "timer"},
		"a time that is now":               {anyOf(now), nil, "timer"},
		"a time to come":                   {anyOf(later), nil, "waits"},
		"the first of the list":            {anyOf(later, now, past), nil, "timer 1"},
		"an event":                         {anyOf(specEvent(payment)), []*flows.ExternalEvent{arrival(1, payment)}, "external_event"},
		"an event for this flow":           {anyOf(specEvent(payment)), []*flows.ExternalEvent{mine}, "external_event"},
		"an event of another pair":         {anyOf(specEvent(payment)), []*flows.ExternalEvent{arrival(1, other)}, "waits"},
		"an event for another flow":        {anyOf(specEvent(payment)), []*flows.ExternalEvent{foreign}, "waits"},
		"an event that has expired":        {anyOf(specEvent(payment)), []*flows.ExternalEvent{expired}, "waits"},
		"an event that was delivered":      {anyOf(specEvent(payment)), []*flows.ExternalEvent{delivered}, "waits"},
		"an event before a time":           {anyOf(specEvent(payment), past), []*flows.ExternalEvent{arrival(1, payment)}, "external_event 0"},
		"a time before an event":           {anyOf(past, specEvent(payment)), []*flows.ExternalEvent{arrival(1, payment)}, "timer 0"},
		"the second pair":                  {anyOf(specEvent(payment), specEvent(other)), []*flows.ExternalEvent{arrival(1, other)}, "external_event 1"},
		"a timeout, last":                  {late(anyOf(specEvent(payment), past), flows.TimeoutFails), nil, "timer 1"},
		"a timeout after an event":         {late(anyOf(specEvent(payment)), flows.TimeoutFails), []*flows.ExternalEvent{arrival(1, payment)}, "external_event"},
		"a timeout alone":                  {late(anyOf(later), flows.TimeoutResumes), nil, "timeout"},
		"a timeout that fails":             {late(anyOf(later), flows.TimeoutFails), nil, "failed"},
		"a timeout that cancels":           {late(flows.SetWait{Kind: flows.WaitManual}, flows.TimeoutCancels), nil, "cancelled"},
		"a callback and a manual, not yet": {anyOf(flows.ConditionSpec{Kind: flows.WaitCallback}, flows.ConditionSpec{Kind: flows.WaitManual}), nil, "waits"},
	} {
		change, err := decide(flowIn(flows.Running, false), noon, c.wait, c.buffered...)
		if got := firing(change, err); got != c.want || err != nil {
			t.Errorf("%s: %s, %v; want %s", name, got, err, c.want)
			continue
		}
		want, revision := "waiting", int64(6)
		if c.want != "waits" {
			second := "resumed"
			if c.want == "failed" || c.want == "cancelled" {
				second = c.want
			}
			want, revision = "waiting,"+second, 7
		}
		if kinds(change) != want || change.Flow.Revision != revision || change.Events[0].Revision != 6 || change.Events[0].Actor != "kate" {
			t.Errorf("%s: %s to revision %d, want %s", name, kinds(change), change.Flow.Revision, want)
		}
		if consumed := strings.HasPrefix(c.want, "external_event"); consumed != (change.Consumed != nil) {
			t.Errorf("%s: consumed %+v", name, change.Consumed)
		}
	}
}

// TestOldestFirst begins one wait after the other until nothing is left of what was kept.
func TestOldestFirst(t *testing.T) {
	kept := []*flows.ExternalEvent{arrival(9, payment), arrival(3, other), arrival(1, payment), arrival(5, payment)}
	kept[0].ExpiresAt = noon // it has expired, and is passed over
	f := flowIn(flows.Running, false)
	for i, want := range []byte{1, 5, 0} {
		change, err := decide(f, noon, anyOf(specEvent(payment)), kept...)
		if err != nil {
			t.Fatal(err)
		}
		if want == 0 {
			if change.Consumed != nil || change.Flow.Status != flows.Waiting {
				t.Errorf("wait %d: %+v ended it", i, change.Consumed)
			}
			break
		}
		e, by := change.Consumed, change.Flow.ResumedBy
		if e == nil || e.ID[15] != want || e.Outcome != flows.EventDelivered || e.FlowCount != 1 || by.EventID == nil || *by.EventID != e.ID ||
			!reflect.DeepEqual(e.Flows, []flows.ResumedFlow{{FlowID: someID, Revision: change.Flow.Revision}}) {
			t.Fatalf("wait %d: %+v, want event %d", i, e, want)
		}
		if got, want := string(change.Flow.State), fmt.Sprintf(`{"a":1,"resume_event":%d}`, want); got != want {
			t.Errorf("wait %d: state %s, want %s", i, got, want)
		}
		for j, old := range kept {
			if old.ID == e.ID {
				if old.Outcome != flows.EventBuffered || old.FlowCount != 0 || old.Flows != nil {
					t.Errorf("the recorded event was altered: %+v", old)
				}
				kept[j] = e
			}
		}
		f = change.Flow
	}
}

// endings are the commands that may end the wait of [endable], by name.
func endings() map[string]flows.Action {
	return map[string]flows.Action{
		"fire":     flows.FireDue{Generation: 6},
		"event":    flows.EndByEvent{Event: arrival(1, payment)},
		"callback": flows.EndByCallback{Generation: 6, Condition: 2, Key: "key-1", Payload: json.RawMessage(`{"ok":1.10}`)},
		"reject":   flows.EndByCallback{Generation: 6, Condition: 2, Key: "key-1", Rejected: true, Payload: json.RawMessage(`{"reason":"no"}`)},
		"signed":   flows.EndByCallback{Generation: 6, Condition: 3, Key: "key-1", Verified: true},
		"resume":   flows.Resume{Patch: json.RawMessage(`{"b":2}`)},
		"cancel":   flows.Cancel{},
		"request":  flows.RequestCancel{},
		"fail":     flows.Fail{Reason: "no"},
	}
}

// endable waits for everything at once.
func endable(t *testing.T) *flows.Flow {
	return begun(t, anyOf(specTimer(in(10)), specEvent(payment), flows.ConditionSpec{Kind: flows.WaitCallback},
		flows.ConditionSpec{Kind: flows.WaitCallback, Verify: &flows.Verify{Scheme: "github", Secret: "s3cret"}}))
}

// TestEndings says what each ending writes: the events, who made them, the patch and the cause.
func TestEndings(t *testing.T) {
	cause := func(kind, outcome, rest string) string {
		return fmt.Sprintf(`"cause":{"kind":%q,"outcome":%q,"at":"2026-04-23T12:00:10.000000Z","condition":%s,"generation":6}}`,
			kind, outcome, rest)
	}
	const id = `"event_id":"00000000-0000-0000-0000-000000000001"`
	for name, want := range map[string]struct{ events, state string }{
		"fire":     {`resumed by timer {` + cause("timer", "resumed", "0"), `{"a":1}`},
		"event":    {`resumed by external-event {"state_patch":{"resume_event":1},` + cause("external_event", "resumed", "1,"+id), `{"a":1,"resume_event":1}`},
		"callback": {`resumed by callback {"state_patch":{"resume_event":{"ok":1.10}},` + cause("callback", "resumed", "2"), `{"a":1,"resume_event":{"ok":1.10}}`},
		"reject":   {`resumed by callback {"state_patch":{"resume_event":{"reason":"no"}},` + cause("callback", "rejected", "2"), `{"a":1,"resume_event":{"reason":"no"}}`},
		"signed":   {`resumed by callback {"state_patch":{"resume_event":null},` + cause("callback", "resumed", "3"), `{"a":1,"resume_event":null}`},
		"resume":   {`resumed by kate {"state_patch":{"b":2},` + cause("manual", "resumed", "null"), `{"a":1,"b":2}`},
		"cancel":   {`cancelled by kate {"reason":null}`, `{"a":1}`},
		"request":  {`cancel_requested by kate {"reason":null} cancelled by kate {"reason":null}`, `{"a":1}`},
		"fail":     {`failed by kate {"reason":"no"}`, `{"a":1,"failure":{"reason":"no","at":"2026-04-23T12:00:10.000000Z"}}`},
	} {
		f := endable(t)
		change, err := decide(f, in(10), endings()[name])
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var events []string
		for i, e := range change.Events {
			events = append(events, fmt.Sprintf("%s by %s %s", e.Kind, e.Actor, e.Payload))
			if e.Revision != f.Revision+int64(i)+1 || !e.At.Equal(in(10)) {
				t.Errorf("%s: event %+v", name, e)
			}
		}
		if got := strings.Join(events, " "); got != want.events || string(change.Flow.State) != want.state {
			t.Errorf("%s:\n got %s, %s\nwant %s, %s", name, got, change.Flow.State, want.events, want.state)
		}
		if change.Flow.Wait != nil || !change.Updated || f.Wait == nil {
			t.Errorf("%s: %+v", name, change)
		}
	}
}

// TestWaitEndsOnce ends a wait in every way, and then tries every way again: on the flow as it is then, and where it
// waits once more for the same.
func TestWaitEndsOnce(t *testing.T) {
	again := map[string]string{"fire": "not-waiting", "event": "not-waiting", "callback": "wait-ended", "reject": "wait-ended",
		"signed": "wait-ended", "resume": "illegal"}
	for first, action := range endings() {
		change, err := decide(endable(t), in(10), action)
		if err != nil {
			t.Fatal(err)
		}
		ended := change.Flow
		for second, want := range again {
			if second == "resume" && ended.Status.Terminal() {
				want = "terminal"
			}
			change, err := decide(ended, in(20), endings()[second])
			if got := outcome(change, err); got != want || !reflect.DeepEqual(change, flows.Change{}) {
				t.Errorf("%s after %s: %s, want %s", second, first, got, want)
			}
		}
		if ended.Status.Terminal() {
			continue
		}
		change, err = decide(ended, in(20), anyOf(specTimer(in(30)), specEvent(payment), flows.ConditionSpec{Kind: flows.WaitCallback},
			flows.ConditionSpec{Kind: flows.WaitCallback}))
		if err != nil || change.Flow.Wait == nil {
			t.Fatal(err)
		}
		for second, want := range again {
			if second == "resume" || second == "event" && first != "event" {
				continue // it may end this wait too
			}
			change, err := decide(change.Flow, in(40), endings()[second])
			if got := outcome(change, err); got != want {
				t.Errorf("%s of the wait that ended with %s, in the next one: %s, want %s", second, first, got, want)
			}
		}
		if change, err := decide(change.Flow, in(40), flows.EndByEvent{Event: arrival(2, payment)}); firing(change, err) != "external_event 1" {
			t.Errorf("the next event: %s", firing(change, err))
		}
	}
}

// TestEndByEvent has events that are, and are not, for the flow that waits.
func TestEndByEvent(t *testing.T) {
	for name, c := range map[string]struct {
		alter func(*flows.ExternalEvent)
		want  string
	}{
		"the pair":                     {func(*flows.ExternalEvent) {}, "external_event 1"},
		"for this flow":                {func(e *flows.ExternalEvent) { e.FlowID = ptr(someID) }, "external_event 1"},
		"for another flow":             {func(e *flows.ExternalEvent) { e.FlowID = ptr(stepA) }, "not-waiting"},
		"another pair":                 {func(e *flows.ExternalEvent) { e.Pair = other }, "not-waiting"},
		"another topic":                {func(e *flows.ExternalEvent) { e.Pair.Topic = "Payment" }, "not-waiting"},
		"the other way":                {func(e *flows.ExternalEvent) { e.Pair = flows.Pair{Topic: "order-7", CorrelationID: "payment"} }, "not-waiting"},
		"no longer kept":               {func(e *flows.ExternalEvent) { e.ExpiresAt = noon }, "external_event 1"}, // the flow waited before it came
		"being delivered":              {func(e *flows.ExternalEvent) { e.Outcome = flows.EventDelivering }, "external_event 1"},
		"without a payload":            {func(e *flows.ExternalEvent) { e.Payload = nil }, "external_event 1"},
		"others had it since":          {func(e *flows.ExternalEvent) { e.FlowCount = 1 }, "external_event 1"},
		"others had it before":         {func(e *flows.ExternalEvent) { e.FlowCount, e.At = 1, noon.Add(-time.Second) }, "not-waiting"},
		"nobody had it, and it is old": {func(e *flows.ExternalEvent) { e.At = noon.Add(-time.Second) }, "external_event 1"},
	} {
		e := arrival(1, payment)
		c.alter(e)
		if got := firing(decide(endable(t), in(1), flows.EndByEvent{Event: e})); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

// TestEndByCallback refuses what the wait's own URL cannot have said.
func TestEndByCallback(t *testing.T) {
	for name, c := range map[string]struct {
		a    flows.EndByCallback
		want string
	}{
		"plain":                   {flows.EndByCallback{Generation: 6, Condition: 2, Key: "key-1"}, "callback 2"},
		"verified without need":   {flows.EndByCallback{Generation: 6, Condition: 2, Key: "key-1", Verified: true}, "callback 2"},
		"verified":                {flows.EndByCallback{Generation: 6, Condition: 3, Key: "key-1", Verified: true}, "callback 3"},
		"not verified":            {flows.EndByCallback{Generation: 6, Condition: 3, Key: "key-1"}, "unverified"},
		"a reject not verified":   {flows.EndByCallback{Generation: 6, Condition: 3, Key: "key-1", Rejected: true}, "unverified"},
		"an earlier wait":         {flows.EndByCallback{Generation: 5, Condition: 2, Key: "key-1"}, "wait-ended"},
		"an earlier wait's key":   {flows.EndByCallback{Generation: 5, Condition: 9, Key: "key-0"}, "wait-ended"},
		"another key":             {flows.EndByCallback{Generation: 6, Condition: 2, Key: "key-2"}, "not-found"},
		"no key":                  {flows.EndByCallback{Generation: 6, Condition: 2}, "not-found"},
		"no callback":             {flows.EndByCallback{Generation: 6, Condition: 1, Key: "key-1"}, "not-found"},
		"past the conditions":     {flows.EndByCallback{Generation: 6, Condition: 4, Key: "key-1"}, "not-found"},
		"before the conditions":   {flows.EndByCallback{Generation: 6, Condition: -1, Key: "key-1"}, "not-found"},
		"not verified, other key": {flows.EndByCallback{Generation: 6, Condition: 3, Key: "key-2"}, "not-found"},
	} {
		if got := firing(decide(endable(t), in(1), c.a)); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
	single := begun(t, anyOf(flows.ConditionSpec{Kind: flows.WaitCallback}))
	change, err := decide(single, in(1), flows.EndByCallback{Generation: 6, Key: "key-1"})
	if got := firing(change, err); got != "callback" || change.Flow.ResumedBy.Condition != nil {
		t.Errorf("the only condition: %s", got)
	}
}

// TestTimeoutActions has what a timeout does to the flow.
func TestTimeoutActions(t *testing.T) {
	const cause = `"cause":{"kind":"timeout","outcome":"resumed","at":"2026-04-23T12:00:10.000000Z","condition":null,"generation":6}}`
	for _, c := range []struct {
		then              flows.TimeoutAction
		patch             json.RawMessage
		event, state, end string
	}{
		{flows.TimeoutResumes, nil, `{` + cause, `{"a":1}`, "running"},
		{flows.TimeoutResumes, json.RawMessage(`{"late":1.10}`), `{"state_patch":{"late":1.10},` + cause, `{"a":1,"late":1.10}`, "running"},
		{flows.TimeoutResumes, json.RawMessage(`null`), `{"state_patch":null,` + cause, `null`, "running"},
		{flows.TimeoutResumes, json.RawMessage(`[1]`), `{"state_patch":[1],` + cause, `[1]`, "running"},
		{flows.TimeoutFails, nil, `{"reason":"timeout"}`, `{"a":1,"failure":{"reason":"timeout","at":"2026-04-23T12:00:10.000000Z"}}`, "failed"},
		{flows.TimeoutCancels, nil, `{"reason":"timeout"}`, `{"a":1}`, "cancelled"},
	} {
		a := anyOf(flows.ConditionSpec{Kind: flows.WaitCallback}, specEvent(payment))
		a.Timeout = &flows.TimeoutSpec{When: flows.When{After: &flows.Period{Rest: 10 * time.Second}}, Then: c.then, Patch: c.patch}
		f := begun(t, a)
		stored, err := flows.LoadWait(flows.StoreWait(f.Wait)) // as a store gives it back
		if err != nil {
			t.Fatal(err)
		}
		f.Wait = stored
		change, err := decide(f, in(10), flows.FireDue{Generation: 6})
		if err != nil || len(change.Events) != 1 {
			t.Fatalf("%s: %s, %v", c.then, kinds(change), err)
		}
		e, ended := change.Events[0], change.Flow
		if string(e.Payload) != c.event || e.Actor != flows.ActorTimer || string(ended.State) != c.state || string(ended.Status) != c.end {
			t.Errorf("%s: %s by %s, state %s, %s", c.then, e.Payload, e.Actor, ended.State, ended.Status)
		}
		if resumes := c.then == flows.TimeoutResumes; resumes != (ended.ResumedBy != nil) || resumes == (ended.EndedAt != nil) {
			t.Errorf("%s: resumed by %+v, ended at %v", c.then, ended.ResumedBy, ended.EndedAt)
		}
	}
}

// TestServiceNeverFailsForSize ends waits of a flow whose state is at its limit; only what a caller merges is refused,
// a timeout's patch when the wait begins.
func TestServiceNeverFailsForSize(t *testing.T) {
	small := func(f *flows.Flow, now time.Time, a flows.Action, buffered ...*flows.ExternalEvent) string {
		c := flows.Command{Owners: flows.Everyone, FlowID: someID, Action: a, MaxState: 7}
		return outcome(flows.Decide(flows.Subject{Flow: f, Buffered: buffered}, c, now))
	}
	for _, name := range []string{"fire", "event", "callback", "reject", "signed", "fail"} {
		if got := small(endable(t), in(10), endings()[name]); !strings.HasSuffix(got, ":resumed") && got != "failed:failed" {
			t.Errorf("%s: %s", name, got)
		}
	}
	if got := small(endable(t), in(10), endings()["resume"]); got != "too-large" {
		t.Errorf("resume with a patch: %s", got)
	}
	running := flowIn(flows.Running, false)
	if got := small(running, noon, anyOf(specEvent(payment)), arrival(1, payment)); got != "running:waiting,resumed" {
		t.Errorf("a wait that ends as it begins: %s", got)
	}
	a := anyOf(specEvent(payment))
	a.Timeout = &flows.TimeoutSpec{When: flows.When{At: ptr(in(10))}, Then: flows.TimeoutFails}
	full := flowIn(flows.Running, false)
	full.State = json.RawMessage(`{"state":"that the service made larger"}`)
	if got := small(full, noon, a); got != "waiting:waiting" {
		t.Errorf("a timeout without a patch: %s", got)
	}
	a.Timeout = &flows.TimeoutSpec{When: flows.When{At: ptr(in(10))}, Then: flows.TimeoutResumes, Patch: json.RawMessage(`{"b":2}`)}
	if got := small(running, noon, a); got != "too-large" {
		t.Errorf("a timeout's patch that is too large: %s", got)
	}
	a.Timeout.Patch = json.RawMessage(`{"a":2}`)
	if got := small(running, noon, a); got != "waiting:waiting" {
		t.Errorf("a timeout's patch that just fits: %s", got)
	}
}

// TestStateThatIsNoObject keeps it under value when something is added.
func TestStateThatIsNoObject(t *testing.T) {
	for state, want := range map[string]string{
		`[1.10]`: `{"value":[1.10],"resume_event":1}`, `null`: `{"value":null,"resume_event":1}`, ` "x" `: `{"value":"x","resume_event":1}`,
		`{}`: `{"resume_event":1}`, `{"resume_event":0,"b":2}`: `{"resume_event":1,"b":2}`,
	} {
		f := endable(t)
		f.State = json.RawMessage(state)
		change, err := decide(f, in(1), endings()["event"])
		if err != nil || string(change.Flow.State) != want {
			t.Errorf("%s: %s, %v; want %s", state, change.Flow.State, err, want)
		}
		if strings.HasPrefix(state, "{") {
			continue
		}
		change, err = decide(f, in(10), flows.FireDue{Generation: 6})
		if err != nil || string(change.Flow.State) != state {
			t.Errorf("a timer adds nothing: %s, %v; want %s", change.Flow.State, err, state)
		}
	}
}

// TestClockRunsBackwards ends waits of a flow whose last change is of a later time than the clock says it is: what ends by
// the clock goes by the clock, and the flow's own times do not go back.
func TestClockRunsBackwards(t *testing.T) {
	f := flowIn(flows.Running, false)
	f.UpdatedAt = in(100)
	change, err := decide(f, in(50), anyOf(specTimer(in(80))))
	if err != nil || change.Flow.Wait == nil || !change.Flow.Wait.Since.Equal(in(100)) {
		t.Fatalf("a time to come by the clock: %s, %v", firing(change, err), err)
	}
	waits := change.Flow
	if change, err := decide(waits, in(79), flows.FireDue{Generation: 6}); !errors.Is(err, flows.ErrNotWaiting) {
		t.Errorf("before its time: %s", firing(change, err))
	}
	change, err = decide(waits, in(80), flows.FireDue{Generation: 6})
	if err != nil || !change.Flow.ResumedBy.At.Equal(in(100)) || !change.Flow.UpdatedAt.Equal(in(100)) {
		t.Errorf("at its time: %s, %+v, %v", firing(change, err), change.Flow, err)
	}
	change, err = decide(f, in(50), anyOf(flows.ConditionSpec{Kind: flows.WaitTimer, When: flows.When{After: &flows.Period{Rest: 10 * time.Second}}}))
	if err != nil || change.Flow.Wait == nil || !change.Flow.Wait.Conditions[0].At.Equal(in(60)) {
		t.Errorf("ten seconds from now: %+v, %v", change.Flow, err)
	}
	e := arrival(1, payment)
	e.ExpiresAt = in(60)
	if change, err = decide(f, in(50), anyOf(specEvent(payment)), e); firing(change, err) != "external_event" {
		t.Errorf("an event that is kept still: %s", firing(change, err))
	}
}

func TestAwaits(t *testing.T) {
	for name, c := range map[string]struct {
		action flows.Action
		want   []flows.Pair
	}{
		"one":              {anyOf(specEvent(payment)), []flows.Pair{payment}},
		"several":          {anyOf(specEvent(other), specTimer(noon), specEvent(payment), specEvent(other)), []flows.Pair{other, payment}},
		"none":             {anyOf(specTimer(noon)), nil},
		"by hand":          {flows.SetWait{Kind: flows.WaitManual}, nil},
		"a stray pair":     {anyOf(flows.ConditionSpec{Kind: flows.WaitCallback, Pair: payment}), nil},
		"no wait":          {flows.Start{}, nil},
		"an end by events": {flows.EndByEvent{Event: arrival(1, payment)}, nil},
	} {
		if got := (flows.Command{Owners: flows.Everyone, Action: c.action}).Awaits(); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}
