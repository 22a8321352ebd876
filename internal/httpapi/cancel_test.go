package httpapi_test

import (
	"fmt"
	"testing"
)

// observe records a step and returns the answer.
func (c *client) observe(path, runID, status string) answer {
	c.t.Helper()
	return c.put(path+"/steps/"+runID, `{"task":"work","status":"`+status+`"}`)
}

// TestRequestCancel asks each kind of flow to stop, and repeats it.
func TestRequestCancel(t *testing.T) {
	cases := []struct {
		name, status string
		steps        []string // the statuses of the recorded steps
		outcome      string   // the flow's status
		events       string   // those that follow
	}{
		{"created", "created", nil, "cancelled", "cancel_requested cancelled"},
		{"created, an active step", "created", []string{"running"}, "cancelled", "cancel_requested cancelled"},
		{"waiting", "waiting", nil, "cancelled", "cancel_requested cancelled"},
		{"waiting, an active step", "waiting", []string{"pending"}, "cancelled", "cancel_requested cancelled"},
		{"running, no step", "running", nil, "running", "cancel_requested"},
		{"running, a pending step", "running", []string{"pending"}, "running", "cancel_requested"},
		{"running, one of two steps active", "running", []string{"succeeded", "running"}, "running", "cancel_requested"},
		{"running, every step ended", "running", []string{"succeeded", "failed", "cancelled"}, "cancelled", "cancel_requested cancelled"},
	}
	eachStore(t, func(t *testing.T, api *client) {
		for _, c := range cases {
			t.Run(c.name, func(t *testing.T) {
				api := api.in(t)
				path := api.inStatus(c.status)
				for i, status := range c.steps {
					api.observe(path, fmt.Sprint(i), status).want(201)
				}
				api.checkOutcome(path, "-> "+c.outcome+": "+c.events, func() answer {
					return api.post(path+"/request-cancel", `{"reason":"enough"}`).want(200).has("/cancel_requested", "true", "/wait", "null")
				})
				for _, e := range api.trail(path)[len(api.trail(path))-1:] {
					wantText(t, "payload", string(e.Payload), `{"reason":"enough"}`)
				}
				api.checkOutcome(path, "same", func() answer { return api.post(path+"/request-cancel", `{"reason":"again"}`) })
				api.checkOutcome(path, "same", func() answer { return api.post(path+"/request-cancel", "", "If-Match: *") })
			})
		}
	})
}

// TestDrainingFlowIsCancelledByItsLastStep ends the active steps of a flow whose cancel was requested.
func TestDrainingFlowIsCancelledByItsLastStep(t *testing.T) {
	eachStore(t, func(t *testing.T, api *client) {
		for _, last := range []string{"succeeded", "failed", "cancelled"} {
			path := api.running("")
			api.observe(path, "a", "running").want(201)
			api.observe(path, "b", "pending").want(201)
			api.post(path+"/request-cancel", `{"reason":"enough"}`).want(200).has("/status", `"running"`, "/revision", "2", "/ended_at", "null")
			api.observe(path, "a", "succeeded").want(200)
			api.observe(path, "b", "running").want(200) // still at work
			api.observe(path, "c", "running").want(201) // work that began before anybody heard
			api.observe(path, "c", "failed").want(200)
			api.get(path).has("/status", `"running"`, "/revision", "2")
			api.observe(path, "b", last).want(200).has("/status", quoted(last))
			f := api.get(path).has("/status", `"cancelled"`, "/revision", "3", "/cancel_requested", "true").flow()
			trail := api.trail(path)
			step, end := trail[len(trail)-2], trail[len(trail)-1]
			if step.Kind != "step_observed" || step.Revision != 2 || end.Kind != "cancelled" || end.Revision != 3 || end.At != *f.EndedAt || end.Seq != step.Seq+1 {
				t.Errorf("the trail ends with %+v, %+v", step, end)
			}
			wantText(t, "payload", string(end.Payload), `{"reason":null}`)
		}
	})
}

// TestFlowWithoutStepsStaysUntilItIsCancelled has no step to drain, until one is recorded and ends.
func TestFlowWithoutStepsStaysUntilItIsCancelled(t *testing.T) {
	eachStore(t, func(t *testing.T, api *client) {
		path := api.running("")
		api.post(path+"/request-cancel", "").want(200)
		api.refused(409, "cancel-pending", "POST", path+"/finish", "")
		api.get(path).has("/status", `"running"`)
		api.post(path+"/cancel", `{"reason":"now"}`).want(200).has("/status", `"cancelled"`, "/cancel_requested", "true")

		path = api.running("")
		api.post(path+"/request-cancel", "").want(200)
		api.observe(path, "a", "succeeded").want(201) // the first thing known of its work is that it has ended
		api.get(path).has("/status", `"cancelled"`, "/revision", "3")
	})
}

// TestStaleObservationEndsNoDrain sends an older end of a step that runs again.
func TestStaleObservationEndsNoDrain(t *testing.T) {
	eachStore(t, func(t *testing.T, api *client) {
		path := api.running("")
		api.put(path+"/steps/a", `{"task":"t","status":"running","observed_at":"2026-04-23T15:00:00Z"}`).want(201)
		api.post(path+"/request-cancel", "").want(200)
		const end = `{"task":"t","status":"succeeded","observed_at":"2026-04-23T14:59:59Z"}`
		api.put(path+"/steps/a", end).want(200).hasHeader("Taskflow-Stale-Observation", "true")
		api.get(path).has("/status", `"running"`)
		api.refused(409, "revision-conflict", "PUT", path+"/steps/a", `{"task":"t","status":"succeeded"}`, `If-Match: "0"`)
		api.put(path+"/steps/a", `{"task":"t","status":"succeeded"}`, `If-Match: "2"`).want(200)
		api.get(path).has("/status", `"cancelled"`)
	})
}

// TestDeleteErasesAFlowThatHasEnded looks for anything left of it.
func TestDeleteErasesAFlowThatHasEnded(t *testing.T) {
	eachStore(t, func(t *testing.T, api *client) {
		kept := api.inStatus("finished")
		id := quoted("id") + `:"0b9c2a54-6d0e-4c39-9a2e-0d9d5f0c8a01"`
		path := api.running(id + `,"labels":{"a":"b"}`)
		api.observe(path, "a", "running").want(201)
		api.refused(409, "not-terminal", "DELETE", path, "")
		api.post(path+"/finish", "").want(200)
		before := api.get("/events?order=-seq&limit=1").events()[0].Seq
		a := api.erase(path).want(204).hasHeader("Content-Type", "")
		wantText(t, "body", a.body, "")
		for _, gone := range []string{"", "/steps", "/steps/a", "/events"} {
			api.get(path+gone).problem(404, "not-found")
		}
		api.refused(404, "not-found", "DELETE", path, "")
		if found := api.get("/flows").flows(); len(found) != 1 || "/flows/"+found[0].ID != kept {
			t.Errorf("flows %v", found)
		}
		for _, e := range api.get("/events").events() {
			if "/flows/"+e.FlowID != kept {
				t.Errorf("an event of the erased flow: %+v", e)
			}
		}
		if found := api.get("/flows?label=a:b").flows(); len(found) != 0 {
			t.Errorf("its label finds %v", found)
		}
		// The id is free again, and nothing of the old flow comes back with it.
		api.create(id)
		wantText(t, "trail", api.kinds(path), "created 0")
		if found := api.get(path + "/steps").steps(); len(found) != 0 {
			t.Errorf("steps %v", found)
		}
		if e := api.trail(path)[0]; e.Seq <= before {
			t.Errorf("seq %d was handed out again, after %d", e.Seq, before)
		}
	})
}
