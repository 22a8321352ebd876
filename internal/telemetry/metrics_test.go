package telemetry

import (
	"io"
	"log/slog"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestMetrics_CostNothingToCount holds that counting a request and its change allocates nothing once it has been counted.
func TestMetrics_CostNothingToCount(t *testing.T) {
	m := NewMetrics("test")
	if n := testing.AllocsPerRun(1000, func() { countOne(m) }); n != 0 {
		t.Errorf("counting a request allocates %v times", n)
	}
}

// countOne is what a request that changes a flow alone in its batch is counted by.
func countOne(m *Metrics) {
	m.Request("/flows/{id}/state", "POST", 200, 3*time.Millisecond, false)
	m.Change("state", "ok")
	m.Committed("changes", 1, 2*time.Millisecond, "committed")
}

func BenchmarkMetrics(b *testing.B) {
	m := NewMetrics("test")
	b.ReportAllocs()
	for b.Loop() {
		countOne(m)
	}
}

// TestMetrics_LabelsAreBounded holds that no word of a client's becomes a label.
func TestMetrics_LabelsAreBounded(t *testing.T) {
	m := NewMetrics("test")
	for _, status := range []int{0, 101, 200, 599, 600, 999999} {
		m.Request("/flows", "BREW", status, time.Second, false)
	}
	text := served(t, m)
	if strings.Contains(text, "BREW") || !strings.Contains(text, `method="other",route="/flows",status="5xx"} 1`) ||
		!strings.Contains(text, `method="other",route="/flows",status="none"} 3`) {
		t.Errorf("the metrics are\n%s", text)
	}
}

// TestMetrics_LastingRequestsHaveNoDuration holds that live streams and requests that wait are counted, and are no latency.
func TestMetrics_LastingRequestsHaveNoDuration(t *testing.T) {
	m := NewMetrics("test")
	m.Request("/events", "GET", 200, time.Second, false)
	m.Request("/events", "GET", 200, time.Hour, true)
	text := served(t, m)
	for _, want := range []string{
		`taskflow_http_requests_total{method="GET",route="/events",status="2xx"} 2`,
		`taskflow_http_request_duration_seconds_count{method="GET",route="/events"} 1`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%s is not in\n%s", want, text)
		}
	}
}

func served(t *testing.T, m *Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler(slog.New(slog.DiscardHandler)).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	text, err := io.ReadAll(w.Body)
	if err != nil || w.Code != 200 {
		t.Fatalf("status %d, %v", w.Code, err)
	}
	return string(text)
}

// TestChildren_AreResolvedOnce holds that a series is one and the same for everybody who asks for it at once.
func TestChildren_AreResolvedOnce(t *testing.T) {
	resolved := map[int]int{}
	c := newChildren(func(n int) *int { resolved[n]++; return &n }, 0) // resolve runs under the lock
	var asking sync.WaitGroup
	for range 8 {
		asking.Go(func() {
			for n := range 50 {
				if got := c.get(n); *got != n || got != c.get(n) {
					t.Errorf("the series of %d is that of %d, or another one the second time", n, *got)
				}
			}
		})
	}
	asking.Wait()
	for n, times := range resolved {
		if times != 1 {
			t.Errorf("%d was resolved %d times", n, times)
		}
	}
}
