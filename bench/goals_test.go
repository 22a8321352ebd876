package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"taskflow/internal/servertest"
)

// readResults reads the one file of results in a folder.
func readResults(t *testing.T, folder string, into any) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(folder, "*.json"))
	if err != nil || len(files) != 1 {
		t.Fatalf("results %v, %v", files, err)
	}
	text, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, into); err != nil {
		t.Fatal(err)
	}
}

// TestGoals runs all of it, small: every goal has a row. Which are met is not asked of a test. It runs alone, as TestCompare, for
// its clients are many.
func TestGoals(t *testing.T) {
	c := goalsCommand{Server: servertest.Binary(t), Rounds: 1, Duration: time.Second, Flows: 20, Pool: 4, Clients: []int{4},
		Connections: 70, Settle: 100 * time.Millisecond, Results: t.TempDir()}
	if err := c.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	var r goalsReport
	readResults(t, c.Results, &r)
	if want := len(pairs) + 4; len(r.Goals) != want {
		t.Fatalf("%d goals, want %d", len(r.Goals), want)
	}
	for _, g := range r.Goals[:len(pairs)] {
		if g.Value <= 0 || g.Lowest > g.Value || g.Highest < g.Value {
			t.Errorf("odd ratio: %+v", g)
		}
	}
	if len(r.AfterLoad) != 3 || r.AfterLoad[1].RSS <= 0 || r.AfterLoad[1].Tasks < 1 || r.AfterLoad[1].Sockets < 1 {
		t.Errorf("after load: %+v", r.AfterLoad)
	}
}

// A ratio is that of one round, the row the median of the rounds.
func TestJudgePairs(t *testing.T) {
	of := func(values ...float64) (rounds []turns) {
		for i := 0; i < len(values); i += 2 {
			m := func(v float64) measurement {
				return measurement{PerSecond: v, Load: &loadResult{Latency: latency{P50: 1000 / v}}}
			}
			rounds = append(rounds, turns{m(values[i]), m(values[i+1])})
		}
		return rounds
	}
	got := judgePairs(comparisons{
		{pair{name: "ratio", goal: 3.5}, of(100, 50, 400, 100, 300, 150)},
		{pair{name: "latency", goal: 1, latency: true}, of(50, 100, 90, 100, 300, 100)},
		{pair{name: "best", goal: 2, note: "8 clients"}, of(90, 45)},
		{pair{name: "compared"}, of(90, 45)},
	})
	if g := got[0]; g.Value != 2 || g.Lowest != 2 || g.Highest != 4 || g.Met {
		t.Errorf("of 2, 4 and 2: %+v", g)
	}
	if g := got[1]; !g.AtMost || g.Value < 1.1 || g.Value > 1.2 || g.Met {
		t.Errorf("latency: %+v", g)
	}
	if g := got[2]; g.Value != 2 || !g.Met || g.Note != "8 clients" {
		t.Errorf("against the best: %+v", g)
	}
	head := goalsGrid(got[2:])
	if text := head.text(true); !strings.Contains(text, "(8 clients) | 2.00 x |") || strings.Count(text, "| met |") != 1 || !strings.Contains(text, "| - |") {
		t.Errorf("as Markdown:\n%s", text)
	}
}

// pgbench is at its best where its median is highest; one lucky round of another number of clients does not count.
func TestBestSingle(t *testing.T) {
	var all []measurement
	for name, rates := range map[string][]float64{"64": {10, 10, 900}, "8": {45, 30, 60}} {
		for _, rate := range rates {
			all = append(all, measurement{Target: sideSingle + name, PerSecond: rate})
		}
	}
	best := bestSingle(all)
	if best != sideSingle+"8" {
		t.Errorf("%q is at its best", best)
	}
	for _, p := range pairsAgainst(best) {
		if p.under == sideBest || (p.note != "") != (p.under == best) {
			t.Errorf("a pair against %q, note %q", p.under, p.note)
		}
	}
}

// The sides of a pair follow each other, in every other round the other one first, and each is measured under its own name.
func TestCompareTakesTurns(t *testing.T) {
	var order []string
	got, err := inTurns(2, []pair{{over: "a", under: "b"}, {over: "a", under: "c"}}, func(name string, round int) (measurement, error) {
		order = append(order, name)
		return measurement{Target: name, Round: round, PerSecond: 1}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if text := strings.Join(order, " "); text != "a b a c b a c a" {
		t.Errorf("measured %s", text)
	}
	for _, c := range got {
		for i, r := range c.rounds {
			if r.over.Target != c.pair.over || r.under.Target != c.pair.under || r.over.Round != i+1 {
				t.Errorf("of %v: %+v", c.pair, r)
			}
		}
	}
	if n := len(got.measurements()); n != 8 {
		t.Errorf("%d measurements", n)
	}
}

func TestJudgeHoldings(t *testing.T) {
	first := holdings{Tasks: 20, TasksOf: "goroutines", Sockets: 9, RSS: 80, Peak: 100}
	second := first
	for _, g := range judgeHoldings([]holdings{{}, first, second}, 1024) {
		if !g.Met {
			t.Errorf("nothing left behind: %+v", g)
		}
	}
	second = holdings{Tasks: 1044, TasksOf: "goroutines", Sockets: 1033, RSS: 120, Peak: 151}
	for _, g := range judgeHoldings([]holdings{{}, first, second}, 1024) {
		if g.Met {
			t.Errorf("left behind: %+v", g)
		}
	}
}

// TestLarge fills two databases, which checks that copies read back like what the server wrote, and measures every list.
func TestLarge(t *testing.T) {
	t.Parallel()
	c := largeCommand{Server: servertest.Binary(t), Flows: 2000, Few: 300, Rounds: 1, Duration: time.Second, Requests: 2, Page: 3, Results: t.TempDir()}
	if err := c.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	var r largeReport
	readResults(t, c.Results, &r)
	items := map[string]int{}
	for _, l := range r.Lists {
		if l.P50 <= 0 || l.Max < l.P50 || l.Limit == 0 {
			t.Errorf("odd figures: %+v", l)
		}
		if l.Page == 1 {
			items[l.Name] = l.Items
		}
	}
	if len(items) != len(lists(time.Now())) {
		t.Errorf("%d lists have a first page, want %d", len(items), len(lists(time.Now())))
	}
	for _, name := range []string{"no filter", "controller", "label that a third has", "status waiting", "wait kind any_of", "order updated_at", "owner prefix, everyone", "mode"} {
		if items[name] < 20 {
			t.Errorf("%s: %d items on the first page", name, items[name])
		}
	}
	if r.Changes.Value <= 0 || len(r.Indexes) < 5 {
		t.Errorf("changes %+v, %d indexes", r.Changes, len(r.Indexes))
	}
}

// TestGrowth runs all of it, small. A way that is 20 ms longer is seen: a change takes two round trips.
func TestGrowth(t *testing.T) {
	t.Parallel()
	c := growthCommand{Server: servertest.Binary(t), Rounds: 1, Duration: time.Second, States: []int{1000}, Batches: []int{7}, Waiting: 200,
		Trips: []time.Duration{20 * time.Millisecond}, Results: t.TempDir()}
	if err := c.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	var r growthReport
	readResults(t, c.Results, &r)
	if len(r.Measurements) != 6 {
		t.Fatalf("%d measurements", len(r.Measurements))
	}
	for _, m := range r.Measurements {
		if m.PerSecond <= 0 {
			t.Errorf("odd figures: %+v", m)
		}
		if strings.HasPrefix(m.Target, "database 20ms away, 1 ") && m.Load.Latency.P50 < 20 {
			t.Errorf("the way is not longer: %+v", m.Load.Latency)
		}
	}
}
