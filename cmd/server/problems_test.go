package main

import (
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"taskflow/internal/servertest"

	"go.yaml.in/yaml/v3"
)

// problemPages are the links of the page that lists every problem.
var problemPages = regexp.MustCompile(`href="/problems/([a-z-]+)"`)

// TestMetrics_Problems holds that each problem is counted by its slug, those within a batch too; that every slug there is has
// its series from the start, and no other; and that an alert and the operator's page tell of keys that are refused.
func TestMetrics_Problems(t *testing.T) {
	t.Parallel()
	url := servertest.SQLite(t)
	text, id := makeKey(t, url, "--name", "kate", "--scope", "flows:read", "--scope", "flows:write", "--scope", "admin", "--owner", "agent:kate:*")
	s := servertest.Start(t, servertest.Options{Database: url, Env: []string{"TASKFLOW_AUTH=keys"}})
	kate := s.As(text)
	const name = "taskflow_http_problems_total"
	families := scrape(t, kate)
	var slugs []string
	for _, link := range problemPages.FindAllStringSubmatch(string(s.Call(t, http.StatusOK, http.MethodGet, "/problems", "").Body), -1) {
		slugs = append(slugs, link[1])
		if !has(families[name], "problem", link[1]) || value(families, name, "problem", link[1]) != 0 {
			t.Errorf("%s has no series at zero", link[1])
		}
	}
	if counted := len(families[name].GetMetric()); len(slugs) == 0 || counted != len(slugs) {
		t.Errorf("%d series, want one for each of %q", counted, slugs)
	}

	nobody, unknown := s.As(""), s.As("tfk_"+strings.Repeat("a", len(id))+text[len("tfk_")+len(id):])
	nobody.Call(t, http.StatusUnauthorized, http.MethodGet, "/flows", "")
	unknown.Call(t, http.StatusUnauthorized, http.MethodPost, "/flows", newFlow)
	kate.Call(t, http.StatusForbidden, http.MethodPost, "/flows", strings.Replace(newFlow, "kate", "bob", 1))
	kate.Call(t, http.StatusNotFound, http.MethodGet, "/nowhere", "")
	const batch = `{"commands": [{"method": "POST", "path": "/flows", "body": ` + newFlow + `}, {"method": "POST", "path": "/nowhere"},
		{"method": "POST", "path": "/flows/00000000-0000-7000-8000-000000000000/start"}]}`
	for range 2 { // the second is the first one's answer again
		kate.Call(t, http.StatusOK, http.MethodPost, "/batch", batch, "Idempotency-Key", "b")
	}
	families = scrape(t, kate)
	for _, slug := range slugs {
		want := map[string]float64{"unauthenticated": 2, "forbidden": 1, "not-found": 3}[slug]
		if got := value(families, name, "problem", slug); got != want {
			t.Errorf("%s: counted %v times, want %v", slug, got, want)
		}
	}
}

// TestMetrics_RefusedKeysAreAlerted holds that the alarm on many 401 is one that can be had.
func TestMetrics_RefusedKeysAreAlerted(t *testing.T) {
	text, err := os.ReadFile("../../deploy/prometheus/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Groups []struct {
			Rules []struct{ Alert, Expr string }
		}
	}
	if err := yaml.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, group := range file.Groups {
		alerted := slices.ContainsFunc(group.Rules, func(r struct{ Alert, Expr string }) bool {
			return strings.Contains(r.Expr, `taskflow_http_problems_total{problem="unauthenticated"}`) && strings.Contains(string(page), "`"+r.Alert+"`")
		})
		if !alerted {
			t.Error("no alert on refused credentials that the operator's page explains")
		}
	}
}
