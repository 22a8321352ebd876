package httpapi_test

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"taskflow/internal/auth"
	"taskflow/internal/auth/authtest"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/google/uuid"
)

// scopeOf is what the contract's section 7 asks for, said again without the server's table.
func scopeOf(method, path string) auth.Scope {
	switch {
	case strings.HasPrefix(path, "/callbacks/") || path == "/livez" || path == "/readyz":
		return ""
	case method == http.MethodGet:
		return auth.ReadFlows
	case path == "/external-events":
		return auth.WriteEvents
	}
	return auth.WriteFlows
}

// sample is a request for an operation: its path for a flow or an event of this id, and the contract's own example of a
// body.
func sample(t *testing.T, path, id string, o *openapi3.Operation) (target, body string) {
	t.Helper()
	target = strings.NewReplacer("{id}", id, "{run_id}", "draft-1", "{token}", "forged").Replace(path)
	if o.RequestBody == nil {
		return target, ""
	}
	for _, example := range o.RequestBody.Value.Content["application/json"].Examples {
		text, err := jsonOf(example.Value.Value)
		if err != nil {
			t.Fatal(err)
		}
		return target, text
	}
	t.Fatalf("%s has no example", o.OperationID)
	return "", ""
}

// withScopes are callers named by the one scope each has, and one without any that matters.
func withScopes(s *setup) {
	s.callers = map[string]caller{}
	for _, scope := range auth.Scopes() {
		s.callers[string(scope)] = caller{"*", []auth.Scope{scope}}
	}
}

// TestScopes_OfEveryOperation sends every operation of the contract with every scope alone.
func TestScopes_OfEveryOperation(t *testing.T) {
	api := serveSQLite(t, withScopes)
	operations(t, func(t *testing.T, method, path string, _ *openapi3.PathItem, o *openapi3.Operation) {
		api := api.in(t)
		target, body := sample(t, path, uuid.NewString(), o)
		need := scopeOf(method, path)
		if need == "" {
			if a := api.do(method, target, body); a.status == 401 || a.status == 403 {
				t.Errorf("without credentials: %d", a.status)
			}
			return
		}
		for what, credentials := range map[string]string{"": "", "a bad key": "Bearer tfk_abcdefghijkl_x", "no bearer": "Basic a3k6"} {
			a := api.with(credentials).do(method, target, body)
			a.problem(401, "unauthenticated")
			if challenge := a.header.Get("WWW-Authenticate"); !strings.HasPrefix(challenge, `Bearer realm="taskflow"`) || strings.Contains(challenge, "invalid_token") != (what != "") {
				t.Errorf("with %q: challenge %q", what, challenge)
			}
		}
		for _, scope := range auth.Scopes() {
			a := api.as(string(scope)).do(method, target, body)
			switch {
			case o.OperationID == "runBatch":
				a.want(200)
				if refused := strings.Contains(a.body, `"status":403`); refused == (scope == need) {
					t.Errorf("with %s: %s", scope, a.body)
				}
			case scope == need && (a.status == 401 || a.status == 403):
				t.Errorf("with %s: %d %s", scope, a.status, a.body)
			case scope != need:
				a.problem(403, "forbidden")
				a.hasHeader("WWW-Authenticate", fmt.Sprintf(`Bearer realm="taskflow", error="insufficient_scope", scope="%s"`, need))
			}
		}
	})
}

// TestAuthentication_LeavesOthersAsTheyAre holds that what needs no credentials needs none, and that routes which do not
// exist are told apart from those one may not use.
func TestAuthentication_LeavesOthersAsTheyAre(t *testing.T) {
	api := serveSQLite(t, withScopes)
	for _, path := range []string{"/livez", "/readyz", "/openapi.json", "/openapi.yaml", "/docs", "/problems", "/problems/forbidden", "/"} {
		api.get(path).want(200)
		api.with("Bearer nonsense").get(path).want(200)
	}
	api.get("/nowhere").problem(404, "not-found")
	api.do("PATCH", "/flows", "").problem(405, "method-not-allowed")
	api.get("/callbacks/forged").problem(404, "not-found")
}

// TestAuthentication_ComesBeforeTheBody sends a head and no body: the answer comes all the same.
func TestAuthentication_ComesBeforeTheBody(t *testing.T) {
	api := serveSQLite(t, withScopes)
	for _, credentials := range []string{"", "Authorization: Bearer tfk_abcdefghijkl_x\r\n"} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(api.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "POST /flows HTTP/1.1\r\nHost: x\r\n%sContent-Type: application/json\r\nContent-Length: 100\r\n\r\n", credentials)
		line, err := bufio.NewReader(conn).ReadString('\n')
		if err != nil || !strings.HasPrefix(line, "HTTP/1.1 401") {
			t.Errorf("%q: %q, %v; want 401", credentials, line, err)
		}
		_ = conn.Close()
	}
}

// TestHosts_OthersAreRefused sends every operation of the contract for a host that is not the server's: what needs no
// credentials is answered, and nothing else. A callback's URL is all that its holder needs.
func TestHosts_OthersAreRefused(t *testing.T) {
	api := serveSQLite(t, func(s *setup) { s.options.OnlyHosts = []string{"flows.example:8443"} })
	send := func(t *testing.T, host, method, path, body string) answer {
		t.Helper()
		return api.in(t).do(method, path, body, "Host: "+host)
	}
	flow, url := api.callback(callbackWait)
	operations(t, func(t *testing.T, method, path string, _ *openapi3.PathItem, o *openapi3.Operation) {
		target, body := sample(t, path, uuid.NewString(), o)
		if scopeOf(method, path) == "" {
			if a := send(t, "evil.example", method, target, body); a.status == 403 {
				t.Errorf("without a need for credentials: %d", a.status)
			}
			return
		}
		send(t, "evil.example", method, target, body).problem(403, "forbidden")
		for _, own := range []string{"flows.example", "localhost:1", "127.1.2.3", "[::1]:80"} {
			if a := send(t, own, method, target, body); a.status == 403 {
				t.Errorf("for %s: 403", own)
			}
		}
	})
	send(t, "evil.example", "GET", "/events", "").problem(403, "forbidden")
	send(t, "evil.example", "POST", url, "{}").want(200)
	api.get(flow).has("/status", `"running"`)
}

// TestCallbackURLs_AreForThoseWhoMayWrite looks for them wherever a flow is shown.
func TestCallbackURLs_AreForThoseWhoMayWrite(t *testing.T) {
	eachStore(t, func(t *testing.T, all *client) {
		reader := all.as("flows:read")
		writer := all.as("both")
		path := writer.running("")
		waiting := writer.post(path+"/wait", `{"wait":{"kind":"callback"}}`).want(200)
		url := strings.Trim(waiting.at("/wait/url"), `"`)
		if !strings.Contains(url, "/callbacks/") {
			t.Fatalf("the writer sees %s", waiting.body)
		}
		for _, view := range []string{path, path + "/wait", "/flows", "/flows?view=summary", path + "/events", "/events"} {
			shown := strings.Contains(writer.get(view).want(200).body, url)
			if trail := strings.HasSuffix(view, "/events"); shown == trail {
				t.Errorf("%s shows the writer the URL: %t", view, shown)
			}
			if body := reader.get(view).want(200).body; strings.Contains(body, "/callbacks/") {
				t.Errorf("%s shows a reader the URL: %s", view, body)
			}
		}
		a := writer.post(path+"/state", `{"goal":"g"}`, `If-Match: "7"`)
		a.problem(409, "revision-conflict")
		wantText(t, "the conflict's URL", a.at("/flow/wait/url"), quoted(url))
	}, withScopes, func(s *setup) { s.callers["both"] = caller{"*", []auth.Scope{auth.ReadFlows, auth.WriteFlows}} })
}

// TestActor_IsTheCaller looks into the trail.
func TestActor_IsTheCaller(t *testing.T) {
	eachStore(t, func(t *testing.T, all *client) {
		kate := all.as("kate")
		path := kate.running("")
		for _, e := range kate.trail(path) {
			if e.Actor != "kate" {
				t.Errorf("%s by %q", e.Kind, e.Actor)
			}
		}
	}, twoTenants)
}

// TestRepeats_AreForThoseWhoMaySeeTheAnswer repeats a request under one key by one caller, whose token says less by then.
func TestRepeats_AreForThoseWhoMaySeeTheAnswer(t *testing.T) {
	issuer := authtest.Start(t)
	eachStore(t, func(t *testing.T, all *client) {
		as := func(owner, scope string) *client {
			return all.with("Bearer " + issuer.Token(map[string]any{"taskflow_owner": owner, "scope": scope}))
		}
		const key = "Idempotency-Key: k"
		body := createBody("")
		full := as("agent:kate:*", "flows:read flows:write")
		first := full.post("/flows", body, key).want(201)
		as("agent:*", "flows:write").post("/flows", body, key).same(first)
		as("agent:kate:*", "flows:read").post("/flows", body, key).problem(403, "forbidden")
		as("agent:bob:*", "flows:read flows:write").post("/flows", body, key).problem(404, "not-found")
		as("agent:kate:other", "flows:read flows:write").post("/flows", body, key).problem(404, "not-found")

		batch := `{"commands":[{"method":"POST","path":"/flows","body":` + body + `}]}`
		first = full.post("/batch", batch, "Idempotency-Key: b").want(200)
		full.post("/batch", batch, "Idempotency-Key: b").same(first)
		a := as("agent:kate:*", "flows:read").post("/batch", batch, "Idempotency-Key: b").want(200)
		if id := strings.Trim(first.at("/results/0/body/id"), `"`); strings.Contains(a.body, id) || a.at("/results/0/status") != "403" {
			t.Errorf("a batch repeated without flows:write: %s", a.body)
		}
		as("agent:bob:*", "flows:write").post("/batch", batch, "Idempotency-Key: b").problem(404, "not-found")

		event := `{"topic":"t","correlation_id":"c"}`
		first = as("agent:kate:*", "events:write").post("/external-events", event, "Idempotency-Key: e").want(200)
		as("agent:kate:*", "events:write").post("/external-events", event, "Idempotency-Key: e").same(first)
		as("agent:bob:*", "events:write").post("/external-events", event, "Idempotency-Key: e").problem(404, "not-found")
		as("agent:kate:*", "flows:write").post("/external-events", event, "Idempotency-Key: e").problem(403, "forbidden")
	}, func(s *setup) { s.issuer = issuer })
}

// TestTokenWithoutOwner is told what it lacks.
func TestTokenWithoutOwner(t *testing.T) {
	issuer := authtest.Start(t)
	api := serveSQLite(t, func(s *setup) { s.issuer = issuer })
	p := api.with("Bearer "+issuer.Token(map[string]any{"taskflow_owner": nil})).get("/flows").problem(403, "forbidden")
	if !strings.Contains(p.Detail, "taskflow_owner") {
		t.Errorf("detail %q", p.Detail)
	}
}

// TestRateLimit_IsForEachCaller sends more than one caller may.
func TestRateLimit_IsForEachCaller(t *testing.T) {
	api := serveSQLite(t, twoTenants, func(s *setup) { s.options.Rate = auth.NewRate(0.01, 3) })
	kate, bob := api.as("kate"), api.as("bob")
	for range 3 {
		kate.get("/flows").want(200)
	}
	a := kate.get("/flows")
	a.problem(429, "too-many-requests")
	if wait := a.header.Get("Retry-After"); wait == "" || wait == "0" {
		t.Errorf("Retry-After %q", wait)
	}
	bob.get("/flows").want(200)
	for range 10 {
		api.get("/flows").problem(401, "unauthenticated") // nobody's requests count for nobody
		kate.get("/livez").want(200)
	}
}

// TestRateLimit_CountsTheCommandsOfABatch sends two batches that are too many together.
func TestRateLimit_CountsTheCommandsOfABatch(t *testing.T) {
	api := serveSQLite(t, twoTenants, func(s *setup) { s.options.Rate = auth.NewRate(0.01, 10) })
	kate := api.as("kate")
	batch := func(n int) string {
		command := `{"method":"POST","path":"/flows","body":` + createBody("") + `}`
		return `{"commands":[` + strings.Repeat(command+",", n-1) + command + `]}`
	}
	kate.post("/batch", batch(6)).want(200)
	a := kate.post("/batch", batch(6))
	a.problem(429, "too-many-requests")
	if a.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	kate.get("/flows").want(200) // what was refused has cost one
	if n := len(api.as("root").get("/flows").flows()); n != 6 {
		t.Errorf("%d flows, want those of the first batch alone", n)
	}
}

// TestRateLimit_HasALargeBatchPaidOff sends a batch of more commands than may come at once: once it passes.
func TestRateLimit_HasALargeBatchPaidOff(t *testing.T) {
	api := serveSQLite(t, twoTenants, func(s *setup) { s.options.Rate = auth.NewRate(0.01, 10) })
	kate := api.as("kate")
	command := `{"method":"POST","path":"/flows","body":` + createBody("") + `}`
	batch := `{"commands":[` + strings.Repeat(command+",", 499) + command + `]}`
	kate.post("/batch", batch).want(200)
	a := kate.post("/batch", batch)
	a.problem(429, "too-many-requests")
	// 490 are owed and one is to be had, at 100 s each, less what has passed meanwhile.
	if wait, err := strconv.Atoi(a.header.Get("Retry-After")); err != nil || wait < 48_000 || wait > 49_100 {
		t.Errorf("Retry-After %q, want what it takes to pay for 491", a.header.Get("Retry-After"))
	}
	kate.get("/flows").problem(429, "too-many-requests")
	api.as("root").get("/stats").has("/by_status/created", "500")
}

// TestOpenFlows_AreLimitedForEachCaller fills a caller's allowance, and makes room.
func TestOpenFlows_AreLimitedForEachCaller(t *testing.T) {
	eachStore(t, func(t *testing.T, all *client) {
		kate := all.as("kate")
		first := kate.created("")
		kate.created("")
		a := kate.post("/flows", createBody(""))
		a.problem(429, "too-many-requests")
		if a.header.Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
		all.as("root").created("") // another caller, the same owner
		kate.post(first+"/cancel", "").want(200)
		kate.created("")
		kate.post("/flows", createBody("")).problem(429, "too-many-requests")
	}, twoTenants, func(s *setup) { s.options.MaxOpenFlows = 2 })
}

// TestSecurityHeaders_AreOnEveryAnswer asks for pages, JSON, problems and redirects.
func TestSecurityHeaders_AreOnEveryAnswer(t *testing.T) {
	api := serveSQLite(t, withScopes)
	for _, path := range []string{"/", "/docs", "/problems", "/problems/internal", "/openapi.json", "/livez", "/flows", "/nowhere", "/callbacks/forged"} {
		header := api.get(path).header
		policy := header.Get("Content-Security-Policy")
		if header.Get("X-Content-Type-Options") != "nosniff" || header.Get("Referrer-Policy") != "no-referrer" || !strings.Contains(policy, "frame-ancestors 'none'") {
			t.Errorf("%s: %v", path, header)
		}
	}
}
