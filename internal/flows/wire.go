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
func FormatTime(t time.Time) string { return t.UTC().Format(TimeFormat) }

type wireWait struct {
	Kind       WaitKind        `json:"kind"`
	Generation int64           `json:"generation"`
	Since      string          `json:"since"`
	Details    json.RawMessage `json:"details,omitempty"`
}

// EncodeWait writes a wait as JSON, null for none.
func EncodeWait(w *Wait) json.RawMessage {
	if w == nil {
		return json.RawMessage("null")
	}
	return encode(wireWait{w.Kind, w.Generation, FormatTime(w.Since), w.Details})
}

// DecodeWait reads what [EncodeWait] wrote.
func DecodeWait(data []byte) (*Wait, error) {
	var w *wireWait
	if err := json.Unmarshal(data, &w); err != nil || w == nil {
		return nil, wrapDecode("wait", err)
	}
	since, err := time.Parse(TimeFormat, w.Since)
	if err != nil {
		return nil, wrapDecode("wait", err)
	}
	return &Wait{Kind: w.Kind, Details: w.Details, Generation: w.Generation, Since: since}, nil
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
