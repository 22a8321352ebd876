package faults_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"taskflow/internal/servertest"
)

const (
	racesAtOnce = 6
	// raceAhead is when, after it began, a wait is to be ended; raceSpread is within what time of that everybody tries.
	raceAhead  = 150 * time.Millisecond
	raceSpread = 8 * time.Millisecond
)

// TestRace_OneEnding lets an event, a callback, a timer or a timeout, a resume and a cancel loose on one wait at the same
// instant, each through a server of its own. What the trail says of the end, and what each of them was told, must agree.
func TestRace_OneEnding(t *testing.T) {
	t.Parallel()
	replicas(t, func(t *testing.T, _ string, servers []*servertest.Server) {
		ids := running(t, servers[0].Client, *races)
		var mu sync.Mutex
		winners := map[string]int{}
		several(*races, racesAtOnce, func(i int) {
			winner := (&race{t: t, servers: servers, number: i, flow: ids[i]}).run()
			mu.Lock()
			defer mu.Unlock()
			winners[winner]++
		})
		t.Logf("%d waits ended once each: %v", *races, winners)
		if len(winners) < 3 {
			t.Errorf("the winners were %v: that was no race", winners)
		}
	})
}

// race is one wait and those that would end it.
type race struct {
	t       *testing.T
	servers []*servertest.Server
	number  int
	flow    string
	// told is by whom it was ended, in the words of who was told so. Each field has one writer, and is read when all are done.
	told struct{ event, callback, manual bool }
}

func (r *race) server(offset int) *servertest.Server {
	return r.servers[(r.number+offset)%len(r.servers)]
}

// run returns the name of who ended the wait.
func (r *race) run() string {
	at := time.Now().Add(raceAhead)
	issuer := r.server(0)
	url := beginWait(r.t, issuer.Client, r.flow, r.wait(at)).Wait
	if url == nil {
		return r.judge() // the machine was too busy to be on time
	}
	path := strings.TrimPrefix(r.callbackURL(issuer), issuer.URL)
	var working sync.WaitGroup
	for _, contender := range []func(){
		r.sendEvent, func() { r.callBack(path) }, r.resume, r.cancel,
	} {
		working.Go(func() {
			until(r.t, at.Add(rand.N(raceSpread)-raceSpread/4))
			contender()
		})
	}
	working.Wait()
	return r.judge()
}

// wait is a timer in every other race, and else a timeout, with one of its three ends.
func (r *race) wait(at time.Time) string {
	when := at.UTC().Format(time.RFC3339Nano)
	conditions := fmt.Sprintf(`{"kind": "external_event", "topic": "race", "correlation_id": %q}, {"kind": "callback"}`, r.flow)
	if r.number%2 == 0 {
		return fmt.Sprintf(`{"kind": "any_of", "conditions": [%s, {"kind": "timer", "at": %q}]}`, conditions, when)
	}
	end := []string{"resume", "fail", "cancel"}[r.number/2%3]
	return fmt.Sprintf(`{"kind": "any_of", "conditions": [%s], "timeout": {"at": %q, "on_timeout": %q}}`, conditions, when, end)
}

func (r *race) callbackURL(s *servertest.Server) string {
	var answer struct {
		Wait struct{ Conditions []struct{ URL string } }
	}
	if err := s.Call(r.t, http.StatusOK, http.MethodGet, "/flows/"+r.flow, "").Decode(&answer); err != nil || len(answer.Wait.Conditions) < 2 {
		return "" // it does not wait any more
	}
	return answer.Wait.Conditions[1].URL
}

// send sends a request that may be answered with either of two statuses, and says whether it was the first.
func (r *race) send(offset int, path, body string, done, lost int) (servertest.Answer, bool) {
	answer, err := r.server(offset).Send(http.MethodPost, path, body)
	if err != nil || answer.Status != done && answer.Status != lost {
		r.t.Errorf("POST %s: status %d, want %d or %d: %v, %s", path, answer.Status, done, lost, err, answer.Body)
	}
	return answer, answer.Status == done
}

func (r *race) sendEvent() {
	body := fmt.Sprintf(`{"topic": "race", "correlation_id": %q, "payload": {"race": %d}}`, r.flow, r.number)
	answer, _ := r.send(1, "/external-events", body, http.StatusOK, http.StatusOK)
	r.told.event = strings.Contains(string(answer.Body), `"outcome":"delivered"`)
}

func (r *race) callBack(path string) {
	if path != "" {
		answer, done := r.send(2, path, `{"from": "callback"}`, http.StatusOK, http.StatusGone)
		r.told.callback = done && strings.Contains(string(answer.Body), `"outcome":"resumed"`)
	}
}

func (r *race) resume() {
	_, r.told.manual = r.send(0, "/flows/"+r.flow+"/resume", "", http.StatusOK, http.StatusConflict)
}

func (r *race) cancel() {
	if r.number%4 > 1 { // a running flow can be cancelled too, so it must not be in all of them
		r.send(1, "/flows/"+r.flow+"/cancel", "", http.StatusOK, http.StatusConflict)
	}
}

// judge compares the trail with what everybody was told. A timer may fire some time after its instant.
func (r *race) judge() string {
	s := r.server(2)
	if err := servertest.Await(r.t.Context(), patience, func() bool { return s.Flow(r.t, r.flow).Status != "waiting" }); err != nil {
		r.t.Fatalf("flow %s still waits", r.flow)
	}
	all := trail(r.t, s.Client, r.flow)
	end := all[3]
	winner := end.Kind
	if end.Kind == "resumed" {
		winner = causeOf(r.t, end.Event).Kind
	}
	for kind, told := range map[string]bool{"external_event": r.told.event, "callback": r.told.callback, "manual": r.told.manual} {
		if told != (winner == kind) {
			r.t.Errorf("flow %s was ended by %s, and whoever sent the %s was told %v", r.flow, winner, kind, told)
		}
	}
	if winner == "failed" || winner == "cancelled" {
		if len(all) != 4 {
			r.t.Errorf("flow %s has events after its end: %+v", r.flow, all)
		}
	}
	return winner
}

// TestRace_EventAndWait has an event and the wait for it begin at the same instant, through two servers: whoever commits
// second finds the other.
func TestRace_EventAndWait(t *testing.T) {
	t.Parallel()
	replicas(t, func(t *testing.T, _ string, servers []*servertest.Server) {
		ids := running(t, servers[0].Client, *meetings)
		var mu sync.Mutex
		buffered := 0
		several(*meetings, racesAtOnce, func(i int) {
			if meet(t, servers[i%len(servers)].Client, servers[(i+1)%len(servers)].Client, ids[i]) {
				mu.Lock()
				defer mu.Unlock()
				buffered++
			}
		})
		t.Logf("%d meetings, of which the event was first in %d", *meetings, buffered)
	})
}

// meet says whether the event was first.
func meet(t *testing.T, waiter, sender *servertest.Client, id string) bool {
	var w waiting
	var receipt struct{ ID, Outcome string }
	var working sync.WaitGroup
	start := make(chan struct{})
	send := func(c *servertest.Client, path, body string, into any) {
		working.Go(func() {
			<-start
			answer, err := c.Send(http.MethodPost, path, body)
			if err != nil || answer.Status >= 300 || answer.Decode(into) != nil {
				t.Errorf("POST %s: %v, %d: %s", path, err, answer.Status, answer.Body)
			}
		})
	}
	send(waiter, "/flows/"+id+"/wait", fmt.Sprintf(`{"wait": {"kind": "external_event", "topic": "meeting", "correlation_id": %q}}`, id), &w)
	send(sender, "/external-events", fmt.Sprintf(`{"topic": "meeting", "correlation_id": %q, "payload": {"met": true}}`, id), &receipt)
	close(start)
	working.Wait()
	first := receipt.Outcome == "buffered"
	if first != (w.Status == "running") || !first && receipt.Outcome != "delivered" {
		t.Errorf("flow %s: the event was answered with %s and the wait with %s", id, receipt.Outcome, w.Status)
	}
	all := trail(t, sender, id)
	if len(all) != 4 || all[3].Kind != "resumed" || causeOf(t, all[3].Event).Kind != "external_event" {
		t.Errorf("flow %s has lost its event: %+v", id, all)
	}
	f := waiter.Flow(t, id)
	if got, _ := f.State["resume_event"].(map[string]any); f.Status != "running" || got["met"] != true {
		t.Errorf("flow %s is %s with the state %v", id, f.Status, f.State)
	}
	var fate struct {
		Outcome   string
		FlowCount int `json:"flow_count"`
	}
	if err := waiter.Call(t, http.StatusOK, http.MethodGet, "/external-events/"+receipt.ID, "").Decode(&fate); err != nil || fate.Outcome != "delivered" || fate.FlowCount != 1 {
		t.Errorf("the event of flow %s is %+v, %v; want it delivered to one flow", id, fate, err)
	}
	return first
}
