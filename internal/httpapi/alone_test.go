package httpapi_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"
)

// TestTimesWithEscapes sends times as some encoders write them.
func TestTimesWithEscapes(t *testing.T) {
	eachStore(t, func(t *testing.T, api *client) {
		for _, at := range []string{`2099-04-23T15:00:00\u002B02:00`, `2099-04-23T15:00:00\u005a`, `2099-04-23T15:00\u003A00Z`} {
			path := api.running("")
			api.put(path+"/steps/r", `{"task":"t","status":"running","observed_at":"`+at+`"}`).want(http.StatusCreated)
			wait := `{"wait":{"kind":"timer","at":"` + at + `","timeout":{"at":"` + at + `","on_timeout":"fail"}}}`
			api.batch(command("POST", path+"/wait", `,"body":`+wait))[0].problem(http.StatusUnprocessableEntity, "invalid-value") // past the horizon
			api.refused(http.StatusUnprocessableEntity, "invalid-value", http.MethodPost, path+"/wait", wait)
			past := strings.ReplaceAll(wait, "2099", "2020")
			api.post(path+"/wait", past).want(http.StatusOK)
			api.batch(command("POST", path+"/wait", `,"body":`+past))[0].want(http.StatusOK)
		}
	})
}

// TestTimesOfOtherForms refuses what Go reads as a time, but RFC 3339 does not know.
func TestTimesOfOtherForms(t *testing.T) {
	t.Parallel()
	api := serveSQLite(t)
	path := api.running("")
	for _, at := range []string{"2026-04-23T3:04:05Z", "2026-04-23T03:04:05,5Z", "2026-04-23t03:04:05z", "2026-04-23T03:04Z", "2026-04-23T03:04:05+0200"} {
		api.refused(http.StatusUnprocessableEntity, "invalid-value", http.MethodPut, path+"/steps/r", `{"task":"t","status":"running","observed_at":"`+at+`"}`)
		api.refused(http.StatusUnprocessableEntity, "invalid-value", http.MethodPost, path+"/wait", `{"wait":{"kind":"timer","at":"`+at+`"}}`)
		api.refused(http.StatusBadRequest, "invalid-request", http.MethodGet, "/flows?created_after="+strings.ReplaceAll(at, "+", "%2B"), "")
	}
}

// TestEventsOfTheZeroFlow narrows by an id that stands for none elsewhere: any UUID may be a flow's.
func TestEventsOfTheZeroFlow(t *testing.T) {
	eachStore(t, func(t *testing.T, api *client) {
		api.running("")
		zero := uuid.Nil.String()
		if n := len(api.get("/events?flow_id=" + zero).events()); n != 0 {
			t.Errorf("%d events of a flow that is not there", n)
		}
		api.created(quoted("id") + ":" + quoted(zero))
		if list := api.get("/events?flow_id=" + zero).events(); len(list) != 1 || list[0].FlowID != zero {
			t.Errorf("its events are %+v", list)
		}
	})
}

// TestEventOfAnEarlierLife explains that an event was for a flow that had the id before.
func TestEventOfAnEarlierLife(t *testing.T) {
	t.Parallel()
	api := serveSQLite(t)
	path := api.running("")
	id := strings.TrimPrefix(path, "/flows/")
	api.post("/external-events", `{"topic":"t","correlation_id":"c","flow_id":`+quoted(id)+`}`).want(http.StatusOK)
	api.post(path+"/cancel", "").want(http.StatusOK)
	api.erase(path).want(http.StatusNoContent)
	api.running(quoted("id") + ":" + quoted(id))
	api.post(path+"/wait", `{"wait":{"kind":"external_event","topic":"t","correlation_id":"c"}}`).want(http.StatusOK).has("/status", `"waiting"`)
	api.get(path+"/wait").want(http.StatusOK).has("/near_events/0/differs", `"It was for another flow."`)
}

// TestIfMatchOfNoFlow refuses the header where there is no one flow that it could be about.
func TestIfMatchOfNoFlow(t *testing.T) {
	t.Parallel()
	api := serveSQLite(t)
	for _, tag := range []string{`"3"`, "*", "garbage"} {
		api.refused(http.StatusBadRequest, "invalid-request", http.MethodPost, "/batch", batchOf(command("POST", api.running("")+"/finish", "")), "If-Match: "+tag)
		api.refused(http.StatusBadRequest, "invalid-request", http.MethodPost, "/external-events", `{"topic":"t","correlation_id":"c"}`, "If-Match: "+tag)
	}
}

// TestKeyOfACommandInABatch repeats calls with their keys, alone and in batches: the bytes that were sent are what counts.
func TestKeyOfACommandInABatch(t *testing.T) {
	eachStore(t, func(t *testing.T, api *client) {
		path := api.running("") + "/state"
		const spaced, other = `{"patch": {"a": 1}}`, `{"patch":{"a":1}}`
		in := func(body, key string) answer {
			return api.batch(command("POST", path, `,"idempotency_key":`+quoted(key)+`,"body": `+body+` `))[0]
		}
		first := api.post(path, spaced, "Idempotency-Key: k1").want(http.StatusOK)
		if again := in(spaced, "k1").want(http.StatusOK); again.body != first.body {
			t.Errorf("the repeat in a batch got %s, the first %s", again.body, first.body)
		}
		in(other, "k1").problem(http.StatusUnprocessableEntity, "idempotency-key-reused")
		first = in(spaced, "k2").want(http.StatusOK)
		if again := api.post(path, spaced, "Idempotency-Key: k2").want(http.StatusOK); again.body != first.body {
			t.Errorf("the repeat alone got %s, the first %s", again.body, first.body)
		}
		api.post(path, other, "Idempotency-Key: k2").problem(http.StatusUnprocessableEntity, "idempotency-key-reused")
		if state := api.get(strings.TrimSuffix(path, "/state")).flow().State; string(state) != `{"a":1}` {
			t.Errorf("the state is %s", state)
		}
	})
}

// TestKeyOfABatchThatMadeNothing keeps no answer that says that it was not the time: the repeat is made. Where something was
// made, the repeat makes it no second time.
func TestKeyOfABatchThatMadeNothing(t *testing.T) {
	eachStore(t, func(t *testing.T, all *client) {
		kate := all.as("kate")
		first := kate.created("")
		one := batchOf(command("POST", "/flows", `,"body":`+createBody("")))
		two := batchOf(command("POST", "/flows", `,"body":`+createBody("")), command("POST", "/flows", `,"body":`+createBody("")))
		send := func(key, body string, statuses ...string) answer {
			a := kate.post("/batch", body, "Idempotency-Key: "+key).want(http.StatusOK)
			for i, status := range statuses {
				a.has(fmt.Sprintf("/results/%d/status", i), status)
			}
			return a
		}
		made := send("partly", two, "201", "429")
		send("nothing", one, "429")
		kate.post(first+"/cancel", "").want(http.StatusOK)
		send("nothing", one, "201")
		if again := send("partly", two, "201", "429"); again.body != made.body {
			t.Errorf("repeated: %s, want %s", again.body, made.body)
		}
	}, twoTenants, func(s *setup) { s.options.MaxOpenFlows = 2 })
}

// TestEscapedPathInABatch finds a flow by a path that is sent with escapes, as alone.
func TestEscapedPathInABatch(t *testing.T) {
	t.Parallel()
	api := serveSQLite(t)
	path := strings.ReplaceAll(api.running(""), "-", "%2D")
	api.post(path+"/state", `{"patch":{}}`).want(http.StatusOK)
	api.batch(command("POST", path+"/state", `,"body":{"patch":{}}`))[0].want(http.StatusOK)
	api.batch(command("POST", "/flows/%zz/state", `,"body":{"patch":{}}`))[0].problem(http.StatusNotFound, "not-found")
}
