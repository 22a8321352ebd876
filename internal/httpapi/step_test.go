package httpapi_test

import (
	"fmt"
	"net/http"
	"testing"
)

// TestObserveStep holds what section 3 says of one row.
func TestObserveStep(t *testing.T) {
	eachStore(t, func(t *testing.T, api *client) {
		path := api.running("")
		flowID := path[len("/flows/"):]
		a := api.put(path+"/steps/r%2F1", `{"task":"first","status":"pending"}`).want(http.StatusCreated)
		a.has("/flow_id", quoted(flowID), "/run_id", `"r/1"`, "/runtime", `"managed"`, "/task", `"first"`, "/status", `"pending"`,
			"/child_session_key", "null", "/result", "null", "/observed_at", a.at("/created_at"), "/updated_at", a.at("/created_at"))
		a.hasHeader("Taskflow-Stale-Observation", "").hasHeader("Location", "").hasHeader("ETag", "")
		first := a.step()

		full := `{"task":"second","status":"running","runtime":"mirrored","child_session_key":"child","result":{"n":1.10},"observed_at":"2999-01-01T00:00:00+02:00"}`
		b := api.put(path+"/steps/r%2F1", full).want(http.StatusOK)
		b.has("/id", quoted(first.ID), "/created_at", quoted(first.CreatedAt), "/task", `"second"`, "/status", `"running"`, "/runtime", `"mirrored"`,
			"/child_session_key", `"child"`, "/result", `{"n":1.10}`, "/observed_at", `"2998-12-31T22:00:00.000000Z"`)
		if s := b.step(); s.UpdatedAt < first.UpdatedAt {
			t.Errorf("updated_at went from %s to %s", first.UpdatedAt, s.UpdatedAt)
		}
		wantText(t, "read", api.get(path+"/steps/r%2F1").body, b.body)
		wantText(t, "list", api.get(path+"/steps").at("/items/0"), b.body)

		// What is absent: the key and the runtime are kept, the result is replaced. Without observed_at the last writer wins.
		api.put(path+"/steps/r%2F1", `{"task":"third","status":"failed"}`).want(200).hasHeader("Taskflow-Stale-Observation", "").
			has("/child_session_key", `"child"`, "/runtime", `"mirrored"`, "/result", "null", "/status", `"failed"`)
		api.put(path+"/steps/r%2F1", `{"task":"t","status":"running","child_session_key":null}`).want(200).has("/child_session_key", "null")
		api.put(path+"/steps/r%2F1", `{"task":"t","status":"running"}`).want(200).has("/child_session_key", "null")

		if f := api.read(path); f.Revision != 1 {
			t.Errorf("the steps took the flow to revision %d", f.Revision)
		}
		wantText(t, "trail", api.kinds(path), "created 0, started 1, step_observed 1, step_observed 1, step_observed 1, step_observed 1, step_observed 1")
		wantText(t, "payload", string(api.trail(path)[3].Payload), `{"run_id":"r/1","status":"running","runtime":"mirrored"}`)
		api.refused(404, "not-found", "PUT", noFlow()+"/steps/r", full)
	})
}

func TestRuntimeOfAStepIsTheFlowsMode(t *testing.T) {
	eachStore(t, func(t *testing.T, api *client) {
		for _, mode := range []string{"managed", "mirrored"} {
			path := api.created(`"mode":` + quoted(mode))
			api.observe(path, "default", "running").want(201).has("/runtime", quoted(mode))
			for _, runtime := range []string{"managed", "mirrored"} {
				body := `{"task":"t","status":"running","runtime":"` + runtime + `"}`
				api.put(path+"/steps/"+runtime, body).want(201).has("/runtime", quoted(runtime))
				api.observe(path, runtime, "succeeded").want(200).has("/runtime", quoted(runtime))
			}
		}
	})
}

// TestObservationsOutOfOrder sends observations of one step with times before, at and after the recorded one.
func TestObservationsOutOfOrder(t *testing.T) {
	body := func(status, at string) string {
		return `{"task":"t","status":"` + status + `","observed_at":"` + at + `"}`
	}
	eachStore(t, func(t *testing.T, api *client) {
		flow := api.running("")
		path := flow + "/steps/r"
		recorded := api.put(path, body("running", "2026-04-23T15:00:00.000002Z")).want(201).has("/observed_at", `"2026-04-23T15:00:00.000002Z"`)
		before := api.snapshot()
		for _, older := range []string{"2026-04-23T15:00:00.000001Z", "2026-04-23T15:00:00.0000019Z", "2026-04-23T16:59:59+02:00", "0001-01-01T00:00:00Z"} {
			a := api.put(path, body("failed", older)).want(200).hasHeader("Taskflow-Stale-Observation", "true")
			wantText(t, "stale answer", a.body, recorded.body)
		}
		wantText(t, "after stale observations", api.snapshot(), before)
		for i, newer := range []string{"2026-04-23T15:00:00.000002Z", "2026-04-23T15:00:00.0000021Z", "2026-04-23T17:00:00.000002+02:00", "2026-04-23T15:00:00.000003Z"} {
			status := []string{"running", "failed"}[i%2]
			api.put(path, body(status, newer)).want(200).hasHeader("Taskflow-Stale-Observation", "").has("/status", quoted(status))
		}
		// One of its own clock is ahead; one without a time wins all the same, and is then the recorded one.
		api.put(path, body("running", "9999-12-31T23:59:59.999999Z")).want(200)
		now := api.observe(flow, "r", "succeeded").want(200).hasHeader("Taskflow-Stale-Observation", "").has("/status", `"succeeded"`)
		if s := now.step(); s.ObservedAt != s.UpdatedAt {
			t.Errorf("observed_at %s, updated_at %s", s.ObservedAt, s.UpdatedAt)
		}
		api.put(path, body("running", "2026-04-24T00:00:00Z")).want(200).hasHeader("Taskflow-Stale-Observation", "true")
	})
}

func TestTerminalFlowsAcceptObservations(t *testing.T) {
	eachStore(t, func(t *testing.T, api *client) {
		for _, status := range []string{"finished", "failed", "cancelled"} {
			path := api.inStatus(status)
			before := api.get(path).body
			api.observe(path, "late", "running").want(201)
			api.observe(path, "late", "succeeded").want(200)
			wantText(t, status, api.get(path).body, before)
		}
	})
}

// TestObservationsAtOnceMakeOneRow has twenty clients see one step for the first time.
func TestObservationsAtOnceMakeOneRow(t *testing.T) {
	eachStore(t, func(t *testing.T, api *client) {
		path := api.running("")
		created := 0
		ids := map[string]bool{}
		for _, a := range atOnce(20, func(i int) answer {
			return api.put(path+"/steps/r", fmt.Sprintf(`{"task":"t%d","status":"running"}`, i))
		}) {
			if a.status == http.StatusCreated {
				created++
			} else {
				a.want(http.StatusOK)
			}
			ids[a.step().ID] = true
		}
		found := api.get(path + "/steps").steps()
		if created != 1 || len(ids) != 1 || len(found) != 1 || len(api.trail(path)) != 22 {
			t.Errorf("%d were created, %d ids, %d steps, %d events", created, len(ids), len(found), len(api.trail(path)))
		}
		// The counters that a drain goes by have counted it once.
		api.post(path+"/request-cancel", "").want(200).has("/status", `"running"`)
		api.observe(path, "r", "succeeded").want(200)
		api.get(path).has("/status", `"cancelled"`)
	})
}

func TestStepsAreListedOldestFirst(t *testing.T) {
	eachStore(t, func(t *testing.T, api *client) {
		path, other := api.running(""), api.running("")
		if a := api.get(path + "/steps"); len(a.steps()) != 0 || a.next() != "" {
			t.Errorf("a flow without steps: %s", a.body)
		}
		var want []string
		for i := range 7 {
			runID := fmt.Sprintf("%c%d", 'z'-i, i)
			want = append(want, runID)
			api.observe(path, runID, "running").want(201)
			api.observe(other, runID, "running").want(201)
		}
		api.observe(path, want[0], "failed").want(200) // changed last, and still the oldest
		for _, limit := range []int{1, 3, 7, 500} {
			all := pages[step](api, path+"/steps", limit)
			var got []string
			for _, s := range all {
				got = append(got, s.RunID)
				if "/flows/"+s.FlowID != path {
					t.Errorf("a step of another flow: %+v", s)
				}
			}
			wantText(t, fmt.Sprintf("by %d", limit), fmt.Sprint(got), fmt.Sprint(want))
		}
		api.get(noFlow()+"/steps").problem(404, "not-found")
	})
}
