package telemetry

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// WatchQueue reads the depth of the engine's queue whenever the metrics are asked for.
func (m *Metrics) WatchQueue(depth func() (waiting, limit int)) {
	read := func(name, help string, value func() int) {
		m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: namespace, Name: name, Help: help},
			func() float64 { return float64(value()) }))
	}
	read("queue_depth", "Requests that wait for a committer.", func() int { n, _ := depth(); return n })
	read("queue_limit", "Requests that may wait before new ones are turned away.", func() int { _, n := depth(); return n })
}

// WatchTimers reads how long the earliest wait is overdue whenever the metrics are asked for.
func (m *Metrics) WatchTimers(overdue func() time.Duration) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: namespace, Name: "timers_overdue_seconds",
		Help: "For how long the earliest wait that ends by the clock is due and has not ended."},
		func() float64 { return overdue().Seconds() }))
}

// Pool is how a pool of database connections is used now. Waits counts those who had to wait for a connection since the
// start, and Waited is how long they did, all together.
type Pool struct {
	Name                string
	Acquired, Idle, Max int
	Waits               int64
	Waited              time.Duration
}

// WatchPools reads the pools of the database whenever the metrics are asked for.
func (m *Metrics) WatchPools(pools func() []Pool) { m.registry.MustRegister(newPoolCollector(pools)) }

type poolCollector struct {
	pools                             func() []Pool
	connections, limit, waits, waited *prometheus.Desc
}

func newPoolCollector(pools func() []Pool) *poolCollector {
	describe := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(prometheus.BuildFQName(namespace, "database", name), help, labels, nil)
	}
	return &poolCollector{
		pools:       pools,
		connections: describe("connections", "Open connections to the database.", "pool", "state"),
		limit:       describe("connections_limit", "Connections that a pool may open.", "pool"),
		waits:       describe("connection_waits_total", "Times that none was free.", "pool"),
		waited:      describe("connection_wait_seconds_total", "Time spent waiting for one, all together.", "pool"),
	}
}

// Describe implements [prometheus.Collector].
func (c *poolCollector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.connections, c.limit, c.waits, c.waited} {
		out <- d
	}
}

// Collect implements [prometheus.Collector].
func (c *poolCollector) Collect(out chan<- prometheus.Metric) {
	send := func(d *prometheus.Desc, kind prometheus.ValueType, value float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, kind, value, labels...)
	}
	for _, p := range c.pools() {
		send(c.connections, prometheus.GaugeValue, float64(p.Acquired), p.Name, "acquired")
		send(c.connections, prometheus.GaugeValue, float64(p.Idle), p.Name, "idle")
		send(c.limit, prometheus.GaugeValue, float64(p.Max), p.Name)
		send(c.waits, prometheus.CounterValue, float64(p.Waits), p.Name)
		send(c.waited, prometheus.CounterValue, p.Waited.Seconds(), p.Name)
	}
}
