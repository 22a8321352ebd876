package flows_test

import (
	"errors"
	"reflect"
	"testing"
	"time"

	"taskflow/internal/flows"

	"github.com/google/uuid"
)

func TestOutcomeAt(t *testing.T) {
	for _, outcome := range flows.EventOutcomes {
		for _, c := range []struct {
			now  time.Time
			past bool
		}{{in(9.999999), false}, {in(10), true}, {in(11), true}} {
			e := flows.ExternalEvent{Owners: flows.Everyone, Outcome: outcome, ExpiresAt: in(10)}
			want := outcome
			if outcome == flows.EventBuffered && c.past {
				want = flows.EventExpired
			}
			if got := e.OutcomeAt(c.now); got != want {
				t.Errorf("%s at %s: %s, want %s", outcome, c.now, got, want)
			}
			for _, to := range []*uuid.UUID{nil, ptr(someID), ptr(stepA)} {
				e.FlowID = to
				mine := to == nil || *to == someID
				if got, want := e.Live(&flows.Flow{ID: someID}, c.now), outcome == flows.EventBuffered && !c.past && mine; got != want {
					t.Errorf("%s at %s, for %v: live %v, want %v", outcome, c.now, to, got, want)
				}
			}
		}
	}
}

// TestSettle decides fates: by who was resumed, whether others may wait, whom the event is for, and how long it is kept.
func TestSettle(t *testing.T) {
	resumed := []*flows.Flow{{ID: someID, Revision: 7}, {ID: stepA, Revision: 3}}
	running, ended := flowIn(flows.Running, false), flowIn(flows.Failed, false)
	for name, c := range map[string]struct {
		ttl     float64
		resumed []*flows.Flow
		more    bool
		target  *flows.Flow
		want    flows.EventOutcome
	}{
		"nobody, and kept":               {10, nil, false, nil, flows.EventBuffered},
		"nobody, and not kept":           {0, nil, false, nil, flows.EventUnmatched},
		"some":                           {10, resumed, false, nil, flows.EventDelivered},
		"some, and not kept":             {0, resumed, false, nil, flows.EventDelivered},
		"some, and others wait":          {10, resumed, true, nil, flows.EventDelivering},
		"some, others wait and not kept": {0, resumed, true, nil, flows.EventDelivering},
		"a flow that has yet to wait":    {10, nil, false, running, flows.EventBuffered},
		"the same, and not kept":         {0, nil, false, running, flows.EventUnmatched},
		"a flow that has ended":          {10, nil, false, ended, flows.EventUnmatched},
		"a flow that a timeout failed":   {10, resumed[:1], false, ended, flows.EventDelivered},
	} {
		e := flows.ExternalEvent{Owners: flows.Everyone, ID: stepA, At: noon, ExpiresAt: in(c.ttl)}
		got := e.Settle(c.resumed, c.more, c.target, noon)
		if got.Outcome != c.want || got.FlowCount != int64(len(c.resumed)) || len(got.Flows) != len(c.resumed) {
			t.Errorf("%s: %+v, want %s", name, got, c.want)
		}
		for i, f := range c.resumed {
			if got.Flows[i] != (flows.ResumedFlow{FlowID: f.ID, Revision: f.Revision}) {
				t.Errorf("%s: flow %d is %+v", name, i, got.Flows[i])
			}
		}
		if !reflect.DeepEqual(e, flows.ExternalEvent{Owners: flows.Everyone, ID: stepA, At: noon, ExpiresAt: in(c.ttl)}) {
			t.Errorf("%s: the event itself was altered: %+v", name, e)
		}
	}
}

// TestSettleInParts delivers to 250 flows in three parts: the receipt lists the first hundred and counts all.
func TestSettleInParts(t *testing.T) {
	e := flows.ExternalEvent{Owners: flows.Everyone, ID: stepA, At: noon, ExpiresAt: in(10)}
	made := byte(0)
	for _, part := range []struct {
		flows int
		more  bool
		want  flows.EventOutcome
	}{{90, true, flows.EventDelivering}, {90, true, flows.EventDelivering}, {70, false, flows.EventDelivered}} {
		before, listed := e, append([]flows.ResumedFlow(nil), e.Flows...)
		var resumed []*flows.Flow
		for range part.flows {
			resumed = append(resumed, &flows.Flow{ID: uuid.UUID{15: made}, Revision: int64(made)})
			made++
		}
		e = e.Settle(resumed, part.more, nil, in(100)) // it has expired, and goes on all the same
		if e.Outcome != part.want || e.FlowCount != int64(made) || len(e.Flows) != min(int(made), flows.MaxReceiptFlows) {
			t.Errorf("after %d flows: %s, %d of them, %d listed", made, e.Outcome, e.FlowCount, len(e.Flows))
		}
		if !reflect.DeepEqual(before.Flows, listed) {
			t.Error("the receipt before was altered")
		}
	}
	for i, f := range e.Flows {
		if f.Revision != int64(i) {
			t.Errorf("flow %d of the receipt is %+v", i, f)
		}
	}
}

func TestValidateEvent(t *testing.T) {
	for want, p := range map[string]flows.Pair{
		"":                       {Topic: long(256), CorrelationID: long(256)},
		"/topic":                 {CorrelationID: "c"},
		"/correlation_id":        {Topic: "t", CorrelationID: long(257)},
		"/topic /correlation_id": {Topic: "a\x00b", CorrelationID: "\xff"},
	} {
		err := (&flows.ExternalEvent{Pair: p}).Validate()
		var invalid *flows.InvalidValue
		got := ""
		if errors.As(err, &invalid) {
			for i, f := range invalid.Fields {
				if i > 0 {
					got += " "
				}
				got += f.Pointer
			}
		}
		if got != want || (err == nil) != (want == "") {
			t.Errorf("%q: %v, want %s", p, err, want)
		}
	}
}
