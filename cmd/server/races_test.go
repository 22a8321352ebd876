package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"testing"

	"taskflow/internal/servertest"
)

// race is a test of requests that arrive at once: on SQLite at one server, on PostgreSQL at two over one database.
func race(t *testing.T, test func(t *testing.T, servers []*servertest.Server)) {
	servertest.Databases(t, func(t *testing.T, url string, servers int) {
		test(t, servertest.StartAll(t, servertest.Options{Database: url}, servers))
	})
}

// atOnce sends n requests at the same moment, the servers in turn, and returns the answers in the order of the numbers.
func atOnce(t *testing.T, servers []*servertest.Server, n int, send func(c *servertest.Client, i int) (servertest.Answer, error)) []servertest.Answer {
	t.Helper()
	answers, errs := make([]servertest.Answer, n), make([]error, n)
	start := make(chan struct{})
	var senders sync.WaitGroup
	for i := range n {
		senders.Go(func() {
			<-start
			answers[i], errs[i] = send(servers[i%len(servers)].Client, i)
		})
	}
	close(start)
	senders.Wait()
	for i, err := range errs {
		if err != nil {
			t.Fatalf("request %d: %v", i, err)
		}
	}
	return answers
}

// byStatus counts answers.
func byStatus(answers []servertest.Answer) map[int]int {
	count := map[int]int{}
	for _, a := range answers {
		count[a.Status]++
	}
	return count
}

func decode[T any](t *testing.T, a servertest.Answer) T {
	t.Helper()
	var v T
	if err := a.Decode(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

// checkTrail reads a flow's trail and checks that its revisions run from 0 to the flow's without a gap.
func checkTrail(t *testing.T, c *servertest.Client, f servertest.Flow) []servertest.Event {
	t.Helper()
	events, err := servertest.All[servertest.Event](c, "/flows/"+f.ID+"/events")
	if err != nil {
		t.Fatal(err)
	}
	next, seq := int64(0), int64(0)
	for _, e := range events {
		if e.Seq <= seq {
			t.Errorf("seq %d follows %d", e.Seq, seq)
		}
		seq = e.Seq
		if e.Kind == "step_observed" {
			continue
		}
		if e.Revision != next {
			t.Errorf("event %+v: revision %d, want %d", e, e.Revision, next)
		}
		next = e.Revision + 1
	}
	if next != f.Revision+1 {
		t.Errorf("the trail ends at revision %d, the flow is at %d", next-1, f.Revision)
	}
	return events
}

func TestRace_WritersWithoutIfMatch(t *testing.T) {
	t.Parallel()
	race(t, func(t *testing.T, servers []*servertest.Server) {
		const writers = 40
		flow := servers[0].Create(t)
		answers := atOnce(t, servers, writers, func(c *servertest.Client, i int) (servertest.Answer, error) {
			return c.Send(http.MethodPost, "/flows/"+flow.ID+"/state", fmt.Sprintf(`{"patch": {"writer-%d": %d}}`, i, i))
		})
		revisions := map[int64]bool{}
		for i, a := range answers {
			if a.Status != http.StatusOK {
				t.Fatalf("writer %d: status %d: %s", i, a.Status, a.Body)
			}
			f := decode[servertest.Flow](t, a)
			if a.Header.Get("ETag") != fmt.Sprintf("%q", fmt.Sprint(f.Revision)) || f.State[fmt.Sprintf("writer-%d", i)] == nil {
				t.Errorf("writer %d: ETag %s and its own patch missing from %s", i, a.Header.Get("ETag"), a.Body)
			}
			revisions[f.Revision] = true
		}
		flow = servers[0].Flow(t, flow.ID)
		if flow.Revision != writers || len(revisions) != writers || len(flow.State) != writers {
			t.Errorf("revision %d, %d revisions answered, state %v, want %d of each", flow.Revision, len(revisions), flow.State, writers)
		}
		for i := range writers {
			if got := flow.State[fmt.Sprintf("writer-%d", i)]; got != json.Number(fmt.Sprint(i)) {
				t.Errorf("the patch of writer %d is %v", i, got)
			}
		}
		if events := checkTrail(t, servers[0].Client, flow); len(events) != writers+1 {
			t.Errorf("%d events, want %d", len(events), writers+1)
		}
	})
}

func TestRace_WritersWithTheSameIfMatch(t *testing.T) {
	t.Parallel()
	race(t, func(t *testing.T, servers []*servertest.Server) {
		flow := servers[0].Create(t)
		answers := atOnce(t, servers, 20, func(c *servertest.Client, i int) (servertest.Answer, error) {
			return c.Send(http.MethodPost, "/flows/"+flow.ID+"/state", fmt.Sprintf(`{"patch": {"winner": %d}}`, i), "If-Match", `"0"`)
		})
		count := byStatus(answers)
		if count[http.StatusOK] != 1 || count[http.StatusConflict] != 19 {
			t.Fatalf("answers by status: %v, want one 200 and nineteen 409", count)
		}
		flow = servers[0].Flow(t, flow.ID)
		for i, a := range answers {
			if a.Status == http.StatusOK {
				if got := flow.State["winner"]; got != json.Number(fmt.Sprint(i)) {
					t.Errorf("writer %d won, and the state has %v", i, got)
				}
				continue
			}
			p := decode[struct {
				Expected, Actual int64
				Flow             servertest.Flow
			}](t, a)
			if a.Problem() != "revision-conflict" || p.Expected != 0 || p.Actual != 1 || p.Flow.ID != flow.ID || p.Flow.Revision != 1 ||
				p.Flow.State["winner"] == nil || a.Header.Get("ETag") != `"1"` {
				t.Errorf("writer %d: ETag %s, %s, want a conflict with the flow as it is", i, a.Header.Get("ETag"), a.Body)
			}
		}
		checkTrail(t, servers[0].Client, flow)
	})
}

const plainFlow = `{"controller_id": "race", "goal": "a race", "owner_session_key": "race"}`

func TestRace_CreatesWithOneIdempotencyKey(t *testing.T) {
	t.Parallel()
	race(t, func(t *testing.T, servers []*servertest.Server) {
		answers := atOnce(t, servers, 16, func(c *servertest.Client, _ int) (servertest.Answer, error) {
			return c.Send(http.MethodPost, "/flows", plainFlow, "Idempotency-Key", "one-and-only")
		})
		replayed := 0
		for i, a := range answers {
			if a.Status != http.StatusCreated || string(a.Body) != string(answers[0].Body) ||
				a.Header.Get("Location") != answers[0].Header.Get("Location") || a.Header.Get("ETag") != `"0"` {
				t.Errorf("answer %d: status %d, %v, %s, want that of the first: %s", i, a.Status, a.Header, a.Body, answers[0].Body)
			}
			if a.Header.Get("Idempotent-Replayed") == "true" {
				replayed++
			}
		}
		if replayed != 15 {
			t.Errorf("%d answers were replayed, want 15", replayed)
		}
		all, err := servertest.All[servertest.Flow](servers[0].Client, "/flows?owner_session_key=race")
		if err != nil || len(all) != 1 {
			t.Fatalf("%d flows, error %v, want one", len(all), err)
		}
		checkTrail(t, servers[0].Client, all[0])
	})
}

func TestRace_CreatesWithOneID(t *testing.T) {
	t.Parallel()
	race(t, func(t *testing.T, servers []*servertest.Server) {
		body := `{"id": "0197b3a0-5c1e-7d3a-9c55-3f2e8a1b7c4d", ` + plainFlow[1:]
		answers := atOnce(t, servers, 16, func(c *servertest.Client, _ int) (servertest.Answer, error) {
			return c.Send(http.MethodPost, "/flows", body)
		})
		if count := byStatus(answers); count[http.StatusCreated] != 1 || count[http.StatusConflict] != 15 {
			t.Errorf("answers by status: %v, want one 201 and fifteen 409", count)
		}
		for _, a := range answers {
			if a.Status == http.StatusConflict && a.Problem() != "already-exists" {
				t.Errorf("refused with %s", a.Body)
			}
		}
	})
}

func TestRace_ObservationsOfOneStep(t *testing.T) {
	t.Parallel()
	race(t, func(t *testing.T, servers []*servertest.Server) {
		flow := servers[0].Create(t)
		answers := atOnce(t, servers, 20, func(c *servertest.Client, i int) (servertest.Answer, error) {
			return c.Send(http.MethodPut, "/flows/"+flow.ID+"/steps/build", fmt.Sprintf(`{"task": "observer %d", "status": "running"}`, i))
		})
		if count := byStatus(answers); count[http.StatusCreated] != 1 || count[http.StatusOK] != 19 {
			t.Errorf("answers by status: %v, want one 201 and nineteen 200", count)
		}
		steps, err := servertest.All[servertest.Step](servers[0].Client, "/flows/"+flow.ID+"/steps")
		if err != nil || len(steps) != 1 {
			t.Fatalf("steps %+v, error %v, want one", steps, err)
		}
		for i, a := range answers {
			if got := decode[servertest.Step](t, a); got != steps[0] {
				t.Errorf("answer %d is about %+v, want %+v", i, got, steps[0])
			}
		}
		if events := checkTrail(t, servers[0].Client, flow); len(events) != 21 {
			t.Errorf("%d events, want created and twenty observations", len(events))
		}
	})
}

// TestRace_Everything sends every kind of change to one flow at once.
func TestRace_Everything(t *testing.T) {
	t.Parallel()
	race(t, func(t *testing.T, servers []*servertest.Server) {
		flow := servers[0].Create(t)
		path := "/flows/" + flow.ID
		kinds := []func(c *servertest.Client, i int) (servertest.Answer, error){
			func(c *servertest.Client, i int) (servertest.Answer, error) {
				return c.Send(http.MethodPost, path+"/state", fmt.Sprintf(`{"patch": {"free-%d": 1}}`, i))
			},
			func(c *servertest.Client, i int) (servertest.Answer, error) {
				return c.Send(http.MethodPost, path+"/state", `{"patch": {"matched": 1}}`, "If-Match", `"0"`)
			},
			func(c *servertest.Client, i int) (servertest.Answer, error) {
				return c.Send(http.MethodPost, path+"/state", `{"patch": {"keyed": 1}}`, "Idempotency-Key", "everything")
			},
			func(c *servertest.Client, i int) (servertest.Answer, error) {
				return c.Send(http.MethodPost, path+"/start", "")
			},
			func(c *servertest.Client, i int) (servertest.Answer, error) {
				return c.Send(http.MethodPut, path+"/steps/one", fmt.Sprintf(`{"task": "observer %d", "status": "running"}`, i))
			},
			func(c *servertest.Client, i int) (servertest.Answer, error) {
				return c.Send(http.MethodPost, "/batch", fmt.Sprintf(`{"commands": [{"method": "POST", "path": "%s/start"},
					{"method": "POST", "path": "%s/state", "body": {"patch": {"batch-%d": 1}}}]}`, path, path, i))
			},
		}
		const each = 10
		answers := atOnce(t, servers, each*len(kinds), func(c *servertest.Client, i int) (servertest.Answer, error) {
			return kinds[i/each](c, i)
		})
		byKind := make([]map[int]int, len(kinds))
		for k := range kinds {
			byKind[k] = byStatus(answers[k*each : (k+1)*each])
		}
		starts, patches := byKind[3][http.StatusOK], 0
		for _, a := range answers[5*each:] {
			batch := decode[struct{ Results []struct{ Status int } }](t, a)
			if len(batch.Results) != 2 {
				t.Fatalf("a batch of two was answered with %s", a.Body)
			}
			if batch.Results[0].Status == http.StatusOK {
				starts++
			}
			if batch.Results[1].Status == http.StatusOK {
				patches++
			}
		}
		if byKind[0][200] != each || byKind[1][200] > 1 || byKind[1][200]+byKind[1][409] != each || byKind[2][200] != each ||
			byKind[3][200]+byKind[3][409] != each || byKind[4][201] != 1 || byKind[4][200] != each-1 || starts != 1 || patches != each {
			t.Errorf("answers by kind and status: %v; %d starts, %d patches in batches", byKind, starts, patches)
		}
		flow = servers[0].Flow(t, flow.ID)
		if want := int64(each + byKind[1][200] + 1 + 1 + each); flow.Revision != want {
			t.Errorf("revision %d, want %d: one for each change that was answered with success, and one for the key", flow.Revision, want)
		}
		checkTrail(t, servers[0].Client, flow)
	})
}
