package storetest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"taskflow/internal/flows"

	"github.com/google/uuid"
)

// This file writes everything a store returns as text, every field of it, so that two answers can be compared and a
// difference read. An empty map and none, or an empty list and none, are the same.

func timeText(t time.Time) string {
	return t.Format(time.RFC3339Nano) + "[" + t.Location().String() + "]"
}

func optional[T any](p *T, text func(T) string) string {
	if p == nil {
		return "-"
	}
	return text(*p)
}

func flowText(f *flows.Flow) string {
	var labels []string
	for _, key := range slices.Sorted(maps.Keys(f.Labels)) {
		labels = append(labels, fmt.Sprintf("%q=%q", key, f.Labels[key]))
	}
	return fmt.Sprintf("flow %s %s %s rev=%d cancel=%v controller=%q goal=%q owner=%q by=%q requester=%q step=%q "+
		"steps=%d/%d labels=%s created=%s updated=%s ended=%s wait=%s resumed_by=%s state=%s",
		f.ID, f.Mode, f.Status, f.Revision, f.CancelRequested, f.ControllerID, f.Goal, f.OwnerSessionKey, f.CreatedBy,
		f.RequesterOrigin, f.CurrentStep, f.StepsActive, f.StepsTotal, strings.Join(labels, ","),
		timeText(f.CreatedAt), timeText(f.UpdatedAt), optional(f.EndedAt, timeText),
		waitText(f.Wait), resumedText(f.ResumedBy), f.State)
}

func waitText(w *flows.Wait) string {
	if w == nil {
		return "-"
	}
	return string(flows.StoreWait(w)) + timeText(w.Since)
}

func resumedText(r *flows.ResumedBy) string {
	if r == nil {
		return "-"
	}
	return string(flows.EncodeResumedBy(r)) + timeText(r.At)
}

func flowsText(list []*flows.Flow) string { return lines(list, flowText) }

func stepText(s *flows.Step) string {
	return fmt.Sprintf("step %s of %s run=%q %s %s task=%q child=%s observed=%s created=%s updated=%s result=%s",
		s.ID, s.FlowID, s.RunID, s.Runtime, s.Status, s.Task,
		optional(s.ChildSessionKey, func(key string) string { return fmt.Sprintf("%q", key) }),
		timeText(s.ObservedAt), timeText(s.CreatedAt), timeText(s.UpdatedAt), s.Result)
}

func stepsText(list []*flows.Step) string { return lines(list, stepText) }

// eventText leaves the number out: how far it rises is the store's own affair.
func eventText(e flows.Event) string {
	return fmt.Sprintf("event of %s rev=%d %s actor=%q trace=%q at=%s %s", e.FlowID, e.Revision, e.Kind, e.Actor,
		e.Traceparent, timeText(e.At), e.Payload)
}

// tracedBy is the traceparent of what the cases have traced.
const tracedBy = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

func eventsText(list []flows.Event) string { return lines(list, eventText) }

func receiptText(e *flows.ExternalEvent) string {
	payload := "-"
	if e.Payload != nil {
		payload = string(e.Payload)
	}
	text := fmt.Sprintf("external event %s %q/%q for=%s owners=%q %s actor=%q trace=%q at=%s expires=%s payload=%s resumed %d:", e.ID,
		e.Pair.Topic, e.Pair.CorrelationID, optional(e.FlowID, uuid.UUID.String), e.Owners, e.Outcome, e.Actor, e.Traceparent,
		timeText(e.At), timeText(e.ExpiresAt), payload, e.FlowCount)
	for _, f := range e.Flows {
		text += fmt.Sprintf(" %s@%d", f.FlowID, f.Revision)
	}
	return text
}

func receiptsText(list []*flows.ExternalEvent) string { return lines(list, receiptText) }

func lines[T any](list []T, text func(T) string) string {
	out := make([]string, len(list))
	for i, v := range list {
		out[i] = text(v)
	}
	return strings.Join(out, "\n")
}
