package flows

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
)

// This file is the one JSON form of waits, their endings and event payloads: in answers, in the trail and in the
// stores alike.

// TimeFormat is RFC 3339 in UTC with microseconds, always six digits.
const TimeFormat = "2006-01-02T15:04:05.000000Z"

// FormatTime writes a time as every answer and payload has it.
func FormatTime(t time.Time) string { return string(AppendTime(nil, t)) }

// AppendTime appends a time in [TimeFormat]. The standard library is quick with RFC 3339 alone, so the microseconds, rounded
// down, are written by hand.
func AppendTime(out []byte, t time.Time) []byte {
	t = t.UTC()
	out = t.AppendFormat(out, time.RFC3339)
	out[len(out)-1] = '.' // in place of the Z
	for unit := 100_000; unit > 0; unit /= 10 {
		out = append(out, byte('0'+t.Nanosecond()/1000/unit%10))
	}
	return append(out, 'Z')
}

// What is read back has types of its own.
type wireWait struct {
	wireCondition
	Conditions  []wireCondition `json:"conditions"`
	Timeout     *wireTimeout    `json:"timeout"`
	Generation  int64           `json:"generation"`
	Since       string          `json:"since"`
	Details     json.RawMessage `json:"details"`
	CallbackKey string          `json:"callback_key"` // stored only
}

type wireCondition struct {
	Kind          WaitKind    `json:"kind"`
	At            string      `json:"at"`
	Topic         *string     `json:"topic"`
	CorrelationID *string     `json:"correlation_id"`
	Verify        *wireVerify `json:"verify"`
}

type wireVerify struct {
	Scheme string `json:"scheme"`
	Header string `json:"header"`
	Secret string `json:"secret"` // stored only
}

type wireTimeout struct {
	At         string          `json:"at"`
	OnTimeout  TimeoutAction   `json:"on_timeout"`
	StatePatch json.RawMessage `json:"state_patch"`
}

// EncodeWait writes a wait as callers see it, null for none: without secrets, and without the URLs of its callbacks
// unless url makes them, from the index of the condition.
func EncodeWait(w *Wait, url func(condition int) string) json.RawMessage {
	return encodeWait(w, url, false)
}

// StoreWait writes a wait with everything that belongs to it, for the stores; null for none.
func StoreWait(w *Wait) json.RawMessage { return encodeWait(w, nil, true) }

func encodeWait(w *Wait, url func(condition int) string, stored bool) json.RawMessage {
	if w == nil {
		return json.RawMessage("null")
	}
	o := newObject().text("kind", string(w.Kind))
	if w.Kind == WaitAnyOf {
		o.name("conditions")
		o.out = append(o.out, '[')
		for i, c := range w.Conditions {
			if i > 0 {
				o.out = append(o.out, ',')
			}
			one := newObject().text("kind", string(c.Kind))
			one.condition(c, i, url, stored)
			o.out = append(o.out, one.end()...)
		}
		o.out = append(o.out, ']')
	} else {
		for i, c := range w.Conditions {
			o.condition(c, i, url, stored)
		}
	}
	if t := w.Timeout; t != nil {
		o.json("timeout", newObject().time("at", t.At).text("on_timeout", string(t.Then)).jsonIf("state_patch", t.Patch).end())
	}
	o.number("generation", w.Generation).time("since", w.Since).jsonIf("details", w.Details)
	if stored {
		o.textIf("callback_key", w.CallbackKey)
	}
	return o.end()
}

// condition writes a condition but for its kind.
func (o *object) condition(c Condition, index int, url func(int) string, stored bool) {
	switch c.Kind {
	case WaitTimer:
		o.time("at", c.At)
	case WaitExternalEvent:
		o.text("topic", c.Pair.Topic).text("correlation_id", c.Pair.CorrelationID)
	case WaitCallback:
		if url != nil {
			o.textIf("url", url(index))
		}
		if v := c.Verify; v != nil {
			verify := newObject().text("scheme", v.Scheme).textIf("header", v.Header)
			if stored {
				verify.textIf("secret", v.Secret)
			}
			o.json("verify", verify.end())
		}
	}
}

// LoadWait reads what [StoreWait] wrote.
func LoadWait(data []byte) (*Wait, error) {
	var in *wireWait
	if err := json.Unmarshal(data, &in); err != nil || in == nil {
		return nil, wrapDecode("wait", err)
	}
	w := &Wait{Kind: in.Kind, Details: in.Details, Generation: in.Generation, CallbackKey: in.CallbackKey}
	var err error
	if w.Since, err = time.Parse(TimeFormat, in.Since); err != nil {
		return nil, wrapDecode("wait", err)
	}
	conditions := in.Conditions
	if w.Kind != WaitAnyOf {
		conditions = []wireCondition{in.wireCondition}
	}
	for _, one := range conditions {
		c, err := one.condition()
		if err != nil {
			return nil, err
		}
		w.Conditions = append(w.Conditions, c)
	}
	if t := in.Timeout; t != nil {
		w.Timeout = &Timeout{Then: t.OnTimeout, Patch: t.StatePatch}
		if w.Timeout.At, err = time.Parse(TimeFormat, t.At); err != nil {
			return nil, wrapDecode("timeout", err)
		}
	}
	return w, nil
}

func (one wireCondition) condition() (c Condition, err error) {
	c.Kind = one.Kind
	if one.At != "" {
		if c.At, err = time.Parse(TimeFormat, one.At); err != nil {
			return c, wrapDecode("timer", err)
		}
	}
	if one.Topic != nil && one.CorrelationID != nil {
		c.Pair = Pair{*one.Topic, *one.CorrelationID}
	}
	if v := one.Verify; v != nil {
		c.Verify = &Verify{v.Scheme, v.Header, v.Secret}
	}
	return c, nil
}

type wireResumedBy struct {
	Kind      ResumeKind    `json:"kind"`
	Outcome   ResumeOutcome `json:"outcome"`
	At        string        `json:"at"`
	Condition *int          `json:"condition"`
	EventID   *uuid.UUID    `json:"event_id"`
}

// EncodeResumedBy writes how a wait ended as JSON, null for none.
func EncodeResumedBy(r *ResumedBy) json.RawMessage {
	if r == nil {
		return json.RawMessage("null")
	}
	return resumedBy(r).end()
}

func resumedBy(r *ResumedBy) *object {
	o := newObject().text("kind", string(r.Kind)).text("outcome", string(r.Outcome)).time("at", r.At)
	if r.Condition == nil {
		o.json("condition", json.RawMessage("null"))
	} else {
		o.number("condition", int64(*r.Condition))
	}
	if r.EventID != nil {
		o.text("event_id", r.EventID.String())
	}
	return o
}

// DecodeResumedBy reads what [EncodeResumedBy] wrote.
func DecodeResumedBy(data []byte) (*ResumedBy, error) {
	var r *wireResumedBy
	if err := json.Unmarshal(data, &r); err != nil || r == nil {
		return nil, wrapDecode("resumed_by", err)
	}
	at, err := time.Parse(TimeFormat, r.At)
	if err != nil {
		return nil, wrapDecode("resumed_by", err)
	}
	return &ResumedBy{Kind: r.Kind, Outcome: r.Outcome, At: at, Condition: r.Condition, EventID: r.EventID}, nil
}

// wireResumedFlow is a [ResumedFlow] as it is stored.
type wireResumedFlow struct {
	ID       uuid.UUID `json:"id"`
	Revision int64     `json:"revision"`
}

// StoreResumed writes the flows of a receipt as they are stored: a JSON array, empty for none.
func StoreResumed(list []ResumedFlow) json.RawMessage {
	stored := make([]wireResumedFlow, len(list))
	for i, f := range list {
		stored[i] = wireResumedFlow{f.FlowID, f.Revision}
	}
	return encode(stored)
}

// LoadResumed reads what [StoreResumed] wrote.
func LoadResumed(data []byte) (list []ResumedFlow, err error) {
	var stored []wireResumedFlow
	if err := json.Unmarshal(data, &stored); err != nil {
		return nil, wrapDecode("the flows of an external event", err)
	}
	for _, f := range stored {
		list = append(list, ResumedFlow{f.ID, f.Revision})
	}
	return list, nil
}

// StoreLabels writes labels as they are stored: a JSON object, empty for none.
func StoreLabels(labels map[string]string) json.RawMessage {
	if len(labels) == 0 {
		return json.RawMessage("{}")
	}
	return encode(labels)
}

// LoadLabels reads what [StoreLabels] wrote; none is nil.
func LoadLabels(data []byte) (labels map[string]string, err error) {
	if string(data) == "{}" {
		return nil, nil
	}
	return labels, wrapDecode("labels", json.Unmarshal(data, &labels))
}

func wrapDecode(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("decoding %s: %w", what, err)
}

// The payloads of the audit events. What was not given is null, except a patch, which is left out: a null patch is a
// patch. created and state_updated carry more than their core members only where the caller sent more, so that the
// trail alone tells the whole story.

func payloadCreated(a Create, f *Flow) json.RawMessage {
	return newObject().text("controller_id", a.ControllerID).text("goal", a.Goal).text("current_step", f.CurrentStep).
		jsonIf("state", a.State).other("labels", a.Labels, len(a.Labels)).textIf("requester_origin", a.RequesterOrigin).end()
}

func payloadWaiting(w *Wait) json.RawMessage {
	return newObject().json("wait", EncodeWait(w, nil)).end()
}

// payloadResumed has the generation of the wait with what ended it: that tells it from every other.
func payloadResumed(patch json.RawMessage, by *ResumedBy, generation int64) json.RawMessage {
	return newObject().jsonIf("state_patch", patch).json("cause", resumedBy(by).number("generation", generation).end()).end()
}

func payloadFinished(finalState json.RawMessage) json.RawMessage {
	return newObject().jsonIf("final_state", finalState).end()
}

func payloadFailed(reason string) json.RawMessage { return newObject().text("reason", reason).end() }

// payloadReason is that of cancel_requested and cancelled.
func payloadReason(reason *string) json.RawMessage {
	return newObject().textOrNull("reason", reason).end()
}

func payloadStateUpdated(a UpdateState) json.RawMessage {
	o := newObject().jsonIf("patch", a.Patch).textOrNull("next_step", a.CurrentStep)
	if a.Goal != nil {
		o.text("goal", *a.Goal)
	}
	return o.other("labels", a.Labels, len(a.Labels)).end()
}

func payloadStepObserved(s *Step) json.RawMessage {
	return newObject().text("run_id", s.RunID).text("status", string(s.Status)).text("runtime", string(s.Runtime)).end()
}

// What the service itself adds to a state.

func ownResumeEvent(payload json.RawMessage) json.RawMessage {
	if payload == nil {
		payload = json.RawMessage("null")
	}
	return newObject().json("resume_event", payload).end()
}

func ownFailure(reason string, at time.Time) json.RawMessage {
	return newObject().json("failure", newObject().text("reason", reason).time("at", at).end()).end()
}
