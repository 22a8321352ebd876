package engine_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"taskflow/internal/engine"
	"taskflow/internal/flows"
	"taskflow/internal/store/storetest"

	"github.com/google/uuid"
)

// counts is an observer that counts what it is told.
type counts struct {
	mu    sync.Mutex
	times map[string]int
}

func (c *counts) add(what ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.times == nil {
		c.times = map[string]int{}
	}
	c.times[strings.TrimSpace(fmt.Sprintln(what...))]++
}

func (c *counts) Committed(work string, n int, _ time.Duration, outcome string) {
	c.add(work, n, outcome)
}
func (c *counts) WaitBegan(kind string)        { c.add("began", kind) }
func (c *counts) WaitEnded(by string)          { c.add("ended", by) }
func (c *counts) ExternalEvent(outcome string) { c.add("event", outcome) }
func (c *counts) Conflict()                    { c.add("conflict") }
func (c *counts) TimerFired(late time.Duration) {
	c.add("timer", late >= 0 && late < time.Hour)
}
func (c *counts) EventArrived(after time.Duration) {
	c.add("arrived", after >= 0 && after < time.Hour)
}

func (c *counts) text() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var lines []string
	for _, what := range slices.Sorted(maps.Keys(c.times)) {
		lines = append(lines, fmt.Sprint(what, ": ", c.times[what]))
	}
	return strings.Join(lines, "\n")
}

// TestObserver holds that an observer is told of each wait's begin and end by what it was, once it is durable, and of a
// batch as a whole.
func TestObserver(t *testing.T) {
	told := &counts{}
	e := engine.New(storetest.NewMemory(time.Now), engine.Options{Committers: 1, Observer: told})
	defer func() {
		if err := e.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	id, zero := uuid.Must(uuid.NewV7()), int64(0)
	pair := flows.Pair{Topic: "t", CorrelationID: "c"}
	past := time.Unix(0, 0)
	event := flows.SetWait{Kind: flows.WaitExternalEvent, Conditions: []flows.ConditionSpec{{Kind: flows.WaitExternalEvent, Pair: pair}}}
	timer := flows.SetWait{Kind: flows.WaitTimer, Conditions: []flows.ConditionSpec{{Kind: flows.WaitTimer, When: flows.When{At: &past}}}}
	var commands []engine.Command
	for _, action := range []flows.Action{
		flows.Create{Mode: flows.Mirrored, ControllerID: "c", Goal: "g", OwnerSessionKey: "o"},
		flows.SetWait{Kind: flows.WaitManual}, flows.Resume{}, timer, flows.SetWait{Kind: flows.WaitManual}, flows.Resume{}, event,
	} {
		commands = append(commands, engine.Command{Command: flows.Command{FlowID: id, Owners: flows.Everyone, Action: action}})
	}
	commands = append(commands, engine.Command{Command: flows.Command{FlowID: id, Owners: flows.Everyone, IfRevision: &zero, Action: flows.Start{}}})
	if _, _, err := e.ApplyAll(t.Context(), commands, nil); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the first is waited for, the second is kept
		published := engine.Publication{Event: flows.ExternalEvent{ID: uuid.Must(uuid.NewV7()), Owners: flows.Everyone, Pair: pair}, Keep: time.Hour}
		if _, err := e.Publish(t.Context(), published); err != nil {
			t.Fatal(err)
		}
	}
	for _, action := range []flows.Action{event, flows.SetWait{Kind: flows.WaitManual}, flows.Cancel{}} {
		if _, err := e.Apply(t.Context(), engine.Command{Command: flows.Command{FlowID: id, Owners: flows.Everyone, Action: action}}); err != nil {
			t.Fatal(err)
		}
	}
	const want = `arrived true: 2
began external_event: 2
began manual: 3
began timer: 1
changes 1 committed: 4
changes 2 committed: 1
changes 8 committed: 1
conflict: 1
ended cancelled: 1
ended external_event: 2
ended manual: 2
ended timer: 1
event buffered: 1
event delivered: 2`
	if got := told.text(); got != want {
		t.Errorf("the observer was told\n%s\nwant\n%s", got, want)
	}
}
