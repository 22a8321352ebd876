package telemetry

import (
	"log/slog"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Metrics are the server's metrics, in a registry of their own. Its methods are what the observers of the packages engine
// and httpapi and the hooks of package pg ask for; all are safe for concurrent use.
type Metrics struct {
	registry *prometheus.Registry

	requests       *children[requestLabels, requestSeries]
	changes        *children[changeLabels, prometheus.Counter]
	problems       *children[string, prometheus.Counter]
	streams        prometheus.Gauge
	cutOff         prometheus.Counter
	commits        *children[commitLabels, prometheus.Observer]
	batch          *children[string, prometheus.Observer]
	conflicts      prometheus.Counter
	retries        *children[string, prometheus.Counter]
	waitsBegun     *children[string, prometheus.Counter]
	waitsEnded     *children[string, prometheus.Counter]
	timerLateness  prometheus.Observer
	eventLatency   prometheus.Observer
	externalEvents *children[string, prometheus.Counter]
}

type (
	changeLabels  struct{ command, outcome string }
	commitLabels  struct{ work, outcome string }
	requestLabels struct {
		route, method string
		class         int
	}
	requestSeries struct {
		count prometheus.Counter
		took  prometheus.Observer
	}
)

// Bounds of the histograms, in seconds and in commands. A commit is one sync of a disk, a request a few of them at most.
func latencyBounds() []float64 {
	return []float64{.0005, .001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10, 30}
}
func latenessBounds() []float64 {
	return []float64{.001, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 60, 600, 3600}
}
func batchBounds() []float64 { return []float64{1, 2, 4, 8, 16, 32, 64, 128, 256, 512} }

// Labels that are known beforehand. Their series are there at zero from the start: Prometheus sees no increase in one that
// begins at one, and an alert would miss what happens for the first time.
func commands() []string {
	return []string{"create", "start", "wait", "resume", "finish", "fail", "request-cancel", "cancel", "state", "step", "callback", "delete", "publish"}
}
func problems() []string {
	return []string{
		"not-found", "revision-conflict", "already-terminal", "cancel-pending", "illegal-transition", "already-exists", "not-terminal", "not-waiting",
		"wait-ended", "unauthenticated", "invalid-request", "invalid-value", "idempotency-key-reused", "precondition-required", "payload-too-large",
		"unsupported-media-type", "method-not-allowed", "forbidden", "too-many-requests", "overloaded", "unavailable", "internal",
	}
}
func works() []string { return []string{"changes", "timers", "deliveries"} }

// NewMetrics makes the metrics of a server of this version.
func NewMetrics(version string) *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry()}
	m.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.addBuildInfo(version)
	m.addHTTP()
	m.addEngine()
	return m
}

func (m *Metrics) addBuildInfo(version string) {
	info, revision := "unknown", "unknown"
	if build, ok := debug.ReadBuildInfo(); ok {
		info = build.GoVersion
		for _, setting := range build.Settings {
			if setting.Key == "vcs.revision" {
				revision = setting.Value
			}
		}
	}
	m.gauge("build_info", "Always 1; the labels say what runs.", "version", "goversion", "revision").
		WithLabelValues(version, info, revision).Set(1)
}

func (m *Metrics) addHTTP() {
	count := m.counter("http_requests_total", "Requests answered.", "route", "method", "status")
	took := m.histogram("http_request_duration_seconds", "From a request's header to the end of its answer; without live streams and requests that wait.", latencyBounds(), "route", "method")
	m.requests = newChildren(func(l requestLabels) requestSeries {
		return requestSeries{count.WithLabelValues(l.route, l.method, classes[l.class]), took.WithLabelValues(l.route, l.method)}
	})
	changes := m.counter("changes_total", "Commands answered, alone or in a batch.", "command", "outcome")
	m.changes = newChildren(func(l changeLabels) prometheus.Counter { return changes.WithLabelValues(l.command, l.outcome) })
	for _, command := range commands() {
		m.changes.get(changeLabels{command, "ok"})
		m.changes.get(changeLabels{command, "internal"})
	}
	m.problems = m.counters("http_problems_total", "Problems answered, alone or in a batch.", "problem", problems()...)
	m.streams = m.gauge("streams", "Live streams, and requests that wait, that are open.").WithLabelValues()
	m.cutOff = m.counter("streams_cut_off_total", "Live streams that were ended because their client did not read.").WithLabelValues()
}

func (m *Metrics) addEngine() {
	commits := m.histogram("commit_duration_seconds", "One transaction of the engine, from its begin to its end.", latencyBounds(), "work", "outcome")
	m.commits = newChildren(func(l commitLabels) prometheus.Observer { return commits.WithLabelValues(l.work, l.outcome) })
	for _, work := range works() {
		for _, outcome := range []string{"committed", "unavailable", "unknown", "failed"} {
			m.commits.get(commitLabels{work, outcome})
		}
	}
	batch := m.histogram("batch_commands", "Commands that one committed transaction made or refused.", batchBounds(), "work")
	m.batch = newChildren(func(work string) prometheus.Observer { return batch.WithLabelValues(work) }, works()...)
	m.conflicts = m.counter("conflicts_total", "Commands refused because the flow was not at the revision in If-Match.").WithLabelValues()
	m.retries = m.counters("database_retries_total", "Changes that the store ran again, by reason.", "reason", "raced", "conflict", "lock_wait", "broken")
	m.waitsBegun = m.counters("waits_begun_total", "Waits begun, by kind.", "kind", "timer", "external_event", "callback", "manual", "any_of")
	m.waitsEnded = m.counters("waits_ended_total", "Waits ended, by what ended them.", "kind",
		"timer", "external_event", "callback", "manual", "timeout", "failed", "cancelled")
	m.timerLateness = m.histogram("timer_lateness_seconds", "From a timer's or timeout's time to the commit of its end.", latenessBounds()).WithLabelValues()
	m.eventLatency = m.histogram("event_to_resume_seconds", "From when both an external event and a wait for it were there to the commit of the resume.", latenessBounds()).WithLabelValues()
	m.externalEvents = m.counters("external_events_total", "External events that came to a fate; a buffered one that is delivered counts again.", "outcome",
		"delivered", "delivering", "buffered", "unmatched")
}

// namespace begins the names of all metrics but those of Go and the process.
const namespace = "taskflow"

func (m *Metrics) counter(name, help string, labels ...string) *prometheus.CounterVec {
	v := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help}, labels)
	m.registry.MustRegister(v)
	return v
}

// counters are those of one label, with the values that it has from the start.
func (m *Metrics) counters(name, help, label string, values ...string) *children[string, prometheus.Counter] {
	v := m.counter(name, help, label)
	return newChildren(func(value string) prometheus.Counter { return v.WithLabelValues(value) }, values...)
}

func (m *Metrics) gauge(name, help string, labels ...string) *prometheus.GaugeVec {
	v := prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: namespace, Name: name, Help: help}, labels)
	m.registry.MustRegister(v)
	return v
}

func (m *Metrics) histogram(name, help string, bounds []float64, labels ...string) *prometheus.HistogramVec {
	v := prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: namespace, Name: name, Help: help, Buckets: bounds}, labels)
	m.registry.MustRegister(v)
	return v
}

// Handler serves the metrics as Prometheus reads them.
func (m *Metrics) Handler(log *slog.Logger) http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		Registry: m.registry, MaxRequestsInFlight: 4,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	})
}

// classes are the values of the label status.
var classes = [...]string{"none", "1xx", "2xx", "3xx", "4xx", "5xx"}

// Request counts a request. A method that HTTP does not define is "other": a client may send any word. How long a lasting one
// took tells nothing of the server.
func (m *Metrics) Request(route, method string, status int, took time.Duration, lasting bool) {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
	default:
		method = "other"
	}
	class := status / 100
	if class >= len(classes) {
		class = 0
	}
	series := m.requests.get(requestLabels{route, method, class})
	series.count.Inc()
	if !lasting {
		series.took.Observe(took.Seconds())
	}
}

// Change counts a command.
func (m *Metrics) Change(command, outcome string) {
	m.changes.get(changeLabels{command, outcome}).Inc()
}

// Problem counts a problem that was answered.
func (m *Metrics) Problem(slug string) { m.problems.get(slug).Inc() }

// Streams counts live streams and requests that wait up, or with a minus sign down.
func (m *Metrics) Streams(opened int) { m.streams.Add(float64(opened)) }

// StreamCutOff counts a live stream that was ended because its client did not read.
func (m *Metrics) StreamCutOff() { m.cutOff.Inc() }

// Committed counts a transaction of the engine.
func (m *Metrics) Committed(work string, commands int, took time.Duration, outcome string) {
	m.commits.get(commitLabels{work, outcome}).Observe(took.Seconds())
	if outcome == "committed" {
		m.batch.get(work).Observe(float64(commands))
	}
}

// Retried counts a change that a store runs again.
func (m *Metrics) Retried(reason string) { m.retries.get(reason).Inc() }

// WaitBegan counts a wait that began.
func (m *Metrics) WaitBegan(kind string) { m.waitsBegun.get(kind).Inc() }

// WaitEnded counts a wait that ended.
func (m *Metrics) WaitEnded(by string) { m.waitsEnded.get(by).Inc() }

// TimerFired notes how late a timer or timeout was.
func (m *Metrics) TimerFired(late time.Duration) { m.timerLateness.Observe(late.Seconds()) }

// EventArrived notes how long it took an external event to resume a flow.
func (m *Metrics) EventArrived(after time.Duration) { m.eventLatency.Observe(after.Seconds()) }

// ExternalEvent counts an external event that came to a fate.
func (m *Metrics) ExternalEvent(outcome string) { m.externalEvents.get(outcome).Inc() }

// Conflict counts a command that was refused for its revision.
func (m *Metrics) Conflict() { m.conflicts.Inc() }
