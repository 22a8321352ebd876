package main

import (
	"encoding/json"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"taskflow/internal/servertest"

	"github.com/VictoriaMetrics/metricsql"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"go.yaml.in/yaml/v3"
)

// scrape reads a server's metrics.
func scrape(t *testing.T, c *servertest.Client) map[string]*dto.MetricFamily {
	t.Helper()
	answer := c.Call(t, http.StatusOK, http.MethodGet, "/metrics", "")
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(string(answer.Body)))
	if err != nil {
		t.Fatalf("reading the metrics: %v", err)
	}
	return families
}

// value is a counter or gauge, or how many values a histogram has, with these labels (names and values in turn), summed
// over all others.
func value(families map[string]*dto.MetricFamily, name string, labels ...string) (sum float64) {
	for _, m := range families[name].GetMetric() {
		has := map[string]string{}
		for _, label := range m.GetLabel() {
			has[label.GetName()] = label.GetValue()
		}
		matches := true
		for i := 0; i+1 < len(labels); i += 2 {
			matches = matches && has[labels[i]] == labels[i+1]
		}
		if matches {
			sum += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return sum
}

// work sends a server some of everything that is counted.
func work(t *testing.T, s *servertest.Server) {
	t.Helper()
	send := func(status int, method, path, body string, header ...string) servertest.Answer {
		t.Helper()
		return s.Call(t, status, method, path, body, header...)
	}
	path := "/flows/" + s.Create(t).ID
	send(200, "POST", path+"/start", "")
	send(409, "POST", path+"/start", "")
	send(409, "POST", path+"/state", `{"patch": {}}`, "If-Match", `"7"`)
	for range 2 {
		send(200, "POST", path+"/state", `{"patch": {}}`, "Idempotency-Key", "once")
	}
	send(200, "POST", path+"/wait", `{"wait": {"kind": "timer", "after": "PT0.2S"}}`)
	err := servertest.Await(t.Context(), time.Minute, func() bool { return s.Flow(t, path[len("/flows/"):]).Status == "running" })
	if err != nil {
		t.Fatalf("the timer: %v", err)
	}
	const event = `{"topic": "t", "correlation_id": "c"}`
	const wait = `{"wait": {"kind": "external_event", "topic": "t", "correlation_id": "c"}}`
	send(200, "POST", path+"/wait", wait)
	send(200, "POST", "/external-events", event)
	send(200, "POST", "/external-events", event)
	send(200, "POST", path+"/wait", wait)
	send(200, "POST", "/batch", `{"commands": [
		{"method": "POST", "path": "`+path+`/wait", "body": {"wait": {"kind": "manual"}}},
		{"method": "POST", "path": "`+path+`/finish", "body": {}},
		{"method": "POST", "path": "`+path+`/cancel", "body": {}}]}`)
	send(404, "GET", "/there/is/no/such/route", "")
	send(404, "GET", "/flows/00000000-0000-0000-0000-000000000000", "")
}

// TestMetrics holds that a server counts what it does, on both databases.
func TestMetrics(t *testing.T) {
	t.Parallel()
	servertest.Databases(t, func(t *testing.T, database string, _ int) {
		s := servertest.Start(t, servertest.Options{Database: database})
		work(t, s)
		if answer, err := s.Send("BREW", "/flows", ""); err != nil || answer.Status != 405 {
			t.Errorf("BREW: %v, %d", err, answer.Status)
		}
		got := scrape(t, s.Client)
		for _, c := range []struct {
			want   float64
			name   string
			labels []string
		}{
			{1, "taskflow_changes_total", []string{"command", "create", "outcome", "ok"}},
			{1, "taskflow_changes_total", []string{"command", "start", "outcome", "ok"}},
			{1, "taskflow_changes_total", []string{"command", "start", "outcome", "illegal-transition"}},
			{1, "taskflow_changes_total", []string{"command", "state", "outcome", "revision-conflict"}},
			{1, "taskflow_changes_total", []string{"command", "state", "outcome", "ok"}},
			{1, "taskflow_changes_total", []string{"command", "state", "outcome", "replayed"}},
			{4, "taskflow_changes_total", []string{"command", "wait", "outcome", "ok"}},
			{1, "taskflow_changes_total", []string{"command", "finish", "outcome", "illegal-transition"}},
			{1, "taskflow_changes_total", []string{"command", "cancel", "outcome", "ok"}},
			{2, "taskflow_changes_total", []string{"command", "publish", "outcome", "ok"}},
			{1, "taskflow_conflicts_total", nil},
			{1, "taskflow_waits_begun_total", []string{"kind", "timer"}},
			{2, "taskflow_waits_begun_total", []string{"kind", "external_event"}},
			{1, "taskflow_waits_begun_total", []string{"kind", "manual"}},
			{1, "taskflow_waits_ended_total", []string{"kind", "timer"}},
			{2, "taskflow_waits_ended_total", []string{"kind", "external_event"}},
			{1, "taskflow_waits_ended_total", []string{"kind", "cancelled"}},
			{4, "taskflow_waits_ended_total", nil},
			{1, "taskflow_timer_lateness_seconds", nil},
			{2, "taskflow_event_to_resume_seconds", nil},
			{2, "taskflow_external_events_total", []string{"outcome", "delivered"}},
			{1, "taskflow_external_events_total", []string{"outcome", "buffered"}},
			{1, "taskflow_http_requests_total", []string{"route", "none", "method", "GET", "status", "4xx"}},
			{1, "taskflow_http_requests_total", []string{"route", "/flows/{id}", "status", "4xx"}},
			{1, "taskflow_http_requests_total", []string{"method", "other", "status", "4xx"}},
			{1, "taskflow_http_request_duration_seconds", []string{"route", "/batch", "method", "POST"}},
			{12, "taskflow_batch_commands", []string{"work", "changes"}},
			{12, "taskflow_commit_duration_seconds", []string{"work", "changes", "outcome", "committed"}},
			{1, "taskflow_build_info", nil},
			// What these say when there is something to say is held in metrics_now_test.go.
			{0, "taskflow_queue_depth", nil},
			{0, "taskflow_database_retries_total", nil},
			{0, "taskflow_timers_overdue_seconds", nil},
			{0, "taskflow_streams", nil},
			{0, "taskflow_streams_cut_off_total", nil},
		} {
			if n := value(got, c.name, c.labels...); n != c.want {
				t.Errorf("%s%q is %v, want %v", c.name, c.labels, n, c.want)
			}
		}
		for _, name := range []string{"taskflow_queue_limit", "taskflow_database_connections_limit", "taskflow_commit_duration_seconds", "go_goroutines", "process_cpu_seconds_total"} {
			if value(got, name) == 0 {
				t.Errorf("%s is 0", name)
			}
		}
		if n := batches(got).GetSampleSum(); n != 15 {
			t.Errorf("%v commands in batches of changes, want 15: one batch of three, and the event that resumed a flow with it", n)
		}
		for _, pool := range []string{"writers", "readers"} {
			open, limit := value(got, "taskflow_database_connections", "pool", pool), value(got, "taskflow_database_connections_limit", "pool", pool)
			if open < 1 || open > limit {
				t.Errorf("%v connections of the %s, of %v", open, pool, limit)
			}
		}
		if n := value(got, "taskflow_batch_commands", "work", "timers"); n < 1 {
			t.Errorf("%v batches of timers", n)
		}
		for _, m := range got["taskflow_http_requests_total"].GetMetric() {
			for _, label := range m.GetLabel() {
				if strings.Contains(label.GetValue(), "00000000") || strings.Contains(label.GetValue(), "such") {
					t.Errorf("a path is a label: %s", m)
				}
			}
		}
	})
}

// has reports whether there is a series with these labels (names and values in turn).
func has(f *dto.MetricFamily, labels ...string) bool {
	return slices.ContainsFunc(f.GetMetric(), func(m *dto.Metric) bool {
		found := 0
		for _, label := range m.GetLabel() {
			for i := 0; i+1 < len(labels); i += 2 {
				if label.GetName() == labels[i] && label.GetValue() == labels[i+1] {
					found++
				}
			}
		}
		return found == len(labels)/2
	})
}

// TestMetrics_BeginAtZero holds that what an alert takes the increase of is there before it happens for the first time: a
// series that first appears at 1 has never increased.
func TestMetrics_BeginAtZero(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Database: servertest.SQLite(t)})
	families := scrape(t, s.Client)
	for _, command := range []string{"create", "start", "wait", "resume", "finish", "fail", "request-cancel", "cancel", "state", "step", "callback", "delete", "publish"} {
		for _, outcome := range []string{"ok", "internal"} {
			if !has(families["taskflow_changes_total"], "command", command, "outcome", outcome) {
				t.Errorf("no series of the outcome %s of %s", outcome, command)
			}
		}
	}
	for _, work := range []string{"changes", "timers", "deliveries"} {
		for _, outcome := range []string{"committed", "unavailable", "unknown", "failed"} {
			if !has(families["taskflow_commit_duration_seconds"], "work", work, "outcome", outcome) {
				t.Errorf("no series of the outcome %s of commits of %s", outcome, work)
			}
		}
	}
	work(t, s)
	changes := scrape(t, s.Client)["taskflow_changes_total"]
	for _, m := range changes.GetMetric() {
		for _, label := range m.GetLabel() {
			if label.GetName() == "command" && !has(changes, "command", label.GetValue(), "outcome", "internal") {
				t.Errorf("command %s has no series of its internal errors", label.GetValue())
			}
		}
	}
}

// TestMetrics_OnTheirOwnAddress holds that they are then nowhere else.
func TestMetrics_OnTheirOwnAddress(t *testing.T) {
	t.Parallel()
	address := servertest.FreeAddress(t)
	s := servertest.Start(t, servertest.Options{Database: servertest.SQLite(t), Env: []string{"TASKFLOW_METRICS_LISTEN=" + address}})
	s.Call(t, http.StatusNotFound, http.MethodGet, "/metrics", "")
	own := servertest.NewClient(t, "http://"+address)
	if value(scrape(t, own), "taskflow_build_info") != 1 {
		t.Error("no metrics on their own address")
	}
	own.Call(t, http.StatusNotFound, http.MethodGet, "/flows", "")
	if code, _ := s.Stop(); code != 0 {
		t.Errorf("exit %d", code)
	}
}

var (
	metricName = regexp.MustCompile(`\b(?:taskflow|go|process)_[a-z0-9_]+`)
	selector   = regexp.MustCompile(`(\w+)\{([^{}]*)\}`)
	labelName  = regexp.MustCompile(`(\w+)\s*(?:=~|!~|!=|=)`)
	promql     = regexp.MustCompile("(?s)```promql\n(.*?)```")
	grafana    = strings.NewReplacer("$__rate_interval", "5m")
)

// family is the metric that a name in an expression belongs to, nil where there is none.
func family(families map[string]*dto.MetricFamily, name string) *dto.MetricFamily {
	if f := families[name]; f != nil {
		return f
	}
	for _, suffix := range []string{"_bucket", "_sum", "_count"} {
		if whole, cut := strings.CutSuffix(name, suffix); cut && families[whole].GetType() == dto.MetricType_HISTOGRAM {
			return families[whole]
		}
	}
	return nil
}

// parse reports what is no PromQL, once Grafana has put its own into it.
func parse(t *testing.T, where, expression string) {
	t.Helper()
	if _, err := metricsql.Parse(grafana.Replace(expression)); err != nil {
		t.Errorf("%s: %q: %v", where, expression, err)
	}
}

// checkExpression reports metrics and labels that no server exports. Prometheus adds the labels job, instance and le.
func checkExpression(t *testing.T, families map[string]*dto.MetricFamily, where, expression string) {
	t.Helper()
	for _, name := range metricName.FindAllString(expression, -1) {
		if family(families, name) == nil {
			t.Errorf("%s: no server exports %s", where, name)
		}
	}
	for _, found := range selector.FindAllStringSubmatch(expression, -1) {
		known := []string{"job", "instance", "le"}
		for _, m := range family(families, found[1]).GetMetric() {
			for _, label := range m.GetLabel() {
				known = append(known, label.GetName())
			}
		}
		for _, label := range labelName.FindAllStringSubmatch(found[2], -1) {
			if found[1] != "up" && !slices.Contains(known, label[1]) {
				t.Errorf("%s: %s has no label %s", where, found[1], label[1])
			}
		}
	}
}

// TestMetrics_DashboardAlertsAndDocuments holds that the dashboard and the alerts name what a server exports, and that all
// it exports is documented.
func TestMetrics_DashboardAlertsAndDocuments(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Options{Database: servertest.SQLite(t)})
	work(t, s)
	families := scrape(t, s.Client)
	read := func(path string) []byte {
		text, err := os.ReadFile("../../" + path)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	var dashboard struct {
		Panels []struct {
			Title   string
			Type    string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(read("deploy/grafana/taskflow.json"), &dashboard); err != nil || len(dashboard.Panels) == 0 {
		t.Fatalf("the dashboard: %v", err)
	}
	charted := ""
	for _, panel := range dashboard.Panels {
		if len(panel.Targets) == 0 && panel.Type != "row" {
			t.Errorf("panel %q shows nothing", panel.Title)
		}
		for _, target := range panel.Targets {
			checkExpression(t, families, "panel "+panel.Title, target.Expr)
			parse(t, "panel "+panel.Title, target.Expr)
			charted += target.Expr + "\n"
		}
	}
	checkAlerts(t, families, read("deploy/prometheus/alerts.yaml"))
	checkLogLines(t, "deploy/prometheus/alerts.yaml", string(read("deploy/prometheus/alerts.yaml")))
	_, alarms, _ := strings.Cut(string(read("docs/operations.md")), "## What an alarm means")
	checkLogLines(t, "docs/operations.md", alarms)
	page := string(read("docs/metrics.md"))
	checkExpression(t, families, "docs/metrics.md", page)
	for _, block := range promql.FindAllStringSubmatch(page, -1) {
		for expression := range strings.Lines(block[1]) {
			parse(t, "docs/metrics.md", expression)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(families)) {
		if !strings.HasPrefix(name, "taskflow_") {
			continue
		}
		if !strings.Contains(page, "\n| `"+name+"` |") {
			t.Errorf("docs/metrics.md has no line on %s", name)
		}
		if !strings.Contains(charted, name) {
			t.Errorf("the dashboard does not show %s", name)
		}
	}
}

// logLine is a line of the log that a reader is told to look for: several words in quotation marks.
var logLine = regexp.MustCompile(`"((?:[A-Za-z]+ )+[A-Za-z]+)"`)

// checkLogLines holds that each of them is logged by something.
func checkLogLines(t *testing.T, page, text string) {
	t.Helper()
	source := ""
	for _, pattern := range []string{"*.go", "../../internal/*/*.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			code, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasSuffix(file, "_test.go") {
				source += string(code)
			}
		}
	}
	lines := logLine.FindAllStringSubmatch(strings.Join(strings.Fields(text), " "), -1)
	if len(lines) == 0 {
		t.Errorf("%s names no line of the log", page)
	}
	for _, line := range lines {
		what, troubled := strings.CutPrefix(line[1], "trouble with ")
		if !strings.Contains(source, `"`+what) || troubled && !strings.Contains(source, `doing: "`+what+`"`) {
			t.Errorf("%s tells to look for %q, which nothing logs", page, line[1])
		}
	}
}

func checkAlerts(t *testing.T, families map[string]*dto.MetricFamily, text []byte) {
	t.Helper()
	var file struct {
		Groups []struct {
			Name  string
			Rules []struct {
				Alert, Expr, For    string
				Labels, Annotations map[string]string
			}
		}
	}
	if err := yaml.Unmarshal(text, &file); err != nil || len(file.Groups) == 0 {
		t.Fatalf("the alerts: %v", err)
	}
	for _, group := range file.Groups {
		for _, rule := range group.Rules {
			checkExpression(t, families, "alert "+rule.Alert, rule.Expr)
			parse(t, "alert "+rule.Alert, rule.Expr)
			if rule.Expr == "" || rule.Annotations["summary"] == "" || rule.Annotations["action"] == "" || rule.Labels["severity"] == "" {
				t.Errorf("alert %q lacks an expression, a summary, what to do, or a severity", rule.Alert)
			}
		}
	}
}
