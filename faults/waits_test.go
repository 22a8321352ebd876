package faults_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"taskflow/internal/pg/pgtest"
	"taskflow/internal/servertest"

	"github.com/google/uuid"
)

// This file has what the tests of waits share.

var (
	timers   = flag.Int("timers", 1000, "how many timers are due while servers are killed")
	races    = flag.Int("races", 60, "how many waits everything tries to end at once")
	meetings = flag.Int("meetings", 100, "how often an event and a wait for it begin at once")
)

// replicas runs a test on each kind of database, with as many servers as belong to it: one on SQLite, three on PostgreSQL.
func replicas(t *testing.T, test func(t *testing.T, url string, servers []*servertest.Server)) {
	run := func(name string, url func(*testing.T) string, n int) {
		t.Run(name, func(t *testing.T) {
			u := url(t)
			test(t, u, servertest.StartAll(t, servertest.Options{Database: u}, n))
		})
	}
	run("sqlite", func(t *testing.T) string { return servertest.SQLite(t) }, 1)
	run("postgres", func(t *testing.T) string { return pgtest.Empty(t) }, 3)
}

// batch sends commands in requests of up to 250, each of which must be answered with the given status.
func batch(t *testing.T, c *servertest.Client, status int, commands []string) {
	t.Helper()
	for len(commands) > 0 {
		n := min(250, len(commands))
		answer := c.Call(t, http.StatusOK, http.MethodPost, "/batch", `{"commands": [`+strings.Join(commands[:n], ", ")+`]}`)
		commands = commands[n:]
		var b struct {
			Results []struct {
				Status int
				Body   json.RawMessage
			}
		}
		if err := answer.Decode(&b); err != nil || len(b.Results) != n {
			t.Fatalf("a batch of %d was answered with %d results, %v", n, len(b.Results), err)
		}
		for _, r := range b.Results {
			if r.Status != status {
				t.Fatalf("a command of a batch was answered with %d, want %d: %s", r.Status, status, r.Body)
			}
		}
	}
}

// running makes flows that run, and returns their ids.
func running(t *testing.T, c *servertest.Client, n int) []string {
	t.Helper()
	ids, commands := make([]string, n), make([]string, n)
	for i := range ids {
		ids[i] = uuid.NewString()
		commands[i] = fmt.Sprintf(`{"method": "POST", "path": "/flows", "body": {"id": %q, "mode": "mirrored", "controller_id": "faults", "goal": "Wait", "owner_session_key": "faults"}}`, ids[i])
	}
	batch(t, c, http.StatusCreated, commands)
	return ids
}

// waiting is a flow's answer to the beginning of a wait.
type waiting struct {
	Status string
	Wait   *struct{ URL string }
}

// beginWait has a running flow wait.
func beginWait(t *testing.T, c *servertest.Client, id, wait string) waiting {
	t.Helper()
	var w waiting
	if err := c.Call(t, http.StatusOK, http.MethodPost, "/flows/"+id+"/wait", `{"wait": `+wait+`}`).Decode(&w); err != nil {
		t.Fatal(err)
	}
	return w
}

// cause is how a wait ended, as the trail has it.
type cause struct{ Kind, Outcome string }

func causeOf(t *testing.T, e servertest.Event) cause {
	t.Helper()
	var p struct{ Cause cause }
	if err := json.Unmarshal(e.Payload, &p); err != nil {
		t.Fatalf("event %d: %v: %s", e.Seq, err, e.Payload)
	}
	return p.Cause
}

// trail reads a flow's audit events, and checks their revisions and that at most one ended a wait.
func trail(t *testing.T, c *servertest.Client, id string) []event {
	t.Helper()
	all, err := servertest.All[event](c, "/flows/"+id+"/events")
	if err != nil {
		t.Fatal(err)
	}
	checkTrail(t, id, all)
	if f := c.Flow(t, id); f.Revision != int64(len(all)-1) {
		t.Errorf("flow %s is at revision %d after %d events", id, f.Revision, len(all))
	}
	return all
}

// trailsOf reads every flow's audit events off the feed.
func trailsOf(t *testing.T, c *servertest.Client) map[string][]event {
	t.Helper()
	feed, err := servertest.All[event](c, "/events")
	if err != nil {
		t.Fatal(err)
	}
	trails := map[string][]event{}
	for _, e := range feed {
		trails[e.FlowID] = append(trails[e.FlowID], e)
	}
	return trails
}

// checkTrail checks the trail of a flow that waits once.
func checkTrail(t *testing.T, id string, all []event) {
	t.Helper()
	count := map[string]int{}
	for i, e := range all {
		if count[e.Kind]++; e.Revision != int64(i) {
			t.Errorf("flow %s: event %d of its trail, %s, has revision %d", id, i, e.Kind, e.Revision)
		}
	}
	if count["waiting"] != 1 || count["resumed"] > 1 {
		t.Errorf("flow %s waited %d times and was resumed %d times", id, count["waiting"], count["resumed"])
	}
}

// until waits for a time.
func until(t *testing.T, at time.Time) {
	timer := time.NewTimer(time.Until(at))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.Context().Done():
	}
}

// several runs test for 0 to n-1, a few at once. One that gives up ends alone.
func several(n, atOnce int, test func(i int)) {
	slots := make(chan struct{}, atOnce)
	var working sync.WaitGroup
	for i := range n {
		slots <- struct{}{}
		working.Go(func() {
			defer func() { <-slots }()
			test(i)
		})
	}
	working.Wait()
}
