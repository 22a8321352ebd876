package engine

import (
	"errors"
	"maps"
	"slices"
	"time"

	"taskflow/internal/flows"
	"taskflow/internal/store"

	"github.com/google/uuid"
)

// workspace is a batch in the making: what is recorded, and what the commands decided so far make of it. A later
// command sees an earlier one's result.
type workspace struct {
	now       time.Time
	answerTTL time.Duration
	recorded  store.Snapshot
	touched   []uuid.UUID // in the order of the first touch
	flows     map[uuid.UUID]*flowEntry
	steps     map[store.StepKey]*flows.Step // observed in this batch
	answers   map[store.AnswerKey]store.Answer
	external  map[uuid.UUID]*flows.ExternalEvent    // recorded or settled in this batch
	kept      map[flows.Pair][]*flows.ExternalEvent // for flows that will wait, oldest first
	began     map[flows.Pair][]uuid.UUID            // flows that began to wait in this batch
	open      map[string]int64                      // changes of the counts of open flows, by creator
	events    []flows.Event

	// What the observer is told once it is durable.
	loaded     time.Time // by this process's clock, when now was read
	commands   int
	conflicts  int
	waitsBegun []*flows.Wait
	waitsEnded []waitEnd
}

// flowEntry is one flow of the batch.
type flowEntry struct {
	recorded *flows.Flow // nil where there was none
	flow     *flows.Flow // as it is by now; nil where there is none
	erased   bool        // the recorded row goes
	changed  bool
}

func newWorkspace(snapshot store.Snapshot, answerTTL time.Duration) *workspace {
	return &workspace{
		now: snapshot.Now, loaded: time.Now(), answerTTL: answerTTL, recorded: snapshot,
		flows:   make(map[uuid.UUID]*flowEntry, len(snapshot.Flows)),
		steps:   make(map[store.StepKey]*flows.Step),
		answers: make(map[store.AnswerKey]store.Answer), external: make(map[uuid.UUID]*flows.ExternalEvent),
		kept: make(map[flows.Pair][]*flows.ExternalEvent), began: make(map[flows.Pair][]uuid.UUID), open: make(map[string]int64),
	}
}

// run decides a request and fills in its outcomes.
func (w *workspace) run(r *request) {
	r.outcomes, r.replay, r.err = nil, nil, nil
	if r.once != nil {
		if r.replay, r.err = replay(w, r.once); r.replay != nil || r.err != nil {
			return
		}
	}
	if r.publish != nil {
		r.published, r.err = w.publish(r.publish)
		return
	}
	r.outcomes = make([]Outcome, len(r.commands))
	for i := range r.commands {
		if err := r.invalid[i]; err != nil {
			r.outcomes[i].Err = err
			continue
		}
		r.outcomes[i].Result, r.outcomes[i].Err = w.decide(&r.commands[i])
	}
	if r.once != nil {
		keep(w, r.once, r.outcomes)
	}
}

func (w *workspace) decide(c *Command) (Result, error) {
	w.commands++
	if c.Once != nil {
		replay, err := replay(w, c.Once)
		if replay != nil || err != nil {
			return Result{Replay: replay}, err
		}
	}
	entry := w.entry(c.FlowID)
	subject := flows.Subject{Flow: entry.flow, Step: w.step(c, entry), Buffered: w.buffered(c),
		Open: w.recorded.Open[c.CallerID] + w.open[c.CallerID]}
	change, err := flows.Decide(subject, c.Command, w.now)
	if err != nil {
		if errors.As(err, new(*flows.RevisionConflict)) {
			w.conflicts++
		}
		return Result{}, err
	}
	w.apply(entry, change, change.Consumed)
	result := Result{Change: change}
	if c.Once != nil {
		keep(w, c.Once, result)
	}
	return result, nil
}

func (w *workspace) entry(id uuid.UUID) *flowEntry {
	entry := w.flows[id]
	if entry == nil {
		recorded := w.recorded.Flows[id]
		entry = &flowEntry{recorded: recorded, flow: recorded}
		w.flows[id] = entry
		w.touched = append(w.touched, id)
	}
	return entry
}

// step is the step the command needs to see, as it is by now.
func (w *workspace) step(c *Command, entry *flowEntry) *flows.Step {
	runID, ok := c.Needs()
	if !ok {
		return nil
	}
	key := store.StepKey{FlowID: c.FlowID, RunID: runID}
	if step := w.steps[key]; step != nil || entry.erased {
		return step
	}
	return w.recorded.Steps[key]
}

// apply takes a change over; by is the external event that ended its wait, nil where none did.
func (w *workspace) apply(entry *flowEntry, change flows.Change, by *flows.ExternalEvent) {
	if change.Erased {
		w.erase(entry)
		return
	}
	if wait := change.Flow.Wait; wait != nil && (entry.flow == nil || entry.flow.Wait != wait) {
		for _, pair := range wait.Pairs() {
			w.began[pair] = append(w.began[pair], change.Flow.ID)
		}
	}
	if change.Began != nil {
		w.waitsBegun = append(w.waitsBegun, change.Began)
	}
	if change.Ended != nil {
		w.waitsEnded = append(w.waitsEnded, endOf(change, by))
	}
	w.count(entry.flow, change.Flow)
	entry.flow = change.Flow
	entry.changed = entry.changed || change.Created || change.Updated
	w.events = append(w.events, change.Events...)
	if change.Consumed != nil {
		w.settle(*change.Consumed)
	}
	if change.Step != nil && !change.Stale {
		w.steps[store.StepKey{FlowID: change.Step.FlowID, RunID: change.Step.RunID}] = change.Step
	}
}

// count keeps the counts of open flows as a flow changes; before is nil where there was none.
func (w *workspace) count(before, after *flows.Flow) {
	if before != nil && before.CreatedBy != "" && !before.Status.Terminal() {
		w.open[before.CreatedBy]--
	}
	if after.CreatedBy != "" && !after.Status.Terminal() {
		w.open[after.CreatedBy]++
	}
}

// erase forgets a flow and whatever the batch has recorded of it.
func (w *workspace) erase(entry *flowEntry) {
	id := entry.flow.ID
	entry.flow, entry.changed = nil, false
	entry.erased = entry.recorded != nil
	w.events = slices.DeleteFunc(w.events, func(e flows.Event) bool { return e.FlowID == id })
	maps.DeleteFunc(w.steps, func(key store.StepKey, _ *flows.Step) bool { return key.FlowID == id })
}

// replay is the stored answer to a request, nil where there is none; ErrKeyReused where it was another request, and
// flows.ErrNotFound where the caller covers less by now.
func replay[T any](w *workspace, once *Once[T]) ([]byte, error) {
	answer, made := w.answers[once.Key]
	if !made {
		recorded := w.recorded.Answers[once.Key]
		if recorded == nil || !w.now.Before(recorded.CreatedAt.Add(w.answerTTL)) {
			return nil, nil
		}
		answer = *recorded
	}
	switch {
	case answer.Fingerprint != once.Fingerprint:
		return nil, ErrKeyReused
	case !once.Owners.CoversAll(answer.Owners):
		return nil, flows.ErrNotFound
	}
	return answer.Response, nil
}

// keep stores the answer to a request.
func keep[T any](w *workspace, once *Once[T], result T) {
	if once.Passing != nil && once.Passing(result) {
		return
	}
	w.answers[once.Key] = store.Answer{Key: once.Key, Fingerprint: once.Fingerprint, Owners: once.Owners,
		Response: once.Encode(result), CreatedAt: w.now}
}

// writes is the net effect of the batch.
func (w *workspace) writes() store.Writes {
	writes := store.Writes{Events: w.events}
	for _, id := range w.touched {
		entry := w.flows[id]
		if entry.erased {
			writes.Erased = append(writes.Erased, id)
		}
		switch {
		case !entry.changed:
		case entry.recorded == nil || entry.erased:
			writes.Created = append(writes.Created, entry.flow)
		default:
			writes.Updated = append(writes.Updated, store.FlowUpdate{
				Flow:   entry.flow,
				State:  !sameText(entry.recorded.State, entry.flow.State),
				Labels: !maps.Equal(entry.recorded.Labels, entry.flow.Labels),
				Wait:   entry.recorded.Wait != entry.flow.Wait, // a wait is replaced, never altered
				Narrow: sameCourse(entry.recorded, entry.flow),
			})
		}
	}
	for _, step := range w.steps {
		writes.Steps = append(writes.Steps, step)
	}
	for _, event := range w.external {
		writes.ExternalEvents = append(writes.ExternalEvents, event)
	}
	maps.DeleteFunc(w.open, func(_ string, change int64) bool { return change == 0 })
	writes.Open = w.open
	for _, answer := range w.answers {
		writes.Answers = append(writes.Answers, answer)
	}
	return writes
}

// save writes the net effect of the batch, if there is any.
func (w *workspace) save(tx store.Tx) error {
	writes := w.writes()
	if writes.Empty() {
		return nil
	}
	return tx.Save(writes)
}

// sameCourse reports whether only what a caller tells of a flow has changed: not where it stands.
func sameCourse(a, b *flows.Flow) bool {
	return a.Status == b.Status && a.CancelRequested == b.CancelRequested && a.Wait == b.Wait && a.ResumedBy == b.ResumedBy &&
		a.StepsTotal == b.StepsTotal && a.StepsActive == b.StepsActive && a.EndedAt == b.EndedAt
}

// sameText reports whether two states are one and the same text in memory. A change replaces a state and never alters
// it, so this is enough, and does not read a large one.
func sameText(a, b []byte) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}
