package httpapi_test

import (
	"fmt"
	"strings"
	"testing"
)

// traced is a traceparent of the n-th request of a test.
func traced(n int) string { return fmt.Sprintf("00-4bf92f3577b34da6a3ce929d0e0e4736-%016x-01", n) }

// traces are the traceparents of a flow's trail, "" for an event that shows none.
func traces(api *client, flow string) string {
	var all []string
	for _, e := range api.trail(flow) {
		if e.Traceparent == nil {
			all = append(all, e.Kind+" -")
			continue
		}
		all = append(all, e.Kind+" "+strings.TrimLeft(strings.Split(*e.Traceparent, "-")[2], "0"))
	}
	return strings.Join(all, ", ")
}

// TestTraceparentIsKeptOnTheTrail holds that each audit event has the traceparent of the request that made the change, and
// shows none where there was none or a bad one.
func TestTraceparentIsKeptOnTheTrail(t *testing.T) {
	eachStore(t, func(t *testing.T, api *client) {
		flow := api.created("")
		api.post(flow+"/start", "", "Traceparent: "+traced(1)).want(200)
		api.post(flow+"/state", `{"patch": {"a": 1}}`, "Traceparent: 00-none").want(200)
		api.put(flow+"/steps/a", `{"task": "t", "status": "succeeded"}`, "Traceparent: "+traced(2)).want(201)
		waiting := api.post("/batch", `{"commands": [
			{"method": "POST", "path": "`+flow+`/state", "body": {"patch": {"b": 1}}},
			{"method": "POST", "path": "`+flow+`/wait", "body": {"wait": {"kind": "callback"}}}]}`, "Traceparent: "+traced(3)).want(200)
		api.post(strings.Trim(waiting.at("/results/1/body/wait/url"), `"`), `{}`, "Traceparent: "+traced(4)).want(200)
		if got, want := traces(api, flow), "created -, started 1, state_updated -, step_observed 2, state_updated 3, waiting 3, resumed 4"; got != want {
			t.Errorf("the trail has %s, want %s", got, want)
		}
	})
}

// TestTraceparentOfAnExternalEvent holds that what an external event does carries the trace of who published it, also
// where the event was kept for a flow that waited later.
func TestTraceparentOfAnExternalEvent(t *testing.T) {
	eachStore(t, func(t *testing.T, api *client) {
		flow := api.inStatus("running")
		const wait = `{"wait": {"kind": "external_event", "topic": "t", "correlation_id": "c"}}`
		const event = `{"topic": "t", "correlation_id": "c"}`
		before := traces(api, flow)
		api.post(flow+"/wait", wait, "Traceparent: "+traced(1)).want(200)
		api.post("/external-events", event, "Traceparent: "+traced(2)).want(200)
		api.post("/external-events", event, "Traceparent: "+traced(3)).want(200)
		api.post(flow+"/wait", wait, "Traceparent: "+traced(4)).want(200)
		api.post("/external-events", event).want(200)
		api.post(flow+"/wait", wait, "Traceparent: "+traced(5)).want(200)
		if got, want := traces(api, flow), before+", waiting 1, resumed 2, waiting 4, resumed 3, waiting 5, resumed -"; got != want {
			t.Errorf("the trail has %s, want %s", got, want)
		}
	})
}

// TestTraceparentOnALiveStream holds that a stream carries it as a page does.
func TestTraceparentOnALiveStream(t *testing.T) {
	eachStore(t, func(t *testing.T, api *client) {
		flow := api.created("")
		live := api.stream("/events")
		api.post(flow+"/start", "", "Traceparent: "+traced(1)).want(200)
		api.post(flow+"/state", `{"patch": {"a": 1}}`).want(200)
		page := api.get("/events?after=1").want(200).body
		for i := 0; i < 2; {
			m, err := live.Next()
			if err != nil {
				t.Fatal(err)
			}
			if m.Data == "" { // where the stream begins
				continue
			}
			if want := at(t, page, fmt.Sprintf("/items/%d", i)); m.Data != want || strings.Contains(m.Data, "traceparent") != (i == 0) {
				t.Errorf("%s, want %s", m.Data, want)
			}
			i++
		}
	})
}
