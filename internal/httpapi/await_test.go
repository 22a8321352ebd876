package httpapi_test

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"time"
)

// meanwhile sends a GET that waits, and calls change when the server has begun to wait, which is when it has read n times.
func (c *client) meanwhile(path string, n int64, change func(), headers ...string) answer {
	c.t.Helper()
	before := c.reads.Load()
	answered := make(chan answer, 1)
	go func() { // ends with the answer, which is waited for
		a, err := c.try(context.Background(), http.MethodGet, path, "", headers...)
		if err != nil {
			c.t.Errorf("GET %s: %v", path, err)
		}
		answered <- a
	}()
	for c.reads.Load() < before+n {
		select {
		case a := <-answered:
			c.t.Fatalf("GET %s did not wait: %d %s", path, a.status, a.body)
		case <-time.After(time.Millisecond):
		}
	}
	change()
	return <-answered
}

func counted(s *setup) { s.countReads = true }

// TestPageWaitsForItsFirstEvent: a page that would be empty waits; Preference-Applied tells how long it would have.
func TestPageWaitsForItsFirstEvent(t *testing.T) {
	eachStore(t, func(t *testing.T, api *client) {
		flow := api.running("")
		for _, list := range []string{"/events?limit=9", flow + "/events?limit=9", "/events?kind=state_updated&flow_id=" + flow[len("/flows/"):]} {
			begun := api.lastSeq()
			path := fmt.Sprintf("%s&after=%d", list, begun)
			a := api.meanwhile(path, 2, func() {
				api.created("") // of another flow, and another kind
				api.post(flow+"/state", `{"patch":{"a":1}}`).want(200)
			}, "Prefer: wait=60").want(200).hasHeader("Preference-Applied", "wait=60")
			if got := a.events(); len(got) == 0 || got[0].Seq <= begun {
				t.Errorf("%s: %s", path, a.body)
			}
			api.get(path, "Prefer: wait=60").want(200).hasHeader("Preference-Applied", "wait=60") // there is something: at once
		}
	}, counted)
}

func TestPageThatStaysEmptyIsEmpty(t *testing.T) {
	eachStore(t, func(t *testing.T, api *client) {
		api.created("")
		for _, path := range []string{"/events?after=1", "/events?kind=failed", "/events?after=9223372036854775807"} {
			began := time.Now()
			a := api.get(path, "Prefer: wait=1").want(200).hasHeader("Preference-Applied", "wait=1")
			if took := time.Since(began); took < time.Second || len(a.events()) != 0 {
				t.Errorf("%s: %v, %s", path, took, a.body)
			}
		}
		api.get("/events?after=1", "Prefer: wait=0").want(200).hasHeader("Preference-Applied", "wait=0")
		api.get("/events?order=-seq&after=1", "Prefer: wait=60").want(200).hasHeader("Preference-Applied", "") // nothing can come there
		api.get(noFlow()+"/events", "Prefer: wait=60").problem(404, "not-found")
	})
}

// TestFlowWaitsForItsChange: with If-None-Match and Prefer it waits for a change, then 304 or the new flow.
func TestFlowWaitsForItsChange(t *testing.T) {
	eachStore(t, func(t *testing.T, api *client) {
		flow := api.running("")
		a := api.meanwhile(flow, 2, func() {
			api.created("")
			api.put(flow+"/steps/a", `{"task":"t","status":"running"}`).want(201) // no change of the flow
			api.post(flow+"/state", `{"patch":{"a":1}}`).want(200)
		}, `If-None-Match: "1"`, "Prefer: wait=60")
		a.want(200).hasHeader("ETag", `"2"`).hasHeader("Preference-Applied", "wait=60").has("/state", `{"a":1}`)

		api.get(flow, `If-None-Match: "1"`, "Prefer: wait=60").want(200).hasHeader("Preference-Applied", "wait=60") // it has changed already
		api.get(flow, "Prefer: wait=60").want(200).hasHeader("Preference-Applied", "")                              // nothing to wait for
		began := time.Now()
		api.get(flow, `If-None-Match: "2"`, "Prefer: wait=1").want(304).hasHeader("ETag", `"2"`).hasHeader("Preference-Applied", "wait=1")
		if took := time.Since(began); took < time.Second {
			t.Errorf("it waited for %v", took)
		}
		api.get(noFlow(), `If-None-Match: "2"`, "Prefer: wait=60").problem(404, "not-found")
	}, counted)
}

// TestWaitEndsWithItsFlow: a flow that is erased, which is no event, is not waited for to the end.
func TestWaitEndsWithItsFlow(t *testing.T) {
	eachStore(t, func(t *testing.T, api *client) {
		for _, of := range []string{"", "/events?after=1000000"} {
			flow, began := api.inStatus("cancelled"), time.Now()
			api.meanwhile(flow+of, 2, func() { api.erase(flow).want(204) }, `If-None-Match: "2"`, "Prefer: wait=60").problem(404, "not-found")
			if took := time.Since(began); took > 40*time.Second {
				t.Errorf("%s: it waited for %v", of, took)
			}
		}
	}, counted)
}

// TestPreferIsReadAsItsRFCSays: other preferences, parameters, case, quotes and several headers; capped at a minute.
func TestPreferIsReadAsItsRFCSays(t *testing.T) {
	api := serveSQLite(t)
	api.created("")
	for prefer, want := range map[string]string{
		"wait=5": "wait=5", "Wait=5": "wait=5", "respond-async, wait=5": "wait=5", "wait=5; x=y, return=minimal": "wait=5",
		`wait="5"`: "wait=5", "wait = 5": "wait=5", "wait=61": "wait=60", "wait=2147483647": "wait=60", "wait=5, wait=7": "wait=5",
		"return=minimal": "", "waiting=5": "",
	} {
		api.get("/events", "Prefer: "+prefer).want(200).hasHeader("Preference-Applied", want)
	}
	api.get("/events", "Prefer: respond-async", "Prefer: wait=7").want(200).hasHeader("Preference-Applied", "wait=7")
	for _, bad := range []string{"wait", "wait=", "wait=x", "wait=-1", "wait=1.5"} {
		api.get("/events", "Prefer: "+bad).problem(400, "invalid-request").pointers("Prefer")
	}
}
