package flows_test

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"taskflow/internal/flows"

	"github.com/google/uuid"
)

var update = flag.Bool("update", false, "write what the transcripts answer into them")

// TestTranscripts plays the files under testdata. A file is blocks with an empty line between them: lines of commands,
// a line ----, and what they answer. A command is a word and its body as JSON; beside the body's own members, "if" is
// the revision to demand, "actor" the caller and "max" the limit on the state; times are in seconds past noon. "at 90" sets the clock to 90 seconds
// past noon, and # begins a comment. go test -update writes the answers.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d transcripts, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			old, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := play(t, string(old))
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != string(old) {
				t.Errorf("%s answers otherwise (-update writes it):\n%s", file, difference(string(old), got))
			}
		})
	}
}

// difference shows the first lines that differ.
func difference(old, got string) string {
	was, is := strings.Split(old, "\n"), strings.Split(got, "\n")
	for i := range min(len(was), len(is)) {
		if was[i] != is[i] {
			return fmt.Sprintf("line %d\n was %s\n  is %s", i+1, was[i], is[i])
		}
	}
	return fmt.Sprintf("%d lines became %d", len(was), len(is))
}

// play answers every block of a transcript.
func play(t *testing.T, text string) string {
	p := &player{now: noon, steps: map[string]*flows.Step{}, kept: map[int]*flows.ExternalEvent{}}
	blocks := strings.Split(strings.TrimSpace(text), "\n\n")
	for i, block := range blocks {
		input, _, _ := strings.Cut(block, "\n----")
		var out strings.Builder
		for line := range strings.Lines(input + "\n") {
			if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
				out.WriteString(p.line(t, line))
			}
		}
		blocks[i] = input
		if out.Len() > 0 {
			blocks[i] += "\n----\n" + strings.TrimSuffix(out.String(), "\n")
		}
	}
	return strings.Join(blocks, "\n\n") + "\n"
}

// player holds what is recorded of one flow.
type player struct {
	now   time.Time
	flow  *flows.Flow
	steps map[string]*flows.Step
	made  int                          // steps
	kept  map[int]*flows.ExternalEvent // every event that arrived, by its number
}

func (p *player) line(t *testing.T, line string) string {
	word, rest, _ := strings.Cut(line, " ")
	if word == "at" {
		seconds, err := time.ParseDuration(rest + "s")
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		p.now = noon.Add(seconds)
		return ""
	}
	var b body
	if rest != "" {
		if err := json.Unmarshal([]byte(rest), &b.members); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
	}
	if word == "event" {
		return p.event(t, &b)
	}
	c := flows.Command{Owners: flows.Everyone, FlowID: someID, Actor: "kate", Action: p.action(t, word, &b)}
	b.get("actor", &c.Actor)
	b.get("if", &c.IfRevision)
	b.get("max", &c.MaxState)
	if err := b.left(); err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	if err := c.Validate(); err != nil {
		return "invalid: " + err.Error() + "\n"
	}
	return p.decide(c)
}

func (p *player) decide(c flows.Command) string {
	subject := flows.Subject{Flow: p.flow, Buffered: p.buffered(c.Awaits())}
	run, observes := c.Needs()
	if observes {
		subject.Step = p.steps[run]
	}
	change, err := flows.Decide(subject, c, p.now)
	if err != nil {
		return fmt.Sprintf("refused: %v (%s)\n", err, outcome(change, err))
	}
	var out strings.Builder
	for _, e := range change.Events {
		fmt.Fprintf(&out, "event %d %s by %s at %s %s\n", e.Revision, e.Kind, e.Actor, clock(e.At), e.Payload)
	}
	if e := change.Consumed; e != nil {
		p.kept[int(e.ID[15])] = e
		out.WriteString(eventText(e))
	}
	if change.Erased {
		p.flow, p.steps = nil, map[string]*flows.Step{}
		return out.String() + "erased\n"
	}
	p.flow = change.Flow
	if change.Step != nil {
		out.WriteString(stepText(change))
		p.steps[run] = change.Step
	}
	return out.String() + flowText(change)
}

// clock writes the seconds past noon.
func clock(at time.Time) string { return fmt.Sprintf("%g", at.Sub(noon).Seconds()) }

func stepText(c flows.Change) string {
	s, what := c.Step, "replaced"
	if c.StepCreated {
		what = "new"
	}
	if c.Stale {
		what = "stale"
	}
	child := "-"
	if s.ChildSessionKey != nil {
		child = *s.ChildSessionKey
	}
	return fmt.Sprintf("step %q %s: id=%s %s %s task=%q child=%s observed=%s created=%s updated=%s result=%s\n", s.RunID, what,
		s.ID.String()[34:], s.Runtime, s.Status, s.Task, child, clock(s.ObservedAt), clock(s.CreatedAt), clock(s.UpdatedAt),
		s.Result)
}

// flowText writes what a change may alter of a flow.
func flowText(c flows.Change) string {
	f, what := c.Flow, "unchanged"
	if c.Updated {
		what = "updated"
	}
	if c.Created {
		what = "created"
	}
	text := fmt.Sprintf("flow %s: %s rev=%d step=%q goal=%q state=%s", what, f.Status, f.Revision, f.CurrentStep, f.Goal,
		f.State)
	for _, key := range slices.Sorted(maps.Keys(f.Labels)) {
		text += fmt.Sprintf(" %s:%s", key, f.Labels[key])
	}
	if f.CancelRequested {
		text += " cancel-requested"
	}
	if f.StepsTotal > 0 {
		text += fmt.Sprintf(" steps=%d/%d", f.StepsActive, f.StepsTotal)
	}
	if f.Wait != nil {
		text += fmt.Sprintf(" wait=%s", flows.StoreWait(f.Wait))
	}
	if f.ResumedBy != nil {
		text += fmt.Sprintf(" resumed_by=%s", flows.EncodeResumedBy(f.ResumedBy))
	}
	text += fmt.Sprintf(" created=%s updated=%s", clock(f.CreatedAt), clock(f.UpdatedAt))
	if f.EndedAt != nil {
		text += " ended=" + clock(*f.EndedAt)
	}
	return text + "\n"
}

// body is a command's JSON, read member by member.
type body struct {
	members map[string]json.RawMessage
	err     error
}

// get reads a member into a pointer and reports whether it was there.
func (b *body) get(name string, into any) bool {
	raw, there := b.members[name]
	if there {
		b.err = errors.Join(b.err, json.Unmarshal(raw, into))
		delete(b.members, name)
	}
	return there
}

// raw reads a member as it is, nil where it is absent.
func (b *body) raw(name string) json.RawMessage {
	raw := b.members[name]
	delete(b.members, name)
	return raw
}

// left is an error where a member was not read or has the wrong type.
func (b *body) left() error {
	if b.err == nil && len(b.members) > 0 {
		return fmt.Errorf("unknown members %v", slices.Sorted(maps.Keys(b.members)))
	}
	return b.err
}

func (p *player) action(t *testing.T, word string, b *body) flows.Action {
	switch word {
	case "create":
		a := flows.Create{Mode: flows.Managed, ControllerID: "kate/inbox", Goal: "sort mail", OwnerSessionKey: "agent:kate",
			State: b.raw("state")}
		b.get("mode", &a.Mode)
		b.get("goal", &a.Goal)
		b.get("labels", &a.Labels)
		b.get("current_step", &a.CurrentStep)
		b.get("requester_origin", &a.RequesterOrigin)
		return a
	case "start":
		return flows.Start{}
	case "wait":
		return setWait(t, b)
	case "fire":
		a := flows.FireDue{Generation: generation(p.flow)}
		b.get("generation", &a.Generation)
		return a
	case "callback":
		a := flows.EndByCallback{Generation: generation(p.flow), Key: "key-1", Payload: b.raw("payload")}
		b.get("generation", &a.Generation)
		b.get("condition", &a.Condition)
		b.get("key", &a.Key)
		b.get("verified", &a.Verified)
		b.get("rejected", &a.Rejected)
		return a
	case "resume":
		return flows.Resume{Patch: b.raw("state_patch")}
	case "finish":
		return flows.Finish{FinalState: b.raw("final_state")}
	case "fail":
		var a flows.Fail
		b.get("reason", &a.Reason)
		return a
	case "request-cancel":
		var a flows.RequestCancel
		b.get("reason", &a.Reason)
		return a
	case "cancel":
		var a flows.Cancel
		b.get("reason", &a.Reason)
		return a
	case "state":
		a := flows.UpdateState{Patch: b.raw("patch")}
		b.get("current_step", &a.CurrentStep)
		b.get("goal", &a.Goal)
		b.get("labels", &a.Labels)
		return a
	case "step":
		return p.observation(b)
	case "erase":
		return flows.Erase{}
	}
	t.Fatalf("no command %q", word)
	return nil
}

func (p *player) observation(b *body) flows.Action {
	p.made++
	a := flows.ObserveStep{StepID: uuid.UUID{15: byte(p.made)}, RunID: "r", Task: "sort", Result: b.raw("result")}
	b.get("run", &a.RunID)
	b.get("task", &a.Task)
	b.get("status", &a.Status)
	b.get("runtime", &a.Runtime)
	a.ChildSessionKey.Set = b.get("child", &a.ChildSessionKey.Value)
	var observed *float64
	if b.get("observed", &observed); observed != nil {
		a.ObservedAt = ptr(noon.Add(time.Duration(*observed * float64(time.Second))))
	}
	return a
}
