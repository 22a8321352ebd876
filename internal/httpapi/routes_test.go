package httpapi_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
)

var methods = []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"}

// TestMethodsThatARouteDoesNotTake asks every route of the contract, and those of the documents, with every method.
func TestMethodsThatARouteDoesNotTake(t *testing.T) {
	api := serveSQLite(t)
	doc, err := document()
	if err != nil {
		t.Fatal(err)
	}
	routes := map[string][]string{"/openapi.json": {"GET"}, "/openapi.yaml": {"GET"}, "/docs": {"GET"}, "/problems": {"GET"}, "/problems/internal": {"GET"}, "/": {"GET"}, "/dashboard/main.js": {"GET"}}
	for pattern, item := range doc.Paths.Map() {
		for method := range item.Operations() {
			routes[pattern] = append(routes[pattern], method)
		}
	}
	flow := api.created("")
	for pattern, takes := range routes {
		if slices.Contains(takes, "GET") {
			takes = append(takes, "HEAD")
		}
		path := strings.NewReplacer("/flows/{id}", flow, "{run_id}", "a%2Fb").Replace(pattern)
		for _, method := range methods {
			if slices.Contains(takes, method) {
				continue
			}
			a := api.do(method, path, "").want(http.StatusMethodNotAllowed)
			got := strings.Split(a.header.Get("Allow"), ", ")
			slices.Sort(got)
			slices.Sort(takes)
			if !slices.Equal(got, takes) {
				t.Errorf("%s %s: Allow %q, want %q", method, path, got, takes)
			}
			if method != "HEAD" {
				a.problem(405, "method-not-allowed")
			}
		}
	}
}

func TestRoutesThatDoNotExist(t *testing.T) {
	api := serveSQLite(t)
	flow := api.created("")
	for _, path := range []string{
		"/flow", "/flows/", "/Flows", "//flows", flow + "/", flow + "/finish/", flow + "/stop", flow + "/steps/", flow + "/steps/a/b",
		flow + "/../x", "/v1/flows", "/problems/unknown", "/problems/", "/favicon.ico", "/docs2", "/batch/", "/%66lows/x/y", "/external-events/", "/callbacks", "/callbacks/", "/callbacks/a/b", "/metrics", "/dashboard", "/dashboard/", "/dashboard/none.js",
	} {
		for _, method := range []string{"GET", "POST", "DELETE", "PATCH", "NONSENSE"} {
			if strings.HasPrefix(path, "/problems") && method != "GET" {
				continue
			}
			api.do(method, path, "").problem(404, "not-found")
		}
		api.do("HEAD", path, "").want(404)
	}
	api.post("/flows//start", "").problem(404, "not-found")
}

// TestHeadAnswersAsGetWithoutTheBody asks every route that is read.
func TestHeadAnswersAsGetWithoutTheBody(t *testing.T) {
	eachStore(t, func(t *testing.T, api *client) {
		flow := api.inStatus(draining)
		for _, path := range []string{
			"/flows", flow, flow + "/steps", flow + "/steps/active", flow + "/events", "/events", "/stats", "/livez", "/readyz",
			"/openapi.json", "/openapi.yaml", "/problems", "/problems/internal", noFlow(), "/flows?limit=0", flow + "/steps/none",
		} {
			get, head := api.get(path), api.do("HEAD", path, "")
			if head.status != get.status || head.body != "" {
				t.Errorf("HEAD %s: %d %q, GET %d", path, head.status, head.body, get.status)
			}
			for _, name := range []string{"ETag", "Content-Type", "Cache-Control", "Location"} {
				head.hasHeader(name, get.header.Get(name))
			}
			// A problem has the request's id in it, whose length is always the same.
			head.hasHeader("Content-Length", get.header.Get("Content-Length"))
		}
		api.do("HEAD", flow, "", `If-None-Match: `+api.get(flow).header.Get("ETag")).want(304)
	})
}

// TestChangesFromPagesOfOtherOriginsAreRefused sends what a browser sends for a page of another origin.
func TestChangesFromPagesOfOtherOriginsAreRefused(t *testing.T) {
	eachStore(t, func(t *testing.T, api *client) {
		flow := api.inStatus("finished")
		for _, headers := range [][]string{
			{"Origin: https://evil.example"}, {"Origin: null"}, {"Sec-Fetch-Site: cross-site"}, {"Sec-Fetch-Site: same-site"},
			{"Sec-Fetch-Site: cross-site", "Origin: https://evil.example"}, {"Origin: " + api.url + ".evil.example"},
		} {
			api.refused(403, "forbidden", "POST", "/flows", createBody(""), headers...)
			api.refused(403, "forbidden", "POST", "/flows", createBody(""), append(headers, "Content-Type: text/plain")...)
			api.refused(403, "forbidden", "DELETE", flow, "", headers...)
			api.refused(403, "forbidden", "PUT", flow+"/steps/r", `{"task":"t","status":"running"}`, headers...)
			api.get(flow, headers...).want(200).hasHeader("Access-Control-Allow-Origin", "")
		}
		for _, headers := range [][]string{
			{"Sec-Fetch-Site: same-origin", "Origin: " + api.url}, {"Sec-Fetch-Site: none"}, {"Origin: " + api.url}, {},
		} {
			api.post("/flows", createBody(""), headers...).want(201)
		}
	})
}

// TestConfiguredOriginsMayCall is what TASKFLOW_CORS_ORIGINS promises.
func TestConfiguredOriginsMayCall(t *testing.T) {
	const friend = "https://board.example"
	api := serveSQLite(t, func(s *setup) { s.options.CORSOrigins = []string{friend} })
	flow := api.created("")
	own := []string{"Origin: " + friend, "Sec-Fetch-Site: cross-site"}
	a := api.post(flow+"/start", "", own...).want(200).hasHeader("Access-Control-Allow-Origin", friend)
	exposed := strings.ToLower(a.header.Get("Access-Control-Expose-Headers"))
	for _, name := range []string{"etag", "location", "idempotent-replayed", "retry-after", "taskflow-stale-observation", "x-request-id"} {
		if !strings.Contains(exposed, name) {
			t.Errorf("%s is not exposed: %s", name, exposed)
		}
	}
	api.get(noFlow(), own...).problem(404, "not-found").hasHeader("Access-Control-Allow-Origin", friend)
	for _, method := range []string{"GET", "POST", "PUT", "DELETE"} {
		preflight := api.do("OPTIONS", flow, "", "Origin: "+friend, "Access-Control-Request-Method: "+method,
			"Access-Control-Request-Headers: content-type,idempotency-key,if-match")
		if preflight.status/100 != 2 {
			t.Errorf("preflight for %s: %d", method, preflight.status)
		}
		preflight.hasHeader("Access-Control-Allow-Origin", friend).hasHeader("Access-Control-Allow-Methods", method)
	}
	stranger := []string{"Origin: https://evil.example", "Sec-Fetch-Site: cross-site"}
	api.refused(403, "forbidden", "POST", flow+"/finish", "", stranger...).hasHeader("Access-Control-Allow-Origin", "")
	api.get(flow, stranger...).want(200).hasHeader("Access-Control-Allow-Origin", "")
	api.do("OPTIONS", flow, "", "Origin: https://evil.example", "Access-Control-Request-Method: POST").hasHeader("Access-Control-Allow-Origin", "")
}

// runIDs are run ids as they stand in a path, and what they mean.
var runIDs = map[string]string{
	"plain": "plain", "a%2Fb": "a/b", "%2F": "/", "%2Fa%2F%2Fb%2F": "/a//b/", "a%2fb%2Fc": "a/b/c", "100%25": "100%", "a%2520b": "a%20b",
	"a%252Fb": "a%2Fb", "%25": "%", "%2525": "%25", "a%20b": "a b", "a+b": "a+b", "a%2Bb": "a+b", "..": "..", "%2e%2E": "..", ".": ".",
	"%2E%2E%2F..": "../..", "a;b=c": "a;b=c", "a,b": "a,b", "a:b@c": "a:b@c", "a%3Fb%23c": "a?b#c", "%C3%BC%F0%9F%98%80": "ü😀", "ü": "ü",
	"~.-_!$&'()*": "~.-_!$&'()*", "%22%5C": `"\`, "%0A%09": "\n\t", "0": "0", "null": "null", "%20": " ", "steps": "steps", "%7Bid%7D": "{id}",
}

// TestRunIDsInPaths writes and reads steps under every way to write a run id.
func TestRunIDsInPaths(t *testing.T) {
	eachStore(t, func(t *testing.T, api *client) {
		flow := api.running("")
		distinct := map[string]bool{}
		for written, meant := range runIDs {
			status := http.StatusCreated
			if distinct[meant] {
				status = http.StatusOK
			}
			distinct[meant] = true
			path := flow + "/steps/" + written
			if s := api.put(path, `{"task":"t","status":"running"}`).want(status).step(); s.RunID != meant {
				t.Errorf("%s is recorded as %q, want %q", written, s.RunID, meant)
			}
			if s := api.get(path).want(200).step(); s.RunID != meant {
				t.Errorf("%s is read as %q, want %q", written, s.RunID, meant)
			}
			api.do("HEAD", path, "").want(200)
		}
		found := api.get(flow + "/steps?limit=500").steps()
		if len(found) != len(distinct) {
			t.Errorf("%d steps, want %d", len(found), len(distinct))
		}
		for _, s := range found {
			if !distinct[s.RunID] {
				t.Errorf("a step %q that nobody recorded", s.RunID)
			}
		}
	})
}

func TestLengthOfRunIDs(t *testing.T) {
	const body = `{"task":"t","status":"running"}`
	eachStore(t, func(t *testing.T, api *client) {
		steps := api.running("") + "/steps/"
		for _, unit := range []string{"x", "%2F", "%F0%9F%98%80"} {
			api.put(steps+strings.Repeat(unit, 256), body).want(201)
			api.get(steps + strings.Repeat(unit, 256)).want(200)
			api.refused(422, "invalid-value", "PUT", steps+strings.Repeat(unit, 257), body).pointers("/run_id")
			api.get(steps+strings.Repeat(unit, 257)).problem(404, "not-found")
		}
		for _, bad := range []string{"%00", "a%00b", "%FF", "%C3", "%ED%A0%80"} {
			api.refused(422, "invalid-value", "PUT", steps+bad, body).pointers("/run_id")
			api.get(steps+bad).problem(404, "not-found")
		}
	})
}
