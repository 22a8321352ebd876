package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// This file counts: the measured window, what each connection tallies, and the result they add up to.

// window is the measured part of a run, from inclusive, until exclusive.
type window struct{ from, until time.Time }

func newWindow(now time.Time, warmup, duration time.Duration) window {
	from := now.Add(warmup)
	return window{from, from.Add(duration)}
}

func (w window) holds(t time.Time) bool { return !t.Before(w.from) && t.Before(w.until) }

// tally is what one connection counts, or the sum of several. Throughput counts the answers that came inside the
// window; latency is that of the requests sent inside it, so that a slow last request is not left out.
type tally struct {
	latency   *hdrhistogram.Histogram // µs, of requests that succeeded
	statuses  map[int]int64           // answers by status: the expected ones in the window, all others wherever they came
	requests  int64                   // successful answers in the window
	changes   int64                   // changes of flows they confirmed
	failures  int64                   // answers that were not what was asked for, warm-up included
	transport int64                   // requests without an answer, warm-up included
	accepted  int64                   // changes confirmed in the whole run
	unknown   int64                   // changes that may or may not have happened, at most
}

// maxLatency is the largest latency that is told apart, in µs; a longer one counts as this.
const maxLatency = 60_000_000

func newTally() *tally {
	return &tally{latency: hdrhistogram.New(1, maxLatency, 3), statuses: map[int]int64{}}
}

// answered counts a successful answer.
func (t *tally) answered(sentInWindow, cameInWindow bool, status int, took time.Duration) {
	if cameInWindow {
		t.requests++
		t.statuses[status]++
	}
	if sentInWindow {
		// The value is inside the histogram's range, which is the only error there is.
		_ = t.latency.RecordValue(min(max(took.Microseconds(), 1), maxLatency))
	}
}

func (t *tally) add(other *tally) {
	t.latency.Merge(other.latency)
	for status, n := range other.statuses {
		t.statuses[status] += n
	}
	t.requests += other.requests
	t.changes += other.changes
	t.failures += other.failures
	t.transport += other.transport
	t.accepted += other.accepted
	t.unknown += other.unknown
}

// loadResult is the outcome of one load, as --json writes it.
type loadResult struct {
	Scenario          string        `json:"scenario"`
	URL               string        `json:"url"`
	Connections       int           `json:"connections"`
	Flows             int           `json:"flows"`
	Batch             int           `json:"batch"`
	WarmupSeconds     float64       `json:"warmup_seconds"`
	Seconds           float64       `json:"seconds"`
	Requests          int64         `json:"requests"`
	Changes           int64         `json:"changes"`
	RequestsPerSecond float64       `json:"requests_per_second"`
	ChangesPerSecond  float64       `json:"changes_per_second"`
	Latency           latency       `json:"latency_ms"`
	Statuses          map[int]int64 `json:"statuses"`
	Failures          int64         `json:"failures"`
	TransportErrors   int64         `json:"transport_errors"`
	ClientCores       float64       `json:"client_cores"`
}

// latency is in milliseconds.
type latency struct {
	Mean float64 `json:"mean"`
	P50  float64 `json:"p50"`
	P99  float64 `json:"p99"`
	P999 float64 `json:"p99.9"`
	Max  float64 `json:"max"`
}

func newLatency(h *hdrhistogram.Histogram) latency {
	at := func(percentile float64) float64 { return float64(h.ValueAtPercentile(percentile)) / 1000 }
	return latency{Mean: h.Mean() / 1000, P50: at(50), P99: at(99), P999: at(99.9), Max: float64(h.Max()) / 1000}
}

func newLoadResult(c loadCommand, total *tally, cores float64) loadResult {
	return loadResult{
		Scenario: c.Scenario, URL: c.URL, Connections: c.Connections, Flows: c.Flows, Batch: c.Batch,
		WarmupSeconds: c.Warmup.Seconds(), Seconds: c.Duration.Seconds(),
		Requests: total.requests, Changes: total.changes,
		RequestsPerSecond: float64(total.requests) / c.Duration.Seconds(),
		ChangesPerSecond:  float64(total.changes) / c.Duration.Seconds(),
		Latency:           newLatency(total.latency), Statuses: total.statuses,
		Failures: total.failures, TransportErrors: total.transport, ClientCores: cores,
	}
}

// line is the result for people.
func (r loadResult) line() string {
	var out strings.Builder
	fmt.Fprintf(&out, "%-10s c=%-4d %9.0f req/s %9.0f changes/s  p50 %.2f ms  p99 %.2f ms  p99.9 %.2f ms  max %.2f ms ",
		r.Scenario, r.Connections, r.RequestsPerSecond, r.ChangesPerSecond,
		r.Latency.P50, r.Latency.P99, r.Latency.P999, r.Latency.Max)
	for _, status := range slices.Sorted(maps.Keys(r.Statuses)) {
		fmt.Fprintf(&out, " %d: %d", status, r.Statuses[status])
	}
	fmt.Fprintf(&out, "  failed: %d  broken: %d  client: %.2f cores", r.Failures, r.TransportErrors, r.ClientCores)
	return out.String()
}

func writeJSON(w io.Writer, v any) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(v)
}

// writeJSONFile writes v, making the folders it needs.
func writeJSONFile(path string, v any) (err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	if err := writeJSON(file, v); err != nil {
		file.Close()
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return file.Close()
}
