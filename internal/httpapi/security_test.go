package httpapi_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"taskflow/internal/auth"
)

// checkSecurity fails the test unless an answer tells browsers what every answer is to tell them, whatever it is otherwise:
// to take it for nothing else than it says, to run and frame nothing of it, to keep nothing, and to tell no other site of it.
func (a answer) checkSecurity() {
	a.t.Helper()
	if err := insecure(a.request.URL.Path, a.header); err != nil {
		a.t.Errorf("%s %s answered %d: %v", a.request.Method, a.request.URL.RequestURI(), a.status, err)
	}
}

// insecure is what an answer to a path does not tell browsers, and should.
func insecure(path string, header http.Header) error {
	want := map[string]string{"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store"}
	if page := path == "/" || strings.HasPrefix(path, "/dashboard/"); page && header.Get("Etag") != "" {
		want["Cache-Control"] = "no-cache" // a file of the dashboard, which is the same for everyone: it is asked whether it is fresh
	}
	if !strings.HasPrefix(header.Get("Content-Type"), "text/") || header.Get("Content-Type") == "text/event-stream" {
		if !strings.HasPrefix(path, "/docs") && !strings.HasPrefix(path, "/dashboard/") { // files, not data
			want["Content-Security-Policy"] = "default-src 'none'; frame-ancestors 'none'"
		}
	}
	for name, value := range want {
		if got := header.Values(name); len(got) != 1 || got[0] != value {
			return fmt.Errorf("%s is %q, want %q", name, got, value)
		}
	}
	if policy := header.Get("Content-Security-Policy"); !strings.HasPrefix(policy, "default-src ") || !strings.Contains(policy, "frame-ancestors 'none'") {
		return fmt.Errorf("Content-Security-Policy is %q", policy)
	}
	return nil
}

// TestSecurityHeaders_OfEveryShape has one answer of each shape there is; the harness looks at the headers of all of them,
// here and in every other test.
func TestSecurityHeaders_OfEveryShape(t *testing.T) {
	api := serveSQLite(t, twoTenants, func(s *setup) { s.options.Rate = auth.NewRate(0.001, 13) })
	kate := api.as("kate")
	created := kate.post("/flows", createBody("")).want(201)
	path := created.header.Get("Location")
	kate.get(path, "If-None-Match: "+created.header.Get("ETag")).want(304)
	kate.do(http.MethodHead, path, "").want(200)
	kate.post(path+"/finish", "").want(409)
	kate.post("/flows", "{").want(400)
	kate.post("/flows", createBody(`"goal":""`)).want(422)
	kate.post("/flows", strings.Repeat(" ", maxBody+1)).want(413)
	kate.post("/flows", "a=b", "Content-Type: application/x-www-form-urlencoded").want(415)
	kate.stream("/events", "Authorization", kate.credentials)
	kate.noStream(404, "not-found", noFlow()+"/events", "Authorization", kate.credentials)
	kate.post("/flows", createBody(`"owner_session_key":"agent:bob:1"`)).want(403)
	kate.post(path+"/cancel", "").want(200)
	kate.erase(path).want(204)
	kate.get(path).want(429) // the fourteenth
	api.get(path).want(401)
	api.do("PATCH", "/flows", "").want(405)
	api.get("/nowhere").want(404)
	api.get("/callbacks/forged").want(404)
	api.get("/docs/none").want(404)
	api.get("/docs/swagger-ui.css").want(200)
}
