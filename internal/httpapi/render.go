package httpapi

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"time"

	"taskflow/internal/flows"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"
)

// Answers are written by hand: the caller's JSON leaves digit for digit and is not read once more on the way.

// jsonWriter appends members to a JSON object.
type jsonWriter struct{ out []byte }

func (w *jsonWriter) name(name string) {
	if last := w.out[len(w.out)-1]; last != '{' {
		w.out = append(w.out, ',')
	}
	w.out = append(w.out, '"')
	w.out = append(w.out, name...)
	w.out = append(w.out, '"', ':')
}

func (w *jsonWriter) text(name, value string) {
	w.name(name)
	w.out = appendString(w.out, value)
}

func (w *jsonWriter) id(name string, value uuid.UUID) {
	w.name(name)
	w.out = append(w.out, '"')
	for i, part := range [][]byte{value[:4], value[4:6], value[6:8], value[8:10], value[10:]} {
		if i > 0 {
			w.out = append(w.out, '-')
		}
		w.out = hex.AppendEncode(w.out, part)
	}
	w.out = append(w.out, '"')
}

func (w *jsonWriter) number(name string, value int64) {
	w.name(name)
	w.out = strconv.AppendInt(w.out, value, 10)
}

func (w *jsonWriter) raw(name string, value json.RawMessage) {
	w.name(name)
	w.out = append(w.out, value...)
}

func (w *jsonWriter) time(name string, value time.Time) {
	w.name(name)
	w.out = append(w.out, '"')
	w.out = flows.AppendTime(w.out, value)
	w.out = append(w.out, '"')
}

func (w *jsonWriter) optionalTime(name string, value *time.Time) {
	if value == nil {
		w.raw(name, json.RawMessage("null"))
		return
	}
	w.time(name, *value)
}

func (w *jsonWriter) optionalText(name string, value *string) {
	if value == nil {
		w.raw(name, json.RawMessage("null"))
		return
	}
	w.text(name, *value)
}

// appendString appends a JSON string. Strings are valid UTF-8 from the guard on.
func appendString(out []byte, s string) []byte {
	out, _ = jsontext.AppendQuote(out, s)
	return out
}

// flowSize is about how many bytes a flow takes besides its goal and its state.
const flowSize = 768

// appendFlow appends a flow as JSON; a summary leaves its state out. url makes the URLs of its callbacks, nil none.
func appendFlow(out []byte, f *flows.Flow, withState bool, url func(int) string) []byte {
	w := jsonWriter{append(slices.Grow(out, flowSize+len(f.Goal)+len(f.State)), '{')}
	w.id("id", f.ID)
	w.text("mode", string(f.Mode))
	w.text("controller_id", f.ControllerID)
	w.text("goal", f.Goal)
	w.text("owner_session_key", f.OwnerSessionKey)
	w.text("requester_origin", f.RequesterOrigin)
	w.text("current_step", f.CurrentStep)
	if withState {
		w.raw("state", f.State)
	}
	w.raw("wait", flows.EncodeWait(f.Wait, url))
	w.raw("resumed_by", flows.EncodeResumedBy(f.ResumedBy))
	w.text("status", string(f.Status))
	w.name("cancel_requested")
	w.out = strconv.AppendBool(w.out, f.CancelRequested)
	w.number("revision", f.Revision)
	w.name("labels")
	w.out = appendLabels(w.out, f.Labels)
	w.time("created_at", f.CreatedAt)
	w.time("updated_at", f.UpdatedAt)
	w.optionalTime("ended_at", f.EndedAt)
	return append(w.out, '}')
}

func appendLabels(out []byte, labels map[string]string) []byte {
	if len(labels) == 0 {
		return append(out, "{}"...)
	}
	out = append(out, '{')
	for i, key := range slices.Sorted(maps.Keys(labels)) {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(appendString(out, key), ':')
		out = appendString(out, labels[key])
	}
	return append(out, '}')
}

func appendStep(out []byte, s *flows.Step) []byte {
	w := jsonWriter{append(out, '{')}
	w.id("id", s.ID)
	w.id("flow_id", s.FlowID)
	w.text("run_id", s.RunID)
	w.text("runtime", string(s.Runtime))
	w.text("task", s.Task)
	w.text("status", string(s.Status))
	w.optionalText("child_session_key", s.ChildSessionKey)
	w.raw("result", s.Result)
	w.time("observed_at", s.ObservedAt)
	w.time("created_at", s.CreatedAt)
	w.time("updated_at", s.UpdatedAt)
	return append(w.out, '}')
}

func appendEvent(out []byte, e flows.Event) []byte {
	w := jsonWriter{append(out, '{')}
	w.number("seq", e.Seq)
	w.id("flow_id", e.FlowID)
	w.number("revision", e.Revision)
	w.text("kind", string(e.Kind))
	w.raw("payload", e.Payload)
	w.text("actor", e.Actor)
	w.time("at", e.At)
	if e.Traceparent != "" {
		w.text("traceparent", e.Traceparent)
	}
	return append(w.out, '}')
}

// page is the answer of every list.
func page[T any](items []T, next string, appendItem func([]byte, T) []byte) reply {
	out := []byte(`{"items":[`)
	for i, item := range items {
		if i > 0 {
			out = append(out, ',')
		}
		out = appendItem(out, item)
	}
	out = append(out, `],"next_cursor":`...)
	if next == "" {
		out = append(out, `null}`...)
	} else {
		out = append(appendString(out, next), '}')
	}
	return jsonReply(http.StatusOK, out)
}

// marshal writes one of this package's own types, without escaping what HTML would want escaped.
func marshal(v any) []byte {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		panic(fmt.Sprintf("httpapi: encoding %T: %v", v, err))
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n"))
}
