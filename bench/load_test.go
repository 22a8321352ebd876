package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// fakeServer answers as the contract says, from memory, as far as the scenarios go.
type fakeServer struct {
	mutex     sync.Mutex
	revisions map[string]int64
	keys      map[string]bool
	commands  map[string]int  // how often each command arrived
	refuse    func(n int) int // the status to refuse the nth change of a state with; 0 for none
	changes   int
	lies      bool // answers changes of a state without making them
}

func newFakeServer(t *testing.T, fake *fakeServer) (url string) {
	t.Helper()
	fake.revisions, fake.keys, fake.commands = map[string]int64{}, map[string]bool{}, map[string]int{}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /flows", func(w http.ResponseWriter, r *http.Request) { fake.answer(w, fake.create()) })
	mux.HandleFunc("GET /flows/{id}", func(w http.ResponseWriter, r *http.Request) {
		fake.answer(w, result{200, fake.flow(r.PathValue("id"))})
	})
	mux.HandleFunc("POST /flows/{id}/{command}", func(w http.ResponseWriter, r *http.Request) {
		fake.answer(w, fake.change(r.PathValue("id"), r.PathValue("command"), r.Header.Get("Idempotency-Key")))
	})
	mux.HandleFunc("POST /external-events", func(w http.ResponseWriter, r *http.Request) {
		fake.answer(w, result{200, map[string]any{"outcome": "delivered"}})
	})
	mux.HandleFunc("POST /batch", fake.batch)
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server.URL
}

type result struct {
	Status int `json:"status"`
	Body   any `json:"body"`
}

func (f *fakeServer) answer(w http.ResponseWriter, r result) {
	w.WriteHeader(r.Status)
	json.NewEncoder(w).Encode(r.Body)
}

func (f *fakeServer) flow(id string) any {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	return map[string]any{"id": id, "revision": f.revisions[id]}
}

func (f *fakeServer) create() result {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	id := "flow-" + strconv.Itoa(len(f.revisions))
	f.revisions[id] = 0
	f.commands["create"]++
	return result{201, map[string]any{"id": id, "revision": 0}}
}

func (f *fakeServer) change(id, command, key string) result {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	f.commands[command]++
	if key != "" && f.keys[key] {
		return result{422, "key used before"}
	}
	f.keys[key] = true
	if command == "state" {
		f.changes++
		if f.refuse != nil && f.refuse(f.changes) != 0 {
			return result{f.refuse(f.changes), "refused"}
		}
	}
	if command != "state" || !f.lies {
		f.revisions[id]++
	}
	return result{200, map[string]any{"id": id, "revision": f.revisions[id], "status": "running"}}
}

func (f *fakeServer) batch(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Commands []struct{ Method, Path string }
	}
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		f.answer(w, result{400, err.Error()})
		return
	}
	var results []result
	for _, command := range body.Commands {
		parts := strings.Split(command.Path, "/")
		results = append(results, f.change(parts[2], parts[3], ""))
	}
	f.answer(w, result{200, map[string]any{"results": results}})
}

func shortLoad(url, scenario string) loadCommand {
	return loadCommand{URL: url, Scenario: scenario, Connections: 3, Flows: 5, Batch: 4,
		Warmup: 20 * time.Millisecond, Duration: 100 * time.Millisecond}
}

func TestEveryScenario(t *testing.T) {
	perRequest := map[string]float64{"state": 1, "one-flow": 1, "idempotent": 1, "batch": 4, "get": 0, "create": 1, "lifecycle": 1}
	for _, s := range scenarios {
		t.Run(s.name, func(t *testing.T) {
			fake := &fakeServer{}
			got, err := runLoad(t.Context(), shortLoad(newFakeServer(t, fake), s.name))
			if err != nil {
				t.Fatal(err)
			}
			if got.Failures != 0 || got.TransportErrors != 0 || got.Requests == 0 {
				t.Fatalf("%+v", got)
			}
			if want := int64(perRequest[s.name] * float64(got.Requests)); got.Changes != want {
				t.Errorf("%d changes in %d requests, want %d", got.Changes, got.Requests, want)
			}
			if got.Latency.P50 <= 0 || got.Latency.Max < got.Latency.P50 {
				t.Errorf("latency %+v", got.Latency)
			}
			fake.mutex.Lock()
			defer fake.mutex.Unlock()
			if s.oneFlow && len(fake.revisions) != 1 {
				t.Errorf("%d flows, want one", len(fake.revisions))
			}
			if s.name == "lifecycle" && fake.commands["finish"] == 0 {
				t.Errorf("no flow reached its end: %v", fake.commands)
			}
		})
	}
}

func TestLoadUsesSeveralCores(t *testing.T) {
	c := shortLoad(newFakeServer(t, &fakeServer{}), "state")
	c.Procs = 2
	c.Warmup = 0
	got, err := runLoad(t.Context(), c)
	if err != nil || got.Requests == 0 || got.Failures != 0 || got.TransportErrors != 0 {
		t.Errorf("%+v, error %v", got, err)
	}
}

func TestRefusalsAreFailures(t *testing.T) {
	for _, scenario := range []string{"state", "batch"} {
		t.Run(scenario, func(t *testing.T) {
			refused := int64(0)
			fake := &fakeServer{refuse: func(n int) int {
				if n%3 == 0 {
					return http.StatusConflict
				}
				return 0
			}}
			c := shortLoad(newFakeServer(t, fake), scenario)
			c.Warmup = 0
			got, err := runLoad(t.Context(), c)
			if err != nil {
				t.Fatal(err)
			}
			fake.mutex.Lock()
			defer fake.mutex.Unlock()
			refused = int64(fake.changes / 3)
			if scenario == "state" {
				if got.Failures != refused || got.Statuses[409] != refused {
					t.Errorf("%d refused, but counted %d failures, statuses %v", refused, got.Failures, got.Statuses)
				}
				if got.Requests != got.Statuses[200] || got.Changes != got.Requests {
					t.Errorf("%d requests and %d changes for %d answers of 200", got.Requests, got.Changes, got.Statuses[200])
				}
				return
			}
			if got.Failures == 0 || got.Changes >= got.Requests*int64(c.Batch) {
				t.Errorf("refusals within a batch went unnoticed: %+v", got)
			}
		})
	}
}

func TestRevisionsMustMatchTheCount(t *testing.T) {
	_, err := runLoad(t.Context(), shortLoad(newFakeServer(t, &fakeServer{lies: true}), "state"))
	if err == nil || !strings.Contains(err.Error(), "revisions rose by 0") {
		t.Errorf("a server that changes nothing passed: %v", err)
	}
}

func TestLoadRefusesBadFlags(t *testing.T) {
	good := shortLoad("http://127.0.0.1:1", "state")
	for name, spoil := range map[string]func(*loadCommand){
		"scheme":      func(c *loadCommand) { c.URL = "https://127.0.0.1:1" },
		"port":        func(c *loadCommand) { c.URL = "http://127.0.0.1" },
		"scenario":    func(c *loadCommand) { c.Scenario = "none" },
		"connections": func(c *loadCommand) { c.Connections = 0 },
		"flows":       func(c *loadCommand) { c.Flows = 0 },
		"duration":    func(c *loadCommand) { c.Duration = 0 },
	} {
		c := good
		spoil(&c)
		if _, err := runLoad(t.Context(), c); err == nil || errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

func TestLoadEndsWhereNobodyListens(t *testing.T) {
	address, err := freeAddress()
	if err != nil {
		t.Fatal(err)
	}
	c := shortLoad("http://"+address, "create")
	c.Duration = time.Hour
	if _, err := runLoad(t.Context(), c); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("error %v, want a refused connection", err)
	}
}

func TestLoadEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	fake := &fakeServer{refuse: func(n int) int {
		if n == 50 {
			cancel()
		}
		return 0
	}}
	c := shortLoad(newFakeServer(t, fake), "state")
	c.Duration = time.Hour
	if _, err := runLoad(ctx, c); err == nil {
		t.Error("a run that was broken off has a result")
	}
}

func TestCountAccepted(t *testing.T) {
	cases := []struct {
		name, answer        string
		want, done, unknown int
	}{
		{"all", `{"results":[{"status":200,"body":{}},{"status":200,"body":{}}]}`, 2, 2, 0},
		{"with spaces", `{"results": [{"status": 200}, {"status": 200}]}`, 2, 2, 0},
		{"one refused", `{"results":[{"status":200},{"status":409}]}`, 2, 1, 0},
		{"one unknown", `{"results":[{"status":200},{"status":503}]}`, 2, 1, 1},
		{"one missing", `{"results":[{"status":200}]}`, 2, 1, 1},
		{"no JSON", `no`, 2, 0, 2},
	}
	for _, c := range cases {
		if done, unknown := countAccepted([]byte(c.answer), c.want); done != c.done || unknown != c.unknown {
			t.Errorf("%s: %d done, %d unknown", c.name, done, unknown)
		}
	}
}

func TestTalliesAddUp(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	whole, sum := newTally(), newTally()
	for range 5 {
		part := newTally()
		for range 2000 {
			took := time.Duration(random.ExpFloat64() * float64(3*time.Millisecond))
			sent, came := random.IntN(10) > 0, random.IntN(10) > 0
			part.answered(sent, came, 200, took)
			whole.answered(sent, came, 200, took)
		}
		part.failures, part.transport, part.accepted, part.unknown, part.changes = 1, 2, 3, 4, 5
		part.statuses[503] = 6
		sum.add(part)
	}
	if got, want := newLatency(sum.latency), newLatency(whole.latency); got != want {
		t.Errorf("latency %+v, want %+v", got, want)
	}
	if got, want := sum.latency.TotalCount(), whole.latency.TotalCount(); got != want {
		t.Errorf("%d latencies, want %d", got, want)
	}
	if sum.requests != whole.requests || sum.statuses[200] != whole.statuses[200] {
		t.Errorf("%d requests, want %d", sum.requests, whole.requests)
	}
	counts := fmt.Sprint(sum.failures, sum.transport, sum.accepted, sum.unknown, sum.changes, sum.statuses[503])
	if counts != "5 10 15 20 25 30" {
		t.Errorf("counts %s", counts)
	}
}

func TestTallyKeepsLatenciesInRange(t *testing.T) {
	total := newTally()
	total.answered(true, true, 200, 0)
	total.answered(true, true, 200, time.Hour)
	if n := total.latency.TotalCount(); n != 2 {
		t.Errorf("%d latencies, want 2", n)
	}
}

func TestWindow(t *testing.T) {
	began := time.Now()
	w := newWindow(began, time.Second, 2*time.Second)
	for offset, want := range map[time.Duration]bool{
		0: false, time.Second - 1: false, time.Second: true, 3*time.Second - 1: true, 3 * time.Second: false,
	} {
		if got := w.holds(began.Add(offset)); got != want {
			t.Errorf("holds(+%s) = %t", offset, got)
		}
	}
}
