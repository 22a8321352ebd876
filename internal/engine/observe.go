package engine

import (
	"context"
	"errors"
	"time"

	"taskflow/internal/flows"
	"taskflow/internal/store"
)

// Observer is told what the engine has done, when it is durable. Its methods are called between two batches: they must be
// quick, safe for concurrent use, and hold on to nothing.
type Observer interface {
	// Committed: one transaction made or refused so many commands, and took so long. work is what for: "changes",
	// "timers" or "deliveries". outcome is "committed", "unavailable" (nothing was changed), "unknown", or "failed": the
	// transaction was refused, nothing was changed, and a batch is split and tried again.
	Committed(work string, commands int, took time.Duration, outcome string)
	// WaitBegan: a flow began to wait, for a kind of wait.
	WaitBegan(kind string)
	// WaitEnded: as the flow's resumed_by has it, by a "timeout" also where that failed or cancelled the flow; or because
	// somebody had the flow "failed" or "cancelled".
	WaitEnded(by string)
	// TimerFired: a timer or a timeout ended a wait so long after it was due.
	TimerFired(late time.Duration)
	// EventArrived: an external event ended a wait so long after both were there.
	EventArrived(after time.Duration)
	// ExternalEvent: an external event came to this fate.
	ExternalEvent(outcome string)
	// Conflict: a command was refused for its revision.
	Conflict()
}

// TraceBatch begins the span of a transaction. requests are the traceparents of the requests whose commands it makes,
// none twice in a row; none for timers and deliveries. It returns the context of the work, and what ends the span.
type TraceBatch func(ctx context.Context, work string, requests []string) (of context.Context, end func(error))

// The kinds of work that a transaction is for.
const (
	workChanges    = "changes"
	workTimers     = "timers"
	workDeliveries = "deliveries"
)

// unobserved is the Observer of an engine without one.
type unobserved struct{}

func (unobserved) Committed(string, int, time.Duration, string) {}
func (unobserved) WaitBegan(string)                             {}
func (unobserved) WaitEnded(string)                             {}
func (unobserved) TimerFired(time.Duration)                     {}
func (unobserved) EventArrived(time.Duration)                   {}
func (unobserved) ExternalEvent(string)                         {}
func (unobserved) Conflict()                                    {}

// QueueDepth is how many requests wait for a committer, and how many may.
func (e *Engine) QueueDepth() (waiting, limit int) {
	for _, queue := range e.queues {
		waiting += len(queue)
		limit += cap(queue)
	}
	return waiting, limit
}

func outcomeOf(err error) string {
	switch {
	case err == nil:
		return "committed"
	case errors.Is(err, store.ErrOutcomeUnknown):
		return "unknown"
	case errors.Is(err, store.ErrUnavailable), errors.Is(err, context.DeadlineExceeded):
		return "unavailable"
	}
	return "failed"
}

// observe tells the observer what a committed batch has done.
func (e *Engine) observe(w *workspace) {
	o, since := e.options.Observer, time.Since(w.loaded)
	for _, began := range w.waitsBegun {
		o.WaitBegan(string(began.Kind))
	}
	for _, end := range w.waitsEnded {
		o.WaitEnded(end.by)
		switch from := end.from(w.now); {
		case from.IsZero():
		case end.by == string(flows.ResumedByEvent):
			o.EventArrived(w.now.Sub(from) + since)
		default:
			o.TimerFired(w.now.Sub(from) + since)
		}
	}
	for id, event := range w.external {
		if before := w.recorded.Events[id]; before == nil || before.Outcome != event.Outcome {
			o.ExternalEvent(string(event.Outcome))
		}
	}
	for range w.conflicts {
		o.Conflict()
	}
}

// waitEnd is a wait that a batch ended.
type waitEnd struct {
	wait *flows.Wait
	by   string
	due  bool                 // by the clock, and not in the commit that it began in
	with *flows.ExternalEvent // what ended it, where that is an external event
}

// endOf is how a change ended a wait; event is the external event that did, nil where it was none.
func endOf(change flows.Change, event *flows.ExternalEvent) waitEnd {
	end := waitEnd{wait: change.Ended, with: event}
	clocked := change.Events[len(change.Events)-1].Actor == flows.ActorTimer
	end.due = clocked && change.Began == nil
	switch status := change.Flow.Status; {
	case !status.Terminal():
		end.by = string(change.Flow.ResumedBy.Kind)
	case clocked:
		end.by = string(flows.ResumedByTimeout)
	default:
		end.by = string(status)
	}
	return end
}

// from is when everything that the end took was there; zero where nobody waited for it to happen.
func (end *waitEnd) from(now time.Time) (from time.Time) {
	switch {
	case end.with != nil:
		if from = end.with.At; from.Before(end.wait.Since) {
			from = end.wait.Since
		}
		if from.After(now) { // a flow's own times never run backwards, and may be ahead of the clock
			from = now
		}
	case end.due:
		from, _ = end.wait.Due()
	}
	return from
}

// traceparentsOf are those of a batch's requests. Commands that came together stand together.
func traceparentsOf(batch []*request) (all []string) {
	add := func(traceparent string) {
		if traceparent != "" && (len(all) == 0 || all[len(all)-1] != traceparent) {
			all = append(all, traceparent)
		}
	}
	for _, r := range batch {
		if r.publish != nil {
			add(r.publish.Event.Traceparent)
		}
		for i := range r.commands {
			add(r.commands[i].Traceparent)
		}
	}
	return all
}
