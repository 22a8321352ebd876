package faults_test

import (
	"bytes"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"taskflow/internal/servertest"
)

// fate is what a client knows of a change it asked for.
type fate int

const (
	unknown fate = iota // no answer, or one that says so
	made                // acknowledged
	notMade             // it was not sent, or the answer says that nothing was changed
)

// effect is one audit event that a request is to leave behind.
type effect struct {
	flow string // id
	kind string
	// mark is a string in the event's payload that no other request has; "" where the kind comes once in a flow's life.
	mark     string
	fate     fate
	revision int64 // as acknowledged, where that is told; else -1
}

// request is one request for changes. Its effects are one commit, but for a batch without a key.
type request struct {
	method, path, body string
	key                string // the Idempotency-Key, "" for none
	batch              bool
	effects            []effect
	caller             *caller // nil where nobody says who they are

	repeated time.Time // when it was sent again, the last time; zero where it was not
	replayed bool      // the repeat was answered with a stored answer
	troubles []trouble // each time that it was not made, or nobody knows
}

// trouble is what came in place of a success.
type trouble struct {
	at     time.Time
	err    error  // nil where there was an answer
	detail string // of the answer
}

// note keeps what came in place of a success.
func (r *request) note(answer servertest.Answer, err error) {
	var p struct{ Detail string }
	if err == nil && (answer.Problem() == "" || answer.Decode(&p) != nil) {
		return
	}
	r.troubles = append(r.troubles, trouble{time.Now(), err, p.Detail})
}

// send sends the request to a server.
func (r *request) send(c *servertest.Client) (servertest.Answer, error) {
	if r.caller != nil {
		c = c.As(r.caller.key)
	}
	if r.key == "" {
		return c.Send(r.method, r.path, r.body)
	}
	return c.Send(r.method, r.path, r.body, "Idempotency-Key", r.key)
}

func (r *request) whole() bool { return !r.batch || r.key != "" }

func (r *request) settle(f fate) {
	for i := range r.effects {
		r.effects[i].fate = f
	}
}

// ledger is what all clients know. It is safe for concurrent use.
type ledger struct {
	callers  []*caller // with none, nobody needs a key
	database *sql.DB   // where there are callers

	mu       sync.Mutex // guards the rest
	requests []*request
	odd      []string // answers that should never be given
	count    [3]int   // requests by the fate of their first effect, as first answered
	repeats  int      // requests that were sent again, each time
	slowest  time.Duration
}

// record judges the answer to a request, or its absence, and keeps both. took is how long it was waited for.
func (l *ledger) record(r *request, answer servertest.Answer, err error, took time.Duration) fate {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.slowest = max(l.slowest, took)
	r.note(answer, err)
	switch {
	case err == nil:
		l.odd = append(l.odd, r.judge(answer)...)
	case neverSent(err):
		r.settle(notMade)
	}
	l.requests = append(l.requests, r)
	l.count[r.effects[0].fate]++
	return r.effects[0].fate
}

// judge takes over what an answer says, and returns what is odd about it.
func (r *request) judge(a servertest.Answer) (odd []string) {
	oddly := func(reason string) []string {
		return []string{fmt.Sprintf("%s %s was answered with %d, %s: %s", r.method, r.path, a.Status, reason, a.Body)}
	}
	switch {
	case a.Status == http.StatusServiceUnavailable:
		var p struct {
			OutcomeUnknown bool `json:"outcome_unknown"`
		}
		if err := a.Decode(&p); err != nil || a.Problem() != "unavailable" || a.Header.Get("Retry-After") == "" {
			return oddly("which is not the problem unavailable with Retry-After")
		}
		if !p.OutcomeUnknown {
			r.settle(notMade)
		}
		return nil
	case a.Status != http.StatusOK && a.Status != http.StatusCreated:
		return oddly("which nothing here calls for")
	case r.batch:
		return r.judgeBatch(a)
	}
	r.settle(made)
	var f struct{ Revision *int64 }
	if err := a.Decode(&f); err != nil {
		return oddly("which cannot be read")
	}
	last := &r.effects[len(r.effects)-1]
	if last.revision = -1; f.Revision != nil {
		last.revision = *f.Revision
	}
	return nil
}

// judgeBatch takes over the results of a batch, one for each effect.
func (r *request) judgeBatch(a servertest.Answer) (odd []string) {
	var b struct {
		Results []struct {
			Status int
			Body   struct {
				Type           string
				Revision       int64
				OutcomeUnknown bool `json:"outcome_unknown"`
			}
		}
	}
	if err := a.Decode(&b); err != nil || len(b.Results) != len(r.effects) {
		return []string{fmt.Sprintf("a batch of %d was answered with %s", len(r.effects), a.Body)}
	}
	for i, result := range b.Results {
		e := &r.effects[i]
		switch {
		case result.Status == http.StatusOK:
			e.fate, e.revision = made, result.Body.Revision
		case result.Status == http.StatusServiceUnavailable && result.Body.Type == "/problems/unavailable":
			if !result.Body.OutcomeUnknown {
				e.fate = notMade
			}
		default:
			odd = append(odd, fmt.Sprintf("result %d of a batch is odd: %s", i, a.Body))
		}
	}
	return odd
}

// repeatUnknown sends every request again whose fate is unknown and that has a key. Each must be answered with success.
func (l *ledger) repeatUnknown(c *servertest.Client) (repeated int) {
	for _, r := range l.requests {
		if r.effects[0].fate != unknown || r.key == "" {
			continue
		}
		repeated++
		at := time.Now()
		answer, err := r.send(c)
		if l.repeat(r, at, answer, err) != made {
			l.odd = append(l.odd, fmt.Sprintf("%s %s, repeated, was not made: %v, %s", r.method, r.path, err, answer.Body))
		}
	}
	return repeated
}

// repeat judges the answer to a request that was sent again at a time.
func (l *ledger) repeat(r *request, at time.Time, answer servertest.Answer, err error) fate {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.repeats++
	r.note(answer, err)
	doubtful := r.effects[0].fate == unknown
	switch {
	case err == nil:
		l.odd = append(l.odd, r.judge(answer)...)
	case !neverSent(err):
		r.settle(unknown)
	}
	f := r.effects[0].fate
	if f == made {
		r.repeated, r.replayed = at, answer.Header.Get("Idempotent-Replayed") == "true"
	}
	if f == notMade && doubtful {
		r.settle(unknown) // that the repeat has changed nothing says nothing about the first
	}
	return r.effects[0].fate
}

// neverSent reports whether no connection was had.
func neverSent(err error) bool {
	var network *net.OpError
	return errors.As(err, &network) && network.Op == "dial"
}

// counts are the numbers of requests that were acknowledged, not made, and left in doubt.
func (l *ledger) counts() (acknowledged, refused, unanswered int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.count[made], l.count[notMade], l.count[unknown]
}

// check compares what clients know with what is there, and returns every contradiction.
func (l *ledger) check(s *snapshot) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	found := slices.Clone(l.odd)
	for _, r := range l.requests {
		there := 0
		for i := range r.effects {
			e := &r.effects[i]
			events := s.matching(e)
			there += min(1, len(events))
			if wrong := e.compare(events); wrong != "" {
				found = append(found, fmt.Sprintf("%s (%s %s, key %q, flow %s, %s %q)", wrong, r.method, r.path, r.key, e.flow, e.kind, e.mark))
			}
			if len(events) > 0 && r.caller != nil && events[0].Actor != r.caller.name {
				found = append(found, fmt.Sprintf("flow %s: %q was sent by %s, and the trail says %s", e.flow, e.mark, r.caller.name, events[0].Actor))
			}
			if len(events) > 0 && !r.repeated.IsZero() && r.replayed != events[0].at().Before(r.repeated) {
				found = append(found, fmt.Sprintf("flow %s: %q was made at %s and repeated at %v, replayed: %v",
					e.flow, e.mark, events[0].At, r.repeated.UTC(), r.replayed))
			}
		}
		if r.whole() && there != 0 && there != len(r.effects) {
			found = append(found, fmt.Sprintf("%s %s is there by half: %d of %d effects", r.method, r.path, there, len(r.effects)))
		}
	}
	return found
}

// compare says what is wrong with the events that an effect has left behind, "" where nothing is.
func (e *effect) compare(events []event) string {
	switch {
	case len(events) > 1:
		return fmt.Sprintf("a change took effect %d times", len(events))
	case len(events) == 0 && e.fate == made:
		return "an acknowledged change is lost"
	case len(events) == 1 && e.fate == notMade:
		return "a change is there of which the client was told that it is not"
	case len(events) == 1 && e.fate == made && e.kind != stepObserved && e.revision >= 0 && events[0].Revision != e.revision:
		return fmt.Sprintf("a change was acknowledged as revision %d and is %d", e.revision, events[0].Revision)
	}
	return ""
}

// matching lists the events that an effect has left behind.
func (s *snapshot) matching(e *effect) []event {
	var found []event
	for _, candidate := range s.events[e.flow] {
		if candidate.Kind == e.kind && (e.mark == "" || bytes.Contains(candidate.Payload, []byte(`"`+e.mark+`"`))) {
			found = append(found, candidate)
		}
	}
	return found
}
