package faults_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"taskflow/internal/servertest"
)

// TestKillServer_TimersFireOnce kills servers in turn while thousands of timers are due. Each fires once and none early.
func TestKillServer_TimersFireOnce(t *testing.T) {
	t.Parallel()
	replicas(t, func(t *testing.T, _ string, servers []*servertest.Server) {
		dueWithin := max(5*time.Second, 10*revive(servers[0])) // or a slow machine would fire all between two kills
		began := time.Now()
		ids := running(t, servers[0].Client, *timers)
		first := time.Now().Add(2*time.Since(began) + 500*time.Millisecond) // to be set by then
		due := setTimers(t, servers[0].Client, ids, first, dueWithin)
		if time.Now().After(first) {
			t.Logf("the first timers were due before the last were set")
		}
		until(t, first)
		kills := killUntilFired(t, servers)
		if kills < 2 {
			t.Errorf("%d kills while timers were due, want more", kills)
		}
		checkTimers(t, servers[0].Client, due, fmt.Sprintf("%d kills", kills))
		checkLogs(t, servers)
	})
}

// revive kills a server, starts it again and returns how long that took.
func revive(s *servertest.Server) time.Duration {
	began := time.Now()
	s.Kill()
	s.Restart()
	return time.Since(began)
}

// setTimers has each flow wait for a time of its own, within some time after first, and returns the times.
func setTimers(t *testing.T, c *servertest.Client, ids []string, first time.Time, within time.Duration) map[string]time.Time {
	t.Helper()
	due, commands := map[string]time.Time{}, make([]string, len(ids))
	for i, id := range ids {
		due[id] = first.Add(rand.N(within)).Truncate(time.Microsecond)
		commands[i] = fmt.Sprintf(`{"method": "POST", "path": "/flows/%s/wait", "body": {"wait": {"kind": "timer", "at": %q}}}`,
			id, due[id].UTC().Format(time.RFC3339Nano))
	}
	batch(t, c, http.StatusOK, commands)
	return due
}

// killUntilFired kills the servers one after the other, and starts each again, until no flow waits any more.
func killUntilFired(t *testing.T, servers []*servertest.Server) (kills int) {
	t.Helper()
	const atEachKill = 200 * time.Millisecond // the servers have for the timers before the next kill, or as long as one batch takes
	for left := stillWaiting(t, servers[0].Client); left > 0; kills++ {
		victim := servers[kills%len(servers)]
		revive(victim)
		next, before := time.Now().Add(atEachKill), lastSeq(t, victim.Client)
		err := servertest.Await(t.Context(), patience, func() bool {
			left = stillWaiting(t, victim.Client)
			return left == 0 || time.Now().After(next) && lastSeq(t, victim.Client) > before
		})
		if err != nil || kills > 1000 {
			t.Fatalf("%d flows wait after %d kills: %v", left, kills, err)
		}
	}
	return kills
}

func stillWaiting(t *testing.T, c *servertest.Client) (n int) {
	t.Helper()
	var page struct{ Items []any }
	if err := c.Call(t, http.StatusOK, http.MethodGet, "/flows?status=waiting&limit=1&view=summary", "").Decode(&page); err != nil {
		t.Fatal(err)
	}
	return len(page.Items)
}

// lastSeq is the number of the newest event.
func lastSeq(t *testing.T, c *servertest.Client) int64 {
	t.Helper()
	var page struct{ Items []servertest.Event }
	if err := c.Call(t, http.StatusOK, http.MethodGet, "/events?order=-seq&limit=1", "").Decode(&page); err != nil || len(page.Items) != 1 {
		t.Fatalf("the newest event: %v", err)
	}
	return page.Items[0].Seq
}

// checkTimers checks every flow's trail against the time its timer was due, prints how late they were, and returns how late
// the latest was. what is what the servers went through.
func checkTimers(t *testing.T, c *servertest.Client, due map[string]time.Time, what string) time.Duration {
	t.Helper()
	trails := trailsOf(t, c)
	var late []time.Duration
	for id, at := range due {
		all := trails[id]
		checkTrail(t, id, all)
		if len(all) != 4 || all[3].Kind != "resumed" || causeOf(t, all[3].Event).Kind != "timer" {
			t.Fatalf("flow %s was not resumed by its timer and by nothing else: %+v", id, all)
		}
		if all[3].at().Before(at) {
			t.Errorf("flow %s: the timer for %v fired at %s, too early", id, at.UTC(), all[3].At)
		}
		late = append(late, all[3].at().Sub(at))
	}
	slices.Sort(late)
	t.Logf("%d timers fired once each through %s; late by %v (p50), %v (p99), %v (at most)",
		len(late), what, late[len(late)/2], late[len(late)*99/100], late[len(late)-1])
	return late[len(late)-1]
}

// TestDown_WaitsGoOnAfterTheStart has servers down over the time of a timer and the whole life of a callback.
func TestDown_WaitsGoOnAfterTheStart(t *testing.T) {
	t.Parallel()
	replicas(t, func(t *testing.T, url string, servers []*servertest.Server) {
		s := servers[0]
		ids := running(t, s.Client, 5)
		timer, open, expired, late, over := ids[0], ids[1], ids[2], ids[3], ids[4]
		at := time.Now().Add(time.Second)
		when := fmt.Sprintf("%q", at.UTC().Format(time.RFC3339Nano))
		beginWait(t, s.Client, timer, `{"kind": "timer", "at": `+when+`}`)
		openURL := beginWait(t, s.Client, open, `{"kind": "callback"}`).Wait.URL
		expiredURL := beginWait(t, s.Client, expired, `{"kind": "callback", "timeout": {"at": `+when+`, "on_timeout": "resume"}}`).Wait.URL
		beginWait(t, s.Client, over, `{"kind": "manual", "timeout": {"at": `+when+`, "on_timeout": "fail"}}`)
		s.Call(t, http.StatusOK, http.MethodPost, "/external-events", `{"topic": "early", "correlation_id": "1", "payload": 1}`)
		for _, each := range servers {
			each.Kill()
		}
		if r := servertest.Run(t, servertest.Options{Database: url}, "rotate-callback-key"); r.Code != 0 {
			t.Fatalf("rotate-callback-key: %+v", r)
		}
		until(t, at.Add(100*time.Millisecond))
		for _, each := range servers {
			each.Relaunch()
		}
		for _, each := range servers {
			each.AwaitReady(patience)
		}
		last := servers[len(servers)-1]
		if err := servertest.Await(t.Context(), again, func() bool {
			return last.Flow(t, timer).Status == "running" && last.Flow(t, expired).Status == "running" && last.Flow(t, over).Status == "failed"
		}); err != nil {
			t.Fatalf("what was due while the servers were down has not fired %v after their start", again)
		}
		for id, want := range map[string]string{timer: "timer", expired: "timeout"} {
			end := trail(t, last.Client, id)[3]
			if got := causeOf(t, end.Event).Kind; got != want || end.at().Before(at) {
				t.Errorf("a wait until %v was ended by %s at %s, want by %s", at.UTC(), got, end.At, want)
			}
		}
		path := func(url string) string { return strings.TrimPrefix(url, s.URL) }
		for i, want := range []string{`"resumed"`, `"already_resumed"`} {
			answer := servers[i%len(servers)].Call(t, http.StatusOK, http.MethodPost, path(openURL), `{"a": 1}`)
			if !strings.Contains(string(answer.Body), want) {
				t.Errorf("call %d of a URL that is older than the servers: %s, want %s", i+1, answer.Body, want)
			}
		}
		last.Call(t, http.StatusGone, http.MethodPost, path(expiredURL), "")
		if w := beginWait(t, last.Client, late, `{"kind": "external_event", "topic": "early", "correlation_id": "1"}`); w.Status != "running" {
			t.Errorf("a wait for an event that came before the servers went down: the flow is %s", w.Status)
		}
		trail(t, last.Client, open)
	})
}
