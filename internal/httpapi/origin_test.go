package httpapi_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"
)

// manager is what the contract's section 10 says of the manager that this service goes back to: each operation of its, and what
// the calls that carry it here do.
var manager = map[string]func(t *testing.T, api *client){
	"create_managed": func(t *testing.T, api *client) {
		path := api.created(`"owner_session_key":"agent:kate:1","state":{"n":1}`)
		api.get(path).has("/mode", `"managed"`, "/status", `"created"`, "/revision", "0", "/current_step", `"init"`, "/state", `{"n":1}`, "/wait", "null")
		wantText(t, "its trail, of the same commit", api.kinds(path), "created 0")
	},
	"create_mirrored": func(t *testing.T, api *client) {
		path := api.created(`"mode":"mirrored"`)
		api.get(path).has("/mode", `"mirrored"`, "/status", `"running"`, "/revision", "1")
		wantText(t, "its trail, of the same commit", api.kinds(path), "created 0, started 1")
	},
	"get": func(_ *testing.T, api *client) {
		path := api.running("")
		api.get(path).has("/status", `"running"`, "/revision", "1")
		api.get("/flows/"+uuid.NewString()).problem(404, "not-found")
	},
	"list_by_owner": func(t *testing.T, api *client) {
		owner := uuid.NewString()
		mine := api.created(`"owner_session_key":` + quoted(owner))
		api.created(`"owner_session_key":` + quoted(owner+"x"))
		wantText(t, "the list", listed(api.get("/flows?owner_session_key="+owner)), mine)
	},
	"list_by_status": func(t *testing.T, api *client) {
		owner := uuid.NewString()
		api.created(`"owner_session_key":` + quoted(owner))
		running := api.running(`"owner_session_key":` + quoted(owner))
		wantText(t, "the list", listed(api.get("/flows?status=running&owner_session_key="+owner)), running)
	},
	"start_running": func(_ *testing.T, api *client) {
		path := api.created("")
		api.post(path+"/start", "").want(200).has("/status", `"running"`, "/revision", "1")
		api.post(path+"/start", "").problem(409, "illegal-transition")
	},
	"set_waiting": func(_ *testing.T, api *client) {
		api.post(api.running("")+"/wait", manualWait).want(200).has("/status", `"waiting"`, "/wait/kind", `"manual"`, "/revision", "2")
	},
	"resume": func(_ *testing.T, api *client) {
		path := api.inStatus("waiting")
		api.post(path+"/resume", `{"state_patch":{"answer":42}}`).want(200).
			has("/status", `"running"`, "/wait", "null", "/state/answer", "42")
	},
	"finish": func(_ *testing.T, api *client) {
		path := api.running(`"state":{"a":1}`)
		api.post(path+"/finish", `{"final_state":{"done":true}}`).want(200).has("/status", `"finished"`, "/state", `{"a":1,"done":true}`)
		api.post(path+"/finish", "").problem(409, "already-terminal")
	},
	"fail": func(t *testing.T, api *client) {
		path := api.running("")
		api.post(path+"/fail", `{"reason":"no luck"}`).want(200).has("/status", `"failed"`)
		wantText(t, "its trail", api.kinds(path), "created 0, started 1, failed 2")
	},
	"request_cancel": func(t *testing.T, api *client) {
		path := api.running("")
		api.observe(path, "work", "running").want(201)
		api.post(path+"/request-cancel", "").want(200).has("/status", `"running"`, "/cancel_requested", "true", "/revision", "2")
		before := api.get(path).body
		wantText(t, "a repeat changes nothing", api.post(path+"/request-cancel", "").want(200).body, before)
		api.post(path+"/finish", "").problem(409, "cancel-pending")
		api.observe(path, "work", "succeeded").want(200)
		api.get(path).has("/status", `"cancelled"`)
	},
	"cancel": func(_ *testing.T, api *client) {
		path := api.inStatus("waiting")
		api.post(path+"/cancel", "").want(200).has("/status", `"cancelled"`, "/wait", "null")
		api.post(path+"/start", "").problem(409, "already-terminal")
	},
	"update_state": func(_ *testing.T, api *client) {
		path := api.running(`"state":{"a":1,"b":{"c":2}}`)
		api.post(path+"/state", `{"patch":{"b":{"d":3}},"current_step":"merge"}`).want(200).
			has("/state", `{"a":1,"b":{"d":3}}`, "/current_step", `"merge"`, "/revision", "2")
		api.post(path+"/state", `{"patch":[1]}`).want(200).has("/state", "[1]", "/current_step", `"merge"`, "/revision", "3")
	},
	"record_step_observation": func(t *testing.T, api *client) {
		path := api.running("")
		first := api.observe(path, "work", "running").want(201).step()
		if again := api.observe(path, "work", "succeeded").want(200).step(); again.ID != first.ID || again.Status != "succeeded" {
			t.Errorf("observed %+v and then %+v", first, again)
		}
		wantText(t, "its trail", api.kinds(path), "created 0, started 1, step_observed 1, step_observed 1")
	},
	"list_steps": func(_ *testing.T, api *client) {
		path := api.running("")
		api.observe(path, "one", "running").want(201)
		api.observe(path, "two", "pending").want(201)
		api.get(path+"/steps").want(200).has("/items/0/run_id", `"one"`, "/items/1/run_id", `"two"`, "/items/2", "")
	},
	"one retry on RevisionMismatch": func(_ *testing.T, api *client) {
		path := api.running("")
		api.post(path+"/state", `{"patch":{"a":1}}`).want(200)
		api.post(path+"/state", `{"patch":{"b":2}}`).want(200) // without If-Match never a conflict
		api.post(path+"/state", `{"patch":{"c":3}}`, `If-Match: "1"`).problem(409, "revision-conflict")
		api.get(path).has("/revision", "3", "/state", `{"a":1,"b":2}`)
	},
	"InvalidData": func(_ *testing.T, api *client) {
		api.refused(422, "invalid-value", http.MethodPost, "/flows", `{"controller_id":"c","goal":"","owner_session_key":"o"}`)
	},
	"WaitEngine::tick": func(_ *testing.T, api *client) {
		path := api.running("")
		api.post(path+"/wait", `{"wait":{"kind":"timer","after":"PT0S"}}`).want(200)
		a := api.get(path, "Prefer: wait=60", `If-None-Match: "2"`)
		a.want(200).has("/status", `"running"`, "/resumed_by/kind", `"timer"`)
	},
	"try_resume_external": func(_ *testing.T, api *client) {
		path, topic := api.running(""), uuid.NewString()
		api.post(path+"/wait", `{"wait":{"kind":"external_event","topic":`+quoted(topic)+`,"correlation_id":"order-7"}}`).want(200)
		api.post("/external-events", `{"topic":`+quoted(topic)+`,"correlation_id":"order-7","payload":{"paid":true}}`).want(200)
		api.get(path).has("/status", `"running"`, "/state/resume_event", `{"paid":true}`)
	},
}

// listed are the paths of the flows of a list.
func listed(a answer) string {
	a.t.Helper()
	var page struct{ Items []flow }
	a.want(200).decode(&page)
	var paths []string
	for _, f := range page.Items {
		paths = append(paths, "/flows/"+f.ID)
	}
	return strings.Join(paths, ", ")
}

// TestManager holds section 10. Its row on pruning is held by the tests of `server prune` and of the sweep.
func TestManager(t *testing.T) {
	eachStore(t, func(t *testing.T, api *client) {
		for operation, carried := range manager {
			t.Run(operation, func(t *testing.T) { carried(t, api.in(t)) })
		}
	})
}
