package httpapi_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"taskflow/internal/auth"
)

// watcher is an observer that passes on what it is told of streams and of the trail's requests.
type watcher struct{ told chan string }

func (w watcher) Request(route, method string, status int, _ time.Duration, lasting bool) {
	if route == "/events" {
		w.told <- fmt.Sprintf("%s %s %d lasting %t", method, route, status, lasting)
	}
}
func (w watcher) Change(string, string) {}
func (w watcher) Problem(string)        {}
func (w watcher) StreamCutOff()         { w.told <- "a stream cut off" }
func (w watcher) Streams(opened int)    { w.told <- fmt.Sprintf("streams %+d", opened) }

// TestObserver_StreamsAndWaits holds that streams and requests that wait are counted while they are open, and told from
// requests whose time says how quick the server is; a stream that is refused, and a wait for what is there, are such.
func TestObserver_StreamsAndWaits(t *testing.T) {
	seen := watcher{make(chan string, 100)}
	api := serveSQLite(t, func(s *setup) { s.options.Observer, s.options.MaxStreams = seen, 1 })
	expect := func(what string, want ...string) {
		t.Helper()
		for _, line := range want {
			select {
			case got := <-seen.told:
				if got != line {
					t.Errorf("%s: %s, want %s", what, got, line)
				}
			case <-time.After(10 * time.Second):
				t.Fatalf("%s: nothing was told, want %s", what, line)
			}
		}
	}
	api.created("")
	s := api.stream("/events")
	expect("a stream", "streams +1")
	api.noStream(503, "overloaded", "/events")
	expect("one too many", "GET /events 503 lasting false")
	s.Close()
	expect("its end", "streams -1", "GET /events 200 lasting true")
	api.get("/events?after=1", "Prefer: wait=1").want(200)
	expect("a wait", "streams +1", "streams -1", "GET /events 200 lasting true")
	api.get("/events?after=0", "Prefer: wait=1").want(200)
	expect("a wait for what is there", "GET /events 200 lasting false")
}

// TestTrace_NamesTheFlow holds that the span of a request about one flow names it, and that nothing else a client wrote
// gets there.
func TestTrace_NamesTheFlow(t *testing.T) {
	ended := make(chan string, 1)
	api := serveSQLite(t, func(s *setup) {
		s.options.Trace = func(r *http.Request) (context.Context, string, func(route, flow string, status int)) {
			return r.Context(), traced(1), func(route, flow string, _ int) { ended <- route + " " + flow }
		}
	})
	expect := func(a answer, route, flow string) {
		t.Helper()
		if got := <-ended; got != route+" "+flow {
			t.Errorf("%s %s: the span has %q, want the route %s and the flow %q", a.request.Method, a.request.URL.Path, got, route, flow)
		}
	}
	made := api.post("/flows", createBody(""), "Idempotency-Key: k").want(201)
	id := made.flow().ID
	expect(made, "/flows", id)
	expect(api.post("/flows", createBody(""), "Idempotency-Key: k").hasHeader("Idempotent-Replayed", "true"), "/flows", id)
	expect(api.post("/flows", `{}`), "/flows", "")
	expect(api.get("/flows"), "/flows", "")
	expect(api.post("/flows/"+id+"/start", "").want(200), "/flows/{id}/start", id)
	expect(api.post("/flows/"+id+"/start", "").want(409), "/flows/{id}/start", id)
	expect(api.get("/flows/"+id+"/steps/a").want(404), "/flows/{id}/steps/{run_id}", id)
	expect(api.get("/flows/not-an-id").want(404), "/flows/{id}", "")
	expect(api.get("/events?flow_id="+id).want(200), "/events", "")
	expect(api.get("/external-events/"+id).want(404), "/external-events/{id}", "")
	expect(api.post("/batch", `{"commands": [{"method": "POST", "path": "/flows/`+id+`/state", "body": {"patch": 1}}]}`).want(200), "/batch", "")
	waiting := api.post("/flows/"+id+"/wait", `{"wait": {"kind": "callback"}}`).want(200)
	expect(waiting, "/flows/{id}/wait", id)
	expect(api.post(strings.Trim(waiting.at("/wait/url"), `"`), `{}`).want(200), "/callbacks/{token}", id)
	expect(api.post("/callbacks/"+id, `{}`).want(404), "/callbacks/{token}", "")
	expect(api.get("/there/is/no/"+id).want(404), "none", "")
}

// TestMetrics_NeedAdmin holds that the metrics of a server with callers are for those with scope admin.
func TestMetrics_NeedAdmin(t *testing.T) {
	metrics := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "taskflow_streams 0\n") })
	withMetrics := func(s *setup) { s.options.Metrics = metrics }
	api := serveSQLite(t, withScopes, withMetrics)
	api.get("/metrics").problem(401, "unauthenticated")
	for _, scope := range auth.Scopes() {
		a := api.as(string(scope)).get("/metrics")
		if scope == auth.Admin {
			a.want(200)
			continue
		}
		a.problem(403, "forbidden")
		a.hasHeader("WWW-Authenticate", `Bearer realm="taskflow", error="insufficient_scope", scope="admin"`)
	}
	if a := serveSQLite(t, withMetrics).get("/metrics").want(200); !strings.Contains(a.body, "taskflow_streams") {
		t.Errorf("without callers: %s", a.body)
	}
	serveSQLite(t).get("/metrics").problem(404, "not-found")
}
