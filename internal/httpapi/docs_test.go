package httpapi_test

import (
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	contract "taskflow/api"

	"github.com/getkin/kin-openapi/openapi3"
)

func TestContractIsServed(t *testing.T) {
	api := serveSQLite(t)
	wantText(t, "openapi.yaml", api.get("/openapi.yaml").want(200).hasHeader("Content-Type", "application/yaml").body, string(contract.Spec))
	served, err := openapi3.NewLoader().LoadFromData([]byte(api.get("/openapi.json").want(200).hasHeader("Content-Type", "application/json").body))
	if err != nil {
		t.Fatal(err)
	}
	if err := served.Validate(t.Context()); err != nil {
		t.Error(err)
	}
	doc, err := document()
	if err != nil {
		t.Fatal(err)
	}
	for path, item := range doc.Paths.Map() {
		other := served.Paths.Value(path)
		for method, operation := range item.Operations() {
			if other == nil || other.GetOperation(method) == nil || other.GetOperation(method).OperationID != operation.OperationID {
				t.Errorf("openapi.json lacks %s %s", method, path)
			}
		}
	}
}

// assets are what a page loads by itself, and outside hosts anywhere in it.
var (
	assets  = regexp.MustCompile(`(?:src|href)\s*=\s*["']([^"']+)["']`)
	outside = regexp.MustCompile(`(?:https?:)?//[A-Za-z0-9.-]+\.[A-Za-z]{2,}`)
)

// TestDocsNeedNoOutsideHost loads the viewer's page and everything it names.
func TestDocsNeedNoOutsideHost(t *testing.T) {
	api := serveSQLite(t)
	page := api.get("/docs").want(200)
	if !strings.HasPrefix(page.header.Get("Content-Type"), "text/html") || !strings.Contains(page.body, "/openapi.yaml") {
		t.Errorf("the page is %s: %s", page.header.Get("Content-Type"), shorten(page.body))
	}
	if policy := page.header.Get("Content-Security-Policy"); !strings.Contains(policy, "default-src 'self'") || strings.Contains(policy, "http") {
		t.Errorf("Content-Security-Policy is %q", policy)
	}
	if hosts := outside.FindAllString(page.body, -1); len(hosts) > 0 {
		t.Errorf("the page names outside hosts: %q", hosts)
	}
	loaded := map[string]bool{}
	for _, match := range assets.FindAllStringSubmatch(page.body, -1) {
		address, err := url.Parse(match[1])
		if err != nil || address.Host != "" || address.Scheme != "" {
			t.Errorf("the page loads %q, %v", match[1], err)
			continue
		}
		path := page.request.URL.ResolveReference(address).Path
		if a := api.get(path).want(200); a.body == "" || strings.Contains(a.header.Get("Content-Type"), "text/html") {
			t.Errorf("%s is %s of %d bytes", path, a.header.Get("Content-Type"), len(a.body))
		}
		loaded[path] = true
	}
	if len(loaded) < 3 {
		t.Errorf("the page loads %v only", loaded)
	}
}

// TestEveryProblemHasAPage asks for the page that the type of each problem leads to.
func TestEveryProblemHasAPage(t *testing.T) {
	api := serveSQLite(t)
	list := api.get("/problems").want(200).hasHeader("Content-Type", "text/html; charset=utf-8").body
	for slug, status := range problems {
		page := api.get("/problems/"+slug).want(200).hasHeader("Content-Type", "text/html; charset=utf-8")
		for _, part := range []string{"<h1>", "<code>" + slug + "</code>", fmt.Sprintf("status %d", status)} {
			if !strings.Contains(page.body, part) {
				t.Errorf("the page of %s lacks %q", slug, part)
			}
		}
		if !strings.Contains(list, `href="/problems/`+slug+`"`) {
			t.Errorf("the list lacks %s", slug)
		}
		if outside.MatchString(page.body) {
			t.Errorf("the page of %s names outside hosts", slug)
		}
	}
	if n := strings.Count(list, `href="/problems/`); n != len(problems) {
		t.Errorf("the list has %d problems, the tests know %d", n, len(problems))
	}
	api.get("/problems/no-such").problem(404, "not-found")
	api.get("/problems/%3Cscript%3E").problem(404, "not-found")
}

// TestProblemsHaveATitleOfTheirOwn looks at the fixed parts: one title and one status for each type.
func TestProblemsHaveATitleOfTheirOwn(t *testing.T) {
	api := serveSQLite(t)
	path := api.running("")
	titles := map[string]string{}
	for _, a := range []answer{
		api.get(noFlow()), api.get("/nowhere"), api.post(path+"/start", ""), api.post(path+"/finish", "", `If-Match: "9"`), api.post("/flows", "{"),
		api.post("/flows", createBody(`"goal":""`)), api.do("PATCH", path, ""), api.erase(path), api.post("/flows", "{}", "Content-Type: text/plain"),
	} {
		p := a.problem(a.status, strings.TrimPrefix(strings.Trim(a.at("/type"), `"`), "/problems/"))
		if known := titles[p.Type]; known != "" && known != p.Title {
			t.Errorf("%s has the titles %q and %q", p.Type, known, p.Title)
		}
		titles[p.Type] = p.Title
		api.get(p.Type).want(200)
	}
	var different []string
	for _, title := range titles {
		if slices.Contains(different, title) {
			t.Errorf("two types have the title %q", title)
		}
		different = append(different, title)
	}
}
