package httpapi_test

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"testing/iotest"
)

// TestLengths sends each text field at its limit, one over it and empty. Characters count, not bytes.
func TestLengths(t *testing.T) {
	create := func(field string) string { return createBody(quoted(field) + `:%s`) }
	fields := []struct {
		method, path, body, pointer string
		least, most                 int
	}{
		{"POST", "/flows", create("controller_id"), "/controller_id", 1, 256},
		{"POST", "/flows", create("goal"), "/goal", 1, 4096},
		{"POST", "/flows", create("owner_session_key"), "/owner_session_key", 1, 256},
		{"POST", "/flows", create("requester_origin"), "/requester_origin", 0, 256},
		{"POST", "/flows", create("current_step"), "/current_step", 1, 256},
		{"POST", "/flows", createBody(`"labels":{%s:"v"}`), "/labels/*", 1, 63},
		{"POST", "/flows", createBody(`"labels":{"k":%s}`), "/labels/k", 0, 255},
		{"POST", "fail", `{"reason":%s}`, "/reason", 1, 4096},
		{"POST", "cancel", `{"reason":%s}`, "/reason", 0, 4096},
		{"POST", "request-cancel", `{"reason":%s}`, "/reason", 0, 4096},
		{"POST", "state", `{"current_step":%s}`, "/current_step", 1, 256},
		{"POST", "state", `{"goal":%s}`, "/goal", 1, 4096},
		{"POST", "state", `{"labels":{%s:"v"}}`, "/labels/*", 1, 63},
		{"POST", "state", `{"labels":{%s:null}}`, "/labels/*", 1, 63},
		{"POST", "state", `{"labels":{"k":%s}}`, "/labels/k", 0, 255},
		{"PUT", "steps/r", `{"task":%s,"status":"running"}`, "/task", 1, 4096},
		{"PUT", "steps/r", `{"task":"t","status":"running","child_session_key":%s}`, "/child_session_key", 1, 256},
	}
	eachStore(t, func(t *testing.T, api *client) {
		for _, f := range fields {
			t.Run(f.method+" "+f.path+f.pointer, func(t *testing.T) {
				api := api.in(t)
				target := func() string {
					if f.path == "/flows" {
						return f.path
					}
					return api.running("") + "/" + f.path
				}
				for _, n := range []int{f.least, f.most} {
					text := repeated(n)
					a := api.do(f.method, target(), fmt.Sprintf(f.body, quoted(text)))
					if a.status/100 != 2 {
						t.Errorf("%d characters: %d %s", n, a.status, shorten(a.body))
					}
				}
				refuse := func(text string) {
					path, before := target(), api.lastSeq()
					api.do(f.method, path, fmt.Sprintf(f.body, quoted(text))).problem(422, "invalid-value").
						pointers(strings.Replace(f.pointer, "*", text, 1))
					if after := api.lastSeq(); after != before {
						t.Errorf("a refusal took the trail from %d to %d", before, after)
					}
				}
				refuse(repeated(f.most + 1))
				if f.least > 0 {
					refuse("")
				}
			})
		}
	})
}

func labels(n int) string {
	var out []string
	for i := range n {
		out = append(out, fmt.Sprintf(`"k%d":"v"`, i))
	}
	return `"labels":{` + strings.Join(out, ",") + `}`
}

func TestNumberOfLabels(t *testing.T) {
	eachStore(t, func(t *testing.T, api *client) {
		full := api.created(labels(32))
		api.refused(422, "invalid-value", "POST", "/flows", createBody(labels(33))).pointers("/labels")
		api.refused(422, "invalid-value", "POST", full+"/state", `{"labels":{"one-more":"v"}}`).pointers("/labels")
		api.post(full+"/state", `{"labels":{"k0":"w"}}`).want(200)                 // overwrites
		api.post(full+"/state", `{"labels":{"k1":null,"one-more":"v"}}`).want(200) // makes room
		if f := api.read(full); len(f.Labels) != 32 || f.Labels["k0"] != "w" || f.Labels["one-more"] != "v" {
			t.Errorf("labels %v", f.Labels)
		}
		api.refused(422, "invalid-value", "POST", full+"/state", `{"labels":{"~/":"`+repeated(256)+`"}}`).pointers("/labels/~0~1")
	})
}

// TestValuesThatAreNotAllowed sends well-formed bodies with values out of range.
func TestValuesThatAreNotAllowed(t *testing.T) {
	cases := []struct{ path, body, pointer string }{
		{"", createBody(`"mode":"remote"`), "/mode"}, {"", createBody(`"mode":"MANAGED"`), "/mode"}, {"", createBody(`"mode":""`), "/mode"},
		{"", createBody(`"id":"x"`), "/id"}, {"", createBody(`"id":""`), "/id"},
		{"", createBody(`"id":"{0197b3a0-5c1e-7d3a-9c55-3f2e8a1b7c4d}"`), "/id"},
		{"", createBody(`"id":"urn:uuid:0197b3a0-5c1e-7d3a-9c55-3f2e8a1b7c4d"`), "/id"},
		{"", createBody(`"id":"0197b3a05c1e7d3a9c553f2e8a1b7c4d"`), "/id"},
		{"/wait", `{"wait":{"kind":"never"}}`, "/wait/kind"},
	}
	steps := []struct{ body, pointer string }{
		{`{"task":"t","status":"waiting"}`, "/status"}, {`{"task":"t","status":""}`, "/status"},
		{`{"task":"t","status":"running","runtime":"other"}`, "/runtime"},
		{`{"task":"t","status":"running","observed_at":"yesterday"}`, "/observed_at"},
		{`{"task":"t","status":"running","observed_at":"2026-04-23"}`, "/observed_at"},
		{`{"task":"t","status":"running","observed_at":"2026-04-23T15:00:00"}`, "/observed_at"},
		{`{"task":"t","status":"running","observed_at":"2026-02-30T15:00:00Z"}`, "/observed_at"},
		{`{"task":"t","status":"running","observed_at":"9999-12-31T23:59:59-01:00"}`, "/observed_at"},
		{`{"task":"t","status":"running","observed_at":"0001-01-01T00:00:00+01:00"}`, "/observed_at"},
	}
	eachStore(t, func(t *testing.T, api *client) {
		flow := api.running("")
		for _, c := range cases {
			path := "/flows"
			if c.path != "" {
				path = flow + c.path
			}
			api.refused(422, "invalid-value", "POST", path, c.body).pointers(c.pointer)
		}
		for _, s := range steps {
			api.refused(422, "invalid-value", "PUT", flow+"/steps/r", s.body).pointers(s.pointer)
		}
	})
}

// padded is a JSON string of this many bytes, its quotes among them.
func padded(bytes int) string { return quoted(strings.Repeat("x", bytes-2)) }

// TestPatchesAndStatesAtTheLimit sends JSON of exactly the limit, and of one byte more, by every call.
func TestPatchesAndStatesAtTheLimit(t *testing.T) {
	const limit = 1000
	calls := []struct{ method, status, path, body, pointer string }{
		{"POST", "", "/flows", createBody(`"state":%s`), "/state"},
		{"POST", "running", "/state", `{"patch":%s}`, "/patch"},
		{"POST", "waiting", "/resume", `{"state_patch":%s}`, "/state_patch"},
		{"POST", "running", "/finish", `{"final_state":%s}`, "/final_state"},
		{"PUT", "running", "/steps/r", `{"task":"t","status":"running","result":%s}`, "/result"},
		{"POST", "running", "/wait", `{"wait":{"kind":"manual","details":%s}}`, "/wait/details"},
	}
	eachStore(t, func(t *testing.T, api *client) {
		for _, c := range calls {
			t.Run(c.path, func(t *testing.T) {
				api := api.in(t)
				path := c.path
				if c.status != "" {
					path = api.inStatus(c.status) + path
				}
				value := func(bytes int) string {
					if c.path == "/wait" {
						return `{"a":` + padded(bytes-len(`{"a":}`)) + `}`
					}
					return padded(bytes)
				}
				api.refused(413, "payload-too-large", c.method, path, fmt.Sprintf(c.body, value(limit+1))).pointers(c.pointer)
				if a := api.do(c.method, path, fmt.Sprintf(c.body, value(limit))); a.status/100 != 2 {
					t.Errorf("at the limit: %d %s", a.status, a.body)
				}
			})
		}
		// White space between values is not kept, and does not count.
		api.post("/flows", createBody(`"state": [ `+padded(limit-2)+` ]`)).want(201)
	}, func(s *setup) { s.options.MaxState = limit })
}

func TestStateAfterTheMergeAtTheLimit(t *testing.T) {
	const limit = 1000
	eachStore(t, func(t *testing.T, api *client) {
		state := `"state":{"a":` + padded(500) + `}`
		fits, over := fmt.Sprintf(`{"b":%s}`, padded(limit-500-len(`{"a":,"b":}`))), fmt.Sprintf(`{"b":%s}`, padded(limit-500-len(`{"a":,"b":}`)+1))
		for _, c := range []struct{ status, call, member string }{
			{"running", "/state", "patch"}, {"waiting", "/resume", "state_patch"}, {"running", "/finish", "final_state"},
		} {
			path := api.running(state)
			if c.status == "waiting" {
				api.post(path+"/wait", manualWait).want(200)
			}
			api.refused(413, "payload-too-large", "POST", path+c.call, `{"`+c.member+`":`+over+`}`)
			if f := api.post(path+c.call, `{"`+c.member+`":`+fits+`}`).want(200).flow(); len(f.State) != limit {
				t.Errorf("the state has %d bytes, want %d", len(f.State), limit)
			}
		}
		// What the service adds itself never fails for size.
		full := api.running(`"state":` + padded(limit))
		api.post(full+"/state", `{"current_step":"next"}`).want(200)
		if f := api.post(full+"/fail", `{"reason":"`+repeated(4096)+`"}`).want(200).flow(); len(f.State) < limit+4096 {
			t.Errorf("the state has %d bytes", len(f.State))
		}
	}, func(s *setup) { s.options.MaxState = limit })
}

// TestBodyAtTheLimit sends bodies of exactly the limit and more, also far more than a connection buffers.
func TestBodyAtTheLimit(t *testing.T) {
	api := serveSQLite(t)
	body := createBody("")
	api.post("/flows", body+strings.Repeat(" ", maxBody-len(body))).want(http.StatusCreated)
	for _, size := range []int{maxBody + 1, maxBody + 8<<20} {
		api.refused(413, "payload-too-large", "POST", "/flows", body+strings.Repeat(" ", size-len(body)))
		api.refused(413, "payload-too-large", "POST", "/batch", strings.Repeat(" ", size))
		api.refused(413, "payload-too-large", "PUT", noFlow()+"/steps/r", strings.Repeat("x", size))
	}
	// The default limits leave room for a state of 256 KiB.
	f := api.create(`"state":` + padded(maxState))
	if len(f.State) != maxState {
		t.Errorf("the state has %d bytes", len(f.State))
	}
	api.refused(413, "payload-too-large", "POST", "/flows", createBody(`"state":`+padded(maxState+1)))
}

// TestBodiesOfManyValues sends small bodies that would be large once decoded, and some that only look so.
func TestBodiesOfManyValues(t *testing.T) {
	eachStore(t, func(t *testing.T, api *client) {
		flow := api.running("")
		fill := func(one string, bytes int) string {
			return "[" + strings.Repeat(one+",", bytes/(len(one)+1)-1) + one + "]"
		}
		for _, one := range []string{"[]", `{"":0}`, "0"} {
			body := fill(one, maxBody-200)
			api.post(flow+"/state", `{"patch":`+body+`}`).problem(413, "payload-too-large")
			for path, body := range map[string]string{
				"/flows": createBody(`"labels":` + body), "/batch": `{"commands":[{"method":"POST","path":"` + flow + `/state","body":{"patch":` + body + `}}]}`,
			} {
				if p := api.post(path, body).problem(413, "payload-too-large"); !strings.Contains(p.Detail, "values") {
					t.Errorf("%s of %s: %s", path, one, p.Detail)
				}
			}
		}
		if f := api.read(flow); f.Revision != 1 {
			t.Errorf("a refusal has changed the flow: %+v", f)
		}
		waiting, url := api.callback(callbackWait)
		api.post(url, fill("[]", maxBody)).want(200) // kept as it came: nothing of it is decoded
		api.get(waiting).has("/state/resume_event/0", "[]")
		for _, one := range []string{"0", "{}"} { // nor of what may be any JSON
			api.post(flow+"/state", `{"patch":`+fill(one, maxState-2)+`}`).want(200)
		}
	})
}

// TestBodyThatIsLate has the connection's deadline end a body: that is no fault of the request, which is told to come again.
func TestBodyThatIsLate(t *testing.T) {
	api := serveSQLite(t)
	r := httptest.NewRequest(http.MethodPost, "/flows", iotest.ErrReader(&net.OpError{Op: "read", Err: os.ErrDeadlineExceeded}))
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	api.api.ServeHTTP(w, r)
	if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" || strings.Contains(w.Body.String(), "outcome_unknown") {
		t.Errorf("answered with %d: %s", w.Code, w.Body)
	}
}
