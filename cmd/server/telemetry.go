package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"taskflow/internal/engine"
	"taskflow/internal/httpapi"
	"taskflow/internal/pg"
	"taskflow/internal/sqlite"
	"taskflow/internal/telemetry"
)

// telemetryConfig is how a serving process is watched.
type telemetryConfig struct {
	MetricsListen string `env:"TASKFLOW_METRICS_LISTEN" placeholder:"HOST:PORT" help:"Where to serve /metrics, to whoever can reach it, instead of with the API."`
	OTLPEndpoint  string `name:"otlp-endpoint" env:"OTEL_EXPORTER_OTLP_ENDPOINT" placeholder:"URL" help:"Where to send traces; the other standard variables (OTEL_...) are read too."`
}

const (
	metricsTimeout    = 10 * time.Second
	metricsIdle       = 2 * time.Minute // between two scrapes on one connection
	metricsHeader     = 32 << 10
	telemetryPatience = 500 * time.Millisecond // for the last traces
)

// Validate refuses addresses that are none.
func (c *telemetryConfig) Validate() error {
	if c.MetricsListen != "" {
		if _, err := hostOf("TASKFLOW_METRICS_LISTEN", c.MetricsListen); err != nil {
			return err
		}
	}
	return telemetry.CheckEndpoint(c.OTLPEndpoint)
}

// watch is what watches a serving process. The zero value watches nothing.
type watch struct {
	metrics *telemetry.Metrics
	traces  *telemetry.Tracing // nil where nothing is traced
}

func (c *telemetryConfig) watch(ctx context.Context, log *slog.Logger) (watch, error) {
	traces, err := telemetry.NewTracing(ctx, c.OTLPEndpoint, version(), log)
	return watch{telemetry.NewMetrics(version()), traces}, err
}

func (w watch) pg() (hooks pg.Hooks) {
	if w.metrics != nil {
		hooks.Retried = w.metrics.Retried
	}
	if w.traces != nil {
		hooks.RoundTrip = w.traces.RoundTrip("postgresql")
	}
	return hooks
}

func (w watch) sqlite() (hooks sqlite.Hooks) {
	if w.traces != nil {
		hooks.RoundTrip = w.traces.RoundTrip("sqlite")
	}
	return hooks
}

// engine sets what the engine tells.
func (w watch) engine(o *engine.Options) {
	o.Observer = w.metrics
	if w.traces != nil {
		o.Trace = w.traces.Batch
	}
}

// api sets what the HTTP interface tells, and has it serve the metrics where they have no address of their own.
func (w watch) api(o *httpapi.Options, c *telemetryConfig) {
	o.Observer = w.metrics
	if w.traces != nil {
		o.Trace = w.traces.Request
	}
	if c.MetricsListen == "" {
		o.Metrics = w.metrics.Handler(o.Logger)
	}
}

// gauges has the metrics read what is there now.
func (w watch) gauges(changes *engine.Engine, db *database) {
	w.metrics.WatchQueue(changes.QueueDepth)
	w.metrics.WatchTimers(changes.Overdue)
	w.metrics.WatchPools(db.pools)
}

// finish sends the last traces.
func (w watch) finish(log *slog.Logger) {
	ctx, cancel := context.WithTimeout(context.Background(), telemetryPatience)
	defer cancel()
	if err := w.traces.Shutdown(ctx); err != nil {
		log.Warn("some traces are lost", "error", err)
	}
}

// serveMetrics serves the metrics on their own address, if they have one, until stop is called.
func (c *telemetryConfig) serveMetrics(w watch, log *slog.Logger) (stop func(), err error) {
	if c.MetricsListen == "" {
		return func() {}, nil
	}
	listener, err := net.Listen("tcp", c.MetricsListen)
	if err != nil {
		return nil, fmt.Errorf("TASKFLOW_METRICS_LISTEN: %w", err)
	}
	routes := http.NewServeMux()
	routes.Handle("GET /metrics", w.metrics.Handler(log))
	server := &http.Server{
		Handler: routes, ReadHeaderTimeout: metricsTimeout, ReadTimeout: metricsTimeout, WriteTimeout: metricsTimeout,
		IdleTimeout: metricsIdle, MaxHeaderBytes: metricsHeader, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }() // ends with Close below, which stop waits for
	log.Info("serving metrics", "url", "http://"+listener.Addr().String()+"/metrics")
	return func() {
		_ = server.Close() // a scrape that is cut off is made again
		<-served
	}, nil
}
