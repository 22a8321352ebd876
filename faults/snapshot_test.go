package faults_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"

	"taskflow/internal/servertest"
)

const stepObserved = "step_observed"

// event is an audit event as the API shows it.
type event struct{ servertest.Event }

func (e event) at() time.Time {
	at, err := time.Parse(time.RFC3339Nano, e.At)
	if err != nil {
		panic(err) // the API has one form of times
	}
	return at
}

// flow is a flow as the API shows it.
type flow struct {
	ID          string
	Status      string
	Revision    int64
	CurrentStep string `json:"current_step"`
	State       json.RawMessage
}

// snapshot is everything a server shows. Nothing may change while it is taken.
type snapshot struct {
	flows  map[string]flow
	events map[string][]event // by flow, in the order of the feed
	steps  map[string][]servertest.Step
	seqs   []int64 // of all events, in the order of the feed
	// open is how many open flows the database has counted for each caller, by name; nil where nobody needs a key.
	open map[string]int64
}

func takeSnapshot(c *servertest.Client) (*snapshot, error) {
	s := &snapshot{flows: map[string]flow{}, events: map[string][]event{}, steps: map[string][]servertest.Step{}}
	all, err := servertest.All[flow](c, "/flows")
	if err != nil {
		return nil, err
	}
	for _, f := range all {
		if _, twice := s.flows[f.ID]; twice {
			return nil, fmt.Errorf("flow %s is listed twice", f.ID)
		}
		s.flows[f.ID] = f
		if s.steps[f.ID], err = servertest.All[servertest.Step](c, "/flows/"+f.ID+"/steps"); err != nil {
			return nil, err
		}
	}
	feed, err := servertest.All[event](c, "/events")
	if err != nil {
		return nil, err
	}
	for _, e := range feed {
		s.events[e.FlowID] = append(s.events[e.FlowID], e)
		s.seqs = append(s.seqs, e.Seq)
	}
	return s, nil
}

// check returns everything that does not fit together.
func (s *snapshot) check() []string {
	var found []string
	for i := 1; i < len(s.seqs); i++ {
		if s.seqs[i] <= s.seqs[i-1] {
			found = append(found, fmt.Sprintf("the feed has %d after %d", s.seqs[i], s.seqs[i-1]))
		}
	}
	for _, id := range slices.Sorted(maps.Keys(s.events)) {
		if _, there := s.flows[id]; !there {
			found = append(found, fmt.Sprintf("flow %s has events and does not exist", id))
		}
	}
	for _, id := range slices.Sorted(maps.Keys(s.flows)) {
		for _, wrong := range s.checkFlow(s.flows[id]) {
			found = append(found, fmt.Sprintf("flow %s: %s", id, wrong))
		}
	}
	return append(found, s.checkOpen()...)
}

// checkFlow replays a flow's trail and compares.
func (s *snapshot) checkFlow(f flow) []string {
	var found []string
	replayed, steps := flow{Revision: -1}, map[string]string{}
	for _, e := range s.events[f.ID] {
		if e.Kind == stepObserved {
			var step struct {
				RunID  string `json:"run_id"`
				Status string
			}
			if err := json.Unmarshal(e.Payload, &step); err != nil || e.Revision != replayed.Revision {
				found = append(found, fmt.Sprintf("event %d (%s) at revision %d, after %d", e.Seq, e.Payload, e.Revision, replayed.Revision))
			}
			steps[step.RunID] = step.Status
			continue
		}
		if e.Revision != replayed.Revision+1 {
			found = append(found, fmt.Sprintf("revision %d (event %d) follows %d", e.Revision, e.Seq, replayed.Revision))
		}
		replayed.Revision = e.Revision
		if err := replayed.apply(e); err != nil {
			found = append(found, fmt.Sprintf("event %d: %v", e.Seq, err))
		}
	}
	if f.Revision != replayed.Revision || f.Status != replayed.Status || f.CurrentStep != replayed.CurrentStep {
		found = append(found, fmt.Sprintf("it is %s at %d, %s; its trail says %s at %d, %s",
			f.Status, f.Revision, f.CurrentStep, replayed.Status, replayed.Revision, replayed.CurrentStep))
	}
	if !reflect.DeepEqual(decode(f.State), decode(replayed.State)) {
		found = append(found, fmt.Sprintf("its state is %.200s and its trail makes it %.200s", f.State, replayed.State))
	}
	for _, step := range s.steps[f.ID] {
		if steps[step.RunID] != step.Status {
			found = append(found, fmt.Sprintf("step %q is %s and its trail says %q", step.RunID, step.Status, steps[step.RunID]))
		}
		delete(steps, step.RunID)
	}
	if len(steps) > 0 {
		found = append(found, fmt.Sprintf("steps %v are in the trail and do not exist", slices.Sorted(maps.Keys(steps))))
	}
	return found
}

var statusAfter = map[string]string{
	"created": "created", "started": "running", "waiting": "waiting", "resumed": "running", "finished": "finished", "failed": "failed",
	"cancelled": "cancelled",
}

// apply makes the change that an event tells of.
func (f *flow) apply(e event) error {
	var p struct {
		CurrentStep string `json:"current_step"`
		NextStep    string `json:"next_step"`
		State       json.RawMessage
		Patch       json.RawMessage
		StatePatch  json.RawMessage `json:"state_patch"`
		FinalState  json.RawMessage `json:"final_state"`
		Reason      string
	}
	if err := json.Unmarshal(e.Payload, &p); err != nil {
		return fmt.Errorf("its payload %s: %w", e.Payload, err)
	}
	if status, changes := statusAfter[e.Kind]; changes {
		f.Status = status
	}
	switch e.Kind {
	case "created":
		f.CurrentStep = p.CurrentStep
		if f.State = p.State; f.State == nil {
			f.State = json.RawMessage("{}")
		}
	case "failed":
		p.Patch = fmt.Appendf(nil, `{"failure": {"reason": %q, "at": %q}}`, p.Reason, e.At)
	}
	if p.NextStep != "" {
		f.CurrentStep = p.NextStep
	}
	for _, patch := range []json.RawMessage{p.Patch, p.StatePatch, p.FinalState} {
		if patch != nil {
			f.State = merge(f.State, patch)
		}
	}
	return nil
}

// merge is the contract's: an object onto an object overwrites top-level members, anything else replaces.
func merge(state, patch json.RawMessage) json.RawMessage {
	var old, members map[string]json.RawMessage
	if json.Unmarshal(state, &old) != nil || json.Unmarshal(patch, &members) != nil || old == nil || members == nil {
		return patch
	}
	maps.Copy(old, members)
	merged, err := json.Marshal(old)
	if err != nil {
		panic(err) // it came from JSON
	}
	return merged
}

// decode reads JSON with its numbers digit for digit; nil where it is none.
func decode(text json.RawMessage) any {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var value any
	if err := decoder.Decode(&value); err != nil {
		return nil
	}
	return value
}
