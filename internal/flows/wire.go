package flows

import (
	"bytes"
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

type wireWait struct {
	wireCondition
	Conditions  []wireCondition `json:"conditions,omitempty"`
	Timeout     *wireTimeout    `json:"timeout,omitempty"`
	Generation  int64           `json:"generation"`
	Since       string          `json:"since"`
	Details     json.RawMessage `json:"details,omitempty"`
	CallbackKey string          `json:"callback_key,omitempty"` // stored only
}

type wireCondition struct {
	Kind          WaitKind    `json:"kind"`
	At            string      `json:"at,omitempty"`
	Topic         *string     `json:"topic,omitempty"`
	CorrelationID *string     `json:"correlation_id,omitempty"`
	URL           string      `json:"url,omitempty"` // shown only
	Verify        *wireVerify `json:"verify,omitempty"`
}

type wireVerify struct {
	Scheme string `json:"scheme"`
	Header string `json:"header,omitempty"`
	Secret string `json:"secret,omitempty"` // stored only
}

type wireTimeout struct {
	At         string          `json:"at"`
	OnTimeout  TimeoutAction   `json:"on_timeout"`
	StatePatch json.RawMessage `json:"state_patch,omitempty"`
}

// EncodeWait writes a wait as callers see it, null for none: without secrets, and without the URLs of its callbacks
// unless url makes them, from the index of the condition.
func EncodeWait(w *Wait, url func(condition int) string) json.RawMessage {
	if w == nil {
		return json.RawMessage("null")
	}
	out := wireOf(w)
	for i, c := range w.Conditions {
		one := &out.wireCondition
		if w.Kind == WaitAnyOf {
			one = &out.Conditions[i]
		}
		if c.Kind == WaitCallback && url != nil {
			one.URL = url(i)
		}
	}
	return encode(out)
}

// StoreWait writes a wait with everything that belongs to it, for the stores; null for none.
func StoreWait(w *Wait) json.RawMessage {
	if w == nil {
		return json.RawMessage("null")
	}
	out := wireOf(w)
	out.CallbackKey = w.CallbackKey
	for i, c := range w.Conditions {
		if c.Verify == nil {
			continue
		}
		if w.Kind == WaitAnyOf {
			out.Conditions[i].Verify.Secret = c.Verify.Secret
		} else {
			out.Verify.Secret = c.Verify.Secret
		}
	}
	return encode(out)
}

func wireOf(w *Wait) wireWait {
	out := wireWait{Details: w.Details, Generation: w.Generation, Since: FormatTime(w.Since)}
	out.Kind = w.Kind
	for _, c := range w.Conditions {
		one := wireCondition{Kind: c.Kind}
		switch c.Kind {
		case WaitTimer:
			one.At = FormatTime(c.At)
		case WaitExternalEvent:
			one.Topic, one.CorrelationID = &c.Pair.Topic, &c.Pair.CorrelationID
		case WaitCallback:
			if c.Verify != nil {
				one.Verify = &wireVerify{Scheme: c.Verify.Scheme, Header: c.Verify.Header}
			}
		}
		if w.Kind == WaitAnyOf {
			out.Conditions = append(out.Conditions, one)
		} else {
			out.wireCondition = one
		}
	}
	if t := w.Timeout; t != nil {
		out.Timeout = &wireTimeout{FormatTime(t.At), t.Then, t.Patch}
	}
	return out
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
	EventID   *uuid.UUID    `json:"event_id,omitempty"`
}

// EncodeResumedBy writes how a wait ended as JSON, null for none.
func EncodeResumedBy(r *ResumedBy) json.RawMessage {
	if r == nil {
		return json.RawMessage("null")
	}
	return encode(wireResumedBy{r.Kind, r.Outcome, FormatTime(r.At), r.Condition, r.EventID})
}

// encodeCause writes what ended a wait, for the trail: with the generation of the wait, which tells it from every other.
func encodeCause(r *ResumedBy, generation int64) json.RawMessage {
	return encode(wireCause{wireResumedBy{r.Kind, r.Outcome, FormatTime(r.At), r.Condition, r.EventID}, generation})
}

type wireCause struct {
	wireResumedBy
	Generation int64 `json:"generation"`
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

func wrapDecode(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("decoding %s: %w", what, err)
}

// The payloads of the audit events. What was not given is null, except a patch, which is left out: a null patch is a
// patch. created and state_updated carry more than their core members only where the caller sent more, so that the
// trail alone tells the whole story.
type (
	payloadCreated struct {
		ControllerID    string            `json:"controller_id"`
		Goal            string            `json:"goal"`
		CurrentStep     string            `json:"current_step"`
		State           json.RawMessage   `json:"state,omitempty"`
		Labels          map[string]string `json:"labels,omitempty"`
		RequesterOrigin string            `json:"requester_origin,omitempty"`
	}
	payloadWaiting struct {
		Wait json.RawMessage `json:"wait"`
	}
	payloadResumed struct {
		StatePatch json.RawMessage `json:"state_patch,omitempty"`
		Cause      json.RawMessage `json:"cause"`
	}
	payloadFinished struct {
		FinalState json.RawMessage `json:"final_state,omitempty"`
	}
	payloadFailed struct {
		Reason string `json:"reason"`
	}
	payloadReason struct {
		Reason *string `json:"reason"`
	}
	payloadStateUpdated struct {
		Patch    json.RawMessage    `json:"patch,omitempty"`
		NextStep *string            `json:"next_step"`
		Goal     *string            `json:"goal,omitempty"`
		Labels   map[string]*string `json:"labels,omitempty"`
	}
	payloadStepObserved struct {
		RunID   string     `json:"run_id"`
		Status  StepStatus `json:"status"`
		Runtime Mode       `json:"runtime"`
	}
	ownResumeEvent struct {
		ResumeEvent json.RawMessage `json:"resume_event"`
	}
	failure struct {
		Reason string `json:"reason"`
		At     string `json:"at"`
	}
	ownFailure struct {
		Failure failure `json:"failure"`
	}
)

// encode marshals one of the types of this file, the caller's JSON unescaped. They hold strings and JSON that the guard
// has let through, so it cannot fail; a fault in that promise is a panic here, not a half-written trail.
func encode(v any) json.RawMessage {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		panic(fmt.Sprintf("flows: encoding %T: %v", v, err))
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n"))
}
