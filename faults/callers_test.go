package faults_test

import (
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"taskflow/internal/servertest"
)

// caller is one of those who send the load's requests, with a key.
type caller struct {
	name   string // as the trail has it
	covers string // the owners whose flows it sees and changes
	owner  string // of the flows that it creates
	key    string
}

// newCallers are one who covers everyone, one who covers all flows that are changed together, and one who covers little more
// than those.
func newCallers() []*caller {
	return []*caller{
		{name: "everyone's", covers: "*", owner: "elsewhere:1"},
		{name: "wide", covers: "faults:*", owner: "faults:wide:1"},
		{name: "tight", covers: "faults:hot:*", owner: "faults:hot:1"},
	}
}

// startWithKeys starts servers that let nobody in without a key, and makes the keys of a load's callers, which the ledger
// has. The servers' own clients cover everyone.
func startWithKeys(t *testing.T, o servertest.Options, n int) ([]*servertest.Server, *ledger) {
	t.Helper()
	l := &ledger{callers: newCallers(), database: servertest.OpenDatabase(t, o.Database)}
	l.database.SetMaxIdleConns(0) // what is killed between two looks leaves no dead connection behind
	for _, c := range l.callers {
		made := servertest.Run(t, o, "keys", "create", "--name", c.name, "--owner", c.covers, "--scope", "flows:read", "--scope", "flows:write")
		if c.key = strings.TrimSpace(made.Stdout); made.Code != 0 || c.key == "" {
			t.Fatalf("making a key: %+v", made)
		}
	}
	o.Env = append(slices.Clone(o.Env), "TASKFLOW_AUTH=keys")
	servers := servertest.StartAll(t, o, n)
	for _, s := range servers {
		s.Client = s.Client.As(l.callers[0].key)
	}
	t.Cleanup(func() { checkKeys(t, servers, l.callers) })
	return servers, l
}

// checkKeys checks that no caller's key is in a log, whatever went wrong, not even the part that is secret alone.
func checkKeys(t *testing.T, servers []*servertest.Server, callers []*caller) {
	t.Helper()
	for _, c := range callers {
		secret := c.key[len(c.key)-secretLength:]
		for _, s := range servers {
			if log := s.Log(); strings.Contains(log, secret) {
				t.Errorf("a log shows the key of %s:\n%.1000s", c.name, log[max(0, strings.Index(log, secret)-500):])
			}
		}
	}
}

// secretLength is how long the last part of a key is.
const secretLength = 43

// trespass has a caller change a flow that it does not cover.
func (w *worker) trespass() {
	mark := w.mark()
	r := &request{method: http.MethodPost, path: "/flows/" + w.load.foreign + "/state", body: fmt.Sprintf(`{"patch": {%q: 1}}`, mark),
		effects: []effect{{flow: w.load.foreign, kind: "state_updated", mark: mark}}, caller: w.caller}
	answer, err := r.send(w.load.servers[w.server].Client)
	w.load.ledger.refuse(r, answer, err)
	if err != nil {
		w.moveOn()
		w.pause()
	}
}

// refuse judges the answer to a change that nobody may make: whatever it is, the change must not be there.
func (l *ledger) refuse(r *request, answer servertest.Answer, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if problem := answer.Problem(); err == nil && problem != "not-found" && problem != "unavailable" {
		l.odd = append(l.odd, fmt.Sprintf("%s %s by %s, of another owner, was answered with %d: %s", r.method, r.path, r.caller.name, answer.Status, answer.Body))
	}
	r.settle(notMade)
	l.requests = append(l.requests, r)
}

// takeSnapshot reads everything back, and where callers have keys also what the database has counted for each.
func (l *ledger) takeSnapshot(t *testing.T, c *servertest.Client) *snapshot {
	t.Helper()
	s, err := takeSnapshot(c)
	if err != nil {
		t.Fatal(err)
	}
	if l.database == nil {
		return s
	}
	s.open = map[string]int64{}
	rows, err := l.database.QueryContext(t.Context(), "select k.name, o.n from open_flows o join api_keys k on o.caller = 'key:' || k.id")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var name string
		var n int64
		if err := rows.Scan(&name, &n); err != nil {
			t.Fatal(err)
		}
		s.open[name] = n
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return s
}

var ended = []string{"finished", "failed", "cancelled"}

// checkOpen compares what is counted for each caller with the flows that it has created, by their trails, and that have not
// ended.
func (s *snapshot) checkOpen() (found []string) {
	if s.open == nil {
		return nil
	}
	there := map[string]int64{}
	for name := range s.open {
		there[name] = 0
	}
	for id, f := range s.flows {
		if trail := s.events[id]; len(trail) > 0 && !slices.Contains(ended, f.Status) {
			there[trail[0].Actor]++
		}
	}
	for _, name := range slices.Sorted(maps.Keys(there)) {
		if s.open[name] != there[name] {
			found = append(found, fmt.Sprintf("%d open flows are counted for %s, and there are %d", s.open[name], name, there[name]))
		}
	}
	return found
}

// drift is a count of open flows that is wrong by n. What undoes it is what docs/operations.md tells operators to do.
func drift(t *testing.T, url string, n int) plant {
	t.Helper()
	page, err := os.ReadFile("../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	_, block, _ := strings.Cut(string(page), "```sql\n")
	block, _, found := strings.Cut(block, "```")
	if !found || !strings.Contains(block, "open_flows") {
		t.Fatal("docs/operations.md does not say how open flows are counted again")
	}
	if strings.HasPrefix(url, "sqlite:") {
		before, after, _ := strings.Cut(block, "lock table")
		_, after, _ = strings.Cut(after, "\n")
		block = before + after
	}
	return plant{
		name:   fmt.Sprintf("a count of open flows is wrong by %d", n),
		damage: []string{fmt.Sprintf("update open_flows set n = n + %d where caller = (select min(caller) from open_flows)", n)},
		undo:   []string{block},
		want:   "open flows are counted",
	}
}
